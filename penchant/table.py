"""Tables of reports for the terminal; each fits 100 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from penchant.report import Report
from penchant.under_noise import level
from penchant.words import between, columns, count, describe, duration, labels, money, number, signed

__all__ = ["claims", "marked", "noise", "table", "visible"]


def table(reports: Sequence[Report], metrics: Sequence[str] | None = None, width: int = 100) -> Table:
    """One row a report: mean with its 95 % interval beneath, seeds, time, parameters, LLM cost; users and protocol below.

    Shows as many metrics as fit into `width`: three in 100 columns (the main one and others at the same cut-off). What is
    claimed stands in its own table, see `claims`.
    """
    shown = columns(reports, metrics)[: max(1, (width - 52) // 15)]
    lines = dict.fromkeys(visible(describe(r)) for r in reports)
    caption = "\n".join(lines) if len(lines) < 2 else "Different protocols, not to be compared:\n" + "\n".join(lines)
    out = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=Text(caption), caption_justify="left"
    )
    out.add_column("model", overflow="fold", min_width=12)
    for name in (*shown, "seeds", "time", "parameters", "LLM cost"):
        out.add_column(name, justify="right", no_wrap=True)
    sound = [r for r in reports if not r.leaks] or reports
    best = {m: max((r.metrics[m].mean for r in sound), default=math.nan) for m in shown}
    for name, report in zip(labels(reports), reports, strict=True):
        cells = []
        for m in shown:
            got = report.metrics[m]
            leads = len(reports) > 1 and got.mean == best[m] and (not report.leaks or sound is reports)
            cells.append(Text(number(got.mean), style="bold" if leads else "").append(f"\n{between(got.ci95)}", "dim"))
        facts = (str(len(report.seeds)), duration(report.seconds.total), count(report.parameters), money(report))
        out.add_row(marked(name, report.marks), *cells, *facts)
    return out


def claims(reports: Sequence[Report]) -> Table | None:
    """Claimed, got, relative difference, met or not; None where nothing is claimed."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="Claims", title_justify="left")
    for name in ("model", "metric", "source"):
        out.add_column(name, overflow="fold")
    for name in ("claimed", "got", "difference", "allowed", "verdict"):
        out.add_column(name, justify="right", no_wrap=True)
    for label, report in zip(labels(reports), reports, strict=True):
        for metric, claim in (report.claim or {}).items():
            source = marked(claim.source, ("rests on leakage",) if claim.leaks else ())
            numbers = (number(claim.value), number(claim.got), signed(claim.difference), f"±{100 * claim.relative:g} %")
            verdict = Text(claim.verdict, style="red" if claim.verdict == "missed" else "green")
            out.add_row(Text(visible(label)), Text(visible(metric)), source, *numbers, verdict)
    return out if out.row_count else None


def noise(report: Report) -> Table | None:
    """A row a model, a column a rate: means, and beneath how far from those without noise; None where none was added."""
    if report.noise is None:
        return None
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    out.title = "Random choices in train, as a share of the true ones"
    out.add_column("model", overflow="fold", min_width=12)
    out.add_column("metric")
    for rate in report.noise.rates:
        out.add_column(level(rate), justify="right", no_wrap=True)
    for metric in report.noise.metrics():
        for model in report.noise.models:
            cells = []
            for at in model.per_rate:
                lost = at.relative_loss[metric]
                cells.append(Text(number(at.mean[metric])))
                if lost is not None and at.rate:
                    cells[-1].append(f"\n{signed(-lost)}", "dim")
            out.add_row(marked(model.name, model.marks), Text(metric), *cells)
        out.add_section()
    return out


def marked(text: str, marks: Sequence[str]) -> Text:
    """A cell with its warnings beneath; never read as markup."""
    cell = Text(visible(text))
    for mark in marks:
        cell.append(f"\n{visible(mark)}", style="yellow")
    return cell


def visible(text: str) -> str:
    """Untrusted text for a terminal: a space for every character that would steer it; joiners within words stay."""
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in text)
