"""Exported: the best items of everybody in one pass, as a table."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from penchant import topk
from penchant.data import Ids, Queries
from penchant.errors import BadInput
from penchant.model import Recommender
from penchant.report import write_whole
from penchant.scorers import Popularity

__all__ = ["lists", "write"]

THREADS = 2


def lists(
    rec: Recommender, users: Ids, queries: Queries, seen: sparse.csr_matrix, hidden: np.ndarray, k: int, seed: int = 0
) -> pl.DataFrame:
    """user_id, rank (from 1), item_id, score; personal is false where popular items stand in for someone of whom nothing is known.

    seen: (B, I) what is not recommended again. hidden: rows of items that nobody is recommended.
    """
    only = np.ones(len(rec.items), bool)
    only[hidden] = False
    k = min(k, len(rec.items))
    blank = (np.diff(queries.history_starts) == 0) & rec.scorer.personal
    items, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)

    def part(rows: slice) -> None:
        items[rows], scores[rows] = topk.top(rec, queries.take(rows), k, seen[rows], only, seed)

    size = -(-len(queries) // THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(part, (slice(start, start + size) for start in range(0, len(queries), max(size, 1)))))
    plain = np.flatnonzero(blank)
    if len(plain):
        asked = Queries.of(queries.users[plain], [np.zeros(0, np.int64)] * len(plain))
        items[plain], scores[plain] = topk.top(Popularity(rec.popularity), asked, k, seen[plain], only, seed)
    row, place = np.nonzero(items >= 0)
    keys = pl.Series(rec.items.keys, dtype=pl.String)
    return pl.DataFrame(
        {
            "user_id": pl.Series(users.keys, dtype=pl.String).gather(row),
            "rank": (place + 1).astype(np.int32),
            "item_id": keys.gather(items[row, place]),
            "score": scores[row, place],
            "personal": (~blank & rec.scorer.personal)[row],
        }
    )


def write(table: pl.DataFrame, file: Path) -> None:
    """As .csv or .parquet, whole or not at all. Raises BadInput for another ending, or where it can't be written."""
    out = io.BytesIO()
    if file.suffix == ".csv":
        table.write_csv(out)
    elif file.suffix == ".parquet":
        table.write_parquet(out)
    else:
        raise BadInput(f"{file}: a table is written as .csv or .parquet. Name it so:  --parquet {file.stem}.parquet")
    write_whole(file, out.getvalue())
