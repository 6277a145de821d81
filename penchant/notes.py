"""Notes: what is written of a history while it is read in its order, window by window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penchant.data import Ids
from penchant.errors import BadSetting
from penchant.texts import Provenance

__all__ = ["Note", "Notes", "windows"]


def windows(count: int, size: int, step: int) -> list[tuple[int, int]]:
    """Begin and end of each window over `count` choices: `size` choices each, moved by `step`, the last one ending at the last
    choice. 1 window for count <= size, else 1 + ceil((count - size) / step); with step = size they are a partition.

    One more choice changes the last window, or adds one; those before it stay as they are. Raises BadSetting.
    """
    if not 1 <= step <= size:
        raise BadSetting(
            f"windows of {size} choices moved by {step} would pass over some: step is from 1 to window:  step = {max(size, 1)}"
        )
    if count < 1:
        return []
    more = -(-max(count - size, 0) // step)
    return [(n * step, min(n * step + size, count)) for n in range(more + 1)]


@dataclass(frozen=True)
class Note:
    """What was written after the choices [begin, end) of a history. reason: how it was come to."""

    begin: int
    end: int
    text: str
    reason: str = ""


class Notes(ABC):
    """Writes notes on histories. It is given histories and nothing else, so what comes after them cannot be in a note."""

    counts: Mapping[str, float]
    """What was asked: calls, cached, tokens_in, tokens_out, usd."""

    @property
    @abstractmethod
    def items(self) -> Ids:
        """Whose rows histories hold."""

    @property
    @abstractmethod
    def source(self) -> Provenance:
        """Where they come from, and which interactions what is shown in them has seen."""

    @property
    def remarked(self) -> str | None:
        """Hash of the interactions whose ratings and reviews are read, each beside its choice; None where none are."""
        return None

    @abstractmethod
    def read(self, histories: Sequence[np.ndarray], users: Sequence[str | None]) -> list[tuple[Note, ...]]:
        """The notes on each history, in its order; the last one is what is known at its end. None for an empty one.

        histories: rows of `items`, oldest first. users: whose they are, None for strangers.
        """

    @property
    @abstractmethod
    def hash(self) -> str:
        """Changes whenever the notes may."""

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """Plain values that it can be made of again."""
