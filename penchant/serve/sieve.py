"""Sieve: which items a filter lets through, by an index of values that grows with the catalogue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

import numpy as np

from penchant.attributes import PARTS
from penchant.catalog import Catalog
from penchant.errors import BadSetting, UnknownKey
from penchant.serve.wire import Between

__all__ = ["Later", "Sieve", "values_of"]

KEPT = 64  # masks of filters that were asked for lately
SHORT = 50_000  # items of which a mask is made as fast as a thread is woken

Wanted = Between | bool | int | float | str | list[str]


def values_of(field: str, text: str | None) -> list[str]:
    """The values that a text field holds: several where it is a list of categories."""
    found = PARTS.split(text or "") if field == "categories" else [text or ""]
    return [part.strip() for part in found if part.strip()]


class Later(Exception):
    """This mask takes a while to make."""


class Sieve:
    """Rows of items by the values of their fields. Safe to be read while an item is put.

    A text field lets an item through whose value, or one of whose categories, is one of those asked for, whatever the letters'
    case; a number one that is equal, or between. An item without a value is never let through.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._lock = Lock()
        self._size = len(catalog.items)
        self._text: dict[str, dict[str, set[int]]] = {}
        self._columns = {name: column for name, column in catalog.fields.items() if name != "description"}
        self._numbers = {name: column.cast(float, strict=False).to_numpy() for name, column in catalog.numbers.items()}
        self._spelt: dict[str, dict[str, str]] = {}
        self._later: dict[int, dict[str, str | None]] = {}  # rows that were put
        self._masks: OrderedDict[str, np.ndarray] = OrderedDict()

    def _index(self, field: str) -> dict[str, set[int]]:
        """Built when a field is first asked for."""
        if field not in self._text:
            index: dict[str, set[int]] = {}
            self._spelt[field] = {}
            for row, text in enumerate(self._columns[field]):
                if row not in self._later:
                    self._enter(field, index, row, text)
            for row, fields in self._later.items():
                self._enter(field, index, row, fields.get(field))
            self._text[field] = index
        return self._text[field]

    def _enter(self, field: str, index: dict[str, set[int]], row: int, text: str | None) -> None:
        for part in values_of(field, text):
            index.setdefault(part.casefold(), set()).add(row)
            self._spelt[field].setdefault(part.casefold(), part)

    def kind(self, name: str) -> str:
        """ "texts", "numbers", or "" for what no item has."""
        with self._lock:
            return "texts" if name in self._columns else "numbers" if name in self._numbers else ""

    def lacks(self, names: Iterable[str]) -> int:
        """How many columns there would be with these, and 0 where all of them are there already."""
        with self._lock:
            there = self._columns.keys() | self._numbers.keys()
            return len(there.union(names)) if not there.issuperset(names) else 0

    def values(self, field: str, most: int) -> list[tuple[str, int]]:
        """The commonest values of a text field, and how many items have each."""
        with self._lock:
            if field not in self._columns:
                return []
            index = self._index(field)
            best = sorted(((len(rows), value) for value, rows in index.items() if rows), key=lambda v: (-v[0], v[1]))
            return [(self._spelt[field].get(value, value), count) for count, value in best[:most]]

    def mask(self, filters: Mapping[str, Wanted], size: int, wait: bool = True) -> np.ndarray | None:
        """(size,) bool, read-only; None for no filter. wait: False for Later where it can't be told at once. Raises UnknownKey for a
        field that the catalogue has not, BadSetting for a word where numbers are."""
        if not filters:
            return None
        key = repr(sorted(filters.items(), key=lambda f: f[0]))
        if not self._lock.acquire(blocking=wait):
            raise Later
        try:
            found = self._masks.get(key)
            if found is None:
                if not wait and (
                    self._size > SHORT or any(n in self._columns and n not in self._text for n in filters)
                ):
                    raise Later
                found = np.ones(self._size, bool)
                for field, wanted in filters.items():
                    found &= self._one(field, wanted)
                found.flags.writeable = False
                self._masks[key] = found
                if len(self._masks) > KEPT:
                    self._masks.popitem(last=False)
            self._masks.move_to_end(key)
        finally:
            self._lock.release()
        if len(found) < size:  # an item that has come since is not sieved yet
            return np.concatenate([found, np.zeros(size - len(found), bool)])
        return found[:size]

    def put(self, row: int, fields: Mapping[str, str | None], numbers: Mapping[str, bool | int | float | None]) -> None:
        """What the item at this row has now."""
        with self._lock:
            if row >= self._size:
                self._numbers = {n: _longer(c, row + 1) for n, c in self._numbers.items()}
                self._size = row + 1
            for name in numbers:
                if name not in self._numbers:
                    self._numbers[name] = np.full(self._size, np.nan)
            for name, column in self._numbers.items():
                value = numbers.get(name)
                column = column.copy() if not column.flags.writeable else column
                column[row] = np.nan if value is None else float(value)
                self._numbers[name] = column
            for name in fields:
                if name != "description":
                    self._columns.setdefault(name, ())
            for name, index in self._text.items():
                for part in values_of(name, self._had(name, row)):
                    index.get(part.casefold(), set()).discard(row)
                self._enter(name, index, row, fields.get(name))
            self._later[row] = dict(fields)
            self._masks.clear()

    def _had(self, field: str, row: int) -> str | None:
        if row in self._later:
            return self._later[row].get(field)
        column = self._columns[field]
        return column[row] if row < len(column) else None

    def _one(self, field: str, wanted: Wanted) -> np.ndarray:
        if field in self._numbers:
            return self._number(field, self._numbers[field], wanted)
        if field not in self._columns:
            raise UnknownKey("the catalogue", field, [*self._columns, *self._numbers], "field")
        mask = np.zeros(self._size, bool)
        values: Sequence[object] = wanted if isinstance(wanted, list) else [wanted]
        index = self._index(field)
        for value in values:
            rows = index.get(str(value).strip().casefold())
            if rows:
                mask[np.fromiter(rows, np.int64, len(rows))] = True
        return mask

    @staticmethod
    def _number(field: str, column: np.ndarray, wanted: Wanted) -> np.ndarray:
        if isinstance(wanted, Between):
            low = -np.inf if wanted.min is None else wanted.min
            high = np.inf if wanted.max is None else wanted.max
            return (column >= low) & (column <= high)
        values = []
        for value in wanted if isinstance(wanted, list) else [wanted]:
            try:
                values.append(float(value))
            except ValueError:
                raise BadSetting(
                    f"`{field}` is a column of numbers here, and {str(value)[:40]!r} is none. Give a number, true or false, or "
                    '{"min": 5, "max": 20}'
                ) from None
        return np.isin(column, values)


def _longer(column: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([column, np.full(size - len(column), np.nan)])
