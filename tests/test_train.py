"""The training loop: its optimiser against slow references, its choice of epoch, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from worlds import World

from penchant import checkpoint, train
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadSetting, Diverged
from penchant.model import Model
from penchant.models.bpr import Bpr
from penchant.models.dpcml import Dpcml
from penchant.models.ease import Ease
from penchant.models.lightgcn import LightGcn
from penchant.models.vbpr import Vbpr
from penchant.nn import ByRows, pick
from penchant.ranking import Task, evaluate
from penchant.row_adam import RowAdam
from penchant.scorers import Popularity
from penchant.training import Curve, Training, Validation

# --- RowAdam ----------------------------------------------------------------------------------------------------------


def gradients(seed: int, steps: int = 12, rows: int = 9, dim: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """A few rows a step, some of them named twice."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, rows, 5), rng.normal(size=(5, dim)).astype(np.float32)) for _ in range(steps)]


def slow_row_adam(start: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray]], rate: float, l2: float) -> np.ndarray:
    """One row at a time, as it is written in the paper, in double precision."""
    p = start.astype(np.float64)
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, (rows, grads) in enumerate(steps, 1):
        for row in set(rows.tolist()):
            g = grads[rows == row].astype(np.float64).sum(axis=0) + 2 * l2 * p[row]
            m[row] = 0.9 * m[row] + 0.1 * g
            v[row] = 0.999 * v[row] + 0.001 * g * g
            p[row] -= rate * (m[row] / (1 - 0.9**t)) / (np.sqrt(v[row] / (1 - 0.999**t)) + 1e-8)
    return p


def run_row_adam(start: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray]], rate: float, l2: float) -> np.ndarray:
    table = ByRows(torch.from_numpy(start.copy()))
    optimiser = RowAdam([table], lr=rate, l2=l2)
    for rows, grads in steps:
        (pick(table, torch.from_numpy(rows)) * torch.from_numpy(grads)).sum().backward()
        assert table.grad is not None
        assert table.grad.is_sparse
        optimiser.step()
        optimiser.zero_grad()
    return table.detach().numpy()


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("seed", [0, 1])
def test_row_adam_is_adam_row_by_row(seed: int, l2: float) -> None:
    start, steps = np.random.default_rng(9).normal(size=(9, 3)).astype(np.float32), gradients(seed)
    assert run_row_adam(start, steps, 0.02, l2) == pytest.approx(slow_row_adam(start, steps, 0.02, l2), abs=2e-6)


def test_row_adam_is_torchs_sparse_adam() -> None:
    start, steps = np.random.default_rng(9).normal(size=(9, 3)).astype(np.float32), gradients(2, steps=40)
    table = nn.Parameter(torch.from_numpy(start.copy()))
    other = torch.optim.SparseAdam([table], lr=0.02)
    for rows, grads in steps:
        (nn.functional.embedding(torch.from_numpy(rows), table, sparse=True) * torch.from_numpy(grads)).sum().backward()
        other.step()
        other.zero_grad()
    assert run_row_adam(start, steps, 0.02, 0.0) == pytest.approx(table.detach().numpy(), abs=1e-6)


def test_row_adam_leaves_rows_alone_that_no_batch_named() -> None:
    start = np.random.default_rng(9).normal(size=(9, 3)).astype(np.float32)
    steps = [(np.array([2, 2, 5, 5, 5]), g) for _, g in gradients(3)]
    after = run_row_adam(start, steps, 0.02, 0.3)
    untouched = np.setdiff1d(np.arange(9), [2, 5])
    assert np.array_equal(after[untouched], start[untouched])
    assert (after[[2, 5]] != start[[2, 5]]).all()


def test_row_adam_of_a_whole_gradient_is_dense_adam() -> None:
    """When every batch names every row, lazy and dense Adam are one, l2 included."""
    start = np.random.default_rng(9).normal(size=(9, 3)).astype(np.float32)
    rng = np.random.default_rng(0)
    steps = [(rng.permutation(9), rng.normal(size=(9, 3)).astype(np.float32)) for _ in range(10)]
    dense = nn.Parameter(torch.from_numpy(start.copy()))
    adam = torch.optim.Adam([dense], lr=0.02, weight_decay=2 * 0.05)
    for rows, grads in steps:
        (dense[torch.from_numpy(rows)] * torch.from_numpy(grads)).sum().backward()
        adam.step()
        adam.zero_grad()
    assert run_row_adam(start, steps, 0.02, 0.05) == pytest.approx(dense.detach().numpy(), abs=2e-6)


# --- small nets whose course is known ---------------------------------------------------------------------------------


class Course(nn.Module):
    """One number that grows by the learning rate each epoch: the gradient is constant, and Adam's step is its size.

    What `finish` gives is best for the held-out item when the number is at `peak`.
    """

    l2 = 0.0

    def __init__(self, peak: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(1))
        self.peak = peak
        self.was_training: list[bool] = []

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[torch.Tensor]:
        yield torch.ones(1)

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        return -(self.at * batch).sum()

    def finish(self) -> Popularity:
        """Item 0 is held out; the further from the peak, the more of the other nine items are above it."""
        self.was_training.append(self.training)
        off = abs(float(self.at.detach()) - self.peak)
        return Popularity(np.concatenate([[-off], -np.arange(9) - 0.5, [-99]]).astype(np.float32))


def one_held_out() -> Validation:
    users, items = Ids("user", ("u",)), Ids("item", tuple("abcdefghijk"))
    known = Interactions(users, items, np.array([0]), np.array([10]))
    return Validation.of(known, Interactions(users, items, np.array([0]), np.array([0])), "mrr")


def course(peak: float, **settings: int) -> tuple[Course, float, Curve]:
    """The net, the number it was left with, and the curve."""
    net = Course(peak)
    training = Training(
        **{"epochs": 50, "learning_rate": 1.0, "validate_every": 1, "patience": 2, "device": "cpu"} | settings
    )  # type: ignore[arg-type]
    _, curve = train.run(net, training, one_held_out())
    return net, float(net.at.detach()), curve


def test_the_best_epoch_is_given_back_and_training_stops_after_patience() -> None:
    net, left, curve = course(peak=4)
    assert left == pytest.approx(4, abs=1e-4)
    assert curve.best_epoch == 4
    assert curve.best == 1.0
    assert curve.epoch == (1, 2, 3, 4, 5, 6), "two validations without gain, then no more"
    assert curve.value == pytest.approx((1 / 4, 1 / 3, 1 / 2, 1, 1 / 2, 1 / 3))
    assert net.was_training
    assert not any(net.was_training), "a net is judged with dropout off"
    assert not net.training


@pytest.mark.parametrize(("patience", "last"), [(1, 5), (3, 7), (40, 44)])
def test_patience_counts_validations_without_gain(patience: int, last: int) -> None:
    assert course(peak=4, patience=patience)[2].epoch[-1] == last


def test_patience_counts_validations_and_not_epochs() -> None:
    """Validated at 2, 4, 6, 8: equal at 2 and 4 around the peak of 3, and the first of equals is kept."""
    _, left, curve = course(peak=3, validate_every=2, patience=3)
    assert [e for e, v in zip(curve.epoch, curve.value, strict=True) if v is not None] == [2, 4, 6, 8]
    assert curve.best_epoch == 2
    assert left == pytest.approx(2, abs=1e-4)


def test_the_last_epoch_is_validated_too() -> None:
    _, left, curve = course(peak=7, epochs=7, validate_every=3, patience=9)
    assert [v is not None for v in curve.value] == [False, False, True, False, False, True, True]
    assert curve.best_epoch == 7
    assert left == pytest.approx(7, abs=1e-4)


def test_without_validation_every_epoch_is_run_and_the_last_is_the_result() -> None:
    net = Course(peak=2)
    _, curve = train.run(net, Training(epochs=9, learning_rate=1.0, device="cpu"))
    assert curve.epoch == tuple(range(1, 10))
    assert curve.value == (None,) * 9
    assert float(net.at.detach()) == pytest.approx(9, abs=1e-4)


class Drawing(Course):
    """Keeps what its generator gave in each epoch."""

    def __init__(self) -> None:
        super().__init__(0)
        self.drawn: list[tuple[float, float]] = []

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[torch.Tensor]:
        yield torch.ones(1) * rng.random()

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        self.drawn.append((float(batch), float(torch.rand(1))))
        return super().loss(batch)


def test_every_epoch_and_every_seed_draws_anew() -> None:
    nets = [Drawing() for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        train.run(net, Training(epochs=5, seed=seed, device="cpu"))
    first, again, other = (net.drawn for net in nets)
    assert first == again
    for column in (0, 1):
        assert len({d[column] for d in first + other}) == 10


def test_validation_is_evaluation_of_valid_with_train_known_and_masked(world: World) -> None:
    rec = Bpr(dim=8).fit(world.train, world.valid, replace(TRAINING, epochs=2, select="ndcg@5"))
    task = Task(part="valid", at=(5,), mask=("train",), history=("train",))
    found = evaluate(rec, world.split, task).mean["ndcg@5"]
    assert 0 < found < 1
    assert rec.curve.best == pytest.approx(found, abs=1e-9)
    by_history = Ease(l2=500.0).fit(world.train).scorer  # knows a user by what it is told of her, and nothing else
    judged = Validation.of(world.train, world.valid, "ndcg@5").value(by_history)
    assert judged == pytest.approx(evaluate(by_history, world.split, task).mean["ndcg@5"], abs=1e-9)
    assert judged > 0.5


def test_what_is_validated_on_must_not_be_known(world: World) -> None:
    """Train items are masked; a valid part made of them would judge every epoch by nothing."""
    with pytest.raises(BadSetting, match="valid"):
        Bpr().fit(world.train, world.train.take(np.arange(20)))
    with pytest.raises(BadSetting, match="valid part is empty"):
        Bpr().fit(world.train, world.train.take(np.zeros(0, np.int64)))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"patience": 0}, {"learning_rate": 0.0}, {"learning_rate": -1.0}]
)
def test_settings_that_cannot_be_trained_with(wrong: dict[str, float]) -> None:
    with pytest.raises(BadSetting, match=next(iter(wrong))):
        Training(**wrong)  # type: ignore[arg-type]


class Squares(nn.Module):
    """A dense table and its distance to a fixed one; l2 is left to the optimiser or written into the loss."""

    def __init__(self, l2: float, written: bool) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.table = nn.Parameter(torch.from_numpy(rng.normal(size=(6, 4)).astype(np.float32)))
        self.goal = torch.from_numpy(rng.normal(size=(6, 4)).astype(np.float32))
        self.l2, self.strength, self.written = (0.0 if written else l2), l2, written

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[torch.Tensor]:
        for _ in range(3):
            yield torch.from_numpy(rng.integers(0, 6, 4))

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        data = ((self.table - self.goal)[batch] ** 2).sum()
        return data + self.strength * (self.table**2).sum() if self.written else data

    def finish(self) -> Popularity:
        return Popularity(self.table.detach().numpy().ravel().copy())


def test_l2_is_l2_times_the_sum_of_squares() -> None:
    training = Training(epochs=20, learning_rate=0.05, device="cpu")
    given, written = (train.run(Squares(0.3, w), training)[0].arrays()["count"] for w in (False, True))
    bare = train.run(Squares(0.0, True), training)[0].arrays()["count"]
    assert given == pytest.approx(written, abs=1e-5)
    assert np.abs(given).sum() < 0.9 * np.abs(bare).sum()


class Dropping(Squares):
    """Dropout from torch's own generator: a continued run must draw the same."""

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        return ((nn.functional.dropout(self.table, 0.5, self.training) - self.goal)[batch] ** 2).sum()


# --- stopping and going on --------------------------------------------------------------------------------------------

TRAINING = Training(epochs=7, batch_size=64, learning_rate=0.03, validate_every=2, patience=9, device="cpu")


class Stop(Exception): ...


def stopping(epoch: int) -> Callable[[Curve], None]:
    def at(curve: Curve) -> None:
        if curve.epoch[-1] == epoch:
            raise Stop

    return at


@dataclass(frozen=True)
class Fit:
    """One model in one world, fitted as often as asked."""

    model: Model
    world: World

    def __call__(self, folder: Path | None = None, progress: Callable[[Curve], None] | None = None, **settings: object):  # type: ignore[no-untyped-def]
        inputs = {"image": self.world.features()} if self.model.asks_for_features else {}
        training = replace(TRAINING, **settings)  # type: ignore[arg-type]
        return self.model.fit(self.world.train, self.world.valid, training, folder=folder, progress=progress, **inputs)


NETS = [Bpr(dim=8), Dpcml(dim=8, vectors=2), LightGcn(dim=8, layers=2), Vbpr(dim=8, content_dim=4)]
each_net = pytest.mark.parametrize("model", NETS, ids=lambda m: m.name)


def same(a, b) -> bool:  # type: ignore[no-untyped-def]
    return all(np.array_equal(value, b.scorer.arrays()[name]) for name, value in a.scorer.arrays().items())


@pytest.mark.long
@each_net
def test_a_run_that_stops_anywhere_goes_on_to_the_same_numbers(model: Model, world: World, tmp_path: Path) -> None:
    fit = Fit(model, world)
    whole = fit()
    for epoch in range(1, 8):
        folder = tmp_path / str(epoch)
        with pytest.raises(Stop):
            fit(folder, stopping(epoch))
        repeated: list[int] = []
        rec = fit(folder, lambda curve, seen=repeated: seen.append(curve.epoch[-1]))  # type: ignore[misc]
        assert same(rec, whole)
        assert (rec.curve.epoch, rec.curve.loss, rec.curve.value) == (
            whole.curve.epoch,
            whole.curve.loss,
            whole.curve.value,
        )
        # A stop in the progress call of epoch e comes after its checkpoint, if one was due.
        assert repeated == list(range(epoch - epoch % 2 + 1 if epoch < 7 else 8, 8))
        assert sum(e <= epoch for e in repeated) <= TRAINING.validate_every


def test_what_a_kill_left_half_written_is_cleared_away(world: World, tmp_path: Path) -> None:
    fit = Fit(NETS[0], world)
    half = tmp_path / f"{checkpoint.NAME}.123.part"
    half.write_bytes(b"half")
    fit(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [checkpoint.NAME]


def test_a_finished_run_is_not_run_again(world: World, tmp_path: Path) -> None:
    fit = Fit(NETS[0], world)
    first = fit(tmp_path)
    again: list[int] = []
    assert same(fit(tmp_path, lambda curve: again.append(curve.epoch[-1])), first)
    assert again == []


def test_a_run_that_ran_out_of_patience_stays_stopped(world: World, tmp_path: Path) -> None:
    fit = Fit(NETS[0], world)
    first = fit(tmp_path, patience=1, learning_rate=1e-12, epochs=40)
    assert len(first.curve.epoch) == 4, "nothing is gained with such a step"
    again = fit(tmp_path, patience=1, learning_rate=1e-12, epochs=40)
    assert again.curve == first.curve


def test_dropout_is_the_same_in_a_continued_run(tmp_path: Path) -> None:
    training = replace(TRAINING, learning_rate=0.1)
    whole, _ = train.run(Dropping(0.0, False), training)
    with pytest.raises(Stop):
        train.run(Dropping(0.0, False), training, None, tmp_path, "x", stopping(5))
    torch.rand(7)
    rest, curve = train.run(Dropping(0.0, False), training, None, tmp_path, "x")
    assert np.array_equal(whole.arrays()["count"], rest.arrays()["count"])
    assert curve.epoch == tuple(range(1, 8))


@pytest.mark.long
@each_net
def test_a_checkpoint_of_other_settings_or_data_is_passed_over(model: Model, world: World, tmp_path: Path) -> None:
    fit = Fit(model, world)
    fit(tmp_path)
    whole = fit(learning_rate=0.02)
    assert same(fit(tmp_path, learning_rate=0.02), whole)
    other = {f.name: 0.01 for f in fields(model) if f.name in ("l2", "margin")}
    changed = Fit(replace(model, **other), world)  # type: ignore[type-var]
    assert other
    assert same(changed(tmp_path), changed())
    fewer = replace(world, split=replace(world.split, train=world.train.take(np.arange(len(world.train) - 1))))
    assert same(Fit(model, fewer)(tmp_path), Fit(model, fewer)())
    if model.asks_for_features:
        fit(tmp_path)
        image = world.features(seed=5)
        rec = model.fit(world.train, world.valid, TRAINING, folder=tmp_path, image=image)
        assert same(rec, model.fit(world.train, world.valid, TRAINING, image=image))


def test_a_checkpoint_of_a_net_made_of_other_parts_is_passed_over(world: World, tmp_path: Path) -> None:
    """As another version of the package may have left it, under the same settings and data."""

    class Renamed(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.other = net
            self.l2, self.batches, self.loss, self.finish = 0.0, net.batches, net.loss, net.finish

    def net() -> nn.Module:
        torch.manual_seed(0)
        return Bpr(dim=4).build(world.train)

    train.run(Renamed(net()), TRAINING, None, tmp_path, "x")
    found, curve = train.run(net(), TRAINING, None, tmp_path, "x")
    expected, _ = train.run(net(), TRAINING)
    assert curve.epoch == tuple(range(1, 8))
    assert np.array_equal(found.arrays()["user"], expected.arrays()["user"])


def damages() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "empty": lambda raw: b"",
        "cut": lambda raw: raw[: len(raw) // 2],
        "cut in the head": lambda raw: raw[:20],
        "noise": lambda raw: bytes(range(256)) * 40,
        "longer": lambda raw: raw + b"more",
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", damages())
def test_a_damaged_checkpoint_is_passed_over(kind: str, world: World, tmp_path: Path) -> None:
    fit = Fit(NETS[2], world)
    whole = fit()
    with pytest.raises(Stop):
        fit(tmp_path, stopping(5))
    file = tmp_path / checkpoint.NAME
    file.write_bytes(damages()[kind](file.read_bytes()))
    assert same(fit(tmp_path), whole)


def test_one_wrong_byte_anywhere_is_noticed(world: World, tmp_path: Path) -> None:
    Fit(NETS[2], world)(tmp_path)
    file = tmp_path / checkpoint.NAME
    raw = file.read_bytes()
    with safe_open(file, framework="pt") as opened:
        run = opened.metadata()["run"]
    good = checkpoint.read(tmp_path, run)
    assert good is not None
    head = 8 + int.from_bytes(raw[:8], "little")
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, head, 60), *rng.integers(head, len(raw), 60)]:
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 0x15]) + raw[at + 1 :])
        found = checkpoint.read(tmp_path, run)
        # A byte may mean nothing, such as a blank after the head; then what is read is what was written.
        assert found is None or (
            (found.progress, found.curve) == (good.progress, good.curve)
            and found.tensors.keys() == good.tensors.keys()
            and all(torch.equal(t, good.tensors[name]) for name, t in found.tensors.items())
        )


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_step_that_is_too_large_is_said_to_be(world: World) -> None:
    with pytest.raises(Diverged, match=r"--set training\.learning_rate="):
        Bpr(dim=8).fit(world.train, world.valid, replace(TRAINING, learning_rate=1e25))
    # With a single batch a epoch the loss is still finite when the tables no longer are.
    with pytest.raises(Diverged, match=r"--set training\.learning_rate="):
        Bpr(dim=8).fit(
            world.train, world.valid, replace(TRAINING, learning_rate=1e25, batch_size=10_000, validate_every=1)
        )


def test_users_who_chose_everything_are_no_reason_to_wait_forever() -> None:
    users, items = Ids("user", ("a", "b")), Ids("item", ("x", "y"))
    everything = Interactions(users, items, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    rec = Bpr(dim=4).fit(everything, training=replace(TRAINING, epochs=2))
    assert np.isfinite(rec.score(Queries.of([0], [[]]))).all()


# --- a kill -----------------------------------------------------------------------------------------------------------

CHILD = """
    import os
    import sys
    from pathlib import Path

    import numpy as np
    from worlds import checkerboard

    from penchant.models.vbpr import Vbpr
    from penchant.training import Training

    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    world = checkerboard()
    training = Training(epochs=60, batch_size=64, learning_rate=0.01, validate_every=4, patience=99, device="cpu")


    def fit():
        rec = Vbpr(dim=16, content_dim=8).fit(
            world.train, world.valid, training, folder=folder, image=world.features(),
            progress=lambda curve: print("epoch", curve.epoch[-1], flush=True),
        )
        np.savez(out, scores=rec.score(rec.known), loss=rec.curve.loss, best=rec.curve.best_epoch)


    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            fit()
            os._exit(0)
        print("child", child, flush=True)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Starter:
    """A fresh interpreter that has loaded everything and starts the fit as a process of its own each time it is told.

    Loading torch takes seconds; the process that trains, and is killed, is forked after that and before any work.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), str(out)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.epochs: list[int] = []

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def watch(self, kill_at: int | None = None) -> tuple[list[int], int]:
        """Epochs that the fit reported until it ended, and its exit code; killed as soon as it reports `kill_at`."""
        assert self.process.stdout is not None
        seen: list[int] = []
        child = 0
        for line in self.process.stdout:
            word, _, number = line.partition(" ")
            if word == "ended":
                return seen, int(number)
            if word == "child":
                child = int(number)
            else:
                seen.append(int(number))
            if child and kill_at is not None and seen and seen[-1] >= kill_at:
                os.kill(child, signal.SIGKILL)
                kill_at = None
        raise AssertionError("the starter itself ended")

    def close(self) -> None:
        self.process.communicate()


@pytest.mark.long
def test_a_killed_run_goes_on_to_the_very_same_numbers(tmp_path: Path) -> None:
    """SIGKILL at odd moments, again and again; at most `validate_every` epochs are repeated each time."""
    whole, killed = Starter(tmp_path / "a", tmp_path / "a.npz"), Starter(tmp_path / "b", tmp_path / "b.npz")
    whole.begin()
    epochs = []
    for moment in (1, 6, 19, 28, 40, 53):
        killed.begin()
        seen, code = killed.watch(moment)
        assert code == -signal.SIGKILL
        epochs.append(seen)
    assert not (tmp_path / "b.npz").exists()
    killed.begin()
    for starter in (killed, whole):
        seen, code = starter.watch()
        assert code == 0
        assert seen[-1] == 60
        epochs.append(seen)
        starter.close()
    *parts, at_once = epochs

    assert at_once == list(range(1, 61))
    assert parts[0][0] == 1
    for before, after in pairwise(parts):
        assert after == list(range(after[0], after[-1] + 1))
        assert before[-1] + 1 - after[0] <= 4, f"stopped at {before[-1]}, went on at {after[0]}"
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    for name in ("scores", "loss", "best"):
        assert np.array_equal(a[name], b[name]), name
    assert [f.name for f in (tmp_path / "b").iterdir()] == [checkpoint.NAME], "nothing half written is left"
