"""The usual names of columns, and their types where a file has only text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

__all__ = ["listed", "renamed", "typed"]

# Ours, then what others call it, the surest first. Case, spaces, _ and a RecBole type (user_id:token) do not matter.
INTERACTIONS = {
    "user_id": ("userid", "user", "uid", "reviewerid", "customerid", "visitorid", "memberid"),
    "item_id": ("itemid", "item", "iid", "movieid", "parentasin", "asin", "productid", "businessid", "isbn", "bookid"),
    "timestamp": ("timestamp", "time", "ts", "unixreviewtime", "datetime", "date"),
    "rating": ("rating", "score", "stars", "overall", "ratings"),
    "review": ("review", "reviewtext", "reviewbody", "text", "comment"),
    "split": ("split", "xlabel"),
    "position": ("position",),
}
ITEMS = {
    "item_id": INTERACTIONS["item_id"],
    "title": ("title", "name", "productname", "itemname"),
    "description": ("description", "plot", "overview"),
    "brand": ("brand", "store", "manufacturer"),
    "categories": ("categories", "category", "genres", "genre"),
    "image_url": ("imageurl", "imurl"),
}
USERS = {"user_id": INTERACTIONS["user_id"]}
TABLES = {"interactions": INTERACTIONS, "items": ITEMS, "users": USERS}
KEPT_AS_TEXT = ("item_id", "user_id", "title", "description", "brand", "categories", "image_url")


def renamed(
    frame: pl.DataFrame, table: str, notes: dict[str, int] | None = None, like: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """The table with its columns called as we call them, and {"interactions.user_id": "userId", ...} of what changed.

    A column that has our name already stays; of several candidates the surest is taken, the others are left alone and
    stated in the notes. Columns without a name are left out and counted there. like: what became which in the table
    of interactions; the same name is preferred here, so that both tables speak of the same ids.
    """
    notes = {} if notes is None else notes
    nameless = [c for c in frame.columns if not re.sub(r"_duplicated_\d+$", "", c).strip()]
    if nameless:
        notes[f"columns of {table} without a name left out"] = len(nameless)
        frame = frame.drop(nameless)
    plain = {column: "".join(c for c in column.split(":")[0].lower() if c.isalnum()) for column in frame.columns}
    changes: dict[str, str] = {}
    for ours, others in TABLES[table].items():
        same = (like or {}).get(f"interactions.{ours}")
        free = [c for c in frame.columns if plain[c] in others and c not in changes and c not in TABLES[table]]
        free.sort(key=lambda c: (c != same, others.index(plain[c])))
        taken = ours if ours in frame.columns else free.pop(0) if free else ""
        if taken and taken != ours:
            changes[taken] = ours
        for other in free:
            fate = "not used" if table == "interactions" else "kept as a column of its own"
            notes[f"{table}: `{taken}` is taken as {ours}; `{other}`, which could be it too, is {fate}"] = 1
    frame = frame.rename(changes)
    if table == "items" and "categories" in frame.columns:
        frame = frame.with_columns(listed(frame["categories"]))
    return frame, {f"{table}.{ours}": given for given, ours in changes.items()}


def listed(column: pl.Series) -> pl.Series:
    """Categories written as Drama|Crime, or as a printed list [['Books', 'Crime']], with commas; lists stay lists."""
    if not isinstance(column.dtype, pl.String):
        return column
    cell = pl.col(column.name)
    quoted = cell.str.extract_all(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
    bare = quoted.list.eval(pl.element().str.slice(1, pl.element().str.len_chars() - 2))
    printed = bare.list.unique(maintain_order=True).list.join(", ")
    choose = pl.when(cell.str.starts_with("[")).then(printed).otherwise(cell.str.replace_all(r"\s*\|\s*", ", "))
    return column.to_frame().select(choose.alias(column.name)).to_series()


def typed(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """A table of text with numbers and booleans where a whole column holds nothing else.

    A column with a leading zero (01234) stays text, as do ids and the fields of `catalog.text`.
    """
    columns = []
    for column in frame.get_columns():
        values = column.str.strip_chars().drop_nulls()
        values = values.filter(values != "")
        if column.name == key or column.name in KEPT_AS_TEXT or not len(values):
            columns.append(column)
            continue
        blank = column.str.strip_chars().replace("", None)
        if values.str.to_lowercase().is_in(["true", "false"]).all():
            columns.append(blank.str.to_lowercase() == "true")
        elif values.str.contains(r"^[+-]?0\d").any() or values.cast(pl.Float64, strict=False).null_count():
            columns.append(column)
        elif values.str.contains(r"^[+-]?\d{1,18}$").all():
            columns.append(blank.cast(pl.Int64))
        else:
            columns.append(blank.cast(pl.Float64))
    return pl.DataFrame(columns)
