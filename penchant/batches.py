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

__all__ = ["Pairs", "Sequences", "Triples", "Windows"]


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
    chosen: negatives are items that somebody chose, so that of what nobody could choose nothing is learned.
    """

    train: Interactions
    chosen: bool = False

    @cached_property
    def pool(self) -> np.ndarray:
        """What negatives are drawn from. (n,) int64"""
        return np.unique(self.train.item).astype(np.int64) if self.chosen else np.arange(len(self.train.items))

    @cached_property
    def keys(self) -> np.ndarray:
        """Sorted user * items + item of all train pairs. (N,) int64"""
        return np.sort(self.train.user.astype(np.int64) * len(self.train.items) + self.train.item)

    @cached_property
    def sated(self) -> np.ndarray:
        """Who chose all of them, so that nothing is left to be a negative. (U,) bool"""
        return np.bincount(self.train.user, minlength=len(self.train.users)) >= len(self.pool)

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of train whose user has something left to be a negative."""
        return np.flatnonzero(~self.sated[self.train.user])

    def negatives(self, user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One item per entry of `user` that is not in her history; -1 where she chose every item. Same shape as `user`."""
        items = len(self.train.items)
        pool = self.pool
        drawn = pool[rng.integers(0, len(pool), size=user.shape)]
        drawn[self.sated[user]] = -1
        flat, base = drawn.reshape(-1), user.reshape(-1).astype(np.int64) * items
        wrong = np.flatnonzero(flat >= 0)
        while len(wrong):
            key = base[wrong] + flat[wrong]
            at = np.searchsorted(self.keys, key)
            hit = self.keys[np.minimum(at, len(self.keys) - 1)] == key
            wrong = wrong[hit]
            flat[wrong] = pool[rng.integers(0, len(pool), size=len(wrong))]
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


@dataclass(frozen=True, eq=False)
class Sequences:
    """Several people's choices end to end, without padding. All (N,) int64.

    item: what is read. row: 0..B-1, whose it is, ascending. at: its place in the row, from 0. place: its place counted so that
    the last of each row has length - 1, which positions are numbered by. target: what is to be told after reading it, -1 for
    nothing. negative: for each target an item that its user chose nowhere in train, where the loss asks for one; -1 where
    there is none.
    """

    item: torch.Tensor
    row: torch.Tensor
    at: torch.Tensor
    place: torch.Tensor
    target: torch.Tensor
    negative: torch.Tensor

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, eq=False)
class Windows:
    """Train histories, oldest first, cut from their newest end into windows of `length` choices.

    shared: how many choices a window repeats of the one before it. With 1 and windows of L + 1, each choice but the first of
    somebody is once the target of the one before it, which is read with up to L - 1 others; no choice of a long history is lost.
    """

    train: Interactions
    length: int
    shared: int = 0

    @cached_property
    def order(self) -> np.ndarray:
        """Rows of train by user, oldest first. (N,)"""
        return self.train.order()

    @cached_property
    def bounds(self) -> np.ndarray:
        """Where each window begins and ends in `order`. (W, 2) int64"""
        n = np.bincount(self.train.user, minlength=len(self.train.users))
        step = self.length - self.shared
        count = np.maximum(-(-(n - self.shared) // step), 0)
        ends = np.repeat(np.cumsum(n), count)
        nth = np.arange(len(ends)) - np.repeat(np.cumsum(count) - count, count)
        end = ends - step * nth
        return np.stack([np.maximum(end - self.length, ends - np.repeat(n, count)), end], axis=1)

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """All windows in random order, `batch_size` at a time: rows of train end to end, lengths, places from 0. (n,), (B,), (n,)"""
        mixed = rng.permutation(len(self.bounds))
        for start in range(0, len(mixed), batch_size):
            first, end = self.bounds[mixed[start : start + batch_size]].T
            size = end - first
            at = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
            yield self.order[np.repeat(first, size) + at], size, at
