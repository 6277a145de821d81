"""How shoppers choose: utilities, draws without replacement, moments. All in blocks, exact on any machine.

A choice is a draw by softmax of utility. Adding Gumbel noise to every utility and keeping the n largest draws n items
without replacement by that softmax (Kool et al. 2019, arXiv 1903.06059), so no loop over choices is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["OPENED", "Tastes", "Visits", "choose", "visits"]

OPENED = 1_672_617_600  # the shop's first second: 2 January 2023, 00:00 UTC
DAYS = 730

# How much each part of a utility weighs. Fixed once, so that the settings of a world are its noise and its sizes.
BY_MOTIVE, BY_SHELF, BY_QUALITY, BY_PRICE = 3.0, 0.9, 0.5, 0.3
FINE = 8192  # utilities and noise are compared in steps of 1/FINE
BLOCK = 1024  # shoppers at once; memory is about BLOCK x items x 30 bytes. Another block is another world.


@dataclass(frozen=True, eq=False)
class Tastes:
    """What moves each shopper besides motives, and what each product has besides appeal.

    motives: (U, M) weights, rows sum to 1. shelf: (U, C) liking of categories. thrift: (U,) how much a price above the
    usual hurts. category: (I,) int. quality: (I,) what everybody likes about it. dear: (I,) log of price over usual.
    """

    motives: np.ndarray
    shelf: np.ndarray
    thrift: np.ndarray
    category: np.ndarray
    quality: np.ndarray
    dear: np.ndarray

    def utility(self, users: np.ndarray, appeal: np.ndarray) -> np.ndarray:
        """(B, I) float32. Weights and appeal are multiples of 1/256: their product is exact, whatever the order."""
        score = (self.motives[users] @ appeal.T) * np.float32(BY_MOTIVE)
        score += np.float32(BY_SHELF) * self.shelf[users][:, self.category]
        score -= np.float32(BY_PRICE) * self.thrift[users][:, None] * self.dear
        score += np.float32(BY_QUALITY) * self.quality
        return score

    def mean(self, appeal: np.ndarray) -> np.ndarray:
        """What the mean shopper likes. (I,) float32"""
        score = BY_MOTIVE * (appeal @ self.motives.mean(axis=0)) + BY_SHELF * self.shelf.mean(axis=0)[self.category]
        score = score - BY_PRICE * self.thrift.mean() * self.dear + BY_QUALITY * self.quality
        return np.asarray(score, np.float32)


@dataclass(frozen=True, eq=False)
class Visits:
    """One row a choice to be made, by shopper, oldest first.

    shopper: (N,). time: (N,) int64 seconds. late: (N,) bool, after this shopper's motives changed. blind: (N,) bool,
    made at random. changed_at: (U,) int64 the moment of change, -1 for who never changes.
    """

    shopper: np.ndarray
    time: np.ndarray
    late: np.ndarray
    blind: np.ndarray
    changed_at: np.ndarray


def visits(shoppers: int, mean: float, least: int, most: int, noise: float, drift: float, seed: int) -> Visits:
    """When everybody comes. Numbers of choices have a long tail; some choices share a moment (one basket)."""
    rng = np.random.default_rng([seed, 4])
    tail = rng.lognormal(0, 0.55, shoppers)
    count = np.clip(np.round(least + (mean - least) * tail / np.exp(0.55**2 / 2)), least, most).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(count)])
    shopper = np.repeat(np.arange(shoppers), count)
    n = len(shopper)

    joined = rng.random(shoppers) * DAYS * 0.6
    stays = 90 + rng.random(shoppers) * (DAYS - 90 - joined)
    day = np.floor(joined[shopper] + rng.random(n) * stays[shopper])
    # Two bell curves over the day, around noon and in the evening.
    hour = np.where(rng.random(n) < 0.4, 12.5, 20.0) + rng.normal(0, 1.4, n)
    time = OPENED + day.astype(np.int64) * 86_400 + (np.clip(hour, 0, 23.999) * 3600).astype(np.int64)
    time = time[np.lexsort((time, shopper))]

    # A change of motives lies between two fifths and seven tenths of the history.
    changes = rng.random(shoppers) < drift
    first_late = np.where(changes, np.round(count * (0.4 + 0.3 * rng.random(shoppers))).astype(np.int64), count)
    place = np.arange(n) - starts[shopper]
    late = place >= first_late[shopper]
    # A basket: this choice has the moment of the one before, unless the motives change in between.
    alone = (rng.random(n) > 0.15) | (place == 0) | (place == first_late[shopper])
    time = time[np.maximum.accumulate(np.where(alone, np.arange(n), 0))]
    # The moments of a change must tell before from after.
    border = np.flatnonzero(place == first_late[shopper])
    clash = border[time[border] == time[border - 1]]
    if len(clash):
        time = time + (late & np.isin(shopper, shopper[clash]))
    changed_at = np.where(changes, time[np.minimum(starts[:-1] + first_late, n - 1)], -1)
    return Visits(shopper, time, late, rng.random(n) < noise, changed_at)


def choose(visits: Visits, before: Tastes, after: Tastes, appeal: np.ndarray, seed: int) -> np.ndarray:
    """The item of each visit; nobody chooses an item twice. (N,) int64"""
    rng = np.random.default_rng([seed, 5])
    users, items = len(before.motives), len(appeal)
    chosen = np.full(len(visits.shopper), -1, np.int64)
    starts = np.searchsorted(visits.shopper, np.arange(users + 1))
    early = ~visits.late & ~visits.blind
    late = visits.late & ~visits.blind
    for first in range(0, users, BLOCK):
        rows = np.arange(first, min(first + BLOCK, users))
        part = slice(starts[rows[0]], starts[rows[-1] + 1])
        who = visits.shopper[part] - first
        drawn = chosen[part]  # a view: what is written here is written there
        drawn[early[part]] = _draw(before, rows, appeal, who[early[part]], None, rng)
        if late[part].any():
            moved, rank = np.unique(who[late[part]], return_inverse=True)
            old = np.isin(who, moved) & (drawn >= 0)
            taken = (np.searchsorted(moved, who[old]), drawn[old])
            drawn[late[part]] = _draw(after, rows[moved], appeal, rank, taken, rng)
    return _fill_blind(chosen, visits, items, rng)


def _draw(
    tastes: Tastes,
    users: np.ndarray,
    appeal: np.ndarray,
    who: np.ndarray,
    taken: tuple[np.ndarray, np.ndarray] | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """An item for each entry of `who` (sorted rows of `users`), none twice for one user. (len(who),) int64"""
    counts = np.bincount(who, minlength=len(users))
    most = int(counts.max(initial=0))
    if most == 0:
        return np.zeros(0, np.int64)
    items = len(appeal)
    luck = rng.integers(0, 1 << 16, (len(users), items), dtype=np.uint16)
    score = np.rint(tastes.utility(users, appeal) * FINE).astype(np.int64)
    score += _gumbel()[luck]
    # Score and item in one whole number: plain partition is faster than argpartition and breaks ties alike everywhere.
    score *= items
    score += np.arange(items)
    if taken is not None:
        score[taken] = np.iinfo(np.int64).min
    score.partition(items - most, axis=1)
    best = np.sort(score[:, items - most :], axis=1)[:, ::-1] % items
    picked = best[np.arange(most) < counts[:, None]]  # row by row, as `who` is sorted
    # The best come first in `best`, but not in life.
    return picked[np.lexsort((rng.random(len(who)), who))]


def _fill_blind(chosen: np.ndarray, visits: Visits, items: int, rng: np.random.Generator) -> np.ndarray:
    """Items at random for the visits that have none, redrawn until no pair occurs twice."""
    open_rows = np.flatnonzero(chosen < 0)
    while len(open_rows):
        chosen[open_rows] = rng.integers(0, items, len(open_rows))
        pair = visits.shopper * items + chosen
        # Among equal pairs the settled one comes first and stays.
        fresh = np.zeros(len(chosen), bool)
        fresh[open_rows] = True
        order = np.lexsort((fresh, pair))
        again = np.zeros(len(chosen), bool)
        again[order[1:]] = pair[order[1:]] == pair[order[:-1]]
        open_rows = np.flatnonzero(again)
    return chosen


@cache
def _gumbel() -> np.ndarray:
    """65,536 evenly likely values of standard Gumbel noise in steps of 1/FINE. (65536,) int64"""
    chance = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return np.rint(-np.log(-np.log(chance)) * FINE).astype(np.int64)
