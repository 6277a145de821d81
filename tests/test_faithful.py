"""Deleting evidence from the history against other deletions, on models whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import checkerboard

from penchant.errors import BadSetting
from penchant.faithful import faithfulness
from penchant.models.ease import Ease
from penchant.models.item_knn import ItemKnn
from penchant.models.lightgcn import LightGcn
from penchant.models.popular import Popular
from penchant.scorers import ItemToItem
from penchant.training import Training


def test_a_score_that_is_a_sum_falls_by_what_was_named() -> None:
    """Of a linear model the drop is the sum of the two largest parts, and no deletion takes more."""
    rec = ItemKnn(shrink=1.0).fit(checkerboard().train)
    assert isinstance(rec.scorer, ItemToItem)
    found = faithfulness(rec, [3], size=2, draws=5)
    history = np.unique(rec.known.history_items[rec.known.history_starts[3] : rec.known.history_starts[4]])
    w = np.asarray(rec.scorer.weights.todense() if hasattr(rec.scorer.weights, "todense") else rec.scorer.weights)
    score = w[history].sum(axis=0)
    score[history] = -np.inf
    parts = np.sort(w[history, int(score.argmax())])[::-1]
    assert found.users == 1
    assert found.drop == pytest.approx(parts[:2].sum(), rel=1e-5)
    assert all(other.drop <= found.drop + 1e-9 for other in found.others)


@pytest.mark.parametrize("model", [Ease(l2=5.0), LightGcn(dim=16, layers=2)])
def test_evidence_carries_more_than_chance_and_popularity(model: Ease | LightGcn) -> None:
    training = Training(epochs=20, batch_size=64, learning_rate=0.03, device="cpu")
    rec = model.fit(checkerboard(seed=1).train, None, training)
    found = faithfulness(rec, range(len(rec.users)))
    by_way = {other.way: other for other in found.others}
    assert found.users >= 50
    for way in ("random", "popular"):
        assert by_way[way].ratio > 1.05
        assert by_way[way].p < 0.01
    assert found.drop >= by_way["similar"].drop - 1e-9


def test_evidence_that_says_nothing_is_found_out() -> None:
    """Where the parts are not what the score rests on, deleting them takes off no more than chance."""
    rec = ItemKnn(shrink=1.0).fit(checkerboard().train)
    assert isinstance(rec.scorer, ItemToItem)

    class Liar(ItemToItem):
        def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
            return -super().carried(user, history, item)

    lying = replace(rec, scorer=Liar(rec.scorer.weights))
    by_way = {other.way: other for other in faithfulness(lying, range(len(rec.users))).others}
    assert by_way["random"].ratio < 1


def test_nobody_to_ask_is_said() -> None:
    rec = ItemKnn().fit(checkerboard().train)
    with pytest.raises(BadSetting, match="at least 4 choices"):
        faithfulness(rec, [])
    with pytest.raises(BadSetting, match="popular recommends the same to everybody"):
        faithfulness(Popular().fit(checkerboard().train), range(10))
