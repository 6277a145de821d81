"""Remarks: what people said of what they chose, ratings and reviews, found by person and item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from penchant.data import Ids, Interactions, digest
from penchant.enrich.prompt import Prompt
from penchant.lm import tokens
from penchant.lm.fence import clean

__all__ = ["Remarks", "highest", "stars"]

LONG = 20_000  # letters of a review that are looked at


class Remarks:
    """A remark is shown beside its choice alone: where the choice is not in a history, nothing that was said of it is seen.

    user, item: (N,) rows of `users` and of the items that histories hold; value: (N,) ratings, or None; review: N texts, or None.
    source: hash of the interactions they came with.
    """

    def __init__(
        self,
        users: Ids,
        user: np.ndarray,
        item: np.ndarray,
        value: np.ndarray | None,
        review: Sequence[str | None] | None,
        source: str,
    ) -> None:
        self.users, self.value, self.review, self.source = users, value, review, source
        self.order = np.lexsort((item, user))
        self.item = item[self.order]
        self.starts = np.searchsorted(user[self.order], np.arange(len(users) + 1))

    @staticmethod
    def of(train: Interactions, items: Ids, prompt: Prompt) -> Remarks | None:
        """Of what this prompt reads; None where it reads none, or people said nothing. Choices of what `items` lacks are left out."""
        if "choices" not in prompt.blocks:
            return None
        value = train.value if "ratings" in prompt.sees else None
        review = train.review if "train reviews" in prompt.sees else None
        if value is None and review is None:
            return None
        there = np.flatnonzero(items.rows(train.items.keys)[train.item] >= 0)
        item = items.rows(train.items.keys)[train.item[there]]
        value = None if value is None else value[there]
        review = None if review is None else tuple(review[n] for n in there.tolist())
        return Remarks(train.users, train.user[there], item, value, review, train.hash)

    def beside(self, user: str | None, item: int) -> tuple[tuple[str, str], ...]:
        """("rating", "4/5") and ("review", ...) of this choice, as far as there are any."""
        row = -1 if user is None else self.users.rows_by_key.get(user, -1)
        if row < 0:
            return ()
        begin, end = self.starts[row], self.starts[row + 1]
        at = begin + int(np.searchsorted(self.item[begin:end], item))
        if at == end or self.item[at] != item:
            return ()
        one = int(self.order[at])
        rated = self.value is not None and np.isfinite(self.value[one])
        rating = stars(float(self.value[one]), self.best) if self.value is not None and rated else ""
        review = "" if self.review is None else clean((self.review[one] or "")[:LONG])
        return tuple((name, said) for name, said in (("rating", rating), ("review", review)) if said)

    @cached_property
    def best(self) -> float:
        assert self.value is not None
        return highest(self.value)

    @cached_property
    def hash(self) -> str:
        counts = np.diff(self.starts)
        value = np.zeros(0) if self.value is None else self.value[self.order]
        said = [] if self.review is None else [self.review[n] or "" for n in self.order.tolist()]
        return digest(*self.users.keys, counts, self.item, value, *said)

    def plain(self, most: int) -> list[list[object]]:
        """One row for each remark, to be kept with a model: person, item, rating, and `most` tokens of the review."""
        names = np.repeat(np.arange(len(self.users)), np.diff(self.starts)).tolist()
        rows: list[list[object]] = []
        for name, item, one in zip(names, self.item.tolist(), self.order.tolist(), strict=True):
            value = None if self.value is None else float(self.value[one])
            review = "" if self.review is None else tokens.cut(clean((self.review[one] or "")[:LONG]), most)[0]
            if value is not None or review:
                rows.append([self.users.keys[name], item, value, review])
        return rows

    @staticmethod
    def again(rows: Iterable[Sequence[object]], source: str) -> Remarks:
        """What `plain` gave."""
        kept = list(rows)
        users = Ids("user", tuple(dict.fromkeys(str(row[0]) for row in kept)))
        user = np.array([users.rows_by_key[str(row[0])] for row in kept], np.int64)
        item = np.array([row[1] for row in kept], np.int64)
        rated = any(row[2] is not None for row in kept)
        value = np.array([row[2] for row in kept], np.float64) if rated else None
        review = [str(row[3] or "") for row in kept]
        return Remarks(users, user, item, value, review if any(review) else None, source)


def highest(values: np.ndarray) -> float:
    """The highest rating that anybody gave: nobody tells the scale."""
    return float(np.max(values, initial=-np.inf, where=np.isfinite(values)))


def stars(value: float, best: float) -> str:
    """A rating with the highest one given: "3.5/5"."""
    return f"{value:g}/{best:g}"
