"""Values of one column, as text or as numbers; what cannot be read is refused with its first row."""

from __future__ import annotations

import polars as pl

from penchant.errors import BadTable

__all__ = ["joined", "numbers", "refuse", "text"]


def refuse(bad: pl.Series, shown: pl.Series, what: str, advice: str) -> None:
    """BadTable when any row is bad: '{what} in 3 of 100 rows, first in row 7 (-5). {advice}'."""
    bad = bad.fill_null(True)
    if bad.any():
        first = int(bad.arg_true()[0])
        value = "no value" if shown[first] is None else repr(shown[first])
        raise BadTable(f"{what} in {bad.sum()} of {len(bad)} rows, first in row {first + 1} ({value}). {advice}")


def numbers(column: pl.Series, where: str) -> pl.Series:
    """A column as numbers; text is read as numbers. Raises BadTable on what is none, and on nulls."""
    name = column.name
    if not (column.dtype.is_numeric() or isinstance(column.dtype, pl.Boolean | pl.String)):
        raise BadTable(f"{where}: `{name}` is of type {column.dtype}; it must hold numbers.")
    found = column if column.dtype.is_numeric() else column.cast(pl.Float64, strict=False)
    comma = column.dtype == pl.String and bool(column.filter(found.is_null()).str.contains(r"^\s*-?\d+,\d+\s*$").any())
    advice = "Write decimals with a point: 4.5, not 4,5." if comma else "Mend the row or drop the column."
    refuse(found.is_null(), column, f"{where}: `{name}` is no number", advice)
    return found


def text(column: pl.Series) -> pl.Series:
    """A column as text, blanks as null."""
    found = column.cast(pl.String)
    return found.set(found.str.strip_chars() == "", None)


def joined(column: pl.Series) -> pl.Series:
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
