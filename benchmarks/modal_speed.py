"""How fast models of features train and item graphs are made, against the literal formulation in the same run.

    python benchmarks/modal_speed.py [--rounds 3] [--only mllmrec freedom accuracy graph] [--items 50000] [--json]

mllmrec   an epoch at the size of `amazon-baby-mmrec`, texts of 384 entries. Literal: each step smooths all texts anew over
          the graph of items, sends all users and items through both towers, and picks the rows of the batch.
freedom   an epoch, features of 4,096 and 384 entries. Literal: as the published code has it, features are trained tables under
          Adam, and each step projects those of all items; COO products under autograd. `frozen`: the same, tables fixed.
accuracy  ours and the two literal forms of FREEDOM, trained on `tiktok-diffmm` (image and audio) until valid stops rising.
graph     MLLMRec's graph of items: the nearest by cosine, a threshold, Jaccard, normalised. Literal: dense, items x items.

Choices are those of `amazon-baby-mmrec` from PENCHANT_DATA, or a random log of its size without it. Features are synthetic.
Each formulation lives in a process of its own; they run in turn, an epoch each, and ratios are taken round by round.
"""

from __future__ import annotations

import training_speed  # isort: skip  (first: it sets how torch's threads wait, by who is in sys.argv)

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant import inputs, machine, split
from penchant import train as loop
from penchant.batches import Pairs, Triples
from penchant.data import Ids, Interactions
from penchant.errors import MissingFile
from penchant.features import Features
from penchant.graph import normalise
from penchant.modal import ItemGraph
from penchant.models.freedom import Freedom, FreedomNet
from penchant.models.mllmrec import Mllmrec, MllmrecNet, joined
from penchant.nn import Embedded, factors
from penchant.scorers import Scorer
from penchant.store import Store
from penchant.texts import Provenance
from penchant.training import Training, Validation

warnings.filterwarnings("ignore", message="Sparse")  # torch's, of how COO tensors are made
BATCH = training_speed.BATCH
SELECT = "recall@20"
FREEDOM = Freedom(weights=(("image", 0.1), ("text", 0.9)))


def features(ids: Ids, values: np.ndarray) -> Features:
    return Features(ids, values, np.ones(len(ids), bool), Provenance("random")).unit()


def texts(train: Interactions) -> tuple[Features, Features]:
    """Of items: a random code of everybody who chose it in train, so that texts say something; of users: of her items."""
    chosen = train.matrix()
    items = chosen.T @ np.random.default_rng(1).standard_normal((len(train.users), 384), np.float32)
    items += 0.1 * np.random.default_rng(2).standard_normal(items.shape, np.float32)
    found = features(train.items, items)
    users = chosen @ found.values + 0.1 * np.random.default_rng(3).standard_normal((len(train.users), 384), np.float32)
    return found, features(train.users, users)


def pictures(items: Ids) -> dict[str, Features]:
    rng = np.random.default_rng(0)
    return {
        name: features(items, rng.standard_normal((len(items), dim), np.float32))
        for name, dim in (("image", 4096), ("text", 384))
    }


# --- the literal formulations -----------------------------------------------------------------------------------------


def coo(rows: torch.Tensor, columns: torch.Tensor, weights: torch.Tensor, n: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.stack([rows.long(), columns.long()]), weights, (n, n)).coalesce()


def bpr(u: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    return -F.logsigmoid((u * i).sum(1) - (u * j).sum(1)).mean()


class PlainMllmrec(nn.Module):
    """Everything in every step."""

    l2 = 0.0

    def __init__(self, model: Mllmrec, train: Interactions, items: Features, users: Features, like: MllmrecNet) -> None:
        super().__init__()
        self.pairs, graph = Pairs(train), normalise(joined(model, train, items), degree="row").matrix.tocoo()
        index = [torch.from_numpy(a) for a in (graph.row, graph.col, graph.data)]
        self.graph = coo(*index, len(train.items))
        self.x, self.t, self.layers = torch.from_numpy(items.values), torch.from_numpy(users.values), model.layers

        def tower() -> nn.Sequential:
            return nn.Sequential(nn.Linear(items.dim, model.hidden), nn.LeakyReLU(), nn.Linear(model.hidden, model.dim))

        self.f_user, self.f_item = tower(), tower()
        self.load_state_dict(like.state_dict())  # the same first values

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size)

    def embed(self) -> tuple[torch.Tensor, torch.Tensor]:
        layer = e = self.x
        for _ in range(self.layers):
            layer = torch.sparse.mm(self.graph, layer)
            e = e + layer
        return self.f_user(self.t), self.f_item(e)

    def loss(self, batch: Triples) -> torch.Tensor:
        users, items = self.embed()
        return bpr(users[batch.user], items[batch.positive], items[batch.negative])

    def finish(self) -> Scorer:
        return factors(self.pairs.train, Embedded(*self.embed()))


class PlainFreedom(nn.Module):
    """Written after the paper's published code; trained: features are tables that learn, as there."""

    l2 = 0.0

    def __init__(self, model: Freedom, train: Interactions, given: Mapping[str, Features], trained: bool) -> None:
        super().__init__()
        self.model, self.pairs, self.train_part = model, Pairs(train), train
        self.user, self.item = (nn.Embedding(len(ids), model.dim) for ids in (train.users, train.items))
        for table in (self.user, self.item):
            nn.init.xavier_uniform_(table.weight)
        tables = [nn.Embedding.from_pretrained(torch.tensor(f.values), freeze=not trained) for f in given.values()]
        self.tables = nn.ModuleList(tables)
        self.projections = nn.ModuleList(nn.Linear(f.dim, model.dim) for f in given.values())
        alpha = dict(model.weights or [(name, 1 / len(given)) for name in given])
        graph = ItemGraph(given, model.neighbours, [alpha[name] for name in given])
        edges = [graph.get_buffer(f"there_{name}") for name in ("rows", "columns", "weights")]
        self.alike = coo(*edges, len(train.items))
        self.u, self.i = torch.from_numpy(train.user.astype(np.int64)), torch.from_numpy(train.item.astype(np.int64))
        self.p = (self.u.bincount()[self.u] * self.i.bincount()[self.i]).double().rsqrt()
        self.whole = self.pruned = self.adjacency(self.u, self.i)

    def adjacency(self, u: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        users, n = self.user.num_embeddings, self.user.num_embeddings + self.item.num_embeddings
        weights = ((u.bincount()[u] + 1e-7) * (i.bincount()[i] + 1e-7)).rsqrt()
        there = torch.cat([u, i + users]), torch.cat([i + users, u])
        return coo(*there, weights.repeat(2), n)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        if self.model.keep_edges < 1:
            kept = torch.multinomial(self.p, round(self.model.keep_edges * len(self.p)))
            self.pruned = self.adjacency(self.u[kept], self.i[kept])
        return self.pairs.epoch(rng, batch_size)

    def embed(self, adjacency: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.item.weight
        for _ in range(self.model.mm_layers):
            h = torch.sparse.mm(self.alike, h)
        layers = [torch.cat([self.user.weight, self.item.weight])]
        for _ in range(self.model.layers):
            layers.append(torch.sparse.mm(adjacency, layers[-1]))
        users, items = torch.stack(layers, dim=1).mean(dim=1).split([self.user.num_embeddings, len(h)])
        return users, items + h

    def loss(self, batch: Triples) -> torch.Tensor:
        users, items = self.embed(self.pruned)
        u = users[batch.user]
        total = bpr(u, items[batch.positive], items[batch.negative])
        for table, projection in zip(self.tables, self.projections, strict=True):
            x = projection(table.weight)  # of all items
            total = total + self.model.weight_features * bpr(u, x[batch.positive], x[batch.negative])
        return total

    @torch.no_grad()
    def finish(self) -> Scorer:
        return factors(self.train_part, Embedded(*self.embed(self.whole)))


# --- races ------------------------------------------------------------------------------------------------------------


def plain(net: PlainMllmrec | PlainFreedom) -> Callable[[int], float]:
    """Epochs under torch's default Adam, on the batches that ours have."""
    optimiser = torch.optim.Adam((p for p in net.parameters() if p.requires_grad), lr=1e-3)

    def epoch(number: int) -> float:
        rng = np.random.default_rng([0, number])
        torch.manual_seed(int(rng.integers(2**31)))  # as the loop of train.py
        total, count = 0.0, 0
        for batch in net.batches(rng, BATCH):
            optimiser.zero_grad()
            loss = net.loss(batch)
            loss.backward()
            optimiser.step()
            total, count = total + float(loss.detach()), count + 1
        return total / count

    return epoch


def net_of(name: str, kind: str, train: Interactions) -> MllmrecNet | FreedomNet | PlainMllmrec | PlainFreedom:
    torch.manual_seed(0)
    if name == "mllmrec":
        items, users = texts(train)
        net = Mllmrec().build(train, items, users)
        return net if kind == "ours" else PlainMllmrec(Mllmrec(), train, items, users, net)
    given = pictures(train.items)
    return FREEDOM.build(train, **given) if kind == "ours" else PlainFreedom(FREEDOM, train, given, kind == "plain")


def worker(name: str, kind: str, store: str) -> None:
    """For each number of an epoch on stdin: seconds and loss; for anything else: recall on valid, and the peak of memory."""
    part = training_speed.baby(store)[1]
    net = net_of(name, kind, part.train)
    if kind == "ours":
        machine.keep_memory()  # as `train.run` does
    epoch = training_speed.ours(net) if kind == "ours" else plain(net)
    for line in sys.stdin:
        if line.strip().isdigit():
            started = time.perf_counter()
            loss = epoch(int(line))
            print(json.dumps([time.perf_counter() - started, loss]), flush=True)
        else:
            with torch.no_grad():
                value = Validation.of(part.train, part.valid, SELECT).value(net.finish())
            print(json.dumps([value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]), flush=True)


def race(name: str, kinds: tuple[str, ...], rounds: int, store: str) -> dict[str, object]:
    """Median seconds of each, and the median of ratios to ours, round by round, after one epoch to warm up."""
    command = [sys.executable, "-W", "ignore", __file__, "--store", store, "--worker", name]
    workers = {
        kind: subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for kind in kinds
    }

    def ask(kind: str, what: str) -> list[float]:
        process = workers[kind]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(what + "\n")
        return list(json.loads(process.stdout.readline()))

    turns = [{kind: ask(kind, str(epoch)) for kind in kinds} for epoch in range(1, rounds + 2)]
    found: dict[str, object] = {}
    for kind in kinds:
        found[f"{kind}_s"] = round(statistics.median(turn[kind][0] for turn in turns[1:]), 3)
        if kind != "ours":
            found[f"times_{kind}"] = round(statistics.median(t[kind][0] / t["ours"][0] for t in turns[1:]), 2)
        found[f"losses_{kind}"] = [round(turn[kind][1], 6) for turn in turns]
        value, peak = ask(kind, "recall")
        found[f"valid_{SELECT}_{kind}"], found[f"peak_mb_{kind}"] = round(value, 5), int(peak)
    for process in workers.values():
        process.communicate()
    return found


def mllmrec(given: argparse.Namespace) -> dict[str, object]:
    return race("mllmrec", ("ours", "plain"), given.rounds, given.store)


def freedom(given: argparse.Namespace) -> dict[str, object]:
    return race("freedom", ("ours", "plain", "frozen"), given.rounds, given.store)


def accuracy(given: argparse.Namespace) -> dict[str, object]:
    """The same loop, batches, optimiser and choice of the epoch for all three."""
    try:
        data = inputs.open_data("tiktok-diffmm", Store(given.store))
    except MissingFile:
        return {"skipped": "tiktok-diffmm is not in PENCHANT_DATA"}
    part = split.given(data.interactions, data.given)
    media = {"image": data.features["image_features"], "audio": data.features["audio_features"]}
    model = replace(FREEDOM, weights=None)
    found: dict[str, object] = {}
    for kind in given.kinds:
        values, epochs = [], []
        for seed in given.seeds:
            settings = Training(
                epochs=given.epochs, batch_size=BATCH, validate_every=5, patience=6, seed=seed, device="cpu"
            )
            torch.manual_seed(seed)
            net = (
                model.build(part.train, **media)
                if kind == "ours"
                else PlainFreedom(model, part.train, media, kind == "plain")
            )
            _, curve = loop.run(net, settings, Validation.of(part.train, part.valid, SELECT))
            values.append(curve.best)
            epochs.append(curve.best_epoch)
        found[f"valid_{SELECT}_{kind}"] = [round(v, 5) for v in values if v is not None]
        found[f"mean_{kind}"] = round(statistics.mean(v for v in values if v is not None), 5)
        found[f"epochs_{kind}"] = epochs
    return found


# --- the graph --------------------------------------------------------------------------------------------------------


def shelf(n: int) -> tuple[Interactions, Features]:
    """n items of n / 100 kinds, ten choices an item by as many people, most within a kind; some items are popular."""
    rng = np.random.default_rng(0)
    kinds, count = max(n // 100, 1), 10 * n
    kind = rng.integers(0, kinds, n)
    values = rng.standard_normal((kinds, 384), np.float32)[kind] + 0.6 * rng.standard_normal((n, 384), np.float32)
    user = rng.integers(0, n, count)
    popular = np.minimum((rng.pareto(1.0, count) * n / 40).astype(np.int64), n - 1)
    order = np.argsort(kind, kind="stable")
    size = np.bincount(kind, minlength=kinds)
    theirs = user % kinds  # a user's kind
    own = order[(np.cumsum(size) - size)[theirs] + rng.integers(0, 2**31, count) % np.maximum(size[theirs], 1)]
    key = np.unique(user * n + np.where(rng.random(count) < 0.7, own, popular))
    users, items = (Ids(kind_, tuple(map(str, range(n)))) for kind_ in ("user", "item"))
    return Interactions(users, items, key // n, key % n), features(items, values)


def dense(model: Mllmrec, train: Interactions, items: Features) -> int:
    """Tables items x items, as published code has them. The number of edges."""
    x = torch.from_numpy(items.values)
    near, index = torch.topk(x @ x.T, model.neighbours)
    a = torch.zeros(len(x), len(x)).scatter_(1, index, (near >= model.threshold).float())
    r = train.matrix()
    common = torch.from_numpy((r.T @ r).toarray())
    size = common.diagonal().clone()
    shared = common / (size[:, None] + size[None, :] - common + 1e-7)
    shared.fill_diagonal_(0)
    best, index = torch.topk(shared, model.neighbours_jaccard)
    a += torch.zeros(len(x), len(x)).scatter_(1, index, best)
    root = (a.sum(1) + 1e-7).rsqrt()
    return int((root[:, None] * a * root).count_nonzero())


def made(n: int, kind: str) -> None:
    """Makes one graph, in this process."""
    train, items = shelf(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    started = time.perf_counter()
    ours = kind == "ours"
    edges = normalise(joined(Mllmrec(), train, items), degree="row").edges if ours else dense(Mllmrec(), train, items)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        json.dumps(
            {
                "items": n, "choices": len(train), "edges": edges, "s": round(seconds, 2),
                "peak_mb": peak, "before_mb": before,
            }
        )
    )  # fmt: skip


def graph(given: argparse.Namespace) -> dict[str, object]:
    """Ours whole, and both at a fifth of the items, in turn; dense tables of all would be several of items^2 x 4 bytes."""

    def run(n: int, kind: str) -> dict[str, float]:
        command = [sys.executable, "-W", "ignore", __file__, "--graph", str(n), kind]
        return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))

    few = given.items // 5
    turns = [(run(few, "ours"), run(few, "dense")) for _ in range(given.rounds)]
    return {
        "ours": run(given.items, "ours"),
        "ours_at_a_fifth": turns[-1][0],
        "dense_at_a_fifth": turns[-1][1],
        "times_at_a_fifth": round(statistics.median(theirs["s"] / own["s"] for own, theirs in turns), 2),
        "dense_times_25_s": round(25 * statistics.median(theirs["s"] for _, theirs in turns), 1),
        "dense_times_25_mb": round(
            25 * statistics.median(theirs["peak_mb"] - theirs["before_mb"] for _, theirs in turns)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["mllmrec", "freedom", "accuracy", "graph"])
    parser.add_argument("--items", type=int, default=50_000, help="of the graph")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(5)), help="of the accuracy")
    parser.add_argument("--kinds", nargs="*", default=["ours", "plain", "frozen"], help="of the accuracy")
    parser.add_argument("--epochs", type=int, default=150, help="of the accuracy, at most")
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, metavar=("MODEL", "KIND"), help="used by the race itself")
    parser.add_argument("--graph", nargs=2, metavar=("ITEMS", "KIND"), help="used by the graph itself")
    given = parser.parse_args()
    if given.worker:
        worker(*given.worker, given.store)
        return
    if given.graph:
        made(int(given.graph[0]), given.graph[1])
        return
    found: dict[str, object] = {"data": training_speed.baby(given.store)[0], "threads": torch.get_num_threads()}
    for task in given.only:
        found[task] = globals()[task](given)
        if not given.json:
            print(task, json.dumps(found[task], indent=1), flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
