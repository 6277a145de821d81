"""How fast models of sequences train and rank, against a plain padded loop in the same run.

    python benchmarks/sequence_speed.py [--rounds 3] [--only epoch evaluation] [--json]

epoch       one of SASRec with its softmax over all items, 256 windows a batch, at most 50 choices a window. Plain: the same
            net of torch.nn modules, the same first weights, windows, loss and Adam; a batch is padded to its longest window, products
            with all items are taken at real places alone, then F.cross_entropy. `naive`: padded to 50, products at all 50 places,
            padding left out by `ignore_index`, torch's usual Adam; a few steps of it, counted up to an epoch.
evaluation  all users, full ranking, of a net as it is built: what is known at test time read, and every item scored; the
            metrics alone, and with the lists.

Choices are those of `amazon14-beauty` from PENCHANT_DATA (the last one test, the one before valid), or of the built-in shop
without it. Each formulation lives in a process of its own, ours as `penchant` sets it up, the others under torch's own
defaults; they run in turn, and ratios are taken round by round.
"""

from __future__ import annotations

import training_speed  # isort: skip  (first: it sets how torch's threads wait, by who is in sys.argv)

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant import inputs, machine, shop, split
from penchant import train as loop
from penchant.errors import MissingFile
from penchant.models.sasrec import Sasrec, SasrecNet
from penchant.ranking import Task, evaluate
from penchant.store import Store
from penchant.training import Training

MODEL = Sasrec(dim=64, layers=2, heads=1, length=50, dropout=0.2)
SETTINGS = Training(epochs=1, batch_size=256, device="cpu")
NAIVE_STEPS = 4  # of which an epoch is counted up
KINDS = ("ours", "plain", "naive")


def choices(store: str) -> tuple[str, split.Split]:
    """A split of the choices, and their name."""
    try:
        data, name = inputs.open_data("amazon14-beauty", Store(store)), "amazon14-beauty"
    except MissingFile:
        data, name = shop.make(pictures=False).dataset, "the shop, for there is no amazon14-beauty in PENCHANT_DATA"
        print(f"!! figures are of {name}: smaller, and of no claim", file=sys.stderr)
    return name, split.leave_last_out(data.interactions)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.inward, self.outward = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.heads, self.dropout, self.drop = heads, dropout, nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, width, dim = x.shape
        q, k, v = self.inward(self.before(x)).view(rows, width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        share = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=share, is_causal=True)
        x = x + self.drop(self.outward(found.transpose(1, 2).reshape(rows, width, dim)))
        return x + self.drop(self.second(self.drop(F.relu(self.first(self.after(x))))))


class Padded(nn.Module):
    """The plain formulation: windows padded on the right, where a causal net cannot see the padding."""

    def __init__(self, net: SasrecNet, everywhere: bool) -> None:
        super().__init__()
        model, self.everywhere = net.model, everywhere
        assert net.ids is not None
        self.item = nn.Embedding(len(net.ids), model.dim)
        self.position = nn.Embedding(model.length, model.dim)
        self.blocks = nn.ModuleList(Block(model.dim, model.heads, model.dropout) for _ in range(model.layers))
        self.norm, self.drop = nn.LayerNorm(model.dim), nn.Dropout(model.dropout)
        first = {name.replace(".attention", ""): value for name, value in net.state_dict().items()}
        first |= {"item.weight": first.pop("ids"), "position.weight": first.pop("position")}
        self.load_state_dict(first)
        self.windows = self.table(net)  # (W, L + 1), -1 where there is nothing

    def table(self, net: SasrecNet) -> torch.Tensor:
        first, end = net.windows.bounds.T
        found = np.full((len(first), net.model.length + 1), -1)
        items = net.train_part.item[net.windows.order]
        for row, (a, b) in enumerate(zip(first, end, strict=True)):
            found[row, : b - a] = items[a:b]
        return torch.from_numpy(found)

    def batches(self) -> Iterator[torch.Tensor]:
        for rows in torch.randperm(len(self.windows)).split(SETTINGS.batch_size):
            batch = self.windows[rows]
            yield batch if self.everywhere else batch[:, : int((batch >= 0).sum(1).max())]

    def loss(self, batch: torch.Tensor, among: torch.Tensor | None = None) -> torch.Tensor:
        """among: rows of items that compete, where not all do."""
        read, target = batch[:, :-1], batch[:, 1:]
        size = (target >= 0).sum(1, keepdim=True)
        place = torch.arange(read.shape[1]) + self.position.num_embeddings - size
        x = self.item.embedding_dim**0.5 * self.item(read.clamp(min=0))
        x = self.drop(x) + self.position(place.clamp(max=self.position.num_embeddings - 1))
        for block in self.blocks:
            x = block(x)
        h = self.norm(x)
        if self.everywhere:
            return F.cross_entropy((h @ self.item.weight.T).flatten(0, 1), target.flatten(), ignore_index=-1)
        real = target >= 0
        products = h[real] @ self.item.weight.T
        if among is not None:
            products = products + torch.full((products.shape[1],), -torch.inf).index_fill(0, among, 0.0)
        return F.cross_entropy(products, target[real])

    def epoch(self) -> Callable[[], float]:
        """A function that runs one and gives back its seconds."""
        fused = None if self.everywhere else True
        optimiser = torch.optim.Adam(self.parameters(), SETTINGS.learning_rate, SasrecNet.betas, fused=fused)
        steps = -(-len(self.windows) // SETTINGS.batch_size)
        some = min(NAIVE_STEPS, steps) if self.everywhere else steps

        def run() -> float:
            self.train()
            total, started = torch.zeros(()), time.perf_counter()
            for batch, _ in zip(self.batches(), range(some), strict=False):
                optimiser.zero_grad()
                loss = self.loss(batch)
                loss.backward()
                optimiser.step()
                total += loss.detach()
            return (time.perf_counter() - started) * steps / some

        return run


def built(part: split.Split) -> SasrecNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODEL.build(part.train)


def ours(net: SasrecNet) -> Callable[[], float]:
    machine.keep_memory()  # as `train.run` does
    optimisers, number = loop._optimisers(net, SETTINGS.learning_rate), iter(range(1, 10**6))

    def run() -> float:
        started = time.perf_counter()
        loop._epoch(net, net, optimisers, SETTINGS, next(number), torch.device("cpu"))
        return time.perf_counter() - started

    return run


def worker(kind: str, store: str) -> None:
    """For each line on stdin an epoch; answers with its seconds."""
    net = built(choices(store)[1])
    run = ours(net) if kind == "ours" else Padded(net, everywhere=kind == "naive").epoch()
    for _ in sys.stdin:
        print(run(), flush=True)


def epoch(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    net = built(part)
    plain = Padded(net, everywhere=False)
    batch = next(iter(net.batches(np.random.default_rng(0), SETTINGS.batch_size)))
    same = torch.from_numpy(np.random.default_rng(0).permutation(len(plain.windows))[: SETTINGS.batch_size])
    net.eval()
    plain.eval()
    with torch.no_grad():
        losses = [float(net.loss(batch)), float(plain.loss(plain.windows[same], among=net.chosen))]
    assert abs(losses[0] / losses[1] - 1) < 1e-5, f"losses before training differ: {losses}"

    command = [sys.executable, "-W", "ignore", __file__, "--store", store, "--worker"]
    workers = {
        kind: subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for kind in KINDS
    }

    def seconds(kind: str) -> float:
        there, back = workers[kind].stdin, workers[kind].stdout
        assert there is not None
        assert back is not None
        there.write("one\n")
        return float(back.readline())

    for kind in KINDS:
        seconds(kind)  # warms up
    turns = [{kind: seconds(kind) for kind in KINDS} for _ in range(rounds)]
    for process in workers.values():
        process.communicate()
    return {
        "windows": len(plain.windows),
        "targets": int((plain.windows[:, 1:] >= 0).sum()),
        **{f"{kind}_s": round(statistics.median(turn[kind] for turn in turns), 3) for kind in KINDS},
        "times": round(statistics.median(turn["plain"] / turn["ours"] for turn in turns), 2),
        "times_naive": round(statistics.median(turn["naive"] / turn["ours"] for turn in turns), 2),
        "losses": losses,
    }


def evaluation(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    scorer, task = built(part).eval().finish(), Task(mask=("train", "valid"), history=("train", "valid"), at=(5, 10))
    found: dict[str, float] = {}
    for name, lists in (("metrics_s", False), ("with_lists_s", True)):
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            users = len(evaluate(scorer, part, task, lists=lists).users)
            times.append(time.perf_counter() - started)
        found[name] = round(statistics.median(times), 2)
    return {"users": users, "items": len(part.items), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=["epoch", "evaluation"], default=["epoch", "evaluation"])
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=KINDS, help="used by the race itself")
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.store)
        return
    name, part = choices(given.store)
    found: dict[str, object] = {"data": name, "threads": torch.get_num_threads(), "model": str(MODEL)}
    if not given.json:
        print(f"{name}, {torch.get_num_threads()} threads")
    for task in given.only:
        found[task] = globals()[task](part, given.rounds, given.store)
        if not given.json:
            print(task, json.dumps(found[task]), flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

_ = training_speed
