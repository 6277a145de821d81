"""Backbones bare and with each text plug-in, from finished run folders: gains, paired tests, and the mean over backbones.

    for recipe in recipes/lmmrec-xrec-*.toml; do penchant run $recipe; done
    python benchmarks/plugin_table.py runs/lmmrec-xrec-* [--metrics recall@20 ndcg@20] [--json]

A run of a plug-in belongs to the bare run of the same backbone with the same settings; several plug-ins of one kind, such as
two forms of rlmrec, are told apart by their settings. Values are means over users of the mean over seeds. p: paired t-test over
users, two-sided, of the means over seeds (and over backbones, in the last lines), not corrected for the number of rows.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from penchant.report import Report
from penchant.results import PerUser

METRICS = ("recall@20", "ndcg@20")


def tested(values: np.ndarray, against: np.ndarray) -> dict[str, float]:
    return {
        "value": round(float(values.mean()), 4),
        "gain": round(float(values.mean() / against.mean() - 1), 4),
        "p": float(f"{stats.ttest_rel(values, against).pvalue:.2g}"),
    }


def table(folders: Sequence[Path], metrics: Sequence[str]) -> list[dict[str, Any]]:
    bare: dict[str, PerUser] = {}
    plugged: dict[str, dict[str, PerUser]] = defaultdict(dict)
    for folder in folders:
        if not (folder / "report.json").exists():
            continue
        report, found = Report.read(folder), PerUser.read(folder)
        if "backbone" in report.settings:
            kind = " ".join(filter(None, [report.model, report.settings.get("form")]))
            plugged[kind][report.settings["backbone"]["name"]] = found
        else:
            bare[report.model] = found
    rows: list[dict[str, Any]] = []
    for name, found in bare.items():
        rows.append({"model": name, "seeds": len(found.seeds)})
        for metric in metrics:
            rows[-1][metric] = {"value": round(float(found.averaged(metric).mean()), 4)}
        for plugin, over in plugged.items():
            if name in over:
                rows.append({"model": f"{name} + {plugin}", "seeds": len(over[name].seeds)})
                for metric in metrics:
                    rows[-1][metric] = tested(over[name].averaged(metric), found.averaged(metric))
    for plugin, over in plugged.items():
        both = [name for name in over if name in bare]
        if len(both) > 1:
            rows.append(
                {"model": f"mean of {len(both)} + {plugin}", "seeds": min(len(over[name].seeds) for name in both)}
            )
            for metric in metrics:
                ours = np.mean([over[name].averaged(metric) for name in both], axis=0)
                rows[-1][metric] = tested(ours, np.mean([bare[name].averaged(metric) for name in both], axis=0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = table(sorted(asked.runs), asked.metrics)
    if asked.json:
        print(json.dumps(rows))
        return
    for row in rows:
        cells = []
        for metric in asked.metrics:
            cell = row[metric]
            gain = f" {cell['gain']:+6.1%} p {cell['p']:<8.2g}" if "gain" in cell else " " * 18
            cells.append(f"{metric} {cell['value']:.4f}{gain}")
        print(f"{row['model']:<28} {'  '.join(cells)}  {row['seeds']} seeds")


if __name__ == "__main__":
    main()
