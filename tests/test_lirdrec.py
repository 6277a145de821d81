"""LIRDRec against a slow, literal twin, at its limits, and what its paper says of weights and items."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from modal_worlds import adjacency, drawn, fixed, helped, irregular, item_graph, modalities, permuted, triples
from worlds import NEVER, World

from penchant import train as loop
from penchant.batches import Triples
from penchant.data import Ids, Interactions, no_history
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.modal import Contents, shares
from penchant.models.freedom import Freedom
from penchant.models.lirdrec import Lirdrec, LirdrecNet, shared
from penchant.texts import Provenance
from penchant.training import Training

UNEVEN = (("text", 0.6), ("image", 0.3), ("sound", 0.1))


@pytest.fixture(scope="module")
def small() -> Interactions:
    return irregular()


def built(model: Lirdrec, train: Interactions, features: dict[str, Features], seed: int = 0) -> LirdrecNet:
    torch.manual_seed(seed)
    return model.build(train, **features)


def cosines(n: int) -> torch.Tensor:
    """The orthonormal DCT-II as a matrix, entry by entry. (n, n)"""
    rows = [[sqrt((1 if k == 0 else 2) / n) * cos(pi * (j + 0.5) * k / n) for j in range(n)] for k in range(n)]
    return torch.tensor(rows)


def branches(net: LirdrecNet, features: dict[str, Features]) -> list[torch.Tensor]:
    """What each branch makes of each item, of length 1, from the net's own parameters. (I, d) each"""
    raw = [(fixed(part), torch.from_numpy(part.present)) for part in features.values()]
    turned = torch.cat([x @ cosines(x.shape[1]).T for x, _ in raw], dim=1)
    raw.append((turned, torch.stack([has for _, has in raw]).any(0)))
    found = []
    for (x, has), tower in zip(raw, net.towers, strict=True):
        first, _, second = tower  # type: ignore[misc]
        y = F.leaky_relu(x @ first.weight.T + first.bias) @ second.weight.T
        found.append(torch.where(has[:, None], F.normalize(y, dim=1), 0))
    return found


def attention(net: LirdrecNet, blocks: list[torch.Tensor], w1: float) -> torch.Tensor:
    logits = []
    for m, (u, f) in enumerate(zip(blocks, net.networks, strict=True)):
        first, _, second = f  # type: ignore[misc]
        hidden = F.leaky_relu(u @ first.weight.T + first.bias)
        logits.append(w1 * (hidden @ second.weight.T + second.bias)[:, 0] + (1 - w1) * net.theta[:, m])
    return torch.softmax(torch.stack(logits, dim=1), dim=1)


def twin(net: LirdrecNet, batch: Triples, features: dict[str, Features], w1: float) -> torch.Tensor:
    """Branch by branch on dense matrices, then triple by triple."""
    model, train = net.model, net.pairs.train
    a, users = adjacency(train), len(train.users)
    s = torch.zeros(len(train.items), len(train.items))
    if model.mm_layers:
        alpha = dict(zip(features, shares("lirdrec", model.weights, features), strict=True))
        s = torch.matrix_power(item_graph(features, model.neighbours, alpha), model.mm_layers)
    u_blocks, i_blocks = [], []
    for own, made in zip(net.user, branches(net, features), strict=True):
        layer = total = torch.cat([F.normalize(own, dim=1), made])
        for _ in range(model.layers):
            layer = a @ layer
            total = total + layer
        u_blocks.append(total[:users])
        i_blocks.append(total[users:] + s @ total[users:])
    weight = attention(net, u_blocks, w1)
    total = torch.zeros(())
    for u, i, j in zip(batch.user, batch.positive, batch.negative, strict=True):
        x = [
            sum(weight[u, m] * (uu[u] @ ii[item]) for m, (uu, ii) in enumerate(zip(u_blocks, i_blocks, strict=True)))
            for item in (i, j)
        ]
        total = total - F.logsigmoid(x[0] - x[1])
    final_u = torch.cat([weight[:, m, None] * u for m, u in enumerate(u_blocks)], dim=1)
    final_i = torch.cat(i_blocks, dim=1)
    entries = final_u.square().sum() / final_u.numel() + final_i.square().sum() / final_i.numel()
    return total / len(batch) + model.weight_norm * entries


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "model",
    [
        Lirdrec(dim=5, neighbours=4, weight_norm=0.3),
        Lirdrec(dim=8, neighbours=3, layers=1, mm_layers=2, network=0.5, weight_norm=0.01),
        Lirdrec(dim=4, layers=3, mm_layers=0, network=0.0),
    ],
    ids=["default", "deep items", "no item graph"],
)
def test_the_loss_is_that_of_the_paper_written_out(model: Lirdrec, count: int, small: Interactions) -> None:
    """One, two and three modalities with gaps in each; nothing knows how many there are."""
    features = modalities(small.items, count)
    net = built(replace(model, weights=UNEVEN if count == 3 else None), small, features)
    batch = triples(small)
    found, expected = net.loss(batch), twin(net, batch, features, model.network)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    used = [(n, p) for n, p in net.named_parameters() if model.network or not n.startswith("networks")]
    assert len(net.towers) == len(net.user) == count + 1
    gradients = (torch.autograd.grad(loss, [p for _, p in used]) for loss in (found, expected))
    for (name, _), g, h in zip(used, *gradients, strict=True):
        assert torch.allclose(g, h, atol=1e-5), name
        assert h.abs().max() > 1e-6 or name.endswith("2.bias"), (
            name
        )  # the same for all users of a branch, but not of all


def test_without_graphs_it_is_a_two_tower_model_with_a_branch_more_than_modalities(small: Interactions) -> None:
    features = modalities(small.items, 2)
    net = built(Lirdrec(dim=6, layers=0, mm_layers=0, weight_norm=0.0), small, features)
    users = [F.normalize(u, dim=1) for u in net.user]
    weight = attention(net, users, 0.9)
    items = branches(net, features)
    score = sum(weight[:, m, None] * (users[m] @ items[m].T) for m in range(3))
    known = np.unique(small.user)
    assert net.finish().score(no_history(known)) == pytest.approx(score[known].detach().numpy(), abs=1e-5)
    batch = triples(small)
    x = score[batch.user, batch.positive] - score[batch.user, batch.negative]
    assert net.loss(batch).item() == pytest.approx(F.softplus(-x).mean().item(), abs=1e-6)


def test_unused_users_lessen_the_mean_of_squares_and_nothing_else(small: Interactions) -> None:
    """With no graph: everybody's row has squares of sum alpha^2, whether she chose something or not."""
    more = Ids("user", (*small.users.keys, *(f"late-{n}" for n in range(9))))
    features = modalities(small.items)
    model = Lirdrec(dim=6, layers=0, mm_layers=0, weight_norm=1.0)
    net, wide = (
        built(model, Interactions(ids, small.items, small.user, small.item), features) for ids in (small.users, more)
    )
    n = len(small.users)
    with torch.no_grad():
        wide.towers.load_state_dict(net.towers.state_dict())
        wide.networks.load_state_dict(net.networks.state_dict())
        wide.theta[:n] = net.theta
        for u, v in zip(net.user, wide.user, strict=True):
            v[:n] = u
    squares = [vectors.users.square().sum() / (18 * n) for vectors in (net.embed(), wide.embed())]
    added = wide.embed().users[n:].square().sum() / (18 * n)
    assert squares[1].item() == pytest.approx((squares[0] + added).item(), rel=1e-5)
    batch = triples(small)
    moved = squares[1] * n / (n + 9) - squares[0]
    assert (wide.loss(batch) - net.loss(batch)).item() == pytest.approx(moved.item(), abs=1e-6)


# --- the cosine transform ---------------------------------------------------------------------------------------------


def test_the_transform_turns_each_modality_and_changes_no_length_or_angle(small: Interactions) -> None:
    features = modalities(small.items, 3)
    contents = Contents.of(features)
    found = shared(contents)
    start = 0
    for content in contents:
        c = cosines(content.dim)
        assert torch.allclose(c @ c.T, torch.eye(content.dim), atol=1e-6)
        part = found.values[:, start : start + content.dim]
        assert torch.allclose(part, content.values @ c.T, atol=1e-6)
        assert torch.allclose(part @ part.T, content.values @ content.values.T, atol=1e-6)
        start += content.dim
    assert found.dim == start
    present = np.logical_or.reduce([part.present for part in features.values()])
    assert torch.equal(found.has, torch.from_numpy(present))
    assert torch.equal(found.values[~found.has], torch.zeros(int((~present).sum()), start))


# --- progressive weight copying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "decay"), [(0.9, 0.9), (0.95, 0.9), (0.99, 0.8), (0.5, 1.0), (0.0, 0.9)])
def test_the_network_s_weight_falls_as_its_closed_form_says(network: float, decay: float, small: Interactions) -> None:
    net = built(Lirdrec(dim=4, network=network, decay=decay), small, modalities(small.items))
    w1, w2 = network, 1 - network
    assert net.w1 == pytest.approx(w1)
    for t in range(1, 13):
        net.batches(np.random.default_rng(t), 8)
        w1 *= decay**t  # epoch by epoch, as the paper has it
        w1, w2 = w1 / (w1 + w2), w2 / (w1 + w2)
        assert net.w1 == pytest.approx(w1, rel=1e-9, abs=1e-300)
        odds = network / (1 - network) * decay ** (t * (t + 1) / 2)
        assert net.w1 == pytest.approx(odds / (1 + odds), rel=1e-9, abs=1e-300)
        if (network, decay) == (0.9, 0.9):
            assert (net.w1 < 0.5) == (t >= 6)


@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_shares_add_up_to_one_and_weigh_the_branches_of_a_score(epochs: int, small: Interactions) -> None:
    net = built(Lirdrec(dim=6, neighbours=4), small, modalities(small.items))
    for seed in range(epochs):
        for batch in net.batches(np.random.default_rng(seed), 20):
            net.loss(batch)
    vectors = net.embed()
    (alpha,) = vectors.parts
    assert torch.allclose(alpha.sum(1), torch.ones(len(alpha)), atol=1e-6)
    e = net.ground()
    a, users = adjacency(small), len(small.users)
    e = e + a @ e + a @ a @ e
    blocks = e[:users].unflatten(1, (3, 6))
    expected = torch.einsum("um,umd,imd->ui", alpha, blocks, vectors.items.unflatten(1, (3, 6)))
    assert torch.allclose(vectors.users @ vectors.items.T, expected, atol=1e-5)


@pytest.mark.parametrize("copied", ["shares", "logits"])
def test_what_is_copied_is_the_last_step_s_share_or_what_gives_it(copied: str, small: Interactions) -> None:
    net = built(Lirdrec(dim=6, copied=copied), small, modalities(small.items))  # type: ignore[arg-type]
    begun = net.theta.detach().clone()
    batches = net.batches(np.random.default_rng(0), 20)
    assert torch.equal(net.theta, begun), "in the first epoch there is nothing to copy yet"
    for batch in batches:
        net.loss(batch)
        last = net.embed().parts[0].detach()
    net.batches(np.random.default_rng(1), 20)
    if copied == "shares":
        assert torch.allclose(net.theta, last, atol=1e-6)
        spread = [net.theta.softmax(1).std(), net.theta.std()]
        assert spread[0] < 0.4 * spread[1], "shares of shares are nearly even"
    else:
        assert torch.allclose(net.theta.softmax(1), last, atol=1e-6)


# --- items ------------------------------------------------------------------------------------------------------------


def test_no_parameter_belongs_to_an_item_and_twins_have_one_vector(small: Interactions) -> None:
    """Items 3 and 7 look and read alike and were chosen by the same people; 5 looks and reads so too, but was not."""
    keep = ~np.isin(small.item, (3, 5, 7))
    people = np.arange(4)
    user = np.concatenate([small.user[keep], people, people])
    item = np.concatenate([small.item[keep], np.full(4, 3), np.full(4, 7)])
    train = Interactions(small.users, small.items, user, item)
    features = {}
    for name, part in modalities(small.items, 2, gaps=0).items():
        values = part.values.copy()
        values[[5, 7]] = values[3]
        features[name] = replace(part, values=values)
    net = built(Lirdrec(dim=6, neighbours=4), train, features)
    assert all(len(small.items) not in p.shape for p in net.parameters())
    items = net.embed().items
    assert torch.allclose(items[3], items[7], atol=1e-6)
    assert (items[3] - items[5]).abs().max() > 1e-3


def test_items_may_come_in_any_order(small: Interactions) -> None:
    features = modalities(small.items, 3)
    order = np.random.default_rng(5).permutation(len(small.items))
    turned, moved = permuted(small, features, order)
    model = Lirdrec(dim=5, neighbours=4)
    net, other = built(model, small, features), built(model, turned, moved)
    other.load_state_dict(net.state_dict())
    one, two = net.embed(), other.embed()
    assert torch.allclose(one.users, two.users, atol=1e-5)
    assert torch.allclose(one.items[order], two.items, atol=1e-5)
    row, batch = torch.from_numpy(np.argsort(order)), triples(small)
    same = other.loss(Triples(batch.user, row[batch.positive], row[batch.negative]))
    assert same.item() == pytest.approx(net.loss(batch).item(), abs=1e-6)


def test_an_item_that_nobody_chose_is_put_where_it_belongs(world: World) -> None:
    training = Training(epochs=5, batch_size=64, learning_rate=0.01, device="cpu")
    rec = Lirdrec(dim=16, neighbours=5).fit(world.train, None, training, look=world.features())
    score = rec.score(rec.known)[:-1, rec.items.row(NEVER)]
    fans = world.user_group[:-1] == 0
    assert score[fans].min() > score[~fans].max(), "it looks like what the first group chooses"


def test_rows_of_zeros_and_a_modality_that_is_all_gaps_are_finite(small: Interactions) -> None:
    zeros = drawn(small.items, 4, 0)
    zeros = replace(zeros, values=np.where(np.arange(len(small.items))[:, None] < 5, 0, zeros.values))
    nothing = Features(
        small.items, np.zeros((len(small.items), 3)), np.zeros(len(small.items), bool), Provenance("none")
    )
    net = built(Lirdrec(dim=4), small, {"image": zeros, "text": nothing})
    loss = net.loss(triples(small))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    said = net.ground()[len(small.users) :].unflatten(1, (3, 4)).any(-1)  # (I, 3)
    assert said[5:, [0, 2]].all()
    assert not said[:5].any(), "zeros say nothing either"
    assert not said[:, 1].any(), "of what is missing nothing is said"


def test_settings_out_of_range_are_answered(small: Interactions) -> None:
    for wrong in ({"network": 1.0}, {"decay": 0.0}, {"decay": 1.1}):
        with pytest.raises(BadSetting, match=r"network = 0\.9, decay = 0\.9"):
            Lirdrec(**wrong).build(small, **modalities(small.items))
    with pytest.raises(BadSetting, match="lirdrec weights name image"):
        Lirdrec(weights=(("image", 1.0),)).build(small, **modalities(small.items))


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Lirdrec(dim=8), Freedom(dim=8)], ids=["lirdrec", "freedom"])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    model: Lirdrec | Freedom, world: World, tmp_path: Path
) -> None:
    """The epoch's number, the last shares and the epoch's graph are found again."""
    long = Training(epochs=4, batch_size=64, learning_rate=0.01, validate_every=1, device="cpu")

    def run(training: Training, folder: Path | None) -> dict[str, np.ndarray]:
        torch.manual_seed(0)
        net = model.build(world.train, look=world.features())
        return loop.run(net, training, None, folder, "the same")[0].arrays()

    whole = run(long, None)
    run(replace(long, epochs=2), tmp_path)
    again = run(long, tmp_path)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


@pytest.mark.long
def test_it_lives_on_true_features() -> None:
    training = Training(epochs=40, batch_size=128, learning_rate=0.003, device="cpu")
    true, shuffled = helped(Lirdrec(dim=16), training)
    assert true > 1.5 * shuffled, (true, shuffled)
