"""Steps: what is done to single rows inside a transaction of the state."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from penchant.serve.schema import events, forgotten, items, notes, vectors

__all__ = ["forgotten_in", "noted", "replaced"]


def forgotten_in(connection: Connection, user_id: str, digest: str) -> None:
    """Remove a person's events, and note after which event that was: later ones under this id are somebody else's."""
    last = sql.select(sql.func.coalesce(sql.func.max(events.c.number), 0))
    after = max(int(connection.execute(last).scalar_one()), int(noted(connection, "folded") or 0) + 1)
    connection.execute(sql.delete(events).where(events.c.user_id == user_id))
    connection.execute(sql.delete(forgotten).where(forgotten.c.digest == digest))
    connection.execute(sql.insert(forgotten).values(digest=digest, after=after))


def noted(connection: Connection, name: str) -> str | None:
    return connection.execute(sql.select(notes.c.value).where(notes.c.name == name)).scalar()


def replaced(connection: Connection, item_id: str, content: dict[str, Any]) -> int:
    """Write an item's row, without vectors; its number."""
    number = connection.execute(sql.select(items.c.number).where(items.c.item_id == item_id)).scalar()
    if number is None:
        made = connection.execute(sql.insert(items).values(item_id=item_id, **content)).inserted_primary_key
        assert made is not None
        return int(made[0])
    connection.execute(sql.delete(vectors).where(vectors.c.item == number))
    connection.execute(sql.update(items).where(items.c.number == number).values(**content))
    return int(number)
