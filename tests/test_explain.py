"""Reasons: what they name is in the history, what they weigh is in the score, and taking it away shows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import NEVER, NOBODY, World, checkerboard, random_split, worded

from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Queries
from penchant.errors import UnknownId
from penchant.model import Model, Recommender
from penchant.models.bpr import Bpr
from penchant.models.ease import Ease
from penchant.models.item_knn import ItemKnn
from penchant.models.lightgcn import LightGcn
from penchant.models.popular import Popular
from penchant.reasons import Evidence, Moved, _sentence, explain
from penchant.training import Training

TRAINING = Training(epochs=25, batch_size=64, learning_rate=0.03, device="cpu")
PERSONAL: list[Model] = [Ease(l2=5.0), ItemKnn(shrink=1.0), Bpr(dim=16), LightGcn(dim=16, layers=2)]
FITTED: dict[str, Recommender] = {}
each = pytest.mark.parametrize("model", PERSONAL, ids=lambda m: m.name)


def fitted(model: Model) -> Recommender:
    if model.name not in FITTED:
        FITTED[model.name] = model.fit(checkerboard().train, training=TRAINING)
    return FITTED[model.name]


def keys(rec: Recommender, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(rec.items.keys[i] for i in rows)


def stranger_score(rec: Recommender, history: tuple[str, ...], item: str) -> float:
    query = Queries.of([-1], [rec.items.rows(history)])
    return float(rec.score(query)[0, rec.items.row(item)])


@given(st.integers(0, 10**6))
def test_for_a_linear_model_the_weights_add_up_to_the_score(seed: int) -> None:
    """Named one by one, with those that speak against it, they are the whole score."""
    train = random_split(seed, users=12, items=14).train
    rec = Ease(l2=1.0).fit(train)
    rng = np.random.default_rng(seed)
    history = rng.permutation(14)[: rng.integers(1, 9)]
    item = int(rng.integers(14))
    carried = rec.scorer.carried(-1, history, item)
    score = stranger_score(rec, keys(rec, history), rec.items.keys[item])
    assert carried.sum() == pytest.approx(score, abs=1e-5)
    reason = explain(rec, "new", rec.items.keys[item], history=keys(rec, history), most=99)
    others = history != item
    for_it = carried[others & (carried > 0)]
    named = {e.item_id: e.weight for e in reason.evidence}
    assert named == pytest.approx(
        {rec.items.keys[h]: w for h, w in zip(history, carried, strict=True) if w > 0 and h != item}
    )
    assert sum(named.values()) + carried[carried < 0].sum() == pytest.approx(score, abs=1e-5)
    if len(for_it):
        assert reason.exact
        assert reason.share == pytest.approx(1.0)
        short = explain(rec, "new", rec.items.keys[item], history=keys(rec, history), most=1)
        assert short.share == pytest.approx(for_it.max() / for_it.sum())
        assert short.evidence == reason.evidence[:1]


@each
def test_evidence_is_of_the_history_and_the_strongest_comes_first(model: Model) -> None:
    rec, world = fitted(model), checkerboard()
    for user, (listed, rows) in enumerate(
        zip(rec.recommend(rec.users.keys[:12], 3), rec.known.history[:12], strict=True)
    ):
        mine = set(keys(rec, rows))
        for item in listed.items:
            reason = explain(rec, rec.users.keys[user], item, worded(world), most=3)
            named = [e.item_id for e in reason.evidence]
            assert named
            assert set(named) <= mine
            assert len(set(named)) == len(named)
            weights = [e.weight for e in reason.evidence]
            assert weights == sorted(weights, reverse=True)
            assert min(weights) > 0
            assert 0 < reason.share <= 1 + 1e-6


@each
def test_the_sentence_names_the_evidence_and_no_other_title(model: Model) -> None:
    rec, catalog = fitted(model), worded(checkerboard())
    titles = [catalog.title(i) for i in range(len(catalog.items))]
    assert len(set(titles)) == len(titles)
    for user, listed in zip(rec.users.keys[:12], rec.recommend(rec.users.keys[:12], 2), strict=True):
        for item in listed.items:
            reason = explain(rec, user, item, catalog)
            said = re.findall("“(.*?)”", reason.sentence)
            assert said == [e.title for e in reason.evidence]
            absent = set(titles) - set(said)
            assert not [t for t in absent if re.search(rf"\b{t}\b", reason.sentence)]
            of = dict(zip(titles, catalog.items.keys, strict=True))
            assert [of[t] for t in said] == [e.item_id for e in reason.evidence]


@each
def test_without_the_evidence_the_score_falls_most(model: Model) -> None:
    """Deleting what is named hurts the item more than deleting what says least, for nearly every stranger."""
    rec, world = fitted(model), checkerboard()
    rng = np.random.default_rng(0)
    better = 0
    trials = 40
    for _ in range(trials):
        g = int(rng.integers(4))
        own = rng.permutation(np.flatnonzero(world.item_group[:-1] == g))
        other = rng.permutation(np.flatnonzero(world.item_group[:-1] == (g + 1) % 4))
        history, item = keys(rec, np.concatenate([own[:4], other[:1]])), rec.items.keys[own[5]]
        reason = explain(rec, "new", item, history=history, most=5)
        carried = rec.scorer.carried(-1, rec.items.rows(history), rec.items.row(item))
        strongest, least = reason.evidence[0].item_id, history[int(np.argmin(carried))]
        assert strongest == history[int(np.argmax(carried))]

        def after(gone: str, history: tuple[str, ...] = history, item: str = item) -> float:
            return stranger_score(rec, tuple(h for h in history if h != gone), item)

        better += after(strongest) < after(least)
    assert better == trials


def test_evidence_is_of_the_same_group_in_a_world_of_groups() -> None:
    """Only choices of the item's own kind can have put it in the list."""
    world, rec = checkerboard(), fitted(PERSONAL[0])
    for user in rec.users.keys[:8]:
        item = rec.recommend([user], 1)[0].items[0]
        mixed = (*keys(rec, rec.known.history[rec.users.row(user)]), *rec.items.keys[:4])
        for history in (None, tuple(k for k in mixed if k != item)):
            reason = explain(rec, user, item, history=history)
            group = world.item_group[rec.items.row(item)]
            assert {world.item_group[rec.items.row(e.item_id)] for e in reason.evidence} == {group}


def shelf(texts: dict[str, str], ids: Ids) -> Catalog:
    titles = tuple(texts.get(k, f"filler {k[-3:]}") for k in ids.keys)
    return Catalog(ids, {"title": titles}, Pictures.none(ids))


def test_shared_words_are_in_both_texts_and_say_something() -> None:
    rec = fitted(PERSONAL[0])
    user = rec.users.keys[0]
    item = rec.recommend([user], 1)[0].items[0]
    first = explain(rec, user, item).evidence[0].item_id
    unseen = next(k for k in rec.items.keys if k not in keys(rec, rec.known.history[0]) and k != item)
    texts = {item: "The Copper kettle with a whistle, for TEA", first: "copper lamp and the tea set", unseen: "whistle"}
    reason = explain(rec, user, item, shelf(texts, rec.items))
    assert set(reason.words) == {"copper", "tea"}, (
        "not `the`, `and`: empty; not `whistle`: of an item she did not choose"
    )
    assert all(re.search(rf"\b{w}\b", texts[k].lower()) for w in reason.words for k in (item, first))
    assert "Shared words: copper, tea" in reason.sentence
    everywhere = {k: f"copper thing {k}" for k in rec.items.keys}
    assert explain(rec, user, item, shelf(everywhere, rec.items)).words == (), "a word that everything has says nothing"
    assert "Shared" not in explain(rec, user, item, shelf({}, rec.items)).sentence


def test_a_reason_without_a_catalogue_speaks_in_ids() -> None:
    rec = fitted(PERSONAL[0])
    user = rec.users.keys[2]
    reason = explain(rec, user, rec.recommend([user], 1)[0].items[0])
    assert all(f"“{e.item_id}”" in reason.sentence for e in reason.evidence)
    assert reason.words == ()
    other = Catalog(Ids("item", ("elsewhere",)), {"title": ("A thing",)}, Pictures.none(Ids("item", ("elsewhere",))))
    assert explain(rec, user, reason.item_id, other).evidence == reason.evidence


def test_where_there_is_no_reason_none_is_made_up(world: World) -> None:
    rec, popular = fitted(PERSONAL[0]), Popular().fit(world.train)
    assert "popular" not in explain(rec, "user-000", "item-000").sentence
    item = "item-001"
    count = int((world.train.item == 1).sum())
    for reason in (
        explain(rec, NOBODY, item),
        explain(rec, "new", item, history=()),
        explain(popular, "user-000", item),
    ):
        assert reason.evidence == ()
        assert f"{count} people" in reason.sentence
        assert not reason.exact
    alone = explain(rec, "new", NEVER, history=("item-000", "item-001"))
    assert alone.evidence == ()
    assert "Because" not in alone.sentence
    for model in PERSONAL:
        itself = explain(fitted(model), "new", "item-005", history=("item-005", "item-009"), most=9)
        assert "item-005" not in [e.item_id for e in itself.evidence], "an item is no reason for itself"


def test_a_choice_named_twice_counts_once() -> None:
    rec = fitted(PERSONAL[0])
    once = explain(rec, "new", "item-004", history=("item-000", "item-008", "item-012"))
    twice = explain(rec, "new", "item-004", history=("item-000", "item-008", "item-012", "item-008"))
    assert once == twice


def test_an_unknown_user_or_item_is_named() -> None:
    rec = fitted(PERSONAL[0])
    for user, item, history in (
        ("usr-001", "item-001", None),
        ("user-001", "itm-001", None),
        ("new", "item-001", ("itm-001",)),
    ):
        with pytest.raises(UnknownId, match="Did you mean"):
            explain(rec, user, item, history=history)


@each
def test_of_an_item_that_was_chosen_it_is_said(model: Model) -> None:
    """With others beside it, and when it is all that was chosen."""
    rec = fitted(model)
    history = keys(rec, checkerboard().train.matrix()[0].indices)[:3]
    for known in (history, history[:1]):
        assert explain(rec, "new", history[0], history=known).sentence.startswith("You chose this one already.")
    other = next(key for key in rec.items.keys if key not in history)
    assert "already" not in explain(rec, "new", other, history=history).sentence


@pytest.mark.parametrize(
    ("of", "said"), [(1, ", as far as one choice tells."), (3, ", as far as 3 choices tell."), (4, "than most. ")]
)
def test_motives_of_few_choices_are_said_to_rest_on_few(of: int, said: str) -> None:
    assert said in _sentence((Evidence("a", "A", 1.0),), (), None, of, (Moved(("price: cheap",), 2.0, 1.0),))


def test_a_sentence_lists_its_titles_and_cuts_very_long_ones() -> None:
    titles = ["Kettle", "Mug", "A pot " * 400]
    evidence = tuple(Evidence(f"p{n}", title, 1.0) for n, title in enumerate(titles))
    said = _sentence(evidence, (), 0.5, 9, ())
    assert said.startswith("Because you chose “Kettle”, “Mug” and “A pot A pot")
    assert len(said) < 250
    assert said.count("…") == 1
    assert _sentence(evidence[:2], (), 0.5, 9, ()).startswith("Because you chose “Kettle” and “Mug”: 50%")
    assert _sentence(evidence[:1], (), 0.5, 9, ()).startswith("Because you chose “Kettle”: 50%")
