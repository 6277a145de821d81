"""What each kind of strand is worth to `weave`, on valid alone: weights chosen by half of its users, read on the other half.

    python benchmarks/weave_ablation.py recipes/tiktok-weave.toml ... [--rounds 2] [--json]

Each round parts the users of valid anew, and each half chooses once; test is not looked at. For each recipe: the whole; without
each kind; each kind alone (EASE with features under X goes with either, and is in neither alone); and the whole with weights chosen otherwise. The backbone stopped by all of valid, so that
what it is worth is a little too good.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penchant import recipe, run
from penchant.errors import BadInput, PenchantError
from penchant.models.weave import FEW, Weave
from penchant.store import Store
from penchant.woven import Rivals, chosen, climbed, of_users, rivals, value

METRICS = ("recall@20", "ndcg@20")
KINDS = {"ease": ("ease",), "walks": ("walk", "staying", "slow"), "low": ("low",), "model": ("model",)}


def kinds(name: str) -> set[str]:
    """Of a strand; whatever has no kind of its own is a feature, and EASE with features under X is both."""
    if name == "ease features":
        return {"ease", "features"}
    return {next((k for k, starts in KINDS.items() if name.split()[0] in starts), "features")}


def only(found: Rivals, rows: Sequence[int]) -> Rivals:
    rows = list(rows)
    return found._replace(scores=found.scores[rows], scale=found.scale[rows])


def read(found: Rivals, weights: np.ndarray) -> list[float]:
    mixed = np.tensordot(weights.astype(np.float32), found.scores, 1) + found.gap
    return [value(found, mixed, metric) for metric in METRICS]


def measured(path: str, rounds: int, store: Store) -> dict[str, list[float]]:
    """Recall@20 and NDCG@20 of each arm, means over halves and rounds."""
    wish = recipe.read(path)
    if not isinstance(wish.model, Weave):
        raise BadInput(f"{path} is a recipe of {wish.model.name}. Name one of weave:  recipes/tiktok-weave.toml")
    ready = run.prepare(wish, store)
    split = ready.split.without_test()
    loom = wish.model.build(split.train, **wish.model.bind(split.train, dict(ready.inputs)))
    vectors, _ = loom.fitted(split.train, split.valid, replace(wish.training, seed=0))
    strands = loom.strands(split.train, vectors)
    held = split.valid.matrix()
    asked = np.flatnonzero(np.diff(held.indptr) > 0)
    if len(asked) > FEW:
        asked = np.sort(np.random.default_rng(0).choice(asked, FEW, replace=False))
    found = rivals(strands, split.train.matrix()[asked], held[asked])
    of = [kinds(name) for name in strands.names]
    arms = {"whole": range(len(of))}
    for one in sorted(set().union(*of)):
        arms[f"without {one}"] = [k for k, own in enumerate(of) if one not in own]
        arms[f"{one} alone"] = [k for k, own in enumerate(of) if own == {one}]
    got: dict[str, list[list[float]]] = {}
    for turn in range(rounds):
        order = np.random.default_rng(turn).permutation(len(asked))
        halves = [of_users(found, np.sort(half)) for half in np.array_split(order, 2)]
        for mine, other in (halves, halves[::-1]):
            for arm, rows in arms.items():
                weights = chosen(only(mine, rows), wish.model.choose) if len(rows) > 1 else np.ones(1)
                got.setdefault(arm, []).append(read(only(other, rows), weights))
            got.setdefault("chosen by ndcg@20", []).append(read(other, chosen(mine, "ndcg@20")))
            got.setdefault("chosen once, not five times", []).append(read(other, climbed(mine, wish.model.choose)))
            best = int(np.argmax([read(only(mine, [k]), np.ones(1))[1] for k in range(len(of))]))
            got.setdefault("the best single strand", []).append(read(only(other, [best]), np.ones(1)))
    return {arm: np.mean(values, axis=0).tolist() for arm, values in got.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {}
    for path in args.recipes:
        try:
            found[path] = measured(path, args.rounds, Store("store"))
        except PenchantError as error:
            raise SystemExit(f"{path}: {error}") from None
        if not args.json:
            print(path)
            for arm, values in found[path].items():
                print(
                    f"  {arm:<30}" + "  ".join(f"{m} {v:.4f}" for m, v in zip(METRICS, values, strict=True)), flush=True
                )
    if args.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
