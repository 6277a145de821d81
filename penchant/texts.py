"""Texts: one text per user or item, with gaps, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from penchant.data import Ids, digest
from penchant.errors import Misaligned

__all__ = ["LEAKING", "Provenance", "Texts"]

LEAKING = "leaking:"  # before the hash of interactions with held-out choices among them, see leaky.py


@dataclass(frozen=True)
class Provenance:
    """Where a derived thing came from.

    made_by: engine or encoder with revision; "external" when it came with the data and cannot be checked.
    parents: refs of what it was made from. interactions: hash of the Interactions whose histories or reviews it saw,
    None if it saw none. cost_usd: what was paid. created: ISO time, empty where nothing was stored.
    """

    made_by: str
    parents: tuple[str, ...] = ()
    interactions: str | None = None
    cost_usd: float = 0.0
    created: str = ""

    @property
    def external(self) -> bool:
        return self.made_by.startswith("external")

    @property
    def leaking(self) -> bool:
        """Whether held-out choices were among those it was written from, on purpose."""
        return (self.interactions or "").startswith(LEAKING)


@dataclass(frozen=True, eq=False)
class Texts:
    """values[row] is the text of ids.keys[row], or None: a gap, never an empty string."""

    ids: Ids
    values: tuple[str | None, ...]
    source: Provenance

    def __post_init__(self) -> None:
        if len(self.values) != len(self.ids):
            raise Misaligned(f"{len(self.values)} texts for {len(self.ids)} {self.ids.kind}s")
        if any(v is not None and not v.strip() for v in self.values):
            object.__setattr__(self, "values", tuple(v if v and v.strip() else None for v in self.values))

    @cached_property
    def present(self) -> np.ndarray:
        """(n,) bool"""
        return np.array([v is not None for v in self.values], bool)

    @cached_property
    def hash(self) -> str:
        return digest(self.ids.print, *("\0" if v is None else v for v in self.values))
