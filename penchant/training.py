"""How long and how fast to train, and how to choose the best epoch. No torch here: settings only."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penchant import among, metrics, topk
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.scorers import Scorer
from penchant.split import Split

__all__ = ["Curve", "Training", "Undecided", "Validation", "seeded"]


@dataclass(frozen=True)
class Training:
    """Settings of one training run.

    validate_every: epochs between validations. patience: validations without gain before stopping. select: the metric
    on valid that chooses the epoch; `among` so many candidates, or, None, in the order of all items. device: "auto" (a GPU if there is one), "cpu", "cuda".
    """

    epochs: int = 300
    batch_size: int = 2048
    learning_rate: float = 1e-3
    validate_every: int = 3
    patience: int = 5
    select: str = "recall@20"
    seed: int = 0
    device: str = "auto"
    among: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise BadSetting(f"[training] {name} = {getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0:
            raise BadSetting(f"[training] learning_rate = {self.learning_rate} must be above 0")
        if self.among is not None and self.among < 2:
            raise BadSetting(f"[training] among = {self.among} must be at least 2: the held-out item and one other")
        metrics.parse(self.select)


@dataclass(frozen=True)
class Curve:
    """What training printed: one row an epoch. select, epochs: the metric of `value` and the most epochs there may be, told while it
    grows: a model of two parts has two curves. under_way: how far a long epoch after the last row has come, in words."""

    epoch: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    value: tuple[float | None, ...] = ()
    best_epoch: int = 0
    seconds: float = 0.0
    select: str = ""
    epochs: int = 0
    under_way: str = ""

    def add(self, epoch: int, loss: float, value: float | None, best_epoch: int, seconds: float) -> Curve:
        return Curve((*self.epoch, epoch), (*self.loss, loss), (*self.value, value), best_epoch, seconds)

    def rows(self) -> list[list[float | None]]:
        """For json; `of` takes it back."""
        head: list[list[float | None]] = [[self.best_epoch, self.seconds]]
        return head + [list(row) for row in zip(self.epoch, self.loss, self.value, strict=True)]

    @staticmethod
    def of(rows: Sequence[Sequence[float | None]]) -> Curve:
        (best, seconds), body = rows[0], rows[1:]
        epoch = tuple(int(row[0] or 0) for row in body)
        loss = tuple(float(row[1]) for row in body if row[1] is not None)
        return Curve(epoch, loss, tuple(row[2] for row in body), int(best or 0), float(seconds or 0))

    @property
    def best(self) -> float | None:
        """The chosen epoch's validation value."""
        values = [v for v in self.value if v is not None]
        return max(values) if values else None

    @property
    def last(self) -> int:
        """The epoch that was finished last."""
        return self.epoch[-1] if self.epoch else 0

    @property
    def note(self) -> str:
        """How it goes, for a progress bar."""
        loss = f"loss {self.loss[-1]:.4f}" if self.loss else ""
        best = "" if self.best is None else f"best {self.select} {self.best:.4f} at epoch {self.best_epoch}"
        return ", ".join(part for part in (self.under_way, f"{loss} {best}".strip()) if part)


@dataclass(frozen=True, eq=False)
class Validation:
    """One number on the valid part: train items masked, histories from train, all items ranked, or each held-out one among few."""

    split: Split
    select: str
    among: int | None = None

    @staticmethod
    def of(train: Interactions, valid: Interactions, select: str, few: int | None = None) -> Validation:
        """Raises BadSetting when there is nothing to validate on."""
        if not len(valid):
            raise BadSetting("the valid part is empty: choose a split with one, or pass valid=None for fixed epochs")
        twice = train.matrix().multiply(valid.matrix()).nnz
        if twice:
            raise BadSetting(
                f"{twice} of the {len(valid)} choices of valid are in train too; a model is not judged by what it knows"
            )
        return Validation(Split(train, valid, valid.take(np.zeros(0, np.int64))), select, few)

    def value(self, scorer: topk.Scores) -> float:
        """Mean over users with something in valid."""
        queries = self.split.queries("valid", ("train",))
        held, mask = self.split.held("valid")[queries.users], self.split.train.matrix()[queries.users]
        if self.among is not None:
            of, seen = among.Candidates(self.among), self.split.known(("train", "valid")).matrix()[queries.users]
            return float(np.mean(among.per_user(scorer, queries, held, seen, of, (self.select,))[self.select]))
        ranks = topk.ranks(scorer, queries, held, mask)
        found = metrics.per_user([self.select], ranks.query, ranks.rank, len(queries), ranks.candidates)
        return float(np.mean(found[self.select]))


class Undecided(ABC):
    """What `build` gives back where there are no epochs, but something to choose on valid all the same."""

    @abstractmethod
    def decide(
        self,
        validation: Validation | None,
        training: Training,
        folder: Path | None = None,
        progress: Callable[[Curve], None] | None = None,
    ) -> tuple[Scorer, Curve]:
        """The finished scorer, and the curve of what was trained for it, if anything was. folder: where a killed one goes on."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator seeded for the time of `build`, where torch is in use at all."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
