"""report.html: one run on one page that opens from disk, with plots and pictures, without a network or a script.

Titles, ids, reviews and reasons are written by strangers: the templates escape every value, and the page forbids
itself anything but its own pictures and styles.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from penchant import plots, story, words
from penchant.catalog import open_picture
from penchant.errors import BadPicture, Misaligned
from penchant.report import Metric, Report, write_whole
from penchant.results import Audience, PerUser, TopLists
from penchant.under_noise import level

__all__ = ["Audience", "Card", "Example", "environment", "people_of", "thumbnail", "write"]

HISTORY_SHOWN = 12  # of a long history, the newest
PICTURE_SIZE = 160  # pixels on the longer side, twice what a page shows

# Control characters but for tab and line end; marks that override or isolate a direction; halves of surrogate pairs.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Card:
    """One item as it is shown. picture: encoded bytes of any size, or None. caption: a price, a brand, a year.

    score, reason and hit are for recommended items; hit: the user did choose it in the part that was asked about.
    """

    item_id: str
    title: str
    picture: bytes | None = None
    caption: str = ""
    score: float = math.nan
    reason: str = ""
    hit: bool = False


@dataclass(frozen=True)
class Example:
    """One user: what was chosen so far, oldest first, and what is recommended, best first."""

    user_id: str
    history: tuple[Card, ...]
    recommended: tuple[Card, ...]
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    label: str
    report: Report
    got: Metric
    own: bool


@dataclass(frozen=True)
class Person:
    """An Example ready for the page: pictures are data addresses, a long history is cut to its newest."""

    user_id: str
    note: str
    history: tuple[Shown, ...]
    earlier: int
    recommended: tuple[Shown, ...]
    hits: int


@dataclass(frozen=True)
class Shown:
    """A Card ready for the page."""

    card: Card
    picture: str


def write(
    folder: Path | str,
    report: Report,
    per_user: PerUser,
    top: TopLists,
    examples: Sequence[Example] = (),
    others: Sequence[Report] = (),
    audience: Audience | None = None,
) -> Path:
    """Writes report.html. others: further models of the same demo or run; those of another protocol are only named.

    Raises Misaligned when the audience's histories are not one for each user.
    """
    if audience is not None and len(audience.history) != len(per_user.users):
        raise Misaligned(f"{len(audience.history)} history lengths for {len(per_user.users)} users")
    main = report.main
    rows = _rows(report, others, main)
    left_out = words.labels([other for other in others if other.conditions != report.conditions])
    people, ratio = people_of(examples)
    template = environment().get_template("report.html")
    text = template.render(
        report=report,
        main=main,
        sentences=story.headline(report, audience) if main else (),
        facts=story.facts(report),
        rows=rows,
        most=max((max(r.got.mean, np.nan_to_num(r.got.ci95[1])) for r in rows), default=0) or 1,
        left_out=left_out,
        plots=_plots(report, per_user, audience),
        learned=story.learning(report),
        unserved=story.unserved(per_user, main, per_user.row(report.kept)),
        popularity=story.popularity(audience, top, report.data.users) if audience is not None else (),
        people=people,
        ratio=ratio,
        how=story.making(report),
    )
    return write_whole(Path(folder) / "report.html", text.encode("utf-8", "replace"))


@cache
def environment() -> Environment:
    """The templates, with every value escaped, control characters made visible, and every missing name an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    made.filters["level"] = level
    for say in (words.between, words.count, words.duration, words.figure, words.meaning, words.metric, words.money):
        made.filters[say.__name__] = say
    made.filters |= {"number": words.number, "signed": words.signed, "seeds": words.seeds}
    return made


def _visible(value: object) -> object:
    """Text in which what would steer a terminal or turn the direction of the line is written out: \\x1b, \\u202e."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _STEERING.sub(lambda found: repr(found[0])[1:-1], value)


def thumbnail(raw: bytes, name: str = "", size: int = PICTURE_SIZE) -> bytes | None:
    """A small JPEG of a picture, at most `size` pixels on its longer side; None for what cannot be read."""
    try:
        picture = open_picture(raw, name, size)
    except BadPicture:
        return None
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()


def people_of(examples: Sequence[Example]) -> tuple[list[Person], float]:
    """The examples ready to be shown, and the usual width of their pictures over the height."""
    ratios = []
    made: dict[bytes, str] = {}

    def shown(card: Card) -> Shown:
        if card.picture is None:
            return Shown(card, "")
        if card.picture not in made:
            small = thumbnail(card.picture, card.item_id)
            made[card.picture] = "data:image/jpeg;base64," + base64.b64encode(small).decode() if small else ""
            if small:
                width, height = open_picture(small, card.item_id).size
                ratios.append(width / height)
        return Shown(card, made[card.picture])

    people = []
    for example in examples:
        recent = example.history[-HISTORY_SHOWN:]
        recommended = tuple(shown(card) for card in example.recommended)
        people.append(
            Person(
                example.user_id,
                example.note,
                tuple(shown(card) for card in recent),
                len(example.history) - len(recent),
                recommended,
                sum(card.hit for card in example.recommended),
            )
        )
    return people, round(float(np.clip(np.median(ratios), 0.6, 1.6)), 3) if ratios else 1


def _rows(report: Report, others: Sequence[Report], main: str) -> list[Row]:
    """This run and those that may stand beside it, best first."""
    if not main:
        return []
    beside = [report, *(o for o in others if o.conditions == report.conditions and main in o.metrics)]
    named = zip(words.labels(beside), beside, strict=True)
    rows = [Row(label, r, r.metrics[main], r is report) for label, r in named]
    return sorted(rows, key=lambda row: -np.nan_to_num(row.got.mean))


def _plots(report: Report, per_user: PerUser, audience: Audience | None) -> Mapping[str, Markup | str]:
    """Every plot by name; empty where there is nothing to draw. Markup: our own drawing, its text escaped in it."""
    out = dict.fromkeys(("loss", "validation", "spread", "history", "tail", "noise", "left"), "")
    seed = report.kept
    if report.curve:
        out["loss"] = plots.loss(report.curve, seed)
        if any(p.valid is not None for p in report.curve):
            out["validation"] = plots.validation(report.curve, seed)
    values = per_user.values.get(report.main)
    if values is not None and values.size:
        out["spread"] = plots.spread(values[per_user.row(report.kept)])
        if audience is not None:
            out["history"] = plots.by_history(values.mean(axis=0), audience.history)
    if audience is not None and audience.train.sum() and audience.recommended.sum():
        out["tail"] = plots.tail(audience.train, audience.recommended)
    if report.noise is not None:
        out["noise"] = plots.under_noise(report.noise)
        if report.noise.compared:
            out["left"] = plots.under_noise(report.noise, lost=True)
    return {name: Markup(plots.stamped(svg) if report.leaks else svg) for name, svg in out.items()}
