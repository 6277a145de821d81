"""Drives in a run folder: motives.json, names of motivations, and reviews.parquet, what people said in the train part."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from penchant.drives import Drives
from penchant.errors import BadModel
from penchant.report import write_whole

__all__ = ["NAMES", "read", "write"]

NAMES = ("motives.json", "reviews.parquet")


def write(drives: Drives | None, out: Path) -> None:
    """For models that say what moves people; of others nothing is left there."""
    for name in NAMES:
        (out / name).unlink(missing_ok=True)
    if drives is None:
        return
    users, items = ([key[side] for key in drives.reviews] for side in (0, 1))
    buffer = io.BytesIO()
    table = {"user_id": users, "item_id": items, "review": list(drives.reviews.values())}
    pl.DataFrame(table, schema=dict.fromkeys(table, pl.String)).write_parquet(buffer)
    write_whole(out / "reviews.parquet", buffer.getvalue())
    write_whole(out / "motives.json", drives.to_json().encode())


def read(folder: Path, again: str) -> Drives | None:
    """What `write` wrote; None where the model says nothing of it. again: the command that makes it anew. Raises BadModel."""
    if not (folder / "motives.json").exists():
        return None
    try:
        table = pl.read_parquet(folder / "reviews.parquet")
        pairs = zip(table["user_id"].to_list(), table["item_id"].to_list(), strict=True)
        reviews = dict(zip(pairs, table["review"].to_list(), strict=True))
        return Drives.of_json((folder / "motives.json").read_text("utf-8"), reviews)
    except (pl.exceptions.PolarsError, OSError, TypeError, ValueError, LookupError) as error:
        raise BadModel(
            f"motives.json or reviews.parquet in {folder} is damaged: {error}. Run the recipe again:  {again}"
        ) from None
