"""The canonical folder: what is written comes back, and what is dropped on the way is counted."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from penchant import folder
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.errors import BadInput, BadTable, Misaligned, MissingFile
from penchant.features import Features
from penchant.folder import Contents
from penchant.tables import check_interactions
from penchant.texts import Provenance


def picture(colour: str) -> bytes:
    raw = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(raw, "PNG")
    return raw.getvalue()


def choices(**columns: list) -> pl.DataFrame:
    return check_interactions(pl.DataFrame(columns), "interactions.parquet")


def saved(tmp_path: Path, name: str = "data", **columns: object) -> Path:
    """A canonical folder with these interactions columns; `items`, `tables` and so on are Contents' own."""
    own = {key: columns.pop(key) for key in list(columns) if key in Contents.__dataclass_fields__ and key != "name"}
    folder.save(Contents(name, "test", choices(**columns), **own), tmp_path / name)
    return tmp_path / name


@pytest.fixture
def dataset() -> Dataset:
    """Three users, four items of which one was never chosen, everything a data set can have, gaps included."""
    users, items = Ids("user", ("u2", "u1", "ü\n3")), Ids("item", ("b", 'a"q', "c,d", "new"))
    interactions = Interactions(
        users,
        items,
        np.array([0, 1, 1, 2, 2]),
        np.array([1, 0, 2, 0, 1]),
        time=np.array([10, 20, 30, 40, 50]),
        value=np.array([5, 4, 3, 2, 1], np.float32),
        review=("fine", None, "two\nlines", None, "ok"),
    )
    catalog = Catalog(
        items,
        {"title": ("Bee", "A", None, "New"), "brand": (None, None, None, "Acme")},
        Pictures(items, np.array([-1, 0, -1, 1]), (picture("red"), picture("blue"))),
        {"price": pl.Series([1.5, None, 3.0, 4.0]), "sale": pl.Series([True, False, None, True])},
    )
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    looks = Features(items, values, np.array([True, True, False, True]), Provenance("external"))
    moods = Features(users, values[:3] + 1, np.ones(3, bool), Provenance("external"))
    return Dataset(
        "little",
        interactions,
        catalog,
        given=np.array([0, 0, 1, 0, 2], np.int8),
        user_fields={"llm_profile": ("likes bees", None, "x")},
        features={"looks": looks, "user_moods": moods},
    )


def test_a_written_data_set_comes_back_whole(dataset: Dataset, tmp_path: Path) -> None:
    folder.write(dataset, tmp_path / "data")
    back = folder.read(tmp_path / "data")
    assert back.hash == dataset.hash
    assert back.interactions.review == dataset.interactions.review
    assert back.catalog.hash == dataset.catalog.hash
    assert back.catalog.numbers["price"].to_list() == [1.5, None, 3.0, 4.0]
    assert back.catalog.numbers["sale"].dtype == pl.Boolean
    assert [back.catalog.pictures.read(i) for i in range(4)] == [None, picture("red"), None, picture("blue")]
    assert back.user_fields == dataset.user_fields
    assert list(back.features) == ["looks", "user_moods"]
    for name in back.features:
        assert back.features[name].hash == dataset.features[name].hash
    assert back.features["user_moods"].ids == dataset.users
    assert "nothing" not in back.features


def test_the_hash_survives_rewriting_and_changes_with_the_content(dataset: Dataset, tmp_path: Path) -> None:
    first = folder.write(dataset, tmp_path / "1")
    again = folder.write(folder.read(tmp_path / "1"), tmp_path / "2")
    assert again["hash"] == first["hash"]
    catalog = dataset.catalog
    for n, changed in enumerate(
        (
            replace(dataset, given=np.array([0, 0, 1, 2, 2], np.int8)),
            replace(dataset, catalog=replace(catalog, fields={**catalog.fields, "title": ("Bee", "A", None, "Old")})),
            replace(dataset, catalog=replace(catalog, pictures=Pictures.none(dataset.items))),
            replace(dataset, catalog=replace(catalog, numbers={"price": pl.Series([1.5, None, 3.0, 4.5])})),
            replace(dataset, user_fields={"llm_profile": ("likes bees", "y", "x")}),
            replace(dataset, features={}),
            replace(dataset, interactions=replace(dataset.interactions, review=None)),
        )
    ):
        assert folder.write(changed, tmp_path / f"changed{n}")["hash"] != first["hash"]


def test_the_card_counts_and_says_where_it_came_from(dataset: Dataset, tmp_path: Path) -> None:
    odd = replace(dataset, card={"source": 'a "quoted" \\ source', "terms": "line 1\nline 2 \x7f ü 🙂"})
    folder.write(odd, tmp_path / "data")
    card = tomllib.loads((tmp_path / "data" / "card.toml").read_text("utf-8"))
    assert card["source"] == odd.card["source"]
    assert card["terms"] == odd.card["terms"]
    assert card["counts"] == {
        "users": 3,
        "items": 4,
        "interactions": 5,
        "train": 3,
        "valid": 1,
        "test": 1,
        "texts": 3,
        "pictures": 2,
    }
    assert card["features"] == {"looks": "item", "user_moods": "user"}
    assert folder.read(tmp_path / "data").card == card


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(str.strip),
        min_size=2,
        max_size=8,
        unique=True,
    )
)
def test_any_id_survives(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    place = tmp_path_factory.mktemp("ids") / "data"
    users, items = Ids("user", tuple(reversed(keys))), Ids("item", tuple(keys))
    rows = np.arange(len(keys))
    values = Features(items, rows[:, None].astype(np.float32), np.ones(len(keys), bool), Provenance("external"))
    pictures = Pictures(items, rows, tuple(picture("red") + bytes([i]) for i in rows))
    written = Dataset("x", Interactions(users, items, rows, rows), Catalog(items, {}, pictures), features={"f": values})
    folder.write(written, place)
    back = folder.read(place)
    assert back.hash == written.hash
    assert back.features["f"].hash == values.hash
    assert [back.catalog.pictures.read(i)[-1] for i in rows] == list(rows)


def test_items_are_those_of_the_catalogue_then_those_only_chosen(tmp_path: Path) -> None:
    place = saved(
        tmp_path,
        user_id=["b", "a", "b"],
        item_id=["x", "2", "y"],
        items=pl.DataFrame({"item_id": ["1", "2", "3"], "title": ["One", "Two", None]}),
        users=pl.DataFrame({"user_id": ["a", "z", "b"], "mood": ["calm", "gone", None]}),
    )
    data = folder.read(place)
    assert data.items.keys == ("1", "2", "3", "x", "y")
    assert data.users.keys == ("a", "b")  # in the order of users.parquet, those without a choice left out
    assert data.user_fields == {"mood": ("calm", None)}
    assert data.catalog.fields["title"] == ("One", "Two", None, None, None)
    assert data.notes["items without a catalogue row"] == 2
    assert data.notes["interactions whose item has no catalogue row"] == 2
    assert data.notes["items without any interaction"] == 2
    assert data.notes["items without text"] == 3
    assert data.notes["users without any interaction left out"] == 1
    with pytest.raises(BadTable, match=r"2 items .* no row in the table of items, e.g. x, y"):
        folder.read(place, strict=True)


def test_a_named_table_brings_its_own_vocabulary(tmp_path: Path) -> None:
    place = saved(
        tmp_path,
        user_id=["a", "b", "c"],
        item_id=["1", "2", "3"],
        items=pl.DataFrame({"item_id": ["3", "2", "1", "0"]}),
        tables={"interactions_core2": choices(user_id=["c", "a"], item_id=["1", "3"], split=[0, 2])},
        features={"f": Features(Ids("item", ("0", "1", "3")), np.eye(3), np.ones(3, bool), Provenance("external"))},
    )
    assert folder.read(place).items.keys == ("3", "2", "1", "0")
    core = folder.read(place, "interactions_core2")
    assert core.name == "data/interactions_core2"
    assert core.users.keys == ("c", "a")
    assert core.items.keys == ("3", "1")
    assert core.given.tolist() == [0, 2]
    assert core.features["f"].values.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert core.notes["users without training history"] == 1
    with pytest.raises(
        MissingFile, match=r"no interactions table `interactions_core3`. Did you mean `interactions_core2`"
    ):
        folder.read(place, "interactions_core3")
    with pytest.raises(MissingFile, match="no interactions table"):
        folder.read(place, "../data/interactions")


def test_min_rating_drops_and_counts(tmp_path: Path) -> None:
    place = saved(tmp_path, user_id=["a", "a", "b", "c"], item_id=["1", "2", "1", "3"], rating=[3.5, 4.0, 5.0, 1.0])
    data = folder.read(place, min_rating=4)
    assert data.interactions.value.tolist() == [4.0, 5.0]
    assert data.users.keys == ("a", "b")
    assert data.notes["rows below min_rating dropped"] == 2
    with pytest.raises(BadTable, match=r"leaves nothing: the highest is 5\.0"):
        folder.read(place, min_rating=6)
    with pytest.raises(BadTable, match="no column `rating`"):
        folder.read(saved(tmp_path, "bare", user_id=["a"], item_id=["1"]), min_rating=4)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 2), st.integers(0, 3)),
        min_size=1,
        max_size=14,
    ),
    st.sampled_from(["timestamp", "position"]),
)
def test_a_repeated_pair_is_kept_once(tmp_path_factory: pytest.TempPathFactory, rows: list, order: str) -> None:
    columns = {"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows], "split": [r[2] for r in rows]}
    place = saved(tmp_path_factory.mktemp("pairs"), **columns, **{order: [r[3] for r in rows]})
    # The twin: for each pair the least (part, time, place), in the order the rows came in.
    best: dict[tuple[str, str], tuple[int, int, int]] = {}
    for at, (user, item, part, time_) in enumerate(rows):
        best[user, item] = min(best.get((user, item), (9, 9, 99)), (part, time_, at))
    kept = [rows[at] for _, _, at in sorted(best.values(), key=lambda entry: entry[2])]
    data = folder.read(place)
    found = data.interactions
    times = found.time if order == "timestamp" else found.position
    assert [
        (found.users.keys[u], found.items.keys[i], p, t)
        for u, i, p, t in zip(found.user, found.item, data.given, times, strict=True)
    ] == kept
    assert data.notes.get("duplicate interactions dropped", 0) == len(rows) - len(kept)


def test_another_split_column_can_be_chosen(tmp_path: Path) -> None:
    place = saved(tmp_path, user_id=["a", "a"], item_id=["1", "2"], split=[0, 1], split_other=[2, 0])
    assert folder.read(place).given.tolist() == [0, 1]
    assert folder.read(place).notes["unknown column of interactions, not used (split_other)"] == 1
    other = folder.read(place, split="split_other")
    assert other.given.tolist() == [2, 0]
    assert not [name for name in other.notes if name.startswith("unknown")]
    with pytest.raises(BadTable, match=r"no column `split_othr`\. Did you mean `split_other`"):
        folder.read(place, split="split_othr")


def test_columns_of_items_keep_their_kind(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "item_id": ["1", "2"],
            "categories": [["Books", "Crime"], None],
            "description": ["  ", "text"],
            "year": [1999, None],
            "score": [float("nan"), 1.0],
        }
    )
    place = saved(tmp_path, user_id=["a"], item_id=["1"])
    items.write_parquet(place / "items.parquet")
    catalog = folder.read(place).catalog
    assert catalog.fields == {"categories": ("Books, Crime", None), "description": (None, "text")}
    assert catalog.numbers["year"].to_list() == [1999, None]
    assert catalog.numbers["year"].dtype == pl.Int64
    assert catalog.numbers["score"].to_list() == [None, 1.0]


def test_a_folder_of_pictures_is_read_by_quoted_names(tmp_path: Path) -> None:
    keys = ["../up", "a b", "ü/1", "plain", "two.dots"]
    place = saved(tmp_path, user_id=["u"] * 5, item_id=keys)
    (place / "images").mkdir()
    for n, key in enumerate(keys):
        (place / "images" / (quote(key, safe="") + ".png")).write_bytes(picture("red") + bytes([n]))
    (place / "images" / "stranger.jpg").write_bytes(b"x")
    (place / "images" / "notes.txt").write_text("no picture")
    (place / "images" / "link.png").symlink_to(place / "card.toml")
    data = folder.read(place)
    assert [data.catalog.pictures.read(i)[-1] for i in range(5)] == [0, 1, 2, 3, 4]
    assert data.notes["pictures of items not in this data left out"] == 1
    assert data.notes["files in images/ that are no pictures left out"] == 1
    assert data.notes["links in images/ not followed"] == 1
    folder.write(data, tmp_path / "again")
    assert folder.read(tmp_path / "again").catalog.pictures.read(2) == data.catalog.pictures.read(2)


def test_features_of_the_wrong_length_are_refused_on_opening(dataset: Dataset, tmp_path: Path) -> None:
    folder.write(dataset, tmp_path / "data")
    np.save(tmp_path / "data" / "features" / "looks.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(Misaligned, match=r"looks.npy has 2 rows, but looks.ids.txt names 3"):
        folder.read(tmp_path / "data")


def test_large_features_are_not_copied(tmp_path: Path) -> None:
    keys = tuple(map(str, range(1000)))
    items = Ids("item", keys)
    wide = Features(items, np.ones((1000, 64), np.float32), np.ones(1000, bool), Provenance("external"))
    rows = np.arange(1000)
    data = Dataset(
        "x", Interactions(items_as_users(items), items, rows, rows), Catalog(items, {}, Pictures.none(items))
    )
    folder.write(replace(data, features={"wide": wide}), tmp_path / "data")
    values = folder.read(tmp_path / "data").features["wide"].values
    base = values
    while not isinstance(base, np.memmap) and isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)


def items_as_users(items: Ids) -> Ids:
    return Ids("user", items.keys)


def test_nothing_is_overwritten(dataset: Dataset, tmp_path: Path) -> None:
    folder.write(dataset, tmp_path / "data")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "data").rglob("*")}
    with pytest.raises(BadInput, match="never overwritten"):
        folder.write(dataset, tmp_path / "data")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="never overwritten"):
        folder.write(dataset, tmp_path / "file")
    assert before == {f: f.stat().st_mtime_ns for f in (tmp_path / "data").rglob("*")}
    (tmp_path / "empty").mkdir()
    folder.write(dataset, tmp_path / "empty")
    assert folder.is_canonical(tmp_path / "empty")


@pytest.mark.parametrize("how", ["picture gone", "name of features", "place of a file"])
def test_what_cannot_be_written_leaves_nothing_behind(dataset: Dataset, tmp_path: Path, how: str) -> None:
    out = tmp_path / "data"
    if how == "picture gone":
        gone = Pictures(dataset.items, np.zeros(4, int), (tmp_path / "gone.png",))
        dataset = replace(dataset, catalog=replace(dataset.catalog, pictures=gone))
    elif how == "name of features":
        dataset = replace(dataset, features={"../../escape": dataset.features["looks"]})
    else:
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "data"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput):
        folder.write(dataset, out)
    assert sorted(tmp_path.iterdir()) == before


def test_a_killed_write_leaves_no_folder_and_no_obstacle(tmp_path: Path) -> None:
    code = """
import sys, numpy as np
from penchant import folder
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
n = 300_000
users, items = Ids("user", tuple(map(str, range(n)))), Ids("item", tuple(map(str, range(n))))
rows = np.arange(n)
print("ready", flush=True)
folder.write(Dataset("x", Interactions(users, items, rows, rows), Catalog(items, {}, Pictures.none(items))), sys.argv[1])
"""
    out = tmp_path / "data"
    child = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    while child.poll() is None and not any(tmp_path.iterdir()):
        time.sleep(0.001)
    child.kill()
    child.wait()
    assert folder.is_canonical(out) or not out.exists()
    if not out.exists():
        place = saved(tmp_path, user_id=["a"], item_id=["1"])
        assert folder.read(place).users.keys == ("a",)


def test_a_folder_without_a_card_or_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    place = saved(tmp_path, user_id=["a"], item_id=["1"])
    card = (place / "card.toml").read_text()
    (place / "card.toml").write_text(card.replace("format = 1", "format = 99"))
    with pytest.raises(BadInput, match="written in format 99"):
        folder.read(place)
    (place / "card.toml").write_text("format = [")
    with pytest.raises(BadInput, match="damaged"):
        folder.read(place)
    (place / "card.toml").unlink()
    assert not folder.is_canonical(place)
    with pytest.raises(BadInput, match="penchant data import"):
        folder.read(place)
    with pytest.raises(MissingFile, match="Did you mean `data`"):
        folder.read(tmp_path / "dat")


def test_many_interactions_are_read_in_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 300_000
    table = pl.DataFrame(
        {
            "user_id": pl.Series(rng.integers(0, 50_000, n)).cast(pl.String),
            "item_id": pl.Series(rng.integers(0, 20_000, n)).cast(pl.String),
            "timestamp": rng.integers(10**9, 2 * 10**9, n),
        }
    )
    folder.save(Contents("big", "test", check_interactions(table, "big")), tmp_path / "big")
    started = time.process_time()
    data = folder.read(tmp_path / "big")
    assert time.process_time() - started < 3
    pairs = table.unique(["user_id", "item_id"]).height
    assert len(data.interactions) == pairs
    assert data.notes["duplicate interactions dropped"] == n - pairs
