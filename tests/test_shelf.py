"""Shelf: new items read from a table and pictures of their own, and served by a model that never saw them."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

import penchant as pc
from penchant.errors import BadTable, MissingFile

TABLE = "product_id,name,brand,price\n007,Red kettle,Acme,12.5\n8,Blue kettle,,9\n9,Green kettle,Acme,\n8,A second row of 8,Acme,1\n"


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    (tmp_path / "new" / "images").mkdir(parents=True)
    (tmp_path / "new" / "items.csv").write_text(TABLE)
    for name, colour in (("007", "red"), ("9", "green"), ("of-another-shop", "blue")):
        (tmp_path / "new" / "images" / f"{name}.png").write_bytes(png(colour))
    return tmp_path / "new"


def test_a_folder_of_new_products_needs_no_log(goods: Path) -> None:
    found = pc.read_items(goods)
    assert found.items.keys == ("007", "8", "9")
    assert found.fields["title"] == ("Red kettle", "Blue kettle", "Green kettle")
    assert found.fields["brand"] == ("Acme", None, "Acme")
    assert found.numbers["price"].to_list() == [12.5, 9.0, None]
    assert [found.pictures.read(row) for row in range(3)] == [png("red"), None, png("green")]


def test_a_table_alone_and_parquet_will_do_as_well(goods: Path) -> None:
    alone = pc.read_items(goods / "items.csv")
    assert alone.items.keys == ("007", "8", "9")
    assert not alone.pictures.present.any()
    pl.DataFrame({"item_id": ["007", "8"], "title": ["Red kettle", None]}).write_parquet(goods / "items.parquet")
    (goods / "items.csv").unlink()
    found = pc.read_items(goods)
    assert found.items.keys == ("007", "8")
    assert found.pictures.present.tolist() == [True, False]


def test_what_is_no_table_of_items_is_named(goods: Path, tmp_path: Path) -> None:
    (goods / "items.csv").rename(goods / "things.csv")
    with pytest.raises(MissingFile, match=r"new has no table of items, like items.csv. It has: .*things.csv"):
        pc.read_items(goods)
    (goods / "items.csv").write_text("product_id,name\n")
    with pytest.raises(BadTable, match=r"items.csv"):
        pc.read_items(goods)
    (goods / "items.csv").write_text("colour,name\nred,Kettle\n")
    with pytest.raises(BadTable, match=r"item_id"):
        pc.read_items(goods)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile, match="It has: nothing"):
        pc.read_items(tmp_path / "empty")
    with pytest.raises(MissingFile):
        pc.read_items(tmp_path / "nowhere")
