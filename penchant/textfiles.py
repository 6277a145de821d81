"""Tables in text files (CSV and its kin): read whole, as text, and errors that name the line of the file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from penchant.errors import BadTable, MissingFile, near, some

__all__ = ["exists", "first_line", "located", "logless", "read_delimited"]

DELIMITERS = (",", "\t", ";", "|")


def exists(path: Path) -> None:
    """Raises MissingFile unless there is such a file."""
    if not path.is_file():
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        has = f" The folder has: {some(there, 12)}" if there else ""
        raise MissingFile(f"no file {path}.{near(path.name, there)}{has}")


def first_line(error: Exception) -> str:
    """What an error of another library says first, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def read_delimited(path: Path, notes: dict[str, int] | None = None) -> pl.DataFrame:
    """A text table with a header line; the delimiter (comma, tab, semicolon or bar) is found out. All columns are text.

    Quoted fields may hold delimiters and newlines; an empty field is null. Raises MissingFile, or BadTable for what
    is empty, no UTF-8 text, has two columns of one name, or rows longer than the header; the line is named.
    Rows that end early are filled up with nulls and counted in the notes.
    """
    exists(path)
    with path.open("rb") as file:
        head = file.read(65_536)
    if not head.strip():
        raise BadTable(f"{path.name} is empty: it needs a header line and at least one row.")
    _refuse_bytes(head, path.name)
    delimiter = _delimiter(head.decode("utf-8-sig", "replace"))
    _refuse_twins(head, delimiter, path.name)
    try:
        frame = pl.read_csv(path, separator=delimiter, infer_schema_length=0, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadTable(_unreadable(path, delimiter, first_line(error))) from None
    if notes is not None and frame.width > 1 and frame[:, -1].null_count():  # else no row ends early
        short, line = _short(path, delimiter, frame.width)
        notes[f"rows of {path.name} that end early, filled up (the first in line {line})"] = short
    return frame


@contextmanager
def located(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[None]:
    """Around the checks of a text table: their BadTable names the line of the file, and columns as the file does.

    columns: {"interactions.timestamp": "date", ...}, what `renamed` changed.
    """
    try:
        yield
    except BadTable as error:
        message = str(error)
        for ours, given in (columns or {}).items():
            message = message.replace(f": `{ours.partition('.')[2]}` ", f": `{given}` ")
        for row in sorted({int(r) for r in re.findall(r"\bin row (\d+)", message)}, reverse=True):
            line = _line(path, row)
            if line:
                message = re.sub(rf"\bin row {row}\b", f"in line {line}", message)
        raise BadTable(message) from None


def _refuse_bytes(head: bytes, name: str) -> None:
    """BadTable for the start of a file that is no UTF-8 text with line ends that are understood."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or (max(even, odd) > len(head) // 4 and min(even, odd) == 0):
        raise BadTable(
            f"{name} looks like UTF-16 (as Excel's `Unicode Text`). Save it as `CSV UTF-8`, or:  "
            f"iconv -f utf-16 -t utf-8 {name} > utf8.csv"
        )
    if head.startswith(b"\x1f\x8b"):
        raise BadTable(f"{name} is compressed (gzip). Unpack it:  gunzip -S '' < {name} > table.csv")
    if head.startswith(b"PK\x03\x04"):
        raise BadTable(f"{name} is no text table: it is a zip or an Excel workbook. Save it as `CSV UTF-8`.")
    if head.startswith(b"PAR1"):
        raise BadTable(f"{name} is no text table but a parquet file. Use kind parquet.")
    if b"\0" in head:
        raise BadTable(f"{name} is no text table: it holds zero bytes. Save it as UTF-8 text.")
    if b"\r" in head and b"\n" not in head:
        raise BadTable(
            f"{name} ends its lines with CR alone (old Macintosh text). Convert it:  tr '\\r' '\\n' < {name} > lines.csv"
        )


def _refuse_twins(head: bytes, delimiter: str, name: str) -> None:
    rows = csv.reader(io.StringIO(head.decode("utf-8-sig", "replace")), delimiter=delimiter)
    try:
        header = next((row for row in rows if row), [])
    except csv.Error:
        return
    twins = sorted({column for column in header if column.strip() and header.count(column) > 1})
    if twins:
        raise BadTable(
            f"{name} has {header.count(twins[0])} columns called `{twins[0]}` in its header (line 1). "
            "Rename or remove all but one."
        )


def _unreadable(path: Path, delimiter: str, reason: str) -> str:
    """Why a text table could not be read, with the line where it went wrong if that can be found."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return (
            f"{path.name} is not UTF-8: line {line} holds the byte {raw[error.start]:#04x}. "
            f"Convert it:  iconv -f latin1 -t utf8 {path.name} > utf8.csv"
        )
    start, width = 0, 0
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in rows:
            width = width or len(row)
            if len(row) > width:
                return (
                    f"{path.name} cannot be read as a table: line {start + 1} has {len(row)} fields, the header {width}. "
                    "Mend that row or its quotes."
                )
            start = rows.line_num
    except csv.Error:
        return f"{path.name} cannot be read as a table: {reason}, in line {start + 1}. Mend that row or its quotes."
    opens = next((n for n, line in enumerate(text.split("\n"), 1) if line.count('"') % 2), 0)
    where = f" A quote that is opened in line {opens} may never be closed." if opens else ""
    return f"{path.name} cannot be read as a table: {reason[:200]}.{where} Mend that row or its quotes."


def _short(path: Path, delimiter: str, width: int) -> tuple[int, int]:
    """The number of rows with fewer fields than the header, and the line of the first."""
    short, first, start = 0, 0, 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            for fields in rows:
                if fields and len(fields) < width:
                    short, first = short + 1, first or start + 1
                start = rows.line_num
    except (csv.Error, OSError, UnicodeDecodeError):
        pass  # a field of more than 128 kB: what was counted so far must do
    return short, first


def _line(path: Path, row: int) -> int:
    """The line at which a row of the table begins, both counted from 1; 0 when it cannot be told."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.read(65_536))
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter)
            seen, start = -1, 0  # the header is row 0
            for fields in rows:
                if fields or seen >= 0:
                    seen += 1
                if seen == row:
                    return start + 1
                start = rows.line_num
    except (csv.Error, OSError, UnicodeDecodeError):
        pass
    return 0


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


def logless(root: Path, tables: Collection[str]) -> str:
    """What a folder without a table of interactions holds, and what to do. tables: names of its text tables."""
    inside = sorted(f.name for f in root.iterdir())
    there = f"It has: {some(inside, 12)}. " if inside else "The folder is empty. "
    then = "The log of who chose what is missing. Put it there as interactions.csv, one row a choice:  user_id,item_id"
    if set(tables) - {"items", "users"} or (inside and not tables):
        then = "Rename the right one."
    return f"{root.name} has no interactions.csv. {there}{then}"
