"""The noise protocol: how much models lose when random choices stand among the true ones.

For each rate, model and seed: `graph.add_noise` adds random pairs to the train part, the model is trained on that, the
epoch is chosen on the clean valid part, and the clean test part is asked about, as the recipe's protocol says. The noisy
train takes the place of train in everything: a model's history of a user, and the mask, hold the false choices too,
because whoever runs a model on such a log does not know which they are. Nothing that is held out in valid or test is ever
drawn, so what the mask hides is never an answer: that gives every model a little back, the more the smaller the catalogue,
and `popular` beside the others shows how much. Texts are those of the clean train part: the noise is in the choices, not in
the words.

All models of a rate and a seed see the same false choices. The run's own model at rate 0 is the run itself.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from penchant import identity
from penchant import inputs as making
from penchant.data import digest
from penchant.features import Features
from penchant.graph import add_noise
from penchant.model import Model, settings_of
from penchant.ranking import evaluate
from penchant.recipe import Recipe
from penchant.report import Report, write_whole
from penchant.seeds import Log, Prepared, Watcher, shown
from penchant.split import Split
from penchant.training import Training
from penchant.under_noise import Noise, Noisy, level
from penchant.words import flat

__all__ = ["check", "inputs_of", "measure", "names"]


def inputs_of(recipe: Recipe, model: Model | None = None) -> tuple[str, ...]:
    """Names of the inputs that a model beside is given, or, without one, the recipe's own model.

    Those that it asks for by name; where it takes any number, also those that no model asks for by name. The recipe's own
    gets all that is left, so that it says which nobody takes.
    """
    beside = recipe.noise.beside if recipe.noise else ()
    own, others = _named(recipe.model), {name for one in beside for name in _named(one)}
    if model is None:
        return tuple(n for n in recipe.inputs if n in own or n not in others)
    many = any(need.many for need in model.needs())
    return tuple(n for n in recipe.inputs if n in _named(model) or (many and n not in own | others))


def _named(model: Model) -> set[str]:
    return {need.name for need in model.needs() if not need.many}


def check(recipe: Recipe, split: Split, made: Mapping[str, Features]) -> None:
    """Raises MissingInput, Misaligned, Leak or BadSetting for what the models beside, or a rate, could not do."""
    if recipe.noise is None:
        return
    for model in recipe.noise.beside:
        model.bind(split.train, {name: made[name] for name in inputs_of(recipe, model)})
    for rate in filter(None, recipe.noise.rates):
        for seed in recipe.seeds:
            making.check(recipe, noisy(recipe, split, rate, seed))


def noisy(recipe: Recipe, split: Split, rate: float, seed: int) -> Split:
    """The split with random choices in train for one seed of training. The maker's name stays: what is asked is the same."""
    assert recipe.noise is not None
    if not rate:
        return split
    held = split.valid.join(split.test)
    return replace(split, train=add_noise(split.train, rate, recipe.noise.seed + seed, avoid=held))


def measure(recipe: Recipe, ready: Prepared, report: Report, out: Path, watch: Watcher, log: Log) -> Noise | None:
    """What the recipe's [noise] asks for. report: of the run itself, which is its own model at rate 0.

    Each finished fit is kept in out/noise under the hash of all that decides it, so that none is done again; the one in work
    goes on from its last validation.
    """
    if recipe.noise is None:
        return None
    models = (recipe.model, *recipe.noise.beside)
    given = [ready.inputs, *({n: ready.made[n] for n in inputs_of(recipe, m)} for m in recipe.noise.beside)]
    called = names(models)
    found: list[dict[float, list[dict[str, float]]]] = [{} for _ in models]
    total, done = len(recipe.noise.rates) * len(recipe.seeds) * len(models), 0
    for rate in recipe.noise.rates:
        for place, seed in enumerate(recipe.seeds):
            split = noisy(recipe, ready.split, rate, seed)
            for n, model in enumerate(models):
                done += 1
                if n == 0 and rate == 0:
                    got = {m: report.metrics[m].per_seed[place] for m in recipe.task.names}
                else:
                    title = f"{called[n]}, noise {level(rate)}, seed {seed} ({done} of {total})"
                    got = _one(recipe, model, split, given[n], rate, seed, title, out / "noise", watch, log)
                found[n].setdefault(rate, []).append(got)
    for left in (out / "noise").glob("*"):
        if left.is_dir():  # of a fit that was killed and is no longer asked for
            shutil.rmtree(left, ignore_errors=True)
    marks = [tuple(f"external: {n}" for n, f in each.items() if f.source.external) for each in given]
    shown = zip(called, found, marks, strict=True)
    return Noise(report.main, recipe.noise.rates, tuple(Noisy.of(*each) for each in shown))


def _one(
    recipe: Recipe,
    model: Model,
    split: Split,
    inputs: Mapping[str, Features],
    rate: float,
    seed: int,
    title: str,
    folder: Path,
    watch: Watcher,
    log: Log,
) -> dict[str, float]:
    """The metrics of one fit, or those that an earlier run left."""
    training = replace(recipe.training, seed=seed)
    identity = _identity(recipe, model, training, split, inputs)
    path = folder / f"{identity[:16]}.json"
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        if kept["identity"] == identity:
            return dict(kept["values"])
    watch.stage(title, training.epochs)

    started = time.perf_counter()
    valid = split.valid if len(split.valid) else None
    work = folder / identity[:16]
    rec = model.fit(
        split.train,
        valid,
        training,
        folder=work,
        progress=shown(watch),
        **inputs,
    )
    values = evaluate(rec, split, recipe.task, lists=False).mean
    facts = {"model": model.name, "rate": rate, "seed": seed, "epochs": rec.curve.best_epoch or len(rec.curve.epoch)}
    facts |= {"valid": rec.curve.best, "train_seconds": time.perf_counter() - started}
    write_whole(path, json.dumps({"identity": identity, **facts, "values": values}).encode())
    shutil.rmtree(work, ignore_errors=True)
    log.say("noise", {**facts, **values})
    return values


def _identity(recipe: Recipe, model: Model, training: Training, split: Split, inputs: Mapping[str, Features]) -> str:
    """Of all that decides one result: the false choices are in the hash of train, the rest is as for a run."""
    parts = (split.train.hash, split.valid.hash, split.test.hash)
    prints = (f"{name}:{value.hash}" for name, value in sorted(inputs.items()))
    return digest(repr(model), repr(training), repr(recipe.task), identity.code(model), *parts, *prints)


def names(models: tuple[Model, ...]) -> tuple[str, ...]:
    """A name for each: the model's, with up to three settings that tell it from others of that name."""
    settings = [flat(settings_of(model)) for model in models]
    called: list[str] = []
    for model, own in zip(models, settings, strict=True):
        twins = [other for other, their in zip(settings, models, strict=True) if their.name == model.name]
        telling = [key for key in own if any(other.get(key) != own[key] for other in twins)]
        called.append(" ".join([model.name, *(f"{key}={own[key]}" for key in telling[:3])]))
    return tuple(f"{n} #{called[: i + 1].count(n)}" if called.count(n) > 1 else n for i, n in enumerate(called))
