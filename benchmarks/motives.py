"""How well written motives agree with the planted ones: the shop's shoppers, five seeds, a curve over noise.

    python benchmarks/motives.py                     # extractive, noise 0 to 60 %, five seeds
    python benchmarks/motives.py --lm http://localhost:8000/v1#MODEL --seeds 1 --noise 0.15

For each shopper the three strongest drivers in the written reply are compared with her motives. A driver counts as the
motive whose sign words (words that only reviews about it use) it holds most of, as none if it holds none. Her motives are
those with weight in her part of train, the three largest where they changed. Precision, recall and F1 are over all
shoppers together. Beside it stand what anyone could get who knows what each review's first sentence is about (`known`), and
what random drivers get (`random`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import numpy as np

from penchant import enrich, lm, shop, split
from penchant.lm.replies import Motives
from penchant.shop import Shop
from penchant.store import Store

TOP = 3


def truth(world: Shop, rows: np.ndarray) -> np.ndarray:
    """(U, M) bool: the motives in force over each shopper's train rows, the three heaviest."""
    log = world.dataset.interactions
    assert log.time is not None
    late = (world.changed_at[log.user] >= 0) & (log.time >= world.changed_at[log.user])
    weights = np.where(late[:, None], world.after[log.user], world.before[log.user])[rows]
    total = np.zeros_like(world.before)
    np.add.at(total, log.user[rows], weights)
    return best(total)


def best(weights: np.ndarray) -> np.ndarray:
    """(U, M) bool: the three largest positive weights of each row."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :TOP]
    found = np.zeros(weights.shape, bool)
    np.put_along_axis(found, order, True, axis=1)
    return found & (weights > 0)


def scores(said: np.ndarray, wrong: int, true: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall, F1. said, true: (U, M) bool; wrong: drivers that are no motive or one twice."""
    hits = float((said & true).sum())
    precision, recall = hits / max(said.sum() + wrong, 1), hits / true.sum()
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def written(world: Shop, train: split.Interactions, model: str, store: Store) -> tuple[np.ndarray, int]:
    """(U, M) bool: motives among the first three drivers; and how many of these are no motive or one twice."""
    made = enrich.write("user_motives", train, world.dataset.catalog, lm.open(model, store), store)
    said = np.zeros(world.before.shape, bool)
    wrong = 0
    for user, raw in enumerate(store.beside(made.ref, "reply")):
        for driver in Motives.model_validate_json(raw).drivers[:TOP] if raw else ():
            signs = world.match(driver)
            motive = int(signs.argmax())
            wrong += signs[motive] == 0 or bool(said[user, motive])
            said[user, motive] |= signs[motive] > 0
    return said, wrong


def known(world: Shop, rows: np.ndarray) -> np.ndarray:
    """(U, M) bool: the three motives that most of a shopper's reviews are about."""
    counts = np.zeros(world.before.shape)
    rows = rows[world.about[rows] >= 0]
    np.add.at(counts, (world.dataset.interactions.user[rows], world.about[rows]), 1)
    return best(counts)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--lm", default="extractive")
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--noise", type=float, nargs="*", default=[0.0, 0.15, 0.3, 0.45, 0.6])
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    table = []
    for noise in given.noise:
        lines = []
        for seed in range(given.seeds):
            world = shop.make(seed=seed, noise=noise, pictures=False)
            log = world.dataset.interactions
            # The train part in the rows of the log, so that the planted truth can be looked up.
            part = split.leave_last_out(log)
            place = {pair: row for row, pair in enumerate(zip(log.user.tolist(), log.item.tolist(), strict=True))}
            rows = np.array(
                [place[pair] for pair in zip(part.train.user.tolist(), part.train.item.tolist(), strict=True)]
            )
            true = truth(world, rows)
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                said, wrong = written(world, part.train, given.lm, Store(folder))
                seconds = time.perf_counter() - started
            chance = best(np.random.default_rng(seed).random(true.shape))
            lines.append(
                [
                    *scores(said, wrong, true),
                    scores(known(world, rows), 0, true)[2],
                    scores(chance, 0, true)[2],
                    seconds,
                ]
            )
        mean, spread = np.mean(lines, axis=0), np.std(lines, axis=0)
        names = ("precision", "recall", "f1", "known_f1", "random_f1", "seconds")
        table.append(
            {
                "noise": noise,
                **dict(zip(names, mean.round(4).tolist(), strict=True)),
                "f1_spread": round(float(spread[2]), 4),
            }
        )
        if not given.json:
            said_line = "  ".join(f"{name} {value:.3f}" for name, value in zip(names, mean, strict=True))
            print(f"noise {noise:.2f}  {said_line}  f1 over seeds +-{spread[2]:.3f}", flush=True)
    if given.json:
        print(json.dumps({"lm": given.lm, "seeds": given.seeds, "rows": table}))


if __name__ == "__main__":
    main()
