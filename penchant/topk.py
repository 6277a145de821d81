"""Blocked scoring: held-out ranks and top-k lists, with masks and seeded random ties.

Memory is a few times block x items floats, whatever the number of users. Items with the same score are ordered by a
hash of (seed, user, item): random to the model, the same in every run, and the same in ranks and in lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from penchant.data import Queries
from penchant.errors import Diverged

__all__ = ["Ranks", "Scores", "best", "finite", "ranks", "top", "who"]


class Scores(Protocol):
    """Anything that scores all items for a block of queries. What it gives back is written to, unless it is a view."""

    def score(self, queries: Queries) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the held-out items landed. One row per held-out pair.

    query: (M,) 0..B-1; item: (M,); rank: (M,) from 1; candidates: (B,) how many items competed for each query.
    """

    query: np.ndarray
    item: np.ndarray
    rank: np.ndarray
    candidates: np.ndarray


def ranks(
    scorer: Scores,
    queries: Queries,
    held: sparse.csr_matrix,
    mask: sparse.csr_matrix | None = None,
    only: np.ndarray | None = None,
    seed: int = 0,
    block: int = 512,
) -> Ranks:
    """Rank of every held-out item among all items that are not masked.

    held: (B, I) csr, rows aligned with the queries. mask: (B, I) csr of items that cannot be recommended.
    only: (I,) bool, the items that compete; held-out items outside it are left out. Raises Diverged on NaN scores.
    """
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    candidates = np.empty(len(queries), np.int64)
    for rows, score in _blocks(scorer, queries, mask, only, block):
        part = held[rows]
        query = np.repeat(np.arange(len(score)), np.diff(part.indptr))
        item = part.indices.astype(np.int64)
        own = score[query, item]
        live = np.isfinite(own)
        query, item, own = query[live], item[live], own[live]
        candidates[rows] = _row_sums(score > -np.inf)
        rank = _compared(score, query, item, own, who(queries.take(rows)), seed)
        found.append((query + rows.start, item, rank))
    if not found:
        none = np.zeros(0, np.int64)
        return Ranks(none, none, none, candidates)
    query, item, rank = (np.concatenate(column) for column in zip(*found, strict=True))
    return Ranks(query, item, rank, candidates)


def top(
    scorer: Scores,
    queries: Queries,
    k: int,
    mask: sparse.csr_matrix | None = None,
    only: np.ndarray | None = None,
    seed: int = 0,
    block: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each query, best first: items (B, k) int64 and scores (B, k) float32.

    Where fewer than k items may be recommended the rest is -1 and -inf.
    """
    items = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for rows, score in _blocks(scorer, queries, mask, only, block):
        n = score.shape[1]
        chosen = np.flatnonzero(score >= _floor(score, k)[:, None])
        query, item = chosen // n, chosen % n
        value = score.reshape(-1)[chosen]
        key = _tie_key(seed, who(queries.take(rows))[query], item)
        order = np.lexsort((key, -value, query))
        query, item, value = query[order], item[order], value[order]
        place = np.arange(len(query)) - np.searchsorted(query, query)
        keep = place < k
        items[rows.start + query[keep], place[keep]] = item[keep]
        scores[rows.start + query[keep], place[keep]] = value[keep]
    return items, scores


def best(score: np.ndarray, k: int, asker: np.uint64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The k best of one row of scores, best first, in the order that `top` gives: items (n,) int64 and scores (n,), n <= k.

    score: (I,) float32, -inf for what may not be recommended. asker: `who` of the query.
    """
    item = np.flatnonzero(score >= _floor(score[None, :], k)[0])
    value = score[item]
    if len(item) > 4 * k:  # blocks whose maxima tie, or are far apart
        kth = np.partition(value, len(item) - k)[len(item) - k]
        item, value = item[value >= kth], value[value >= kth]
    order = np.argsort(-value, kind="stable")
    first = value[order[: k + 1]]
    if (first[1:] == first[:-1]).any():
        order = np.lexsort((_tie_key(seed, asker, item), -value))
    order = order[:k]
    return item[order], value[order]


BLOCK = 64  # items whose maximum stands for them in `_floor`


def _floor(score: np.ndarray, k: int) -> np.ndarray:
    """A number for each row that its k best are not below, and few others are not. (B, I) -> (B,)

    The k-th largest of the maxima of many blocks of items is at most the k-th largest score: one pass over maxima finds it.
    Masked items are -inf; the smallest finite float keeps them out of short lists.
    """
    n, blocks = score.shape[1], score.shape[1] // BLOCK
    floor = np.float32(np.finfo(np.float32).min)
    if k >= n:
        return np.full(len(score), floor)
    if blocks > 2 * k:
        maxima = score[:, : blocks * BLOCK].reshape(len(score), blocks, BLOCK).max(axis=2)
        kth = np.partition(maxima, blocks - k, axis=1)[:, blocks - k]
    else:
        kth = np.partition(score, n - k, axis=1)[:, n - k]
    return np.maximum(kth, floor)


def _blocks(
    scorer: Scores, queries: Queries, mask: sparse.csr_matrix | None, only: np.ndarray | None, block: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of scores with -inf where an item cannot be recommended."""
    for start in range(0, len(queries), block):
        rows = slice(start, min(start + block, len(queries)))
        score = finite(scorer, queries.take(rows))
        if score.base is not None or not score.flags.writeable:
            score = score.copy()
        if mask is not None:
            part = mask[rows]
            score[np.repeat(np.arange(len(score)), np.diff(part.indptr)), part.indices] = -np.inf
        if only is not None:
            score[:, ~only] = -np.inf
        yield rows, score


def finite(scorer: Scores, queries: Queries) -> np.ndarray:
    """(B, I) float32. Raises Diverged on NaN or infinity."""
    score = np.ascontiguousarray(scorer.score(queries), np.float32)
    # A sum is NaN or infinite as soon as any score is, and costs no temporary.
    with np.errstate(over="ignore", invalid="ignore"):
        total = score.sum()
    if not np.isfinite(total) and not np.isfinite(score).all():
        raise Diverged(
            "the model scored NaN or infinity. Train again with a smaller step:  --set training.learning_rate=0.0001"
        )
    return score


def _compared(
    score: np.ndarray, query: np.ndarray, item: np.ndarray, own: np.ndarray, who: np.ndarray, seed: int
) -> np.ndarray:
    """1 + items above + tied items whose random key is smaller. (M,)"""
    rank = np.empty(len(query), np.int64)
    step = 1024  # held-out pairs compared at a time, so that one user with a thousand of them needs no more memory
    for at in range(0, len(query), step):
        part = slice(at, at + step)
        rows = score[query[part]]
        above = _row_sums(rows > own[part, None])
        equal = rows == own[part, None]
        tied = np.flatnonzero(_row_sums(equal) > 1)
        if len(tied):
            pair, other = np.nonzero(equal[tied])
            asker = who[query[part][tied]]
            mine = _tie_key(seed, asker, item[part][tied])
            before = _tie_key(seed, asker[pair], other) < mine[pair]
            above[tied] += np.bincount(pair, weights=before, minlength=len(tied)).astype(np.int64)
        rank[part] = 1 + above
    return rank


def _row_sums(flags: np.ndarray) -> np.ndarray:
    """Count of True in each row; a uint8 sum with a narrow accumulator is several times faster than on bool."""
    narrow = np.uint16 if flags.shape[1] < 65_536 else np.uint32
    return flags.view(np.uint8).sum(axis=1, dtype=narrow).astype(np.int64)


def who(queries: Queries) -> np.ndarray:
    """A number for each query in the tie key: the user's row, or a hash of the history for strangers. (B,) uint64

    So a stranger's list is the same whoever else is asked about in the same call.
    """
    row = queries.users.astype(np.uint64)
    if (queries.users >= 0).all():
        return row
    each = _tie_key(1, np.uint64(0), queries.history_items)
    starts = queries.history_starts
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])  # wraps, and back again
    return np.where(queries.users >= 0, row, sums[starts[1:]] - sums[starts[:-1]])


def _tie_key(seed: int, user: np.ndarray | np.uint64, item: np.ndarray) -> np.ndarray:
    """splitmix64 of (seed, user, item). (n,) uint64"""
    with np.errstate(over="ignore"):
        x = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + item.astype(np.uint64)
        x = (x ^ np.uint64(seed * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF)) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
