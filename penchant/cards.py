"""Cards: what is known of a stored artefact, and the name it goes by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypedDict

from penchant.data import digest
from penchant.features import Features
from penchant.texts import Provenance, Texts

__all__ = ["REF", "Card", "card_of", "provenance_of", "reference"]

REF = re.compile(r"(features|texts)/[0-9a-f]{12}")


class Card(TypedDict):
    """What card.toml says of one artefact.

    kind: "features" or "texts". of: "user" or "item". parents: refs or content hashes of what it was made from.
    interactions: hash of the interactions it saw, None if none. hash: of the content. rows, present, dim: its shape
    (dim is 0 for texts). counts: what its maker counted (encoded, cached, gaps, cut, ...). named: the keys behind a
    count, e.g. the items with unreadable pictures. created: ISO time, UTC.
    """

    ref: str
    kind: str
    of: str
    title: str
    made_by: str
    parents: list[str]
    interactions: str | None
    hash: str
    rows: int
    present: int
    dim: int
    counts: dict[str, int]
    named: dict[str, list[str]]
    cost_usd: float
    created: str


def reference(made: Features | Texts) -> str:
    """The ref under which these features or texts are (or would be) stored: "features/ab12cd34ef56".

    It follows from content and origin: equal vectors made in two ways are two artefacts, so that each keeps its card.
    """
    kind = "features" if isinstance(made, Features) else "texts"
    source = made.source
    return f"{kind}/{digest(made.hash, source.made_by, source.interactions or '', *source.parents)[:12]}"


def card_of(
    made: Features | Texts,
    title: str,
    counts: Mapping[str, int] | None,
    named: Mapping[str, Sequence[str]] | None,
    present: int,
    dim: int,
) -> Card:
    """The card of features or texts that are about to be stored; `created` is now, unless they say when."""
    ref = reference(made)
    return Card(
        ref=ref,
        kind=ref.partition("/")[0],
        of=made.ids.kind,
        title=title,
        made_by=made.source.made_by,
        parents=list(made.source.parents),
        interactions=made.source.interactions,
        hash=made.hash,
        rows=len(made.ids),
        present=present,
        dim=dim,
        counts={name: int(count) for name, count in (counts or {}).items()},
        named={name: list(keys) for name, keys in (named or {}).items()},
        cost_usd=float(made.source.cost_usd),
        created=made.source.created or datetime.now(UTC).isoformat(timespec="seconds"),
    )


def provenance_of(card: Card) -> Provenance:
    """Where the artefact of this card came from."""
    return Provenance(
        card["made_by"], tuple(card["parents"]), card["interactions"], float(card["cost_usd"]), card["created"]
    )
