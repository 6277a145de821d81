"""What a page says of a run in words and figures: the headline, the learning, the users, the popularity, the making."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penchant import words
from penchant.plots import chosen
from penchant.report import Report
from penchant.results import Audience, PerUser, TopLists

__all__ = ["Block", "facts", "headline", "learning", "making", "popularity", "unserved"]


@dataclass(frozen=True)
class Block:
    """A heading with names and values under it."""

    heading: str
    pairs: tuple[tuple[str, str], ...]


def headline(report: Report, audience: Audience | None) -> list[str]:
    """The main number in plain words, what chance would reach, and how it was selected."""
    main, got = report.main, report.metrics[report.main]
    out = [words.plainly(main, got.mean)]
    if all(map(math.isfinite, got.ci95)):
        lo, hi = (words.figure(main, end) for end in got.ci95)
        out[0] += f" With other users like these the mean would be expected between {lo} and {hi} (95 % interval)."
    base, _, k = main.partition("@")
    among = None if audience is None else audience.candidates
    if base == "recall" and k and among is not None and len(among):
        chance = float(np.minimum(int(k) / np.maximum(among, 1), 1).mean())  # a held-out item is as likely there as any
        times = f", {got.mean / chance:.0f} times less" if got.mean > 2 * chance else ""
        out.append(f"A list drawn at random would hold about {words.figure(main, chance)}{times}.")
    chosen = report.protocol.selected_by
    if chosen.startswith("nothing"):
        out.append("Nothing was chosen: the recipe fixes every setting.")
    elif chosen:
        out.append(
            f"Chosen: {chosen if chosen.startswith('the ') else words.metric(chosen)}, never by the number shown."
        )
    return [out[0], " ".join(out[1:])] if len(out) > 1 else out


def facts(report: Report) -> list[tuple[str, str]]:
    return [
        ("users evaluated", words.count(report.users_evaluated)),
        ("items", words.count(report.data.items)),
        ("training choices", words.count(report.data.train)),
        ("seeds", str(len(report.seeds))),
        ("parameters", words.count(report.parameters)),
        ("training time", words.duration(report.seconds.train)),
        ("LLM cost", words.money(report) if report.lm.calls or report.lm.cached else "none"),
    ]


def learning(report: Report) -> str:
    best = chosen([p for p in report.curve if p.seed == report.kept])
    seeds = len({p.seed for p in report.curve})
    lines = f" The thin lines are the other {seeds - 1} seeds." if seeds > 1 else ""
    kept = f" Kept: epoch {best.epoch}, the best on validation, marked with a dot." if best else ""
    last = max((p.epoch for p in report.curve), default=0)
    each = f", {words.duration(report.seconds.per_epoch)} each" if report.seconds.per_epoch else ""
    return f"{last} epochs{each}.{kept}{lines}"


def unserved(per_user: PerUser, main: str, row: int) -> str:
    values = per_user.values.get(main)
    if values is None or not values.size:
        return ""
    none = float(np.mean(values[row] <= 0))
    return f"Nothing was found for {none:.0%} of users".replace("%", " %")


def popularity(audience: Audience, top: TopLists, users: int) -> list[tuple[str, str]]:
    """Figures of the recommended lists, each with what it says."""
    train, recommended = audience.train, audience.recommended
    places = recommended.sum()
    if not places or not train.sum():
        return []
    common = np.argsort(-train, kind="stable")[: max(1, len(train) // 10)]
    chosen, listed = train[common].sum() / train.sum(), recommended[common].sum() / places
    surprise = -np.log2(np.maximum(train, 1) / max(users, 1))  # in bits, as metrics.novelty
    novelty = [float(counts @ surprise / counts.sum()) for counts in (recommended, train)]
    lists, length = top.item.shape
    each = top.counts().astype(np.float64)
    shared = float((each * (each - 1)).sum() / max(lists * (lists - 1), 1))
    return [
        (
            f"{np.mean(recommended > 0):.0%}".replace("%", " %"),
            "of the catalogue is recommended to somebody (coverage)",
        ),
        (
            f"{listed:.0%} against {chosen:.0%}".replace("%", " %"),
            "of recommendations and of choices go to the most chosen tenth of the catalogue",
        ),
        (
            f"{novelty[0]:.1f} against {novelty[1]:.1f} bits",
            "novelty of recommendations and of choices; one bit more is an item half as well known",
        ),
        (f"{shared:.1f} of {length}", "items are the same in the lists of two users taken at random"),
    ]


def making(report: Report) -> list[Block]:
    p, d, s, lm = report.protocol, report.data, report.seconds, report.lm
    protocol = {
        "part": p.part,
        "ranking": p.ranking,
        "mask": ", ".join(p.mask) or "nothing",
        "history": ", ".join(p.history) or "nothing",
        "split": p.split,
        "selected by": p.selected_by,
        "ties": p.ties,
        "least held out": p.min_test,
        "seeds": ", ".join(map(str, report.seeds)),
    }
    density = d.train / max(d.users * d.items, 1)
    data = {
        "name": d.name,
        "hash": d.hash[:16],
        "users": f"{d.users:,}",
        "items": f"{d.items:,}",
        "train, valid, test": f"{d.train:,}, {d.valid:,}, {d.test:,}",
        "density of train": f"{100 * density:.3g} %",
    }
    tokens = f"{lm.tokens_in:,} in, {lm.tokens_out:,} out"
    cost = {
        "preparing": words.duration(s.prepare),
        "training": words.duration(s.train),
        "an epoch": words.duration(s.per_epoch) if report.epochs else "",
        "evaluating": words.duration(s.evaluate),
        "epochs": report.epochs or "",
        "parameters": f"{report.parameters:,}",
        "peak memory": f"{report.peak_rss_mb:,.0f} MB" if math.isfinite(report.peak_rss_mb) else "",
        "LLM calls": f"{lm.calls:,} made, {lm.cached:,} from the store" if lm.calls or lm.cached else "none",
        "LLM tokens": tokens if lm.calls or lm.cached else "",
        "LLM cost": words.money(report) if lm.calls or lm.cached else "",
    }
    parts: dict[str, Mapping[str, Any]] = {
        "Protocol": protocol,
        "Data": data,
        "Model settings": words.flat(report.settings),
        "Training": words.flat(report.training),
        "Cost": cost,
        "Versions": report.versions,
        "Accepted on the way": {name: f"{n:,}" for name, n in report.notes.items()},
    }
    blocks = [
        Block(h, tuple((k, _said(v)) for k, v in pairs.items() if v not in ("", None))) for h, pairs in parts.items()
    ]
    return [block for block in blocks if block.pairs]


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_said, value)) if isinstance(value, (list, tuple)) else str(value)
