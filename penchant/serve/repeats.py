"""Idempotency keys: a batch that is sent twice, because the first reply was lost, counts once."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from penchant.errors import KeyReused
from penchant.serve.records import plain
from penchant.serve.schema import seen

__all__ = ["REMEMBERED", "is_new"]

REMEMBERED = 7 * 86_400.0  # seconds that a key is known
PRUNED = 100  # older ones that a call removes at most


def is_new(connection: Connection, key: str, rows: list[dict[str, Any]]) -> bool:
    """Whether this key comes for the first time; it is known from now on. KeyReused if it came with other rows."""
    digest = hashlib.sha256(plain(key).encode()).hexdigest()  # a key may hold a name, so it is not kept itself
    content = hashlib.sha256(json.dumps([list(row.values()) for row in rows]).encode()).hexdigest()
    now = time.time()
    old = sql.select(seen.c.digest).where(seen.c.at < now - REMEMBERED).order_by(seen.c.at).limit(PRUNED)
    connection.execute(sql.delete(seen).where(seen.c.digest.in_(old)))
    before = connection.execute(sql.select(seen.c.content).where(seen.c.digest == digest)).scalar()
    if before is None:
        connection.execute(sql.insert(seen).values(digest=digest, content=content, at=now))
        return True
    if before != content:
        raise KeyReused(f"the idempotency key {key[:40]!r} came before with other events. Give every batch its own key")
    return False
