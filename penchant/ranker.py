"""Ranker: a scorer that is asked about single things, because to be asked about all would be too dear; and Reranked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from penchant import topk
from penchant.data import Queries, digest
from penchant.notes import Note
from penchant.scorers import Arrays, Scorer

__all__ = ["Heard", "Known", "Ranker", "Reranked", "rated"]


@dataclass(frozen=True)
class Heard:
    """What a language model had read of somebody when it was asked about a thing, and its answer.

    probability: of yes, p(yes) / (p(yes) + p(no)). notes: after each window of the history, in its order; the last is what it was
    shown. profile: a text of its own, "" without one. of: choices of the history. lately: titles of the newest that it was shown.
    """

    probability: float
    notes: tuple[Note, ...]
    profile: str
    of: int
    lately: tuple[str, ...] = ()


LATELY = 64  # blocks of queries whose ratings are kept


class Ranker(Scorer):
    """Rates some items for a query. `score`, of all of them, is for small catalogues."""

    @abstractmethod
    def rate(self, queries: Queries, candidates: np.ndarray) -> np.ndarray:
        """(B, C) float32 for candidates (B, C), rows of items; higher is better. -1 stands for no item and is rated -inf."""

    @abstractmethod
    def heard(self, queries: Queries, item: int) -> Heard:
        """Of one query and one item."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many items there are."""

    def score(self, queries: Queries) -> np.ndarray:
        return self.rate(queries, np.broadcast_to(np.arange(self.size), (len(queries), self.size)))


def rated(scorer: Scorer, queries: Queries, candidates: np.ndarray) -> np.ndarray:
    """Scores of some items by any scorer. (B, C) -> (B, C)"""
    if isinstance(scorer, Ranker):
        return scorer.rate(queries, candidates)
    found = np.take_along_axis(scorer.score(queries), np.maximum(candidates, 0), axis=1)
    return np.where(candidates >= 0, found, np.float32(-np.inf))


@dataclass(frozen=True, eq=False)
class Reranked(Scorer):
    """The first `depth` items of `first` that are not in the history, in another order: by (1 - weight) s_1 + weight s_2, both
    standardised among them; everything else stays below them as it was. weight 0: the lists of `first`.
    """

    first: Scorer
    second: Ranker
    depth: int
    weight: float
    kind: ClassVar[str] = "reranked"

    @property
    def decided(self) -> Mapping[str, Any]:
        return {"weight": self.weight}

    def score(self, queries: Queries) -> np.ndarray:
        own = self.first.score(queries)
        if not self.weight or not len(queries):
            return own
        own = np.array(own)
        best = shortlist(own, queries, self.depth)
        return blended(own, best, self._rated(queries, best), self.weight)

    def _rated(self, queries: Queries, best: np.ndarray) -> np.ndarray:
        """What was asked about these queries lately is not asked again: ranks and lists are made one after the other."""
        key = digest(queries.users, queries.history_starts, queries.history_items, best)
        if key not in self._lately:
            if len(self._lately) == LATELY:
                self._lately.pop(next(iter(self._lately)))
            self._lately[key] = self.second.rate(queries, best)
        return self._lately[key]

    @cached_property
    def _lately(self) -> dict[str, np.ndarray]:
        return {}

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        return self.first.carried(user, history, item)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return self.first.likeness(items)

    def arrays(self) -> dict[str, np.ndarray]:
        from penchant.saved import coded

        found = {f"first/{name}": value for name, value in self.first.arrays().items()}
        found |= {f"second/{name}": value for name, value in self.second.arrays().items()}
        facts = {"first": self.first.kind, "second": self.second.kind, "depth": self.depth, "weight": self.weight}
        return found | {"facts": coded(facts)}

    @classmethod
    def of(cls, arrays: Arrays) -> Reranked:
        from penchant.saved import decoded, scorer_of

        facts = decoded(arrays["facts"])
        parts = []
        for part in ("first", "second"):
            own = {n.removeprefix(f"{part}/"): v for n, v in arrays.items() if n.startswith(f"{part}/")}
            parts.append(scorer_of(facts[part]).of(own))
        return cls(parts[0], parts[1], facts["depth"], facts["weight"])  # type: ignore[arg-type]


class Known:
    """Scores that are there already, for what goes through queries in their order."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores, self.at = scores, 0

    def score(self, queries: Queries) -> np.ndarray:
        part = self.scores[self.at : self.at + len(queries)]
        self.at += len(queries)
        return part


def shortlist(scores: np.ndarray, queries: Queries, depth: int) -> np.ndarray:
    """The best `depth` items of each query that are not in its history, best first, ties as in `topk`; -1 where there are
    fewer. (B, depth) int64"""
    depth = min(depth, scores.shape[1])
    return topk.top(Known(scores), queries, depth, queries.matrix(scores.shape[1]))[0]


def blended(scores: np.ndarray, best: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """The scores with those of the shortlist in their new order, above all others. (B, I), (B, K), (B, K) -> (B, I)"""
    row, live = np.arange(len(scores))[:, None], best >= 0
    first = np.take_along_axis(scores, np.maximum(best, 0), axis=1)
    mixed = (1 - weight) * standard(first, live) + weight * standard(second, live)
    place = mixed - np.where(live, mixed, np.inf).min(axis=1, keepdims=True)  # from 0 up
    found = scores - scores.max(axis=1, keepdims=True)  # from 0 down, so that no place is lost in rounding
    found[np.broadcast_to(row, best.shape)[live], best[live]] = 1 + place[live]
    return found


def standard(x: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 in each row, of what is live; 0 where all are alike. (B, K)"""
    count = np.maximum(live.sum(axis=1, keepdims=True), 1)
    kept = np.where(live, x, 0)
    apart = np.where(live, x - kept.sum(axis=1, keepdims=True) / count, 0)
    spread = np.sqrt(np.square(apart).sum(axis=1, keepdims=True) / count)
    return apart / np.where(spread > 1e-9, spread, 1)
