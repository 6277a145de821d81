"""What text plug-ins cost a training step: LightGCN bare, with RLMRec, with LMMRec, in turn in one run.

    python benchmarks/plugin_speed.py [--rounds 12] [--text-dim 384] [--dim 32] [--batch 4096] [--json]

Data: `rlmrec-yelp` where PENCHANT_DATA lists it, else as many random choices of as many users and items. Texts are random
vectors: their content does not matter to the time. Each round takes one step of every model. Printed are medians, wall
clock and processor, with a step's share of drawing an epoch's batches in them, and their ratio to the bare backbone's.
`literal` is contrast = None.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from penchant import inputs
from penchant.data import Ids, Interactions
from penchant.errors import MissingFile
from penchant.features import Features
from penchant.model import Model
from penchant.models.lightgcn import LightGcn
from penchant.models.lmmrec import Lmmrec
from penchant.models.rlmrec import Rlmrec
from penchant.recipe import SplitSpec
from penchant.store import Store
from penchant.texts import Provenance
from penchant.train import _optimisers

USERS, ITEMS, CHOICES = 11_091, 11_010, 166_620


def train_part(store: str) -> Interactions:
    try:
        data = inputs.open_data("rlmrec-yelp", Store(store))
        return inputs.make_split(data, SplitSpec(by="given")).train
    except MissingFile:
        rng = np.random.default_rng(0)
        pairs = np.unique(rng.integers(0, USERS, CHOICES) * ITEMS + rng.integers(0, ITEMS, CHOICES))
        users, items = (Ids(kind, tuple(map(str, range(n)))) for kind, n in (("user", USERS), ("item", ITEMS)))
        return Interactions(users, items, pairs // ITEMS, pairs % ITEMS)


def texts(ids: Ids, dim: int) -> Features:
    values = np.random.default_rng(len(ids)).normal(size=(len(ids), dim)).astype(np.float32)
    return Features(ids, values, np.ones(len(ids), bool), Provenance("random"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--text-dim", type=int, default=384)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    train = train_part(asked.store)
    light = LightGcn(dim=asked.dim)
    models: dict[str, Model] = {
        "lightgcn": light,
        "rlmrec con, 512": Rlmrec(light, contrast=512),
        "rlmrec con, literal": Rlmrec(light),
        "rlmrec gen": Rlmrec(light, "gen"),
        "lmmrec, 512": Lmmrec(light),
        "lmmrec, 512, texts": Lmmrec(light, fuse="texts"),
        "lmmrec, literal": Lmmrec(light, contrast=None),
    }
    given = {kind: texts(ids, asked.text_dim) for kind, ids in (("user", train.users), ("item", train.items))}
    nets = {}
    for name, model in models.items():
        torch.manual_seed(0)
        nets[name] = model.build(train, **{need.name: given[need.name[:4]] for need in model.needs()})
    optimisers = {name: _optimisers(net, 1e-3) for name, net in nets.items()}
    draws: list[tuple[float, float]] = []
    for seed in range(9):
        start = time.perf_counter(), time.process_time()
        batches = list(nets["lightgcn"].batches(np.random.default_rng(seed), asked.batch))
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        draws.append((spent[0] / len(batches), spent[1] / len(batches)))
    drawing = [statistics.median(column) for column in zip(*draws, strict=True)]  # wall clock, processor
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in nets}
    for turn in range(asked.rounds + 2):
        for name, net in nets.items():
            start = time.perf_counter(), time.process_time()
            net.loss(batches[turn % len(batches)]).backward()
            for optimiser in optimisers[name]:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            if turn >= 2:  # the first steps ask the system for memory
                taken[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    rows = []
    for name, times in taken.items():
        wall, own = (
            statistics.median(column) + draw for column, draw in zip(zip(*times, strict=True), drawing, strict=True)
        )
        rows.append({"model": name, "wall_ms": 1000 * wall, "cpu_ms": 1000 * own, "epoch_s": wall * len(batches)})
    for row in rows:
        row["times_bare"] = row["wall_ms"] / rows[0]["wall_ms"]  # type: ignore[operator]
    if asked.json:
        print(json.dumps({"threads": torch.get_num_threads(), "drawing_ms": 1000 * drawing[0], "rows": rows}))
        return
    print(
        f"{len(train):,} choices of {len(train.users):,} users, {len(batches)} steps an epoch, {torch.get_num_threads()} threads; "
        f"drawing its batches is {1000 * drawing[0]:.1f} ms of each step"
    )
    for row in rows:
        print(
            "{model:<22}{wall_ms:>9.1f} ms a step {cpu_ms:>9.1f} ms of processor {epoch_s:>7.1f} s an epoch {times_bare:>6.2f} x".format(
                **row
            )
        )


if __name__ == "__main__":
    main()
