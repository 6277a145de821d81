"""Who chose what: Ids, Interactions, Queries, Dataset.

Rows are integers, keys are strings. Everything that has one row per user or item carries the `Ids`
it is aligned with, so that two things are either about the same rows or an error says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

from penchant.errors import BadInput, BadTable, Misaligned, UnknownId, some

if TYPE_CHECKING:
    from penchant.catalog import Catalog
    from penchant.features import Features

__all__ = ["Dataset", "Ids", "Interactions", "Queries", "digest", "no_history"]

Kind = Literal["user", "item", "interaction"]


def digest(*parts: bytes | str | np.ndarray) -> str:
    """sha256 over parts with their lengths, so that ("ab", "c") and ("a", "bc") differ. Hex, 64 characters."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype.str}{part.shape}".encode())
            sha.update(np.ascontiguousarray(part).data)
        else:
            raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            sha.update(str(len(raw)).encode() + b":")
            sha.update(raw)
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class Ids:
    """An ordered vocabulary of user, item or interaction keys; row i is the i-th key. Equal means equal content.

    Raises BadTable on a repeated key, and on one that is no string.
    """

    kind: Kind
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [kind for kind in set(map(type, self.keys)) if not issubclass(kind, str)]
        if wrong:
            key = next(k for k in self.keys if type(k) is wrong[0])
            raise BadTable(
                f"{self.kind} ids are strings, but {key!r} is of type {wrong[0].__name__}. Make them strings:  "
                f'Ids("{self.kind}", tuple(map(str, keys)))'
            )
        if len(self.rows_by_key) != len(self.keys):
            seen: set[str] = set()
            twice = [k for k in self.keys if k in seen or seen.add(k)]  # type: ignore[func-returns-value]
            raise BadTable(f"{self.kind} ids are not unique: {some(twice)}. Keep one row for each.")

    @cached_property
    def rows_by_key(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def print(self) -> str:
        """Hash of kind and keys in order."""
        return digest(self.kind, *self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Ids({self.kind}, {len(self.keys)} keys: {some(self.keys)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ids) and (self is other or self.print == other.print)

    def __hash__(self) -> int:
        return hash(self.print)

    def row(self, key: str) -> int:
        """Row of one key; UnknownId names the nearest known one."""
        try:
            return self.rows_by_key[key]
        except KeyError:
            raise UnknownId(self.kind, key, self.keys) from None

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """Rows of keys, -1 where unknown. (n,) int64. Raises BadInput for one key where a list of them is meant."""
        if isinstance(keys, str):
            raise BadInput(f"{keys!r} is one {self.kind} id, and a list of ids is meant here. Write:  [{keys!r}]")
        get = self.rows_by_key.get
        return np.fromiter((get(key, -1) for key in keys), np.int64, count=len(keys))


@dataclass(frozen=True, eq=False)
class Interactions:
    """N choices of items by users. Columns are aligned; `time` is in seconds, `position` an order within the user.

    user, item: (N,) int32 rows of `users` and `items`. A pair occurs at most once (readers keep the first).
    grown_from: the hash of the interactions that `grow` added to, of which all are still here. No part of `hash`, never
    stored, and lost in any copy (`take`, `join`, `replace`), which may no longer hold them all.
    """

    users: Ids
    items: Ids
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None = None
    position: np.ndarray | None = None
    value: np.ndarray | None = None
    review: tuple[str | None, ...] | None = None
    grown_from: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        n = len(self.user)
        for name in ("item", "time", "position", "value", "review"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise Misaligned(f"interactions: `{name}` has {len(column)} rows, `user` has {n}")
        object.__setattr__(self, "user", np.ascontiguousarray(self.user, np.int32))
        object.__setattr__(self, "item", np.ascontiguousarray(self.item, np.int32))

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def hash(self) -> str:
        """Hash of the content; the order of rows does not matter."""
        order = np.lexsort((self.item, self.user))
        parts: list[bytes | str | np.ndarray] = [self.users.print, self.items.print, self.user[order], self.item[order]]
        for name in ("time", "position", "value"):
            column = getattr(self, name)
            if column is not None:
                parts += [name, np.asarray(column)[order]]
        if self.review is not None:
            parts += ["review", *("\0" if self.review[i] is None else str(self.review[i]) for i in order)]
        return digest(*parts)

    def take(self, rows: np.ndarray) -> Interactions:
        """The interactions at these rows (indices or a boolean mask), same vocabularies."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            time=None if self.time is None else self.time[rows],
            position=None if self.position is None else self.position[rows],
            value=None if self.value is None else self.value[rows],
            review=None if self.review is None else tuple(self.review[i] for i in rows),
        )

    def matrix(self, dtype: type = np.float32) -> sparse.csr_matrix:
        """Binary user x item matrix, columns sorted. (U, I) csr"""
        ones: np.ndarray = np.ones(len(self), dtype)
        shape = (len(self.users), len(self.items))
        matrix = sparse.csr_matrix((ones, (self.user, self.item)), shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def order(self, seed: int = 0) -> np.ndarray:
        """Rows sorted by user, then oldest first. (N,) int64

        Equal timestamps are shuffled with the seed; a `position` is an order and is kept; with neither, rows keep
        the order they came in.
        """
        if self.time is not None:
            shuffled = np.random.default_rng(seed).permutation(len(self))
            return np.lexsort((shuffled, self.time, self.user))
        if self.position is not None:
            return np.lexsort((self.position, self.user))
        return np.argsort(self.user, kind="stable")

    def join(self, other: Interactions) -> Interactions:
        """These and the other's rows together; both must share vocabularies. A column that one lacks is dropped."""
        if self.users != other.users or self.items != other.items:
            raise Misaligned("interactions of different vocabularies cannot be joined")

        def both(name: str) -> np.ndarray | None:
            a, b = getattr(self, name), getattr(other, name)
            return None if a is None or b is None else np.concatenate([a, b])

        review = None if self.review is None or other.review is None else self.review + other.review
        return Interactions(
            self.users,
            self.items,
            np.concatenate([self.user, other.user]),
            np.concatenate([self.item, other.item]),
            both("time"),
            both("position"),
            both("value"),
            review,
        )

    def grow(self, other: Interactions) -> Interactions:
        """As `join`; the result remembers these interactions as those that it was grown from."""
        grown = self.join(other)
        object.__setattr__(grown, "grown_from", self.hash)
        return grown


@dataclass(frozen=True, eq=False)
class Queries:
    """Whom to recommend to, and what may be known of each.

    users: (B,) int64 rows, -1 for someone never seen. history_items: all histories end to end, oldest first;
    history of query b is history_items[history_starts[b]:history_starts[b + 1]].
    """

    users: np.ndarray
    history_starts: np.ndarray
    history_items: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @staticmethod
    def of(users: Sequence[int] | np.ndarray, histories: Sequence[Sequence[int] | np.ndarray]) -> Queries:
        """From one array of item rows per user."""
        lengths = [len(h) for h in histories]
        flat = np.concatenate([np.asarray(h, np.int64) for h in histories]) if sum(lengths) else np.zeros(0, np.int64)
        return Queries(np.asarray(users, np.int64), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), flat)

    @property
    def history(self) -> list[np.ndarray]:
        return [self.history_items[a:b] for a, b in zip(self.history_starts[:-1], self.history_starts[1:], strict=True)]

    def take(self, rows: slice) -> Queries:
        """A contiguous block of queries."""
        start, stop, _ = rows.indices(len(self))
        first, last = self.history_starts[start], self.history_starts[stop]
        return Queries(
            self.users[start:stop], self.history_starts[start : stop + 1] - first, self.history_items[first:last]
        )

    def matrix(self, items: int) -> sparse.csr_matrix:
        """Binary query x item matrix of the histories. (B, items) csr"""
        ones = np.ones(len(self.history_items), np.float32)
        matrix = sparse.csr_matrix((ones, self.history_items, self.history_starts), shape=(len(self), items))
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix


def no_history(users: Sequence[int] | np.ndarray) -> Queries:
    """Queries about whom nothing is known but their row."""
    return Queries(np.asarray(users, np.int64), np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set in memory: interactions, the catalogue, and what came with them.

    given: (N,) int8 split column (0 train, 1 valid, 2 test) aligned with `interactions`, if the data has one.
    user_fields: text columns of users.parquet, one value a user. features: those that came as arrays, by name.
    notes: what reading accepted and counted, e.g. {"duplicate interactions dropped": 3}.
    """

    name: str
    interactions: Interactions
    catalog: Catalog
    given: np.ndarray | None = None
    user_fields: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    features: Mapping[str, Features] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    card: Mapping[str, object] = field(default_factory=dict)

    @property
    def users(self) -> Ids:
        return self.interactions.users

    @property
    def items(self) -> Ids:
        return self.interactions.items

    @cached_property
    def hash(self) -> str:
        """Hash of interactions and the given split: what makes two reports comparable."""
        order = np.lexsort((self.interactions.item, self.interactions.user))
        given = np.zeros(0, np.int8) if self.given is None else np.asarray(self.given, np.int8)[order]
        return digest(self.interactions.hash, given)
