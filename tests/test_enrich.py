"""Enrichment: each question once, each reply kept, a gap is a gap, and what was cut is counted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers_of import Ask, asking, surrounded
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lm import THOUGHT, Toy, catalog, contents, review, title, world

from penchant import encode, enrich, folder, inputs, recipe
from penchant import split as splits
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.enrich import runner
from penchant.enrich.material import Material
from penchant.errors import BadSetting, LmError, MissingInput, PenchantError, StoreError, UnknownKey
from penchant.lm import Request, replies, tokens
from penchant.lm.fence import blocks_of
from penchant.store import Store

PERSONAL = ("user_motives", "item_motives", "review_motives", "user_preference", "user_profile", "preference_step")
OF_USERS = ("user_motives", "user_preference", "user_profile")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return world()


@pytest.fixture(scope="module")
def train(data: Dataset) -> Interactions:
    return train_of(data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def train_of(data: Dataset) -> Interactions:
    assert data.given is not None
    return data.interactions.take(data.given == 0)


def choices(*histories: list[int], items: int = 18, **columns: Any) -> Interactions:
    """Users with these histories, oldest first."""
    user = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    item = np.concatenate([np.array(h, np.int64) for h in histories])
    ids = Ids("user", tuple(f"u{n}" for n in range(len(histories))))
    return Interactions(ids, catalog(items, False).items, user, item, time=np.arange(len(user)), **columns)


def worded(shop: Catalog, **fields: tuple[str | None, ...]) -> Catalog:
    return replace(shop, fields={**shop.fields, **fields})


def titles(request: Request) -> list[int]:
    """The items whose titles a question shows, in its order."""
    return [int(n) for n in re.findall(r"TTL(\d+)Q", request.user)]


def about(lm: Toy, kind: str, key: str) -> list[Request]:
    return [request for request in lm.heard if request.about == (kind, key)]


# each question once


@pytest.mark.parametrize("width", [1, 3, 1000])
def test_equal_questions_are_asked_once_however_fast_they_are_answered(width: int, store: Store) -> None:
    """One of two users chose what many chose, the other something of her own."""
    lm = Toy(width=width, usd=0.01)
    train = choices(*[h for n in range(17) for h in ([1, 2, 3], [n + 1], [1, 2, 3])])
    written = enrich.write("user_preference", train, catalog(), lm, store)
    assert Counter(lm.questions) == Counter(set(lm.questions))
    assert len(lm.heard) == written.counts["calls"] == 18
    assert written.counts["cached"] == 3 * 17 - 18
    assert written.usd == pytest.approx(0.18)
    assert written.cost == pytest.approx(0.18)
    with store.calls() as calls:
        assert {m.key for m in calls.mentions(lm.questions[0]) if m.asked} == {f"u{n}" for n in range(51) if n % 3 != 1}


def test_who_asks_a_question_that_was_answered_for_others_is_kept_too(store: Store) -> None:
    lm = Toy()
    enrich.write("user_preference", choices([1, 2, 3]), catalog(), lm, store)
    enrich.write("user_preference", choices([5], [1, 2, 3]), catalog(), lm, store)
    assert len(lm.heard) == 2
    with store.calls() as calls:
        assert {m.key for m in calls.mentions(lm.questions[0]) if m.asked} == {"u0", "u1"}
        assert [call.key for call in calls.of("user", "u1")] == [lm.questions[0]]


def test_a_second_run_asks_nothing_and_makes_the_same_artefact(
    data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy(usd=0.5)
    first = enrich.write("user_motives", train, data.catalog, lm, store)
    files = {path: path.stat().st_mtime_ns for path in store.path.glob("texts/*/*")}
    again = enrich.write("user_motives", train, data.catalog, lm, store)
    assert len(lm.heard) == len(train.users)
    assert again.ref == first.ref
    assert (first.usd, again.usd, again.cost) == (5.0, 0.0, 5.0)
    assert {path: path.stat().st_mtime_ns for path in store.path.glob("texts/*/*")} == files


def test_the_order_of_arrival_changes_nothing(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    for prompt in PERSONAL:
        one = enrich.write(prompt, train, data.catalog, Toy(width=1), Store(tmp_path / f"{prompt}1"))
        other = enrich.write(prompt, train, data.catalog, Toy(width=7), Store(tmp_path / f"{prompt}7"))
        assert other.texts.values == one.texts.values
        assert other.ref == one.ref
        assert other.counts == one.counts


def test_the_order_of_a_history_changes_the_text(tmp_path: Path) -> None:
    forth, back = choices([1, 2, 3, 4, 5, 6, 7]), choices([7, 6, 5, 4, 3, 2, 1])
    for prompt in (*OF_USERS, "preference_step"):
        made = [
            enrich.run(prompt, one, catalog(), Toy(), Store(tmp_path / f"{prompt}{n}"))
            for n, one in enumerate((forth, back, forth))
        ]
        assert made[0].values == made[2].values
        assert made[0].values != made[1].values


@settings(max_examples=8)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    prompt=st.sampled_from(["user_motives", "review_motives"]),
    width=st.integers(1, 5),
)
def test_answers_do_not_depend_on_how_questions_are_cut_into_batches(
    sizes: list[int], prompt: str, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each batch has a store of its own, as on a cluster."""
    data, asked = world(), enrich.prompts.read(prompt)
    questions = list(Material(asked, data.catalog, train_of(data), 4000).questions())
    place = tmp_path_factory.mktemp("batches")

    def bad(request: Request) -> Any:
        return "refused" if int(request.key("toy", "1")[:4], 16) % 4 == 0 else None

    def essence(found: list[runner.Answered]) -> list[Any]:
        return [(a.question.row, a.key, a.status, a.answer, a.reply, a.error, a.dropped) for a in found]

    with Store(place / "whole").calls() as calls:
        whole = runner.answers(questions, asked, "cups", Toy(bad=bad), calls)
    assert [a.question.row for a in whole] == [q.row for q in questions]
    parts: list[runner.Answered] = []
    left, n = questions, 0
    while left:
        size = sizes[n % len(sizes)]
        with Store(place / str(n)).calls() as calls:
            parts += runner.answers(left[:size], asked, "cups", Toy(bad=bad, width=width), calls)
        left, n = left[size:], n + 1
    assert essence(parts) == essence(whole)


# gaps


def test_who_gives_nothing_to_read_is_not_asked_about_and_is_a_gap(data: Dataset, store: Store) -> None:
    where = np.where(np.arange(18) % 3 == 0, -1, np.arange(18))
    half = replace(data.catalog, pictures=Pictures(data.items, where, data.catalog.pictures.source))  # type: ignore[arg-type]
    lm = Toy()
    written = enrich.write("item_from_picture", None, half, lm, store)
    assert written.texts.present.tolist() == (where >= 0).tolist()
    assert [written.texts.values[row] for row in (0, 3)] == [None, None]
    assert len(lm.heard) == 12
    assert written.counts["without_input"] == 6
    card = store.card(written.ref)
    assert (card["rows"], card["present"], card["counts"]["without_input"]) == (18, 12, 6)
    features = encode.texts(written.texts, _words(), store)
    assert features.present.tolist() == (where >= 0).tolist()


def _words() -> Any:
    import toy_encoder

    return toy_encoder.Toy()


def test_users_without_a_train_choice_are_gaps(store: Store) -> None:
    lm = Toy()
    for prompt in (*OF_USERS, "preference_step"):
        texts = enrich.run(prompt, choices([1, 2], [], [3]), catalog(), lm, store)
        assert texts.present.tolist() == [True, False, True]
        assert texts.values[1] is None
    assert not about(lm, "user", "u1")


def test_items_without_any_text_are_left_out_of_histories(store: Store) -> None:
    shop = worded(catalog(), title=(None, "", " \n", *catalog().fields["title"][3:]), description=(None,) * 18)
    lm = Toy()
    texts = enrich.run("user_preference", choices([0, 1, 2], [0, 5, 1], [4]), shop, lm, store)
    assert texts.present.tolist() == [False, True, True]
    assert [titles(request) for request in lm.heard] == [[5], [4]]


def test_items_without_any_text_are_left_out_of_steps(store: Store) -> None:
    shop = worded(catalog(), title=(None, "", " \n", *catalog().fields["title"][3:]), description=(None,) * 18)
    lm = Toy()
    texts = enrich.run("preference_step", choices([0, 1, 2], [0, 5, 1], [4]), shop, lm, store)
    assert texts.present.tolist() == [False, True, True]
    assert not [request for request in lm.heard if re.search(r"^\d+\. $", request.user, re.MULTILINE)]


def test_items_that_the_catalogue_does_not_know_are_left_out(store: Store) -> None:
    """A catalogue of fewer items than the choices name; rows are matched by key."""
    small = catalog(4)
    shop = replace(small, items=Ids("item", ("i3", "i9", "i1", "i0")))
    lm = Toy()
    texts = enrich.run("user_preference", choices([3, 17, 1], [16]), shop, lm, store)
    assert texts.present.tolist() == [True, False]
    assert titles(lm.heard[0]) == [0, 2]  # the titles that stand in the rows of i3 and i1
    enrich.run("preference_step", choices([3, 17, 1], [16]), shop, lm, store)
    items = enrich.run("item_motives", choices([3, 17, 1], [16]), shop, lm, store)
    assert items.ids == shop.items


@pytest.mark.parametrize("review_text", ["", "  \n\t", None])
def test_empty_reviews_are_no_reviews(
    review_text: str | None, data: Dataset, train: Interactions, store: Store
) -> None:
    assert train.review is not None
    said = (review_text, *train.review[1:])
    lm = Toy()
    written = enrich.write("review_motives", replace(train, review=said), data.catalog, lm, store)
    assert len(written.texts.ids) == len(lm.heard) == sum(bool(r and r.strip()) for r in said)
    enrich.write("user_motives", replace(train, review=said), data.catalog, lm, store)
    (of_first,) = about(lm, "user", "u0")
    assert titles(of_first) == [int(i) for i in train.item[train.user == 0]][1:]


@pytest.mark.parametrize("text", ["\x00\x01", "\u200b", "\ufeff \u2060"])
def test_reviews_of_nothing_visible_are_no_reviews(text: str, data: Dataset, train: Interactions, store: Store) -> None:
    assert train.review is not None
    lm = Toy(says=lambda request: replies.Preference(reasoning="", preference="x"))
    file = store.path.parent / "mine.md"
    head = 'version = 1\nof = "interaction"\nreply = "Preference"\nsees = ["train reviews"]'
    file.write_text(f"+++\n{head}\n+++\n# system\nSay it.\n\n# user\n{{opening}}\n{{review}}\n", "utf-8")
    enrich.write(str(file), replace(train, review=(text, *train.review[1:])), data.catalog, lm, store)
    assert len(lm.heard) == sum(bool(r) for r in train.review[1:])


# what is shown, and what is cut


def test_a_history_shows_its_newest_entries_oldest_of_them_first(store: Store) -> None:
    shop = catalog(60, pictures=False)
    long = choices(list(range(49, 4, -1)), items=60, value=np.full(45, 3.0), review=("good",) * 45)
    for prompt, most in (("user_preference", 20), ("user_motives", 20), ("user_profile", 45)):
        lm = Toy()
        written = enrich.write(prompt, long, shop, lm, Store(store.path / prompt))
        assert titles(lm.heard[0]) == list(range(4 + most, 4, -1))
        assert written.counts.get("left_out", 0) == 45 - most


def test_an_item_shows_its_newest_reviews(store: Store) -> None:
    users = 30
    ids = Ids("user", tuple(f"u{n}" for n in range(users)))
    when = np.random.default_rng(0).permutation(users)
    train = Interactions(
        ids,
        catalog().items,
        np.arange(users),
        np.full(users, 7),
        time=when,
        review=tuple(review(n, 7) for n in range(users)),
    )
    lm = Toy()
    written = enrich.write("item_motives", train, catalog(), lm, store)
    (asked,) = about(lm, "item", "i7")
    shown = [int(n) for n in re.findall(r"REV(\d+)x7Q", asked.user)]
    assert shown == np.argsort(when)[-20:].tolist()
    assert written.counts["left_out"] == 10


def test_what_is_cut_off_is_counted(store: Store) -> None:
    text = "word " * 500
    shop = worded(catalog(), title=("T",) * 18, description=(text, "short", *("d",) * 16))
    lm = Toy()
    written = enrich.write("user_preference", choices([0, 1], [1]), shop, lm, store)
    whole = f"T. {text.strip()}"
    shown = lm.heard[0].user.partition("\n1. ")[2].partition("\n")[0]
    assert whole.startswith(shown)
    assert shown.endswith("word"), "whole words"
    assert tokens.count(shown) <= 100
    assert tokens.count(shown) > 95
    assert written.counts["cut_texts"] == 1
    assert written.counts["cut_tokens"] == tokens.count(whole) - tokens.count(shown)
    assert store.card(written.ref)["counts"]["cut_tokens"] == written.counts["cut_tokens"]


def size(request: Request) -> int:
    """Tokens that a question and its answer may take together."""
    return tokens.count(request.system) + tokens.count(request.user) + request.max_tokens


def wordy() -> tuple[Interactions, Catalog]:
    data = world(users=5, items=30, choices=24)
    train = train_of(data)
    shop = worded(data.catalog, description=tuple(f"many words about {n} " * 200 for n in range(30)))
    return replace(train, review=tuple(f"very long review {n} " * 200 for n in range(len(train)))), shop


@pytest.mark.parametrize("prompt", PERSONAL)
def test_a_small_context_shows_fewer_and_newer_entries(prompt: str, tmp_path: Path) -> None:
    train, shop = wordy()
    shown, left = [], []
    for context in (1500, 2200, 20_000):
        lm = Toy(context=context)
        written = enrich.write(prompt, train, shop, lm, Store(tmp_path / str(context)))
        assert max(map(size, lm.heard)) <= context
        entries = [block.entries for r in lm.heard for block in blocks_of(r.user) if block.name in ("items", "reviews")]
        shown.append(sum(len(found) for found in entries))
        left.append(written.counts.get("left_out", 0))
    if prompt in ("user_motives", "item_motives", "user_preference"):
        assert shown[0] < shown[1] <= shown[2]
        assert left[0] - left[1] == shown[1] - shown[0]
        assert left[1] - left[2] == shown[2] - shown[1]
    few = Toy(context=1500)
    enrich.write("user_motives", train, shop, few, Store(tmp_path / "few"))
    newest = train.item[train.user == 0][-len(titles(few.heard[0])) :]
    assert titles(few.heard[0]) == newest.tolist()


@pytest.mark.parametrize("prompt", ["user_motives", "item_motives", "review_motives", "item_summary"])
def test_no_question_exceeds_a_small_context_and_a_smaller_one_is_refused(prompt: str, store: Store) -> None:
    train, shop = wordy()
    lm = Toy(context=1400)
    enrich.write(prompt, train, shop, lm, store)
    assert max(map(size, lm.heard)) <= 1400
    with pytest.raises(BadSetting, match="--context"):
        enrich.write(prompt, train, shop, Toy(context=900), store)


@pytest.mark.parametrize(
    "prompt",
    [
        *OF_USERS,
        pytest.param("preference_step"),
    ],
)
def test_a_user_with_5000_choices_is_asked_about_the_newest_and_the_rest_is_counted(prompt: str, store: Store) -> None:
    shop, lm = catalog(5000, pictures=False), Toy()
    started = time.perf_counter()
    written = enrich.write(prompt, choices(list(range(5000)), items=5000), shop, lm, store)
    assert time.perf_counter() - started < 5
    shown = sum(len(block.entries) for r in lm.heard for block in blocks_of(r.user) if block.name != "earlier")
    assert titles(lm.heard[-1])[-1] == 4999
    assert shown <= 60
    assert written.counts.get("left_out") == 5000 - shown


def test_reviews_of_100_kilobytes_are_cut_counted_and_fast(store: Store) -> None:
    texts = [
        "fine words " * 10_000,
        "x" * 100_000,
        "\x00\u200b " * 30_000 + "seen",
        "é商 " * 20_000,
        "a\n\n\n" * 25_000,
    ]
    train = choices(*[[n] for n in range(5)] * 8, review=tuple(texts * 8))
    lm = Toy(says=lambda r: replies.ReviewMotives(reasoning="", positive=[], negative=[], need="n", confidence=1.0))
    started = time.perf_counter()
    written = enrich.write("review_motives", train, catalog(), lm, store)
    assert time.perf_counter() - started < 5
    assert max(tokens.count(request.user) for request in lm.heard) < 600
    assert written.counts["cut_texts"] == 32  # of one, all but a word cannot be seen
    assert written.counts["cut_tokens"] > 32 * 12_000


def test_words_after_many_invisible_ones_are_still_read(store: Store) -> None:
    lm = Toy()
    enrich.write("user_motives", choices([1], review=("\n" * 20_000 + "It is good",)), catalog(), lm, store)
    assert "review: It is good" in lm.heard[0].user


def test_all_scripts_and_control_characters_make_texts_and_files_that_can_be_read(store: Store) -> None:
    said = ("\x1b[31mred\x1b[0m", "नमस्ते दुनिया עברית", "half \ud83d pair", "bell\x07 nul\x00", "line\u2028break")
    train = choices(*[[n] for n in range(5)], review=said)
    lm = Toy(says=lambda r: replies.Motives(reasoning="", drivers=[], aversions=[], summary=r.user[-300:-60]))
    written = enrich.write("user_motives", train, catalog(), lm, store)
    assert written.texts.present.all()
    assert store.load_texts(written.ref).values == written.texts.values
    shown = [request.user for request in lm.heard]
    assert "review: नमस्ते दुनिया עברית\n" in shown[1]
    assert "review: line break\n" in shown[4]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u2028\ud800-\udfff]", "".join(shown))


# through other prompts


def test_item_summary_looks_first_and_merges_then(data: Dataset, store: Store) -> None:
    lm = Toy()
    written = enrich.write("item_summary", None, data.catalog, lm, store)
    first, second = lm.heard[:18], lm.heard[18:]
    assert all(request.images and request.schema is replies.Looks for request in first)
    assert all(not request.images and request.schema is replies.Summary for request in second)
    (stage,) = written.stages
    for row, request in enumerate(second):
        looks = stage.texts.values[row]
        assert looks is not None
        assert looks in request.user
        assert title(row) in request.user
    assert stage.ref in written.texts.source.parents
    assert THOUGHT not in "".join(request.user for request in second)


def test_an_item_without_a_picture_is_summarised_from_its_words(data: Dataset, store: Store) -> None:
    where = np.where(np.arange(18) == 4, -1, np.arange(18))
    shop = replace(data.catalog, pictures=Pictures(data.items, where, data.catalog.pictures.source))  # type: ignore[arg-type]
    lm = Toy(bad=lambda request: "refused" if request.pictures and request.about == ("item", "i5") else None)
    written = enrich.write("item_summary", None, shop, lm, store)
    assert written.texts.present.all()
    assert written.stages[0].texts.present.tolist() == [n not in (4, 5) for n in range(18)]


def test_descriptions_of_pictures_come_before_the_catalogues_words(
    data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy()
    written = enrich.write("user_preference", train, data.catalog, lm, store, items="item_from_picture")
    described = written.stages[0].texts
    for request in lm.heard[18:]:
        for row in titles(request):
            assert f". {described.values[row]} {title(row)}" in request.user
    assert written.stages[0].ref in written.texts.source.parents


def test_motives_through_reviews_show_what_was_found_and_not_what_was_written(
    data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy()
    written = enrich.write("user_motives", train, data.catalog, lm, store, through=True)
    asked = [r for r in lm.heard if r.schema is replies.Motives and r.about != ("user", "u9")]  # who wrote none
    assert len(asked) == 9
    for request in asked:
        assert "   praised: answer" in request.user
        assert "   need: answer" in request.user
        assert "well made" not in request.user
        assert THOUGHT not in request.user
    assert [stage.texts.ids.kind for stage in written.stages] == ["interaction"]
    assert sum(r.schema is replies.ReviewMotives for r in lm.heard) == sum(bool(r) for r in train.review or ())


def test_through_reviews_who_wrote_none_is_still_judged_by_what_was_chosen(
    data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy()
    written = enrich.write("user_motives", train, data.catalog, lm, store, through=True)
    assert written.texts.present.all()
    assert titles(about(lm, "user", "u9")[0]) == train.item[train.user == 9].tolist()


def test_where_nobody_wrote_a_review_motives_come_from_item_texts(
    data: Dataset, train: Interactions, store: Store
) -> None:
    for prompt in ("user_motives", "item_motives"):
        lm = Toy()
        written = enrich.write(prompt, replace(train, review=None), data.catalog, lm, store, through=True)
        assert written.stages == ()
        assert written.texts.present.all()


def test_reasoning_is_kept_and_never_goes_anywhere(data: Dataset, train: Interactions, store: Store) -> None:
    lm = Toy()
    for prompt in enrich.prompts.names():
        written = enrich.write(prompt, train, data.catalog, lm, store)
        assert THOUGHT not in "".join(text or "" for text in written.texts.values)
    assert THOUGHT not in "".join(request.system + request.user for request in lm.heard)
    with store.calls() as calls:
        assert all(THOUGHT in call.text for call in calls.read_all())


# recurrence


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6, 7, 18])
def test_a_recurrence_asks_once_for_each_three_choices(length: int, store: Store) -> None:
    lm = Toy()
    enrich.run("preference_step", choices(list(range(length)), [0]), catalog(), lm, store)
    mine = about(lm, "user", "u0")
    assert len(mine) == -(-length // 3)
    blocks = [{block.name: block.entries for block in blocks_of(request.user)} for request in mine]
    assert [len(block["items"]) for block in blocks] == [min(3, length - 3 * n) for n in range(len(mine))]
    shown = [int(re.search(r"TTL(\d+)Q", entry[0][1]).group(1)) for block in blocks for entry in block["items"]]  # type: ignore[union-attr]
    assert shown == list(range(length))


def test_each_step_reads_the_notes_of_the_one_before(store: Store) -> None:
    lm = Toy()
    texts = enrich.run("preference_step", choices([1, 2, 3, 4, 5, 6, 7]), catalog(), lm, store)
    with store.calls() as calls:
        found = [calls.read(key) for key in lm.questions]
    notes = [json.loads(call.parsed or "")["preference"] for call in found if call is not None]
    assert [note in request.user for note, request in zip(notes, lm.heard[1:], strict=False)] == [True, True]
    assert texts.values == (notes[-1],)
    assert [block.entries for block in blocks_of(lm.heard[0].user) if block.name == "earlier"] in ([], [()])


def test_another_block_leaves_the_questions_before_it_as_they_were(tmp_path: Path) -> None:
    one, other = Toy(), Toy()
    enrich.run("preference_step", choices([1, 2, 3, 4, 5, 6, 7, 8, 9]), catalog(), one, Store(tmp_path / "one"))
    enrich.run("preference_step", choices([1, 2, 3, 4, 15, 6, 7, 8, 9]), catalog(), other, Store(tmp_path / "other"))
    same = [a == b for a, b in zip(one.questions, other.questions, strict=True)]
    assert same == [True, False, False]


def test_a_broken_chain_is_a_gap_and_is_not_followed(store: Store) -> None:
    bad = ["refused"]
    lm = Toy(bad=lambda r: bad[0] if r.about == ("user", "u1") and title(4) in r.user else None)  # type: ignore[return-value]
    train = choices([1, 2, 3], [1, 2, 5, 4, 6, 7, 8, 9], [9, 8, 7, 6])
    written = enrich.write("preference_step", train, catalog(), lm, store)
    assert written.texts.present.tolist() == [True, False, True]
    assert len(about(lm, "user", "u1")) == 2
    assert written.counts["refused"] == 1
    lm.heard.clear()
    enrich.write("preference_step", train, catalog(), lm, store)
    assert lm.heard == []
    bad[0] = None  # type: ignore[call-overload]
    mended = enrich.write("preference_step", train, catalog(), lm, store, again=("refused",))
    assert mended.texts.present.all()
    assert [r.about for r in lm.heard] == [("user", "u1")] * 2
    assert mended.ref != written.ref
    assert store.load_texts(written.ref).present.tolist() == [True, False, True]


def test_steps_are_kept_as_asked_for_their_user(store: Store) -> None:
    lm = Toy()
    enrich.run("preference_step", choices([1, 2, 3, 4]), catalog(), lm, store)
    with store.calls() as calls:
        assert {call.key for call in calls.of("user", "u0")} == set(lm.questions)


@pytest.mark.long
def test_a_recurrence_takes_time_in_proportion_to_its_users(store: Store) -> None:
    users = 12_000
    shop = catalog(50, pictures=False)
    item = (np.arange(users * 2) * 7) % 50
    train = Interactions(
        Ids("user", tuple(f"u{n}" for n in range(users))), shop.items, np.repeat(np.arange(users), 2), item
    )
    seconds = []
    for prompt in ("user_preference", "preference_step"):
        started = time.perf_counter()
        enrich.plan(prompt, train, shop, Toy(), store)
        seconds.append(time.perf_counter() - started)
    assert seconds[1] < 2.5 * seconds[0]


# evidence


def motives_of(*evidence: str, negative: tuple[str, ...] = ()) -> Callable[[Request], replies.Answer]:
    def says(request: Request) -> replies.Answer:
        praised = [replies.Aspect(aspect=f"aspect {n}", evidence=one) for n, one in enumerate(evidence)]
        criticised = [replies.Aspect(aspect=f"fault {n}", evidence=one) for n, one in enumerate(negative)]
        return replies.ReviewMotives(
            reasoning=THOUGHT, positive=praised, negative=criticised, need="a need", confidence=0.5
        )

    return says


SAID = 'The Lid fits WELL,\n  and "nothing" leaks. Größe passt.'


@pytest.mark.parametrize(
    ("evidence", "kept"),
    [
        ("The Lid fits WELL,", True),
        ("the lid FITS well", True),
        ('fits   well, and\n"nothing"', True),
        ("GRÖSSE passt", True),
        ("the lid fits badly", False),
        ("lid ... leaks", False),
        ("Thing TTL3Q", False),
        ("", False),
        pytest.param(" ", False),
        pytest.param("\u200b", False),
    ],
)
def test_an_aspect_stays_only_with_words_of_the_review(evidence: str, kept: bool, store: Store) -> None:
    train = choices([3], review=(SAID,))
    lm = Toy(says=motives_of(evidence, "nothing", negative=(evidence,)))
    written = enrich.write("review_motives", train, catalog(), lm, store)
    assert ("aspect 0" in str(written.texts.values[0])) == kept
    assert ("fault 0" in str(written.texts.values[0])) == kept
    assert "aspect 1" in str(written.texts.values[0])
    assert written.counts.get("ungrounded", 0) == (0 if kept else 2)
    assert store.card(written.ref)["counts"].get("ungrounded", 0) == (0 if kept else 2)
    reply = store.beside(written.ref, "reply")[0]
    assert reply is not None
    assert ("aspect 0" in reply) == kept
    with store.calls() as calls:
        call = calls.read(lm.questions[0])
    assert call is not None
    assert "aspect 0" in call.text, "what the model said is kept as it said it"


def test_words_of_another_review_are_no_evidence_and_do_not_travel_on(
    data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy(says=lambda r: motives_of("REV0x")(r) if r.schema is replies.ReviewMotives else Toy().says(r))
    written = enrich.write("user_motives", train, data.catalog, lm, store, through=True)
    stage = written.stages[0]
    assert stage.counts["ungrounded"] == sum(bool(r) for r in train.review or ()) - int((train.user == 0).sum())
    for request in lm.heard:
        if request.schema is replies.Motives:
            assert ("aspect 0" in request.user) == (request.about == ("user", "u0"))


# bad replies


@pytest.mark.parametrize("status", ["refused", "unparsable", "truncated"])
def test_a_bad_reply_is_kept_is_a_gap_and_is_asked_again_on_demand_only(
    status: str, data: Dataset, train: Interactions, store: Store
) -> None:
    bad = [status]
    lm = Toy(bad=lambda r: bad[0] if r.about in (("user", "u2"), ("user", "u5")) else None)  # type: ignore[return-value]
    written = enrich.write("user_motives", train, data.catalog, lm, store)
    assert [row for row, text in enumerate(written.texts.values) if text is None] == [2, 5]
    assert written.counts[status] == 2
    assert written.examples == {status: ("u2", f"it said {status}")}
    card = store.card(written.ref)
    assert card["counts"][status] == 2
    assert card["named"][status] == ["u2"]
    assert store.beside(written.ref, "status") == tuple(status if n in (2, 5) else "ok" for n in range(10))
    with store.calls() as calls:
        (kept,) = calls.of("user", "u2")
    assert (kept.status, kept.text, kept.parsed) == (status, "I would rather not", None)

    lm.heard.clear()
    again = enrich.write("user_motives", train, data.catalog, lm, store)
    assert lm.heard == []
    assert again.ref == written.ref
    assert again.counts[status] == 2
    others = tuple({"refused", "unparsable", "truncated"} - {status})
    enrich.write("user_motives", train, data.catalog, lm, store, again=others)
    assert lm.heard == []
    bad[0] = None  # type: ignore[call-overload]
    mended = enrich.write("user_motives", train, data.catalog, lm, store, again=(status,))
    assert [r.about for r in lm.heard] == [("user", "u2"), ("user", "u5")]
    assert mended.texts.present.all()


def test_failed_questions_are_asked_again_by_themselves_once_a_run(
    data: Dataset, train: Interactions, store: Store
) -> None:
    bad = ["failed"]
    lm = Toy(bad=lambda r: bad[0] if r.about == ("user", "u2") else None)  # type: ignore[return-value]
    for run in range(3):
        written = enrich.write("user_motives", train, data.catalog, lm, store)
        assert len(about(lm, "user", "u2")) == run + 1
        assert not written.texts.present[2]
    bad[0] = None  # type: ignore[call-overload]
    assert enrich.write("user_motives", train, data.catalog, lm, store).texts.present.all()
    assert len(lm.heard) == 10 + 3


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_where_nothing_is_answered_nothing_is_saved(
    status: str, data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy(bad=lambda request: status)  # type: ignore[arg-type,return-value]
    with pytest.raises(LmError, match=rf"none of 10 questions.*{status}, e\.g\. u0: it said {status}"):
        enrich.run("user_motives", train, data.catalog, lm, store)
    assert store.refs() == []
    with pytest.raises(LmError):
        enrich.run("user_motives", train, data.catalog, lm, store, through=True)
    assert store.refs() == []
    with store.calls() as calls:
        assert len(calls) > 0


def test_what_a_crash_left_unanswered_is_all_that_is_asked_then(
    data: Dataset, train: Interactions, store: Store
) -> None:
    def breaks(request: Request) -> Any:
        if request.about == ("user", "u6"):
            raise KeyboardInterrupt
        return None

    lm = Toy(bad=breaks)
    with pytest.raises(KeyboardInterrupt):
        enrich.run("user_motives", train, data.catalog, lm, store)
    assert store.refs() == []
    rest = Toy()
    assert enrich.run("user_motives", train, data.catalog, rest, store).present.all()
    assert [r.about for r in rest.heard] == [("user", f"u{n}") for n in range(6, 10)]


# limits and misuse


def test_a_limit_asks_for_the_first_so_many_only(data: Dataset, train: Interactions, store: Store) -> None:
    for prompt in ("user_motives", "preference_step", "item_motives"):
        lm = Toy()
        few = enrich.write(prompt, train, data.catalog, lm, store, limit=3, title="world")
        assert few.texts.present.tolist() == [n < 3 for n in range(len(few.texts.ids))]
        assert {r.about[1] for r in lm.heard if r.about} == set(few.texts.ids.keys[:3])
        assert store.card(few.ref)["title"] == f"world {prompt}, first 3"
        more = enrich.write(prompt, train, data.catalog, lm, store, limit=500)
        assert more.texts.present.all()
        assert more.ref != few.ref
        assert len(lm.heard) == len(set(lm.questions))


@pytest.mark.parametrize("how", [{"through": True}, {"items": "item_from_picture"}], ids=["through", "items"])
def test_a_limit_does_not_pay_for_what_the_first_few_do_not_show(
    how: dict[str, Any], data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy()
    enrich.write("user_motives", train, data.catalog, lm, store, limit=1, **how)
    assert len(lm.heard) <= 1 + int((train.user == 0).sum())


@pytest.mark.parametrize("prompt", ["user_profile", "review_motives"])
def test_item_texts_that_no_question_shows_are_not_paid_for(
    prompt: str, data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy()
    try:
        enrich.write(prompt, train, data.catalog, lm, store, items="item_from_picture")
    except PenchantError:
        assert lm.heard == []
        return
    assert not [request for request in lm.heard if request.images]


@pytest.mark.parametrize("items", ["item_from_picture", "user_profile"])
def test_what_cannot_work_fails_before_anything_is_paid(
    items: str, data: Dataset, train: Interactions, store: Store
) -> None:
    """There is no train part; the texts that are to stand before those of items are about users."""
    lm = Toy()
    with pytest.raises(PenchantError):
        enrich.run("user_preference", train if items == "user_profile" else None, data.catalog, lm, store, items=items)
    assert lm.heard == []


def test_what_the_data_lack_is_named_before_anybody_is_asked(data: Dataset, train: Interactions, store: Store) -> None:
    plain = replace(data.catalog, pictures=Pictures.none(data.items))
    bare = replace(plain, fields={"title": (None,) * 18, "asin": ("x",) * 18})
    lm = Toy()
    cases: list[tuple[str, Interactions | None, Catalog, str]] = [
        ("review_motives", replace(train, review=None), data.catalog, r"have none\. Add a column `review`"),
        ("review_motives", replace(train, review=("",) * len(train)), data.catalog, "review"),
        ("item_from_picture", None, plain, r"has none\. Add images/"),
        ("item_summary", None, plain, r"has none\. Add images/"),
        ("user_preference", train, bare, r"Add them to items\.parquet"),
        ("item_motives", replace(train, review=None), replace(bare, fields={}), r"Add them to items\.parquet"),
        ("user_profile", None, data.catalog, r"train part.*enrich\.run"),
    ]
    for prompt, part, shop, said in cases:
        for ask in (enrich.run, enrich.plan):
            with pytest.raises(MissingInput, match=said):
                ask(prompt, part, shop, lm, store)
    assert lm.heard == []
    assert store.refs() == []


def test_reviews_suffice_for_the_motives_of_their_writers(data: Dataset, train: Interactions, store: Store) -> None:
    bare = replace(data.catalog, fields={}, pictures=Pictures.none(data.items))
    texts = enrich.run("user_motives", train, bare, Toy(), store)
    assert texts.present.tolist() == [True] * 9 + [False]


def test_misspelt_settings_are_refused_before_anybody_is_asked(
    data: Dataset, train: Interactions, store: Store
) -> None:
    lm = Toy()
    cases: list[tuple[dict[str, Any], type[PenchantError], str]] = [
        ({"limits": 3}, UnknownKey, "`limit`"),
        ({"limit": 0}, BadSetting, "1 or more"),
        ({"limit": -4}, BadSetting, "1 or more"),
        ({"again": ("failed",)}, BadSetting, "always repeated"),
        ({"again": ("nonsense",)}, BadSetting, "refused, unparsable, truncated"),
        ({"items": "item_from_pictures"}, UnknownKey, "`item_from_picture`"),
    ]
    for how, error, said in cases:
        with pytest.raises(error, match=said):
            enrich.run("user_motives", train, data.catalog, lm, store, **how)
    with pytest.raises(UnknownKey, match="`user_motives`"):
        enrich.run("users_motives", train, data.catalog, lm, store)
    assert lm.heard == []


def test_where_nothing_can_be_kept_nobody_is_asked(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    lm = Toy()
    with pytest.raises(StoreError, match="--store DIR"):
        enrich.run("user_motives", train, data.catalog, lm, Store(tmp_path / "file" / "store"))
    assert lm.heard == []


# artefacts


def test_everything_that_a_text_depends_on_is_in_its_version(
    data: Dataset, train: Interactions, store: Store, tmp_path: Path
) -> None:
    """The texts are equal in every case: only their origin tells them apart."""

    def says(request: Request) -> replies.Answer:
        if request.schema is replies.Motives:
            return replies.Motives(reasoning="", drivers=["the same"], aversions=[], summary="for all")
        return Toy().says(request)

    def made(
        lm: Toy, shop: Catalog = data.catalog, part: Interactions = train, prompt: str = "user_motives", **how: Any
    ) -> str:
        lm.says = says
        written = enrich.write(prompt, part, shop, lm, store, **how)
        assert set(written.texts.values) <= {"for all. the same", None}
        return written.ref

    def own(text: str) -> str:
        (tmp_path / "mine.md").write_text(
            f'+++\nversion = 1\nof = "user"\nreply = "Motives"\nsees = ["titles", "train history"]\n+++\n# system\n{text}\n'
            "# user\n{opening}\n{items}\n",
            "utf-8",
        )
        return str(tmp_path / "mine.md")

    other_words = worded(data.catalog, description=("other",) * 18)
    refs = [
        made(Toy()),
        made(Toy(name="another")),
        made(Toy(revision="2")),
        made(Toy(), category="cups"),
        made(Toy(), shop=other_words),
        made(Toy(), part=train.take(np.arange(1, len(train)))),
        made(Toy(), items="item_from_picture"),
        made(Toy(), through=True),
        made(Toy(), through=True, items="item_from_picture"),
        made(Toy(), prompt=own("Say it.")),
        made(Toy(), prompt=own("Say it!")),
    ]
    assert len(set(refs)) == len(refs)
    assert made(Toy()) == refs[0]
    cards = [store.card(ref) for ref in refs]
    assert len({card["hash"] for card in cards}) <= 3  # one for each pattern of gaps
    assert all(store.load_texts(ref).source.made_by.startswith("enrich:") for ref in refs)


def test_the_card_says_what_was_paid_and_for_how_many_tokens(data: Dataset, train: Interactions, store: Store) -> None:
    lm = Toy(usd=0.25, bad=lambda r: "refused" if r.about == ("user", "u2") else None)
    written = enrich.write("user_motives", train, data.catalog, lm, store)
    card = store.card(written.ref)
    assert card["cost_usd"] == written.cost == written.usd == 2.5
    with store.calls() as calls:
        assert card["counts"]["tokens_in"] == sum(call.tokens_in for call in calls.read_all())
        assert card["counts"]["tokens_out"] == sum(call.tokens_out for call in calls.read_all())
    assert store.load_texts(written.ref).source.cost_usd == 2.5


def test_each_text_names_the_call_it_came_from(data: Dataset, train: Interactions, store: Store) -> None:
    lm = Toy()
    written = enrich.write("item_summary", train, data.catalog, lm, store)
    keys = store.beside(written.ref, "call")
    with store.calls() as calls:
        for row, key in enumerate(keys):
            assert key is not None
            call = calls.read(key)
            assert call is not None
            assert json.loads(call.parsed or "")["summary"] == written.texts.values[row]
            assert call.prompt == "item_summary@2"


def test_pictures_that_were_shown_are_kept(data: Dataset, store: Store) -> None:
    lm = Toy()
    enrich.run("item_from_picture", None, data.catalog, lm, store)
    with store.calls() as calls:
        for row, request in enumerate(lm.heard):
            assert calls.picture(request.pictures[0]) == data.catalog.pictures.read(row)


# several processes


@pytest.mark.long
def test_two_processes_at_one_store_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    for prompt in ("review_motives", "preference_step"):
        place, logs = tmp_path / prompt, [tmp_path / f"{prompt}{n}.log" for n in range(2)]
        line = [sys.executable, str(Path(__file__).with_name("toy_lm.py")), str(place), prompt]
        started = [
            subprocess.Popen(
                [*line, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for log in logs
        ]
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in started:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        ends = [one.communicate(timeout=60) for one in started]
        assert [one.returncode for one in started] == [0, 0], ends
        assert ends[0][0] == ends[1][0], "both made the same artefact"
        asked = Counter(key for log in logs if log.exists() for key in log.read_text().split())  # one may find all done
        assert max(asked.values()) <= 2
        data = world(users=60, items=40)
        alone = enrich.write(prompt, train_of(data), data.catalog, Toy(), Store(tmp_path / f"{prompt}-alone"))
        store = Store(place)
        assert store.load_texts(ends[0][0].strip()).values == alone.texts.values
        with store.calls() as calls:
            kept = list(calls.read_all())
            assert Counter(call.key for call in kept) == Counter(set(asked))
            assert {call.key: call.attempts for call in kept} == asked, "every reply was counted"
            assert {call.status for call in kept} == {"ok"}
        assert not [name for name, _ in contents(place) if ".probe" in name or "/." in name]


# the command line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data") / "small"
    folder.write(world(), found)
    return found


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Store) -> Ask:
    """Call the command `enrich` with these arguments."""
    surrounded(monkeypatch, store.path)

    return asking(capsys, monkeypatch, "enrich")


SPLITS: tuple[tuple[str, recipe.SplitSpec], ...] = (
    ("leave_last_out", recipe.SplitSpec("leave_last_out")),
    ("given", recipe.SplitSpec("given")),
    ("by_ratio,seed=1,chronological=true", recipe.SplitSpec("by_ratio", 1, chronological=True)),
    ("by_time", recipe.SplitSpec("by_time")),
    ("cold_items,share=0.2", recipe.SplitSpec("cold_items", share=0.2)),
)


@pytest.mark.parametrize(("text", "spec"), SPLITS, ids=[text for text, _ in SPLITS])
def test_the_command_reads_the_train_part_of_the_split_it_is_given(
    text: str, spec: recipe.SplitSpec, ask: Ask, place: Path, store: Store
) -> None:
    """The answers are in the store, so `replay` finds them only where the train part is the right one."""
    data = folder.read(place)
    train = inputs.make_split(data, spec).train
    right = enrich.write("user_motives", train, data.catalog, Toy(), store)
    answer = ask(place, "user_motives", "--lm", "replay:toy", "--split", text, "--json")
    assert answer.code == 0, answer.err
    said = answer.json
    assert said["ref"] == right.ref
    assert said["model"] == "toy"
    assert said["cached"] == said["asked"] == right.counts["asked"]
    assert "calls" not in said or said["calls"] == 0
    assert store.load_texts(said["ref"]).source.interactions == train.hash


def test_the_commands_split_may_have_a_list(ask: Ask, place: Path, store: Store) -> None:
    data = folder.read(place)
    train = inputs.make_split(data, recipe.SplitSpec("by_ratio", 2, (0.5, 0.25, 0.25))).train
    right = enrich.write("user_motives", train, data.catalog, Toy(), store)
    split = "by_ratio,seed=2,ratios=[0.5,0.25,0.25]"
    assert ask(place, "user_motives", "--lm", "replay:toy", "--split", split, "--json").json.get("ref") == right.ref


def test_the_default_split_is_leave_last_out_and_a_recipe_may_name_another(
    ask: Ask, place: Path, store: Store, tmp_path: Path
) -> None:
    data = folder.read(place)
    enrich.write("user_motives", splits.leave_last_out(data.interactions).train, data.catalog, Toy(), store)
    assert ask(place, "user_motives", "--lm", "replay:toy", "--json").code == 0
    file = tmp_path / "mine.toml"
    file.write_text(
        f'data = "{place}"\nmin_rating = 3\nsplit = {{ by = "by_ratio", seed = 5 }}\nmodel = {{ name = "popular" }}\n',
        "utf-8",
    )
    liked = folder.read(place, min_rating=3)
    train = splits.by_ratio(liked.interactions, (0.8, 0.1, 0.1), 5).train
    right = enrich.write("user_motives", train, liked.catalog, Toy(), store)
    answer = ask(place, "user_motives", "--lm", "replay:toy", "--split", file, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["ref"] == right.ref


def test_the_command_says_in_words_what_became_of_it(ask: Ask, place: Path, store: Store) -> None:
    data = folder.read(place)
    train = inputs.make_split(data, recipe.SplitSpec("given")).train
    lm = Toy(bad=lambda r: "refused" if r.about == ("user", "u2") else None)
    right = enrich.write("user_motives", train, data.catalog, lm, store)
    answer = ask(place, "user_motives", "--lm", "replay:toy", "--split", "given")
    assert answer.code == 0, answer.err
    for word in (right.ref, "refused", "1, e.g. u2 it said refused", "penchant show texts/", "gaps"):
        assert word in answer.out


def test_items_need_no_split_and_stages_are_reported(ask: Ask, place: Path, store: Store) -> None:
    data = folder.read(place)
    right = enrich.write("item_summary", None, data.catalog, Toy(), store, category="cups")
    answer = ask(place, "item_summary", "--lm", "replay", "--category", "cups", "--json", "--split", "given")
    assert answer.code == 0, answer.err
    assert answer.json["ref"] == right.ref
    assert [stage["ref"] for stage in answer.json["stages"]] == [right.stages[0].ref]


def test_the_command_limits(ask: Ask, place: Path, store: Store) -> None:
    data = folder.read(place)
    train = inputs.make_split(data, recipe.SplitSpec("given")).train
    enrich.write("user_motives", train, data.catalog, Toy(), store, limit=3)
    words = (place, "user_motives", "--lm", "replay", "--split", "given", "--json")
    answer = ask(*words, "--limit", 3)
    assert answer.code == 0, answer.err
    assert answer.json["asked"] == 3
    whole = ask(*words)
    assert whole.code == 2
    assert "u3" in whole.err
    assert "holds no answer" in whole.err


def test_the_command_plans_without_asking_anybody(ask: Ask, place: Path, store: Store) -> None:
    lm = "http://192.0.2.1:9/v1#stub"  # an address that nobody has
    answer = ask(place, "user_motives", "--lm", lm, "--split", "given", "--plan", "--json", "--through")
    assert answer.code == 0, answer.err
    said = answer.json
    assert (said["calls"], said["cached"]) == (10, 0)
    assert said["stages"][0]["prompt"] == "review_motives"
    assert said["stages"][0]["calls"] == 54
    assert said["leaves"].endswith("to 192.0.2.1")
    assert said["usd"] is None
    words = ask(place, "user_motives", "--lm", lm, "--split", "given", "--plan")
    assert words.code == 0
    for word in ("calls", "tokens in", "192.0.2.1", "no price known", "4 bytes of UTF-8 a token"):
        assert word in words.out
    near = ask(place, "user_motives", "--lm", "http://127.0.0.1:9/v1#stub", "--split", "given", "--plan", "--json")
    assert near.json["leaves"] == ""
    assert store.refs() == []


def test_replay_of_a_server_never_calls_it(ask: Ask, place: Path, store: Store) -> None:
    answer = ask(place, "user_motives", "--lm", "http://192.0.2.1:9/v1#stub", "--split", "given", "--replay", "--json")
    assert answer.code == 2
    assert "NotReplayed" in answer.err
    assert "user u0" in answer.err


MISUSE: tuple[tuple[list[str], str], ...] = (
    (["user_motive"], "user_motives"),
    (["user_motives", "--split", "nonsense"], "leave_last_out"),
    (["user_motives", "--split", "by_ratio,seed"], "name=value"),
    (["user_motives", "--split", "by_ratio,sead=1"], "seed"),
    (["user_motives", "--split", "by_ratio,seed=x"], "seed"),
    (["user_motives", "--split", "none.toml"], "no recipe none.toml"),
    (["user_motives", "--split", ""], "split"),
    (["user_motives", "--lm", "nonsense"], "openai:MODEL"),
    (["user_motives", "--lm", "replay:none"], "no answers of none"),
    (["user_motives", "--lm", "local:none/such"], "none/such"),
    (["user_motives", "--items", "item_from_pictures", "--lm", "replay:toy"], "item_from_picture"),
    (["user_motives", "--again", "failed", "--lm", "replay:toy"], "always repeated"),
    (["none/such.md"], "none/such.md"),
    (["user_motives", "--interactions", "nonsense"], "nonsense"),
    (["user_motives", "--min-rating", "99"], "99"),
)


@pytest.mark.parametrize(("words", "said"), MISUSE, ids=[" ".join(words) for words, _ in MISUSE])
def test_misuse_ends_with_one_message(words: list[str], said: str, ask: Ask, place: Path, store: Store) -> None:
    enrich.write("item_from_picture", None, catalog(2), Toy(), store)  # so that replay:toy is a model here
    answer = ask(place, *words)
    assert answer.code == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert len(re.findall(r"^penchant: [A-Z]\w+: ", answer.err, re.MULTILINE)) == 1
    assert said in answer.err


@pytest.mark.parametrize(
    "words", [["--limit", "0"], ["--limit", "x"], ["--parallel", "0"], ["--budget-usd", "-1"], ["--nonsense"], []]
)
def test_options_out_of_range_are_refused(words: list[str], ask: Ask, place: Path) -> None:
    answer = ask(*([place, "user_motives", *words] if words else [place]))
    assert answer.code == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err


def test_mistakes_are_json_for_machines(ask: Ask, place: Path) -> None:
    answer = ask(place, "user_motive", "--json")
    assert answer.code == 2
    assert "user_motives" in json.dumps(answer.json)
