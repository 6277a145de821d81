"""Hops: sparse products of a graph over users and items with a table, fast on a processor, in both directions."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import nn

from penchant.data import Interactions

__all__ = ["Edges", "Hops", "propagate"]

with warnings.catch_warnings(action="ignore"):
    torch.eye(1).to_sparse_csr()  # torch says once in a process that such tensors are new


class Edges(NamedTuple):
    """A graph whose edges go both ways, sorted by row, in csr. rows, columns: (E,); starts: (N + 1,)"""

    rows: torch.Tensor
    columns: torch.Tensor
    starts: torch.Tensor

    def dots(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x_r . y_c on every edge, without a gradient; nothing of size E x d is made. (N, d) each -> (E,)"""
        out, size = x.new_zeros(len(self.columns)), (len(x), len(y))
        csr = torch.sparse_csr_tensor(self.starts, self.columns, out, size, check_invariants=False)
        return torch.sparse.sampled_addmm(csr, x, y.T, beta=0.0, out=csr).values()

    def bag(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """sum over a row's edges of weight * x_c, without a gradient. (N, d), (E,) -> (N, d)"""
        return F.embedding_bag(
            self.columns, x, self.starts, mode="sum", per_sample_weights=weights, include_last_offset=True
        )


class Hops(nn.Module):
    """A symmetric sparse matrix A (N, N) whose product with a table is a weighted bag of rows.

    `embedding_bag` is several times faster on a CPU than a sparse product; because the pattern of A is symmetric the
    backward pass is a product of the same kind, so it is supplied by hand instead of being left to autograd.

    columns, starts, weights: A in csr. rows: the row of each edge. twin: where each edge's other direction stands.
    """

    columns: torch.Tensor
    starts: torch.Tensor
    weights: torch.Tensor
    rows: torch.Tensor
    twin: torch.Tensor

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        super().__init__()
        matrix = matrix.tocsr()
        matrix.sort_indices()
        index = np.int32 if matrix.nnz < 2**31 and max(matrix.shape) < 2**31 else np.int64
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        for name, value in (
            ("columns", matrix.indices.astype(index)),
            ("starts", matrix.indptr.astype(index)),
            ("weights", matrix.data.astype(np.float32)),
            ("rows", rows.astype(index)),
            ("twin", np.lexsort((rows, matrix.indices))),  # the csr order of the transposed matrix
        ):
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    @property
    def edges(self) -> Edges:
        return Edges(self.rows, self.columns, self.starts)

    def hop(self, x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """A x, or with other weights (nnz,), symmetric too, on its edges; differentiable in x alone. (N, d) -> (N, d)"""
        weights = self.weights if weights is None else weights
        return _Hop.apply(x, self, weights)

    def weigh(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """A x with these weights (nnz,), which need not be symmetric; differentiable in both. (N, d) -> (N, d)"""
        return _Weigh.apply(x, weights, self)

    def alike(self, x: torch.Tensor) -> torch.Tensor:
        """x_u . x_v on every edge (u, v); differentiable. (N, d) -> (nnz,)"""
        return _Alike.apply(x, self)

    def thin(self, keep: float) -> torch.Tensor:
        """Weights of a graph where each edge, both directions at once, stays with this probability. (nnz,)

        Those that stay weigh what they weighed. Draws from torch's generator.
        """
        stays = torch.rand(len(self.weights), device=self.weights.device) < keep
        one = torch.where(self.rows < self.columns, stays, stays[self.twin])
        return self.weights * one

    @staticmethod
    def bipartite(train: Interactions, loops: bool = False) -> Hops:
        """D^-1/2 A D^-1/2, A = [[0, R], [R', 0]] over users, then items (LightGCN, eq. 8). loops: of A + I."""
        r = train.matrix()
        degree = [np.diff(r.indptr) + loops, np.bincount(r.indices, minlength=r.shape[1]) + loops]
        r.data /= np.sqrt(degree[0].repeat(np.diff(r.indptr)))
        r.data /= np.sqrt(degree[1])[r.indices]
        own = [sparse.diags((1 / d).astype(np.float32)) if loops else None for d in degree]
        return Hops(sparse.bmat([[own[0], r], [r.T, own[1]]], format="csr"))


class _Hop(torch.autograd.Function):
    """A x for symmetric A, whose gradient is the same product of the gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, hops: Hops, weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.hops, ctx.weights = hops, weights  # type: ignore[attr-defined]
        return hops.edges.bag(x, weights)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.hops.edges.bag(grads[0].contiguous(), ctx.weights), None, None  # type: ignore[attr-defined]


class _Weigh(torch.autograd.Function):
    """A(w) x: towards x the product with the transposed weights, towards w_uv the product g_u . x_v."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, weights: torch.Tensor, hops: Hops
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weights)
        ctx.hops = hops  # type: ignore[attr-defined]
        return hops.edges.bag(x, weights)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        (x, weights), hops, g = ctx.saved_tensors, ctx.hops, grads[0].contiguous()  # type: ignore[attr-defined]
        to_weights = None
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            to_weights = hops.edges.dots(g, x)
        return hops.edges.bag(g, weights[hops.twin]), to_weights, None


class _Alike(torch.autograd.Function):
    """x_u . x_v on every edge: both ends of an edge, and both of its directions, have a part in the gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, hops: Hops) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.hops = hops  # type: ignore[attr-defined]
        return hops.edges.dots(x, x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,), hops = ctx.saved_tensors, ctx.hops  # type: ignore[attr-defined]
        return hops.edges.bag(x, grads[0] + grads[0][hops.twin]), None


class _Layers(torch.autograd.Function):
    """(I + A + ... + A^L) x by Horner's rule; A = A', so the gradient is the same polynomial of the gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, hops: Hops, layers: int, weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.hops, ctx.layers, ctx.weights = hops, layers, weights  # type: ignore[attr-defined]
        return _horner(x, hops, layers, weights)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        return _horner(grads[0].contiguous(), ctx.hops, ctx.layers, ctx.weights), None, None, None  # type: ignore[attr-defined]


def _horner(x: torch.Tensor, hops: Hops, layers: int, weights: torch.Tensor) -> torch.Tensor:
    total = x
    for _ in range(layers):
        total = hops.edges.bag(total, weights).add_(x)
    return total if layers else x.clone()


def propagate(x: torch.Tensor, hops: Hops, layers: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Sum over layers 0..L of A^l x. (N, d) -> (N, d); no intermediate layer is kept. weights: symmetric, as of `thin`."""
    return _Layers.apply(x, hops, layers, hops.weights if weights is None else weights)
