"""Everybody: all people that a service knows, as queries; of those with new choices all they chose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from penchant import runs
from penchant.data import Ids, Queries
from penchant.errors import BadModel
from penchant.model import Recommender
from penchant.serve.newest import Newest
from penchant.serve.served import Served
from penchant.serve.state import State

__all__ = ["everybody"]


def everybody(run: Path, state: State | None) -> tuple[Recommender, Ids, Queries, sparse.csr_matrix, np.ndarray]:
    """The model, who there is, what is known of each, what is not recommended to each again, and rows that nobody is shown."""
    if state is None:
        rec = runs.read(Newest.of(run).folder).recommender
        return rec, rec.users, rec.known, (rec.seen or rec.known).matrix(len(rec.items)), np.zeros(0, np.int64)
    with state:
        served = Served.load(run, state)
    if served.problem:
        raise BadModel(f"the model can't be used, and popular items are not what was asked for: {served.problem}")
    rec, people = served.rec, served.people
    later = people.late()
    stay = [row for row, user in enumerate(rec.users.keys) if people.row(user) >= 0 and user not in later]
    keys = [*(rec.users.keys[row] for row in stay), *later]
    known = _rows(rec.known, stay, [served.queries(user) for user in later])
    seen = _rows(rec.seen or rec.known, stay, [served.stranger(served.seen(user)) for user in later])
    return rec, Ids("user", tuple(keys)), known, seen.matrix(len(rec.items)), served.goods.hidden


def _rows(queries: Queries, rows: list[int], more: list[Queries]) -> Queries:
    starts = queries.history_starts
    histories = [queries.history_items[starts[r] : starts[r + 1]] for r in rows]
    return Queries.of([*rows, *(-1 for _ in more)], [*histories, *(one.history_items for one in more)])
