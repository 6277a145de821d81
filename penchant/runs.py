"""A run folder, opened for recommending: the kept model and the words of its items."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from penchant import saved
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids
from penchant.errors import BadModel, MissingFile
from penchant.model import Recommender
from penchant.report import write_whole

__all__ = ["Opened", "read", "write_items"]


@dataclass(frozen=True, eq=False)
class Opened:
    """What `penchant recommend`, `similar` and `why` need."""

    folder: Path
    recommender: Recommender
    catalog: Catalog


def write_items(catalog: Catalog, items: Ids, out: Path) -> None:
    """items.parquet in a run folder: titles, texts and typed columns, so that the folder stands alone."""
    rows = [int(r) if r >= 0 else None for r in catalog.items.rows(items.keys)]
    columns: dict[str, Any] = {"item_id": items.keys}
    for name, values in catalog.fields.items():
        columns[name] = pl.Series([None if r is None else values[r] for r in rows], dtype=pl.String)
    for name, series in catalog.numbers.items():
        columns[name] = pl.Series([None if r is None else series[r] for r in rows], dtype=series.dtype)
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    write_whole(out / "items.parquet", buffer.getvalue())


def read(folder: Path | str) -> Opened:
    """The model and catalogue of a finished run. Raises MissingFile, BadModel."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFile(f"no run folder {folder}. Make one:  penchant run RECIPE.toml --out {folder}")
    if not (folder / "model").exists() and (folder / "run.json").exists():
        raise MissingFile(f"the run in {folder} is not finished. Go on with it:  {_again(folder)}")
    rec = saved.read(folder / "model")
    path = folder / "items.parquet"
    try:
        table = pl.read_parquet(path) if path.exists() else pl.DataFrame({"item_id": rec.items.keys})
        keys = Ids("item", tuple(table["item_id"].to_list()))
    except (pl.exceptions.PolarsError, OSError, TypeError) as error:
        raise BadModel(f"{path} is damaged: {error}. Run the recipe again:  {_again(folder)}") from None
    text = {c: tuple(table[c].to_list()) for c in table.columns if c != "item_id" and table[c].dtype == pl.String}
    numbers = {c: table[c] for c in table.columns if c != "item_id" and c not in text}
    return Opened(folder, rec, Catalog(keys, text, Pictures.none(keys), numbers))


def _again(folder: Path) -> str:
    name = "RECIPE.toml"
    with contextlib.suppress(OSError, ValueError):
        name = json.loads((folder / "run.json").read_text("utf-8")).get("recipe") or name
    return f"penchant run {name} --out {folder}"
