"""Readers: scorers that read a history in its order, without torch.

What was trained by a SequenceNet is read here with the same arithmetic. Histories of equal length are read together, so
nothing is padded and no list depends on who else is asked about.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import erf, expit

from penchant.data import Queries
from penchant.features import Features
from penchant.intake import Intake, Stock
from penchant.scorers import Arrays, Scorer

__all__ = ["Attentive", "Gated", "Pointwise", "Reader", "Spoken"]

EPSILON = np.float32(1e-5)  # of layer norms, as in torch
ROWS, WEIGHTS = 4096, 2**24  # histories read at a time, and numbers that attention holds of them, at most


@dataclass(frozen=True, eq=False)
class Reader(Scorer):
    """score = h . e_i, h what is read of the newest `length` choices, in their order. Knows a user by her history alone.

    item: (I, d), e. net: arrays of the net by their names in torch, with `length` and `heads`.
    """

    item: np.ndarray
    net: Mapping[str, np.ndarray]
    intake: Intake | None = None

    @abstractmethod
    def read(self, x: np.ndarray) -> np.ndarray:
        """The state after the last of L choices, x their vectors. (b, L, d) -> (b, d)"""

    @property
    def length(self) -> int:
        return int(self.net["length"].item())

    @property
    def heads(self) -> int:
        return int(self.net["heads"].item())

    def states(self, queries: Queries) -> np.ndarray:
        """h of each query, zeros where there is no history. (B, d)"""
        found = np.zeros((len(queries), self.item.shape[1]), np.float32)
        ends = queries.history_starts[1:]
        size = np.minimum(np.diff(queries.history_starts), self.length)
        scale = np.float32(np.sqrt(self.item.shape[1]))
        for n in np.unique(size[size > 0]):
            rows = np.flatnonzero(size == n)
            step = min(ROWS, max(1, WEIGHTS // (n * n * self.heads)))
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                at = ends[part, None] - n + np.arange(n)
                found[part] = self.read(scale * self.item[queries.history_items[at]])
        return found

    def score(self, queries: Queries) -> np.ndarray:
        return self.states(queries) @ self.item.T

    def arrays(self) -> dict[str, np.ndarray]:
        return {"item": self.item} | {f"net/{name}": value for name, value in self.net.items()}

    @classmethod
    def of(cls, arrays: Arrays) -> Reader:
        return cls(arrays["item"], {name[4:]: value for name, value in arrays.items() if name.startswith("net/")})

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        """What the score loses when one choice is left out of the history; nothing where it is too old to be read."""
        newest = history[-self.length - 1 :]  # one more than is read: it takes the place of what is left out
        n = min(len(history), self.length)
        without = [np.delete(newest, place) for place in range(len(newest) - n, len(newest))]
        h = self.states(Queries.of(np.full(n + 1, -1), [newest, *without]))
        found = h @ self.item[item]
        return np.concatenate([np.zeros(len(history) - n, found.dtype), found[0] - found[1:]])

    @cached_property
    def _unit(self) -> np.ndarray:
        return self.item / np.maximum(np.linalg.norm(self.item, axis=1, keepdims=True), 1e-12)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return self._unit[items] @ self._unit.T

    # ---- what nets are made of

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        found = x @ self.net[f"{name}.weight"].T
        bias = self.net.get(f"{name}.bias")
        return found if bias is None else found + bias

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + EPSILON)
        return x / scale * self.net[f"{name}.weight"] + self.net[f"{name}.bias"]

    @cached_property
    def layers(self) -> int:
        numbers = (name.split(".")[1] for name in self.net if name.startswith("blocks."))
        return max(map(int, numbers), default=-1) + 1

    def split(self, x: np.ndarray) -> np.ndarray:
        """(b, L, d) -> (b, heads, L, d / heads)"""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

    def merge(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


@dataclass(frozen=True, eq=False)
class Attentive(Reader):
    """Of SASRec and BERT4Rec: blocks of attention and of a small net, each added to what it read.

    Of the last block only what the last place needs is made. With `mask`, a vector that stands for the choice to be told is read
    after the history and everything reads everything; without, a place reads no later one.
    """

    kind: ClassVar[str] = "attentive"

    def read(self, x: np.ndarray) -> np.ndarray:
        masked = "mask" in self.net
        if masked:
            end = np.broadcast_to(self.net["mask"], (len(x), 1, x.shape[2]))
            x = np.concatenate([x, end], axis=1)[:, -self.length :]
        n = x.shape[1]
        x = x + self.net["position"][self.length - n :]
        later = None if masked else np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for b in range(self.layers):
            name, last = f"blocks.{b}", b == self.layers - 1
            z = self.norm(f"{name}.before", x)
            weight, bias = self.net[f"{name}.attention.inward.weight"], self.net[f"{name}.attention.inward.bias"]
            d = x.shape[2]
            k, v = (self.split(z @ weight[i * d : (i + 1) * d].T + bias[i * d : (i + 1) * d]) for i in (1, 2))
            if last:
                x, z = x[:, -1:], z[:, -1:]
            q = self.split(z @ weight[:d].T + bias[:d])
            s = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(q.shape[3]))
            s = s if later is None or last else s + later
            s = np.exp(s - s.max(axis=-1, keepdims=True))
            s /= s.sum(axis=-1, keepdims=True)
            x = x + self.linear(f"{name}.attention.outward", self.merge(s @ v))
            z = self.linear(f"{name}.first", self.norm(f"{name}.after", x))
            z = _gelu(z) if masked else np.maximum(z, 0)
            x = x + self.linear(f"{name}.second", z)
        return self.norm("norm", x[:, -1])


@dataclass(frozen=True, eq=False)
class Gated(Reader):
    """Of GRU4Rec: gated recurrent units."""

    kind: ClassVar[str] = "gated"

    def read(self, x: np.ndarray) -> np.ndarray:
        layer = 0
        while f"gru.weight_ih_l{layer}" in self.net:
            a, b, c, e = (self.net[f"gru.{part}_l{layer}"] for part in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
            d = c.shape[1]
            inward, h = x @ a.T + b, np.zeros((len(x), d), np.float32)
            states = np.empty((*x.shape[:2], d), np.float32)
            for t in range(x.shape[1]):
                own, before = inward[:, t], h @ c.T + e
                r = expit(own[:, :d] + before[:, :d])
                z = expit(own[:, d : 2 * d] + before[:, d : 2 * d])
                new = np.tanh(own[:, 2 * d :] + r * before[:, 2 * d :])
                h = (1 - z) * new + z * h
                states[:, t] = h
            x, layer = states, layer + 1
        return self.linear("outward", x[:, -1])


@dataclass(frozen=True, eq=False)
class Pointwise(Reader):
    """Of HSTU: attention whose rows are not made to sum to 1, gated."""

    kind: ClassVar[str] = "pointwise"

    def read(self, x: np.ndarray) -> np.ndarray:
        n, d = x.shape[1:]
        x = x + self.net["position"][self.length - n :]
        apart = np.subtract.outer(np.arange(n), np.arange(n))
        for b in range(self.layers):
            name, last = f"blocks.{b}", b == self.layers - 1
            z = self.linear(f"{name}.inward", self.norm(f"{name}.before", x))
            z = z * expit(z)
            k, v = self.split(z[..., 2 * d : 3 * d]), self.split(z[..., 3 * d :])
            gaps = apart
            if last:
                x, z, gaps = x[:, -1:], z[:, -1:], apart[-1:]
            u, q = z[..., :d], self.split(z[..., d : 2 * d])
            a = q @ k.transpose(0, 1, 3, 2) + self.net[f"{name}.distance"][:, np.maximum(gaps, 0)]
            a = a * expit(a) / np.float32(self.length) * (gaps >= 0)
            x = x + self.linear(f"{name}.outward", self.norm(f"{name}.after", self.merge(a @ v)) * u)
        return self.norm("norm", x[:, -1])


@dataclass(frozen=True, eq=False)
class Spoken(Intake):
    """Of readers with features of items: e = sum_m W_m f^m; it has no id of its own. weights: W, (d, F) by modality."""

    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    kind: ClassVar[str] = "spoken"

    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        assert isinstance(scorer, Reader)
        e = sum(stock.unit(name, new[name]) @ w.T for name, w in self.weights.items())
        return replace(scorer, item=np.concatenate([scorer.item, np.asarray(e, np.float32)]))


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.float32(np.sqrt(2)))) / 2
