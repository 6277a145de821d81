"""Stored: what a store holds, looked at: cards, what was built from what, and texts with the questions behind them.

Everything here reads and changes nothing; `questions` looks at calls, `garbage` and `forgetting` remove.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from penchant.calls import Call, Calls
from penchant.cards import Card
from penchant.errors import StoreError
from penchant.features import Features
from penchant.store import Store
from penchant.texts import Texts

__all__ = [
    "Maker",
    "Row",
    "Shelf",
    "ids_of",
    "known_keys",
    "look",
    "maker",
    "neighbours",
    "open_calls",
    "parts_of",
    "stored_key",
]

_ENRICHED = re.compile(r"enrich:(.+?)@([0-9a-f]{12})/(.*)", re.DOTALL)
_ENCODED = re.compile(r"((?:external:)?encoder:.*)@([^@]*)", re.DOTALL)


@dataclass(frozen=True)
class Maker:
    """Who made an artefact. what: prompt or encoder; version: of it and of what it shows; model: who answered, or ""."""

    what: str
    version: str = ""
    model: str = ""


@dataclass(frozen=True)
class Row:
    """One row of stored texts and all that is kept about it.

    status: None where nothing was asked. reply: the typed answer, reasoning first; None for a bad reply. call: the
    question and the raw answer; None where they are not kept (any more). pictures: sha256 and file of what was shown.
    """

    key: str
    text: str | None
    status: str | None = None
    reply: Mapping[str, Any] | None = None
    call_key: str | None = None
    call: Call | None = None
    pictures: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True)
class Shelf:
    """All cards of a store by ref. damaged: refs whose card cannot be read."""

    cards: Mapping[str, Card]
    damaged: tuple[str, ...] = ()

    @staticmethod
    def read(store: Store) -> Shelf:
        cards, damaged = {}, []
        for ref in store.refs():
            try:
                cards[ref] = store.card(ref)
            except StoreError:
                damaged.append(ref)
        return Shelf(cards, tuple(damaged))

    @cached_property
    def by_name(self) -> dict[str, list[Card]]:
        """Cards by ref and by content hash: the two ways in which a card names its parents."""
        found: dict[str, list[Card]] = {}
        for card in self.cards.values():
            found.setdefault(card["ref"], []).append(card)
            found.setdefault(card["hash"], []).append(card)
        return found

    def built_from(self, card: Card) -> list[Card]:
        """Stored artefacts that this one was made of."""
        found = {c["ref"]: c for parent in card["parents"] for c in self.by_name.get(parent, [])}
        return [c for ref, c in found.items() if ref != card["ref"]]

    def built_into(self, card: Card) -> list[Card]:
        """Stored artefacts that were made of this one, oldest first."""
        names = {card["ref"], card["hash"]}
        found = (c for c in self.cards.values() if c["ref"] != card["ref"] and names & set(c["parents"]))
        return sorted(found, key=lambda c: (c["created"], c["ref"]))

    def descendants(self, refs: Sequence[str]) -> dict[str, str]:
        """All that was built from these, directly or not: ref -> the ref that it was built from."""
        found: dict[str, str] = {}
        line = list(refs)
        for ref in line:  # grows while it is walked
            for child in self.built_into(self.cards[ref]):
                if child["ref"] not in found and child["ref"] not in refs:
                    found[child["ref"]] = ref
                    line.append(child["ref"])
        return found


def maker(card: Card) -> Maker:
    """The prompt and model, or the encoder, that a card names; what is made otherwise is its own maker."""
    if match := _ENRICHED.fullmatch(card["made_by"]):
        return Maker(*match.groups())
    if match := _ENCODED.fullmatch(card["made_by"]):
        return Maker(*match.groups())
    return Maker(card["made_by"])


def ids_of(store: Store, card: Card) -> tuple[str, ...]:
    """The keys of an artefact's rows. Raises StoreError when its files are damaged."""
    if card["kind"] == "features":
        return store.load_features(card["ref"]).ids.keys
    return store.load_texts(card["ref"]).ids.keys


def look(store: Store, ref: str, key: str | None = None, most: int = 5) -> list[Row]:
    """The first few rows of stored texts that anything was asked or written for, or those of one user or item.

    For texts about interactions a key may name the interaction, its user or its item. Raises UnknownId.
    """
    texts = store.load_texts(ref)
    columns = {name: store.beside(ref, name) for name in ("status", "call", "reply")}
    if key is None:
        rows = [r for r, text in enumerate(texts.values) if text is not None or columns["status"][r]][:most]
    else:
        rows = _rows_of(texts, key)[:most]
    found = []
    with open_calls(store) as calls:
        for row in rows:
            call_key = columns["call"][row]
            call = calls.read(call_key) if calls is not None and call_key else None
            shown = [] if call is None or calls is None else call.request["pictures"]
            found.append(
                Row(
                    texts.ids.keys[row],
                    texts.values[row],
                    columns["status"][row],
                    _parsed(columns["reply"][row]),
                    call_key,
                    call,
                    tuple((picture, calls.picture(picture)) for picture in shown) if calls is not None else (),
                )
            )
    return found


def neighbours(features: Features, key: str, most: int = 5) -> list[tuple[str, float]]:
    """The rows whose vectors are most like one row's, with their cosines; none where that row is a gap."""
    row = features.ids.row(key)
    if not features.present[row]:
        return []
    unit = features.unit()
    cosine = np.where(unit.present, unit.values @ unit.values[row], -np.inf)
    cosine[row] = -np.inf
    order = np.argsort(-cosine, kind="stable")[:most]
    return [(features.ids.keys[at], float(cosine[at])) for at in order.tolist() if np.isfinite(cosine[at])]


@contextmanager
def open_calls(store: Store) -> Iterator[Calls | None]:
    """The calls of a store, None where it has no database yet: looking makes nothing."""
    if not (store.path / "store.sqlite").is_file():
        yield None
        return
    with store.calls() as calls:
        yield calls


def known_keys(store: Store, kind: str | None = None) -> list[str]:
    """Users and items that calls or artefacts are about, for the near one in a message."""
    keys: dict[str, None] = {}
    with open_calls(store) as calls:
        if calls is not None:
            with calls.told() as db:
                rows = db.execute("SELECT DISTINCT key FROM mentions WHERE ? IS NULL OR kind = ?", (kind, kind))
                keys |= dict.fromkeys(row[0] for row in rows)
    for card in Shelf.read(store).cards.values():
        if kind in (None, card["of"]):
            try:
                keys |= dict.fromkeys(ids_of(store, card))
            except StoreError:
                continue
    return list(keys)


def stored_key(key: str) -> str:
    """A key as the database has it: half a surrogate pair is written out."""
    return key.encode("utf-8", "backslashreplace").decode("utf-8")


def parts_of(key: str) -> tuple[str, ...]:
    """User and item of an interaction's key, which is a JSON list; nothing for another key."""
    try:
        found = json.loads(key)
    except ValueError:
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(part, str) for part in found) else ()


def _rows_of(texts: Texts, key: str) -> list[int]:
    rows = [row for row in texts.ids.rows([key]).tolist() if row >= 0]
    if not rows and texts.ids.kind == "interaction":
        rows = [row for row, name in enumerate(texts.ids.keys) if key in parts_of(name)]
    return rows or [texts.ids.row(key)]


def _parsed(reply: str | None) -> Mapping[str, Any] | None:
    """A typed reply, its reasoning first."""
    try:
        found = json.loads(reply) if reply else None
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {name: found[name] for name in sorted(found, key=lambda name: name != "reasoning")}
