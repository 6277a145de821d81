"""Noise: random choices in train alone, the same questions, nothing trained twice, and a report that says what was lost."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from test_run import log, small_world
from worlds import checkerboard

from penchant import examples, folder, noise, page, plots, run
from penchant.data import Interactions
from penchant.errors import BadRecipe, BadSetting, Leak, MissingInput, PenchantError, UnknownKey
from penchant.features import Features
from penchant.graph import add_noise, bipartite
from penchant.models.bpr import Bpr
from penchant.models.ease import Ease
from penchant.models.lightgcn import LightGcn
from penchant.models.lmmrec import Lmmrec
from penchant.models.rlmrec import Rlmrec
from penchant.ranking import Task, evaluate
from penchant.recipe import Recipe, parse, read
from penchant.report import Report
from penchant.run import Run
from penchant.seeds import Silent
from penchant.store import Store
from penchant.table import noise as terminal
from penchant.texts import Provenance
from penchant.training import Training
from penchant.under_noise import Noise, Noisy

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

LIGHT = {"name": "lightgcn", "dim": 8, "layers": 2}
RATES = [0.2, 0, 0.4]
TRAINING = {"epochs": 4, "batch_size": 128, "learning_rate": 2e-2, "validate_every": 2, "seeds": [0, 3]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop of the tests of runs, with vectors of users and items under the names that RLMRec asks for."""
    world = small_world()
    rng = np.random.default_rng(2)
    made = dict(world.features)
    for name, ids in (("user_profiles", world.users), ("item_profiles", world.items)):
        values = rng.normal(size=(len(ids), 6)).astype(np.float32)
        made[name] = Features(ids, values, np.ones(len(ids), bool), Provenance("planted"))
    place = tmp_path_factory.mktemp("world") / "small"
    folder.write(replace(world, features=made), place)
    return place


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def raw(data: Path, **tables: Any) -> dict[str, Any]:
    """RLMRec, and beside it two models without texts."""
    return {
        "data": str(data),
        "split": {"by": "given"},
        "inputs": {name: {"from": f"features/{name}"} for name in ("user_profiles", "item_profiles")},
        "model": {"name": "rlmrec", "backbone": LIGHT},
        "noise": {"rates": RATES, "seed": 5, "beside": [LIGHT, {"name": "bpr", "dim": 8}]},
        "training": TRAINING,
        "protocol": {"mask": ["train"], "history": ["train"]},
        **tables,
    }


def recipe(data: Path, **tables: Any) -> Recipe:
    return parse({key: value for key, value in raw(data, **tables).items() if value is not None}, "noisy")


def plain(report: Report) -> Noise:
    assert report.noise is not None
    return report.noise


def finish(place: Path) -> Callable[[Run], None]:
    def write(made: Run) -> None:
        page.write(place, made.report, made.per_user, made.top, examples.make(made), (), examples.audience(made))

    return write


@pytest.fixture(scope="module")
def finished(data: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("runs") / "noisy"
    return run.run(recipe(data), place, store, finish=finish(place))


def keys(chosen: Interactions) -> set[tuple[int, int]]:
    return set(zip(chosen.user.tolist(), chosen.item.tolist(), strict=True))


# what is measured


def test_the_runs_own_numbers_are_those_without_noise(finished: Run, data: Path, store: Store, tmp_path: Path) -> None:
    without = run.run(recipe(data, noise=None), tmp_path / "out", store)
    assert without.report.noise is None
    assert finished.report.metrics == without.report.metrics
    assert finished.report.curve == without.report.curve
    assert finished.report.inputs == without.report.inputs
    own = plain(finished.report).models[0].per_rate[0]
    assert own.rate == 0
    for name, metric in without.report.metrics.items():
        assert own.per_seed[name] == metric.per_seed


def test_no_noise_beside_is_the_plain_run_of_that_model_bit_for_bit(
    finished: Run, data: Path, store: Store, tmp_path: Path
) -> None:
    for n, model in ((1, LIGHT), (2, {"name": "bpr", "dim": 8})):
        bare = run.run(recipe(data, noise=None, inputs={}, model=model), tmp_path / str(n), store)
        for name, metric in bare.report.metrics.items():
            assert plain(finished.report).models[n].per_rate[0].per_seed[name] == metric.per_seed


def test_noisy_numbers_are_those_of_a_twin_made_by_hand(finished: Run, data: Path) -> None:
    """LightGCN at 40 %, each seed: drawn, trained, and its recall counted item by item, false choices masked like true ones."""
    split, report = finished.prepared.split, plain(finished.report)
    assert report.rates == (0, 0.2, 0.4)
    held = split.test.matrix().toarray() > 0
    for place, seed in enumerate((0, 3)):
        train = add_noise(split.train, 0.4, 5 + seed, avoid=split.valid.join(split.test))
        training = replace(recipe(data).training, seed=seed)
        rec = LightGcn(dim=8, layers=2).fit(train, split.valid, training)
        asked = np.flatnonzero(held.any(axis=1))
        score = rec.score(replace(split, train=train).queries("test", ("train",), asked)).astype(float)
        score[train.matrix().toarray()[asked] > 0] = -np.inf
        listed = np.argsort(-score, axis=1)[:, :20]
        recall = np.take_along_axis(held[asked], listed, axis=1).sum(axis=1) / held[asked].sum(axis=1)
        got = report.models[1].per_rate[2].per_seed["recall@20"][place]
        assert got == pytest.approx(recall.mean(), abs=1e-12)
        assert got != report.models[1].per_rate[0].per_seed["recall@20"][place]


@pytest.mark.parametrize("seed", [0, 3])
def test_noise_is_of_the_right_size_and_never_held_out(data: Path, finished: Run, seed: int) -> None:
    split = finished.prepared.split
    made = {rate: noise.noisy(recipe(data), split, rate, seed) for rate in (0, 0.2, 0.4)}
    true, held = keys(split.train), keys(split.valid) | keys(split.test)
    for rate, dirty in made.items():
        assert true <= keys(dirty.train)
        assert len(keys(dirty.train)) == len(dirty.train) == len(true) + round(rate * len(true))
        assert not keys(dirty.train) & held
        assert (dirty.valid, dirty.test, dirty.how) == (split.valid, split.test, split.how)
    assert made[0].train.hash == split.train.hash
    again = noise.noisy(recipe(data), split, 0.4, seed).train
    other = noise.noisy(recipe(data, noise={"rates": RATES, "seed": 6}), split, 0.4, seed).train
    assert made[0.4].train.hash == again.hash != other.hash


def test_relative_loss_is_what_is_gone_of_the_value_without_noise(finished: Run) -> None:
    for model in plain(finished.report).models:
        for at in model.per_rate:
            for name, mean in at.mean.items():
                assert mean == pytest.approx(np.mean(at.per_seed[name]))
                assert at.relative_loss[name] == pytest.approx(1 - mean / model.per_rate[0].mean[name])
    measured = {0.1: [{"ndcg@10": 0.5}], 0.2: [{"ndcg@10": 0.25}]}
    assert [at.relative_loss for at in Noisy.of("x", measured).per_rate] == [{"ndcg@10": None}] * 2  # no rate 0
    measured = {0: [{"ndcg@10": 0.0}, {"ndcg@10": 0.0}], 0.2: [{"ndcg@10": 0.0}, {"ndcg@10": 0.5}]}
    assert Noisy.of("x", measured).per_rate[1].relative_loss == {"ndcg@10": None}  # nothing to lose
    assert Noisy.of("x", measured).per_rate[1].mean == {"ndcg@10": 0.25}


# what is kept, and going on


def numbers(report: Report) -> dict[str, Any]:
    return {name: value for name, value in vars(report).items() if name not in ("seconds", "peak_rss_mb")}


def fits(place: Path) -> Counter[tuple[str, float, int]]:
    return Counter((line["model"], line["rate"], line["seed"]) for line in log(place, "noise"))


def test_each_fit_is_made_once_and_the_runs_own_is_not_made_again(finished: Run) -> None:
    wanted = {(m, r, s) for m in ("rlmrec", "lightgcn", "bpr") for r in (0, 0.2, 0.4) for s in (0, 3)}
    assert fits(finished.folder) == Counter(wanted - {("rlmrec", 0, 0), ("rlmrec", 0, 3)})
    kept = list((finished.folder / "noise").iterdir())
    assert {path.suffix for path in kept} == {".json"}  # no checkpoint is left
    assert len(kept) == 16


class Stopped(Exception): ...


class StopAt(Silent):
    """Stops a run at the n-th word of its progress that a name begins with; step: within a fit, not before it."""

    def __init__(self, name: str, step: bool) -> None:
        self.name, self.wanted, self.here = name, step, False

    def stage(self, name: str, total: int | None = None) -> None:
        self.here = name.startswith(self.name)
        if self.here and not self.wanted:
            raise Stopped

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        if self.here and done == 3:
            raise Stopped


@pytest.mark.parametrize("step", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_report(
    finished: Run, data: Path, store: Store, tmp_path: Path, step: bool
) -> None:
    for name in ("lightgcn, noise none, seed 3", "bpr, noise 20 %, seed 0", "rlmrec, noise 40 %, seed 3"):
        with pytest.raises(Stopped):
            run.run(recipe(data), tmp_path / "out", store, StopAt(name, step))
        assert not (tmp_path / "out" / "report.json").exists()
    made = run.run(recipe(data), tmp_path / "out", store)
    assert numbers(made.report) == numbers(finished.report)
    assert set(fits(tmp_path / "out").values()) == {1}
    assert fits(tmp_path / "out") == fits(finished.folder)
    assert {path.suffix for path in (tmp_path / "out" / "noise").iterdir()} == {".json"}


@pytest.mark.long
def test_a_killed_process_leaves_whole_results_that_the_next_one_takes_up(
    finished: Run, data: Path, store: Store, tmp_path: Path
) -> None:
    import tomli_w

    path, out = tmp_path / "noisy.toml", tmp_path / "out"
    path.write_text(tomli_w.dumps(raw(data)), "utf-8")
    command = [sys.executable, "-m", "penchant", "run", str(path), "--out", str(out), "--store", str(store.path)]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list((out / "noise").glob("*.json"))) < 4:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*command, "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["noise"] == json.loads((out / "report.json").read_text("utf-8"))["noise"]
    assert numbers(Report.read(out)) == numbers(finished.report)
    assert set(fits(out).values()) == {1}
    assert len(fits(finished.folder) - fits(out)) <= 1  # one may have been killed between its result and its line


def test_what_is_changed_is_made_anew_and_nothing_else(data: Path, store: Store, tmp_path: Path) -> None:
    short = {**TRAINING, "seeds": [0], "epochs": 2}
    out = tmp_path / "out"
    first = run.run(recipe(data, training=short, noise={"rates": [0, 0.2], "beside": [LIGHT]}), out, store)
    assert set(fits(out)) == {("lightgcn", 0, 0), ("rlmrec", 0.2, 0), ("lightgcn", 0.2, 0)}
    epochs = len(log(out, "epoch"))
    wider = {**LIGHT, "dim": 4}
    second = run.run(recipe(data, training=short, noise={"rates": [0, 0.2], "beside": [wider]}), out, store)
    assert fits(out)["lightgcn", 0.2, 0] == fits(out)["lightgcn", 0, 0] == 2
    assert fits(out)["rlmrec", 0.2, 0] == 1
    assert plain(second.report).models[0] == plain(first.report).models[0]
    assert plain(second.report).models[1] != plain(first.report).models[1]
    third = run.run(recipe(data, training=short, noise={"rates": [0, 0.2, 0.4], "seed": 9}), out, store)
    assert fits(out)["rlmrec", 0.2, 0] == 2  # other false choices
    assert [model.name for model in plain(third.report).models] == ["rlmrec"]
    assert len(log(out, "epoch")) == epochs  # the run itself was never trained again
    with pytest.raises(BadSetting, match="holds another run"):
        run.run(recipe(data, training={**short, "epochs": 3}), out, store)
    run.run(recipe(data, training=short, noise={"rates": [0, 0.2, 0.4], "seed": 9}), out, store, fresh=True)
    assert fits(out) == Counter({("rlmrec", 0.2, 0): 1, ("rlmrec", 0.4, 0): 1})
    assert len(list((out / "noise").iterdir())) == 2


def test_a_search_chooses_without_noise_and_its_choice_is_what_meets_the_noise(
    data: Path, store: Store, tmp_path: Path
) -> None:
    short = {**TRAINING, "seeds": [0], "epochs": 2}
    search = {"model.weight_align": [0.0, 0.5]}
    beside = [{"name": "rlmrec", "backbone": LIGHT, "weight_align": w} for w in (0.0, 0.5)]
    wish = recipe(data, training=short, search=search, noise={"rates": [0, 0.4], "beside": beside})
    made = run.run(wish, tmp_path / "out", store)
    own, *others = plain(made.report).models
    chosen = made.report.settings["weight_align"]
    twin = others[[0.0, 0.5].index(chosen)]
    assert [at.per_seed for at in twin.per_rate] == [at.per_seed for at in own.per_rate]
    assert [at.per_seed for at in others[0].per_rate] != [at.per_seed for at in others[1].per_rate]
    assert len({own.name, *(model.name for model in others)}) == 3


# where it is shown


def test_the_report_comes_back_and_says_what_the_design_promises(finished: Run) -> None:
    assert Report.read(finished.folder) == finished.report
    written = json.loads((finished.folder / "report.json").read_text("utf-8"))["noise"]
    assert (written["metric"], written["rates"]) == ("recall@20", [0, 0.2, 0.4])
    assert [model["name"] for model in written["models"]] == ["rlmrec", "lightgcn", "bpr"]
    for model in written["models"]:
        for at in model["per_rate"]:
            assert set(at) == {"rate", "mean", "per_seed", "relative_loss"}
            assert set(at["mean"]) == set(at["per_seed"]) == set(finished.report.metrics)
    # what nobody can check is marked where it is used, and only there
    assert [len(model["marks"]) for model in written["models"]] == [2, 0, 0]
    assert set(finished.report.marks) == set(written["models"][0]["marks"])


def test_the_page_shows_lines_and_losses(finished: Run) -> None:
    text = (finished.folder / "report.html").read_text("utf-8")
    section = text[text.index('<section id="noise">') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 2
    last = plain(finished.report).models[1].per_rate[2]
    lost = last.relative_loss["recall@20"]
    assert lost is not None
    assert f"{last.mean['recall@20']:.4f}" in section
    assert f"{-100 * lost:.1f} %".replace("-", "−") in section
    assert "NDCG@20" in section


def test_a_page_without_noise_has_no_such_section(data: Path, store: Store, tmp_path: Path) -> None:
    wish = recipe(data, noise=None, inputs={}, model={"name": "popular"})
    run.run(wish, tmp_path / "out", store, finish=finish(tmp_path / "out"))
    assert "noise" not in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["noise"] is None


def test_the_terminals_table_has_a_row_a_model_and_a_column_a_rate(finished: Run) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    found = terminal(finished.report)
    assert found is not None
    console.print(found)
    lines = console.export_text().splitlines()
    assert [line.split() for line in lines if "none" in line] == [["model", "metric", "none", "20", "%", "40", "%"]]
    for model in plain(finished.report).models:
        rows = [line.split() for line in lines if line.split()[:1] == [model.name]]
        assert [row[1] for row in rows] == ["recall@20", "ndcg@20"]
        for row in rows:
            assert row[2:] == [f"{at.mean[row[1]]:.4f}" for at in model.per_rate]
    assert terminal(replace(finished.report, noise=None)) is None


def test_whiskers_reach_from_the_lowest_seed_to_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = ([{"recall@20": v} for v in values] for values in ((0.5, 0.7), (0.3, 0.2, 0.7)))
    shown = Noise("recall@20", (0, 0.1), (Noisy.of("<b>", dict(zip((0, 0.1), seeds, strict=True))),))
    drawn: list[Any] = []
    real = plots._svg
    monkeypatch.setattr(plots, "_svg", lambda figure, name: drawn.append(figure) or real(figure, name))
    svg = plots.under_noise(shown)
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg
    assert "30 %" not in svg
    assert svg.count(">none<") == svg.count(">10 %<") == 1
    (axes,) = drawn[0].axes
    line = axes.containers[0]
    np.testing.assert_allclose(line.lines[0].get_ydata(), [0.6, 0.4])
    ends = [segment[:, 1].tolist() for segment in line.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0.5, 0.7], [0.2, 0.7]])
    plots.under_noise(shown, lost=True)
    np.testing.assert_allclose(drawn[1].axes[0].containers[0].lines[0].get_ydata(), [1, 2 / 3])


def test_models_of_one_name_are_told_apart_by_their_settings() -> None:
    light, wide = LightGcn(dim=8, layers=2), LightGcn(dim=16, layers=2)
    models = (Lmmrec(light), Lmmrec(light, weight_mcs=0.0), Lmmrec(wide), light, Bpr())
    assert noise.names(models) == (
        "lmmrec backbone.dim=8 weight_mcs=0.02",
        "lmmrec backbone.dim=8 weight_mcs=0.0",
        "lmmrec backbone.dim=16 weight_mcs=0.02",
        "lightgcn",
        "bpr",
    )
    assert noise.names((light, light)) == ("lightgcn #1", "lightgcn #2")


# texts of the true choices


WORLD = checkerboard()
QUICK = Training(epochs=2, batch_size=64, learning_rate=0.01, validate_every=1, select="recall@3", device="cpu")


def written(kind: str, origin: str) -> Features:
    found = WORLD.features(kind)
    return replace(found, source=replace(found.source, interactions=origin))


def grown(seed: int = 0) -> Interactions:
    return add_noise(WORLD.train, 0.3, seed, avoid=WORLD.valid.join(WORLD.split.test))


def test_texts_of_the_true_choices_serve_under_noise_and_no_others_do() -> None:
    dirty, other = grown(), WORLD.valid.join(WORLD.train)
    model = Lmmrec(LightGcn(dim=8, layers=2), prototypes=4)
    items = written("item", WORLD.train.hash)
    rec = model.fit(dirty, WORLD.valid, QUICK, user_motives=written("user", WORLD.train.hash), item_motives=items)
    found = evaluate(rec, replace(WORLD.split, train=dirty), Task(at=(5,), mask=("train",), history=("train",)))
    assert 0 < found.mean["recall@5"] <= 1
    model.bind(dirty, {"user_motives": written("user", dirty.hash), "item_motives": items})
    for origin in (other.hash, WORLD.split.test.hash, grown(1).hash, "0" * 64):
        with pytest.raises(Leak, match="`user_motives` was written from interactions"):
            model.fit(dirty, WORLD.valid, QUICK, user_motives=written("user", origin), item_motives=items)
    with pytest.raises(Leak):  # the other way round is one: false choices would be told to a model of the true ones
        model.fit(WORLD.train, WORLD.valid, QUICK, user_motives=written("user", dirty.hash), item_motives=items)


def test_graphs_are_held_to_the_same_rule() -> None:
    class Walk(Ease):
        def build(self, train: Interactions, graph: Any) -> Any:  # type: ignore[override]
            return super().build(train)

    Walk().bind(grown(), {"graph": bipartite(WORLD.train)})
    with pytest.raises(Leak):
        Walk().bind(grown(), {"graph": bipartite(WORLD.train.join(WORLD.valid))})


def test_no_copy_says_that_it_was_grown() -> None:
    """A copy may lack some of the true choices, and then texts about all of them would be a leak."""
    dirty = grown()
    assert dirty.grown_from == WORLD.train.hash
    assert WORLD.train.grown_from is None
    copies = (
        dirty.take(np.arange(5)),
        dirty.take(np.arange(len(dirty))),
        dirty.join(WORLD.valid),
        WORLD.valid.join(dirty),
        replace(dirty, item=dirty.item[::-1]),
        replace(WORLD.split, train=dirty).known(("train", "valid")),
    )
    assert [copy.grown_from for copy in copies] == [None] * len(copies)
    assert dirty.take(np.arange(len(dirty))).hash == dirty.hash  # it is no part of what they are
    assert dirty.grow(WORLD.valid).grown_from == dirty.hash
    with pytest.raises(TypeError):
        Interactions(dirty.users, dirty.items, dirty.user, dirty.item, grown_from="x")  # type: ignore[call-arg]


# bad recipes: found before any work is done


BESIDE = {"rates": [0.1], "beside": [LIGHT]}


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"rate": [0.1]}, UnknownKey, r"\[noise\] has no setting `rate`. Did you mean `rates`\?"),
        ({"rates": []}, BadSetting, r"\[noise\] rates = \[\] asks for nothing; write for example  rates ="),
        ({"rates": [0.1, 1.5]}, BadSetting, "1.5 is not a share of the train part, from 0 to 1"),
        ({"rates": [-0.1]}, BadSetting, "-0.1 is not a share"),
        ({"rates": [float("nan")]}, BadSetting, "nan is not a share|finite"),
        ({"rates": [0.1, 0.2, 0.1]}, BadSetting, "has 0.1 twice"),
        ({"rates": [0, 0.0]}, BadSetting, "has 0.0 twice"),
        ({"rates": 0.1}, BadSetting, r"\[noise\] rates = 0.1"),
        ({"rates": [True]}, BadSetting, "valid number"),
        ({"rates": ["10 %"]}, BadSetting, "valid number"),
        ({"seed": -1}, BadSetting, r"\[noise\] seed = -1 must be 0 or more"),
        ({"seed": 0.5}, BadSetting, "valid integer"),
        ([0.1], BadSetting, r"\[noise\] must be a table"),
        ({"beside": []}, BadSetting, "beside must list models, or be left out"),
        ({"beside": LIGHT}, BadSetting, r"beside = \[\{ name"),
        ({"beside": ["lightgcn"]}, BadSetting, "beside, model 1: must be a table"),
        ({"beside": [{"dim": 8}]}, BadRecipe, r"beside, model 1: lacks `name`"),
        ({"beside": [LIGHT, {"name": "lightgnc"}]}, BadRecipe, "Did you mean `lightgcn`"),
        ({"beside": [{**LIGHT, "layer": 2}]}, UnknownKey, "has no setting `layer`. Did you mean `layers`"),
        ({"beside": [{**LIGHT, "dim": 0}]}, BadSetting, "dim = 0 must be 1 or more"),
        ({"beside": [LIGHT, LIGHT]}, BadSetting, "model 2, lightgcn, is in this recipe twice"),
        ({"beside": [{"name": "rlmrec", "backbone": LIGHT}]}, BadSetting, "model 1, rlmrec, is in this recipe twice"),
    ],
)
def test_a_bad_table_is_refused(data: Path, table: Any, error: type[PenchantError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        recipe(data, noise=table)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_noisy_is_refused(data: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="none is cold"):
        recipe(data, noise=BESIDE, split={"by": "cold_items"})
    for tables, error, message in (
        ({"noise": {"rates": [0.1], "beside": [{"name": "vbpr"}]}}, MissingInput, "vbpr needs `image`"),
        (
            {"model": LIGHT, "inputs": {}, "noise": {"beside": [{"name": "rlmrec", "backbone": {"name": "bpr"}}]}},
            MissingInput,
            "rlmrec needs `user_profiles`",
        ),
        ({"protocol": {"ranking": {"candidates": 44}}, "noise": {"rates": [0, 1]}}, BadSetting, "candidates = 44"),
    ):
        with pytest.raises(error, match=message):
            run.run(recipe(data, **tables), tmp_path / "out", store)
        assert not (tmp_path / "out").exists()
    run.prepare(recipe(data, protocol={"ranking": {"candidates": 44}}, noise={"rates": [0]}), store)


def test_the_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('data = "shop"\n[model]\nname = "bpr"\n[noise]\nseed = 3\nrats = [0.1]\n', "utf-8")
    with pytest.raises(UnknownKey, match="line 6"):
        read(path)
    path.write_text('data = "shop"\n[model]\nname = "bpr"\n[noise]\nbeside = [{ name = "bpr", dmi = 3 }]\n', "utf-8")
    with pytest.raises(UnknownKey, match=r"line 5.*Did you mean `dim`"):
        read(path)


# who is given what


def test_each_model_is_given_the_inputs_that_it_asks_for(data: Path, store: Store) -> None:
    vectors = {name: {"from": f"features/{name}"} for name in ("image", "user_profiles", "item_profiles")}
    profiles = ("user_profiles", "item_profiles")
    rlmrec = {"name": "rlmrec", "backbone": LIGHT}
    wish = recipe(data, inputs=vectors, model={"name": "vbpr"}, noise={"beside": [rlmrec, LIGHT, {"name": "ease"}]})
    assert wish.noise is not None
    own, *others = (noise.inputs_of(wish, model) for model in (None, *wish.noise.beside))
    assert own == ("image",)
    assert others == [profiles, (), ("image",)]
    ready = run.prepare(wish, store)
    assert (tuple(ready.inputs), set(ready.made)) == (("image",), set(vectors))
    # an input that nobody takes is named, as without noise
    with pytest.raises(MissingInput, match="rlmrec takes no input `image`"):
        run.prepare(recipe(data, inputs=vectors), store)
    # the recipe's own may ask for what another takes too
    wish = recipe(data, noise={"beside": [{**rlmrec, "form": "gen"}]})
    assert wish.noise is not None
    assert noise.inputs_of(wish) == noise.inputs_of(wish, wish.noise.beside[0]) == profiles


def test_final_asks_only_for_what_its_model_takes(data: Path, store: Store, tmp_path: Path) -> None:
    wish = recipe(data, model=LIGHT, noise={"beside": [{"name": "rlmrec", "backbone": LIGHT}]})
    rec = run.final(wish, tmp_path / "final", store)
    assert rec.name == "lightgcn"


def test_the_recipe_of_the_shop_asks_for_what_the_issue_says() -> None:
    found = read(Path(__file__).parent.parent / "recipes" / "lmmrec-shop.toml")
    assert found.noise is not None
    assert found.noise.rates == (0, 0.1, 0.2, 0.3)
    assert isinstance(found.model, Lmmrec)
    uncoupled, uncoordinated, backbone, rlmrec = found.noise.beside
    assert isinstance(rlmrec, Rlmrec)
    assert uncoupled == replace(found.model, weight_itcm=0)
    assert uncoordinated == replace(found.model, weight_mcs=0)
    assert isinstance(found.model.backbone, LightGcn)
    assert isinstance(backbone, LightGcn)
    assert found.model.backbone == rlmrec.backbone
    assert replace(backbone, l2=found.model.backbone.l2) == found.model.backbone  # by itself it has an l2 chosen for it
    assert found.task.mask == found.task.history == ("train",)
    assert noise.inputs_of(found) == ("user_motives", "item_motives")
    assert noise.inputs_of(found, rlmrec) == ("user_profiles", "item_profiles")
