"""Graphs: each maker against a dense twin, on tables small enough to read, and under random disturbance."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from penchant import graph
from penchant.data import Ids, Interactions
from penchant.errors import BadSetting, BadTable, Misaligned
from penchant.features import Features
from penchant.graph import Graph
from penchant.texts import Provenance


def ids(kind: str, n: int) -> Ids:
    return Ids(kind, tuple(f"{kind[0]}{i}" for i in range(n)))  # type: ignore[arg-type]


def choices(pairs: list[tuple[int, int]], users: int, items: int, **columns: object) -> Interactions:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Interactions(ids("user", users), ids("item", items), table[:, 0], table[:, 1], **columns)  # type: ignore[arg-type]


def random_choices(seed: int, users: int = 15, items: int = 12, share: float = 0.3) -> Interactions:
    table = np.random.default_rng(seed).random((users, items)) < share
    return choices(np.argwhere(table).tolist(), users, items)


def features(values: np.ndarray, present: np.ndarray | None = None, saw: str | None = None) -> Features:
    there = np.ones(len(values), bool) if present is None else present
    return Features(ids("item", len(values)), values, there, Provenance("test", interactions=saw))


def square(table: list[list[float]] | np.ndarray) -> Graph:
    matrix = sparse.csr_matrix(np.asarray(table, np.float32))
    return Graph(ids("item", matrix.shape[0]), ids("item", matrix.shape[0]), matrix)


def edges(g: Graph) -> set[tuple[int, int]]:
    """Stored entries, weight 0 included."""
    rows = np.repeat(np.arange(len(g.rows)), np.diff(g.matrix.indptr))
    return set(zip(rows.tolist(), g.matrix.indices.tolist(), strict=True))


# --- Graph


def test_a_graph_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(Misaligned, match=r"shape \(3, 2\) for 3 users and 3 items"):
        Graph(ids("user", 3), ids("item", 3), sparse.csr_matrix((3, 2)))


def test_a_graph_with_nan_is_refused() -> None:
    with pytest.raises(BadTable, match="NaN or infinity"):
        square([[0, np.nan], [0, 0]])


def test_a_graph_is_canonical_float32_and_leaves_its_source_alone() -> None:
    entries = ([1.0, 2.0, 4.0], [1, 0, 0], [0, 3, 3])  # unsorted, and the pair (0, 0) twice
    source = sparse.csr_matrix(entries, shape=(2, 2))
    g = Graph(ids("item", 2), ids("item", 2), source)
    assert g.matrix.dtype == np.float32
    assert g.matrix.toarray().tolist() == [[6, 1], [0, 0]]
    assert g.edges == 2
    assert source.nnz == 3


# --- bipartite


def test_bipartite_is_who_chose_what() -> None:
    chosen = choices([(0, 1), (2, 0), (2, 1)], 3, 2)
    g = graph.bipartite(chosen)
    assert g.matrix.toarray().tolist() == [[0, 1], [0, 0], [1, 1]]
    assert (g.rows, g.cols) == (chosen.users, chosen.items)
    assert g.interactions == (chosen.hash,)


# --- knn


def slow_knn(f: Features, k: int, with_self: bool) -> tuple[np.ndarray, np.ndarray]:
    """Dense cosines, and which of them are edges, with -inf for what cannot be one."""
    norm = np.linalg.norm(f.values.astype(np.float64), axis=1)
    there = f.present & (norm > 0)
    unit = f.values / np.where(norm > 0, norm, 1)[:, None]
    cosine = unit @ unit.T
    allowed = there[:, None] & there[None, :]
    if not with_self:
        allowed &= ~np.eye(len(f.ids), dtype=bool)
    score = np.where(allowed, cosine, -np.inf)
    place = np.argsort(np.argsort(-score, axis=1), axis=1)
    return cosine, allowed & (place < k)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 30),
    k=st.integers(0, 35),
    block=st.integers(1, 40),
    with_self=st.booleans(),
    gaps=st.floats(0, 1),
)
def test_knn_equals_a_dense_twin(seed: int, n: int, k: int, block: int, with_self: bool, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 5)).astype(np.float32)
    values[rng.random(n) < 0.1] = 0
    f = features(values, rng.random(n) >= gaps)
    g = graph.knn(f, k, with_self=with_self, block=block)
    cosine, expected = slow_knn(f, k, with_self)
    assert edges(g) == set(map(tuple, np.argwhere(expected).tolist()))
    assert g.matrix.toarray() == pytest.approx(np.where(expected, cosine, 0), abs=1e-5)


def test_knn_leaves_itself_out_even_among_copies() -> None:
    """Five equal rows: each still gets its k, none of them itself; with_self always has itself."""
    f = features(np.tile(np.array([[1.0, 2.0]], np.float32), (5, 1)))
    g = graph.knn(f, 2)
    assert all(i != j for i, j in edges(g))
    assert np.diff(g.matrix.indptr).tolist() == [2] * 5
    h = graph.knn(f, 2, with_self=True)
    assert {(i, i) for i in range(5)} <= edges(h)
    assert np.diff(h.matrix.indptr).tolist() == [2] * 5


def test_knn_does_not_care_how_long_vectors_are() -> None:
    values = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    scaled = values * np.random.default_rng(1).uniform(0.01, 100, (20, 1)).astype(np.float32)
    assert edges(graph.knn(features(values), 4)) == edges(graph.knn(features(scaled), 4))


def test_knn_follows_the_items_when_they_are_listed_in_another_order() -> None:
    values = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    order = np.random.default_rng(1).permutation(20)
    first, second = graph.knn(features(values), 4), graph.knn(features(values[order]), 4)
    assert second.matrix.toarray() == pytest.approx(first.matrix.toarray()[np.ix_(order, order)], abs=1e-6)


def test_gaps_have_no_edges_in_or_out() -> None:
    values = np.eye(6, dtype=np.float32) + 1
    g = graph.knn(features(values, np.array([1, 1, 0, 1, 0, 1], bool)), 5, with_self=True)
    assert not {2, 4} & {node for edge in edges(g) for node in edge}
    assert np.diff(g.matrix.indptr).tolist() == [4, 4, 0, 4, 0, 4]


def test_features_of_nothing_give_no_edges() -> None:
    assert graph.knn(features(np.ones((4, 2), np.float32), np.zeros(4, bool)), 2, with_self=True).edges == 0


def test_knn_threshold_cuts_by_cosine() -> None:
    """Angles of 0, 30, 60 and 180 degrees."""
    angle = np.deg2rad([0, 30, 60, 180])
    f = features(np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32))
    assert edges(graph.knn(f, 3, threshold=0.8)) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert graph.knn(f, 3, threshold=-1).edges == 12
    assert graph.knn(f, 3, threshold=1.01, with_self=True).edges == 0


def test_knn_keeps_an_edge_of_weight_zero() -> None:
    """Orthogonal vectors are still the nearest there are, and `denoise` can count them."""
    g = graph.knn(features(np.eye(3, dtype=np.float32)), 2)
    assert g.edges == 6
    assert graph.denoise(g, -1, binarise=True).matrix.sum() == 6


def test_knn_remembers_which_interactions_its_features_saw() -> None:
    values = np.eye(3, dtype=np.float32)
    assert graph.knn(features(values, saw="abc"), 1).interactions == ("abc",)
    assert graph.knn(features(values), 1).interactions == ()


def peak_mb(make: Callable[[], Graph]) -> float:
    """What numpy and scipy held at most, besides what there was."""
    tracemalloc.start()
    try:
        make()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_no_table_of_items_by_items_is_held() -> None:
    """Of the nearest of 12,000 it would be 549 MB; of audiences that all share a person, 36 million pairs, 275 MB at least."""
    many = features(np.random.default_rng(0).normal(size=(12_000, 8)))
    assert peak_mb(lambda: graph.knn(many, 10)) < 120
    everything = choices([(u, i) for u in range(3) for i in range(6_000)], 3, 6_000)
    assert peak_mb(lambda: graph.jaccard(everything, 10)) < 270


def test_negative_k_is_refused() -> None:
    with pytest.raises(BadSetting, match="k is -1"):
        graph.knn(features(np.eye(3, dtype=np.float32)), -1)
    with pytest.raises(BadSetting, match="k is -2"):
        graph.jaccard(random_choices(0), -2)


# --- jaccard


AUDIENCE = choices(  # item: who chose it.   0: abc   1: bcd   2: abc, as 0   3: e   4: nobody
    [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (4, 3)], 5, 5
)


def test_jaccard_of_a_small_audience_table() -> None:
    g = graph.jaccard(AUDIENCE, 3)
    expected = np.zeros((5, 5))
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = 2 / 4
    expected[0, 2] = expected[2, 0] = 1  # the same audience is an edge, the item itself is not
    assert g.matrix.toarray() == pytest.approx(expected)
    assert g.edges == 6
    assert g.interactions == (AUDIENCE.hash,)


def test_jaccard_keeps_the_best_and_ties_go_to_the_lower_row() -> None:
    assert edges(graph.jaccard(AUDIENCE, 1)) == {(0, 2), (1, 0), (2, 0)}
    assert graph.jaccard(AUDIENCE, 0).edges == 0


def slow_jaccard(interactions: Interactions, k: int) -> np.ndarray:
    chosen = interactions.matrix().toarray() > 0
    n = chosen.shape[1]
    table = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            both = (chosen[:, i] & chosen[:, j]).sum()
            if i != j and both:
                table[i, j] = np.float32(both / (chosen[:, i] | chosen[:, j]).sum())
        order = sorted(range(n), key=lambda j: (-table[i, j], j))
        table[i, order[k:]] = 0
    return table


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(1, 20),
    items=st.integers(1, 15),
    share=st.floats(0, 0.8),
    k=st.integers(0, 16),
    block=st.integers(1, 20),
)
def test_jaccard_equals_a_slow_twin(seed: int, users: int, items: int, share: float, k: int, block: int) -> None:
    chosen = random_choices(seed, users, items, share)
    assert graph.jaccard(chosen, k, block).matrix.toarray() == pytest.approx(slow_jaccard(chosen, k), abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    work=st.lists(st.integers(0, 2 * graph.MOST_PAIRS), max_size=40),
    block=st.integers(1, 50),
)
def test_blocks_cover_every_row_once_and_stay_small(work: list[int], block: int) -> None:
    """Popular items make blocks shorter: what is held at a time is bounded by rows and by pairs."""
    ranges = list(graph._blocks(np.array(work, float), block))
    assert [row for start, stop in ranges for row in range(start, stop)] == list(range(len(work)))
    for start, stop in ranges:
        assert stop - start <= block
        assert sum(work[start:stop]) <= graph.MOST_PAIRS + max(work[start:stop])


def test_jaccard_of_no_interactions() -> None:
    assert graph.jaccard(choices([], 3, 4), 2).edges == 0


# --- denoise, blend, drop_edges


def test_denoise_keeps_what_reaches_the_threshold() -> None:
    g = square([[0, 0.5, 0.2], [0.49, 0, 0], [0, 1, 0]])
    assert edges(graph.denoise(g, 0.5)) == {(0, 1), (2, 1)}
    assert graph.denoise(g, 0.5).matrix.toarray() == pytest.approx(np.array([[0, 0.5, 0], [0, 0, 0], [0, 1, 0]]))
    assert graph.denoise(g, 0.3, binarise=True).matrix.toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert g.edges == 4


def test_blend_is_the_weighted_sum() -> None:
    a, b = square([[0, 1], [2, 0]]), square([[3, 0], [1, 0]])
    g = graph.blend([(2, a), (-4, b)])
    assert g.matrix.toarray().tolist() == [[-12, 2], [0, 0]]
    assert edges(g) == {(0, 0), (0, 1)}  # 2 * 2 - 4 * 1 cancels: no edge
    assert graph.blend([(0, a)]).edges == 0


def test_blend_remembers_every_interactions_it_saw() -> None:
    a, b = (
        replace(square([[0, 1], [0, 0]]), interactions=("x",)),
        replace(square([[1, 0], [0, 0]]), interactions=("y",)),
    )
    assert graph.blend([(1, b), (1, a), (1, a)]).interactions == ("x", "y")


def test_blend_refuses_what_does_not_fit() -> None:
    with pytest.raises(Misaligned, match="cannot be blended"):
        graph.blend([(1, square(np.eye(2))), (1, square(np.eye(3)))])
    with pytest.raises(BadSetting, match="at least one"):
        graph.blend([])
    with pytest.raises(BadSetting, match="a weight is nan"):
        graph.blend([(float("nan"), square(np.eye(2)))])


def test_drop_edges_keeps_the_share_and_the_weights() -> None:
    rng = np.random.default_rng(0)
    g = square(rng.random((120, 120)) + 0.1)
    kept = graph.drop_edges(g, 0.8, seed=3)
    assert abs(kept.edges - 0.8 * g.edges) < 4 * np.sqrt(g.edges * 0.8 * 0.2)
    table, before = kept.matrix.toarray(), g.matrix.toarray()
    assert (table[table != 0] == before[table != 0]).all()
    assert edges(graph.drop_edges(g, 0.8, seed=3)) == edges(kept)
    assert edges(graph.drop_edges(g, 0.8, seed=4)) != edges(kept)
    assert edges(graph.drop_edges(g, 1, seed=3)) == edges(g)


@pytest.mark.parametrize("keep", [0, -0.1, 1.5, float("nan")])
def test_drop_edges_refuses_a_share_that_is_none(keep: float) -> None:
    with pytest.raises(BadSetting, match="the share of edges that stays"):
        graph.drop_edges(square(np.eye(2)), keep, 0)


# --- normalise


def test_normalise_by_hand() -> None:
    """Users of degree 2, 1, 0; items of degree 2, 1, 0."""
    g = graph.normalise(graph.bipartite(choices([(0, 0), (0, 1), (1, 0)], 3, 3)))
    expected = np.array([[1 / 2, 1 / np.sqrt(2), 0], [1 / np.sqrt(2), 0, 0], [0, 0, 0]])
    assert g.matrix.toarray() == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 15), cols=st.integers(1, 15), signs=st.booleans())
def test_normalise_equals_a_dense_twin_and_no_singular_value_exceeds_one(
    seed: int, rows: int, cols: int, signs: bool
) -> None:
    rng = np.random.default_rng(seed)
    table = rng.random((rows, cols)) * (rng.random((rows, cols)) < 0.4)
    if signs:
        table *= rng.choice([-1, 1], table.shape)
    g = Graph(ids("user", rows), ids("item", cols), sparse.csr_matrix(table))
    found = graph.normalise(g).matrix.toarray()
    with np.errstate(divide="ignore"):
        left, right = 1 / np.sqrt(np.abs(table).sum(1)), 1 / np.sqrt(np.abs(table).sum(0))
    expected = np.where(
        table != 0, np.where(np.isinf(left), 0, left)[:, None] * table * np.where(np.isinf(right), 0, right), 0
    )
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(found, 2) <= 1 + 1e-5
    if not signs and table.any():
        assert np.linalg.norm(found, 2) == pytest.approx(1, abs=1e-5)


def test_a_symmetric_graph_stays_symmetric_and_its_eigenvalues_stay_within_one() -> None:
    table = np.random.default_rng(0).random((12, 12))
    g = square(table + table.T)
    found = graph.normalise(g).matrix.toarray()
    assert found == pytest.approx(found.T)
    values = np.linalg.eigvalsh(found)
    assert values.max() == pytest.approx(1, abs=1e-5)
    assert values.min() >= -1 - 1e-5
    assert graph.normalise(g, degree="row").matrix.toarray() == pytest.approx(found, abs=1e-6)


def test_normalise_by_row_degree_on_both_sides() -> None:
    """MLLMRec: D^-1/2 A D^-1/2 with D the sums of rows; a node without edges of its own receives none."""
    table = np.array([[0, 1, 1, 0], [3, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], float)
    d = np.array([2, 4, 1, np.inf])
    found = graph.normalise(square(table), degree="row").matrix.toarray()
    assert found == pytest.approx(table / np.sqrt(d[:, None] * d[None, :]))
    assert found[0, 1] != pytest.approx(graph.normalise(square(table)).matrix.toarray()[0, 1])


def test_normalise_by_row_degree_refuses_a_bipartite_graph() -> None:
    with pytest.raises(BadSetting, match="items with items"):
        graph.normalise(graph.bipartite(random_choices(0)), degree="row")
    with pytest.raises(BadSetting, match='"own" or "row"'):
        graph.normalise(square(np.eye(2)), degree="both")  # type: ignore[arg-type]


def test_changes_remember_the_interactions() -> None:
    g = graph.bipartite(random_choices(0))
    for changed in (graph.normalise(g), graph.drop_edges(g, 0.5, 0), graph.denoise(g, 0.5, binarise=True)):
        assert changed.interactions == g.interactions


# --- noise


def pairs(interactions: Interactions) -> set[tuple[int, int]]:
    return set(zip(interactions.user.tolist(), interactions.item.tolist(), strict=True))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    share=st.floats(0, 0.5),
    rate=st.floats(0, 1),
    users=st.integers(1, 20),
    items=st.integers(1, 20),
)
def test_noise_adds_the_right_number_of_new_pairs(seed: int, share: float, rate: float, users: int, items: int) -> None:
    chosen = random_choices(seed, users, items, share)
    wanted = round(rate * len(chosen))
    if wanted > users * items - len(chosen):
        with pytest.raises(BadSetting, match="Lower the rate"):
            graph.add_noise(chosen, rate, seed)
        return
    noisy = graph.add_noise(chosen, rate, seed)
    assert len(noisy) == len(pairs(noisy)) == len(chosen) + wanted
    assert (noisy.user[: len(chosen)] == chosen.user).all()
    assert (noisy.item[: len(chosen)] == chosen.item).all()
    assert pairs(chosen) <= pairs(noisy)
    assert noisy.user.max(initial=0) < users
    assert noisy.item.max(initial=0) < items


def test_noise_of_rate_zero_is_no_change() -> None:
    chosen = random_choices(0)
    assert graph.add_noise(chosen, 0, 1).hash == chosen.hash


def test_noise_repeats_with_its_seed_only() -> None:
    chosen = random_choices(0, 30, 30, 0.1)
    assert graph.add_noise(chosen, 0.3, 1).hash == graph.add_noise(chosen, 0.3, 1).hash
    assert graph.add_noise(chosen, 0.3, 1).hash != graph.add_noise(chosen, 0.3, 2).hash


def test_every_free_pair_is_equally_likely_to_be_noise() -> None:
    chosen = choices([(0, 0), (0, 1), (1, 1), (2, 3)], 3, 4)
    draws = 1500
    count = np.zeros((3, 4))
    for seed in range(draws):
        noisy = graph.add_noise(chosen, 0.5, seed)
        count[noisy.user[4:], noisy.item[4:]] += 1
    free = np.ones((3, 4), bool)
    free[chosen.user, chosen.item] = False
    expected = draws * 2 / 8
    assert count[~free].sum() == 0
    assert (np.abs(count[free] - expected) < 5 * np.sqrt(expected * 0.75)).all()


def test_noise_can_fill_every_free_pair() -> None:
    chosen = choices([(0, 0), (0, 1), (1, 0)], 2, 3)
    noisy = graph.add_noise(chosen, 1, 0)
    assert len(pairs(noisy)) == 6


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_noise_rate_outside_zero_to_one_is_refused(rate: float) -> None:
    with pytest.raises(BadSetting, match="from 0 to 1"):
        graph.add_noise(random_choices(0), rate, 0)


def test_too_little_room_for_noise_is_refused() -> None:
    full = choices([(u, i) for u in range(3) for i in range(3)], 3, 3)
    with pytest.raises(BadSetting, match="asks for 4 new pairs, but only 0 are free among 3 users and 3 items"):
        graph.add_noise(full, 0.5, 0)


def test_noise_avoids_the_held_out_pairs() -> None:
    chosen = choices([(0, 0), (1, 1)], 2, 4)
    held = choices([(0, 1), (0, 2), (1, 0), (1, 3)], 2, 4)
    for seed in range(20):
        assert pairs(graph.add_noise(chosen, 1, seed, avoid=held)) == {(0, 0), (1, 1), (0, 3), (1, 2)}
    with pytest.raises(Misaligned, match="other users or items"):
        graph.add_noise(chosen, 0.5, 0, avoid=choices([], 2, 5))


def test_noise_looks_like_the_data_in_every_column() -> None:
    """Times and values are drawn from true ones, positions lie within the user's own, reviews are gaps."""
    chosen = choices(
        [(u, i) for u in range(6) for i in range(4)],
        7,
        30,
        time=np.arange(1000, 1024),
        position=np.tile(np.arange(4), 6),
        value=np.tile(np.array([1.0, 5.0]), 12),
        review=tuple(f"r{n}" for n in range(24)),
    )
    noisy = graph.add_noise(chosen, 1, 0)
    new = noisy.take(np.arange(24, 48))
    assert new.time is not None
    assert new.value is not None
    assert new.position is not None
    assert noisy.review is not None
    assert chosen.time is not None
    assert set(new.time) <= set(chosen.time)
    assert len(set(new.time)) > 5
    assert set(new.value) == {1.0, 5.0}
    own = np.bincount(chosen.user, minlength=7)[new.user]
    assert (new.position >= 0).all()
    assert (new.position <= own).all()
    assert new.time.dtype == chosen.time.dtype
    assert noisy.review[:24] == chosen.review
    assert noisy.review[24:] == (None,) * 24
