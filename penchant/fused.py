"""Fused: what DMESR adds to an item's vector, read off its picture, its words and the tokens of its text, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from penchant.features import Features
from penchant.intake import Intake, Stock
from penchant.readers import EPSILON, Reader
from penchant.scorers import Scorer

__all__ = ["VIEWS", "Fused", "parted", "scaled"]

VIEWS = ("picture", "text")


def parted(tokens: Features, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Token-level vectors, and which of them are no padding. (I, T, dim) and (I, T) bool

    A token that is zero throughout is padding, wherever it stands, and so is every token of an item that has a gap.
    """
    values = tokens.values.reshape(len(tokens.values), -1, dim)
    return values, np.asarray(values.any(axis=2))


def scaled(values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Tokens without `mean`, (dim,), of length sqrt(dim), as a layer norm would leave them; padding is not to be read. (I, T, dim)"""
    x = values - mean
    x /= np.maximum(np.linalg.norm(x, axis=2, keepdims=True), 1e-12) / np.float32(np.sqrt(x.shape[2]))
    return x


@dataclass(frozen=True, eq=False)
class Fused(Intake):
    """Of `Dmesr`: a new item's vector is W_p [f^v ; f^t]; it has no id of its own. See models/dmesr.py for the formulas.

    net: arrays by their names in torch. token_dim: D. mean: of the tokens of training, (D,), empty without cross-attention.
    """

    token_dim: int
    mean: np.ndarray
    net: Mapping[str, np.ndarray] = field(default_factory=dict)
    kind: ClassVar[str] = "fused"

    def reads(self, stock: Stock) -> tuple[str, ...]:
        return tuple(name for name in super().reads(stock) if name in VIEWS or len(self.mean))

    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        assert isinstance(scorer, Reader)
        at, o, there = None, None, None
        if len(self.mean):
            values, there = parted(new["tokens"], self.token_dim)
            at = there.any(axis=1)
            o, there = scaled(values[at], self.mean), there[at]
        views = []
        for m, name in enumerate(VIEWS):
            x = stock.unit(name, new[name]) * np.float32(np.sqrt(new[name].dim))
            a = self._linear(f"views.{m}.adapter", x)
            if at is not None and o is not None and there is not None:
                u = self._linear(f"views.{m}.query", a[at]) @ self.net[f"views.{m}.key.weight"]  # (J, D)
                s = np.einsum("jd,jtd->jt", u, o) / np.float32(np.sqrt(a.shape[1]))
                s = np.exp(np.where(there, s - s.max(axis=1, keepdims=True, where=there, initial=-np.inf), -np.inf))
                mixed = np.einsum("jt,jtd->jd", s / s.sum(axis=1, keepdims=True), o)
                a[at] += self._linear(f"views.{m}.value", mixed)
            a = a - a.mean(axis=1, keepdims=True)
            a /= np.sqrt(np.square(a).mean(axis=1, keepdims=True) + EPSILON)
            views.append(a * self.net[f"views.{m}.norm.weight"] + self.net[f"views.{m}.norm.bias"])
        e = self._linear("projection", np.concatenate(views, axis=1))
        return replace(scorer, item=np.concatenate([scorer.item, np.asarray(e, np.float32)]))

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        found = x @ self.net[f"{name}.weight"].T
        bias = self.net.get(f"{name}.bias")
        return found if bias is None else found + bias
