"""From a recipe to a reason in words: names of motivations and quoted reviews in a run folder, and `penchant why`."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import tomli_w
from answers_of import Ask, asking, surrounded

from penchant import drives_file, folder, runs, shop
from penchant.drives import Drives
from penchant.errors import BadModel
from penchant.scorers import Motivated

RECIPE = {
    "data": "data",
    "split": {"by": "by_ratio", "chronological": True},
    "inputs": {
        name: {"from": name, "lm": "extractive", "encoder": "minilm"} for name in ("user_motives", "item_motives")
    },
    "model": {
        "name": "lmmrec",
        "prototypes": 6,
        "temperature_prototypes": 0.1,
        "weight_mcs": 0.2,
        "backbone": {"name": "lightgcn", "dim": 8, "layers": 2},
    },
    "training": {"epochs": 6, "batch_size": 128, "learning_rate": 0.02, "validate_every": 3},
    "protocol": {"at": [5], "mask": ["train"], "history": ["train"]},
}

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sayings")
    folder.write(shop.make(products=60, shoppers=80, pictures=False).dataset, made / "data")
    (made / "lmmrec.toml").write_text(tomli_w.dumps(RECIPE), "utf-8")
    return made


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> Ask:
    surrounded(monkeypatch, place / "store", place)
    call = asking(capsys, monkeypatch)
    if not (place / "run").exists():
        answer = call("run", "lmmrec.toml", "--out", "run")
        assert answer.code == 0, answer.err
    return call


def test_a_run_keeps_names_of_motivations_and_the_reviews_of_its_train_part(ask: Ask, place: Path) -> None:
    opened = runs.read(place / "run")
    assert isinstance(opened.recommender.scorer, Motivated)
    assert opened.drives is not None
    assert len(opened.drives.phrases) == 6
    assert any(opened.drives.phrases)
    data = folder.read(place / "data")
    log = data.interactions
    assert log.review is not None
    said = {
        (data.users.keys[u], data.items.keys[i]): text
        for u, i, text in zip(log.user.tolist(), log.item.tolist(), log.review, strict=True)
    }
    known = opened.recommender.known
    train = {
        (opened.recommender.users.keys[u], opened.recommender.items.keys[i])
        for u in range(len(opened.recommender.users))
        for i in known.history_items[known.history_starts[u] : known.history_starts[u + 1]]
    }
    assert opened.drives.reviews
    assert set(opened.drives.reviews) <= train, "what was held out is not quoted"
    assert all(said[pair] == text for pair, text in opened.drives.reviews.items())


def test_why_says_what_moves_her_and_quotes_her(ask: Ask, place: Path) -> None:
    opened = runs.read(place / "run")
    quoted = named = 0
    for user in opened.recommender.users.keys[:25]:
        listed = ask("recommend", "run", "--user", user, "-k", "3", "--why", "--json").json
        for item in [row["item_id"] for row in listed["recommendations"][0]["items"]][:1]:
            found = ask("why", "run", "--user", user, "--item", item, "--json").json
            for moved in found["motives"]:
                assert moved["lift"] > 1
                assert tuple(moved["phrases"]) in set(opened.drives.phrases)  # type: ignore[union-attr]
                assert moved["phrases"][0] in found["sentence"] or moved is not found["motives"][0]
                named += 1
            for part in found["evidence"]:
                if part["span"]:
                    assert part["span"].removesuffix(" …") in opened.drives.reviews[user, part["item_id"]]  # type: ignore[union-attr]
                    quoted += 1
            shown = ask("why", "run", "--user", user, "--item", item)
            assert shown.code == 0
            if found["motives"]:
                assert found["motives"][0]["phrases"][0] in " ".join(shown.out.split())
    assert named > 5
    assert quoted > 2


def test_the_final_model_has_words_too(ask: Ask, place: Path) -> None:
    answer = ask("run", "lmmrec.toml", "--out", "run", "--final")
    assert answer.code == 0, answer.err
    opened = runs.read(place / "run-final")
    assert opened.drives is not None
    base = runs.read(place / "run")
    assert len(opened.drives.reviews) > len(base.drives.reviews), "everything is train now"  # type: ignore[union-attr]


def test_other_models_leave_no_words_and_damage_is_named(tmp_path: Path) -> None:
    drives = Drives((("a word",), ()), {("u", "i"): "text </script>"})
    drives_file.write(drives, tmp_path)
    assert drives_file.read(tmp_path, "") == drives
    (tmp_path / "motives.json").write_text("{", "utf-8")
    with pytest.raises(BadModel, match=r"damaged.*penchant run it"):
        drives_file.read(tmp_path, "penchant run it")
    drives_file.write(drives, tmp_path)
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "reviews.parquet")
    with pytest.raises(BadModel, match="damaged"):
        drives_file.read(tmp_path, "")
    drives_file.write(None, tmp_path)
    assert drives_file.read(tmp_path, "") is None
    assert not list(tmp_path.iterdir())
    assert json.loads(drives.to_json()) == {"phrases": [["a word"], []]}
