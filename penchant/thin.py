"""Thin: a table of items x items that is kept as a sparse one and a product of two narrow ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from scipy import sparse

from penchant.data import Queries
from penchant.features import Features
from penchant.intake import Intake, Stock
from penchant.scorers import Arrays, Scorer

__all__ = ["Narrow", "Thin"]


@dataclass(frozen=True, eq=False)
class Thin(Scorer):
    """score = x W, W = weights + left right', x the binary history. weights: (I, I) csr; left, right: (I, r).

    Like `ItemToItem` it knows users by their histories alone.
    """

    weights: sparse.csr_matrix
    left: np.ndarray
    right: np.ndarray
    intake: Intake | None = None
    kind: ClassVar[str] = "thin"

    def score(self, queries: Queries) -> np.ndarray:
        x = queries.matrix(len(self.left))
        return np.asarray((x @ self.weights).toarray() + (x @ self.left) @ self.right.T, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        w = self.weights
        return {"data": w.data, "indices": w.indices, "indptr": w.indptr, "left": self.left, "right": self.right}

    @classmethod
    def of(cls, arrays: Arrays) -> Thin:
        size = len(arrays["left"])
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        return cls(sparse.csr_matrix(parts, shape=(size, size)), arrays["left"], arrays["right"])

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        near = self.weights[history][:, [item]].toarray()[:, 0]
        return np.asarray(near + self.left[history] @ self.right[item], np.float32)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return np.asarray(self.weights[items].toarray() + self.left[items] @ self.right.T, np.float32)


@dataclass(frozen=True, eq=False)
class Narrow(Intake):
    """Of `Thin`: a new item's rows of `left` and `right` are its features, whitened and as they are, where other items have theirs.

    All else of it is 0, as it is for an item that nobody chose: its row and column of `weights`, and what graphs and factor models
    say. So is EASE with features, which is made in blocks of items that share choices; a new item shares none, so no block is its.
    weights: of the products NAME and `NAME as is`, by their names, those that are not 0. begins: the first column of each.
    whitening: (D, D) by modality, see `features.whitening`.
    """

    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    begins: Mapping[str, np.ndarray] = field(default_factory=dict)
    whitening: Mapping[str, np.ndarray] = field(default_factory=dict)
    kind: ClassVar[str] = "narrow"

    def reads(self, stock: Stock) -> tuple[str, ...]:
        weighed = (name for name in self.whitening if name in self.begins or f"{name} as is" in self.begins)
        return tuple(name for name in weighed if stock.tells(name))

    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        assert isinstance(scorer, Thin)
        count, w = len(next(iter(new.values())).ids), scorer.weights
        left, right = np.zeros((2, count, scorer.left.shape[1]), np.float32)
        for name in self.reads(stock):
            whitened = stock.centred(name, new[name]).values.astype(np.float64) @ self.whitening[name]
            for key, rows in ((name, whitened.astype(np.float32)), (f"{name} as is", stock.unit(name, new[name]))):
                if key in self.begins:
                    columns = slice(int(self.begins[key]), int(self.begins[key]) + rows.shape[1])
                    left[:, columns], right[:, columns] = np.float32(self.weights[key]) * rows, rows
        starts = np.concatenate([w.indptr, np.full(count, w.indptr[-1], w.indptr.dtype)])
        size = len(scorer.left) + count
        return replace(
            scorer,
            weights=sparse.csr_matrix((w.data, w.indices, starts), shape=(size, size)),
            left=np.concatenate([scorer.left, left]),
            right=np.concatenate([scorer.right, right]),
        )
