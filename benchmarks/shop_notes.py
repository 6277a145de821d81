"""What it is worth to read a history as it unfolded: MLLM-SRec, MLLM-MSR and DMESR on shops whose shoppers change their mind.

    python benchmarks/shop_notes.py [--shops N ...] [--only srec msr dmesr] [--out FILE.json] [--json]

Each shop is a world of its own: 800 shoppers with about 24 choices among 200 products, none of them at random; everybody changes motives
at some moment, and says of each choice why. The last choice is test, the one before valid. Arms, all with one tiny language model
trained from scratch, the same pairs, epochs and settings, notes written by rules (`extractive`):

    srec windows    notes carried forward over windows of 5 moved by 3: what was chosen, in words and pictures, and what was said of it;
                    asked about are a thing's words and its picture
    srec direct     one reading of the same choices
    srec shuffled   as windows, each history in another order
    srec words      as windows, without pictures: words alone in notes, no picture of the thing
    srec none       nothing is known of a person
    msr windows, msr direct    the same by blocks of three, without a profile; msr none is srec none, trained once
    dmesr, sasrec   DMESR over SASRec, and SASRec alone, all products ranked; shops of 1,000 products and 10 choices a shopper, for where
                    everything was chosen often ids say all that words do. That many by valid of shops 0 and 1; other shops than above, for
                    these had been looked at with 400

Measured: AUC and NDCG@5 among 21 candidates for language models, NDCG@10 in full ranking for dmesr; p of paired t-tests over all shoppers
of all shops, Holm-corrected. What is finished is kept in --out and not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from penchant import encode, enrich, shop, split
from penchant.among import Candidates
from penchant.compare import holm
from penchant.data import Ids, Interactions, digest
from penchant.enrich.comprehension import Comprehension
from penchant.model import Model
from penchant.models.dmesr import Dmesr
from penchant.models.mllm_msr import MllmMsr
from penchant.models.mllm_srec import MllmSrec
from penchant.models.sasrec import Sasrec
from penchant.notes import Note, Notes
from penchant.ranking import Task, evaluate
from penchant.store import Store
from penchant.texts import Provenance, Texts
from penchant.training import Training

ARMS = {
    "srec": ("windows", "direct", "shuffled", "words", "none"),
    "msr": ("windows", "direct", "none"),
    "dmesr": ("dmesr", "no cross", "no alignment", "sasrec"),
}
PAIRS = {  # what is expected above what
    "srec": (("windows", "direct"), ("direct", "none"), ("windows", "shuffled"), ("windows", "words")),
    "msr": (("windows", "direct"), ("direct", "none")),
    "dmesr": (("dmesr", "sasrec"), ("dmesr", "no cross"), ("dmesr", "no alignment")),
}
TINY: dict[str, Any] = {
    "dim": 64,
    "layers": 2,
    "words": 3000,
    "item_tokens": 40,
    "pairs": 20_000,
    "word_dropout": 0.3,
    "decay": 0.1,
}
TRAINING = Training(epochs=10, batch_size=64, learning_rate=1e-3, validate_every=1, patience=4, select="auc", among=11)
NEXT = Training(epochs=120, batch_size=64, learning_rate=1e-3, validate_every=3, patience=8, select="ndcg@10")
WORLD: dict[str, Any] = {
    "shoppers": 800,
    "products": 200,
    "choices": 24,
    "drift": 1.0,
    "noise": 0.0,
    "reviewed": 1.0,
}
SPARSE = WORLD | {"products": 1000, "choices": 10}
FEW = Task(at=(5,), candidates=Candidates(21), metrics=("auc", "ndcg@5"))
SETTINGS = {  # with others, nothing counts as done
    kind: digest(repr(own))[:8]
    for kind, own in {"srec": (TINY, WORLD, TRAINING), "msr": (TINY, WORLD, TRAINING), "dmesr": (SPARSE, NEXT)}.items()
}
SHOPS = {"srec": range(5, 10), "msr": range(5, 10), "dmesr": range(10, 15)}


Done = dict[str, dict[str, list[float]]]  # by arm and shop: by metric, values of shoppers


class Shuffled(Notes):
    """Notes on histories whose order was lost."""

    def __init__(self, of: Comprehension) -> None:
        self.of, self.counts = of, of.counts

    @property
    def items(self) -> Ids:
        return self.of.items

    @property
    def source(self) -> Provenance:
        return self.of.source

    @property
    def remarked(self) -> str | None:
        return self.of.remarked

    @property
    def hash(self) -> str:
        return f"shuffled {self.of.hash}"

    def facts(self) -> dict[str, Any]:
        return self.of.facts()

    def read(self, histories: Sequence[np.ndarray], users: Sequence[str | None]) -> list[tuple[Note, ...]]:
        mixed = [np.random.default_rng(int(h.sum()) + len(h)).permutation(h) for h in histories]
        return self.of.read(mixed, users)


def inputs(made: shop.Shop, store: Store) -> dict[str, Any]:
    catalog = made.dataset.catalog
    summary = enrich.run("item_summary", None, catalog, "extractive", store)
    return {"catalog": catalog, "summary": summary, "words": catalog.texts()}


def notes(prompt: str, lines: Texts, train: Interactions, window: int = 5, step: int = 3) -> Comprehension:
    facts = {"prompt": prompt, "lm": "extractive", "window": window, "step": step, "most": 24}
    return Comprehension.open(facts, lines, remarks=train)


def language_model(kind: str, arm: str, given: dict[str, Any], train: Interactions) -> tuple[Model, dict[str, Any]]:
    """The model of an arm and its inputs."""
    lines = given["words"] if arm == "words" else given["summary"]
    found: dict[str, Any] = {"summary": given["words"]}
    if arm != "words":
        found["picture"] = given["catalog"].pictures
    size = (5, 3) if kind == "srec" else (3, 3)
    if arm != "none":
        own = notes("said_preference" if arm == "direct" else "said_step", lines, train, *size)
        found["notes"] = Shuffled(own) if arm == "shuffled" else own
        if kind == "srec":
            found["profile"] = notes("user_profile", lines, train)
    return (MllmSrec if kind == "srec" else MllmMsr)(**TINY), found


def sequential(arm: str, given: dict[str, Any], train: Interactions, store: Store) -> tuple[Model, dict[str, Any]]:
    backbone = Sasrec(dim=32, dropout=0.2)
    if arm == "sasrec":
        return backbone, {}
    catalog = given["catalog"]
    looks = enrich.run("item_from_picture", None, catalog, "extractive", store)
    found = {
        "picture": encode.texts(looks, "minilm", store),
        "text": encode.texts(enrich.run("item_motives", train, catalog, "extractive", store), "minilm", store),
        "tokens": encode.texts(catalog.texts(), "minilm-tokens", store),
    }
    ablations: dict[str, dict[str, Any]] = {"no cross": {"cross": False}, "no alignment": {"weight_align": 0.0}}
    how = ablations.get(arm, {})
    return Dmesr(backbone=backbone, **how), found


def measured(kind: str, arm: str, number: int, store: Store) -> dict[str, list[float]]:
    """Values of each shopper."""
    made = shop.make(seed=number, **(SPARSE if kind == "dmesr" else WORLD))
    part = split.leave_last_out(made.dataset.interactions)
    given = inputs(made, store)
    if kind == "dmesr":
        model, own = sequential(arm, given, part.train, store)
    else:
        model, own = language_model(kind, arm, given, part.train)
    training = NEXT if kind == "dmesr" else TRAINING
    rec = model.fit(part.train, part.valid, training, **own)
    task = Task(at=(10,), metrics=("ndcg@10", "recall@10")) if kind == "dmesr" else FEW
    found = evaluate(rec, part, task, lists=False).per_user
    return {name: np.round(values, 6).tolist() for name, values in found.items()}


def named(kind: str, arm: str, number: int) -> str:
    """What an arm on a shop is kept under. Of whom nothing is known, nothing differs."""
    return f"{'srec' if arm == 'none' else kind} {arm} {number} {SETTINGS[kind]}"


def by_number(done: Done, shops: Sequence[int]) -> list[dict[str, Any]]:
    """What DMESR gains on its backbone where the product that is asked for was chosen seldom in train, and where often: halves of shoppers."""
    seldom, gains = [], []
    for number in shops:
        part = split.leave_last_out(shop.make(seed=number, **SPARSE).dataset.interactions)
        count = np.bincount(part.train.item, minlength=len(part.items))[part.test.item[np.argsort(part.test.user)]]
        seldom.append(count < np.median(count))
        own, other = (done[named("dmesr", arm, number)]["ndcg@10"] for arm in ("dmesr", "sasrec"))
        gains.append(np.array([own, other]))
    few, values = np.concatenate(seldom), np.concatenate(gains, axis=1)
    rows = []
    for name, which in (("seldom", few), ("often", ~few)):
        own, other = values[:, which].mean(axis=1)
        rows.append({"dmesr, target chosen": name, "shoppers": int(which.sum()), "dmesr ndcg@10": round(float(own), 4)})
        rows[-1] |= {"sasrec ndcg@10": round(float(other), 4), "gain": f"{own / max(other, 1e-12) - 1:.1%}"}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", type=int, nargs="+", help="5 to 9 if not given, for dmesr 10 to 14")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--out", type=Path, default=Path("runs/shop-notes.json"))
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    done: Done = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    shops = {kind: asked.shops or list(SHOPS[kind]) for kind in asked.only}
    for kind in asked.only:
        for number in shops[kind]:
            for arm in ARMS[kind]:
                key = named(kind, arm, number)
                if key not in done:
                    done[key] = measured(kind, arm, number, Store(Path(asked.store)))
                    asked.out.parent.mkdir(parents=True, exist_ok=True)
                    asked.out.write_text(json.dumps(done))
                if not asked.json:
                    told = " ".join(f"{name} {np.mean(values):.4f}" for name, values in done[key].items())
                    print(f"shop {number} {kind} {arm:<14} {told}", flush=True)
    rows = [means(done, kind, arm, shops[kind]) for kind in asked.only for arm in ARMS[kind]]
    told = [row for kind in asked.only for row in compared(done, kind, shops[kind])]
    told += by_number(done, shops["dmesr"]) if "dmesr" in asked.only else []
    if asked.json:
        print(json.dumps({"means": rows, "differences": told}))
        return
    for row in rows + told:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


def means(done: Done, kind: str, arm: str, shops: Sequence[int]) -> dict[str, Any]:
    """Of all shops."""
    found = [done[named(kind, arm, number)] for number in shops]
    row = {"model": kind, "arm": arm}
    return row | {name: round(float(np.mean([np.mean(one[name]) for one in found])), 4) for name in found[0]}


def compared(done: Done, kind: str, shops: Sequence[int]) -> list[dict[str, Any]]:
    """Pairs of arms: the difference, on how many shops the first is above, and p over all shoppers of all shops, Holm-corrected for the
    pairs of a model under each metric."""
    rows: list[dict[str, Any]] = [{"model": kind, "above": better, "below": worse} for better, worse in PAIRS[kind]]
    for name in done[named(kind, ARMS[kind][0], shops[0])]:
        raw = []
        for row in rows:
            own, other = ([np.array(done[named(kind, row[arm], n)][name]) for n in shops] for arm in ("above", "below"))
            each = [float(np.mean(a) - np.mean(b)) for a, b in zip(own, other, strict=True)]
            row[name] = round(float(np.mean(each)), 4)
            row[f"shops, {name}"] = f"{sum(d > 0 for d in each)} of {len(each)}"
            raw.append(float(stats.ttest_rel(np.concatenate(own), np.concatenate(other)).pvalue))
        for row, p in zip(rows, holm(np.array(raw)), strict=True):
            row[f"p, {name}"] = f"{p:.2g}"
    return rows


if __name__ == "__main__":
    main()
