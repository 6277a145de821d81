"""Tables as they are given to us, checked column by column: ids, ratings, times, parts, texts.

Every check looks at whole columns, and its message names the file, the column, the first bad row (counted from 1,
a header not counted) and what to type next. Nothing here guesses: a value that cannot be what its column says is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from penchant.cells import joined, numbers, refuse, text
from penchant.errors import BadTable, near, some
from penchant.textfiles import exists, first_line
from penchant.times import seconds

__all__ = [
    "INTERACTION_COLUMNS",
    "Checked",
    "check_interactions",
    "check_rows",
    "ids",
    "parts",
    "read_parquet",
    "rows_of",
]

INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp", "position", "rating", "review", "split")
PART_WORDS = {"train": "0", "valid": "1", "val": "1", "validation": "1", "dev": "1", "test": "2"}


@dataclass(frozen=True)
class Checked:
    """A table that passed, and what was left out of it, counted."""

    frame: pl.DataFrame
    notes: Mapping[str, int] = field(default_factory=dict)


def read_parquet(path: Path) -> pl.DataFrame:
    """One parquet file. Raises MissingFile, or BadTable when it is damaged or no parquet file."""
    exists(path)
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadTable(
            f"{path.name} cannot be read as parquet: {first_line(error)}. Is it cut off? Copy it again."
        ) from None


def rows_of(values: pl.Series, keys: Sequence[str]) -> np.ndarray:
    """Row of each value in `keys` (no repeats), -1 where it is not there. (n,) int64"""
    if not len(keys):
        return np.full(len(values), -1, np.int64)
    codes = values.cast(pl.Enum(list(keys)), strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)


def ids(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """An id column as text: whole numbers become their digits, text stays as it is to the last character.

    Raises BadTable when the column is missing, of another type, or has an id that is null, empty or only spaces.
    """
    if name not in frame.columns:
        raise BadTable(
            f"{where} has no column `{name}`.{near(name, frame.columns)} It has: {some(frame.columns, 20)}. "
            f"Rename the right one to `{name}`."
        )
    column = frame[name]
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.drop_nulls()
        if not whole.is_finite().all() or (whole != whole.floor()).any():
            raise BadTable(f"{where}: `{name}` holds fractions; an id is text or a whole number.")
        column = column.cast(pl.Int64, strict=False)
    if not (column.dtype.is_integer() or isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null)):
        raise BadTable(f"{where}: `{name}` is of type {column.dtype}; an id is text or a whole number.")
    keys = column.cast(pl.String)
    blank = keys.is_null() | (keys.str.strip_chars() == "")
    refuse(blank, keys, f"{where}: `{name}` is empty", "Fill it in or remove the row.")
    return keys.rename(name)


def check_interactions(frame: pl.DataFrame, where: str, notes: dict[str, int] | None = None) -> pl.DataFrame:
    """Known columns in their types: ids and review text, timestamp int64 or float64 seconds, position int64,
    rating float32, split int8. Other columns stay as they are; a known column that is null throughout is dropped.

    Raises BadTable for an empty table, a missing or null id, a rating that is no finite number, a time before 1970
    or after 2100 or that can be read in two ways, a split code other than 0, 1, 2. How doubtful values were read, and
    ids that differ from others by spaces, are added to the notes.
    """
    users, items = ids(frame, "user_id", where), ids(frame, "item_id", where)
    if not frame.height:
        raise BadTable(
            f"{where} has no rows: there is nothing to learn from. It needs user_id and item_id in each row."
        )
    given = [n for n in INTERACTION_COLUMNS[2:] if n in frame.columns]
    filled = [n for n in given if frame[n].null_count() < frame.height]
    if notes is None:
        notes = {}
    else:
        notes.update({f"empty column of {where} left out ({n})": 1 for n in given if n not in filled})
        notes.update(
            {
                f"ids in {c.name} of {where} that differ from others by spaces only, kept apart": _spaced(c)
                for c in (users, items)
            }
        )
    checked = [users, items]
    for name in filled:
        column = frame[name]
        if name == "timestamp":
            checked.append(seconds(column, where, notes))
        elif name == "position":
            whole = numbers(column, where).cast(pl.Int64, strict=False)
            refuse(whole.is_null(), column, f"{where}: `position` is no whole number", "Mend the row.")
            checked.append(whole)
        elif name == "rating":
            column = numbers(column, where)
            single = column.cast(pl.Float32)
            refuse(~single.is_finite(), column, f"{where}: `rating` is no number that can be used", "Mend the row.")
            checked.append(single)
        elif name == "review":
            checked.append(text(column))
        else:
            checked.append(parts(frame, "split", where))
    others = [c for c in frame.columns if c not in INTERACTION_COLUMNS]
    return pl.DataFrame(checked).hstack(frame.select(others).get_columns())


def _spaced(keys: pl.Series) -> int:
    """How many different ids would be one with another, had they no spaces at their ends."""
    once = keys.unique()
    return len(once) - once.str.strip_chars().n_unique()


def parts(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """A split column: 0 train, 1 valid, 2 test, or those words. int8. Raises BadTable for anything else."""
    if name not in frame.columns:
        raise BadTable(f"{where} has no column `{name}`.{near(name, frame.columns)} It has: {some(frame.columns, 20)}")
    column = frame[name]
    if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        column = column.cast(pl.String).str.to_lowercase().replace(PART_WORDS)
    codes = column.cast(pl.Float64, strict=False)
    odd = ~codes.is_in([0.0, 1.0, 2.0]).fill_null(False)
    refuse(
        odd,
        frame[name],
        f"{where}: `{name}` is neither 0 (train), 1 (valid) nor 2 (test)",
        "If it is no split, rename it.",
    )
    return codes.cast(pl.Int8).rename(name)


def check_rows(frame: pl.DataFrame, key: str, where: str) -> Checked:
    """One row an item or user: text columns with blanks as null, lists joined by ", ", numbers and booleans kept.

    The first row of a repeated id is kept; columns of other types (structs, bytes) are left out; both are counted.
    """
    keys = ids(frame, key, where)
    notes: dict[str, int] = {}
    columns = [keys]
    for column in frame.drop(key).get_columns():
        dtype = column.dtype
        if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
            columns.append(column.fill_nan(None) if dtype.is_float() else column)
        elif isinstance(dtype, pl.List | pl.Array):
            columns.append(text(joined(column)))
        elif dtype.is_temporal() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
            columns.append(text(column))
        else:
            notes[f"columns of {where} left out ({column.name} is {dtype})"] = 1
    table = pl.DataFrame(columns)
    once = table.unique(key, keep="first", maintain_order=True)
    if once.height < table.height:
        notes[f"further rows of one id in {where} dropped, the first kept"] = table.height - once.height
    return Checked(once, notes)
