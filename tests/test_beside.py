"""Beside: the fixed part of a score against a literal twin, and what it is good for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import checkerboard

from penchant.batches import Triples
from penchant.beside import Beside
from penchant.data import Interactions
from penchant.errors import BadSetting, Misaligned
from penchant.features import Features
from penchant.model import Model
from penchant.models.autocf import AutoCf
from penchant.models.bpr import Bpr
from penchant.models.dccf import Dccf
from penchant.models.gccf import Gccf
from penchant.models.lightgcn import LightGcn
from penchant.models.lmmrec import Lmmrec
from penchant.models.sgl import Sgl
from penchant.models.simgcl import SimGcl
from penchant.nn import Embedded, factors
from penchant.ranking import Task, evaluate
from penchant.split import Split
from penchant.texts import Provenance
from penchant.training import Training

LIGHT = LightGcn(dim=8, layers=2)
TEXTS = Lmmrec(LIGHT, prototypes=5, fuse="texts", weight_mcs=0.0, weight_itcm=0.0)
SHORT = Training(epochs=6, batch_size=64, learning_rate=0.01, validate_every=2, select="recall@3", device="cpu")
TASK = Task(at=(3,), mask=("train",), history=("train",))


def texts(kind: str, gaps: tuple[int, ...] = (0, 7), noise: float = 0.5) -> Features:
    found = checkerboard().features(kind, 6, noise)
    present = found.present.copy()
    present[list(gaps)] = False
    return replace(found, values=np.where(present[:, None], found.values, 0), present=present)


def literal(train: Interactions, items: Features, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """v and w by loops over users, items and choices, the root of the matrix by another way."""
    told = np.flatnonzero(items.present)
    mean = np.mean([items.values[k] for k in told], axis=0)
    x = {k: items.values[k].astype(float) - mean for k in told}
    c = sum(np.outer(each, each) for each in x.values()) / len(told)
    # w = Q (t - mean) for any Q with Q'Q = (C + s I)^-1: products of w are the same for all of them.
    q = np.linalg.cholesky(np.linalg.inv(c + np.trace(c) / len(c) * np.eye(len(c)))).T
    w = {k: q @ each for k, each in x.items()}
    scale = np.sqrt(weight / np.mean([each @ each for each in w.values()]))
    w_items = np.array([scale * w[i] if i in w else np.zeros(len(c)) for i in range(len(train.items))])
    v = np.zeros((len(train.users), len(c)))
    for u in range(len(train.users)):
        mine = train.item[train.user == u]
        for i in mine:
            v[u] += w_items[i] / np.sqrt(len(mine))
    return v, w_items


def literal_scores(train: Interactions, items: Features, weight: float, batch: Triples) -> np.ndarray:
    """A positive's is what the user's other choices say of it; a negative's is the plain product. (B, 2)"""
    v, w = literal(train, items, weight)
    found = []
    for u, i, j in zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True):
        others = v[u] - w[i] / np.sqrt((train.user == u).sum())
        found.append((others @ w[i], v[u] @ w[j]))
    return np.array(found)


def test_scores_are_those_of_the_literal_twin() -> None:
    train, items = checkerboard().train, texts("item")
    beside, (v, w) = Beside(train, items, 2.5), literal(train, items, 2.5)
    assert np.abs(v @ w.T).max() > 1
    assert np.allclose(beside.users.numpy() @ beside.items.numpy().T, v @ w.T, atol=1e-5)


BACKBONES: dict[str, Model] = {
    "bpr": Bpr(dim=8),
    "lightgcn": LIGHT,
    "gccf": Gccf(dim=8, layers=2),
    "sgl": Sgl(dim=8, layers=2, weight_contrast=0.0),
    "simgcl": SimGcl(dim=8, layers=2, weight_contrast=0.0),
    "dccf": Dccf(dim=8, layers=2, prototypes=4, weight_contrast=0.0),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_training_is_on_scores_with_texts_where_no_item_speaks_for_itself(name: str) -> None:
    world, items = checkerboard(), texts("item")
    torch.manual_seed(0)
    net: Any = replace(TEXTS, backbone=BACKBONES[name], weight_texts=2.0).build(world.train, texts("user"), items)
    batch = next(iter(net.batches(np.random.default_rng(0), 40)))
    e = net.student.backbone.embed()
    trained = (e.users[batch.user][:, None] * e.items[batch.items]).sum(-1).detach().numpy()
    scores = trained + literal_scores(world.train, items, 2.0, batch)
    assert net.loss(batch).item() == pytest.approx(np.log1p(np.exp(scores[:, 1] - scores[:, 0])).mean(), abs=1e-5)


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_neither_the_length_nor_the_axes_nor_the_origin_of_texts_matter(seed: int, length: float) -> None:
    train, items = checkerboard().train, texts("item")
    rng = np.random.default_rng(seed)
    turn, shift = np.linalg.qr(rng.normal(size=(6, 6)))[0], rng.normal(size=6)

    def moved(f: Features) -> Features:
        return replace(f, values=np.where(f.present[:, None], length * (f.values @ turn + shift), 0).astype(np.float32))

    a, b = Beside(train, items, 1.0), Beside(train, moved(items), 1.0)
    assert np.allclose(a.users @ a.items.T, b.users @ b.items.T, atol=2e-3)


def fitted(model: Model, train: Interactions | None = None, **given: Features) -> Any:
    world = checkerboard()
    given = {"user_motives": texts("user"), "item_motives": texts("item")} | given
    return model.fit(train or world.train, world.valid, SHORT, **(given if isinstance(model, Lmmrec) else {}))


@pytest.mark.long
@pytest.mark.parametrize("backbone", [LIGHT, Gccf(dim=8, layers=2), AutoCf(dim=8, layers=2, seeds=5)])
def test_a_weight_of_nothing_is_the_backbone(backbone: Model) -> None:
    queries = checkerboard().split.queries("valid", ("train",))
    bare, with_it = fitted(backbone), fitted(replace(TEXTS, backbone=backbone, weight_texts=0.0))
    assert bare.curve.loss == with_it.curve.loss
    assert np.array_equal(bare.score(queries), with_it.score(queries))


def test_a_strangers_words_are_those_of_what_she_chose() -> None:
    """Somebody new with a trained user's history: what texts say to her is what they say to that user."""
    world, items = checkerboard(), texts("item", (0, 5))
    rec = fitted(replace(TEXTS, weight_texts=3.0), item_motives=items)
    mine = world.train.item[world.train.user == 5]
    assert 5 in mine, "a choice without a text is among them"
    history = [world.split.items.keys[i] for i in mine]
    stranger, known = rec.score(rec.ask(["x"], [history]))[0], rec.score(rec.ask([world.split.users.keys[5]]))[0]
    factors = rec.scorer.factors
    trained = factors.item[:, :-6]
    v, w = literal(world.train, items, 3.0)
    assert known - trained @ factors.user[5, :-6] == pytest.approx(w @ v[5], abs=1e-4)
    folded = factors.fold[mine, :-6].sum(axis=0) / np.sqrt(len(mine))
    assert stranger - trained @ folded == pytest.approx(w @ v[5], abs=1e-4)


def test_likeness_weighs_both_parts_whatever_the_lengths_of_vectors() -> None:
    """A backbone whose users are long and items short has the same scores as one the other way round, and the same likeness."""
    train, items = checkerboard().train, texts("item")
    beside = Beside(train, items, 2.0)
    rng = np.random.default_rng(0)
    u, v = (torch.from_numpy(rng.normal(size=(n, 4)).astype(np.float32)) for n in (len(train.users), len(train.items)))
    one, other = (factors(train, Embedded(u * c, v / c, beside=beside)) for c in (1.0, 30.0))
    assert np.allclose(one.likeness(np.arange(41)), other.likeness(np.arange(41)), atol=1e-4)
    assert one.likeness(np.array([1]))[0, 2] != pytest.approx(one.item[1] @ one.item[2])


def test_items_whose_texts_are_all_alike_are_told_apart_by_nothing() -> None:
    same = replace(texts("item"), values=np.where(texts("item").present[:, None], 1.0, 0.0).astype(np.float32))
    beside = Beside(checkerboard().train, same, 4.0)
    assert not beside.items.any()
    assert not beside.users.any()


def test_items_that_nobody_chose_are_found_by_their_words() -> None:
    """Each group's last items are taken out of train: without texts they are ranked last, with them among their group."""
    world = checkerboard()
    cold = np.arange(24, 41)
    train = world.train.take(np.flatnonzero(~np.isin(world.train.item, cold)))
    held = world.train.take(np.flatnonzero(np.isin(world.train.item, cold)))
    split = Split(train, world.valid, held)
    users, items = texts("user", (0,), 0.1), texts("item", (0,), 0.1)
    model = replace(TEXTS, weight_texts=8.0)
    found = evaluate(fitted(model, train, user_motives=users, item_motives=items), split, TASK)
    bare = evaluate(fitted(LIGHT, train), split, TASK)
    assert found.mean["recall@3"] > 2 * bare.mean["recall@3"] + 0.1


def test_a_model_that_was_saved_scores_the_same(tmp_path: Any) -> None:
    from penchant import saved

    rec = fitted(TEXTS)
    rec.save(tmp_path / "model")
    queries = checkerboard().split.queries("valid", ("train",))
    assert np.array_equal(saved.read(tmp_path / "model").score(queries), rec.score(queries))


def test_a_weight_below_nothing_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"weight_texts = -1.*0 or more"):
        fitted(replace(TEXTS, weight_texts=-1.0))


def test_texts_of_two_lengths_are_refused() -> None:
    long = replace(texts("item"), values=np.ones((41, 9), np.float32), source=Provenance("toy"))
    for model in (TEXTS, replace(TEXTS, fuse="none", weight_mcs=0.1)):
        with pytest.raises(BadSetting, match=r"user_motives.*6.*item_motives.*9"):
            fitted(model, item_motives=long)


@pytest.mark.parametrize("name", ["user_motives", "item_motives"])
def test_texts_about_the_others_are_refused(name: str) -> None:
    wrong = texts("item" if name == "user_motives" else "user")
    with pytest.raises(
        Misaligned, match=rf"`{name}` is vectors of {wrong.ids.kind}s.*{name} = \{{ from = \"{name}\", lm"
    ):
        fitted(TEXTS, **{name: wrong})


def test_an_edge_reading_without_layers_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"layers = 0.*layers = 2"):
        fitted(replace(TEXTS, reading="edge", layers=0))
