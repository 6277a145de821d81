"""Whether it is the text that helps: a text plug-in with its true texts, with those of others, with random vectors, and bare.

    python benchmarks/text_controls.py runs/lmmrec-xrec-lightgcn-lmmrec ... [--json]

For each finished run of a plug-in, or of a model that can do without features, with its settings and seeds: what it reached (true), the same with texts dealt out anew
among users and among items (shuffled), with normal random vectors in their place (random), and its backbone by itself (none).
p: paired t-test over users against none, two-sided, of means over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant import recipe, run, runs
from penchant.chosen import with_choice
from penchant.errors import BadInput, PenchantError
from penchant.features import Features
from penchant.metrics import paired
from penchant.model import Model
from penchant.ranking import evaluate
from penchant.recipe import Recipe
from penchant.results import PerUser
from penchant.store import Store

METRICS = ("recall@20", "ndcg@20")


def changed(features: Features, how: str, seed: int) -> Features:
    rng, rows = np.random.default_rng(seed), np.flatnonzero(features.present)
    values = features.values.copy()
    if how == "shuffled":
        values[rows] = values[rng.permutation(rows)]
    if how == "random":
        values[rows] = rng.normal(size=(len(rows), features.dim)).astype(np.float32)
    return replace(features, values=values)


def backbone(folder: Path, wish: Recipe) -> Model:
    """Of a plug-in; a model that can do without features is its own. Raises BadInput for other runs."""
    if not wish.model.asks_for_features and all(need.optional or need.many for need in wish.model.needs()):
        return wish.model
    found = getattr(wish.model, "backbone", None)
    if not isinstance(found, Model):
        raise BadInput(f"{folder} is a run of {wish.model.name}, not of a plug-in over a backbone")
    return found


def fitted(model: Model, wish: Recipe, ready: run.Prepared, how: str, seed: int) -> Mapping[str, np.ndarray]:
    """Per-user values on test."""
    given: dict[str, Any] = (
        {} if how == "none" else {name: changed(value, how, seed) for name, value in ready.inputs.items()}
    )
    rec = model.fit(ready.split.train, ready.split.valid, replace(wish.training, seed=seed), **given)
    return evaluate(rec, ready.split, wish.task, lists=False).per_user


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    try:
        places = [runs.finished(folder) for folder in asked.runs]
        plugins = [(place, with_choice(recipe.read(place / "recipe.lock.toml"), place)) for place in places]
        bare = [backbone(*plugin) for plugin in plugins]
    except PenchantError as error:
        parser.error(str(error))
    rows = []
    for (folder, wish), none in zip(plugins, bare, strict=True):
        ready, true = run.prepare(wish, Store(asked.store)), PerUser.read(folder)
        found = {"true": {metric: true.averaged(metric) for metric in METRICS}}
        for how in ("none", "shuffled", "random"):
            model = none if how == "none" else wish.model
            each = [fitted(model, wish, ready, how, seed) for seed in true.seeds]
            found[how] = {metric: np.mean([one[metric] for one in each], axis=0) for metric in METRICS}
        for how, values in found.items():
            row: dict[str, object] = {"run": folder.name, "texts": how}
            for metric in METRICS:
                row[metric] = round(float(values[metric].mean()), 4)
                if how != "none":
                    row[f"p {metric}"] = float(f"{paired(values[metric], found['none'][metric]).p:.2g}")
            rows.append(row)
            if not asked.json:
                print(row, flush=True)
    if asked.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
