"""Database: the store's SQLite file, opened so that several processes may write and a kill loses nothing committed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from penchant.errors import StoreError

__all__ = ["VERSION", "Database"]

VERSION = 2  # of the tables below; a later Penchant that changes them counts up
WAIT = 60.0  # seconds to wait for another process to finish writing

TABLES = """
CREATE TABLE IF NOT EXISTS encoders (id INTEGER PRIMARY KEY, print TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS vectors (
    encoder INTEGER NOT NULL, content BLOB NOT NULL, cut INTEGER NOT NULL, vector BLOB NOT NULL,
    UNIQUE (encoder, content)
);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, model TEXT NOT NULL, revision TEXT NOT NULL,
    prompt TEXT NOT NULL, status TEXT NOT NULL, text TEXT NOT NULL, parsed TEXT, error TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, usd REAL NOT NULL, attempts INTEGER NOT NULL,
    seconds REAL NOT NULL, created TEXT NOT NULL, request BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS mentions (
    kind TEXT NOT NULL, key TEXT NOT NULL, call INTEGER NOT NULL, asked INTEGER NOT NULL,
    PRIMARY KEY (kind, key, call)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS mentions_by_call ON mentions (call);
CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures (hash BLOB PRIMARY KEY, picture BLOB NOT NULL) WITHOUT ROWID;
"""


class Database:
    """store.sqlite in write-ahead mode. One object belongs to one thread; close it, or use it in a `with`.

    Each transaction is committed when its `with` ends. Raises StoreError when the database is read-only, full,
    damaged, or was written by a newer version.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None)
        except sqlite3.Error as error:
            raise self.error(str(error)) from None
        with self.told():
            self._set_up()

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; other processes may read meanwhile."""
        with self.told():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def told(self) -> Iterator[sqlite3.Connection]:
        """SQLite's errors as StoreError."""
        try:
            yield self.connection
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise self.error(str(error)) from None

    def error(self, what: str) -> StoreError:
        """What went wrong in words."""
        if any(word in what for word in ("readonly", "unable to open", "full", "locked", "disk I/O")):
            return StoreError(
                f"{self.file} cannot be written: {what}. What was committed is kept. Free it, or give another "
                "store: --store DIR, or set PENCHANT_STORE"
            )
        return StoreError(
            f"{self.file} is damaged: {what}. Move it away and run again; vectors are encoded anew, and replies of "
            "language models are asked anew: try `sqlite3 FILE .recover` first if they were paid for"
        )

    def _set_up(self) -> None:
        for left in range(50, -1, -1):
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # While another process turns the log on, SQLite answers "locked" at once instead of waiting.
                if "locked" not in str(error) or not left:
                    raise
                time.sleep(0.05)
        self.connection.execute("PRAGMA synchronous = NORMAL")  # survives any kill; a power cut may cost the last ones
        self.connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError(
                f"{self.file} was written by a newer Penchant (tables {version}, known {VERSION}). "
                "Update Penchant, or give another store: --store DIR"
            )
        if version < VERSION:
            with self.transaction():
                for statement in TABLES.split(";"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {VERSION}")
