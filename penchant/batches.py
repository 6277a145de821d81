"""Batches: what a loss is given. Vectorised samplers; an epoch is drawn at once.

Every sampler is a function of (train, generator), so an epoch can be drawn again from its seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from penchant.data import Interactions

__all__ = ["Pairs", "Triples"]


@dataclass(frozen=True, eq=False)
class Triples:
    """A user, an item she chose, an item she did not. (B,) int64 each; negative may be (B, n)."""

    user: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor

    def __len__(self) -> int:
        return len(self.user)

    @property
    def items(self) -> torch.Tensor:
        """Positive and negatives side by side, so that one look-up (and one gradient) serves both. (B, 1 + n)"""
        return torch.cat([self.positive[:, None], self.negative.reshape(len(self), -1)], dim=1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Train pairs that triples are drawn from: each once an epoch, shuffled, with uniform negatives.

    Negatives are uniform over all items and never in the user's train history; users who chose every item are left out.
    """

    train: Interactions

    @cached_property
    def keys(self) -> np.ndarray:
        """Sorted user * items + item of all train pairs. (N,) int64"""
        return np.sort(self.train.user.astype(np.int64) * len(self.train.items) + self.train.item)

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of train whose user has something left to be a negative."""
        degree = np.bincount(self.train.user, minlength=len(self.train.users))
        return np.flatnonzero(degree[self.train.user] < len(self.train.items))

    def negatives(self, user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One item per entry of `user` that is not in her history. Same shape as `user`."""
        items = len(self.train.items)
        drawn = rng.integers(0, items, size=user.shape)
        flat, base = drawn.reshape(-1), user.reshape(-1).astype(np.int64) * items
        wrong = np.arange(flat.size)
        while len(wrong):
            key = base[wrong] + flat[wrong]
            at = np.searchsorted(self.keys, key)
            hit = self.keys[np.minimum(at, len(self.keys) - 1)] == key
            wrong = wrong[hit]
            flat[wrong] = rng.integers(0, items, size=len(wrong))
        return drawn

    def epoch(self, rng: np.random.Generator, batch_size: int, negatives: int = 1) -> Iterator[Triples]:
        """All pairs in random order, in batches; the last one may be smaller."""
        order = rng.permutation(self.rows)
        user, item = self.train.user[order].astype(np.int64), self.train.item[order].astype(np.int64)
        wide = user if negatives == 1 else np.repeat(user[:, None], negatives, axis=1)
        drawn = self.negatives(wide, rng)
        columns = [torch.from_numpy(column) for column in (user, item, drawn)]
        for start in range(0, len(order), batch_size):
            yield Triples(*(column[start : start + batch_size] for column in columns))
