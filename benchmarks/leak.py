"""Where the lift of the leak pair comes from: MLLMRec with what is known of a user taken from train, train + valid, all parts.

    python benchmarks/leak.py recipes/shop-mllmrec-honest.toml [--seeds N] [--store DIR]

text: her preference text, by the recipe's own engine. mean: in its place the mean of the texts of what she chose, which no
engine blurs; over train it is much what MLLMRec reads of a user without a text. Nothing here is a result.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from penchant import inputs, leaky, run
from penchant.data import Interactions
from penchant.features import Features
from penchant.ranking import evaluate
from penchant.recipe import read
from penchant.store import Store
from penchant.texts import Provenance

PARTS = (("train",), ("train", "valid"), ("train", "valid", "test"))


def mean(items: Features, chosen: Interactions) -> Features:
    """Each user as the mean of her items' texts."""
    x = chosen.matrix() @ items.unit().values
    return Features(chosen.users, x, np.abs(x).sum(axis=1) > 0, Provenance("mean", (items.hash,), chosen.hash))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("recipe", type=Path)
    ask.add_argument("--seeds", type=int, default=1)
    ask.add_argument("--store", type=Path, default=Path("store"))
    given = ask.parse_args()
    recipe, store = read(given.recipe), Store(given.store)
    ready = run.prepare(recipe, store)
    split, spec = ready.split, recipe.inputs["user_preferences"]
    first: dict[str, float] = {}
    print(f"{'user vectors':<14}{'from':<22}{'recall@20':>10}{'lift':>7}{'ndcg@20':>10}{'lift':>7}")
    for kind in ("text", "mean"):
        for parts in PARTS:
            seen = split.train if parts == ("train",) else leaky.everything(split, parts)
            if kind == "text":
                users = inputs.make_input("user_preferences", spec, ready.data, store, train=seen)
            else:
                users = mean(ready.inputs["item_texts"], seen)
            made = {**ready.inputs, "user_preferences": users}
            made = made if seen is split.train else leaky.admitted(made, split.train)
            found = []
            for seed in range(given.seeds):
                rec = recipe.model.fit(split.train, split.valid, replace(recipe.training, seed=seed), **made)
                found.append(evaluate(rec, split, recipe.task).mean)
            got = {m: float(np.mean([f[m] for f in found])) for m in ("recall@20", "ndcg@20")}
            lifts = {m: got[m] / first.setdefault(f"{kind} {m}", got[m]) for m in got}
            row = "".join(f"{got[m]:>10.4f}{lifts[m]:>7.2f}" for m in got)
            print(f"{kind:<14}{' + '.join(parts):<22}{row}", flush=True)


if __name__ == "__main__":
    main()
