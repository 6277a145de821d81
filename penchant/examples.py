"""Examples for a report: a few people, what they chose, what they are recommended and why."""

from __future__ import annotations

import numpy as np

from penchant.catalog import Catalog
from penchant.page import Card, Example
from penchant.protocols import COLD
from penchant.reasons import explain
from penchant.report import Protocol
from penchant.results import Audience
from penchant.run import Run
from penchant.split import Split

__all__ = ["audience", "choose", "make"]

SHOWN_HISTORY = 12


def choose(run: Run, people: int = 3) -> list[str]:
    """Evaluated users with short, middling and long histories; the same ones in every report of the same data."""
    split = run.prepared.split
    length = np.bincount(split.train.user, minlength=len(split.users))
    rows = split.users.rows(run.per_user.users)
    order = rows[np.lexsort((rows, length[rows]))]
    order = order[length[order] >= min(4, int(length[order].max(initial=0)))]
    places = np.linspace(0, 1, people + 2)[1:-1]
    return [split.users.keys[order[int(p * (len(order) - 1))]] for p in places] if len(order) else []


def make(run: Run, users: list[str] | None = None, k: int = 10) -> tuple[Example, ...]:
    """One Example a user: history in time order, k recommendations with reasons, held-out choices marked."""
    split, rec, catalog = run.prepared.split, run.recommender, run.prepared.data.catalog
    found = []
    for user in users or choose(run):
        row = split.users.row(user)
        held = set(split.test.item[split.test.user == row].tolist())
        known = rec.known.take(slice(row, row + 1)).history_items
        result = rec.recommend([user], k)[0]
        cards = []
        for key, score in zip(result.items, result.scores, strict=True):
            reason = explain(rec, user, key, catalog, drives=run.drives).sentence
            cards.append(_card(catalog, key, score=score, reason=reason, hit=split.items.row(key) in held))
        history = tuple(_card(catalog, split.items.keys[i]) for i in known[-SHOWN_HISTORY:])
        found.append(Example(user, history, tuple(cards), result.note))
    return tuple(found)


def audience(run: Run) -> Audience:
    """How often each item was chosen in train and is recommended now, how much is known of each user, and what competes."""
    split, known = run.prepared.split, run.recommender.known
    trained = np.bincount(split.train.item, minlength=len(split.items))
    rows = split.users.rows(run.per_user.users)
    length = np.diff(known.history_starts)[rows]
    return Audience(trained, run.top.counts(), length, competing(split, run.report.protocol, rows))


def competing(split: Split, protocol: Protocol, users: np.ndarray) -> np.ndarray:
    """How many items a held-out one is ranked among, itself one of them, for each of these rows. (U,)"""
    _, _, count = protocol.ranking.partition("@")
    if count:
        return np.full(len(users), int(count))
    hidden = split.known(protocol.mask).matrix()[users]
    if split.cold is not None and COLD in protocol.ranking:
        hidden = hidden[:, split.cold]
    return hidden.shape[1] - hidden.getnnz(axis=1)


def _card(catalog: Catalog, key: str, score: float = float("nan"), reason: str = "", hit: bool = False) -> Card:
    row = catalog.items.rows_by_key.get(key, -1)
    if row < 0:
        return Card(key, key, None, "", score, reason, hit)
    picture = catalog.pictures.read(row)
    return Card(key, catalog.title(row), picture, caption(catalog, row), score, reason, hit)


def caption(catalog: Catalog, row: int) -> str:
    """Category and price, where the catalogue has them."""
    parts = []
    categories = catalog.fields.get("categories")
    if categories and categories[row]:
        parts.append(str(categories[row]).split(",")[-1].strip())
    price = catalog.numbers.get("price")
    if price is not None and price[row] is not None:
        parts.append(f"{price[row]:.2f}")
    return " · ".join(parts)
