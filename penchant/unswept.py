"""Unswept: forgettings that have begun, written down beside the database until nothing of them is left to do."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path

from penchant.calls import Calls
from penchant.errors import StoreError
from penchant.store import Store
from penchant.stored import stored_key
from penchant.sweep import MARK, Folder, chunks, delete, discard, marks, removing, shortly

__all__ = ["Work", "begin", "begun", "finish", "unswept"]


@dataclass(frozen=True)
class Work:
    """All that goes with one user or item: refs, and keys of calls, contents and vectors in hex."""

    kind: str
    key: str
    artefacts: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()


def unswept(store: Store) -> Path:
    """The mark of a store in which something is being forgotten, or was when a kill came between."""
    return store.path / MARK


def begun(store: Store) -> tuple[Work, ...]:
    """What has to go, as the mark says it."""
    try:
        lines = unswept(store).read_text("ascii").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(_work(**json.loads(line)) for line in lines)


def begin(store: Store, work: Work) -> None:
    """Writes down what has to go, beside what an earlier forgetting has left to do, and flushes it to the disk.

    Only rows of the database lead to some of the folders, and only the folders to some of the rows: whichever went
    first, a kill between the two would leave the other unknown.
    """
    mark = unswept(store)
    hidden = mark.with_name(f"{MARK}-{secrets.token_hex(4)}")
    with removing(store):
        with hidden.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in dict.fromkeys((*begun(store), work)))
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(mark)
        _flush_folder(store.path)


def finish(store: Store) -> None:
    """Removes for good all that the mark names, and then the mark; after a kill the same again does the rest.

    Raises StoreError where another process is in the way: then bytes may be left, and the mark stays.
    """
    there = (store.path / "store.sqlite").is_file()
    while unswept(store).exists():
        works = begun(store)
        if there:
            with store.calls() as calls:
                for work in works:
                    _remove_rows(calls, work)
        discard(store, (Folder(ref, 0, "") for work in works for ref in work.artefacts))
        if there:
            _scrub(store)
        if begun(store) == works:  # else another process began one meanwhile
            unswept(store).unlink(missing_ok=True)


def _work(kind: str, key: str, **lists: list[str]) -> Work:
    return Work(kind, key, **{name: tuple(values) for name, values in lists.items()})


def _remove_rows(calls: Calls, work: Work) -> None:
    rows = _vectors(calls, work)
    with shortly(calls, work.calls) as db:
        about = (work.kind, stored_key(work.key))
        db.execute("DELETE FROM mentions WHERE kind = ? AND mentions.key = ?", about)
        delete(db, "DELETE FROM calls WHERE key IN ({})", work.calls)
        db.executemany("DELETE FROM vectors WHERE rowid = ? AND content = ?", rows)


def _vectors(calls: Calls, work: Work) -> list[tuple[int, bytes]]:
    """Row and content of the vectors that go; the whole table has to be read for them."""
    found: list[tuple[int, bytes]] = []
    for column, keys in (("content", work.contents), ("vector", work.vectors)):
        for some in chunks(keys):
            where = f"encoder IN (SELECT id FROM encoders) AND {column} IN ({marks(some)})"  # uses the index
            with calls.told() as db:
                found += db.execute(f"SELECT rowid, content FROM vectors WHERE {where}", some).fetchall()
    return found


def _scrub(store: Store) -> None:
    """Writes the database anew without anything that was ever removed, and empties its log.

    secure_delete overwrites what is removed, but pages that were split before may hold copies of it; a new file has none.
    """
    with store.calls() as calls:
        try:
            calls.connection.execute("VACUUM")
            busy, *_ = calls.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            why = "another process is reading it" if busy else ""
        except sqlite3.Error as error:
            why = str(error)
    if why:
        raise StoreError(
            f"{calls.file}: rows are removed, but their bytes may still be in the file: {why}. End what uses the store, "
            "or free some space, and call the same command again"
        )


def _flush_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
