"""What the service knows beyond its run: events, items that came or went, who asked to be forgotten, and API keys."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine

from penchant.errors import StateBusy, StateError
from penchant.serve import backup
from penchant.serve.engines import Place, connected, migrate, place, sweep, told
from penchant.serve.holding import Hold, NoHold, take
from penchant.serve.records import Event, Kept, Key, Vector, packed, plain, row, unpacked, veiled, written
from penchant.serve.repeats import came, is_new
from penchant.serve.schema import events, forgotten, items, keys, notes, vectors
from penchant.serve.steps import forgotten_in, noted, replaced

__all__ = ["Event", "Kept", "Key", "State", "Vector", "veiled"]

BLOCK = 2048  # events read at once
SHELF = 256  # items read at once
EVENT = (events.c.user_id, events.c.item_id, events.c.at, events.c.review)  # as in Event


class State:
    """The service's database. Made by `open`; may be shared by threads.

    A writing method has committed when it returns; when it raises, nothing was kept. (One case cannot be told: a
    server of PostgreSQL that vanishes during the commit. Send the same again with the same key: it counts once.)
    Raises StateBusy while the database is locked, full or gone, StateError when it is damaged or not ours.
    """

    def __init__(self, where: Place, engine: Engine, hold: Hold, wait: float) -> None:
        self.url = where.shown
        self._where, self._engine, self._hold, self._wait = where, engine, hold, wait
        whole = {"isolation_level": "REPEATABLE READ"} if where.file is None else {}  # SQLite's views are always whole
        self._readers = engine.execution_options(**whole)
        self._lock = threading.Lock()
        self._identity = where.identity()

    @classmethod
    def open(cls, url: str, hold: bool = True, wait: float = 5.0) -> State:
        """Open a path, sqlite:///PATH or postgresql://…, making what is missing.

        hold: be its only server until closed; False for a command beside one. wait: seconds before StateBusy.
        """
        where = place(url)
        with told(where):
            if where.file is not None:
                where.file.parent.mkdir(parents=True, exist_ok=True)
            engine = connected(where, wait)
            held: Hold = NoHold(engine)
            try:
                if hold:
                    held = take(where, engine)
                migrate(where, engine, wait)
                state = cls(where, engine, held, wait)
                mark = state._note("unswept") if hold else None
                if mark is not None:  # the last server was killed while somebody was being forgotten
                    state._sweep(mark)
            except BaseException:
                held.release()
                engine.dispose()
                raise
        return state

    def close(self) -> None:
        self._hold.release()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, events_: Sequence[Event], key: str | None = None, asked: Sequence[Event] | None = None) -> bool:
        """Keep these events, all or none. False: this key came before with the same ones, and nothing is added.

        asked: the same as they were sent, where something was filled in since. Raises KeyReused if the key came with other
        events. A key is known for 7 days.
        """
        rows = [written(event) for event in events_]
        with self._writing() as connection:
            sent = rows if asked is None else [written(event) for event in asked]
            if key is not None and not is_new(connection, key, sent):
                return False
            if rows:
                connection.execute(sql.insert(events), rows)
        return True

    def came(self, key: str, asked: Sequence[Event]) -> bool:
        """Whether `add` has had this key with the same events as they were sent. Raises KeyReused."""
        with self._reading() as connection:
            return came(connection, key, [written(event) for event in asked])

    def events(self) -> Iterator[tuple[int, Event]]:
        """(number, event) of all that are there now, in the order they came; numbers grow and may have gaps."""
        with self._reading() as connection:
            last = connection.execute(sql.select(sql.func.max(events.c.number))).scalar_one() or 0
        done = 0
        while done < last:
            wanted = sql.select(events.c.number, *EVENT).where(events.c.number > done, events.c.number <= last)
            with self._reading() as connection:
                block = connection.execute(wanted.order_by(events.c.number).limit(BLOCK)).all()
            yield from ((number, Event(*found)) for number, *found in block)
            done = block[-1].number if block else last

    def put(self, item: Kept) -> None:
        """Keep this item instead of what was known of it, also if it had been deleted."""
        plain(item.item_id)
        content = row(item)
        rows = [
            {"input": plain(name), "encoder": plain(vector.encoder, None), "vector": packed(vector.values)}
            for name, vector in item.vectors.items()
        ]
        with self._writing() as connection:
            number = replaced(connection, item.item_id, content)
            if rows:
                connection.execute(sql.insert(vectors), [{"item": number} | row for row in rows])

    def delete(self, item_id: str) -> None:
        """Mark an item as gone, known here or not; its words, picture and vectors are removed."""
        plain(item_id)
        with self._writing() as connection:
            replaced(connection, item_id, {"deleted": True, "fields": "{}", "numbers": "{}", "picture": None})

    def items(self) -> Iterator[Kept]:
        """The items that are not deleted, in the order they first came, without their pictures."""
        t, done = items.c, 0
        columns = (t.number, t.item_id, t.fields, t.numbers, t.picture.is_not(None).label("has_picture"))
        wanted = sql.select(*columns).where(~t.deleted).order_by(t.number).limit(SHELF)
        while True:
            with self._reading() as connection:
                block = connection.execute(wanted.where(t.number > done)).all()
                beside: dict[int, dict[str, Vector]] = {found.number: {} for found in block}
                for found in connection.execute(sql.select(vectors).where(vectors.c.item.in_(beside))):
                    beside[found.item][found.input] = unpacked(found)
            for found in block:
                fields, numbers = json.loads(found.fields), json.loads(found.numbers)
                yield Kept(found.item_id, fields, numbers, None, beside[found.number], bool(found.has_picture))
            if not block:
                return
            done = block[-1].number

    def deleted(self) -> frozenset[str]:
        with self._reading() as connection:
            return frozenset(connection.execute(sql.select(items.c.item_id).where(items.c.deleted)).scalars())

    def picture(self, item_id: str) -> bytes | None:
        plain(item_id)
        with self._reading() as connection:
            found = connection.execute(sql.select(items.c.picture).where(items.c.item_id == item_id)).scalar()
        return None if found is None else bytes(found)

    def forget(self, user_id: str) -> bool:
        """Remove a person's events, and every byte of them from SQLite's files. Takes a second per 100 MB or so.

        False: they are removed, but the files are not cleared yet, because somebody reads them; `sweep` does it later.
        """
        plain(user_id)
        digest, mark = veiled(user_id), secrets.token_hex(4)
        with self._writing() as connection:
            forgotten_in(connection, user_id, digest)
            backup.note(connection, "unswept", mark)
        return self.sweep()

    def sweep(self) -> bool:
        """Clear SQLite's files of who was forgotten, if that is still to be done; whether nothing is left to do."""
        try:
            mark = self._note("unswept")
            if mark is not None:
                self._sweep(mark)
        except StateError:
            return False
        return True

    def forgotten(self) -> dict[str, int]:
        """The `veiled` ids, with the number of the newest event then. Events that came later under such an id are a new person's."""
        with self._reading() as connection:
            return {str(one): int(after) for one, after in connection.execute(sql.select(forgotten)).all()}

    def ident(self) -> str:
        """Which state this is: numbers of events mean nothing in another, not even in one that was restored from it."""
        found = self._note("ident")
        if found is None:
            with self._writing() as connection:
                found = noted(connection, "ident") or secrets.token_hex(8)
                backup.note(connection, "ident", found)
        return found

    def fold(self, upto: int) -> None:
        """Note that a run was trained with all events up to this number; nothing is removed."""
        with self._writing() as connection:
            backup.note(connection, "folded", str(int(upto)))

    def folded(self) -> int:
        return int(self._note("folded") or 0)

    def counts(self) -> dict[str, int]:
        with self._reading() as connection:
            return backup.counts(connection)

    def probe(self) -> None:
        """Write a little and read it; StateBusy if that cannot be done now."""
        mark = secrets.token_hex(4)
        with self._writing() as connection:
            backup.note(connection, "probe", mark)
        if self._note("probe") is None:
            raise StateBusy(f"{self.url} does not keep what is written. Look at its drive and try again")

    def add_key(self, name: str, digest: str) -> Key:
        key = Key(secrets.token_hex(4), plain(name), plain(digest), time.time(), None)
        with self._writing() as connection:
            if connection.execute(sql.select(keys.c.id).where(keys.c.digest == digest)).first() is not None:
                raise StateError("this API key is there already. Make another: penchant keys add RUN --name NAME")
            connection.execute(sql.insert(keys), [vars(key)])
        return key

    def keys(self) -> list[Key]:
        """All API keys, also the revoked ones, oldest first."""
        with self._reading() as connection:
            return [Key(*found) for found in connection.execute(sql.select(keys).order_by(keys.c.created, keys.c.id))]

    def revoke(self, id: str) -> bool:
        """Whether there was such a key, and it was still good."""
        plain(id)
        good = sql.update(keys).where(keys.c.id == id, keys.c.revoked.is_(None))
        with self._writing() as connection:
            return connection.execute(good.values(revoked=time.time())).rowcount == 1

    def backup(self, path: Path) -> None:
        """Copy everything, as it is at one instant, into a new SQLite file; the service may go on meanwhile."""
        with self._reading() as connection:
            backup.write(connection, Path(path))

    def restore(self, path: Path) -> dict[str, int]:
        """Take everything from such a file; this state has to be empty. Returns the counts."""
        with backup.opened(Path(path)) as source, self._writing() as connection:
            backup.fill(source, connection, self.url)
            return backup.counts(connection)

    def _note(self, name: str) -> str | None:
        with self._reading() as connection:
            return connection.execute(sql.select(notes.c.value).where(notes.c.name == name)).scalar()

    def _sweep(self, mark: str) -> None:
        """Clear the files; the note stays if somebody else was forgotten since."""
        with self._turn(), told(self._where):
            sweep(self._where, self._engine)
        with self._writing() as connection:
            connection.execute(sql.delete(notes).where(notes.c.name == "unswept", notes.c.value == mark))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One view of everything until the `with` ends."""
        with told(self._where), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction, committed into the file that lies at the path when the `with` ends."""
        with told(self._where), self._turn():
            self._stay()
            with self._hold.writing() as connection:
                yield connection
            if self._where.identity() != self._identity:
                raise StateBusy(f"{self.url} was taken away while it was written. Put it back and try again")

    def _stay(self) -> None:
        """SQLite would go on writing into a file that was removed, and all of it would be lost."""
        now = self._where.identity()
        if now == self._identity:
            return
        if now is None:
            raise StateBusy(f"{self.url} was taken away while in use. Put it back, or stop this server")
        self._engine.dispose()  # another file lies there, maybe a copy put back
        migrate(self._where, self._engine, self._wait)
        self._identity = now

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Threads of this process write one after another."""
        if not self._lock.acquire(timeout=self._wait):
            raise StateBusy(f"{self.url} is being written by others for over {self._wait:g} s. Try again")
        try:
            yield
        finally:
            self._lock.release()
