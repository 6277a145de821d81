"""One server at a time: two that each believe to know all events would recommend what the other has deleted.

A hold ends with its process, however that ends: the kernel drops a lock on a file, and PostgreSQL one of a session.
In PostgreSQL everything is written through the very session that has the hold, so a server that lost it cannot commit.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine, RootTransaction
from sqlalchemy.exc import DBAPIError

from penchant.errors import StateError
from penchant.serve.engines import Place, queue, writing

__all__ = ["FileHold", "Hold", "NoHold", "SessionHold", "take"]

NUMBER = 7_305_801_124_310_527_002  # PostgreSQL's advisory lock that a server holds; one more than the writers' queue
GRACE = 1.0  # seconds that a server killed just now may take to let go


class Hold(Protocol):
    """What a State writes through."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction, committed when the `with` ends; StateError if the hold was lost to another server."""
        ...

    def release(self) -> None: ...


def take(where: Place, engine: Engine) -> Hold:
    """The hold of this database; StateError if another server has it."""
    return SessionHold(where, engine) if where.file is None else FileHold(where, engine)


def taken(where: Place, by: str = "") -> StateError:
    return StateError(
        f"another server uses {where.shown}{by}. Stop it, or give this one a database of its own: --state PATH or a url"
    )


class NoHold:
    """For a command that writes a little beside a server that runs, like adding a key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine)

    def release(self) -> None: ...


class FileHold:
    """A lock on PATH.lock beside the SQLite file. The file stays, and means nothing by itself."""

    def __init__(self, where: Place, engine: Engine) -> None:
        self._where, self._engine = where, engine
        self._path = f"{where.file}.lock"
        self._file = -1
        until = time.monotonic() + GRACE
        while not self._take():
            if time.monotonic() > until:
                raise taken(where, self._holder())
            time.sleep(0.02)

    def writing(self) -> AbstractContextManager[Connection]:
        if not self._ours():  # somebody removed PATH.lock, so another server could lock a new one
            self.release()
            if not self._take():
                raise taken(self._where, self._holder())
        return writing(self._engine)

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self) -> bool:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        if not self._ours():  # removed between opening and locking
            self.release()
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        return True

    def _ours(self) -> bool:
        if self._file < 0:
            return False
        try:
            there, mine = os.stat(self._path), os.fstat(self._file)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _holder(self) -> str:
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                number = file.read(20).strip()
        except OSError:
            return ""
        return f" (process {number})" if number.isdigit() else ""


class SessionHold:
    """A session of PostgreSQL that holds an advisory lock, and through which everything is written."""

    def __init__(self, where: Place, engine: Engine) -> None:
        self._where, self._engine = where, engine
        self._connection: Connection | None = None
        self._take()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        try:
            connection, begun = self._begin()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            connection, begun = self._begin()  # the server was restarted: once more, with a new session
        with begun:
            yield connection

    def release(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            finally:
                self._connection = None

    def _begin(self) -> tuple[Connection, RootTransaction]:
        # A Connection that was cut off would quietly connect anew, without the lock: so it is never used again.
        if self._connection is None or self._connection.closed or self._connection.invalidated:
            self._take()
        connection = self._connection
        assert connection is not None
        begun = connection.begin()
        try:
            queue(connection)
        except BaseException:
            begun.rollback()
            raise
        return connection, begun

    def _take(self) -> None:
        self.release()
        connection = self._engine.connect()
        try:
            connection.detach()  # out of the pool, so that closing it ends the session and with it the lock
            until = time.monotonic() + GRACE
            while not connection.execute(sql.select(sql.func.pg_try_advisory_lock(NUMBER))).scalar_one():
                if time.monotonic() > until:
                    raise taken(self._where)
                time.sleep(0.02)
            connection.commit()  # the lock is the session's, and outlives the transaction
        except BaseException:
            connection.close()
            raise
        self._connection = connection
