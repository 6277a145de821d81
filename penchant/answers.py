"""Answers of the command line: as JSON for machines, as lines for people."""

from __future__ import annotations

import json as jsonlib
from typing import Any

__all__ = ["listed", "means", "print_facts", "print_json", "show_data"]


def print_json(value: dict[str, Any]) -> None:
    print(jsonlib.dumps(value, ensure_ascii=False, default=str))


def print_facts(facts: dict[str, Any], json: bool, then: str = "") -> None:
    if json:
        print_json(facts)
        return
    from penchant.screen import out

    width = max((len(k) for k in facts), default=0)
    for key, value in facts.items():
        out.print(f"{key:<{width}}  {value}", markup=False, highlight=False, soft_wrap=True)
    if then:
        out.print(f"\n{then}", markup=False, highlight=False, soft_wrap=True)


def means(report: Any) -> dict[str, float]:
    return {name: value.mean for name, value in report.metrics.items()}


def listed(found: Any, catalog: Any, reasons: Any, about: str = "user_id") -> dict[str, Any]:
    items = []
    for place, (key, score) in enumerate(zip(found.items, found.scores, strict=True)):
        row = catalog.items.rows_by_key.get(key, -1)
        entry = {"item_id": key, "title": catalog.title(row) if row >= 0 else key, "score": score}
        if reasons:
            entry["why"] = reasons[place].sentence
            entry["evidence"] = [
                {"item_id": e.item_id, "title": e.title, "weight": e.weight} for e in reasons[place].evidence
            ]
        items.append(entry)
    return {about: found.user_id, "note": found.note, "items": items}


def show_data(data: Any, json: bool) -> None:
    from penchant.datafacts import facts

    print_facts(facts(data), json)
