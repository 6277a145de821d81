"""Forgotten: what a run folder still holds of a person who asked to be forgotten, and taking out what can be."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import polars as pl

from penchant.report import write_whole
from penchant.serve.newest import Newest, unfinished

__all__ = ["remains"]

TABLES = ("reviews.parquet", "top.parquet", "per_user.parquet")


def remains(run: Path, newest: Newest, user: str, trained: bool) -> list[str]:
    """Take the person's rows out of the tables of a run and of its refreshes; what can't be taken out, in words."""
    left = []
    for folder in (run, *(run.parent / name for name in newest.made)):
        for name in TABLES:
            if (folder / name).is_file():
                try:
                    _without(folder / name, user)
                except Exception as error:
                    left.append(
                        f"{folder.name}/{name} could not be written ({type(error).__name__}): remove the rows by hand"
                    )
    begun = [name for name in unfinished(run)[0] if (run.parent / name).exists()]
    if begun:
        left.append(
            f"what a refresh that did not end has written ({', '.join(begun)}); the next one writes it anew, or remove it"
        )
    data = [name for name in newest.made if name.endswith("-data")]
    if trained or data:
        again = f"penchant refresh {shlex.quote(str(run))}"
        left.append(
            f"models that were trained before now, and what refreshes wrote for them ({', '.join((run.name, *newest.made))}); a new one is "
            f"without this person, the others you may remove:  {again}"
        )
    if trained:
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
