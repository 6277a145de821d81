"""What is stored: looked at, compared, cleaned, forgotten; down to the bytes that are left on the disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_store
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_store import EACH, ITEMS, PRICE, USERS, Parrot, Shelved, drop, word
from watching import watching

from penchant import database, difference, encode, enrich, forgetting, garbage, questions, stored, sweep, unswept
from penchant.calls import Call, Calls, Mention
from penchant.cards import reference
from penchant.data import Ids
from penchant.errors import BadInput, StoreError, UnknownId
from penchant.features import Features
from penchant.store import Store
from penchant.texts import Provenance, Texts

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Shelved]:
    """A store that nobody changes."""
    store = Store(tmp_path_factory.mktemp("full") / "store")
    return store, tiny_store.fill(store)


@pytest.fixture
def own(full: tuple[Store, Shelved], tmp_path: Path) -> tuple[Store, Shelved]:
    """A copy to change."""
    shutil.copytree(full[0].path, tmp_path / "store")
    return Store(tmp_path / "store"), full[1]


def texts(store: Store, *values: str | None, kind: str = "item", **how: object) -> str:
    """Hand-made texts of a, b, c, ..., saved with their title; by `prompt` of `model`."""
    made_by = f"enrich:{how.pop('prompt', 'item_words')}@{how.pop('version', '0' * 12)}/{how.pop('model', 'parrot')}"
    title, beside = str(how.pop("title", "tiny")), how.pop("beside", None)
    ids = Ids(kind, tuple("abcdefghijkl"[: len(values)]))  # type: ignore[arg-type]
    source = replace(Provenance(made_by), **how)  # type: ignore[arg-type]
    return store.save_texts(Texts(ids, values, source), title, beside=beside)  # type: ignore[arg-type]


def aged(store: Store, ref: str, days: float) -> None:
    """As if it had been made so many days ago."""
    card = {name: value for name, value in store.card(ref).items() if value is not None}
    card["created"] = (datetime.now(UTC) - days * DAY).isoformat(timespec="seconds")
    (store.path / ref / "card.toml").write_text(tomli_w.dumps(card), "utf-8")


def call(key: int, status: str = "ok", prompt: str = "p@1", usd: float = 0.0, pictures: tuple[str, ...] = ()) -> Call:
    request = {"system": "s", "user": "u", "pictures": list(pictures), "schema": None}
    text = "" if status == "failed" else f"answer {key}"
    return Call(f"{key:064x}", "parrot", "", prompt, status, text, None, "", 10, 5, usd, 1, 0.1, "", request)


def everything(store: Store) -> bytes:
    """All bytes of all files, names included."""
    return b"".join(p.name.encode() + p.read_bytes() for p in sorted(store.path.rglob("*")) if p.is_file())


# looking


def test_kin_is_found_by_ref_and_by_content_both_ways(full: tuple[Store, Shelved]) -> None:
    store, refs = full
    shelf = stored.Shelf.read(store)

    def names(cards: list) -> set[str]:
        return {card["ref"] for card in cards}

    cards = shelf.cards
    assert names(shelf.built_into(cards[refs.motives])) == {refs.motive_vectors}  # which names the texts' hash
    assert names(shelf.built_from(cards[refs.motive_vectors])) == {refs.motives}
    assert names(shelf.built_into(cards[refs.reviews])) == {refs.through}  # which names the ref
    assert refs.reviews in names(shelf.built_from(cards[refs.through]))
    assert names(shelf.built_into(cards[refs.item_vectors])) == set()
    assert shelf.descendants([refs.reviews]) == {refs.through: refs.reviews}


def test_a_damaged_card_hides_no_other(own: tuple[Store, Shelved]) -> None:
    store, refs = own
    (store.path / refs.motives / "card.toml").write_text("[[[")
    shelf = stored.Shelf.read(store)
    assert shelf.damaged == (refs.motives,)
    assert refs.reviews in shelf.cards


def test_makers_are_taken_apart() -> None:
    def made(by: str) -> stored.Maker:
        return stored.maker({"made_by": by})  # type: ignore[typeddict-item]

    assert made("enrich:user@home@0123456789ab/org/model@fp8") == stored.Maker(
        "user@home", "0123456789ab", "org/model@fp8"
    )
    assert made("encoder:org/minilm@3f2a") == stored.Maker("encoder:org/minilm", "3f2a")
    assert made("external:encoder:x@y@1") == stored.Maker("external:encoder:x@y", "1")
    assert made("join") == stored.Maker("join")


def test_a_row_has_everything_that_led_to_it(full: tuple[Store, Shelved]) -> None:
    store, refs = full
    (row,) = stored.look(store, refs.motives, "uma3")
    assert word("user", 3) in (row.text or "")
    assert row.status == "ok"
    assert row.reply is not None
    assert list(row.reply) == ["reasoning", "drivers", "aversions", "summary"]
    assert row.call is not None
    assert word("user", 3) in row.call.request["user"]
    assert row.call.usd == PRICE
    assert row.pictures == ()
    (row,) = stored.look(store, refs.described, "i2")
    assert [raw for _, raw in row.pictures] == [tiny_store.drawing(2)]


def test_the_first_rows_are_those_that_something_was_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    beside = {"status": [None, "refused", "ok", "ok"], "call": [None, "00" * 32, None, None], "reply": [None] * 4}
    ref = texts(store, None, None, "c", "d", beside=beside)
    assert [row.key for row in stored.look(store, ref, most=2)] == ["b", "c"]
    assert [row.key for row in stored.look(store, ref)] == ["b", "c", "d"]
    (row,) = stored.look(store, ref, "b")
    assert (row.text, row.status, row.call) == (None, "refused", None)
    assert not (tmp_path / "store.sqlite").exists()  # looking makes nothing
    with pytest.raises(UnknownId, match="no item 'e'"):
        stored.look(store, ref, "e")


def test_what_was_written_about_an_interaction_is_found_by_either_side(full: tuple[Store, Shelved]) -> None:
    store, refs = full
    by_user = {row.key for row in stored.look(store, refs.reviews, "uma2")}
    by_item = {row.key for row in stored.look(store, refs.reviews, "i4")}
    assert by_user == {f'["uma2", "i{i}"]' for i in (2, 3, 4)}
    assert by_item == {f'["uma{u}", "i4"]' for u in (2, 3, 4)}
    assert [row.key for row in stored.look(store, refs.reviews, '["uma2", "i4"]')] == ['["uma2", "i4"]']


def test_a_refusal_keeps_its_words(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = tiny_store.write("user_motives", store, Parrot(refuses=word("user", 1)))
    (row,) = stored.look(store, ref, "uma1")
    assert (row.text, row.status, row.reply) == (None, "refused", None)
    assert row.call is not None
    assert row.call.text == "I can't help with that."


def test_neighbours_are_the_nearest(full: tuple[Store, Shelved]) -> None:
    store, refs = full
    features = store.load_features(refs.motive_vectors)
    unit = features.values / np.linalg.norm(features.values, axis=1, keepdims=True)
    cosine = unit @ unit[1]
    wanted = sorted((r for r in range(USERS) if r != 1), key=lambda r: -cosine[r])[:3]
    found = stored.neighbours(features, "uma1", 3)
    assert [key for key, _ in found] == [f"uma{r}" for r in wanted]
    assert [value for _, value in found] == pytest.approx([float(cosine[r]) for r in wanted], abs=1e-6)
    gap = replace(features, present=np.arange(USERS) != 1)
    assert stored.neighbours(gap, "uma1") == []
    assert "uma1" not in dict(stored.neighbours(gap, "uma2", 10))


# calls


def test_totals_are_the_sums(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert questions.totals(store) == []
    with store.calls() as calls:
        for key, (status, prompt) in enumerate([("ok", "a@1"), ("ok", "a@1"), ("refused", "a@1"), ("ok", "b@1")]):
            calls.put(call(key, status, prompt, 0.5))
    first, second = questions.totals(store)
    assert (first.prompt, first.calls, first.by_status) == ("a@1", 3, {"ok": 2, "refused": 1})
    assert (first.tokens_in, first.tokens_out, first.usd) == (30, 15, 1.5)
    assert (second.prompt, second.calls) == ("b@1", 1)
    (only,) = questions.totals(store, "refused")
    assert only.calls == 1
    assert [asked.call.key for asked in questions.calls_with(store, "ok", 2)] == [f"{k:064x}" for k in (3, 1)]


def test_calls_of_somebody_come_newest_first(full: tuple[Store, Shelved]) -> None:
    store, _ = full
    found, there, others = questions.calls_of(store, "uma2")
    assert there == len(found) == 1 + EACH  # its motives, and each of its reviews
    assert {asked.call.prompt.partition("@")[0] for asked in found} == {"user_motives", "review_motives"}
    assert [asked.call.prompt[:4] for asked in found] == ["revi"] * EACH + ["user"]
    assert all(word("user", 2) in asked.call.request["user"] for asked in found)
    assert others == 2 * EACH  # of three items, from reviews and through them
    assert len(questions.calls_of(store, "uma2", most=2)[0]) == 2
    assert questions.calls_of(store, "uma2", status="refused")[1] == 0
    with pytest.raises(UnknownId, match="Did you mean"):
        questions.calls_of(store, "uma22")


# differences


def test_texts_differ_row_by_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = texts(store, "same", "the old lamp", None, "gone", None, parents=("p" * 64,), interactions="a" * 64)
    new = texts(store, "same", "the new lamp", "there", None, None, version="1" * 12, model="owl", cost_usd=2.0)
    found = difference.compare(store, old, new)
    assert (found.stayed, found.changed, found.gaps) == (1, 1, 1)
    assert (found.appeared, found.vanished) == (("c",), ("d",))
    assert found.changes == (difference.Change("b", "the old lamp", "the new lamp"),)
    said = {fact.name: (fact.before, fact.after) for fact in found.facts}
    assert said["model"] == ("parrot", "owl")
    assert said["version"] == ("0" * 12, "1" * 12)
    assert said["built from"] == ("p" * 12, "nothing")
    assert said["interactions"] == ("a" * 12, "none")
    assert said["cost"] == ("$0.0000", "$2.0000")
    assert "prompt" not in said
    assert difference.compare(store, old, old).facts == ()


VALUES = st.lists(st.none() | st.sampled_from(["x", "y"]), max_size=8)


@given(VALUES, VALUES)
def test_every_row_is_counted_once(before: list[str | None], after: list[str | None]) -> None:
    def made(values: list[str | None]) -> Texts:
        return Texts(Ids("item", tuple(map(str, range(len(values))))), tuple(values), Provenance("x"))

    found = difference._texts(made(before), made(after), (), 99)
    n = max(len(before), len(after))
    old, new = (side + [None] * (n - len(side)) for side in (before, after))
    pairs = list(zip(old, new, strict=True))
    assert found.gaps == sum(a is None and b is None for a, b in pairs)
    assert found.stayed == sum(a == b is not None for a, b in pairs)
    assert {c.key for c in found.changes} == {str(r) for r, (a, b) in enumerate(pairs) if None not in (a, b) and a != b}
    assert found.appeared == tuple(str(r) for r, (a, b) in enumerate(pairs) if a is None and b is not None)
    assert found.vanished == tuple(str(r) for r, (a, b) in enumerate(pairs) if a is not None and b is None)


WORDS = st.lists(st.sampled_from(list("abcde")), max_size=60).map(" ".join)


@given(WORDS, WORDS)
def test_pieces_hold_all_words_and_marks_tell_which_stayed(before: str, after: str) -> None:
    left, right = difference.wordwise(before, after)
    assert [w for piece in left for w in piece.words] == before.split()
    assert [w for piece in right for w in piece.words] == after.split()
    assert [p.words for p in left if p.mark == " "] == [p.words for p in right if p.mark == " "]
    assert {p.mark for p in left} <= {" ", "-"}
    assert {p.mark for p in right} <= {" ", "+"}
    for pieces in (left, right):
        short = difference.shortened(pieces)
        assert [p for p in short if p.mark in "-+"] == [p for p in pieces if p.mark in "-+"]


def test_long_texts_are_compared_in_no_time() -> None:
    rng = random.Random(0)
    before = " ".join(rng.choice("abcdefgh") for _ in range(100_000))
    after = " ".join(rng.choice("abcdefgh") for _ in range(100_000))
    started = time.monotonic()
    left, _ = difference.wordwise(before, after)
    assert time.monotonic() - started < 5
    assert left[-1] == difference.Piece("…", ("99400 more words",))


def test_features_differ_by_cosine(tmp_path: Path) -> None:
    store, rng = Store(tmp_path), np.random.default_rng(0)
    ids, other = Ids("item", tuple("abcdef")), Ids("item", tuple("fedcbx"))
    x, y = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    y[1] = x[4]  # row e is the same in both
    old = store.save_features(Features(ids, x, np.arange(6) != 3, Provenance("encoder:toy@1")))
    new = store.save_features(Features(other, y, np.ones(6, bool), Provenance("encoder:toy@2")))
    found = difference.compare(store, old, new)
    both = {"f": (5, 0), "e": (4, 1), "c": (2, 3), "b": (1, 4)}
    cosine = {k: float(x[a] @ y[b] / np.linalg.norm(x[a]) / np.linalg.norm(y[b])) for k, (a, b) in both.items()}
    assert found.cosine is not None
    assert found.cosine.mean == pytest.approx(np.mean(list(cosine.values())), abs=1e-6)
    assert found.cosine.least == pytest.approx(min(cosine.values()), abs=1e-6)
    assert found.cosine.least_key == min(cosine, key=cosine.__getitem__)
    assert (found.stayed, found.changed) == (1, 3)
    assert (found.appeared, found.vanished) == (("d", "x"), ("a",))
    short = store.save_features(Features(ids, x[:, :2], np.ones(6, bool), Provenance("encoder:toy@1")))
    assert difference.compare(store, old, short).cosine is None
    assert {fact.name for fact in difference.compare(store, old, short).facts} >= {"dim", "present"}


def test_things_of_two_kinds_are_not_compared(full: tuple[Store, Shelved]) -> None:
    store, refs = full
    with pytest.raises(BadInput, match=f"holds texts and {refs.described_vectors} features.*penchant diff texts/"):
        difference.compare(store, refs.item_motives, refs.described_vectors)
    with pytest.raises(BadInput, match=r"of users and .* of items.*make some:  penchant encode DATA --text"):
        difference.compare(store, refs.motive_vectors, refs.item_vectors)


# garbage


def names(found: garbage.Garbage) -> set[str]:
    return {folder.name for folder in found.superseded}


def test_a_store_in_use_holds_no_garbage(full: tuple[Store, Shelved]) -> None:
    store, _ = full
    assert garbage.find(store, older_than=0, calls=True).size == 0
    assert garbage.find(Store(store.path / "nowhere")).size == 0
    assert not (store.path / "nowhere").exists()


def test_an_older_version_is_superseded_and_what_was_built_from_it_goes_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = texts(store, "x", "y"), texts(store, "x", "z", version="1" * 12)
    aged(store, old, 2)
    assert names(garbage.find(store)) == {old}
    vectors = tiny_store.vectors(old, store)
    assert names(garbage.find(store)) == set()  # something kept was built from it
    newer = tiny_store.vectors(new, store)
    aged(store, vectors, 1)
    found = garbage.find(store)
    assert names(found) == {old, vectors}
    assert {folder.why for folder in found.superseded} == {f"superseded by {new}", f"superseded by {newer}"}
    assert len(found.vectors.keys) == 1  # of "y"; "x" is a text of the newer one too
    garbage.remove(store, found)
    assert store.refs() == sorted([new, newer])
    assert store.load_features(newer).present.all()
    assert encode.texts(store.load_texts(new), tiny_store.Toy(), store).hash == store.load_features(newer).hash
    assert garbage.find(store).size == 0


@pytest.mark.parametrize(
    "other",
    [
        {"title": "another catalogue"},
        {"prompt": "user_words"},
        {"model": "owl"},
        {"kind": "user"},
        {"model": "parrot@fp8"},
        {"interactions": "b" * 64},
        {"parents": ("c" * 64,)},
    ],
    ids=str,
)
def test_what_differs_in_more_than_its_version_stays(tmp_path: Path, other: dict[str, Any]) -> None:
    store = Store(tmp_path)
    old = texts(store, "x", "y")
    aged(store, old, 2)
    texts(store, "x", "z", **other)
    assert names(garbage.find(store)) == set()


def test_revisions_of_a_model_are_versions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.calls() as calls:
        for key, revision in enumerate(("r1", "r2")):
            calls.put(replace(call(key), revision=revision))
    old = texts(store, "x", model="parrot@r1")
    aged(store, old, 2)
    texts(store, "y", model="parrot@r2")
    assert names(garbage.find(store)) == {old}


def test_texts_by_way_of_others_do_not_stand_in_for_direct_ones(full: tuple[Store, Shelved]) -> None:
    """item_motives and item_motives --through have the same title, prompt and model."""
    store, refs = full
    cards = [store.card(ref) for ref in (refs.item_motives, refs.through)]
    assert cards[0]["title"] == cards[1]["title"]
    assert names(garbage.find(store)) == set()


def test_artefacts_of_other_rows_stay(tmp_path: Path) -> None:
    """Two catalogues enriched from Python without a title: nothing but their ids tells them apart."""
    store = Store(tmp_path)
    refs = []
    for letters in ("abcd", "wxyz"):
        ids = Ids("item", tuple(letters))
        refs.append(store.save_texts(Texts(ids, tuple("1234"), Provenance(f"enrich:p@{'0' * 12}/m")), "p"))
    aged(store, refs[0], 2)
    assert names(garbage.find(store)) == set()


def test_features_without_a_title_are_known_by_their_origin(tmp_path: Path) -> None:
    """As a recipe makes them: of two data sets by one encoder."""
    store = Store(tmp_path)

    def made(parent: str, fill: float) -> str:
        source = Provenance("encoder:minilm@1", (parent,))
        return store.save_features(Features(Ids("item", ("0", "1")), np.full((2, 3), fill), np.ones(2, bool), source))

    one, other = made("a" * 64, 1), made("b" * 64, 2)
    aged(store, one, 3)
    assert names(garbage.find(store)) == set()
    made("a" * 64, 3)
    assert names(garbage.find(store)) == {one}
    assert other in store.refs()


@pytest.mark.parametrize("file", ["report.json", "recipe.lock.toml"])
def test_what_a_run_names_stays(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path / "store")
    old, middle = texts(store, "x"), texts(store, "y", version="1" * 12)
    texts(store, "z", version="2" * 12)
    aged(store, old, 3)
    aged(store, middle, 2)
    assert names(garbage.find(store)) == {old, middle}
    run = tmp_path / "runs" / "deep" / "one"
    run.mkdir(parents=True)
    (run / file).write_text(f'{{"inputs": {{"text": {{"ref": "{old}"}}}}}}')
    assert names(garbage.find(store, [tmp_path / "runs"])) == {middle}


def test_days_of_grace(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = texts(store, "x")
    texts(store, "y", version="1" * 12)
    aged(store, old, 10)
    with store.calls() as calls:
        calls.put(replace(call(1, "failed"), created=(datetime.now(UTC) - 10 * DAY).isoformat(timespec="seconds")))
        calls.put(call(2, "failed"))
    assert names(garbage.find(store, older_than=9)) == {old}
    assert names(garbage.find(store, older_than=11)) == set()
    assert garbage.find(store, older_than=9).failed.keys == (f"{1:064x}",)
    assert len(garbage.find(store).failed.keys) == 2


def test_leftovers_of_killed_writes_go_when_nobody_can_be_writing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = texts(store, "x")
    made = [tmp_path / place for place in ("features/.0123-ab", "texts/.4567-cd", "data/.x.tmp", "texts/0123456789ab")]
    for place in made:
        place.mkdir(parents=True)
        (place / "values.npy").write_bytes(b"half")
    (tmp_path / "data" / "whole").mkdir()
    (tmp_path / ".probe-1").write_bytes(b"")
    assert garbage.find(store).leftovers == ()
    old = time.time() - 2 * 3600
    for place in (tmp_path / ".probe-1", *made):
        for part in (place, *place.rglob("*")):
            os.utime(part, (old, old))
    os.utime(made[0] / "values.npy")  # somebody is at work in this one
    found = garbage.find(store)
    left = {place.relative_to(tmp_path).as_posix() for place in made[1:]} | {".probe-1"}
    assert {folder.name for folder in found.leftovers} == left
    garbage.remove(store, found)
    assert all(place.exists() == (place == made[0]) for place in made)
    assert store.refs() == [kept]
    assert (tmp_path / "data" / "whole").exists()


def test_failed_calls_go_and_answered_ones_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.calls() as calls:
        for key, status in enumerate(("ok", "failed", "refused", "failed")):
            calls.put(call(key, status), [Mention("user", "u", True)])
    found = garbage.find(store)
    assert found.failed.keys == (f"{1:064x}", f"{3:064x}")
    assert found.kinds["failed calls"][0] == 2
    with store.calls() as calls:
        calls.put(replace(call(3), text="answered since"))
    garbage.remove(store, found)
    with store.calls() as calls:
        assert len(calls) == 3
        kept = calls.read(f"{3:064x}")
        assert kept is not None
        assert kept.text == "answered since"
        assert [c.key for c in calls.of("user", "u")] == [f"{key:064x}" for key in (3, 2, 0)]


def test_pictures_go_with_the_last_call_that_shows_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shown, lost = "aa" * 32, "bb" * 32
    with store.calls() as calls:
        calls.put(call(1, "failed", pictures=(shown, lost)), (), {shown: b"shown", lost: b"lost"})
        calls.put(call(2, pictures=(shown,)), (), {shown: b"shown"})
    found = garbage.find(store)
    assert found.pictures.keys == (lost,)
    assert found.pictures.size == 4
    garbage.remove(store, found)
    with store.calls() as calls:
        assert calls.picture(shown) == b"shown"
        assert calls.picture(lost) is None


def test_paid_calls_are_only_garbage_where_asked_for_and_unnamed(own: tuple[Store, Shelved]) -> None:
    store, refs = own
    with store.calls() as calls:
        calls.put(call(7, prompt="old@1", usd=3.0))
        before = len(calls)
    assert garbage.find(store).unused.keys == ()
    found = garbage.find(store, older_than=0, calls=True)
    assert found.unused.keys == (f"{7:064x}",)
    assert found.unused.usd == 3.0
    garbage.remove(store, found)
    again = Parrot()
    assert tiny_store.write("user_motives", store, again) == refs.motives
    assert again.seen == []  # everything that texts rest on is still there
    with store.calls() as calls:
        assert len(calls) == before - 1


def test_texts_of_two_splits_and_their_calls_stay(tmp_path: Path) -> None:
    """The same prompt, title and catalogue: only what may be seen differs, and both were paid for."""
    store, train = Store(tmp_path), tiny_store.train()
    first = enrich.write("user_motives", train, tiny_store.catalog(), Parrot(), store, title="tiny").ref
    aged(store, first, 2)
    other = train.take(train.time < train.time.max())
    second = enrich.write("user_motives", other, tiny_store.catalog(), Parrot(), store, title="tiny").ref
    assert first != second
    found = garbage.find(store, older_than=0, calls=True)
    assert found.size == 0
    assert store.refs() == sorted([first, second])


def test_what_is_being_asked_is_not_unused(tmp_path: Path) -> None:
    """An enrichment commits each answer as it arrives, and its texts, which name them, when all are there."""
    store = Store(tmp_path)
    with store.calls() as calls:
        calls.put(call(1))
        calls.put(replace(call(2), created=(datetime.now(UTC) - 2 * DAY).isoformat(timespec="seconds")))
    assert garbage.find(store, calls=True).unused.keys == (f"{2:064x}",)
    assert garbage.find(store, older_than=3, calls=True).unused.keys == ()
    assert len(garbage.find(store, older_than=0, calls=True).unused.keys) == 2


def test_a_picture_that_is_shown_anew_while_rows_go_stays(tmp_path: Path) -> None:
    """Before the rows are locked another process asks about the same picture, under a number that is used again."""

    class Waiting(Calls):
        def transaction(self):  # type: ignore[no-untyped-def]
            with store.calls() as other:
                other.connection.execute("DELETE FROM calls WHERE key = ?", (bytes.fromhex(f"{0:064x}"),))
                other.put(call(1, pictures=(shown,)), (), {shown: b"shown"})
            return super().transaction()

    store, shown, lost = Store(tmp_path), "aa" * 32, "bb" * 32
    with store.calls() as calls:
        calls.put(call(0, pictures=(shown, lost)), (), {shown: b"shown", lost: b"lost"})
    with Waiting(tmp_path / "store.sqlite") as calls:
        with sweep.shortly(calls, [f"{0:064x}"]):
            pass
        assert calls.picture(shown) == b"shown"
        assert calls.picture(lost) is None


def test_earlier_steps_of_a_prompt_are_not_unused(tmp_path: Path) -> None:
    """A row of preference_step names the call of its last step alone."""
    store, few = Store(tmp_path), tiny_store.train()
    catalog = tiny_store.catalog()
    many = replace(
        few, user=np.zeros(ITEMS, int), item=np.arange(ITEMS), time=np.arange(ITEMS), review=("fine",) * ITEMS
    )
    enrich.write("preference_step", many, catalog, Parrot(), store)
    with store.calls() as calls:
        assert len(calls) > 1
    assert garbage.find(store, older_than=0, calls=True).unused.keys == ()


def test_nothing_is_unused_while_an_artefact_cannot_be_read(own: tuple[Store, Shelved]) -> None:
    store, refs = own
    (store.path / refs.motives / "card.toml").write_text("[[[")
    found = garbage.find(store, older_than=0, calls=True)
    assert found.unused.keys == ()
    assert found.damaged == (refs.motives,)


def test_much_room_is_given_back_to_the_disk(tmp_path: Path) -> None:
    store, picture = Store(tmp_path), "cc" * 32
    with store.calls() as calls:
        calls.put(call(1, "failed", pictures=(picture,)), (), {picture: os.urandom(2_000_000)})
    before = (tmp_path / "store.sqlite").stat().st_size
    garbage.remove(store, garbage.find(store))
    assert before > 2_000_000 > 10 * (tmp_path / "store.sqlite").stat().st_size


def _whole(store: Store) -> int:
    for ref in store.refs():
        made = store.load_features(ref) if ref.startswith("features") else store.load_texts(ref)
        assert reference(made) == ref
    return len(store.refs())


def test_at_no_moment_of_cleaning_is_an_artefact_half_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for version in range(4):
        aged(store, texts(store, f"x{version}", version=f"{version:012x}"), 9 - version)
    seen, failures = [], []

    def question() -> None:
        try:
            seen.append(_whole(store))
        except Exception as error:
            failures.append(error)

    found = garbage.find(store)
    with watching(question):
        garbage.remove(store, found)
    assert not failures
    assert sorted(set(seen)) == [1, 2, 3, 4]
    assert len(seen) > 12


# forgetting


@pytest.mark.parametrize("row", range(USERS))
def test_no_byte_of_a_forgotten_user_is_left(own: tuple[Store, Shelved], row: int) -> None:
    store, refs = own
    token = word("user", row).encode()
    assert token in everything(store)
    text = store.load_texts(refs.motives).values[row] or ""
    vector = store.load_features(refs.motive_vectors).values[row].tobytes()
    assert vector in everything(store)
    found = forgetting.find(store, "user", f"uma{row}")
    forgetting.forget(store, found)
    left = everything(store)
    for gone in (token, text.encode(), vector, f"uma{row}".encode()):
        assert gone not in left
    other = word("user", (row + 3) % USERS).encode()
    assert store.refs() == sorted([refs.described, refs.described_vectors])  # nothing of people is in these
    with store.calls() as calls:
        kept = " ".join(c.text + json.dumps(c.request) for c in calls.read_all())
    assert other.decode() in kept  # what was paid for others is still there
    assert len(found.calls.keys) == 1 + EACH + 2 * EACH
    assert found.calls.usd == pytest.approx(PRICE * len(found.calls.keys))
    assert found.paid == len(found.calls.keys)
    with pytest.raises(UnknownId):
        forgetting.find(store, "user", f"uma{row}")


def test_forgetting_an_item_takes_its_picture_and_whoever_was_shown_it(own: tuple[Store, Shelved]) -> None:
    store, _refs = own
    token, picture = word("item", 4).encode(), tiny_store.drawing(4)
    assert token in everything(store)
    assert picture in everything(store)
    described = store.load_features(_refs.described_vectors).values[4].tobytes()
    forgetting.forget(store, forgetting.find(store, "item", "i4"))
    left = everything(store)
    assert token not in left
    assert picture not in left
    assert tiny_store.drawing(3) in left
    assert described not in left
    assert store.refs() == []


def test_written_anew_after_forgetting_only_what_was_shared_costs_again(own: tuple[Store, Shelved]) -> None:
    store, _ = own
    forgetting.forget(store, forgetting.find(store, "user", "uma2"))
    again = Parrot()
    few = tiny_store.train().take(tiny_store.train().user != 2)
    enrich.write("user_motives", few, tiny_store.catalog(), again, store)
    assert again.seen == []  # the others' questions were kept
    enrich.write("item_motives", few, tiny_store.catalog(), again, store)
    assert len(again.seen) == EACH  # items that u2 had reviewed
    assert word("user", 2).encode() not in everything(store)


def test_texts_that_only_show_somebody_go_too(tmp_path: Path) -> None:
    """Items' texts have no row of a user; but the question showed the user's review, and the answer repeats it."""
    store = Store(tmp_path)
    ref = tiny_store.write("item_motives", store)
    vectors = tiny_store.vectors(ref, store)
    found = forgetting.find(store, "user", "uma0")
    assert {folder.name: folder.why for folder in found.artefacts} == {
        ref: f"{EACH} of its rows were written with it shown",
        vectors: f"built from {ref}",
    }
    forgetting.forget(store, found)
    assert word("user", 0).encode() not in everything(store)


@pytest.mark.parametrize("prompt", ["user_preference", "preference_step"])
def test_questions_that_showed_what_was_written_with_somebody_go_too(tmp_path: Path, prompt: str) -> None:
    """Users' texts are written from items' texts, and those from the reviews of others, who are not named there."""
    store = Store(tmp_path)
    tiny_store.write("item_motives", store)
    tiny_store.write(prompt, store, items="item_motives")
    token = word("user", 0)
    with store.calls() as calls:
        holding = {c.key for c in calls.read_all() if token in c.text + json.dumps(c.request)}
        mentioned = {c.key for c in calls.of("user", "uma0", asked_only=False)}
        before = len(calls)
    assert holding - mentioned
    found = forgetting.find(store, "user", "uma0")
    assert set(found.calls.keys) >= holding
    assert len(found.calls.keys) < before  # users who chose none of her items are asked nothing anew
    forgetting.forget(store, found)
    left = everything(store)
    assert token.encode() not in left
    assert b"uma0" not in left
    with store.calls() as calls:
        assert not any(token in c.text + json.dumps(c.request) for c in calls.read_all())


@pytest.mark.parametrize("lost", ["texts", "all texts"])
def test_questions_go_too_whose_texts_were_never_saved(tmp_path: Path, lost: str) -> None:
    """As a kill leaves them: answers are kept as they arrive, and the texts that would name them are not there."""
    store = Store(tmp_path)
    ref = tiny_store.write("user_preference", store, items="item_motives")
    for gone in store.refs() if lost == "all texts" else [ref]:
        shutil.rmtree(store.path / gone)
    forgetting.forget(store, forgetting.find(store, "user", "uma0"))
    assert word("user", 0).encode() not in everything(store)
    with store.calls() as calls:
        assert len(calls)
        assert not any(word("user", 0) in c.text + json.dumps(c.request) for c in calls.read_all())


def test_later_steps_go_with_an_earlier_one(tmp_path: Path) -> None:
    """Item i0 is in the first block; what later steps wrote repeats it, and their questions do not name it."""
    store, few = Store(tmp_path), tiny_store.train()
    many = replace(
        few, user=np.zeros(ITEMS, int), item=np.arange(ITEMS), time=np.arange(ITEMS), review=("fine",) * ITEMS
    )
    enrich.write("preference_step", many, tiny_store.catalog(), Parrot(), store)
    with store.calls() as calls:
        last = max(calls.read_all("ORDER BY id"), key=lambda c: len(c.text))
        assert word("item", 0) in last.text
        assert Mention("item", "i0") not in calls.mentions(last.key)
    forgetting.forget(store, forgetting.find(store, "item", "i0"))
    assert word("item", 0).encode() not in everything(store)
    assert store.refs() == []


def test_pages_that_were_split_keep_no_copies(tmp_path: Path) -> None:
    """A larger store: rows move between pages as others are written and removed, and must leave nothing behind."""
    store, rng = Store(tmp_path), random.Random(1)
    canary = b"Quzcanary"
    with store.calls() as calls:
        for n in range(800):
            mine = n % 3 == 0
            text = f"{canary.decode() if mine else 'other'} {'x' * rng.randrange(3000)} {n}"
            mentions = [Mention("user", "Quzcanary-id" if mine else f"user {rng.randrange(200)}", True)]
            key = f"{rng.randrange(16**64):064x}"
            calls.put_all([(replace(call(0), key=key, text=text), mentions, {})])
            if n % 10 == 9:
                drop(calls, [c.key for c in calls.read_all("ORDER BY random() LIMIT 2")])
    assert canary in everything(store)
    forgetting.forget(store, forgetting.find(store, "user", "Quzcanary-id"))
    assert canary not in everything(store)
    with store.calls() as calls:
        assert len(calls) > 300
        assert calls.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_odd_ids_are_forgotten_exactly(tmp_path: Path) -> None:
    store = Store(tmp_path)
    odd = ['quo"te', "new\nline", "half \ud83d pair", "ü商", "", "%", "a_b"]
    with store.calls() as calls:
        for key, name in enumerate(odd):
            calls.put(call(2 * key), [Mention("user", name, True)])
            pair = json.dumps([name, "i"], ensure_ascii=False)
            calls.put(call(2 * key + 1), [Mention("interaction", pair, True)])
    for place, name in enumerate(odd):
        assert len(forgetting.find(store, "user", name).calls.keys) == 2
        forgetting.forget(store, forgetting.find(store, "user", name))
        with store.calls() as calls:
            assert len(calls) == 2 * (len(odd) - place - 1)
    with pytest.raises(UnknownId):
        forgetting.find(store, "item", "i2")


def test_leftovers_that_nobody_can_read_go_and_young_ones_are_named(own: tuple[Store, Shelved]) -> None:
    store, _ = own
    for name, age in ((".old-1", 7200), (".young-1", 0)):
        place = store.path / "texts" / name
        place.mkdir()
        (place / "texts.parquet").write_bytes(b"half a file with Quzuserone")
        for part in (place / "texts.parquet", place):
            os.utime(part, (time.time() - age,) * 2)
    found = forgetting.find(store, "user", "uma1")
    assert [folder.name for folder in found.leftovers] == ["texts/.old-1"]
    assert [folder.name for folder in found.working] == ["texts/.young-1"]
    forgetting.forget(store, found)
    assert not (store.path / "texts" / ".old-1").exists()
    assert (store.path / "texts" / ".young-1").exists()


@pytest.mark.parametrize("file", ["card.toml", "texts.parquet"])
def test_damaged_artefacts_go_because_nobody_can_look_into_them(own: tuple[Store, Shelved], file: str) -> None:
    store, refs = own
    path = store.path / refs.motives / file
    path.write_bytes(path.read_bytes()[:-30] + b"\x00[[[" + b"x" * 30)
    forgetting.forget(store, forgetting.find(store, "user", "uma5"))
    assert not (store.path / refs.motives).exists()
    assert word("user", 5).encode() not in everything(store)


def test_imported_data_are_named_and_left_alone(own: tuple[Store, Shelved]) -> None:
    store, _ = own
    for name, user in (("has", "uma1"), ("has-not", "uma11")):
        place = store.data(name)
        place.mkdir(parents=True)
        table = pa.table({"user_id": ["uma9", user], "item_id": ["x", "y"]})
        pq.write_table(table, place / "interactions.parquet")
    found = forgetting.find(store, "user", "uma1")
    assert found.data == ("data/has",)
    forgetting.forget(store, found)
    assert forgetting.find(store, "user", "uma1").data == ("data/has",)  # it is there still, and said so
    assert forgetting.find(store, "item", "y").data == ("data/has", "data/has-not")


def test_a_reader_in_the_way_leaves_a_mark_and_the_same_call_finishes(
    own: tuple[Store, Shelved], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = own
    monkeypatch.setattr(database, "WAIT", 0.1)
    reader = sqlite3.connect(store.path / "store.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchone()
    found = forgetting.find(store, "user", "uma1")
    with pytest.raises(StoreError, match=r"bytes may still be in the file.*call the same command again"):
        forgetting.forget(store, found)
    assert unswept.unswept(store).exists()
    reader.close()
    again = forgetting.find(store, "user", "uma1")  # no UnknownId: something is left to do
    assert again.unfinished
    assert not again.known
    forgetting.forget(store, again)
    assert word("user", 1).encode() not in everything(store)
    assert not unswept.unswept(store).exists()


def test_cleaning_finishes_a_forgetting_that_was_cut_short(own: tuple[Store, Shelved]) -> None:
    store, _ = own
    with store.calls() as calls:
        drop(calls, [c.key for c in calls.of("user", "uma1", asked_only=False)])
    unswept.unswept(store).touch()
    garbage.remove(store, garbage.find(store))
    assert not unswept.unswept(store).exists()
    assert word("user", 1).encode() not in (store.path / "store.sqlite").read_bytes()


def test_without_room_to_write_the_database_anew_nothing_is_removed(
    own: tuple[Store, Shelved], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, refs = own
    found = forgetting.find(store, "user", "uma1")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    with pytest.raises(StoreError, match="are needed"):
        forgetting.forget(store, found)
    assert refs.motives in store.refs()
    assert forgetting.find(store, "user", "uma1") == found


# kills

WORKER = """
import os, signal, sys
from penchant import forgetting, garbage
from penchant.store import Store
store = Store(sys.argv[1])
if sys.argv[2] == "gc":
    found = garbage.find(store)
    print("ready", flush=True)
    garbage.remove(store, found)
else:
    def between(event, words):
        if event == "os.rename" and ".gone-" in str(words[1]):  # the first folder is about to go: rows went before
            os.kill(os.getpid(), signal.SIGKILL)
    found = forgetting.find(store, "user", sys.argv[2])
    if sys.argv[3:]:
        sys.addaudithook(between)
    print("ready", flush=True)
    forgetting.forget(store, found)
"""


def killed(store: Store, what: str, after: float) -> bool:
    """Starts a removal in a process of its own and kills it so many seconds later; whether it was still at work."""
    command = [sys.executable, "-c", WORKER, str(store.path), what]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    time.sleep(after)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    return worker.returncode == -signal.SIGKILL


def moments() -> Iterator[float]:
    rng = random.Random(5)
    for _ in range(5):
        yield rng.uniform(0, 0.02)


@pytest.mark.long
def test_a_killed_cleaning_leaves_whole_artefacts_and_is_finished_by_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    newest = ""
    for version in range(60):
        newest = texts(store, *(f"{version} {n} " + "y" * 40_000 for n in range(6)), version=f"{version:012x}")
        aged(store, newest, 90 - version)
    hits = sum(killed(store, "gc", after) for after in moments() if _whole(store) > 1)
    assert hits
    assert _whole(store) >= 1
    garbage.remove(store, garbage.find(store))
    assert store.refs() == [newest]
    assert [path.name for path in (tmp_path / "texts").iterdir()] == [newest.partition("/")[2]]


@pytest.mark.long
def test_a_killed_forgetting_is_finished_by_the_same_call(full: tuple[Store, Shelved], tmp_path: Path) -> None:
    hits = 0
    for n, after in enumerate(moments()):
        store = Store(tmp_path / str(n))
        shutil.copytree(full[0].path, store.path)
        with store.calls() as calls:
            rows = [(replace(call(k), text="uma4 " * 2000), [Mention("user", "uma4", True)], {}) for k in range(800)]
            calls.put_all(rows)
        hits += killed(store, "uma4", after)
        _whole(store)
        try:
            forgetting.forget(store, forgetting.find(store, "user", "uma4"))
        except UnknownId:  # it had been through
            assert not unswept.unswept(store).exists()
        left = everything(store)
        assert word("user", 4).encode() not in left
        assert b"uma4 uma4" not in left
        assert _whole(store) == 2
    assert hits


@pytest.mark.parametrize("how", ["forget", "forget another", "gc"])
def test_killed_between_rows_and_folders_the_next_one_finishes(own: tuple[Store, Shelved], how: str) -> None:
    """Once her calls are gone nothing but the mark says that items' texts were written with her review shown."""
    store, refs = own
    command = [sys.executable, "-c", WORKER, str(store.path), "uma1", "between"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    with store.calls() as calls:
        assert not calls.of("user", "uma1", asked_only=False)
    assert word("user", 1) in " ".join(text or "" for text in store.load_texts(refs.item_motives).values)
    if how == "gc":
        found = garbage.find(store)
        assert refs.item_motives in {folder.name for folder in found.leftovers}
        garbage.remove(store, found)
    else:
        again = forgetting.find(store, "user", "uma1" if how == "forget" else "uma3")
        assert again.unfinished
        assert {refs.motives, refs.item_motives, refs.item_vectors} <= {folder.name for folder in again.artefacts}
        forgetting.forget(store, again)
    left = everything(store)
    assert word("user", 1).encode() not in left
    assert b"uma1" not in left
    assert not unswept.unswept(store).exists()
    assert store.refs() == sorted([refs.described, refs.described_vectors])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=12), st.integers(0, 3))
def test_exactly_the_calls_that_mention_somebody_go(rows: list[tuple[int, int, bool]], who: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        with store.calls() as calls:
            for key, (user, item, asked) in enumerate(rows):
                calls.put(call(key), [Mention("user", f"u{user}", asked), Mention("item", f"i{item}", not asked)])
        wanted = {f"{key:064x}" for key, (user, _, _) in enumerate(rows) if user != who}
        if len(wanted) == len(rows):
            with pytest.raises(UnknownId):
                forgetting.find(store, "user", f"u{who}")
            return
        forgetting.forget(store, forgetting.find(store, "user", f"u{who}"))
        with store.calls() as calls:
            assert {c.key for c in calls.read_all()} == wanted
            left = calls.connection.execute("SELECT count(*) FROM mentions").fetchone()[0]
        assert left == 2 * len(wanted)
