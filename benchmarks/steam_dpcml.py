"""One vector a user against five on Steam-200k, beside what is published and what was measured independently.

    PENCHANT_DATA=DIR python benchmarks/steam_dpcml.py [--out runs] [--store store] [--json]

Runs the recipes steam-dpcml-1 and steam-dpcml-5 as they stand; what is finished is not done again. Precision@3, MAP and MRR
(per cent) are of users with three held-out items, means over seeds. MaxDiv@10 is of the lists of all users, and delta (the
spread of a user's vectors, see `models.dpcml.spread`) of all users, both of the kept seed. The independent numbers are of a
reading of the paper made apart from this one: 40 epochs, one seed, learning rate 1e-3, and with five vectors the paper's 10
times a mean over users, beside the sum of a batch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from penchant import metrics, ranking, recipe, run
from penchant.scorers import Nearest
from penchant.store import Store

RECIPES = Path(__file__).parent.parent / "recipes"
COLUMNS = ("precision@3", "map", "mrr", "maxdiv@10", "delta")
OTHERS: dict[str, dict[str, tuple[float, ...]]] = {
    "steam-dpcml-1": {"paper, HarS": (26.66, 23.25, 48.84, 40.38), "independent": (26.39, 22.81, 48.17, 37.65)},
    "steam-dpcml-5": {
        "paper, DPCML2": (29.88, 24.10, 51.95, 65.95),
        "independent": (25.50, 20.22, 45.85, 47.51, 0.552),
    },
}


def measured(made: run.Run) -> tuple[float, ...]:
    """The columns, of one finished recipe."""
    scorer, report = made.recommender.scorer, made.report
    assert isinstance(scorer, Nearest)
    accuracy = [100 * report.metrics[name].mean for name in COLUMNS[:3]]
    protocol = ranking.Task(at=(10,), mask=("train",), history=("train",))
    lists = ranking.evaluate(made.recommender, made.prepared.split, protocol).items
    g = scorer.user[scorer.trained].astype(np.float64)
    delta = g.var(axis=1, ddof=1).sum(axis=-1).mean() if g.shape[1] > 1 else np.nan
    return (*accuracy, metrics.maxdiv(lists, scorer.item), float(delta))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--store", default="store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    table: dict[str, dict[str, list[float | None]]] = {}
    for name, others in OTHERS.items():
        made = run.run(recipe.read(RECIPES / f"{name}.toml"), asked.out / name, Store(asked.store))
        rows = {"here": measured(made), **others}
        table[name] = {who: [round(v, 3) if v == v else None for v in row] for who, row in rows.items()}
        if asked.json:
            continue
        settings, spent = made.recommender.settings, made.report.seconds.per_epoch
        chosen = f"diversity {settings['diversity']:g} chosen on valid, " if settings["vectors"] > 1 else ""
        print(f"{name}: {chosen}{spent:.2f} s an epoch")
        print(f"{'':14}" + "".join(f"{column:>13}" for column in COLUMNS))
        for who, row in table[name].items():
            print(f"{who:14}" + "".join(f"{'' if value is None else f'{value:.2f}':>13}" for value in row), flush=True)
    if asked.json:
        print(json.dumps(table))


if __name__ == "__main__":
    main()
