"""Newest: which folder a run is served from: its own, or that of a refresh, which newer.json names."""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.report import write_whole

__all__ = ["NAME", "PLAN", "Newest", "unfinished"]

log = logging.getLogger("penchant.serve")
NAME, PLAN = "newer.json", "refresh.json"


@dataclass(frozen=True)
class Newest:
    """folder: of the model that is to answer. folded: events of `state` up to this number are part of its training. made: folders
    that refreshes have made and not removed."""

    folder: Path
    folded: int = 0
    state: str = ""
    made: tuple[str, ...] = ()

    @staticmethod
    def of(run: Path) -> Newest:
        """Of a run folder. What newer.json names is complete, because it is written whole and last; where it is damaged, or what it
        names is gone, the run itself is served, and the log says so."""
        card = run / NAME
        if not card.is_file():
            return Newest(run)
        try:
            facts = json.loads(card.read_text("utf-8"))
            name, made = str(facts["folder"]), tuple(map(str, facts["made"]))
            found = Newest(run.parent / name, int(facts["folded"]), str(facts["state"]), made)
            if Path(name).name != name or any(Path(one).name != one for one in made):
                raise ValueError(f"{name!r} is no neighbour")
            if not found.folder.is_dir():
                raise ValueError(f"{name!r} is gone")
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s can't be used, so the run is served as it was: %s", card, error)
            return Newest(run)
        return found

    def known(self, state: str) -> int:
        """Events up to this number are part of the training, if they are those of this state."""
        return self.folded if state == self.state else 0

    @staticmethod
    def write(run: Path, folder: str, folded: int, state: str, made: Sequence[str], content: str) -> None:
        """content: of the data it was trained on."""
        facts = {"folder": folder, "folded": folded, "state": state, "made": list(made), "content": content}
        write_whole(run / NAME, json.dumps(facts).encode())


def unfinished(run: Path) -> tuple[tuple[str, ...], str]:
    """Folders of a refresh that was begun and is not done, with what was written on the way to them, the model's first; and the content
    of the data that it was begun with. Nothing where none was, or where the plan of it is damaged."""
    try:
        facts = json.loads((run / PLAN).read_text("utf-8"))
        name, content = str(facts["folder"]), str(facts["content"])
    except (OSError, ValueError, LookupError, TypeError):
        return (), ""
    if Path(name).name != name:
        return (), ""
    ends = tuple(f"{name}{end}" for end in ("", "-data", "-final"))
    parts = [one.name for end in ends for one in run.parent.glob(f".{glob.escape(end)}.*")]
    return (*ends, *parts), content
