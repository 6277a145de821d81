"""The model folder: whole or refused, readable without pickle, and true to every id."""

from __future__ import annotations

import json
import pickletools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import World, checkerboard

from penchant import saved
from penchant.data import Ids, Interactions
from penchant.errors import BadModel, BadSetting, MissingFile
from penchant.model import Recommender
from penchant.models.bpr import Bpr
from penchant.models.ease import Ease
from penchant.models.item_knn import ItemKnn
from penchant.models.popular import Popular
from penchant.training import Training

FILES = ("arrays.safetensors", "ids.json", "model.json")


@pytest.fixture(scope="module")
def rec() -> Recommender:
    """A sparse scorer, which has the most parts."""
    return ItemKnn(neighbours=5).fit(checkerboard().train)


@pytest.fixture
def folder(rec: Recommender, tmp_path: Path) -> Path:
    rec.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_holds_three_files_and_no_pickle(world: World, tmp_path: Path) -> None:
    """By name, and by content: nothing in it can be read as a pickle or as a zip of them."""
    training = Training(epochs=1, device="cpu")
    for model in (Popular(), Ease(), ItemKnn(), Bpr(dim=4)):
        where = tmp_path / model.name
        model.fit(world.train, training=training).save(where)
        assert sorted(f.name for f in where.iterdir()) == list(FILES)
        for file in where.iterdir():
            raw = file.read_bytes()
            assert not raw.startswith((b"\x80", b"PK", b"\x93NUMPY"))
            with pytest.raises(ValueError):  # noqa: PT011 (any fault of reading will do)
                list(pickletools.genops(raw))
            if file.suffix == ".json":
                json.loads(raw)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "one byte", "longer", "other"])
def test_a_damaged_folder_is_refused_by_name(folder: Path, name: str, kind: str) -> None:
    file = folder / name
    raw = file.read_bytes()
    at = len(raw) // 2
    changed = {
        "empty": b"",
        "cut": raw[:at],
        "one byte": raw[:at] + bytes([raw[at] ^ 0x80]) + raw[at + 1 :],
        "longer": raw + b"x",
        "other": b"[]",
    }
    if kind == "missing":
        file.unlink()
    else:
        file.write_bytes(changed[kind])
    with pytest.raises((BadModel, MissingFile), match=str(folder)) as caught:
        saved.read(folder)
    assert "penchant run" in str(caught.value) or "Run the recipe again" in str(caught.value)


@pytest.mark.parametrize("key", ["format", "model", "settings", "scorer", "parameters", "curve", "sha256"])
@pytest.mark.parametrize("change", ["gone", "null", "wrong"])
def test_a_head_that_says_something_else_is_refused(folder: Path, key: str, change: str) -> None:
    head = json.loads((folder / "model.json").read_text("utf-8"))
    if change == "gone":
        del head[key]
    else:
        head[key] = None if change == "null" else ["x"]
    (folder / "model.json").write_text(json.dumps(head), "utf-8")
    if change != "gone" and key in ("model", "settings", "parameters"):
        assert len(saved.read(folder).recommend(["user-001"], 3)[0].items) == 3, "only shown, never used"
        return
    with pytest.raises(BadModel, match=str(folder)):
        saved.read(folder)


def test_a_folder_of_a_newer_version_says_so(folder: Path) -> None:
    head = json.loads((folder / "model.json").read_text("utf-8"))
    (folder / "model.json").write_text(json.dumps(head | {"format": saved.FORMAT + 1}), "utf-8")
    with pytest.raises(BadModel, match=f"format {saved.FORMAT + 1}.*reads up to {saved.FORMAT}"):
        saved.read(folder)


def test_no_folder_is_said_to_be_none(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(MissingFile, match=r"model\.json.*penchant run"):
            saved.read(path)


# The awkward ones: control characters, quotes, separators, other scripts, a character outside the first plane, a
# combining accent beside its composed form, blanks at the ends, and what looks like a number or a path.
IDS = (
    *(
        "a\nb",
        'say "yes"',
        "it's",
        "a,b;c\td",
        "\\n",
        "日本語",
        "🙂",
        "e\u0301",
        "\u00e9",
        " a ",
        "0",
        "00",
        "1e5",
        "../up",
    ),
    *("\u202eright to left", "null", "\x00", "[]", "\ud800"),
)


def test_ids_of_any_kind_survive(tmp_path: Path) -> None:
    n = len(IDS)
    rng = np.random.default_rng(0)
    train = Interactions(Ids("user", IDS), Ids("item", IDS[::-1]), rng.integers(0, n, 60), rng.integers(0, n, 60))
    rec = ItemKnn().fit(train)
    rec.save(tmp_path / "m")
    again = saved.read(tmp_path / "m")
    assert again.users.keys == IDS
    assert again.items.keys == IDS[::-1]
    assert again.recommend(list(IDS), 5) == rec.recommend(list(IDS), 5)


@pytest.mark.parametrize("name", ["with blank", "quote'\"", "日本語", "dots.in.name", ".hidden"])
def test_folders_of_any_name(rec: Recommender, tmp_path: Path, name: str) -> None:
    rec.save(tmp_path / "deep" / name)
    rec.save(str(tmp_path / "deep" / name))
    assert saved.read(str(tmp_path / "deep" / name)).items == rec.items
    assert [f.name for f in (tmp_path / "deep").iterdir()] == [name], "nothing is left beside it"


def test_saving_again_replaces_the_model_whole(rec: Recommender, folder: Path) -> None:
    before = sorted(f.name for f in folder.iterdir())
    popular = Popular().fit(checkerboard().train)
    popular.save(folder)
    assert saved.read(folder).name == "popular"
    assert sorted(f.name for f in folder.iterdir()) == before


def test_a_folder_that_holds_something_else_is_not_replaced(rec: Recommender, tmp_path: Path) -> None:
    """Saving over the folder of one's photographs must not delete them; nor must a neighbour of a likely name go."""
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").write_bytes(b"dear")
    with pytest.raises(BadSetting, match="photographs"):
        rec.save(tmp_path / "photographs")
    assert (tmp_path / "photographs" / "one.jpg").read_bytes() == b"dear"
    for neighbour in ("model.old", "model.part"):
        (tmp_path / neighbour).mkdir()
        (tmp_path / neighbour / "mine").write_bytes(b"dear")
    rec.save(tmp_path / "model")
    rec.save(tmp_path / "model")
    for neighbour in ("model.old", "model.part"):
        assert (tmp_path / neighbour / "mine").read_bytes() == b"dear"
    (tmp_path / "empty").mkdir()
    rec.save(tmp_path / "empty")
    assert saved.read(tmp_path / "empty").items == rec.items


def test_the_working_folder_can_be_saved_to(rec: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rec.save("model")
    assert saved.read("model").users == rec.users
    rec.save("model/")
    assert saved.read("./model").users == rec.users


class Stop(Exception): ...


def test_a_kill_at_any_step_leaves_the_old_model_or_the_new_one(
    rec: Recommender, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename and every write in turn is the last thing that happens."""
    popular = Popular().fit(checkerboard().train)
    original = {name: getattr(Path, name) for name in ("rename", "write_text", "mkdir")}
    seen: set[str] = set()
    for stop_after in range(12):
        left = [stop_after]

        def counted(name: str, left: list[int] = left) -> Callable[..., object]:
            def step(self: Path, *args: object, **more: object) -> object:
                if left[0] == 0:
                    raise Stop
                left[0] -= 1
                return original[name](self, *args, **more)

            return step

        with monkeypatch.context() as patch:
            for name in original:
                patch.setattr(Path, name, counted(name))
            with suppress(Stop):
                popular.save(folder)
        name = saved.read(folder).name
        assert name in ("item_knn", "popular")
        seen.add(name)
        rec.save(folder)
        assert saved.read(folder).name == "item_knn"
    assert seen == {"item_knn", "popular"}


def test_what_is_known_of_each_user_is_kept_in_order(tmp_path: Path) -> None:
    """Histories oldest first, for models that mind the order."""
    ids = Ids("user", ("a", "b", "c")), Ids("item", tuple("wxyz"))
    train = Interactions(*ids, np.array([0, 0, 0, 2]), np.array([3, 1, 2, 0]), time=np.array([30.0, 10, 20, 5]))
    rec = replace(Popular().fit(train), settings={"nested": {"name": "x", "dim": 3}})
    rec.save(tmp_path / "m")
    again = saved.read(tmp_path / "m")
    assert [h.tolist() for h in again.known.history] == [[1, 2, 3], [], [0]]
    assert again.settings == rec.settings
