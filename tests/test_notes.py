"""Notes on histories: windows, what each question shows, who is asked how often, and that nothing comes from the future."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_lm import MARK, Toy

from penchant.data import Ids
from penchant.enrich import prompts
from penchant.enrich.comprehension import Comprehension
from penchant.errors import BadSetting, MissingInput
from penchant.lm import Request, Status
from penchant.notes import windows
from penchant.store import Store
from penchant.texts import Provenance, Texts

ITEMS = 60
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda p: (max(p), min(p)))


def lines(count: int = ITEMS) -> Texts:
    ids = Ids("item", tuple(f"i{n}" for n in range(count)))
    return Texts(ids, tuple(f"TTL{n:02d}Q a thing" for n in range(count)), Provenance("drawn"))


def reader(lm: Toy, prompt: str = "preference_step", store: Store | None = None, **how: int) -> Comprehension:
    return Comprehension(prompts.read(prompt), lm, "toy", lines(), store=store, **how)  # type: ignore[arg-type]


def marks(text: str) -> set[str]:
    return set(MARK.findall(text))


# --- windows


@given(st.integers(1, 200), sizes)
def test_windows_are_as_many_as_they_should_be_and_pass_over_nothing(count: int, how: tuple[int, int]) -> None:
    size, step = how
    found = windows(count, size, step)
    assert len(found) == (1 if count <= size else 1 + -(-(count - size) // step))
    assert set().union(*(range(a, b) for a, b in found)) == set(range(count))
    assert found[-1][1] == count
    assert all(b - a <= size for a, b in found)
    if step == size:
        assert sum(b - a for a, b in found) == count


@given(st.integers(1, 200), sizes)
def test_one_more_choice_leaves_all_windows_but_the_last_alone(count: int, how: tuple[int, int]) -> None:
    before, after = windows(count, *how), windows(count + 1, *how)
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) - len(before) in (0, 1)


@pytest.mark.parametrize(("size", "step"), [(3, 4), (3, 0), (0, 0), (-1, 1)])
def test_windows_that_would_pass_over_choices_are_refused(size: int, step: int) -> None:
    with pytest.raises(BadSetting, match=r"would pass over some.*step = "):
        windows(9, size, step)


# --- reading


def test_notes_are_carried_forward_from_window_to_window() -> None:
    lm = Toy()
    history = np.arange(7)
    (notes,) = reader(lm, window=3, step=2).read([history], [None])
    assert [(n.begin, n.end) for n in notes] == [(0, 3), (2, 5), (4, 7)]
    shown = [marks(request.user) for request in lm.heard]
    assert shown[0] == {"TTL00Q", "TTL01Q", "TTL02Q"}
    assert {"TTL02Q", "TTL03Q", "TTL04Q"} <= shown[1]
    for earlier, request in zip(notes[:-1], lm.heard[1:], strict=True):
        assert earlier.text in request.user
    assert marks(notes[-1].text) == {f"TTL{n:02d}Q" for n in range(7)}


def test_the_order_of_a_history_matters_and_its_future_does_not() -> None:
    read = reader(Toy(), window=3, step=3)
    history = np.arange(8)
    (forth,), (back,) = read.read([history], [None]), read.read([history[::-1].copy()], [None])
    assert forth[-1].text != back[-1].text
    for end in range(1, 8):  # what is written at any moment is the same whatever came after
        (then,) = read.read([history[:end]], [None])
        whole = [note for note in forth if note.end <= end]
        assert list(then[: len(whole)]) == whole


def test_a_change_in_one_block_leaves_the_notes_before_it_as_they_were() -> None:
    read = reader(Toy(), window=3, step=3)
    history = np.arange(12)
    (notes,) = read.read([history], [None])
    for block in range(4):
        other = history.copy()
        other[3 * block] = 50
        (changed,) = read.read([other], [None])
        same = [a == b for a, b in zip(notes, changed, strict=True)]
        assert same == [n < block for n in range(4)]


def test_each_window_is_asked_about_once_whoever_has_it() -> None:
    lm = Toy()
    histories = [np.arange(n) for n in (1, 2, 3, 5, 6, 9)]  # all of them begin alike
    reader(lm, window=3, step=3).read(histories, [None] * 6)
    # [0:1], [0:2], [0:3]; [3:5], [3:6]; [6:9]
    assert len(lm.heard) == 6
    counts = [-(-len(h) // 3) for h in histories]
    assert sum(counts) == 10


def test_calls_are_one_a_block_of_three() -> None:
    for n in range(1, 20):
        lm = Toy()
        reader(lm, window=3, step=3, most=40).read(
            [np.arange(n + 1)[:-1]], [None]
        )  # the last choice is the one asked about
        assert len(lm.heard) == -(-n // 3)


def test_what_is_kept_is_not_asked_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, again = Toy(), Toy()
    histories, users = [np.arange(7), np.arange(20, 24)], ["u1", "u2"]
    cold = reader(first, store=store).read(histories, users)
    warm = reader(again, store=store).read(histories, users)
    assert cold == warm
    assert len(first.heard) == 5
    assert not again.heard


def test_of_strangers_nothing_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lm = Toy()
    reader(lm, store=store).read([np.arange(4)], [None])
    again = Toy()
    reader(again, store=store).read([np.arange(4)], [None])
    assert len(lm.heard) == len(again.heard) == 2


def test_a_direct_reading_is_one_question() -> None:
    lm = Toy()
    (notes,) = reader(lm, "user_preference").read([np.arange(9)], [None])
    assert [(n.begin, n.end) for n in notes] == [(0, 9)]
    assert len(lm.heard) == 1


@pytest.mark.parametrize("prompt", ["preference_step", "user_preference", "user_profile"])
def test_a_history_of_one_and_one_of_ten_thousand(prompt: str) -> None:
    lm = Toy()
    long = np.tile(np.arange(ITEMS), 170)[:10_000]
    one, many, none = reader(lm, prompt, most=40).read([np.array([3]), long, long[:0]], [None] * 3)
    assert [(n.begin, n.end) for n in one] == [(0, 1)]
    assert many[-1].end == 10_000
    assert many[0].begin >= 10_000 - 40
    assert many[0].begin % 20 == 0  # so that one more choice does not move all windows
    assert none == ()
    assert len(lm.heard) < 20


def test_a_question_that_is_not_answered_leaves_the_notes_as_they_were(tmp_path: Path) -> None:
    def once(request: Request) -> Status | None:
        return "refused" if "TTL04Q" in request.user else None

    for store, user in ((Store(tmp_path), "u1"), (None, None)):
        read = reader(Toy(bad=once), store=store)
        (notes,) = read.read([np.arange(9)], [user])
        assert [(n.begin, n.end) for n in notes] == [(0, 3), (6, 9)]
        assert notes[0].text != notes[1].text
        assert not {"TTL03Q", "TTL04Q"} & marks(notes[1].text)
        assert read.counts["refused"] == 1


def test_what_was_answered_can_be_kept_with_a_model() -> None:
    first, again = Toy(), Toy()
    read, other = reader(first), reader(again)
    told = read.read([np.arange(9)], [None])
    other.remember(read.answers())
    assert other.read([np.arange(9)], [None]) == told
    assert not again.heard


def test_an_item_without_a_text_is_passed_over() -> None:
    texts = lines()
    texts = Texts(texts.ids, (None, *texts.values[1:]), texts.source)
    lm = Toy()
    read = Comprehension(prompts.read("preference_step"), lm, "toy", texts)  # type: ignore[arg-type]
    (notes,) = read.read([np.arange(3)], [None])
    assert marks(notes[-1].text) == {"TTL01Q", "TTL02Q"}
    (alone,) = read.read([np.array([0])], [None])
    assert len(alone) == 1


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"does not read what somebody chose.*preference_step"):
        reader(Toy(), "item_summary")
    with pytest.raises(BadSetting, match=r"most = 4 must hold two windows of 3:  most = 12"):
        reader(Toy(), window=3, most=4)
    empty = Texts(lines().ids, (None,) * ITEMS, Provenance("drawn"))
    with pytest.raises(MissingInput, match="no item has a text"):
        Comprehension(prompts.read("preference_step"), Toy(), "toy", empty)  # type: ignore[arg-type]


def test_it_can_be_opened_again_from_its_facts() -> None:
    read = Comprehension.open({"prompt": "preference_step", "lm": "extractive", "window": 4, "step": 2}, lines())
    again = Comprehension.open(read.facts(), lines())
    assert again.hash == read.hash
    assert again.read([np.arange(9)], [None]) == read.read([np.arange(9)], [None])
    other = Comprehension.open({**read.facts(), "step": 3}, lines())
    assert other.hash != read.hash


# --- tastes that change

TASTES = ("alpine", "boats", "cooking", "dancing")
KEPT = 50  # words: what a question shows of a window of three, or the newest eight choices of a whole history


def forgetful(request: Request, kept: int = KEPT) -> Any:
    """Keeps the last words of what it is given, and names the tastes among them, the most frequent first."""
    assert request.schema is not None
    words = Counter(word for word in re.findall(r"\w+", request.user)[-kept:] if word in TASTES)
    said = " ".join(word for word, _ in words.most_common())
    return request.schema.model_validate(dict.fromkeys(request.schema.model_fields, said))


def turned() -> tuple[Texts, list[np.ndarray], list[str]]:
    """24 people who chose twelve things of one taste, five of another, and then 0, 6, 12 or 18 that are of none: (texts of all things,
    histories, what each likes now). 40 things of each taste, one taste after the other."""
    ids = Ids("item", tuple(f"i{n}" for n in range(200)))
    texts = Texts(
        ids, tuple(f"thing {n} for {(*TASTES, 'everybody')[n // 40]}" for n in range(200)), Provenance("drawn")
    )
    rng = np.random.default_rng(0)
    histories, likes = [], []
    for u in range(24):
        old, new = u % 4, (u + 1 + u // 4 % 3) % 4
        parts = ((old, 12), (new, 5), (4, 6 * (u // 6)))
        histories.append(np.concatenate([40 * taste + rng.permutation(40)[:count] for taste, count in parts]))
        likes.append(TASTES[new])
    return texts, histories, likes


def told_apart(prompt: str | None, lm: Toy) -> float:
    """AUC of what somebody likes now among all that was not chosen, where a thing's score is whether its word leads the notes."""
    texts, histories, likes = turned()
    read: list[Any] = [()] * len(histories)
    if prompt is not None:
        read = Comprehension(prompts.read(prompt), lm, "toy", texts).read(histories, [None] * len(histories))
    found = []
    for own, history, liked in zip(read, histories, likes, strict=True):
        leads = own[-1].text.split(" ")[0] if own else ""
        words = [(text or "").split(" ")[-1] for n, text in enumerate(texts.values) if n not in history]
        score = np.array([word == leads for word in words], float)
        good = np.array([word == liked for word in words])
        over = score[good][:, None] - score[~good]
        found.append(float((over > 0).mean() + (over == 0).mean() / 2))
    return float(np.mean(found))


def test_where_a_taste_turns_notes_carried_forward_tell_more_than_one_reading_and_that_more_than_none() -> None:
    """A reader with a small memory: carried forward, what is liked now is known however long ago it showed; read at once it is known
    where it is among what is kept. With a large memory the taste that was left is still the most frequent."""
    lm = Toy(says=forgetful)
    recurrent, direct, none = (told_apart(p, lm) for p in ("preference_step", "user_preference", None))
    assert none == 0.5
    assert recurrent > direct + 0.1
    assert direct > none + 0.1
    assert recurrent > 0.95
    assert told_apart("user_preference", Toy(says=lambda request: forgetful(request, 10_000))) < 0.5
