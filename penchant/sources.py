"""A raw download -> canonical folder, one function per kind: parquet, csv; movielens, rlmrec, mmrec in `published`.

Columns are found by their usual names (userId, reviewerID, movieId, asin, ...); the card's `columns` says which one
became which. Nothing is written unless all of it could be read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from penchant.archives import opened
from penchant.arrays import load_rows, read_ids, with_gaps
from penchant.assembly import picture_files
from penchant.catalog import Pictures
from penchant.columns import renamed, typed
from penchant.data import Ids, digest
from penchant.errors import BadInput, BadTable, MissingFile, near, some
from penchant.features import Features
from penchant.folder import Contents, save, vacant
from penchant.published import mmrec, movielens, rlmrec
from penchant.tables import check_interactions, check_rows, ids, read_delimited, read_parquet

__all__ = ["KINDS", "fingerprint", "import_", "kind_of"]

TEXT_TABLES = (".csv", ".tsv", ".txt", ".inter")


def import_(kind: str, path: Path | str, out: Path | str) -> Mapping[str, object]:
    """Turn a download (a folder, a file, or a .zip of either) into the canonical folder `out`; returns its card.

    Raises BadInput and its kin for an unknown kind, a layout that is not this kind's, and any bad table; then `out`
    is not there.
    """
    if kind not in KINDS:
        raise BadInput(f"no kind of source {kind!r}.{near(kind, KINDS)} Kinds: {', '.join(KINDS)}")
    path = Path(path)
    vacant(out)
    with opened(path) as root:
        contents = KINDS[kind](root)
        name = path.resolve().name if path.is_dir() else path.stem
        return save(replace(contents, name=name, source=contents.source or f"{kind}: {path.name}"), out)


def kind_of(path: Path | str) -> str:
    """The kind that a download looks like. Raises BadInput when it looks like none."""
    with opened(Path(path)) as root:
        names = [root.name] if root.is_file() else [f.name for d in (root, *_folders(root)) for f in d.iterdir()]
    for kind, pattern in (
        ("movielens", r"ratings\.dat|u\.data|movies\.csv"),
        ("rlmrec", r"trn_?[mM]at\.pkl"),
        ("mmrec", r".*\.inter"),
        ("parquet", r"interactions\.parquet"),
        ("csv", r"interactions\.(csv|tsv|txt)"),
    ):
        if any(re.fullmatch(pattern, name) for name in names):
            return kind
    if root.suffix in (".parquet", *TEXT_TABLES):
        return "parquet" if root.suffix == ".parquet" else "csv"
    raise BadInput(f"{path} looks like no known kind of data; kinds: {', '.join(KINDS)}. It has: {some(names, 12)}")


def fingerprint(path: Path | str) -> str:
    """Hash of all files under a path, names and contents: what an imported copy can be keyed by. Hex."""
    path = Path(path)
    if not path.exists():
        raise MissingFile(f"no file or folder {path}")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    parts: list[bytes | str | np.ndarray] = []
    for file in files:
        with file.open("rb") as opened_file:
            parts += [file.relative_to(path).as_posix(), hashlib.file_digest(opened_file, "sha256").digest()]
    return digest(*parts)


def _folders(root: Path) -> list[Path]:
    return sorted(d for d in root.iterdir() if d.is_dir())


def parquet(root: Path) -> Contents:
    """interactions.parquet with items, users, pictures and features as far as they are there; or that file alone.

    Ids may be whole numbers. Pictures: images.parquet or posters.parquet (item_id and a column of bytes), or images/.
    Features: NAME.npy beside the tables or in features/, rows as in NAME.ids.txt or else in the order of
    items.parquet. Other tables with user_id and item_id are kept as they are, interactions_*.parquet checked.
    """
    base = root.parent if root.is_file() else root
    main = root if root.is_file() else base / "interactions.parquet"
    given, columns = renamed(read_parquet(main), "interactions")
    interactions = check_interactions(given, main.name)
    notes: dict[str, int] = {}
    items, users = (None, None) if root.is_file() else (_rows(base, kind, columns, notes) for kind in ("item", "user"))
    about = base / "README.md"
    readme = about.read_text("utf-8", "replace") if about.is_file() and not root.is_file() else ""
    return Contents(
        name="",
        source=_said(readme, r"(?:Provenance|How|Source)[^:\n]{0,20}:\s*(.+?)(?=\s+Terms\b|\n|$)"),
        terms=_said(readme, r"Terms[^:\n]{0,40}:\s*(.+)"),
        interactions=interactions,
        items=items,
        users=users,
        tables={} if root.is_file() else _others(base),
        pictures=None if root.is_file() else _pictures(base, notes),
        features={} if root.is_file() else _features(base, items, notes),
        columns=columns,
        notes=notes,
    )


def csv(root: Path) -> Contents:
    """One text table of interactions, or a folder with interactions.csv and perhaps items.csv and users.csv.

    The delimiter is found out; .tsv and .txt will do as well. Ids are text to the last character ("007" is not "7").
    Columns of items that hold numbers throughout become numbers.
    """
    tables = {} if root.is_file() else {f.stem: f for f in sorted(root.iterdir()) if f.suffix in TEXT_TABLES}
    if root.is_dir() and "interactions" not in tables:
        if len(tables) != 1:
            inside = sorted(f.name for f in root.iterdir())
            raise MissingFile(f"{root.name} has no interactions.csv. It has: {some(inside, 12)}. Rename the right one.")
        tables = {"interactions": next(iter(tables.values()))}
    main = root if root.is_file() else tables["interactions"]
    given, columns = renamed(read_delimited(main), "interactions")
    rows: dict[str, pl.DataFrame] = {}
    notes: dict[str, int] = {}
    for kind in ("item", "user"):
        if f"{kind}s" in tables:
            table, more = renamed(read_delimited(tables[f"{kind}s"]), f"{kind}s")
            checked = check_rows(typed(table, f"{kind}_id"), f"{kind}_id", tables[f"{kind}s"].name)
            rows[kind] = checked.frame
            columns.update(more)
            notes.update(checked.notes)
    pictures = None if root.is_file() else _pictures(root, notes)
    interactions = check_interactions(given, main.name)
    return Contents("", "", interactions, rows.get("item"), rows.get("user"), {}, pictures, {}, "", columns, notes)


def _rows(base: Path, kind: str, columns: dict[str, str], notes: dict[str, int]) -> pl.DataFrame | None:
    file = base / f"{kind}s.parquet"
    if not file.is_file():
        return None
    table, changes = renamed(read_parquet(file), f"{kind}s")
    checked = check_rows(table, f"{kind}_id", file.name)
    columns.update(changes)
    notes.update(checked.notes)
    return checked.frame


def _others(base: Path) -> dict[str, pl.DataFrame]:
    """Every further table of choices, by name, its ids as text."""
    tables: dict[str, pl.DataFrame] = {}
    for file in sorted(base.glob("*.parquet")):
        if file.stem in ("interactions", "items", "users", "images", "posters"):
            continue
        table = read_parquet(file)
        if file.stem.startswith("interactions"):
            tables[file.stem] = check_interactions(renamed(table, "interactions")[0], file.name)
        elif {"user_id", "item_id"} <= set(table.columns):
            keys = [ids(table, name, file.name) for name in ("user_id", "item_id")]
            tables[file.stem] = table.with_columns(keys)
    return tables


def _pictures(base: Path, notes: dict[str, int]) -> Pictures | None:
    """From images.parquet, posters.parquet or images/; the first of two pictures of one item is taken."""
    file = next((f for f in (base / "images.parquet", base / "posters.parquet") if f.is_file()), None)
    if file is not None:
        schema = pl.read_parquet_schema(file)
        column = next((name for name, dtype in schema.items() if isinstance(dtype, pl.Binary)), None)
        if column is None:
            raise BadTable(f"{file.name} has no column of bytes that could be pictures. It has: {some(schema, 12)}")
        keys = ids(pl.read_parquet(file, columns=[n for n in schema if n != column], glob=False), "item_id", file.name)
        source: Path | tuple[Path, ...] = file
    elif (base / "images").is_dir():
        column = "bytes"
        source, names, others = picture_files(base / "images")
        keys = pl.Series(names, dtype=pl.String)
        notes["files in images/ that are no pictures left out"] = others
    else:
        return None
    items = Ids("item", tuple(keys.unique(maintain_order=True)))
    where = np.empty(len(items), np.int64)
    backwards = np.arange(len(keys))[::-1]
    where[items.rows(keys.to_list())[backwards]] = backwards
    notes["further pictures of one item left out"] = len(keys) - len(items)
    return Pictures(items, where, source, column)


def _features(base: Path, items: pl.DataFrame | None, notes: dict[str, int]) -> dict[str, Features]:
    """NAME_features.npy and NAME_feat.npy beside the tables, and all arrays in features/."""
    features: dict[str, Features] = {}
    for file in sorted([*base.glob("*_features.npy"), *base.glob("*_feat.npy"), *base.glob("features/*.npy")]):
        name = file.stem + "ures" if file.stem.endswith("_feat") else file.stem
        named = file.with_name(f"{file.stem}.ids.txt")
        if named.is_file():
            keys = read_ids(named, "user" if name.startswith("user") else "item")
        elif items is not None:
            keys = Ids("item", tuple(items["item_id"]))
        else:
            raise MissingFile(f"whose are the rows of {file.name}? Add items.parquet in that order, or {named.name}.")
        features[name] = with_gaps(keys, load_rows(file), file.name)
        notes[f"rows of {file.name} without numbers"] = int((~features[name].present).sum())
    return features


def _said(readme: str, pattern: str) -> str:
    found = re.search(pattern, readme)
    return found.group(1).strip() if found else ""


KINDS: Mapping[str, Callable[[Path], Contents]] = {
    "parquet": parquet,
    "csv": csv,
    "movielens": movielens,
    "rlmrec": rlmrec,
    "mmrec": mmrec,
}
