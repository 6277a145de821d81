"""Backbones bare and with each text plug-in, from finished run folders: gains, paired tests, and the mean over backbones.

    for recipe in recipes/lmmrec-xrec-*.toml; do penchant run $recipe; done
    python benchmarks/plugin_table.py runs/lmmrec-xrec-* [--metrics recall@20 ndcg@20] [--json]

A run of a plug-in belongs to the one bare run of its backbone with the same settings, training and seeds; it is refused where
that is missing, and so are two runs of one kind over one backbone, runs of different protocols or users, and unfinished ones.
Bare runs without a plug-in over them, such as of EASE, stand by themselves. The last lines are means over those backbones that
every plug-in here stands on. Values are means over users of the mean over seeds.
p: paired t-test over users, two-sided, of the means over seeds (and over backbones, in the last lines), not corrected for the
number of rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penchant import runs
from penchant.compare import compare
from penchant.errors import BadInput, PenchantError
from penchant.metrics import paired
from penchant.report import Report
from penchant.results import PerUser

METRICS = ("recall@20", "ndcg@20")
Values = Mapping[str, np.ndarray]  # by metric, one value a user, averaged over seeds


def same(model: str, settings: Mapping[str, Any], report: Report) -> str:
    """What a backbone and its bare run must share."""
    return json.dumps([model, settings, report.training, report.seeds], sort_keys=True)


def read(folders: Sequence[Path], metrics: Sequence[str]) -> list[tuple[Report, Values]]:
    """Users in the order of the first run's. Raises DifferentProtocols for runs that must not stand in one table."""
    places = [runs.finished(folder) for folder in folders]
    found = [(Report.read(place), PerUser.read(place)) for place in places]
    compare(found, metrics=metrics)
    users = found[0][1].users
    rows = []
    for report, per_user in found:
        place = {user: row for row, user in enumerate(per_user.users)}
        order = [place[user] for user in users]
        rows.append((report, {metric: per_user.averaged(metric)[order] for metric in metrics}))
    return rows


def tested(values: np.ndarray, against: np.ndarray) -> dict[str, float]:
    return {
        "value": round(float(values.mean()), 4),
        "gain": round(float(values.mean() / against.mean() - 1), 4),
        "p": float(f"{paired(values, against).p:.2g}"),
    }


def table(folders: Sequence[Path], metrics: Sequence[str]) -> list[dict[str, Any]]:
    bare: dict[str, tuple[Report, Values]] = {}
    plugged: dict[str, dict[str, tuple[Report, Values]]] = {}  # by plug-in and by what its bare run must be
    for folder, (report, values) in zip(folders, read(folders, metrics), strict=True):
        kind, key, into = report.model, same(report.model, report.settings, report), bare
        if "backbone" in report.settings:
            backbone = dict(report.settings["backbone"])
            kind = " ".join(filter(None, [report.model, report.settings.get("form")]))
            key, into = same(backbone.pop("name"), backbone, report), plugged.setdefault(kind, {})
        if key in into:
            raise BadInput(f"{folder} is a second run of {kind} over the same backbone. Name one of them")
        into[key] = report, values
    rows: list[dict[str, Any]] = []
    for key, (report, values) in bare.items():
        rows.append({"model": report.model, "seeds": len(report.seeds)})
        for metric in metrics:
            rows[-1][metric] = {"value": round(float(values[metric].mean()), 4)}
        for plugin, over in plugged.items():
            if key in over:
                of = over[key][0]
                rows.append({"model": f"{report.model} + {plugin}", "seeds": len(of.seeds)})
                rows[-1]["reading"] = of.settings.get("reading", "")
                for metric in metrics:
                    rows[-1][metric] = tested(over[key][1][metric], values[metric])
    for plugin, over in plugged.items():
        for key, (report, _) in over.items():
            if key not in bare:
                name = report.settings["backbone"]["name"]
                raise BadInput(f"{plugin} over {name}: no bare run of {name} here has its settings, training and seeds")
    shared = [key for key in bare if plugged and all(key in over for over in plugged.values())]
    for plugin, over in plugged.items() if len(shared) > 1 else ():
        rows.append({"model": f"mean of {len(shared)} + {plugin}", "seeds": len(bare[shared[0]][0].seeds)})
        for metric in metrics:
            ours, theirs = (np.mean([each[key][1][metric] for key in shared], axis=0) for each in (over, bare))
            rows[-1][metric] = tested(ours, theirs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    try:
        rows = table(sorted(asked.runs), asked.metrics)
    except PenchantError as error:
        parser.error(str(error))
    if asked.json:
        print(json.dumps(rows))
        return
    for row in rows:
        cells = []
        for metric in asked.metrics:
            cell = row[metric]
            gain = f" {cell['gain']:+6.1%} p {cell['p']:<8.2g}" if "gain" in cell else " " * 18
            cells.append(f"{metric} {cell['value']:.4f}{gain}")
        print(f"{row['model']:<28} {'  '.join(cells)}  {row['seeds']} seeds  {row.get('reading', '')}".rstrip())


if __name__ == "__main__":
    main()
