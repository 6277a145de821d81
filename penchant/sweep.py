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

__all__ = [
    "AT_ONCE",
    "KILLED",
    "MARK",
    "Folder",
    "chunks",
    "delete",
    "discard",
    "leftovers",
    "marks",
    "removing",
    "shortly",
    "size_of",
    "tidy",
    "unshown",
]

KILLED = 3600.0  # seconds after which a hidden folder is nobody's work any more
GONE = ".gone-"  # how folders begin that are being removed
MARK = ".unswept"  # a file that stands while a forgetting is not through (`unswept`)
WORTH = 0.1  # of the database must be free before it is written anew without the gaps
SWIFT = 1 << 30  # bytes that are written anew while others wait; of a larger database the gaps are only used again
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
    return sum(db.execute(statement.format(marks(some)), some).rowcount for some in chunks(keys))


def chunks(keys: Sequence[str]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), AT_ONCE):
        yield [bytes.fromhex(key) for key in keys[start : start + AT_ONCE]]


def marks(keys: Sequence[bytes]) -> str:
    return ",".join("?" * len(keys))


@contextmanager
def removing(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"store {store.path}: {error.filename} cannot be removed: {error.strerror}. Nothing is half removed: mend "
            "that, and call the same command again"
        ) from None


# ---- rows


@contextmanager
def shortly(calls: Calls, going: Sequence[str]) -> Iterator[sqlite3.Connection]:
    """A transaction in which some of these calls are deleted; at its end go mentions and pictures that only they had.

    Other processes wait while it lasts. What takes long, reading all calls for the pictures that they show, is done
    before; within, only calls that came since, and those of `going` that stayed, are looked at.
    """
    with calls.told() as db:
        last = db.execute("SELECT id, key FROM calls ORDER BY id DESC LIMIT 1").fetchone()
    pictures = unshown(calls, going)
    with calls.transaction() as db:
        start = last[0] if last else 0
        if last and db.execute("SELECT key FROM calls WHERE id = ?", last[:1]).fetchone() != last[1:]:
            start = 0  # the last one is gone, and SQLite may have given its number to another
        ids = [
            row
            for some in chunks(going)
            for (row,) in db.execute(f"SELECT id FROM calls WHERE key IN ({marks(some)})", some)
        ]
        yield db
        gone = "DELETE FROM mentions WHERE call = ? AND NOT EXISTS (SELECT 1 FROM calls WHERE id = mentions.call)"
        db.executemany(gone, [(row,) for row in ids])
        if pictures:
            left = set(pictures)
            for call in calls.read_all("WHERE id > ?", (start,)):
                left.difference_update(call.request["pictures"])
            for some in chunks(going):
                for call in calls.read_all(f"WHERE key IN ({marks(some)})", some):
                    left.difference_update(call.request["pictures"])
            delete(db, "DELETE FROM pictures WHERE hash IN ({})", sorted(left))


def unshown(calls: Calls, going: Sequence[str] = ()) -> dict[str, int]:
    """Pictures that no call shows but those that are going, with their sizes. Reads all calls."""
    with calls.told() as db:
        sizes = {key.hex(): size for key, size in db.execute("SELECT hash, length(picture) FROM pictures")}
    gone = set(going)
    for call in calls.read_all() if sizes else ():
        if call.key not in gone:
            for picture in call.request["pictures"]:
                sizes.pop(picture, None)
    return sizes


def _unfinished(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    yield from (*root.glob(".probe-*"), *root.glob(f"{MARK}-*"))
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
    if free > WORTH * pages and calls.file.stat().st_size <= SWIFT:
        with contextlib.suppress(StoreError), calls.told() as db:  # another process is busy: then another time
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
