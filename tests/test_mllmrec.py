"""MLLMRec against a literal twin: dense graphs edge by edge, propagation in every step, all rows through both towers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from worlds import checkerboard, interactions, keys, random_split

from penchant import saved
from penchant.batches import Pairs, Triples
from penchant.data import Ids, Interactions, Queries, no_history
from penchant.errors import BadSetting, Misaligned, MissingInput
from penchant.features import Features
from penchant.graph import Graph, jaccard, knn, normalise
from penchant.models.mllmrec import Mllmrec, MllmrecNet, joined
from penchant.ranking import Task, evaluate
from penchant.reasons import explain
from penchant.recipe import parse
from penchant.split import Split
from penchant.texts import Provenance
from penchant.towers import Towers
from penchant.training import Training

TINY = Mllmrec(dim=5, hidden=7, neighbours=4, neighbours_jaccard=3, threshold=0.2)
both = pytest.mark.parametrize("model", [TINY, replace(TINY, gcn_layers=2)], ids=["plain", "gcn_ui"])


@pytest.fixture(scope="module")
def small() -> Interactions:
    """Irregular on purpose: degrees differ; the last user and the last two items are without any choice."""
    whole = random_split(11, users=23, items=17, most=9).train
    keep = (whole.user != 22) & (whole.item < 15)
    return Interactions(whole.users, whole.items, whole.user[keep], whole.item[keep])


def features(ids: Ids, gaps: tuple[int, ...] = (), dim: int = 4, seed: int = 0) -> Features:
    """Rows of various lengths; where a gap is, nothing."""
    rng = np.random.default_rng([seed, ids.kind == "user"])
    present = ~np.isin(np.arange(len(ids)), gaps)
    return Features(ids, 3 * rng.normal(size=(len(ids), dim)), present, Provenance("drawn"))


def built(model: Mllmrec, train: Interactions, users: bool = True, seed: int = 0) -> MllmrecNet:
    """Items 0 and 16 have no text, nor have users 17 and 22, or all of them if not `users`."""
    torch.manual_seed(seed)
    return model.build(train, features(train.items, (0, 16)), features(train.users, (17, 22)) if users else None)


def triples(train: Interactions, n: int = 20, negatives: int = 1) -> Triples:
    return next(Pairs(train).epoch(np.random.default_rng(0), n, negatives))


def scores(net: MllmrecNet, queries: Queries) -> np.ndarray:
    return net.eval().finish().score(queries)


# --- the twin ---------------------------------------------------------------------------------------------------------


def audiences(train: Interactions) -> list[set[int]]:
    return [set(train.user[train.item == i].tolist()) for i in range(len(train.items))]


def twin_graph(model: Mllmrec, train: Interactions, x: np.ndarray) -> np.ndarray:
    """A' of the docstring; x: unit rows, zeros where there is no text. (I, I)"""
    n, crowd = len(x), audiences(train)
    a = np.zeros((n, n))
    for i in range(n):
        cosine = {j: float(x[i] @ x[j]) for j in range(n) if x[i].any() and x[j].any()}
        for j in sorted(cosine, key=lambda j: -cosine[j])[: model.neighbours]:
            a[i, j] += cosine[j] >= model.threshold
        same = {j: len(crowd[i] & crowd[j]) / max(len(crowd[i] | crowd[j]), 1) for j in range(n) if j != i}
        for j in sorted(same, key=lambda j: (-same[j], j))[: model.neighbours_jaccard]:
            a[i, j] += same[j]
    d = a.sum(axis=1)
    return np.array([[a[i, j] / np.sqrt(d[i] * d[j]) if a[i, j] and d[j] else 0 for j in range(n)] for i in range(n)])


def adjacency(train: Interactions) -> torch.Tensor:
    """D^-1/2 A D^-1/2 over users, then items. (N, N)"""
    users = len(train.users)
    a = torch.zeros(users + len(train.items), users + len(train.items), dtype=torch.float64)
    for u, i in zip(train.user, train.item, strict=True):
        a[u, users + i] = a[users + i, u] = 1
    scale = a.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * a * scale


def unit(features: Features) -> np.ndarray:
    x = np.where(features.present[:, None], features.values, 0).astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)


def twin_items(net: MllmrecNet) -> torch.Tensor:
    """e of all items, in double precision and from the raw inputs."""
    model, train = net.model, net.pairs.train
    x = unit(features(train.items, (0, 16)))
    a, layer = torch.from_numpy(twin_graph(model, train, x)), torch.from_numpy(x)
    e = layer
    for _ in range(model.layers):
        layer = a @ layer
        e = e + layer
    return e


def twin_text(net: MllmrecNet, users: bool, u: int, without: int = -1) -> torch.Tensor:
    """t_u, of means without one item."""
    train, e = net.pairs.train, twin_items(net)
    texts = features(train.users, (17, 22) if users else range(23))
    if texts.present[u]:
        return torch.from_numpy(unit(texts)[u])
    mine = sorted(set(train.item[train.user == u].tolist()) - {without})
    return e[mine].mean(0) if mine else torch.zeros_like(e[0])


def twin_vectors(net: MllmrecNet, users: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """h of all users and items."""
    model, train, e = net.model, net.pairs.train, twin_items(net)
    t = [twin_text(net, users, u) for u in range(len(train.users))]
    h = torch.cat([net.f_user(torch.stack(t)), net.f_item(e)])
    if model.gcn_layers:
        z = F.normalize(h, dim=1)
        h = h + sum((torch.matrix_power(adjacency(train), k) @ z for k in range(model.gcn_layers + 1)), 0 * h)
    return h[: len(t)], h[len(t) :]


@pytest.mark.parametrize("users", [True, False], ids=["texts", "no_texts"])
@pytest.mark.parametrize(("layers", "gcn", "negatives"), [(0, 0, 1), (1, 0, 1), (2, 0, 3), (1, 2, 1), (3, 1, 2)])
def test_loss_and_gradients_of_a_batch_are_those_of_the_literal_form(
    small: Interactions, layers: int, gcn: int, negatives: int, users: bool
) -> None:
    net = built(replace(TINY, layers=layers, gcn_layers=gcn, negatives=negatives), small, users)
    twin = copy.deepcopy(net).double()
    batch = triples(small, negatives=negatives)
    assert len(batch.user.unique()) < len(batch), "rows repeat"
    found = net.loss(batch)
    h_u, h_i = twin_vectors(twin, users)
    terms = []
    for u, i, row in zip(batch.user, batch.positive, batch.negative.reshape(len(batch), -1), strict=True):
        own = h_u[u] if gcn else twin.f_user(twin_text(twin, users, int(u), int(i))[None])[0]
        terms += [-F.logsigmoid(own @ h_i[i] - own @ h_i[j]) for j in row]
    expected = torch.stack(terms).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    found.backward()
    expected.backward()
    for name, p in net.named_parameters():
        wanted = twin.get_parameter(name).grad
        moves = gcn or name != "f_item.2.bias"  # what is added to every h_i is not seen by a difference of scores
        assert (wanted.abs().max() > 1e-4) == bool(moves)
        assert (p.grad - wanted).abs().max() < 1e-6
    asked = Queries.of(range(23), [small.item[small.user == u] for u in range(23)])
    assert np.abs(scores(net, asked) - (h_u @ h_i.T).detach().numpy()).max() < 1e-5, "what is trained is what is served"


def test_only_the_rows_of_a_batch_are_read(small: Interactions) -> None:
    net, batch = built(TINY, small), triples(small, n=3)
    expected = net.loss(batch).item()
    other = torch.ones(len(net.t), dtype=torch.bool)
    other[batch.user] = False
    net.t[other] = torch.nan
    unread = torch.ones(len(net.e), dtype=torch.bool)
    unread[batch.items] = False
    net.e[unread] = torch.nan
    assert other.any()
    assert unread.any()
    found = net.loss(batch)
    assert found.item() == expected
    found.backward()
    assert all(p.grad.isfinite().all() for p in net.parameters()), "not even with a gradient of zero"


def test_so_many_parameters_as_the_paper_s(small: Interactions) -> None:
    net = Mllmrec().build(small, features(small.items, dim=384), features(small.users, dim=384))
    assert sum(p.numel() for p in net.parameters()) == 230_016
    assert Mllmrec(gcn_layers=2).fit(
        small, training=Training(epochs=1), item_texts=features(small.items, dim=384)
    ).parameters == (230_016)


# --- the graph --------------------------------------------------------------------------------------------------------


def refined(model: Mllmrec, train: Interactions, texts: Features) -> Graph:
    """A', as `build` makes it."""
    return normalise(joined(model, train, texts), degree="row")


def test_the_graph_is_that_of_the_twin_and_its_settings_have_limits(small: Interactions) -> None:
    texts = features(small.items, (0, 16)).unit()

    def found(**settings: float) -> np.ndarray:
        return refined(replace(TINY, **settings), small, texts).matrix.toarray()

    for threshold in (-0.5, 0.2, 0.8):
        expected = twin_graph(replace(TINY, threshold=threshold), small, unit(texts))
        assert np.abs(found(threshold=threshold) - expected).max() < 1e-6
    audience = normalise(jaccard(small, TINY.neighbours_jaccard), degree="row").matrix.toarray()
    for settings in ({"threshold": 1.01}, {"threshold": np.inf}, {"neighbours": 0}):
        assert np.abs(found(**settings) - audience).max() < 1e-6
    nearest = found(threshold=-1, neighbours_jaccard=0)
    assert ((nearest > 0) == (knn(texts, TINY.neighbours, with_self=True).matrix.toarray() != 0)).all()
    assert np.unique((nearest > 0).sum(axis=1)).tolist() == [0, TINY.neighbours], "none for a gap"
    assert np.allclose(nearest[nearest > 0], 1 / TINY.neighbours), "each edge weighs 1, and row sums are all the same"
    assert not found(neighbours=0, neighbours_jaccard=0).any()


def test_a_higher_threshold_cuts_the_false_edges_first() -> None:
    """Two of ten items say what another kind says, but not quite: from some threshold on they stand alone."""
    centres, n = np.eye(2), 10
    values = centres[np.arange(n) % 2] + 0.02 * np.random.default_rng(0).normal(size=(n, 2))
    values[0] = values[1] = (1.0, 0.9)
    ids = Ids("item", keys("item", n))
    train = Interactions(Ids("user", ("u",)), ids, np.zeros(0, int), np.zeros(0, int))
    texts = Features(ids, values, np.ones(n, bool), Provenance("planted"))
    crossing = []
    for threshold in (0.0, 0.9):
        a = refined(Mllmrec(neighbours=6, neighbours_jaccard=0, threshold=threshold), train, texts).matrix.toarray()
        true = sum(a[i, j] > 0 for i in range(2, n) for j in range(2, n) if i % 2 == j % 2)
        crossing.append(sum(a[i, j] > 0 for i in range(2) for j in range(2, n)))
        assert true == 32, "all of 2 x 4 x 4"
    assert crossing[0] > crossing[1] == 0


def test_the_shares_of_a_hand_made_audience() -> None:
    """a by 1, 2, 3; b and c by 1, 2; d by 4. b and c are the same to everybody, and are each other's nearest."""
    pairs = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2), (1, 2), (3, 3)]
    train = interactions(Ids("user", tuple("1234")), Ids("item", tuple("abcd")), *np.array(pairs).T)
    texts = features(train.items).unit()
    found = refined(Mllmrec(neighbours=0), train, texts).matrix.toarray()
    a, b = 2 / 3 + 2 / 3, 2 / 3 + 1  # sums of rows
    expected = np.zeros((4, 4))
    expected[0, 1:3] = expected[1:3, 0] = 2 / 3 / np.sqrt(a * b)
    expected[1, 2] = expected[2, 1] = 1 / b
    assert found == pytest.approx(expected, abs=1e-6)
    one = refined(Mllmrec(neighbours=0, neighbours_jaccard=1), train, texts).matrix.toarray()
    assert one[0] == pytest.approx([0, 2 / 3 / np.sqrt(2 / 3), 0, 0], abs=1e-6), "a tie goes to the lower row"
    assert one[1] == pytest.approx([0, 0, 1, 0], abs=1e-6)


def test_a_recipe_can_leave_either_part_of_the_graph_out() -> None:
    for given in ({"neighbours": 0}, {"neighbours_jaccard": 0}, {"threshold": -1}, {"threshold": 1.01}, {"layers": 0}):
        raw = {
            "data": "shop",
            "inputs": {"item_texts": {"from": "catalog.text"}},
            "model": {"name": "mllmrec", **given},
        }
        assert parse(raw, "mine").model == replace(Mllmrec(), **given)
    with pytest.raises(BadSetting, match=r"neighbours = -1 must be 0 or more"):
        parse({"data": "shop", "model": {"name": "mllmrec", "neighbours": -1}}, "mine")


def test_without_layers_texts_are_read_as_they_are(small: Interactions) -> None:
    texts = features(small.items, (0, 16))
    for model in (replace(TINY, layers=0), replace(TINY, neighbours=0, neighbours_jaccard=0, layers=3)):
        assert np.abs(model.build(small, texts).e.numpy() - unit(texts)).max() < 1e-6


def test_items_without_a_text_get_what_their_audience_gives_them_or_zeros(small: Interactions) -> None:
    net = built(TINY, small)
    a = jaccard(small, TINY.neighbours_jaccard).matrix.toarray()
    assert a[0].any(), "item 0 was chosen"
    assert net.e[0].abs().max() > 0
    assert not net.e[16].any(), "16 neither was nor has a text"
    assert not built(replace(TINY, neighbours_jaccard=0), small).e[0].any()
    zeros = features(small.items)
    zeros.values[[0, 16]] = 0
    torch.manual_seed(0)
    same = TINY.build(small, zeros, features(small.users, (17, 22)))
    assert torch.equal(same.e, net.e), "a vector of zeros says nothing either"
    assert np.isfinite(scores(net, Queries.of([22, -1, -1], [[], [16], []]))).all()


@both
def test_one_text_is_enough_to_run(small: Interactions, model: Mllmrec) -> None:
    texts = features(small.items, tuple(range(1, 17)))
    rec = model.fit(small, training=Training(epochs=2, batch_size=16), item_texts=texts)
    assert np.isfinite(rec.score(rec.known)).all()


@both
def test_other_numbers_for_the_items_are_no_other_scores(small: Interactions, model: Mllmrec) -> None:
    """With as many of the same audience as there are, so that no tie is broken by the number of a row."""
    model = replace(model, neighbours_jaccard=17)
    net = built(model, small)
    order = np.random.default_rng(3).permutation(17)  # new row -> old row
    ids, place = Ids("item", tuple(small.items.keys[i] for i in order)), np.argsort(order)
    train = Interactions(small.users, ids, small.user, place[small.item])
    old = features(small.items, (0, 16))
    torch.manual_seed(0)
    texts = Features(ids, old.values[order], old.present[order], old.source)
    other = model.build(train, texts, features(small.users, (17, 22)))
    asked = Queries.of([0, 17, -1], [[1], [2, 3], [4, 9]])
    moved = Queries.of([0, 17, -1], [place[[1]], place[[2, 3]], place[[4, 9]]])
    assert np.abs(scores(net, asked)[:, order] - scores(other, moved)).max() < 1e-5


# --- people -----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("users", [True, False], ids=["texts", "no_texts"])
def test_who_has_no_text_is_the_mean_of_her_items_known_or_new(
    small: Interactions, model: Mllmrec, users: bool
) -> None:
    net = built(model, small, users)
    scorer = net.finish()
    assert isinstance(scorer, Towers)
    mine = np.unique(small.item[small.user == 17])
    assert len(mine) > 3
    known, new, again = scorer.score(Queries.of([17, -1, -1], [mine, mine, [*mine[::-1], mine[0]]]))
    assert np.array_equal(known, new)
    assert np.abs(known - again).max() < 1e-5, "neither the order nor a repetition matters"
    h_u, h_i = net.embed()[:2]
    assert np.abs(known - (h_i @ h_u[17]).detach().numpy()).max() < 1e-5, "as she was in training"
    if not model.gcn_layers:
        with torch.no_grad():
            t = net.f_user(net.e[torch.from_numpy(mine)].mean(0))
        assert np.abs(known - (h_i @ t).detach().numpy()).max() < 1e-5


@both
def test_a_text_stands_for_its_user_whatever_she_chose(small: Interactions, model: Mllmrec) -> None:
    net = built(model, small)
    a, b, new = scores(net, Queries.of([0, 0, -1], [[], [3, 4], [3, 4]]))
    assert np.array_equal(a, b)
    assert np.abs(a - new).max() > 1e-3
    assert np.abs(a - (net.embed().items @ net.embed().users[0]).detach().numpy()).max() < 1e-5


def test_a_user_without_a_choice_is_ranked_by_her_text() -> None:
    """The last user of a checkerboard chose nothing; her text says that she is of group 0."""
    world = checkerboard()
    rec = Mllmrec(dim=16, hidden=32).fit(
        world.train,
        None,
        Training(epochs=15, batch_size=64, learning_rate=0.01, device="cpu"),
        item_texts=world.features(),
        user_preferences=world.features("user"),
    )
    best = np.argsort(-rec.score(no_history([60]))[0])[:8]
    assert (world.item_group[best] == 0).all(), "a quarter is chance"


@both
def test_parts_of_a_stranger_s_score_add_up(small: Interactions, model: Mllmrec) -> None:
    """All but what the biases give; taking them out of the same linear piece leaves the sum of the parts."""
    net = built(model, small)
    scorer = net.finish()
    history = np.array([2, 5, 7])
    first, bias, second, offset = (p.detach().numpy().astype(np.float64) for p in net.f_user.parameters())
    hidden = first @ net.e[history].numpy().mean(0) + bias
    slope = np.where(hidden > 0, 1, 0.01)
    item = net.embed().items.detach().numpy()
    constant = item @ (second @ (slope * bias) + offset)
    if model.gcn_layers:
        constant *= 1 + 1 / np.linalg.norm(second @ (slope * hidden) + offset)
    whole = scorer.score(Queries.of([-1], [history]))[0]
    for i in (0, 7, 11):
        assert scorer.carried(-1, history, i).sum() == pytest.approx(whole[i] - constant[i], abs=1e-5)
        assert scorer.carried(-1, history, i).shape == (3,)


@both
def test_likeness_is_the_cosine_of_item_vectors(small: Interactions, model: Mllmrec) -> None:
    net = built(model, small)
    h = net.embed().items.detach()
    expected = F.cosine_similarity(h[[3, 8], None], h[None], dim=2).numpy()
    assert np.abs(net.finish().likeness(np.array([3, 8])) - expected).max() < 1e-5


def test_what_is_kept_of_the_variant_is_read_again(small: Interactions, tmp_path: Path) -> None:
    training = Training(epochs=2, batch_size=16)
    rec = replace(TINY, gcn_layers=2).fit(small, training=training, item_texts=features(small.items))
    rec.save(tmp_path / "model")
    again = saved.read(tmp_path / "model")
    asked = Queries.of([0, -1], [[1, 2], [1, 2]])
    assert "pull" in again.scorer.arrays()
    assert np.array_equal(again.score(asked), rec.score(asked))


# --- what it is all for -----------------------------------------------------------------------------------------------

LONG = Training(epochs=20, batch_size=128, learning_rate=0.01, device="cpu")
TASK = Task(at=(10,), mask=("train",), history=("train",))


@dataclass(frozen=True)
class Kinds:
    """Six kinds of items; a user chooses one kind. Texts name the kind, the `wrong` share of them another; vague by `noise`."""

    wrong: float
    noise: float

    def reached(self, seeds: int = 3, **settings: float) -> float:
        """Mean recall@10 over worlds and seeds."""
        found = []
        for seed in range(seeds):
            split, texts = self.world(seed)
            model = replace(Mllmrec(dim=16, hidden=32), **settings)
            rec = model.fit(split.train, None, replace(LONG, seed=seed), item_texts=texts)
            found.append(evaluate(rec, split, TASK).mean["recall@10"])
        return float(np.mean(found))

    def world(
        self, seed: int, users: int = 120, items: int = 120, kinds: int = 6, dim: int = 8
    ) -> tuple[Split, Features]:
        rng = np.random.default_rng(seed)
        kind = np.arange(items) % kinds
        says = np.where(rng.random(items) < self.wrong, (kind + rng.integers(1, kinds, items)) % kinds, kind)
        pairs: list[list[tuple[int, int]]] = [[], []]
        for u in range(users):
            for place, i in enumerate(rng.permutation(np.flatnonzero(kind == u % kinds))[:12]):
                pairs[place >= 8].append((u, int(i)))
        user_ids, item_ids = Ids("user", keys("user", users)), Ids("item", keys("item", items))
        train, held = (interactions(user_ids, item_ids, *np.array(p).T) for p in pairs)
        centres = rng.normal(size=(kinds, dim))
        values = centres[says] / np.linalg.norm(centres[says], axis=1, keepdims=True)
        values = values + self.noise / np.sqrt(dim) * rng.normal(size=(items, dim))
        texts = Features(item_ids, values, np.ones(items, bool), Provenance("planted"))
        return Split(train, held, held, how="planted"), texts


@pytest.mark.long
def test_the_graph_makes_vague_texts_clear() -> None:
    vague = Kinds(wrong=0.0, noise=1.5)  # .68 and .53
    assert vague.reached() > vague.reached(layers=0) + 0.08


@pytest.mark.long
def test_who_chose_an_item_corrects_what_its_text_says() -> None:
    misleading = Kinds(wrong=0.3, noise=1.0)  # .50 with all, .43 without who chose, .44 without a graph
    full = misleading.reached()
    assert full > misleading.reached(neighbours_jaccard=0) + 0.04
    assert full > misleading.reached(layers=0) + 0.04


def test_the_variant_learns_too_and_gives_its_reasons() -> None:
    world = checkerboard()
    model = Mllmrec(dim=16, hidden=32, gcn_layers=2, l2=1e-3)
    rec = model.fit(world.train, None, replace(LONG, batch_size=64), item_texts=world.features())
    assert evaluate(rec, world.split, replace(TASK, at=(3,))).mean["recall@3"] > 0.85, "3 of 34 is chance"
    history = tuple(rec.items.keys[i] for i in (0, 1, 2, 4, 8))
    reason = explain(rec, "new", rec.items.keys[12], history=history)
    assert {rec.items.row(e.item_id) % 4 for e in reason.evidence} == {0}, (
        "0, 4 and 8 are of its group, 1 and 2 are not"
    )


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"neighbours": -1}, "neighbours = -1 must be 0 or more"),
        ({"neighbours_jaccard": -2}, "neighbours_jaccard = -2"),
        ({"layers": -1}, "layers = -1"),
        ({"gcn_layers": -1}, "gcn_layers = -1"),
        ({"dim": 0}, "dim = 0 must be 1 or more"),
        ({"hidden": 0}, "hidden = 0 must be 1 or more"),
        ({"threshold": float("nan")}, "threshold = nan must be -1 or more"),
    ],
)
def test_settings_that_mean_nothing_are_named(small: Interactions, settings: dict[str, float], match: str) -> None:
    with pytest.raises(BadSetting, match=match):
        replace(TINY, **settings).fit(small, item_texts=features(small.items))


def test_inputs_that_say_nothing_or_do_not_fit_are_named(small: Interactions) -> None:
    silent = features(small.items)
    silent.values[:] = 0
    for texts in (silent, features(small.items, tuple(range(17)))):
        with pytest.raises(MissingInput, match=r"none of 17 items.*item_texts = \{ from = \"catalog.text\""):
            TINY.build(small, texts)
    with pytest.raises(BadSetting, match=r"have 3 entries and those of `item_texts` 4.*the same encoder"):
        TINY.build(small, features(small.items), features(small.users, dim=3))
    with pytest.raises(MissingInput, match=r"item_texts = \{ from = \"catalog.text\""):
        TINY.fit(small)
    with pytest.raises(Misaligned, match=r"user_preferences = \{ from = \"user_preference\""):
        TINY.fit(small, item_texts=features(small.items), user_preferences=features(small.items))
    nobody = features(small.users, tuple(range(23)))
    torch.manual_seed(0)
    alone = TINY.build(small, features(small.items, (0, 16)), nobody)
    asked = Queries.of([0, 17, 22, -1], [[1], [2], [], [3]])
    assert np.array_equal(scores(alone, asked), scores(built(TINY, small, users=False), asked)), "as if none were given"
