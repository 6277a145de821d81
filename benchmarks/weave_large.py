"""Weave beyond its tables: seconds, memory and Recall@20 on a drawn log of 50,000 items, beside item_knn and popular items.

    python benchmarks/weave_large.py [--items 50000] [--users 60000] [--json]

People have one or two of 500 tastes; items belong to one, and a few are popular with all. Each model is fitted in a process of its
own, with one thread; memory is the most that the process held.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from penchant.data import Ids, Interactions
from penchant.errors import Approximate
from penchant.features import Features
from penchant.model import Model
from penchant.models.item_knn import ItemKnn
from penchant.models.popular import Popular
from penchant.models.weave import Weave
from penchant.ranking import Task, evaluate
from penchant.split import Split, by_ratio
from penchant.texts import Provenance

TASTES, DIM = 500, 384
MODELS: dict[str, Model] = {"weave": Weave(), "item_knn": ItemKnn(), "popular": Popular()}


def world(users: int, items: int, seed: int = 0) -> tuple[Split, Features]:
    """A log, 20 choices a person on average, and vectors of items that say a little of their taste."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, TASTES, items)
    order = np.argsort(taste, kind="stable")
    starts = np.searchsorted(taste[order], np.arange(TASTES + 1))
    count = np.minimum(4 + rng.geometric(1 / 16, users), 200)
    user = np.repeat(np.arange(users), count)
    own = rng.integers(0, TASTES, (users, 2))[user, rng.integers(0, 2, len(user))]
    # Within a taste, and among all, the first are chosen most: the n-th in proportion to about 1 / n^(1/2).
    place = np.square(rng.random(len(user)))
    near = order[starts[own] + (place * (starts[own + 1] - starts[own])).astype(np.int64)]
    item = np.where(rng.random(len(user)) < 0.75, near, (place**2 * items).astype(np.int64))
    pair = np.unique(user * items + item)
    log = Interactions(
        Ids("user", tuple(f"u{n}" for n in range(users))),
        Ids("item", tuple(f"i{n}" for n in range(items))),
        pair // items,
        pair % items,
    )
    values = rng.normal(size=(TASTES, DIM))[taste] * 0.3 + rng.normal(size=(items, DIM))
    features = Features(log.items, values.astype(np.float32), np.ones(items, bool), Provenance("drawn"))
    return by_ratio(log, (0.8, 0.1, 0.1), seed=seed), features


def one(name: str, users: int, items: int) -> dict[str, Any]:
    split, text = world(users, items)
    before = peak_gb()
    started = time.perf_counter()
    given = {"text": text} if name == "weave" else {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", Approximate)
        rec = MODELS[name].fit(split.train, split.valid, **given)
    seconds = time.perf_counter() - started
    few = np.sort(np.random.default_rng(0).choice(users, min(5000, users), replace=False))
    part = replace(split, test=split.test.take(np.isin(split.test.user, few)))
    started = time.perf_counter()
    recall = evaluate(rec, part, Task(at=(20,))).mean["recall@20"]
    return {
        "model": name,
        "choices": len(split.train),
        "seconds": round(seconds, 1),
        "ms a user": round(1000 * (time.perf_counter() - started) / len(few), 2),
        "peak GB": round(peak_gb(), 2),
        "GB before": round(before, 2),
        "recall@20": round(recall, 4),
        "said": [str(w.message) for w in said],
    }


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=60_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    context, rows = multiprocessing.get_context("spawn"), []
    for name in MODELS:
        with context.Pool(1) as pool:
            rows.append(pool.apply(one, (name, args.users, args.items)))
        if not args.json:
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items() if value != []), flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
