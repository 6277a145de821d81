"""What was measured for each user, and what was recommended to each: per_user.parquet and top.parquet."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penchant import metrics as measures
from penchant.data import Ids
from penchant.errors import BadTable, Misaligned, MissingFile, UnknownKey, near, some
from penchant.report import Metric, write_whole

__all__ = ["Audience", "PerUser", "TopLists", "no_metric", "summarise"]


@dataclass(frozen=True, eq=False)
class PerUser:
    """Every metric of every evaluated user under every seed: values[metric] is (S, U) float64."""

    users: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        shape = (len(self.seeds), len(self.users))
        for name, array in self.values.items():
            if array.shape != shape:
                raise Misaligned(f"per-user values of {name} have shape {array.shape}, not {shape} (seeds, users)")

    def averaged(self, metric: str) -> np.ndarray:
        """Mean over seeds. (U,) float64"""
        if metric not in self.values:
            raise no_metric("this run's per_user.parquet", metric, self.values)
        return self.values[metric].mean(axis=0)

    def row(self, seed: int | None) -> int:
        """Which row holds this seed's values; the first if there is none of it."""
        return self.seeds.index(seed) if seed in self.seeds else 0

    def write(self, folder: Path | str) -> Path:
        """per_user.parquet: user_id, seed, metric, value."""
        s, u, m = len(self.seeds), len(self.users), len(self.values)
        stacked = np.stack(list(self.values.values())) if m else np.zeros((0, s, u))
        columns = {
            "user_id": _strings(np.tile(np.arange(u), m * s), self.users),
            "seed": pa.array(np.tile(np.repeat(np.asarray(self.seeds, np.int64), u), m)),
            "metric": _strings(np.repeat(np.arange(m), s * u), tuple(self.values)),
            "value": pa.array(stacked.astype(np.float64).ravel()),
        }
        return _write_parquet(Path(folder) / "per_user.parquet", columns)

    @staticmethod
    def read(folder: Path | str) -> PerUser:
        """Raises MissingFile, or BadTable when a value is missing, repeated or null."""
        path = Path(folder) / "per_user.parquet"
        columns = _read_parquet(path, ("user_id", "seed", "metric", "value"))
        user, users = _codes(columns[0])
        seed, seeds = _codes(columns[1])
        metric, names = _codes(columns[2])
        shape = (len(names), len(seeds), len(users))
        if len(user) != math.prod(shape):
            raise BadTable(
                f"{path} has {len(user)} values, not one for each metric, seed and user {shape}. {_again(path)}"
            )
        filled = np.zeros(shape, bool)
        values = np.empty(shape)
        filled[metric, seed, user] = True
        values[metric, seed, user] = columns[3].to_numpy()
        if not filled.all():
            raise BadTable(f"{path} holds some values twice and lacks others. {_again(path)}")
        return PerUser(tuple(users), tuple(int(s) for s in seeds), dict(zip(names, values, strict=True)))


@dataclass(frozen=True, eq=False)
class TopLists:
    """The kept model's list for each evaluated user, best first.

    item: (B, K) int rows of `items`, -1 behind the end of a list that is shorter. score: (B, K) float32.
    """

    users: tuple[str, ...]
    items: Ids
    item: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        if self.item.shape != self.score.shape or self.item.ndim != 2 or len(self.item) != len(self.users):
            raise Misaligned(f"{self.item.shape} items and {self.score.shape} scores for {len(self.users)} lists")

    def counts(self) -> np.ndarray:
        """How many lists each item is in. (items,) int64"""
        return np.bincount(self.item[self.item >= 0], minlength=len(self.items))

    def write(self, folder: Path | str) -> Path:
        """top.parquet: user_id, rank (from 1), item_id, score."""
        row, place = np.nonzero(self.item >= 0)
        columns = {
            "user_id": _strings(row, self.users),
            "rank": pa.array((place + 1).astype(np.int32)),
            "item_id": _strings(self.item[row, place], self.items.keys),
            "score": pa.array(self.score[row, place].astype(np.float32)),
        }
        return _write_parquet(Path(folder) / "top.parquet", columns)

    @staticmethod
    def read(folder: Path | str) -> TopLists:
        """`items` are those that occur in a list. Raises MissingFile, or BadTable when ranks have holes."""
        path = Path(folder) / "top.parquet"
        columns = _read_parquet(path, ("user_id", "rank", "item_id", "score"))
        user, users = _codes(columns[0])
        rank = columns[1].to_numpy().astype(np.int64)
        item, items = _codes(columns[2])
        lengths = np.bincount(user, minlength=len(users))
        longest = int(lengths.max(initial=0))
        whole = bool(len(rank) == 0 or (rank.min() >= 1 and (rank <= lengths[user]).all()))
        table, score = np.full((len(users), longest), -1, np.int64), np.zeros((len(users), longest), np.float32)
        if whole:
            table[user, rank - 1] = item
            score[user, rank - 1] = columns[3].to_numpy()
        if not whole or (table >= 0).sum() != len(rank):
            raise BadTable(f"{path} has lists whose ranks are not 1, 2, 3, ... {_again(path)}")
        return TopLists(tuple(users), Ids("item", tuple(items)), table, score)


@dataclass(frozen=True, eq=False)
class Audience:
    """What popularity and familiarity are measured with.

    train, recommended: (I,) how often each item was chosen in training, and how many lists it is in. history: (U,)
    how many choices are known of each user, in the order of PerUser.users. candidates: (U,) how many items compete for each
    of them, None where that is not known.
    """

    train: np.ndarray
    recommended: np.ndarray
    history: np.ndarray
    candidates: np.ndarray | None = None


def summarise(per_user: PerUser, seed: int = 0) -> dict[str, Metric]:
    """The Metric of each per-user value: mean, user bootstrap of the seed-averaged value, mean of each seed."""
    out = {}
    for name, values in per_user.values.items():
        averaged = values.mean(axis=0)
        lo, hi = measures.bootstrap(averaged, seed)
        out[name] = Metric(float(averaged.mean()), (float(lo), float(hi)), tuple(map(float, values.mean(axis=1))))
    return out


def _strings(codes: np.ndarray, keys: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(keys, pa.string()))


def _write_parquet(path: Path, columns: Mapping[str, pa.Array]) -> Path:
    sink = io.BytesIO()
    # Without the Arrow schema every reader sees plain strings, not categories.
    pq.write_table(pa.table(dict(columns)), sink, compression="zstd", store_schema=False)
    return write_whole(path, sink.getvalue())


def _read_parquet(path: Path, names: Sequence[str]) -> list[pa.ChunkedArray]:
    if not path.is_file():
        raise MissingFile(f"{path} is missing. {_again(path)}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadTable(f"{path} is damaged: {str(error).splitlines()[0]}. {_again(path)}") from None
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        raise BadTable(f"{path} has no column {some(lacking)}; it has {some(table.column_names, 8)}. {_again(path)}")
    nulls = [name for name in names if table.column(name).null_count]
    if nulls:
        raise BadTable(f"{path} has nulls in {some(nulls)}. {_again(path)}")
    return [table.column(name) for name in names]


def _again(path: Path) -> str:
    return f"Run it again:  penchant run RECIPE.toml --out {path.parent}"


def no_metric(where: str, name: str, known: Iterable[str]) -> UnknownKey:
    """The error for a metric that was not measured: the near one and all there are.

    Raises BadSetting, which says how it is written here, for a name of other libraries such as "hr@10".
    """
    known = sorted(known)
    if name.partition("@")[0].lower() in measures.OTHER_NAMES:
        measures.parse(name)
    error = UnknownKey(where, name, known)
    error.args = (f"no metric `{name}` in {where}.{near(name, known)} There are: {', '.join(known) or 'none'}",)
    return error


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[Any]]:
    """Row of each value among the distinct ones, which stand in order of first appearance."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks of no chunk at all
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], column.type).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()
