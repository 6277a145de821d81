"""Attributes: what the catalogue says that two items have in common, the most telling first."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from penchant.catalog import TEXT_FIELDS, Catalog

__all__ = ["PARTS", "Shared", "Spread", "common_words", "said", "shared", "spread_in"]

_WORD = re.compile(r"[^\W\d_]{3,}")
PARTS = re.compile(r"[|,;]")
LISTS = ("brand", "categories", "director", "actors", "artist", "author")
"""Fields that hold names, one or several, and not sentences."""
ENOUGH = 20_000  # items that tell how common a word is
# Words that say nothing.
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        """
        the and for with from that this his her are was were have has had its their they them who what when where
        which will into out over under than then but not all any can one two our your you she him been being only also
        more most very about after before between through while because there here such each other some these those
        just
        """,
    )
)


@dataclass(frozen=True)
class Shared:
    """One thing that two items have in common. field: a column of the catalogue, or "words". items: how many have it."""

    field: str
    value: str
    items: int


@dataclass(frozen=True)
class Spread:
    """How many items of a catalogue have each name, (field, name in small letters), and each word."""

    items: int
    names: Counter[tuple[str, str]]
    words: Counter[str]


def shared(catalog: Catalog, item: str, other: str, most: int = 4, within: Catalog | None = None) -> tuple[Shared, ...]:
    """What both have: categories, brands and other names, and words of their texts; what fewest items have comes first.

    What everything here has, or a fifth of it where words are meant, says nothing and is left out; so is a word of a name that is
    named. All of it is strangers' text. Nothing for an item that the catalogue lacks. within: the whole catalogue, where `catalog` is
    a part of it.
    """
    of = catalog.items.rows_by_key
    if item not in of or other not in of:
        return ()
    spread = spread_in(within or catalog)
    own, others = (_names(catalog, of[one]) for one in (item, other))
    often = {both: max(spread.names[both], 2) for both in own.keys() & others.keys()}
    found = [Shared(key[0], own[key], count) for key, count in often.items() if count < spread.items]
    told = {word for one in found for word in _words(one.value)}
    found += [
        Shared("words", word, max(spread.words[word], 2))
        for word in common_words(catalog, item, (other,), most + len(told), within)
        if word not in told
    ]
    return tuple(sorted(found, key=lambda one: (one.items, one.field == "words", one.field, one.value))[:most])


def said(found: Sequence[Shared]) -> str:
    """In words; empty for nothing. The values are strangers' text."""
    fields = sorted(dict.fromkeys(one.field for one in found), key=lambda field: field == "words")
    parts = [f"{field}: {', '.join(one.value for one in found if one.field == field)}" for field in fields]
    return f"Both have {'; '.join(parts)}." if parts else ""


def common_words(
    catalog: Catalog, item: str, others: Iterable[str], most: int = 4, within: Catalog | None = None
) -> tuple[str, ...]:
    """Words of the item's text that another's text has too, the rarest in the catalogue first. within: as in `shared`."""
    of = catalog.items.rows_by_key
    if item not in of:
        return ()
    spread = spread_in(within or catalog)
    near = {word for other in others if other in of and other != item for word in _said_of(catalog, of[other])}
    limit = max(2, spread.items // 5)  # a word that a fifth of the catalogue has says nothing
    both = [word for word in _said_of(catalog, of[item]) & near if spread.words[word] <= limit]
    return tuple(sorted(both, key=lambda word: (max(spread.words[word], 2), word))[:most])


def spread_in(catalog: Catalog) -> Spread:
    """Of a large catalogue, from a random part of it. Kept as long as the catalogue is."""
    found = _SPREADS.get(catalog)
    if found is None:
        size = len(catalog.items)
        rows = range(size) if size <= ENOUGH else sorted(random.Random(0).sample(range(size), ENOUGH))
        names = Counter(key for row in rows for key in _names(catalog, row))
        words = Counter(word for row in rows for word in _said_of(catalog, row))
        if size > ENOUGH:
            names = Counter({key: round(count * size / ENOUGH) for key, count in names.items()})
            words = Counter({word: round(count * size / ENOUGH) for word, count in words.items()})
        found = _SPREADS[catalog] = Spread(size, names, words)
    return found


_SPREADS: WeakKeyDictionary[Catalog, Spread] = WeakKeyDictionary()


def _said_of(catalog: Catalog, row: int) -> frozenset[str]:
    """The words of an item's text, and of what its picture shows if that was written down."""
    fields = (catalog.fields[name] for name in (*TEXT_FIELDS, "item_from_picture") if name in catalog.fields)
    return _words(" ".join(column[row] or "" for column in fields))


def _words(text: str) -> frozenset[str]:
    return frozenset(w.lower() for w in _WORD.findall(text)) - _EMPTY


def _names(catalog: Catalog, row: int) -> dict[tuple[str, str], str]:
    """Names in an item's fields of LISTS: (field, name in small letters) -> name as written."""
    found: dict[tuple[str, str], str] = {}
    for field in LISTS:
        text = catalog.fields[field][row] or "" if field in catalog.fields else ""
        for part in map(str.strip, [text] if field == "brand" else PARTS.split(text)):
            if part:
                found.setdefault((field, part.casefold()), part)
    return found
