"""People and inputs that a model must not mistake for others: untrained users, joined vectors, a second process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import World

from penchant import features, runs
from penchant.data import Queries
from penchant.errors import BadSetting, Leak
from penchant.features import Features
from penchant.models import Bpr, LightGcn
from penchant.texts import Provenance
from penchant.training import Training


@pytest.mark.parametrize("model", [Bpr(dim=8), LightGcn(dim=8, layers=2)], ids=["bpr", "lightgcn"])
def test_a_user_without_training_is_judged_by_what_is_known_of_her(model: Bpr | LightGcn, world: World) -> None:
    train = world.split.train
    lonely = int(train.user[0])
    rest = train.take(train.user != lonely)
    rec = model.fit(rest, None, Training(epochs=20, batch_size=64, learning_rate=0.02))
    history = train.item[train.user == lonely].astype(np.int64)
    as_herself = rec.score(Queries.of([lonely], [history]))
    as_a_stranger = rec.score(Queries.of([-1], [history]))
    assert np.array_equal(as_herself, as_a_stranger)
    top = np.argsort(-as_herself[0])[:5]
    assert (world.item_group[top] == world.user_group[lonely]).mean() > 0.7


def test_a_history_that_is_given_stands_for_the_person(world: World) -> None:
    rec = Bpr(dim=8).fit(world.split.train, None, Training(epochs=20, batch_size=64, learning_rate=0.02))
    mine, hers = (int(np.flatnonzero(world.user_group == g)[1]) for g in (0, 1))
    keys = world.split.users.keys
    history = [world.split.items.keys[i] for i in world.split.train.item[world.split.train.user == hers]]
    known, stranger = (rec.recommend([who], 5, [history])[0].items for who in (keys[mine], "nobody"))
    assert known == stranger


def test_joined_vectors_keep_where_they_came_from(world: World) -> None:
    ids = world.split.items
    one = Features(ids, np.ones((len(ids), 2)), np.ones(len(ids), bool), Provenance("a", interactions="1" * 64))
    two = replace(one, source=Provenance("external:b"))
    joined = features.join([one, two])
    assert joined.source.interactions == "1" * 64
    assert joined.source.external
    with pytest.raises(Leak):
        features.join([one, replace(one, source=Provenance("c", interactions="2" * 64))])


def test_a_run_folder_has_one_worker(tmp_path: Path) -> None:
    held = runs.lock(tmp_path)
    with pytest.raises(BadSetting, match="another process"):
        runs.lock(tmp_path)
    held.close()
    runs.lock(tmp_path).close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here, so asking for one is no mistake")
def test_a_missing_device_is_said_before_training(world: World) -> None:
    with pytest.raises(BadSetting, match="no CUDA device"):
        Bpr(dim=4).fit(world.split.train, None, Training(epochs=1, device="cuda"))
