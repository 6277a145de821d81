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
from penchant.tables import check_interactions, check_rows, ids, read_parquet, rows_of
from penchant.textfiles import located, logless, read_delimited

__all__ = ["KINDS", "fingerprint", "import_", "kind_of", "pictures_in"]

TEXT_TABLES = (".csv", ".tsv", ".txt", ".inter")


def import_(kind: str, path: Path | str, out: Path | str) -> Mapping[str, object]:
    """Turn a download (a folder, a file, or a .zip of either) into the canonical folder `out`; returns its card.

    Raises BadInput and its kin for an unknown kind, a layout that is not this kind's, and any bad table; then `out`
    is not there.
    """
    if kind not in KINDS:
        raise BadInput(f"no kind of source {kind!r}.{near(kind, KINDS)} Kinds: {', '.join(KINDS)}")
    if not str(path).strip():
        raise BadInput("the place of the data is empty. Give a folder or a file.")
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
    if kind := _looks_like(names):
        return kind
    if root.suffix in (".parquet", *TEXT_TABLES):
        return "parquet" if root.suffix == ".parquet" else "csv"
    raise BadInput(f"{path} looks like no known kind of data; kinds: {', '.join(KINDS)}. It has: {some(names, 12)}")


def _looks_like(names: list[str]) -> str:
    """The kind whose files have such names, or nothing."""
    for kind, pattern in (
        ("movielens", r"ratings\.dat|u\.data|movies\.csv"),
        ("rlmrec", r"trn_?[mM]at\.pkl"),
        ("mmrec", r".*\.inter"),
        ("parquet", r"interactions\.parquet"),
        ("csv", r"interactions\.(csv|tsv|txt)"),
    ):
        if any(re.fullmatch(pattern, name) for name in names):
            return kind
    return ""


def _refuse_other_kind(root: Path, kind: str) -> None:
    """BadInput when a folder without this kind's table of interactions has that of another kind."""
    other = _looks_like([f.name for f in root.iterdir()])
    if other not in ("", kind):
        raise BadInput(
            f"{root.name} has no interactions.{kind}; it looks like kind {other}. "
            f"Import it:  penchant data import {other} PATH --out DIR"
        )


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
    if not main.is_file():
        _refuse_other_kind(base, "parquet")
    notes: dict[str, int] = {}
    given, columns = renamed(read_parquet(main), "interactions", notes)
    interactions = check_interactions(given, main.name, notes)
    items, users = (
        (None, None)
        if root.is_file()
        else (_rows(base, kind, columns, interactions, notes) for kind in ("item", "user"))
    )
    tables = {} if root.is_file() else _others(base, notes)
    _unused(
        root, r"(interactions|items|users|images|posters)\.parquet|.*\.(parquet|npy|ids\.txt)|README.*|features", notes
    )
    about = base / "README.md"
    readme = about.read_text("utf-8", "replace") if about.is_file() and not root.is_file() else ""
    return Contents(
        name="",
        source=_said(readme, r"(?:Provenance|How|Source)[^:\n]{0,20}:\s*(.+?)(?=\s+Terms\b|\n|$)"),
        terms=_said(readme, r"Terms[^:\n]{0,40}:\s*(.+)"),
        interactions=interactions,
        items=items,
        users=users,
        tables=tables,
        pictures=None if root.is_file() else pictures_in(base, notes),
        features={} if root.is_file() else _features(base, items, notes),
        columns=columns,
        notes=notes,
    )


def csv(root: Path) -> Contents:
    """One text table of interactions, or a folder with interactions.csv and perhaps items.csv and users.csv.

    The delimiter is found out; .tsv and .txt will do as well. Ids are text to the last character ("007" is not "7").
    Columns of items that hold numbers throughout become numbers.
    """
    tables = {} if root.is_file() else _text_tables(root)
    if root.is_dir() and "interactions" not in tables:
        _refuse_other_kind(root, "csv")
        if len(tables) != 1 or not tables.keys() - {"items", "users"}:
            raise MissingFile(logless(root, tables))
        tables = {"interactions": next(iter(tables.values()))}
    main = root if root.is_file() else tables["interactions"]
    notes: dict[str, int] = {}
    given, columns = renamed(read_delimited(main, notes), "interactions", notes)
    with located(main, columns):
        interactions = check_interactions(given, main.name, notes)
    rows: dict[str, pl.DataFrame] = {}
    for kind in ("item", "user"):
        if f"{kind}s" in tables:
            file = tables[f"{kind}s"]
            table, more = renamed(read_delimited(file, notes), f"{kind}s", notes, columns)
            with located(file, more):
                checked = check_rows(typed(table, f"{kind}_id"), f"{kind}_id", file.name)
            rows[kind] = _related(checked.frame, interactions, kind, file.name, main.name)
            columns.update(more)
            notes.update(checked.notes)
    used = {tables[name].name for name in ("interactions", "items", "users") if name in tables}
    _unused(root, "|".join(map(re.escape, used)), notes)
    pictures = None if root.is_file() else pictures_in(root, notes)
    return Contents("", "", interactions, rows.get("item"), rows.get("user"), {}, pictures, {}, "", columns, notes)


def _text_tables(root: Path) -> dict[str, Path]:
    """The text tables of a folder by name, without regard to case. Raises BadInput when two have one name."""
    tables: dict[str, Path] = {}
    for file in sorted(root.iterdir()):
        if file.suffix.lower() in TEXT_TABLES and file.is_file():
            other = tables.setdefault(file.stem.lower(), file)
            if other != file and file.stem.lower() in ("interactions", "items", "users"):
                raise BadInput(f"{root.name} has {other.name} and {file.name}. Which is it? Remove or rename one.")
    return tables


def _unused(root: Path, used: str, notes: dict[str, int]) -> None:
    """Notes what lies in the folder, or beside a single file under a name that we would take, and is not read."""
    if root.is_dir():
        names = [f.name for f in sorted(root.iterdir()) if not f.name.startswith(".")]
        left = [n for n in names if not re.fullmatch(used, n) and not (n == "images" and (root / n).is_dir())]
        notes[f"files and folders not used ({some(left)})"] = len(left)
    else:
        known = [f.name for f in sorted(root.parent.iterdir()) if re.fullmatch(r"(items|users)\.\w+|images", f.name)]
        notes[f"files beside {root.name} not used ({some(known)}); give the folder to use them"] = len(known)


def _related(rows: pl.DataFrame, interactions: pl.DataFrame, kind: str, where: str, main: str) -> pl.DataFrame:
    """The rows of items or users. Raises BadTable when the interactions know none of them: another column is meant."""
    key = f"{kind}_id"
    if rows.height and (rows_of(interactions[key].unique(), rows[key].to_list()) < 0).all():
        raise BadTable(
            f"no {kind} of {main} is in {where}: {some([interactions[key][0]])} there, {some([rows[key][0]])} here. "
            f"Name the column that holds the same ids `{key}` in both."
        )
    return rows


def _rows(
    base: Path, kind: str, columns: dict[str, str], interactions: pl.DataFrame, notes: dict[str, int]
) -> pl.DataFrame | None:
    file = base / f"{kind}s.parquet"
    if not file.is_file():
        return None
    table, changes = renamed(read_parquet(file), f"{kind}s", notes, columns)
    checked = check_rows(table, f"{kind}_id", file.name)
    columns.update(changes)
    notes.update(checked.notes)
    return _related(checked.frame, interactions, kind, file.name, "interactions.parquet")


def _others(base: Path, notes: dict[str, int]) -> dict[str, pl.DataFrame]:
    """Every further table of choices, by name, its ids as text; others are noted."""
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
        else:
            notes[f"tables without user_id and item_id left out ({file.name})"] = 1
    return tables


def pictures_in(base: Path, notes: dict[str, int]) -> Pictures | None:
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
        source, names, left = picture_files(base / "images")
        keys = pl.Series(names, dtype=pl.String)
        notes.update(left)
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
