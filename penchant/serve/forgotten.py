"""Forgotten: what a run folder still holds of a person who asked to be forgotten, and taking out what can be."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import polars as pl

from penchant.report import write_whole

__all__ = ["remains"]

TABLES = ("reviews.parquet", "top.parquet", "per_user.parquet")


def remains(run: Path, folder: Path, user: str, trained: bool) -> list[str]:
    """Take the person's rows out of the tables of a run; what can't be taken out, in words."""
    left = []
    for name in TABLES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            _without(file, user)
        except Exception as error:
            left.append(f"{name} could not be written ({type(error).__name__}): remove the rows of this person by hand")
    if trained:
        left.append(
            "the model was trained with this person's choices, and its folder lists the id; a refresh makes one without:  "
            f"penchant refresh {shlex.quote(str(run))}"
        )
        left.append("texts that language models wrote of this person, if any:  penchant forget --user ID --store DIR")
        left.append("the data that the run was made from, which are yours")
    return left


def _without(file: Path, user: str) -> None:
    """A table without one person, written whole."""
    table = pl.read_parquet(file)
    if "user_id" not in table.columns:
        return
    kept = table.filter(pl.col("user_id") != user)
    if kept.height == table.height:
        return
    buffer = io.BytesIO()
    kept.write_parquet(buffer)
    write_whole(file, buffer.getvalue())
