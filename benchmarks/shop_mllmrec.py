"""What MLLMRec's graph is worth where nothing leaks: the recipes shop-mllmrec* on five shops.

    python benchmarks/shop_mllmrec.py [--shops 5 6 7 8 9] [--users texts|mean] [--out runs/shop-mllmrec] [--store store] [--json]

Each shop is another world with products, pictures and shoppers of its own; each recipe is run on each as it stands, its search
on that shop's valid part, eight settings for every arm. Shops 5 to 9 had no part in how the grids were set. --users mean leaves the texts about people out: everybody is the
mean of what her items say. Printed: means over shops on test, what valid chose, on how many shops the whole stands above an
arm, and p of a paired t-test over all shoppers of all shops.

A run that is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from penchant import recipe, run
from penchant.store import Store

RECIPES = Path(__file__).parent.parent / "recipes"
ARMS = ("shop-mllmrec", "shop-mllmrec-no-graph", "shop-mllmrec-no-jaccard", "shop-mllmrec-only-jaccard")
METRICS = ("recall@20", "ndcg@20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--users", choices=("texts", "mean"), default="texts")
    parser.add_argument("--out", type=Path, default=Path("runs/shop-mllmrec"))
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    store = Store(Path(asked.store))
    values: dict[str, list[dict[str, np.ndarray]]] = {arm: [] for arm in ARMS}  # by shop, by metric: (U,)
    chosen: dict[str, list[str]] = {arm: [] for arm in ARMS}
    for number in asked.shops:
        for arm in ARMS:
            wish = recipe.read(RECIPES / f"{arm}.toml", [f"data=shop:{number}"])
            if asked.users == "mean":
                raw = {**wish.raw, "inputs": {"item_texts": wish.raw["inputs"]["item_texts"]}}
                wish = recipe.parse(raw, f"{arm}-users-mean")
            made = run.run(wish, asked.out / asked.users / arm / str(number), store)
            values[arm].append({metric: made.per_user.values[metric].mean(axis=0) for metric in METRICS})
            at = [made.report.settings[key.partition(".")[2]] for key in wish.search]
            chosen[arm].append(" ".join(f"{value:g}" for value in at))
            if not asked.json:
                got = "/".join(f"{values[arm][-1][metric].mean():.4f}" for metric in METRICS)
                print(f"shop {number} {arm:<26} {got} at {chosen[arm][-1]}", flush=True)
    rows = []
    for arm in ARMS:
        row: dict[str, object] = {"arm": arm, "chosen": chosen[arm]}
        for metric in METRICS:
            own = [shop[metric] for shop in values[ARMS[0]]]
            other = [shop[metric] for shop in values[arm]]
            row[metric] = round(float(np.mean([v.mean() for v in other])), 4)
            if arm != ARMS[0]:
                row[f"above, {metric}"] = int(sum(a.mean() > b.mean() for a, b in zip(own, other, strict=True)))
                row[f"p, {metric}"] = float(stats.ttest_rel(np.concatenate(own), np.concatenate(other)).pvalue)
        rows.append(row)
    if asked.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
