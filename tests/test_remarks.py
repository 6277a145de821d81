"""What people said of their choices, read with them: beside its own choice, never before it, and of nobody else."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_lm import MARK, Toy

from penchant import enrich, forgetting, shop
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions
from penchant.enrich import prompts
from penchant.enrich.comprehension import Comprehension
from penchant.enrich.remarks import Remarks
from penchant.errors import Leak, MissingInput
from penchant.judge import Judge
from penchant.lm import Request, tokens
from penchant.lm.fence import clean
from penchant.models.mllm_srec import MllmSrec
from penchant.saved import read, write
from penchant.split import leave_last_out
from penchant.store import Store
from penchant.texts import Provenance, Texts
from penchant.training import Training

USERS, ITEMS, EACH = 6, 24, 8
PROMPTS = ("said_step", "said_preference")


def log(rated: bool = True) -> Interactions:
    """Everybody chose eight things, rated them n/5 and wrote REV<user>x<item>Q of all but every third."""
    users, items = Ids("user", tuple(f"u{n}" for n in range(USERS))), Ids("item", tuple(f"i{n}" for n in range(ITEMS)))
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(USERS), EACH)
    item = np.concatenate([rng.permutation(ITEMS)[:EACH] for _ in range(USERS)])
    place = np.tile(np.arange(EACH), USERS)
    review = tuple(
        None if p % 3 == 2 else f"REV{u:02d}x{i:02d}Q it did what I needed"
        for u, i, p in zip(user, item, place, strict=True)
    )
    value = (1 + (user + item) % 5).astype(np.float32) if rated else None
    return Interactions(users, items, user, item, position=place, value=value, review=review)


def lines() -> Texts:
    ids = Ids("item", tuple(f"i{n}" for n in range(ITEMS)))
    return Texts(ids, tuple(f"TTL{n:02d}Q a thing" for n in range(ITEMS)), Provenance("drawn"))


def reader(
    lm: Any, prompt: str = "said_step", of: Interactions | None = None, store: Store | None = None
) -> Comprehension:
    made = prompts.read(prompt)
    return Comprehension(made, lm, "toy", lines(), remarks=Remarks.of(of or log(), lines().ids, made), store=store)


def histories(of: Interactions) -> list[np.ndarray]:
    return [of.item[of.user == n].astype(np.int64) for n in range(USERS)]


def shown(request: Request) -> set[str]:
    return set(MARK.findall(request.user))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_remark_is_shown_with_its_choice_and_no_other_is(prompt: str) -> None:
    train = log()
    for user, history in enumerate(histories(train)):
        for end in range(1, EACH + 1):
            lm = Toy()
            reader(lm, prompt).read([history[:end]], [f"u{user}"])
            told = set().union(*map(shown, lm.heard))
            wrote = {f"REV{user:02d}x{i:02d}Q" for p, i in enumerate(history[:end]) if p % 3 != 2}
            assert {mark for mark in told if mark.startswith("REV")} == wrote


def test_a_rating_stands_in_the_scale_of_the_data() -> None:
    lm, train = Toy(), log()
    history = histories(train)[2][:3]
    reader(lm, "said_preference").read([history], ["u2"])
    for item in history.tolist():
        assert f"TTL{item:02d}Q a thing\n   rating: {1 + (2 + item) % 5}/5" in lm.heard[0].user


def test_of_a_stranger_nothing_is_said() -> None:
    lm = Toy()
    reader(lm).read([np.arange(6)], [None])
    assert not any(mark.startswith("REV") for request in lm.heard for mark in shown(request))


def test_two_who_chose_alike_and_wrote_otherwise_are_two_questions() -> None:
    train = log()
    same = replace(train, item=np.tile(train.item[:EACH], USERS))
    lm = Toy()
    notes = reader(lm, of=same).read(histories(same), [f"u{n}" for n in range(USERS)])
    assert len({own[-1].text for own in notes}) == USERS


def test_the_same_words_about_another_choice_are_another_question() -> None:
    users, items = Ids("user", ("u0", "u1")), lines().ids
    item = np.array([3, 7, 3, 7])
    train = Interactions(
        users, items, np.array([0, 0, 1, 1]), item, position=np.array([0, 1, 0, 1]), review=("Good", None, None, "Good")
    )
    lm = Toy()
    first, second = reader(lm, of=train).read([item[:2], item[:2]], ["u0", "u1"])
    assert first[-1].text != second[-1].text
    assert len(lm.heard) == 2


def test_whoever_wrote_what_a_kept_question_holds_is_found_with_it(tmp_path: Any) -> None:
    users, items = Ids("user", ("u0", "u1")), lines().ids
    train = Interactions(users, items, np.array([0, 1]), np.array([3, 3]), review=("Good", "Good"))
    store = Store(tmp_path)
    lm = Toy()
    read = reader(lm, of=train, store=store)
    read.read([np.array([3]), np.array([3])], ["u0", "u1"])
    assert len(lm.heard) == 1
    for name in users.keys:
        assert forgetting.find(store, "user", name)


def test_remarks_of_what_is_held_out_are_refused() -> None:
    made = shop.make(seed=3, shoppers=40, products=40, choices=8, pictures=False)
    part = leave_last_out(made.dataset.interactions)
    texts = made.dataset.catalog.texts()
    facts = {"prompt": "said_step", "lm": "extractive", "window": 3, "step": 2}
    everything = Comprehension.open(facts, texts, remarks=made.dataset.interactions)
    with pytest.raises(Leak, match="train part"):
        MllmSrec(dim=16, layers=1).fit(part.train, part.valid, Training(epochs=1), summary=texts, notes=everything)


def test_where_nobody_said_anything_a_prompt_that_reads_remarks_says_so() -> None:
    with pytest.raises(MissingInput, match="preference_step"):
        Comprehension.open({"prompt": "said_step", "lm": "extractive"}, lines())


def test_a_rating_that_is_no_number_is_not_shown_and_scales_nobody() -> None:
    train = log()
    assert train.value is not None
    value = train.value.copy()
    value[0] = np.nan
    said = Remarks.of(replace(train, value=value), lines().ids, prompts.read("said_step"))
    assert said is not None
    assert "rating" not in dict(said.beside("u0", int(train.item[0])))
    assert dict(said.beside("u0", int(train.item[1])))["rating"].endswith("/5")


@pytest.mark.parametrize("prompt", ["preference_step", "user_preference"])
def test_other_prompts_read_no_remarks(prompt: str) -> None:
    lm = Toy()
    train = log()
    Comprehension(
        prompts.read(prompt), lm, "toy", lines(), remarks=Remarks.of(train, lines().ids, prompts.read(prompt))
    ).read(histories(train), [f"u{n}" for n in range(USERS)])
    assert not any(mark.startswith("REV") for request in lm.heard for mark in shown(request))


def test_a_profile_reads_ratings_and_no_reviews() -> None:
    lm, train = Toy(), log()
    reader(lm, "user_profile").read(histories(train), [f"u{n}" for n in range(USERS)])
    assert all("rating: " in request.user for request in lm.heard)
    assert not any(mark.startswith("REV") for request in lm.heard for mark in shown(request))


@given(st.data())
def test_kept_and_read_again_it_says_the_same(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 12))
    pairs = list(itertools.product(range(4), range(5)))
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=size, max_size=size, unique=True))
    user, item = np.array([p[0] for p in chosen], np.int64), np.array([p[1] for p in chosen], np.int64)
    texts = data.draw(st.lists(st.one_of(st.none(), st.text(max_size=8)), min_size=size, max_size=size))
    value = np.array(data.draw(st.lists(st.integers(1, 5), min_size=size, max_size=size)), np.float32)
    users = Ids("user", ("a", "b", "c", "d"))
    first = Remarks(users, user, item, value if data.draw(st.booleans()) else None, texts, "drawn")
    again = Remarks.again(first.plain(50), first.source)
    for name, row in itertools.product((*users.keys, "nobody", None), range(5)):
        assert again.beside(name, row) == first.beside(name, row)
    for (u, i), text in zip(chosen, texts, strict=True):
        said = dict(first.beside(users.keys[u], i))
        assert said.get("review", "") == clean(text or "")
        assert ("rating" in said) == (first.value is not None)


def test_other_remarks_are_other_notes() -> None:
    train = log()
    assert train.review is not None
    other = replace(train, review=("REV99x99Q something else", *train.review[1:]))
    assert reader(Toy()).hash != reader(Toy(), of=other).hash
    assert reader(Toy()).hash == reader(Toy(), of=log()).hash


def test_a_wish_that_was_written_down_is_read_by_rule_and_a_new_one_takes_over() -> None:
    """Notes by rule, carried forward: after a change of motives the new ones stand first."""
    said = {
        "gifts": "The perfect birthday present, my sister beamed when she unwrapped it.",
        "durability": "Sturdy, built to last, it survived two moves without a scratch.",
    }
    wrote = [said["gifts"]] * 10 + [said["durability"]] * 8
    users, items = Ids("user", ("u",)), Ids("item", tuple(f"i{n}" for n in range(18)))
    train = Interactions(
        users, items, np.zeros(18, np.int64), np.arange(18), position=np.arange(18), review=tuple(wrote)
    )
    texts = Texts(items, tuple(f"Thing {n}. A plain thing." for n in range(18)), Provenance("drawn"))
    facts = {"prompt": "said_step", "lm": "extractive", "window": 5, "step": 3, "most": 24}
    (notes,) = Comprehension.open(facts, texts, remarks=train).read([np.arange(18)], ["u"])
    assert [notes[n].text.lower().startswith(first) for n, first in ((0, "gifts"), (-1, "durability"))] == [True, True]


@pytest.mark.long
def test_a_model_that_read_remarks_is_kept_with_them(tmp_path: Any) -> None:
    made = shop.make(seed=3, shoppers=40, products=40, choices=8, pictures=False)
    part = leave_last_out(made.dataset.interactions)
    texts = made.dataset.catalog.texts()
    facts = {"prompt": "said_step", "lm": "extractive", "window": 3, "step": 2}
    notes = Comprehension.open(facts, texts, remarks=part.train)
    assert notes.remarks is not None
    model = MllmSrec(dim=16, layers=1, words=400, item_tokens=12, pairs=60)
    training = Training(
        epochs=1, batch_size=24, learning_rate=1e-3, validate_every=1, select="auc", among=6, device="cpu"
    )
    rec = model.fit(part.train, part.valid, training, summary=texts, notes=notes)
    write(rec, tmp_path / "model")
    again = read(tmp_path / "model")
    assert isinstance(rec.scorer, Judge)
    assert isinstance(again.scorer, Judge)
    queries = part.queries("valid", ("train",))
    candidates = np.tile(np.arange(10), (len(queries), 1))
    mine, kept = rec.scorer.rate(queries, candidates), again.scorer.rate(queries, candidates)
    np.testing.assert_allclose(kept, mine, atol=1e-5)
    anybody = replace(queries, users=np.full_like(queries.users, -1))
    assert not np.allclose(again.scorer.rate(anybody, candidates), mine, atol=1e-5)


@pytest.mark.parametrize("context", [1100, 1200, 1400, 1800])
def test_a_block_with_long_reviews_fits_into_a_short_context(context: int, tmp_path: Any) -> None:
    ids = Ids("item", tuple(f"i{n}" for n in range(6)))
    words = " ".join(["matters"] * 400)
    catalog = Catalog(ids, {"title": tuple(f"Thing {n}. {words}" for n in range(6))}, Pictures.none(ids))
    users = Ids("user", ("u",))
    train = Interactions(
        users,
        ids,
        np.zeros(6, np.int64),
        np.arange(6),
        position=np.arange(6),
        value=np.full(6, 4.5, np.float32),
        review=(words,) * 6,
    )
    lm = Toy(context=context)
    texts = enrich.run("said_step", train, catalog, lm, Store(tmp_path))
    assert texts.present.all()
    made = prompts.read("said_step")
    for request in lm.heard:
        assert tokens.count(request.system) + tokens.count(request.user) + made.max_tokens <= context
        assert request.user.count("rating: 4.5/4.5") == request.user.count("review: ")
