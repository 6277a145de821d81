"""Vectors: what an encoder made of each content, kept in SQLite, so that equal content is encoded once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from penchant.errors import StoreError

__all__ = ["Vectors"]

VERSION = 1  # of the tables below; a later Penchant that changes them counts up
AT_ONCE = 500  # keys asked for in one statement
WAIT = 60.0  # seconds to wait for another process to finish writing

TABLES = """
CREATE TABLE IF NOT EXISTS encoders (id INTEGER PRIMARY KEY, print TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS vectors (
    encoder INTEGER NOT NULL, content BLOB NOT NULL, cut INTEGER NOT NULL, vector BLOB NOT NULL,
    UNIQUE (encoder, content)
);
"""


class Vectors:
    """The vectors of one encoder in a store's database: sha256 of the content (hex) -> float32 vector.

    Each `put` is one transaction, committed when it returns. Where two processes encode the same content the first
    vector stays, and both read that one. One object belongs to one thread; close it, or use it in a `with`.
    Raises StoreError when the database is read-only, full, damaged, or was written by a newer version.
    """

    def __init__(self, file: Path, encoder: str) -> None:
        self.file = file
        with self._told():
            self._db = sqlite3.connect(file, timeout=WAIT, isolation_level=None)
            self._set_up()
            with self._transaction():
                self._db.execute("INSERT OR IGNORE INTO encoders (print) VALUES (?)", (encoder,))
            self._encoder = self._db.execute("SELECT id FROM encoders WHERE print = ?", (encoder,)).fetchone()[0]

    def known(self, hashes: Sequence[str]) -> np.ndarray:
        """What was cut off each content (tokens) where its vector is stored, -1 where it is not. (n,) int64"""
        found: dict[bytes, int] = {}
        for some in _chunks(hashes):
            found.update(self._select("content, cut", some))
        get = found.get
        return np.fromiter((get(bytes.fromhex(h), -1) for h in hashes), np.int64, count=len(hashes))

    def get(self, hashes: Sequence[str]) -> np.ndarray:
        """Vectors in the order of `hashes`, all of which must be stored. (n, dim) float32; (0, 0) for none."""
        blocks = []
        for some in _chunks(hashes):
            found = dict(self._select("content, vector", some))
            try:
                blob = b"".join(found[content] for content in some)
                blocks.append(np.frombuffer(blob, np.float32).reshape(len(some), -1))
            except (KeyError, ValueError):
                raise self._error("vectors are missing or of odd length") from None
        if len({block.shape[1] for block in blocks}) > 1:
            raise self._error("vectors of one encoder have different lengths")
        return np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32)

    def put(self, hashes: Sequence[str], values: np.ndarray, cut: Sequence[int] | np.ndarray | None = None) -> None:
        """Stores one vector a hash, values (n, dim), and what was cut off each content; what is there stays."""
        values = np.ascontiguousarray(values, np.float32)
        cut = np.zeros(len(hashes), np.int64) if cut is None else np.asarray(cut, np.int64)
        rows = [
            (self._encoder, bytes.fromhex(h), c, v.tobytes())
            for h, c, v in zip(hashes, cut.tolist(), values, strict=True)
        ]
        with self._told(), self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO vectors (encoder, content, cut, vector) VALUES (?, ?, ?, ?)", rows
            )

    def __len__(self) -> int:
        with self._told():
            return self._db.execute("SELECT count(*) FROM vectors WHERE encoder = ?", (self._encoder,)).fetchone()[0]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Vectors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_up(self) -> None:
        for left in range(50, -1, -1):
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # While another process turns the log on, SQLite answers "locked" at once instead of waiting.
                if "locked" not in str(error) or not left:
                    raise
                time.sleep(0.05)
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives any kill; a power cut may cost the last batches
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError(
                f"{self.file} was written by a newer Penchant (tables {version}, known {VERSION}). "
                "Update Penchant, or give another store: --store DIR"
            )
        if version < VERSION:
            with self._transaction():
                for statement in TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _select(self, columns: str, contents: Sequence[bytes]) -> list[tuple]:
        marks = ",".join("?" * len(contents))
        with self._told():
            return self._db.execute(
                f"SELECT {columns} FROM vectors WHERE encoder = ? AND content IN ({marks})", (self._encoder, *contents)
            ).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(str(error)) from None

    def _error(self, what: str) -> StoreError:
        if any(word in what for word in ("readonly", "unable to open", "full", "locked", "disk I/O")):
            return StoreError(
                f"{self.file} cannot be written: {what}. What was committed is kept. Free it, or give another "
                "store: --store DIR, or set PENCHANT_STORE"
            )
        return StoreError(f"{self.file} is damaged: {what}. Move it away and run again; what it held is encoded anew")


def _chunks(hashes: Sequence[str]) -> Iterator[list[bytes]]:
    for start in range(0, len(hashes), AT_ONCE):
        yield [bytes.fromhex(h) for h in hashes[start : start + AT_ONCE]]
