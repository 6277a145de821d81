"""Which settings of a recipe's [search] a run goes on with: chosen on valid, kept in chosen.json."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant import tune
from penchant.data import digest
from penchant.recipe import Recipe
from penchant.report import write_whole
from penchant.seeds import Log, Prepared, Watcher, shown
from penchant.training import Validation

__all__ = ["settled", "with_choice"]

NAME = "chosen.json"


def with_choice(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with what the search of the run in `folder` chose, if it had one."""
    kept = folder / NAME
    return recipe.with_settings(json.loads(kept.read_text("utf-8"))) if kept.exists() else recipe


def settled(
    recipe: Recipe, ready: Prepared, out: Path, identity: str, watch: Watcher, log: Log
) -> tuple[dict[str, Any], list[tune.Trial]]:
    """Settings chosen on valid with the first seed. The split that is searched on has no test part.

    The chosen trial's training is the first seed's, so its checkpoint is handed on. Seeds with other settings, which a search
    with another first seed had chosen, are removed.
    """
    if not recipe.search:
        return {}, []

    def place(settings: Mapping[str, Any]) -> Path:
        return out / "search" / digest(json.dumps(settings, sort_keys=True))[:12]

    split = ready.split.without_test()
    total = len(tune.grid(recipe.search))

    def measure(settings: dict[str, Any]) -> tuple[float, float]:
        trial = recipe.with_settings(settings)
        training = replace(trial.training, seed=recipe.seeds[0])
        named = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in settings.items())
        watch.stage(f"search {named} ({total} settings)", training.epochs)
        started = time.perf_counter()
        rec = trial.model.fit(
            split.train,
            split.valid,
            training,
            folder=place(settings),
            progress=shown(watch),
            **ready.inputs,
        )
        value = Validation.of(split.train, split.valid, training.select, training.among).value(rec)
        seconds = time.perf_counter() - started
        log.say("trial", {**settings, "valid": value, "seconds": seconds})
        return value, seconds

    best, trials = tune.search(recipe.search, measure, out, identity)
    kept = out / NAME
    if kept.exists() and json.loads(kept.read_text("utf-8")) != best:
        shutil.rmtree(out / "seeds", ignore_errors=True)
    write_whole(kept, json.dumps(best).encode())  # before the checkpoint is handed on, which a kill would lose else
    first = out / "seeds" / str(recipe.seeds[0])
    if place(best).exists() and not first.exists():
        first.parent.mkdir(exist_ok=True)
        place(best).rename(first)
    shutil.rmtree(out / "search", ignore_errors=True)
    return best, trials
