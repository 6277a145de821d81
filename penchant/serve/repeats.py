"""Idempotency keys: a batch that is sent twice, because the first reply was lost, counts once."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from penchant.errors import KeyReused
from penchant.serve.records import plain
from penchant.serve.schema import seen

__all__ = ["REMEMBERED", "came", "is_new"]

REMEMBERED = 7 * 86_400.0  # seconds that a key is known
PRUNED = 100  # older ones that a call removes at most


def is_new(connection: Connection, key: str, rows: list[dict[str, Any]]) -> bool:
    """Whether this key comes for the first time; it is known from now on. KeyReused if it came with other rows."""
    digest, content = _marks(key, rows)
    now = time.time()
    old = sql.select(seen.c.digest).where(seen.c.at < now - REMEMBERED).order_by(seen.c.at).limit(PRUNED)
    connection.execute(sql.delete(seen).where(seen.c.digest.in_(old)))
    if _came(connection, digest, content):
        return False
    connection.execute(sql.insert(seen).values(digest=digest, content=content, at=now))
    return True


def came(connection: Connection, key: str, rows: list[dict[str, Any]]) -> bool:
    """Whether this key came before with these rows. KeyReused if it came with other rows."""
    return _came(connection, *_marks(key, rows))


def _came(connection: Connection, digest: str, content: str) -> bool:
    before = connection.execute(sql.select(seen.c.content).where(seen.c.digest == digest)).scalar()
    if before is not None and before != content:
        raise KeyReused("this idempotency key came before with other events. Give every batch its own key")
    return before is not None


def _marks(key: str, rows: list[dict[str, Any]]) -> tuple[str, str]:
    """What is kept of a key, which may hold a name, and of what came with it, which without the key nobody can guess."""
    secret = plain(key).encode()
    sent = json.dumps([list(row.values()) for row in rows]).encode()
    return hashlib.sha256(secret).hexdigest(), hmac.new(secret, sent, hashlib.sha256).hexdigest()
