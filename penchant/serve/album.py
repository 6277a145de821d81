"""Album: pictures of items, those of the data that a run was made from and those that were put, as small JPEGs."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from penchant.catalog import Pictures
from penchant.data import Ids
from penchant.errors import BadPicture
from penchant.serve.state import State
from penchant.serve.uploads import small

__all__ = ["Album"]

log = logging.getLogger("penchant.serve")
ROOM = 64_000_000  # bytes of small pictures that are kept in memory
SIDES = (160, 320, 640)


class Album:
    """Opened beside: until the data are read, items of training have no picture."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pictures = Pictures.none(Ids("item", ()))
        self.coming = True
        self._put: set[str] = set()
        self._small: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self.version = 0  # grows whenever an item may have got a picture, or another one

    def open(self, pictures: Pictures | None) -> None:
        """Take those of the data that the run was made from; None where they can't be had."""
        with self._lock:
            self.coming = False
            self._pictures = self._pictures if pictures is None else pictures
            self.version += 1
            self._small.clear()
            self._size = 0

    def has(self, key: str) -> bool:
        if key in self._put:
            return True
        pictures = self._pictures
        row = pictures.items.rows_by_key.get(key, -1)
        return row >= 0 and bool(pictures.where[row] >= 0)

    def take(self, put: set[str]) -> None:
        """Items whose pictures the state has, as another run begins."""
        with self._lock:
            self._put = put
            self.version += 1
            self._small.clear()
            self._size = 0

    def put(self, key: str, there: bool) -> None:
        """An item was put, with a picture that the state has, or without; or it was deleted."""
        with self._lock:
            (self._put.add if there else self._put.discard)(key)
            self.version += 1
            for side in SIDES:
                gone = self._small.pop((key, side), None)
                self._size -= len(gone or b"")

    def read(self, key: str, side: int) -> bytes | None:
        """A JPEG of about `side` pixels; None where there is none, or none that can be opened. Raises StateError."""
        side = min(SIDES, key=lambda known: abs(known - side))
        with self._lock:
            version, pictures = self.version, self._pictures
            found = self._small.get((key, side))
            if found is not None:
                self._small.move_to_end((key, side))
                return found
        raw = self._state.picture(key) if key in self._put else None
        if raw is None:
            row = pictures.items.rows_by_key.get(key, -1)
            try:
                raw = pictures.read(row) if row >= 0 else None
            except OSError as error:
                log.warning("a picture can't be read: %s", error)
        if raw is None:
            return None
        try:
            made = small(raw, side)
        except BadPicture:
            return None
        with self._lock:
            if version != self.version:  # another picture may have been put meanwhile
                return made
            self._size += len(made) - len(self._small.get((key, side), b""))
            self._small[key, side] = made
            while self._size > ROOM and self._small:
                _, old = self._small.popitem(last=False)
                self._size -= len(old)
        return made
