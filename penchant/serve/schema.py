"""The tables of the service's database, the same in SQLite and PostgreSQL.

    events     number (never used twice), user_id, item_id, at (unix seconds), review
    items      number (order of first arrival), item_id, deleted (a tombstone), fields, numbers (JSON), picture
    vectors    item (its number), input, encoder, vector (float32 little-endian; NULL is a gap)
    forgotten  digest: sha256 of the user id of somebody who asked to be forgotten
    seen       digest: sha256 of an idempotency key; content: HMAC of what came with it, by that key; at
    keys       API keys: id, name, digest, created, revoked
    notes      name, value: how far the events are folded into a run, and the like

A change here needs a new step under migrations/versions; tests compare the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text

__all__ = [
    "CONTENT",
    "HEAD",
    "VERSION_TABLE",
    "events",
    "forgotten",
    "items",
    "keys",
    "metadata",
    "notes",
    "seen",
    "vectors",
]

HEAD = "0001"  # the newest step under migrations/versions
VERSION_TABLE = "penchant_version"  # where Alembic notes the step; also tells our database from a stranger's

metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up by itself only for INTEGER

events = Table(
    "events",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("review", Text),
    Index("events_by_user", "user_id"),
    sqlite_autoincrement=True,  # the number of an event that was forgotten is not given to another
)

items = Table(
    "items",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("item_id", Text, nullable=False, unique=True),
    Column("deleted", Boolean, nullable=False),
    Column("fields", Text, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("picture", LargeBinary),  # last, so that the others are read without it
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("item", NUMBER, primary_key=True, autoincrement=False),
    Column("input", Text, primary_key=True),
    Column("encoder", Text, nullable=False),
    Column("vector", LargeBinary),
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("after", BigInteger, nullable=False),  # the newest event when the person was forgotten
)

seen = Table(
    "seen",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index("seen_by_time", "at"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("revoked", Double),
)

notes = Table("notes", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

CONTENT = (events, items, vectors, forgotten, seen, keys)  # what must be empty before a backup is put back
