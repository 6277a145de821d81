"""leaky = "reproduce-paper": what it lets through, that nothing else does, that it is marked everywhere and serves nobody."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from answers_of import Ask, asking, surrounded
from rich.console import Console
from toy_lm import MARK, Toy, world
from worlds import interactions, keys

import penchant as pc
from penchant import compare, encode, enrich, examples, folder, leaky, page, run, runs, saved, stored
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids
from penchant.errors import BadSetting, Leak
from penchant.features import Features, join
from penchant.lm import Request
from penchant.models.mllmrec import Mllmrec
from penchant.ranking import Task, evaluate
from penchant.recipe import Recipe, parse, read
from penchant.report import Report
from penchant.results import PerUser
from penchant.split import PARTS, Split, given
from penchant.store import Store
from penchant.table import table
from penchant.training import Training

# In one process, which makes once what they share, and part of ./test; scripts/check has to be quick.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("leaky")]

INPUTS = {
    "item_texts": {"from": "catalog.text", "encoder": "minilm"},
    "user_preferences": {"from": "user_preference", "lm": "extractive", "encoder": "minilm"},
}


def raw(place: Path | str = "shop", **more: Any) -> dict[str, Any]:
    return {
        "data": str(place),
        "split": {"by": "given"},
        "inputs": INPUTS,
        "model": {"name": "mllmrec", "dim": 4, "hidden": 8},
        "training": {"epochs": 2, "batch_size": 64, "validate_every": 1, "select": "recall@10"},
        "protocol": {"at": [10], "mask": ["train"], "history": ["train"]},
        **more,
    }


LEAKY = {"leaky": "reproduce-paper"}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return world()


@pytest.fixture(scope="module")
def split(data: Dataset) -> Split:
    return given(data.interactions, data.given)


def titles(request: Request) -> set[str]:
    return {mark for mark in MARK.findall(request.user) if mark.startswith("TTL")}


def chosen(split: Split, user: int, *parts: str) -> set[str]:
    return {f"TTL{item}Q" for name in parts for item in split.part(name).item[split.part(name).user == user].tolist()}


# what is let through


def test_a_leaky_question_shows_held_out_choices_and_an_honest_one_never_does(
    data: Dataset, split: Split, tmp_path: Path
) -> None:
    """Each title carries a token of its own, so it shows of whom a question tells what."""
    asked = []
    for n, seen in enumerate((split.train, leaky.everything(split))):
        lm = Toy()
        enrich.run("user_preference", seen, data.catalog, lm, Store(tmp_path / str(n)))
        asked.append({request.about[1]: titles(request) for request in lm.heard if request.about})
    honest, leaking = asked
    for row, key in enumerate(data.users.keys):
        held = chosen(split, row, "valid", "test") - chosen(split, row, "train")
        assert held
        assert honest[key] == chosen(split, row, "train")
        assert leaking[key] == honest[key] | held


def shown(store: Store, made: run.Prepared, user: str) -> set[str]:
    """Titles in the question behind a user's text, as the store has it."""
    (written,) = (w for w in made.written if w.texts.ids.kind == "user")
    (row,) = stored.look(store, written.ref, user)
    assert row.call is not None
    return {mark for mark in MARK.findall(row.call.request["user"]) if mark.startswith("TTL")}


@pytest.fixture(scope="module")
def place(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data") / "world"
    folder.write(data, found)
    return found


def test_only_the_recipe_that_names_it_leaks_and_one_store_keeps_both_apart(
    place: Path, split: Split, tmp_path: Path
) -> None:
    """The honest run comes last, when the leaky texts are in the store."""
    pytest.importorskip("sentence_transformers")
    store = Store(tmp_path / "store")
    alone = run.prepare(parse(raw(place), "alone"), Store(tmp_path / "alone"))
    leaking = run.prepare(parse(raw(place, **LEAKY), "leaking"), store)
    honest = run.prepare(parse(raw(place), "honest"), store)
    for row, key in enumerate(split.users.keys):
        assert shown(store, honest, key) == chosen(split, row, "train")
        assert shown(store, leaking, key) == chosen(split, row, *PARTS)
    assert {n: f.hash for n, f in honest.inputs.items()} == {n: f.hash for n, f in alone.inputs.items()}
    texts = [w for made in (honest, leaking) for w in made.written]
    assert len({w.ref for w in texts}) == 2
    cards = [store.card(w.ref) for w in texts]
    assert cards[0]["interactions"] == honest.split.train.hash
    assert cards[1]["interactions"] == leaky.everything(honest.split).hash
    assert leaking.inputs["item_texts"].source.interactions is None  # texts of the catalogue are the same
    assert leaking.inputs["item_texts"].hash == honest.inputs["item_texts"].hash


def leaking_features(data: Dataset, split: Split, store: Store) -> Features:
    texts = enrich.run("user_preference", leaky.everything(split), data.catalog, Toy(), store)
    return encode.texts(texts, Words(), store)


class Words:
    """A text encoder: the sum of a random vector for each mark in a text."""

    name, revision, dim = "words", "1", 64

    def cut(self, batch: Any) -> np.ndarray:
        return np.zeros(len(batch), int)

    def encode(self, batch: Any) -> np.ndarray:
        found = [[_vector(mark) for mark in MARK.findall(text)] for text in batch]
        return np.stack([np.sum(each, axis=0) if each else np.ones(64) for each in found]).astype(np.float32)


def _vector(mark: str) -> np.ndarray:
    return np.random.default_rng(list(mark.encode())).normal(size=64)


def test_fit_refuses_what_leaks_wherever_it_comes_from(data: Dataset, split: Split, tmp_path: Path) -> None:
    """As it was made, as it is stored, joined with others, admitted and stored, admitted elsewhere."""
    store = Store(tmp_path)
    made = leaking_features(data, split, store)
    items = encode.texts(data.catalog.texts(), Words(), store)
    everything = split.known(PARTS)
    inside = leaky.admitted({"user_preferences": made}, split.train)["user_preferences"]
    (ref,) = (ref for ref in store.refs("features") if store.load_features(ref).ids.kind == "user")
    again = store.load_features(store.save_features(inside, "again"))
    model = Mllmrec(dim=32, hidden=64)
    elsewhere = leaky.admitted({"user_preferences": made}, everything)["user_preferences"]
    for wrong in (made, store.load_features(ref), join([made, made]), again, elsewhere):
        assert wrong.source.leaking
        with pytest.raises(Leak, match=r"`user_preferences` was written from interactions leaking:[0-9a-f]{8}, but"):
            model.bind(split.train, {"item_texts": items, "user_preferences": wrong})
    for wrong in (made, inside):  # nor does a final fit, which may see the very same choices
        with pytest.raises(Leak):
            model.bind(everything, {"item_texts": items, "user_preferences": wrong})
    assert everything.hash != leaky.everything(split).hash == leaky.everything(split).take(np.arange(90)).hash
    model.bind(split.train, {"item_texts": items, "user_preferences": inside})


def test_the_leak_makes_the_number_and_the_default_is_the_honest_one(tmp_path: Path) -> None:
    """Choices by kind, texts that name what was chosen, and an encoder that reads names: all a leak needs."""
    users, items, kinds = 400, 80, 2
    rng = np.random.default_rng(0)
    parts: list[list[tuple[int, int]]] = [[], [], []]
    for u in range(users):
        mine = rng.permutation(np.flatnonzero(np.arange(items) % kinds == u % kinds))[:9]
        for n, i in enumerate(mine.tolist()):
            parts[0 if n < 6 else 1 if n == 6 else 2].append((u, i))
    ids = Ids("user", keys("user", users)), Ids("item", keys("item", items))
    split = Split(*(interactions(*ids, *np.array(part).T) for part in parts), how="planted")
    catalog = Catalog(ids[1], {"title": tuple(f"KND{i % kinds}Q TTL{i}Q" for i in range(items))}, Pictures.none(ids[1]))
    store, model = Store(tmp_path), Mllmrec(dim=32, hidden=64, neighbours_jaccard=0)
    given = {"item_texts": encode.texts(catalog.texts(), Words(), store)}

    def recall(seen: Any) -> float:
        texts = enrich.run("user_preference", seen, catalog, Toy(), store)
        made = given | {"user_preferences": encode.texts(texts, Words(), store)}
        made = leaky.admitted(made, split.train) if seen is not split.train else made
        training = Training(
            epochs=40, batch_size=256, learning_rate=1e-2, validate_every=5, patience=6, device="cpu", select="recall@5"
        )
        rec = model.fit(split.train, split.valid, training, **made)
        assert rec.leaking == (() if seen is split.train else ("user_preferences",))
        task = Task(at=(5,), mask=("train",), history=("train",))
        return evaluate(rec, split, task).mean["recall@5"]

    honest, leaking = recall(split.train), recall(leaky.everything(split))
    assert honest > 1.5 * 5 / items, "it learns the kinds"
    assert leaking > 1.5 * honest
    without_held = replace(split, valid=split.valid.take(np.arange(0)), test=split.test.take(np.arange(0)))
    texts = [enrich.run("user_preference", s.train, catalog, Toy(), store).values for s in (split, without_held)]
    assert texts[0] == texts[1]


# what is refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"leaky": "yes"}, r"the only leak that is repeated is a paper's:  leaky = \"reproduce-paper\""),
        ({**LEAKY, "search": {"model.threshold": [0.5, 0.7]}}, r"\[search\] in a leaky recipe"),
        ({**LEAKY, "noise": {"rates": [0, 0.1]}}, r"\[noise\] in a leaky recipe"),
        ({**LEAKY, "model": {"name": "lightgcn"}}, "is for mllmrec"),
        ({**LEAKY, "inputs": {"item_texts": INPUTS["item_texts"]}}, r"Add to \[inputs\]:  user_preferences = "),
    ],
)
def test_a_leaky_recipe_may_do_nothing_but_repeat_the_number(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        parse(raw(**more), "leaky")


def test_no_way_round_the_recipe(tmp_path: Path) -> None:
    honest, leaking = tmp_path / "honest.toml", tmp_path / "leaky.toml"
    honest.write_text(tomli_w.dumps(raw()))
    leaking.write_text(tomli_w.dumps(raw(**LEAKY)))
    for path in (honest, leaking):
        for item in ('leaky="reproduce-paper"', "leaky=reproduce-paper", 'leaky=""'):
            with pytest.raises(BadSetting, match="--set leaky: a leak is named in the recipe itself"):
                read(path, [item])
    with pytest.raises(BadSetting, match=r"\[search\]"):
        read(leaking, ['search."model.dim"=[4, 8]'])
    found = read(leaking)
    assert (read(honest).leaky, found.leaky) == (None, "reproduce-paper")
    with pytest.raises(BadSetting, match=r"\[search\]"):
        replace(found, search={"model.dim": (4, 8)})


def test_texts_that_nobody_wrote_from_choices_are_no_leak(place: Path, data: Dataset, tmp_path: Path) -> None:
    folder.write(replace(data, user_fields={"profile": ("likes things",) * len(data.users)}), tmp_path / "world")
    given = {"from": "users.profile", "origin": "external", "encoder": "minilm"}
    wish = parse(raw(tmp_path / "world", **LEAKY, inputs={**INPUTS, "user_preferences": given}), "leaky")
    with pytest.raises(BadSetting, match="no input of this recipe is written so"):
        run.prepare(wish, Store(tmp_path / "store"))


# marks and refusals of a finished run


@pytest.fixture(scope="module")
def pair(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of a leaky recipe and of its honest twin, and the recipe of the first."""
    pytest.importorskip("sentence_transformers")
    base = tmp_path_factory.mktemp("pair")
    found = {"base": base}
    for name, more in (("leaky", LEAKY), ("honest", {})):
        recipe = parse(raw(place, **more), name)
        found[name] = base / name

        def finish(made: run.Run, into: Path = base / name) -> None:
            page.write(into, made.report, made.per_user, made.top, examples.make(made), (), examples.audience(made))

        run.run(recipe, base / name, Store(base / "store"), finish=finish)
        (base / f"{name}.toml").write_text(tomli_w.dumps(dict(recipe.raw)))
    return found


def test_every_report_and_plot_says_that_it_leaks(pair: dict[str, Path]) -> None:
    for name, leaks in (("leaky", True), ("honest", False)):
        report = Report.read(pair[name])
        body = json.loads((pair[name] / "report.json").read_text())
        assert (report.leaks, body["leaky"]) == (leaks, "reproduce-paper" if leaks else None)
        assert report.marks == (("leaking: user_preferences",) if leaks else ())
        assert body["inputs"]["user_preferences"]["leaking"] is leaks
        head = json.loads((pair[name] / "model" / "model.json").read_text())
        assert head["leaking"] == (["user_preferences"] if leaks else [])
        html = (pair[name] / "report.html").read_text()
        assert ("<title>Leaking:" in html, "they prove nothing about the model" in html) == (leaks, leaks)
        assert ('<span class="mark leaking">leaking: user_preferences' in html) is leaks
        plots = re.findall(r"<svg viewBox.*?</svg>", html[html.index("Learning") :], re.DOTALL)
        assert len(plots) >= 4
        assert {">leaking</text></svg>" in plot for plot in plots} == {leaks}
        assert ("leaking:" in printed(table([report]))) is leaks


def printed(shown: Any) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(shown)
    return re.sub(r"\s+", " ", console.export_text())


def test_a_comparison_marks_it_everywhere_and_never_holds_others_against_it(pair: dict[str, Path]) -> None:
    runs_ = [(Report.read(pair[n]), PerUser.read(pair[n])) for n in ("leaky", "honest")]
    made = compare.compare(runs_)
    assert made.reference == "mllmrec"
    assert {row.label for row in made.rows} == {"mllmrec", "mllmrec (leaky)"}
    text = printed(made.table())
    assert text.count("leaking:") == len(made.metrics)
    page_ = made.write(pair["base"] / "compared").read_text()
    assert page_.count("leaking: user_preferences") == 2 * len(made.metrics)  # the table, and that of differences
    rows = json.loads((pair["base"] / "compared" / "compare.json").read_text())["rows"]
    assert {row["model"]: row["marks"] for row in rows} == {
        "mllmrec": [],
        "mllmrec (leaky)": ["leaking: user_preferences"],
    }
    assert compare.compare(runs_, "mllmrec").reference == "mllmrec"


def test_nobody_is_served_by_a_leaky_run(pair: dict[str, Path]) -> None:
    """Whatever serves opens a run by `runs.read` or a model by `pc.load`; both are shut."""
    for opening in (runs.read, lambda run_: pc.load(run_ / "model")):
        with pytest.raises(Leak, match="It recommends to nobody"):
            opening(pair["leaky"])
        opening(pair["honest"])
    assert saved.read(pair["leaky"] / "model", leaking=True).leaking == ("user_preferences",)
    leaking: Recipe = read(pair["base"] / "leaky.toml")
    with pytest.raises(Leak, match="--final makes a model for use"):
        run.final(leaking, pair["base"] / "leaky-final", Store(pair["base"] / "store"), source=pair["leaky"])
    assert not (pair["base"] / "leaky-final").exists()


def test_the_command_line_refuses_with_one_message(
    pair: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    surrounded(monkeypatch, pair["base"] / "store")
    ask: Ask = asking(capsys, monkeypatch)
    leaking, recipe = pair["leaky"], pair["base"] / "leaky.toml"
    for words in (
        ("recommend", leaking, "--user", "u0"),
        ("recommend", leaking, "--history", "i0"),
        ("similar", leaking, "--item", "i0"),
        ("why", leaking, "--user", "u0", "--item", "i1"),
        ("faithful", leaking),
        ("run", recipe, "--out", leaking, "--final"),
        ("run", pair["base"] / "honest.toml", "--out", pair["base"] / "new", "--set", "leaky=reproduce-paper"),
    ):
        answer = ask(*words)
        assert (answer.code, answer.out) == (2, ""), words
        assert answer.err.count("penchant: ") == 1, words
        assert "leak" in answer.err
    assert not (pair["base"] / "new").exists()
    assert "leaking:" in ask("show", leaking).out
    card = next(ref for ref in Store(pair["base"] / "store").refs("texts") if leaks(pair, ref))
    assert "has seen held-out choices" in ask("show", card).out
    assert json.loads(ask("show", card, "--json").out)["leaking"] is True


def leaks(pair: dict[str, Path], ref: str) -> bool:
    return Store(pair["base"] / "store").load_texts(ref).source.leaking


def test_the_pairs_differ_by_the_leak_alone() -> None:
    recipes = Path(__file__).parent.parent / "recipes"
    for name in ("movielens", "shop"):
        honest, leaking = (read(recipes / f"{name}-mllmrec-{kind}.toml") for kind in ("honest", "leaky"))
        assert {**honest.raw, **LEAKY} == leaking.raw
        assert len(honest.seeds) == 5
