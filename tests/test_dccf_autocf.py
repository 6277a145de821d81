"""Dccf and AutoCf against slow, literal twins: every formula one edge, one row, one seed at a time, in double precision."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import random_split

from penchant import losses
from penchant.batches import Pairs, Triples
from penchant.data import Ids, Interactions
from penchant.errors import BadSetting
from penchant.hops import Edges
from penchant.models.autocf import AutoCf, AutoCfNet
from penchant.models.dccf import Dccf, DccfNet
from penchant.nn import Embedded


@pytest.fixture(scope="module")
def small() -> Interactions:
    """Irregular on purpose: degrees differ, a user and items without any choice."""
    return random_split(11, users=23, items=17, most=9).train


def plain(train: Interactions) -> torch.Tensor:
    """[[0, R], [R', 0]] in ones. (N, N) float64"""
    users, n = len(train.users), len(train.users) + len(train.items)
    a = torch.zeros(n, n, dtype=torch.float64)
    for u, i in zip(train.user, train.item, strict=True):
        a[u, users + i] = a[users + i, u] = 1
    return a


def normalised(a: torch.Tensor) -> torch.Tensor:
    """D^-1/2 A D^-1/2; rows without an edge stay 0."""
    scale = a.sum(1).clamp(min=1).pow(-0.5)
    return scale[:, None] * a * scale


def triples(train: Interactions, n: int = 40, negatives: int = 1) -> Triples:
    """A batch in which users and items come again."""
    batch = next(Pairs(train).epoch(np.random.default_rng(0), n, negatives))
    assert len(batch.user.unique()) < n
    assert len(batch.positive.unique()) < n
    return batch


def twins(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter again, in double precision."""
    return {name: p.detach().double().requires_grad_() for name, p in net.named_parameters()}


def agree(net: torch.nn.Module, own: dict[str, torch.Tensor]) -> None:
    """The net's gradients are the twins'; both were taken of the same loss."""
    for name, p in net.named_parameters():
        theirs = own[name].grad
        assert p.grad is not None, name
        assert theirs is not None, name
        size = theirs.abs().max()
        assert size > 1e-7, f"{name}: nothing to compare"
        assert (p.grad - theirs).abs().max() < 1e-4 * size + 1e-8, name


def bpr(e: torch.Tensor, users: int, batch: Triples) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    wide = batch.negative.reshape(len(batch), -1)
    for u, i, js in zip(batch.user, batch.positive, wide, strict=True):
        for j in js:
            total = total - torch.nn.functional.logsigmoid(e[u] @ e[users + i] - e[u] @ e[users + j])
    return total / wide.numel()


def rows_of(vectors: Embedded) -> torch.Tensor:
    return torch.cat([vectors.users, vectors.items])


# --- DCCF -------------------------------------------------------------------------------------------------------------


def reweighed(a: torch.Tensor, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Neighbours' e, each edge weighed by (cos + 1) / 2, one node at a time."""
    x = torch.nn.functional.normalize(x)
    out = []
    for v in range(len(a)):
        near = a[v].nonzero()[:, 0]
        w = (x[near] @ x[v] + 1) / 2
        out.append((w / w.sum()) @ e[near] if len(near) else torch.zeros_like(e[v]))
    return torch.stack(out)


def dccf_layers(
    own: dict[str, torch.Tensor], train: Interactions, layers: int
) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
    users, a, e = len(train.users), plain(train), own["e0"]
    total, parts = e, []
    for _ in range(layers):
        z = normalised(a) @ e
        r = []
        for v in range(len(e)):
            c = own["user_intents"] if v < users else own["item_intents"]
            r.append((c @ e[v]).softmax(0) @ c)
        parts.append([z, torch.stack(r), reweighed(a, z, e), reweighed(a, torch.stack(r), e)])
        e = e + sum(parts[-1])
        total = total + e
    return total, parts


def dccf_contrast(parts: list[list[torch.Tensor]], users: int, batch: Triples, t: float) -> torch.Tensor:
    some_users, some_items = sorted(set(batch.user.tolist())), sorted(set(batch.positive.tolist()))
    total = torch.zeros((), dtype=torch.float64)
    for z, *others in parts:
        for x in others:
            for rows in (some_users, [users + i for i in some_items]):
                cosine = torch.nn.functional.cosine_similarity(z[rows][:, None], x[rows][None], dim=-1) / t
                for b in range(len(rows)):
                    total = total - (cosine[b, b] - cosine[b].exp().sum().log()) / len(some_users)
    return total


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_dccf_passes_on_what_its_formulas_say(small: Interactions, layers: int) -> None:
    net = Dccf(dim=6, layers=layers, prototypes=5).build(small)
    found = net.embed()
    expected, parts = dccf_layers(twins(net), small, layers)
    assert (rows_of(found) - expected).abs().max() < 1e-5
    flat = [part for layer in parts for part in layer]
    assert len(found.parts) == len(flat) == 4 * layers
    for mine, theirs in zip(found.parts, flat, strict=True):
        assert theirs.abs().max() > 1e-2
        assert (mine - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(("weight", "negatives"), [(0.0, 1), (0.3, 1), (0.3, 3)])
def test_dccf_loss_and_gradient_are_those_of_the_twin(small: Interactions, weight: float, negatives: int) -> None:
    model = Dccf(dim=6, layers=2, prototypes=5, weight_contrast=weight, temperature=0.2, negatives=negatives)
    net, batch = model.build(small), triples(small, negatives=negatives)
    own = twins(net)
    e, parts = dccf_layers(own, small, 2)
    expected = bpr(e, len(small.users), batch) + weight * dccf_contrast(parts, len(small.users), batch, 0.2)
    expected.backward()
    loss = net.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    agree(net, own)


def test_dccf_told_from_a_sample_is_about_told_from_all(small: Interactions) -> None:
    """The mean over draws is near the literal value; a sample at least as large as the batch is the literal form."""
    batch = triples(small)
    net = Dccf(dim=6, layers=1, prototypes=5, weight_contrast=1.0, temperature=1.0).build(small)
    literal = net.loss(batch).item()
    few, many = (
        DccfNet(Dccf(dim=6, layers=1, prototypes=5, weight_contrast=1.0, temperature=1.0, contrast=c), small)
        for c in (6, 1000)
    )
    for other in (few, many):
        other.load_state_dict(net.state_dict())
    assert many.loss(batch).item() == pytest.approx(literal, rel=1e-6)
    drawn = [few.loss(batch).item() for _ in range(50)]
    assert np.mean(drawn) == pytest.approx(literal, rel=0.02)
    assert len(set(drawn)) > 10


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_reweighed_graph_takes_means_of_neighbours(seed: int) -> None:
    """Of a constant it gives the constant, and 0 to who has no neighbours; whatever the vectors that weigh it."""
    train = random_split(seed, users=9, items=7, most=4).train
    net = Dccf(dim=4, prototypes=3).build(train)
    torch.manual_seed(seed)
    some = plain(train).sum(1) > 0
    mean = net.masked(torch.randn(len(some), 4), torch.ones(len(some), 4))
    assert (mean[some] - 1).abs().max() < 1e-5
    assert (mean[~some] == 0).all()


def test_neighbours_that_all_say_the_opposite_weigh_nothing(small: Interactions) -> None:
    """Every cosine -1: no division by 0, in value or gradient."""
    net = Dccf(dim=4, prototypes=3).build(small)
    side = torch.ones(len(small.users) + len(small.items), 1)
    side[len(small.users) :] = -1
    x = (side * torch.tensor([[1.0, 0, 0, 0]])).requires_grad_()
    e = torch.randn(len(side), 4, requires_grad=True)
    out = net.masked(x, e)
    out.sum().backward()
    assert out.abs().max() < 1e-6
    assert e.grad is not None
    assert x.grad is not None
    assert torch.isfinite(e.grad).all()
    assert torch.isfinite(x.grad).all()


# --- AutoCF: what is hidden -------------------------------------------------------------------------------------------


def tiny(user: list[int], item: list[int], users: int, items: int) -> Interactions:
    ids = Ids("user", tuple(f"u{k}" for k in range(users))), Ids("item", tuple(f"i{k}" for k in range(items)))
    return Interactions(*ids, np.array(user, np.int64), np.array(item, np.int64))


def certain(n: int, seeds: list[int]) -> torch.Tensor:
    """Relatedness that leaves nothing to the noise."""
    related = torch.full((n,), -1e6)
    related[seeds] = 0
    return related


def walked(a: torch.Tensor, seeds: list[int], depth: int) -> tuple[set[tuple[int, int]], set[int]]:
    """Edges left and nodes reached, seed by seed: each takes its edges away; those at their ends are the next seeds."""
    left = {(int(r), int(c)) for r, c in a.nonzero()}
    reached, current = set(seeds), list(seeds)
    for level in range(depth):
        following: set[int] = set()
        for seed in current:
            taken = {edge for edge in left if seed in edge}
            left -= taken
            following |= {node for edge in taken for node in edge}
        if level < depth - 1:
            reached |= following
        current = sorted(following)
    return left, reached


def pairs_of(edges: Edges) -> list[tuple[int, int]]:
    return list(zip(edges.rows.tolist(), edges.columns.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), depth=st.integers(1, 4), seeds=st.integers(1, 5), keep=st.sampled_from([0.0, 0.3]))
def test_hidden_are_exactly_the_edges_around_the_seeds(seed: int, depth: int, seeds: int, keep: float) -> None:
    train = random_split(seed, users=12, items=10, most=3).train
    a, n = plain(train), 22
    net = AutoCf(dim=4, heads=2, seeds=seeds, depth=depth, keep_nodes=keep).build(train)
    chosen = np.random.default_rng(seed).permutation(n)[:seeds].tolist()
    torch.manual_seed(seed)
    weights, edges = net.hide(certain(n, chosen))
    left, reached = walked(a, chosen, depth)

    there = {(int(r), int(c)) for r, c, w in zip(net.hops.rows, net.hops.columns, weights, strict=True) if w > 0}
    assert there == left
    dense = torch.zeros(n, n, dtype=torch.float64)
    dense[net.hops.rows.long(), net.hops.columns.long()] = weights.double()
    still = a * torch.tensor([[(r, c) in left for c in range(n)] for r in range(n)])
    assert (dense - normalised(still)).abs().max() < 1e-6

    found = pairs_of(edges)
    assert found == sorted(set(found)), "sorted by row and column, nothing twice"
    assert {(c, r) for r, c in found} == set(found), "both ways"
    assert [found[s:t] for s, t in pairwise(edges.starts.tolist())] == [
        [p for p in found if p[0] == r] for r in range(n)
    ]
    assert left | {(v, v) for v in range(n)} <= set(found)
    added = set(found) - left - {(v, v) for v in range(n)}
    ends = {v for pair in added for v in pair}
    assert len(added) <= 2 * len(net.hops.rows)
    assert len(ends - reached) <= int(n * keep)


def test_random_pairs_are_spread_over_all_that_was_reached(small: Interactions) -> None:
    """Every pair of the reached nodes, and of nodes drawn beside them, comes up; no other does without such draws."""
    a, n = plain(small), len(small.users) + len(small.items)
    seeds = [0, 30]
    _, reached = walked(a, seeds, 2)
    for keep in (0.0, 0.3):
        net = AutoCf(dim=4, heads=2, seeds=2, depth=2, keep_nodes=keep).build(small)
        torch.manual_seed(0)
        left = walked(a, seeds, 2)[0] | {(v, v) for v in range(n)}
        ends: set[int] = set()
        pairs: set[tuple[int, int]] = set()
        for _ in range(60):
            added = set(pairs_of(net.hide(certain(n, seeds))[1])) - left
            pairs |= added
            ends |= {v for pair in added for v in pair}
        assert {(r, c) for r in reached for c in reached if r != c} <= pairs | left
        assert ends == (set(range(n)) if keep else reached)


def test_seeds_are_drawn_by_their_relatedness() -> None:
    """One seed among two pairs of nodes: it comes up as often as its share of exp(related)."""
    train = tiny([0, 1], [0, 1], 2, 2)
    net = AutoCf(dim=4, heads=2, seeds=1, depth=1, keep_nodes=0.0).build(train)
    shares = torch.tensor([0.1, 0.4, 0.3, 0.2])
    torch.manual_seed(0)
    gone = sum((net.hide(shares.log())[0] == 0).float() for _ in range(1500))
    assert isinstance(gone, torch.Tensor)
    # User 0 and item 0 (0.1 + 0.3) share an edge, user 1 and item 1 (0.4 + 0.2) the other.
    assert gone.tolist() == pytest.approx([600, 900, 600, 900], rel=0.1)


def test_relatedness_is_that_of_the_code(small: Interactions) -> None:
    """First and second surroundings, counted and averaged as there; a node without edges is at one half."""
    net = AutoCf(dim=6, heads=2).build(small)
    a, e = plain(small), net.e0.detach().double()
    order = a.sum(1, keepdim=True)
    first = a @ e - e
    second = a @ first - first - order * e
    count = order + (a @ order - order) - order
    surroundings = torch.nn.functional.normalize((first + second) / (count + 1e-8))
    score = torch.sigmoid((surroundings * torch.nn.functional.normalize(e)).sum(1))
    found = net.related(net.e0).exp()
    alone = order[:, 0] == 0
    assert (found - score)[~alone].abs().max() < 1e-5
    assert found[alone].tolist() == pytest.approx([0.5] * int(alone.sum()))
    assert alone.any()
    assert score.std() > 0.02


# --- AutoCF: encoder, decoder, loss -----------------------------------------------------------------------------------


def autocf_vectors(
    own: dict[str, torch.Tensor], encoder: torch.Tensor, decoder: torch.Tensor, layers: int, heads: int
) -> torch.Tensor:
    """encoder: (N, N) weights; decoder: (N, N) bool. Attention node by node, head by head."""
    h = total = own["e0"]
    for _ in range(layers):
        h = encoder @ h
        total = total + h
    q, k, v = (h @ own[name] for name in "qkv")
    width = q.shape[1] // heads
    out = []
    for r in range(len(h)):
        near = decoder[r].nonzero()[:, 0]
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            power = (k[near, cut] @ q[r, cut]).clamp(-10, 10).exp()
            parts.append((power / (power.sum() + 1e-8)) @ v[near, cut])
        out.append(torch.cat(parts))
    return total + torch.stack(out)


def autocf_loss(e: torch.Tensor, users: int, batch: Triples, weight: float) -> torch.Tensor:
    of_users, of_items = e[:users], e[users:]
    some_users, some_items = sorted(set(batch.user.tolist())), sorted(set(batch.positive.tolist()))
    recon = -torch.stack([of_users[u] @ of_items[i] for u, i in zip(batch.user, batch.positive, strict=True)]).mean()
    each_user = torch.stack([(of_users @ of_users[u]).exp().sum().log() for u in some_users]).mean()
    each_item = torch.stack([(of_items @ of_items[i]).exp().sum().log() for i in some_items]).mean()
    cross = torch.stack([(of_items @ of_users[u]).exp().sum().log() for u in batch.user]).mean()
    return recon + weight * (each_user + each_item) + cross


def wide_net(train: Interactions, scale: float = 1.0, **other: float | None) -> AutoCfNet:
    """Q and K so large, with scale, that some products are cut off at 10 and others are not."""
    torch.manual_seed(5)
    net = AutoCf(dim=8, layers=2, heads=4, seeds=3, **other).build(train)  # type: ignore[arg-type]
    with torch.no_grad():
        net.e0 *= 3
        net.q *= scale
        net.k *= scale
    return net


@pytest.mark.parametrize("scale", [1.0, 12.0])
@pytest.mark.parametrize("layers", [0, 3])
def test_autocf_looks_at_the_whole_graph_when_it_is_evaluated(small: Interactions, layers: int, scale: float) -> None:
    torch.manual_seed(1)
    net = AutoCf(dim=8, layers=layers).build(small).eval()
    with torch.no_grad():
        net.q *= scale
    a = plain(small)
    expected = autocf_vectors(twins(net), normalised(a), a > 0, layers, 4)
    first, second = net.embed(), net.embed()
    assert (rows_of(first) - expected).abs().max() < 1e-5
    assert torch.equal(rows_of(first), rows_of(second))
    assert first.parts == ()


@pytest.mark.parametrize("scale", [1.0, 12.0])
@pytest.mark.parametrize("added", [True, False])
def test_autocf_loss_and_gradient_are_those_of_the_twin(small: Interactions, added: bool, scale: float) -> None:
    """On the very graph that a training step drew, with the infomax term and without."""
    net, batch, users = wide_net(small, scale, weight_contrast=0.7), triples(small), len(small.users)
    seed = next(s for s in range(1000) if drawn(s) == added)
    torch.manual_seed(seed)
    assert bool(torch.rand(()) < 0.1) == added
    weights, edges = net.hide(net.related(net.e0).detach())
    n = len(net.e0)
    encoder, decoder = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.bool)
    encoder[net.hops.rows.long(), net.hops.columns.long()] = weights.double()
    decoder[edges.rows.long(), edges.columns.long()] = True

    own = twins(net)
    h = encoder @ encoder @ own["e0"]
    cuts = ((h @ own["q"]).view(n, 4, 2).transpose(0, 1) @ (h @ own["k"]).view(n, 4, 2).permute(1, 2, 0))[:, decoder]
    assert bool((cuts.abs() > 10).any()) == (scale > 1)
    assert (cuts.abs() < 10).any()

    e = autocf_vectors(own, encoder, decoder, 2, 4)
    expected = autocf_loss(e, users, batch, 0.7)
    if added:
        a, x = plain(small), own["e0"]
        near = a @ (a @ x - x) - a.sum(1, keepdim=True) * x
        some = a.sum(1) > 0
        cosine = torch.nn.functional.cosine_similarity(near[some], x[some])
        lone = int((~some).sum()) * math.log(2)
        expected = expected - (torch.nn.functional.logsigmoid(cosine).sum() - lone) / n
    expected.backward()

    torch.manual_seed(seed)
    loss = net.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    agree(net, own)


@pytest.mark.long
def test_drawn_rows_stand_for_all_in_a_sum_of_exponentials() -> None:
    """exp of the drawn value is right on the mean; the own row counts once, exactly, whether it was drawn or not."""
    torch.manual_seed(0)
    others = torch.randn(30, 4)
    x, one = others[[7]], torch.ones(1)
    powers = (x @ others.T).exp()[0]
    for own in (None, torch.tensor([7])):
        drawn = torch.stack([losses.crowd(x, others, one, 10, own).exp() for _ in range(4000)])
        assert drawn.mean().item() == pytest.approx(powers.sum().item(), rel=0.03)
        assert drawn.std() > 0
        if own is not None:
            assert drawn.min() >= powers[7]
    for many in (30, 31):
        assert torch.equal(losses.crowd(x, others, one, many, torch.tensor([7])), losses.crowd(x, others, one))


def test_a_long_row_beside_short_drawn_ones_does_not_overflow() -> None:
    torch.manual_seed(0)
    others = 0.01 * torch.randn(30, 4)
    others[7] = 8.0
    x = others[[7]].clone().requires_grad_()
    for seed in range(8):
        torch.manual_seed(seed)
        found = losses.crowd(x, others, torch.ones(1), 3, torch.tensor([7]))
        assert found.item() == pytest.approx(256, abs=1e-3)
        assert torch.isfinite(torch.autograd.grad(found, x)[0]).all()


def test_autocf_told_from_drawn_rows_is_the_literal_form_when_all_are_drawn(small: Interactions) -> None:
    def loss(contrast: int | None) -> float:
        net, batch = wide_net(small, contrast=contrast), triples(small)
        torch.manual_seed(3)
        return net.loss(batch).item()

    assert loss(1000) == loss(None)
    assert loss(2) != loss(None)


def drawn(seed: int) -> bool:
    torch.manual_seed(seed)
    return bool(torch.rand(()) < 0.1)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_loss_can_be_taken_of_an_evaluated_net(small: Interactions, weight: float) -> None:
    net, batch = wide_net(small, weight_contrast=weight).eval(), triples(small)
    e = rows_of(net.embed()).double()
    expected = autocf_loss(e, len(small.users), batch, weight).item()
    assert net.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_infomax_term_comes_in_a_tenth_of_the_steps(small: Interactions) -> None:
    net = wide_net(small)
    torch.manual_seed(0)
    with torch.no_grad():
        parts = [net.embed().parts for _ in range(500)]
    assert 30 <= sum(map(len, parts)) <= 70
    value = -net.related(net.e0).mean().item()
    assert {round(p.item(), 5) for part in parts for p in part} == {round(value, 5)}


def test_training_passes_differ_and_come_again_with_torchs_seed(small: Interactions) -> None:
    net = wide_net(small)
    passes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        passes.append([rows_of(net.embed()).detach() for _ in range(2)])
    assert torch.equal(passes[0][0], passes[1][0])
    assert torch.equal(passes[0][1], passes[1][1])
    assert not torch.equal(passes[0][0], passes[0][1])
    assert not torch.equal(passes[0][0], passes[2][0])


def test_a_net_keeps_nothing_between_steps(small: Interactions) -> None:
    """A net that has gone through steps and is put back is the net that has not."""
    net, batch = wide_net(small), triples(small)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for _ in range(3):
        net.loss(batch).backward()
    net.load_state_dict(state)
    fresh = wide_net(small)
    for each in (net, fresh):
        each.zero_grad()
        torch.manual_seed(3)
        each.loss(batch).backward()
    assert net.e0.grad is not None
    assert fresh.e0.grad is not None
    assert torch.equal(net.e0.grad, fresh.e0.grad)


@pytest.mark.parametrize("seeds", [40, 1000])
def test_all_nodes_may_be_seeds_and_no_edge_left(small: Interactions, seeds: int) -> None:
    """The encoder then passes nothing on: a node's own vector and what attention finds are all there is."""
    net = AutoCf(dim=8, layers=3, seeds=seeds).build(small)
    torch.manual_seed(0)
    weights, edges = net.hide(net.related(net.e0).detach())
    assert not weights.any()
    torch.manual_seed(0)
    loss = net.loss(triples(small))
    loss.backward()
    assert torch.isfinite(loss)
    assert net.e0.grad is not None
    assert torch.isfinite(net.e0.grad).all()
    assert len(edges.columns) > len(net.e0)


def test_another_table_takes_the_place_of_the_nets_own(small: Interactions) -> None:
    """As a plug-in masks it: some rows are 0 and learn, and the net's table gets nothing for them."""
    batch, rows = triples(small), torch.tensor([0, 3, 25])
    for net in (wide_net(small), Dccf(dim=8, prototypes=4).build(small)):
        for added in (True, False):
            token = torch.zeros(8, requires_grad=True)
            keep = torch.ones(len(net.ground()), 1)
            keep[rows] = 0
            torch.manual_seed(next(s for s in range(1000) if drawn(s) == added))
            vectors = net.embed(net.ground() * keep + (1 - keep) * token)
            net.zero_grad()
            net.objective(batch, vectors).backward()
            grad = net.ground().grad
            assert grad is not None
            assert token.grad is not None
            assert (grad[rows] == 0).all()
            assert (grad[batch.user[~torch.isin(batch.user, rows)]] != 0).any(1).all()
            assert token.grad.abs().max() > 0
            assert torch.isfinite(token.grad).all()
            assert torch.isfinite(grad).all()


def test_settings_that_cannot_be_are_named(small: Interactions) -> None:
    for wrong in (AutoCf(dim=10, heads=4), AutoCf(dim=8, heads=0), AutoCf(dim=8, seeds=0), AutoCf(dim=8, depth=0)):
        with pytest.raises(BadSetting, match=r"autocf: heads = \d+ must divide dim = \d+; seeds, depth: at least 1"):
            wrong.build(small)


def test_the_saved_scorer_says_what_the_net_says(small: Interactions) -> None:
    for net in (wide_net(small).eval(), Dccf(dim=8, prototypes=4).build(small).eval()):
        vectors, scorer = net.embed(), net.finish()
        assert np.array_equal(scorer.user, vectors.users.detach().numpy())
        assert np.array_equal(scorer.item, vectors.items.detach().numpy())
