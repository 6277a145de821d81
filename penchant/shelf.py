"""Shelf: a catalogue by itself, from a table of items and their pictures; for items that nobody can have chosen yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from penchant.assembly import fields_of
from penchant.catalog import Catalog, Pictures
from penchant.columns import renamed, typed
from penchant.data import Ids
from penchant.errors import BadTable, MissingFile, some
from penchant.sources import pictures_in
from penchant.tables import check_rows, read_parquet
from penchant.textfiles import exists, located, read_delimited

__all__ = ["read_items"]

TABLES = ("items.parquet", "items.csv", "items.tsv", "items.txt")


def read_items(path: Path | str) -> Catalog:
    """The catalogue in a folder with items.csv (.tsv, .txt, .parquet), and pictures in images/ or images.parquet; or that table alone.

    Columns are found by their usual names, as on import; each row is an item, pictures of others are passed over. Raises
    MissingFile, BadTable.
    """
    root = Path(path)
    if not root.is_dir():
        exists(root)
    file = root if root.is_file() else next((root / name for name in TABLES if (root / name).is_file()), None)
    if file is None:
        inside = some(sorted(f.name for f in root.iterdir()), 12) if any(root.iterdir()) else "nothing"
        raise MissingFile(
            f"{root.name} has no table of items, like items.csv. It has: {inside}. Name the table itself."
        )
    if file.suffix == ".parquet":
        rows = check_rows(renamed(read_parquet(file), "items")[0], "item_id", file.name).frame
    else:
        table, columns = renamed(read_delimited(file), "items")
        with located(file, columns):
            rows = check_rows(typed(table, "item_id"), "item_id", file.name).frame
    if not rows.height:
        raise BadTable(f"{file.name} has no rows: it names no items. Add one an item.")
    items = Ids("item", tuple(rows["item_id"].to_list()))
    fields, numbers = fields_of(rows, items)
    found = pictures_in(root, {}) if root.is_dir() else None
    if found is None:
        return Catalog(items, fields, Pictures.none(items), numbers)
    at = found.items.rows(items.keys)
    where = np.where(at >= 0, found.where[at], -1)
    return Catalog(items, fields, Pictures(items, where, found.source, found.column), numbers)
