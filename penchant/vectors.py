"""Vectors: what an encoder made of each content, kept in SQLite, so that equal content is encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from penchant.database import Database

__all__ = ["Vectors"]

AT_ONCE = 500  # keys asked for in one statement


class Vectors(Database):
    """The vectors of one encoder in a store's database: sha256 of the content (hex) -> float32 vector.

    Each `put` is one transaction, committed when it returns. Where two processes encode the same content the first
    vector stays, and both read that one. One object belongs to one thread; close it, or use it in a `with`.
    Raises StoreError when the database is read-only, full, damaged, or was written by a newer version.
    """

    def __init__(self, file: Path, encoder: str) -> None:
        super().__init__(file)
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO encoders (print) VALUES (?)", (encoder,))
            self._encoder = db.execute("SELECT id FROM encoders WHERE print = ?", (encoder,)).fetchone()[0]

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
                raise self.error("vectors are missing or of odd length") from None
        if len({block.shape[1] for block in blocks}) > 1:
            raise self.error("vectors of one encoder have different lengths")
        return np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32)

    def put(self, hashes: Sequence[str], values: np.ndarray, cut: Sequence[int] | np.ndarray | None = None) -> None:
        """Stores one vector a hash, values (n, dim), and what was cut off each content; what is there stays."""
        values = np.ascontiguousarray(values, np.float32)
        cut = np.zeros(len(hashes), np.int64) if cut is None else np.asarray(cut, np.int64)
        rows = [
            (self._encoder, bytes.fromhex(h), c, v.tobytes())
            for h, c, v in zip(hashes, cut.tolist(), values, strict=True)
        ]
        with self.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO vectors (encoder, content, cut, vector) VALUES (?, ?, ?, ?)", rows)

    def __len__(self) -> int:
        with self.told() as db:
            return db.execute("SELECT count(*) FROM vectors WHERE encoder = ?", (self._encoder,)).fetchone()[0]

    def _select(self, columns: str, contents: Sequence[bytes]) -> list[tuple]:
        marks = ",".join("?" * len(contents))
        with self.told() as db:
            return db.execute(
                f"SELECT {columns} FROM vectors WHERE encoder = ? AND content IN ({marks})", (self._encoder, *contents)
            ).fetchall()


def _chunks(hashes: Sequence[str]) -> Iterator[list[bytes]]:
    for start in range(0, len(hashes), AT_ONCE):
        yield [bytes.fromhex(h) for h in hashes[start : start + AT_ONCE]]
