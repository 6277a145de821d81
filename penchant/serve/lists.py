"""Lists: the best items for one query, with everything that may not be shown taken out before, not after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from penchant import topk
from penchant.data import Queries
from penchant.intake import Stock
from penchant.model import Recommender
from penchant.scorers import Factors, ItemToItem, Motivated

__all__ = ["Wish", "picked", "scored"]

POOL = 5  # times k: items among which a diverse list is chosen
MOST = 1_000  # of them, where k is no more


@dataclass(frozen=True, eq=False)
class Wish:
    """What a list is to be. banned: rows that are not shown. only: (I,) bool of those that may be, None for all."""

    k: int
    banned: np.ndarray
    only: np.ndarray | None = None
    diversity: float = 0.0
    per_category: int | None = None
    seed: int = 0


def scored(rec: Recommender, queries: Sequence[Queries]) -> np.ndarray:
    """Scores of several people at once, which cost little more than of one. (B, I), to be written to. Raises Diverged."""
    asked = queries[0] if len(queries) == 1 else _joined(queries)
    found = topk.finite(rec, asked)
    if found.base is not None or not found.flags.writeable:
        found = found.copy()
    return found


def picked(
    rec: Recommender,
    scores: np.ndarray,
    queries: Queries,
    wish: Wish,
    categories: Callable[[int], Sequence[str]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of items, best first, and their scores. scores: (I,), written to. categories: of a row, where they are capped."""
    scores[wish.banned] = -np.inf
    if wish.only is not None:
        scores = np.where(wish.only, scores, np.float32(-np.inf))
    asker = queries.users[0].astype(np.uint64) if queries.users[0] >= 0 else topk.who(queries)[0]
    if not wish.diversity and wish.per_category is None:
        return topk.best(scores, wish.k, asker, wish.seed)
    many = min(len(scores), max(min(POOL * wish.k, MOST), wish.k, 100))
    while True:
        item, value = topk.best(scores, many, asker, wish.seed)
        chosen = _chosen(rec, item, value, wish, categories)
        if len(chosen) == wish.k or many >= len(scores) or len(item) < many:
            return item[chosen], value[chosen]
        many = min(len(scores), many * 8)  # the caps have used up the pool


def _chosen(
    rec: Recommender,
    item: np.ndarray,
    value: np.ndarray,
    wish: Wish,
    categories: Callable[[int], Sequence[str]] | None,
) -> np.ndarray:
    """Places in the pool, one after the other: the best by (1 - diversity) score - diversity likeness to the likest before it
    (maximal marginal relevance, Carbonell and Goldstein 1998), the score from 0 to 1 in the pool; past a cap none."""
    if not len(item):
        return np.zeros(0, np.int64)
    spread = value.max() - value.min()
    relevance = (value - value.min()) / (spread if spread > 0 else 1)
    vectors = _vectors(rec, item) if wish.diversity else np.zeros((len(item), 1), np.float32)
    near = np.full(len(item), -1.0)
    open_ = np.ones(len(item), bool)
    counts: dict[str, int] = {}
    places: list[int] = []
    while len(places) < wish.k and open_.any():
        worth = (1 - wish.diversity) * relevance - wish.diversity * np.maximum(near, 0)
        best = int(np.where(open_, worth, -np.inf).argmax())
        open_[best] = False
        if wish.per_category is not None and categories is not None:
            own = categories(int(item[best]))
            if any(counts.get(one, 0) >= wish.per_category for one in own):
                continue
            for one in own:
                counts[one] = counts.get(one, 0) + 1
        places.append(best)
        near = np.maximum(near, vectors @ vectors[best])
    return np.array(places, np.int64)


def _vectors(rec: Recommender, item: np.ndarray) -> np.ndarray:
    """What tells how alike items are: their features, or what the model learned of them. (n, D), length 1 or 0"""
    scorer = rec.scorer.factors if isinstance(rec.scorer, Motivated) else rec.scorer
    if isinstance(rec.stock, Stock):
        parts = [unit[item] for unit in rec.stock.units]
        found = np.concatenate(parts, axis=1)
    elif isinstance(scorer, Factors):
        found = scorer.item[item]
    elif isinstance(scorer, ItemToItem):
        rows = scorer.weights[item][:, item]
        found = np.asarray(rows.toarray() if sparse.issparse(rows) else rows, np.float32)
    elif not rec.scorer.personal:
        found = np.zeros((len(item), 1), np.float32)  # it knows no likeness
    else:
        parts = [scorer.likeness(item[at : at + 16])[:, item] for at in range(0, len(item), 16)]
        found = np.concatenate(parts)  # rows of likeness to one another
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(length > 0, length, 1)


def _joined(queries: Sequence[Queries]) -> Queries:
    users = [int(one.users[0]) for one in queries]
    return Queries.of(users, [one.history_items for one in queries])
