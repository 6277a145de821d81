"""How numbers, metrics and runs are put into words for people, in terminals and on pages."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penchant.errors import UnknownKey
from penchant.report import Report

__all__ = [
    "between",
    "columns",
    "count",
    "describe",
    "duration",
    "figure",
    "flat",
    "labels",
    "meaning",
    "metric",
    "money",
    "number",
    "plainly",
    "seeds",
    "share",
    "signed",
]

NAMES = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC", "maxdiv": "MaxDiv"}
SHARES = ("recall", "hit", "precision")  # easier to grasp as per cent
MEANINGS = {
    "recall": "how much of what a user went on to choose is in the first {k}",
    "ndcg": "how many later choices the first {k} hold, higher places counting more; 1 is perfect",
    "hit": "how many users find at least one later choice in the first {k}",
    "mrr": "one over the place of the first hit, nothing if it is beyond {k}",
    "precision": "how much of the first {k} was indeed chosen",
    "map": "precision at each hit, averaged over the hits",
    "auc": "how often a later choice is ranked above another item; chance is one half",
    "maxdiv": "how different the first {k} items of a list are from each other",
    "coverage": "how much of the catalogue is recommended to anybody",
    "novelty": "how little known the recommended items are, in bits",
    "gini": "how unevenly recommendations fall on items; 0 is even",
}
SENTENCES = {
    "recall": "Of what a user went on to choose, the first {k} recommendations hold {value} on average.",
    "hit": "{value} of users find something they went on to choose among the first {k} recommendations.",
    "precision": "Of the first {k} recommendations, users went on to choose {value} on average.",
    "ndcg": "Where 1 is a perfect order and 0 finds nothing, the first {k} recommendations reach {value} on average.",
    "mrr": "One over the place of the first hit is {value} on average.",
}


def number(value: float) -> str:
    """Four decimals: "0.0858"; a dash for what could not be measured."""
    return f"{value:.4f}" if math.isfinite(value) else "–"


def between(ends: Sequence[float]) -> str:
    """An interval: "0.0831–0.0886"."""
    return f"{number(ends[0])}–{number(ends[1])}" if all(map(math.isfinite, ends)) else "–"


def signed(value: float, form: str = ".1%") -> str:
    """With its sign, minus as a minus: "+2.6 %", "−0.8 %"."""
    text = f"{value:+{form}}" if math.isfinite(value) else "–"
    return text.replace("-", "−").replace("%", " %")


def share(value: float) -> str:
    """Per cent with three telling digits: "8.58 %", "12.3 %"."""
    percent = 100 * value
    return f"{percent:.2f} %" if percent < 10 else f"{percent:.1f} %"


def count(value: float) -> str:
    """A count in few characters: "940", "12,345", "1.2 M"."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Time in few characters: "0.4 s", "38 s", "4.1 min", "2.3 h"."""
    if not math.isfinite(seconds):
        return "–"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def money(report: Report) -> str:
    """What language models cost; a dash where none was asked."""
    return f"${report.lm.usd:.2f}" if report.lm.calls or report.lm.cached else "–"


def seeds(values: Sequence[float]) -> str:
    """The standard deviation over seeds, a dash for a single one: "± 0.0008"."""
    if len(values) < 2:
        return "–"
    mean = sum(values) / len(values)
    return f"± {math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)):.4f}"


def metric(name: str) -> str:
    """As papers write it: "ndcg@20" -> "NDCG@20", "valid recall@20" -> "Validation Recall@20"."""
    part, _, last = name.rpartition(" ")
    base, at, k = last.partition("@")
    said = NAMES.get(base, base.capitalize()) + at + k
    return f"{'Validation' if part == 'valid' else part.capitalize()} {said}" if part else said


def meaning(name: str) -> str:
    """What a metric measures, in half a sentence; empty for one we have no words for."""
    base, _, k = name.partition("@")
    said = MEANINGS.get(base, "")
    return (said if k else said.partition(", nothing if")[0]).format(k=k or "list")  # uncut, nothing lies beyond


def figure(name: str, value: float) -> str:
    """The headline's figure: shares as per cent, anything else with its decimals."""
    return share(value) if math.isfinite(value) and name.partition("@")[0] in SHARES else number(value)


def plainly(name: str, value: float) -> str:
    """One sentence that says what this value of a metric means for users."""
    base, _, k = name.partition("@")
    sentence = SENTENCES.get(base, "{name} is {value} on average over users.")
    if not k and base in (*SHARES, "ndcg"):
        sentence = "{name} is {value} on average over users."
    return sentence.format(k=k, value=figure(name, value), name=metric(name))


def describe(report: Report) -> str:
    """Data and protocol in one line: what must be equal before two rows may be compared."""
    p = report.protocol
    least = f", users with {p.min_test} or more" if p.min_test > 1 else ""
    return (
        f"{report.data.name} ({report.data.hash[:8]}), {p.part} part{least}, ranking {p.ranking}, "
        f"mask {'+'.join(p.mask) or 'none'}, history {'+'.join(p.history) or 'none'}, "
        f"{report.users_evaluated:,} users evaluated"
    )


def labels(reports: Sequence[Report], folders: Sequence[str] = ()) -> tuple[str, ...]:
    """A name for each report: its model; where others are of the same, the name of its folder, or what tells it from them in
    inputs and settings."""
    models = [(r.model, r.leaky) for r in reports]
    if folders and len(set(folders)) == len(reports):
        parts = [folder.split("-") for folder in folders]  # movielens-ease, movielens-weave
        same = next((n for n, column in enumerate(zip(*parts, strict=False)) if len(set(column)) > 1), len(parts[0]))
        short = ["-".join(part[min(same, *(len(p) - 1 for p in parts)) :]) for part in parts]
        plain = [f"{model} (leaky)" if leaky else model for model, leaky in models]
        called = [s if models.count(m) > 1 else p for s, m, p in zip(short, models, plain, strict=True)]
        if len(set(called)) == len(called):
            return tuple(called)
    settings = [flat(r.settings) | flat(r.training) for r in reports]
    given = [{name: i.ref or i.description for name, i in r.inputs.items()} for r in reports]
    names = []
    for report, own, inputs in zip(reports, settings, given, strict=True):
        twins = [i for i, other in enumerate(reports) if (other.model, other.leaky) == (report.model, report.leaky)]
        name = f"{report.model} (leaky)" if report.leaky else report.model
        if any(given[i] != inputs for i in twins):
            name += "".join(f" + {key}" for key in inputs)
            twins = [i for i in twins if set(given[i]) == set(inputs)]
            name += "".join(f" {k}={v}" for k, v in inputs.items() if any(given[i].get(k) != v for i in twins))
        telling = [key for key in own if any(settings[i].get(key) != own[key] for i in twins)]
        names.append(" ".join([name, *(f"{key}={own[key]}" for key in telling[:3])]))
    return tuple(f"{n} #{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names))


def columns(
    reports: Sequence[Report], metrics: Sequence[str] | None = None, most: int = 3, among: Collection[str] | None = None
) -> tuple[str, ...]:
    """The metrics to show: those asked for, or the main one and its neighbours at the same cut-off; of `among` if given.

    Raises UnknownKey for a metric that some report lacks.
    """
    if not reports:
        return ()
    shared = [m for m in reports[0].metrics if all(m in r.metrics for r in reports) and (among is None or m in among)]
    for name in metrics or ():
        if name not in shared:
            raise UnknownKey("the metrics of these runs", name, shared)
    if metrics:
        return tuple(metrics)
    main = reports[0].main
    cut = main.partition("@")[2]
    return tuple(sorted(shared, key=lambda m: (m != main, m.partition("@")[2] != cut))[:most])


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"backbone": {"dim": 32}} -> {"backbone.dim": 32}"""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out
