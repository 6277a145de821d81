"""Parts of the service without a server: filters, lists, the index, batches, and growing a data set."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant import exported, shop, topk
from penchant.attributes import common_words, shared, spread_in
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions, Queries
from penchant.errors import UnknownKey
from penchant.model import Recommender
from penchant.refresh import grown
from penchant.scorers import Factors, ItemToItem
from penchant.serve import lists
from penchant.serve.gather import ALONE, Gather
from penchant.serve.listing import Listing
from penchant.serve.lists import Wish
from penchant.serve.nearby import Nearby
from penchant.serve.records import Event, Kept, veiled
from penchant.serve.sieve import Later, Sieve
from penchant.serve.wire import Between

NONE = np.zeros(0, np.int64)
words = st.sampled_from(["Red", "red", "blue", "Blue, red", "red|green", "", None])
numbers = st.sampled_from([None, -1.0, 0.0, 2.5, 7.0])


def factors(people: int, items: int, dim: int, seed: int = 0) -> Recommender:
    rng = np.random.default_rng(seed)
    item = rng.normal(size=(items, dim)).astype(np.float32)
    scorer = Factors(rng.normal(size=(people, dim)).astype(np.float32), item, np.zeros(items, np.float32), item)
    users, goods = Ids("user", tuple(f"u{n}" for n in range(people))), Ids("item", tuple(f"i{n}" for n in range(items)))
    known = Queries.of(np.arange(people), [rng.choice(items, 3, replace=False) for _ in range(people)])
    return Recommender("bpr", {}, users, goods, scorer, known)


# filters


@given(st.lists(st.tuples(words, words, numbers), min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_a_filter_lets_through_what_a_plain_loop_would(
    rows: list[tuple[str | None, str | None, float | None]], data: st.DataObject
) -> None:
    """Also after items were put, new ones and again."""
    first = data.draw(st.integers(1, len(rows)))
    ids = Ids("item", tuple(map(str, range(first))))
    fields = {"categories": tuple(r[0] for r in rows[:first]), "brand": tuple(r[1] for r in rows[:first])}
    sieve = Sieve(
        Catalog(ids, fields, Pictures.none(ids), {"price": pl.Series([r[2] for r in rows[:first]], dtype=pl.Float64)})
    )
    if data.draw(st.booleans()):
        sieve.mask({"brand": "red", "categories": "red"}, first)  # the index is there before anything is put
    now = list(rows)
    for row in range(first, len(rows)):
        sieve.put(row, {"categories": rows[row][0], "brand": rows[row][1]}, {"price": rows[row][2]})
    again = data.draw(st.integers(0, len(rows) - 1))
    now[again] = (data.draw(words), data.draw(words), data.draw(numbers))
    sieve.put(again, {"categories": now[again][0], "brand": now[again][1]}, {"price": now[again][2]})
    category, brand = (
        data.draw(st.sampled_from(["RED", "blue", "green", "x"])),
        data.draw(st.sampled_from([["red", "blue"], ["x"]])),
    )
    low = data.draw(st.sampled_from([None, 0.0, 3.0]))
    found = sieve.mask({"categories": category, "brand": brand, "price": Between(min=low, max=6)}, len(now))

    def through(row: tuple[str | None, str | None, float | None]) -> bool:
        own = [part.strip().casefold() for part in (row[0] or "").replace("|", ",").split(",")]
        fits = (row[1] or "").casefold() in brand and row[2] is not None and row[2] <= 6
        return category.casefold() in own and fits and (low is None or (row[2] or 0) >= low)

    assert found is not None
    assert found.tolist() == [through(row) for row in now]


def test_who_may_not_wait_is_told_so_until_a_filter_is_ready() -> None:
    ids = Ids("item", tuple(f"i{n}" for n in range(300)))
    sieve = Sieve(Catalog(ids, {"brand": tuple("ab"[n % 2] for n in range(300))}, Pictures.none(ids)))
    with pytest.raises(Later):
        sieve.mask({"brand": "a"}, 300, wait=False)
    found = sieve.mask({"brand": "a"}, 300)
    assert found is not None
    assert found.sum() == 150
    assert np.array_equal(sieve.mask({"brand": "a"}, 300, wait=False), found)
    other = sieve.mask({"brand": "b"}, 300, wait=False)
    assert other is not None
    assert (other == ~found).all()
    with sieve._lock, pytest.raises(Later):  # while an item is put
        sieve.mask({"brand": "a"}, 300, wait=False)


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    ids = Ids("item", ("a",))
    sieve = Sieve(Catalog(ids, {"brand": ("x",)}, Pictures.none(ids)))
    with pytest.raises(UnknownKey, match=r"`brnad`.*Did you mean `brand`"):
        sieve.mask({"brnad": "x"}, 1)


# lists


@given(st.integers(1, 700), st.integers(1, 40), st.integers(0, 3), st.booleans())
@settings(max_examples=80, deadline=None)
def test_one_row_is_cut_as_many_are(items: int, k: int, seed: int, flat: bool) -> None:
    rng = np.random.default_rng(items)
    score = rng.integers(0, 3 if flat else 10**6, (1, items)).astype(np.float32)
    score[0, rng.random(items) < 0.2] = -np.inf
    queries = Queries.of([0], [NONE])

    class Given:
        def score(self, queries: Queries) -> np.ndarray:
            return np.where(np.isfinite(score), score, 0)

    only = np.isfinite(score[0])
    whole, values = topk.top(Given(), queries, min(k, items), only=only, seed=seed)
    best, value = topk.best(score[0].copy(), min(k, items), topk.who(queries)[0], seed)
    assert best.tolist() == whole[0][whole[0] >= 0].tolist()
    assert value.tolist() == values[0][whole[0] >= 0].tolist()


def test_nothing_banned_is_listed_and_the_next_best_follow() -> None:
    rec = factors(1, 500, 8)
    queries = rec.ask(["u0"])
    score = rec.score(queries)[0]
    order = np.argsort(-score, kind="stable")
    only = np.ones(500, bool)
    only[order[5]] = False
    found, value = lists.picked(rec, score.copy(), queries, Wish(6, order[:3], only))
    assert found.tolist() == [order[n] for n in (3, 4, 6, 7, 8, 9)]
    assert np.allclose(value, score[found])


def test_a_diverse_list_is_less_alike_and_a_plain_one_is_the_best() -> None:
    rec = factors(1, 400, 4)
    queries = rec.ask(["u0"])
    item = rec.scorer.item / np.linalg.norm(rec.scorer.item, axis=1, keepdims=True)  # type: ignore[attr-defined]

    def alike(diversity: float) -> float:
        found, _ = lists.picked(rec, rec.score(queries)[0].copy(), queries, Wish(10, NONE, diversity=diversity))
        assert len(set(found.tolist())) == 10
        return float((item[found] @ item[found].T).mean())

    assert alike(0.0) > alike(0.5) > alike(0.9)


def test_a_cap_holds_even_where_the_best_are_all_of_one_category() -> None:
    rec = factors(1, 3_000, 4)
    queries = rec.ask(["u0"])
    score = rec.score(queries)[0]
    categories = [("most",)] * 3_000
    for row in np.argsort(score)[:2].tolist():  # the two worst are the only others
        categories[row] = ("rare",)
    found, _ = lists.picked(rec, score.copy(), queries, Wish(4, NONE, per_category=2), categories.__getitem__)
    assert [categories[row][0] for row in found] == ["most", "most", "rare", "rare"]


def test_asked_together_or_alone_makes_no_difference() -> None:
    rec = factors(20, 300, 8)
    queries = [rec.ask([f"u{n}"]) for n in range(20)] + [Queries.of([-1], [[3, 5]])]
    together = lists.scored(rec, queries)
    for query, row in zip(queries, together, strict=True):
        assert np.allclose(lists.scored(rec, [query])[0], row, atol=1e-5)


# the index


def test_the_index_finds_what_an_exact_pass_finds() -> None:
    pytest.importorskip("faiss", reason="FAISS IS NOT INSTALLED: THE INDEX IS NOT TESTED (pip install 'penchant[ann]')")
    rec = factors(50, 60_000, 32)
    nearby = Nearby.of(rec, 10_000)
    assert nearby is not None
    assert nearby.fits(rec)
    hits = 0
    for user in range(50):
        queries = rec.ask([f"u{user}"])
        banned = topk.best(rec.score(queries)[0], 5, np.uint64(0))[0]
        found = nearby.best(rec, queries, Wish(20, banned))
        assert found is not None
        exact, _value = lists.picked(rec, rec.score(queries)[0].copy(), queries, Wish(20, banned))
        assert not set(found[0].tolist()) & set(banned.tolist())
        assert np.allclose(found[1], (rec.scorer.item[found[0]] @ rec.scorer.user[user]), atol=1e-3)  # type: ignore[attr-defined]
        hits += len(set(found[0].tolist()) & set(exact.tolist()))
    assert hits / (50 * 20) >= 0.98
    only = np.zeros(60_000, bool)
    only[:100] = True
    assert nearby.best(rec, rec.ask(["u0"]), Wish(20, NONE, only)) is None  # so few are looked at one by one


def test_the_index_is_asked_only_for_what_it_can_answer() -> None:
    pytest.importorskip("faiss", reason="FAISS IS NOT INSTALLED: THE INDEX IS NOT TESTED (pip install 'penchant[ann]')")
    nearby = Nearby.of(factors(2, 20_000, 16), 10_000)
    assert nearby is not None
    half, few = np.zeros(20_000, bool), np.zeros(20_000, bool)
    half[::2], few[:5_000] = True, True
    plain = nearby.reach(Wish(20, NONE))
    assert 20 <= plain < 5_000
    assert nearby.reach(Wish(20, NONE, half)) == 2 * plain  # as many are left when half is taken away
    assert nearby.reach(Wish(20, np.arange(100))) == plain + 200
    for wish in (Wish(20, NONE, few), Wish(1_000, NONE), Wish(20, NONE, diversity=0.5), Wish(20, NONE, per_category=1)):
        assert nearby.reach(wish) == 0


def test_who_asks_alone_is_answered_at_once_and_nobody_is_kept_waiting_by_others() -> None:
    """The loop itself answers one quick request; several, or a long one, are answered beside, each with its own."""
    answered_in: list[int] = []

    def many(jobs: Any) -> list[Listing]:
        answered_in.append(threading.get_ident())
        return [Listing(None, "bpr", True, f"list of {job}", [], []) for job in jobs]

    async def ask(*costs: int) -> list[Listing]:
        gather: Any = Gather(many, int)  # a job is what it costs
        try:
            return await asyncio.gather(*(gather.ask(cost) for cost in costs))
        finally:
            gather.close()

    here = threading.get_ident()
    for costs, at_once in (((ALONE,), True), ((ALONE, 1), False), ((ALONE + 1,), False), ((1, 2, 3), True)):
        answered_in.clear()
        assert [found.note for found in asyncio.run(ask(*costs))] == [f"list of {cost}" for cost in costs]
        assert all((who == here) is at_once for who in answered_in), costs


def test_an_item_that_came_after_the_index_is_found() -> None:
    pytest.importorskip("faiss", reason="FAISS IS NOT INSTALLED: THE INDEX IS NOT TESTED (pip install 'penchant[ann]')")
    rec = factors(2, 20_000, 16)
    nearby = Nearby.of(rec, 10_000)
    assert nearby is not None
    assert isinstance(rec.scorer, Factors)
    new = np.concatenate([rec.scorer.item, 9 * rec.scorer.user[:1]])
    more = replace(
        rec,
        items=Ids("item", (*rec.items.keys, "new")),
        scorer=replace(rec.scorer, item=new, bias=np.zeros(20_001, np.float32), fold=new),
    )
    found = nearby.best(more, more.ask(["u0"]), Wish(3, NONE))
    assert found is not None
    assert found[0][0] == 20_000


def test_a_part_of_a_catalogue_tells_what_the_whole_does() -> None:
    catalog = shop.make(products=60, shoppers=40, choices=6).dataset.catalog
    keys = catalog.items.keys
    for item, other in itertools.product(keys[:12], keys[30:40]):
        rows = [catalog.items.rows_by_key[key] for key in (other, item)]
        ids = Ids("item", (other, item))
        part = Catalog(ids, {n: tuple(c[r] for r in rows) for n, c in catalog.fields.items()}, Pictures.none(ids))
        assert shared(part, item, other, within=catalog) == shared(catalog, item, other)
        assert common_words(part, item, (other,), within=catalog) == common_words(catalog, item, (other,))


def test_how_common_a_word_is_in_a_large_catalogue_is_told_by_a_part_of_it() -> None:
    ids = Ids("item", tuple(f"i{n}" for n in range(90_000)))
    titles = tuple(
        f"{'waterproof' if n % 10 < 3 else 'woollen'} {'tent' if n % 50 == 0 else 'thing'}" for n in range(90_000)
    )
    spread = spread_in(Catalog(ids, {"title": titles}, Pictures.none(ids)))
    assert spread.items == 90_000
    assert spread.words["waterproof"] == pytest.approx(27_000, rel=0.2)
    assert spread.words["tent"] == pytest.approx(1_800, rel=0.2)


# everybody


def test_the_table_of_everybody_is_what_each_is_recommended() -> None:
    rec = factors(90, 400, 8)
    seen = rec.known.matrix(400)
    table = exported.lists(rec, rec.users, rec.known, seen, np.array([7]), 5)
    masked = replace(rec, known=Queries.of(np.arange(90), [np.append(h, 7) for h in rec.known.history]))
    for user, found in zip(rec.users.keys, masked.recommend(rec.users.keys, 5), strict=True):
        mine = table.filter(pl.col("user_id") == user)
        assert tuple(mine["item_id"]) == found.items
        assert mine["rank"].to_list() == [1, 2, 3, 4, 5]
        assert mine["personal"].all()


def test_someone_without_a_history_gets_popular_items_and_it_is_said() -> None:
    weights = np.eye(4, dtype=np.float32)[::-1].copy()
    known = Queries.of([0, 1], [NONE, [2, 3]])
    rec = Recommender("ease", {}, Ids("user", ("new", "old")), Ids("item", tuple("abcd")), ItemToItem(weights), known)
    table = exported.lists(rec, rec.users, known, known.matrix(4), NONE, 2)
    assert table.filter(pl.col("user_id") == "new")["personal"].to_list() == [False, False]
    assert set(table.filter(pl.col("user_id") == "new")["item_id"]) == {"c", "d"}
    assert table.filter(pl.col("user_id") == "old")["personal"].all()


def test_a_table_is_written_whole_or_refused(tmp_path: Path) -> None:
    table = pl.DataFrame({"user_id": ["a"], "item_id": ["b"]})
    exported.write(table, tmp_path / "x.csv")
    assert pl.read_csv(tmp_path / "x.csv").equals(table)
    with pytest.raises(Exception, match=r"\.csv or \.parquet"):
        exported.write(table, tmp_path / "x.xlsx")


# what came since, in the data


def test_a_data_set_grows_by_choices_and_items_and_without_the_forgotten() -> None:
    data = shop.make(products=48, shoppers=60, choices=6).dataset
    lost, stays = data.users.keys[0], data.users.keys[1]
    item = data.items.keys[int(data.interactions.item[0])]
    kept = Kept("new-item", {"title": "A new thing"}, {"weight": 2.5}, None, {})
    events = [
        Event("somebody", "new-item", 2e9),
        Event("somebody", "new-item", 2e9 + 1),
        Event(stays, "nowhere", 2e9),
        Event(lost, item, 2e9 + 2),
    ]
    more = grown(data, events, [kept], frozenset({veiled(lost)}))
    pairs = _pairs(more.interactions)
    assert ("somebody", "new-item") in pairs
    assert (lost, item) in pairs
    assert [pair for pair in pairs if pair[0] == lost] == [(lost, item)]
    assert {p for p in _pairs(data.interactions) if p[0] != lost} <= set(pairs)
    assert len(pairs) == len(set(pairs))
    assert not any(pair[1] == "nowhere" for pair in pairs)
    assert more.catalog.title(more.catalog.items.rows_by_key["new-item"]) == "A new thing"
    assert more.catalog.numbers["weight"].to_list() == [None] * len(data.items) + [2.5]  # a column that nobody had
    assert all(part.ids == more.items for part in more.features.values() if part.ids.kind == "item")
    assert more.catalog.items.keys[: len(data.items)] == data.catalog.items.keys


def _pairs(interactions: Interactions) -> list[tuple[str, str]]:
    users, items = interactions.users.keys, interactions.items.keys
    return [(users[u], items[i]) for u, i in zip(interactions.user.tolist(), interactions.item.tolist(), strict=True)]
