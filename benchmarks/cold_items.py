"""Items that nobody has chosen: fitted without them, added, ranked; against chance and against the features of others.

    PENCHANT_DATA=... python benchmarks/cold_items.py movielens-small-core5 --min-rating 4 [--store store] [--json FILE]
    PENCHANT_DATA=... python benchmarks/cold_items.py amazon14-beauty --models sasrec-features --draws 3
    python benchmarks/cold_items.py shop [--page cold.html] [--sheet cold.png]

For each draw a tenth of the items is taken out (`split.cold_items`). Models are fitted on the others alone, with no row for a
cold item anywhere; then cold items are added (`Recommender.add_items`) and ranked for everyone who chose one of those in test,
among cold items alone and among all. Nothing is chosen on test: weave weighs its strands by a tenth of the choices in train, or,
in the row that says so, by the choices of valid's half of the cold items, in a fit that has cold items as items nobody
chose; epochs of trained models are the best of EPOCHS on valid's cold items in the first draw, some of which are test's in other draws.
chance: k over the number of cold items, exactly what a random order gets. shuffled: the same fitted model, each cold item with
the features of another one. Intervals: bootstrap over users, of each user's mean over her draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant import inputs, metrics, models, posters, split
from penchant.attributes import said, shared
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.errors import PenchantError
from penchant.examples import caption
from penchant.features import Features
from penchant.model import Model, Recommender
from penchant.models.sasrec import Sasrec
from penchant.page import Card, Example
from penchant.ranking import Task, evaluate
from penchant.recipe import InputSpec
from penchant.split import Split
from penchant.store import Store
from penchant.training import Training

EPOCHS = (5, 10, 20, 40, 80, 160, 320)
RATE = Training(batch_size=2048, learning_rate=1e-3, device="cpu")
THIN = "weave-kept-100"  # what weave is beyond 15,000 items
WEAVE, BY_VALID = "weave", "weave, weights by valid's cold items"
SEQUENCES = {"sasrec-features": Sasrec(ids=False), "sasrec": Sasrec()}
"""Of features alone, and with ids beside them. Batches are of whole histories, so fewer epochs are as many steps."""


@dataclass(frozen=True)
class Draw:
    """One draw of cold items. split: items of training first, then cold ones. train: of the former alone."""

    split: Split
    train: Interactions
    warm: np.ndarray
    cold: np.ndarray
    items: Ids

    def rows(self, features: Features, at: np.ndarray) -> Features:
        ids = Ids("item", tuple(self.items.keys[i] for i in at))
        return Features(ids, features.values[at], features.present[at], features.source)


def drawn(data: Interactions, seed: int, share: float) -> Draw:
    whole = split.cold_items(data, share, seed)
    cold = np.asarray(whole.cold)
    warm = np.setdiff1d(np.arange(len(data.items)), cold)
    order = np.concatenate([warm, cold])
    place = np.argsort(order)
    ids = Ids("item", tuple(data.items.keys[i] for i in order))
    parts = [replace(part, items=ids, item=place[part.item]) for part in (whole.train, whole.valid, whole.test)]
    old = Ids("item", ids.keys[: len(warm)])
    turned = Split(*parts, how=whole.how, cold=np.arange(len(warm), len(order)))
    return Draw(turned, replace(parts[0], items=old), warm, cold, data.items)


def given(name: str, features: Mapping[str, Features]) -> dict[str, Features]:
    return {"item_texts": features["text"]} if name == "mllmrec" else dict(features)


def grown(
    draw: Draw, rec: Recommender, features: Mapping[str, Features], cold: np.ndarray | None = None
) -> Recommender:
    """With the cold items; `cold` says whose features each of them has, in place of its own."""
    new = Ids("item", draw.split.items.keys[len(draw.warm) :])
    parts = {}
    for name, part in given(rec.name, features).items():
        own = draw.rows(part, draw.cold if cold is None else cold)
        parts[name] = replace(own, ids=new)
    return rec.add_items(Catalog(new, {}, Pictures.none(new)), parts)


def fitted(draw: Draw, model: Model, features: Mapping[str, Features], epochs: int, seed: int) -> Recommender:
    parts = {name: draw.rows(part, draw.warm) for name, part in given(model.name, features).items()}
    size = 256 if model.name == "sasrec" else RATE.batch_size
    return model.fit(draw.train, None, replace(RATE, epochs=epochs, seed=seed, batch_size=size), **parts)


def value(rec: Recommender, draw: Draw, part: str, only: bool, k: int) -> dict[int, float]:
    """Recall@k of each user, by row."""
    task = Task(part, (k,), ("train",), ("train",), only_cold=only, metrics=(f"recall@{k}",))
    found = evaluate(rec, draw.split, task, lists=False)
    return dict(zip(found.users.tolist(), found.per_user[f"recall@{k}"].tolist(), strict=True))


def chosen_epochs(draw: Draw, model: Model, features: Mapping[str, Features], k: int) -> int:
    reached = {}
    for epochs in EPOCHS[:4] if model.name == "sasrec" else EPOCHS:
        rec = grown(draw, fitted(draw, model, features, epochs, 0), features)
        reached[epochs] = float(np.mean(list(value(rec, draw, "valid", True, k).values())))
    print(f"  {model.name} on valid: {', '.join(f'{e}: {v:.4f}' for e, v in reached.items())}", flush=True)
    return max(reached, key=lambda e: reached[e])


def by_valid(draw: Draw, features: Mapping[str, Features], seed: int) -> Recommender:
    """Weave that has cold items as items that nobody chose, so that valid's can weigh its strands."""
    order = np.concatenate([draw.warm, draw.cold])
    parts = {name: draw.rows(part, order) for name, part in features.items()}
    return models.Weave().fit(draw.split.train, draw.split.valid, Training(seed=seed), **parts)


def measured(
    data: Dataset, features: Mapping[str, Features], names: list[str], draws: int, share: float, k: int
) -> list[dict[str, Any]]:
    epochs: dict[str, int] = {}
    values: dict[str, dict[str, list[dict[int, float]]]] = {}
    chances = []
    for seed in range(draws):
        draw = drawn(data.interactions, seed, share)
        chances.append(min(k / len(draw.cold), 1))
        for name in [*names, *([BY_VALID] if WEAVE in names else [])]:
            kept = values.setdefault(name, {"cold": [], "shuffled": [], "all": []})
            order = np.random.default_rng([seed, 1]).permutation(draw.cold)
            if name == BY_VALID:
                rec = by_valid(draw, features, seed)
                mixed = {n: replace(p, values=p.values.copy(), present=p.present.copy()) for n, p in features.items()}
                for part, own in zip(mixed.values(), features.values(), strict=True):
                    part.values[draw.cold], part.present[draw.cold] = own.values[order], own.present[order]
                other = by_valid(draw, mixed, seed)
            else:
                model = models.Weave(kept=100) if name == THIN else SEQUENCES.get(name) or models.by_name(name)()
                if name not in epochs:
                    epochs[name] = 1 if name in (WEAVE, THIN, "ease") else chosen_epochs(draw, model, features, k)
                bare = fitted(draw, model, features, epochs[name], seed)
                rec, other = grown(draw, bare, features), grown(draw, bare, features, order)
            for what, which, only in (("cold", rec, True), ("shuffled", other, True), ("all", rec, False)):
                kept[what].append(value(which, draw, "test", only, k))
            print(f"  draw {seed} {name}: {np.mean(list(kept['cold'][-1].values())):.4f}", flush=True)
    rows = []
    for name, kept in values.items():
        users, own = averaged(kept["cold"])
        _, other = averaged(kept["shuffled"])
        _, everywhere = averaged(kept["all"])
        chance = float(np.mean(chances))
        low, high = metrics.bootstrap(own, seed=0)
        rows.append(
            {
                "model": name,
                "k": k,
                "epochs": epochs.get(name),
                "users": len(users),
                "cold": float(own.mean()),
                "ci95": [low, high],
                "chance": chance,
                "times": float(own.mean() / chance),
                "shuffled": float(other.mean()),
                "gain_ci95": list(metrics.bootstrap(own - other, seed=0)),
                "all": float(everywhere.mean()),
            }
        )
    return rows


def averaged(draws: list[dict[int, float]]) -> tuple[list[int], np.ndarray]:
    """Each user's mean over those draws in which she is asked about."""
    users = sorted(set().union(*draws))
    return users, np.array([np.mean([draw[user] for draw in draws if user in draw]) for user in users])


def examples(data: Dataset, features: Mapping[str, Features], share: float, count: int, kept: int) -> list[Example]:
    """Of the first draw, by weave: those who chose most items of test's cold half."""
    draw = drawn(data.interactions, 0, share)
    rec = by_valid(draw, features, 0)
    score = rec.score(rec.known)
    score[:, : len(draw.warm)] = -np.inf
    held = draw.split.test.matrix()
    people = np.argsort(-np.diff(held.indptr), kind="stable")[: 4 * count : 4]
    history = draw.split.queries("test", ("train",), people).history
    found = []
    for user, past in zip(people.tolist(), history, strict=True):
        best = np.argsort(-score[user], kind="stable")[:kept]
        chosen = set(held[user].indices.tolist())
        # Of a long history, what speaks most for the first of them, in the order it was chosen in.
        told = np.sort(np.argsort(-rec.scorer.carried(user, past, int(best[0])), kind="stable")[:kept])
        cards = [card(data, draw, int(i), int(i) in chosen, [int(p) for p in past[told]]) for i in best]
        found.append(
            Example(
                draw.split.users.keys[user],
                tuple(card(data, draw, int(i)) for i in past[told]),
                tuple(cards),
                f"of {len(past)} choices the {len(told)} that speak most for the first new one",
            )
        )
    return found


def card(data: Dataset, draw: Draw, row: int, hit: bool = False, past: list[int] | None = None) -> Card:
    key = draw.split.items.keys[row]
    at = data.catalog.items.row(key)
    alike = [shared(data.catalog, key, draw.split.items.keys[other], 2) for other in past or ()]
    best = max(alike, key=lambda found: -min((s.items for s in found), default=10**9), default=())
    return Card(
        key,
        data.catalog.title(at),
        data.catalog.pictures.read(at),
        caption(data.catalog, at),
        reason=said(best),
        hit=hit,
    )


def told(data: Dataset, features: Mapping[str, Features]) -> Dataset:
    """Without choices of items of which nothing is known: as new ones, nobody could say whom they suit."""
    has = np.logical_or.reduce([part.unit().present for part in features.values()])
    mute = int((~has[np.unique(data.interactions.item)]).sum())
    if mute:
        print(f"{mute} items of {data.name} without any features are left out", flush=True)
    return replace(data, interactions=data.interactions.take(has[data.interactions.item]), given=None)


def content(data: Dataset) -> dict[str, InputSpec]:
    """What items are known by: words, and pictures where there are any."""
    spec = {"text": InputSpec(("catalog.text",), "minilm"), "image": InputSpec(("catalog.image",), "layout")}
    if not data.catalog.pictures.present.any():
        print(f"{data.name} has no pictures: new items are known by their words alone", flush=True)
        del spec["image"]
    return spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--models", nargs="*", default=["weave", "ease", "mllmrec", "vbpr", "lirdrec", "freedom"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("-k", type=int, default=20, help="Recall@k")
    parser.add_argument("--min-rating", type=float)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--page", type=Path, help="write a page of pictures here; alone with --draws 0")
    parser.add_argument("--sheet", type=Path, help="write one picture of it here, PNG")
    asked = parser.parse_args()
    store = Store(asked.store)
    data = inputs.open_data(asked.data, store, min_rating=asked.min_rating)
    features = {name: inputs.make_input(name, one, data, store) for name, one in content(data).items()}
    if asked.page or asked.sheet:
        made = examples(data, features, asked.share, 6, 6)
        if asked.page:
            intro = (
                "A tenth of the items was taken out before anything was fitted, then added with title, text and picture "
                "alone. Beside what each user had chosen before: the best new items for her."
            )
            posters.write(asked.page, "New, and yet it fits", intro, made)
        if asked.sheet:
            posters.sheet(made[:4]).save(asked.sheet, optimize=True)
    if not asked.draws:
        return
    data = told(data, features)
    rows = measured(data, features, asked.models, asked.draws, asked.share, asked.k)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    for row in rows:
        low, high = row["ci95"]
        gain_low, gain_high = row["gain_ci95"]
        print(
            f"{row['model']:<38} {row['cold']:.4f} ({low:.4f}-{high:.4f})  {row['times']:.2f} x chance {row['chance']:.4f}  shuffled "
            f"{row['shuffled']:.4f}, gain ({gain_low:.4f}-{gain_high:.4f})  among all {row['all']:.4f}  {row['users']} users"
        )


if __name__ == "__main__":
    try:
        main()
    except PenchantError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
