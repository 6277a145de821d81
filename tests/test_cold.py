"""Items that were not there at training: against fitting with them, in worlds where features tell, and where they are refused."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from modal_worlds import needy
from PIL import Image
from worlds import keys, random_split

from penchant import models, posters, saved
from penchant.attributes import said, shared
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadInput, BadSetting, BadTable, CannotServeColdItems, Leak, Misaligned, MissingInput
from penchant.features import Features, whitened, whitening
from penchant.fibres import Fibres
from penchant.fused import Fused
from penchant.graph import normalise
from penchant.intake import CAN
from penchant.intakes import INTAKES, Projected, Smoothed, Towered
from penchant.model import Model, Recommender
from penchant.models.bert4rec import Bert4rec
from penchant.models.ease import Ease
from penchant.models.freedom import Freedom
from penchant.models.gru4rec import Gru4rec
from penchant.models.hstu import Hstu
from penchant.models.lightgcn import LightGcn
from penchant.models.lirdrec import Lirdrec
from penchant.models.mllmrec import Mllmrec, joined, smoothed
from penchant.models.sasrec import Sasrec
from penchant.models.vbpr import Vbpr
from penchant.models.weave import Weave
from penchant.page import Card, Example
from penchant.readers import Reader
from penchant.reasons import explain
from penchant.scorers import Factors
from penchant.sequence import SequenceModel
from penchant.split import Split
from penchant.strands import Strands
from penchant.texts import Provenance, Texts
from penchant.thin import Thin
from penchant.towers import Towers
from penchant.training import Training

# In one process, which makes once what they share, and part of ./test; scripts/check has to be quick.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("cold")]

QUICK = Training(epochs=30, batch_size=256, learning_rate=0.01)
OLD, COME = 40, 6
MODELS: dict[str, Model] = {
    "ease": Ease(l2=5.0, alpha=2.0),
    "weave": Weave(),
    "thin weave": Weave(kept=40),
    "vbpr": Vbpr(dim=16, content_dim=16),
    "freedom": Freedom(dim=16, mm_layers=2),
    "lirdrec": Lirdrec(dim=16),
    "mllmrec": Mllmrec(dim=16, hidden=32, threshold=0.3),
    "sasrec": Sasrec(dim=16, length=10, ids=False),
    "gru4rec": Gru4rec(dim=16, length=10, ids=False),
    "bert4rec": Bert4rec(dim=16, layers=1, length=10, ids=False),
    "hstu": Hstu(dim=16, length=10, ids=False),
}


def cut(features: Features, rows: np.ndarray) -> Features:
    ids = Ids("item", tuple(features.ids.keys[i] for i in rows))
    return Features(ids, features.values[rows], features.present[rows], features.source)


def catalog(ids: Ids, **fields: tuple[str | None, ...]) -> Catalog:
    return Catalog(ids, {"title": tuple(f"New {key}" for key in ids.keys), **fields}, Pictures.none(ids))


@cache
def small() -> tuple[Interactions, dict[str, Features]]:
    """46 items, of which nobody chose the last six. Those are pairs at equal distance on both sides of the mean of the others, so
    that the mean is the same with and without them; the first item and the third lack one modality each."""
    whole = random_split(3, users=80, items=OLD + COME, most=14).train
    train = whole.take(whole.item < OLD)
    found = {}
    for n, (name, dim) in enumerate((("words", 7), ("image", 4))):
        rng = np.random.default_rng(n)
        values = (rng.normal(size=(OLD + COME, dim)) * np.arange(1, dim + 1) + 2).astype(np.float32)
        present = np.arange(OLD + COME) != 2 * n
        mean = values[:OLD][present[:OLD]].mean(axis=0)
        values[OLD + 1 :: 2] = 2 * mean - values[OLD::2]
        found[name] = Features(train.items, values, present, Provenance("drawn"))
    return train, found


@cache
def without() -> tuple[Interactions, dict[str, Features]]:
    """The same, where the last six are not there at all."""
    train, features = small()
    parts = {name: cut(part, np.arange(OLD)) for name, part in features.items()}
    return Interactions(train.users, parts["words"].ids, train.user, train.item), parts


def come(rows: np.ndarray | None = None) -> dict[str, Features]:
    rows = np.arange(OLD, OLD + COME) if rows is None else rows
    return {name: cut(part, rows) for name, part in small()[1].items()}


def units() -> dict[str, np.ndarray]:
    """Centred by the old items alone, of length 1. float64"""
    found = {}
    for name, part in small()[1].items():
        x = part.values.astype(np.float64) - part.values[:OLD][part.present[:OLD]].mean(axis=0, dtype=np.float64)
        found[name] = np.where(part.present[:, None], x / np.linalg.norm(x, axis=1, keepdims=True), 0)
    return found


# --- closed forms: as if they had been there ---------------------------------------------------------------------------


def literal(l2: float, alpha: float, rows: list[int]) -> np.ndarray:
    """B of EASE with features under X, of these items alone."""
    x = small()[0].matrix(np.float64).toarray()[:, rows]
    f = np.hstack([part[rows] for part in units().values()])
    p = np.linalg.inv(x.T @ x + alpha**2 * f @ f.T + l2 * np.eye(len(rows)))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    return b


def test_ease_has_the_column_and_the_row_of_a_fit_with_the_item_chosen_by_nobody() -> None:
    train, features = without()
    new = come()
    w = Ease(l2=3.0, alpha=1.5).fit(train, **features).add_items(catalog(new["words"].ids), new).scorer.weights  # type: ignore[attr-defined]
    for j in range(OLD, OLD + COME):
        b = literal(3.0, 1.5, [*range(OLD), j])
        assert w[:OLD, j] == pytest.approx(b[:OLD, OLD], abs=1e-6)
        assert w[j, :OLD] == pytest.approx(b[OLD, :OLD], abs=1e-6)
    both = literal(3.0, 1.5, [*range(OLD), OLD, OLD + 3])
    assert w[OLD, OLD + 3] == pytest.approx(both[OLD, OLD + 1], abs=1e-6)
    assert w[OLD + 3, OLD] == pytest.approx(both[OLD + 1, OLD], abs=1e-6)
    assert np.abs(w[:OLD, OLD:]).max() > 0.05
    assert not w.diagonal().any()


def test_a_fit_with_one_cold_item_and_a_fit_that_is_given_it_later_score_alike() -> None:
    """Through the models' own fits: the mean moves by 1 / 41 of one item."""
    train, features = small()
    keep = np.arange(OLD + 1)
    parts = {name: cut(part, keep) for name, part in features.items()}
    ids = parts["words"].ids
    there = Ease(l2=3.0, alpha=1.5).fit(Interactions(train.users, ids, train.user, train.item), **parts)
    old, own = without()
    given = come(np.array([OLD]))
    later = Ease(l2=3.0, alpha=1.5).fit(old, **own).add_items(catalog(given["words"].ids), given)
    one, other = (rec.score(rec.known)[:, OLD] for rec in (there, later))
    assert np.corrcoef(one, other)[0, 1] > 0.995
    assert np.abs(one).max() > 0.05


@pytest.mark.parametrize("strand", ["ease features", "words", "words as is", "image", "image as is"])
def test_weave_s_strands_have_the_columns_of_a_fit_with_the_items(strand: str) -> None:
    train, features = without()
    strands = Strands(train, features, (3.0, 9.0), 1.5)
    scorer = strands.scorer({name: float(name == strand) for name in strands.names})
    rec = Recommender("weave", {}, train.users, train.items, scorer, Queries.of([], []), stock=_stock(train, features))
    new = come()
    w = rec.add_items(catalog(new["words"].ids), new).scorer.weights  # type: ignore[attr-defined]
    assert np.array_equal(w[:OLD, :OLD], scorer.weights)
    name = strand.removesuffix(" as is")
    if strand == "ease features":
        expected = np.zeros((OLD, COME))
        for j in range(COME):
            expected[:, j] = literal(3.0, 1.5, [*range(OLD), OLD + j])[:OLD, OLD]
    elif strand == name:
        part = features[name]
        assert whitened(part) == pytest.approx(part.centred().values @ whitening(part), abs=1e-6)
        turn = whitening(part)
        expected = whitened(part).astype(np.float64) @ ((new[name].values - part.mean) @ turn).T
        assert np.square(whitened(part)).sum() / part.present.sum() == pytest.approx(1, abs=1e-5)
    else:
        u = units()[name]
        expected = u[:OLD] @ u[OLD:].T
    assert w[:OLD, OLD:] == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.05
    if strand != "ease features":
        assert w[OLD:, :OLD] == pytest.approx(expected.T, abs=1e-5), "a product is the same both ways"


def _stock(train: Interactions, features: Mapping[str, Features]) -> object:
    return Ease().fit(train, **features).stock


def test_all_other_strands_are_silent_about_what_nobody_chose() -> None:
    """So no column but the features' is left out."""
    train, features = small()
    strands = Strands(train, features, (3.0, 9.0), 1.5)
    x = train.matrix()
    for name, scores in zip(strands.names, strands.scores(x), strict=True):
        told = name.removesuffix(" as is") in features or name == "ease features"
        assert np.abs(scores[:, OLD:]).max() < 1e-6 or told, name


@pytest.mark.parametrize("only", [None, "words", "image as is"])
def test_beyond_its_tables_weave_has_products_of_features_for_new_items_and_nothing_else(only: str | None) -> None:
    """One pair at a time, from the formulas: an old item with a new one, and two new ones."""
    train, features = without()
    made = Fibres(train, features, (3.0, 9.0), 1.5, {}, 7)
    drawn = np.random.default_rng(0).normal(size=len(made.names))
    weights = dict(zip(made.names, drawn.tolist(), strict=True))
    if only is not None:
        weights = {name: float(name == only) for name in made.names}
    scorer = made.scorer(weights)
    rec = Recommender("weave", {}, train.users, train.items, scorer, Queries.of([], []), stock=_stock(train, features))
    found = rec.add_items(catalog(come()["words"].ids), come())
    expected = np.zeros((OLD + COME, OLD + COME))
    for name, part in small()[1].items():
        x = np.where(part.present[:, None], part.values.astype(np.float64) - features[name].mean, 0)
        told = features[name].present
        c = np.cov(x[:OLD][told].T, bias=True)
        inverse = np.linalg.inv(c + np.trace(c) / len(c) * np.eye(len(c)))
        inverse /= np.mean([row @ inverse @ row for row in x[:OLD][told]])
        for i in range(OLD + COME):
            for j in range(OLD + COME):
                expected[i, j] += weights[name] * (x[i] @ inverse @ x[j])
                expected[i, j] += weights[f"{name} as is"] * (units()[name][i] @ units()[name][j])
    expected[:OLD, :OLD] = scorer.score(Queries.of([-1] * OLD, [[i] for i in range(OLD)]))
    both = Queries.of([-1] * (OLD + COME), [[i] for i in range(OLD + COME)])
    assert found.score(both) == pytest.approx(expected, abs=1e-4)
    assert np.abs(expected[:, OLD:]).max() > 0.1
    mixed = [3, 11, OLD, OLD + 4]
    assert found.score(Queries.of([-1], [mixed]))[0] == pytest.approx(expected[mixed].sum(axis=0), abs=1e-4)
    assert isinstance(found.scorer, Thin)
    assert np.array_equal(found.scorer.left[:OLD], scorer.left)
    assert np.array_equal(found.scorer.right[:OLD], scorer.right)
    assert found.scorer.likeness(np.array([OLD]))[0] == pytest.approx(expected[OLD], abs=1e-4)


def test_fibres_too_are_silent_about_what_nobody_chose_but_for_features() -> None:
    train, features = small()
    made = Fibres(train, features, (3.0, 9.0), 1.5, {}, 7)
    for name, scores in zip(made.names, made.scores(train.matrix()), strict=True):
        told = name.removesuffix(" as is") in features or name == "ease features"
        assert np.abs(scores[:, OLD:]).max() < 1e-6 or told, name


# --- trained models: what the net itself makes of them ------------------------------------------------------------------


def test_vbpr_s_vector_is_the_net_s_projection() -> None:
    train, features = without()
    rec = Vbpr(dim=5, content_dim=6).fit(train, None, replace(QUICK, epochs=3), **features)
    assert isinstance(rec.scorer, Factors)
    assert isinstance(rec.scorer.intake, Projected)
    again = rec.scorer.intake.vectors(rec.stock, features)  # type: ignore[arg-type]
    assert again[0][:, 5:] == pytest.approx(rec.scorer.item[:, 5:], abs=1e-5)
    assert again[1] == pytest.approx(rec.scorer.bias, abs=1e-5)
    assert not again[0][:, :5].any()


def test_lirdrec_s_vector_is_the_net_s_for_an_item_that_nobody_chose() -> None:
    """The net's own S has the new items in it; new ones look for neighbours among the old alone."""
    train, features = small()
    model = Lirdrec(dim=4, neighbours=5, weights=(("words", 0.7), ("image", 0.3)))
    torch.manual_seed(0)
    net = model.build(train, **features)
    net.epoch += 1
    with torch.no_grad():
        ground = net.ground()[len(train.users) :].numpy()
    intake = net.intake(np.eye(12))
    old, own = without()
    intake = replace(intake, below=intake.below[:, :OLD])
    found, _ = intake.vectors(_stock(old, own), come())  # type: ignore[arg-type]
    raw = {
        n: p.values / np.maximum(np.linalg.norm(p.values, axis=1, keepdims=True), 1e-9) for n, p in small()[1].items()
    }
    for j in range(OLD, OLD + COME):
        expected = ground[j].astype(np.float64)
        for name, alpha in (("words", 0.7), ("image", 0.3)):
            at = np.flatnonzero(features[name].present[:OLD])
            near = at[np.argsort(-(raw[name][at] @ raw[name][j]))[:4]]
            expected = expected + alpha / 5 * (ground[j] + intake.below[0][near].sum(axis=0))
        assert found[j - OLD] == pytest.approx(expected, abs=1e-5)


def test_freedom_s_vector_is_its_neighbours_ids() -> None:
    train, features = without()
    rec = Freedom(dim=4, neighbours=4, mm_layers=1).fit(train, None, replace(QUICK, epochs=2), words=features["words"])
    intake = rec.scorer.intake
    assert isinstance(intake, Smoothed)
    found, _ = intake.vectors(rec.stock, {"words": come()["words"]})  # type: ignore[arg-type]
    part = small()[1]["words"]
    raw = part.values / np.maximum(np.linalg.norm(part.values, axis=1, keepdims=True), 1e-9)
    at = np.flatnonzero(part.present[:OLD])
    for j in range(COME):
        near = at[np.argsort(-(raw[at] @ raw[OLD + j]))[:3]]
        assert found[j] == pytest.approx(intake.below[0][near].sum(axis=0) / 4, abs=1e-6)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("gcn_layers", [0, 2])
def test_mllmrec_reads_a_new_item_by_the_formulas_of_the_page(layers: int, gcn_layers: int) -> None:
    """e_j by hand from edges that leave j, then the net's own towers."""
    train, features = without()
    model = Mllmrec(dim=5, hidden=8, neighbours=4, threshold=0.2, layers=layers, gcn_layers=gcn_layers)
    torch.manual_seed(0)
    net = model.build(train, item_texts=features["words"])
    scorer = net.finish()
    assert isinstance(scorer, Towers)
    assert isinstance(scorer.intake, Towered)
    rec = model.fit(train, None, replace(QUICK, epochs=1), item_texts=features["words"])
    x = features["words"].unit().values
    y = come()["words"].unit().values
    cosine = y @ x.T
    cosine[:, ~features["words"].present] = -2
    hidden = smoothed(normalise(joined(model, train, features["words"].unit()), degree="row"), x, layers)
    for j in range(COME):
        near = [i for i in np.argsort(-cosine[j])[:3] if cosine[j, i] >= 0.2]
        e, d = y[j], 1 + len(near)
        for t in range(layers):
            others = sum(hidden[t][i] / np.sqrt(d * net.degree[i]) for i in near)
            e = y[j] + e / d + others
        with torch.no_grad():
            h = net.f_item(torch.tensor(np.asarray(e, np.float32))[None])[0].numpy()
            first = (net.f_user[0].weight @ torch.tensor(np.asarray(e, np.float32))).numpy()
        z = h / np.linalg.norm(h) if gcn_layers else 0
        grown = scorer.intake.grown(scorer, rec.stock, {"item_texts": come()["words"]})  # type: ignore[arg-type]
        assert isinstance(grown, Towers)
        assert grown.item[OLD + j] == pytest.approx(h + z, abs=1e-5)
        assert grown.first[OLD + j] == pytest.approx(first, abs=1e-5)
        assert grown.pull is None or grown.pull[OLD + j] == pytest.approx(z, abs=1e-5)


SEQUENCES = [name for name, model in MODELS.items() if isinstance(model, SequenceModel)]


@pytest.mark.parametrize("name", SEQUENCES)
def test_beside_ids_a_new_item_has_what_features_say_and_no_id(name: str) -> None:
    """A copy of an old item has its vector but for the id."""
    train, features = without()
    inputs: dict[str, Any] = {**features}
    model = MODELS[name]
    assert isinstance(model, SequenceModel)
    model = replace(model, ids=True)
    torch.manual_seed(0)
    net = model.build(train, **inputs)
    rec = model.fit(train, None, replace(QUICK, epochs=1, batch_size=16), **inputs)
    rec = replace(rec, scorer=net.finish())
    rows = np.array([0, 2, 5, 17])
    ids = Ids("item", tuple(f"copy-{i}" for i in rows))
    copies = {n: Features(ids, part.values[rows], part.present[rows], part.source) for n, part in features.items()}
    more = rec.add_items(catalog(ids), copies)
    assert isinstance(more.scorer, Reader)
    found = more.scorer.item
    with torch.no_grad():
        whole, told = net.items().numpy(), (net.items() - net.ids).numpy()
    assert found[:OLD] == pytest.approx(whole, abs=1e-6)
    assert found[OLD:] == pytest.approx(told[rows], abs=1e-5)
    assert np.abs(whole - told)[rows].max(axis=1).min() > 1e-3
    assert np.abs(told[rows]).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("name", SEQUENCES)
def test_beside_ids_new_items_are_found_by_those_whom_they_suit_and_are_saved(name: str, tmp_path: Path) -> None:
    """As below of models without ids; a tenth is chance. In larger steps ids learn first what features could tell, and what is left to these
    is a matter of the seed."""
    split, look, new, group = planted()
    model = MODELS[name]
    assert isinstance(model, SequenceModel)
    small = replace(QUICK, batch_size=16, learning_rate=3e-3)
    rec = replace(model, ids=True).fit(split.train, None, small, look=look)
    shuffled = replace(new, values=new.values[np.random.default_rng(0).permutation(40)])
    own, found = (np.arange(len(split.users)) % 10)[:, None] == group, []
    for part in (new, shuffled):
        more = rec.add_items(catalog(new.ids), {"look": part})
        best = np.argsort(-more.score(more.known)[:, 400:], axis=1)[:, :4]
        found.append(float(np.take_along_axis(own, best, axis=1).mean()))
        assert more.score(more.known)[:, :400] == pytest.approx(rec.score(rec.known), abs=1e-5)
    assert found[0] > 0.45
    assert found[1] < 0.25
    more.save(tmp_path / "model")
    back = saved.read(tmp_path / "model")
    assert np.array_equal(back.score(back.known), more.score(more.known))
    assert back.recommend(["somebody"], 5, [["new-003", "item-013"]])[0].items


# --- what holds for all that can ----------------------------------------------------------------------------------------


@cache
def planted() -> tuple[Split, Features, Features, np.ndarray]:
    """`needy`, and 40 items more of its ten groups: (split, features, those of the new items, their groups)."""
    split, look = needy()
    group = np.arange(40) % 10
    centres = np.stack([look.values[np.arange(400) % 10 == g].mean(axis=0) for g in range(10)])
    values = centres[group] + 0.5 * np.random.default_rng(5).normal(size=(40, 12))
    ids = Ids("item", keys("new", 40))
    return split, look, Features(ids, values, np.ones(40, bool), look.source), group


@cache
def fitted(name: str) -> Recommender:
    split, look, _, _ = planted()
    model = MODELS[name]
    training = replace(QUICK, batch_size=16) if isinstance(model, SequenceModel) else QUICK  # of 200 histories
    return model.fit(split.train, split.valid, training, **{input_of(name): look})


def input_of(name: str) -> str:
    return "item_texts" if name == "mllmrec" else "look"


@cache
def grown(name: str) -> Recommender:
    _, _, new, _ = planted()
    return fitted(name).add_items(catalog(new.ids), {input_of(name): new})


every = pytest.mark.parametrize("name", MODELS)
many = pytest.mark.parametrize("name", [name for name in MODELS if name != "mllmrec"])  # of named features, any number


def test_those_that_can_are_those_that_are_tested_here() -> None:
    assert {model.name for model in MODELS.values()} == set(CAN) - {"dmesr"}  # in test_dmesr.py
    kinds = {type(fitted(name).scorer.intake) for name in MODELS} | {Fused}
    assert kinds == set(INTAKES.values())


@every
def test_new_items_are_found_by_those_whom_they_suit(name: str) -> None:
    """Of 40 new items four are of her group; chance has a tenth of the four best among them."""
    split, _, _, group = planted()
    rec = grown(name)
    score = rec.score(rec.known)[:, 400:]
    own = (np.arange(len(split.users)) % 10)[:, None] == group
    best = np.argsort(-score, axis=1)[:, :4]
    assert np.take_along_axis(own, best, axis=1).mean() > 0.6
    shuffled = replace(planted()[2], values=planted()[2].values[np.random.default_rng(0).permutation(40)])
    other = fitted(name).add_items(catalog(shuffled.ids), {input_of(name): shuffled})
    best = np.argsort(-other.score(other.known)[:, 400:], axis=1)[:, :4]
    assert np.take_along_axis(own, best, axis=1).mean() < 0.3


@every
def test_nothing_changes_for_the_items_of_training(name: str) -> None:
    rec, old = grown(name), fitted(name)
    assert rec.items.keys == old.items.keys + planted()[2].ids.keys
    assert rec.score(rec.known)[:, :400] == pytest.approx(old.score(old.known), abs=1e-5)
    assert len(old.items) == 400, "the old one is as it was"


@every
def test_together_or_one_after_the_other_in_any_order_is_the_same(name: str) -> None:
    _, _, new, _ = planted()
    rec = fitted(name)
    order = np.random.default_rng(3).permutation(40)
    for some in np.array_split(order, 3):
        part = cut(new, some)
        rec = rec.add_items(catalog(part.ids), {input_of(name): part})
    back = [rec.items.row(key) for key in grown(name).items.keys]
    stranger = Queries.of([-1], [grown(name).items.rows(["new-000", "item-007", "new-013"])])
    turned = Queries.of([-1], [rec.items.rows(["new-000", "item-007", "new-013"])])
    whole = grown(name)
    assert rec.score(rec.known)[:, back] == pytest.approx(whole.score(whole.known), abs=1e-4)
    assert rec.score(turned)[:, back] == pytest.approx(whole.score(stranger), abs=1e-4)


@every
def test_someone_new_is_known_by_new_items_in_her_history(name: str) -> None:
    rec = grown(name)
    for g in range(10):
        history = [f"new-{g:03d}", f"new-{g + 10:03d}", f"new-{g + 20:03d}"]
        found = rec.recommend(["somebody"], 10, [history])[0]
        assert not found.note
        assert not set(found.items) & set(history)
        rows = rec.items.rows(found.items)
        groups = np.where(rows < 400, rows % 10, (rows - 400) % 10)
        assert (groups == g).mean() >= 0.5, "a tenth is chance"


@every
def test_new_items_are_saved_and_more_can_follow(name: str, tmp_path: Path) -> None:
    _, _, new, _ = planted()
    half = cut(new, np.arange(20))
    rec = fitted(name).add_items(catalog(half.ids), {input_of(name): half})
    rec.save(tmp_path / "model")
    back = saved.read(tmp_path / "model")
    assert back.items == rec.items
    assert np.array_equal(back.score(back.known), rec.score(rec.known))
    rest = cut(new, np.arange(20, 40))
    more = back.add_items(catalog(rest.ids), {input_of(name): rest})
    assert more.score(more.known) == pytest.approx(grown(name).score(grown(name).known), abs=1e-4)
    assert back.similar(["new-003"], 5, by="content")[0] == rec.similar(["new-003"], 5, by="content")[0]


@every
def test_a_new_item_has_neighbours_of_both_sorts_and_a_reason(name: str) -> None:
    rec, hits = grown(name), {"behaviour": 0.0, "content": 0.0}
    for by in ("behaviour", "content"):
        for g in range(10):
            rows = rec.items.rows(rec.similar([f"new-{g:03d}"], 10, by=by)[0].items)  # type: ignore[arg-type]
            hits[by] += float((np.where(rows < 400, rows % 10, (rows - 400) % 10) == g).mean()) / 10
    assert hits["content"] > 0.7
    assert hits["behaviour"] > 0.5
    titles = {"title": tuple(f"Old {key}" for key in fitted(name).items.keys)}
    old = Catalog(fitted(name).items, titles, Pictures.none(fitted(name).items))
    both = old.join(catalog(planted()[2].ids))
    given = explain(rec, "user-003", "new-013", both)
    assert given.evidence
    assert all(e.title == f"Old {e.item_id}" for e in given.evidence)
    mixed = ("item-004", "new-003", "item-015", "new-006", "item-027", "item-013")
    known = explain(rec, "somebody", "item-023", both, history=mixed)
    # A choice that is left out moves those before it by a place, which hstu feels: there it may come second.
    most = [e.title for e in known.evidence[: 1 + (name == "hstu")]]
    assert {"New new-003", "Old item-013"} & set(most), "what is of its group speaks most for it"


# --- missing modalities and bad input -----------------------------------------------------------------------------------


@many
def test_a_new_item_may_lack_a_modality_and_a_whole_modality_may_be_missing(name: str) -> None:
    train, features = without()
    rec = MODELS[name].fit(train, None, replace(QUICK, epochs=2), **features)
    new = come()
    gap = replace(new["image"], present=np.arange(COME) != 1)
    some = rec.add_items(catalog(gap.ids), {"words": new["words"], "image": gap})
    alone = rec.add_items(catalog(gap.ids), {"words": new["words"]})
    whole = rec.add_items(catalog(gap.ids), new)
    s, a, w = (each.score(each.known)[:, OLD:] for each in (some, alone, whole))
    assert np.isfinite(s).all()
    assert s[:, 1] == pytest.approx(a[:, 1], abs=1e-5), "a gap is a gap, however it is said"
    others = np.arange(COME) != 1
    assert s[:, others] == pytest.approx(w[:, others], abs=1e-5)
    assert np.abs(s[:, 1] - w[:, 1]).max() > 1e-4


SILENT = {  # values and presence of pictures that tell no item of training from another
    "gaps": (np.ones((OLD, 4)), np.zeros(OLD, bool)),
    "the same": (np.full((OLD, 4), 0.3), np.ones(OLD, bool)),
    "one": (np.random.default_rng(0).normal(size=(OLD, 4)), np.arange(OLD) == 3),
}


@many
@pytest.mark.parametrize("how", SILENT)
def test_a_modality_that_told_nothing_at_training_tells_nothing_of_new_items(
    name: str, how: str, tmp_path: Path
) -> None:
    train, features = without()
    silent = Features(train.items, *SILENT[how], Provenance("drawn"))
    rec = MODELS[name].fit(train, None, replace(QUICK, epochs=2), words=features["words"], image=silent)
    rec.save(tmp_path / "model")
    new, ids = come(), come()["words"].ids
    for each in (rec, saved.read(tmp_path / "model")):
        alone = each.add_items(catalog(ids), {"words": new["words"]})
        both = each.add_items(catalog(ids), new)
        score = both.score(both.known)
        assert np.isfinite(score).all()
        assert np.array_equal(score, alone.score(alone.known)), "weights that nothing has trained have no say"
        assert score[np.bincount(train.user, minlength=80) > 1, OLD:].std(axis=1).min() > 0
        with pytest.raises(
            CannotServeColdItems, match=r"6 of 6 new items .*\(those that do: words\), e\.g\. item-040.*`image`"
        ):
            each.add_items(catalog(ids), {"image": new["image"]})
    rest = cut(new["words"], np.arange(3))
    more = rec.add_items(catalog(rest.ids), {"words": rest, "image": cut(new["image"], np.arange(3))})
    late = {n: cut(part, np.arange(3, COME)) for n, part in new.items()}
    more = more.add_items(catalog(late["words"].ids), late)
    assert more.score(more.known) == pytest.approx(score, abs=1e-5)
    asked = [Queries.of([-1], [[2, OLD, OLD + 4]])] * 2
    assert more.score(asked[0]) == pytest.approx(both.score(asked[1]), abs=1e-5)


def test_smoothing_leaves_out_a_modality_without_old_items() -> None:
    train, features = without()
    gaps = Features(train.items, *SILENT["gaps"], Provenance("drawn"))
    one = Freedom(dim=4, neighbours=4).fit(train, None, replace(QUICK, epochs=1), words=features["words"])
    intake, stock = one.scorer.intake, one.stock
    assert isinstance(intake, Smoothed)
    assert stock is not None
    half = replace(intake, alpha={"words": np.asarray(0.5), "image": np.asarray(0.5)})
    found, _ = half.vectors(replace(stock, features={**stock.features, "image": gaps}), come())
    assert found == pytest.approx(intake.vectors(stock, {"words": come()["words"]})[0], abs=1e-6)
    assert np.abs(found).max() > 0


def test_a_modality_without_weight_tells_freedom_nothing() -> None:
    train, features = without()
    model = Freedom(dim=4, weights=(("words", 1.0), ("image", 0.0)))
    rec = model.fit(train, None, replace(QUICK, epochs=1), **features)
    with pytest.raises(CannotServeColdItems, match=r"those that do: words"):
        rec.add_items(catalog(come()["image"].ids), {"image": come()["image"]})


def test_an_item_of_which_nothing_is_known_is_refused_by_name() -> None:
    train, features = without()
    rec = Ease().fit(train, **features)
    new = {name: replace(part, present=np.arange(COME) != 2) for name, part in come().items()}
    with pytest.raises(CannotServeColdItems, match=r"1 of 6 new items .* e\.g\. item-042.*leave them out"):
        rec.add_items(catalog(new["words"].ids), new)


def test_what_cannot_be_taken_in_is_refused_and_says_what_to_do() -> None:
    train, features = without()
    rec = Ease().fit(train, **features)
    new, ids = come(), come()["words"].ids
    with pytest.raises(BadTable, match=r"here already, e\.g\. item-039.*Leave them out"):
        rec.add_items(catalog(Ids("item", ("item-039", "x"))), new)
    with pytest.raises(BadTable, match="empty"):
        rec.add_items(catalog(Ids("item", ())), {})
    with pytest.raises(MissingInput, match=r"fitted without `sound`.*words, image"):
        rec.add_items(catalog(ids), {"sound": new["words"]})
    with pytest.raises(MissingInput, match=r"words, image"):
        rec.add_items(catalog(ids), {})
    with pytest.raises(Misaligned, match=r"4 entries.*fitted with 7"):
        rec.add_items(catalog(ids), {"words": new["image"]})
    with pytest.raises(Misaligned, match="`words` of new items"):
        rec.add_items(catalog(Ids("item", ("a", "b"))), new)
    seen = replace(new["words"], source=Provenance("drawn", interactions="0" * 64))
    with pytest.raises(Leak, match="saw no interactions"):
        rec.add_items(catalog(ids), {"words": seen})
    by = replace(features["words"], source=Provenance("encoder:minilm@1"))
    other = replace(new["words"], source=Provenance("encoder:mpnet@2"))
    with pytest.raises(Misaligned, match=r"by mpnet@2.*minilm@1"):
        Ease().fit(train, words=by).add_items(catalog(ids), {"words": other})
    with pytest.raises(BadInput, match=r"`words` is a ndarray.*  words = Features\(ids, "):
        rec.add_items(catalog(ids), {"words": new["words"].values})  # type: ignore[dict-item]
    texts = Texts(ids, ("a title",) * COME, Provenance("drawn"))
    with pytest.raises(BadInput, match=r"`words` is texts.*  words = penchant\.encode\.texts\("):
        rec.add_items(catalog(ids), {"words": texts})  # type: ignore[dict-item]
    with pytest.raises(BadInput, match=r"`words` is text, .*Texts\(ids, .*penchant\.encode\.texts\("):
        rec.add_items(catalog(ids), {"words": list(texts.values)})  # type: ignore[dict-item]


LISTS = {  # where each page says who takes in new items
    "cold": r"^\| (.*?) \| (?!cannot)",
    "guide": r"Models that can, with features of items among their inputs: ([^;]*);",
    "errors": r"Models that can, with features of items among their \[inputs\]: (.*?)\. Fit",
}


@pytest.mark.parametrize("page", LISTS)
def test_the_docs_name_every_model_that_takes_in_new_items(page: str) -> None:
    text = (Path(__file__).parent.parent / "docs" / f"{page}.md").read_text("utf-8").partition("## How good it is")[0]
    found = re.findall(LISTS[page], text, re.MULTILINE)
    assert found
    assert set(CAN) - set(re.findall(r"\w+", " ".join(found))) == set()


RATING = ("mllm_msr", "mllm_srec", "rerank")  # asked about single things, see test_judge.py
CANNOT = sorted(name for name in models.FILES.values() if name not in (*CAN, *RATING))


@pytest.mark.parametrize("name", CANNOT)
def test_a_model_that_knows_items_by_choices_alone_says_so_and_names_others(name: str) -> None:
    cls = models.by_name(name)
    train, features = without()
    given: dict[str, Any] = {
        "rlmrec": {"backbone": LightGcn(dim=4)},
        "lmmrec": {"backbone": LightGcn(dim=4), "prototypes": 4},
    }
    model = cls(**given.get(name, {}))
    people = Features(train.users, np.ones((80, 7)), np.ones(80, bool), Provenance("drawn"))
    about = {need.name: people if need.name.startswith("user_") else features["words"] for need in model.needs()}
    inputs = features if model.asks_for_features else about if name in given else {}
    rec = model.fit(train, None, replace(QUICK, epochs=1), **inputs)
    with pytest.raises(CannotServeColdItems, match=r"mllmrec.*weave") as caught:
        rec.add_items(catalog(come()["words"].ids), come())
    assert str(caught.value).endswith('name = "weave"')


def test_models_that_could_say_what_they_lack() -> None:
    train, features = without()
    with pytest.raises(CannotServeColdItems, match=r'fitted without features.*name = "ease"'):
        Ease().fit(train).add_items(catalog(come()["words"].ids), come())
    rec = Freedom(dim=4, mm_layers=0).fit(train, None, replace(QUICK, epochs=1), **features)
    with pytest.raises(CannotServeColdItems, match=r"for mm_layers = 0.* Fit it again with  mm_layers = 1$"):
        rec.add_items(catalog(come()["words"].ids), come())
    rec = Freedom(dim=4, neighbours=1).fit(train, None, replace(QUICK, epochs=1), **features)
    with pytest.raises(CannotServeColdItems, match=r"for neighbours = 1.* Fit it again with  neighbours = 10$"):
        rec.add_items(catalog(come()["words"].ids), come())
    gaps = Features(train.items, *SILENT["gaps"], Provenance("drawn"))
    for kept in (None, 9):
        rec = Weave(kept=kept).fit(train, words=gaps)
        with pytest.raises(
            CannotServeColdItems, match=r"fitted with words, where no item differs.*in which items differ"
        ):
            rec.add_items(catalog(come()["words"].ids), {"words": come()["words"]})
    rec = Weave(kept=9).fit(train, **features)
    rec = replace(rec, scorer=replace(rec.scorer, intake=None))  # type: ignore[type-var]
    with pytest.raises(CannotServeColdItems, match=r'saved before.*Fit it again:  \[model\]  name = "weave"$'):
        rec.add_items(catalog(come()["words"].ids), come())
    with pytest.raises(CannotServeColdItems, match=r"those that do: none.*Fit ease again with features in which"):
        Ease().fit(train, image=gaps).add_items(catalog(come()["image"].ids), {"image": come()["image"]})


def test_a_model_saved_before_it_kept_features_is_still_read(tmp_path: Path) -> None:
    train, features = without()
    rec = Ease().fit(train, **features)
    rec.save(tmp_path / "model")
    head = json.loads((tmp_path / "model" / "model.json").read_text())
    del head["stock"], head["sha256"]["stock.safetensors"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(head))
    (tmp_path / "model" / "stock.safetensors").unlink()
    back = saved.read(tmp_path / "model")
    assert np.array_equal(back.score(back.known), rec.score(rec.known))
    with pytest.raises(CannotServeColdItems, match="saved before"):
        back.add_items(catalog(come()["words"].ids), come())
    with pytest.raises(MissingInput, match="by content"):
        back.similar(["item-000"], by="content")


@hypothesis_settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 50))
def test_an_item_with_the_features_of_an_old_one_is_most_like_it_by_content(seed: int, scale: float) -> None:
    train, features = without()
    row = seed % OLD
    ids = Ids("item", ("twin",))
    parts = {}
    for name, part in features.items():
        off = part.values[row] - part.mean
        parts[name] = Features(ids, (part.mean + scale * off)[None], part.present[[row]], part.source)
    rec = _ease().add_items(catalog(ids), parts)
    assert rec.similar(["twin"], 1, by="content")[0].items == (train.items.keys[row],)
    assert rec.scorer.weights[:OLD, OLD].max() > 0  # type: ignore[attr-defined]


@cache
def _ease() -> Recommender:
    train, features = without()
    return Ease(l2=3.0, alpha=1.5).fit(train, **features)


# --- likeness and its reasons -------------------------------------------------------------------------------------------


def test_content_is_the_mean_cosine_over_what_the_asked_item_has() -> None:
    rec = _ease()
    u = {name: part[:OLD] for name, part in units().items()}
    for row in (0, 2, 5):
        has = [part for part in u.values() if part[row].any()]
        expected = sum(part @ part[row] for part in has) / len(has)
        expected[row] = -np.inf
        found = rec.similar([rec.items.keys[row]], 3, by="content")[0]
        assert list(found.items) == [rec.items.keys[i] for i in np.argsort(-expected)[:3]]
        assert found.scores == pytest.approx(np.sort(expected)[::-1][:3], abs=1e-5)
    with pytest.raises(BadSetting, match="behaviour"):
        rec.similar(["item-000"], by="looks")  # type: ignore[arg-type]


def test_an_item_without_features_is_like_nothing_by_content() -> None:
    train, features = without()
    part = replace(features["words"], present=np.arange(OLD) != 4)
    rec = Ease().fit(train, words=part)
    found = rec.similar(["item-004"], 3, by="content")[0]
    assert not found.items
    assert "nothing is known" in found.note


def test_what_two_items_share_is_named_the_rarest_first_and_is_not_markup() -> None:
    ids = Ids("item", keys("item", 12))
    fields = {
        "title": ("Blue heron", "Grey heron", *(f"Thing {n}" for n in range(10))),
        "brand": ("<b>Alder & Co</b>", "<B>ALDER & CO</b>", *["Birch"] * 10),
        "categories": ("Birds|Water", "Water, Birds", *["Birds"] * 5, *["Stones"] * 5),
        "description": ("painted by hand in cobalt", "a cobalt glaze", *["made of clay"] * 10),
    }
    book = Catalog(ids, fields, Pictures.none(ids))
    found = shared(book, "item-000", "item-001", most=6)
    assert [(s.field, s.value, s.items) for s in found] == [
        ("brand", "<b>Alder & Co</b>", 2),
        ("categories", "Water", 2),
        ("words", "cobalt", 2),
        ("words", "heron", 2),
        ("categories", "Birds", 7),
    ]
    assert said(found[:3]) == "Both have brand: <b>Alder & Co</b>; categories: Water; words: cobalt."
    assert said(found) == "Both have brand: <b>Alder & Co</b>; categories: Water, Birds; words: cobalt, heron."
    assert said(()) == ""
    assert shared(book, "item-000", "item-011") == ()
    assert shared(book, "item-000", "elsewhere") == ()
    everything = Catalog(ids, {"brand": ("Same",) * 12}, Pictures.none(ids))
    assert shared(everything, "item-000", "item-001") == (), "what all have says nothing"


def test_a_page_of_posters_escapes_what_strangers_wrote_and_holds_its_pictures(tmp_path: Path) -> None:
    raw = io.BytesIO()
    Image.new("RGB", (90, 60), "teal").save(raw, "PNG")
    evil = "<script>alert(1)</script>"
    old = tuple(Card(f"i{n}", evil, raw.getvalue()) for n in range(3))
    new = (Card("n1", "Fits & suits", raw.getvalue(), reason=evil, hit=True), Card("n2", evil, b"no picture"))
    file = posters.write(tmp_path / "page.html", evil, "What is new", [Example(evil, old, new)])
    text = file.read_text("utf-8")
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert text.count("data:image/jpeg;base64,") == 4
    assert "1 of 2 was indeed chosen" in text
    page = posters.sheet([Example("u", old, new)] * 2)
    colours = {colour for _, colour in page.getcolors(1 << 20) or []}
    assert (0, 128, 128) in colours
    assert page.height > page.width / 3


def test_catalogues_are_joined_with_gaps_where_one_has_no_column() -> None:
    a, b = Ids("item", ("a", "b")), Ids("item", ("c",))
    old = Catalog(
        a,
        {"title": ("A", "B"), "brand": ("x", None)},
        Pictures(a, np.array([-1, 0]), (b"old",)),
        {"price": pl.Series([1.5, 2.0])},
    )
    new = Catalog(
        b,
        {"title": ("C",), "colour": ("red",)},
        Pictures(b, np.array([0]), (b"new",)),
        {"price": pl.Series([3]), "stock": pl.Series([True])},
    )
    both = old.join(new)
    assert both.items.keys == ("a", "b", "c")
    assert both.fields == {"title": ("A", "B", "C"), "brand": ("x", None, None), "colour": (None, None, "red")}
    assert both.numbers["price"].to_list() == [1.5, 2.0, 3.0]
    assert both.numbers["stock"].to_list() == [None, None, True]
    assert [both.pictures.read(row) for row in range(3)] == [None, b"old", b"new"]
    assert [old.join(catalog(b)).pictures.read(row) for row in range(3)] == [None, b"old", None]
    with pytest.raises(BadTable, match="unique"):
        old.join(old)
    wrong = Catalog(b, {}, Pictures.none(b), {"price": pl.Series(["cheap"], dtype=pl.Categorical)})
    with pytest.raises(Misaligned, match="differ in type"):
        old.join(wrong)
