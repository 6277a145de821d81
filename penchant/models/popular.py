"""Popular: what most people chose, for everybody. The least that any model must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from penchant.data import Interactions
from penchant.model import Model
from penchant.scorers import Popularity

__all__ = ["Popular"]


@dataclass(frozen=True)
class Popular(Model):
    """score(u, i) = number of users who chose i in train."""

    name: ClassVar[str] = "popular"

    def build(self, train: Interactions) -> Popularity:
        return Popularity(np.bincount(train.item, minlength=len(train.items)).astype(np.float32))
