"""Which of several runs is better, and by how much: paired over the same users, or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from penchant.errors import BadInput, BadSetting, DifferentProtocols, UnknownId, some
from penchant.metrics import holm, paired
from penchant.page import environment
from penchant.protocols import alike
from penchant.report import Metric, Report, plain, write_whole
from penchant.results import PerUser, no_metric
from penchant.table import marked, visible
from penchant.words import between, columns, count, describe, duration, labels, money, number, signed

__all__ = ["Comparison", "Difference", "Row", "compare"]


@dataclass(frozen=True)
class Difference:
    """This row minus the reference, over the same users.

    relative: to the reference's mean. ci95: of the difference. p: two-sided, of this pair alone; adjusted: by Holm.
    """

    value: float
    relative: float
    ci95: tuple[float, float]
    p: float
    adjusted: float


@dataclass(frozen=True)
class Row:
    """One run under one metric; difference is None for the reference itself."""

    label: str
    metric: str
    report: Report
    got: Metric
    difference: Difference | None


@dataclass(frozen=True)
class Comparison:
    """Rows by metric, best first. reference: the label all others are held against.

    tests: how many p values were corrected together under each metric.
    """

    conditions: str
    metrics: tuple[str, ...]
    reference: str
    chosen: bool
    tests: int
    rows: tuple[Row, ...]

    def under(self, metric: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.metric == metric)

    @property
    def method(self) -> str:
        """What was tested, for beneath a table."""
        leaks = any(row.report.leaks for row in self.rows)
        why = "chosen" if self.chosen else "the best that does not leak" if leaks else "the best"
        return (
            f"Differences are to {self.reference} ({why}), paired over the same users on values averaged over seeds; "
            f"p is Holm-corrected for {self.tests} test{'s' if self.tests != 1 else ''} under each metric."
        )

    def table(self) -> Table:
        """One row a run under each metric; fits 100 columns."""
        caption = Text(f"{visible(self.conditions)}\n{visible(self.method)}")
        out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
        out.add_column("model", overflow="fold", min_width=12)
        for name in ("mean", "difference", "p", "seeds", "time", "parameters", "LLM cost"):
            out.add_column(name, justify="right", no_wrap=True)
        for metric in self.metrics:
            if metric != self.metrics[0]:
                out.add_section()
            for row in self.under(metric):
                r, d = row.report, row.difference
                mean = Text(f"{metric} {number(row.got.mean)}").append(f"\n{between(row.got.ci95)}", "dim")
                off, p = Text("reference", "dim"), ""
                if d is not None:
                    ends = " to ".join(signed(end, ".4f") for end in d.ci95)
                    off = Text(f"{signed(d.value, '.4f')} ({signed(d.relative)})").append(f"\n{ends}", "dim")
                    p = probability(d.adjusted)
                facts = (str(len(r.seeds)), duration(r.seconds.total), count(r.parameters), money(r))
                out.add_row(marked(row.label, r.marks), mean, off, p, *facts)
        return out

    def plain(self) -> dict[str, Any]:
        """What compare.json holds."""
        rows = [
            {
                "model": row.label,
                "metric": row.metric,
                "mean": row.got.mean,
                "ci95": row.got.ci95,
                "per_seed": row.got.per_seed,
                "difference": asdict(row.difference) if row.difference else None,
                "marks": row.report.marks,
                "seeds": row.report.seeds,
                "users_evaluated": row.report.users_evaluated,
                "seconds": row.report.seconds.total,
                "parameters": row.report.parameters,
                "usd": row.report.lm.usd,
            }
            for row in self.rows
        ]
        head: dict[str, Any] = {
            "format": 1,
            "protocol": self.conditions,
            "reference": self.reference,
            "method": self.method,
        }
        return plain(head | {"rows": rows})

    def write(self, folder: Path | str) -> Path:
        """compare.json and compare.html, each appearing whole; returns the page.

        An older comparison in the folder is replaced. Raises BadSetting when the folder holds anything else.
        """
        _refuse_other(Path(folder))
        write_whole(Path(folder) / "compare.json", json.dumps(self.plain(), indent=1).encode())
        most = {m: max(row.got.ci95[1] for row in self.under(m)) or 1 for m in self.metrics}
        reach = {
            m: max((abs(e) for r in self.under(m) if r.difference for e in r.difference.ci95), default=0) or 1
            for m in self.metrics
        }
        page = (
            environment().get_template("compare.html").render(comparison=self, most=most, reach=reach, said=probability)
        )
        return write_whole(Path(folder) / "compare.html", page.encode("utf-8", "replace"))


def compare(
    runs: Sequence[tuple[Report, PerUser]],
    reference: str | None = None,
    metrics: Sequence[str] | None = None,
    folders: Sequence[str] = (),
) -> Comparison:
    """Every run against the chosen reference (a model's name or label), or against the best of the main metric.

    folders: names of the run folders; runs of one model are called by theirs, where no two are the same.

    The user is the unit; values are averaged over seeds. Where the reference is picked because it came out best, p is
    corrected as if every pair had been tested, since in effect all were looked at. A row that leaks is never picked.
    Raises BadInput for fewer than two runs, DifferentProtocols for runs that must not stand in one table, UnknownId
    for an unknown reference, UnknownKey for an unknown metric.
    """
    if len(runs) < 2:
        raise BadInput(f"{len(runs)} run given; a comparison needs two:  penchant compare RUN RUN")
    reports = [report for report, _ in runs]
    names = labels(reports, folders)
    alike(reports, names)
    order = _same_users(runs, names)
    shared = set.intersection(*(set(p.values) & set(r.metrics) for r, p in runs))
    if not shared:
        raise BadInput("these runs have no metric in common. Run them again with the same [protocol] at and metrics.")
    for name in metrics or ():
        if name not in shared:
            raise no_metric("what all of these runs measured", name, shared)
    shown = columns(reports, metrics, most=2, among=shared)
    _of_their_reports(runs, names, shown)
    at = _reference(reports, names, reference, shown[0])
    rows: list[Row] = []
    against = [i for i in range(len(runs)) if i != at]
    for metric in shown:
        values = [per_user.averaged(metric)[rows_] for (_, per_user), rows_ in zip(runs, order, strict=True)]
        pairs = [(i, at) for i in against]
        if reference is None:
            pairs += [(i, j) for i in against for j in against if i < j]
        tests = [paired(values[i], values[j]) for i, j in pairs]
        adjusted = holm([test.p for test in tests])
        base = float(values[at].mean())
        found: dict[int, Difference] = {
            i: Difference(
                test.difference, test.difference / base if base else math.nan, test.ci95, test.p, float(corrected)
            )
            for (i, j), test, corrected in zip(pairs, tests, adjusted, strict=True)
            if j == at
        }
        under = [Row(names[i], metric, reports[i], reports[i].metrics[metric], found.get(i)) for i in range(len(runs))]
        rows += sorted(under, key=lambda row: -row.got.mean)
    return Comparison(describe(reports[0]), shown, names[at], reference is not None, len(pairs), tuple(rows))


def probability(p: float) -> str:
    """ "0.032", "<0.001" """
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def _refuse_other(folder: Path) -> None:
    """Raises BadSetting for a place that is not a folder of comparisons, a new or an empty one."""
    if folder.exists() and not folder.is_dir():
        raise BadSetting(f"{folder} is a file. Choose a folder:  --out DIR")
    if not folder.is_dir() or (folder / "compare.json").is_file():
        return
    # A kill may have left the hidden part of a first comparison; it does not make the folder somebody else's.
    other = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".compare."))
    if other:
        raise BadSetting(
            f"{folder} is not empty and holds no comparison (it has {some(other)}). Choose a new folder:  --out DIR"
        )


def _same_users(runs: Sequence[tuple[Report, PerUser]], names: Sequence[str]) -> list[np.ndarray]:
    """For each run, where the users of the first stand. Raises DifferentProtocols when they are not the same."""
    users = runs[0][1].users
    order = []
    for (_, per_user), name in zip(runs, names, strict=True):
        place = {user: row for row, user in enumerate(per_user.users)}
        lacking = [user for user in users if user not in place]
        more = len(place) - len(users) + len(lacking)
        if lacking or more:
            e = some(lacking or [u for u in per_user.users if u not in set(users)], 2)
            raise DifferentProtocols(
                f"{name} evaluated other users than {names[0]}: {len(lacking)} are missing and {more} are more, e.g. {e}. "
                "Run both with the same split and min_test."
            )
        order.append(np.fromiter((place[user] for user in users), np.int64, count=len(users)))
    return order


def _of_their_reports(runs: Sequence[tuple[Report, PerUser]], names: Sequence[str], metrics: Sequence[str]) -> None:
    """Raises BadInput when per-user values do not average to the report beside them: one of the two is stale."""
    for (report, per_user), name in zip(runs, names, strict=True):
        for metric in metrics:
            mean = float(per_user.averaged(metric).mean())
            if not math.isclose(mean, report.metrics[metric].mean, rel_tol=1e-6, abs_tol=1e-9):
                raise BadInput(
                    f"{name}: per_user.parquet gives {metric} {mean:.6f}, report.json {report.metrics[metric].mean:.6f}; "
                    "they are of different runs. Run it again:  penchant run RECIPE.toml --out DIR"
                )


def _reference(reports: Sequence[Report], names: Sequence[str], asked: str | None, metric: str) -> int:
    if asked is None:
        sound = [i for i, r in enumerate(reports) if not r.leaks]
        return max(sound or range(len(reports)), key=lambda i: reports[i].metrics[metric].mean)
    found = [i for i, name in enumerate(names) if name == asked] or [
        i for i, r in enumerate(reports) if r.model == asked
    ]
    if len(found) != 1:
        raise UnknownId("run", asked, names, f"These runs are: {', '.join(names)}.")
    return found[0]
