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
from penchant.beside import SHRINK, Beside
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.model import Model
from penchant.models.autocf import AutoCf
from penchant.models.gccf import Gccf
from penchant.models.lightgcn import LightGcn
from penchant.models.lmmrec import Lmmrec
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


def literal(train: Interactions, users: Features, items: Features, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """v and w by loops over users, items and choices, square roots of a matrix by another way."""
    rows = {}
    for kind, texts_of in (("user", users), ("item", items)):
        mean = np.mean([texts_of.values[k] for k in np.flatnonzero(texts_of.present)], axis=0)
        rows[kind] = {k: texts_of.values[k].astype(float) - mean for k in np.flatnonzero(texts_of.present)}
    every = [x for kind in rows.values() for x in kind.values()]
    c = sum(np.outer(x, x) for x in every) / len(every)
    c = c + SHRINK * np.trace(c) / len(c) * np.eye(len(c))
    # w = Q (t - mean) for any Q with Q'Q = C^-1: products of w are the same for all of them.
    q = np.linalg.cholesky(np.linalg.inv(c)).T
    w = {kind: {k: q @ x for k, x in of.items()} for kind, of in rows.items()}
    scale = np.sqrt(weight / np.mean([x @ x for x in w["item"].values()]))
    v, w_items = np.zeros((len(train.users), len(c))), np.zeros((len(train.items), len(c)))
    for i, x in w["item"].items():
        w_items[i] = scale * x
    for u in range(len(train.users)):
        mine = [scale * w["item"][i] for i in train.item[train.user == u] if i in w["item"]]
        mine += [scale * w["user"][u]] if u in w["user"] else []
        v[u] = sum(mine) / np.sqrt(len(mine)) if mine else 0
    return v, w_items


def test_scores_are_those_of_the_literal_twin() -> None:
    train, users, items = checkerboard().train, texts("user"), texts("item")
    beside, (v, w) = Beside(train, users, items, 2.5), literal(train, users, items, 2.5)
    assert np.allclose(beside.users.numpy() @ beside.items.numpy().T, v @ w.T, atol=1e-5)


def test_a_chosen_item_does_not_speak_for_itself() -> None:
    """A positive's score is what the user's other choices say of it; a negative's is the plain product."""
    train, users, items = checkerboard().train, texts("user"), texts("item")
    beside, (v, w) = Beside(train, users, items, 2.0), literal(train, users, items, 2.0)
    batch = Triples(
        *(torch.from_numpy(x.astype(np.int64)) for x in (train.user[:50], train.item[:50], train.item[:50] // 2))
    )
    found = beside.scores(batch.user, batch.items)
    for row, (u, i, j) in enumerate(
        zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True)
    ):
        count = sum(bool(items.present[k]) for k in train.item[train.user == u]) + bool(users.present[u])
        others = v[u] - w[i] / np.sqrt(count)
        assert found[row].tolist() == pytest.approx([others @ w[i], v[u] @ w[j]], abs=1e-5)


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_neither_the_length_nor_the_axes_nor_the_origin_of_texts_matter(seed: int, length: float) -> None:
    train, users, items = checkerboard().train, texts("user"), texts("item")
    rng = np.random.default_rng(seed)
    turn, shift = np.linalg.qr(rng.normal(size=(6, 6)))[0], rng.normal(size=6)

    def moved(f: Features) -> Features:
        return replace(f, values=np.where(f.present[:, None], length * (f.values @ turn + shift), 0).astype(np.float32))

    a, b = Beside(train, users, items, 1.0), Beside(train, moved(users), moved(items), 1.0)
    assert np.allclose(a.users @ a.items.T, b.users @ b.items.T, atol=2e-3)


def fitted(model: Model, train: Interactions | None = None, **given: Features) -> Any:
    world = checkerboard()
    given = {"user_motives": texts("user"), "item_motives": texts("item")} | given
    return model.fit(train or world.train, world.valid, SHORT, **(given if isinstance(model, Lmmrec) else {}))


@pytest.mark.parametrize("backbone", [LIGHT, Gccf(dim=8, layers=2), AutoCf(dim=8, layers=2, seeds=5)])
def test_a_weight_of_nothing_is_the_backbone(backbone: Model) -> None:
    queries = checkerboard().split.queries("valid", ("train",))
    bare, with_it = fitted(backbone), fitted(replace(TEXTS, backbone=backbone, weight_texts=0.0))
    assert bare.curve.loss == with_it.curve.loss
    assert np.allclose(bare.score(queries), with_it.score(queries), atol=1e-6)


def test_a_strangers_words_are_those_of_what_she_chose() -> None:
    """Somebody new with a trained user's history, and neither has a text of her own: equal text parts but for the items without one."""
    world, weight = checkerboard(), 3.0
    blank = texts("user", gaps=tuple(range(3, 61)))
    rec = fitted(replace(TEXTS, weight_texts=weight), user_motives=blank)
    history = [world.split.items.keys[i] for i in world.train.item[world.train.user == 5]]
    stranger, known = rec.score(rec.ask(["x"], [history]))[0], rec.score(rec.ask([world.split.users.keys[5]]))[0]
    factors = rec.scorer.factors
    width = factors.user.shape[1] - 6
    row = np.flatnonzero(world.train.user == 5)
    trained = factors.fold[world.train.item[row], :width].sum(axis=0) / np.sqrt(len(row)) @ factors.item[:, :width].T
    v, w = literal(world.train, blank, texts("item"), weight)
    count = sum(texts("item").present[world.train.item[row]])
    assert known - factors.user[5, :width] @ factors.item[:, :width].T == pytest.approx(v[5] @ w.T, abs=1e-4)
    assert stranger - trained == pytest.approx(v[5] @ w.T * np.sqrt(count / len(row)), abs=1e-4)


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
