"""The service's state on real SQLite files and a real PostgreSQL: what was acknowledged is there, whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from postgres import Postgres, running

from penchant.errors import KeyReused, StateBusy, StateError
from penchant.serve import engines, schema
from penchant.serve import state as state_file
from penchant.serve.state import Event, Kept, Key, State, Vector, veiled

pytestmark = pytest.mark.long  # real files, real servers, real kills
KINDS = ("sqlite", "postgresql")
HOSTILE = ["'; DROP TABLE events; --", "🦊🎧", 'a"b`c', "%s %(x)s :y ?", "x" * 512, "🦊" * 512, "\u202epmal", "\\", " "]
Fresh = Callable[[str], str]


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[], Postgres]]:
    with running() as one:
        yield one


@pytest.fixture
def server(servers: Callable[[], Postgres]) -> Postgres:
    return servers()


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """A new empty place of this kind at each call."""

    def make(kind: str) -> str:
        name = f"d{secrets.token_hex(4)}"
        if kind == "sqlite":
            return str(tmp_path / name / "state.sqlite")
        server: Postgres = request.getfixturevalue("server")
        return server.make(name)

    return make


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, fresh: Fresh) -> str:
    return fresh(request.param)


def is_file(url: str) -> bool:
    return "://" not in url


@contextmanager
def raw(url: str) -> Iterator[Any]:
    """A connection past State, which commits by itself."""
    if is_file(url):
        found = sqlite3.connect(url, isolation_level=None, timeout=5)
    else:
        import psycopg

        found = psycopg.connect(url, autocommit=True)
    try:
        yield found
    finally:
        found.close()


def seen_in(state: State) -> list[Event]:
    return [event for _, event in state.events()]


def events_of(state: State, user: str) -> list[Event]:
    return [event for event in seen_in(state) if event.user_id == user]


def item(name: str, title: str = "A", picture: bytes | None = None, **rows: list[float] | None) -> Kept:
    made = {k: Vector(f"enc-{k}", None if v is None else np.array(v, np.float32)) for k, v in rows.items()}
    return Kept(name, {"title": title, "none": None}, {"price": 2.5, "stock": 3, "new": True, "x": None}, picture, made)


def drawn(kept: Kept) -> tuple[Any, ...]:
    """An item as plain values, to compare."""
    rows = {k: (v.encoder, None if v.values is None else v.values.tolist()) for k, v in kept.vectors.items()}
    numbers = {k: (type(v), v) for k, v in kept.numbers.items()}
    return kept.item_id, dict(kept.fields), numbers, rows


def everything(state: State) -> tuple[Any, ...]:
    kept = [(*drawn(k), k.has_picture, state.picture(k.item_id)) for k in state.items()]
    return list(state.events()), kept, state.deleted(), state.forgotten(), state.keys(), state.folded(), state.counts()


# Known answers


def test_events_come_back_in_order_and_survive_closing(url: str) -> None:
    given_events = [Event("u", "a", 3.5, "nice"), Event("v", "b", 1.25), Event("u", "a", -7.0, "")]
    with State.open(url) as state:
        assert state.counts() == {"events": 0, "items": 0, "deleted": 0, "forgotten": 0}
        assert state.add(given_events[:2]) is True
        assert state.add([]) is True
        assert state.add(given_events[2:]) is True
        assert events_of(state, "u") == [given_events[0], given_events[2]]
        assert events_of(state, "U") == []
    with State.open(url) as state:
        numbers = [number for number, _ in state.events()]
        assert seen_in(state) == given_events
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0
        assert state.counts()["events"] == 3


def test_ids_are_only_text(url: str) -> None:
    made = [Event(a, b, 1.0, a + b) for a, b in zip(HOSTILE, reversed(HOSTILE), strict=True)]
    with State.open(url) as state:
        state.add(made, key=HOSTILE[0])
        state.put(item(HOSTILE[1], HOSTILE[2]))
        state.delete(HOSTILE[0])
        assert seen_in(state) == made
        assert [events_of(state, e.user_id) for e in made] == [[e] for e in made]
        assert [drawn(k) for k in state.items()] == [drawn(item(HOSTILE[1], HOSTILE[2]))]
        assert state.deleted() == {HOSTILE[0]}


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800", "x" * 513])
def test_what_a_database_cannot_hold_is_refused_whole(url: str, bad: str) -> None:
    with State.open(url) as state:
        for call in (
            lambda: state.add([Event("u", "i", 1.0), Event(bad, "i", 1.0)]),
            lambda: state.add([Event("u", "i", 1.0)], key=bad),
            lambda: state.put(item(bad)),
            lambda: state.delete(bad),
            lambda: state.forget(bad),
            lambda: state.add([Event("u", "i", float("nan"))]),
            lambda: state.add([Event("u", "i", float("inf"))]),
            lambda: state.put(Kept("i", {}, {"price": float("nan")}, None, {})),
            lambda: state.put(item("i", text=[float("nan")])),
        ):
            with pytest.raises(StateError):
                call()
        if len(bad) < 100:
            with pytest.raises(StateError):
                state.put(item("i", title=bad))
            with pytest.raises(StateError):
                state.add([Event("u", "i", 1.0, bad)])
        assert state.counts() == {"events": 0, "items": 0, "deleted": 0, "forgotten": 0}


def test_a_batch_sent_twice_counts_once(url: str) -> None:
    batch = [Event("u", "a", 1.0, "r"), Event("u", "b", 2.0)]
    with State.open(url) as state:
        assert state.add(batch, key="k") is True
        assert state.add(list(batch), key="k") is False
        with pytest.raises(KeyReused, match="with other events"):
            state.add([batch[0]], key="k")
        assert state.add(batch, key="l") is True
        with ThreadPoolExecutor(8) as pool:
            news = list(pool.map(lambda _: state.add([Event("w", "c", 1.0)], key="same"), range(16)))
        assert sorted(news) == [False] * 15 + [True]
    with State.open(url) as state:
        assert state.add(batch, key="k") is False
        assert state.counts()["events"] == 5


def test_old_idempotency_keys_go_a_few_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    day = [0.0]
    monkeypatch.setattr("penchant.serve.repeats.time", SimpleNamespace(time=lambda: day[0] * 86_400))
    with State.open(url) as state, raw(url) as direct:
        digests = [hashlib.sha256(f"old{n}".encode()).hexdigest() for n in range(250)]
        direct.execute("INSERT INTO seen VALUES " + ", ".join(f"('{digest}', 'c', 100)" for digest in digests))
        day[0] = 6.9
        state.add([Event("u", "i", 1.0)], key="first")
        assert direct.execute("SELECT count(*) FROM seen").fetchone() == (251,)
        left = []
        day[0] = 7.5
        for n in range(4):
            state.add([Event("u", "i", 1.0)], key=f"n{n}")
            left.append(direct.execute("SELECT count(*) FROM seen WHERE at = 100").fetchone()[0])
        assert left == [150, 50, 0, 0]
        assert state.add([Event("u", "i", 1.0)], key="first") is False


def test_items_are_replaced_whole_deleted_and_put_again(url: str) -> None:
    with State.open(url) as state:
        state.put(item("b", "B", b"\0picture\xff", text=[1.5, -2.0], image=None))
        state.put(item("a", "first"))
        state.put(item("a", "second", text=[]))
        one, two = state.items()
        assert (one.has_picture, one.picture, two.has_picture) == (True, None, False)
        assert drawn(one) == drawn(item("b", "B", text=[1.5, -2.0], image=None))
        assert one.vectors["text"].values.dtype == np.float32
        assert drawn(two) == drawn(item("a", "second", text=[]))
        assert (state.picture("b"), state.picture("a"), state.picture("no")) == (b"\0picture\xff", None, None)
        state.delete("b")
        state.delete("never came")
        assert [k.item_id for k in state.items()] == ["a"]
        assert state.deleted() == {"b", "never came"}
        assert state.picture("b") is None
        with raw(url) as direct:
            assert direct.execute("SELECT count(*) FROM vectors").fetchone() == (1,)
        state.put(item("b", "again"))
        assert [drawn(k) for k in state.items()] == [drawn(item("b", "again")), drawn(item("a", "second", text=[]))]
        assert state.deleted() == {"never came"}
        assert state.counts() == {"events": 0, "items": 2, "deleted": 1, "forgotten": 0}


def test_streams_cross_their_blocks(url: str) -> None:
    with State.open(url) as state:
        made = [Event(f"u{n % 7}", f"i{n}", float(n)) for n in range(2 * state_file.BLOCK + 3)]
        start = time.perf_counter()
        state.add(made[:1000])
        assert time.perf_counter() - start < 1.0  # about 0.05 s; the drive may be busy
        state.add(made[1000:])
        stream = state.events()
        first = [next(stream)[1]]
        state.add([Event("late", "late", 0.0)])  # what comes while one reads is not part of it
        assert first + [event for _, event in stream] == made
        names = [f"n{n}" for n in range(state_file.SHELF + 2)]
        with raw(url) as direct:
            values = ", ".join(f"('{name}', FALSE, '{{}}', '{{}}')" for name in names)
            direct.execute(f"INSERT INTO items (item_id, deleted, fields, numbers) VALUES {values}")
        assert [k.item_id for k in state.items()] == names


def test_a_fold_is_a_note_and_keys_can_be_revoked(url: str) -> None:
    with State.open(url) as state:
        assert state.folded() == 0
        state.add([Event("u", "i", 1.0)])
        state.fold(1)
        one, two = state.add_key("till", "d1"), state.add_key("till", "d2")
        assert one.id != two.id
        with pytest.raises(StateError, match="already"):
            state.add_key("other", "d1")
        assert state.revoke(one.id) is True
        assert state.revoke(one.id) is False
        assert state.revoke("no such") is False
    with State.open(url, hold=False) as state:
        assert state.folded() == 1
        assert state.counts()["events"] == 1
        first, second = sorted(state.keys(), key=lambda key: key.digest)
        assert second == two
        assert first == Key(one.id, "till", "d1", one.created, first.revoked)
        assert first.revoked is not None
        assert abs(first.revoked - time.time()) < 60


IDS = some.sampled_from(["a", "b", "c", "é🦊", "'"])
TEXTS = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
EVENTS = some.builds(Event, IDS, IDS, some.floats(allow_nan=False, allow_infinity=False), some.none() | TEXTS)
ACTS = some.one_of(
    some.tuples(some.just("add"), some.lists(EVENTS, max_size=4), some.none() | some.sampled_from("kl")),
    some.tuples(
        some.just("put"), IDS, TEXTS, some.none() | some.binary(max_size=5), some.none() | some.just([1.0, 2.0])
    ),
    some.tuples(some.just("delete"), IDS),
    some.tuples(some.just("forget"), IDS),
    some.tuples(some.just("reopen")),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=some.lists(ACTS, min_size=5, max_size=25))
@example(acts=[("put", "a", "x", b"1", None), ("delete", "a"), ("delete", "b"), ("put", "b", "y", None, [1.0, 2.0])])
def test_it_does_what_a_dictionary_does(kind: str, fresh: Fresh, acts: list[Any]) -> None:
    where = fresh(kind)
    state = State.open(where)
    events: list[Event] = []
    keys: dict[str, list[Event]] = {}
    items: dict[str, Kept | None] = {}  # None: deleted
    gone: set[str] = set()
    try:
        for act, *rest in acts:
            if act == "add":
                batch, key = rest
                if key in keys and keys[key] != batch:
                    with pytest.raises(KeyReused):
                        state.add(batch, key)
                    continue
                assert state.add(batch, key) is (key not in keys)
                events += [] if key in keys else batch
                if key is not None:
                    keys[key] = batch
            elif act == "put":
                name, title, picture, row = rest
                items[name] = item(name, title, picture, text=row)
                state.put(items[name])
            elif act == "delete":
                items[rest[0]] = None
                state.delete(rest[0])
            elif act == "forget":
                events = [event for event in events if event.user_id != rest[0]]
                gone.add(veiled(rest[0]))
                state.forget(rest[0])
            else:
                state.close()
                state = State.open(where)
        assert seen_in(state) == events
        for name in "abc":
            assert events_of(state, name) == [event for event in events if event.user_id == name]
        there = [kept for kept in items.values() if kept is not None]
        assert [drawn(kept) for kept in state.items()] == [drawn(kept) for kept in there]
        assert [state.picture(kept.item_id) for kept in there] == [kept.picture for kept in there]
        assert state.deleted() == {name for name, kept in items.items() if kept is None}
        assert state.forgotten().keys() == gone
    finally:
        state.close()


def test_many_threads_lose_nothing(url: str) -> None:
    with State.open(url) as state:

        def work(n: int) -> None:
            for m in range(10):
                state.add([Event(f"u{n}", f"{m}", 1.0), Event(f"u{n}", f"{m}'", 1.0)])
                assert len(events_of(state, f"u{n}")) == 2 * m + 2
                assert state.counts()["events"] % 2 == 0

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        assert sorted((e.user_id, e.item_id) for e in seen_in(state)) == sorted(
            (f"u{n}", f"{m}{end}") for n in range(6) for m in range(10) for end in ("", "'")
        )


def test_numbers_are_given_in_the_order_of_commits_also_among_processes(url: str) -> None:
    """Else who reads on from the last number that he saw would miss an event with a lower one."""
    with State.open(url, hold=False) as one, State.open(url) as two, ThreadPoolExecutor(1) as pool:
        with one._writing() as connection:
            connection.execute(sql.insert(schema.events).values(user_id="u", item_id="first", at=1.0))
            waiting = pool.submit(two.add, [Event("u", "second", 1.0)])
            time.sleep(0.3)
            assert not waiting.done()
        assert waiting.result(10) is True
        assert [event.item_id for event in seen_in(two)] == ["first", "second"]


# Forgetting


def left(url: str, *words: str) -> list[str]:
    """Which of these words are in the bytes of any file of the database."""
    files = [path for path in Path(url).parent.iterdir() if path.name.startswith(Path(url).name)]
    assert Path(url) in files
    content = b"".join(path.read_bytes() for path in files)
    return [word for word in words if word.encode() in content]


def test_after_forgetting_no_byte_is_left(tmp_path: Path) -> None:
    url = str(tmp_path / "state.sqlite")
    dice = random.Random(1)
    people = [f"person-{dice.getrandbits(64):016x}-{'x' * dice.randint(0, 60)}" for _ in range(300)]
    rows = [(who, f"said-{n}-{who[:23]}-{'bla' * dice.randint(0, 400)}") for who in people for n in range(40)]
    dice.shuffle(rows)
    with State.open(url) as state:
        for at in range(0, len(rows), 200):
            state.add([Event(who, "i", 1.0, said) for who, said in rows[at : at + 200]], key=f"{rows[at][0]} {at}")
        gone = people[:150]
        assert left(url, *(who[:23] for who in gone)) == [who[:23] for who in gone]
        with raw(url) as direct:  # most of them without cleaning up, so that the last one has all to clean
            direct.execute("PRAGMA secure_delete = ON")
            for who in gone[:-2]:
                direct.execute("DELETE FROM events WHERE user_id = ?", [who])
        state.forget(gone[-2])
        state.forget(gone[-1])
        assert left(url, *(who[:23] for who in gone)) == []
        assert state.forgotten().keys() == {hashlib.sha256(who.encode()).hexdigest() for who in gone[-2:]}
        kept = Counter(event.user_id for event in seen_in(state))
        assert sorted(kept[who] for who in people) == [0] * 150 + [40] * 150
        assert left(url, people[150]) == [people[150]]


def test_a_person_forgotten_may_come_again_as_a_new_one(url: str) -> None:
    with State.open(url) as state:
        state.add([Event("u", "a", 1.0), Event("v", "a", 1.0)])
        last = max(number for number, _ in state.events())
        state.forget("v")
        state.forget("u")
        state.add([Event("u", "b", 2.0)])
        ((number, event),) = state.events()
        assert (event, number > last) == (Event("u", "b", 2.0), True)
        assert state.forgotten().keys() == {veiled("u"), veiled("v")}


def test_forgetting_waits_for_readers_and_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "state.sqlite")
    with State.open(url, wait=0.2) as state:
        state.add([Event("somebody-1", "i", 1.0, "secret-1"), Event("somebody-2", "i", 1.0, "secret-2")])
        with raw(url) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            assert not state.forget("somebody-1")
            assert not state.sweep()
        assert events_of(state, "somebody-1") == []
        assert state.sweep()
        assert left(url, "somebody-1", "secret-1") == []

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(state_file, "sweep", killed)
            with pytest.raises(KeyboardInterrupt):
                state.forget("somebody-2")
        assert left(url, "secret-2") == ["secret-2"]
    with State.open(url, hold=False):
        pass
    with State.open(url) as state:
        assert left(url, "somebody-2", "secret-2") == []
        with raw(url) as direct:
            assert direct.execute("SELECT * FROM notes").fetchall() == []


# Kills, holders, locks, drives


CHILD = """
import sys
from penchant.serve.state import Event, State
state = State.open(sys.argv[1])
n = 0
while True:
    state.add([Event(str(n), part, float(n)) for part in "abc"], key=str(n))
    print(n, flush=True)
    n += 1
"""


def test_a_kill_loses_nothing_acknowledged(url: str) -> None:
    dice = random.Random(7)
    known = 0
    for _ in range(3):
        code = CHILD.replace("n = 0", f"n = {known}", 1)
        child = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(dice.randint(5, 30))]
        time.sleep(dice.random() / 50)
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        with State.open(url) as state:  # the hold went with the process
            found = [(event.user_id, event.item_id) for event in seen_in(state)]
        assert len(found) % 3 == 0
        whole = len(found) // 3
        assert found == [(str(n), part) for n in range(whole) for part in "abc"]
        assert whole - 1 in (told[-1], told[-1] + 1)  # one may be committed and not yet told
        known = whole


def test_one_server_at_a_time(url: str) -> None:
    with State.open(url) as state:
        with pytest.raises(StateError, match="another server uses") as caught:
            State.open(url)
        assert type(caught.value) is StateError
        assert state.url in str(caught.value)
        if is_file(url):
            assert f"process {os.getpid()}" in str(caught.value)
        with State.open(url, hold=False) as beside:
            beside.add_key("k", "d")
        state.add([Event("u", "i", 1.0)])
        assert len(state.keys()) == 1
    with State.open(url) as state:
        assert state.counts()["events"] == 1


def test_a_hold_that_went_to_another_is_noticed(url: str) -> None:
    with State.open(url) as first:
        first.add([Event("u", "i", 1.0)])
        if is_file(url):
            os.unlink(f"{url}.lock")
        else:
            with raw(url) as direct:
                direct.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        with State.open(url) as second:
            with pytest.raises(StateError, match="another server uses") as caught:
                first.add([Event("u", "lost", 1.0)])
            assert type(caught.value) is StateError
            second.add([Event("u", "j", 1.0)])
            assert len(seen_in(first)) == 2  # reading goes on
        first.add([Event("u", "k", 1.0)])  # the other stopped
        with pytest.raises(StateError, match="another server uses"):
            State.open(url)
        assert [event.item_id for event in seen_in(first)] == ["i", "j", "k"]


def test_a_locked_database_is_busy_and_keeps_nothing(url: str) -> None:
    with State.open(url, wait=0.3) as state, raw(url) as other:
        state.add([Event("u", "i", 1.0)], key="a")
        other.execute("BEGIN IMMEDIATE" if is_file(url) else "BEGIN")
        if not is_file(url):
            other.execute("LOCK TABLE events, notes, items IN EXCLUSIVE MODE")
        start = time.perf_counter()
        for call in (
            lambda: state.add([Event("u", "lost", 1.0)], key="k"),
            lambda: state.delete("lost"),
            state.probe,
        ):
            with pytest.raises(StateBusy, match="try again"):
                call()
        assert 0.8 < time.perf_counter() - start < 5
        assert state.counts()["events"] == 1  # reads go on
        other.execute("ROLLBACK")
        assert state.add([Event("u", "j", 1.0)], key="k") is True
        state.probe()
        assert [event.item_id for event in seen_in(state)] == ["i", "j"]
        assert state.deleted() == frozenset()


def test_a_thread_that_waits_too_long_is_told(tmp_path: Path) -> None:
    with State.open(str(tmp_path / "s"), wait=0.2) as state, raw(str(tmp_path / "s")) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(4) as pool:
            tries = [pool.submit(state.add, [Event("u", "i", 1.0)]) for _ in range(4)]
        assert all(isinstance(done.exception(), StateBusy) for done in tries)
        other.execute("ROLLBACK")
        state.add([Event("u", "i", 1.0)])


@pytest.fixture
def small_drive() -> Iterator[Path]:
    drive = Path(tempfile.gettempdir()) / f"penchant-{secrets.token_hex(4)}"
    drive.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=755", "tmpfs", str(drive)], capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        drive.rmdir()
        pytest.skip("NOT TESTED ON A FULL DRIVE: mounting one needs root. Run the tests as root once")
    yield drive
    subprocess.run(["umount", "--lazy", str(drive)], check=True)
    drive.rmdir()


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_drive_is_busy_and_works_again(kind: str, small_drive: Path, fresh: Fresh) -> None:
    url = str(small_drive / "state.sqlite") if kind == "sqlite" else fresh(kind)
    with State.open(url) as state:
        state.add([Event("u", "first", 1.0)])
        if kind == "postgresql":
            inner = small_drive / "space"
            inner.mkdir()
            shutil.chown(inner, "postgres" if os.geteuid() == 0 else None)
            with raw(url) as direct:
                direct.execute(f"CREATE TABLESPACE {small_drive.name.replace('-', '_')} LOCATION '{inner}'")
                direct.execute(f"ALTER TABLE events SET TABLESPACE {small_drive.name.replace('-', '_')}")
        filler = small_drive / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # until no space is left
            while True:
                file.write(bytes(4096))
        big = [Event("u", "lost", 1.0, "r" * 1000) for _ in range(500)]
        for _ in range(2):
            with pytest.raises(StateBusy):
                state.add(big, key="big")
        assert [event.item_id for event in seen_in(state)] == ["first"]
        filler.unlink()
        assert state.add(big, key="big") is True
        state.probe()
        assert state.counts()["events"] == 501
    with State.open(url) as state:
        assert state.counts()["events"] == 501
    if kind == "postgresql":
        with raw(url) as direct:
            direct.execute("DROP TABLE events")
            direct.execute(f"DROP TABLESPACE {small_drive.name.replace('-', '_')}")


def test_a_file_that_was_taken_away_takes_no_events(tmp_path: Path) -> None:
    url = str(tmp_path / "state.sqlite")
    with State.open(url) as state:
        state.add([Event("u", "i", 1.0)])
        os.rename(url, f"{url}.away")
        with pytest.raises(StateBusy, match="taken away"):
            state.add([Event("u", "lost", 1.0)])
        with pytest.raises(StateBusy):
            state.probe()
        state._engine.dispose()
        with pytest.raises(StateBusy):
            state.counts()  # by a new connection, which must not make a new empty file
        assert not Path(url).exists()
        os.rename(f"{url}.away", url)
        state.add([Event("u", "j", 1.0)])
        state.backup(tmp_path / "copy")
        for end in ("", "-wal", "-shm"):
            Path(url + end).unlink(missing_ok=True)
        with pytest.raises(StateBusy):
            state.add([Event("u", "lost", 1.0)])
        os.rename(tmp_path / "copy", url)
        state.add([Event("u", "k", 1.0)])
        assert [event.item_id for event in seen_in(state)] == ["i", "j", "k"]
    with State.open(url) as state:
        assert [event.item_id for event in seen_in(state)] == ["i", "j", "k"]


def test_a_server_that_stopped_comes_back(server: Postgres, fresh: Fresh) -> None:
    url = fresh("postgresql")
    with State.open(url, wait=1.0) as state:
        state.add([Event("u", "i", 1.0)])
        server.stop()
        try:
            for call in (
                lambda: state.add([Event("u", "lost", 1.0)], key="k"),
                lambda: state.forget("u"),
                state.probe,
                state.counts,
                lambda: State.open(url),
            ):
                with pytest.raises(StateBusy) as caught:
                    call()
                assert "s3cret" not in str(caught.value)
        finally:
            server.start()
        assert state.add([Event("u", "j", 1.0)], key="k") is True
        with pytest.raises(StateError, match="another server uses"):
            State.open(url)  # the hold was taken again
        server.stop()
        server.start()
        assert state.counts()["events"] == 2
        state.add([Event("u", "k", 1.0)])
        assert [event.item_id for event in seen_in(state)] == ["i", "j", "k"]


# What is not ours


def test_a_newer_database_is_refused(url: str) -> None:
    with State.open(url) as state:
        state.add([Event("u", "i", 1.0)])
    with raw(url) as direct:
        direct.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    for hold in (True, False):
        with pytest.raises(StateError, match="newer Penchant"):
            State.open(url, hold=hold)
    with raw(url) as direct:
        direct.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{schema.HEAD}'")
    with State.open(url) as state:
        assert state.counts()["events"] == 1


def test_a_foreign_database_is_refused_and_not_touched(url: str, tmp_path: Path) -> None:
    if is_file(url):
        Path(url).parent.mkdir()
    with raw(url) as direct:
        direct.execute("CREATE TABLE theirs (a INTEGER)")
    before = Path(url).read_bytes() if is_file(url) else b""
    with pytest.raises(StateError, match=r"something else \(theirs\)"):
        State.open(url)
    if is_file(url):
        assert Path(url).read_bytes() == before
    with raw(url) as direct:
        direct.execute("DROP TABLE theirs")
    State.open(url).close()  # nothing holds it


@pytest.mark.parametrize("content", [b"these are my notes\n" * 400, b"SQLite format 3\0" + bytes(range(256)) * 20])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StateError, match="not ours") as caught:
        State.open(str(path))
    assert type(caught.value) is StateError
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "url",
    [
        "",
        ":memory:",
        "sqlite://",
        "mysql://u:s3cret@h/x",
        "postgresql://u:s3cret@h:port/x",
        "postgresql://u:s3cret@/x\0",
    ],
)
def test_an_impossible_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StateError) as caught:
        State.open(url, wait=0.2)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://me:s3cret@host:5/db", "postgresql://me@host:5/db"),
        ("postgresql:///db?host=/run&password=s3cret&user=me", "postgresql:///db?host=%2Frun&user=me"),
        ("sqlite:////a/b c.sqlite", "sqlite:////a/b c.sqlite"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert engines.place(url).shown == shown


def test_a_wrong_password_and_a_missing_database_are_told(server: Postgres) -> None:
    for url in (server.url("nowhere"), server.url("postgres").replace("s3cret-p%40ss", "wr0ng")):
        with pytest.raises(StateError) as caught:
            State.open(url)
        assert not any(word in str(caught.value) for word in ("s3cret", "wr0ng"))


def test_a_database_that_cannot_hold_every_letter_is_refused(server: Postgres) -> None:
    name = f"d{secrets.token_hex(4)}"
    url = server.make(name, "-E", "LATIN1", "-T", "template0", "--locale=C")
    with pytest.raises(StateError, match="UTF8"):
        State.open(url)


def test_the_steps_lead_to_the_tables_of_the_code(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    State.open(url).close()
    engine = engines.connected(engines.place(url), 5.0)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()
    folder = Path(engines.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [schema.HEAD]


def test_several_may_make_the_same_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(5) as pool:
        made = list(pool.map(lambda _: State.open(url, hold=False), range(5)))
    for n, state in enumerate(made):
        state.add([Event("u", str(n), 1.0)])
    assert [event.item_id for event in seen_in(made[0])] == list("01234")
    for state in made:
        state.close()


# Backups


def fill(state: State) -> None:
    state.add([Event(who, "i", 1.0 / 3, who) for who in HOSTILE], key="k")
    state.put(item("b", "B", b"\0\xff", text=[1.5], image=None))
    state.put(item("a"))
    state.delete("gone")
    state.delete("c")
    state.put(item("c", HOSTILE[1]))
    state.revoke(state.add_key("one", "d1").id)
    state.add_key("two", "d2")
    state.add([Event("leaves", "i", 1.0) for _ in range(1500)])
    state.fold(max(number for number, _ in state.events()))
    state.forget("leaves")


@pytest.mark.parametrize("to", KINDS)
def test_a_backup_goes_into_either_database(url: str, to: str, fresh: Fresh, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "monday.sqlite"
    with State.open(url) as state:
        fill(state)
        state.backup(copy)
        before = everything(state)
        state.add([Event("later", "i", 1.0)])
        with pytest.raises(StateError, match="overwrites nothing"):
            state.backup(copy)
        with pytest.raises(StateError, match="only into an empty one"):
            state.restore(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["monday.sqlite"]
    assert copy.stat().st_mode & 0o077 == 0
    content = copy.read_bytes()
    with State.open(fresh(to)) as other:
        assert other.restore(copy) == {"events": 9, "items": 3, "deleted": 1, "forgotten": 1}
        assert everything(other) == before
        assert other.add([Event(who, "i", 1.0 / 3, who) for who in HOSTILE], key="k") is False
        other.add([Event("new", "i", 1.0)])
        other.put(item("z"))
        assert max(number for number, _ in other.events()) > other.folded() > 1500
        assert [kept.item_id for kept in other.items()] == ["b", "a", "c", "z"]
    assert copy.read_bytes() == content


def test_a_backup_is_one_instant_of_a_server_that_goes_on(url: str, tmp_path: Path) -> None:
    with State.open(url) as state:
        state.add([Event("u", "i", 1.0) for _ in range(2000)])
        done = threading.Event()

        def work() -> None:
            while not done.is_set():
                name = secrets.token_hex(4)
                state.add([Event(name, "a", 1.0), Event(name, "b", 1.0)])
                state.put(item(name, text=[1.0]))

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(work)
            try:
                for n in range(3):
                    before = state.counts()["events"]
                    state.backup(tmp_path / f"{n}")
                    with sqlite3.connect(tmp_path / f"{n}") as copy:
                        (found,) = copy.execute("SELECT count(*) FROM events").fetchone()
                        (kept,) = copy.execute("SELECT count(*) FROM items").fetchone()
                        (rows,) = copy.execute("SELECT count(*) FROM vectors").fetchone()
                    copy.close()
                    assert found >= before
                    assert (found - 2000) / 2 - kept in (0, 1)
                    assert rows == kept
            finally:
                done.set()
            writer.result()


def test_a_damaged_backup_restores_nothing(url: str, tmp_path: Path) -> None:
    with State.open(str(tmp_path / "other.sqlite")) as state:
        fill(state)
        state.add([Event(f"u{n}", "i", 1.0, "r" * 100) for n in range(2000)])
        state.backup(tmp_path / "good")
    content = (tmp_path / "good").read_bytes()
    (tmp_path / "half").write_bytes(content[: len(content) // 2])
    (tmp_path / "zeros").write_bytes(content[:20_000] + bytes(40_000) + content[60_000:])
    (tmp_path / "text").write_text("no backup\n" * 200)
    (tmp_path / "empty").write_bytes(b"")
    with State.open(url) as state:
        for name in ("half", "zeros", "text", "empty", "not there", "."):
            with pytest.raises(StateError):
                state.restore(tmp_path / name)
        assert state.counts() == {"events": 0, "items": 0, "deleted": 0, "forgotten": 0}
        assert state.restore(tmp_path / "good")["events"] == 2009


def test_a_backup_that_fails_leaves_no_file(small_drive: Path, tmp_path: Path) -> None:
    with State.open(str(tmp_path / "state.sqlite")) as state:
        state.add([Event(f"u{n}", "i", 1.0, "r" * 4000) for n in range(2500)])
        with pytest.raises(StateBusy):
            state.backup(small_drive / "copy")
        assert list(small_drive.iterdir()) == []
        state.backup(tmp_path / "copy")
