"""Each kind of source: little downloads made here in the published layouts, and the real folders where they are."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from penchant import folder
from penchant.columns import listed, renamed, typed
from penchant.data import Dataset
from penchant.errors import BadInput
from penchant.sources import KINDS, fingerprint, import_, kind_of
from penchant.textfiles import read_delimited


def imported(kind: str, path: Path, tmp_path: Path) -> Dataset:
    import_(kind, path, tmp_path / "out")
    return folder.read(tmp_path / "out")


def pairs(data: Dataset) -> set[tuple[str, str]]:
    choices = data.interactions
    return {(choices.users.keys[u], choices.items.keys[i]) for u, i in zip(choices.user, choices.item, strict=True)}


def files(folder_: Path, **contents: str | bytes) -> Path:
    folder_.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder_ / name.replace("__", ".")).write_bytes(raw)
    return folder_


# parquet


def test_parquet_takes_a_folder_with_whole_number_ids(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", README__md="# x\n\nProvenance: somewhere@1. Terms of use: cite us.\n")
    main = pl.DataFrame({"user_id": [7, 7, 3], "item_id": [1, 0, 2], "split": [0, 1, 0], "split_b": [2, 0, 0]})
    main.write_parquet(raw / "interactions.parquet")
    main[:1].write_parquet(raw / "interactions_core.parquet")
    pl.DataFrame({"user_id": [7], "item_id": [1], "explanation": ["because"]}).write_parquet(raw / "llm_why.parquet")
    pl.DataFrame({"item_id": [2, 1, 0], "genres": ["Drama|War", None, "Comedy"]}).write_parquet(raw / "items.parquet")
    pl.DataFrame({"llm_profile": ["keen"], "user_id": [7]}).write_parquet(raw / "users.parquet")
    jpeg = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(jpeg, "JPEG")
    posters = {"item_id": [1, 0, 1], "source": ["a", "b", "c"], "jpeg": [jpeg.getvalue(), None, b"second"]}
    pl.DataFrame(posters).write_parquet(raw / "posters.parquet")
    np.save(raw / "image_features.npy", np.array([[1, 2], [3, 4], [5, 6]], np.float16))

    card = import_("parquet", raw, tmp_path / "out")
    data = folder.read(tmp_path / "out")
    assert pairs(data) == {("7", "1"), ("7", "0"), ("3", "2")}
    assert data.items.keys == ("2", "1", "0")
    assert data.catalog.fields["categories"] == ("Drama, War", None, "Comedy")
    assert card["columns"] == {"items.categories": "genres"}
    assert card["source"] == "somewhere@1."
    assert card["terms"] == "cite us."
    assert data.user_fields["llm_profile"] == ("keen", None)
    assert data.features["image_features"].values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert data.catalog.pictures.read(1) == jpeg.getvalue()
    assert data.catalog.pictures.read(2) is None
    assert card["accepted"]["further pictures of one item left out"] == 1
    assert folder.read(tmp_path / "out", split="split_b").given.tolist() == [2, 0, 0]
    assert folder.read(tmp_path / "out", "interactions_core").items.keys == ("1",)
    assert pl.read_parquet(tmp_path / "out" / "llm_why.parquet").row(0) == ("7", "1", "because")


def test_parquet_takes_named_feature_rows_and_gaps(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", ids="")
    pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", 'y"\n']}).write_parquet(raw / "interactions.parquet")
    (raw / "features").mkdir()
    np.save(raw / "features" / "sound.npy", np.array([[1.0, 2.0], [np.nan, np.nan]]))
    (raw / "features" / "sound.ids.txt").write_text(json.dumps('y"\n') + "\n" + json.dumps("x") + "\n")
    np.save(raw / "features" / "user_age.npy", np.array([[30], [40]]))
    (raw / "features" / "user_age.ids.txt").write_text("b\na\n")
    data = imported("parquet", raw, tmp_path)
    assert data.features["sound"].present.tolist() == [False, True]
    assert data.features["sound"].values[1].tolist() == [1, 2]
    assert data.features["user_age"].values.tolist() == [[40], [30]]
    assert data.card["accepted"]["rows of sound.npy without numbers"] == 1


def test_parquet_takes_one_file_and_other_names(tmp_path: Path) -> None:
    pl.DataFrame({"userId": [1], "asin": ["B0"], "overall": [5]}).write_parquet(tmp_path / "log.parquet")
    data = imported("parquet", tmp_path / "log.parquet", tmp_path)
    assert pairs(data) == {("1", "B0")}
    assert data.interactions.value.tolist() == [5]
    assert data.card["columns"]["interactions.item_id"] == "asin"


# csv


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_csv_finds_delimiter_and_columns(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ["userId", "movieId", "score", "time", "Review Text"],
        ["007", "a,b", "4.5", "100", 'she said "no"\nand left'],
    ]
    rows += [["8", "c;d|e", "1", "200", ""]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    raw = files(tmp_path / "raw", interactions__csv="\ufeff" + text.getvalue())
    data = imported("csv", raw, tmp_path)
    assert pairs(data) == {("007", "a,b"), ("8", "c;d|e")}
    assert data.interactions.value.tolist() == [4.5, 1]
    assert data.interactions.time.tolist() == [100, 200]
    assert data.interactions.review == ('she said "no"\nand left', None)
    assert data.card["columns"]["interactions.user_id"] == "userId"
    assert data.card["columns"]["interactions.rating"] == "score"


def test_csv_takes_items_and_users_and_types_their_columns(tmp_path: Path) -> None:
    raw = files(
        tmp_path / "raw",
        interactions__tsv="user\titem\ttimestamp\nu\t1\t2014-01-01\nv\t2\t2014-01-02T00:00:01\n",
        items__csv="item_id,title,category,price,stock,zip,sale\n1,1984,Books|Novels,9.5,3,01234,true\n2,,Toys,,4,99999,False\n",
        users__csv="user_id,llm_profile\nu,likes books\n",
    )
    data = imported("csv", raw, tmp_path)
    assert data.interactions.time.tolist() == [1388534400, 1388620801]
    assert data.catalog.fields["title"] == ("1984", None)
    assert data.catalog.fields["categories"] == ("Books, Novels", "Toys")
    assert data.catalog.fields["zip"] == ("01234", "99999")
    assert data.catalog.numbers["price"].to_list() == [9.5, None]
    assert data.catalog.numbers["stock"].dtype == pl.Int64
    assert data.catalog.numbers["sale"].to_list() == [True, False]
    assert data.user_fields["llm_profile"] == ("likes books", None)


def test_csv_takes_a_single_file_of_any_name(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", clicks__csv="user_id:token,item_id:token,label\na,1,yes\n")
    assert pairs(imported("csv", raw / "clicks.csv", tmp_path)) == {("a", "1")}
    card = import_("csv", raw, tmp_path / "out2")
    assert card["name"] == "raw"
    assert card["accepted"]["unknown column of interactions, not used (label)"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text("aé🙂\"',;|\t\n 0_-", min_size=1, max_size=5)] * 2), min_size=1, max_size=6))
def test_csv_ids_come_through_unchanged(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    place = tmp_path_factory.mktemp("csv") / "log.csv"
    with place.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("user_id", "item_id"), *rows])
    frame = read_delimited(place)
    assert frame.columns == ["user_id", "item_id"]
    assert frame.rows() == rows


def test_the_surest_name_wins_and_ours_stays() -> None:
    frame, changes = renamed(
        pl.DataFrame({"asin": ["v"], "parent_asin": ["p"], "user": ["a"], "uid": ["b"]}), "interactions"
    )
    assert frame["item_id"].to_list() == ["p"]
    assert frame["user_id"].to_list() == ["a"]
    assert changes == {"interactions.user_id": "user", "interactions.item_id": "parent_asin"}
    kept, nothing = renamed(pl.DataFrame({"item_id": ["1"], "asin": ["v"]}), "items")
    assert kept.columns == ["item_id", "asin"]
    assert not nothing


def test_printed_lists_become_categories() -> None:
    column = pl.Series("categories", ["[['Baby', \"Kid's\"], ['Baby']]", "A|B | C", "plain", None, "[]"])
    assert listed(column).to_list() == ["Baby, Kid's", "A, B, C", "plain", None, ""]


def test_typed_leaves_doubtful_columns_alone() -> None:
    frame = typed(pl.DataFrame({"item_id": ["1"], "n": ["-3"], "x": ["1e3"], "code": ["007"], "none": [""]}), "item_id")
    assert frame.dtypes == [pl.String, pl.Int64, pl.Float64, pl.String, pl.String]


# movielens

ML_CSV = {
    "ratings__csv": "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n2,20,0.5,964982704\n",
    "movies__csv": 'movieId,title,genres\n10,"American President, The (1995)",Comedy|Drama\n20,Ghost Film,(no genres listed)\n',
    "tags__csv": "userId,movieId,tag,timestamp\n1,10,late,964982703\n",
}
ML_1M = {
    "ratings__dat": "1::10::4::964982703\n2::20::1::964982704\n",
    "movies__dat": '10::American President, The (1995)::Comedy|Drama\n20::Café "Ghost" (1999)::Drama\n'.encode(
        "latin-1"
    ),
    "users__dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}
ML_100K = {
    "u__data": "1\t10\t4\t881250949\n2\t20\t1\t881250950\n",
    "u__item": (
        "10|American President, The (1995)|01-Jan-1995||http://x|" + "|".join("0100000000000000000") + "\n"
        "20|Café (1999)|01-Jan-1999||http://x|" + "|".join("0000000010000000001") + "\n"
    ).encode("latin-1"),
    "u__user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
}


@pytest.mark.parametrize(("layout", "year"), [(ML_CSV, None), (ML_1M, 1999), (ML_100K, 1999)])
@pytest.mark.parametrize("zipped", [False, True])
def test_movielens_layouts(tmp_path: Path, layout: dict, year: int | None, zipped: bool) -> None:
    raw = files(tmp_path / "ml-x", **layout)
    if zipped:
        with zipfile.ZipFile(tmp_path / "ml-x.zip", "w") as archive:
            for file in raw.iterdir():
                archive.write(file, f"ml-x/{file.name}")
        raw = tmp_path / "ml-x.zip"
    assert kind_of(raw) == "movielens"
    data = imported("movielens", raw, tmp_path)
    assert data.name == "ml-x"
    assert pairs(data) == {("1", "10"), ("2", "20")}
    assert data.interactions.value.tolist()[0] == 4
    assert data.interactions.time.min() > 8e8
    assert data.catalog.fields["title"][0] == "American President, The"
    assert data.catalog.numbers["year"].to_list() == [1995, year]
    assert "no commercial use" in data.card["terms"]
    if layout is ML_CSV:
        assert data.catalog.fields["categories"] == ("Comedy, Drama", None)
        assert "tags" not in data.catalog.fields
    if layout is ML_1M:
        assert data.catalog.fields["title"][1] == 'Café "Ghost"'
        assert data.user_fields["gender"] == ("F", "M")
    if layout is ML_100K:
        assert data.catalog.fields["categories"] == ("Action", "Drama, Western")
        assert data.user_fields["occupation"] == ("technician", "other")


# rlmrec and mmrec


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=4)


@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_rlmrec_layout(tmp_path: Path, form: str) -> None:
    def matrix(*cells: tuple[int, int]) -> bytes:
        dense = np.zeros((3, 4))
        for u, i in cells:
            dense[u, i] = 1
        return pickled(sparse.coo_matrix(dense).asformat(form))

    raw = files(
        tmp_path / "amazon",
        trn_mat__pkl=matrix((0, 1), (1, 0)),
        val_mat__pkl=matrix((0, 3)),
        tst_mat__pkl=matrix((2, 1)),
        itm_prf__pkl=pickled({0: {"profile": "a tent", "reasoning": "r"}, np.int64(3): {"profile": "a ring"}}),
        usr_prf__pkl=pickled({2: {"profile": "hikes"}}),
        itm_emb_np__pkl=pickled(np.arange(8.0).reshape(4, 2)),
        usr_emb_np__pkl=pickled(np.asfortranarray(np.arange(6.0).reshape(3, 2))),
    )
    files(tmp_path / "mapper", amazon_item__json='{"iid": 1, "asin": "B1"}\n{"iid": 0, "asin": "B0"}\n')
    files(tmp_path / "mapper", amazon_user__json='{"uid": 0, "user_id": "AX"}\n')
    assert kind_of(raw) == "rlmrec"
    data = imported("rlmrec", raw, tmp_path)
    assert pairs(data) == {("0", "1"), ("1", "0"), ("0", "3"), ("2", "1")}
    assert sorted(data.given.tolist()) == [0, 0, 1, 2]
    assert data.items.keys == ("0", "1", "2", "3")
    assert data.catalog.fields["llm_profile"] == ("a tent", None, None, "a ring")
    assert data.catalog.fields["asin"] == ("B0", "B1", None, None)
    assert data.user_fields == {"original_id": ("AX", None, None), "llm_profile": (None, None, "hikes")}
    assert data.features["item_profile"].values.tolist() == np.arange(8.0).reshape(4, 2).tolist()
    assert data.features["user_profile"].ids == data.users
    assert data.features["user_profile"].values[1].tolist() == [2, 3]
    assert data.notes["users without training history"] == 1


def test_mmrec_layout(tmp_path: Path) -> None:
    raw = files(
        tmp_path / "baby",
        baby__inter="userID\titemID\trating\ttimestamp\tx_label\n0\t1\t5.0\t1388275200\t0\n1\t0\t4.0\t1388275201\t2\n",
        i_id_mapping__csv="asin\titemID\nB1\t1\nB0\t0\nB2\t2\n",
        u_id_mapping__csv="user_id\tuserID\nAX\t0\nAY\t1\n",
    )
    (raw / "meta-baby.csv").write_text(
        "itemID,asin,title,imUrl,brand,categories\n1,B1,\"Cup, small\",http://x,Acme,\"[['Baby', 'Feeding']]\"\n"
    )
    np.save(raw / "image_feat.npy", np.arange(12, dtype=np.float64).reshape(3, 4))
    np.save(raw / "text_feat.npy", np.ones((3, 2), np.float32))
    assert kind_of(raw) == "mmrec"
    data = imported("mmrec", raw, tmp_path)
    assert pairs(data) == {("0", "1"), ("1", "0")}
    assert data.given.tolist() == [0, 2]
    assert data.interactions.time.tolist() == [1388275200, 1388275201]
    assert data.items.keys == ("0", "1", "2")
    assert data.catalog.fields["asin"] == ("B0", "B1", "B2")
    assert data.catalog.fields["title"] == (None, "Cup, small", None)
    assert data.catalog.fields["categories"] == (None, "Baby, Feeding", None)
    assert data.catalog.fields["image_url"][1] == "http://x"
    assert data.user_fields["original_id"] == ("AX", "AY")
    assert data.features["image_features"].values[2].tolist() == [8, 9, 10, 11]
    assert set(data.features) == {"image_features", "text_features"}


def test_kinds_are_recognised_and_fingerprints_follow_content(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", interactions__csv="user_id,item_id\na,1\n")
    assert kind_of(raw) == kind_of(raw / "interactions.csv") == "csv"
    first = fingerprint(raw)
    assert fingerprint(raw) == first
    (raw / "interactions.csv").write_text("user_id,item_id\na,2\n")
    second = fingerprint(raw)
    (raw / "interactions.csv").rename(raw / "interactions.tsv")
    assert len({first, second, fingerprint(raw)}) == 3
    with pytest.raises(BadInput, match="looks like no known kind"):
        kind_of(files(tmp_path / "other", thing__bin=b"x"))
    assert set(KINDS) == {"parquet", "csv", "movielens", "rlmrec", "mmrec"}


# the real folders

REAL = {  # users, items, interactions, train, valid, test as their READMEs state them
    "amazon-baby-mmrec": (19445, 7050, 160792, 118551, 21682, 20559),
    "amazon14-beauty": (22363, 12101, 198502, None, 22363, 22363),
    "movielens-small-core5": (610, 3650, 90274, None, None, None),
    "rlmrec-yelp": (11091, 11010, 277535, 166620, 55479, 55436),
    "steam-200k": (3757, 5113, 115139, None, None, None),
    "tiktok-diffmm": (9308, 6710, 68722, 59541, 3051, 6130),
    "xrec-amazon": (15349, 15247, 360839, 288671, 36084, 36084),
    # The README counts 22,743 rows; 1,079 of them are second purchases of the same item by the same user.
    "amazon18-industrial-part": (3285, 3686, 22743 - 1079, None, None, None),
}


def real(name: str) -> Path:
    for place in os.environ.get("PENCHANT_DATA", "").split(os.pathsep):
        if place and (Path(place) / name).is_dir():
            return Path(place) / name
    pytest.skip(f"REAL DATA NOT TESTED: PENCHANT_DATA lists no folder that holds {name}")


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_folders_have_the_counts_of_their_readmes(name: str, tmp_path: Path) -> None:
    path = real(name)
    card = import_(kind_of(path), path, tmp_path / name)
    data = folder.read(tmp_path / name)
    assert data.name == name
    found = (len(data.users), len(data.items), len(data.interactions))
    expected = REAL[name]
    assert found == expected[:3]
    for code, count in enumerate(expected[3:]):
        if count is not None:
            assert (data.given == code).sum() == count
    if name not in ("steam-200k", "xrec-amazon"):
        assert "items without a catalogue row" not in data.notes
    assert card["terms"]
    if name != "xrec-amazon":  # a Dataset holds one table of choices; this folder has two
        assert folder.write(data, tmp_path / "again")["hash"] == card["hash"]


@pytest.mark.real
def test_real_parts_of_the_folders(tmp_path: Path) -> None:
    for name in (
        "amazon-baby-mmrec",
        "amazon18-industrial-part",
        "movielens-small-core5",
        "tiktok-diffmm",
        "xrec-amazon",
    ):
        import_("parquet", real(name), tmp_path / name)
    other = folder.read(tmp_path / "amazon-baby-mmrec", split="split_mmhcl")
    assert np.bincount(other.given).tolist() == [119674, 20559, 20559]
    assert other.catalog.fields["asin"][0] == "097293751X"
    assert folder.read(tmp_path / "amazon18-industrial-part").notes["duplicate interactions dropped"] == 1079

    films = folder.read(tmp_path / "movielens-small-core5")
    assert films.catalog.pictures.present.sum() == 3640
    row = films.items.row("1")
    assert Image.open(io.BytesIO(films.catalog.pictures.read(row) or b"")).format == "JPEG"
    assert films.catalog.texts().present.all()
    assert films.catalog.numbers["year"][row] == 1995
    raw = pl.read_parquet(real("movielens-small-core5") / "interactions.parquet")
    liked = folder.read(tmp_path / "movielens-small-core5", min_rating=4)
    assert len(liked.interactions) == (raw["rating"] >= 4).sum()

    clips = folder.read(tmp_path / "tiktok-diffmm")
    given_ = np.load(real("tiktok-diffmm") / "audio_features.npy")
    assert np.array_equal(clips.features["audio_features"].values, given_.astype(np.float32))
    assert clips.features["image_features"].ids == clips.items
    seen = np.unique(clips.interactions.item[clips.given == 0])
    assert len(seen) == 6245

    core = folder.read(tmp_path / "xrec-amazon", "interactions_llm_core5")
    assert (len(core.users), len(core.items), len(core.interactions)) == (1317, 1875, 23280)
    assert all(core.catalog.fields["llm_profile"])
    assert all(core.user_fields["llm_profile"])
    assert pl.read_parquet(tmp_path / "xrec-amazon" / "llm_explanations.parquet").height == 3000
