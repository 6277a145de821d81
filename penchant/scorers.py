"""Scorers: what training leaves behind. Plain arrays that score queries with numpy alone.

Evaluation, `recommend` and the service all ask the same scorer, so what is measured is what is served (but for people of
whom nothing is known, who are served popular items), and nothing here needs torch. A scorer answers for known users by row and for strangers from the history in the query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import sparse

from penchant.data import Queries
from penchant.interests import interests

if TYPE_CHECKING:
    from penchant.intake import Intake

__all__ = ["Arrays", "Factors", "ItemToItem", "Motivated", "Nearest", "Popularity", "Scorer", "turn"]

Arrays = Mapping[str, np.ndarray]


class Scorer(ABC):
    """Scores every item for a block of queries."""

    kind: ClassVar[str]
    personal: ClassVar[bool] = True
    intake: Intake | None = None
    """How it takes in new items; None where it cannot, and no part of `arrays`."""

    @property
    def decided(self) -> Mapping[str, Any]:
        """Settings that were chosen while it was fitted."""
        return {}

    @abstractmethod
    def score(self, queries: Queries) -> np.ndarray:
        """(B, I) float32; higher is better. A user of row -1 is judged by her history alone."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything there is to save."""

    @classmethod
    @abstractmethod
    def of(cls, arrays: Arrays) -> Scorer:
        """The scorer that `arrays` came from."""

    @abstractmethod
    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        """How much each item of a history without repeats speaks for `item`. (H,) float32, in the model's own terms."""

    @abstractmethod
    def likeness(self, items: np.ndarray) -> np.ndarray:
        """Similarity of these items to all items as this model sees it: by behaviour, and by what stands beside it. (B, I) float32"""


@dataclass(frozen=True, eq=False)
class Popularity(Scorer):
    """The same list for everybody. count: (I,) choices in train."""

    count: np.ndarray
    kind: ClassVar[str] = "popularity"
    personal: ClassVar[bool] = False

    def score(self, queries: Queries) -> np.ndarray:
        return np.repeat(self.count[None, :].astype(np.float32), len(queries), axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"count": self.count}

    @classmethod
    def of(cls, arrays: Arrays) -> Popularity:
        return cls(arrays["count"])

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        return np.zeros(len(history), np.float32)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return np.repeat(self.count[None, :].astype(np.float32), len(items), axis=0)


@dataclass(frozen=True, eq=False)
class ItemToItem(Scorer):
    """score = x @ weights, x the binary history. weights: (I, I), dense float32 or csr.

    Knows users by their histories alone, so a stranger with three clicks is scored like anyone else.
    """

    weights: np.ndarray | sparse.csr_matrix
    intake: Intake | None = None
    kind: ClassVar[str] = "item_to_item"

    def score(self, queries: Queries) -> np.ndarray:
        x = queries.matrix(self.weights.shape[0])
        found = x @ self.weights
        return np.asarray(found.toarray() if sparse.issparse(found) else found, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        if isinstance(self.weights, np.ndarray):
            return {"weights": self.weights}
        w = self.weights
        return {"data": w.data, "indices": w.indices, "indptr": w.indptr, "shape": np.array(w.shape)}

    @classmethod
    def of(cls, arrays: Arrays) -> ItemToItem:
        if "weights" in arrays:
            return cls(arrays["weights"])
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        return cls(sparse.csr_matrix(parts, shape=tuple(arrays["shape"].tolist())))

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        column = self.weights[history, item]
        return np.asarray(column.todense() if sparse.issparse(column) else column, np.float32).reshape(-1)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        rows = self.weights[items]
        return np.asarray(rows.toarray() if sparse.issparse(rows) else rows, np.float32)


@dataclass(frozen=True, eq=False)
class Factors(Scorer):
    """score = user . item + bias.

    user: (U, d); item: (I, d); bias: (I,); fold: (I, d), see `turn`: a stranger's vector is the sum of her items'
    rows of `fold` over the square root of their number. trained: (U,) bool, False for users without a choice in train,
    whose vector was never moved: they are strangers too.
    """

    user: np.ndarray
    item: np.ndarray
    bias: np.ndarray
    fold: np.ndarray
    trained: np.ndarray | None = None
    intake: Intake | None = None
    kind: ClassVar[str] = "factors"

    def vectors(self, queries: Queries) -> np.ndarray:
        """User vectors of the queries. (B, d)"""
        rows = np.maximum(queries.users, 0)
        known = queries.users >= 0
        if self.trained is not None:
            known &= self.trained[rows]
        if known.all():
            return self.user[rows]
        x = queries.matrix(len(self.item))  # each choice once, however often it is named
        folded = (x @ self.fold) / np.sqrt(np.maximum(np.diff(x.indptr), 1))[:, None]
        return np.where(known[:, None], self.user[rows], folded).astype(np.float32)

    def score(self, queries: Queries) -> np.ndarray:
        found = self.vectors(queries) @ self.item.T
        return found + self.bias if self._biased else found

    _biased = cached_property(lambda self: bool(self.bias.any()))

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"user": self.user, "item": self.item, "bias": self.bias, "fold": self.fold}
        return found if self.trained is None else found | {"trained": self.trained}

    @classmethod
    def of(cls, arrays: Arrays) -> Factors:
        return cls(arrays["user"], arrays["item"], arrays["bias"], arrays["fold"], arrays.get("trained"))

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        return (self.fold[history] @ self.item[item]) / np.float32(np.sqrt(max(len(history), 1)))

    @cached_property
    def _unit(self) -> np.ndarray:
        return self.item / np.maximum(np.linalg.norm(self.item, axis=1, keepdims=True), 1e-12)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return self._unit[items] @ self._unit.T


@dataclass(frozen=True, eq=False)
class Motivated(Scorer):
    """Scores are those of `factors`; the rest is for reasons.

    shares: (U, K), rows sum to 1, how much of a user's motivation each prototype is. pull: (I, K), the cosine of each
    item's motivation with each of the users' prototypes.
    """

    factors: Factors
    shares: np.ndarray
    pull: np.ndarray
    kind: ClassVar[str] = "motivated"

    def score(self, queries: Queries) -> np.ndarray:
        return self.factors.score(queries)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.factors.arrays() | {"shares": self.shares, "pull": self.pull}

    @classmethod
    def of(cls, arrays: Arrays) -> Motivated:
        return cls(Factors.of(arrays), arrays["shares"], arrays["pull"])

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        return self.factors.carried(user, history, item)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return self.factors.likeness(items)

    @cached_property
    def lift(self) -> np.ndarray:
        """How much more of each prototype a user has than all together. (U, K), mean 1 over users"""
        return self.shares / np.maximum(self.shares.mean(axis=0), 1e-12)

    @cached_property
    def draw(self) -> np.ndarray:
        """How much more each item answers to each prototype than the catalogue does, in spreads. (I, K)"""
        return (self.pull - self.pull.mean(axis=0)) / np.maximum(self.pull.std(axis=0), 1e-6)

    def drives(self, user: int, history: np.ndarray) -> np.ndarray:
        """How much stronger each motivation is in her than in others. (K,) A stranger, row -1, has those of her choices."""
        if user >= 0 and (self.factors.trained is None or self.factors.trained[user]):
            return self.lift[user]
        if not len(history):
            return np.ones(self.shares.shape[1], np.float32)
        return np.maximum(1 + self.draw[np.unique(history)].mean(axis=0), 0)

    def matched(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        """How far each motivation of hers is what the item answers to. (K,), 0 where it is not"""
        return self.drives(user, history) * np.maximum(self.draw[item], 0)


@dataclass(frozen=True, eq=False)
class Nearest(Scorer):
    """score = - min_c |user_c - item|^2: the nearest of a user's vectors answers.

    user: (U, C, d); item: (I, d). trained: (U,) bool, False for users without a choice in train. They and strangers have
    the C vectors on the unit sphere that lie nearest to their items, see `interests`.
    """

    user: np.ndarray
    item: np.ndarray
    trained: np.ndarray
    kind: ClassVar[str] = "nearest"

    def vectors(self, queries: Queries) -> np.ndarray:
        """(B, C, d)"""
        rows = np.maximum(queries.users, 0)
        found = self.user[rows]
        new = np.flatnonzero((queries.users < 0) | ~self.trained[rows])
        if len(new):
            found[new] = interests(queries.matrix(len(self.item))[new], self.item, found.shape[1])[0]
        return found

    def score(self, queries: Queries) -> np.ndarray:
        g = self.vectors(queries)
        best = np.full((len(g), len(self.item)), -np.inf, np.float32)
        for c in range(g.shape[1]):
            np.maximum(best, 2 * g[:, c] @ self.item.T - _squares(g[:, c])[:, None], out=best)
        return best - _squares(self.item)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"user": self.user, "item": self.item, "trained": self.trained}

    @classmethod
    def of(cls, arrays: Arrays) -> Nearest:
        return cls(arrays["user"], arrays["item"], arrays["trained"])

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        """The part 2 v_h . v / |sum of v_h| of each choice in the vector that answers for `item`; 0 for those of other vectors."""
        x = Queries.of([-1], [history]).matrix(len(self.item))
        g, which = interests(x, self.item, self.user.shape[1])
        which = which[np.searchsorted(x.indices, history)]
        answers = which[_squares(g[0, which] - self.item[item]).argmin()] if len(history) else -1
        own = np.where((which == answers)[:, None], self.item[history], 0)
        return 2 * (own @ self.item[item]) / np.maximum(np.linalg.norm(own.sum(axis=0)), np.float32(1e-12))

    def likeness(self, items: np.ndarray) -> np.ndarray:
        near = self.item[items]
        return 2 * near @ self.item.T - _squares(near)[:, None] - _squares(self.item)


def _squares(x: np.ndarray) -> np.ndarray:
    return np.square(x).sum(axis=-1)


def turn(user: np.ndarray, item: np.ndarray, history: sparse.csr_matrix, ridge: float = 1e-3) -> np.ndarray:
    """W: rows of V W, summed over a history and divided by the root of its length, best give back trained users. (d, d)

    The ridge solution of (D^-1/2 X V) W = U over users with a history, V the vectors of items. It makes any factor model
    answer for people it was not trained on, at the cost of one small least-squares problem.
    """
    length = np.asarray(history.sum(axis=1)).reshape(-1)
    has = length > 0
    summed = np.asarray(history[has] @ item, np.float64) / np.sqrt(length[has])[:, None]
    gram = summed.T @ summed
    gram[np.diag_indices_from(gram)] += ridge * (np.trace(gram) / len(gram) + 1e-12)
    return np.linalg.solve(gram, summed.T @ user[has].astype(np.float64))
