"""From a url to an engine: SQLite in write-ahead mode, or PostgreSQL, with the settings that make a reply a promise.

SQLite runs with synchronous = FULL and PostgreSQL with synchronous_commit = on: what is committed survives a kill and a
power cut. A transaction that will write says so from its start (`writing`), so that two writers queue and never
deadlock. Errors of the drivers become StateBusy (try again) or StateError (mend it); a password is in no message.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from penchant.errors import StateBusy, StateError
from penchant.serve.schema import HEAD, VERSION_TABLE

__all__ = ["Place", "connected", "migrate", "place", "queue", "sweep", "told", "writing"]

QUEUE = 7_305_801_124_310_527_001  # PostgreSQL's advisory lock that writers queue for; any number of our own
SHOWN = ("host", "port", "user", "dbname")  # parts of a url's query that may stand in a message
LATER = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
FIXED = ("SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY", "SQLITE_CANTOPEN_ISDIR")  # what nobody frees by waiting
LATER_STATES = ("08", "25006", "40", "53", "55", "57", "58")  # PostgreSQL's classes of errors that pass


@dataclass(frozen=True)
class Place:
    """Where a database is. file: of SQLite, else None; shown: its url without a password."""

    address: URL
    file: Path | None
    shown: str

    def identity(self) -> tuple[int, int] | None:
        """Which file lies there: device and inode; None if none does."""
        if self.file is None:
            return None
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def place(url: str) -> Place:
    """A path, sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME."""
    scheme, found, _ = url.partition("://")
    if not found or scheme == "sqlite":
        path = url.removeprefix("sqlite:///") if found else url
        if path in ("", ":memory:") or path.startswith("sqlite:") or "\0" in path:
            raise StateError(f"{url!r} names no file. Give a path: --state state.sqlite")
        file = Path(path).expanduser().resolve()
        return Place(URL.create("sqlite+pysqlite"), file, f"sqlite:///{file}")
    if scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise StateError(
            f"the service keeps its state in SQLite or PostgreSQL; {scheme!r} is neither. "
            "Give a path, sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise StateError("this url of PostgreSQL cannot be read. Write postgresql://USER@HOST:PORT/NAME") from None
    query = {name: value for name, value in address.query.items() if name in SHOWN}
    plain = URL.create("postgresql", address.username, None, address.host, address.port, address.database, query)
    return Place(address, None, plain.render_as_string())


def connected(where: Place, wait: float) -> Engine:
    """An engine for many threads. wait: seconds to wait for a lock or a connection before StateBusy."""
    if where.file is not None:
        return _sqlite(where.file, wait)
    engine = sql.create_engine(
        where.address,
        pool_size=8,
        max_overflow=32,
        pool_timeout=wait,
        pool_pre_ping=True,  # a server that came back is found by the next call
        hide_parameters=True,
        connect_args={"connect_timeout": max(2, math.ceil(wait)), "application_name": "penchant"},
    )

    @sql.event.listens_for(engine, "connect")
    def settings(connection: sqlite3.Connection, _: object) -> None:
        connection.autocommit = True  # type: ignore[attr-defined]
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"SET lock_timeout = {max(1, int(wait * 1000))}")
        connection.execute("SET tcp_keepalives_idle = 20")  # so that a hold does not outlive a machine that vanished
        connection.autocommit = False  # type: ignore[attr-defined]

    return engine


def _sqlite(file: Path, wait: float) -> Engine:
    address = f"file:{quote(str(file))}?mode=rw"  # never makes the file anew when somebody took it away

    def opened() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=wait, isolation_level=None, check_same_thread=False)

    engine = sql.create_engine(
        "sqlite+pysqlite://",
        creator=opened,
        poolclass=sql.QueuePool,
        pool_size=8,
        max_overflow=32,
        pool_timeout=wait,
        hide_parameters=True,
    )

    @sql.event.listens_for(engine, "connect")
    def settings(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")

    @sql.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed when the `with` ends, or nothing is."""
    with engine.execution_options(writing=True).connect() as connection, connection.begin():
        queue(connection)
        yield connection


def queue(connection: Connection) -> None:
    """Wait until no other process writes, so that numbers are given in the order of commits."""
    if connection.dialect.name == "postgresql":
        connection.execute(sql.select(sql.func.pg_advisory_xact_lock(QUEUE)))


def migrate(where: Place, engine: Engine, wait: float) -> None:
    """Bring the tables to the newest step; one process at a time. Raises StateError for what is not ours."""
    if where.file is not None:
        where.file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(where.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            coding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            if coding != "UTF8":
                raise StateError(f"{where.shown} is coded in {coding}. Make one in UTF8: createdb -E UTF8 -T template0")
        step = _step(where, connection)
    if where.file is not None:
        _write_ahead(where, wait)
    if step == HEAD:
        return
    with writing(engine) as connection:
        step = _step(where, connection)  # another process may have been first
        if step != HEAD:
            _upgrade(where, connection, step)


def _step(where: Place, connection: Connection) -> str | None:
    """The step that the tables are at; None for an empty database."""
    names = sql.inspect(connection).get_table_names()
    if not names:
        return None
    if VERSION_TABLE not in names:
        raise StateError(
            f"{where.shown} holds tables of something else ({', '.join(sorted(names)[:3])}). "
            "Give the service a database of its own: --state PATH or a url"
        )
    return str(connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one())


def _upgrade(where: Place, connection: Connection, step: str | None) -> None:
    from alembic import command  # slow to load, and needed only when there is something to do
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if step is not None and step not in known:
        raise StateError(
            f"{where.shown} was written by a newer Penchant (tables {step!r}, known up to {HEAD!r}). "
            "Update Penchant, or give another database: --state PATH"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _write_ahead(where: Place, wait: float) -> None:
    """Turn the write-ahead log on; it stays on in the file."""
    until = time.monotonic() + wait
    with closing(sqlite3.connect(f"file:{quote(str(where.file))}?mode=rw", uri=True, timeout=wait)) as connection:
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                # While another process turns the log on, SQLite answers "locked" at once instead of waiting.
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)
    if mode != "wal":
        raise StateError(f"{where.shown} lies on a drive without shared memory. Put it on a local drive: --state PATH")


def sweep(where: Place, engine: Engine) -> None:
    """Rewrite the file, so that nothing deleted is left in it nor in its log; does nothing in PostgreSQL.

    secure_delete alone leaves old copies of rows behind: when SQLite shares a full page out among two, it clears
    neither's unused part. VACUUM writes every page anew, and the log is then emptied.
    """
    if where.file is None:
        return
    held = engine.raw_connection()
    try:
        connection = held.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        connection.execute("VACUUM")
        (blocked, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        held.close()
    if blocked:
        raise StateBusy(
            f"{where.shown} is being read, so what was deleted is still in its log. It is gone for every reader; "
            "to clear the log too, ask again when the reader (a backup?) is done"
        )


@contextmanager
def told(where: Place) -> Iterator[None]:
    """The drivers' errors in words, as StateBusy or StateError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _wrong(where, error) from None


def _wrong(where: Place, error: Exception) -> StateError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    what = lines[0].rstrip(".")  # PostgreSQL's further lines quote rows, which are nobody's business in a log
    for secret in {where.address.password, *where.address.query.values()} - {None, ""}:
        named = {where.address.query.get(name) for name in SHOWN}
        if secret not in named:
            what = what.replace(str(secret), "***").replace(quote(str(secret), safe=""), "***")
    code = getattr(cause, "sqlite_errorname", None)
    state = getattr(cause, "sqlstate", None)
    passing = (
        code.startswith(LATER)
        if isinstance(code, str)
        else state.startswith(LATER_STATES)
        if isinstance(state, str)
        else isinstance(error, OSError | sql.exc.OperationalError | sql.exc.InterfaceError | sql.exc.TimeoutError)
    )
    if where.file is not None and (
        isinstance(cause, PermissionError | NotADirectoryError | IsADirectoryError) or code in FIXED
    ):
        return StateBusy(
            f"{where.shown} cannot be written: {what}. Give another place (--state PATH), or let this user write there"
        )
    if passing:
        return StateBusy(
            f"{where.shown} cannot be used now: {what}. What was acknowledged is kept, this was not. "
            "Free it (a lock? a full drive? a stopped server?) and try again"
        )
    return StateError(
        f"{where.shown} is damaged or not ours: {what}. Give another one (--state PATH), or put a backup back "
        "into a new one"
    )
