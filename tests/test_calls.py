"""Calls in the store: exact round trips, good answers that stay, forgetting that leaves no byte, stores of version 1."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_store import drop
from toy_lm import contents

from penchant.calls import Call, Calls, Mention
from penchant.errors import StoreError
from penchant.lm import BAD, Request
from penchant.store import Store

STATUSES = ("ok", *BAD)

# The tables as Penchant 0.1 wrote them before it kept calls.
VERSION_1 = """
CREATE TABLE IF NOT EXISTS encoders (id INTEGER PRIMARY KEY, print TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS vectors (
    encoder INTEGER NOT NULL, content BLOB NOT NULL, cut INTEGER NOT NULL, vector BLOB NOT NULL,
    UNIQUE (encoder, content)
);
"""


def key(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def call(name: str = "a", status: str = "ok", text: str = "well", user: str = "what?") -> Call:
    parsed = '{"summary": "well"}' if status == "ok" else None
    facts = Request("you", user).facts("toy", "1")
    return Call(key(name), "toy", "1", "p@1", status, text, parsed, "", 10, 5, 0.25, 2, 0.5, "2026-01-01", facts)


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Store(tmp_path).calls()


# what goes in comes out


@settings(max_examples=40)
@given(
    text=st.text(),
    user=st.text(),
    error=st.text(),
    status=st.sampled_from(STATUSES),
    numbers=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), st.floats(0, 1e6), st.integers(1, 99)),
)
def test_a_call_comes_back_as_it_was(
    text: str, user: str, error: str, status: str, numbers: tuple[int, int, float, int]
) -> None:
    tokens_in, tokens_out, usd, attempts = numbers
    was = replace(
        call(status=status, text=text, user=user),
        error=error,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        usd=usd,
        attempts=attempts,
    )
    with tempfile.TemporaryDirectory() as folder:
        with Store(folder).calls() as calls:
            calls.put(was)
        with Store(folder).calls() as calls:
            assert calls.read(was.key) == was
            kept = calls.known([was.key])[was.key]
            assert (kept.status, kept.parsed, kept.error) == (was.status, was.parsed, was.error)
            assert (kept.tokens_in, kept.tokens_out, kept.usd) == (tokens_in, tokens_out, usd)
            assert len(calls) == 1


def test_half_a_surrogate_pair_neither_breaks_nor_loses_the_rest(calls: Calls) -> None:
    calls.put(call(text="half \ud83d pair", user="\udc4d?"), [Mention("user", "\ud83d", True)])
    back = calls.read(key("a"))
    assert back is not None
    assert back.text.startswith("half ")
    assert back.text.endswith(" pair")
    assert back.request["user"] == "\udc4d?"
    assert [found.key for found in calls.of("user", "\ud83d")] == [key("a")]


def test_many_keys_are_found_at_once_and_unknown_ones_left_out(calls: Calls) -> None:
    calls.put_all((call(str(n), text=str(n)), (), {}) for n in range(1201))
    found = calls.known([key(str(n)) for n in range(0, 2400, 2)])
    assert set(found) == {key(str(n)) for n in range(0, 1201, 2)}
    assert calls.known([]) == {}
    assert calls.read(key("nobody")) is None


def test_pictures_come_back_byte_for_byte_and_are_kept_once(calls: Calls) -> None:
    raw = bytes(range(256)) * 9
    request = Request("you", "what?", (raw,))
    for name in "ab":
        calls.put(
            replace(call(name), request=request.facts("toy", "1")), (), dict(zip(request.pictures, [raw], strict=True))
        )
    assert calls.picture(request.pictures[0]) == raw
    assert calls.connection.execute("SELECT count(*) FROM pictures").fetchone() == (1,)
    assert calls.picture(key("none")) is None


def test_models_are_listed_by_how_much_they_answered(calls: Calls) -> None:
    calls.put_all((call(str(n)), (), {}) for n in range(3))
    calls.put_all((replace(call(f"x{n}"), model="other", revision="7"), (), {}) for n in range(5))
    assert calls.models() == [("other", "7", 5), ("toy", "1", 3)]


# what may replace what


@pytest.mark.parametrize("second", STATUSES)
@pytest.mark.parametrize("first", STATUSES)
def test_a_good_answer_stays_and_a_bad_one_makes_room(first: str, second: str, calls: Calls) -> None:
    calls.put(call(status=first, text="the first"))
    calls.put(call(status=second, text="the second"))
    back = calls.read(key("a"))
    assert back is not None
    assert back.status == ("ok" if first == "ok" else second)
    assert back.text == ("the first" if first == "ok" else "the second")
    assert (back.parsed is not None) == (back.status == "ok")
    # What was paid is paid, whichever reply is kept.
    assert (back.tokens_in, back.tokens_out, back.usd, back.attempts) == (20, 10, 0.5, 4)


def test_several_calls_are_kept_all_or_none(calls: Calls) -> None:
    broken = replace(call("b"), key="no hex")
    with pytest.raises(ValueError, match="hex"):
        calls.put_all([(call("a"), (), {}), (broken, (), {})])
    assert len(calls) == 0
    calls.put(call("a"))
    assert len(calls) == 1


# whom it is about


def test_mentions_tell_who_asked_from_whose_words_were_shown(calls: Calls) -> None:
    calls.put(call("a"), [Mention("user", "u1", True), Mention("item", "i1")])
    calls.put(call("b"), [Mention("item", "i1", True)])
    assert calls.mentions(key("a")) == [Mention("item", "i1"), Mention("user", "u1", True)]
    assert [c.key for c in calls.of("item", "i1")] == [key("b")]
    assert [c.key for c in calls.of("item", "i1", asked_only=False)] == [key("b"), key("a")]
    assert calls.of("user", "i1") == []
    assert calls.asked("item", ["i1", "u1", "i2"]) == {("i1", key("b"))}


def test_a_mention_is_added_once_and_asked_is_not_forgotten(calls: Calls) -> None:
    calls.put(call("a"), [Mention("user", "u1", True)])
    calls.mention({key("a"): [Mention("user", "u1"), Mention("user", "u2", True), Mention("user", "u2")]})
    calls.mention({key("nobody"): [Mention("user", "u9", True)]})
    assert calls.mentions(key("a")) == [Mention("user", "u1", True), Mention("user", "u2", True)]
    assert calls.of("user", "u9") == []


# forgetting


def _bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file())


def test_what_is_dropped_leaves_no_byte_behind(tmp_path: Path) -> None:
    picture = b"PICTURETHATGOES" * 400
    asked = Request("you", "what did LONGGONE say? " + "word " * 3000, (picture,))
    gone = replace(call("gone", text="LONGGONE said so" * 200), error="ERRORGOES", request=asked.facts("toy", "1"))
    shown = dict(zip(asked.pictures, [picture], strict=True))
    with Store(tmp_path).calls() as calls:
        calls.put_all((call(str(n), text=f"stays {n} " * 50), [Mention("user", f"u{n}", True)], {}) for n in range(300))
        calls.put(gone, [Mention("user", "GONEUSER", True)], shown)
        calls.put_all((call(f"x{n}", text=f"stays {n} " * 50), [], {}) for n in range(300))
        (packed,) = calls.connection.execute("SELECT request FROM calls WHERE key = ?", (bytes.fromhex(gone.key),))
    words = (b"LONGGONE", b"GONEUSER", b"ERRORGOES", b"PICTURETHATGOES", packed[0][:60], bytes.fromhex(gone.key))
    assert all(word in _bytes(tmp_path) for word in words)
    with Store(tmp_path).calls() as calls:
        assert drop(calls, [gone.key, key("nobody")]) == 1
        assert calls.read(gone.key) is None
        assert calls.of("user", "GONEUSER", asked_only=False) == []
        assert calls.picture(asked.pictures[0]) is None
        assert len(calls) == 600
        assert not [word for word in words if word in _bytes(tmp_path)]
    assert not [word for word in words if word in _bytes(tmp_path)]
    assert not [name for name, raw in contents(tmp_path) if b"LONGGONE" in raw or b"GONEUSER" in raw]


def test_a_reply_that_was_replaced_leaves_no_byte_behind_either(tmp_path: Path) -> None:
    with Store(tmp_path).calls() as calls:
        calls.put(call(status="refused", text="REFUSEDWORDS" * 9))
        calls.put(call(status="ok"))
        drop(calls, [key("a")])
        assert b"REFUSEDWORDS" not in _bytes(tmp_path)


def test_a_picture_stays_while_another_call_shows_it(calls: Calls) -> None:
    asked = Request("you", "what?", (b"raw",))
    for name in "ab":
        calls.put(replace(call(name), request=asked.facts("toy", "1")), (), {asked.pictures[0]: b"raw"})
    drop(calls, [key("a")])
    assert calls.picture(asked.pictures[0]) == b"raw"
    drop(calls, [key("b")])
    assert calls.picture(asked.pictures[0]) is None


# other versions of the file


def version_1(file: Path) -> np.ndarray:
    """A store as an earlier Penchant left it: vectors of one encoder, nothing else."""
    values = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(VERSION_1)
    db.execute("INSERT INTO encoders (print) VALUES ('toy@1')")
    db.executemany(
        "INSERT INTO vectors VALUES (1, ?, ?, ?)",
        [(bytes.fromhex(key(str(n))), n, values[n].tobytes()) for n in range(50)],
    )
    db.execute("PRAGMA user_version = 1")
    db.close()
    return values


@pytest.mark.parametrize("first", ["vectors", "calls"])
def test_a_store_of_version_1_keeps_its_vectors_and_takes_calls(first: str, tmp_path: Path) -> None:
    values = version_1(tmp_path / "store.sqlite")
    store, hashes = Store(tmp_path), [key(str(n)) for n in range(50)]
    for what in (first, "calls", "vectors"):
        if what == "calls":
            with store.calls() as calls:
                calls.put(call(), [Mention("user", "u1", True)])
        else:
            with store.vectors("toy@1") as vectors:
                assert np.array_equal(vectors.get(hashes), values)
                assert vectors.known(hashes).tolist() == list(range(50))
    with store.calls() as calls:
        back = calls.read(key("a"))
        assert back is not None
        assert back.text == "well"
    assert sqlite3.connect(tmp_path / "store.sqlite").execute("PRAGMA user_version").fetchone() == (2,)


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    with Store(tmp_path).calls():
        pass
    db = sqlite3.connect(tmp_path / "store.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (tmp_path / "store.sqlite").read_bytes()
    with pytest.raises(StoreError, match=r"newer Penchant.*Update Penchant"):
        Store(tmp_path).calls()
    assert (tmp_path / "store.sqlite").read_bytes() == before


def test_a_damaged_file_says_that_replies_were_paid_for(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"damaged.*paid for"):
        Store(tmp_path).calls()


def test_questions_are_packed_and_can_be_read_without_us(tmp_path: Path) -> None:
    """The file is the user's: what was paid for can be taken out with SQLite and zlib alone."""
    with Store(tmp_path).calls() as calls:
        calls.put(call(user="what is a mug? " * 100))
    db = sqlite3.connect(tmp_path / "store.sqlite")
    (packed,) = db.execute("SELECT request FROM calls").fetchone()
    db.close()
    assert len(packed) < 1000
    assert b'"user": "what is a mug? ' in zlib.decompress(packed)
