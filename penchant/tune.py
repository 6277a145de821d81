"""Choose settings on validation: every combination of a small grid, trained and measured on valid alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.errors import BadSetting
from penchant.report import write_whole

__all__ = ["Trial", "grid", "search"]


@dataclass(frozen=True)
class Trial:
    """One combination and the metric it reached on valid."""

    settings: Mapping[str, Any]
    value: float
    seconds: float


def grid(space: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations, in the order written."""
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def search(
    space: Mapping[str, Sequence[Any]],
    measure: Callable[[dict[str, Any]], tuple[float, float]],
    folder: Path,
    identity: str,
) -> tuple[dict[str, Any], list[Trial]]:
    """The best settings of the grid and all trials. Trials finished by an earlier, killed search are not repeated.

    measure: settings -> (value on valid, seconds); it is handed no test data because there is none in its reach.
    """
    path = folder / "search.json"
    done: list[Trial] = []
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        if kept["identity"] == identity:
            done = [Trial(**trial) for trial in kept["trials"]]
    for settings in grid(space):
        if any(trial.settings == settings for trial in done):
            continue
        done.append(Trial(settings, *measure(settings)))
        body = {"identity": identity, "trials": [vars(trial) for trial in done]}
        write_whole(path, json.dumps(body, indent=1).encode())
    wanted = grid(space)
    trials = [trial for trial in done if trial.settings in wanted]
    if not trials:
        raise BadSetting("[search] is empty")
    best = max(trials, key=lambda trial: trial.value)
    return dict(best.settings), trials
