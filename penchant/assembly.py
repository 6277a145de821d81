"""From the tables of a canonical folder to a Dataset: vocabularies, one row a pair, the catalogue, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from penchant.arrays import FeatureFiles
from penchant.catalog import TEXT_FIELDS, Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.errors import BadTable, MissingFile, near, some
from penchant.tables import INTERACTION_COLUMNS, check_interactions, check_rows, ids, parts, read_parquet, rows_of

__all__ = ["assemble", "fields_of", "picture_files"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def assemble(
    path: Path,
    card: Mapping[str, object],
    table: str = "interactions",
    min_rating: float | None = None,
    strict: bool = False,
    split: str = "split",
) -> Dataset:
    """What `folder.read` documents, for a folder whose card may not be written yet."""
    names = sorted(p.stem for p in path.glob("interactions*.parquet"))
    if table not in names:
        raise MissingFile(f"{path} has no interactions table `{table}`.{near(table, names)} It has: {some(names, 12)}")
    whole = table == "interactions"
    notes: dict[str, int] = {}
    rows = check_interactions(read_parquet(path / f"{table}.parquet"), f"{table}.parquet")
    if split != "split":
        rows = rows.with_columns(parts(rows, split, f"{table}.parquet").rename("split"))
    for name in rows.columns:
        if name not in INTERACTION_COLUMNS and name != split:
            notes[f"unknown column of {table}, not used ({name})"] = 1
    rows = _rated(rows, min_rating, table, notes)

    listed = {name: _rows(path, name, notes) for name in ("item", "user")}
    users = _vocabulary("user", listed["user"], rows["user_id"], only_used=True)
    items = _vocabulary("item", listed["item"], rows["item_id"], only_used=not whole)
    if listed["user"] is not None:
        notes["users without any interaction left out"] = listed["user"].height - int(
            (rows_of(listed["user"]["user_id"], users.keys) >= 0).sum()
        )
    user, item = rows_of(rows["user_id"], users.keys), rows_of(rows["item_id"], items.keys)
    once = _once(user, item, rows)
    if len(once) < len(rows):
        notes["duplicate interactions dropped"] = len(rows) - len(once)
        rows, user, item = rows[once], user[once], item[once]

    def column(name: str) -> np.ndarray | None:
        return rows[name].to_numpy() if name in rows.columns else None

    review = tuple(rows["review"].to_list()) if "review" in rows.columns else None
    choices = Interactions(users, items, user, item, column("timestamp"), column("position"), column("rating"), review)
    given = column("split")
    texts, numbers = fields_of(listed["user"], users)
    notes.update({f"column of users that is no text, not used ({name})": 1 for name in numbers})
    if listed["user"] is not None:
        known = rows_of(pl.Series(users.keys, dtype=pl.String), listed["user"]["user_id"].to_list()) >= 0
        notes["users without a row in the table of users"] = int((~known).sum())
    catalog = _catalog(path, items, listed["item"], notes)
    _count_gaps(choices, given, catalog, listed["item"], strict, notes)
    kinds = card.get("features", {})
    return Dataset(
        name=str(card.get("name", path.name)) + ("" if whole else f"/{table}"),
        interactions=choices,
        catalog=catalog,
        given=given,
        user_fields=texts,
        features=FeatureFiles.of(path / "features", users, items, kinds if isinstance(kinds, Mapping) else {}),
        notes={name: count for name, count in notes.items() if count},
        card=card,
    )


def _rated(rows: pl.DataFrame, min_rating: float | None, table: str, notes: dict[str, int]) -> pl.DataFrame:
    if min_rating is None:
        return rows
    if "rating" not in rows.columns:
        raise BadTable(f"min_rating = {min_rating}, but {table}.parquet has no column `rating`. Leave min_rating out.")
    kept = rows.filter(pl.col("rating") >= min_rating)
    if not kept.height:
        raise BadTable(
            f"min_rating = {min_rating} leaves nothing: the highest is {rows['rating'].to_numpy().max()}. Lower it."
        )
    notes["rows below min_rating dropped"] = rows.height - kept.height
    return kept


def _rows(path: Path, kind: str, notes: dict[str, int]) -> pl.DataFrame | None:
    file = path / f"{kind}s.parquet"
    if not file.exists():
        return None
    checked = check_rows(read_parquet(file), f"{kind}_id", file.name)
    notes.update(checked.notes)
    return checked.frame


def _vocabulary(kind: str, listed: pl.DataFrame | None, used: pl.Series, only_used: bool) -> Ids:
    """Listed ids in their order (all, or only the used ones), then the other used ones by first appearance."""
    used = used.unique(maintain_order=True)
    if listed is None:
        return Ids(kind, tuple(used.to_list()))  # type: ignore[arg-type]
    first = listed[f"{kind}_id"]
    others = used.filter(pl.Series(rows_of(used, first.to_list()) < 0))
    if only_used:
        first = first.filter(pl.Series(rows_of(first, used.to_list()) >= 0))
    return Ids(kind, (*first.to_list(), *others.to_list()))  # type: ignore[arg-type]


def _once(user: np.ndarray, item: np.ndarray, rows: pl.DataFrame) -> np.ndarray:
    """Ascending indices of the row that is kept of each pair: earliest part, then time or position, then place."""
    pair = user * (int(item.max()) + 1) + item
    later = [rows[name].to_numpy() for name in ("timestamp", "position", "split") if name in rows.columns]
    order = np.lexsort((*later, pair))
    first = np.concatenate([[True], np.diff(pair[order]) > 0])
    return np.sort(order[first])


def fields_of(
    listed: pl.DataFrame | None, vocabulary: Ids
) -> tuple[dict[str, tuple[str | None, ...]], dict[str, pl.Series]]:
    """Text columns and other columns of a table, in the rows of the vocabulary; null where it has no row."""
    if listed is None:
        return {}, {}
    key = f"{vocabulary.kind}_id"
    at = pl.Series(rows_of(pl.Series(vocabulary.keys, dtype=pl.String), listed[key].to_list()))
    spread = listed.drop(key).select(pl.all().gather(at.set(at < 0, None)))
    texts = [c for c in spread.get_columns() if isinstance(c.dtype, pl.String)]
    numbers = [c for c in spread.get_columns() if not isinstance(c.dtype, pl.String)]
    return {c.name: tuple(c.to_list()) for c in texts}, {c.name: c for c in numbers}


def _catalog(path: Path, items: Ids, listed: pl.DataFrame | None, notes: dict[str, int]) -> Catalog:
    fields, numbers = fields_of(listed, items)
    source: Path | tuple[Path, ...] = ()
    keys: list[str] = []
    if (path / "images.parquet").exists():
        source = path / "images.parquet"
        try:
            table = pl.from_arrow(pq.ParquetFile(source).read(columns=["item_id"]))
        except (pa.ArrowException, OSError) as error:
            raise BadTable(f"images.parquet cannot be read: {error}. Import the data again.") from None
        assert isinstance(table, pl.DataFrame)
        keys = ids(table, "item_id", "images.parquet").to_list()
    elif (path / "images").is_dir():
        source, keys, left = picture_files(path / "images")
        notes.update(left)
    where = np.full(len(items), -1, np.int64)
    at = items.rows(keys)
    known = np.flatnonzero(at >= 0)[::-1]
    where[at[known]] = known  # backwards, so that the first of two pictures stays
    notes["pictures of items not in this data left out"] = len(keys) - int((where >= 0).sum())
    return Catalog(items, fields, Pictures(items, where, source), numbers)


def picture_files(folder: Path) -> tuple[tuple[Path, ...], list[str], dict[str, int]]:
    """The pictures in a folder, the item id of each, and the number of all else in it, by what it is.

    A file is named by its percent-quoted item id and an extension. Names become ids, never the other way round: no
    path is ever built from an id. Links are not followed.
    """
    if folder.is_symlink() and not folder.resolve().is_relative_to(folder.parent.resolve()):
        return (), [], {f"{folder.name}/ is a link that leaves the folder, not followed": 1}
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES or not f.name.startswith("."))
    links = [f for f in files if f.is_symlink()]
    plain = [f for f in files if not f.is_symlink()]
    folders = [f for f in plain if f.is_dir()]
    named = [f for f in plain if f.suffix.lower() in SUFFIXES and f.is_file()]
    pictures = tuple(f for f in named if f.stat().st_size)
    notes = {
        f"links in {folder.name}/ not followed": len(links),
        f"folders in {folder.name}/ not looked into": len(folders),
        f"files in {folder.name}/ that are no pictures left out": len(plain) - len(folders) - len(named),
        f"empty files in {folder.name}/ left out": len(named) - len(pictures),
    }
    return pictures, [unquote(f.name[: -len(f.suffix)]) for f in pictures], notes


def _count_gaps(
    choices: Interactions,
    given: np.ndarray | None,
    catalog: Catalog,
    listed: pl.DataFrame | None,
    strict: bool,
    notes: dict[str, int],
) -> None:
    """Counts what is missing around the interactions. Raises BadTable for items without a row when strict."""
    items = choices.items
    rows = items.keys if listed is None else listed["item_id"].to_list()
    gap = np.ones(len(items), bool) if listed is None else Ids("item", tuple(rows)).rows(items.keys) < 0
    if strict and gap.any():
        keys = [items.keys[i] for i in np.flatnonzero(gap)]
        raise BadTable(
            f"strict: {len(keys)} items of the interactions have no row in the table of items, e.g. {some(keys)}. "
            "Add them, or read without strict."
        )
    texts = [catalog.fields[name] for name in TEXT_FIELDS if name in catalog.fields]
    notes["items without a catalogue row"] = int(gap.sum())
    notes["interactions whose item has no catalogue row"] = int(gap[choices.item].sum())
    notes["items without any interaction"] = int((np.bincount(choices.item, minlength=len(items)) == 0).sum())
    notes["items without text"] = sum(not any(row) for row in zip(*texts, strict=True)) if texts else len(items)
    notes["items without a picture"] = int((~catalog.pictures.present).sum())
    if given is not None:
        known = np.bincount(choices.user[given == 0], minlength=len(choices.users))
        notes["users without training history"] = int((known == 0).sum())
