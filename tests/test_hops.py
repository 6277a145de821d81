"""Products over a graph against dense matrices, forwards and backwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from worlds import random_split

from penchant.data import Interactions
from penchant.hops import Hops, propagate


@pytest.fixture(scope="module")
def train() -> Interactions:
    """Irregular on purpose: degrees differ; the last user and the last item are without any choice."""
    whole = random_split(11, users=23, items=17, most=9).train
    keep = (whole.user != 22) & (whole.item != 16)
    return Interactions(whole.users, whole.items, whole.user[keep], whole.item[keep])


def normalised(train: Interactions, loops: bool) -> np.ndarray:
    """D^-1/2 A D^-1/2, or of A + I, entry by entry; 0 where a node has no edge. (N, N) float64"""
    users, n = len(train.users), len(train.users) + len(train.items)
    a = np.zeros((n, n))
    for u, i in zip(train.user, train.item, strict=True):
        a[u, users + i] = a[users + i, u] = 1
    if loops:
        a += np.eye(n)
    degree = a.sum(axis=1)
    for r in range(n):
        for c in range(n):
            if a[r, c]:
                a[r, c] /= np.sqrt(degree[r]) * np.sqrt(degree[c])
    return a


def dense(hops: Hops, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The matrix with these weights on its edges, differentiable in them; read from starts and columns alone. (N, N)"""
    weights = hops.weights if weights is None else weights
    n = len(hops.starts) - 1
    place = [r * n + int(hops.columns[e]) for r in range(n) for e in range(hops.starts[r], hops.starts[r + 1])]
    assert len(set(place)) == len(place) == len(weights)
    return torch.zeros(n * n, dtype=weights.dtype).index_put((torch.tensor(place),), weights).view(n, n)


def symmetric(seed: int, n: int, share: float, loops: bool = True) -> sparse.csr_matrix:
    """A random symmetric matrix, some rows empty, its entries stored out of order."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < share), 0 if loops else 1)
    whole = sparse.csr_matrix(upper + np.triu(upper, 1).T)
    for r in range(n):
        row = slice(whole.indptr[r], whole.indptr[r + 1])
        whole.indices[row], whole.data[row] = whole.indices[row][::-1].copy(), whole.data[row][::-1].copy()
    whole.has_sorted_indices = False
    return whole


def drawn(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradients(value: torch.Tensor, *of: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of a sum in which every entry of `value` counts differently."""
    odd = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return torch.autograd.grad((value * odd).sum() + (value**2 * odd).sum(), of)


# --- the matrix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loops", [False, True])
def test_bipartite_is_the_normalised_adjacency(train: Interactions, loops: bool) -> None:
    found, expected = dense(Hops.bipartite(train, loops)).numpy(), normalised(train, loops)
    assert np.abs(found - expected).max() < 1e-6
    users = len(train.users)
    lonely = [users - 1, users + len(train.items) - 1]
    for node in lonely:
        assert found[node].sum() == (1 if loops else 0), "a node without choices has its own vector, or none"
    assert (np.diag(found) > 0).all() == loops
    assert np.isfinite(found).all()


def test_a_choice_made_twice_is_one_edge(train: Interactions) -> None:
    twice = Interactions(train.users, train.items, np.tile(train.user, 2), np.tile(train.item, 2))
    assert torch.equal(dense(Hops.bipartite(twice)), dense(Hops.bipartite(train)))


@pytest.mark.parametrize("loops", [False, True])
def test_the_twin_of_an_edge_is_its_other_direction(train: Interactions, loops: bool) -> None:
    hops = Hops.bipartite(train, loops)
    assert torch.equal(hops.rows[hops.twin], hops.columns)
    assert torch.equal(hops.columns[hops.twin], hops.rows)
    edge = torch.arange(len(hops.weights))
    assert torch.equal(hops.twin[hops.twin], edge)
    assert torch.equal(hops.twin == edge, hops.rows == hops.columns), "a loop is its own other direction"
    assert torch.equal(torch.diff(hops.starts), torch.bincount(hops.rows, minlength=len(hops.starts) - 1))


def test_a_graph_is_not_saved_with_the_parameters(train: Interactions) -> None:
    assert not Hops.bipartite(train).state_dict()


# --- products ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), d=st.integers(1, 5), share=st.sampled_from([0.0, 0.2, 0.7]))
def test_any_symmetric_matrix_is_multiplied_and_differentiated(seed: int, n: int, d: int, share: float) -> None:
    matrix = symmetric(seed, n, share)
    a, hops = torch.from_numpy(matrix.toarray()).float(), Hops(matrix)
    x, y = drawn(n, d, seed).requires_grad_(), drawn(n, d, seed).requires_grad_()
    found, expected = hops.hop(x), a @ y
    assert torch.allclose(found, expected, atol=1e-5)
    (g,), (h,) = gradients(found, x), gradients(expected, y)
    assert torch.allclose(g, h, atol=1e-4)
    assert torch.equal(hops.columns[hops.twin], hops.rows), "in whatever order the entries came"
    assert torch.equal(hops.rows[hops.twin], hops.columns)


def test_a_hop_leaves_its_table_alone_and_takes_other_symmetric_weights(train: Interactions) -> None:
    hops = Hops.bipartite(train)
    x = drawn(len(hops.starts) - 1, 3).requires_grad_()
    before = x.detach().clone()
    other = hops.weights * 3 - 0.1 * torch.minimum(hops.rows, hops.columns)
    assert torch.equal(other, other[hops.twin])
    found, expected = hops.hop(x, other), dense(hops, other) @ x
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(*gradients(found, x), *gradients(expected, x), atol=1e-4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("loops", [False, True])
def test_weights_are_trained_though_the_two_directions_differ(train: Interactions, loops: bool) -> None:
    hops = Hops.bipartite(train, loops)
    n = len(hops.starts) - 1
    x, w = drawn(n, 4, dtype=torch.float64).requires_grad_(), torch.rand(len(hops.weights), dtype=torch.float64)
    assert not torch.equal(w, w[hops.twin])
    w.requires_grad_()
    found, expected = hops.weigh(x, w), dense(hops, w) @ x
    assert torch.allclose(found, expected)
    to_x, to_w = gradients(expected, x, w)
    assert min(to_x.abs().max(), to_w.abs().max()) > 0.1
    assert all(map(torch.allclose, gradients(found, x, w), (to_x, to_w)))
    # With one of the two a constant, the other has the same gradient.
    assert torch.allclose(*gradients(hops.weigh(x, w.detach()), x), to_x)
    assert torch.allclose(*gradients(hops.weigh(x.detach(), w), w), to_w)


def test_weights_made_from_the_table_itself_get_both_gradients(train: Interactions) -> None:
    """Attention: w_uv = tanh(x_u . x_v), with the gradient of x through the product and through w."""
    hops = Hops.bipartite(train)
    x = drawn(len(hops.starts) - 1, 3, dtype=torch.float64).requires_grad_()
    w = torch.tanh((x[hops.rows.long()] * x[hops.columns.long()]).sum(-1))
    there = torch.from_numpy(normalised(train, False)) > 0
    (g,), (h,) = gradients(hops.weigh(x, w), x), gradients((torch.tanh(x @ x.T) * there) @ x, x)
    assert torch.allclose(g, h)


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thinned", [False, True])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_layers_are_summed_forwards_and_backwards(train: Interactions, layers: int, thinned: bool) -> None:
    torch.manual_seed(0)
    hops = Hops.bipartite(train)
    weights = hops.thin(0.6) if thinned else None
    a = dense(hops, weights)
    x = drawn(len(a), 4).requires_grad_()
    found = propagate(x, hops, layers, weights)
    layer = expected = x
    for _ in range(layers):
        layer = a @ layer
        expected = expected + layer
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(*gradients(found, x), *gradients(expected, x), atol=1e-4)
    assert found.data_ptr() != x.data_ptr(), "a result that is written to must not write to the table"


# --- edges that go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loops", [False, True])
def test_an_edge_goes_in_both_directions_and_what_stays_keeps_its_weight(train: Interactions, loops: bool) -> None:
    torch.manual_seed(3)
    hops = Hops.bipartite(train, loops)
    for keep in (0.1, 0.5, 0.9):
        thinned = hops.thin(keep)
        assert torch.equal(dense(hops, thinned), dense(hops, thinned).T)
        stays = thinned != 0
        assert 0 < stays.sum() < len(stays)
        assert torch.equal(thinned[stays], hops.weights[stays])
    assert torch.equal(hops.thin(1.0), hops.weights)
    assert not hops.thin(0.0).any()
    assert torch.equal(dense(hops), dense(Hops.bipartite(train, loops))), "the graph itself is not thinned"


@pytest.mark.parametrize("keep", [0.2, 0.8])
def test_edges_stay_at_the_rate_that_was_asked_for(keep: float) -> None:
    """The number that stays is binomial, over edges of one draw and over draws of one edge."""
    train = random_split(5, users=400, items=300, most=60).train
    hops = Hops.bipartite(train)
    edges = hops.rows < hops.columns
    count = int(edges.sum())
    assert count == len(train)
    torch.manual_seed(0)
    stayed = torch.stack([hops.thin(keep)[edges] != 0 for _ in range(100)]).double()
    spread = (keep * (1 - keep)) ** 0.5
    assert ((stayed.mean(1) - keep).abs() < 5 * spread / count**0.5).all(), "of each draw"
    assert abs(float(stayed.mean()) - keep) < 4 * spread / (100 * count) ** 0.5
    # An edge's number of stays in 100 draws has a binomial's variance: edges are as free as coins, none is favoured.
    assert float(stayed.sum(0).var()) == pytest.approx(100 * spread**2, rel=0.1)


def test_a_draw_is_a_function_of_torchs_seed(train: Interactions) -> None:
    hops = Hops.bipartite(train)

    def two(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        return hops.thin(0.5), hops.thin(0.5)

    first, second = two(1)
    assert not torch.equal(first, second)
    assert all(map(torch.equal, two(1), (first, second)))
    assert not torch.equal(two(2)[0], first)
