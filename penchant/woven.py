"""Woven: how much each strand counts, chosen on the valid part by ranking what was held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import minimize

from penchant import metrics
from penchant.fibres import Fibres
from penchant.strands import Strands

__all__ = ["FEW", "Rivals", "chosen", "rivals"]

NEAR = 60  # of each strand's best items compete for a user
MOST_SCORES = 100_000_000  # that are held at once
FEW = 5000  # users who are asked
BAGS = 5
RIDGE = 0.3  # on weights, in softmax
STRIDES = (0.5, 0.25, 0.1)  # of the largest weight, that a step of the climb is long
GAIN = 1e-5  # of the metric, that a step must bring


class Rivals(NamedTuple):
    """What the strands say of the items that compete for each user: the best of each strand's.

    scores: (K, B, C), divided by `scale`, (K,), a strand's standard deviation. gap: (B, C), 0, or minus much where a user has
    fewer rivals. query, column: (M,) where held-out items stand; column -1: not among the rivals. items: how many there are.
    """

    scores: np.ndarray
    scale: np.ndarray
    gap: np.ndarray
    query: np.ndarray
    column: np.ndarray
    items: int


def rivals(strands: Strands | Fibres, x: sparse.csr_matrix, held: sparse.csr_matrix, block: int = 256) -> Rivals:
    """x: histories, held: what was held out. (B, I) each"""
    block = min(block, max(MOST_SCORES // (len(strands.names) * x.shape[1]), 1))
    parts, square, mean = [], np.zeros(len(strands.names)), np.zeros(len(strands.names))
    for start in range(0, x.shape[0], block):
        some, missing = x[start : start + block], held[start : start + block]
        s = strands.scores(some)  # (K, b, I)
        mean += s.mean(axis=2, dtype=np.float64).sum(axis=1)
        square += np.square(s).mean(axis=2, dtype=np.float64).sum(axis=1)
        near = min(NEAR, s.shape[2])
        compete = np.zeros(s.shape[1:], bool)
        known = some.toarray() > 0
        for one in s:
            top = np.argpartition(np.where(known, -np.inf, one), -near, axis=1)[:, -near:]
            np.put_along_axis(compete, top, True, axis=1)
        compete &= ~known
        width = max(int(compete.sum(axis=1).max()), 1)
        index = np.argsort(~compete, axis=1, kind="stable")[:, :width]
        there = np.take_along_axis(compete, index, axis=1)
        place = np.full(compete.shape, -1, np.int32)
        np.put_along_axis(place, index, np.where(there, np.arange(width, dtype=np.int32), -1), axis=1)
        query = np.repeat(np.arange(len(compete)), np.diff(missing.indptr))
        parts.append((np.take_along_axis(s, index[None], axis=2), there, start + query, place[query, missing.indices]))
    width = max(there.shape[1] for _, there, _, _ in parts)
    scores = np.concatenate([np.pad(s, ((0, 0), (0, 0), (0, width - s.shape[2]))) for s, _, _, _ in parts], axis=1)
    there = np.concatenate([np.pad(t, ((0, 0), (0, width - t.shape[1]))) for _, t, _, _ in parts])
    mean, square = mean / x.shape[0], square / x.shape[0]
    spread = np.maximum(square - mean**2, 0)
    # A strand that is silent here, but may not be where it is used, gets no weight.
    scale = np.where(spread > 1e-20, np.sqrt(spread), np.inf).astype(np.float32)
    scores /= scale[:, None, None]
    gap = np.where(there, 0, -1e9).astype(np.float32)
    query, column = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
    return Rivals(scores, scale, gap, query, column, x.shape[1])


def chosen(found: Rivals, select: str, seed: int = 0) -> np.ndarray:
    """Weights of the strands, as they are divided by `scale`. (K,)

    The mean of what BAGS draws of two thirds of the users choose (bagging, Breiman 1996): one choice follows the accidents of
    its users, and with a few hundred of them that costs more than it gains.
    """
    rng, users, total = np.random.default_rng(seed), len(found.gap), np.zeros(len(found.scores))
    for _ in range(BAGS):
        weights = _climbed(_of(found, np.sort(rng.choice(users, max(users * 2 // 3, 1), replace=False))), select)
        total += weights / max(float(np.linalg.norm(weights)), 1e-12)
    return total / BAGS


def _of(found: Rivals, rows: np.ndarray) -> Rivals:
    """The same for some of the users."""
    at = np.full(len(found.gap), -1)
    at[rows] = np.arange(len(rows))
    there = at[found.query] >= 0
    return found._replace(
        scores=np.ascontiguousarray(found.scores[:, rows]),
        gap=found.gap[rows],
        query=at[found.query[there]],
        column=found.column[there],
    )


def _climbed(found: Rivals, select: str) -> np.ndarray:
    """Softmax over the rivals, which is convex, says where to begin, or the best single strand does. From there each weight
    is moved up or down while the metric rises, in ever smaller steps (coordinate ascent, Metzler & Croft 2007). (K,)
    """
    single = np.eye(len(found.scores))[int(np.argmax([_value(found, s + found.gap, select) for s in found.scores]))]
    starts = [(w, np.tensordot(w.astype(np.float32), found.scores, 1) + found.gap) for w in (_softmax(found), single)]
    values = [_value(found, mixed, select) for _, mixed in starts]
    best = max(values)
    weights, mixed = starts[values.index(best)]
    unit = max(float(np.abs(weights).max()), 1e-6)
    for stride in STRIDES:
        for _ in range(2):
            before = best
            for k, own in enumerate(found.scores):
                for step in (stride * unit, -stride * unit):
                    tried = mixed + np.float32(step) * own
                    reached = _value(found, tried, select)
                    if reached > best + GAIN:
                        best, mixed = reached, tried
                        weights[k] += step
                        break
            if best == before:
                break
    return weights


def _softmax(found: Rivals) -> np.ndarray:
    """argmin of -mean over users of log softmax of held-out items, + RIDGE ||w||^2. (K,)"""
    inside = found.column >= 0
    query, column = found.query[inside], found.column[inside]
    share = 1 / np.maximum(np.bincount(found.query, minlength=len(found.gap)), 1).astype(np.float32)  # (B,)
    own = (found.scores[:, query, column] * share[query]).sum(axis=1)  # (K,)
    mass = np.bincount(query, minlength=len(share)).astype(np.float32) * share  # (B,)
    users = max(len(np.unique(found.query)), 1)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        s = np.tensordot(w.astype(np.float32), found.scores, 1) + found.gap
        top = s.max(axis=1, keepdims=True)
        e = np.exp(s - top)
        z = e.sum(axis=1, keepdims=True)
        value = float((mass * (np.log(z) + top)[:, 0]).sum() - w @ own) / users
        gradient = np.tensordot(found.scores, mass[:, None] * e / z, 2) - own
        return value + RIDGE * float(w @ w), gradient.astype(np.float64) / users + 2 * RIDGE * w

    return minimize(loss, np.full(len(own), 0.3), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x


def _value(found: Rivals, s: np.ndarray, select: str) -> float:
    """The metric of these scores of rivals; what is not among them comes last. s: (B, C)"""
    own = s[found.query, np.maximum(found.column, 0)][:, None]
    others = s[found.query]
    inside = found.column >= 0
    missing = np.zeros(s.shape, bool)
    missing[found.query[inside], found.column[inside]] = True
    tied = (others == own) & ~missing[found.query]
    rank = 1 + (others > own).sum(axis=1) + tied.sum(axis=1) // 2  # half of those it ties with are before it
    rank = np.where(found.column >= 0, rank, found.items)
    order = np.lexsort((rank, found.query))
    query, rank = found.query[order].astype(np.int64), rank[order]
    nth = np.arange(len(query)) - np.searchsorted(query, query)  # two of one user cannot have one place
    far = query * (2 * found.items + len(query))
    rank = np.maximum.accumulate(rank - nth + far) - far + nth
    room = np.full(len(found.gap), 2 * found.items + len(query))
    return float(np.nanmean(metrics.per_user([select], query, rank, len(found.gap), room)[select]))
