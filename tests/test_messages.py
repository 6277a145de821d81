"""What the command line answers when it is given the wrong folder, name or metric, or has nothing left to say."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from answers_of import Answer, Ask, asking, surrounded

from penchant import folder, runs, shop
from penchant.data import Ids

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

HOSTILE = "\x1b[31mNice\x1b[0m \u202epmal"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, recipes and the runs bpr, popular and popular-final, made once."""
    made = tmp_path_factory.mktemp("messages")
    world = shop.make(products=30, shoppers=40, choices=6, pictures=False).dataset
    old, n = world.interactions, len(world.interactions.users)
    users = Ids("user", (*old.users.keys, "late", "later"))
    fields = dict(world.catalog.fields)
    fields["title"] = (HOSTILE, *fields["title"][1:])
    choices = replace(
        old,
        users=users,
        user=np.append(old.user, [n, n, n + 1]),
        item=np.append(old.item, [3, 4, 5]),
        time=None if old.time is None else np.append(old.time, old.time.max() + np.array([1, 2, 3])),
        review=None,
    )
    given = np.random.default_rng(1).choice(3, len(old), p=[0.7, 0.1, 0.2])
    given = np.append(given, [1, 2, 2]).astype(np.int8)  # late: known by a valid choice; later: by nothing
    data = replace(world, interactions=choices, catalog=replace(world.catalog, fields=fields), given=given)
    folder.write(data, made / "data")
    for name in ("bpr", "popular"):
        tables = {
            "data": str(made / "data"),
            "split": {"by": "given"},
            "model": {"name": name} | ({"dim": 4} if name == "bpr" else {}),
            "training": {"epochs": 2, "batch_size": 64, "learning_rate": 1e-2},
        }
        (made / f"{name}.toml").write_text(tomli_w.dumps(tables), "utf-8")
    return made


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> Ask:
    """Call the command with these arguments, from inside `place`."""
    surrounded(monkeypatch, place / "store", place)

    call = asking(capsys, monkeypatch)
    if not (place / "popular-final").exists():
        for command in ("bpr.toml --out bpr", "popular.toml --out popular", "popular.toml --out popular --final"):
            answer = call("run", *command.split())
            assert answer.code == 0, answer.err
    return call


def mistake(answer: Answer) -> str:
    """The one message of a mistake."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert len(re.findall(r"^penchant: [A-Z]\w+: ", answer.err, re.MULTILINE)) == 1
    return answer.err


def obey(ask: Ask, message: str, begins: str) -> Answer:
    """Type the last command in a message that begins so."""
    found = re.findall(rf"  ({begins}[^\n]*?)(?:  or  |\n|$)", message)
    assert found, message
    return ask(*shlex.split(found[-1])[1:])


# folders


@pytest.mark.parametrize("command", ["show popular-final", "compare bpr popular-final"])
def test_a_final_folder_has_no_numbers_and_says_where_they_are(ask: Ask, command: str) -> None:
    said = mistake(ask(*command.split()))
    assert "--final" in said
    assert "no numbers" in said
    assert "penchant recommend popular-final --user ID" in said
    assert "popular" in obey(ask, said, "penchant show").out


@pytest.mark.parametrize(
    "command", ["show {}", "compare bpr {}", "recommend {} --user late", "similar {} --item p0003"]
)
def test_an_unfinished_run_says_how_to_go_on_and_that_works(
    ask: Ask, place: Path, tmp_path: Path, command: str
) -> None:
    half = tmp_path / "half way"
    shutil.copytree(place / "popular", half)
    (half / "report.json").unlink()
    shutil.rmtree(half / "model")
    said = mistake(ask(*(word.format(half) for word in command.split())))
    assert f"{half} is not finished" in said
    assert f"penchant run popular.toml --out '{half}'" in said  # a space in a name does not break the command
    assert obey(ask, said, "penchant run").code == 0
    assert ask("show", half).code == 0


@pytest.mark.parametrize("command", ["show", "compare bpr", "recommend --user late"])
def test_a_missing_folder_names_the_near_run(ask: Ask, command: str) -> None:
    said = mistake(ask(*command.split(), "populer"))
    assert "no run folder populer. Did you mean `popular`?" in said
    assert "penchant run RECIPE.toml --out populer" in said


def test_other_folders_are_called_what_they_are(ask: Ask, place: Path, tmp_path: Path) -> None:
    assert "penchant data show data" in mistake(ask("show", "data"))
    assert "penchant run bpr.toml" in mistake(ask("compare", "popular", "bpr.toml"))
    assert "Give the run:  bpr" in mistake(ask("recommend", "bpr/model", "--user", "late"))
    assert "holds some: bpr, popular" in mistake(ask("show", place))
    assert ask("compare", "bpr", "popular", "--out", tmp_path / "both").code == 0
    assert "Open" in mistake(ask("show", tmp_path / "both"))
    (tmp_path / "empty").mkdir()
    assert "no run.json" in mistake(ask("show", tmp_path / "empty"))


def test_a_runs_report_may_be_named_itself(ask: Ask) -> None:
    assert ask("show", "bpr/report.json", "--json").json == ask("show", "bpr", "--json").json
    assert ask("compare", "bpr/report.json", "popular").code == 0


@pytest.mark.parametrize("name", ["features/ab12", "features/0123456789ab"])
def test_a_wrong_ref_is_looked_for_in_the_store(ask: Ask, name: str) -> None:
    assert "run folder" not in mistake(ask("show", name))


def test_compare_leaves_a_folder_of_something_else(ask: Ask, place: Path, tmp_path: Path) -> None:
    before = {p.name for p in (place / "popular").iterdir()}
    said = mistake(ask("compare", "bpr", "popular", "--out", "popular"))
    assert "popular is not empty" in said
    assert "--out DIR" in said
    assert {p.name for p in (place / "popular").iterdir()} == before
    for _ in range(2):
        assert ask("compare", "bpr", "popular", "--out", tmp_path / "both").code == 0


@pytest.mark.parametrize("name", ["arrays.safetensors", "ids.json", "model.json", ""])
def test_a_lost_model_file_comes_back_by_the_command_of_the_message(
    ask: Ask, place: Path, tmp_path: Path, name: str
) -> None:
    lost = tmp_path / "lost"
    assert ask("run", "bpr.toml", "--out", lost, "--set", "training.epochs=1").code == 0
    before = ask("recommend", lost, "--user", "s00003", "--json").json
    if name:
        (lost / "model" / name).unlink()
    else:
        shutil.rmtree(lost / "model")
    said = mistake(ask("recommend", lost, "--user", "s00003"))
    assert obey(ask, said, "penchant run").code == 0
    assert ask("recommend", lost, "--user", "s00003", "--json").json == before


# ids and metrics


def test_an_unknown_item_is_answered_with_some_that_are_there(ask: Ask) -> None:
    for command in ("similar bpr --item nope", "why bpr --user late --item nope", "recommend bpr --history nope"):
        said = mistake(ask(*command.split()))
        assert "no item 'nope' here. There are 30 items, e.g. p0000, p0001, p0002; all" in said
        assert Path(re.findall(r"in (\S+)\.$", said.strip())[0]).is_file()


def test_a_title_in_place_of_an_id_finds_the_id(ask: Ask, place: Path) -> None:
    opened = runs.read(place / "bpr")
    title = opened.catalog.title(7)
    assert f"Titled so: {opened.catalog.items.keys[7]} is" in mistake(ask("similar", "bpr", "--item", title.upper()))


def test_an_unknown_user_is_answered_with_some_and_a_way_for_strangers(ask: Ask) -> None:
    for command in ("recommend bpr --user nope", "why bpr --user nope --item p0003"):
        said = mistake(ask(*command.split()))
        assert "no user 'nope' here. There are 42 users, e.g. s00000, s00001, s00002; all are in " in said
        assert "penchant recommend bpr --history ITEM" in said


def test_an_unknown_metric_is_called_a_metric(ask: Ask) -> None:
    said = mistake(ask("compare", "bpr", "popular", "--metric", "recal@20"))
    assert "no metric `recal@20`" in said
    assert "Did you mean `recall@20`?" in said
    assert "ndcg@10, ndcg@20" in said
    assert "setting" not in said
    assert "written `hit@10`" in mistake(ask("compare", "bpr", "popular", "--metric", "hr@10"))


# lists that need a word


def everything(place: Path) -> list[str]:
    return [word for key in runs.read(place / "bpr").recommender.items.keys for word in ("--history", key)]


@pytest.mark.parametrize("name", ["bpr", "popular"])
def test_who_chose_everything_is_told_that_nothing_is_left(ask: Ask, place: Path, name: str) -> None:
    answer = ask("recommend", name, *everything(place))
    assert answer.code == 0
    assert "nothing is left to recommend" in answer.out
    (one,) = ask("recommend", name, *everything(place), "--json").json["recommendations"]
    assert one["items"] == []
    assert "nothing is left to recommend" in one["note"]


def test_a_list_shorter_than_asked_says_why(ask: Ask, place: Path) -> None:
    (one,) = ask("recommend", "bpr", *everything(place)[4:], "--json").json["recommendations"]
    assert len(one["items"]) == 2
    assert "fewer than 10" in one["note"]
    (all_,) = ask("recommend", "bpr", "--user", "later", "-k", 5000, "--json").json["recommendations"]
    assert "fewer" not in all_["note"]


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ("--user later", "nothing is known of this user: popular items"),
        ("--user late", "nothing of this user was in training: judged by the one choice known since"),
        ("--history p0003 --history p0004", "someone new: judged by the 2 items given"),
        ("--user s00003", ""),
    ],
)
def test_a_list_says_what_it_rests_on(ask: Ask, who: str, says: str) -> None:
    (one,) = ask("recommend", "bpr", *who.split(), "--json").json["recommendations"]
    assert one["note"].startswith(says)
    assert bool(one["note"]) == bool(says)
    assert says in " ".join(ask("recommend", "bpr", *who.split()).out.split())


def test_a_popular_list_is_never_called_personal(ask: Ask) -> None:
    for who in ("--user later", "--user late", "--history p0003", "--user s00003"):
        (one,) = ask("recommend", "popular", *who.split(), "--json").json["recommendations"]
        assert one["note"] == "popular items, the same for everybody"


# hostile titles


@pytest.mark.parametrize(
    "command",
    [
        "recommend bpr --user later -k 30",
        "recommend bpr --history p0000 --why",
        "similar bpr --item p0003 -k 29",
        "why bpr --user late --item p0000",
        "similar bpr --item pmal",
    ],
)
def test_titles_do_not_steer_the_terminal(ask: Ask, command: str) -> None:
    for more in ([], ["--json"]):
        answer = ask(*command.split(), *more)
        assert not re.search("[\x1b\u202e]", answer.out + answer.err)
    if answer.code == 0:
        assert isinstance(answer.json, dict)


def test_a_title_comes_back_whole_from_json(ask: Ask) -> None:
    (one,) = ask("recommend", "bpr", "--user", "later", "-k", 30, "--json").json["recommendations"]
    assert HOSTILE in {item["title"] for item in one["items"]}


def test_titles_do_not_steer_who_reads_the_page(ask: Ask, place: Path) -> None:
    pages = [(place / name / "report.html").read_text("utf-8") for name in ("bpr", "popular")]
    html = "".join(pages)
    assert r"\x1b[31mNice\x1b[0m \u202epmal" in html  # it is on one of the two pages
    assert "\x1b" not in html
    assert "\u202e" not in html


# doctor


def said_of(ask: Ask, store: Path) -> str:
    answer = ask("doctor", "--store", store, "--json")
    assert answer.code == 0
    return answer.json["store"]


def test_doctor_really_opens_the_store(ask: Ask, tmp_path: Path) -> None:
    file, garbage, newer = tmp_path / "file", tmp_path / "garbage", tmp_path / "newer"
    file.touch()
    for place in (garbage, newer):
        place.mkdir()
    (garbage / "store.sqlite").write_bytes(b"not a database, and long enough to be told from an empty one" * 20)
    with sqlite3.connect(newer / "store.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    for store, why in ((file, "is a file"), (file / "in", "is a file"), (garbage, "is damaged"), (newer, "newer")):
        said = said_of(ask, store)
        assert "NOT usable" in said
        assert ", writable" not in said
        assert why in said
        assert "--store DIR" in said


def test_doctor_finds_nothing_wrong_where_nothing_is(ask: Ask, tmp_path: Path) -> None:
    from penchant.store import Store

    said = said_of(ask, tmp_path / "none")
    assert "not made yet" in said
    assert said.endswith(", writable")
    assert not (tmp_path / "none").exists()
    with Store(tmp_path / "some").vectors("text:x") as vectors:
        vectors.put(["ab" * 32], np.ones((1, 3)))
        assert said_of(ask, tmp_path / "some").endswith(", writable")
    assert said_of(ask, tmp_path / "some").endswith(", writable")
