"""A real model by its name: the recipe that needs nothing else, run with a tiny one of the same family; pictures held as what it made of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serving
import tiny_models as tiny
import torch
from toy_lm import world as toy_world

from penchant import folder, lm, recipe, run, runs
from penchant.album import Album
from penchant.catalog import Pictures, open_picture
from penchant.data import Ids
from penchant.errors import BadSetting, LmError, MissingFile
from penchant.judge import Judge
from penchant.lm.tuned import Lora, Tuned
from penchant.models.mllm_srec import MllmSrec
from penchant.reasons import explain
from penchant.split import leave_last_out
from penchant.store import Store
from penchant.training import Curve, Training

NAME = "Qwen/Qwen2.5-VL-7B-Instruct"
RECIPE = Path(__file__).parents[1] / "recipes/qwen-mllm-srec.toml"


SMALL = ["training.epochs=1", "model.pairs=16", "training.among=4", "protocol.ranking.candidates=5"]


def written(place: Path, asked: str) -> recipe.Recipe:
    """The recipe, small, over a tiny model of the family; asked: who writes the notes."""
    text = RECIPE.read_text("utf-8")
    assert text.count("Qwen/") == text.count(NAME) == 5  # in a comment, as the base, and thrice as who is asked
    tiny.qwen(place / "model", "2.5", context=1500)
    folder.write(toy_world(users=6), place / "data")
    text = text.replace(f"local:{NAME}", asked).replace(NAME, str(place / "model"))
    (place / "mine.toml").write_text(text.replace("movielens-small-core5", str(place / "data")))
    return recipe.read(place / "mine.toml", SMALL)


@pytest.mark.long
def test_the_recipe_of_a_real_model_needs_its_name_alone(tmp_path: Path) -> None:
    """Weights drawn at random write no answer that can be read, but they are found, shown pictures, and asked."""
    with pytest.raises(LmError, match=r"item_summary: none of \d+ questions was answered; truncated"):
        run.run(written(tmp_path, f"local:{tmp_path / 'model'}"), tmp_path / "out", Store(tmp_path / "store"))


@pytest.mark.long
def test_and_with_its_notes_it_is_tuned_kept_and_says_why(tmp_path: Path) -> None:
    made = run.run(written(tmp_path, "extractive"), tmp_path / "run", Store(tmp_path / "store"))
    assert 0 <= made.report.metrics["auc"].mean <= 1
    opened = runs.read(tmp_path / "run")
    rec = opened.recommender
    assert isinstance(rec.scorer, Judge)
    assert rec.scorer.looks is not None
    assert rec.scorer.base.lora is not None
    why = explain(rec, rec.users.keys[0], rec.items.keys[-1], opened.catalog)
    assert why.heard is not None
    served(tmp_path)


def served(place: Path) -> None:
    """Over HTTP as long as the language model is there; after that popular items, named so, and /ready says why."""
    asked = {"user": "u0", "k": 2}
    with serving.serving(place, place, warm=False) as server:
        found = server.ask("POST", "/recommend", {**asked, "why": True}).json
        assert found["personal"], found
        assert found["items"][0]["why"]["heard"]["notes"]
    (place / "model").rename(place / "moved")
    with serving.serving(place, place, key=server.key, warm=False, fallback=True) as server:
        ready = server.ask("GET", "/ready").json
        assert ready["status"] == "fallback"
        assert str(place / "model") in ready["problems"][0]
        found = server.ask("POST", "/recommend", asked).json
        assert (found["personal"], found["fallback"]) == (False, "popular")
        assert "can't be used" in found["note"]
        assert len(found["items"]) == 2


@pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing@there"])
def test_a_name_that_is_nowhere_is_answered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingFile, match=r"no language model 'nobody/nothing.*Hugging Face Hub did not give it"):
        lm.open(f"local:{name}")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seeing") / "qwen"
    tiny.qwen(path, "2.5")
    return path


def pictures(count: int) -> Pictures:
    """Of every third item there is none, and one cannot be opened."""
    raw = (*(tiny.picture(colour) for colour in ("red", "green", "blue")), b"no picture")
    where = np.array([n % 3 if n % 3 else -1 for n in range(count)])
    where[1] = 3
    return Pictures(Ids("item", tuple(f"i{n}" for n in range(count))), where, raw)


def test_under_adapters_each_picture_is_looked_at_once_and_never_again(seeing: Path) -> None:
    tuned = Tuned(seeing, "You decide.", Lora(dropout=0.0))
    given = pictures(7)
    looked: list[int] = []

    def count(module: torch.nn.Module, args: Any, given: Any) -> None:
        looked.append(len(given["grid_thw"]))

    tuned.model.get_submodule("model.visual").register_forward_pre_hook(count, with_kwargs=True)
    held = Album.of(given, tuned, frozen=True)
    assert held is not None
    assert held.pixels is None
    assert held.seen.tolist() == [False, False, True, False, True, True, False]
    assert sum(looked) == 3
    picture, shown, ready = held.shown(np.array([0, 4, 2, 4]))
    assert ready
    assert picture.tolist() == [-1, 1, 0, 1]
    assert len(shown) == 2
    assert held.whole(tuned) is held.looks
    assert sum(looked) == 3
    fresh = Album.of(given, tuned, frozen=False)
    assert fresh is not None
    assert np.abs(fresh.whole(tuned).astype(float) - held.whole(tuned)).max() < 1e-3
    _, pixels, ready = fresh.shown(np.array([0, 4, 2, 4]))
    assert not ready
    assert torch.allclose(tuned.looks(pixels), shown.float(), atol=2e-3)


def test_as_many_pictures_as_the_recipe_has_can_be_held(seeing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,640 posters are 4.4 GB as pixels and 1.7 GB as 64 vectors of 3,584 numbers each: what is held counts, not what was seen."""
    tuned = Tuned(seeing, "You decide.", Lora())
    given = pictures(6)
    one = tuned.looks(tuned.pixels([tiny_image()]))[0].numel() * 2
    monkeypatch.setattr("penchant.album.MOST", one * 6)
    assert Album.of(given, tuned, frozen=True) is not None
    monkeypatch.setattr("penchant.album.MOST", one * 6 - 1)
    with pytest.raises(BadSetting, match=r"6 pictures would take .* GB.*--set model\.pictures=false"):
        Album.of(given, tuned, frozen=True)


def tiny_image() -> Any:
    return open_picture(tiny.picture("red"), "red", 64)


def test_a_long_epoch_says_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_world(users=12)
    split = leave_last_out(data.interactions)
    told: list[Curve] = []
    monkeypatch.setattr("penchant.train.EVERY", 0.0)
    training = Training(epochs=2, batch_size=8, validate_every=1, select="auc", among=4)
    model = MllmSrec(dim=32, layers=1, words=400, pairs=40, item_tokens=8)
    model.fit(split.train, split.valid, training, progress=told.append, summary=data.catalog.texts())
    within = [curve for curve in told if curve.under_way]
    assert [curve.last for curve in within] == [0] * 4 + [1] * 4  # after each step but the last, which ends an epoch
    assert within[1].note.startswith("epoch 1, step 2 of 5, ")
    assert all(re.search(r"[1-9][\d,]* tokens/s, \d:\d\d:\d\d left of it", curve.note) for curve in within)
    assert "best auc" in within[-1].note
    assert [curve.last for curve in told if not curve.under_way] == [1, 2]
