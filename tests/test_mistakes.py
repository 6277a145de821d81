"""What somebody new gets wrong, in Python and on the command line: one clear message that says what is meant."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from answers_of import Answer, Ask, asking, surrounded
from worlds import World, worded

from penchant import encode, folder, models, saved, shop
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids
from penchant.errors import BadInput, BadTable, MissingFile, UnknownId
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


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data without pictures, and with recipes."""
    made = tmp_path_factory.mktemp("mistakes")
    data = shop.make(products=30, shoppers=40, choices=6, pictures=False).dataset
    folder.write(data, made / "data")
    for name in ("popular", "ease"):
        tables = {"data": str(made / "data"), "model": {"name": name}, "protocol": {"at": [3]}}
        (made / f"{name}.toml").write_text(tomli_w.dumps(tables), "utf-8")
    return made


@pytest.fixture
def at(ask: Ask, shopped: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The command line inside a folder with the runs `ease` and `popular`."""
    monkeypatch.chdir(shopped)
    for name in ("ease", "popular"):
        if not (shopped / name).exists():
            assert ask("run", f"{name}.toml", "--out", name).code == 0
    return ask


def mistake(answer: Answer) -> str:
    """The one message of a mistake."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert len(re.findall(r"^penchant: [A-Z]\w+: ", answer.err, re.MULTILINE)) == 1
    return answer.err.strip()


def test_what_has_no_content_says_how_to_ask_on_the_command_line(at: Ask) -> None:
    said = mistake(at("similar", "ease", "--item", "p0001", "--by", "content"))
    assert "Ask by behaviour (--by behaviour), or fit it" in said
    assert "by=" not in said
    assert at("similar", "ease", "--item", "p0001", "--by", "behaviour").code == 0


def test_a_user_and_a_history_together_are_told_apart(at: Ask) -> None:
    said = mistake(at("recommend", "ease", "--user", "s00007", "--history", "p0003"))
    assert "Leave one out:  penchant recommend ease --user s00007  or  penchant recommend ease --history p0003" in said
    assert "give --user ID, or --history ITEM" in mistake(at("recommend", "ease"))


def test_a_model_that_was_saved_by_itself_recommends(at: Ask, tmp_path: Path) -> None:
    alone = tmp_path / "models" / "weave"
    saved.read("ease/model").save(alone)
    for command in ("recommend {} --user s00007", "similar {} --item p0003", "why {} --user s00007 --item p0003"):
        mine, runs_ = (at(*command.format(place).split(), "--json") for place in (alone, "ease"))
        assert mine.code == 0, mine.err
        assert without_titles(mine.json) == without_titles(runs_.json)
    assert f"all are in {alone / 'ids.json'}. For someone new:  penchant recommend {alone}" in mistake(
        at("recommend", alone, "--user", "s")
    )
    assert f"all are in {alone / 'ids.json'}." in mistake(at("similar", alone, "--item", "s"))
    assert f"a saved model, which has no numbers. It recommends:  penchant recommend {alone} --user ID" in mistake(
        at("show", alone)
    )
    assert "the model of a run. Give the run:  ease" in mistake(at("recommend", "ease/model", "--user", "s00007"))


def without_titles(value: Any) -> Any:
    """An answer without what only a catalogue knows."""
    if isinstance(value, dict):
        left_out = ("title", "shared", "why", "sentence", "evidence", "span", "words")
        return {key: without_titles(inner) for key, inner in value.items() if key not in left_out}
    return [without_titles(inner) for inner in value] if isinstance(value, list) else value


def test_the_folder_of_a_run_loads_its_model(at: Ask) -> None:
    assert saved.read("ease").name == "ease"
    with pytest.raises(MissingFile, match=r"no model in data: .*penchant run RECIPE\.toml"):
        saved.read("data")


@pytest.mark.long
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("protocol.ranking={candidates=5, seed=3}", "ranking"),
        ("protocol.ranking={candidates=6, seed=0}", "ranking"),
        ("protocol.min_test=2", "min_test"),
        ("split.seed=1", "split"),
    ],
)
def test_runs_that_differ_are_told_in_what_and_how_to_mend_it(
    at: Ask, tmp_path: Path, setting: str, words: str
) -> None:
    first, second, third = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    like = ["--set", "protocol.ranking={candidates=5, seed=0}", "--set", "split.ratios=[0.4,0.2,0.4]"]
    assert at("run", "ease.toml", "--out", first, *like).code == 0
    assert at("run", "popular.toml", "--out", second, *like, "--set", setting).code == 0
    said = mistake(at("compare", first, second))
    assert f"\n  {words}: " in said
    assert ("Give the recipes the same `data`" in said) == (words == "split")
    if words != "split":
        more = shlex.split(said.rpartition("RECIPE.toml")[2])
        assert at("run", "popular.toml", "--out", third, *like, "--set", setting, *more).code == 0
        assert at("compare", first, third).code == 0


def test_a_comparison_names_protocol_and_data_where_both_differ(at: Ask, tmp_path: Path) -> None:
    settings = ["--set", "split.seed=1", "--set", "protocol.ranking={candidates=5}"]
    assert at("run", "popular.toml", "--out", tmp_path / "b", *settings).code == 0
    assert "`split`, and the same [protocol] ranking, and run them again" in mistake(
        at("compare", "ease", tmp_path / "b")
    )


def test_a_folder_without_a_log_says_that_it_is_the_log_that_is_missing(ask: Ask, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, said in (
        ("", "The folder is empty. The log of who chose what is missing"),
        ("items.csv", "It has: items.csv. The log of who chose what is missing"),
        ("users.csv", "It has: items.csv, users.csv. The log of who chose what is missing"),
        ("clicks.csv", "It has: clicks.csv, items.csv, users.csv. Rename the right one."),
    ):
        if name:
            (raw / name).write_text("item_id,title\np1,One\n")
        assert f"raw has no interactions.csv. {said}" in mistake(ask("data", "import", "csv", raw, "--out", "data"))


@pytest.mark.long
@pytest.mark.parametrize("by", ["by_ratio", "leave_last_out"])
@pytest.mark.parametrize("timed", [True, False])
def test_people_of_one_choice_each_are_parted_by_time(ask: Ask, tmp_path: Path, by: str, timed: bool) -> None:
    item = np.random.default_rng(0).choice(8, 200, p=np.arange(8, 0, -1) / 36)
    times = [f",{1_700_000_000 + 1000 * n}" if timed else "" for n in range(200)]
    lines = [f"u{n},p{i}{time}\n" for n, (i, time) in enumerate(zip(item, times, strict=True))]
    (tmp_path / "log.csv").write_text("user_id,item_id" + ",timestamp" * timed + "\n" + "".join(lines))
    assert ask("data", "import", "csv", tmp_path / "log.csv", "--out", "data").code == 0
    (tmp_path / "x.toml").write_text('data = "data"\n[protocol]\nat = [3]\n')
    said = mistake(ask("run", "x.toml", "--set", f"split.by={by}"))
    assert "A typical user has 1 choice, too few for a part of each. Part them by moments:  " in said
    assert ("add a `timestamp` column" in said) != timed
    assert said.endswith('split = { by = "by_time" }')
    if timed:
        assert ask("run", "x.toml", "--set", "split.by=by_time").code == 0
        said = mistake(ask("run", "x.toml", "--set", "split.by=by_time", "--final"))
        assert said.endswith('nothing can be learned but what most choose:  [model] name = "popular"')
        popular = ("run", "x.toml", "--set", "split.by=by_time", "--set", "model.name=popular", "--out", "popular")
        assert ask(*popular).code == ask(*popular, "--final").code == 0
