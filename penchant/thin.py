"""Thin: a table of items x items that is kept as a sparse one and a product of two narrow ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from penchant.data import Queries
from penchant.scorers import Arrays, Scorer

__all__ = ["Thin"]


@dataclass(frozen=True, eq=False)
class Thin(Scorer):
    """score = x W, W = weights + left right', x the binary history. weights: (I, I) csr; left, right: (I, r).

    Like `ItemToItem` it knows users by their histories alone.
    """

    weights: sparse.csr_matrix
    left: np.ndarray
    right: np.ndarray
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
