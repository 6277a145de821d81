"""Nearby: an approximate index for catalogues where an exact pass takes too long; what it finds is scored again, exactly."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penchant import topk
from penchant.data import Queries
from penchant.model import Recommender
from penchant.scorers import Factors, Motivated
from penchant.serve.lists import Wish

__all__ = ["PACKED", "Nearby", "Progressive"]

log = logging.getLogger("penchant.serve")
DEEP = 20  # times as many as are asked for are looked at exactly
LEAST = 400
HALVES = 2
PACKED = 8  # times less is read of the index than of the vectors: 4 bits for 32
FEW = 0.3  # a filter that lets fewer items through than this share is answered exactly


@dataclass(frozen=True, eq=False)
class Progressive:
    """faiss: 4-bit product quantisation with a table look-up in registers, PQ{d}x4fs, over (item, bias); inner product. In two
    halves, each read by a thread of its own, because one reads no faster than memory gives."""

    index: Any
    size: int

    @staticmethod
    def of(items: np.ndarray, bias: np.ndarray, seed: int = 0) -> Progressive:
        import faiss

        wide = np.concatenate([items, bias[:, None]], axis=1) if bias.any() else items
        pad = -wide.shape[1] % 2
        wide = np.ascontiguousarray(np.pad(wide, ((0, 0), (0, pad))), np.float32)
        trained = faiss.index_factory(wide.shape[1], f"PQ{wide.shape[1]}x4fs", faiss.METRIC_INNER_PRODUCT)
        sample = np.random.default_rng(seed).permutation(len(wide))[:65_536]
        trained.train(wide[sample])
        index = faiss.IndexShards(wide.shape[1], True)  # in threads; rows count on from one to the next
        for rows in np.array_split(wide, HALVES):
            part = faiss.clone_index(trained)
            part.add(rows)
            index.add_shard(part)
        return Progressive(index, len(wide))

    def best(self, user: np.ndarray, many: int) -> np.ndarray:
        """Rows, the likeliest. user: (d,)"""
        asked = np.zeros((1, self.index.d), np.float32)
        asked[0, : len(user)] = user
        if self.index.d > len(user):
            asked[0, len(user)] = 1.0  # the bias, where there is one; else a column of zeros
        _, rows = self.index.search(asked, many)
        return rows[0][rows[0] >= 0]


def factors_of(rec: Recommender) -> Factors | None:
    scorer = rec.scorer.factors if isinstance(rec.scorer, Motivated) else rec.scorer
    return scorer if isinstance(scorer, Factors) else None


@dataclass(frozen=True, eq=False)
class Nearby:
    """Of the first `size` items of a model of factors; later ones are always looked at."""

    index: Progressive
    item: np.ndarray = field(repr=False)

    @staticmethod
    def of(rec: Recommender, least: int) -> Nearby | None:
        """None for a model without factors, fewer items than `least`, or without the extra `ann`."""
        factors = factors_of(rec)
        if factors is None or len(factors.item) < least:
            return None
        try:
            return Nearby(Progressive.of(factors.item, factors.bias), factors.item)
        except ImportError:
            log.warning(
                "%s items are scored one by one: install faiss for an index:  pip install 'penchant[ann]'",
                len(factors.item),
            )
            return None

    def fits(self, rec: Recommender) -> bool:
        """Whether items have only come after those of the index."""
        factors, last = factors_of(rec), self.index.size - 1
        return factors is not None and len(factors.item) > last and np.array_equal(factors.item[last], self.item[last])

    def reach(self, wish: Wish) -> int:
        """How many items are looked at exactly; 0 where all must be."""
        if wish.diversity or wish.per_category is not None:
            return 0
        share = 1.0 if wish.only is None else float(wish.only.mean())
        if share < FEW:
            return 0
        many = int((max(LEAST, DEEP * wish.k) + 2 * len(wish.banned)) / share)
        return many if many <= self.index.size // 4 else 0

    def best(self, rec: Recommender, queries: Queries, wish: Wish) -> tuple[np.ndarray, np.ndarray] | None:
        """As `lists.picked`, with its scores; None where it must be answered exactly: a list that is to be diverse or capped, or a
        filter that lets few through."""
        factors, many = factors_of(rec), self.reach(wish)
        if factors is None or not many:
            return None
        user = factors.vectors(queries)[0]
        rows = np.sort(np.concatenate([self.index.best(user, many), np.arange(self.index.size, len(factors.item))]))
        at = np.minimum(np.searchsorted(rows, wish.banned), len(rows) - 1)
        rows = np.delete(rows, at[rows[at] == wish.banned])
        if wish.only is not None:
            rows = rows[wish.only[rows]]
        if len(rows) < wish.k:
            return None
        score = (factors.item[rows] @ user + factors.bias[rows]).astype(np.float32)
        place, value = topk.best(score, wish.k, topk.who(queries)[0], wish.seed)
        return rows[place], value
