"""Tables as they are given to us, checked column by column: ids, ratings, times, parts, texts.

Every check looks at whole columns, and its message names the file, the column, the first bad row (counted from 1,
a header not counted) and what to type next. Nothing here guesses: a value that cannot be what its column says is
refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from penchant.errors import BadTable, MissingFile, near, some

__all__ = [
    "INTERACTION_COLUMNS",
    "Checked",
    "check_interactions",
    "check_rows",
    "ids",
    "parts",
    "read_delimited",
    "read_parquet",
    "rows_of",
]

INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp", "position", "rating", "review", "split")
LATEST = 4_102_444_800  # 2100-01-01 in seconds
UNITS = (("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000))
PART_WORDS = {"train": "0", "valid": "1", "val": "1", "validation": "1", "dev": "1", "test": "2"}
DELIMITERS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class Checked:
    """A table that passed, and what was left out of it, counted."""

    frame: pl.DataFrame
    notes: Mapping[str, int] = field(default_factory=dict)


def read_parquet(path: Path) -> pl.DataFrame:
    """One parquet file. Raises MissingFile, or BadTable when it is damaged or no parquet file."""
    _exists(path)
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadTable(
            f"{path.name} cannot be read as parquet: {_first_line(error)}. Is it cut off? Copy it again."
        ) from None


def read_delimited(path: Path) -> pl.DataFrame:
    """A text table with a header line; the delimiter (comma, tab, semicolon or bar) is found out. All columns are text.

    Quoted fields may hold delimiters and newlines; an empty field is null. Raises MissingFile, or BadTable for what
    is empty, no UTF-8 text, or has rows of different lengths.
    """
    _exists(path)
    with path.open("rb") as file:
        head = file.read(65_536)
    if not head.strip():
        raise BadTable(f"{path.name} is empty: it needs a header line and at least one row.")
    if b"\0" in head or head.startswith(b"\x1f\x8b"):
        raise BadTable(f"{path.name} is no text table (is it compressed?). Unpack it, or save it as UTF-8 text.")
    delimiter = _delimiter(head.decode("utf-8-sig", "replace"))
    try:
        return pl.read_csv(path, separator=delimiter, infer_schema_length=0, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = _first_line(error)
        if "utf" in reason.lower():
            raise BadTable(f"{path.name} is not UTF-8. Convert it:  iconv -f latin1 -t utf8 {path.name}") from None
        raise BadTable(f"{path.name} cannot be read as a table: {reason}. Mend that row or its quotes.") from None


def _exists(path: Path) -> None:
    if not path.is_file():
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        has = f" The folder has: {some(there, 12)}" if there else ""
        raise MissingFile(f"no file {path}.{near(path.name, there)}{has}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _delimiter(head: str) -> str:
    """The delimiter under which the first lines have the most columns, all rows alike if there is such a one."""
    lines = head.splitlines()
    text = "\n".join(lines[:20] if len(lines) > 20 else lines[:-1] or lines)
    best, most = ",", (False, 1)
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
        except csv.Error:
            continue
        widths = {len(row) for row in rows}
        score = (len(widths) == 1 and len(rows[0]) > 1, len(rows[0]))
        if score > most:
            best, most = delimiter, score
    return best


def rows_of(values: pl.Series, keys: Sequence[str]) -> np.ndarray:
    """Row of each value in `keys` (no repeats), -1 where it is not there. (n,) int64"""
    if not len(keys):
        return np.full(len(values), -1, np.int64)
    codes = values.cast(pl.Enum(list(keys)), strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)


def ids(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """An id column as text: whole numbers become their digits, text stays as it is to the last character.

    Raises BadTable when the column is missing, of another type, or has a null or empty id.
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
    text = column.cast(pl.String)
    _refuse(text.is_null() | (text == ""), text, f"{where}: `{name}` is empty", "Fill it in or remove the row.")
    return text.rename(name)


def check_interactions(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Known columns in their types: ids and review text, timestamp int64 or float64 seconds, position int64,
    rating float32, split int8. Other columns stay as they are; a known column that is null throughout is dropped.

    Raises BadTable for an empty table, a missing or null id, a rating that is no finite number, a time before 1970
    or after 2100, a split code other than 0, 1, 2.
    """
    users, items = ids(frame, "user_id", where), ids(frame, "item_id", where)
    if not frame.height:
        raise BadTable(
            f"{where} has no rows: there is nothing to learn from. It needs user_id and item_id in each row."
        )
    filled = [n for n in INTERACTION_COLUMNS[2:] if n in frame.columns and frame[n].null_count() < frame.height]
    checked = [users, items]
    for name in filled:
        column = frame[name]
        if name == "timestamp":
            checked.append(_times(column, where))
        elif name == "position":
            whole = _numbers(column, where).cast(pl.Int64, strict=False)
            _refuse(whole.is_null(), column, f"{where}: `position` is no whole number", "Mend the row.")
            checked.append(whole)
        elif name == "rating":
            column = _numbers(column, where)
            single = column.cast(pl.Float32)
            _refuse(~single.is_finite(), column, f"{where}: `rating` is no number that can be used", "Mend the row.")
            checked.append(single)
        elif name == "review":
            checked.append(_text(column))
        else:
            checked.append(parts(frame, "split", where))
    others = [c for c in frame.columns if c not in INTERACTION_COLUMNS]
    return pl.DataFrame(checked).hstack(frame.select(others).get_columns())


def parts(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """A split column: 0 train, 1 valid, 2 test, or those words. int8. Raises BadTable for anything else."""
    if name not in frame.columns:
        raise BadTable(f"{where} has no column `{name}`.{near(name, frame.columns)} It has: {some(frame.columns, 20)}")
    column = frame[name]
    if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        column = column.cast(pl.String).str.to_lowercase().replace(PART_WORDS)
    codes = column.cast(pl.Float64, strict=False)
    odd = ~codes.is_in([0.0, 1.0, 2.0]).fill_null(False)
    _refuse(
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
            columns.append(_text(_joined(column)))
        elif dtype.is_temporal() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
            columns.append(_text(column))
        else:
            notes[f"columns of {where} left out ({column.name} is {dtype})"] = 1
    table = pl.DataFrame(columns)
    once = table.unique(key, keep="first", maintain_order=True)
    if once.height < table.height:
        notes[f"repeated ids in {where} dropped"] = table.height - once.height
    return Checked(once, notes)


def _text(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String)
    return text.set(text.str.strip_chars() == "", None)


def _joined(column: pl.Series) -> pl.Series:
    """Lists, or lists of lists, as one text each."""
    frame = column.to_frame()
    while isinstance(frame.dtypes[0], pl.List | pl.Array):
        inner = frame.dtypes[0].inner
        cell = pl.col(column.name).cast(pl.List(inner))
        if isinstance(inner, pl.List | pl.Array):
            deeper = pl.element().cast(pl.List(pl.String)).list.join(", ")
            frame = frame.select(cell.list.eval(deeper))
        else:
            frame = frame.select(cell.cast(pl.List(pl.String)).list.drop_nulls().list.join(", "))
    return frame.to_series()


def _numbers(column: pl.Series, where: str) -> pl.Series:
    """A column as numbers; text is read as numbers. Raises BadTable on what is none, and on nulls."""
    name = column.name
    if not (column.dtype.is_numeric() or isinstance(column.dtype, pl.Boolean | pl.String)):
        raise BadTable(f"{where}: `{name}` is of type {column.dtype}; it must hold numbers.")
    numbers = column if column.dtype.is_numeric() else column.cast(pl.Float64, strict=False)
    _refuse(numbers.is_null(), column, f"{where}: `{name}` is no number", "Mend the row or drop the column.")
    return numbers


def _times(column: pl.Series, where: str) -> pl.Series:
    """Seconds since 1970: int64 when all are whole, else float64. Dates and ISO texts are converted."""
    advice = "Give seconds since 1970, or remove the row."
    plain = column.cast(pl.Float64, strict=False).null_count() if isinstance(column.dtype, pl.String) else 0
    if plain > column.null_count():
        try:
            parsed = column.str.to_datetime(strict=False, time_unit="us")
        except pl.exceptions.PolarsError:
            parsed = pl.Series(column.name, [None] * len(column), pl.Datetime("us"))
        _refuse(parsed.is_null(), column, f"{where}: `timestamp` is no time that can be read", advice)
        column = parsed
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        column = column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    seconds = _numbers(column, where)
    _refuse(~seconds.cast(pl.Float64).is_finite(), seconds, f"{where}: `timestamp` is not finite", advice)
    _refuse(seconds < 0, seconds, f"{where}: `timestamp` is negative, a time before 1970", advice)
    latest = float(seconds.cast(pl.Float64).to_numpy().max())
    unit = next((f"It looks like {n}: divide by {d}." for n, d in UNITS if 1e8 <= latest / d < LATEST), advice)
    _refuse(seconds >= LATEST, seconds, f"{where}: `timestamp` is after the year 2100", unit)
    whole = seconds.cast(pl.Int64)
    return (whole if (whole == seconds).all() else seconds.cast(pl.Float64)).rename("timestamp")


def _refuse(bad: pl.Series, shown: pl.Series, what: str, advice: str) -> None:
    """BadTable when any row is bad: '{what} in 3 of 100 rows, first in row 7 (-5). {advice}'."""
    bad = bad.fill_null(True)
    if bad.any():
        first = int(bad.arg_true()[0])
        value = shown[first]
        raise BadTable(f"{what} in {bad.sum()} of {len(bad)} rows, first in row {first + 1} ({value!r}). {advice}")
