"""ItemKnn: items chosen by the same people.

Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001 (cosine form); a constant
under the cosine shrinks pairs with few common users, as is usual in toolkits (Dacrema et al., RecSys 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from penchant.data import Interactions
from penchant.model import Model
from penchant.scorers import ItemToItem

__all__ = ["ItemKnn"]


@dataclass(frozen=True)
class ItemKnn(Model):
    """s_ij = |U_i n U_j| / (sqrt(|U_i| |U_j|) + shrink), the `neighbours` largest per item kept.

    score(u, i) = sum of s_ji over the items j that u chose.
    **Departs from the paper**: shrinkage (0 gives the plain cosine); similarities are summed, where the paper predicts a
    rating and divides by them.
    """

    neighbours: int = 100
    shrink: float = 10.0
    name: ClassVar[str] = "item_knn"

    def build(self, train: Interactions) -> ItemToItem:
        x = train.matrix().tocsc()
        degree = np.sqrt(np.diff(x.indptr)).astype(np.float32)
        rows = [self._block(x, degree, start) for start in range(0, x.shape[1], 1024)]
        # Row i holds the neighbours of i; a history votes along columns, hence the transpose.
        return ItemToItem(sparse.vstack(rows).T.tocsr())

    def _block(self, x: sparse.csc_matrix, degree: np.ndarray, start: int) -> sparse.csr_matrix:
        rows = slice(start, min(start + 1024, x.shape[1]))
        both = (x[:, rows].T @ x).tocsr()  # (b, I) counts of common users
        of = np.repeat(np.arange(rows.start, rows.stop), np.diff(both.indptr))
        both.data = np.where(both.indices == of, 0, both.data / (degree[of] * degree[both.indices] + self.shrink))
        order = np.lexsort((both.indices, -both.data, of))
        place = np.arange(len(of)) - both.indptr[of[order] - rows.start]
        kept = order[(place < self.neighbours) & (both.data[order] > 0)]
        shape = (rows.stop - rows.start, x.shape[1])
        return sparse.csr_matrix((both.data[kept], (of[kept] - rows.start, both.indices[kept])), shape=shape)
