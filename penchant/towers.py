"""Towers: a scorer whose users without a text are read from their histories, known or new, by the same small net."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse

from penchant.data import Queries
from penchant.scorers import Arrays, Scorer

if TYPE_CHECKING:
    from penchant.intake import Intake

__all__ = ["SLOPE", "Towers", "length"]

SLOPE = np.float32(0.01)  # of LeakyReLU below 0


@dataclass(frozen=True, eq=False)
class Towers(Scorer):
    """score = h_u . h_i. h_u = W2 LeakyReLU(W1 t_u + b1) + b2, t_u a vector of u's text, or the mean of what her items say.

    user: (U, d), h_u; told: (U,) bool, who has a text. Everybody else is judged by the history in the query alone, whether
    she was trained on or not. An empty one has t_u = 0.
    item: (I, d), h_i. first: (I, H), W1 e_i, so that a history costs a mean of short rows; bias: (H,), b1; second: (d, H),
    W2; offset: (d,), b2.
    pull: (I, d), where vectors were propagated over choices: a user is h + h / |h| + sum_i pull_i / sqrt(n) over her n items.
    """

    user: np.ndarray
    told: np.ndarray
    item: np.ndarray
    first: np.ndarray
    bias: np.ndarray
    second: np.ndarray
    offset: np.ndarray
    pull: np.ndarray | None = None
    intake: Intake | None = None
    kind: ClassVar[str] = "towers"

    def vectors(self, queries: Queries) -> np.ndarray:
        """User vectors of the queries. (B, d)"""
        rows = np.maximum(queries.users, 0)
        found = self.user[rows]
        read = np.flatnonzero((queries.users < 0) | ~self.told[rows])
        if len(read):
            found[read] = self.read(queries.matrix(len(self.item))[read])
        return found

    def read(self, x: sparse.csr_matrix) -> np.ndarray:
        """Users of whom histories are known. (B, I) binary -> (B, d)"""
        n = np.maximum(np.diff(x.indptr), 1).astype(np.float32)[:, None]
        hidden = (x @ self.first) / n + self.bias  # (B, H)
        h = np.where(hidden > 0, hidden, SLOPE * hidden) @ self.second.T + self.offset
        return h if self.pull is None else h + h / length(h) + (x @ self.pull) / np.sqrt(n)

    def score(self, queries: Queries) -> np.ndarray:
        return self.vectors(queries) @ self.item.T

    def arrays(self) -> dict[str, np.ndarray]:
        found = {name: getattr(self, name) for name in ("user", "told", "item", "first", "bias", "second", "offset")}
        return found if self.pull is None else found | {"pull": self.pull}

    @classmethod
    def of(cls, arrays: Arrays) -> Towers:
        return cls(**arrays)  # type: ignore[arg-type]

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        """The part of each choice in the score that the history alone earns, for the net is linear near it.

        Their sum is that score without what b1 and b2 give to `item`, whoever asks.
        """
        n, own = np.float32(max(len(history), 1)), self.first[history]  # (H_u, H)
        hidden = own.sum(axis=0) / n + self.bias
        slope = np.where(hidden > 0, np.float32(1), SLOPE)
        found = own @ (slope * (self.item[item] @ self.second)) / n
        if self.pull is None:
            return found
        h = (slope * hidden) @ self.second.T + self.offset
        return found * (1 + 1 / length(h)) + self.pull[history] @ self.item[item] / np.sqrt(n)

    @cached_property
    def _unit(self) -> np.ndarray:
        return self.item / length(self.item)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return self._unit[items] @ self._unit.T


def length(rows: np.ndarray) -> np.ndarray:
    """Lengths of rows, above 0. (n, 1)"""
    return np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
