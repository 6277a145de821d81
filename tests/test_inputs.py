"""What a recipe's inputs are made of, where several sources make one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from toy_lm import Toy, world

from penchant import encode, enrich, folder, inputs
from penchant.data import Dataset, Ids
from penchant.enrich import Written
from penchant.errors import BadSetting, Leak, Misaligned
from penchant.features import Features
from penchant.recipe import InputSpec, parse
from penchant.store import Store
from penchant.texts import Provenance, Texts, joined

IDS = Ids("item", ("a", "b", "c", "d"))
MADE = Provenance("toy")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return world()


def test_joined_texts_stand_one_after_the_other() -> None:
    first = Texts(Ids("item", ("d", "b", "a")), (None, "red", "blue"), MADE)
    both = joined(first, Texts(IDS, ("mug", "cup", "pot", None), MADE))
    assert both.values == ("blue mug", "red cup", "pot", None)
    assert both.ids == IDS


def test_joined_texts_carry_what_either_saw() -> None:
    plain, seen = Texts(IDS, ("x",) * 4, MADE), Texts(IDS, ("y",) * 4, Provenance("toy", interactions="h1"))
    assert joined(seen, plain).source.interactions == joined(plain, seen).source.interactions == "h1"
    assert joined(replace(plain, source=Provenance("external:mine")), seen).source.external
    with pytest.raises(Leak, match="different interactions"):
        joined(seen, replace(plain, source=Provenance("toy", interactions="h2")))
    with pytest.raises(Misaligned, match="users"):
        joined(Texts(Ids("user", IDS.keys), ("x",) * 4, MADE), plain)


@pytest.mark.long
def test_descriptions_of_pictures_stand_before_the_catalogues_texts(data: Dataset, tmp_path: Path) -> None:
    """One text, and the picture's part is the first to be read; the answers are in the store, so nobody is called."""
    store, written = Store(tmp_path), list[Written]()
    looks = enrich.run("item_from_picture", None, data.catalog, Toy(), store, title=data.name)
    spec = InputSpec(("catalog.text",), encoder="minilm", lm="replay:toy", items="item_from_picture")
    made = inputs.make_input("item_texts", spec, data, store, written=written)
    said = dict(zip(looks.ids.keys, looks.values, strict=True))
    own = data.catalog.texts()
    whole = tuple(" ".join(filter(None, (said[key], text))) for key, text in zip(own.ids.keys, own.values, strict=True))
    assert any(looks.values)
    assert np.array_equal(
        made.values, encode.texts(replace(own, values=whole), encode.open_text("minilm"), store).values
    )
    assert [w.texts.values for w in written] == [looks.values]
    assert inputs.asks(spec)


def test_texts_before_the_catalogues_need_a_writer_and_texts_to_stand_before(data: Dataset, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(BadSetting, match=r"who writes item_from_picture\? Add  lm ="):
        inputs.make_input("t", InputSpec(("catalog.text",), items="item_from_picture"), data, store)
    with pytest.raises(BadSetting, match=r"catalog.image has none. Leave it out"):
        inputs.make_input("t", InputSpec(("catalog.image",), items="item_from_picture"), data, store)


def test_centred_sources_weigh_the_same_whatever_their_scale(data: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = len(data.items)
    there = rng.random(count) < 0.8
    loud = Features(data.items, 100 + 50 * rng.normal(size=(count, 3)).astype(np.float32), np.ones(count, bool), MADE)
    soft = Features(data.items, 0.1 * rng.normal(size=(count, 2)).astype(np.float32), there, MADE)
    held = replace(data, features={"loud": loud, "soft": soft})
    made = inputs.make_input("t", InputSpec(("features/loud", "features/soft"), centred=True), held, Store(tmp_path))
    lengths = np.linalg.norm(made.values[:, :3], axis=1), np.linalg.norm(made.values[:, 3:], axis=1)
    assert np.allclose(lengths[0], 1, atol=1e-5)
    assert np.allclose(lengths[1], there, atol=1e-5)
    mean = loud.values.mean(axis=0)
    assert np.allclose((loud.values[0] - mean) / np.linalg.norm(loud.values[0] - mean), made.values[0, :3], atol=1e-5)
    plain = inputs.make_input("t", InputSpec(("features/loud", "features/soft")), held, Store(tmp_path))
    assert np.array_equal(plain.values[:, :3], loud.values)


def test_a_recipe_reads_both() -> None:
    given = {"from": "catalog.text", "lm": "extractive", "items": "item_from_picture", "centred": True}
    raw = {"data": "shop", "model": {"name": "mllmrec"}, "inputs": {"item_texts": given}}
    spec = parse(raw, "mine").inputs["item_texts"]
    assert (spec.items, spec.centred) == ("item_from_picture", True)


def test_two_runs_that_begin_at_once_may_both_import_the_data(data: Dataset, tmp_path: Path) -> None:
    folder.write(data, tmp_path / "raw")
    (tmp_path / "raw" / "card.toml").unlink()  # not canonical: imported on first use
    start = Barrier(6)

    def opened(_: int) -> str:
        start.wait()
        return inputs.open_data(str(tmp_path / "raw"), Store(tmp_path / "store")).interactions.hash

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(opened, range(6)))) == 1
    assert not list((tmp_path / "store" / "data").glob(".*"))
