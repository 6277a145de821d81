"""Listing: a list of items on its way out. Plain values, because this is made a thousand times a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from penchant.serve import replies

__all__ = ["Brief", "Listing"]


class Brief:
    """What every list says of an item, with the part of a reply that this makes."""

    __slots__ = ("key", "picture", "text", "title")

    def __init__(self, key: str, title: str, picture: bool) -> None:
        self.key, self.title, self.picture = key, title, picture
        said = {"item_id": key, "title": title, "picture": picture}
        self.text = json.dumps(said, separators=(",", ":"))[:-1] + ',"score":'


@lru_cache(maxsize=256)
def _head(model: str, personal: bool, note: str) -> str:
    said = {"model": model, "personal": personal, "fallback": None if personal else "popular", "note": note}
    return json.dumps(said, separators=(",", ":"))[1:-1]


@dataclass(frozen=True, eq=False)
class Listing:
    """items, scores: best first. note: also why it is not personal."""

    user: str | None
    model: str
    personal: bool
    note: str
    items: Sequence[Brief]
    scores: Sequence[float]

    def json(self) -> bytes:
        """As `replies.Recommended` is written, without reasons."""
        items = ",".join(
            [f'{one.text}{score!r},"why":null}}' for one, score in zip(self.items, self.scores, strict=True)]
        )
        head = _head(self.model, self.personal, self.note)
        return f'{{"user":{json.dumps(self.user)},{head},"items":[{items}]}}'.encode()

    def reply(self) -> replies.Recommended:
        items = [
            replies.Listed(item_id=one.key, title=one.title, picture=one.picture, score=score)
            for one, score in zip(self.items, self.scores, strict=True)
        ]
        return replies.Recommended(
            user=self.user,
            model=self.model,
            personal=self.personal,
            fallback=None if self.personal else "popular",
            note=self.note,
            items=items,
        )
