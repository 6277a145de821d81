"""GCCF, SGL and SimGCL, and the contrast they share, against slow, literal twins.

The twins of the two contrastive models go through a batch triple by triple and through all users and items, on dense
matrices, with the gradient left to autograd. What the net draws is drawn again from the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from math import comb

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from worlds import World, random_split

from penchant import losses
from penchant.batches import Pairs, Triples
from penchant.data import Interactions, no_history
from penchant.hops import Hops
from penchant.models.gccf import Gccf
from penchant.models.lightgcn import LightGcn
from penchant.models.sgl import Sgl, SglNet
from penchant.models.simgcl import SimGcl, SimGclNet
from penchant.nn import EmbeddingNet
from penchant.training import Training

Contrastive = Sgl | SimGcl
BOTH = pytest.mark.parametrize(
    "model",
    [Sgl(dim=5, layers=2, weight_contrast=0.3), SimGcl(dim=5, layers=2, weight_contrast=0.3)],
    ids=["sgl", "simgcl"],
)


@pytest.fixture(scope="module")
def small() -> Interactions:
    """Irregular on purpose: degrees differ; the last user and the last item are without any choice."""
    whole = random_split(11, users=23, items=17, most=9).train
    keep = (whole.user != 22) & (whole.item != 16)
    return Interactions(whole.users, whole.items, whole.user[keep], whole.item[keep])


def triples(train: Interactions, n: int = 40, negatives: int = 1) -> Triples:
    return next(Pairs(train).epoch(np.random.default_rng(0), n, negatives))


def adjacency(train: Interactions, loops: bool = False) -> torch.Tensor:
    """D^-1/2 A D^-1/2 over users, then items; with loops of A + I. (N, N)"""
    users = len(train.users)
    a = torch.eye(users + len(train.items)) * loops
    for u, i in zip(train.user, train.item, strict=True):
        a[u, users + i] = a[users + i, u] = 1
    scale = a.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * a * scale


def matrix(hops: Hops, weights: torch.Tensor) -> torch.Tensor:
    a = torch.zeros(len(hops.starts) - 1, len(hops.starts) - 1)
    a[hops.rows, hops.columns] = weights
    return a


def built(model: Contrastive | Gccf, train: Interactions, seed: int = 0) -> EmbeddingNet:
    torch.manual_seed(seed)
    return model.build(train)


def bpr(e: torch.Tensor, users: int, batch: Triples) -> torch.Tensor:
    terms = []
    for u, i, row in zip(batch.user, batch.positive, batch.negative.reshape(len(batch), -1), strict=True):
        terms += [-F.logsigmoid(e[u] @ e[users + i] - e[u] @ e[users + j]) for j in row]
    return torch.stack(terms).mean()


def told(first: torch.Tensor, second: torch.Tensor, rows: torch.Tensor, t: float) -> torch.Tensor:
    """Mean over `rows`, repeats and all, of -log exp(s(z', z'') / t) / sum over every v of exp(s(z', z''_v) / t)."""
    terms = []
    for b in rows.reshape(-1):
        s = F.cosine_similarity(first[b], second, dim=1) / t  # (N,)
        terms.append(-torch.log(torch.exp(s[b]) / torch.exp(s).sum()))
    return torch.stack(terms).mean()


def sgl_twin(net: SglNet, e0: torch.Tensor, batch: Triples) -> torch.Tensor:
    model, users = net.model, net.users

    def layers(a: torch.Tensor) -> torch.Tensor:
        return sum((torch.matrix_power(a, k) @ e0 for k in range(model.layers + 1)), torch.zeros(()))

    one, two = (layers(matrix(net.hops, net.hops.thin(model.keep_edges))) for _ in range(2))
    ssl = told(one[:users], two[:users], batch.user, model.temperature)
    for rows in (batch.positive, batch.negative):
        ssl = ssl + told(one[users:], two[users:], rows, model.temperature)
    return bpr(layers(adjacency(net.pairs.train)), users, batch) + model.weight_contrast * ssl


def simgcl_twin(net: SimGclNet, e0: torch.Tensor, batch: Triples) -> torch.Tensor:
    """Every view with a propagation of its own, through which autograd goes."""
    model, users, a = net.model, net.users, adjacency(net.pairs.train)
    noise = [torch.rand(len(e0), 2, e0.shape[1]) for _ in range(model.layers)]

    def layers(view: int | None) -> torch.Tensor:
        layer = total = e0
        for n in noise:
            layer = a @ layer
            if view is not None:
                length = n[:, view].square().sum(1, keepdim=True).sqrt()
                layer = layer + model.eps * n[:, view] / length * torch.sign(layer)
            total = total + layer
        return total

    one, two = layers(0), layers(1)
    cl = told(one[:users], two[:users], batch.user, model.temperature)
    cl = cl + told(one[users:], two[users:], batch.positive, model.temperature)
    return bpr(layers(None), users, batch) + model.weight_contrast * cl


TWINS: dict[type[EmbeddingNet], Callable[..., torch.Tensor]] = {SglNet: sgl_twin, SimGclNet: simgcl_twin}


def same_loss_and_gradient(net: EmbeddingNet, batch: Triples) -> None:
    e0 = net.ground().detach().clone().requires_grad_()
    torch.manual_seed(5)
    found = net.loss(batch)
    torch.manual_seed(5)
    expected = TWINS[type(net)](net, e0, batch)
    (g,), (h,) = torch.autograd.grad(found, net.ground()), torch.autograd.grad(expected, e0)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    assert h.abs().max() > 1e-2
    assert torch.allclose(g, h, atol=2e-5)


# --- GCCF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_gccf_sets_its_layers_side_by_side(small: Interactions, layers: int) -> None:
    net = built(Gccf(dim=5, layers=layers), small)
    s, e0 = adjacency(small, loops=True), net.ground().detach()
    expected = torch.cat([torch.matrix_power(s, k) @ e0 for k in range(layers + 1)], dim=1)
    vectors = net.embed()
    assert vectors.users.shape == (len(small.users), 5 * (layers + 1))
    assert torch.allclose(torch.cat([vectors.users, vectors.items]), expected, atol=1e-5)
    # Residual prediction: a score is what layer 0 says, plus what each layer adds to it.
    score = net.finish().score(no_history(np.unique(small.user)))
    users = expected[: len(small.users)].unflatten(1, (layers + 1, 5))[np.unique(small.user)]
    items = expected[len(small.users) :].unflatten(1, (layers + 1, 5))
    assert score == pytest.approx(sum(users[:, k] @ items[:, k].T for k in range(layers + 1)).numpy(), abs=1e-5)


@pytest.mark.parametrize("negatives", [1, 3])
def test_gccf_is_trained_through_all_layers(small: Interactions, negatives: int) -> None:
    net, batch = built(Gccf(dim=5, layers=2), small), triples(small, negatives=negatives)
    e0 = net.ground().detach().clone().requires_grad_()
    s = adjacency(small, loops=True)
    expected = bpr(torch.cat([e0, s @ e0, s @ s @ e0], dim=1), len(small.users), batch)
    found = net.loss(batch)
    (g,), (h,) = torch.autograd.grad(found, net.ground()), torch.autograd.grad(expected, e0)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    assert h.abs().max() > 1e-3
    assert torch.allclose(g, h, atol=1e-6)


def test_gccf_without_layers_is_matrix_factorisation_and_with_them_a_lonely_node_keeps_its_vector(
    small: Interactions,
) -> None:
    net = built(Gccf(dim=5, layers=0), small)
    assert torch.equal(torch.cat(net.embed()[:2]), net.ground())
    deep = built(Gccf(dim=5, layers=3), small)
    lonely = len(small.users) - 1
    assert torch.allclose(deep.embed().users[lonely], deep.ground()[lonely].repeat(4))


# --- SGL and SimGCL: the loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [0, 1, 3])
@BOTH
def test_the_loss_is_that_of_the_paper_written_out(model: Contrastive, layers: int, small: Interactions) -> None:
    """A batch in which users and items repeat."""
    batch = triples(small)
    assert len(batch.user.unique()) < len(batch)
    same_loss_and_gradient(built(replace(model, layers=layers), small), batch)


@BOTH
def test_more_negatives_count_as_one_all_together(model: Contrastive, small: Interactions) -> None:
    same_loss_and_gradient(built(replace(model, negatives=3), small), triples(small, n=20, negatives=3))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@BOTH
def test_any_temperature_and_weight_are_heeded(model: Contrastive, temperature: float, small: Interactions) -> None:
    changed = replace(model, temperature=temperature, weight_contrast=2.0)
    same_loss_and_gradient(built(changed, small), triples(small, n=10))


def test_sgl_keeps_as_many_edges_as_it_is_told(small: Interactions) -> None:
    same_loss_and_gradient(built(Sgl(dim=5, keep_edges=0.3, weight_contrast=1.0), small), triples(small, n=10))
    whole = built(Sgl(dim=5, keep_edges=1.0), small)
    assert isinstance(whole, SglNet)
    assert torch.equal(whole.view(whole.e0), torch.cat(whole.embed()[:2])), "a view without a loss is the clean one"
    empty = built(Sgl(dim=5, keep_edges=0.0), small)
    assert isinstance(empty, SglNet)
    assert torch.equal(empty.view(empty.e0), empty.e0), "without any edge nothing is passed on"


def test_noise_turns_each_layer_by_eps_and_changes_no_sign(small: Interactions) -> None:
    net = built(SimGcl(dim=5, layers=1, eps=0.7), small)
    assert isinstance(net, SimGclNet)
    passed = adjacency(small) @ net.e0.detach()  # (N, d)
    with torch.no_grad():
        vectors = net.embed()
        noise = torch.stack(net.views(*vectors.parts)) - torch.cat(vectors[:2])  # (2, N, d)
    alone = passed.abs().sum(1) == 0
    assert alone.any()
    assert torch.allclose(noise[:, ~alone].norm(dim=-1), torch.tensor(0.7), atol=1e-4)
    assert (noise[:, alone].abs() < 1e-6).all(), "where nothing arrives there is no sign to follow"
    assert ((noise * passed)[:, ~alone] > -1e-6).all(), "noise has the signs of what it is added to"
    assert (noise[0] - noise[1]).norm(dim=-1)[~alone].min() > 1e-3
    # Uniform before it is scaled: the smaller of two coordinates is on average half the larger one.
    wide = built(SimGcl(dim=2, layers=1, eps=1.0), random_split(3, users=3000, items=50).train)
    assert isinstance(wide, SimGclNet)
    turned = wide.deltas(wide.e0, torch.cat(wide.embed()[:2]))[:3000].detach()
    arrives = (turned.norm(dim=-1) - 1).abs() < 1e-3
    angle = torch.atan2(turned.abs().amin(-1), turned.abs().amax(-1))[arrives]
    assert float(torch.tan(angle).mean()) == pytest.approx(0.5, abs=0.02)


def test_views_without_noise_are_the_clean_vectors(small: Interactions) -> None:
    net = built(SimGcl(dim=5, eps=0.0), small)
    assert isinstance(net, SimGclNet)
    vectors = net.embed()
    for view in net.views(*vectors.parts):
        assert torch.allclose(view, torch.cat(vectors[:2]), atol=1e-6)


# --- SGL and SimGCL: what wraps them may rely on ----------------------------------------------------------------------


@BOTH
def test_without_its_weight_a_contrastive_model_is_lightgcn_bit_by_bit_and_draws_nothing(
    model: Contrastive, world: World
) -> None:
    training = Training(epochs=3, batch_size=64, learning_rate=0.03, device="cpu")
    bare = LightGcn(dim=8, layers=2, l2=1e-4).fit(world.train, world.valid, training)
    off = replace(model, dim=8, l2=1e-4, weight_contrast=0.0).fit(world.train, world.valid, training)
    assert np.array_equal(off.score(off.known), bare.score(bare.known))
    on = replace(model, dim=8, l2=1e-4).fit(world.train, world.valid, training)
    assert not np.allclose(on.score(on.known), bare.score(bare.known), atol=1e-3)
    for weight, draws in ((0.0, False), (0.1, True)):
        net = built(replace(model, weight_contrast=weight), world.train)
        before = torch.get_rng_state()
        net.loss(triples(world.train)).backward()
        assert torch.equal(torch.get_rng_state(), before) != draws


@BOTH
def test_another_table_in_place_of_its_own_is_used_for_the_views_too(model: Contrastive, small: Interactions) -> None:
    """As if the net had been built with it; the gradient goes to it and to nothing else."""
    net, batch = built(model, small), triples(small, n=20)
    other = torch.randn(net.ground().shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch.manual_seed(5)
    found = net.objective(batch, net.embed(other))
    (g,) = torch.autograd.grad(found, other, retain_graph=True)
    found.backward()
    assert net.ground().grad is None
    twin = built(model, small)
    with torch.no_grad():
        twin.ground().copy_(other)
    torch.manual_seed(5)
    expected = twin.loss(batch)
    (h,) = torch.autograd.grad(expected, twin.ground())
    assert found.item() == expected.item()
    assert torch.equal(g, h)


@BOTH
def test_what_is_recommended_is_clean_in_either_mode(model: Contrastive, small: Interactions) -> None:
    net = built(model, small)
    a, e0 = adjacency(small), net.ground().detach()
    expected = e0 + a @ e0 + a @ a @ e0
    before = torch.get_rng_state()
    for mode in (True, False):
        assert torch.allclose(torch.cat(net.train(mode).embed()[:2]), expected, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


@BOTH
def test_a_sample_as_large_as_the_table_is_all_of_it_and_a_smaller_one_estimates_it(
    model: Contrastive, small: Interactions
) -> None:
    net, batch = built(model, small), triples(small)

    def loss(contrast: int | None, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        object.__setattr__(net, "model", replace(model, contrast=contrast, weight_contrast=1.0))
        torch.manual_seed(seed)
        value = net.loss(batch)
        return value.detach(), torch.autograd.grad(value, net.ground())[0]

    literal = loss(None, 0)
    assert all(map(torch.equal, loss(10**6, 0), literal))
    values, found = zip(*(loss(12, seed) for seed in range(60)), strict=True)
    wholes, whole = zip(*(loss(None, seed) for seed in range(60)), strict=True)
    rough, exact = torch.stack(found).mean(0), torch.stack(whole).mean(0)
    assert float(torch.stack(values).mean()) == pytest.approx(float(torch.stack(wholes).mean()), rel=0.03)
    assert F.cosine_similarity(rough.flatten(), exact.flatten(), dim=0) > 0.98
    assert float(rough.norm() / exact.norm()) == pytest.approx(1, abs=0.1)


# --- the contrast -----------------------------------------------------------------------------------------------------


def literal(
    x: torch.Tensor,
    y: torch.Tensor,
    others: torch.Tensor,
    t: float,
    of: int | None,
    weight: torch.Tensor | None,
    place: list[int] | None,
) -> torch.Tensor:
    """The whole table, one row after the other."""
    terms = []
    for a, b, at in zip(x, y, [-1] * len(x) if place is None else place, strict=True):
        own = F.cosine_similarity(a, b, dim=0) / t
        logits = [F.cosine_similarity(a, o, dim=0) / t for k, o in enumerate(others) if k != at]
        if of is not None:
            logits = [own] + [s + float(np.log((of - 1) / len(logits))) for s in logits]
        terms.append(torch.logsumexp(torch.stack(logits), 0) - own)
    each = torch.stack(terms)
    return each.mean() if weight is None else (each * weight).sum()


@given(
    rows=st.integers(1, 9),
    crowd=st.integers(1, 9),
    temperature=st.sampled_from([0.002, 0.02, 0.2, 1.0]),
    of=st.sampled_from([None, 40]),
    weighted=st.booleans(),
    placed=st.booleans(),
    at_once=st.sampled_from([1, 20, 2**19]),
    seed=st.integers(0, 1000),
)
def test_infonce_and_its_gradients_are_those_of_the_whole_table(
    rows: int, crowd: int, temperature: float, of: int | None, weighted: bool, placed: bool, at_once: int, seed: int
) -> None:
    """Whatever the size of the blocks that it is worked off in, and where exp(1 / t) is no float any more."""
    rng = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(n, 4, dtype=torch.float64, generator=rng) for n in (rows, rows, crowd)]
    weight = torch.rand(rows, dtype=torch.float64, generator=rng) if weighted else None
    place = torch.randint(-1, crowd, (rows,), generator=rng) if placed and of and crowd > 1 else None
    mine, theirs = ([x.clone().requires_grad_() for x in tensors] for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "CACHED", at_once)
        found = losses.infonce(*mine, temperature, of, weight, place)
    expected = literal(*theirs, temperature, of, weight, None if place is None else place.tolist())
    assert found.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    for g, h in zip(torch.autograd.grad(5 * found, mine), torch.autograd.grad(5 * expected, theirs), strict=True):
        assert torch.allclose(g, h, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.1])
def test_single_precision_is_enough_for_any_temperature(temperature: float) -> None:
    rng = torch.Generator().manual_seed(0)
    x, y, others = (torch.randn(n, 8, generator=rng) for n in (40, 40, 3000))
    x[0], y[0], others[:] = 1, -1, torch.where(torch.arange(3000)[:, None] < 2999, others.abs(), others)
    single = [t.clone().requires_grad_() for t in (x, y, others)]
    double = [t.double().requires_grad_() for t in (x, y, others)]
    found, expected = losses.infonce(*single, temperature), losses.infonce(*double, temperature)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for g, h in zip(torch.autograd.grad(found, single), torch.autograd.grad(expected, double), strict=True):
        assert torch.isfinite(g).all()
        assert (g - h).abs().max() < 1e-4 * h.abs().max()


def test_what_needs_no_gradient_gets_none_and_leaves_the_rest_as_it_is() -> None:
    x, y, others = (torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (4, 5, 6))
    y = y[:4]
    trained = x.clone().requires_grad_()
    all_three = [t.clone().requires_grad_() for t in (x, y, others)]
    (g,) = torch.autograd.grad(losses.infonce(trained, y, others, 0.2), trained)
    assert torch.allclose(g, torch.autograd.grad(losses.infonce(*all_three, 0.2), all_three)[0])
    assert losses.infonce(x, y, others, 0.2).item() == losses.infonce(*all_three, 0.2).item()
    assert not losses.infonce(x, y, others, 0.2).requires_grad
    assert losses.infonce(x[:0], y[:0], others, 0.2).item() == 0


def test_known_values_of_the_contrast() -> None:
    eye = torch.eye(4)
    one_in_four = losses.infonce(eye, eye, eye, 1.0)
    assert one_in_four.item() == pytest.approx(np.log(np.e + 3) - 1, abs=1e-6)
    assert losses.infonce(eye, eye, torch.ones(7, 4), 1.0).item() == pytest.approx(np.log(7) + 0.5 - 1, abs=1e-6)
    # A sample stands for all: three others of the same kind for the ninety-nine that there are.
    few = losses.infonce(eye[:1], eye[:1], eye[1:], 1.0, of=100)
    assert few.item() == pytest.approx(np.log(np.e + 99) - 1, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_sum_over_a_sample_is_that_over_all_on_average_over_all_samples(count: int) -> None:
    """exp(loss) is the sum over the others relative to the own term; a row that draws itself counts itself once."""
    x, table = (torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    for b in range(6):
        one, own = x[b : b + 1], table[b : b + 1]
        sums = []
        for drawn in map(list, combinations(range(6), count)):
            place = torch.tensor([drawn.index(b) if b in drawn else -1])
            value = losses.infonce(one, own, table[drawn], 0.3, of=6, place=place)
            if drawn == [b]:
                assert value.item() == pytest.approx(0, abs=1e-12), "told from nobody but itself"
            else:
                sums.append(value.exp())
        there, away = comb(5, count - 1), comb(5, count)
        # Those samples with b and those without it estimate the same sum, each without bias.
        assert len(sums) == there + away - (count == 1)
        expected = losses.infonce(one, own, table, 0.3).exp()
        assert torch.stack(sums).mean().item() == pytest.approx(expected.item(), rel=1e-9)


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=12), min_size=1, max_size=3))
def test_a_tally_replaces_means_over_rows_that_repeat(drawn: list[list[int]]) -> None:
    value = torch.linspace(-3, 5, 7) ** 2
    rows, weight = losses.tally(7, *(torch.tensor(each) for each in drawn))
    assert rows.tolist() == sorted({r for each in drawn for r in each})
    assert (weight @ value[rows]).item() == pytest.approx(
        sum(np.mean([value[r] for r in each]) for each in drawn), rel=1e-5
    )
    assert weight.sum().item() == pytest.approx(len(drawn), rel=1e-6)


# --- what it is all for -----------------------------------------------------------------------------------------------


@BOTH
def test_the_heavier_the_contrast_the_more_even_the_vectors(model: Contrastive, world: World) -> None:
    """Users and items are spread over the sphere: the mean cosine of two different ones falls with the weight."""
    training = Training(epochs=15, batch_size=128, learning_rate=0.02, device="cpu")
    alike = []
    for weight in (0.0, 0.2, 2.0):
        rec = replace(model, dim=16, weight_contrast=weight).fit(world.train, None, training)
        unit = F.normalize(torch.from_numpy(rec.scorer.arrays()["item"]), dim=1)
        alike.append(float((unit @ unit.T).square().mean()))
    assert all(heavy < light for light, heavy in pairwise(alike)), alike
