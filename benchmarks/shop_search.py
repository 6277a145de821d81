"""How the settings of lmmrec-shop were chosen: each model's grid on the valid parts of three shops at 20 % random choices.

    python benchmarks/shop_search.py [--shops 0 1 2] [--rate 0.2] [--store store] [--json]

Every model has its own L2 and its own weights, nine settings each (six for the published reading of LMMRec), with the recipe's
training. LMMRec's reading, its weight of coordination and its temperature come from some twenty earlier trials on the same shops
(experiments/LOG.md); without one of its losses it has the settings of the whole. Printed: the mean over shops of Recall@20 and
NDCG@20 on valid, and which NDCG@20 chooses. The test parts are not looked at.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from shop_lmmrec import RECIPE

from penchant import noise, recipe, run
from penchant.model import Model
from penchant.models.lightgcn import LightGcn
from penchant.models.lmmrec import Lmmrec
from penchant.models.rlmrec import Rlmrec
from penchant.motivation import Reading
from penchant.ranking import evaluate
from penchant.store import Store

METRICS = ("recall@20", "ndcg@20")
L2, WEIGHTS = (3e-5, 1e-4, 2e-4), (0.01, 0.03, 0.05)


def backbone(l2: float) -> LightGcn:
    return LightGcn(dim=32, layers=2, l2=l2)


def lmmrec(l2: float, reading: Reading, mcs: float, itcm: float) -> Lmmrec:
    return Lmmrec(backbone(l2), reading=reading, temperature_prototypes=0.1, weight_mcs=mcs, weight_itcm=itcm)


def con(l2: float, weight: float) -> Rlmrec:
    return Rlmrec(backbone(l2), form="con", contrast=512, weight_align=weight)


GRIDS: dict[str, dict[str, Model]] = {
    "lightgcn": {f"l2 {l2:g}": backbone(l2) for l2 in (1e-6, 3e-6, 1e-5, 3e-5, 5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4)},
    "lmmrec": {
        f"l2 {l2:g}, itcm {w}": lmmrec(l2, "residual", 0.03, w) for l2, w in itertools.product(L2, (0.03, 0.1, 0.3))
    },
    "lmmrec, prototypes": {
        f"l2 {l2:g}, both {w}": lmmrec(l2, "prototype", w, w)
        for l2, w in itertools.product((1e-5, 3e-5, 1e-4), (0.03, 0.1))
    },
    "rlmrec con": {f"l2 {l2:g}, align {w}": con(l2, w) for l2, w in itertools.product(L2, WEIGHTS)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    wishes = [recipe.read(RECIPE, [f"data=shop:{number}"]) for number in asked.shops]
    shops = []
    for wish in wishes:
        ready = run.prepare(wish, Store(Path(asked.store)))
        shops.append((wish, ready, noise.noisy(wish, ready.split, asked.rate, seed=0)))
    rows = []
    for name, grid in GRIDS.items():
        for settings, model in grid.items():
            found = []
            for wish, ready, split in shops:
                inputs = {need.name: ready.made[need.name] for need in model.needs()}
                rec = model.fit(split.train, split.valid, wish.training, **inputs)
                task = replace(wish.task, part="valid")
                found.append([evaluate(rec, split, task, lists=False).mean[metric] for metric in METRICS])
            mean = np.mean(found, axis=0)
            rows.append({"model": name, "settings": settings} | dict(zip(METRICS, mean.round(4).tolist(), strict=True)))
            if not asked.json:
                print(f"{name:<20} {settings:<22} {mean[0]:.4f} {mean[1]:.4f}", flush=True)
    if asked.json:
        print(json.dumps(rows))
        return
    for name in GRIDS:
        best = max((row for row in rows if row["model"] == name), key=lambda row: row["ndcg@20"])
        print(f"chosen: {name}, {best['settings']}")


if __name__ == "__main__":
    main()
