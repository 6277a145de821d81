"""Motivations in words: names of prototypes, what moves a user, and what she said of an item."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import checkerboard

from penchant.data import Queries
from penchant.drives import Drives, named, span
from penchant.model import Recommender
from penchant.reasons import explain
from penchant.saved import SCORERS
from penchant.scorers import Factors, Motivated, Scorer

GROUPS = 4
WORDS = ("comfort: soft", "price: cheap", "gifts: a present", "looks: handsome")


def planted(flat: float = 0.0) -> Motivated:
    """Prototype k belongs to group k, for users and for items. flat: 0 for sharp shares, 1 for the same to everybody."""
    world = checkerboard(groups=GROUPS)
    rng = np.random.default_rng(0)
    one = np.eye(GROUPS, dtype=np.float32)
    shares = (1 - flat) * (0.7 * one[world.user_group] + 0.3 / GROUPS) + flat / GROUPS
    pull = one[world.item_group] + 0.1 * rng.normal(size=(len(world.item_group), GROUPS)).astype(np.float32)
    user, item = one[world.user_group], one[world.item_group]
    factors = Factors(user, item, np.zeros(len(item), np.float32), item, np.ones(len(user), bool))
    return Motivated(factors, shares.astype(np.float32), pull)


def said(noise: float = 0.0) -> list[list[str]]:
    rng = np.random.default_rng(1)
    own = [WORDS[g] for g in checkerboard(groups=GROUPS).user_group]
    return [[str(rng.choice(WORDS)) if rng.random() < noise else word, "everybody likes it"] for word in own]


def recommender(scorer: Scorer) -> Recommender:
    world = checkerboard(groups=GROUPS)
    train = world.train
    order = np.argsort(train.user, kind="stable")
    histories = np.split(train.item[order], np.cumsum(np.bincount(train.user, minlength=len(train.users)))[:-1])
    known = Queries.of(np.arange(len(train.users)), histories)
    return Recommender("lmmrec", {}, train.users, train.items, scorer, known)


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_prototypes_get_the_words_of_those_who_have_them(noise: float) -> None:
    names = named(planted(), said(noise))
    assert [own[0] for own in names] == list(WORDS)
    assert all("everybody likes it" not in own[:1] for own in names)


def test_what_few_say_names_nothing_and_neither_does_what_everybody_has() -> None:
    rows = said()
    rows[5] = ["a word of her own", *rows[5]]
    assert not any("a word of her own" in own for own in named(planted(), rows))
    assert all(own == () for own in named(planted(flat=1.0), said()))
    assert named(planted(), [[] for _ in said()]) == ((),) * GROUPS


def test_a_user_is_moved_by_the_motivation_of_her_group() -> None:
    scorer, world = planted(), checkerboard(groups=GROUPS)
    for user in range(10):
        own, other = world.user_group[user], (world.user_group[user] + 1) % GROUPS
        history = np.flatnonzero(world.item_group == own)[:3]
        assert scorer.drives(user, history).argmax() == own
        assert scorer.drives(-1, history).argmax() == own, "a stranger, by what she chose"
        item = int(np.flatnonzero(world.item_group == own)[-1])
        assert scorer.matched(user, history, item).argmax() == own
        foreign = int(np.flatnonzero(world.item_group == other)[-1])
        assert scorer.matched(user, history, foreign)[own] == 0, "the item does not answer to it"
    assert (scorer.drives(-1, np.zeros(0, np.int64)) == 1).all(), "nothing is known of her"
    assert scorer.lift.mean(axis=0) == pytest.approx(np.ones(GROUPS), abs=1e-5)


def test_a_motivated_scorer_scores_like_its_factors_and_is_saved_whole() -> None:
    scorer = planted()
    again = SCORERS[scorer.kind].of(scorer.arrays())
    assert isinstance(again, Motivated)
    queries = recommender(scorer).known
    assert np.array_equal(again.score(queries), scorer.factors.score(queries))
    assert np.array_equal(again.matched(3, np.array([1, 2]), 5), scorer.matched(3, np.array([1, 2]), 5))


def test_the_reason_names_the_motive_and_quotes_what_she_said() -> None:
    scorer, world = planted(), checkerboard(groups=GROUPS)
    rec, user = recommender(scorer), 1
    group = int(world.user_group[user])
    chosen = [rec.items.keys[i] for i in rec.known.history_items[rec.known.history_starts[user] :][:3]]
    word = WORDS[group].partition(": ")[2]
    reviews = {(rec.users.keys[user], key): f"It came late. So {word} that I bought two! Nice box." for key in chosen}
    drives = Drives(named(scorer, said()), reviews)
    held = world.split.test
    item = rec.items.keys[int(held.item[held.user == user][0])]
    reason = explain(rec, rec.users.keys[user], item, drives=drives)
    assert reason.motives[0].phrases[0] == WORDS[group]
    assert reason.motives[0].lift > 1
    assert WORDS[group] in reason.sentence
    spans = {e.item_id: e.span for e in reason.evidence}
    assert any(spans.values())
    for key, quoted in spans.items():
        assert quoted == "" or quoted in reviews[rec.users.keys[user], key]
        assert "came late" not in quoted
    plain = explain(rec, rec.users.keys[user], item)
    assert plain.motives == ()
    assert plain.evidence[0].span == ""
    assert [e.item_id for e in plain.evidence] == [e.item_id for e in reason.evidence], "words change no evidence"


def test_an_item_that_answers_to_nothing_of_hers_gets_no_motive() -> None:
    scorer, world = planted(), checkerboard(groups=GROUPS)
    rec = recommender(scorer)
    drives = Drives(named(scorer, said()))
    user = 1
    foreign = np.flatnonzero(world.item_group == (world.user_group[user] + 1) % GROUPS)
    assert explain(rec, rec.users.keys[user], rec.items.keys[int(foreign[-1])], drives=drives).motives == ()


@given(st.text(max_size=400), st.lists(st.text(max_size=20), max_size=3))
def test_a_span_stands_in_the_review(review: str, phrases: list[str]) -> None:
    found = span(review, phrases)
    assert found.removesuffix(" …") in review


def test_spans_are_chosen_by_words() -> None:
    review = "Arrived on Monday. The cushions are soft; I like it. Cheap it is not!"
    assert span(review, ["comfort: cushion"]) == "The cushions are soft;"
    assert span(review, ["price: cheap"]) == "Cheap it is not!"
    assert span(review, ["garden"]) == ""
    long = "soft " * 200
    assert len(span(long, ["soft"])) <= 250


def test_names_survive_their_file() -> None:
    drives = Drives((("a", 'b "quoted" </script>'), ()), {("u", "i"): "text"})
    assert Drives.of_json(drives.to_json(), drives.reviews) == drives
