"""Fibres: the strands of `strands` where a table of items x items is too large: sparse, blocked or of low rank.

With S = D_i^-1/2 X' D_u^-1 X D_i^-1/2 and V, E its R largest eigenvectors and eigenvalues, K = `kept`:

ease          items are halved along the graph's slowest directions until at most BLOCK are together; each block is regressed,
              by EASE, on itself and on the BLOCK others that it shares most choices with; of each column the K weights
              that are largest in size are kept
walk 1, 2     of the first step the 2 K likeliest items of each are kept, of the second the K likeliest
slow 2, 4     D_i^-a V E^k V' D_i^o: k steps that may stay, in the graph's slow directions alone
low R, features, models   as in `strands`: they are products of two narrow matrices anyway
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from scipy import sparse

from penchant.data import Interactions
from penchant.features import Features, whitening
from penchant.graph import best
from penchant.strands import GATES, RANKS, Pairs, content, ease, even_l2, largest, low, power
from penchant.thin import Narrow, Thin

__all__ = ["Fibres"]

Kinds = dict[str, tuple[sparse.csr_matrix, float, list[np.ndarray]]]

BLOCK = 2000  # items that are regressed together
PART = 20_000_000  # entries of a sparse table that are sorted at once


class Fibres:
    """All of them, and their weighted sum. Memory: about seven tables of I K entries, a block's EASE, and I (2 R + features).

    kept: K. factors: as for `Strands`.
    """

    def __init__(
        self,
        train: Interactions,
        features: Mapping[str, Features],
        l2: tuple[float, ...],
        alpha: float,
        factors: Pairs,
        kept: int,
    ) -> None:
        self.features, x = features, train.matrix()
        people, often = np.diff(x.indptr), np.bincount(x.indices, minlength=len(train.items))
        even = (sparse.diags(power(people, -0.5)) @ x).tocsr()
        half = (even @ sparse.diags(power(often, -0.5))).tocsr()  # S = half' half
        v, e = largest(lambda q: half.T @ (half @ q), x.shape[1], max(RANKS))
        f = {name: part.centred().unit().values for name, part in features.items()}
        plain, evened = (x.T @ x).tocsr(), (even.T @ even).tocsr()
        blocks = list(_halved(power(often, -0.5)[:, None] * v, np.arange(x.shape[1])))
        kinds: Kinds = {f"ease {value:g}": (plain, value, []) for value in l2}
        if f:
            kinds["ease features"] = (plain, l2[0], [alpha * rows for rows in f.values()])
        kinds["ease even"] = (evened, even_l2(evened), [])
        self.tables = _eases(kinds, plain, blocks, kept)  # csr (I, I) each
        s = (half.T @ half).tocsr()
        s.setdiag(0)
        s.eliminate_zeros()
        one = strongest(s, 2 * kept)
        for steps, step in enumerate((strongest(one, kept), _squared(one, kept)), 1):
            for a, o in GATES:
                gated = sparse.diags(power(often, -a)) @ step @ sparse.diags(power(often, o))
                self.tables[f"walk {steps} ({a:g}, {o:g})"] = gated.tocsr()
        first, last = power(often, -0.5)[:, None] * v, power(often, 0.5)[:, None] * v
        slow = {f"slow {k}": (first * e**k, last) for k in (2, 4)}
        self.products = low(v, often) | slow | content(features, factors)
        self.names = (*self.tables, *self.products)

    def scores(self, x: sparse.csr_matrix) -> np.ndarray:
        """Of histories (B, I), by every strand. (K, B, I)"""
        found = [(x @ table).toarray() for table in self.tables.values()]
        found += [(x @ first) @ second.T for first, second in self.products.values()]
        return np.stack(found).astype(np.float32, copy=False)

    def scorer(self, weights: Mapping[str, float]) -> Thin:
        """The sum of strands times weights."""
        total = sparse.csr_matrix(next(iter(self.tables.values())).shape, dtype=np.float32)
        for name, table in self.tables.items():
            if weights[name]:
                total = total + np.float32(weights[name]) * table
        used = [(np.float32(weights[name]) * a, b) for name, (a, b) in self.products.items() if weights[name]]
        empty = np.zeros((total.shape[0], 0), np.float32)
        left, right = (np.hstack([empty, *(pair[side] for pair in used)]).astype(np.float32) for side in (0, 1))
        return Thin(total.tocsr(), left, right, self.intake(weights))

    def intake(self, weights: Mapping[str, float]) -> Narrow | None:
        """Rows of new items, so weighted; None without features."""
        if not self.features:
            return None
        used = [name for name in self.products if weights[name]]  # side by side in this order
        widths = [self.products[name][0].shape[1] for name in used]
        begins = dict(zip(used, np.cumsum([0, *widths]), strict=False))
        own = [key for name in self.features for key in (name, f"{name} as is") if key in begins]
        turn = {name: whitening(part) for name, part in self.features.items()}
        return Narrow({key: np.asarray(weights[key]) for key in own}, {key: begins[key] for key in own}, turn)


def strongest(matrix: sparse.csr_matrix, kept: int) -> sparse.csr_matrix:
    """Of each row the `kept` largest entries, of equals those that come first. Entries lie above 0 and at most at 1."""
    row, starts = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), [0]
    rows = 1 << 33 - matrix.shape[1].bit_length()  # more do not go into `best`'s integers
    while starts[-1] < matrix.shape[0]:
        most = int(np.searchsorted(matrix.indptr, matrix.indptr[starts[-1]] + PART, side="right")) - 1
        most = min(most, starts[-1] + rows)
        starts.append(max(most, starts[-1] + 1))
    cuts = [slice(matrix.indptr[start], matrix.indptr[stop]) for start, stop in pairwise(starts)]
    parts = [best(row[cut], matrix.indices[cut], matrix.data[cut], kept) for cut in cuts]
    row, col, data = (np.concatenate(column) for column in zip(*parts, strict=True))
    return sparse.csr_matrix((data, (row, col)), shape=matrix.shape)


def _squared(first: sparse.csr_matrix, kept: int, block: int = 1024) -> sparse.csr_matrix:
    """Two steps, of which none leads back at once: the `kept` likeliest ends of each item."""
    rows = [
        strongest((first[start : start + block] @ first).tocsr(), kept) for start in range(0, first.shape[0], block)
    ]
    return sparse.vstack(rows, format="csr")


def _halved(v: np.ndarray, items: np.ndarray) -> Iterator[np.ndarray]:
    """Items in blocks of at most BLOCK, of one size: each is parted at the median of its widest direction in v. (I, R)"""
    if len(items) <= BLOCK:
        yield np.sort(items)
        return
    own = v[items] - v[items].mean(axis=0)
    _, axes = np.linalg.eigh(own.T @ own)
    order = np.argsort(own @ axes[:, -1], kind="stable")
    for half in np.array_split(order, 2):
        yield from _halved(v, items[half])


def _eases(
    kinds: Kinds,
    common: sparse.csr_matrix,
    blocks: list[np.ndarray],
    kept: int,
) -> dict[str, sparse.csr_matrix]:
    """EASE in blocks. common: X'X, by which a block's others are found. kinds: Gram matrix, l2 and features of each."""
    size = common.shape[0]
    found: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in kinds}
    for members in blocks:
        shared = np.asarray(common[members].sum(axis=0)).reshape(-1)
        shared[members] = 0
        others = np.argsort(-shared, kind="stable")[: min(BLOCK, size - len(members))]
        both = np.concatenate([members, others[shared[others] > 0]])
        for name, (gram, l2, f) in kinds.items():
            b = ease(gram[both][:, both], l2, [rows[both] for rows in f])[:, : len(members)]
            most = min(kept, len(both))
            top = np.argpartition(-np.abs(b), most - 1, axis=0)[:most]  # (K, members)
            found[name].append((both[top].ravel(), np.tile(members, most), np.take_along_axis(b, top, axis=0).ravel()))
    tables = {}
    for name, parts in found.items():
        row, col, data = (np.concatenate(column) for column in zip(*parts, strict=True))
        tables[name] = sparse.csr_matrix((data, (row, col)), shape=(size, size))
    return tables
