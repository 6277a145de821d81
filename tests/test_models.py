"""Each model's mathematics against a slow, literal twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from worlds import World, checkerboard, random_split

from penchant import nn as blocks
from penchant.batches import Pairs, Triples
from penchant.data import Ids, Interactions, Queries, no_history
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.models.bpr import Bpr, BprNet
from penchant.models.ease import Ease
from penchant.models.item_knn import ItemKnn
from penchant.models.lightgcn import LightGcn, LightGcnNet
from penchant.models.popular import Popular
from penchant.models.vbpr import Vbpr, VbprNet
from penchant.scorers import Factors, turn
from penchant.texts import Provenance


@pytest.fixture(scope="module")
def small() -> Interactions:
    """Irregular on purpose: degrees differ, a user and items without any choice."""
    return random_split(11, users=23, items=17, most=9).train


def dense(train: Interactions) -> np.ndarray:
    x = np.zeros((len(train.users), len(train.items)))
    x[train.user, train.item] = 1
    return x


def triples(train: Interactions, n: int = 64, negatives: int = 1) -> Triples:
    return next(Pairs(train).epoch(np.random.default_rng(0), n, negatives))


def features(train: Interactions, dim: int, seed: int, gaps: int = 2) -> Features:
    rng = np.random.default_rng(seed)
    present = np.ones(len(train.items), bool)
    present[rng.permutation(len(present))[:gaps]] = False
    return Features(train.items, rng.normal(2, 1, (len(present), dim)), present, Provenance("drawn"))


def by_hand(part: Features) -> np.ndarray:
    """Centred over the present rows, each scaled to length 1, gaps zero. (I, d) float64"""
    values = part.values.astype(np.float64)
    values = values - values[part.present].mean(axis=0)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[~part.present] = 0
    return values


# --- LightGCN ---------------------------------------------------------------------------------------------------------


def adjacency(train: Interactions) -> np.ndarray:
    """D^-1/2 A D^-1/2 over users, then items, one edge at a time."""
    x = dense(train)
    users, items = x.shape
    a = np.zeros((users + items, users + items))
    for u in range(users):
        for i in range(items):
            if x[u, i]:
                a[u, users + i] = a[users + i, u] = 1 / np.sqrt(x[u].sum() * x[:, i].sum())
    return a


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_lightgcn_sums_the_layers_of_its_propagation(small: Interactions, layers: int) -> None:
    net = LightGcn(dim=5, layers=layers).build(small)
    assert isinstance(net, LightGcnNet)
    a, e0 = adjacency(small), net.e0.detach().numpy().astype(np.float64)
    expected = sum(np.linalg.matrix_power(a, k) @ e0 for k in range(layers + 1))
    found = net.embed()
    assert np.abs(torch.cat([found.users, found.items]).detach().numpy() - expected).max() < 1e-5
    assert net.e0.detach().numpy() == pytest.approx(e0), "the table itself is not written to"


@pytest.mark.parametrize("layers", [0, 2, 3])
def test_the_hand_written_gradient_is_that_of_autograd(small: Interactions, layers: int) -> None:
    net = LightGcn(dim=5, layers=layers).build(small)
    batch = triples(small)
    net.loss(batch).backward()
    a = torch.from_numpy(adjacency(small)).float()
    e0 = net.e0.detach().clone().requires_grad_()
    layer, total = e0, e0
    for _ in range(layers):
        layer = a @ layer
        total = total + layer
    users, items = total[: len(small.users)], total[len(small.users) :]
    u, i, j = users[batch.user], items[batch.positive], items[batch.negative]
    (-torch.nn.functional.logsigmoid((u * i).sum(1) - (u * j).sum(1)).mean()).backward()
    assert net.e0.grad is not None
    assert e0.grad is not None
    assert net.e0.grad.abs().max() > 1e-4
    assert (net.e0.grad - e0.grad).abs().max() < 1e-6


# --- EASE -------------------------------------------------------------------------------------------------------------


def textbook_ease(x: np.ndarray, l2: float) -> np.ndarray:
    """Eq. 8, in double precision, with the inverse written out."""
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    b = p / -np.diag(p)
    np.fill_diagonal(b, 0)
    return b


def weights(model: Ease, train: Interactions, **inputs: Features) -> np.ndarray:
    return model.fit(train, **inputs).scorer.arrays()["weights"]


@pytest.mark.parametrize("l2", [0.5, 50.0])
def test_ease_is_the_textbook_formula(small: Interactions, l2: float) -> None:
    found = weights(Ease(l2=l2), small)
    assert found == pytest.approx(textbook_ease(dense(small), l2), abs=1e-6)
    assert (np.diag(found) == 0).all()


def test_ease_fills_its_table_in_blocks_of_rows() -> None:
    """More items than one block of 1,024."""
    rng = np.random.default_rng(0)
    users, items = Ids("user", tuple(map(str, range(300)))), Ids("item", tuple(map(str, range(1100))))
    train = Interactions(users, items, np.repeat(np.arange(300), 8), rng.integers(0, 1100, 2400))
    assert np.abs(weights(Ease(l2=3.0), train) - textbook_ease(dense(train), 3.0)).max() < 1e-6


def test_ease_with_features_is_ease_with_more_rows(small: Interactions) -> None:
    """alpha F' stacked under X: what each feature dimension says of the items counts as alpha users' worth."""
    image, text = features(small, 4, 1), features(small, 3, 2, gaps=0)
    stacked = np.vstack([dense(small), 1.7 * by_hand(image).T, 1.7 * by_hand(text).T])
    found = weights(Ease(l2=2.0, alpha=1.7), small, image=image, text=text)
    assert found == pytest.approx(textbook_ease(stacked, 2.0), abs=1e-6)
    assert (np.diag(found) == 0).all()
    assert weights(Ease(l2=2.0, alpha=0.0), small, image=image) == pytest.approx(
        textbook_ease(dense(small), 2.0), abs=1e-6
    )


def test_features_let_ease_recommend_what_nobody_chose(world: World) -> None:
    """The item without interactions has a vector of group 0: those users get it, others don't."""
    never = len(world.train.items) - 1
    rec = Ease(l2=5.0, alpha=3.0).fit(world.train, image=world.features(noise=0.02))
    score = rec.score(rec.known)[:-1, never]
    of_group = world.user_group[:-1] == 0
    assert score[of_group].min() > score[~of_group].max()
    blind = Ease(l2=5.0).fit(world.train)
    assert (blind.score(blind.known)[:, never] == 0).all()


def test_ease_minimises_what_it_says_it_minimises(small: Interactions) -> None:
    """No small step that keeps the diagonal at zero lowers ||X - XB||^2 + l2 ||B||^2."""
    x = dense(small)
    b = weights(Ease(l2=2.0), small).astype(np.float64)

    def cost(b: np.ndarray) -> float:
        return float(((x - x @ b) ** 2).sum() + 2.0 * (b**2).sum())

    rng = np.random.default_rng(0)
    for _ in range(50):
        step = rng.normal(size=b.shape) * 1e-2
        np.fill_diagonal(step, 0)
        assert cost(b + step) > cost(b)


def test_a_catalogue_too_large_for_ease_is_refused_before_it_is_tried() -> None:
    users, items = Ids("user", ("u",)), Ids("item", tuple(map(str, range(30_001))))
    one = Interactions(users, items, np.array([0]), np.array([0]))
    with pytest.raises(BadSetting, match="30001 items"):
        Ease().fit(one)
    with pytest.raises(BadSetting, match="larger l2"):
        Ease(l2=0.0).fit(checkerboard().train)


# --- ItemKnn, Popular -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("neighbours", "shrink"), [(100, 0.0), (100, 5.0), (3, 5.0), (1, 0.0)])
def test_item_knn_keeps_the_most_similar_items(small: Interactions, neighbours: int, shrink: float) -> None:
    x = dense(small)
    items = x.shape[1]
    expected = np.zeros((items, items))  # [j, i]: what having chosen j says for i
    for i in range(items):
        row = np.zeros(items)
        for j in range(items):
            both = (x[:, i] * x[:, j]).sum()
            if i != j and both:
                row[j] = both / (np.sqrt(x[:, i].sum() * x[:, j].sum()) + shrink)
        for j in np.argsort(-row, kind="stable")[:neighbours]:
            expected[j, i] = row[j]
    rec = ItemKnn(neighbours=neighbours, shrink=shrink).fit(small)
    found = rec.score(Queries.of(np.full(items, -1), [[j] for j in range(items)]))
    # Among equally similar items any may be the one that is kept; their weights are the same.
    assert np.sort(found, axis=0) == pytest.approx(np.sort(expected, axis=0), abs=1e-6)
    if neighbours == 100:
        assert found == pytest.approx(expected, abs=1e-6)
        assert rec.score(rec.known) == pytest.approx(x @ expected, abs=1e-5)


def test_item_knn_works_in_blocks_of_items() -> None:
    rng = np.random.default_rng(0)
    users, items = Ids("user", tuple(map(str, range(300)))), Ids("item", tuple(map(str, range(1100))))
    train = Interactions(users, items, np.repeat(np.arange(300), 8), rng.integers(0, 1100, 2400))
    x = dense(train)
    both = x.T @ x
    np.fill_diagonal(both, 0)
    degree = np.sqrt(x.sum(axis=0))
    expected = both / (np.outer(degree, degree) + 2.0)
    rec = ItemKnn(neighbours=1100, shrink=2.0).fit(train)
    assert np.abs(rec.score(rec.known) - x @ expected).max() < 1e-5


def test_popular_counts(small: Interactions) -> None:
    rec = Popular().fit(small)
    assert np.array_equal(rec.score(no_history([3, -1])), np.tile(dense(small).sum(axis=0), (2, 1)))


# --- BPR and its samples ----------------------------------------------------------------------------------------------


def test_bpr_scores_and_loss_are_its_equations(small: Interactions) -> None:
    net = Bpr(dim=6, negatives=3).build(small)
    assert isinstance(net, BprNet)
    batch = triples(small, n=40, negatives=3)
    w, h = net.user.detach(), net.item.detach()
    total = 0.0
    for u, i, row in zip(batch.user, batch.positive, batch.negative, strict=True):
        for j in row:
            total += float(-torch.log(torch.sigmoid(w[u] @ h[i] - w[u] @ h[j])))
    assert batch.negative.shape == (40, 3)
    assert net.loss(batch).item() == pytest.approx(total / batch.negative.numel(), rel=1e-5)


@pytest.mark.parametrize("negatives", [1, 4])
def test_an_epoch_has_each_pair_once_with_negatives_from_outside(negatives: int) -> None:
    train = random_split(12, users=40, items=12, most=12).train
    drawn = list(Pairs(train).epoch(np.random.default_rng(0), 17, negatives))
    assert {len(b) for b in drawn[:-1]} == {17}
    assert 0 < len(drawn[-1]) <= 17
    pairs = [(int(u), int(i)) for b in drawn for u, i in zip(b.user, b.positive, strict=True)]
    assert sorted(pairs) == sorted(zip(train.user.tolist(), train.item.tolist(), strict=True))
    assert pairs != list(zip(train.user.tolist(), train.item.tolist(), strict=True)), "shuffled"
    x = dense(train)
    for b in drawn:
        assert b.negative.shape == ((len(b),) if negatives == 1 else (len(b), negatives))
        assert (x[b.user.numpy()[:, None], b.negative.numpy().reshape(len(b), -1)] == 0).all()


def test_negatives_are_uniform_over_what_a_user_did_not_choose() -> None:
    train = random_split(13, users=5, items=14, most=12).train
    pairs, x = Pairs(train), dense(train)
    rng = np.random.default_rng(1)
    for user in range(5):
        drawn = pairs.negatives(np.full((4000, 2), user), rng)
        left = np.flatnonzero(x[user] == 0)
        counts = np.bincount(drawn.ravel(), minlength=14)
        assert counts.sum() == counts[left].sum() == 8000
        assert stats.chisquare(counts[left]).pvalue > 1e-4


def test_who_chose_everything_is_left_out_and_who_chose_all_but_one_is_not() -> None:
    users, items = Ids("user", ("all", "most", "one")), Ids("item", tuple("abcd"))
    user, item = np.array([0, 0, 0, 0, 1, 1, 1, 2]), np.array([0, 1, 2, 3, 0, 1, 2, 3])
    drawn = next(Pairs(Interactions(users, items, user, item)).epoch(np.random.default_rng(0), 100))
    assert sorted(drawn.user.tolist()) == [1, 1, 1, 2]
    assert set(drawn.negative[drawn.user == 1].tolist()) == {3}
    assert 3 not in drawn.negative[drawn.user == 2].tolist()


def test_an_epoch_is_a_function_of_its_generator(small: Interactions) -> None:
    def whole(seed: int) -> torch.Tensor:
        return torch.cat(
            [torch.stack([b.user, b.positive, b.negative]) for b in Pairs(small).epoch(np.random.default_rng(seed), 9)],
            1,
        )

    assert torch.equal(whole(3), whole(3))
    assert not torch.equal(whole(3), whole(4))


# --- VBPR -------------------------------------------------------------------------------------------------------------


def moved(net: VbprNet) -> VbprNet:
    """Off the start, where b' is zero."""
    with torch.no_grad():
        net.b += 0.3 * torch.randn(net.b.shape, generator=torch.Generator().manual_seed(0))
    return net


def vbpr(train: Interactions) -> VbprNet:
    parts = {"image": features(train, 5, 3), "text": features(train, 4, 4)}
    return moved(Vbpr(dim=6, content_dim=3).build(train, **parts))


def test_vbpr_scores_are_its_formula(small: Interactions) -> None:
    net = vbpr(small)
    f = np.concatenate([by_hand(features(small, 5, 3)), by_hand(features(small, 4, 4))], axis=1) * Vbpr().content_scale
    tables = (net.g_user, net.g_item, net.t_user, net.e, net.b)
    g_u, g_i, t_u, e, b = (p.detach().numpy().astype(np.float64) for p in tables)
    found = net.finish().score(no_history(np.arange(len(small.users))))
    for u in np.unique(small.user):
        for i in range(len(small.items)):
            x = g_u[u] @ g_i[i] + t_u[u] @ (e @ f[i]) + b @ f[i]
            assert found[u, i] == pytest.approx(x, abs=1e-5)


def test_one_product_of_the_difference_is_two_products() -> None:
    """Loss and every gradient, against x_ui - x_uj written out as eq. 4 has it."""
    train = random_split(15, users=160, items=17, most=9).train
    net, twin = vbpr(train), vbpr(train)
    twin.load_state_dict(net.state_dict())
    batch = triples(train, n=10_000)
    loss = net.loss(batch)
    loss.backward()

    def x(items: torch.Tensor) -> torch.Tensor:
        f, t = twin.f[items], twin.t_user[batch.user]
        return (twin.g_user[batch.user] * twin.g_item[items]).sum(1) + (t * (f @ twin.e.T)).sum(1) + f @ twin.b

    literal = -torch.nn.functional.logsigmoid(x(batch.positive) - x(batch.negative)).mean()
    literal.backward()
    assert loss.item() == pytest.approx(literal.item(), abs=1e-6)
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert (p.grad.to_dense() - q.grad.to_dense()).abs().max() < 1e-6, name
        assert q.grad.abs().max() > 1e-5, name


def test_vbpr_leaves_its_features_as_they_are(world: World) -> None:
    net = vbpr(world.train)
    before = net.f.clone()
    for batch in net.batches(np.random.default_rng(0), 50):
        net.loss(batch).backward()
    assert torch.equal(net.f, before)
    assert "f" not in net.state_dict(), "what is frozen is not saved with every checkpoint"


# --- from torch to numpy ----------------------------------------------------------------------------------------------

NETS: dict[str, Callable[[Interactions], blocks.EmbeddingNet]] = {
    "bpr": lambda train: Bpr(dim=7).build(train),
    "lightgcn": lambda train: LightGcn(dim=7, layers=2).build(train),
}


@pytest.mark.parametrize("name", NETS)
def test_the_saved_scorer_says_what_the_net_says(name: str, small: Interactions) -> None:
    net = NETS[name](small)
    vectors = net.embed()
    expected = (vectors.users @ vectors.items.T).detach().numpy()
    scorer = net.finish()
    trained = np.unique(small.user)
    assert scorer.score(no_history(trained)) == pytest.approx(expected[trained], abs=1e-6)
    before = scorer.user.copy()
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    assert np.array_equal(scorer.user, before), "a scorer is a copy and does not follow further training"


def test_the_difference_of_two_scores_is_what_the_loss_sees(small: Interactions) -> None:
    """For every net: loss of a batch of one = softplus of the difference of the scorer's two scores."""
    for net in (*(make(small) for make in NETS.values()), vbpr(small)):
        scores = net.finish().score(no_history(np.arange(len(small.users))))
        batch = triples(small, n=1)  # of a user with choices, or there would be no positive
        u, i, j = (int(c[0]) for c in (batch.user, batch.positive, batch.negative))
        assert net.loss(batch).item() == pytest.approx(np.log1p(np.exp(scores[u, j] - scores[u, i])), abs=1e-5)


def test_fold_in_gives_back_users_who_are_sums_of_their_items() -> None:
    """Where a linear map from history to vector exists, a stranger gets the vector that the user has."""
    rng = np.random.default_rng(0)
    train = random_split(14, users=60, items=20, most=10).train
    item, w = rng.normal(size=(20, 4)), rng.normal(size=(4, 4))
    x = dense(train)
    length = np.maximum(x.sum(axis=1, keepdims=True), 1)
    user = (x @ item) / np.sqrt(length) @ w
    fold = item @ turn(user.astype(np.float32), item.astype(np.float32), train.matrix(), ridge=1e-9)
    scorer = Factors(user.astype(np.float32), item.astype(np.float32), np.zeros(20, np.float32), fold)
    histories = [np.flatnonzero(row) for row in x]
    strangers = scorer.score(Queries.of(np.full(60, -1), histories))
    assert strangers == pytest.approx(user @ item.T, abs=1e-3)
    mixed = Queries.of(np.where(np.arange(60) % 2, -1, np.arange(60)), histories)
    assert scorer.score(mixed) == pytest.approx(user @ item.T, abs=1e-3)
    twice = Queries.of([-1, -1], [[3, 5], [3, 5, 3]])
    assert np.array_equal(*scorer.score(twice)), "a choice counts once"


def test_a_bias_is_part_of_the_score() -> None:
    eye = np.eye(2, dtype=np.float32)
    scorer = Factors(eye, eye, np.array([0.5, -2], np.float32), eye)
    assert scorer.score(no_history([0, 1])).tolist() == [[1.5, -2.0], [0.5, -1.0]]


def test_by_rows_gradients_hold_only_the_rows_of_the_batch(small: Interactions) -> None:
    net = Bpr(dim=4).build(small)
    batch = triples(small, n=2)
    net.loss(batch).backward()
    assert net.user.grad is not None
    assert net.user.grad.is_sparse
    assert set(net.user.grad._indices()[0].tolist()) == set(batch.user.tolist())
    full = replace(LightGcn(dim=4), layers=0).build(small)
    full.loss(batch).backward()
    assert not full.e0.grad.is_sparse
