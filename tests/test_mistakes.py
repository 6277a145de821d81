"""What somebody new gets wrong, in Python and on the command line: one clear message that says what is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers_of import Ask, asking, surrounded
from worlds import World, worded

from penchant import encode, models
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids
from penchant.errors import BadInput, BadTable, UnknownId
from penchant.features import Features
from penchant.model import Recommender
from penchant.reasons import explain
from penchant.store import Store
from penchant.texts import Provenance


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    surrounded(monkeypatch, tmp_path / "store", tmp_path)
    return asking(capsys, monkeypatch)


@pytest.fixture(scope="module")
def rec(world: World) -> Recommender:
    return models.Ease(l2=5.0).fit(world.train, look=world.features())


# --- in Python --------------------------------------------------------------------------------------------------------


def come(*keys: str) -> tuple[Catalog, Features]:
    """New items and their features."""
    ids = Ids("item", keys)
    return Catalog(ids, {}, Pictures.none(ids)), Features(
        ids, np.ones((len(keys), 6)), np.ones(len(keys), bool), Provenance("x")
    )


@pytest.mark.parametrize("catalog", [{"title": ["a"]}, ["new-1"], None])
def test_new_items_that_are_no_catalogue(rec: Recommender, catalog: Any) -> None:
    _, look = come("new-1")
    with pytest.raises(BadInput, match=rf"as a Catalog, and this is a {type(catalog).__name__}\. Make one:  ids = Ids"):
        rec.add_items(catalog, {"look": look})


@pytest.mark.parametrize("wrong", [["look"], None, "alone"])
def test_features_of_new_items_without_names(rec: Recommender, wrong: Any) -> None:
    catalog, look = come("new-1")
    said = "Features without a name" if wrong == "alone" else f"a {type(wrong).__name__}"
    with pytest.raises(BadInput, match=rf'this is {said}\. Write:  \{{"look": features\}}'):
        rec.add_items(catalog, look if wrong == "alone" else wrong)


@pytest.mark.parametrize("key", ["", " "])
def test_a_new_item_without_an_id(rec: Recommender, key: str) -> None:
    catalog, look = come("new-1", key)
    with pytest.raises(BadTable, match=r"an id of the new items is empty\. Give each"):
        rec.add_items(catalog, {"look": look})
    good, look = come("new-1")
    assert "new-1" in rec.add_items(good, {"look": look}).items.keys


def test_one_id_where_a_list_is_meant(rec: Recommender) -> None:
    with pytest.raises(BadInput, match=r"'user-003' is one user id, and a list of ids.*Write:  \['user-003'\]"):
        rec.recommend("user-003")
    for one in ("item-003", "a"):
        with pytest.raises(BadInput, match=rf"'{one}' is one item id, and a list of ids.*Write:  \['{one}'\]"):
            rec.similar(one)
    with pytest.raises(BadInput, match=r"'item-003' is one item id, and a list of ids"):
        rec.recommend(["new"], histories=["item-003"])
    for users in (["new"], "new"):
        with pytest.raises(BadInput, match=r"is one user id|Write:  .*'item-003'"):
            rec.recommend(users, histories="item-003")


def test_an_unknown_item_is_answered_with_near_ones_and_where_all_are(rec: Recommender) -> None:
    then = r"here\. Did you mean `item-0\d\d`\? There are 41 items, e\.g\. item-000, .*; all are in  rec\.items\.keys$"
    for asked in (
        lambda: rec.similar(["item-03"]),
        lambda: rec.recommend(["new"], histories=[["item-001", "item-03"]]),
        lambda: explain(rec, "user-003", "item-03", worded_of(rec)),
    ):
        with pytest.raises(UnknownId, match=rf"no item 'item-03' {then}"):
            asked()


def worded_of(rec: Recommender) -> Catalog:
    return Catalog(rec.items, {}, Pictures.none(rec.items))


def test_what_is_no_texts_or_pictures_is_not_encoded(world: World, tmp_path: Path) -> None:
    store, catalog = Store(tmp_path), worded(world)
    with pytest.raises(BadInput, match=r"penchant\.texts\.Texts, and this is a list\. Make one:  Texts\(Ids\("):
        encode.texts(["a"], "minilm", store)  # type: ignore[arg-type]
    with pytest.raises(
        BadInput, match=r"penchant\.catalog\.Pictures, and this is a Catalog\. Make one:  pictures = cat"
    ):
        encode.pictures(catalog, "layout", store)  # type: ignore[arg-type]
    for place in ("here", Path("here")):
        with pytest.raises(BadInput, match=r'the store is a \w+\. Open one:  store = penchant\.Store\("here"\)'):
            encode.texts(catalog.texts(), "minilm", place)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"the store is a NoneType\. Open one:  store = penchant\.Store\(\)"):
        encode.pictures(catalog.pictures, "layout", None)  # type: ignore[arg-type]


def test_pictures_in_place_of_vectors(world: World) -> None:
    for value, then in (
        (worded(world).pictures, r"is pictures, .*  look = penchant\.encode\.pictures\(pictures, "),
        (worded(world), r"is a catalogue, .*texts = catalog\.texts\(\);  look = penchant\.encode\.texts\("),
    ):
        with pytest.raises(BadInput, match=then):
            models.Ease().fit(world.train, look=value)  # type: ignore[arg-type]
