"""Split: train, valid and test parts over one vocabulary, and the ways to make one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadSetting, BadTable, Misaligned

__all__ = ["PARTS", "Split", "by_ratio", "by_time", "cold_items", "given", "k_core", "leave_last_out"]

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint parts of one data set; all share the same `users` and `items`.

    how: the maker and its settings, for the report. cold: rows of items kept out of train on purpose.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    how: str = ""
    cold: np.ndarray | None = None

    @property
    def users(self) -> Ids:
        return self.train.users

    @property
    def items(self) -> Ids:
        return self.train.items

    def without_test(self) -> Split:
        """What anyone who selects settings may see."""
        return replace(self, test=self.test.take(np.zeros(0, np.int64)))

    def part(self, name: str) -> Interactions:
        if name not in PARTS:
            raise BadSetting(f"no part {name!r} in a split; parts are train, valid, test")
        return getattr(self, name)

    def known(self, parts: Sequence[str]) -> Interactions:
        """The interactions of several parts together."""
        joined = self.part(parts[0]) if parts else self.train.take(np.zeros(0, np.int64))
        for name in parts[1:]:
            joined = joined.join(self.part(name))
        return joined

    def held(self, part: str) -> sparse.csr_matrix:
        """Held-out choices. (U, I) csr, binary"""
        return self.part(part).matrix()

    def queries(
        self, part: str = "test", history: Sequence[str] = ("train",), users: np.ndarray | None = None
    ) -> Queries:
        """Who is asked about in `part` (or these users), with the histories that `history` allows, oldest first.

        Equal timestamps: an earlier part comes first. A user of row -1 has no history. Raises BadSetting when the
        history would contain the part that is asked about.
        """
        asked = self.part(part)
        shown = [name for name in history if name in PARTS and PARTS.index(name) >= PARTS.index(part)]
        if shown:
            raise BadSetting(
                f'history = {list(history)} would show the answers: it contains "{shown[0]}". Leave it out.'
            )
        if users is None:
            users = np.unique(asked.user)
        users = np.asarray(users, np.int64)
        starts, items = self._histories[tuple(history)] if tuple(history) in self._histories else self._history(history)
        lengths = np.where(users >= 0, starts[users + 1] - starts[users], 0)
        new_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.repeat(starts[users] - new_starts[:-1], lengths) + np.arange(new_starts[-1])
        return Queries(users, new_starts, items[at])

    @cached_property
    def _histories(self) -> dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
        return {}

    def _history(self, history: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        known = self.known(history)
        order = known.order()
        if known.time is not None and history:
            # A split has already decided which of several choices at one moment comes last; histories agree with it.
            stage = np.concatenate([np.full(len(self.part(name)), PARTS.index(name)) for name in history])
            order = order[np.lexsort((stage[order], known.time[order], known.user[order]))]
        starts = np.searchsorted(known.user[order], np.arange(len(self.users) + 1))
        self._histories[tuple(history)] = (starts, known.item[order].astype(np.int64))
        return self._histories[tuple(history)]


def given(interactions: Interactions, parts: np.ndarray | None) -> Split:
    """The split that came with the data: 0 train, 1 valid, 2 test.

    Raises BadTable when there is no such column or it holds other values, Misaligned on a wrong number of rows.
    """
    if parts is None:
        raise BadTable(
            'these interactions have no `split` column. Choose another: split = { by = "by_ratio", seed = 0 }'
        )
    parts = np.asarray(parts)
    if len(parts) != len(interactions):
        raise Misaligned(f"the `split` column has {len(parts)} rows for {len(interactions)} interactions")
    odd = np.setdiff1d(np.unique(parts), [0, 1, 2])
    if len(odd):
        raise BadTable(f"the `split` column holds {odd[:3].tolist()}; it may hold 0 (train), 1 (valid), 2 (test)")
    return _parts(interactions, parts, "given")


def leave_last_out(interactions: Interactions, seed: int = 0) -> Split:
    """Each user's last choice is test, the one before valid; users with fewer than three choices are all train.

    Equal timestamps are shuffled with the seed.
    """
    back = _from_end(interactions, seed)
    count = np.bincount(interactions.user, minlength=len(interactions.users))[interactions.user]
    part = np.where((back == 0) & (count >= 3), 2, np.where((back == 1) & (count >= 3), 1, 0))
    return _parts(interactions, part, f"leave_last_out seed={seed}")


def by_ratio(
    interactions: Interactions, ratios: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0, chronological: bool = False
) -> Split:
    """Each user's choices in these shares, at random (seeded) or, if chronological, oldest to train.

    Train gets floor(n * first) but at least one, valid floor(n * second), test the rest; with a share of 0 for test,
    valid gets the rest.
    """
    train, valid, test = _ratios(ratios)
    n = np.bincount(interactions.user, minlength=len(interactions.users))[interactions.user]
    if chronological:
        place = n - 1 - _from_end(interactions, seed)
    else:
        shuffled = np.lexsort((np.random.default_rng(seed).permutation(len(interactions)), interactions.user))
        place = _places(interactions.user, shuffled)
    # Shares are floored with a hair added, so that 0.29 * 100 is 29 and not 28.
    first = np.maximum(np.floor(n * train + 1e-9), 1)
    second = first + np.floor(n * valid + 1e-9) if test else n
    part = np.where(place < first, 0, np.where(place < second, 1, 2))
    kind = "chronological" if chronological else "random"
    return _parts(interactions, part, f"by_ratio {tuple(ratios)} {kind} seed={seed}")


def by_time(interactions: Interactions, ratios: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> Split:
    """Two moments for everybody: what came before the first is train, between them valid, after the second test.

    Raises BadTable without timestamps: an order within each user cannot be compared between users.
    """
    if interactions.time is None:
        raise BadTable('by_time needs a `timestamp` column. Choose another: split = { by = "leave_last_out" }')
    train, valid, _ = _ratios(ratios)
    time = interactions.time
    # Whole moments stay together, so nothing in train is as late as anything held out.
    ordered = np.sort(time)
    n = len(ordered)
    places = (int(n * share + 1e-9) for share in (train, train + valid))
    first, second = (ordered[place] if place < n else np.inf for place in places)
    part = np.where(time < first, 0, np.where(time < second, 1, 2))
    return _parts(interactions, part, f"by_time {tuple(ratios)}")


def cold_items(interactions: Interactions, share: float = 0.1, seed: int = 0) -> Split:
    """A share of the items is unseen in train: half of them is held out for valid, half for test.

    `Split.cold` holds the rows of all cold items. Every interaction with them is held out, the others are train.
    """
    if not 0 < share < 1:
        raise BadSetting(f"cold_items: share is {share}; it must lie between 0 and 1, e.g. share = 0.1")
    seen = np.unique(interactions.item)
    drawn = np.random.default_rng(seed).permutation(seen)[: max(2, round(share * len(seen)))]
    role = np.zeros(len(interactions.items), np.int8)
    role[drawn[: len(drawn) // 2]] = 1
    role[drawn[len(drawn) // 2 :]] = 2
    split = _parts(interactions, role[interactions.item], f"cold_items share={share} seed={seed}")
    return replace(split, cold=np.sort(drawn))


def k_core(interactions: Interactions, k: int = 5) -> Interactions:
    """Only users and items with at least k choices each, found by removing others until none is left to remove.

    Vocabularies shrink to what remains. Raises BadTable when nothing remains.
    """
    keep = np.ones(len(interactions), bool)
    while True:
        user = np.bincount(interactions.user[keep], minlength=len(interactions.users))
        item = np.bincount(interactions.item[keep], minlength=len(interactions.items))
        still = keep & (user[interactions.user] >= k) & (item[interactions.item] >= k)
        if still.sum() == keep.sum():
            break
        keep = still
    if not keep.any():
        raise BadTable(f"the {k}-core is empty: no users and items with {k} choices each. Choose a smaller k.")
    left = interactions.take(keep)
    users, user_rows = np.unique(left.user, return_inverse=True)
    items, item_rows = np.unique(left.item, return_inverse=True)
    return replace(
        left,
        users=Ids("user", tuple(interactions.users.keys[i] for i in users)),
        items=Ids("item", tuple(interactions.items.keys[i] for i in items)),
        user=user_rows.astype(np.int32),
        item=item_rows.astype(np.int32),
    )


def _parts(interactions: Interactions, part: np.ndarray, how: str) -> Split:
    train, valid, test = (interactions.take(part == code) for code in range(3))
    if not len(train):
        raise BadTable(f"the split `{how}` leaves nothing to train on")
    return Split(train, valid, test, how)


def _ratios(ratios: Sequence[float]) -> tuple[float, float, float]:
    if len(ratios) != 3 or not min(ratios) >= 0 or not abs(sum(ratios) - 1) <= 1e-6 or ratios[0] <= 0:
        raise BadSetting(f"ratios = {list(ratios)} must be three shares that add up to 1, e.g. [0.8, 0.1, 0.1]")
    return float(ratios[0]), float(ratios[1]), float(ratios[2])


def _places(user: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Place of each row within its user when rows are visited in `order` (sorted by user). (N,)"""
    sorted_user = user[order]
    starts = np.searchsorted(sorted_user, sorted_user)
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user)) - starts
    return place


def _from_end(interactions: Interactions, seed: int) -> np.ndarray:
    """0 for each user's newest row, 1 for the one before, ... (N,)"""
    n = np.bincount(interactions.user, minlength=len(interactions.users))[interactions.user]
    return n - 1 - _places(interactions.user, interactions.order(seed))
