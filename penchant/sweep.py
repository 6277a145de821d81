"""Sweep: how things leave a store: folders out of sight first and then for good, rows so that no byte of them stays."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penchant.calls import Calls
from penchant.errors import StoreError
from penchant.store import Store

__all__ = ["AT_ONCE", "KILLED", "Folder", "delete", "discard", "leftovers", "scrub", "size_of", "tidy", "unswept"]

KILLED = 3600.0  # seconds after which a hidden folder is nobody's work any more
GONE = ".gone-"  # how folders begin that are being removed
MARK = ".unswept"  # a file that stands while bytes of removed rows may still be in the database
WORTH = 0.1  # of the database must be free before it is written anew without the gaps
AT_ONCE = 500


@dataclass(frozen=True)
class Folder:
    """A folder that may go. name: ref, or place in the store. why: in words."""

    name: str
    size: int
    why: str


def discard(store: Store, folders: Iterable[Folder]) -> None:
    """Removes folders or files of a store: out of sight first, then for good."""
    with removing(store):
        for folder in folders:
            place = store.path / folder.name
            if not place.exists():
                continue
            hidden = place
            if not place.name.startswith(GONE):
                hidden = place.with_name(f"{GONE}{place.name.lstrip('.')}-{secrets.token_hex(4)}")
                place.rename(hidden)
            if hidden.is_dir():
                shutil.rmtree(hidden)
            else:
                hidden.unlink()


def leftovers(store: Store, seconds: float = KILLED, younger: bool = False) -> Iterator[Folder]:
    """What killed processes left: hidden folders, and artefacts without a card. Whatever was written to since is left out:
    it may be somebody's work; `younger` gives that instead. What was being removed is always left over."""
    now = time.time()
    for place in sorted(_unfinished(store.path)):
        begun = place.name.startswith(GONE)
        young = not begun and now - _touched(place) < seconds
        if young == younger:
            why = "was being removed" if begun else "was being written" if place.name[0] == "." else "has no card"
            yield Folder(place.relative_to(store.path).as_posix(), size_of(place), why)


def size_of(place: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file() and not p.is_symlink()]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def delete(db: sqlite3.Connection, statement: str, keys: Sequence[str]) -> int:
    """Runs a statement with {} for so many keys (hex) at a time; how many rows it changed."""
    changed = 0
    for start in range(0, len(keys), AT_ONCE):
        some = [bytes.fromhex(key) for key in keys[start : start + AT_ONCE]]
        changed += db.execute(statement.format(",".join("?" * len(some))), some).rowcount
    return changed


@contextmanager
def removing(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"store {store.path}: {error.filename} cannot be removed: {error.strerror}. Nothing is half removed: mend "
            "that, and call the same command again"
        ) from None


def _unfinished(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    yield from root.glob(".probe-*")
    for kind in ("features", "texts", "data"):
        for place in (root / kind).glob("*"):
            if place.name.startswith(".") or (
                kind != "data" and place.is_dir() and not (place / "card.toml").is_file()
            ):
                yield place


def _touched(place: Path) -> float:
    """When anything in it was last written."""
    times = [0.0]
    for file in (place, *place.rglob("*")):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime)
    return max(times)


def tidy(calls: Calls) -> None:
    """Gives the room of removed rows back to the disk where it is much; else SQLite uses it again."""
    with calls.told() as db:
        (pages,), (free,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count"))
    if free > WORTH * pages:
        with contextlib.suppress(StoreError), calls.told() as db:  # another process is busy: then another time
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def unswept(store: Store) -> Path:
    """The mark of a store from which rows were removed whose bytes may still be in the database's files."""
    return store.path / MARK


def scrub(store: Store) -> None:
    """Writes the database anew without anything that was ever removed, and empties its log.

    secure_delete overwrites what is removed, but pages that were split before may hold copies of it; a new file has none.
    Raises StoreError where another process is in the way: then bytes may be left, and the mark stays.
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
    unswept(store).unlink(missing_ok=True)
