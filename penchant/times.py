"""Times as they are given to us, in seconds since 1970.

A date such as 03/04/2024 is the third of April to one half of the world and the fourth of March to the other. It is
read only when some date of the column can be read in one way alone (25/04/2024), and what decided is stated.
"""

from __future__ import annotations

import polars as pl

from penchant.cells import numbers, refuse
from penchant.errors import BadTable

__all__ = ["LATEST", "seconds"]

LATEST = 4_102_444_800  # 2100-01-01 in seconds
EARLY = 100_000_000  # 1973-03-03: counts of days, years and the like all lie before it
UNITS = (("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000))
ISO = "Write dates as 2024-04-03 (year-month-day)."
SHORT = r"^(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})(?:[ T,]+(\d.*))?$"  # two numbers, then the year
CLOCKS = ("%H:%M", "%H:%M:%S%.f", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S%.fZ")


def seconds(column: pl.Series, where: str, notes: dict[str, int]) -> pl.Series:
    """Seconds since 1970: int64 when all are whole, else float64. Dates and ISO texts are converted; times without
    a zone are taken as UTC. How doubtful times were read is added to the notes.

    Raises BadTable for what is no time, lies before 1970 or after 2100, or can be read in two ways.
    """
    advice = "Give seconds since 1970, or remove the row."
    if isinstance(column.dtype, pl.String):
        stripped = column.str.strip_chars()
        plain = stripped.cast(pl.Float64, strict=False)
        column = plain if plain.null_count() == column.null_count() else _read(stripped, where, notes)
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        column = column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    found = numbers(column, where)
    refuse(~found.cast(pl.Float64).is_finite(), found, f"{where}: `timestamp` is not finite", advice)
    refuse(found < 0, found, f"{where}: `timestamp` is negative, a time before 1970", advice)
    latest = float(found.cast(pl.Float64).to_numpy().max())
    unit = next((f"It looks like {n}: divide by {d}." for n, d in UNITS if 1e8 <= latest / d < LATEST), advice)
    refuse(found >= LATEST, found, f"{where}: `timestamp` is after the year 2100", unit)
    whole = found.cast(pl.Int64)
    if (whole == found).all():
        _refuse_digits(whole, where)
        found = whole
    if latest < EARLY:
        notes[f"times of {where} that all lie before March 1973 (are they seconds since 1970?)"] = len(found)
    return found.cast(pl.Int64 if found.dtype.is_integer() else pl.Float64).rename("timestamp")


def _refuse_digits(column: pl.Series, where: str) -> None:
    """BadTable for dates written as one number, 20240403, which as seconds would all be of the year 1970."""
    low, high = (int(x) for x in (column.to_numpy().min(), column.to_numpy().max())) if len(column) else (0, 0)
    if not 19_700_101 <= low <= high <= 21_001_231:
        return
    month, day = column // 100 % 100, column % 100
    if month.is_between(1, 12).all() and day.is_between(1, 31).all():
        digits = str(column[0])
        raise BadTable(
            f"{where}: `timestamp` holds dates written as one number ({digits}). "
            f"Write them as {digits[:4]}-{digits[4:6]}-{digits[6:]}."
        )


def _read(column: pl.Series, where: str, notes: dict[str, int]) -> pl.Series:
    """Texts as datetimes."""
    short = column.str.contains(SHORT).fill_null(False)
    if short.any():
        shown = f"{where}: `timestamp` is not written like {column[int(short.arg_true()[0])]!r}"
        refuse(~short, column, shown, ISO)
        return _short(column, where, notes)
    try:
        parsed = column.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.PolarsError:
        parsed = pl.Series(column.name, [None] * len(column), pl.Datetime("us"))
    advice = f"{ISO} Seconds since 1970 will do as well."
    refuse(parsed.is_null(), column, f"{where}: `timestamp` is no time that can be read", advice)
    return parsed


def _short(column: pl.Series, where: str, notes: dict[str, int]) -> pl.Series:
    """Dates that begin with day and month in either order. Raises BadTable when the values do not tell which."""
    split = [column.str.extract(SHORT, group).rename(str(group)) for group in (1, 2, 3, 4)]
    first, second = split[0].cast(pl.Int64), split[1].cast(pl.Int64)
    refuse(
        split[2].str.len_chars() == 2, column, f"{where}: `timestamp` has a year of two digits", f"It is unclear. {ISO}"
    )
    day_leads, month_leads = (first > 12).arg_true(), (second > 12).arg_true()
    if len(day_leads) and len(month_leads):
        one, other = int(day_leads[0]), int(month_leads[0])
        raise BadTable(
            f"{where}: `timestamp` mixes day/month ({column[one]} in row {one + 1}) and month/day ({column[other]} in "
            f"row {other + 1}). {ISO}"
        )
    same, dotted = bool((first == second).all()), bool(column.str.contains(r"^\d+\.\d+\.").all())
    if not (len(day_leads) or len(month_leads) or same or dotted):
        at = int((first != second).arg_true()[0])
        raise BadTable(
            f"{where}: `timestamp` can be read as day/month or as month/day ({column[at]} in row {at + 1}), and no date "
            f"among the {len(column)} tells which. {ISO}"
        )
    month_first = bool(len(month_leads))
    if not same:
        told = month_leads if month_first else day_leads
        why = f"as {column[int(told[0])]} shows" if len(told) else "written with dots"
        order = "month/day/year" if month_first else "day/month/year"
        notes[f"times of {where} read as {order} ({why})"] = len(column)
    day, month = (second, first) if month_first else (first, second)
    dates = pl.DataFrame({"y": split[2], "m": month, "d": day}).select(
        pl.format("{}-{}-{} ", "y", pl.col("m").cast(pl.String).str.zfill(2), pl.col("d").cast(pl.String).str.zfill(2))
    )
    moments = dates.to_series() + split[3].fill_null("00:00").str.strip_chars()
    parsed = pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, len(moments))
    for clock in CLOCKS:
        if parsed.null_count():
            parsed = parsed.fill_null(moments.str.strptime(pl.Datetime("us"), f"%Y-%m-%d {clock}", strict=False))
    refuse(parsed.is_null(), column, f"{where}: `timestamp` is no time that can be read", ISO)
    return parsed
