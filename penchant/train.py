"""The only training loop, its optimiser, and its checkpoint.

An epoch is a function of (seed, epoch): batches, negatives and dropout are drawn from generators seeded with both. So
a run that was killed goes on from its last validation and ends with the very numbers of an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.adam import adam

from penchant import checkpoint
from penchant.errors import BadSetting, Diverged
from penchant.nn import ByRows
from penchant.scorers import Scorer
from penchant.training import Curve, Training, Validation

__all__ = ["RowAdam", "Trainable", "run"]


class Trainable(Protocol):
    """What `run` asks of a net, besides being a torch module."""

    l2: float

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Any]: ...
    def loss(self, batch: Any) -> torch.Tensor: ...
    def finish(self) -> Scorer: ...
    def parameters(self) -> Iterable[nn.Parameter]: ...


class RowAdam(torch.optim.Optimizer):
    """Adam that touches only the rows a sparse gradient names (lazy Adam; Kingma & Ba 2015, algorithm 1 by rows).

    Departs from dense Adam: the moments of a row decay only in steps that touch it, and l2 is added to touched rows
    only. Bias correction uses the number of steps taken.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, l2: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "l2": l2, "fused": True})  # fused: `step` lives where the rows do

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.zeros((), device=p.device)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p.data), torch.zeros_like(p.data)
                rows, grad = _coalesced(p.grad)
                value, m, v = (t.index_select(0, rows) for t in (p.data, state["exp_avg"], state["exp_avg_sq"]))
                adam(
                    [value],
                    [grad],
                    [m],
                    [v],
                    [],
                    [state["step"]],
                    fused=True,
                    amsgrad=False,
                    maximize=False,
                    beta1=0.9,
                    beta2=0.999,
                    eps=1e-8,
                    lr=group["lr"],
                    weight_decay=2 * group["l2"],
                )
                for whole, part in ((p.data, value), (state["exp_avg"], m), (state["exp_avg_sq"], v)):
                    whole.index_copy_(0, rows, part)


def _coalesced(grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct rows of a gradient and their sums. (n,), (n, d)"""
    if not grad.is_sparse:
        return torch.arange(len(grad), device=grad.device), grad.clone()
    rows, where = torch.unique(grad._indices()[0], return_inverse=True)
    values = grad._values()
    return rows, torch.zeros(len(rows), values.shape[1], device=values.device).index_add_(0, where, values)


def _optimisers(net: Trainable, rate: float) -> list[torch.optim.Optimizer]:
    """Dense parameters get fused Adam, by-row tables RowAdam. L2 (l2 * sum of squares) is added to the gradient there.

    Adam's weight_decay adds weight_decay * p to the gradient, so 2 * l2 is the gradient of l2 * ||p||^2 at no cost.
    """
    rows = [p for p in net.parameters() if isinstance(p, ByRows)]
    dense = [p for p in net.parameters() if not isinstance(p, ByRows) and p.requires_grad]
    found: list[torch.optim.Optimizer] = []
    if dense:
        found.append(torch.optim.Adam(dense, lr=rate, weight_decay=2 * net.l2, fused=True))
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
    at each validation and picked up again if it belongs to the same `identity` (hash of settings and inputs). Raises Diverged when the loss is no longer finite.
    """
    module: nn.Module = net  # type: ignore[assignment]
    device = device_of(training)
    module.to(device)
    optimisers = _optimisers(net, training.learning_rate)
    at, curve = _Progress(), Curve()
    best = None if validation is None else _copy(module)
    if folder is not None:
        found = checkpoint.read(folder, identity)
        if found is not None:
            best = checkpoint.restore(found, module, optimisers) or best
            at, curve = _Progress(**found.progress), Curve.of(found.curve)
    while not at.done and at.epoch < training.epochs:
        started = time.perf_counter()
        at.epoch += 1
        loss = _epoch(net, module, optimisers, training, at.epoch, device)
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
        if progress is not None:
            progress(curve)
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
) -> float:
    rng = np.random.default_rng([training.seed, epoch])
    total, count = torch.zeros((), device=device), 0
    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        for batch in net.batches(rng, training.batch_size):
            loss = net.loss(_to(batch, device))
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            total += loss.detach()
            count += 1
    mean = float(total) / max(count, 1)
    if not math.isfinite(mean):
        raise Diverged(
            f"the loss became {mean} in epoch {epoch}. Try a smaller step:  --set training.learning_rate="
            f"{training.learning_rate / 10:g}"
        )
    return mean


def _to(batch: Any, device: torch.device) -> Any:
    if device.type == "cpu":
        return batch
    return type(batch)(**{name: value.to(device) for name, value in vars(batch).items()})


def _copy(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
