"""What content features must do, on the shop: true ones rank cold items, shuffled ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant import shop, split
from penchant.features import Features
from penchant.models import Vbpr
from penchant.ranking import evaluate
from penchant.texts import Provenance
from penchant.training import Training


@pytest.mark.long
def test_true_features_rank_cold_items_and_shuffled_ones_do_not() -> None:
    """checker-kit 6: shuffled features must lose to true ones. Features are the planted appeals with some noise."""
    world = shop.make(products=160, shoppers=600, choices=10.0, pictures=False, seed=3)
    data = world.dataset
    rng = np.random.default_rng(0)
    values = (world.appeal + rng.normal(0, 0.1, world.appeal.shape)).astype(np.float32)
    true = Features(data.items, values, np.ones(len(values), bool), Provenance("planted"))
    shuffled = replace(true, values=values[rng.permutation(len(values))])
    parted = split.cold_items(data.interactions, share=0.2, seed=0)
    training = Training(epochs=40, batch_size=512, learning_rate=5e-3)
    found = {}
    for name, features in (("true", true), ("shuffled", shuffled)):
        rec = Vbpr(dim=16, content_dim=16, content_scale=1.0, l2=1e-4).fit(parted.train, None, training, look=features)
        got = evaluate(rec, parted, history=("train",), mask=("train",), at=(5,), only_cold=True, metrics=("recall@5",))
        found[name] = got.mean["recall@5"]
    chance = 5 / len(parted.cold if parted.cold is not None else ())
    assert found["true"] > 1.5 * chance, (found, chance)
    assert found["true"] > 1.3 * found["shuffled"], found
