"""Newest: which folder a run is served from: its own, or that of a refresh, which newer.json names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import BadModel

__all__ = ["NAME", "Newest"]

NAME = "newer.json"


@dataclass(frozen=True)
class Newest:
    """folder: of the model that is to answer. folded: events up to this number are part of its training."""

    folder: Path
    folded: int = 0

    @staticmethod
    def of(run: Path) -> Newest:
        """Of a run folder. newer.json is written whole and last, so what it names is complete. Raises BadModel."""
        card = run / NAME
        if not card.is_file():
            return Newest(run)
        try:
            facts = json.loads(card.read_text("utf-8"))
            name, folded = str(facts["folder"]), int(facts["folded"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadModel(f"{card} is damaged: {error}. Remove it to serve {run} as it was") from None
        if not name or Path(name).name != name:
            raise BadModel(f"{card} names {name!r}, which is no neighbour of {run}. Remove it to serve {run} as it was")
        return Newest(run.parent / name, folded)
