"""Among: held-out items ranked among themselves and a few seeded others, as much of the literature does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from penchant import metrics, topk
from penchant.data import Queries
from penchant.errors import BadSetting, Diverged
from penchant.ranker import Ranker

__all__ = ["Candidates", "per_user"]

BLOCK = 512  # queries scored at a time


@dataclass(frozen=True)
class Candidates:
    """Each held-out item is ranked among itself and items - 1 uniform items that the user chose in no part."""

    items: int
    seed: int = 0


def per_user(
    scorer: topk.Scores,
    queries: Queries,
    held: sparse.csr_matrix,
    chosen: sparse.csr_matrix,
    candidates: Candidates,
    names: tuple[str, ...],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Each held-out pair against its own candidates; a user's value is the mean over her pairs. metric -> (B,)

    held, chosen: (B, I), what is asked about, and everything that the user chose. seed: of ties. Raises BadSetting where somebody leaves too few items.
    """
    n = candidates.items
    rng = np.random.default_rng(candidates.seed)
    if int(np.diff(chosen.indptr).max()) + n - 1 > chosen.shape[1]:
        left = chosen.shape[1] - int(np.diff(chosen.indptr).max())
        raise BadSetting(
            f"candidates = {n}: some user chose so much that only {left} other items are left. At most {left + 1} are possible: "
            f"candidates = {left + 1}, or in [training]  among = {left + 1}"
        )
    query = np.repeat(np.arange(len(queries)), np.diff(held.indptr))
    drawn = _strangers(chosen, query, n - 1, rng)
    rank = np.empty(len(query), np.int64)
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, min(start + BLOCK, len(queries)))
        pair = np.arange(held.indptr[rows.start], held.indptr[rows.stop])
        asked = np.concatenate([held.indices[pair][:, None], drawn[pair]], axis=1)  # (P, n), the held-out one first
        score = _scores(scorer, queries.take(rows), query[pair] - start, asked)
        own, other = score[:, :1], score[:, 1:]
        # With t ties the item's place among them must be uniform: one uniform draw a pair, not a coin for each tie.
        ties = (other == own).sum(axis=1)
        place = np.random.default_rng([seed, start]).integers(0, ties + 1)
        rank[pair] = 1 + (other > own).sum(axis=1) + place
    alone = metrics.per_user(list(names), np.arange(len(query)), rank, len(query), np.full(len(query), n))
    count = np.maximum(np.bincount(query, minlength=len(queries)), 1)
    return {m: np.bincount(query, weights=v, minlength=len(queries)) / count for m, v in alone.items()}


def _scores(scorer: topk.Scores, queries: Queries, query: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Scores of the items asked about, one row a pair. query: (P,) which query a pair is of. (P, n)"""
    inner = getattr(scorer, "scorer", scorer)  # of a Recommender
    if not isinstance(inner, Ranker):
        return topk.finite(scorer, queries)[query[:, None], asked]
    history = queries.history
    each = Queries.of(queries.users[query], [history[q] for q in query])
    found = np.asarray(inner.rate(each, asked), np.float32)
    if not np.isfinite(found).all():
        raise Diverged(
            "the model rated NaN or infinity. Train again with a smaller step:  --set training.learning_rate=0.0001"
        )
    return found


def _strangers(chosen: sparse.csr_matrix, query: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n distinct items for each entry of `query` that are not in that row of `chosen`. (M, n)"""
    items = chosen.shape[1]
    chosen.sort_indices()
    rows = np.repeat(np.arange(chosen.shape[0]), np.diff(chosen.indptr)).astype(np.int64)
    keys = rows * items + chosen.indices
    drawn = rng.integers(0, items, (len(query), n))
    left = np.arange(len(query))  # those that still hold a chosen item or one twice
    while len(left):
        part = drawn[left]
        key = query[left, None] * np.int64(items) + part
        at = np.minimum(np.searchsorted(keys, key), max(len(keys) - 1, 0))
        wrong = keys[at] == key if len(keys) else np.zeros(part.shape, bool)
        order = np.argsort(part, axis=1, kind="stable")
        ordered = np.take_along_axis(part, order, axis=1)
        again = np.zeros(part.shape, bool)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        wrong |= again
        part[wrong] = rng.integers(0, items, int(wrong.sum()))
        drawn[left] = part
        left = left[wrong.any(axis=1)]
    return drawn
