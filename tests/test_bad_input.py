"""What people really hand over. Refused: one message that says what, where and what to do, and nothing half-written.
Accepted: counted and stated."""

from __future__ import annotations

import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy import sparse

from penchant import folder
from penchant.archives import load_array, load_matrix, load_texts, opened
from penchant.catalog import MOST_PIXELS, open_picture
from penchant.data import Ids
from penchant.errors import BadArchive, BadInput, BadPicture, BadTable, Misaligned, MissingFile, PenchantError
from penchant.sources import import_, kind_of

GOOD = {"user_id": ["a", "b"], "item_id": ["1", "2"]}


def raw_folder(place: Path, interactions: dict | pl.DataFrame = GOOD, **tables: dict) -> Path:
    place.mkdir()
    for name, columns in {"interactions": interactions, **tables}.items():
        pl.DataFrame(columns).write_parquet(place / f"{name}.parquet")
    return place


def refused(error: type[PenchantError], message: str, kind: str, source: Path) -> None:
    """import_ raises this error, on one line, and the place beside the source is as it was before."""
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(error, match=message) as caught:
        import_(kind, source, source.parent / "out")
    assert "\n" not in str(caught.value)
    assert sorted(source.parent.rglob("*")) == before


# tables


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [], "item_id": []}, "has no rows"),
        ({"usr_id": ["a"], "item_id": ["1"]}, r"no column `user_id`\. Did you mean `usr_id`\? It has: usr_id, item_id"),
        ({"user_id": ["a"], "thing": ["1"]}, r"no column `item_id`\. It has: user_id, thing"),
        ({"user_id": ["a", None], "item_id": ["1", "2"]}, r"`user_id` is empty in 1 of 2 rows, first in row 2"),
        ({"user_id": ["a", "b"], "item_id": ["", "2"]}, r"`item_id` is empty in 1 of 2 rows, first in row 1"),
        ({"user_id": [1.0, float("nan")], "item_id": ["1", "2"]}, r"`user_id` is empty in 1 of 2 rows, first in row 2"),
        ({"user_id": [1.5, 2.0], "item_id": ["1", "2"]}, "holds fractions"),
        ({"user_id": [[1], [2]], "item_id": ["1", "2"]}, "is of type List"),
        (
            {**GOOD, "rating": [1.0, float("nan")]},
            r"`rating` is no number that can be used in 1 of 2 rows, first in row 2",
        ),
        ({**GOOD, "rating": [float("inf"), 1.0]}, r"first in row 1 \(inf\)"),
        ({**GOOD, "rating": [5.0, None]}, "`rating` is no number"),
        ({**GOOD, "rating": ["4,5", "4"]}, "Write decimals with a point: 4.5, not 4,5"),
        ({**GOOD, "rating": ["five", "4"]}, r"`rating` is no number in 1 of 2 rows, first in row 1 \('five'\)"),
        ({**GOOD, "rating": [1e300, 1.0]}, "`rating` is no number that can be used"),
        ({**GOOD, "timestamp": [-5, 10]}, r"negative, a time before 1970 in 1 of 2 rows, first in row 1 \(-5\)"),
        (
            {**GOOD, "timestamp": [10, 1388275200000]},
            r"after the year 2100 .* looks like milliseconds: divide by 1000\.",
        ),
        ({**GOOD, "timestamp": [1388275200 * 10**9] * 2}, "looks like nanoseconds"),
        ({**GOOD, "timestamp": [10.0, float("inf")]}, "`timestamp` is not finite"),
        ({**GOOD, "timestamp": [10, None]}, "`timestamp` is no number"),
        ({**GOOD, "timestamp": ["2014-01-01", "soon"]}, r"`timestamp` is no time that can be read .* \('soon'\)"),
        ({**GOOD, "position": [0.0, float("nan")]}, "`position` is no whole number"),
        ({**GOOD, "split": [0, 3]}, r"`split` is neither 0 \(train\), 1 \(valid\) nor 2 \(test\) in 1 of 2 rows"),
        ({**GOOD, "split": ["train", "holdout"]}, r"`split` is neither .* \('holdout'\)"),
    ],
)
def test_bad_interactions_are_refused(tmp_path: Path, columns: dict, message: str) -> None:
    refused(BadTable, message, "parquet", raw_folder(tmp_path / "raw", columns))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("user_id,item_id\n", "no rows"),
        ("user_id,item\n,1\n", "`user_id` is empty in 1 of 1 rows"),
        ("who,what\na,1\n", "no column `user_id`.* It has: who, what"),
        ("user_id,item_id\na,1,2,3\n", "cannot be read as a table"),
        (b"user_id,item_id\n\xff\xfe\xfa,1\n", "not UTF-8"),
        (b"\x1f\x8b\x08\x00rest", "compressed"),
        (b"PK\0\0\0", "no text table"),
        ("user_id,item_id,rating\na,1,nan\n", "`rating` is no number that can be used"),
        ("user_id,item_id,timestamp\na,1,1388275200000\n", "milliseconds"),
    ],
)
def test_bad_text_tables_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "log.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    refused(BadTable, message, "csv", tmp_path / "log.csv")


def test_missing_files_are_named(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw")
    refused(MissingFile, "no file or folder .*Did you mean `raw`", "parquet", tmp_path / "rwa")
    (raw / "interactions.parquet").rename(raw / "interaction.parquet")
    refused(MissingFile, r"Did you mean `interaction.parquet`\? The folder has", "parquet", raw)
    refused(MissingFile, "no interactions.csv. It has: interaction.parquet", "csv", raw)
    refused(BadInput, "no kind of source 'movielense'. Did you mean `movielens`", "movielense", raw)
    for kind in ("movielens", "rlmrec", "mmrec"):
        refused(BadArchive, "this is not .*layout: expected .*Found: interaction.parquet", kind, raw)
    with pytest.raises(MissingFile):
        kind_of(tmp_path / "nowhere")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw", {"user_id": list(range(5000)), "item_id": list(range(5000))})
    whole = (raw / "interactions.parquet").read_bytes()
    (raw / "interactions.parquet").write_bytes(whole[: len(whole) // 2])
    refused(BadTable, "cannot be read as parquet", "parquet", raw)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros((1, 3)), Misaligned, r"image_features.npy has 1 rows for 2 items"),
        (np.zeros((3, 3)), Misaligned, r"has 3 rows for 2 items"),
        (np.zeros(2), BadTable, r"holds float64 of shape \(2,\)"),
        (np.array([["a"], ["b"]]), BadTable, "table of numbers"),
        (
            np.array([[1.0, np.nan], [1, 2]]),
            BadTable,
            r"image_features.npy: features hold NaN or infinity in 1 rows, e\.g\. 1",
        ),
        (np.array([[np.inf, np.inf], [1, 2]]), BadTable, "NaN or infinity"),
        (np.array([[{}], [2]], object), BadTable, "no array file"),
        (None, BadTable, "no array file"),
    ],
)
def test_bad_feature_files_are_refused(
    tmp_path: Path, values: np.ndarray | None, error: type[PenchantError], message: str
) -> None:
    raw = raw_folder(tmp_path / "raw", items={"item_id": ["1", "2"]})
    if values is None:
        (raw / "image_features.npy").write_bytes(b"\x93NUMPY\x01")
    else:
        np.save(raw / "image_features.npy", values, allow_pickle=True)
    refused(error, message, "parquet", raw)


def test_features_must_say_whose_they_are(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw")
    np.save(raw / "image_features.npy", np.zeros((2, 2)))
    refused(MissingFile, "whose are the rows of image_features.npy", "parquet", raw)
    (raw / "image_features.ids.txt").write_text('"1"\n"1"\n')
    refused(BadTable, r"image_features.ids.txt: item ids are not unique: 1", "parquet", raw)


@pytest.mark.parametrize("keys", [(1, 2), ("a", None), ("a", b"b"), (np.int64(3),), (["a"],)])
def test_ids_are_strings(keys: Any) -> None:
    with pytest.raises(
        BadTable, match=r"item ids are strings, but .* is of type .*Ids\(\"item\", tuple\(map\(str, keys\)\)\)$"
    ):
        Ids("item", keys)
    assert len(Ids("item", (np.str_("a"), "b"))) == 2


def test_mmrec_features_must_reach_the_highest_item(tmp_path: Path) -> None:
    raw = tmp_path / "baby"
    raw.mkdir()
    (raw / "baby.inter").write_text("userID\titemID\tx_label\n0\t5\t0\n")
    np.save(raw / "image_feat.npy", np.zeros((3, 2)))
    refused(Misaligned, "itemID goes up to 5, but image_feat.npy has 3 rows", "mmrec", raw)


def test_posters_without_pictures_are_refused(tmp_path: Path) -> None:
    refused(
        BadTable,
        "no column of bytes",
        "parquet",
        raw_folder(tmp_path / "raw", posters={"item_id": ["1"], "url": ["x"]}),
    )


# archives


def zipped(
    place: Path, name: str = "interactions.csv", text: str = "user_id,item_id\na,1\n", mode: int = 0o644
) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("interactions.csv", "user_id,item_id\na,1\n")
        member = zipfile.ZipInfo(name)
        member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
        if name != "interactions.csv":
            archive.writestr(member, text)
    return place


@pytest.mark.parametrize(
    "name", ["../evil.csv", "a/../../evil.csv", "/evil.csv", "C:\\evil.csv", "..\\evil.csv", "C:evil"]
)
def test_a_zip_slip_is_refused(tmp_path: Path, name: str) -> None:
    refused(BadArchive, "leaves the archive", "csv", zipped(tmp_path / "x.zip", name))
    assert not list(tmp_path.parent.glob("**/evil*"))


def test_links_bombs_and_damage_in_archives_are_refused(tmp_path: Path) -> None:
    refused(BadArchive, "holds a link", "csv", zipped(tmp_path / "link.zip", "link", "elsewhere", 0o120777))
    refused(BadArchive, "decompression bomb", "csv", zipped(tmp_path / "bomb.zip", "zeros", "\0" * 80_000_000))
    whole = zipped(tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    refused(BadArchive, "damaged", "csv", tmp_path / "cut.zip")
    flipped = bytearray(whole)
    flipped[40 + len("interactions.csv") - 8] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(flipped)
    refused(BadArchive, "damaged", "csv", tmp_path / "flipped.zip")
    encrypted = bytearray(whole)
    for marker, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(marker) + at] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    refused(BadArchive, "encrypted", "csv", tmp_path / "encrypted.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.csv", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.csv", "2")
    refused(BadArchive, "same file twice", "csv", tmp_path / "twice.zip")


def test_an_unpacked_archive_leaves_no_trace(tmp_path: Path) -> None:
    with opened(zipped(tmp_path / "good.zip")) as root:
        assert (root / "interactions.csv").read_text() == "user_id,item_id\na,1\n"
    assert not root.exists()
    import_("csv", tmp_path / "good.zip", tmp_path / "out")
    assert folder.read(tmp_path / "out").name == "good"


# pickles


class Payload:
    """When a careless unpickler loads this, the call is made."""

    def __init__(self, call: Callable, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


def rlmrec(place: Path, raw: bytes, name: str = "trn_mat.pkl") -> Path:
    place.mkdir()
    (place / "trn_mat.pkl").write_bytes(pickle.dumps(sparse.coo_matrix(np.eye(3))))
    (place / name).write_bytes(raw)
    return place


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", ["trn_mat.pkl", "val_mat.pkl", "itm_prf.pkl", "usr_emb_np.pkl"])
def test_an_unsafe_pickle_is_refused_and_not_run(tmp_path: Path, name: str, protocol: int) -> None:
    trap = tmp_path / "sprung"
    payload = pickle.dumps(Payload(os.mkdir, str(trap)), protocol)
    pickle.loads(payload)  # the trap is a real one
    trap.rmdir()
    refused(
        BadArchive,
        f"{re.escape(name)} asks for .*mkdir.* Nothing in it was run",
        "rlmrec",
        rlmrec(tmp_path / "raw", payload, name),
    )
    assert not trap.exists()


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (eval, ("open('sprung', 'w')",)),
        (np.load, ("x.npy",)),
        (np.save, ("sprung", 1)),
        (getattr, (1, "real")),
        (Path, ("x",)),
    ],
)
def test_no_other_name_is_known_to_the_unpickler(tmp_path: Path, call: Callable, args: tuple) -> None:
    refused(BadArchive, "could run code", "rlmrec", rlmrec(tmp_path / "raw", pickle.dumps(Payload(call, *args))))


def test_numpy_itself_never_sees_what_a_pickle_claims(tmp_path: Path) -> None:
    def load(loader: Callable, value: object, change: Callable[[bytes], bytes] = bytes) -> str:
        (tmp_path / "x.pkl").write_bytes(change(pickle.dumps(value, 4)))
        with pytest.raises(BadArchive) as caught:
            loader(tmp_path / "x.pkl")
        return str(caught.value)

    numbers = np.arange(6, dtype=np.int64)
    assert "only numbers" in load(load_array, np.array([{}, 1], object))
    # Bytes dressed up as object pointers: numpy's own loading of such a pickle can crash the process.
    assert "only numbers" in load(load_array, numbers, lambda raw: raw.replace(b"\x8c\x02i8", b"\x8c\x02O8"))
    assert "do not fill" in load(load_array, numbers, lambda raw: raw.replace(b"K\x06\x85", b"K\x07\x85"))
    assert "no array" in load(load_array, [1, 2])
    assert "no sparse matrix" in load(load_matrix, np.eye(3))
    assert "no pickle" in load(load_matrix, numbers, lambda raw: raw[:-20])
    assert "no pickle" in load(load_matrix, 1, lambda raw: b"\x80\x04")
    for form in ("coo", "csr", "csc"):
        wild = sparse.coo_matrix(np.eye(3)).asformat(form)
        (wild.row if form == "coo" else wild.indices)[0] = 3
        assert "outside its shape" in load(load_matrix, wild)
        (wild.row if form == "coo" else wild.indices)[0] = -1
        assert "outside its shape" in load(load_matrix, wild)
    starts = sparse.csr_matrix(np.eye(3))
    starts.indptr[1] = 9
    assert "row starts are damaged" in load(load_matrix, starts)
    huge = sparse.coo_matrix((np.ones(1), ([0], [0])), shape=(10**9, 10**9))
    assert "none of users and items" in load(load_matrix, huge)
    assert "expected {row: {'profile': text}}" in load(lambda p: load_texts(p, "profile"), {0: {"other": "x"}})
    assert "holds no text" in load(lambda p: load_texts(p, "profile"), {0: {"profile": 3}})


def test_matrices_of_different_shapes_are_refused(tmp_path: Path) -> None:
    raw = rlmrec(tmp_path / "raw", pickle.dumps(sparse.coo_matrix(np.eye(4))), "tst_mat.pkl")
    refused(Misaligned, r"tst_mat.pkl is \(4, 4\), the train matrix \(3, 3\)", "rlmrec", raw)


# pictures


def test_bad_pictures_are_refused_by_name(tmp_path: Path) -> None:
    good = tmp_path / "x.png"
    Image.new("RGB", (64, 64), "red").save(good)
    raw = good.read_bytes()
    for damaged, message in ((raw[: len(raw) // 2], "damaged"), (b"<html>404", "no picture"), (b"", "no picture")):
        with pytest.raises(BadPicture, match=f"x.png .*{message}"):
            open_picture(damaged, "x.png")
    head = b"IHDR" + struct.pack(">II", 20_000, 20_000) + raw[24:29]
    bomb = raw[:12] + head + struct.pack(">I", zlib.crc32(head)) + raw[33:]
    with pytest.raises(BadPicture, match=f"20000 x 20000 pixels; at most {MOST_PIXELS:,}|too many pixels"):
        open_picture(bomb, "bomb.png")


# accepted, counted, stated


def test_what_is_accepted_is_counted_on_the_card_and_on_reading(tmp_path: Path) -> None:
    odd = ['a"b', "line\nbreak", "ünï🙂", " spaced ", "a,b", "NULL", "../up"]
    raw = raw_folder(
        tmp_path / "raw",
        {
            "user_id": [*odd, odd[0], "late"],
            "item_id": [*reversed(odd), odd[-1], "nowhere"],
            "split": [0] * 8 + [2],
            "colour": ["red"] * 9,
        },
        items={
            "item_id": [*odd, "unsold", "unsold"],
            "title": ["A", "  ", *["T"] * 6, "again"],
            "box": [{"w": 1}] * 9,
        },
        images={"item_id": [odd[0], "stranger"], "bytes": [b"x", b"y"]},
    )
    card = import_("parquet", raw, tmp_path / "out")
    data = folder.read(tmp_path / "out")
    assert set(data.users.keys) == {*odd, "late"}
    assert data.items.keys == (*odd, "unsold", "nowhere")
    read_notes = {
        "duplicate interactions dropped": 1,
        "unknown column of interactions, not used (colour)": 1,
        "interactions whose item has no catalogue row": 1,
        "items without a catalogue row": 1,
        "items without any interaction": 1,
        "items without text": 2,
        "items without a picture": 8,
        "pictures of items not in this data left out": 1,
        "users without training history": 1,
    }
    assert data.notes == read_notes
    assert card["accepted"] == {
        **read_notes,
        "further rows of one id in items.parquet dropped, the first kept": 1,
        "columns of items.parquet left out (box is Struct({'w': Int64}))": 1,
    }
    with pytest.raises(BadTable, match=r"strict: 1 items .* e\.g\. nowhere"):
        folder.read(tmp_path / "out", strict=True)


def test_words_for_parts_and_numbers_in_text_are_understood(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,split,rating\na,1,train,4\na,2,Valid,3.5\na,3,TEST,0\n")
    import_("csv", tmp_path / "log.csv", tmp_path / "out")
    data = folder.read(tmp_path / "out")
    assert data.given.tolist() == [0, 1, 2]
    assert data.interactions.value.tolist() == [4, 3.5, 0]
