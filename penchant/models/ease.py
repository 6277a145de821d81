"""Ease: a linear item-to-item model in closed form, with item features as side information if there are any.

Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019. Features enter as extra rows under the
interaction matrix (Jeunen, Van Balen & Goethals, "Closed-form models for collaborative filtering with side-
information", RecSys 2020, the additive-data form, "EASE with stacked side information").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.intakes import Linear, solved
from penchant.model import Model
from penchant.scorers import ItemToItem
from penchant.strands import ease_and_pivot

__all__ = ["Ease"]

MOST_ITEMS = 30_000  # the item x item matrix in double precision is 7.2 GB there


@dataclass(frozen=True)
class Ease(Model):
    """min_B ||X - XB||^2 + l2 ||B||^2 with diag(B) = 0, X = [interactions; alpha F'] (eq. 3; closed form eq. 8).

    P = (X'X + l2 I)^-1, B_ij = -P_ij / P_jj. F (I, d) are the given features side by side, each centred and scaled to
    unit rows; gaps are zero rows. Memory: two I x I tables, one in double precision. Time: I^3 operations.
    An item that comes after training has the column that fitting with it, chosen by nobody, gives (see `Linear`).
    **Departs from the paper**: none without features.
    """

    l2: float = 200.0
    alpha: float = 20.0
    name: ClassVar[str] = "ease"

    def build(self, train: Interactions, **features: Features) -> ItemToItem:
        items = len(train.items)
        if items > MOST_ITEMS:
            raise BadSetting(
                f"ease holds an items x items table: {items} items are too many (at most {MOST_ITEMS}). Try item_knn."
            )
        x = train.matrix(np.float64)
        f = {name: part.centred().unit().values for name, part in features.items()}
        rows = [self.alpha * part.astype(np.float64) for part in f.values()]
        b, pivot = ease_and_pivot(x.T @ x, self.l2, rows, precise=True)
        if not f:
            return ItemToItem(b)
        inverse = {name: self.alpha**2 * solved(b, pivot, part) for name, part in f.items()}
        return ItemToItem(b, Linear(1.0, self.alpha, self.l2, pivot, inverse))
