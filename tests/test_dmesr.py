"""DMESR against a literal twin, the identities of its alignment, what padding and gaps may do, and that serving is the backbone's."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from modal_worlds import drawn, needy
from worlds import NEVER, World, checkerboard, keys, random_split

from penchant import models, recipe, saved, train
from penchant.batches import Sequences
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadRecipe, BadSetting, CannotServeColdItems, MissingInput
from penchant.features import Features
from penchant.fused import Fused
from penchant.fusion import Fusion
from penchant.model import Model
from penchant.models.dmesr import Dmesr, DmesrNet
from penchant.ranking import Task, evaluate
from penchant.readers import Reader
from penchant.sequence import SequenceModel
from penchant.texts import Provenance
from penchant.training import Training, seeded

T, D = 4, 5
SASREC = models.Sasrec(dim=16, layers=1)
BACKBONES: dict[str, SequenceModel] = {
    "sasrec": SASREC,
    "sasrec, bce": replace(SASREC, loss="bce"),
    "sasrec, sampled": replace(SASREC, contrast=20),
    "sasrec without ids": replace(SASREC, ids=False),
    "gru4rec": models.Gru4rec(dim=16),
    "bert4rec": models.Bert4rec(dim=16, layers=1, dropout=0.0, hidden=0.6),
    "hstu": models.Hstu(dim=16, layers=1, heads=2),
}


def tokens(ids: Ids, seed: int, length: int = T, dim: int = D, without: tuple[int, ...] = ()) -> Features:
    """1 to `length` tokens an item, the first has all; what is in `without` has none."""
    rng = np.random.default_rng([seed, 7])
    values = rng.normal(0.3, 1, (len(ids), length, dim))
    count = rng.integers(1, length + 1, len(ids))
    count[0] = length
    count[list(without)] = 0
    values[np.arange(length) >= count[:, None]] = 0
    return Features(ids, values.reshape(len(ids), -1), count > 0, Provenance("drawn"))


@cache
def small() -> tuple[Interactions, dict[str, Features]]:
    """25 items. No picture: 3, 5, 9. No words: two others or the same. No tokens: 5 and 6. Item 5 has nothing at all."""
    part = random_split(1).train
    picture, text = drawn(part.items, 7, 1, gaps=0), drawn(part.items, 6, 2, gaps=0)
    for feature, gaps in ((picture, [3, 5, 9]), (text, [4, 5])):
        feature.present[gaps] = False
        feature.values[gaps] = 0
    return part, {"picture": picture, "text": text, "tokens": tokens(part.items, 3, without=(5, 6))}


def net(model: Model | None = None, seed: int = 0, **given: Features) -> DmesrNet:
    part, features = small()
    with seeded(seed):
        return (model or Dmesr(SASREC, token_dim=D)).build(part, **(features | given))


def lively(made: DmesrNet, seed: int = 0) -> DmesrNet:
    """With weights at which attention is far from even and nothing is zero by its beginning."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in made.fusion.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    return made


def batch(rows: list[list[int]]) -> Sequences:
    """Histories of which all but the last choice are read, and all but the first told."""
    item = torch.tensor([i for row in rows for i in row[:-1]])
    row = torch.tensor([n for n, row in enumerate(rows) for _ in row[:-1]])
    at = torch.tensor([t for row in rows for t in range(len(row) - 1)])
    place = torch.tensor([50 - len(row) + 1 + t for row in rows for t in range(len(row) - 1)])
    return Sequences(item, row, at, place, torch.tensor([i for row in rows for i in row[1:]]), torch.zeros(0).long())


# --- the fused table ---------------------------------------------------------------------------------------------------


def centred(features: Features) -> np.ndarray:
    """x - mean of those present, of length sqrt(width); 0 for a gap."""
    x = features.values.astype(np.float64)
    x = x - x[features.present].mean(axis=0)
    x *= math.sqrt(features.dim) / np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(features.present[:, None], x, 0)


def literal(fusion: Fusion, features: dict[str, Features], cross: bool = True) -> torch.Tensor:
    """W_p [f^v ; f^t], item by item and token by token, keys and values made. (I, d)"""
    o = features["tokens"].values.astype(np.float64).reshape(-1, T, D)
    real = [[x for x in item if x.any()] for item in o]
    mean = np.mean([x for item in real for x in item], axis=0)
    x = [centred(features["picture"]), centred(features["text"])]
    found = []
    for i in range(len(o)):
        both = []
        for view, values in zip(fusion.views, x, strict=True):
            a = view.adapter.weight @ torch.tensor(values[i]) + view.adapter.bias
            f = a
            if cross and real[i]:
                q = view.query.weight @ a + view.query.bias
                scaled = [torch.tensor((t - mean) / np.linalg.norm(t - mean) * math.sqrt(D)) for t in real[i]]
                k, v = ([w.weight @ t for t in scaled] for w in (view.key, view.value))
                s = torch.stack([q @ each / math.sqrt(len(q)) for each in k]).softmax(0)
                f = a + sum(share * each for share, each in zip(s, v, strict=True))
            f = (f - f.mean()) / (f.var(unbiased=False) + 1e-5).sqrt()
            both.append(view.norm.weight * f + view.norm.bias)
        found.append(fusion.projection.weight @ torch.cat(both))
    return torch.stack(found)


@pytest.mark.parametrize("cross", [True, False])
def test_the_table_and_its_gradients_are_the_formulas(cross: bool) -> None:
    made = lively(net(Dmesr(SASREC, token_dim=D, cross=cross)))
    fusion = copy.deepcopy(made.fusion).double()
    wanted = literal(fusion, small()[1], cross)
    assert made.fusion().detach().numpy() == pytest.approx(wanted.detach().numpy(), abs=2e-5)
    towards = torch.randn(wanted.shape, dtype=torch.float64)
    names, weights = zip(*fusion.named_parameters(), strict=True)
    theirs = torch.autograd.grad((wanted * towards).sum(), weights)
    mine = torch.autograd.grad((fusion() * towards).sum(), weights)
    for name, a, b in zip(names, mine, theirs, strict=True):
        assert a.numpy() == pytest.approx(b.numpy(), abs=1e-4, rel=1e-4), name
        assert b.abs().max() > 1e-3, name


def test_an_item_is_its_id_and_what_is_fused() -> None:
    made = lively(net())
    ids = made.net.ids
    assert ids is not None
    assert torch.allclose(made.net.items(), ids + made.fusion(), atol=1e-6)
    bare = lively(net(Dmesr(replace(SASREC, ids=False), token_dim=D)))
    assert bare.net.ids is None
    assert torch.equal(bare.net.items(), bare.fusion())
    assert "net.ids" not in dict(bare.named_parameters())


def test_the_first_vectors_are_as_large_as_ids() -> None:
    made = net(Dmesr(models.Sasrec(dim=64), token_dim=D))
    ids = made.net.ids
    assert ids is not None
    assert 0.3 < made.fusion().std() / ids.std() < 3


def test_a_table_is_made_once_a_step() -> None:
    for backbone in BACKBONES.values():
        made, calls = net(Dmesr(backbone, token_dim=D)), []
        made.fusion.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        steps = [made.loss(one) for one in made.batches(np.random.default_rng(0), 8)]
        assert len(steps) > 2
        assert len(calls) == len(steps)
        steps[0].backward()
        assert all(p.grad is not None for p in made.fusion.projection.parameters())


# --- tokens ------------------------------------------------------------------------------------------------------------


def test_padding_never_receives_attention() -> None:
    """(d) of the checks."""
    made = lively(net())
    fusion = made.fusion
    share = fusion.attention(fusion.adapted())
    o = small()[1]["tokens"].values.reshape(-1, T, D)[fusion.rows]
    there = torch.from_numpy(o.any(axis=2))
    assert there.sum() < there.numel()
    assert (share[~there[:, None].expand_as(share)] == 0).all()
    assert (share[there[:, None].expand_as(share)] > 0).all()
    assert share.sum(2).detach().numpy() == pytest.approx(1, abs=1e-6)
    assert (share.amax(2) > 0.6).float().mean() > 0.4, "attention is even, and this test sees nothing"


def test_more_padding_changes_nothing_and_neither_does_the_order_of_tokens() -> None:
    plain = lively(net()).fusion()
    o = small()[1]["tokens"]
    values = o.values.reshape(-1, T, D)
    longer = np.concatenate([np.zeros_like(values[:, :1]), values, np.zeros_like(values)], axis=1)
    mixed = np.stack([item[np.random.default_rng(i).permutation(T)] for i, item in enumerate(values)])
    for other in (longer, mixed):
        given = replace(o, values=other.reshape(len(other), -1))
        assert lively(net(tokens=given)).fusion().detach().numpy() == pytest.approx(plain.detach().numpy(), abs=1e-5)
    other = values.copy()
    other[0, 1] *= -1
    given = replace(o, values=other.reshape(len(other), -1))
    apart = (lively(net(tokens=given)).fusion() - plain).abs().amax(1)
    assert apart[0] > 1e-2


def test_without_tokens_the_cross_attention_adds_nothing() -> None:
    with_, without = lively(net()), lively(net(Dmesr(SASREC, token_dim=D, cross=False)))
    own = dict(with_.fusion.named_parameters())
    with torch.no_grad():
        for name, p in without.fusion.named_parameters():
            p.copy_(own[name])
    apart = (with_.fusion() - without.fusion()).abs().amax(1)
    assert apart[[5, 6]].max() < 1e-6
    assert (np.delete(apart.detach().numpy(), [5, 6]) > 1e-3).all()


# --- the alignment -----------------------------------------------------------------------------------------------------


def infonce(v: np.ndarray, t: np.ndarray, temperature: float) -> float:
    """-1/2 mean_i [log softmax_j(cos(v_i, t_j) / tau)_i + log softmax_j(cos(t_i, v_j) / tau)_i]"""
    v, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (v.astype(np.float64), t.astype(np.float64)))
    s = v @ t.T / temperature
    total = 0.0
    for i in range(len(s)):
        for row in (s[i], s[:, i]):
            total += row[i] - math.log(sum(math.exp(x) for x in row))
    return -total / (2 * len(s))


def test_the_alignment_is_over_the_distinct_items_of_a_batch_that_have_both() -> None:
    made = lively(net(Dmesr(SASREC, token_dim=D, temperature=0.5)))
    some = batch([[0, 1, 2, 3], [1, 2, 8], [2, 2, 4, 5, 7]])
    v, t = (x.detach().numpy() for x in made.fusion.adapted())
    items = [0, 1, 2, 7, 8]  # 3 has no picture, 4 no words, 5 neither
    assert made.aligned(some).item() == pytest.approx(infonce(v[items], t[items], 0.5), abs=1e-5)
    assert made.aligned(batch([[3, 5, 3, 1]])).item() == 0
    alone, with_ = (net(Dmesr(SASREC, token_dim=D, weight_align=w)).eval().loss(some).item() for w in (0.0, 2.0))
    assert with_ == pytest.approx(alone + 2 * net().aligned(some).item(), abs=1e-5)


def test_hidden_choices_alone_are_told_and_all_are_aligned() -> None:
    """BERT4Rec's targets are -1 but for the hidden ones."""
    made = lively(net(Dmesr(BACKBONES["bert4rec"], token_dim=D)))
    some = next(iter(made.batches(np.random.default_rng(0), 4)))
    assert (some.target == -1).any()
    items = np.setdiff1d(np.unique(some.item.numpy()), [3, 4, 5, 9])
    v, t = (x.detach().numpy()[items] for x in made.fusion.adapted())
    assert made.aligned(some).item() == pytest.approx(infonce(v, t, 0.2), abs=1e-4)


def test_the_alignment_of_twins_goes_to_0_and_that_of_strangers_is_log_b() -> None:
    """(b) of the checks."""
    part = small()[0]
    ids = Ids("item", keys("item", 200))
    wide = Interactions(part.users, ids, part.user, part.item)
    one, other = drawn(ids, 64, 1), drawn(ids, 64, 2)
    everything = batch([list(range(100)), list(range(100, 200))])

    def value(temperature: float, text: Features, dim: int = 64) -> float:
        model = Dmesr(models.Sasrec(dim=dim), token_dim=D, temperature=temperature)
        with seeded(0):
            made = model.build(wide, one, text, tokens(ids, 3))
        first, second = made.fusion.views
        second.adapter.load_state_dict(first.adapter.state_dict())
        return made.aligned(everything).item()

    values = [value(temperature, one) for temperature in (1.0, 0.2, 0.05, 0.01)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-4
    assert value(1.0, other) == pytest.approx(math.log(200), rel=0.02)
    assert value(1e4, one) == pytest.approx(math.log(200), rel=1e-3)


def test_contrast_takes_some_of_the_items() -> None:
    some = batch([[0, 1, 2, 7, 8, 10, 11, 12]])
    few = lively(net(Dmesr(SASREC, token_dim=D, contrast=3)))
    all_ = [lively(net(Dmesr(SASREC, token_dim=D, contrast=c))) for c in (None, 8, 512)]
    assert len({made.aligned(some).item() for made in all_}) == 1
    assert len({few.aligned(some).item() for _ in range(5)}) > 1


@cache
def told() -> tuple[Interactions, dict[str, Features]]:
    """300 items: pictures and words are two random projections of one hidden vector of 8 numbers; choices follow nothing."""
    rng = np.random.default_rng(5)
    users, items = Ids("user", keys("user", 80)), Ids("item", keys("item", 300))
    item = np.concatenate([rng.permutation(300)[:12] for _ in range(80)])
    z = rng.normal(size=(300, 8))
    made = {}
    for name, dim in (("picture", 20), ("text", 24)):
        x = z @ rng.normal(size=(8, dim)) + 0.05 * rng.normal(size=(300, dim))
        made[name] = Features(items, x, np.ones(300, bool), Provenance("planted"))
    return Interactions(users, items, np.repeat(np.arange(80), 12), item), made | {"tokens": tokens(items, 1)}


def found(weight: float, frozen: bool) -> float:
    """The share of items whose picture is the nearest to their words among 60, after training."""
    part, features = told()
    with seeded(0):
        made = Dmesr(models.Sasrec(dim=16, layers=1), token_dim=D, weight_align=weight).build(part, **features)
    for view in made.fusion.views:
        view.adapter.requires_grad_(not frozen)
    train.run(made, Training(epochs=15, batch_size=16, learning_rate=0.01, device="cpu"))
    v, t = (x.detach() / x.detach().norm(dim=1, keepdim=True) for x in made.fusion.adapted())
    right = [(t[s : s + 60] @ v[s : s + 60].T).argmax(1) == torch.arange(60) for s in range(0, 300, 60)]
    return float(torch.cat(right).float().mean())


@pytest.mark.long
def test_words_find_their_picture_where_they_are_aligned_and_not_else() -> None:
    """(c) of the checks: by chance it is 1 of 60."""
    assert found(0.5, frozen=False) > 10 / 60
    assert found(0.0, frozen=True) < 4 / 60


# --- learning and serving ----------------------------------------------------------------------------------------------

LEARN = Training(
    epochs=16, batch_size=8, learning_rate=0.03, validate_every=4, patience=8, select="recall@3", device="cpu"
)
WITH = pytest.mark.parametrize("name", BACKBONES)


def inputs(world: World) -> dict[str, Features]:
    """Pictures and words tell the group; the first item, and the last two, lack one or the other; tokens tell it, too."""
    picture, text = world.features(dim=6), world.features(dim=5, seed=1)
    words = world.features(dim=T * D, seed=2)
    values = words.values.reshape(-1, T, D).copy()
    values[1::3, 2:] = 0
    picture.present[-2], text.present[-3] = False, False
    picture.values[-2], text.values[-3] = 0, 0
    return {"picture": picture, "text": text, "tokens": replace(words, values=values.reshape(len(values), -1))}


@cache
def fitted(name: str) -> tuple[World, models.Dmesr, object]:
    world = checkerboard()
    model = Dmesr(BACKBONES[name], token_dim=D)
    return world, model, model.fit(world.train, world.valid, LEARN, **inputs(world))


@pytest.mark.long
@WITH
def test_every_backbone_learns_its_world_and_is_saved(name: str, tmp_path: Path) -> None:
    world, _, rec = fitted(name)
    task = Task(at=(3,), mask=("train",), history=("train",))
    assert evaluate(rec, world.split, task).mean["recall@3"] > 0.85, "3 of 34 is chance"
    assert rec.curve.loss[-1] < rec.curve.loss[0]
    assert np.isfinite(rec.score(rec.known)).all()
    rec.save(tmp_path / "model")
    again = saved.read(tmp_path / "model")
    assert np.array_equal(again.score(rec.known), rec.score(rec.known))
    assert again.settings == rec.settings
    assert again.settings["backbone"]["name"] == BACKBONES[name].name
    new = Ids("item", ("new",))
    come = {n: Features(new, part.values[[2]], part.present[[2]], part.source) for n, part in inputs(world).items()}
    grown = [r.add_items(Catalog(new, {}, Pictures.none(new)), come) for r in (rec, again)]
    assert np.array_equal(*(r.score(r.known) for r in grown))


@pytest.mark.long
@WITH
def test_the_folded_model_scores_as_the_unfolded_one(name: str) -> None:
    """(a) of the checks: the scorer is the backbone's, with one static table."""
    world = checkerboard()
    with seeded(3):
        made = Dmesr(BACKBONES[name], token_dim=D).build(world.train, **inputs(world))
    train.run(made, replace(LEARN, epochs=3))
    made.eval()
    reader = made.finish()
    assert type(reader) is type(BACKBONES[name].build(world.train, **{"text": inputs(world)["text"]}).finish())
    assert not [n for n in reader.net if n.startswith(("more", "net", "fusion", "views", "projection"))]
    rng, length = np.random.default_rng(0), BACKBONES[name].length
    histories = [rng.integers(0, len(world.train.items), n) for n in (1, 2, 7, length - 1, length, length + 9)]
    with torch.no_grad():
        e = made.net.items()
        for history in histories:
            read = history[-length:]
            x = made.net.scale * e[read]
            if name == "bert4rec":
                x = torch.cat([x, made.net.mask[None]])[-length:]
            n = len(x)
            one = Sequences(
                torch.zeros(n).long(),
                torch.zeros(n).long(),
                torch.arange(n),
                torch.arange(n) + length - n,
                torch.full((n,), -1),
                torch.zeros(0).long(),
            )
            score = (made.net.read(x, one)[-1] @ e.T).numpy()
            assert reader.score(Queries.of([-1], [history]))[0] == pytest.approx(score, abs=1e-5)


def test_gaps_make_no_nan_anywhere() -> None:
    part, features = small()
    for cross in (True, False):
        for weight in (0.0, 0.5):
            model = Dmesr(SASREC, token_dim=D, cross=cross, weight_align=weight)
            rec = model.fit(part, None, replace(LEARN, epochs=2), **features)
            assert np.isfinite(rec.curve.loss).all()
            assert np.isfinite(rec.score(rec.known)).all()
    made = lively(net())
    made.loss(batch([[3, 4, 5, 6], [5, 5]])).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_the_switches_change_what_they_name() -> None:
    part, features = small()
    base = Dmesr(SASREC, token_dim=D)
    short = replace(LEARN, epochs=2)
    scores = [
        model.fit(part, None, short, **features).score(Queries.of([-1], [[0, 1]]))
        for model in (base, replace(base, cross=False), replace(base, weight_align=0.0))
    ]
    assert not any(np.allclose(a, b, atol=1e-4) for n, a in enumerate(scores) for b in scores[:n])
    without = replace(base, cross=False)
    other = features | {"tokens": replace(features["tokens"], values=features["tokens"].values[::-1])}
    again = without.fit(part, None, short, **other).score(Queries.of([-1], [[0, 1]]))
    assert np.array_equal(again, scores[1]), "tokens are read by the cross-attention alone"


@pytest.mark.long
def test_each_input_helps_where_it_is_true_and_not_where_it_is_of_other_items() -> None:
    """recall@20 in a world with too few choices to tell groups from; a twentieth is chance."""
    split, look = needy()

    def reached(true: tuple[str, ...]) -> float:
        given: dict[str, Any] = {}
        for seed, name in enumerate(("picture", "text", "tokens")):
            order = np.random.default_rng(seed).permutation(400)
            given[name] = look if name in true else replace(look, values=look.values[order])
        training = Training(epochs=10, batch_size=16, learning_rate=0.01, device="cpu")
        model = Dmesr(replace(SASREC, length=10), token_dim=4)
        rec = model.fit(split.train, None, training, **given)
        return evaluate(rec, split, Task(at=(20,), mask=("train",), history=("train",))).mean["recall@20"]

    none = reached(())
    assert none < 0.12
    for true in (("picture",), ("text",), ("tokens",)):
        assert reached(true) > 1.5 * none, true


# --- new items ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cross", [True, False])
def test_a_copy_of_an_item_gets_its_vector_but_for_the_id(cross: bool, tmp_path: Path) -> None:
    part, features = small()
    made = lively(net(Dmesr(SASREC, token_dim=D, cross=cross)))
    rec = Dmesr(SASREC, token_dim=D, cross=cross).fit(part, None, replace(LEARN, epochs=1), **features)
    rec = replace(rec, scorer=made.finish())
    rec.save(tmp_path / "model")
    rows = np.array([0, 1, 3, 4, 6, 10])
    new = Ids("item", tuple(f"new-{i}" for i in rows))
    come = {n: Features(new, part.values[rows], part.present[rows], part.source) for n, part in features.items()}
    book = Catalog(new, {}, Pictures.none(new))
    for one in (rec, saved.read(tmp_path / "model")):
        scorer = one.add_items(book, come).scorer
        assert isinstance(scorer, Reader)
        assert isinstance(scorer.intake, Fused)
        assert scorer.item[: len(part.items)] == pytest.approx(made.net.items().detach().numpy(), abs=1e-6)
        assert scorer.item[len(part.items) :] == pytest.approx(made.fusion().detach().numpy()[rows], abs=2e-5)
    if not cross:  # tokens tell this one nothing
        with pytest.raises(CannotServeColdItems, match=r"those that do: picture, text\)"):
            rec.add_items(book, {"tokens": come["tokens"]})


def test_a_new_item_is_found_by_those_whom_it_suits() -> None:
    world, _, rec = fitted("sasrec without ids")
    group = world.item_group[2]
    new = Ids("item", ("new",))
    come = {n: Features(new, part.values[[2]], part.present[[2]], part.source) for n, part in inputs(world).items()}
    more = rec.add_items(Catalog(new, {}, Pictures.none(new)), come)
    score = more.score(more.known)[:-1]
    rank = (score[:, :-1] > score[:, -1:]).sum(1)
    mine = world.user_group[:-1] == group
    assert np.median(rank[mine]) < 10
    assert np.median(rank[~mine]) > 15
    never = rec.items.row(NEVER)  # nobody chose it in train either; it is of group 0 by all that is said of it
    score = rec.score(rec.known)[:-1]
    rank = (score > score[:, never, None]).sum(1)
    assert np.median(rank[world.user_group[:-1] == 0]) < 10


# --- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [models.LightGcn(), models.Popular(), models.Lmmrec(backbone=models.Bpr())])
def test_a_backbone_that_reads_no_sequences_is_refused(backbone: Model) -> None:
    said = rf"^\[model\] dmesr: backbone {backbone.name} reads no sequences\..*backbone = {{ name = \"sasrec\""
    with pytest.raises(BadSetting, match=said):
        Dmesr(backbone)
    nested = {"name": backbone.name} | ({"backbone": {"name": "bpr"}} if backbone.name == "lmmrec" else {})
    with pytest.raises(BadSetting, match=said):
        recipe.parse({"data": "shop", "model": {"name": "dmesr", "backbone": nested}}, "x")


def test_a_recipe_names_backbone_and_switches() -> None:
    table = {
        "name": "dmesr",
        "cross": False,
        "weight_align": 0,
        "contrast": "none",
        "backbone": {"name": "gru4rec", "dim": 8, "loss": "bce"},
    }
    model = recipe.parse({"data": "shop", "model": table}, "x").model
    assert model == Dmesr(models.Gru4rec(dim=8, loss="bce"), cross=False, weight_align=0.0, contrast=None)
    with pytest.raises(BadRecipe, match=r'lacks `backbone`\. Add:  backbone = { name = "sasrec"'):
        recipe.parse({"data": "shop", "model": {"name": "dmesr"}}, "x")
    with pytest.raises(BadSetting, match=r'backbone = 3: a model is meant here, e\.g\. backbone = { name = "sasrec"'):
        recipe.parse({"data": "shop", "model": {"name": "dmesr", "backbone": 3}}, "x")
    with pytest.raises(BadSetting, match="heads = 3 must divide"):
        net(Dmesr(models.Sasrec(dim=16, heads=3), token_dim=D))


def test_inputs_that_cannot_be_read_are_named() -> None:
    part, features = small()
    with pytest.raises(BadSetting, match=r'token_dim = 384, but `tokens` has rows of 20 .*encoder = "minilm-tokens"'):
        Dmesr(SASREC).fit(part, None, LEARN, **features)
    nothing = replace(features["tokens"], values=np.zeros((25, T * D)))
    with pytest.raises(MissingInput, match=r"none of 25 items has a token .*cross = false$"):
        Dmesr(SASREC, token_dim=D).fit(part, None, LEARN, **(features | {"tokens": nothing}))
    picture = replace(features["picture"], present=np.arange(25) == 3)
    with pytest.raises(MissingInput, match=r"and 0 of 25 items have both.*weight_align = 0$"):
        Dmesr(SASREC, token_dim=D).fit(part, None, LEARN, **(features | {"picture": picture}))
    without = Dmesr(SASREC, token_dim=D, cross=False, weight_align=0.0)
    rec = without.fit(part, None, replace(LEARN, epochs=1), **(features | {"picture": picture, "tokens": nothing}))
    assert np.isfinite(rec.score(rec.known)).all()
    with pytest.raises(
        MissingInput, match=r'dmesr needs `tokens`.*tokens = { from = "catalog.text", encoder = "minilm-tokens" }'
    ):
        Dmesr(SASREC).fit(part, None, LEARN, picture=features["picture"], text=features["text"])
    with pytest.raises(
        MissingInput, match=r'picture = { from = "item_from_picture", lm = "extractive", encoder = "minilm" }'
    ):
        Dmesr(SASREC).fit(part, None, LEARN)
