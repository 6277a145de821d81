"""Run a recipe: data, split, inputs, search, one fit a seed, evaluation, report. Everything meets here.

Each stage leaves what it made in the run folder, so a killed run goes on where it stopped: finished trials and seeds
are kept, the seed in work continues from its last validation.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant import drives_file, identity, leaky, metrics, noise, runs, saved, sayings, told
from penchant import inputs as making
from penchant.chosen import settled, with_choice
from penchant.data import Dataset, Interactions, digest
from penchant.datafacts import doubts
from penchant.drives import Drives
from penchant.enrich import Written
from penchant.errors import BadSetting, MissingFile, MissingInput, near
from penchant.features import Features
from penchant.model import Recommender, settings_of
from penchant.protocols import DRAWN
from penchant.recipe import Recipe
from penchant.report import Claim, DataFacts, Input, LmCost, Metric, Point, Protocol, Report, Seconds
from penchant.results import PerUser, TopLists
from penchant.seeds import Log, Prepared, SeedResult, Silent, Watcher, one, shown
from penchant.store import Store

__all__ = ["Run", "final", "prepare", "run"]


@dataclass(frozen=True, eq=False)
class Run:
    """What `run` leaves, in memory."""

    folder: Path
    report: Report
    per_user: PerUser
    top: TopLists
    prepared: Prepared
    recommender: Recommender
    valid: float | None
    """What the kept seed reached on valid."""
    drives: Drives | None = None
    """Names of what moves people, for a model that knows it."""


def prepare(recipe: Recipe, store: Store, watch: Watcher | None = None) -> Prepared:
    """Data, split and inputs of a recipe. Raises the errors of what is missing, before anything is trained."""
    watch = watch or Silent()
    started = time.perf_counter()
    watch.stage(f"reading {recipe.data}")
    data = making.open_data(recipe.data, store, recipe.interactions, recipe.min_rating)
    _taken(recipe)
    split = making.make_split(data, recipe.split)
    making.check(recipe, split)
    if not len(split.valid):
        watch.stage("the valid part is empty: nothing is chosen, every epoch is trained")
    read = leaky.everything(split) if recipe.leaky else split.train
    made, written = _inputs(recipe, tuple(recipe.inputs), data, store, read, watch)
    if recipe.leaky:
        made = leaky.admitted(made, split.train)
    own = {name: made[name] for name in noise.inputs_of(recipe)}
    recipe.model.bind(split.train, dict(own))  # a missing input is found here, not after a search
    noise.check(recipe, split, made)
    return Prepared(data, split, own, time.perf_counter() - started, _cost(written), made, tuple(written))


def _taken(recipe: Recipe) -> None:
    """Raises MissingInput for an input that nothing in the recipe takes, before anything is written for it."""
    models = [recipe.model, *(recipe.noise.beside if recipe.noise else ())]
    needs = [need for model in models for one in told.parts(model) for need in one.needs()]
    names = sorted({need.name for need in needs if not need.many})
    for name in recipe.inputs:
        if name not in names and not any(need.many for need in needs):
            takes = f"{near(name, names)} It takes: {', '.join(names) or 'none'}. Mend it in [inputs], or remove it."
            raise MissingInput(f"{recipe.model.name} takes no input `{name}`.{takes}")


def _inputs(
    recipe: Recipe, names: tuple[str, ...], data: Dataset, store: Store, train: Interactions, watch: Watcher
) -> tuple[dict[str, Features], list[Written]]:
    """Inputs of these names for models that are fitted on `train`, and what language models wrote for them."""
    made, written, plain = dict[str, Any](), list[Written](), told.kinds(recipe)
    for name in names:
        watch.stage(f"input {name}")
        if name in plain:
            how = (
                plain[name],
                recipe.inputs[name],
                data,
                store,
                lambda done, total: watch.step(done, total),
                train,
                written,
            )
            made[name] = told.make_told(name, *how)
            continue
        made[name] = making.make_input(
            name, recipe.inputs[name], data, store, lambda _, done, total: watch.step(done, total), train, written
        )
        whole = recipe.interactions == "interactions"  # another table may well have fewer items than its features
        for doubt in doubts(made[name], recipe.inputs[name].from_, data if whole else None):
            watch.stage(f"input {name}: {doubt}")
    return made, written


def _cost(written: list[Written]) -> LmCost:
    written = list({w.ref: w for w in written}.values())  # inputs may share what they were made from
    counts = [w.counts for w in written]
    total = {n: sum(c.get(n, 0) for c in counts) for n in ("calls", "cached", "tokens_in", "tokens_out")}
    return LmCost(**total, usd=sum(w.cost for w in written))


def run(
    recipe: Recipe,
    out: Path,
    store: Store,
    watch: Watcher | None = None,
    fresh: bool = False,
    renew: bool = False,
    finish: Callable[[Run], None] | None = None,
) -> Run:
    """Run a recipe into `out`, or go on with it there.

    fresh: replace what is in `out`. renew: replace it only where it is another run. finish: called with the result before
    the run counts as complete (report.html is made there). Raises BadSetting when `out` holds another run and neither is
    asked for, or when another process works in it.
    """
    watch = watch or Silent()
    ready = prepare(recipe, store, watch)
    print_ = identity.of(recipe, ready)
    held = runs.claim(out, recipe, print_, fresh, renew)
    log = Log(out / "log.jsonl")
    chosen, trials = settled(recipe, ready, out, digest(print_, str(recipe.seeds[0])), watch, log)
    recipe = recipe.with_settings(chosen) if chosen else recipe
    done = [one(recipe, ready, out / "seeds" / str(seed), seed, watch, log) for seed in recipe.seeds]
    spent = sum(seed.train_seconds for seed in done) + sum(trial.seconds for trial in trials)
    if trials and done[0].curve.epoch:  # trained in the search: counted there
        spent -= done[0].train_seconds
    best = int(np.argmax([-np.inf if seed.valid is None else seed.valid for seed in done]))
    kept = saved.read(out / "seeds" / str(recipe.seeds[best]) / "model", leaking=recipe.leaky is not None)
    saved.write(kept, out / "model")
    per_user = PerUser(
        tuple(ready.split.users.keys[u] for u in done[0].users),
        recipe.seeds,
        {m: np.stack([seed.values[m] for seed in done]) for m in recipe.task.names},
    )
    top = TopLists(per_user.users, ready.split.items, done[best].items, done[best].scores)
    report = _report(recipe, ready, per_user, done, best, spent, len(trials), kept.settings)
    runs.write_items(ready.data.catalog, ready.split.items, out)
    drives = sayings.drives(recipe, kept, ready.data, ready.split.train, ready.written, store)
    drives_file.write(drives, out)
    per_user.write(out)
    top.write(out)
    report = replace(report, noise=noise.measure(recipe, ready, report, out, watch, log))
    result = Run(out, report, per_user, top, ready, kept, done[best].valid, drives)
    if finish is not None:
        finish(result)
    report.write(out)  # last: a folder with report.json is complete
    log.say("done", {m: value.mean for m, value in report.metrics.items()})
    held.close()
    return result


def final(
    recipe: Recipe, out: Path, store: Store, watch: Watcher | None = None, source: Path | None = None
) -> Recommender:
    """Fit on train, valid and test together for a fixed number of epochs; there is nothing left to measure it on.

    source: a finished run of the same recipe that says how many epochs and which settings; without one the recipe's own
    are used. Raises MissingFile when that run is not finished.
    """
    watch = watch or Silent()
    leaky.refuse_final(recipe.leaky)
    if source is not None and not (source / "report.json").exists():
        raise MissingFile(
            f"--final takes its settings and epochs from a finished run, and {source} holds none. First:  penchant run "
            f"{recipe.name}.toml --out {source}"
        )
    ready = prepare(recipe, store, watch)
    training = recipe.training
    if source is not None:
        if runs.claimed(source) != identity.of(recipe, ready):
            raise BadSetting(
                f"the run in {source} is of another recipe, or of other data: its epochs do not hold for this one. "
                "Name the run of this recipe with  --out"
            )
        recipe = with_choice(recipe, source)
        made = Report.read(source).settings
        kept = {f"model.{name}": made[name] for name in recipe.model.keeps if made.get(name) is not None}
        recipe = recipe.with_settings(kept) if kept else recipe
        training = replace(recipe.training, epochs=Report.read(source).epochs or recipe.training.epochs)
    held = runs.claim(out, recipe, digest("final", identity.of(recipe, ready)), fresh=False, renew=True, final=True)
    everything = ready.split.known(("train", "valid", "test"))
    # Texts about people are written again from everything; questions that are the same as before are not asked again.
    inputs, written = _inputs(recipe, tuple(ready.inputs), ready.data, store, everything, watch)
    watch.stage(f"fitting {recipe.model.name} on everything", training.epochs)
    rec = recipe.model.fit(
        everything,
        None,
        replace(training, seed=recipe.seeds[0]),
        folder=out / "work",
        progress=shown(watch),
        **inputs,
    )
    saved.write(rec, out / "model")
    runs.write_items(ready.data.catalog, ready.split.items, out)
    drives_file.write(sayings.drives(recipe, rec, ready.data, everything, written, store), out)
    shutil.rmtree(out / "work", ignore_errors=True)
    held.close()
    return rec


def _report(
    recipe: Recipe,
    ready: Prepared,
    per_user: PerUser,
    done: list[SeedResult],
    best: int,
    spent: float,
    trials: int,
    settings: dict[str, Any],
) -> Report:
    split, task = ready.split, recipe.task
    found = {}
    for name, values in per_user.values.items():
        mean = values.mean(axis=0)
        found[name] = Metric(
            float(mean.mean()), metrics.bootstrap(mean, seed=0), tuple(float(v) for v in values.mean(axis=1))
        )
    epochs = [s.curve.best_epoch or len(s.curve.epoch) for s in done]
    run_epochs = sum(len(s.curve.epoch) for s in done)
    curves = sum(s.curve.seconds for s in done)
    # Two draws of one split share a name and counts; the hash of the test part tells them apart in `compare`.
    how = f"{split.how}, test {split.test.hash[:8]}"
    if task.candidates is not None:
        how += f"{DRAWN}{task.candidates.seed}"
    select = recipe.training.select
    selected = f"the epoch by valid {select}" if run_epochs and len(split.valid) else "nothing: fixed settings"
    if trials:
        selected = f"{trials} settings{' and the epoch' if run_epochs else ''} by valid {select}"
    if recipe.model.decides:
        on = "valid" if len(split.valid) else "a tenth of train"
        own = f"{recipe.model.decides} by {settings_of(recipe.model).get('choose', select)} on {on}"
        selected = own if selected.startswith("nothing") else f"{own}, and {selected}"
    return Report(
        model=recipe.model.name,
        data=DataFacts(
            ready.data.name,
            ready.data.hash,
            len(split.users),
            len(split.items),
            len(split.train),
            len(split.valid),
            len(split.test),
        ),
        protocol=Protocol(
            task.part, task.ranking, task.mask, task.history, task.at, selected, "random", how, task.min_test
        ),
        users_evaluated=len(per_user.users),
        metrics=found,
        seconds=Seconds(
            ready.seconds,
            spent,
            curves / run_epochs if run_epochs else 0.0,
            sum(s.evaluate_seconds for s in done),
        ),
        epochs=round(float(np.median(epochs))),
        parameters=done[best].parameters,
        peak_rss_mb=max(s.peak_mb for s in done),
        lm=told.with_notes(ready.lm, ready.inputs.values()),
        seeds=recipe.seeds,
        versions=runs.versions(),
        claim={m: Claim(c.value, c.relative, found[m].mean, c.source, c.leaks) for m, c in recipe.claim.items()}
        or None,
        paper=recipe.paper,
        best_seed=recipe.seeds[best],
        settings=settings,
        training={k: v for k, v in vars(recipe.training).items() if k != "seed"},
        inputs={
            n: Input(told.describe(recipe, n), told.reference_of(f), *told.origin(f), *told.present(f))
            for n, f in ready.inputs.items()
        },
        leaky=recipe.leaky,
        notes=dict(ready.data.notes),
        curve=tuple(
            Point(s.seed, e, loss, v)
            for s in done
            for e, loss, v in zip(s.curve.epoch, s.curve.loss, s.curve.value, strict=True)
        ),
    )
