"""Features: one vector per user or item, with gaps, and where it came from; align, join, nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from penchant.data import Ids, digest
from penchant.errors import BadTable, Leak, Misaligned, some
from penchant.texts import Provenance

__all__ = ["Features", "align", "join", "nearest", "whitened"]

Missing = Literal["refuse", "mean", "zero"]
LARGEST = 1e15  # squares of larger numbers, added up, leave single precision


@dataclass(frozen=True, eq=False)
class Features:
    """values: (n, dim) float32, rows of gaps are zero and not to be read; present: (n,) bool.

    Raises Misaligned on a wrong number of rows, BadTable on NaN, infinity or a number beyond LARGEST in a present row, or
    where dim is 0.
    """

    ids: Ids
    values: np.ndarray
    present: np.ndarray
    source: Provenance

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, np.float32)
        present = np.asarray(self.present, bool)
        if values.ndim != 2:
            raise Misaligned(f"features must be a table (rows, dim), not an array of shape {values.shape}")
        if len(values) != len(self.ids) or len(present) != len(self.ids):
            raise Misaligned(f"{len(values)} feature rows for {len(self.ids)} {self.ids.kind}s; rows must match ids")
        if not values.shape[1]:
            raise BadTable("features have no columns. Give each row at least one number, or leave them out of [inputs]")
        largest = np.maximum(values.max(axis=1), -values.min(axis=1))  # NaN where there is one
        bad = present & ~(largest <= LARGEST)
        if bad.any():
            keys = [self.ids.keys[i] for i in np.flatnonzero(bad)]
            what = f"numbers beyond {LARGEST:g}" if np.isfinite(largest[bad]).all() else "NaN or infinity"
            raise BadTable(
                f"features hold {what} in {int(bad.sum())} rows, e.g. {some(keys)}. Mend them, or make them gaps: rows "
                "that are NaN throughout in a file, present = False in Python"
            )
        if not present.all() and values[~present].any():  # a copy would undo a memory map, so only where it is needed
            values = values.copy()
            values[~present] = 0
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "present", present)

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    @cached_property
    def hash(self) -> str:
        return digest(self.ids.print, self.values, self.present)

    def unit(self) -> Features:
        """Rows scaled to length 1; all-zero rows become gaps."""
        norm = np.linalg.norm(self.values, axis=1, keepdims=True)
        present = self.present & (norm[:, 0] > 0)
        return replace(self, values=self.values / np.where(norm > 0, norm, 1), present=present)

    def centred(self) -> Features:
        """The mean of the rows that are more than zeros taken off; gaps stay zero, all-zero rows become gaps as in `unit`.

        Vectors that are all the same are zeros afterwards, which `unit` makes gaps: they tell no row from another.
        """
        present = self.present & self.values.any(axis=1)
        mean = self.values[present].mean(axis=0, dtype=np.float64).astype(np.float32) if present.any() else 0
        return replace(self, values=self.values - mean, present=present)

    @property
    def alike(self) -> bool:
        """Whether several rows are present and all of them point the same way: no nearest is nearer than another."""
        unit = self.unit()
        rows = unit.values[unit.present]
        blocks = (rows[start : start + 256] for start in range(0, len(rows), 256))  # the first is mostly enough to know
        return len(rows) > 1 and all(np.abs(block - rows[0]).max(initial=0) < 1e-6 for block in blocks)

    def filled(self, missing: Missing = "mean") -> np.ndarray:
        """(n, dim) float32 without gaps: the mean of the present rows, or zero, stands in.

        Raises Misaligned when missing = "refuse" and there are gaps.
        """
        if missing == "refuse" and not self.present.all():
            keys = [self.ids.keys[i] for i in np.flatnonzero(~self.present)]
            share = len(keys) / len(self.ids)
            raise Misaligned(
                f"features lack {len(keys)} of {len(self.ids)} {self.ids.kind}s ({share:.1%}), e.g. {some(keys)}. "
                'Encode them, or: missing = "mean" | "zero"'
            )
        if missing == "zero" or self.present.all() or not self.present.any():
            return self.values
        return np.where(self.present[:, None], self.values, self.values[self.present].mean(axis=0)).astype(np.float32)


def whitened(features: Features) -> np.ndarray:
    """(t - mean) (C + s I)^-1/2, C the covariance and s = tr(C) / D, the mean variance; gaps are rows of zeros. (n, D) float32

    Without it a few topics would make up most of a product of two rows. The mean square of the rows' lengths is 1.
    """
    centred = features.centred()
    x, count = centred.values.astype(np.float64), max(int(centred.present.sum()), 1)
    spread, axes = np.linalg.eigh(x.T @ x / count)  # C
    spread = np.maximum(spread, 0)
    w = x @ (axes / np.sqrt(spread + spread.mean() + 1e-12))
    size = np.square(w).sum() / count
    return (w / np.sqrt(size if size > 0 else 1)).astype(np.float32)


def align(features: Features, ids: Ids) -> Features:
    """The same vectors in the rows of `ids`; what has no vector becomes a gap, what is not in `ids` is left out.

    Raises Misaligned when kinds differ or no key at all is shared.
    """
    if features.ids == ids:
        return features
    if features.ids.kind != ids.kind:
        raise Misaligned(f"features of {features.ids.kind}s cannot stand in for {ids.kind}s")
    rows = features.ids.rows(ids.keys)
    if len(ids) and (rows < 0).all():
        raise Misaligned(
            f"no {ids.kind} of these interactions has features; ids look like {some(ids.keys[:2])} here and "
            f"{some(features.ids.keys[:2])} there. Were the features made for another catalogue? Rows go by ids: mend them, or "
            "make features of this one:  penchant encode DIR"
        )
    present = (rows >= 0) & features.present[rows]
    return Features(ids, np.where(present[:, None], features.values[rows], 0), present, features.source)


def join(parts: list[Features]) -> Features:
    """Vectors of several kinds side by side; a row is present where any part is, absent parts are zero there.

    What the parts were written from is carried over. Raises Leak when they were written from different interactions.
    """
    first = parts[0]
    aligned = [align(p, first.ids) for p in parts]
    origins = {p.source.interactions for p in aligned} - {None}
    if len(origins) > 1:
        raise Leak(
            f"vectors written from different interactions ({', '.join(o[:8] for o in sorted(map(str, origins)))}) were joined"
        )
    made_by = "external:join" if any(p.source.external for p in aligned) else "join"
    source = Provenance(made_by, tuple(p.hash for p in aligned), next(iter(origins), None))
    present = np.logical_or.reduce([p.present for p in aligned])
    return Features(first.ids, np.concatenate([p.values for p in aligned], axis=1), present, source)


def nearest(
    values: np.ndarray, k: int, queries: np.ndarray | None = None, block: int = 1024
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of (query rows, (b, k) indices, (b, k) inner products), largest first. Memory: block x n floats.

    With queries None every row is a query and includes itself. Equal products are in index order; which of them make the k-th place is arbitrary, but the same in every run.
    """
    queries = values if queries is None else queries
    k = min(k, len(values))
    for start in range(0, len(queries), block):
        rows = slice(start, min(start + block, len(queries)))
        score = queries[rows] @ values.T
        top = np.argpartition(-score, k - 1, axis=1)[:, :k]
        top.sort(axis=1)
        part = np.take_along_axis(score, top, axis=1)
        order = np.argsort(-part, axis=1, kind="stable")
        yield rows, np.take_along_axis(top, order, axis=1), np.take_along_axis(part, order, axis=1)
