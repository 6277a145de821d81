"""Listing: a list of items on its way out. Plain values, because this is made a thousand times a second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from penchant.serve import replies

__all__ = ["Listing"]

LONGEST = 300  # letters of a title up to which its part of a reply is kept


def _item(key: str, title: str, picture: bool) -> str:
    """The part that is the same in every list."""
    return _kept(key, title, picture) if len(title) <= LONGEST else _kept.__wrapped__(key, title, picture)


@lru_cache(maxsize=32_768)
def _kept(key: str, title: str, picture: bool) -> str:
    return json.dumps({"item_id": key, "title": title, "picture": picture}, separators=(",", ":"))[:-1] + ","


@dataclass(frozen=True, eq=False)
class Listing:
    """items: (item_id, title, whether there is a picture, score), best first. note: also why it is not personal."""

    user: str | None
    model: str
    personal: bool
    note: str
    items: list[tuple[str, str, bool, float]]

    def json(self) -> bytes:
        """As `replies.Recommended` is written, without reasons."""
        head = json.dumps(
            {
                "user": self.user,
                "model": self.model,
                "personal": self.personal,
                "fallback": None if self.personal else "popular",
                "note": self.note,
            },
            separators=(",", ":"),
        )
        items = ",".join(
            f'{_item(key, title, picture)}"score":{score!r},"why":null}}' for key, title, picture, score in self.items
        )
        return f'{head[:-1]},"items":[{items}]}}'.encode()

    def reply(self) -> replies.Recommended:
        items = [replies.Listed(item_id=k, title=t, picture=p, score=s) for k, t, p, s in self.items]
        return replies.Recommended(
            user=self.user,
            model=self.model,
            personal=self.personal,
            fallback=None if self.personal else "popular",
            note=self.note,
            items=items,
        )
