"""Fusion: the trained part of DMESR that makes an item's vector of its picture, its words and the tokens of its text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant.features import Features
from penchant.fused import VIEWS, parted, scaled
from penchant.gemm import product
from penchant.modal import Content, Contents
from penchant.nn import Linear

__all__ = ["Fusion"]


class Fusion(nn.Module):
    """W_p [f^v ; f^t] of all items, without arguments. () -> (I, d)

    tokens: (J, T, D) of the J items that have any, in `rows`. padding: (J, T) bool. both: (I,) bool, items with picture and text.
    """

    tokens: torch.Tensor
    padding: torch.Tensor
    rows: torch.Tensor
    both: torch.Tensor

    def __init__(self, dim: int, picture: Features, text: Features, tokens: Features | None, token_dim: int) -> None:
        """tokens: rows of T D numbers, D = `token_dim`; None: without cross-attention."""
        super().__init__()
        contents = [_content(part) for part in (picture, text)]
        self.contents = Contents(contents)
        self.mean = np.zeros(0, np.float32)
        o, there, rows = np.zeros((0, 1, token_dim), np.float32), np.zeros((0, 1), bool), np.zeros(0, np.int64)
        if tokens is not None:
            values, there = parted(tokens, token_dim)
            self.mean = values[there].mean(axis=0, dtype=np.float64).astype(np.float32)
            rows = np.flatnonzero(there.any(axis=1))
            o, there = scaled(values[rows], self.mean), there[rows]
        parts = {
            "tokens": o,
            "padding": ~there,
            "rows": rows,
            "both": np.logical_and(*(content.has.numpy() for content in contents)),
        }
        for name, value in parts.items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)
        width = None if tokens is None else token_dim
        self.views = Views(View(content.dim, dim, width) for content in self.contents)
        self.projection = Linear(len(VIEWS) * dim, dim, bias=False)  # W_p
        nn.init.normal_(self.projection.weight, std=0.02 / (len(VIEWS) * dim) ** 0.5)  # as large as ids are at first

    def adapted(self, items: torch.Tensor | None = None) -> list[torch.Tensor]:
        """a of both views, of these items or of all. (n, d) each"""
        values = [c.values if items is None else F.embedding(items, c.values) for c in self.contents]
        return [view.adapter(x) for view, x in zip(self.views, values, strict=True)]

    def attention(self, adapted: list[torch.Tensor]) -> torch.Tensor:
        """How much of each token both views read; 0 for padding. (J, 2, T)"""
        asked = [view.asked(F.embedding(self.rows, a)) for view, a in zip(self.views, adapted, strict=True)]
        products = torch.stack(asked, dim=1) @ self.tokens.transpose(1, 2)
        return products.masked_fill(self.padding[:, None], -torch.inf).softmax(dim=2)

    def forward(self) -> torch.Tensor:
        found = self.adapted()
        if len(self.rows):
            read = (self.attention(found) @ self.tokens).unbind(dim=1)  # (J, D) each
            views = zip(self.views, found, read, strict=True)
            found = [a.index_add(0, self.rows, view.value(x)) for view, a, x in views]
        return self.projection(torch.cat([view.norm(a) for view, a in zip(self.views, found, strict=True)], dim=1))


class Views(nn.ModuleList):
    """One View for each of VIEWS."""

    def __iter__(self) -> Iterator[View]:
        return cast(Iterator[View], super().__iter__())


class View(nn.Module):
    """The weights of one view. inputs: the width of its vectors; tokens: D, None without cross-attention."""

    def __init__(self, inputs: int, dim: int, tokens: int | None) -> None:
        super().__init__()
        self.adapter, self.norm = Linear(inputs, dim), nn.LayerNorm(dim)
        nn.init.zeros_(self.adapter.bias)
        if tokens is not None:
            self.query, self.key, self.value = (
                Linear(dim, dim),
                Linear(tokens, dim, bias=False),
                Linear(tokens, dim, bias=False),
            )

    def asked(self, a: torch.Tensor) -> torch.Tensor:
        """W_k' q / sqrt(d), whose product with a token is that of query and key. (J, d) -> (J, D)"""
        return product(self.query(a), self.key.weight.T) / a.shape[1] ** 0.5


def _content(features: Features) -> Content:
    unit = Content.of(features)
    return Content(unit.values.numpy() * unit.dim**0.5, unit.has.numpy())
