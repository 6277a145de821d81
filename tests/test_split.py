"""Splits: parts are disjoint and complete, shares and orders are right, histories show no more than is allowed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from penchant import split
from penchant.data import Ids, Interactions
from penchant.errors import BadSetting, BadTable, Misaligned
from penchant.split import Split


def choices(pairs: list[tuple[int, int]], users: int = 0, items: int = 0, **columns: object) -> Interactions:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    user_ids = Ids("user", tuple(f"u{i}" for i in range(max(users, table[:, 0].max(initial=-1) + 1))))
    item_ids = Ids("item", tuple(f"i{i}" for i in range(max(items, table[:, 1].max(initial=-1) + 1))))
    return Interactions(user_ids, item_ids, table[:, 0], table[:, 1], **columns)  # type: ignore[arg-type]


def shop(seed: int, users: int = 12, items: int = 15, moments: int = 8) -> Interactions:
    """Random choices in random row order, with many equal timestamps; some users have none, some one."""
    rng = np.random.default_rng(seed)
    table = rng.random((users, items)) < rng.choice([0, 0.07, 0.3, 0.7], users)[:, None]
    table[0, :4] = True
    pairs = rng.permutation(np.argwhere(table))
    return choices(pairs.tolist(), users, items, time=rng.integers(0, moments, len(pairs)))


def one_user(n: int, **columns: object) -> Interactions:
    """u0 with items 0..n-1 in the order of rows."""
    return choices([(0, i) for i in range(n)], 1, n, **columns)


def pairs(part: Interactions) -> list[tuple[int, int]]:
    return sorted(zip(part.user.tolist(), part.item.tolist(), strict=True))


def sizes(s: Split) -> tuple[int, int, int]:
    return len(s.train), len(s.valid), len(s.test)


MAKERS = {
    "given": lambda x, seed: split.given(x, np.random.default_rng(seed).permutation(np.arange(len(x)) % 3)),
    "leave_last_out": split.leave_last_out,
    "by_ratio": lambda x, seed: split.by_ratio(x, (0.6, 0.2, 0.2), seed),
    "by_ratio chronological": lambda x, seed: split.by_ratio(x, (0.6, 0.2, 0.2), seed, chronological=True),
    "by_time": lambda x, seed: split.by_time(x, (0.6, 0.2, 0.2), seed),
    "cold_items": lambda x, seed: split.cold_items(x, 0.3, seed),
}


# --- what holds for every split


@pytest.mark.parametrize("maker", MAKERS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_parts_are_disjoint_and_complete(maker: str, seed: int) -> None:
    whole = shop(seed)
    try:
        s = MAKERS[maker](whole, seed)
    except BadTable:  # everything fell into one moment or on cold items
        reject()
    assert sorted(pairs(s.train) + pairs(s.valid) + pairs(s.test)) == pairs(whole)
    assert sum(sizes(s)) == len(whole)
    for part in (s.train, s.valid, s.test):
        assert part.users == whole.users
        assert part.items == whole.items
        moments = {(u, i): t for u, i, t in zip(whole.user, whole.item, whole.time, strict=True)}
        assert all(moments[u, i] == t for u, i, t in zip(part.user, part.item, part.time, strict=True))


@pytest.mark.parametrize("maker", MAKERS)
def test_the_same_seed_gives_the_same_split(maker: str) -> None:
    whole = shop(3)
    first, again, other = (MAKERS[maker](whole, seed) for seed in (1, 1, 2))
    assert [first.train.hash, first.test.hash] == [again.train.hash, again.test.hash]
    if maker != "by_time":
        assert first.train.hash != other.train.hash


@pytest.mark.parametrize("maker", MAKERS)
def test_without_test_shows_no_test(maker: str) -> None:
    s = MAKERS[maker](shop(3), 0)
    seen = s.without_test()
    assert len(seen.test) == 0
    assert (seen.train.hash, seen.valid.hash) == (s.train.hash, s.valid.hash)
    assert len(seen.queries("test")) == 0
    assert len(s.test) > 0


# --- given


def test_given_is_the_column() -> None:
    s = split.given(one_user(4), np.array([2, 0, 1, 0]))
    assert [p.item.tolist() for p in (s.train, s.valid, s.test)] == [[1, 3], [2], [0]]


@pytest.mark.parametrize(
    ("column", "error", "says"),
    [
        (None, BadTable, "no `split` column"),
        ([0, 1, 3, 0], BadTable, r"holds \[3\]"),
        ([0, 1, -1, 0], BadTable, r"holds \[-1\]"),
        ([1, 1, 2, 2], BadTable, "nothing to train on"),
        ([0, 1, 2], Misaligned, "3 rows for 4 interactions"),
        ([0, 1, 2, 0, 0], Misaligned, "5 rows for 4 interactions"),
    ],
)
def test_given_refuses(column: list[int] | None, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        split.given(one_user(4), None if column is None else np.array(column))


# --- leave_last_out


def test_leave_last_out_by_time() -> None:
    """u0 chose 3 last and 1 before; u1 has two choices and u2 one: all train."""
    whole = choices([(0, 3), (1, 0), (0, 0), (0, 1), (2, 2), (1, 1), (0, 2)], time=np.array([90, 5, 10, 80, 7, 6, 20]))
    s = split.leave_last_out(whole)
    assert pairs(s.test) == [(0, 3)]
    assert pairs(s.valid) == [(0, 1)]
    assert pairs(s.train) == [(0, 0), (0, 2), (1, 0), (1, 1), (2, 2)]


def test_leave_last_out_keeps_the_order_of_positions() -> None:
    """A position is an order: nothing is shuffled, whatever the seed, and rows may come in any order."""
    whole = choices([(0, 0), (0, 1), (0, 2), (0, 3)], position=np.array([2, 0, 3, 1]))
    for seed in range(20):
        s = split.leave_last_out(whole, seed)
        assert (pairs(s.valid), pairs(s.test)) == ([(0, 0)], [(0, 2)])


def test_leave_last_out_keeps_the_order_of_rows_when_there_is_no_other() -> None:
    for seed in range(20):
        s = split.leave_last_out(one_user(4), seed)
        assert (pairs(s.valid), pairs(s.test)) == ([(0, 2)], [(0, 3)])


def test_equal_timestamps_are_shuffled_by_the_seed() -> None:
    """Each of four tied choices is the last about equally often; the earlier one never is."""
    whole = one_user(5, time=np.array([7, 7, 7, 7, 1]))
    last = Counter(split.leave_last_out(whole, seed).test.item.item() for seed in range(400))
    assert set(last) == {0, 1, 2, 3}
    assert min(last.values()) > 60
    assert all(split.leave_last_out(whole, s).test.item == split.leave_last_out(whole, s).test.item for s in range(5))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_leave_last_out_holds_out_one_each_and_the_latest(seed: int) -> None:
    whole = shop(seed)
    s = split.leave_last_out(whole, seed)
    count = np.bincount(whole.user, minlength=len(whole.users))
    for part in (s.valid, s.test):
        assert (np.bincount(part.user, minlength=len(whole.users)) == (count >= 3)).all()
    assert whole.time is not None
    for u in range(len(whole.users)):
        train, valid, test = (part.time[part.user == u] for part in (s.train, s.valid, s.test))  # type: ignore[index]
        if len(test):
            assert train.max() <= valid.min() <= test.min()


# --- by_ratio


@pytest.mark.parametrize(
    ("n", "ratios", "expected"),
    [
        (10, (0.8, 0.1, 0.1), (8, 1, 1)),
        (5, (0.6, 0.2, 0.2), (3, 1, 1)),
        (100, (0.29, 0.57, 0.14), (29, 57, 14)),  # both products are a hair below in floating point
        (9, (0.6, 0.2, 0.2), (5, 1, 3)),  # 5.4 and 1.8 are floored each for itself; test gets the rest
        (7, (0.6, 0.2, 0.2), (4, 1, 2)),
        (4, (0.6, 0.2, 0.2), (2, 0, 2)),
        (3, (0.1, 0.4, 0.5), (1, 1, 1)),  # at least one to train on
        (1, (0.1, 0.1, 0.8), (1, 0, 0)),
        (2, (0.8, 0.1, 0.1), (1, 0, 1)),
        (10, (0.7, 0.1, 0.2), (7, 1, 2)),
        (30, (0.7, 0.1, 0.2), (21, 3, 6)),
        (5, (0.9, 0.1, 0.0), (4, 1, 0)),  # test asked for nothing: the rest is valid's
        (5, (1.0, 0.0, 0.0), (5, 0, 0)),
        (7, (0.8, 0.0, 0.2), (5, 0, 2)),
    ],
)
@pytest.mark.parametrize("chronological", [False, True])
def test_by_ratio_floors(n: int, ratios: tuple, expected: tuple, chronological: bool) -> None:
    assert sizes(split.by_ratio(one_user(n), ratios, chronological=chronological)) == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), tenths=st.tuples(st.integers(1, 10), st.integers(0, 9)), chronological=st.booleans()
)
def test_by_ratio_gives_every_user_these_shares(seed: int, tenths: tuple[int, int], chronological: bool) -> None:
    train, valid = tenths[0], min(tenths[1], 10 - tenths[0])
    test = 10 - train - valid
    whole = shop(seed)
    s = split.by_ratio(whole, (train / 10, valid / 10, test / 10), seed, chronological)
    for u in range(len(whole.users)):
        n = int((whole.user == u).sum())
        first = min(n, max(1, n * train // 10))
        second = n * valid // 10 if test else n - first
        assert tuple(int((p.user == u).sum()) for p in (s.train, s.valid, s.test)) == (
            first,
            second,
            n - first - second,
        )


def test_by_ratio_is_random_or_in_order_of_time() -> None:
    whole = one_user(10, time=np.arange(10)[::-1].copy())
    in_time = split.by_ratio(whole, chronological=True)
    assert sorted(in_time.train.item.tolist()) == list(range(2, 10))
    assert (in_time.valid.item.tolist(), in_time.test.item.tolist()) == ([1], [0])
    drawn = Counter(split.by_ratio(whole, seed=s).test.item.item() for s in range(300))
    assert len(drawn) == 10
    assert min(drawn.values()) > 10


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_chronological_shares_never_train_on_a_users_future(seed: int) -> None:
    s = split.by_ratio(shop(seed), (0.5, 0.25, 0.25), seed, chronological=True)
    for u in range(len(s.users)):
        times = [part.time[part.user == u] for part in (s.train, s.valid, s.test)]  # type: ignore[index]
        ends = [t for part in times if len(part) for t in (part.min(), part.max())]
        assert ends == sorted(ends)


@pytest.mark.parametrize("ratios", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0, 0.5, 0.5), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("maker", [split.by_ratio, split.by_time])
def test_shares_that_do_not_add_up_are_refused(maker: object, ratios: tuple) -> None:
    with pytest.raises(BadSetting, match=r"three shares that add up to 1"):
        maker(one_user(10, time=np.arange(10)), ratios)  # type: ignore[operator]


# --- by_time


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), moments=st.integers(1, 50))
def test_by_time_never_trains_on_what_is_as_late_as_anything_held_out(seed: int, moments: int) -> None:
    whole = shop(seed, moments=moments)
    try:
        s = split.by_time(whole, (0.6, 0.2, 0.2))
    except BadTable:
        assert whole.time is not None
        assert (np.sort(whole.time)[int(len(whole) * 0.6 + 1e-9)] == whole.time.min()).all()
        return
    train, valid, test = (part.time for part in (s.train, s.valid, s.test))
    assert train is not None
    assert valid is not None
    assert test is not None
    assert train.max() < min([*valid, *test], default=np.inf)
    assert max(valid, default=-1) < min(test, default=np.inf)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((0.8, 0.1, 0.1), (8, 1, 1)),
        ((0.7, 0.1, 0.2), (7, 1, 2)),  # 0.7 + 0.1 is a hair below 0.8 in floating point
        ((0.6, 0.4, 0.0), (6, 4, 0)),
        ((0.6, 0.0, 0.4), (6, 0, 4)),
        ((1.0, 0.0, 0.0), (10, 0, 0)),
    ],
)
def test_by_time_shares(ratios: tuple, expected: tuple) -> None:
    assert sizes(split.by_time(one_user(10, time=np.arange(10)), ratios)) == expected


def test_by_time_puts_whole_moments_into_one_part() -> None:
    s = split.by_time(one_user(10, time=np.array([1, 2, 3, 4, 5, 6, 7, 8, 8, 8])))
    assert sizes(s) == (7, 0, 3)


def test_by_time_needs_timestamps() -> None:
    with pytest.raises(BadTable, match="needs a `timestamp` column"):
        split.by_time(one_user(5, position=np.arange(5)))


# --- cold_items


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.6))
def test_cold_items_are_unseen_in_train(seed: int, share: float) -> None:
    whole = shop(seed)
    s = split.cold_items(whole, share, seed)
    assert s.cold is not None
    train, valid, test = (set(part.item.tolist()) for part in (s.train, s.valid, s.test))
    assert valid | test == set(s.cold.tolist())
    assert not train & (valid | test)
    assert not valid & test
    assert train | valid | test == set(whole.item.tolist())
    wanted = max(2, round(share * len(set(whole.item.tolist()))))
    assert len(s.cold) == wanted
    assert len(valid) == wanted // 2


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, float("nan")])
def test_cold_items_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(BadSetting, match="between 0 and 1"):
        split.cold_items(shop(0), share)


# --- k_core


def slow_core(interactions: Interactions, k: int) -> set[tuple[str, str]]:
    """Take away one poor user or item at a time until none is left."""
    left = {(interactions.users.keys[u], interactions.items.keys[i]) for u, i in pairs(interactions)}
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        poor = [x for x, n in (users + items).items() if n < k]
        if not poor:
            return left
        left = {(u, i) for u, i in left if poor[0] not in (u, i)}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 7))
def test_k_core_equals_a_slow_twin(seed: int, k: int) -> None:
    whole = shop(seed)
    expected = slow_core(whole, k)
    if not expected:
        with pytest.raises(BadTable, match=f"the {k}-core is empty"):
            split.k_core(whole, k)
        return
    core = split.k_core(whole, k)
    assert {(core.users.keys[u], core.items.keys[i]) for u, i in pairs(core)} == expected
    assert set(core.users.keys) == {u for u, _ in expected}
    assert set(core.items.keys) == {i for _, i in expected}
    moments = {(u, i): t for u, i, t in zip(whole.user, whole.item, whole.time, strict=True)}  # type: ignore[arg-type]
    for u, i, t in zip(core.user, core.item, core.time, strict=True):  # type: ignore[arg-type]
        assert moments[whole.users.row(core.users.keys[u]), whole.items.row(core.items.keys[i])] == t


def test_k_core_falls_like_dominoes() -> None:
    """A chain: each removal makes the next user or item too poor, to the last."""
    chain = choices([(n, n) for n in range(20)] + [(n, n + 1) for n in range(19)])
    with pytest.raises(BadTable, match="Choose a smaller k"):
        split.k_core(chain, 2)
    square = choices([(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)])
    assert pairs(split.k_core(square, 2)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


# --- queries and histories


def slow_histories(s: Split, history: tuple[str, ...], users: list[int]) -> list[list[tuple[int, int, int]]]:
    """(time, stage, item) of what may be known of each user, oldest first."""
    rows = [
        (int(u), int(t), stage, int(i))
        for stage, name in enumerate(("train", "valid", "test"))
        if name in history
        for u, i, t in zip(s.part(name).user, s.part(name).item, s.part(name).time, strict=True)  # type: ignore[arg-type]
    ]
    return [sorted((t, stage, i) for u, t, stage, i in rows if u == user) for user in users]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    maker=st.sampled_from(sorted(set(MAKERS) - {"by_time"})),
    history=st.sampled_from([("train",), ("train", "valid"), ("valid", "train"), ("valid",), ()]),
)
def test_histories_equal_a_slow_reference(seed: int, maker: str, history: tuple[str, ...]) -> None:
    """The same items, oldest first; where moments tie, an earlier part comes first."""
    s = MAKERS[maker](shop(seed), seed)
    queries = s.queries("test", history)
    users = sorted(set(s.test.user.tolist()))
    assert queries.users.tolist() == users
    moment = {(u, i): t for p in (s.train, s.valid) for u, i, t in zip(p.user, p.item, p.time, strict=True)}  # type: ignore[arg-type]
    in_valid = set(pairs(s.valid))
    for user, found, expected in zip(users, queries.history, slow_histories(s, history, users), strict=True):
        told = [(int(moment[user, i]), int((user, i) in in_valid), int(i)) for i in found]
        assert sorted(told) == expected
        assert [row[:2] for row in told] == [row[:2] for row in expected]


def test_histories_follow_positions() -> None:
    whole = choices([(0, 4), (0, 2), (0, 7), (0, 1), (0, 5)], 1, 8, position=np.array([3, 1, 2, 0, 4]))
    s = split.leave_last_out(whole)
    assert s.queries("test").history[0].tolist() == [1, 2, 7]
    assert s.queries("test", ("train", "valid")).history[0].tolist() == [1, 2, 7, 4]
    assert s.queries("valid").history[0].tolist() == [1, 2, 7]


def test_a_history_ends_with_the_choice_that_the_split_called_last() -> None:
    """All five at one moment: the valid item still comes after those of train, whatever the seed."""
    for seed in range(20):
        s = split.leave_last_out(one_user(5, time=np.full(5, 7)), seed)
        assert s.queries("test", ("train", "valid")).history[0][-1] == s.valid.item[0]


@pytest.mark.parametrize(
    ("part", "history"), [("test", ("train", "test")), ("valid", ("valid",)), ("train", ("train",))]
)
def test_a_history_with_the_answers_is_refused(part: str, history: tuple[str, ...]) -> None:
    with pytest.raises(BadSetting, match="would show the answers"):
        split.leave_last_out(shop(0)).queries(part, history)


def test_an_unknown_part_is_refused() -> None:
    s = split.leave_last_out(shop(0))
    with pytest.raises(BadSetting, match="no part 'tests'"):
        s.queries("tests")
    with pytest.raises(BadSetting, match="no part 'val'"):
        s.queries("test", ("train", "val"))


def test_queries_about_chosen_users_strangers_and_repeats() -> None:
    s = split.leave_last_out(choices([(0, 0), (0, 1), (0, 2), (0, 3), (2, 3)], 3, 4))
    queries = s.queries("test", ("train",), [2, -1, 0, 1, 0])  # type: ignore[arg-type]
    assert queries.users.tolist() == [2, -1, 0, 1, 0]
    assert [h.tolist() for h in queries.history] == [[3], [], [0, 1], [], [0, 1]]
    assert len(s.queries("test", ("train",), np.zeros(0, np.int64))) == 0


def test_histories_do_not_mix_between_calls_or_splits() -> None:
    s = split.leave_last_out(one_user(6))
    short, long = s.queries("test", ("train",)), s.queries("test", ("train", "valid"))
    assert [len(short.history_items), len(long.history_items)] == [4, 5]
    assert len(s.queries("test", ("train",)).history_items) == 4
    less = replace(s, train=s.train.take(np.array([0])))
    assert less.queries("test", ("train",)).history[0].tolist() == [0]


def test_held_and_known() -> None:
    s = split.given(choices([(0, 0), (0, 1), (1, 1), (1, 0)], 2, 3), np.array([0, 1, 2, 0]))
    assert s.held("test").toarray().tolist() == [[0, 0, 0], [0, 1, 0]]
    assert pairs(s.known(("train", "valid"))) == [(0, 0), (0, 1), (1, 0)]
    assert len(s.known(())) == 0
