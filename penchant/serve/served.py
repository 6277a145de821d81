"""Served: one run with everything that came since, ready to answer. A reload makes another beside it and swaps them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from penchant import runs
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Queries, no_history
from penchant.errors import Leak, MissingFile
from penchant.model import Recommender
from penchant.runs import Opened
from penchant.scorers import Popularity
from penchant.serve.goods import Goods
from penchant.serve.nearby import Nearby
from penchant.serve.newest import Newest
from penchant.serve.people import People
from penchant.serve.state import State

__all__ = ["Served", "open_run"]

log = logging.getLogger("penchant.serve")
LATE = 1_000  # choices by the service that a list is made from, the newest


@dataclass(frozen=True, eq=False)
class Served:
    """problem: why popular items stand in for the model; "" where it answers itself. popular: (I,) choices of each item, live ones
    too; written to in place."""

    newest: Newest
    goods: Goods
    people: People
    popular: np.ndarray
    reviews: dict[tuple[str, str], str]
    problem: str = ""
    nearby: Nearby | None = None

    @staticmethod
    def load(folder: Path, state: State) -> Served:
        """The newest run of a folder with what the state has. Raises MissingFile where there is no run at all."""
        newest = Newest.of(folder)
        return Served.of(newest, open_run(newest.folder), state)

    @staticmethod
    def of(newest: Newest, run: tuple[Opened, str], state: State) -> Served:
        """What `open_run` gave, with what the state has."""
        opened, problem = run
        ident = state.ident()
        folded, unknown = newest.known(ident), newest.state not in ("", ident)
        # Who was forgotten before this run was trained is in it with what she chose afterwards, if at all.
        forgotten = frozenset(one for one, after in state.forgotten().items() if after > folded)
        goods = Goods.of(opened, list(state.items()), state.deleted())
        people = People(opened.recommender, forgotten)
        served = Served(newest, goods, people, _counts(goods.rec), {}, problem)
        for number, event in state.events():
            # What the model was trained with is not told twice; what a split held out from it still is hers. Of a state whose numbers
            # mean nothing to the run, nobody knows which events those were.
            if (unknown or number <= folded) and people.was_trained(event.user_id, event.item_id):
                people.passed(event)
            else:
                served.count(event.item_id)
                people.add(event)
        if opened.drives is not None:
            said = {pair: text for pair, text in opened.drives.reviews.items() if people.row(pair[0]) >= 0}
            served = replace(served, reviews=said)
            drives = replace(opened.drives, reviews=said)
            served = replace(served, goods=replace(goods, base=replace(opened, drives=drives)))
        return served

    @property
    def rec(self) -> Recommender:
        return self.goods.rec

    @property
    def folder(self) -> Path:
        return self.newest.folder

    def count(self, key: str) -> None:
        row = self.rec.items.rows_by_key.get(key, -1)
        if 0 <= row < len(self.popular):
            self.popular[row] += 1

    def add_counts(self, keys: Sequence[str], counts: np.ndarray) -> None:
        """Choices of items by their keys, on top of those that are known."""
        rows = self.rec.items.rows(keys)
        np.add.at(self.popular, rows[rows >= 0], counts[rows >= 0].astype(np.float32))

    def with_goods(self, goods: Goods) -> Served:
        popular = self.popular
        if len(goods.rec.items) > len(popular):
            popular = np.concatenate([popular, np.zeros(len(goods.rec.items) - len(popular), np.float32)])
        return replace(self, goods=goods, popular=popular)

    def forget(self, user: str) -> None:
        """What is in memory of a person."""
        self.people.forget(user)
        for pair in [pair for pair in self.reviews if pair[0] == user]:
            del self.reviews[pair]

    def queries(self, user: str) -> Queries:
        """Someone who chose something since training is judged by all she chose, like a stranger; her trained row, which knows
        nothing of it, is not asked."""
        row, live = self.people.row(user), self.people.live(user)
        if not live:
            if row < 0:
                return no_history([-1])
            past = self.people.trained(user)
            return Queries(np.array([row]), np.array([0, len(past)]), past)
        return self.stranger([*self.people.trained(user).tolist(), *self.rows(c.item_id for c in live[-LATE:])])

    def stranger(self, rows: list[int]) -> Queries:
        """The newest place of each item counts."""
        return Queries.of([-1], [list(dict.fromkeys(reversed(rows)))[::-1]])

    def rows(self, keys: Iterable[str]) -> list[int]:
        """Rows of those keys that the model knows."""
        get = self.rec.items.rows_by_key.get
        return [row for key in keys if (row := get(key, -1)) >= 0]

    def seen(self, user: str) -> list[int]:
        """Rows that are not recommended to her again."""
        return [*self.people.seen(user).tolist(), *self.rows(c.item_id for c in self.people.live(user))]


def open_run(folder: Path) -> tuple[Opened, str]:
    """A run, or where its model can't be used what most people chose in it, with the reason. Raises MissingFile, Leak."""
    try:
        return runs.read(folder), ""
    except Leak:
        raise
    except Exception as error:
        if isinstance(error, MissingFile) and not (folder / "items.parquet").exists():
            raise
        problem = str(error)
    log.warning("the model can't be used: %s", problem)
    try:
        return runs.read(folder, plain=True), problem
    except Exception:
        return _bare(folder), problem


def _bare(folder: Path) -> Opened:
    """The catalogue alone, where nothing of the model can be read; without that, nothing."""
    try:
        catalog = runs.catalog_of(folder, Ids("item", ()))
    except Exception:
        catalog = Catalog(Ids("item", ()), {}, Pictures.none(Ids("item", ())))
    keys = catalog.items
    rec = Recommender("popular", {}, Ids("user", ()), keys, Popularity(np.zeros(len(keys), np.float32)), no_history([]))
    return Opened(folder, rec, catalog)


def _counts(rec: Recommender) -> np.ndarray:
    return np.array(rec.popularity, np.float32)
