"""Interests: a few vectors for someone who was not trained on, from the vectors of her items."""

from __future__ import annotations

import numpy as np
from scipy import sparse

__all__ = ["interests"]

STEPS = 10  # of Lloyd's; few histories still change after five


def interests(history: sparse.csr_matrix, item: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors on the unit sphere nearest to her items, min_g sum_i min_c |g_c - v_i|^2: spherical k-means.

    history: (B, I) binary, N choices in all. item: (I, d). Returns the vectors (B, count, d), zero where a history is
    empty, and for each choice the vector it is nearest to (N,). It begins at the item nearest to the mean and goes on to the
    item farthest from what was taken. A vector that no item is nearest to becomes that of her first item once more, which
    changes no distance.
    """
    people, found = history.shape[0], np.zeros((history.shape[0], count, item.shape[1]), np.float32)
    who = np.repeat(np.arange(people), np.diff(history.indptr))  # (N,)
    has = np.flatnonzero(np.diff(history.indptr))
    v = item[history.indices]  # (N, d)
    wanted = _rowwise(v, (history @ item)[who])  # (N,), how much an item asks to be the next vector
    nearest = np.full(len(v), -np.inf, np.float32)
    for c in range(count):
        first = np.lexsort((-wanted, who))[history.indptr[has]]
        found[has, c] = _unit(v[first])
        nearest = np.maximum(nearest, _rowwise(v, found[who, c]))
        wanted = -nearest
    which = np.zeros(len(v), np.int64)
    for _ in range(STEPS):
        which = np.stack([_rowwise(v, found[who, c]) for c in range(count)], axis=1).argmax(axis=1)
        shape, ones = (people * count, len(v)), np.ones(len(v), np.float32)
        summed = sparse.csr_matrix((ones, (who * count + which, np.arange(len(v)))), shape) @ v
        summed = summed.reshape(found.shape)
        moved = _unit(summed)
        spare = moved[has, which[history.indptr[has]]]  # (people with a history, d)
        found[has] = np.where(summed[has].any(axis=-1, keepdims=True), moved[has], spare[:, None])
    return found, which


def _rowwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, d), (n, d) -> (n,)"""
    return np.einsum("nd,nd->n", a, b)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
