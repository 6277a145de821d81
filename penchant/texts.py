"""Texts: one text per user or item, with gaps, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from penchant.data import Ids, digest
from penchant.errors import Leak, Misaligned

__all__ = ["LEAKING", "Provenance", "Texts", "joined"]

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


def joined(first: Texts, then: Texts) -> Texts:
    """One text each in the rows of `then`: what `first` says, then `then`; a gap in one leaves the other alone.

    What either was written from is carried over. Raises Misaligned when one is of users and one of items, Leak when they
    were written from different interactions.
    """
    if first.ids.kind != then.ids.kind:
        raise Misaligned(f"texts of {first.ids.kind}s cannot stand before texts of {then.ids.kind}s")
    origins = {first.source.interactions, then.source.interactions} - {None}
    if len(origins) > 1:
        raise Leak(
            f"texts written from different interactions ({', '.join(o[:8] for o in sorted(map(str, origins)))}) were joined"
        )
    said = dict(zip(first.ids.keys, first.values, strict=True))
    pairs = ((said.get(key), text) for key, text in zip(then.ids.keys, then.values, strict=True))
    values = tuple(" ".join(part for part in pair if part) or None for pair in pairs)
    made_by = "external:joined" if first.source.external or then.source.external else "joined"
    cost = first.source.cost_usd + then.source.cost_usd
    return Texts(then.ids, values, Provenance(made_by, (first.hash, then.hash), next(iter(origins), None), cost))
