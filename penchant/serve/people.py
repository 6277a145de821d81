"""People: what is known of each, from training and from what they chose since."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from itertools import islice

import numpy as np

from penchant.data import Queries
from penchant.model import Recommender
from penchant.serve.state import Event, veiled

__all__ = ["Choice", "People"]


@dataclass(frozen=True, slots=True)
class Choice:
    """at: None for choices of training, whose moments a run does not keep. live: it came by the service."""

    item_id: str
    at: float | None = None
    live: bool = False
    review: str = ""


class People:
    """Choices by person. A forgotten person of training is somebody new; what she chooses after that is hers again."""

    def __init__(self, rec: Recommender, forgotten: frozenset[str]) -> None:
        self._rec = rec
        self._live: dict[str, list[Choice]] = {}
        self._latest: dict[str, float] = {}
        self._gone: set[str] = set()
        self._known: dict[str, frozenset[str]] = {}  # of people with choices of late
        if forgotten:
            self._gone = {key for key in rec.users.keys if veiled(key) in forgotten}

    def add(self, event: Event) -> None:
        """A choice that the state has kept, in its place by time; of one moment, as they came."""
        row = self._rec.items.rows_by_key.get(event.item_id, -1)
        key = self._rec.items.keys[row] if row >= 0 else event.item_id  # one text for all who chose it
        choice = Choice(key, event.at, True, event.review or "")
        self.passed(event)
        insort(self._live.setdefault(event.user_id, []), choice, key=lambda one: one.at or 0.0)

    def passed(self, event: Event) -> None:
        """When she chose something, also of what the model was trained with."""
        self._latest[event.user_id] = max(event.at, self.latest(event.user_id))

    def latest(self, user: str) -> float:
        """When she chose something last, of what the state knows; 0 if never."""
        return self._latest.get(user, 0.0)

    def forget(self, user: str) -> None:
        self._live.pop(user, None)
        self._latest.pop(user, None)
        if user in self._rec.users.rows_by_key:
            self._gone.add(user)

    def row(self, user: str) -> int:
        """Of training; -1 for who was not there, or is forgotten."""
        return -1 if user in self._gone else self._rec.users.rows_by_key.get(user, -1)

    def known(self, user: str) -> bool:
        return self.row(user) >= 0 or user in self._live

    def late(self) -> dict[str, None]:
        """Everybody who chose something by the service."""
        return dict.fromkeys(self._live)

    def live(self, user: str) -> list[Choice]:
        return list(self._live.get(user, ()))

    def trained(self, user: str) -> np.ndarray:
        """Rows of items that the model knew of her by. (n,)"""
        return _of(self._rec.known, self.row(user))

    def was_trained(self, user: str, item: str) -> bool:
        """Whether the model knows of this choice."""
        if self.row(user) < 0:
            return False
        if user not in self._known:
            self._known[user] = frozenset(self._rec.items.keys[row] for row in self.trained(user).tolist())
        return item in self._known[user]

    def seen(self, user: str) -> np.ndarray:
        """Rows of items of training that are not recommended to her again. (n,)"""
        return _of(self._rec.seen or self._rec.known, self.row(user))

    def choices(self, user: str) -> list[Choice]:
        """Everything, oldest first."""
        keys = self._rec.items.keys
        return [*(Choice(keys[row]) for row in self.trained(user).tolist()), *self.live(user)]

    def count(self, user: str) -> int:
        return len(self.trained(user)) + len(self.live(user))

    def starting(self, prefix: str, most: int) -> list[str]:
        """People whose id begins so, those with choices of late first."""
        late = (user for user in reversed(list(self._live)) if user.startswith(prefix))
        found = dict.fromkeys(islice(late, most))
        for user in self._rec.users.keys:
            if len(found) >= most:
                break
            if user.startswith(prefix) and user not in self._gone:
                found.setdefault(user)
        return list(found)

    def __len__(self) -> int:
        new = sum(user not in self._rec.users.rows_by_key or user in self._gone for user in list(self._live))
        return len(self._rec.users) - len(self._gone) + new


def _of(queries: Queries, row: int) -> np.ndarray:
    if row < 0:
        return np.zeros(0, np.int64)
    return queries.history_items[queries.history_starts[row] : queries.history_starts[row + 1]]
