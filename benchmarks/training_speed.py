"""How fast training and evaluation are, as ratios to the plain formulation within one run.

    .venv/bin/python benchmarks/training_speed.py [--rounds 5] [--json]

Uses `amazon-baby-mmrec` from PENCHANT_DATA, or a random log of its size without it. Each formulation lives in a process
of its own: ours as `penchant` sets it up, the plain one under torch's and the C library's own defaults. They run in turn,
A B A B, one epoch at a time; the ratio is taken round by round and the median is printed.
"""

from __future__ import annotations

import os
import sys

import penchant  # isort: skip  (before torch: it sets how torch's threads wait)

if "plain" in sys.argv:
    del os.environ["OMP_WAIT_POLICY"]  # torch's own way

import argparse
import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant import inputs, machine, metrics, split, topk
from penchant import train as loop
from penchant.batches import Pairs
from penchant.data import Ids, Interactions
from penchant.errors import MissingFile
from penchant.features import Features
from penchant.hops import Hops
from penchant.models.bpr import Bpr
from penchant.models.lightgcn import LightGcn
from penchant.models.vbpr import Vbpr
from penchant.ranking import Task, evaluate
from penchant.scorers import Factors
from penchant.store import Store
from penchant.texts import Provenance
from penchant.training import Training

BATCH = 2048
SETTINGS = Training(epochs=1, batch_size=BATCH, device="cpu")


def baby(store: str) -> tuple[str, split.Split]:
    try:
        data = inputs.open_data("amazon-baby-mmrec", Store(store))
        return "amazon-baby-mmrec", split.given(data.interactions, data.given)
    except MissingFile:
        rng = np.random.default_rng(0)
        users, items, n = 19_445, 7_050, 160_792
        item = np.minimum((rng.pareto(1.0, n) * items / 40).astype(np.int64), items - 1)
        key = np.unique(rng.integers(0, users, n) * items + item)
        log = Interactions(
            Ids("user", tuple(map(str, range(users)))),
            Ids("item", tuple(map(str, range(items)))),
            key // items,
            key % items,
        )
        return "random, the size of baby", split.by_ratio(log)


class CooLightGcn(nn.Module):
    """The plain formulation: torch's sparse COO product under autograd, L2 in the loss, default Adam."""

    def __init__(self, model: LightGcn, train: Interactions) -> None:
        super().__init__()
        self.model, self.users = model, len(train.users)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.e0 = nn.Parameter(model.build(train).e0.detach().clone())
        hops = Hops.bipartite(train)
        rows = torch.repeat_interleave(torch.arange(len(hops.starts) - 1), hops.starts.diff().long())
        size = (len(self.e0), len(self.e0))
        self.adjacency = torch.sparse_coo_tensor(
            torch.stack([rows, hops.columns.long()]), hops.weights, size
        ).coalesce()

    def loss(self, batch):
        layer, total = self.e0, self.e0
        for _ in range(self.model.layers):
            layer = torch.sparse.mm(self.adjacency, layer)
            total = total + layer
        users, items = total[: self.users], total[self.users :]
        u, i, j = users[batch.user], items[batch.positive], items[batch.negative]
        rank = F.softplus((u * j).sum(1) - (u * i).sum(1)).mean()
        return rank + self.model.l2 * self.e0.square().sum()


class PlainBpr(nn.Module):
    """Dense tables under default Adam, L2 of the batch's rows in the loss."""

    def __init__(self, model: Bpr, train: Interactions) -> None:
        super().__init__()
        self.model = model
        self.user = nn.Embedding(len(train.users), model.dim)
        self.item = nn.Embedding(len(train.items), model.dim)

    def loss(self, batch):
        u, i, j = self.user(batch.user), self.item(batch.positive), self.item(batch.negative)
        rank = F.softplus((u * j).sum(1) - (u * i).sum(1)).mean()
        return rank + self.model.l2 * (u.square().sum() + i.square().sum() + j.square().sum())


class PlainVbpr(nn.Module):
    """Every item's features are projected in every step, as toolboxes do."""

    def __init__(self, model: Vbpr, train: Interactions, f: torch.Tensor) -> None:
        super().__init__()
        self.f = f
        self.user = nn.Embedding(len(train.users), model.dim + model.content_dim)
        self.item = nn.Embedding(len(train.items), model.dim)
        self.project = nn.Linear(f.shape[1], model.content_dim)
        self.bias = nn.Linear(f.shape[1], 1, bias=False)

    def loss(self, batch):
        items = torch.cat([self.item.weight, self.project(self.f)], dim=1)
        bias = self.bias(self.f)[:, 0]
        u = self.user(batch.user)
        i, j = items[batch.positive], items[batch.negative]
        return F.softplus((u * j).sum(1) + bias[batch.negative] - (u * i).sum(1) - bias[batch.positive]).mean()


def plain_epoch(net: nn.Module, optimiser: torch.optim.Optimizer, pairs: Pairs, epoch: int) -> float:
    total, count = 0.0, 0
    rng = np.random.default_rng([0, epoch])
    rng.integers(2**31)  # the loop of train.py draws torch's seed first: the batches below are the same
    for batch in pairs.epoch(rng, BATCH):
        optimiser.zero_grad()
        loss = net.loss(batch)
        loss.backward()
        optimiser.step()
        total, count = total + float(loss.detach()), count + 1
    return total / count


def ours(net: nn.Module) -> Callable[[int], float]:
    optimisers = loop._optimisers(net, SETTINGS.learning_rate)
    return lambda epoch: loop._epoch(net, net, optimisers, SETTINGS, epoch, torch.device("cpu"))


def plain(net: nn.Module, pairs: Pairs) -> Callable[[int], float]:
    optimiser = torch.optim.Adam(net.parameters(), lr=SETTINGS.learning_rate)
    return lambda epoch: plain_epoch(net, optimiser, pairs, epoch)


def nets(name: str, part: split.Split) -> tuple[nn.Module, nn.Module]:
    """Our net and its plain twin, with the same first values where that matters."""
    if name == "lightgcn":
        model = LightGcn(dim=64, layers=3, l2=1e-5)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = model.build(part.train)
        return net, CooLightGcn(model, part.train)
    if name == "bpr":
        return Bpr(dim=64, l2=1e-5).build(part.train), PlainBpr(Bpr(dim=64, l2=1e-5), part.train)
    values = np.random.default_rng(0).standard_normal((len(part.items), 4096), np.float32)
    given = Features(part.items, values, np.ones(len(values), bool), Provenance("random"))
    net = Vbpr(dim=64, content_dim=64).build(part.train, image=given)
    return net, PlainVbpr(Vbpr(dim=64, content_dim=64), part.train, net.f)


def worker(name: str, kind: str, store: str) -> None:
    """Runs the epochs whose numbers come on stdin, answers with seconds; `recall` asks for Recall@20 on the test part."""
    part = baby(store)[1]
    fast, slow = nets(name, part)
    if kind == "ours":
        machine.keep_memory()  # as `train.run` does
    epoch = ours(fast) if kind == "ours" else plain(slow, fast.pairs)
    for line in sys.stdin:
        if line.strip() == "recall":
            task = Task(mask=("train",), history=("train",), at=(20,))
            scorer = fast.finish() if kind == "ours" else finished(slow, part)
            print(round(evaluate(scorer, part, task, lists=False).mean["recall@20"], 5), flush=True)
            continue
        started = time.perf_counter()
        epoch(int(line))
        print(time.perf_counter() - started, flush=True)


def finished(net: CooLightGcn, part: split.Split) -> Factors:
    with torch.no_grad():
        e = total = net.e0
        for _ in range(net.model.layers):
            e = torch.sparse.mm(net.adjacency, e)
            total = total + e
    users, zero = len(part.users), np.zeros(len(part.items), np.float32)
    return Factors(total[:users].numpy(), total[users:].numpy(), zero, zero[:, None])


def race(name: str, rounds: int, store: str) -> dict[str, float]:
    """Median seconds of both and the median of the ratios plain / ours, round by round, after one warm-up each."""
    asked = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    command = [sys.executable, "-W", "ignore", __file__, "--store", store, "--worker", name]
    workers = [subprocess.Popen([*command, kind], **asked) for kind in ("ours", "plain")]

    def ask(worker: subprocess.Popen[str], what: str) -> float:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(what + "\n")
        return float(worker.stdout.readline())

    for epoch in (1, 2):
        warm = [ask(worker, str(epoch)) for worker in workers]
    assert warm
    pairs = [[ask(worker, str(epoch)) for worker in workers] for epoch in range(3, rounds + 3)]
    a, b = zip(*pairs, strict=True)
    found = {
        "ours_s": round(statistics.median(a), 3),
        "plain_s": round(statistics.median(b), 3),
        "times": round(statistics.median(y / x for x, y in pairs), 2),
    }
    if name == "lightgcn":
        found["recall_ours"], found["recall_plain"] = (ask(worker, "recall") for worker in workers)
    for worker in workers:
        worker.communicate()
    return found


def lightgcn(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    found = race("lightgcn", rounds, store)
    rng, pairs = np.random.default_rng(0), Pairs(part.train)
    pairs.negatives(part.train.user.astype(np.int64), rng)  # sorts the keys, once
    started = time.perf_counter()
    for _ in range(5):
        pairs.negatives(part.train.user.astype(np.int64), rng)
    found["sampling_share"] = round((time.perf_counter() - started) / 5 / found["ours_s"], 4)
    return found


def bpr(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    return race("bpr", rounds, store)


def vbpr(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    return race("vbpr", rounds, store)


def evaluation(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    """19,445 x 7,050 with 64 dimensions, Recall and NDCG at 20; users without held-out items are ranked for too."""
    rng = np.random.default_rng(0)
    users, items = len(part.users), len(part.items)
    tables = [rng.standard_normal((n, 64), np.float32) for n in (users, items)]
    scorer = Factors(*tables, np.zeros(items, np.float32), tables[1])
    everyone = part.queries("test", ("train",), np.arange(users))
    held, mask = part.held("test"), part.train.matrix()
    times: dict[str, list[float]] = {"metrics": [], "lists": []}
    for _ in range(rounds):
        started = time.perf_counter()
        ranks = topk.ranks(scorer, everyone, held, mask)
        metrics.per_user(("recall@20", "ndcg@20"), ranks.query, ranks.rank, users, ranks.candidates)
        times["metrics"].append(time.perf_counter() - started)
        started = time.perf_counter()
        topk.top(scorer, everyone, 20, mask)
        times["lists"].append(time.perf_counter() - started)
    return {f"{name}_s": round(statistics.median(t), 3) for name, t in times.items()}


def peak(part: split.Split, rounds: int, store: str) -> dict[str, float]:
    """Peak memory of a whole process that reads the data, trains LightGCN for two epochs and evaluates it."""
    code = (
        "import resource, sys; sys.path.insert(0, 'benchmarks'); import training_speed as t;"
        f"part = t.baby({store!r})[1]; from penchant.models import LightGcn;"
        "rec = LightGcn(l2=1e-5).fit(part.train, part.valid, t.replace(t.SETTINGS, epochs=2, validate_every=1));"
        "t.evaluate(rec, part); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"peak_mb": int(done.stdout.split()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["lightgcn", "bpr", "vbpr", "evaluation", "peak"])
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, metavar=("MODEL", "KIND"), help="used by the race itself")
    given = parser.parse_args()
    if given.worker:
        worker(*given.worker, given.store)
        return
    name, part = baby(given.store)
    found: dict[str, object] = {"data": name, "threads": torch.get_num_threads()}
    for task in given.only:
        found[task] = globals()[task](part, given.rounds, given.store)
        if not given.json:
            print(task, found[task], flush=True)
    found["peak_rss_mb_of_this_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

_ = replace, penchant  # `replace` is used by the process that `peak` starts
