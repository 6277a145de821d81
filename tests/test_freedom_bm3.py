"""FREEDOM and BM3 against slow, literal twins, and at their limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from modal_worlds import adjacency, drawn, fixed, helped, irregular, item_graph, modalities, permuted, triples
from worlds import World

from penchant.batches import Triples
from penchant.data import Interactions, no_history
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.modal import ItemGraph, shares
from penchant.models.bm3 import Bm3, Bm3Net
from penchant.models.freedom import Freedom, FreedomNet
from penchant.models.lightgcn import LightGcn
from penchant.texts import Provenance
from penchant.training import Training
from penchant.typed import made

UNEVEN = (("text", 0.6), ("image", 0.3), ("sound", 0.1))  # not in the order of the inputs


@pytest.fixture(scope="module")
def small() -> Interactions:
    return irregular()


def built(model: Freedom, train: Interactions, features: dict[str, Features], seed: int = 0) -> FreedomNet:
    torch.manual_seed(seed)
    return model.build(train, **features)


def bm3(model: Bm3, train: Interactions, features: dict[str, Features], seed: int = 0) -> Bm3Net:
    torch.manual_seed(seed)
    return model.build(train, **features)


# --- the item graph ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_the_item_graph_is_what_it_says_one_item_at_a_time(small: Interactions, count: int, k: int) -> None:
    features = modalities(small.items, count)
    alpha = [0.5, 0.3, 0.2][:count]
    alpha = [a / sum(alpha) for a in alpha]
    graph = ItemGraph(features, k, alpha)
    expected = item_graph(features, k, dict(zip(features, alpha, strict=True)))
    eye = torch.eye(len(small.items))
    assert torch.allclose(graph.smooth(eye, 1), expected, atol=1e-6)
    assert torch.allclose(graph.smooth(eye, 2), expected @ expected, atol=1e-6)
    assert not torch.allclose(expected, expected.T) or k != 4, "the gradient's graph is another one than the value's"
    x, weight = torch.randn(len(eye), 3, requires_grad=True), torch.randn(len(eye), 3)
    (g,) = torch.autograd.grad((graph.smooth(x, 2) * weight).sum(), x)
    assert torch.allclose(g, expected.T @ expected.T @ weight, atol=1e-6)


def test_rows_add_up_to_one_whatever_is_missing_and_nothing_comes_from_nothing(small: Interactions) -> None:
    features = modalities(small.items, 2, gaps=9)
    bare = ~features["image"].present & ~features["text"].present
    one = features["image"].present ^ features["text"].present
    assert bare.any()
    assert one.any()
    s = ItemGraph(features, 4, [0.9, 0.1]).smooth(torch.eye(len(bare)), 1)
    assert torch.allclose(s.sum(1), torch.from_numpy(~bare).float(), atol=1e-6)
    assert (s[:, bare] == 0).all(), "what has no features is nobody's neighbour"


def test_weights_go_by_name_and_mistakes_are_answered(small: Interactions) -> None:
    features = modalities(small.items, 3)
    assert shares("freedom", UNEVEN, features) == pytest.approx([0.3, 0.6, 0.1])
    assert shares("freedom", (("sound", 2), ("image", 1), ("text", 1)), features) == pytest.approx([0.25, 0.25, 0.5])
    assert shares("freedom", None, features) == pytest.approx([1 / 3] * 3)
    for wrong in ((), (("image", 1.0),), (*UNEVEN, ("smell", 0.1)), (*UNEVEN, ("image", 0.1))):
        with pytest.raises(BadSetting, match=r"inputs are image, text, sound.*weights = \[\[\"image\", 0.33\]"):
            shares("freedom", wrong, features)
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(BadSetting, match="0 or more"):
            shares("freedom", (("image", wrong), ("text", 1.0), ("sound", 1.0)), features)
    with pytest.raises(BadSetting, match="not all 0"):
        shares("freedom", tuple((name, 0.0) for name in features), features)


def test_a_recipe_can_name_weights() -> None:
    model = made("[model]", Freedom, {"weights": [["text", 0.6], ["image", 0.3], ["sound", 1]]})
    assert model == Freedom(weights=(("text", 0.6), ("image", 0.3), ("sound", 1.0)))
    assert made("[model]", Freedom, {"weights": "none"}) == Freedom()
    with pytest.raises(BadSetting, match="weights"):
        made("[model]", Freedom, {"weights": [0.6, 0.3]})


# --- FREEDOM ----------------------------------------------------------------------------------------------------------


def freedom_twin(net: FreedomNet, batch: Triples, pruned: Interactions, features: dict[str, Features]) -> torch.Tensor:
    """Triple by triple, on dense matrices, from the net's own parameters."""
    model, a, users = net.model, adjacency(pruned), len(pruned.users)
    mean = sum((torch.matrix_power(a, k) @ net.e0 for k in range(model.layers + 1)), torch.zeros(())) / (
        model.layers + 1
    )
    h_u, h_i = mean[:users], mean[users:]
    if model.mm_layers:
        alpha = dict(zip(features, shares("freedom", model.weights, features), strict=True))
        s = item_graph(features, model.neighbours, alpha)
        h_i = h_i + torch.matrix_power(s, model.mm_layers) @ net.e0[users:]
    total = torch.zeros(())
    for u, i, j in zip(batch.user, batch.positive, batch.negative, strict=True):
        total = total - F.logsigmoid(h_u[u] @ h_i[i] - h_u[u] @ h_i[j])
        for part, w in zip(features.values(), net.w, strict=True):
            if part.present[i] and part.present[j]:
                x = fixed(part) @ w.T + 0.7  # a bias cancels
                total = total - model.weight_features * F.logsigmoid(h_u[u] @ x[i] - h_u[u] @ x[j])
    return total / len(batch)


@pytest.mark.parametrize(
    "model",
    [
        Freedom(dim=5, neighbours=4, weight_features=0.5, keep_edges=0.4, weights=UNEVEN),
        Freedom(dim=5, neighbours=4, weight_features=0.1, keep_edges=1.0, layers=1, mm_layers=2),
        Freedom(dim=5, mm_layers=0, layers=0, weight_features=0.1),
    ],
    ids=["pruned", "whole", "bare"],
)
def test_freedom_s_loss_is_that_of_the_paper_written_out(model: Freedom, small: Interactions) -> None:
    """Three modalities with gaps in each: nothing knows how many there are."""
    features = modalities(small.items, 3)
    net = built(model, small, features)
    pruned = small
    if model.keep_edges < 1:
        net.batches(np.random.default_rng(3), 8)
        pruned = net.prune(np.random.default_rng(3))
        assert len(pruned) == round(model.keep_edges * len(small))
    batch = triples(small)
    found, expected = net.loss(batch), freedom_twin(net, batch, pruned, features)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    parameters = [net.e0, *net.w]
    for g, h in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True):
        assert h.abs().max() > 1e-6
        assert torch.allclose(g, h, atol=1e-5)


def test_without_content_and_pruning_freedom_is_lightgcn(small: Interactions, world: World) -> None:
    """With no layer bit by bit; with some, the mean over layers in place of their sum."""
    bare = Freedom(dim=8, mm_layers=0, weight_features=0.0, keep_edges=1.0, l2=1e-4)
    for layers in (1, 3):
        net = built(replace(bare, layers=layers), small, modalities(small.items))
        torch.manual_seed(0)
        theirs = LightGcn(dim=8, layers=layers).build(small).embed()
        for found, expected in zip(net.embed(net.pruned)[:2], theirs[:2], strict=True):
            assert torch.allclose(found * (layers + 1), expected, atol=1e-6)
    training = Training(epochs=3, batch_size=64, learning_rate=0.03, device="cpu")
    light = LightGcn(dim=8, layers=0, l2=1e-4).fit(world.train, world.valid, training)
    free = replace(bare, layers=0).fit(world.train, world.valid, training, look=world.features())
    assert np.array_equal(free.score(free.known), light.score(light.known))


def test_edges_are_kept_in_proportion_to_one_over_the_root_of_their_degrees(small: Interactions) -> None:
    net = built(Freedom(dim=4, keep_edges=1e-9), small, modalities(small.items))
    rng, count = np.random.default_rng(0), np.zeros((len(small.users), len(small.items)))
    for _ in range(20_000):
        one = net.prune(rng)
        assert len(one) == 1
        count[one.user[0], one.item[0]] += 1
    x = np.asarray(small.matrix().todense())
    p = x / np.sqrt(np.maximum(np.outer(x.sum(1), x.sum(0)), 1))
    expected = 20_000 * p / p.sum()
    kept = expected > 0
    chi = ((count - expected)[kept] ** 2 / expected[kept]).sum()
    assert (count[~kept] == 0).all()
    assert chi < kept.sum() + 4 * np.sqrt(2 * kept.sum()), "uniform draws are far off"
    uniform = 20_000 / kept.sum()
    assert ((count[kept] - uniform) ** 2 / uniform).sum() > 3 * kept.sum()


def test_every_epoch_has_a_graph_of_its_own_and_what_is_recommended_the_whole_one(small: Interactions) -> None:
    net = built(Freedom(dim=4, keep_edges=0.5), small, modalities(small.items))
    graphs = []
    for seed in (1, 2, 1):
        batch = next(net.batches(np.random.default_rng(seed), 8))
        graphs.append(net.loss(batch).item())
        assert len(net.pruned.weights) == 2 * round(0.5 * len(small))
    assert graphs[0] == graphs[2] != graphs[1]
    assert len(net.hops.weights) == 2 * len(small)
    whole = net.embed(net.hops)
    known = np.unique(small.user)
    score = net.finish().score(no_history(known))
    assert score == pytest.approx((whole.users[known] @ whole.items.T).detach().numpy(), abs=1e-5)
    with pytest.raises(BadSetting, match="keep_edges = 0"):
        Freedom(keep_edges=0.0).build(small, **modalities(small.items))


def test_items_may_come_in_any_order(small: Interactions) -> None:
    features = modalities(small.items, 3)
    order = np.random.default_rng(5).permutation(len(small.items))
    turned, moved = permuted(small, features, order)
    model = Freedom(dim=5, neighbours=4, keep_edges=1.0, weight_features=0.3)
    net, other = built(model, small, features), built(model, turned, moved)
    users = len(small.users)
    with torch.no_grad():
        other.e0.copy_(torch.cat([net.e0[:users], net.e0[users:][order]]))
    one, two = net.embed(net.hops), other.embed(other.hops)
    assert torch.allclose(one.users, two.users, atol=1e-6)
    assert torch.allclose(one.items[order], two.items, atol=1e-6)
    row, batch = torch.from_numpy(np.argsort(order)), triples(small)
    same = other.loss(Triples(batch.user, row[batch.positive], row[batch.negative]))
    assert same.item() == pytest.approx(net.loss(batch).item(), abs=1e-6)


def test_rows_of_zeros_and_a_modality_that_is_all_gaps_are_finite(small: Interactions) -> None:
    zeros = drawn(small.items, 4, 0)
    zeros = replace(zeros, values=np.where(np.arange(len(small.items))[:, None] < 5, 0, zeros.values))
    nothing = Features(
        small.items, np.zeros((len(small.items), 3)), np.zeros(len(small.items), bool), Provenance("none")
    )
    features = {"image": zeros, "text": nothing}
    for net in (built(Freedom(dim=4, weight_features=1.0), small, features), bm3(Bm3(dim=4), small, features)):
        loss = net.loss(triples(small))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.long
def test_freedom_lives_on_true_features() -> None:
    training = Training(epochs=40, batch_size=128, learning_rate=0.01, device="cpu")
    true, shuffled = helped(Freedom(dim=16, keep_edges=0.5), training)
    assert true > 1.5 * shuffled, (true, shuffled)


# --- BM3 --------------------------------------------------------------------------------------------------------------


def bm3_twin(net: Bm3Net, batch: Triples, features: dict[str, Features]) -> torch.Tensor:
    """Choice by choice, every vector of the whole catalogue, from the net's own parameters.

    What is dropped is drawn again in the net's order: users, items, then the modalities, of the distinct rows that they have.
    """
    model, a, users = net.model, adjacency(net.pairs.train), net.users
    mean = sum((torch.matrix_power(a, k) @ net.e0 for k in range(model.layers + 1)), torch.zeros(())) / (
        model.layers + 1
    )
    h_u, h_i = mean[:users], mean[users:] + net.e0[users:]
    w, b = net.predictor.weight, net.predictor.bias

    def dropped(h: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        found = torch.full_like(h, float("nan"))  # to be read nowhere else
        found[rows] = F.dropout(h[rows].detach(), model.dropout)
        return found

    def c(online: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 1 - F.cosine_similarity(w @ online + b, target, dim=0)

    items = batch.positive.unique()
    u_left, i_left = dropped(h_u, batch.user.unique()), dropped(h_i, items)
    seen = []
    for part, projection in zip(features.values(), net.projections, strict=True):
        h_m = fixed(part) @ projection.weight.T + projection.bias
        present = torch.from_numpy(part.present)
        seen.append((present, h_m, dropped(h_m, items[present[items]])))
    total = torch.zeros(())
    for u, i in zip(batch.user, batch.positive, strict=True):
        total = total + c(h_u[u], i_left[i]) + c(h_i[i], u_left[u])
        for present, h_m, left in seen:
            if present[i]:
                total = total + model.weight_align * (c(h_m[i], i_left[i]) + c(h_m[i], left[i]))
    return total / len(batch)


@pytest.mark.parametrize(
    "model",
    [Bm3(dim=6), Bm3(dim=6, layers=2, dropout=0.5, weight_align=0.7), Bm3(dim=6, layers=0, dropout=0.0)],
    ids=["default", "deep", "nothing dropped"],
)
def test_bm3_s_loss_is_that_of_the_paper_written_out(model: Bm3, small: Interactions) -> None:
    features = modalities(small.items, 3)
    net = bm3(model, small, features)
    with torch.no_grad():
        net.e0.mul_(3)  # cosines of vectors whose length is far from what keeps a root away from 0
    batch = next(net.batches(np.random.default_rng(0), 40))
    assert batch.negative.numel() == 0, "no item is drawn that was not chosen"
    assert len(batch.positive.unique()) < len(batch)
    torch.manual_seed(5)
    found = net.loss(batch)
    torch.manual_seed(5)
    expected = bm3_twin(net, batch, features)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    parameters = list(net.parameters())
    assert len(parameters) == 1 + 2 + 3 * 2
    for g, h in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True):
        assert h.abs().max() > 1e-3
        assert torch.allclose(g, h, atol=1e-5)


def test_no_gradient_goes_through_a_target(small: Interactions) -> None:
    """With a predictor that gives a constant nothing but the targets is left to move, and nothing moves."""
    net = bm3(Bm3(dim=6), small, modalities(small.items))
    with torch.no_grad():
        net.predictor.weight.zero_()
        net.predictor.bias.fill_(1)
    net.loss(triples(small)).backward()
    assert net.e0.grad is None or not net.e0.grad.any()
    assert net.predictor.bias.grad is not None
    assert net.predictor.bias.grad.abs().max() > 1e-3


def test_without_dropout_bm3_is_the_same_at_every_draw_and_with_it_is_not(small: Interactions) -> None:
    for dropout, same in ((0.0, True), (0.3, False)):
        net, values = bm3(Bm3(dim=6, dropout=dropout), small, modalities(small.items)), set()
        for seed in range(3):
            torch.manual_seed(seed)
            values.add(net.loss(triples(small)).item())
        assert (len(values) == 1) == same
    still = bm3(Bm3(dim=6, dropout=0.0), small, modalities(small.items))
    with torch.no_grad():  # a predictor that changes nothing: each modality is what is left of itself
        still.predictor.weight.copy_(torch.eye(6))
        still.predictor.bias.zero_()
        users, items = still.embed()
    batch = triples(small)
    alone = bm3(Bm3(dim=6, dropout=0.0, weight_align=0.0), small, modalities(small.items))
    alone.load_state_dict(still.state_dict())
    cosine = F.cosine_similarity(users[batch.user], items[batch.positive], dim=1).mean()
    assert alone.loss(batch).item() == pytest.approx(2 - 2 * cosine.item(), abs=1e-4)
    with pytest.raises(BadSetting, match="dropout = 1"):
        Bm3(dropout=1.0).build(small, **modalities(small.items))


def test_bm3_scores_by_what_is_predicted(small: Interactions) -> None:
    net = bm3(Bm3(dim=6, layers=2), small, modalities(small.items))
    a, users = adjacency(small), len(small.users)
    mean = (net.e0 + a @ net.e0 + a @ a @ net.e0) / 3
    h = torch.cat([mean[:users], mean[users:] + net.e0[users:]]) @ net.predictor.weight.T + net.predictor.bias
    known = np.unique(small.user)
    expected = (h[:users][known] @ h[users:].T).detach().numpy()
    assert net.finish().score(no_history(known)) == pytest.approx(expected, abs=1e-5)


def test_bm3_s_items_may_come_in_any_order(small: Interactions) -> None:
    features = modalities(small.items, 3)
    order = np.random.default_rng(5).permutation(len(small.items))
    turned, moved = permuted(small, features, order)
    model = Bm3(dim=6, dropout=0.0)
    net, other = bm3(model, small, features), bm3(model, turned, moved)
    users = len(small.users)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.e0.copy_(torch.cat([net.e0[:users], net.e0[users:][order]]))
    assert torch.allclose(net.embed()[1][order], other.embed()[1], atol=1e-6)
    row, batch = torch.from_numpy(np.argsort(order)), triples(small)
    same = other.loss(Triples(batch.user, row[batch.positive], batch.negative))
    assert same.item() == pytest.approx(net.loss(batch).item(), abs=1e-6)


def test_features_reach_bm3_s_scores_through_the_predictor_alone(small: Interactions) -> None:
    """Items are targets where modalities are aligned: ids have the same gradient with features as without."""
    gradients = []
    for weight in (0.0, 2.0):
        net = bm3(Bm3(dim=6, dropout=0.0, weight_align=weight), small, modalities(small.items))
        net.loss(triples(small)).backward()
        gradients.append((net.e0.grad, net.predictor.weight.grad))
    (ids, predictor), (aligned_ids, aligned_predictor) = gradients
    assert torch.equal(ids, aligned_ids)
    assert (predictor - aligned_predictor).abs().max() > 1e-2


@pytest.mark.long
def test_bm3_learns_from_few_choices_whatever_features_say() -> None:
    """Features of other items cost it little, and true ones gain it nothing, because ids do not see them."""
    training = Training(epochs=40, batch_size=128, learning_rate=0.01, device="cpu")
    chance = 20 / 394
    true, shuffled = helped(Bm3(dim=16), training)
    assert true > 2.5 * chance, (true, shuffled)
    assert shuffled > 2.5 * chance, (true, shuffled)
