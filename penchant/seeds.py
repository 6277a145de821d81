"""One seed of a recipe: fitted, evaluated, and kept in seeds/N so that a killed run does not do it again."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from penchant import saved
from penchant.data import Dataset
from penchant.enrich import Written
from penchant.model import Recommender
from penchant.ranking import Evaluation, evaluate
from penchant.recipe import Recipe
from penchant.report import LmCost, write_whole
from penchant.split import Split
from penchant.training import Curve, Validation

__all__ = ["Log", "Prepared", "SeedResult", "Silent", "Watcher", "one", "shown"]


class Watcher(Protocol):
    """Is told how far a run has come; the command line draws bars from it."""

    def stage(self, name: str, total: int | None = None) -> None: ...
    def step(self, done: int, total: int | None = None, note: str = "") -> None: ...


def shown(watch: Watcher) -> Callable[[Curve], None]:
    """How a curve grows, as a watcher is told."""
    return lambda curve: watch.step(curve.last, curve.epochs, curve.note)


class Silent:
    def stage(self, name: str, total: int | None = None) -> None: ...
    def step(self, done: int, total: int | None = None, note: str = "") -> None: ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recipe's data, ready to fit. inputs: of its own model. made: all, with those of models beside it. written: texts
    that were written for them."""

    data: Dataset
    split: Split
    inputs: Mapping[str, Any]
    seconds: float
    lm: LmCost = LmCost()
    made: Mapping[str, Any] = field(default_factory=dict)
    written: tuple[Written, ...] = ()


class Log:
    """log.jsonl: one line an event, appended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, event: str, facts: Mapping[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 1), "event": event, **facts})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@dataclass(frozen=True, eq=False)
class SeedResult:
    """One seed's result, as kept in seeds/N."""

    seed: int
    users: np.ndarray
    values: Mapping[str, np.ndarray]
    items: np.ndarray
    scores: np.ndarray
    valid: float | None
    curve: Curve
    parameters: int
    train_seconds: float
    evaluate_seconds: float
    peak_mb: float


def one(recipe: Recipe, ready: Prepared, folder: Path, seed: int, watch: Watcher, log: Log) -> SeedResult:
    """Fit and evaluate one seed, or read what an earlier run left."""
    if (folder / "done.json").exists():
        return _read(folder, recipe.task.names)
    training = replace(recipe.training, seed=seed)
    watch.stage(f"{recipe.model.name}, seed {seed}", training.epochs)

    def progress(curve: Curve) -> None:
        shown(watch)(curve)
        if not curve.under_way:
            log.say("epoch", {"seed": seed, "epoch": curve.last, "loss": curve.loss[-1], curve.select: curve.value[-1]})

    started = time.perf_counter()
    valid = ready.split.valid if len(ready.split.valid) else None
    rec = recipe.model.fit(ready.split.train, valid, training, folder=folder, progress=progress, **ready.inputs)
    value = rec.curve.best
    trained = time.perf_counter() - started
    if value is None and valid is not None:
        value = Validation.of(ready.split.train, valid, training.select, training.among).value(rec)
    watch.stage(f"evaluating seed {seed}")
    started = time.perf_counter()
    found = evaluate(rec, ready.split, recipe.task)
    seconds = time.perf_counter() - started
    everyone = np.arange(len(ready.split.users))
    known, seen = (ready.split.queries("test", parts, everyone) for parts in (recipe.task.history, recipe.task.mask))
    saved.write(replace(rec, known=known, seen=seen), folder / "model")
    _write(folder, seed, found, value, rec, trained, seconds)
    log.say("seed", {"seed": seed, "valid": value, "train_seconds": trained, **found.mean})
    return _read(folder, recipe.task.names)


def peak_mb() -> float:
    """The most memory this process has held so far. ru_maxrss is in kilobytes, on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def _write(
    folder: Path, seed: int, found: Evaluation, value: float | None, rec: Recommender, trained: float, seconds: float
) -> None:
    with (folder / "values.npz").open("wb") as file:
        arrays = {"users": found.users, "items": found.items, "scores": found.scores, **found.per_user}
        np.savez(file, **arrays)  # type: ignore[arg-type]
    head = {
        "seed": seed,
        "valid": value,
        "curve": rec.curve.rows(),
        "parameters": rec.parameters,
        "train_seconds": max(trained, rec.curve.seconds),
        "evaluate_seconds": seconds,
        "peak_mb": peak_mb(),
    }
    write_whole(folder / "done.json", json.dumps(head).encode())
    for left in folder.glob("checkpoint.*"):
        left.unlink()
    for part in ("first", "second"):  # those of a model that holds two
        shutil.rmtree(folder / part, ignore_errors=True)


def _read(folder: Path, names: tuple[str, ...]) -> SeedResult:
    head = json.loads((folder / "done.json").read_text("utf-8"))
    with np.load(folder / "values.npz", allow_pickle=False) as kept:
        arrays = dict(kept)
    curve = Curve.of(head.pop("curve"))
    values = {name: arrays[name] for name in names}
    return SeedResult(
        users=arrays["users"], values=values, items=arrays["items"], scores=arrays["scores"], curve=curve, **head
    )
