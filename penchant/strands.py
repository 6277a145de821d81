"""Strands: linear item-to-item readings of choices and features, each in closed form, that `weave` weighs against each other.

Every one is a matrix B (I, I); a history x, binary, gives the scores x B. With X the choices in train, D_u and D_i the
numbers of choices of users and items, F features of length 1 and centred:

ease L       argmin ||X - XB||^2 + L ||B||^2, diag(B) = 0 (Steck, WWW 2019, eq. 8); "features": F' under X, times `alpha`
ease even    the same of D_u^-1/2 X, so that people with many choices count no more than others
walk K       D_i^-a S^K D_i^o, S = D_i^-1/2 X' D_u^-1 X D_i^-1/2: K steps item - person - item (a = o = 1/2 makes them
             probabilities, as in Cooper et al., "Random walks in recommender systems", WWW 2014); a step back to the item
             itself is left out but where it says "staying"
low R        D_i^-1/4 V V' D_i^1/2, V the R largest singular vectors of D_u^-1/2 X D_i^-1/2, an ideal low-pass filter of the
             graph (Shen et al., "How powerful is graph convolution for recommendation?", CIKM 2021)
NAME         w w' of whitened features called NAME, and f f' of them as they are
model NAME   F V' of a factor model fitted to train: V its vectors of items, F those that a history is folded in by
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from scipy import sparse
from scipy.linalg import blas, lapack

from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features, whitened, whitening
from penchant.intakes import Linear, solved
from penchant.scorers import ItemToItem

__all__ = [
    "GATES",
    "RANKS",
    "Pairs",
    "Strands",
    "content",
    "ease",
    "ease_and_pivot",
    "even_l2",
    "largest",
    "low",
    "power",
    "taken",
]

Pairs = dict[str, tuple[np.ndarray, np.ndarray]]
"""Products B = first second', (I, r) each, by name."""

RANKS = (32, 64, 128, 256)
GATES = ((0.25, 0.5), (0.5, 0.0))  # a and o of walks


class Strands:
    """All of them, and their weighted sum. Memory: nine or ten tables I x I in single precision; time: about ten I^3.

    factors: F and V, (I, d) each, of factor models by their names.
    """

    def __init__(
        self,
        train: Interactions,
        features: Mapping[str, Features],
        l2: tuple[float, ...],
        alpha: float,
        factors: Pairs | None = None,
    ) -> None:
        x = train.matrix()
        people, often = np.diff(x.indptr), np.bincount(x.indices, minlength=len(train.items))
        even = sparse.diags(power(people, -0.5)) @ x
        plain, evened = x.T @ x, even.T @ even
        f = {name: part.centred().unit().values for name, part in features.items()}
        self.tables = {f"ease {value:g}": ease(plain, value) for value in l2}  # (I, I) each
        self.pivot, self.f, self.whitening = np.zeros(0, np.float32), f, {name: whitening(features[name]) for name in f}
        self.l2, self.alpha = l2[0], alpha
        if f:
            under = (alpha * part for part in f.values())
            self.tables["ease features"], self.pivot = ease_and_pivot(plain, l2[0], under)
        self.tables["ease even"] = ease(evened, even_l2(evened))
        half = sparse.diags(power(often, -0.5))
        s = (half @ evened @ half).toarray()
        v, _ = largest(lambda q: s @ q, len(s), max(RANKS))  # (I, R)
        two = s @ s
        self.walks = {"staying 2": (two, 0.5, 0.5), "staying 4": (two @ two, 0.5, 0.5)}
        np.fill_diagonal(s, 0)
        two = s @ s
        for steps, walk in enumerate((s, two, two @ s), 1):
            self.walks |= {f"walk {steps} ({a:g}, {o:g})": (walk, a, o) for a, o in GATES}
        self.often = often
        self.products = low(v, often) | content(features, factors or {})
        self.names = (*self.tables, *self.walks, *self.products)

    def scores(self, x: sparse.csr_matrix) -> np.ndarray:
        """Of histories (B, I), by every strand. (K, B, I)"""
        found = [x @ table for table in self.tables.values()]
        for walk, a, o in self.walks.values():
            found.append((x @ sparse.diags(power(self.often, -a)) @ walk) * power(self.often, o))
        found += [(x @ first) @ second.T for first, second in self.products.values()]
        return np.stack(found).astype(np.float32, copy=False)

    def woven(self, weights: Mapping[str, float]) -> np.ndarray:
        """The sum of strands times weights. (I, I)"""
        w = {name: np.float32(weight) for name, weight in weights.items()}
        total = np.zeros_like(next(iter(self.tables.values())))
        for name, table in self.tables.items():
            total += w[name] * table
        for name, (walk, a, o) in self.walks.items():
            total += (w[name] * power(self.often, -a))[:, None] * walk * power(self.often, o)
        for name, (first, second) in self.products.items():
            total += (w[name] * first) @ second.T
        return total

    def scorer(self, weights: Mapping[str, float]) -> ItemToItem:
        return ItemToItem(self.woven(weights), self.intake(weights))

    def intake(self, weights: Mapping[str, float]) -> Linear | None:
        """Columns of new items, so weighted; None without features. All other strands know nothing of them, and are 0."""
        if not self.f:
            return None
        b, w = self.tables["ease features"], {name: float(weight) for name, weight in weights.items()}
        inverse = {name: self.alpha**2 * solved(b, self.pivot, part) for name, part in self.f.items()}
        as_is, white = ({name: np.asarray(w[f"{name}{end}"]) for name in self.f} for end in (" as is", ""))
        return Linear(w["ease features"], self.alpha, self.l2, self.pivot, inverse, as_is, white, self.whitening)


def low(v: np.ndarray, often: np.ndarray) -> Pairs:
    """Low-pass filters of each rank in RANKS that there is."""
    left, right = power(often, -0.25)[:, None] * v, power(often, 0.5)[:, None] * v
    return {f"low {r}": (left[:, :r], right[:, :r]) for r in RANKS if r <= v.shape[1]}


def content(features: Mapping[str, Features], factors: Pairs) -> Pairs:
    """What features and factor models say."""
    found: Pairs = {}
    for name, part in features.items():
        w, rows = whitened(part), part.centred().unit().values
        found |= {name: (w, w), f"{name} as is": (rows, rows)}
    return found | {f"model {name}": pair for name, pair in factors.items()}


def taken(l2: tuple[float, ...], backbone: str | None) -> set[str]:
    """Names of strands and fibres that are not of features."""
    walks = {f"walk {steps} ({a:g}, {o:g})" for steps in (1, 2, 3) for a, o in GATES}
    graphs = {f"{what} {steps}" for what in ("staying", "slow") for steps in (2, 4)} | {f"low {r}" for r in RANKS}
    eases = {"ease features", "ease even", *(f"ease {value:g}" for value in l2)}
    return walks | graphs | eases | ({f"model {backbone}"} if backbone else set())


def even_l2(evened: sparse.csr_matrix) -> float:
    """Of `ease even`: a hundred times what an item has on the diagonal."""
    return 100 * max(float(evened.diagonal().mean()), 1e-12)


def power(count: np.ndarray, exponent: float) -> np.ndarray:
    """count ** exponent, 0 where there is none. float32"""
    return np.where(count > 0, np.maximum(count, 1) ** exponent, 0).astype(np.float32)


def ease(gram: sparse.csr_matrix, l2: float, features: Iterable[np.ndarray] = (), precise: bool = False) -> np.ndarray:
    """B of `ease_and_pivot`."""
    return ease_and_pivot(gram, l2, features, precise)[0]


def ease_and_pivot(
    gram: sparse.csr_matrix, l2: float, features: Iterable[np.ndarray] = (), precise: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """B of EASE from X'X, and F (I, d) if any stand under X: B_ij = -P_ij / P_jj, P = (X'X + FF' + l2 I)^-1; and
    the diagonal of P. (I, I), (I,) float32

    By an in-place Cholesky inverse: one table I x I besides the result. precise: in double precision.
    """
    p = np.zeros(gram.shape, np.float64 if precise else np.float32, order="F")
    coo = gram.tocoo()
    p[coo.row, coo.col] = coo.data
    grow = blas.get_blas_funcs("syrk", (p,))
    for f in features:
        p = grow(1.0, f.astype(p.dtype), beta=1.0, c=p, lower=1, overwrite_c=1)  # in place, lower half
    p[np.diag_indices(len(p))] += l2
    factorise, invert = lapack.get_lapack_funcs(("potrf", "potri"), (p,))
    p, bad = factorise(p, lower=1, overwrite_a=1)
    if bad:
        raise BadSetting("ease: the Gram matrix is not positive definite; choose a larger l2")
    p, _ = invert(p, lower=1, overwrite_c=1)
    diagonal = np.diagonal(p).copy()
    b = np.empty(p.shape, np.float32)
    for start in range(0, len(p), 1024):  # blocks, because only the lower half of p is filled
        rows = slice(start, start + 1024)
        below = np.tril(p[rows], k=start) + np.triu(p[:, rows].T, k=start + 1)
        b[rows] = below / -diagonal
    b[np.diag_indices(len(b))] = 0
    return b, diagonal.astype(np.float32)


def largest(
    times: Callable[[np.ndarray], np.ndarray], size: int, rank: int, rounds: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors of a positive matrix by falling eigenvalue, and these, by subspace iteration from seeded noise. (I, R), (R,)

    times: the matrix, of `size` rows, times (I, r). Halko, Martinsson & Tropp, "Finding structure with randomness", SIAM
    Review 2011, algorithm 4.4.
    """
    rank = min(rank, size)
    wide = min(rank + 32, size)
    q = np.random.default_rng(0).standard_normal((size, wide)).astype(np.float32)
    for _ in range(rounds):
        q, _ = np.linalg.qr(times(q))
    values, turn = np.linalg.eigh(q.T @ times(q))
    return np.ascontiguousarray((q @ turn[:, ::-1])[:, :rank]), np.maximum(values[::-1][:rank], 0)
