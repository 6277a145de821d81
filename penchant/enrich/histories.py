"""Histories: the rows of a train part by user and by item, newest last, and where its items stand in a catalogue."""

from __future__ import annotations

from collections.abc import Container
from functools import cached_property
from zlib import crc32

import numpy as np

from penchant.data import Ids, Interactions

__all__ = ["Histories"]


class Histories:
    """reviewed: rows of the train part that have a review."""

    def __init__(self, train: Interactions, items: Ids, reviewed: np.ndarray) -> None:
        self.train, self.items, self.reviewed = train, items, reviewed

    def of_user(self, user: int, most: int, among: Container[int] | None = None) -> tuple[np.ndarray, int]:
        """The newest rows of a user, oldest of them first, and how many older ones are left out; of those in `among`."""
        return _newest(self._by_user, user, most, among)

    def of_item(self, row: int, most: int, among: Container[int] | None = None) -> tuple[np.ndarray, int]:
        """The newest rows with a review of a catalogue row, oldest of them first, and how many older ones are left out."""
        return _newest(self._by_item, row, most, among)

    def catalog_rows(self, rows: np.ndarray) -> np.ndarray:
        """Where the items of these train rows stand in the catalogue, -1 for those that do not. (n,) int64"""
        return self._place[self.train.item[rows]]

    @cached_property
    def _place(self) -> np.ndarray:
        return self.items.rows(self.train.items.keys)

    @cached_property
    def _by_user(self) -> tuple[np.ndarray, list[int]]:
        train = self.train
        if train.time is None:
            order = train.order()
        else:
            # Of several choices at one moment the order must not change when others are added, as it does in `order`.
            mixed = np.array([crc32(key.encode("utf-8", "surrogatepass")) for key in train.items.keys])
            order = np.lexsort((train.item, mixed[train.item], train.time, train.user))
        return order, np.searchsorted(self.train.user[order], np.arange(len(self.train.users) + 1)).tolist()

    @cached_property
    def _by_item(self) -> tuple[np.ndarray, list[int]]:
        rows = self.reviewed
        at = self.catalog_rows(rows)
        # A position is an order within one user; between users only moments compare.
        time = self.train.time[rows] if self.train.time is not None else np.arange(len(rows))
        order = np.lexsort((self.train.user[rows], time, at))
        return rows[order], np.searchsorted(at[order], np.arange(len(self.items) + 1)).tolist()


def _newest(
    index: tuple[np.ndarray, list[int]], row: int, most: int, among: Container[int] | None
) -> tuple[np.ndarray, int]:
    order, starts = index
    rows = order[starts[row] : starts[row + 1]]
    if among is not None and len(rows):
        rows = rows[np.array([int(r) in among for r in rows], bool)]
    return rows[max(0, len(rows) - most) :], max(0, len(rows) - most)
