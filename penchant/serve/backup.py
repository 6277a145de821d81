"""A copy of everything in one SQLite file, from either database, and back into either.

A backup holds API keys' digests and what people chose: it is readable by its owner only.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from penchant.errors import StateError
from penchant.serve.engines import connected, migrate, place, told, writing
from penchant.serve.schema import CONTENT, events, forgotten, items, notes

__all__ = ["counts", "fill", "note", "opened", "write"]

BLOCK = 1000  # rows copied at once
PASSING = ("probe", "unswept", "ident")  # notes about the database itself, which do not travel
WAIT = 60.0


def counts(connection: Connection) -> dict[str, int]:
    """How many of each."""
    number = sql.select(sql.func.count())
    wanted = {
        "events": number.select_from(events),
        "items": number.where(~items.c.deleted),
        "deleted": number.where(items.c.deleted),
        "forgotten": number.select_from(forgotten),
    }
    return {name: connection.execute(query).scalar_one() for name, query in wanted.items()}


def note(connection: Connection, name: str, value: str) -> None:
    """Write a value under this name, instead of the one before."""
    if connection.execute(sql.update(notes).where(notes.c.name == name).values(value=value)).rowcount == 0:
        connection.execute(sql.insert(notes).values(name=name, value=value))


def write(source: Connection, path: Path) -> None:
    """Everything that `source` sees into a new file: written beside, then named. Never overwrites."""
    path = path.expanduser().absolute()
    taken = StateError(f"{path} is there already, and a backup overwrites nothing. Give another name")
    if os.path.lexists(path):
        raise taken
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        target = place(str(part))
        engine = connected(target, WAIT)
        try:
            with told(target):
                migrate(target, engine, WAIT)
                with writing(engine) as connection:
                    _copy(source, connection)
        finally:
            engine.dispose()
        with told(target):
            with closing(sqlite3.connect(part)) as closed:
                closed.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            _flush(part)
            try:
                os.link(part, path)  # unlike a rename, this fails if the name was taken meanwhile
            except FileExistsError:
                raise taken from None
            _flush(path.parent)
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            part.with_name(part.name + end).unlink(missing_ok=True)


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    """What a backup holds, by a copy, so that one of an older version can be brought up to date."""
    path = path.expanduser().absolute()
    if not path.is_file():
        raise StateError(f"there is no backup {path}. Give the file that `penchant state backup` wrote")
    with tempfile.TemporaryDirectory(prefix="penchant-") as folder:
        from_file = place(str(path))
        where = replace(place(f"{folder}/copy.sqlite"), shown=from_file.shown)  # messages name the file that was given
        assert where.file is not None
        with told(from_file):
            shutil.copyfile(path, where.file)
            with closing(sqlite3.connect(where.file)) as copy:
                (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok" or where.file.stat().st_size == 0:
                raise StateError(f"{path} is damaged: {found}. Take an earlier backup")
            engine = connected(where, WAIT)
            try:
                migrate(where, engine, WAIT)
                with engine.connect() as connection:
                    yield connection
            finally:
                engine.dispose()


def fill(source: Connection, target: Connection, name: str) -> None:
    """Everything of `source` into `target`, which has to be empty. name: of the target, for messages."""
    full = [table.name for table in CONTENT if target.execute(sql.select(table).limit(1)).first() is not None]
    if full:
        raise StateError(
            f"{name} has {', '.join(full)} already, and a backup is put back only into an empty one. "
            "Give a new database: --state PATH or a url"
        )
    _copy(source, target)


def _copy(source: Connection, target: Connection) -> None:
    for table in CONTENT:
        first = list(table.primary_key)
        found = source.execution_options(yield_per=BLOCK).execute(sql.select(table).order_by(*first))
        for block in found.mappings().partitions():
            target.execute(sql.insert(table), [dict(row) for row in block])
    for name, value in source.execute(sql.select(notes.c.name, notes.c.value)).all():
        if name not in PASSING:
            note(target, name, value)
    _count_on(source, target)


def _count_on(source: Connection, target: Connection) -> None:
    """The next event gets a number above all that were ever folded, also if those events are forgotten."""
    folded = source.execute(sql.select(notes.c.value).where(notes.c.name == "folded")).scalar()
    for table, least in ((events, int(folded or 0)), (items, 0)):
        last = max(source.execute(sql.select(sql.func.max(table.c.number))).scalar() or 0, least)
        if last == 0:
            continue
        if target.dialect.name == "postgresql":
            sequence = sql.func.pg_get_serial_sequence(table.name, "number")
            target.execute(sql.select(sql.func.setval(sequence, last)))
        else:
            target.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            target.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
