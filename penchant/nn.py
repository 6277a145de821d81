"""Shared blocks: tables, trained whole or by rows, sparse propagation, and EmbeddingNet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import nn

from penchant import machine
from penchant.batches import Pairs, Triples
from penchant.data import Interactions
from penchant.scorers import Factors, fold_in

__all__ = ["ByRows", "Embedded", "EmbeddingNet", "Hops", "factors", "frozen_product", "pick", "propagate", "table"]


class ByRows(nn.Parameter):
    """A parameter whose gradient holds the batch's rows only; `train.run` updates just those (lazy Adam)."""


def table(rows: int, dim: int, by_rows: bool = False) -> nn.Parameter:
    """A trainable table (rows, dim), Xavier uniform as in the reference code of RLMRec and MMRec."""
    values = nn.init.xavier_uniform_(torch.empty(rows, dim))
    return ByRows(values) if by_rows else nn.Parameter(values)


def pick(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """values[rows]; where `values` is a ByRows the gradient holds these rows only."""
    return F.embedding(rows, values, sparse=isinstance(values, ByRows))


class _FrozenProduct(torch.autograd.Function):
    """numpy's BLAS (OpenBLAS) takes half the time of torch's (MKL) on AMD processors, and never more than it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, f: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.f = f  # type: ignore[attr-defined]
        with machine.product(f.numel() * len(w)):
            return torch.from_numpy(f.numpy() @ w.detach().numpy().T)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        f: torch.Tensor = ctx.f  # type: ignore[attr-defined]
        with machine.product(f.numel() * grads[0].shape[1]):
            return None, torch.from_numpy(grads[0].numpy().T @ f.numpy())


def frozen_product(f: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """f w' with a gradient for w alone. f: (B, F), not trained; w: (c, F) -> (B, c)"""
    return _FrozenProduct.apply(f, w) if f.device.type == "cpu" else f.detach() @ w.T


class Hops(nn.Module):
    """A symmetric sparse matrix A (N, N) whose product with a table is a weighted bag of rows.

    `embedding_bag` is several times faster on a CPU than a sparse product; because A equals its transpose the backward
    pass is the same product, so `propagate` supplies it by hand instead of leaving it to autograd.
    """

    columns: torch.Tensor
    starts: torch.Tensor
    weights: torch.Tensor

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        super().__init__()
        matrix = matrix.tocsr()
        matrix.sort_indices()
        index = np.int32 if matrix.nnz < 2**31 and max(matrix.shape) < 2**31 else np.int64
        self.register_buffer("columns", torch.from_numpy(matrix.indices.astype(index)), persistent=False)
        self.register_buffer("starts", torch.from_numpy(matrix.indptr.astype(index)), persistent=False)
        self.register_buffer("weights", torch.from_numpy(matrix.data.astype(np.float32)), persistent=False)

    def hop(self, x: torch.Tensor) -> torch.Tensor:
        """A x. (N, d) -> (N, d)"""
        return F.embedding_bag(
            self.columns, x, self.starts, mode="sum", per_sample_weights=self.weights, include_last_offset=True
        )

    @staticmethod
    def bipartite(train: Interactions) -> Hops:
        """D^-1/2 [[0, R], [R', 0]] D^-1/2 over users, then items.  (LightGCN, eq. 8)"""
        r = train.matrix()
        r.data /= np.sqrt(np.diff(r.indptr).repeat(np.diff(r.indptr)))
        r.data /= np.sqrt(np.bincount(r.indices, minlength=r.shape[1]))[r.indices]
        return Hops(sparse.bmat([[None, r], [r.T, None]], format="csr"))


class _Layers(torch.autograd.Function):
    """(I + A + ... + A^L) x by Horner's rule; A = A', so the gradient is the same polynomial of the gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, hops: Hops, layers: int) -> torch.Tensor:
        ctx.hops, ctx.layers = hops, layers  # type: ignore[attr-defined]
        return _horner(x, hops, layers)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _horner(grads[0].contiguous(), ctx.hops, ctx.layers), None, None  # type: ignore[attr-defined]


def _horner(x: torch.Tensor, hops: Hops, layers: int) -> torch.Tensor:
    total = x
    for _ in range(layers):
        total = hops.hop(total).add_(x)
    return total if layers else x.clone()


def propagate(x: torch.Tensor, hops: Hops, layers: int) -> torch.Tensor:
    """Sum over layers 0..L of A^l x. (N, d) -> (N, d); no intermediate layer is kept."""
    return _Layers.apply(x, hops, layers)


class Embedded(NamedTuple):
    """All vectors of a net: users (U, d), items (I, d), and a bias per item (I,) if the model has one."""

    users: torch.Tensor
    items: torch.Tensor
    bias: torch.Tensor | None = None


class EmbeddingNet(nn.Module, ABC):
    """A net whose score is the product of a user's and an item's vector, plus the item's bias.

    A subclass writes `embed` and `objective`; a plug-in wraps one and adds its own terms on the same vectors.
    """

    def __init__(self, train: Interactions, l2: float = 0.0, negatives: int = 1) -> None:
        super().__init__()
        self.pairs, self.l2, self.negatives = Pairs(train), l2, negatives

    @abstractmethod
    def embed(self) -> Embedded:
        """All vectors, differentiable."""

    @abstractmethod
    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        """The ranking loss of a batch given what `embed` returned. L2 is left to the optimiser (see train.py)."""

    def loss(self, batch: Triples) -> torch.Tensor:
        return self.objective(batch, self.embed())

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size, self.negatives)

    def finish(self) -> Factors:
        return factors(self.pairs.train, self.embed())


@torch.no_grad()
def factors(train: Interactions, vectors: Embedded) -> Factors:
    """Trained vectors as plain arrays, with the map for users not seen in training."""
    user, item = (part.detach().float().cpu().numpy().copy() for part in (vectors.users, vectors.items))
    bias = (
        np.zeros(len(item), np.float32) if vectors.bias is None else vectors.bias.detach().float().cpu().numpy().copy()
    )
    x = train.matrix()
    return Factors(user, item, bias, fold_in(user, item, x), np.diff(x.indptr) > 0)
