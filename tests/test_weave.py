"""Weave: every strand against a literal twin in double precision, the choice of weights, and what it is good for."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from worlds import checkerboard, interactions, keys, random_split

from penchant import metrics, topk, woven
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadSetting, UnknownKey
from penchant.features import Features, whitened
from penchant.fibres import Fibres
from penchant.models import weave
from penchant.models.ease import Ease
from penchant.models.lightgcn import LightGcn
from penchant.models.weave import Weave
from penchant.ranking import Task, evaluate
from penchant.scorers import ItemToItem
from penchant.split import Split
from penchant.strands import Strands, ease, largest, taken
from penchant.texts import Provenance
from penchant.training import Training
from penchant.woven import Rivals, chosen, rivals

L2, ALPHA = (2.0, 30.0), 1.5
ITEMS = 44
GATES = ((0.25, 0.5), (0.5, 0.0))
WALKS = [(steps, a, o) for steps in (1, 2, 3) for a, o in GATES]


@cache
def small() -> Split:
    """Irregular on purpose: the last two users and the last two items are without any choice in train."""
    whole = random_split(5, users=90, items=ITEMS, most=14)
    train = whole.train.take((whole.train.user < 88) & (whole.train.item < ITEMS - 2))
    return replace(whole, train=train)


def drawn(ids: Ids, gaps: tuple[int, ...] = (0, 7), dim: int = 5, seed: int = 0) -> Features:
    """Rows of various lengths around a mean that is not zero, on axes of various spread."""
    values = np.random.default_rng(seed).normal(size=(len(ids), dim)) * np.arange(1, dim + 1) + 2
    return Features(ids, values, ~np.isin(np.arange(len(ids)), gaps), Provenance("drawn"))


@cache
def strands() -> Strands:
    items = small().items
    return Strands(small().train, {"words": drawn(items), "image": drawn(items, (3,), 4, 1)}, L2, ALPHA)


def table(name: str) -> np.ndarray:
    """The matrix B of one strand."""
    return strands().woven({each: float(each == name) for each in strands().names}).astype(np.float64)


# --- the twin ---------------------------------------------------------------------------------------------------------


def matrix() -> np.ndarray:
    """X, choice by choice. (U, I)"""
    train = small().train
    x = np.zeros((len(train.users), len(train.items)))
    for u, i in zip(train.user, train.item, strict=True):
        x[u, i] = 1
    return x


def left_out(x: np.ndarray, l2: float) -> np.ndarray:
    """EASE as it is meant: each item is regressed on all others, one after the other. (I, I)"""
    b = np.zeros((x.shape[1], x.shape[1]))
    for j in range(x.shape[1]):
        others = np.arange(x.shape[1]) != j
        a = x[:, others]
        b[others, j] = np.linalg.solve(a.T @ a + l2 * np.eye(a.shape[1]), a.T @ x[:, j])
    return b


def step() -> np.ndarray:
    """The chance to come from item i, by someone who chose it, to item j that she chose. (I, I)"""
    x, found = matrix(), np.zeros((ITEMS, ITEMS))
    for i in range(ITEMS):
        for u in np.flatnonzero(x[:, i]):
            found[i] += x[u] / x[u].sum() / x[:, i].sum()
    return found


def gates(exponent: float) -> np.ndarray:
    """The number of choices of each item to a power, 0 where there is none. (I,)"""
    return np.array([n**exponent if n else 0.0 for n in matrix().sum(axis=0)])


def unit_rows(features: Features) -> np.ndarray:
    told = np.flatnonzero(features.present)
    mean, rows = np.mean([features.values[i] for i in told], axis=0, dtype=float), np.zeros(features.values.shape)
    for i in told:
        rows[i] = (features.values[i] - mean) / np.linalg.norm(features.values[i] - mean)
    return rows


# --- strands ----------------------------------------------------------------------------------------------------------


def test_the_small_world_has_all_that_can_go_wrong() -> None:
    x = matrix()
    assert (x.sum(axis=1) == 0).sum() >= 2
    assert (x.sum(axis=0) == 0).sum() == 2
    assert len(np.unique(x.sum(axis=0))) > 5


@pytest.mark.parametrize("l2", L2)
def test_ease_is_the_regression_of_each_item_on_all_others_and_the_model_of_that_name(l2: float) -> None:
    x, found = matrix(), table(f"ease {l2:g}")
    p = np.linalg.inv(x.T @ x + l2 * np.eye(ITEMS))
    expected = np.where(np.eye(ITEMS), 0, -p / np.diag(p))
    assert found == pytest.approx(expected, abs=1e-5)
    assert found == pytest.approx(left_out(x, l2), abs=1e-5)
    rec = Ease(l2=l2).fit(small().train)
    assert x @ found == pytest.approx(rec.score(rec.known), abs=1e-5)
    assert np.abs(expected).max() > 0.03


def test_ease_with_features_has_them_as_more_people_and_the_first_l2() -> None:
    items = small().items
    f = np.hstack([unit_rows(drawn(items)), unit_rows(drawn(items, (3,), 4, 1))])
    expected = left_out(np.vstack([matrix(), ALPHA * f.T]), L2[0])
    found = table("ease features")
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(found - table("ease 2")).max() > 0.1
    rec = Ease(l2=L2[0], alpha=ALPHA).fit(small().train, words=drawn(items), image=drawn(items, (3,), 4, 1))
    assert matrix() @ found == pytest.approx(rec.score(rec.known), abs=1e-4)
    assert np.abs(found[:, ITEMS - 2 :]).max() > 0.01, "what nobody chose is found by its features"


def test_ease_even_counts_everybody_as_one() -> None:
    x = matrix()
    even = x / np.sqrt(np.maximum(x.sum(axis=1, keepdims=True), 1))
    expected = left_out(even, 100 * np.square(even).sum() / ITEMS)
    assert table("ease even") == pytest.approx(expected, abs=1e-7)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(("steps", "a", "o"), WALKS)
def test_walks_are_steps_that_never_go_back_to_where_they_start(steps: int, a: float, o: float) -> None:
    forth = step()
    np.fill_diagonal(forth, 0)
    expected = gates(0.5 - a)[:, None] * np.linalg.matrix_power(forth, steps) * gates(o - 0.5)
    found = table(f"walk {steps} ({a:g}, {o:g})")
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.max() > 1e-3
    assert steps > 1 or not found.diagonal().any()


@pytest.mark.parametrize("steps", [2, 4])
def test_walks_that_may_stay_are_chances(steps: int) -> None:
    found = table(f"staying {steps}")
    assert found == pytest.approx(np.linalg.matrix_power(step(), steps), abs=1e-6)
    assert found.sum(axis=1) == pytest.approx((matrix().sum(axis=0) > 0).astype(float), abs=1e-5)
    assert found.min() >= 0
    assert found.diagonal()[: ITEMS - 2].min() > 0


def test_low_keeps_the_largest_singular_vectors_alone() -> None:
    x = matrix()
    each = np.maximum(x.sum(axis=1, keepdims=True), 1)
    _, s, v = np.linalg.svd(x / np.sqrt(each) * gates(-0.5))
    assert s[31] > 1.02 * s[32] > 0.05, "what is kept differs from what is not"
    expected = gates(-0.25)[:, None] * (v[:32].T @ v[:32]) * gates(0.5)
    assert table("low 32") == pytest.approx(expected, abs=2e-4)
    assert np.abs(expected).max() > 0.5
    assert [name for name in strands().names if name.startswith("low")] == ["low 32"], "no more than there are items"


def test_the_largest_eigenvectors_of_a_table_that_is_wider_than_the_search() -> None:
    x = (np.random.default_rng(0).random((500, 330)) < 0.05).astype(np.float32)
    x /= np.sqrt(np.maximum(x.sum(axis=1, keepdims=True), 1))
    x[:, :8] += 0.3 * (np.random.default_rng(1).random((500, 8)) < 0.3)
    s = x.T @ x
    found, _ = largest(lambda q: s @ q, len(s), 256)
    v = found.astype(np.float64)
    assert v.T @ v == pytest.approx(np.eye(256), abs=1e-4)
    values, axes = np.linalg.eigh(s.astype(np.float64))
    for r in (8, 32, 64, 128, 256):
        assert np.trace(v[:, :r].T @ s @ v[:, :r]) == pytest.approx(values[::-1][:r].sum(), rel=0.02)
    first = axes[:, :-9:-1]
    assert v[:, :8] @ v[:, :8].T == pytest.approx(first @ first.T, abs=1e-3)


def test_features_as_they_are_are_cosines_from_their_middle() -> None:
    for name, f in (("words", drawn(small().items)), ("image", drawn(small().items, (3,), 4, 1))):
        rows = unit_rows(f)
        found = table(f"{name} as is")
        assert found == pytest.approx(rows @ rows.T, abs=1e-5)
        assert found.diagonal() == pytest.approx(f.present.astype(float), abs=1e-5)


def test_features_whitened_are_the_product_by_the_shrunk_inverse() -> None:
    f = drawn(small().items)
    x = np.where(f.present[:, None], f.values - f.values[f.present].mean(axis=0), 0).astype(np.float64)
    c = np.cov(x[f.present].T, bias=True)
    expected = x @ np.linalg.inv(c + np.trace(c) / len(c) * np.eye(len(c))) @ x.T
    expected /= np.mean(expected.diagonal()[f.present])
    assert table("words") == pytest.approx(expected, abs=1e-5)


def test_whitening_shrinks_each_axis_by_its_spread_and_leaves_gaps_out() -> None:
    f = drawn(small().items, (0, 7, 43), 6, 4)
    w = whitened(f).astype(np.float64)
    spread = np.linalg.eigvalsh(np.cov(f.values[f.present].T.astype(np.float64), bias=True))
    kept = spread / (spread + spread.mean())
    assert np.linalg.eigvalsh(np.cov(w[f.present].T, bias=True)) == pytest.approx(kept / kept.sum(), abs=1e-5)
    assert 1.5 < kept[-1] / kept[0] < spread[-1] / spread[0] / 2, "axes are nearer to each other, and not the same"
    assert w[f.present].mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-6)
    assert np.square(w[f.present]).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
    assert not w[[0, 7, 43]].any()
    moved = replace(f, values=np.where(f.present[:, None], f.values + 1000 * np.eye(6)[0], 0))
    assert whitened(moved) @ whitened(moved).T == pytest.approx(w @ w.T, abs=2e-3)


def test_features_that_are_all_alike_say_nothing() -> None:
    same = replace(drawn(small().items), values=np.full((ITEMS, 5), 0.1))
    made = Strands(small().train, {"words": same}, L2, ALPHA)
    scores = dict(zip(made.names, made.scores(small().train.matrix()), strict=True))
    assert not scores["words"].any()
    assert not scores["words as is"].any()


def test_weights_of_more_items_than_a_block() -> None:
    n = 1100  # a block is 1024
    x = (np.random.default_rng(0).random((300, n)) < 0.01).astype(np.float64)
    gram = x.T @ x + 3 * np.eye(n)
    p = np.linalg.inv(gram)
    expected = np.where(np.eye(n), 0, -p / np.diag(p))
    for precise, off in ((True, 1e-6), (False, 1e-4)):
        found = ease(sparse.csr_matrix(x.T @ x), 3.0, precise=precise)
        assert np.abs(found - expected).max() < off


def test_scores_of_each_strand_are_those_of_its_matrix() -> None:
    asked = Queries.of([-1, -1, -1], [[], [1, 5, 9], [ITEMS - 1]]).matrix(ITEMS)
    for x in (small().train.matrix(), asked):
        found = strands().scores(x)
        assert found.shape == (len(strands().names), x.shape[0], ITEMS)
        for name, one in zip(strands().names, found, strict=True):
            assert one == pytest.approx(x @ table(name), abs=1e-5), name
            assert one.any(), name
    assert len(strands().names) == len(set(strands().names)) == len(L2) + 2 + 2 + len(WALKS) + 1 + 4


def test_woven_is_the_sum_of_strands_times_weights() -> None:
    rng = np.random.default_rng(0)
    weights = dict(zip(strands().names, rng.normal(size=len(strands().names)), strict=True))
    found = strands().woven(weights)
    expected = sum(w * table(name) for name, w in weights.items())
    assert found == pytest.approx(expected, abs=1e-4)
    other = dict(zip(strands().names, rng.normal(size=len(strands().names)), strict=True))
    both = strands().woven({name: 2 * weights[name] - 3 * other[name] for name in weights})
    assert both == pytest.approx(2 * found - 3 * strands().woven(other), abs=5e-4)
    assert not strands().woven(dict.fromkeys(strands().names, 0.0)).any()


def test_other_numbers_for_items_and_users_are_no_other_strands() -> None:
    train = small().train
    order, people = np.random.default_rng(3).permutation(ITEMS), np.random.default_rng(4).permutation(90)
    ids, place = Ids("item", tuple(train.items.keys[i] for i in order)), np.argsort(order)
    moved = Interactions(train.users, ids, people[train.user], place[train.item])
    given = {"words": drawn(train.items), "image": drawn(train.items, (3,), 4, 1)}
    turned = {name: Features(ids, f.values[order], f.present[order], f.source) for name, f in given.items()}
    other = Strands(moved, turned, L2, ALPHA)
    for name in strands().names:
        found = other.woven({each: float(each == name) for each in other.names})
        assert found == pytest.approx(table(name)[np.ix_(order, order)], abs=5e-4), name


# --- rivals -----------------------------------------------------------------------------------------------------------


def asked() -> np.ndarray:
    """Users with something in valid and something in train."""
    return np.intersect1d(small().valid.user, small().train.user)


def found_rivals(block: int = 256) -> Rivals:
    rows = asked()
    return rivals(strands(), small().train.matrix()[rows], small().valid.matrix()[rows], block)


def test_each_strands_best_compete_and_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(woven, "NEAR", 4)
    rows, found = asked(), found_rivals()
    x, s = matrix()[rows], strands().scores(small().train.matrix()[rows])
    raw = found.scores * found.scale[:, None, None]
    crowd = []
    for b in range(len(rows)):
        free = np.flatnonzero(x[b] == 0)
        nth, next_one = np.sort(s[:, b, free], axis=1)[:, [-4, -5]].T  # of each strand
        clear = nth > next_one  # where they tie, any of those that do may compete
        must = free[(s[:, b, free] >= np.where(clear, nth, np.nextafter(nth, np.inf))[:, None]).any(axis=0)]
        may = free[(s[:, b, free] >= nth[:, None]).any(axis=0)]
        live = raw[:, b, found.gap[b] == 0]
        competing = [int(np.abs(s[:, b] - one[:, None]).max(axis=0).argmin()) for one in live.T]
        assert s[:, b, competing] == pytest.approx(live, abs=1e-5), "they are scores of items"
        twins = {i for i in may for j in may if i != j and np.abs(s[:, b, i] - s[:, b, j]).max() < 1e-6}
        assert set(must.tolist()) - twins <= set(competing) <= set(may.tolist()) | twins
        assert len(must) <= live.shape[1] <= len(may)
        crowd.append(live.shape[1])
    assert max(crowd) == raw.shape[2]
    assert 4 < min(crowd) < max(crowd) < ITEMS - 5, "some compete, others do not"
    assert set(np.unique(found.gap)) == {0.0, np.float32(-1e9)}


def test_columns_point_at_what_was_held_out_and_the_scale_is_that_of_all_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(woven, "NEAR", 4)
    rows, found = asked(), found_rivals()
    held, s = small().valid.matrix()[rows], strands().scores(small().train.matrix()[rows])
    assert found.items == ITEMS
    assert found.scale == pytest.approx(s.reshape(len(s), -1).astype(np.float64).std(axis=1), rel=1e-3)
    pairs = list(zip(found.query.tolist(), found.column.tolist(), held.indices.tolist(), strict=True))
    assert sorted((q, i) for q, _, i in pairs) == sorted(zip(*(part.tolist() for part in held.nonzero()), strict=True))
    for q, column, item in pairs:
        if column >= 0:
            assert found.gap[q, column] == 0
            assert found.scores[:, q, column] * found.scale == pytest.approx(s[:, q, item], abs=1e-5)
        else:
            free = np.flatnonzero(matrix()[rows[q]] == 0)
            assert (s[:, q, item] <= np.sort(s[:, q, free], axis=1)[:, -4]).all(), "no strand has it among its best"
    assert 0.1 < np.mean([column >= 0 for _, column, _ in pairs]) < 0.95, "both occur"


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(woven, "NEAR", 6)
    one, many = found_rivals(), found_rivals(block=7)
    assert len(one.gap) > 3 * 7
    for name in ("gap", "query", "column", "items"):
        assert np.array_equal(getattr(one, name), getattr(many, name)), name
    assert one.scale == pytest.approx(many.scale, rel=1e-5)
    live = one.gap == 0
    assert one.scores[:, live] == pytest.approx(many.scores[:, live], abs=1e-4)


# --- the metric that weights are chosen by ----------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["ndcg@20", "recall@5", "mrr", "map@10"])
def test_where_all_compete_the_value_is_that_of_a_test(select: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(woven, "NEAR", 1000)
    found, rows = found_rivals(), asked()
    queries = small().queries("valid", ("train",), rows)
    held, mask = small().valid.matrix()[rows], small().train.matrix()[rows]
    values = []
    for seed in range(4):
        w = np.random.default_rng(seed).normal(size=len(found.scores))
        weights = dict(zip(strands().names, w / found.scale, strict=True))
        ranks = topk.ranks(ItemToItem(strands().woven(weights)), queries, held, mask)
        expected = metrics.per_user([select], ranks.query, ranks.rank, len(rows), ranks.candidates)[select].mean()
        mixed = np.tensordot(w.astype(np.float32), found.scores, 1) + found.gap
        values.append(woven.value(found, mixed, select))
        assert values[-1] == pytest.approx(expected, abs=1e-9)
    assert np.ptp(values) > 0.01


def by_hand(scores: list[list[float]], held: list[tuple[int, int]], items: int = 50) -> Rivals:
    """Rivals of one strand; held: user and column."""
    s = np.array(scores, np.float32)
    query, column = np.array(held).T
    return Rivals(s[None], np.ones(1, np.float32), np.zeros_like(s), query, column, items)


def test_two_that_were_held_out_and_tie_have_two_places() -> None:
    found = by_hand([[5, 3, 3, 1], [9, 8, 7, 6]], [(0, 2), (0, 1), (1, 3)])
    value = {k: woven.value(found, found.scores[0], f"recall@{k}") for k in (1, 2, 3, 4)}
    assert value == pytest.approx({1: 0, 2: 0.25, 3: 0.5, 4: 1.0}), "places 2 and 3, and 4"
    assert woven.value(found, found.scores[0], "mrr") == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_half_of_others_that_tie_come_before() -> None:
    found = by_hand([[2, 2, 2, 2, 2, 7, 1]], [(0, 3)])
    assert woven.value(found, found.scores[0], "mrr") == pytest.approx(1 / 4), "one above, and two of four"
    constant = by_hand([[0.0] * 21], [(0, 0)])
    assert woven.value(constant, constant.scores[0], "mrr") == pytest.approx(1 / 11), "no strand wins by saying nothing"


def test_what_does_not_compete_comes_last() -> None:
    found = by_hand([[3, 2, 1], [3, 2, 1]], [(0, -1), (0, 0), (1, -1), (1, -1)])
    assert woven.value(found, found.scores[0], "recall@49") == pytest.approx(0.25)
    assert woven.value(found, found.scores[0], "mrr") == pytest.approx((1 + 1 / 50) / 2)


def test_three_that_were_held_out_and_tie_have_the_first_three_places() -> None:
    found = by_hand([[1, 1, 1]], [(0, 0), (0, 1), (0, 2)])
    assert woven.value(found, found.scores[0], "recall@3") == 1


# --- the choice of weights --------------------------------------------------------------------------------------------


def planted(knows: list[float], users: int = 150, seed: int = 0, several: int = 1) -> Rivals:
    """Noise, and `knows` of each strand added where the held-out items stand: one to `several` a user, some not there."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(knows), users, 25)).astype(np.float32)
    gap = np.where(np.arange(25) < rng.integers(15, 26, users)[:, None], 0, -1e9).astype(np.float32)
    query = np.repeat(np.arange(users), rng.integers(1, several + 1, users))
    column = np.concatenate([rng.permutation(15)[:n] for n in np.bincount(query)])
    scores[:, query, column] += np.array(knows, np.float32)[:, None]
    column[rng.random(len(column)) < 0.1] = -1
    return Rivals(scores, np.ones(len(knows), np.float32), gap, query, column, 500)


def literal_loss(found: Rivals, w: np.ndarray) -> float:
    """-log softmax of each held-out item over its user's rivals: mean over hers, those that are not there giving 0; mean over users."""
    total = 0.0
    for u in range(len(found.gap)):
        mixed = sum(w[k] * found.scores[k, u].astype(np.float64) for k in range(len(w)))
        live = mixed[found.gap[u] == 0]
        mine = found.column[found.query == u]
        total -= sum(mixed[c] - np.log(np.exp(live).sum()) for c in mine if c >= 0) / len(mine)
    return total / len(found.gap) + woven.RIDGE * float(w @ w)


def test_softmax_ends_where_a_search_without_its_gradient_does() -> None:
    found = planted([1.5, 0.0, -1.0, 0.5], users=40, several=3)
    assert (found.column < 0).any()
    best = minimize(lambda w: literal_loss(found, w), np.zeros(4), method="BFGS", options={"gtol": 1e-6}).x
    w = woven._softmax(found)
    assert w == pytest.approx(best, abs=1e-3)
    assert best[0] > 0.2 > 0 > best[2]


def value_of(found: Rivals, w: np.ndarray, select: str = "ndcg@10") -> float:
    return woven.value(found, np.tensordot(w.astype(np.float32), found.scores, 1) + found.gap, select)


def test_the_one_strand_that_knows_is_found() -> None:
    knows = [0.0, 0.0, 2.5, 0.0, 0.0]
    w, new = chosen(planted(knows), "ndcg@10"), planted(knows, users=400, seed=1)
    assert w[2] > 4 * np.abs(np.delete(w, 2)).max() > 0
    single = [value_of(new, one) for one in np.eye(5)]
    assert value_of(new, w) > 0.97 * single[2]
    assert value_of(new, w) > 2 * max(np.delete(single, 2))


@pytest.mark.parametrize("select", ["ndcg@10", "recall@1", "mrr"])
def test_what_several_know_in_part_is_woven_to_more_than_any_knows(select: str) -> None:
    """Two know half of it, one says the opposite: for people who were not asked, all of them are better than each."""
    knows = [1.3, 0.0, 1.3, 0.0, -1.3]
    w, new = chosen(planted(knows, several=3), select), planted(knows, users=600, seed=1, several=3)
    assert w[0] > 0
    assert w[2] > 0
    assert w[4] < 0
    assert min(abs(w[[0, 2, 4]])) > 2 * max(abs(w[[1, 3]]))
    assert value_of(new, w, select) > 1.2 * max(value_of(new, one, select) for one in (*np.eye(5), -np.eye(5)[4]))


def test_a_seed_is_a_choice() -> None:
    found = planted([1.0, 0.5, 0.0], users=60)
    assert np.array_equal(chosen(found, "recall@5", 3), chosen(found, "recall@5", 3))
    assert not np.array_equal(chosen(found, "recall@5", 3), chosen(found, "recall@5", 4))


def test_one_user_is_enough_to_choose_by_and_what_is_never_found_says_nothing() -> None:
    assert np.isfinite(chosen(planted([1.0, 0.0], users=1), "ndcg@10")).all()
    never = planted([1.0, 0.0], users=20)
    assert np.isfinite(chosen(never._replace(column=np.full_like(never.column, -1)), "ndcg@10")).all()


def test_a_strand_that_is_silent_does_no_harm_and_the_unit_of_one_does_not_matter() -> None:
    """In steps of the largest weight, after division by the scale."""
    found = planted([2.0, 0.0, 1.0])
    silent = found._replace(scores=np.concatenate([found.scores, np.zeros_like(found.scores[:1])]))
    w, with_it = chosen(found, "ndcg@10"), chosen(silent, "ndcg@10")
    assert with_it[:3] == pytest.approx(w, abs=0.1)
    assert abs(with_it[3]) < 1e-3


# --- the model --------------------------------------------------------------------------------------------------------

TASK = Task(at=(5,), mask=("train",), history=("train",))
SMALL = Weave(l2=(5.0,), choose="ndcg@20")


@cache
def tastes(seed: int = 0, users: int = 140, items: int = 70, kinds: int = 5) -> tuple[Split, np.ndarray]:
    """Everybody chooses twelve items, most of them of one kind, some kinds' items oftener than others: 8, 2 and 2."""
    rng = np.random.default_rng(seed)
    kind, often = np.arange(items) % kinds, rng.uniform(0.3, 3, items)
    pairs: list[list[tuple[int, int]]] = [[], [], []]
    for u in range(users):
        like = often * np.where(kind == u % kinds, 12, 1)
        for place, i in enumerate(rng.choice(items, 12, replace=False, p=like / like.sum())):
            pairs[0 if place < 8 else 1 if place < 10 else 2].append((u, int(i)))
    user_ids, item_ids = Ids("user", keys("user", users)), Ids("item", keys("item", items))
    return Split(*(interactions(user_ids, item_ids, *np.array(p).T) for p in pairs), how="planted"), kind


def reached(scorer: Any, split: Split) -> float:
    return evaluate(scorer, split, TASK).mean["recall@5"]


def test_items_that_nobody_chose_are_found_by_what_is_said_of_them() -> None:
    world = checkerboard()
    train, cold = world.train, np.arange(24, 41)
    out = np.isin(train.item, cold)
    split = Split(train.take(~out), world.valid, train.take(out))
    f = world.features()
    order = np.random.default_rng(0).permutation(len(f.ids))
    shuffled = replace(f, values=f.values[order], present=f.present[order])
    told, misled, bare = (
        reached(SMALL.fit(split.train, split.valid, **given), split)
        for given in ({"words": f}, {"words": shuffled}, {})
    )
    assert told > 0.6, "of ten of 24 items, or so, that are of one's group; 5 places for 4 or so held out"
    assert told > misled + 0.3
    assert told > bare + 0.3


def test_features_of_nothing_are_not_believed() -> None:
    """Noise under the same name costs little where choices tell what is to be known."""
    split, _ = tastes()
    noise = drawn(split.items, (), 8)
    bare = reached(SMALL.fit(split.train, split.valid), split)
    assert reached(SMALL.fit(split.train, split.valid, words=noise), split) > bare - 0.03


def test_without_a_valid_part_it_is_about_as_good() -> None:
    split, _ = tastes()
    with_it, without = SMALL.fit(split.train, split.valid), SMALL.fit(split.train)
    assert reached(without, split) == pytest.approx(reached(with_it, split), abs=0.05)
    popular = ItemToItem(np.tile(np.bincount(split.train.item, minlength=70).astype(np.float32), (70, 1)))
    assert reached(without, split) > 1.3 * reached(popular, split)
    assert not np.array_equal(without.score(without.known), with_it.score(with_it.known))
    again = SMALL.fit(split.train)
    assert np.array_equal(without.score(without.known), again.score(again.known))


@pytest.mark.parametrize(("more", "seed"), [(0, 0), (3, 1)])
def test_people_with_two_choices_each_are_enough_without_a_valid_part(more: int, seed: int) -> None:
    """All but `more` chose two items. With one of two set apart no pair is left to see that pairs say everything here."""
    rng, users, items = np.random.default_rng(seed), 120, 40
    pairs, held = [], []
    for u in range(users):
        n = 5 if u < more else 2
        mine = rng.permutation(np.arange(u % 4, items, 4))[: n + 1]
        pairs += [(u, i) for i in mine[:n]]
        held.append((u, mine[n]))
    user_ids, item_ids = Ids("user", keys("user", users)), Ids("item", keys("item", items))
    train, test = (interactions(user_ids, item_ids, *np.array(p).T) for p in (pairs, held))
    rec = SMALL.fit(train)
    assert np.abs(rec.score(rec.known)).max() < 1e4
    assert reached(rec, Split(train, test.take(np.zeros(0, int)), test)) > 0.4, "5 of 38 is chance, Ease has .6 to .7"


def test_what_was_set_apart_is_known_in_the_end() -> None:
    """Somebody alone chose a new item, and one other: whichever is held out, they are found by each other."""
    split, _ = tastes()
    user_ids, item_ids = Ids("user", (*split.users.keys, "late")), Ids("item", (*split.items.keys, "new"))
    user, item = np.append(split.train.user, [140, 140]), np.append(split.train.item, [3, 70])
    train = interactions(user_ids, item_ids, user, item)
    apart = []
    for seed in range(4):
        rec = SMALL.fit(train, training=Training(seed=seed))
        assert rec.score(rec.ask(["x"], [["item-003"]]))[0, 70] != 0, "0 is what an item that nobody chose has"
        apart.append(70 in weave._apart(train, seed)[1].item)
    assert any(apart)


def test_a_stranger_with_somebodys_history_gets_her_scores() -> None:
    split, _ = tastes()
    rec = SMALL.fit(split.train, split.valid)
    mine = [split.items.keys[i] for i in split.train.item[split.train.user == 5]]
    stranger, known = rec.score(rec.ask(["x"], [mine]))[0], rec.score(rec.ask([split.users.keys[5]]))[0]
    assert np.array_equal(stranger, known)
    assert known.std() > 0
    assert not np.array_equal(known, rec.score(rec.ask([split.users.keys[6]]))[0])


def test_scores_are_the_strands_woven_by_weights_that_valid_chose() -> None:
    split, _ = tastes()
    words = drawn(split.items)
    valid = split.valid.take(split.valid.user % 3 > 0)
    rec = SMALL.fit(split.train, valid, words=words)
    made = Strands(split.train, {"words": words}, SMALL.l2, SMALL.alpha)
    x, asked = split.train.matrix(), np.unique(valid.user)
    found = rivals(made, x[asked], valid.matrix()[asked])
    w = chosen(found, SMALL.choose) / found.scale
    expected = np.tensordot(w, made.scores(x), 1)
    assert rec.score(rec.known) == pytest.approx(expected, rel=1e-4, abs=1e-4 * np.abs(expected).max())
    other = SMALL.fit(split.train, split.test, words=words)
    assert not np.allclose(other.score(other.known), expected, rtol=1e-3), "another valid, other weights"


def test_other_numbers_for_the_items_are_no_other_scores() -> None:
    split, _ = tastes()
    order = np.random.default_rng(3).permutation(70)
    ids, place = Ids("item", tuple(split.items.keys[i] for i in order)), np.argsort(order)
    train, valid = (Interactions(p.users, ids, p.user, place[p.item]) for p in (split.train, split.valid))
    words = drawn(split.items)
    turned = Features(ids, words.values[order], words.present[order], words.source)
    one, other = SMALL.fit(split.train, split.valid, words=words), SMALL.fit(train, valid, words=turned)
    a, b = one.score(one.known)[:, order], other.score(other.known)
    # Sums of other orders are rounded otherwise, which may turn a step of the climb; nothing more.
    assert min(np.corrcoef(p, q)[0, 1] for p, q in zip(a, b, strict=True)) > 0.99


def test_no_more_users_are_asked_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not drawn has no say: without her valid choices the weights are the same."""
    monkeypatch.setattr(weave, "FEW", 30)
    split, _ = tastes()
    drawn_users = np.sort(np.random.default_rng(0).choice(140, 30, replace=False))
    rest = split.valid.take(np.isin(split.valid.user, drawn_users))
    rec, same = SMALL.fit(split.train, split.valid), SMALL.fit(split.train, rest)
    assert np.array_equal(rec.score(rec.known), same.score(same.known))


def test_a_tenth_of_everyones_choices_is_set_apart_and_none_is_lost() -> None:
    counts = np.array([0, 1, 2, 9, 10, 19, 20, 35])
    user = np.repeat(np.arange(8), counts)
    item = np.concatenate([np.random.default_rng(n).permutation(40)[:n] for n in counts])
    train = interactions(Ids("user", keys("user", 8)), Ids("item", keys("item", 40)), user, item)
    kept, held = weave._apart(train, 0)
    assert np.bincount(held.user, minlength=8).tolist() == [0, 0, 1, 1, 1, 1, 2, 3]
    assert kept.join(held).hash == train.hash
    assert weave._apart(train, 0)[1].hash == held.hash
    assert weave._apart(train, 1)[1].hash != held.hash


@pytest.mark.parametrize("kept", [None, 9])
@pytest.mark.parametrize("name", ["low 32", "ease features", "ease 2", "walk 2 (0.5, 0)", "slow 4", "words as is"])
def test_an_input_with_the_name_of_a_strand_is_refused(name: str, kept: int | None) -> None:
    items = small().items
    with pytest.raises(BadSetting, match=rf"of its own `{re.escape(name)}`.* another name in \[inputs\]"):
        Weave(l2=L2, kept=kept).fit(small().train, small().valid, **{"words": drawn(items), name: drawn(items, (3,))})


def test_an_input_with_the_name_of_the_backbone_s_strand_is_refused() -> None:
    named = {"model lightgcn": drawn(small().items)}
    with pytest.raises(BadSetting, match=r"`model lightgcn`"):
        Weave(backbone=LightGcn(dim=4)).fit(small().train, small().valid, **named)
    Weave(l2=L2).fit(small().train, small().valid, **named)  # there is no such strand


def test_all_names_of_strands_that_are_not_of_features_are_taken() -> None:
    train = tastes()[0].train
    vectors = {"toy": (np.ones((70, 2), np.float32),) * 2}
    own = set(Strands(train, {}, L2, ALPHA, vectors).names) | set(Fibres(train, {}, L2, ALPHA, vectors, 5).names)
    assert own <= taken(L2, "toy")
    assert taken(L2, "toy") - own <= {"ease features", "low 64", "low 128", "low 256"}, (
        "those need features, or more items"
    )


@pytest.mark.parametrize("settings", [{"l2": ()}, {"l2": (-1.0,)}, {"l2": (50.0, 0.0)}, {"alpha": -0.5}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match=r"l2 = \[50, 500\], alpha = 4|alpha = -0.5 must be 0 or more:  alpha = 4"):
        Weave(**settings).fit(small().train, small().valid)


def test_nothing_to_choose_by_is_refused() -> None:
    train = interactions(Ids("user", tuple("abc")), Ids("item", tuple("xy")), np.arange(3), np.array([0, 1, 1]))
    with pytest.raises(BadSetting, match=r"Give it a valid part, or users with two choices"):
        Weave().fit(train)
    with pytest.raises(BadSetting, match=r"Give it a valid part, or users with two choices"):
        Weave().fit(train.take(np.zeros(0, int)))


def test_a_metric_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownKey, match=r"ndgc"):
        Weave(choose="ndgc@20").fit(small().train, small().valid)
    with pytest.raises(BadSetting, match=r"lists"):
        Weave(choose="coverage@20").fit(small().train, small().valid)
