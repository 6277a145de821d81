"""Shared blocks: tables, trained whole or by rows, EmbeddingNet, and the momentum teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from penchant.batches import Pairs, Triples
from penchant.beside import Beside
from penchant.data import Interactions
from penchant.gemm import product
from penchant.intakes import OfFactors
from penchant.scorers import Factors, Motivated, Scorer, turn

__all__ = [
    "ByRows",
    "Embedded",
    "EmbeddingNet",
    "Linear",
    "Momentum",
    "factors",
    "pick",
    "plain",
    "products",
    "quicken",
    "table",
    "tower",
]


class ByRows(nn.Parameter):
    """A parameter whose gradient holds the batch's rows only; `train.run` updates just those (lazy Adam)."""


def table(rows: int, dim: int, by_rows: bool = False) -> nn.Parameter:
    """A trainable table (rows, dim), Xavier uniform as in the reference code of RLMRec and MMRec."""
    values = nn.init.xavier_uniform_(torch.empty(rows, dim))
    return ByRows(values) if by_rows else nn.Parameter(values)


class Linear(nn.Linear):
    """x W' + b by the faster product. (..., F) -> (..., d)"""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = product(x.reshape(-1, x.shape[-1]), self.weight)
        found = found if self.bias is None else found + self.bias
        return found.view(*x.shape[:-1], self.out_features)


def quicken(module: nn.Module) -> None:
    """All of a module's linear layers by the faster product."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear


def tower(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, LeakyReLU, Linear, as wide in the middle as (inputs + outputs) / 2; Xavier weights (RLMRec's code)."""
    hidden = (inputs + outputs) // 2
    first, second = Linear(inputs, hidden), Linear(hidden, outputs)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(first, nn.LeakyReLU(), second)


def pick(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """values[rows]; where `values` is a ByRows the gradient holds these rows only."""
    return F.embedding(rows, values, sparse=isinstance(values, ByRows))


class Embedded(NamedTuple):
    """All vectors of a net: users (U, d), items (I, d), and a bias per item (I,) if the model has one.

    parts: whatever else the net's own objective needs of the same pass, e.g. the table it began with.
    motives: for scorers that can say what moves people: `Motivated`'s shares (U, K) and pull (I, K).
    beside: a fixed part of every score.
    """

    users: torch.Tensor
    items: torch.Tensor
    bias: torch.Tensor | None = None
    parts: tuple[torch.Tensor, ...] = ()
    motives: tuple[torch.Tensor, torch.Tensor] | None = None
    beside: Beside | None = None


def products(vectors: Embedded, batch: Triples) -> torch.Tensor:
    """The scores of a batch's triples but for the bias, the chosen item's first; differentiable. (B, 1 + n)"""
    u = pick(vectors.users, batch.user)  # (B, d)
    ij = pick(vectors.items, batch.items)  # (B, 1 + n, d)
    found = (u[:, None] * ij).sum(-1)
    return found if vectors.beside is None else found + vectors.beside.scores(batch.user, batch.items)


class EmbeddingNet(nn.Module, ABC):
    """A net whose score is the product of a user's and an item's vector, plus the item's bias.

    A subclass writes `ground`, `embed` and `objective`. A plug-in is an EmbeddingNet too: it holds another, the backbone,
    and adds its own terms to the objective on the same vectors.

    linear: `embed` makes the same vectors in training as later, as a linear map of `ground`, and nothing else is trained.
    """

    linear: ClassVar[bool] = False

    def __init__(self, train: Interactions, l2: float = 0.0, negatives: int = 1) -> None:
        super().__init__()
        self.pairs, self.l2, self.negatives = Pairs(train), l2, negatives

    @abstractmethod
    def ground(self) -> torch.Tensor:
        """E^(0): the trained vectors that all others are made from, users first. (U + I, d)"""

    @abstractmethod
    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        """All vectors, differentiable. ground: (U + I, d) in place of the net's own, e.g. with some rows masked."""

    @abstractmethod
    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        """The ranking loss of a batch given what `embed` returned. L2 is left to the optimiser (see train.py).

        Scores that are made by `products` hold what stands beside the vectors; a net that makes its own is trained without
        that, and it is added when the net is finished.
        """

    def loss(self, batch: Triples) -> torch.Tensor:
        return self.objective(batch, self.embed())

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size, self.negatives)

    def finish(self) -> Scorer:
        return factors(self.pairs.train, self.embed())


@torch.no_grad()
def factors(train: Interactions, vectors: Embedded, intake: Callable[[np.ndarray], OfFactors] | None = None) -> Scorer:
    """Trained vectors as plain arrays, with the map for users not seen in training. intake: given that map, how the model
    takes in new items; not with anything beside the vectors."""
    user, item = plain(vectors.users), plain(vectors.items)
    bias = np.zeros(len(item), np.float32) if vectors.bias is None else plain(vectors.bias)
    x = train.matrix()
    w = turn(user, item, x)
    fold = (item.astype(np.float64) @ w).astype(np.float32)
    if vectors.beside is not None:
        # Users' and items' vectors are made equally long first, at equal products: likeness compares items by both parts.
        even = np.float32(max(np.square(user).mean() / max(np.square(item).mean(), 1e-30), 1e-30) ** 0.25)
        v, w = (
            plain(vectors.beside.users),
            plain(vectors.beside.items),
        )  # w folds as it is: v_u is its sum over a root
        user, item, fold = np.hstack([user / even, v]), np.hstack([item * even, w]), np.hstack([fold / even, w])
    found = Factors(user, item, bias, fold, np.diff(x.indptr) > 0, None if intake is None else intake(w))
    return found if vectors.motives is None else Motivated(found, *(plain(part) for part in vectors.motives))


def plain(value: torch.Tensor) -> np.ndarray:
    """A tensor's values as an array of its own, for a scorer. float32"""
    return value.detach().float().cpu().numpy().copy()


class Momentum(nn.Module):
    """A teacher: the exponential mean of a student's parameters, kept as buffers, out of reach of optimiser and L2.

    t <- m t + (1 - m) s, begun as a copy of the student (He et al., "Momentum contrast", CVPR 2020, eq. 2).
    """

    def __init__(self, student: nn.Module, momentum: float, without: str | None = None) -> None:
        """without: a part of the student that has no mean; the teacher works with her own."""
        super().__init__()
        self.momentum = momentum
        own = {n: p for n, p in student.named_parameters() if without is None or not n.startswith(f"{without}.")}
        self.names = list(own)
        for name, value in own.items():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())

    @property
    def values(self) -> dict[str, torch.Tensor]:
        """The teacher's parameters by the student's names."""
        return {name: self.get_buffer(name.replace(".", "/")) for name in self.names}

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """One step of the mean. Called before a batch rather than after the optimiser's step, which is the same."""
        own = dict(student.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [own[name].detach() for name in self.names], 1 - self.momentum)

    @torch.no_grad()
    def teach(self, student: nn.Module, *asked: Any) -> Any:
        """What the student's `forward` would give with the teacher's parameters."""
        return functional_call(student, self.values, asked)
