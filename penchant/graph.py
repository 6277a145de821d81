"""Graph: weighted edges between users and items, or items and items; its makers and what can be done to one.

Makers: `bipartite` (who chose what), `knn` (alike in features), `jaccard` (chosen by the same people).
Changes, each giving a new Graph: `denoise`, `blend`, `normalise`, `drop_edges`. `add_noise` disturbs interactions.
No step ever holds an items x items table: rows are treated in blocks and only the k best of each are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import sparse

from penchant.data import Ids, Interactions
from penchant.errors import BadSetting, BadTable, Misaligned
from penchant.features import Features, nearest

__all__ = ["Graph", "add_noise", "best", "bipartite", "blend", "denoise", "drop_edges", "jaccard", "knn", "normalise"]

MOST_PAIRS = 4_000_000  # pairs of items that `jaccard` counts at a time, about 200 MB


@dataclass(frozen=True, eq=False)
class Graph:
    """matrix[i, j] is the weight of the edge from rows.keys[i] to cols.keys[j]. (len(rows), len(cols)) csr float32

    A stored entry is an edge, even of weight 0. interactions: hashes of the Interactions that the edges were read
    from, directly or through features; a graph that saw more than a split's train part leaks.
    Raises Misaligned on a wrong shape, BadTable on NaN or infinity.
    """

    rows: Ids
    cols: Ids
    matrix: sparse.csr_matrix
    interactions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        matrix = sparse.csr_matrix(self.matrix, dtype=np.float32)
        if matrix.shape != (len(self.rows), len(self.cols)):
            raise Misaligned(
                f"a matrix of shape {matrix.shape} for {len(self.rows)} {self.rows.kind}s and {len(self.cols)} "
                f"{self.cols.kind}s; rows and columns must match ids"
            )
        if not np.isfinite(matrix.data).all():
            raise BadTable("edges of a graph weigh NaN or infinity; every weight must be a finite number")
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "interactions", tuple(sorted(set(self.interactions))))

    @property
    def edges(self) -> int:
        return int(self.matrix.nnz)


def bipartite(interactions: Interactions) -> Graph:
    """Users x items, weight 1 where the user chose the item."""
    return Graph(interactions.users, interactions.items, interactions.matrix(), (interactions.hash,))


def knn(features: Features, k: int, threshold: float | None = None, with_self: bool = False, block: int = 256) -> Graph:
    """Each row's k nearest by cosine, weighted by it. Directed: i among the nearest of j says nothing of j for i.

    threshold: only edges with at least this cosine. with_self: the row itself (cosine 1) is one of the k, as in
    MLLMRec; otherwise it is left out. Rows that are gaps or all zero have no edges, in or out. Memory: a few times
    block x n floats.
    """
    _check_k(k)
    unit = features.unit()
    at = np.flatnonzero(unit.present)
    values = unit.values[at]
    others = min(k - with_self, len(at) - 1)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    if with_self and k:
        found.append((at, at, np.ones(len(at), np.float32)))
    if others > 0:
        for rows, index, cosine in nearest(values, others + 1, block=block):
            row = np.arange(rows.start, rows.stop)
            # One more than wanted is asked for. Itself is moved to the end and cut off; where as many copies of the
            # row crowd it out, the farthest is.
            order = np.argsort(index == row[:, None], axis=1, kind="stable")[:, :others]
            near = np.take_along_axis(index, order, axis=1).reshape(-1)
            weight = np.clip(np.take_along_axis(cosine, order, axis=1), -1, 1).reshape(-1)
            found.append((at[np.repeat(row, others)], at[near], weight))
    graph = _gathered(features.ids, found, (features.source.interactions,) if features.source.interactions else ())
    return graph if threshold is None else denoise(graph, threshold)


def jaccard(interactions: Interactions, k: int, block: int = 1024) -> Graph:
    """Each item's k items with the most similar audience, weighted |A n B| / |A u B|; A, B: who chose each item.

    Give it the train part only: what it sees becomes part of the model. Items themselves are left out, other items
    with the same audience are not and weigh 1. Ties go to the lower row. Every weight is above 0.
    block: rows at a time at most; blocks with popular items are smaller, so memory stays bounded.
    """
    _check_k(k)
    chosen = interactions.matrix()  # (U, I)
    audience = chosen.T.tocsr()  # (I, U)
    size = np.diff(audience.indptr)
    work = audience @ np.diff(chosen.indptr).astype(np.float64)  # bounds the pairs that each item can form
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    block = min(block, 1 << 33 - len(size).bit_length())  # what the packed numbers in `best` have room for
    for start, stop in _blocks(np.minimum(work, len(size)), block):
        common = (audience[start:stop] @ chosen).tocsr()
        row = np.repeat(np.arange(start, stop), np.diff(common.indptr))
        col = common.indices
        weight = (common.data / (size[row] + size[col] - common.data)).astype(np.float32)
        other = row != col
        found.append(best(row[other], col[other], weight[other], k))
    return _gathered(interactions.items, found, (interactions.hash,))


def denoise(graph: Graph, threshold: float, binarise: bool = False) -> Graph:
    """Only edges that weigh at least `threshold`; with binarise each of them then weighs 1, as in MLLMRec."""
    kept = _keep(graph, graph.matrix.data >= threshold)
    return _weighted(kept, np.ones(kept.edges, np.float32)) if binarise else kept


def blend(parts: Sequence[tuple[float, Graph]]) -> Graph:
    """Weighted sum of graphs over the same rows and columns. Edges whose sum is 0 are gone.

    Raises Misaligned when the graphs are of different rows or columns, BadSetting without any graph.
    """
    if not parts:
        raise BadSetting("blend needs at least one (weight, graph)")
    first = parts[0][1]
    total = sparse.csr_matrix(first.matrix.shape, dtype=np.float64)
    for weight, graph in parts:
        if graph.rows != first.rows or graph.cols != first.cols:
            raise Misaligned("graphs of different users or items cannot be blended; make both from the same ids")
        if not np.isfinite(weight):
            raise BadSetting(f"blend: a weight is {weight}; weights must be finite numbers")
        total = total + weight * graph.matrix.astype(np.float64)  # a sum of sparse tables stores no zeros
    return Graph(first.rows, first.cols, total, tuple(h for _, graph in parts for h in graph.interactions))


def normalise(graph: Graph, degree: Literal["own", "row"] = "own") -> Graph:
    """D_r^-1/2 M D_c^-1/2: no singular value exceeds 1, so propagating any number of layers cannot blow up.

    degree "own": D_r holds the sums of rows, D_c those of columns (LightGCN's on a bipartite graph). degree "row": the
    sums of rows on both sides, as in MLLMRec, for a graph of items with items; it is the same where M is symmetric, and
    without the bound where it is not. Sums are of absolute weights; an edge at a node whose sum is 0 weighs 0.
    """
    matrix = graph.matrix
    size = np.abs(matrix.data).astype(np.float64)
    row = _row_of_edge(matrix)
    by_row = np.bincount(row, weights=size, minlength=matrix.shape[0])
    if degree == "own":
        by_col = np.bincount(matrix.indices, weights=size, minlength=matrix.shape[1])
    elif degree != "row":
        raise BadSetting(f'normalise: degree is {degree!r}; it may be "own" or "row"')
    elif graph.rows != graph.cols:
        raise BadSetting('normalise by degree = "row" is for a graph of items with items. Choose degree = "own"')
    else:
        by_col = by_row
    left, right = (np.where(d > 0, 1 / np.sqrt(np.where(d > 0, d, 1)), 0) for d in (by_row, by_col))
    return _weighted(graph, matrix.data * left[row] * right[matrix.indices])


def drop_edges(graph: Graph, keep: float, seed: int) -> Graph:
    """Each stored edge stays with probability `keep`; weights are as before, not scaled up (as in RLMRec).

    The two directions of an item-item graph are two edges and fall apart; a bipartite graph holds each pair once.
    """
    if not 0 < keep <= 1:
        raise BadSetting(f"drop_edges: keep is {keep}; it is the share of edges that stays, above 0 and at most 1")
    return _keep(graph, np.random.default_rng(seed).random(graph.edges) < keep)


def add_noise(interactions: Interactions, rate: float, seed: int, avoid: Interactions | None = None) -> Interactions:
    """The interactions, followed by rate * N random pairs of users and items that are not among them.

    Every free pair is equally likely and none is drawn twice. avoid: further pairs that may not be drawn, e.g. the
    held-out parts, so that a split stays disjoint. A false choice gets the time and value of a random true one, a
    random position among the user's own, and no review. The result says what it was grown from, so that texts about the
    true choices can be used with it. Raises BadSetting on a rate outside 0 to 1 or when there are not enough free pairs,
    Misaligned when `avoid` has other users or items.
    """
    if not 0 <= rate <= 1:
        raise BadSetting(f"noise rate is {rate}; it is a share of the interactions, from 0 to 1, e.g. rate = 0.1")
    if avoid is not None and (avoid.users != interactions.users or avoid.items != interactions.items):
        raise Misaligned("add_noise: `avoid` has other users or items than the interactions")
    n, items = len(interactions), len(interactions.items)
    wanted = round(rate * n)
    known = [interactions] if avoid is None else [interactions, avoid]
    taken = np.unique(np.concatenate([part.user.astype(np.int64) * items + part.item for part in known]))
    free = len(interactions.users) * items - len(taken)
    if wanted > free:
        raise BadSetting(
            f"noise rate {rate} asks for {wanted} new pairs, but only {free} are free among {len(interactions.users)} "
            f"users and {items} items. Lower the rate."
        )
    rng = np.random.default_rng(seed)
    # The j-th free pair is pair j plus the taken ones before it; taken[i] - i free ones lie before taken[i].
    drawn = rng.choice(free, wanted, replace=False)
    pair = drawn + np.searchsorted(taken - np.arange(len(taken)), drawn, side="right")
    user, item = pair // items, pair % items
    like = rng.integers(n, size=wanted) if n else np.zeros(0, np.int64)
    own = np.bincount(interactions.user, minlength=len(interactions.users))[user]
    position, review = interactions.position, interactions.review
    false = Interactions(
        interactions.users,
        interactions.items,
        user,
        item,
        None if interactions.time is None else interactions.time[like],
        None if position is None else rng.integers(own + 1).astype(position.dtype),
        None if interactions.value is None else interactions.value[like],
        None if review is None else (None,) * wanted,
    )
    return interactions.grow(false)


def _check_k(k: int) -> None:
    if k < 0:
        raise BadSetting(f"a graph of the k nearest: k is {k}; it must be 0 or more, e.g. 10")


def _blocks(work: np.ndarray, block: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows: at most `block` of them, and about MOST_PAIRS of work unless a single row has more."""
    if not len(work):
        return
    by_rows = np.arange(len(work)) // block
    by_work = np.cumsum(work) // MOST_PAIRS
    cuts = 1 + np.flatnonzero((np.diff(by_rows) != 0) | (np.diff(by_work) != 0))
    yield from zip([0, *cuts.tolist()], [*cuts.tolist(), len(work)], strict=True)


def best(row: np.ndarray, col: np.ndarray, weight: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k heaviest edges of each row; ties to the lower column. Weights lie above 0 and at most at 1.

    Row, falling weight and column are packed into one integer: sorting plain integers is many times faster than a
    sort by three columns. Positive floats are ordered like their bits, and the bits of 1 take 30.
    """
    if not len(row):
        return row, col, weight
    one = np.float32(1).view(np.int32)
    width = int(col.max()).bit_length()
    first = int(row[0])
    key = ((row - first) << 30 | (one - weight.view(np.int32))) << width | col
    key.sort()
    count = np.bincount(key >> 30 + width)
    starts = np.repeat(np.cumsum(count) - count, count)
    key = key[np.arange(len(key)) - starts < k]
    weight = (one - (key >> width & (1 << 30) - 1)).astype(np.int32).view(np.float32)
    return first + (key >> 30 + width), key & (1 << width) - 1, weight


def _gathered(
    ids: Ids, found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], interactions: tuple[str, ...]
) -> Graph:
    """A square graph from lists of (row, column, weight)."""
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    row, col, weight = (np.concatenate(column) for column in zip(none, *found, strict=True))
    return Graph(ids, ids, sparse.csr_matrix((weight, (row, col)), shape=(len(ids), len(ids))), interactions)


def _row_of_edge(matrix: sparse.csr_matrix) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _keep(graph: Graph, edges: np.ndarray) -> Graph:
    """Only the edges where the mask is True. (nnz,) bool"""
    matrix = graph.matrix
    starts = np.concatenate([[0], np.cumsum(edges)])[matrix.indptr]
    kept = sparse.csr_matrix((matrix.data[edges], matrix.indices[edges], starts), shape=matrix.shape)
    return replace(graph, matrix=kept)


def _weighted(graph: Graph, weights: np.ndarray) -> Graph:
    """The same edges with other weights. (nnz,)"""
    matrix = graph.matrix
    return replace(graph, matrix=sparse.csr_matrix((weights, matrix.indices, matrix.indptr), shape=matrix.shape))
