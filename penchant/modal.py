"""Modal: what models share that read any number of named features of items: the vectors, and the frozen item graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import nn

from penchant.errors import BadSetting
from penchant.features import Features
from penchant.graph import blend, denoise, knn, normalise
from penchant.hops import Edges

__all__ = ["Content", "Contents", "ItemGraph", "Weights", "shares"]

Weights = tuple[tuple[str, float], ...] | None
"""A weight for each modality by its name, in a recipe  weights = [["image", 0.1], ["text", 0.9]]. None: all the same."""


class Content(nn.Module):
    """Vectors of items in one modality: centred, rows of length 1, zero where there is a gap. They are data, not trained.

    values: (I, F). has: (I,) bool, False where the modality is missing, or says nothing: a row of zeros, or the mean itself.
    """

    values: torch.Tensor
    has: torch.Tensor

    def __init__(self, values: np.ndarray, has: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("values", torch.from_numpy(values.astype(np.float32)), persistent=False)
        self.register_buffer("has", torch.from_numpy(has.copy()), persistent=False)

    @staticmethod
    def of(features: Features) -> Content:
        said = features.centred().unit()
        return Content(said.values, said.present)

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    def apart(self, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        """x_i - x_j, without a copy of either. (B,), (B,) -> (B, F)"""
        sign = self.values.new_tensor([1.0, -1.0]).expand(len(i), 2)
        return F.embedding_bag(torch.stack([i, j], dim=1), self.values, per_sample_weights=sign, mode="sum")


class Contents(nn.ModuleList):
    """One Content for each modality, in the order of the inputs."""

    def __iter__(self) -> Iterator[Content]:
        return cast(Iterator[Content], super().__iter__())

    @staticmethod
    def of(features: Mapping[str, Features]) -> Contents:
        return Contents(Content.of(part) for part in features.values())


def shares(model: str, weights: Weights, features: Mapping[str, Features]) -> list[float]:
    """The weight of each modality in the order of `features`; they add up to 1. Raises BadSetting."""
    if weights is None:
        return [1 / len(features)] * len(features)
    given = dict(weights)
    usual = ", ".join(f'["{name}", {1 / len(features):.2g}]' for name in features)
    if len(given) < len(weights) or given.keys() != features.keys():
        raise BadSetting(
            f"[model] {model} weights name {', '.join(name for name, _ in weights) or 'nothing'}; the inputs are "
            f"{', '.join(features)}. Name each of them once:  weights = [{usual}]"
        )
    if not all(0 <= w < math.inf for w in given.values()) or not sum(given.values()) > 0:
        raise BadSetting(f"[model] {model} weights must be 0 or more, and not all 0:  weights = [{usual}]")
    return [given[name] / sum(given.values()) for name in features]


class ItemGraph(nn.Module):
    """S = sum_m alpha_m S_m, S_m = D^-1/2 K_m D^-1/2, K_m binary: each item's k nearest by cosine in modality m, itself
    among them; D holds the sums of rows. Frozen: made once, before training.

    Zhou & Shen, "A tale of two graphs" (FREEDOM), MM 2023, section 3.1. S is not symmetric, so its transpose is kept for
    the gradient. An item without a modality has no edges in it and its other modalities share the weight, so each row
    of S sums to 1; a row is empty where an item has no features at all. A modality whose vectors all point the same way, so
    that whose nearest is whose would be a matter of chance, is left out likewise. Memory: two graphs of M k I edges.
    """

    def __init__(self, features: Mapping[str, Features], neighbours: int, alpha: list[float]) -> None:
        super().__init__()
        parts, weight = [], np.zeros(len(next(iter(features.values())).ids))
        for a, part in zip(alpha, features.values(), strict=True):
            part = replace(part, present=np.zeros_like(part.present)) if part.alike else part
            near = denoise(
                knn(part, neighbours, with_self=True), threshold=-1, binarise=True
            )  # all of them, weighing 1
            parts.append((a, normalise(near, degree="row")))
            weight += a * part.unit().present
        s = sparse.diags(1 / np.where(weight > 0, weight, 1)) @ blend(parts).matrix
        for name, matrix in (("there", s.tocsr()), ("back", s.T.tocsr())):
            matrix.sort_indices()
            for field, value in zip(("rows", "columns", "starts", "weights"), _csr(matrix), strict=True):
                self.register_buffer(f"{name}_{field}", value, persistent=False)

    def bag(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """S x ("there") or S' x ("back"), without a gradient. (I, d) -> (I, d)"""
        rows, columns, starts, weights = (
            self.get_buffer(f"{name}_{field}") for field in ("rows", "columns", "starts", "weights")
        )
        return Edges(rows, columns, starts).bag(x, weights)

    def smooth(self, x: torch.Tensor, layers: int) -> torch.Tensor:
        """S^layers x, differentiable. (I, d) -> (I, d)"""
        for _ in range(layers):
            x = _Hop.apply(x, self)
        return x


class _Hop(torch.autograd.Function):
    """S x, whose gradient is S' g."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor, graph: ItemGraph) -> torch.Tensor:
        ctx.graph = graph  # type: ignore[attr-defined]
        return graph.bag("there", x.contiguous())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.graph.bag("back", grads[0].contiguous()), None  # type: ignore[attr-defined]


def _csr(matrix: sparse.csr_matrix) -> tuple[torch.Tensor, ...]:
    """rows and columns of edges, starts of rows, weights."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    index = [torch.from_numpy(a.astype(np.int32)) for a in (rows, matrix.indices, matrix.indptr)]
    return *index, torch.from_numpy(matrix.data.astype(np.float32))
