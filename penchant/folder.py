"""The canonical data folder: read it, write it.

    interactions.parquet   user_id, item_id (text), and any of: timestamp (s) or position (order within the user),
                           rating, review, split (0 train, 1 valid, 2 test); other columns are kept
    interactions_*.parquet other choices of rows, e.g. a core, each evaluated on its own vocabulary
    items.parquet          item_id and text columns (title, description, brand, categories, ...), numbers, booleans
    users.parquet          user_id and text columns
    images.parquet         item_id, bytes; or images/, each file named by its percent-quoted item id + extension
    features/NAME.npy      float32, with NAME.ids.txt: one JSON string a line
    card.toml              name, source, terms, hash, counts. Written last: a folder without it is not complete.

A folder is written beside its place and renamed into it, so it is there whole or not at all, and never overwritten.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from penchant.arrays import save_features
from penchant.assembly import assemble
from penchant.catalog import Pictures
from penchant.data import Dataset, Ids, digest
from penchant.errors import BadInput, MissingFile, near
from penchant.features import Features
from penchant.split import PARTS
from penchant.tables import check_interactions

__all__ = ["Contents", "is_canonical", "read", "save", "vacant", "write"]

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Contents:
    """What is to be saved as a canonical folder: checked tables, pictures, features, and where all came from.

    tables: further parquet files by name, such as interactions_core5. columns: which given column became which.
    """

    name: str
    source: str
    interactions: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    pictures: Pictures | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    terms: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)


def is_canonical(path: Path | str) -> bool:
    """Whether the path is a complete canonical folder."""
    return (Path(path) / "card.toml").is_file() and (Path(path) / "interactions.parquet").is_file()


def read(
    path: Path | str,
    interactions: str = "interactions",
    min_rating: float | None = None,
    strict: bool = False,
    split: str = "split",
) -> Dataset:
    """The data set in a canonical folder. `notes` counts what was accepted and what was dropped.

    interactions: the table to read. Of the default table all items of the catalogue belong to the vocabulary, those
    nobody chose too; another table, such as interactions_core5, is evaluated on its own vocabulary: only the users
    and items that occur in it. Users and items are in the order of users.parquet and items.parquet, then by first
    appearance. min_rating: rows rated lower are dropped. split: the column that holds the given parts.
    A pair that occurs twice is kept once: the row of the earliest part, then time, then place.

    Raises MissingFile, BadTable (see `penchant.tables`), Misaligned for features of another length, and, when
    strict, BadTable for interactions whose item has no catalogue row.
    """
    path = Path(path)
    if not path.is_dir():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise MissingFile(f"no folder {path}.{near(path.name, siblings)}")
    if not is_canonical(path):
        raise BadInput(
            f"{path} is no canonical data folder: it has no card.toml and interactions.parquet. "
            f"Import it:  penchant data import KIND {path} --out DIR"
        )
    return assemble(path, _card(path), interactions, min_rating, strict, split)


def write(dataset: Dataset, path: Path | str) -> Mapping[str, object]:
    """Save a data set as a canonical folder and return its card. Raises BadInput when the place is taken."""
    choices, catalog = dataset.interactions, dataset.catalog
    columns: dict[str, object] = {
        "user_id": _spread(choices.users, choices.user),
        "item_id": _spread(choices.items, choices.item),
        "timestamp": choices.time,
        "position": choices.position,
        "rating": choices.value,
        "review": None if choices.review is None else pl.Series(choices.review, dtype=pl.String),
        "split": dataset.given,
    }
    table = pl.DataFrame({name: column for name, column in columns.items() if column is not None})
    texts = {name: pl.Series(values, dtype=pl.String) for name, values in catalog.fields.items()}
    profiles = {name: pl.Series(values, dtype=pl.String) for name, values in dataset.user_fields.items()}
    card = dataset.card
    return save(
        Contents(
            name=dataset.name,
            source=str(card.get("source", "")),
            terms=str(card.get("terms", "")),
            interactions=check_interactions(table, "interactions"),
            items=pl.DataFrame({"item_id": pl.Series(catalog.items.keys, dtype=pl.String), **texts, **catalog.numbers}),
            users=pl.DataFrame({"user_id": pl.Series(dataset.users.keys, dtype=pl.String), **profiles}),
            pictures=catalog.pictures,
            features=dataset.features,
            notes=imported if isinstance(imported := card.get("imported"), Mapping) else {},
        ),
        path,
    )


def save(contents: Contents, path: Path | str) -> Mapping[str, object]:
    """Write a canonical folder whole or not at all, and return its card.

    What was written is read back before the card is made, so a folder that has a card can be read.
    Raises BadInput when the place is taken, and whatever `read` raises.
    """
    path = Path(path).resolve()
    vacant(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            folder = work / "folder"  # made by mkdir, so with the permissions that any new folder has
            folder.mkdir()
            card = _fill(contents, folder)
            vacant(path)
            if path.exists():
                path.rmdir()
            folder.rename(path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        why = f"{error.strerror or error} ({error.filename})"
        raise BadInput(f"cannot write {path}: {why}. Mend that, or choose another --out.") from None
    return card


def vacant(path: Path | str) -> None:
    """Raises BadInput unless the path is free or an empty folder."""
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise BadInput(f"{path} exists already and is never overwritten. Remove it, or choose another --out.")


def _fill(contents: Contents, folder: Path) -> Mapping[str, object]:
    """All files of a canonical folder, the card last."""
    tables = {"interactions": contents.interactions, "items": contents.items, "users": contents.users}
    for name, table in (*contents.tables.items(), *tables.items()):
        if table is not None:
            table.write_parquet(folder / f"{name}.parquet")
    notes = {name: count for name, count in contents.notes.items() if count}
    if contents.pictures is not None and contents.pictures.present.any():
        empty = _save_pictures(contents.pictures, folder / "images.parquet")
        notes |= {"pictures without any bytes left out": empty} if empty else {}
    for name, features in contents.features.items():
        save_features(features, folder / "features", name)
    card = _make_card(contents, folder, notes)
    (folder / "card.toml").write_text(_toml(card), "utf-8")
    return card


def _spread(vocabulary: Ids, rows: np.ndarray) -> pl.Series:
    return pl.Series(vocabulary.keys, dtype=pl.String).gather(rows)


def _save_pictures(pictures: Pictures, file: Path) -> int:
    """item_id, bytes; in batches, uncompressed because encoded pictures do not shrink. The number of empty ones."""
    schema = pa.schema([("item_id", pa.string()), ("bytes", pa.binary())])
    rows = np.flatnonzero(pictures.present)
    empty = 0
    with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, len(rows), 256):
            batch = [(pictures.items.keys[i], pictures.read(i)) for i in rows[start : start + 256]]
            full = [(key, raw) for key, raw in batch if raw]
            empty += len(batch) - len(full)
            writer.write_table(pa.table([[k for k, _ in full], [raw for _, raw in full]], schema=schema))
    return empty


def _make_card(contents: Contents, folder: Path, notes: Mapping[str, int]) -> dict[str, object]:
    """The card of a folder that is complete but for the card."""
    kinds = {name: features.ids.kind for name, features in contents.features.items()}
    data = assemble(folder, {"name": contents.name, "features": kinds})
    given = {} if data.given is None else dict(zip(PARTS, np.bincount(data.given, minlength=3).tolist(), strict=True))
    content: list[bytes | str | np.ndarray] = [data.hash, data.catalog.hash, data.catalog.pictures.present]
    for name, numbers in sorted(data.catalog.numbers.items()):
        content += [name, numbers.cast(pl.Float64).fill_null(float("nan")).to_numpy()]
    for name, texts in sorted(data.user_fields.items()):
        content += [name, *("\0" if text is None else text for text in texts)]
    content += [part for name in data.features for part in (name, data.features[name].hash)]
    content += [assemble(folder, {}, name).hash for name in sorted(contents.tables) if name.startswith("interactions")]
    return {
        "format": FORMAT,
        "name": contents.name,
        "source": contents.source,
        "terms": contents.terms,
        "hash": digest(*content),
        "counts": {
            "users": len(data.users),
            "items": len(data.items),
            "interactions": len(data.interactions),
            **given,
            "texts": int(data.catalog.texts().present.sum()),
            "pictures": int(data.catalog.pictures.present.sum()),
        },
        "features": kinds,
        "columns": dict(contents.columns),
        "accepted": {**notes, **data.notes},
        "imported": notes,
    }


def _card(path: Path) -> Mapping[str, object]:
    try:
        card = tomllib.loads((path / "card.toml").read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}/card.toml is damaged: {error}. Import the data again.") from None
    if not isinstance(card.get("format"), int) or card["format"] > FORMAT:
        raise BadInput(
            f"{path} was written in format {card.get('format')}; this version reads up to {FORMAT}. Update Penchant."
        )
    return card


def _toml(card: Mapping[str, object]) -> str:
    """A card of numbers, texts and tables of these, as TOML; its strings are written as JSON's, which TOML reads."""

    def lines(table: Mapping[str, object]) -> list[str]:
        flat = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
        return [f"{name(key)} = {quoted(value)}" for key, value in flat.items()]

    def name(key: str) -> str:
        return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)

    def quoted(value: object) -> str:
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

    out = lines(card)
    for key, value in card.items():
        if isinstance(value, Mapping) and value:
            out += ["", f"[{name(key)}]", *lines(value)]
    return "\n".join(out) + "\n"
