"""Dpcml against a literal twin and its identities, on planted people of two interests; Nearest and its strangers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from worlds import checkerboard, interactions, keys, random_split

from penchant.answers import told
from penchant.batches import Triples
from penchant.data import Ids, Interactions, Queries, no_history
from penchant.errors import BadSetting
from penchant.interests import interests
from penchant.model import Model, Recommender
from penchant.models.dpcml import Dpcml, DpcmlNet, outside, spread
from penchant.ranking import Task, evaluate
from penchant.saved import SCORERS
from penchant.scorers import Nearest
from penchant.split import Split
from penchant.train import run
from penchant.training import Training

SMALL = Dpcml(dim=5, vectors=3, negatives=6)
SHORT = Training(epochs=3, batch_size=16, learning_rate=0.05, device="cpu")


def build(model: Model, train: Interactions) -> DpcmlNet:
    torch.manual_seed(0)
    net = model.build(train)
    assert isinstance(net, DpcmlNet)
    return net


def first(net: DpcmlNet, size: int = 12) -> Triples:
    batch = next(net.batches(np.random.default_rng(0), size))
    assert size == 1 or len(batch.user.unique()) < size
    return batch


@pytest.fixture(scope="module")
def small() -> Interactions:
    """Irregular on purpose: degrees differ, a user and items without any choice."""
    return random_split(11, users=23, items=17, most=9).train


# --- one vector is CML ------------------------------------------------------------------------------------------------


def literal_cml(net: DpcmlNet, training: Training, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Collaborative metric learning, one triple at a time in double precision: the hardest of a pair's candidates, the
    gradient by hand, Adam on the rows that a batch named, then at once all users on the sphere and all items in the ball."""
    tables = {"user": net.user.detach().double().numpy().copy(), "item": net.item.detach().double().numpy().copy()}
    first_moment = {name: np.zeros_like(table) for name, table in tables.items()}
    second_moment = {name: np.zeros_like(table) for name, table in tables.items()}

    def confined() -> None:
        length = {name: np.linalg.norm(table, axis=1, keepdims=True) for name, table in tables.items()}
        tables["user"] /= length["user"]
        tables["item"] /= np.maximum(length["item"], 1)

    confined()
    step = 0
    for epoch in range(1, training.epochs + 1):
        rng = np.random.default_rng([training.seed, epoch])
        rng.integers(2**31)  # torch's seed of the epoch, which nothing here needs
        for batch in net.batches(rng, training.batch_size):
            step += 1
            gradient = {name: np.zeros_like(table) for name, table in tables.items()}
            named: dict[str, set[int]] = {"user": set(), "item": set()}
            triples = zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True)
            for u, i, candidates in triples:
                g = tables["user"][u]
                far = {k: ((g - tables["item"][k]) ** 2).sum() for k in (i, *candidates)}
                j = min(candidates, key=far.__getitem__)
                named["user"].add(u)
                named["item"] |= {i, j}
                if margin + far[i] - far[j] > 0:
                    gradient["user"][u] += 2 * (tables["item"][j] - tables["item"][i]) / len(batch)
                    gradient["item"][i] += 2 * (tables["item"][i] - g) / len(batch)
                    gradient["item"][j] -= 2 * (tables["item"][j] - g) / len(batch)
            for name, table in tables.items():
                for row in named[name]:
                    m, v, d = first_moment[name], second_moment[name], gradient[name][row]
                    m[row] = 0.9 * m[row] + 0.1 * d
                    v[row] = 0.999 * v[row] + 0.001 * d**2
                    root = np.sqrt(v[row] / (1 - 0.999**step)) + 1e-8
                    table[row] -= training.learning_rate * m[row] / (1 - 0.9**step) / root
            confined()
    return tables["user"], tables["item"]


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_one_vector_is_cml_with_hard_negatives_step_by_step(small: Interactions, margin: float) -> None:
    net = build(replace(SMALL, vectors=1, margin=margin), small)
    user, item = literal_cml(net, SHORT, margin)
    scorer, _ = run(net, SHORT)
    assert isinstance(scorer, Nearest)
    assert scorer.user[:, 0] == pytest.approx(user, abs=2e-4)
    assert scorer.item == pytest.approx(item, abs=2e-4)
    assert np.linalg.norm(scorer.item, axis=1).max() < 1 + 1e-6
    distance = ((user[:, None] - item) ** 2).sum(-1)
    assert scorer.score(no_history(np.unique(small.user))) == pytest.approx(-distance[np.unique(small.user)], abs=1e-3)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_diversity_asks_nothing_of_one_vector(small: Interactions, form: str) -> None:
    plain, asked = (build(replace(SMALL, vectors=1, diversity=eta, diversity_form=form), small) for eta in (0.0, 10.0))
    assert torch.equal(plain.loss(first(plain)), asked.loss(first(asked)))
    assert torch.isfinite(asked.loss(first(asked)))


# --- the distance -----------------------------------------------------------------------------------------------------


def scorer_of(user: np.ndarray, item: np.ndarray) -> Nearest:
    return Nearest(user.astype(np.float32), item.astype(np.float32), np.ones(len(user), bool))


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Users (9, 4, 3), of any length, and items (30, 3)."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(9, 4, 3)), rng.normal(size=(30, 3))


def scores(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    return scorer_of(user, item).score(no_history(np.arange(len(user))))


def test_the_nearest_vector_answers(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    user, item = vectors
    literal = [[-min(((g - v) ** 2).sum() for g in u) for v in item] for u in user]
    assert scores(user, item) == pytest.approx(np.array(literal), abs=1e-5)


def test_a_vector_twice_changes_nothing_one_more_never_hurts_and_their_order_is_nothing(
    vectors: tuple[np.ndarray, np.ndarray],
) -> None:
    user, item = vectors
    before = scores(user, item)
    assert np.array_equal(scores(np.concatenate([user, user[:, 2:3]], axis=1), item), before)
    assert np.array_equal(scores(user[:, [2, 0, 3, 1]], item), before)
    more = scores(np.concatenate([user, user[::-1, :1]], axis=1), item)
    assert (more >= before).all()
    assert (more > before).any()


def test_a_list_is_merged_from_the_lists_of_single_vectors(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    user, item = vectors
    for n in (1, 3, 7):
        whole = np.argsort(-scores(user, item), axis=1)[:, :n]
        single = [np.argsort(-scores(user[:, c : c + 1], item), axis=1)[:, :n] for c in range(user.shape[1])]
        for u, listed in enumerate(whole):
            assert set(listed) <= set(np.concatenate([one[u] for one in single]))


def test_of_two_vectors_alike_one_is_moved(small: Interactions) -> None:
    """A gradient shared between both would leave them alike for ever."""
    net = build(replace(SMALL, vectors=2, diversity=0.0), small)
    with torch.no_grad():
        net.user[1::2] = net.user[::2]
    batch = first(net)
    net.loss(batch).backward()
    assert net.user.grad is not None
    moved = net.user.grad.to_dense().view(-1, 2, SMALL.dim)[batch.user.unique()].abs().sum(-1) > 0
    assert (moved.sum(1) <= 1).all()
    assert moved.any()


# --- diversity --------------------------------------------------------------------------------------------------------


def test_the_spread_is_a_sum_over_pairs_a_trace_and_on_the_sphere_one_less_the_mean_cosine() -> None:
    g = torch.nn.functional.normalize(torch.randn(7, 4, 5, dtype=torch.float64), dim=-1)
    delta = spread(g)
    pairs = (g[:, :, None] - g[:, None]).square().sum((1, 2, 3)) / (2 * 4 * 3)
    traces = torch.stack([torch.cov(u.T).trace() for u in g])
    others = ~torch.eye(4, dtype=torch.bool)
    cosine = (g @ g.transpose(1, 2))[:, others].mean(1)
    for found in (pairs, traces, 1 - cosine):
        assert delta == pytest.approx(found, abs=1e-6)
    loose = 3 * torch.randn(7, 4, 5, dtype=torch.float64)
    assert spread(loose) == pytest.approx(torch.stack([torch.cov(u.T).trace() for u in loose]), abs=1e-6)


@pytest.mark.parametrize(("form", "scale"), [("paper", 1.0), ("code", 2.0)])
def test_dcrs_is_nothing_within_its_band_and_pulls_towards_it_from_outside(
    small: Interactions, form: str, scale: float
) -> None:
    """Two vectors at an angle: delta = 1 - cos, the pair's own distance is twice that."""
    for delta in (0.02, 0.049, 0.051, 0.15, 0.249, 0.251, 0.6, 1.9):
        angle = math.acos(1 - delta)
        g = torch.tensor([[[1.0, 0.0], [math.cos(angle), math.sin(angle)]]], requires_grad=True)
        net = build(replace(SMALL, vectors=2, diversity_form=form, low=scale * 0.05, high=scale * 0.25), small)
        value = net.dcrs(g)
        value.backward()
        assert g.grad is not None
        excess = max(0.05 - delta, delta - 0.25, 0)
        assert value.item() == pytest.approx(excess, abs=1e-5)  # "code": twice the excess, in two pairs of four
        assert bool(g.grad.abs().sum() > 0) == (excess > 0)
        after = float(spread(g.detach() - 1e-3 * g.grad))
        assert np.sign(after - float(spread(g.detach()))) == (0 if not excess else 1 if delta < 0.05 else -1)


def test_the_code_s_form_holds_each_pair_to_the_band() -> None:
    """Two pairs, one too near and one too far, whose mean is within."""
    net = build(replace(SMALL, diversity_form="code", low=0.5, high=1.0), random_split(1).train)
    g = torch.randn(4, 3, 5)
    literal = 0.0
    for u in g:
        for c in range(3):
            for other in range(3):
                p = float((u[c] - u[other]).square().sum())
                literal += (c != other) * (max(0.5 - p, 0) + max(p - 1.0, 0)) / (4 * 3 * 3)
    assert float(net.dcrs(g)) == pytest.approx(literal, rel=1e-5)
    assert float(outside(torch.tensor(0.75), 0.5, 1.0)) == 0


@cache
def spreads(diversity: float, low: float = 0.05, high: float = 0.25) -> np.ndarray:
    """delta of everybody trained on the checkerboard. (U,)"""
    model = Dpcml(dim=8, vectors=4, diversity=diversity, low=low, high=high)
    scorer = model.fit(checkerboard().train, training=Training(epochs=15, batch_size=64, learning_rate=0.02)).scorer
    assert isinstance(scorer, Nearest)
    return spread(torch.from_numpy(scorer.user[scorer.trained])).numpy()


def test_dcrs_brings_people_towards_the_band_from_either_side() -> None:
    free = spreads(0.0)
    assert free.mean() > 0.4, "vectors that never answer stay where chance put them: about 1"
    assert abs(spreads(10.0) - 0.15).mean() < 0.2 * abs(free - 0.15).mean()
    wide = spreads(10.0, low=1.2, high=1.3)
    assert abs(wide - 1.25).mean() < 0.5 * abs(free - 1.25).mean()


def test_vectors_do_not_fall_into_one() -> None:
    for diversity in (0.0, 0.04, 10.0):
        assert spreads(diversity).min() > 0.02


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_a_share_of_one_is_uniform_and_of_one_candidate_is_hard(small: Interactions) -> None:
    for S in (6, 10, 49):
        losses = {}
        for sampling, share in (("uniform", 0.3), ("opauc", 1.0), ("hard", 0.3), ("opauc", 1 / S)):
            net = build(replace(SMALL, sampling=sampling, share=share, negatives=S), small)
            losses[sampling, share] = net.loss(first(net))
        assert torch.equal(losses["uniform", 0.3], losses["opauc", 1.0])
        assert torch.equal(losses["hard", 0.3], losses["opauc", 1 / S])
        assert losses["hard", 0.3] > losses["uniform", 0.3]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 1.0])
def test_opauc_is_the_mean_of_the_largest_hinges_and_the_dual_of_cvar(small: Interactions, share: float) -> None:
    net = build(replace(SMALL, sampling="opauc", share=share, negatives=10, diversity=0.0), small)
    batch = first(net)
    found = net.loss(batch).item()
    g, v = net.user.detach().view(-1, 3, 5), net.item.detach()
    literal, dual, kept = 0.0, 0.0, round(share * 10)
    for u, i, candidates in zip(batch.user, batch.positive, batch.negative, strict=True):
        s = {int(k): float((g[u] - v[k]).square().sum(-1).min()) for k in (i, *candidates)}
        hinges = sorted((max(1 + s[int(i)] - s[int(j)], 0) for j in candidates), reverse=True)
        literal += sum(hinges[:kept]) / kept / len(batch)
        dual += min(t + sum(max(h - t, 0) for h in hinges) / (share * 10) for t in hinges) / len(batch)
    assert found == pytest.approx(literal, rel=1e-5)
    assert found == pytest.approx(dual, rel=1e-5)


def test_only_candidates_that_count_are_moved(small: Interactions) -> None:
    net = build(replace(SMALL, sampling="hard"), small)
    batch = first(net, size=1)
    net.loss(batch).backward()
    assert net.item.grad is not None
    assert len(net.item.grad._indices()[0].unique()) == 2
    assert len(net.user.grad._indices()[0].unique()) == SMALL.vectors  # type: ignore[union-attr]


# --- people of two interests ------------------------------------------------------------------------------------------


@cache
def minority() -> Split:
    """Six kinds of ten items. Everybody likes one kind much and another a little, every pair of kinds alike often: train
    has 7 of the one and 4 of the other, and test 3 of the lesser one."""
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in range(6) for b in range(6) if a != b] * 5
    parts: dict[str, list[tuple[int, int]]] = {"train": [], "test": []}
    for u, (a, b) in enumerate(pairs):
        much, little = rng.permutation(10) + 10 * a, rng.permutation(10) + 10 * b
        parts["train"] += [(u, i) for i in (*much[:7], *little[:4])]
        parts["test"] += [(u, i) for i in little[4:7]]
    users, items = Ids("user", keys("user", len(pairs))), Ids("item", keys("item", 60))
    train, test = (interactions(users, items, *np.array(rows).T) for rows in parts.values())
    return Split(train, test.take(np.zeros(0, np.int64)), test)


@cache
def two_sided(vectors: int) -> Recommender:
    """In three dimensions there is room for six kinds, and between most two of them lies another."""
    model = Dpcml(dim=3, vectors=vectors, diversity=0.0, sampling="uniform", negatives=5)
    training = Training(epochs=60, batch_size=128, learning_rate=0.02, device="cpu")
    return model.fit(minority().train, training=training)


def recall(rec: Recommender, scorer: Nearest | None = None) -> float:
    """Of the lesser interest, within ten places; nine more items of both kinds compete."""
    task = Task(at=(10,), mask=("train",), history=("train",))
    return evaluate(rec if scorer is None else replace(rec, scorer=scorer), minority(), task).mean["recall@10"]


@pytest.mark.long
def test_two_vectors_find_the_lesser_interest_that_one_loses_and_their_mean_does_not() -> None:
    one, two = two_sided(1), two_sided(2)
    own = two.scorer
    assert isinstance(own, Nearest)
    mean = replace(own, user=own.user.mean(axis=1, keepdims=True))
    assert recall(two) > 0.88
    assert recall(one) < 0.7
    assert recall(two, mean) < 0.7


@pytest.mark.long
def test_each_of_two_interests_has_a_vector() -> None:
    """No dead vectors: the items of a user are nearest to one or the other."""
    split = minority()
    scorer = two_sided(2).scorer
    assert isinstance(scorer, Nearest)
    g, v = scorer.user[split.train.user], scorer.item[split.train.item]
    which = ((g - v[:, None]) ** 2).sum(-1).argmin(1)
    share = np.bincount(split.train.user, weights=which) / np.bincount(split.train.user)
    assert np.mean((share > 0) & (share < 1)) > 0.9


def test_a_stranger_of_two_interests_has_both() -> None:
    """Judged by her history alone she finds the lesser one as often as if she had been trained on."""
    rec, split = two_sided(2), minority()
    scorer = rec.scorer
    assert isinstance(scorer, Nearest)
    assert recall(rec, replace(scorer, trained=np.zeros(len(split.users), bool))) > 0.85


# --- strangers --------------------------------------------------------------------------------------------------------


def history(rows: list[list[int]], items: int) -> Queries:
    return Queries.of(np.full(len(rows), -1), rows)


def test_interests_are_the_literal_spherical_means_of_each_history() -> None:
    rng, emptied = np.random.default_rng(2), 0
    item = rng.normal(size=(40, 3)).astype(np.float32)
    item[10:] = 0.5 * item[:30]  # four of one direction: some histories have fewer directions than vectors
    rows = [sorted(rng.choice(40, n, replace=False).tolist()) for n in (1, 2, 3, 12, 30) * 20]
    found, which = interests(history(rows, 40).matrix(40), item, 3)
    starts = np.cumsum([0, *map(len, rows)])
    for b, row in enumerate(rows):
        v, g = item[row].astype(float), []
        asked = v @ v.sum(0)
        for _ in range(3):
            g.append(v[asked.argmax()] / np.linalg.norm(v[asked.argmax()]))
            asked = -np.max([v @ one for one in g], axis=0)
        for _ in range(10):
            near = np.argmax([v @ one for one in g], axis=0)
            sums = [v[near == c].sum(0) for c in range(3)]
            g = [sums[c if (near == c).any() else near[0]] for c in range(3)]
            g = [s / np.linalg.norm(s) for s in g]
            emptied += len(row) == 3 and len(set(near.tolist())) < 3
        assert found[b] == pytest.approx(np.array(g), abs=1e-5)
        assert which[starts[b] : starts[b + 1]].tolist() == near.tolist()
    assert emptied


def test_interests_of_few_or_no_items() -> None:
    item = np.eye(4, dtype=np.float32)
    found, which = interests(history([[2], [], [0, 3]], 4).matrix(4), item, 3)
    assert np.array_equal(found[0], item[[2, 2, 2]])
    assert not found[1].any()
    assert {tuple(g) for g in found[2]} == {tuple(item[0]), tuple(item[3])}
    assert len(which) == 3
    nothing, none = interests(history([[], []], 4).matrix(4), item, 3)
    assert nothing.shape == (2, 3, 4)
    assert not len(none)


def test_what_choices_carry_adds_up_to_a_stranger_s_score(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    """Whatever the order they are named in, and with fewer choices than vectors."""
    user, item = vectors
    scorer, used = scorer_of(user, item), set()
    few = np.array([9, 2])
    sums = [scorer.carried(-1, few, i).sum() - 1 - (item[i] ** 2).sum() for i in range(len(item))]
    assert scorer.score(Queries.of([-1], [few]))[0] == pytest.approx(np.array(sums), abs=1e-5)
    assert not len(scorer.carried(-1, np.zeros(0, np.int64), 0))
    chosen = np.array([22, 3, 17, 8, 4])
    score = scorer.score(Queries.of([-1], [chosen]))[0]
    for i in range(len(item)):
        carried = scorer.carried(-1, chosen, i)
        assert carried.dtype == np.float32
        assert carried.sum() - 1 - (item[i] ** 2).sum() == pytest.approx(score[i], abs=1e-5)
        used |= set(np.flatnonzero(carried))
    assert used == set(range(5))


def test_somebody_without_a_choice_in_train_is_a_stranger_and_is_told() -> None:
    world = checkerboard()
    rec = Dpcml(dim=8, vectors=2).fit(world.train, training=SHORT)
    scorer = rec.scorer
    assert isinstance(scorer, Nearest)
    last, mine = len(world.split.users) - 1, [0, 4, 8]
    known, new = scorer.score(Queries.of([last, -1], [mine, mine]))
    assert np.array_equal(known, new)
    late = replace(rec, known=Queries.of(np.arange(last + 1), [*rec.known.history[:-1], np.array(mine)]))
    listed = late.recommend([world.split.users.keys[last]], 3)[0]
    assert "nothing of this user was in training: judged by the 3 choices" in told(listed, late, 3).note
    assert not told(late.recommend([world.split.users.keys[0]], 3)[0], late, 3).note


def test_the_scorer_is_made_again_from_its_arrays(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    scorer = scorer_of(*vectors)
    again = SCORERS["nearest"].of(scorer.arrays())
    asked = Queries.of([0, 5, -1], [[], [1], [2, 3]])
    assert np.array_equal(again.score(asked), scorer.score(asked))
    near = scorer.likeness(np.array([4, 9]))
    assert near == pytest.approx(-((vectors[1][[4, 9], None] - vectors[1]) ** 2).sum(-1), abs=1e-4)
    assert near.dtype == np.float32


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"vectors": 0}, "vectors = 0 must be at least 1"),
        ({"negatives": 0}, "negatives = 0 must be at least 1"),
        ({"low": 0.3, "high": 0.2}, "low = 0.3, high = 0.2 must be a band"),
        ({"low": -0.1}, "low = -0.1"),
        ({"margin": 0.0}, "margin = 0 must be above 0"),
        ({"diversity": -1.0}, "diversity = -1 not below"),
        ({"share": 0.0}, "share = 0 is a share of the candidates"),
        ({"share": 1.1}, "share = 1.1 is a share of the candidates"),
    ],
)
def test_settings_that_make_no_sense_are_named(small: Interactions, wrong: dict[str, float], said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        Dpcml(**wrong).build(small)  # type: ignore[arg-type]
