"""The only training loop, its optimiser, and its checkpoint.

An epoch is a function of (seed, epoch): batches, negatives and dropout are drawn from generators seeded with both. So
a run that was killed goes on from its last validation and ends with the very numbers of an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from penchant import checkpoint, machine
from penchant.errors import BadSetting, Diverged, TooLarge
from penchant.nn import ByRows
from penchant.row_adam import RowAdam
from penchant.scorers import Scorer
from penchant.training import Curve, Training, Validation

__all__ = ["Trainable", "run"]

BETAS = (0.9, 0.999)  # of Adam, where a net has none of its own
EVERY = 5.0  # seconds between two words on how a long epoch goes


class Trainable(Protocol):
    """What `run` asks of a net, besides being a torch module. It may say `betas`, Adam's, `decay`, AdamW's in place of l2, and `clip`, the most that a gradient's
    length may be; a batch may be a tuple of parts, whose losses are averaged in one step, each as its length."""

    l2: float

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Any]: ...
    def loss(self, batch: Any) -> torch.Tensor: ...
    def finish(self) -> Scorer: ...
    def parameters(self) -> Iterable[nn.Parameter]: ...


@runtime_checkable
class Long(Protocol):
    """Of a net whose epochs are long: how many steps one has. The parts of its batches say how many `tokens` they hold."""

    def steps(self, batch_size: int) -> int: ...


def _optimisers(net: Trainable, rate: float) -> list[torch.optim.Optimizer]:
    """Dense parameters get fused Adam, by-row tables RowAdam. L2 (l2 * sum of squares) is added to the gradient there.

    Adam's weight_decay adds weight_decay * p to the gradient, so 2 * l2 is the gradient of l2 * ||p||^2 at no cost.
    """
    rows = [p for p in net.parameters() if isinstance(p, ByRows)]
    dense = [p for p in net.parameters() if not isinstance(p, ByRows) and p.requires_grad]
    found: list[torch.optim.Optimizer] = []
    if dense:
        betas, decay = getattr(net, "betas", BETAS), getattr(net, "decay", 0.0)
        if decay:
            found.append(torch.optim.AdamW(dense, lr=rate, betas=betas, weight_decay=decay, fused=True))
        else:
            found.append(torch.optim.Adam(dense, lr=rate, betas=betas, weight_decay=2 * net.l2, fused=True))
    if rows:
        found.append(RowAdam(rows, lr=rate, l2=net.l2))
    return found


@dataclass
class _Progress:
    """What changes while training runs."""

    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    waited: int = 0
    seconds: float = 0.0
    done: bool = False


def device_of(training: Training) -> torch.device:
    if training.device.startswith("cuda") and not torch.cuda.is_available():
        raise BadSetting(
            f'[training] device = "{training.device}": no CUDA device is usable here. Use  device = "auto"'
        )
    if training.device != "auto":
        return torch.device(training.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(
    net: Trainable,
    training: Training,
    validation: Validation | None = None,
    folder: Path | None = None,
    identity: str = "",
    progress: Callable[[Curve], None] | None = None,
) -> tuple[Scorer, Curve]:
    """Train until validation has not improved for `patience` validations, or for `epochs`; give back the best state.

    Without validation every epoch is run and the last state is the result. With a folder, the state is written there
    at each validation and picked up again if it belongs to the same `identity` (hash of settings and inputs). progress: told after each epoch, and within a long one,
    where `under_way` is not empty. Raises Diverged when the loss is no longer finite.
    """
    module: nn.Module = net  # type: ignore[assignment]
    device = device_of(training)
    module.to(device)
    optimisers = _optimisers(net, training.learning_rate)
    machine.keep_memory()

    def say(curve: Curve) -> None:
        if progress is not None:
            progress(replace(curve, select=training.select, epochs=training.epochs))

    steps = net.steps(training.batch_size) if progress is not None and isinstance(net, Long) else 0
    at, curve = _Progress(), Curve()
    best = None if validation is None else _copy(module)
    if folder is not None:
        found = checkpoint.read(folder, identity)
        if found is not None and checkpoint.fits(found, module):
            best = checkpoint.restore(found, module, optimisers) or best
            at, curve = _Progress(**found.progress), Curve.of(found.curve)
    while not at.done and at.epoch < training.epochs:
        started = time.perf_counter()
        at.epoch += 1
        pace = _Pace(say, curve, steps, at.epoch) if steps else None
        loss = _epoch(net, module, optimisers, training, at.epoch, device, pace)
        at.seconds += time.perf_counter() - started
        value = None
        due = at.epoch % training.validate_every == 0 or at.epoch == training.epochs
        if validation is not None and due:
            module.eval()
            value = validation.value(net.finish())
            if value > at.best:
                at.best, at.best_epoch, at.waited, best = value, at.epoch, 0, _copy(module)
            else:
                at.waited += 1
                at.done = at.waited >= training.patience
        curve = curve.add(at.epoch, loss, value, at.best_epoch, at.seconds)
        if folder is not None and due:
            checkpoint.write(folder, identity, module, optimisers, best, at.__dict__, curve)
        say(curve)
    if best is not None:
        module.load_state_dict(best, strict=False)
    module.eval()
    return net.finish(), curve


def _epoch(
    net: Trainable,
    module: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    training: Training,
    epoch: int,
    device: torch.device,
    pace: _Pace | None = None,
) -> float:
    rng = np.random.default_rng([training.seed, epoch])
    total, count = torch.zeros((), device=device), 0
    module.train()
    # A step on tables by rows is many small operations and gathers, bound by memory: waking a second thread for each costs
    # more than it does.
    small = any(isinstance(p, ByRows) for p in module.parameters())
    clip: float | None = getattr(net, "clip", None)
    with torch.random.fork_rng(devices=[]), machine.threads(1 if small else None):
        torch.manual_seed(int(rng.integers(2**31)))
        for batch in net.batches(rng, training.batch_size):
            parts = batch if isinstance(batch, tuple) else (batch,)  # of one step, read one after the other
            whole = sum(len(part) for part in parts) if len(parts) > 1 else 0
            with _roomy(net):
                for part in parts:
                    loss = net.loss(_to(part, device)) * (len(part) / whole if whole else 1)
                    loss.backward()
                    total += loss.detach()
                if clip is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), clip)
                for optimiser in optimisers:
                    optimiser.step()
                    optimiser.zero_grad(set_to_none=True)
            count += 1
            if pace is not None:
                pace.step(parts)
    mean = float(total) / max(count, 1)
    if not math.isfinite(mean):
        raise Diverged(
            f"the loss became {mean} in epoch {epoch}. Try a smaller step:  --set training.learning_rate="
            f"{min(training.learning_rate / 10, 1e-3):g}  or a smaller model.l2"
        )
    return mean


class _Pace:
    """Says every few seconds how far a long epoch has come, in tokens a second and time left."""

    def __init__(self, say: Callable[[Curve], None], curve: Curve, steps: int, epoch: int) -> None:
        self.say, self.curve, self.steps, self.epoch = say, curve, steps, epoch
        self.done, self.tokens = 0, 0
        self.began = self.spoke = time.perf_counter()

    def step(self, parts: Sequence[Any]) -> None:
        self.done += 1
        self.tokens += sum(part.tokens for part in parts)
        now = time.perf_counter()
        if now - self.spoke < EVERY or self.done >= self.steps:
            return
        self.spoke, passed = now, now - self.began
        left = timedelta(seconds=round(passed / self.done * (self.steps - self.done)))
        said = f"epoch {self.epoch}, step {self.done:,} of {self.steps:,}, {self.tokens / passed:,.0f} tokens/s, {left} left of it"
        self.say(replace(self.curve, under_way=said))


@contextmanager
def _roomy(net: Trainable) -> Iterator[None]:
    """Raises TooLarge where a step does not fit into the memory of the graphics card."""
    try:
        yield
    except torch.OutOfMemoryError:
        kept = "What was trained until the last validation is kept"
        parts = getattr(getattr(net, "model", None), "accumulate", None)
        if parts is None:
            then = f"{kept} under these settings. Take smaller batches:  --set training.batch_size=256"
        else:
            then = f"{kept}, and the same command goes on from there with more parts a step:  --set model.accumulate={2 * parts}"
        raise TooLarge(f"a step of training does not fit into the memory of the graphics card. {then}") from None


def _to(batch: Any, device: torch.device) -> Any:
    if device.type == "cpu":
        return batch
    there = {name: v.to(device) for name, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    return replace(batch, **there)


def _copy(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
