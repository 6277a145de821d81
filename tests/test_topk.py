"""Top-k and held-out ranks: against a slow twin with ties and masks, against chance, and against each other."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from penchant import topk
from penchant.data import Queries, no_history
from penchant.errors import Diverged


@dataclass(frozen=True, eq=False)
class Table:
    """Scores written down beforehand, by row of user; strangers get the row of their first history item."""

    values: np.ndarray

    def score(self, queries: Queries) -> np.ndarray:
        first = np.array([h[0] if len(h) else 0 for h in queries.history], np.int64)
        return self.values[np.where(queries.users >= 0, queries.users, first)]


@dataclass(frozen=True, eq=False)
class Task:
    """One drawn problem. held and mask are dense here, as the twin wants them."""

    scores: np.ndarray
    held: np.ndarray
    mask: np.ndarray
    only: np.ndarray | None
    seed: int
    k: int
    block: int

    @property
    def queries(self) -> Queries:
        return no_history(np.arange(len(self.scores)))

    def ranks(self, block: int | None = None) -> topk.Ranks:
        held, mask = sparse.csr_matrix(self.held), sparse.csr_matrix(self.mask)
        return topk.ranks(Table(self.scores), self.queries, held, mask, self.only, self.seed, block or self.block)

    def top(self, k: int | None = None, block: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        mask = sparse.csr_matrix(self.mask)
        return topk.top(Table(self.scores), self.queries, k or self.k, mask, self.only, self.seed, block or self.block)

    def allowed(self, user: int) -> list[int]:
        """Items that compete for this user."""
        only = np.ones(self.scores.shape[1], bool) if self.only is None else self.only
        return [i for i in range(self.scores.shape[1]) if only[i] and not self.mask[user, i]]


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Few distinct scores, so that ties are everywhere; masks that may hide everything."""
    users, items = draw(st.integers(1, 7)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 3, 1000]))
    scores = rng.integers(-levels, levels, (users, items)).astype(np.float32) * np.float32(1e3)
    density = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    mask = (rng.random((users, items)) < density).astype(np.float32)
    held = (rng.random((users, items)) < 0.4).astype(np.float32)
    only = rng.random(items) < 0.6 if draw(st.booleans()) else None
    return Task(
        scores, held, mask, only, draw(st.integers(0, 2**40)), draw(st.integers(1, 15)), draw(st.integers(1, 9))
    )


@given(tasks())
def test_ranks_are_places_in_the_full_list(task: Task) -> None:
    """The whole list is a permutation of what competes, best first, and a rank is a place in it, ties and all."""
    n = task.scores.shape[1]
    items, scores = task.top(k=n)
    for u, row in enumerate(items):
        listed = [int(i) for i in row if i >= 0]
        assert sorted(listed) == task.allowed(u)
        assert (row[len(listed) :] == -1).all()
        assert (scores[u, len(listed) :] == -np.inf).all()
        assert scores[u, : len(listed)].tolist() == [task.scores[u, i] for i in listed]
        assert listed == sorted(listed, key=lambda i: -task.scores[u, i]), "ties may stand in any order, nothing else"
    found = task.ranks()
    expected = {(u, i) for u in range(len(items)) for i in task.allowed(u) if task.held[u, i]}
    assert set(zip(found.query.tolist(), found.item.tolist(), strict=True)) == expected
    assert len(found.query) == len(expected)
    assert found.candidates.tolist() == [len(task.allowed(u)) for u in range(len(items))]
    for u, i, rank in zip(found.query, found.item, found.rank, strict=True):
        assert items[u, rank - 1] == i


@given(tasks())
def test_a_rank_lies_where_counting_says(task: Task) -> None:
    """Independent of how ties are drawn: at least one below all better ones, at most below all equal ones too."""
    found = task.ranks()
    for u, i, rank in zip(found.query, found.item, found.rank, strict=True):
        others = [task.scores[u, j] for j in task.allowed(u) if j != i]
        better = sum(s > task.scores[u, i] for s in others)
        equal = sum(s == task.scores[u, i] for s in others)
        assert 1 + better <= rank <= 1 + better + equal
        if not equal:
            assert rank == 1 + better


@given(tasks())
def test_a_short_list_is_the_head_of_the_long_one_and_blocks_do_not_matter(task: Task) -> None:
    n = task.scores.shape[1]
    whole, scores = task.top(k=n)
    short, short_scores = task.top()
    width = min(task.k, n)
    assert short.shape == (len(whole), task.k)
    assert np.array_equal(short[:, :width], whole[:, :width])
    assert np.array_equal(short_scores[:, :width], scores[:, :width])
    assert (short[:, width:] == -1).all()
    other = task.ranks(block=512)
    found = task.ranks()
    assert np.array_equal(found.rank, other.rank)
    assert np.array_equal(found.item, other.item)
    assert np.array_equal(short, task.top(block=512)[0])


@given(tasks())
def test_in_the_first_k_exactly_if_the_rank_says_so(task: Task) -> None:
    listed = task.top()[0]
    found = task.ranks()
    for u, i, rank in zip(found.query, found.item, found.rank, strict=True):
        assert (i in listed[u]) == (rank <= task.k)


def constant(users: int, items: int) -> Table:
    return Table(np.zeros((users, items), np.float32))


@pytest.mark.parametrize(("items", "k", "masked"), [(50, 5, 0), (30, 10, 10), (101, 1, 0)])
def test_constant_scores_earn_exactly_chance(items: int, k: int, masked: int) -> None:
    """hit@k of one held-out item is k/n within four standard errors, whichever column it stands in."""
    users = 2000
    hits = 0
    places = np.zeros(items - masked)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        order = np.argsort(rng.random((users, items)), axis=1)
        target = order[:, 0] if seed % 2 else np.full(users, 0)  # also the very same column for everybody
        held = sparse.csr_matrix((np.ones(users), (np.arange(users), target)), (users, items))
        hidden = np.where(order == target[:, None], -1, order)
        rows, cols = np.nonzero(np.argsort(hidden < 0, axis=1, kind="stable")[:, :masked] >= 0)
        keep = np.take_along_axis(hidden, np.argsort(hidden < 0, axis=1, kind="stable"), axis=1)
        mask = sparse.csr_matrix((np.ones(users * masked), (rows, keep[rows, cols])), (users, items))
        found = topk.ranks(constant(users, items), no_history(np.arange(users)), held, mask, seed=seed)
        assert (found.candidates == items - masked).all()
        hits += int((found.rank <= k).sum())
        places += np.bincount(found.rank - 1, minlength=items - masked)
    p, n = k / (items - masked), 10 * users
    assert abs(hits / n - p) < 4 * np.sqrt(p * (1 - p) / n)
    assert stats.chisquare(places).pvalue > 1e-4, "every place is as likely as any other"


def test_no_rank_is_given_twice_to_one_user() -> None:
    """Constant scores and everything held out: the ranks of a user are 1..n, each once, in a random order."""
    users, items = 40, 60
    held = sparse.csr_matrix(np.ones((users, items)))
    found = topk.ranks(constant(users, items), no_history(np.arange(users)), held)
    by_user = found.rank.reshape(users, items)
    assert (np.sort(by_user, axis=1) == np.arange(1, items + 1)).all()
    assert len(np.unique(by_user, axis=0)) == users, "users do not share one order"
    correlation = np.corrcoef(by_user)[np.triu_indices(users, 1)]
    assert abs(correlation.mean()) < 0.02


def test_ties_follow_the_seed_and_nothing_else() -> None:
    users, items = 20, 30
    held = sparse.csr_matrix(np.ones((users, items)))
    queries = no_history(np.arange(users))
    a, b, c = (topk.ranks(constant(users, items), queries, held, seed=s).rank for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert (a != c).mean() > 0.9
    first = np.array([topk.top(constant(users, items), queries, 1, seed=s)[0][:, 0] for s in range(200)])
    assert stats.chisquare(np.bincount(first.ravel(), minlength=items)).pvalue > 1e-4


def test_a_strangers_ties_do_not_depend_on_her_place_in_the_batch() -> None:
    """Same history, same list, alone or behind others; another history, another order."""
    table = constant(50, 50)
    both = Queries.of([-1, -1, 7], [[1, 2], [3], []])
    one = Queries.of([-1], [[3]])
    items, _ = topk.top(table, both, 50)
    alone, _ = topk.top(table, one, 50)
    assert np.array_equal(items[1], alone[0])
    assert not np.array_equal(items[0], items[1])
    assert np.array_equal(topk.top(table, both, 50, block=1)[0], items)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_raise(bad: float) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    scores[3, 2] = bad
    held = sparse.csr_matrix(np.eye(5, 8))
    with pytest.raises(Diverged, match="learning_rate"):
        topk.ranks(Table(scores), no_history(np.arange(5)), held)
    with pytest.raises(Diverged, match="learning_rate"):
        topk.top(Table(scores), no_history(np.arange(5)), 3)


def test_huge_scores_are_numbers() -> None:
    """The sum of a block may overflow although every score is finite."""
    scores = np.full((4, 50), 3e38, np.float32)
    scores[:, 7] = 3.1e38
    held = sparse.csr_matrix((np.ones(4), (np.arange(4), np.full(4, 7))), (4, 50))
    assert topk.ranks(Table(scores), no_history(np.arange(4)), held).rank.tolist() == [1, 1, 1, 1]
    lowest = np.full((1, 5), -3.4028235e38, np.float32)
    assert sorted(topk.top(Table(lowest), no_history([0]), 5)[0][0]) == [0, 1, 2, 3, 4]


def test_scores_that_a_model_keeps_are_not_written_to() -> None:
    """A scorer may hand out a part of a table it holds; masking must not reach into it."""
    table = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)

    @dataclass(frozen=True, eq=False)
    class Holding:
        def score(self, queries: Queries) -> np.ndarray:
            return table[int(queries.users[0]) : int(queries.users[-1]) + 1]

    before = table.copy()
    everything = sparse.csr_matrix(np.ones((6, 9)))
    topk.top(Holding(), no_history(np.arange(6)), 3, everything, np.zeros(9, bool))
    topk.ranks(Holding(), no_history(np.arange(6)), everything, everything)
    assert np.array_equal(table, before)


def test_no_queries_and_no_held_out_items() -> None:
    none = sparse.csr_matrix((0, 4))
    found = topk.ranks(constant(1, 4), no_history([]), none)
    assert len(found.rank) == len(found.candidates) == 0
    assert topk.top(constant(1, 4), no_history([]), 3)[0].shape == (0, 3)
    found = topk.ranks(constant(3, 4), no_history([0, 1, 2]), sparse.csr_matrix((3, 4)))
    assert found.candidates.tolist() == [4, 4, 4]


def test_memory_is_a_few_blocks_and_not_users_times_items() -> None:
    """4,000 users x 3,000 items would be 48 MB of scores; a block of 64 is 0.8 MB."""
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(4000, 8)).astype(np.float32), rng.normal(size=(8, 3000)).astype(np.float32)

    @dataclass(frozen=True, eq=False)
    class Product:
        def score(self, queries: Queries) -> np.ndarray:
            return user[queries.users] @ item

    held = sparse.csr_matrix((np.ones(4000), (np.arange(4000), rng.integers(0, 3000, 4000))), (4000, 3000))
    queries = no_history(np.arange(4000))
    tracemalloc.start()
    topk.ranks(Product(), queries, held, block=64)
    topk.top(Product(), queries, 20, block=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6
