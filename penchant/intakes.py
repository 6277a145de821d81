"""Intakes of each kind of model: how features become vectors of items that nobody has chosen, in numpy alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from scipy import fft, sparse

from penchant.features import Features, nearest
from penchant.fused import Fused
from penchant.intake import Intake, Stock
from penchant.readers import Spoken
from penchant.scorers import Factors, ItemToItem, Scorer
from penchant.thin import Narrow
from penchant.towers import SLOPE, Towers, length

__all__ = ["INTAKES", "Branched", "Linear", "OfFactors", "Projected", "Smoothed", "Towered", "solved"]

ByName = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Linear(Intake):
    """Of x W: a new item's column of W is linear in its features, so it is what fitting with the item, chosen by nobody, gives.

    With F the features under X, times alpha, and G = X'X + alpha^2 F F' + l2 I: the column of EASE is G^-1 a, a = alpha^2 F f, by
    block inversion. To it are added `as_is` F f and `whitened` w(F) w(f), by modality.
    The row, for histories that hold the item, is of the same formulas; EASE's is that of fitting with this item alone beside
    the old ones, and between two new ones that of the two. Columns of old items stay as they are.
    inverse: G^-1 alpha^2 F, (I, D) by modality. pivot: the diagonal of G^-1, (I,). whitening: (D, D), see `features.whitening`.
    ease, as_is, white: weights.
    """

    ease: float
    alpha: float
    l2: float
    pivot: np.ndarray
    inverse: ByName = field(default_factory=dict)
    as_is: ByName = field(default_factory=dict)
    white: ByName = field(default_factory=dict)
    whitening: ByName = field(default_factory=dict)
    kind: ClassVar[str] = "linear"

    def reads(self, stock: Stock) -> tuple[str, ...]:
        weighed = (
            name
            for name in self.inverse
            if self.ease * self.alpha or self.as_is.get(name, 0) or self.white.get(name, 0)
        )
        return tuple(name for name in weighed if stock.tells(name))

    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        assert isinstance(scorer, ItemToItem)
        old, come = stock.trained, len(scorer.weights) - stock.trained
        count = come + len(next(iter(new.values())).ids)
        weights = np.zeros((old + count, old + count), np.float32)
        weights[: len(scorer.weights), : len(scorer.weights)] = scorer.weights
        columns, across = np.zeros((old, count)), np.zeros((count, count))
        regressed, a, between = np.zeros((old, count)), np.zeros((old, count)), self.l2 * np.eye(count)
        for name in self.reads(stock):
            part = stock.features[name]
            f = stock.unit(name, part)
            f, u = f[:old], np.concatenate([f[old:], stock.unit(name, new[name])])  # (I, D), (n, D)
            if self.ease:
                regressed += self.inverse[name] @ u.T
                a += self.alpha**2 * (f @ u.T)
                between += self.alpha**2 * (u @ u.T)
            if name in self.as_is:
                columns += self.as_is[name] * (f @ u.T)
                across += self.as_is[name] * (u @ u.T)
            if name in self.white:
                c = stock.centred(name, part).values
                v = np.concatenate([c[old:], stock.centred(name, new[name]).values]) @ self.whitening[name]  # (n, D)
                columns += self.white[name] * (c[:old] @ (self.whitening[name] @ v.T))  # old items not whitened again
                across += self.white[name] * (v @ v.T)
        lines = columns.T.copy()
        if self.ease:
            schur = between - a.T @ regressed  # what is left of the new items once the old ones are held fixed
            left = np.diagonal(schur)[:, None]
            columns += self.ease * regressed
            lines += self.ease * (regressed.T / left) / (self.pivot + regressed.T**2 / left)
            across += self.ease * np.where(np.eye(count), 0, schur / left)
        weights[:old, old:], weights[old:, :old], weights[old:, old:] = columns, lines, across
        return replace(scorer, weights=weights)


def solved(b: np.ndarray, pivot: np.ndarray, f: np.ndarray) -> np.ndarray:
    """P f from B of EASE, b_ij = - p_ij / p_jj, and the diagonal of P. (I, D)"""
    scaled = pivot[:, None] * f
    return scaled - b @ scaled


@dataclass(frozen=True, eq=False)
class OfFactors(Intake):
    """Of `Factors`. turn: (d, d), what makes of an item's vector what it adds to a stranger's, see `scorers.turn`."""

    turn: np.ndarray

    @abstractmethod
    def vectors(self, stock: Stock, new: Mapping[str, Features]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and biases of new items. (n, d), (n,)"""

    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        assert isinstance(scorer, Factors)
        item, bias = self.vectors(stock, new)
        item, bias = item.astype(np.float32), bias.astype(np.float32)
        fold = (item.astype(np.float64) @ self.turn).astype(np.float32)
        return replace(
            scorer,
            item=np.concatenate([scorer.item, item]),
            bias=np.concatenate([scorer.bias, bias]),
            fold=np.concatenate([scorer.fold, fold]),
        )


@dataclass(frozen=True, eq=False)
class Projected(OfFactors):
    """Of VBPR: (0, E f), and b' f. Its id's part is 0, the mean of those that nothing has moved.

    e: (c, F); b: (F,); dim: entries of an id's vector. f: centred, of length `scale`, modalities side by side.
    """

    e: np.ndarray
    b: np.ndarray
    scale: float
    dim: int
    kind: ClassVar[str] = "projected"

    def vectors(self, stock: Stock, new: Mapping[str, Features]) -> tuple[np.ndarray, np.ndarray]:
        f = self.scale * np.concatenate([stock.unit(name, new[name]) for name in stock.features], axis=1)
        return np.concatenate([np.zeros((len(f), self.dim), np.float32), f @ self.e.T], axis=1), f @ self.b


@dataclass(frozen=True, eq=False)
class Smoothed(OfFactors):
    """Of FREEDOM: (S^L E)_j, the ids of its neighbours by features; it has no id of its own.

    below: E, S E, ..., (L, I, d). alpha: the weight of each modality. neighbours: how many, itself among them.
    """

    below: np.ndarray
    alpha: ByName
    neighbours: int
    kind: ClassVar[str] = "smoothed"

    def reads(self, stock: Stock) -> tuple[str, ...]:
        return tuple(name for name in super().reads(stock) if self.alpha[name] > 0 and not stock.old(name).alike)

    def vectors(self, stock: Stock, new: Mapping[str, Features]) -> tuple[np.ndarray, np.ndarray]:
        own = np.zeros((len(next(iter(new.values())).ids), self.below.shape[2]), np.float32)
        found = smooth(stock, new, self.neighbours, self.alpha, self.below, own)
        return found, np.zeros(len(found), np.float32)


@dataclass(frozen=True, eq=False)
class Branched(OfFactors):
    """Of LIRDRec: what its branches make of its features, i, and S^L i, over its neighbours. No choice propagates to it.

    first, bias, second: W1 (4d, F), b1, W2 (d, 4d) by modality, and of the branch that they share by "". below: as in `Smoothed`, of
    the vectors before it, with L = 0 for none.
    """

    first: ByName
    bias: ByName
    second: ByName
    below: np.ndarray
    alpha: ByName
    neighbours: int
    kind: ClassVar[str] = "branched"

    def vectors(self, stock: Stock, new: Mapping[str, Features]) -> tuple[np.ndarray, np.ndarray]:
        x = {name: stock.unit(name, new[name]) for name in stock.features}
        has = {name: np.asarray(part.any(axis=1)) for name, part in x.items()}
        x[""] = np.concatenate([fft.dct(part, type=2, norm="ortho", axis=1) for part in x.values()], axis=1)
        has[""] = np.logical_or.reduce(list(has.values()))
        parts = []
        for name, part in x.items():
            h = _leaky(part @ self.first[name].T + self.bias[name]) @ self.second[name].T
            parts.append(h / np.sqrt(np.square(h).sum(axis=1, keepdims=True) + 1e-8) * has[name][:, None])
        own = np.concatenate(parts, axis=1)
        if len(self.below):
            own = own + smooth(stock, new, self.neighbours, self.alpha, self.below, own)
        return own, np.zeros(len(own), np.float32)


@dataclass(frozen=True, eq=False)
class Towered(Intake):
    """Of MLLMRec: e_j = x_j and its part of the nearest by text, read by both towers. It has no audience yet.

    degree: D of A', (I,). below: e after 1, 2, ... layers, (layers - 1, I, D). first, bias, second, offset: of the tower of items.
    user: W1 of that of users, (H, D).
    """

    degree: np.ndarray
    below: np.ndarray
    first: np.ndarray
    bias: np.ndarray
    second: np.ndarray
    offset: np.ndarray
    user: np.ndarray
    neighbours: int
    threshold: float
    layers: int
    kind: ClassVar[str] = "towered"

    def smoothed(self, x: np.ndarray, new: np.ndarray) -> np.ndarray:
        """e of new items from texts of length 1, x those of the items of training. (I, D), (n, D) -> (n, D)"""
        matrix, own = np.zeros((len(new), 0)), np.zeros((len(new), 1), np.float32)
        if self.neighbours and self.threshold <= 1:  # above it, only items with a common audience are neighbours
            at = np.flatnonzero(x.any(axis=1))
            near, cosine = _nearest(x[at], new, self.neighbours - 1)
            near = at[near]  # gaps are nobody's neighbours
            edge: np.ndarray = (cosine >= self.threshold) & (self.degree[near] > 0)
            count = 1 + edge.sum(axis=1, keepdims=True)  # itself, too
            weight = edge / np.sqrt(count * np.where(edge, self.degree[near], 1))
            matrix, own = _table(near, weight, len(x)), (1 / count).astype(np.float32)
        e = new
        for t in range(self.layers):
            known = x if t == 0 else self.below[t - 1]
            e = new + own * e + (matrix @ known if matrix.shape[1] else 0)
        return e.astype(np.float32)

    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        assert isinstance(scorer, Towers)
        x, asked = stock.old("item_texts").unit().values, new["item_texts"].unit().values
        e = self.smoothed(x, asked)
        h = _leaky(e @ self.first.T + self.bias) @ self.second.T + self.offset
        z = h / length(h)
        grown = replace(
            scorer,
            item=np.concatenate([scorer.item, h if scorer.pull is None else h + z]),
            first=np.concatenate([scorer.first, e @ self.user.T]),
        )
        return grown if scorer.pull is None else replace(grown, pull=np.concatenate([scorer.pull, z]))


def smooth(
    stock: Stock, new: Mapping[str, Features], neighbours: int, alpha: ByName, below: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """S^L of new items, whose own vectors are `own`; `modal.ItemGraph` says what S is. below: see `Smoothed`. (n, d)"""
    matrix, loop, weight = sparse.csr_matrix((len(own), below.shape[1])), np.zeros(len(own)), np.zeros(len(own))
    for name in stock.features:
        old, asked = stock.old(name).unit(), new[name].unit()
        if old.alike or not old.present.any():
            continue
        at, rows = np.flatnonzero(old.present), np.flatnonzero(asked.present)
        mine, theirs = (
            min(neighbours, len(at) + 1),
            min(neighbours, len(at)),
        )  # edges of a new item's row, of an old one's
        near, _ = _nearest(old.values[at], asked.values[rows], mine - 1)
        a = float(alpha[name])
        each = np.full(near.shape, a / np.sqrt(mine * max(theirs, 1)))
        spread = sparse.csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(len(own), len(rows)))
        matrix = matrix + spread @ _table(at[near], each, below.shape[1])
        loop[rows] += a / mine
        weight[rows] += a
    scale = 1 / np.where(weight > 0, weight, 1)
    for known in below:
        own = scale[:, None] * (matrix @ known + loop[:, None] * own)
    return own.astype(np.float32)


def _nearest(values: np.ndarray, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `values` with the largest products, and these. (n, k) each"""
    if k < 1 or not len(values) or not len(asked):
        return np.zeros((len(asked), 0), np.int64), np.zeros((len(asked), 0), np.float32)
    parts = [(index, product) for _, index, product in nearest(values, k, asked)]
    return np.concatenate([index for index, _ in parts]), np.concatenate([product for _, product in parts])


def _table(index: np.ndarray, weight: np.ndarray, columns: int) -> sparse.csr_matrix:
    """Row r has weight[r] at index[r]. (n, columns)"""
    starts = np.arange(len(index) + 1) * index.shape[1]
    return sparse.csr_matrix((weight.reshape(-1), index.reshape(-1), starts), shape=(len(index), columns))


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, SLOPE * x)


INTAKES: dict[str, type[Intake]] = {
    kind.kind: kind for kind in (Linear, Narrow, Projected, Smoothed, Branched, Towered, Spoken, Fused)
}
