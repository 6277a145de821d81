"""Answers of the command line: as JSON for machines, as lines for people."""

from __future__ import annotations

import json as jsonlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what is only named here is not loaded, so that --help answers at once
    from penchant.attributes import Shared
    from penchant.catalog import Catalog
    from penchant.model import Recommendation, Recommender
    from penchant.reasons import Reason
    from penchant.report import Report

__all__ = ["alike", "listed", "means", "print_facts", "print_json", "told"]

_UNSEEN = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def print_json(value: Mapping[str, object]) -> None:
    """One object on one line. Numbers that are not finite are null; what would steer a terminal is written \\uXXXX."""
    from penchant.report import plain

    unicode = (sys.stdout.encoding or "").lower().startswith("utf")  # elsewhere a letter would become a question mark
    text = jsonlib.dumps(plain(value), ensure_ascii=not unicode, allow_nan=False)
    print(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_facts(facts: Mapping[str, object], json: bool, then: str = "") -> None:
    """Names and values, one a line; `then`: what to type next, for people alone."""
    if json:
        print_json(facts)
        return
    from penchant.screen import out
    from penchant.table import visible

    width = max((len(k) for k in facts), default=0)
    for key, value in facts.items():
        out.print(f"{visible(key):<{width}}  {visible(str(value))}", markup=False, highlight=False, soft_wrap=True)
    if then:
        out.print(f"\n{then}", markup=False, highlight=False, soft_wrap=True)


def means(report: Report) -> dict[str, float]:
    """The mean of each metric."""
    return {name: value.mean for name, value in report.metrics.items()}


def listed(
    found: Recommendation,
    catalog: Catalog,
    reasons: Sequence[Reason],
    about: str = "user_id",
    shared: Sequence[Sequence[Shared]] = (),
) -> dict[str, object]:
    """A list of items as JSON; reasons: none, or one an item. about: what the list is for, "user_id" or "item_id". shared: what
    each item has in common with that one."""
    items = []
    for place, (key, score) in enumerate(zip(found.items, found.scores, strict=True)):
        row = catalog.items.rows_by_key.get(key, -1)
        entry: dict[str, object] = {"item_id": key, "title": catalog.title(row) if row >= 0 else key, "score": score}
        if reasons:
            entry["why"] = reasons[place].sentence
            entry["evidence"] = [
                {"item_id": e.item_id, "title": e.title, "weight": e.weight, "span": e.span}
                for e in reasons[place].evidence
            ]
            entry["motives"] = [{"phrases": m.phrases, "lift": m.lift} for m in reasons[place].motives]
        if shared:
            entry["shared"] = [{"field": s.field, "value": s.value, "items": s.items} for s in shared[place]]
        items.append(entry)
    return {about: found.user_id, "note": found.note, "items": items}


def told(found: Recommendation, rec: Recommender, k: int, history: Sequence[str] | None = None) -> Recommendation:
    """The list with a note on what it rests on, where that is not the person's own training, and on why it is short.

    history: item keys of someone new, None for a user of the run.
    """
    from penchant.scorers import Factors, Motivated, Nearest

    note = found.note
    scorer = rec.scorer.factors if isinstance(rec.scorer, Motivated) else rec.scorer
    if not note and history is not None:
        said = "the one item" if len(history) == 1 else f"the {len(history)} items"
        note = f"someone new: judged by {said} given, without any training on this person"
    elif not note and isinstance(scorer, Factors | Nearest) and scorer.trained is not None:
        row = rec.users.row(found.user_id)
        if not scorer.trained[row]:
            known = int(rec.known.history_starts[row + 1] - rec.known.history_starts[row])
            said = "the one choice" if known == 1 else f"the {known} choices"
            note = f"nothing of this user was in training: judged by {said} known since"
    if not found.items:
        return replace(found, note="nothing is left to recommend: every item here was chosen already")
    if len(found.items) < min(k, len(rec.items)):
        short = f"fewer than {k}: the other items were chosen already"
        note = f"{note}; {short}" if note else short
    return replace(found, note=note)


def alike(found: Recommendation, rec: Recommender) -> Recommendation:
    """The items like one, with a note where behaviour cannot say what is like it."""
    if found.note or rec.popularity[rec.items.row(found.user_id)]:
        return found
    if rec.stock is not None and rec.items.row(found.user_id) >= rec.stock.trained:
        return replace(found, note="new here: the model reads its likeness from its features")
    return replace(found, note="nobody here chose this item: what behaviour tells of its likeness is a guess")
