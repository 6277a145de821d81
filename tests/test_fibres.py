"""Fibres: what is left of strands where tables are too large; exact where nothing is left out, and near it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from test_weave import ALPHA, ITEMS, L2, SMALL, drawn, left_out, matrix, small, strands, table, tastes
from worlds import interactions, keys

from penchant import fibres, saved
from penchant.data import Ids
from penchant.errors import Approximate, BadSetting
from penchant.fibres import Fibres, _halved, strongest
from penchant.models import weave
from penchant.models.lightgcn import LightGcn
from penchant.models.weave import Weave
from penchant.ranking import Task, evaluate
from penchant.thin import Thin
from penchant.training import Training


def spun(kept: int) -> Fibres:
    items = small().items
    features = {"words": drawn(items), "image": drawn(items, (3,), 4, 1)}
    vectors = np.random.default_rng(0).normal(size=(2, ITEMS, 3)).astype(np.float32)
    return Fibres(small().train, features, L2, ALPHA, {"toy": (vectors[0], vectors[1])}, kept)


def whole(found: Fibres, name: str) -> np.ndarray:
    """The matrix of one fibre, by its scores. (I, I)"""
    return found.scores(sparse.eye(ITEMS, format="csr"))[found.names.index(name)]


def test_where_nothing_is_left_out_fibres_are_strands() -> None:
    found = spun(ITEMS)
    both = [name for name in found.names if name in strands().names]
    assert len(both) == 2 + 1 + 1 + 4 + 1 + 4, (
        "ease of two l2, with features, even; walks 1, 2; low 32; two of features"
    )
    for name in both:
        assert whole(found, name) == pytest.approx(table(name), abs=2e-4), name
    for steps in (2, 4):
        assert whole(found, f"slow {steps}") == pytest.approx(table(f"staying {steps}"), abs=2e-4)
    left, right = np.random.default_rng(0).normal(size=(2, ITEMS, 3)).astype(np.float32)
    assert whole(found, "model toy") == pytest.approx(left @ right.T, abs=1e-5)


def test_of_each_items_regression_the_largest_weights_are_kept() -> None:
    found, exact = whole(spun(5), "ease 2"), table("ease 2")
    for j in range(ITEMS):
        size = np.sort(np.abs(exact[:, j]))[::-1]
        there = np.flatnonzero(found[:, j])
        assert len(there) == min(5, int((size > 0).sum()))
        assert found[there, j] == pytest.approx(exact[there, j], abs=2e-4)
        assert np.sort(np.abs(found[there, j]))[::-1] == pytest.approx(size[: len(there)], abs=2e-4)


def test_a_block_is_regressed_on_itself_and_on_those_it_shares_most_choices_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fibres, "BLOCK", 12)
    members = np.arange(5, 17)
    x = matrix()
    gram = sparse.csr_matrix(x.T @ x).astype(np.float32)
    found = fibres._eases({"ease": (gram, 30.0, [])}, gram, [members], ITEMS)["ease"].toarray()
    shared = (x.T @ x)[members].sum(axis=0)
    shared[members] = 0
    others = np.argsort(-shared, kind="stable")[:12]
    both = np.concatenate([members, others])
    expected = np.zeros((ITEMS, ITEMS))
    expected[np.ix_(both, members)] = left_out(x[:, both], 30.0)[:, :12]
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.01


@given(st.integers(1, 60), st.integers(0, 2**31))
def test_halves_hold_every_item_once_and_are_small_enough(items: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fibres, "BLOCK", 7)
        v = np.random.default_rng(seed).normal(size=(items, 3)).astype(np.float32)
        blocks = list(_halved(v, np.arange(items)))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(items))
    assert max(len(block) for block in blocks) <= 7
    assert len(blocks) == 1 or min(len(block) for block in blocks) >= 4, "8 are halved, 7 are not"


def test_halves_part_what_lies_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fibres, "BLOCK", 10)
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 10))
    v = np.eye(4)[group] + np.random.default_rng(1).normal(size=(40, 4)) * 0.01
    for block in _halved(v.astype(np.float32), np.arange(40)):
        assert len(set(group[block])) == 1


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 40))
def test_the_strongest_of_each_row(seed: int, kept: int, part: int) -> None:
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((9, 8)) < 0.5, rng.integers(1, 5, (9, 8)) / 4, 0).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fibres, "PART", part)
        found = strongest(sparse.csr_matrix(dense), kept).toarray()
    expected = np.zeros_like(dense)
    for row, line in enumerate(dense):
        there = sorted(np.flatnonzero(line), key=lambda i: (-line[i], i))[:kept]
        expected[row, there] = line[there]
    assert np.array_equal(found, expected)


def test_the_strongest_of_very_many_rows() -> None:
    rows = 70_000  # packed integers hold 65,536 of so many columns
    diagonals = [np.full(rows, weight, np.float32) for weight in (0.25, 0.5, 0.75)]
    matrix = sparse.diags(diagonals, [0, 1, 2], (rows, rows), format="csr")
    matrix.eliminate_zeros()
    found = strongest(matrix.astype(np.float32), 1).tocoo()
    assert np.array_equal(found.row, np.arange(rows))
    assert np.array_equal(found.col, np.minimum(np.arange(rows) + 2, rows - 1))


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_thin_table_scores_as_the_weighted_fibres_and_is_saved(tmp_path: Path) -> None:
    split, _ = tastes()
    rec = Weave(l2=SMALL.l2, alpha=SMALL.alpha, kept=6).fit(split.train, split.valid, words=drawn(split.items))
    assert isinstance(rec.scorer, Thin)
    rec.save(tmp_path / "m")
    again = saved.read(tmp_path / "m")
    assert np.array_equal(again.score(again.known), rec.score(rec.known))
    assert again.similar([split.items.keys[3]], 5) == rec.similar([split.items.keys[3]], 5)
    history = split.train.item[split.train.user == 5]
    queries = rec.ask(["x"], [[split.items.keys[i] for i in history]])
    score = rec.score(queries)[0]
    for item in (0, 17, 69):
        assert rec.scorer.carried(-1, history, item).sum() == pytest.approx(score[item], abs=1e-4)
    made = Fibres(split.train, {"words": drawn(split.items)}, SMALL.l2, SMALL.alpha, {}, 6)
    weights = dict(zip(made.names, np.random.default_rng(0).normal(size=len(made.names)), strict=True))
    x = split.train.matrix()
    expected = np.tensordot(np.array(list(weights.values()), np.float32), made.scores(x), 1)
    assert made.scorer(weights).score(rec.known) == pytest.approx(expected, abs=1e-3)


def test_few_neighbours_are_nearly_as_good() -> None:
    split, _ = tastes()
    task = Task(at=(5,))
    exact = evaluate(SMALL.fit(split.train, split.valid), split, task).mean["recall@5"]
    thin = Weave(l2=SMALL.l2, alpha=SMALL.alpha, kept=20).fit(split.train, split.valid)
    assert evaluate(thin, split, task).mean["recall@5"] > 0.9 * exact


def test_too_many_items_are_approximated_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    split, _ = tastes()
    monkeypatch.setattr(weave, "MOST_ITEMS", 69)
    with pytest.warns(Approximate, match=r"weave: 70 items are too many.*at most 69.*kept = 100"):
        rec = Weave().fit(split.train, split.valid)
    assert isinstance(rec.scorer, Thin)
    chosen = Weave(kept=100).fit(split.train, split.valid)
    assert np.array_equal(rec.score(rec.known), chosen.score(chosen.known))


@pytest.mark.parametrize("kept", [0, -3])
def test_an_item_keeps_a_neighbour_at_least(kept: int) -> None:
    with pytest.raises(BadSetting, match=r"kept = 100"):
        Weave(kept=kept).fit(small().train, small().valid)


def test_items_and_people_without_choices_are_no_stumbling_block() -> None:
    ids, items = Ids("user", keys("user", 30)), Ids("item", keys("item", 50))
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 20, (160, 2)), axis=0)
    train = interactions(ids, items, pairs[:, 0], pairs[:, 1])
    rec = Weave(kept=4).fit(train)
    assert np.isfinite(rec.score(rec.known)).all()


# --- a backbone -------------------------------------------------------------------------------------------------------

BACKBONE = LightGcn(dim=8, layers=2)
QUICK = Training(epochs=30, batch_size=64, learning_rate=0.03, validate_every=5, patience=8, device="cpu")


@pytest.mark.long
@pytest.mark.parametrize("kept", [None, 20])
def test_a_backbone_is_one_strand_folded_in(kept: int | None) -> None:
    split, _ = tastes()
    settings: dict[str, Any] = {"l2": SMALL.l2, "alpha": SMALL.alpha, "kept": kept}
    inner = BACKBONE.fit(split.train, split.valid, QUICK)
    model = Weave(backbone=BACKBONE, **settings)
    rec = model.fit(split.train, split.valid, QUICK)
    factors = {"lightgcn": (inner.scorer.fold, inner.scorer.item)}
    made = weave.Loom(model, split.train, {}).strands(split.train, factors)
    assert made.names[-1] == "model lightgcn"
    weights = weave.Loom(model, split.train, {}).weights(made, split.train, split.valid, 0)
    assert weights["model lightgcn"] != 0
    expected = np.tensordot(np.array(list(weights.values()), np.float32), made.scores(split.train.matrix()), 1)
    assert rec.score(rec.known) == pytest.approx(expected, abs=float(2e-4 * np.abs(expected).max()))
    assert rec.curve.epoch == inner.curve.epoch
    assert rec.curve.best is None, "the backbone's value on valid is not the whole's"
    assert rec.settings["backbone"]["name"] == "lightgcn"


def test_without_a_valid_part_the_backbone_is_trained_on_all_in_the_end() -> None:
    split, _ = tastes()
    rec = Weave(l2=SMALL.l2, backbone=BACKBONE).fit(split.train, training=QUICK)
    kept, held = weave._apart(split.train, 0)
    epochs = BACKBONE.fit(kept, held, QUICK).curve.best_epoch
    assert rec.curve.epoch == tuple(range(1, epochs + 1))


@pytest.mark.long
def test_a_backbone_has_the_features_that_it_takes() -> None:
    from penchant.models.freedom import Freedom
    from penchant.models.vbpr import Vbpr

    split, _ = tastes()
    words, image = drawn(split.items), drawn(split.items, (3,), 4, 1)
    inner = Freedom(dim=8, neighbours=3).fit(split.train, split.valid, QUICK, words=words, image=image)
    loom = weave.Loom(Weave(backbone=Freedom(dim=8, neighbours=3)), split.train, {"words": words, "image": image})
    vectors, _ = loom.fitted(split.train, split.valid, QUICK)
    assert np.array_equal(vectors["freedom"][1], inner.scorer.item)
    loom = weave.Loom(Weave(backbone=Vbpr(dim=4, content_dim=4)), split.train, {"words": words, "image": image})
    assert "vbpr" in loom.fitted(split.train, split.valid, QUICK)[0], "of two it takes the one it names"


def test_a_backbone_that_has_no_vectors_is_refused() -> None:
    from penchant.models.item_knn import ItemKnn

    with pytest.raises(BadSetting, match=r"weave backbone = item_knn.*lightgcn"):
        Weave(backbone=ItemKnn()).fit(small().train, small().valid)
