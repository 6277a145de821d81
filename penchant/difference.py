"""Difference: two stored artefacts of one kind beside each other: how they were made, and which rows differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from penchant.cards import Card
from penchant.errors import BadInput, some
from penchant.features import Features
from penchant.store import Store
from penchant.stored import Shelf, maker
from penchant.texts import Texts

__all__ = ["Change", "Cosine", "Difference", "Fact", "Piece", "compare", "shortened", "wordwise"]

WORDS = 600  # of each text that are compared; beyond it the comparison would take longer than reading
BLOCK = 4096  # rows at once


@dataclass(frozen=True)
class Fact:
    """Something that the cards say differently."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Change:
    """A row whose text is another one now."""

    key: str
    before: str
    after: str


@dataclass(frozen=True)
class Cosine:
    """How alike the vectors are that both have. least_key: the row that is least alike."""

    mean: float
    least: float
    least_key: str


@dataclass(frozen=True)
class Difference:
    """stayed, changed: rows that both have; appeared, vanished: keys of rows that only the second or the first has (a
    gap is not had). gaps: rows that neither has. changes: a few changed texts. cosine: of features of equal length.

    Whether a vector changed is told by its bits.
    """

    kind: str
    facts: tuple[Fact, ...]
    stayed: int
    changed: int
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    gaps: int
    changes: tuple[Change, ...] = ()
    cosine: Cosine | None = None


@dataclass(frozen=True)
class Piece:
    """A run of words. mark: " " for what stayed, "-" for what is gone, "+" for what is new, "…" for words left out."""

    mark: str
    words: tuple[str, ...] = field(default=())

    @property
    def text(self) -> str:
        return " ".join(self.words)


def compare(store: Store, first: str, second: str, most: int = 3) -> Difference:
    """What differs from the first artefact to the second, with at most so many changed texts.

    Raises BadInput for two of different kinds, MissingFile for an unknown ref.
    """
    before, after = store.card(first), store.card(second)
    if (before["kind"], before["of"]) != (after["kind"], after["of"]):
        one, two = (before["kind"], after["kind"])
        if one == two:
            one, two = f"{one} of {before['of']}s", f"{two} of {after['of']}s"
        raise BadInput(
            f"{first} holds {one} and {second} {two}: only two of a kind can be compared. {_others(store, before)}"
        )
    facts = _facts(before, after)
    if before["kind"] == "texts":
        return _texts(store.load_texts(first), store.load_texts(second), facts, most)
    return _features(store.load_features(first), store.load_features(second), facts)


def wordwise(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, word by word; of long ones the first words."""
    old, new = before.split(), after.split()
    matcher = difflib.SequenceMatcher(None, old[:WORDS], new[:WORDS], autojunk=False)
    left, right = [], []
    for tag, a, b, c, d in matcher.get_opcodes():
        same = tag == "equal"
        if b > a:
            left.append(Piece(" " if same else "-", tuple(old[a:b])))
        if d > c:
            right.append(Piece(" " if same else "+", tuple(new[c:d])))
    for pieces, words in ((left, old), (right, new)):
        if len(words) > WORDS:
            pieces.append(Piece("…", (f"{len(words) - WORDS} more words",)))
    return left, right


def _facts(before: Card, after: Card) -> tuple[Fact, ...]:
    pairs = zip(_said(before), _said(after), strict=True)
    facts = [Fact(name, old, new) for (name, old), (_, new) in pairs if old != new]
    for name in sorted({*before["counts"], *after["counts"]}):
        old, new = before["counts"].get(name, 0), after["counts"].get(name, 0)
        if old != new:
            facts.append(Fact(name.replace("_", " "), f"{old:,}", f"{new:,}"))
    return tuple(facts)


def _said(card: Card) -> Iterator[tuple[str, str]]:
    by = maker(card)
    yield "title", card["title"] or "none"
    yield "prompt" if card["kind"] == "texts" else "encoder", by.what
    yield "version", by.version or "none"
    yield "model", by.model or "none"
    yield "built from", ", ".join(parent if "/" in parent else parent[:12] for parent in card["parents"]) or "nothing"
    yield "interactions", (card["interactions"] or "none")[:12]
    yield "rows", f"{card['rows']:,}"
    yield "present", f"{card['present']:,}"
    if card["kind"] == "features":
        yield "dim", str(card["dim"])
    yield "cost", f"${card['cost_usd']:.4f}"
    yield "created", card["created"]


def _texts(before: Texts, after: Texts, facts: tuple[Fact, ...], most: int) -> Difference:
    old = dict(zip(before.ids.keys, before.values, strict=True))
    new = dict(zip(after.ids.keys, after.values, strict=True))
    stayed = gaps = 0
    changed, appeared, vanished = [], [], []
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if a is None and b is None:
            gaps += 1
        elif a is None:
            appeared.append(key)
        elif b is None:
            vanished.append(key)
        elif a == b:
            stayed += 1
        else:
            changed.append(Change(key, a, b))
    return Difference(
        "texts", facts, stayed, len(changed), tuple(appeared), tuple(vanished), gaps, tuple(changed[:most])
    )


def _features(before: Features, after: Features, facts: tuple[Fact, ...]) -> Difference:
    keys = list(dict.fromkeys((*before.ids.keys, *after.ids.keys)))
    a, b = before.ids.rows(keys), after.ids.rows(keys)
    old, new = (a >= 0) & before.present[a], (b >= 0) & after.present[b]
    common = np.flatnonzero(old & new)
    cosine, stayed = None, 0
    if before.dim == after.dim and len(common):
        values, same = _cosines(before, after, a[common], b[common])
        stayed, least = int(same.sum()), int(values.argmin())
        cosine = Cosine(float(values.mean()), float(values[least]), keys[int(common[least])])
    appeared = tuple(keys[row] for row in np.flatnonzero(new & ~old))
    vanished = tuple(keys[row] for row in np.flatnonzero(old & ~new))
    gaps = int((~old & ~new).sum())
    return Difference("features", facts, stayed, len(common) - stayed, appeared, vanished, gaps, (), cosine)


def _cosines(before: Features, after: Features, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of each pair of rows, 0 where one of two vectors is zero, and whether their bits are equal; in blocks."""
    cosine, same = np.zeros(len(a)), np.zeros(len(a), bool)
    for start in range(0, len(a), BLOCK):
        part = slice(start, start + BLOCK)
        x, y = before.values[a[part]].astype(np.float64), after.values[b[part]].astype(np.float64)
        same[part] = (x == y).all(axis=1)
        length = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosine[part] = np.where(length > 0, (x * y).sum(axis=1) / np.where(length > 0, length, 1), same[part])
    return cosine, same


def _others(store: Store, card: Card) -> str:
    """What the first one could be compared with."""
    like = [
        other["ref"]
        for other in Shelf.read(store).cards.values()
        if (other["kind"], other["of"]) == (card["kind"], card["of"]) and other["ref"] != card["ref"]
    ]
    if not like:
        make = "penchant enrich DATA PROMPT" if card["kind"] == "texts" else "penchant encode DATA --text"
        return f"The store has no other {card['kind']} of {card['of']}s; make some:  {make}"
    return f"Like the first are: {some(like)}. Type:  penchant diff {card['ref']} {like[0]}"


def shortened(pieces: Sequence[Piece], around: int = 8) -> list[Piece]:
    """Long runs of words that stayed, cut to a few beside the changes."""
    found: list[Piece] = []
    for piece in pieces:
        left = len(piece.words) - 2 * around
        if piece.mark == " " and left > around:
            found += [
                Piece(" ", piece.words[:around]),
                Piece("…", (f"{left} words",)),
                Piece(" ", piece.words[-around:]),
            ]
        else:
            found.append(piece)
    return found
