"""Attributes: what the catalogue says that two items have in common, the most telling first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from penchant.catalog import TEXT_FIELDS, Catalog

__all__ = ["PARTS", "Shared", "common_words", "said", "shared"]

_WORD = re.compile(r"[^\W\d_]{3,}")
PARTS = re.compile(r"[|,;]")
LISTS = ("brand", "categories", "director", "actors", "artist", "author")
"""Fields that hold names, one or several, and not sentences."""
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


def shared(catalog: Catalog, item: str, other: str, most: int = 4) -> tuple[Shared, ...]:
    """What both have: categories, brands and other names, and words of their texts; what fewest items have comes first.

    What everything here has, or a fifth of it where words are meant, says nothing and is left out; so is a word of a name that is
    named. All of it is strangers' text. Nothing for an item that the catalogue lacks.
    """
    of = catalog.items.rows_by_key
    if item not in of or other not in of:
        return ()
    names, spread = _names(catalog)
    found = [
        Shared(field, names[of[item]][field, key], spread[field, key])
        for field, key in names[of[item]]
        if (field, key) in names[of[other]] and spread[field, key] < len(catalog.items)
    ]
    told = {word for one in found for word in _words_in(one.value)}
    _, often = _words(catalog)
    found += [
        Shared("words", word, often[word])
        for word in common_words(catalog, item, (other,), most + len(told))
        if word not in told
    ]
    return tuple(sorted(found, key=lambda one: (one.items, one.field == "words", one.field, one.value))[:most])


def said(found: Sequence[Shared]) -> str:
    """In words; empty for nothing. The values are strangers' text."""
    fields = sorted(dict.fromkeys(one.field for one in found), key=lambda field: field == "words")
    parts = [f"{field}: {', '.join(one.value for one in found if one.field == field)}" for field in fields]
    return f"Both have {'; '.join(parts)}." if parts else ""


def common_words(catalog: Catalog, item: str, others: Iterable[str], most: int = 4) -> tuple[str, ...]:
    """Words of the item's text that another's text has too, the rarest in the catalogue first."""
    bags, spread = _words(catalog)
    of = catalog.items.rows_by_key
    if item not in of:
        return ()
    near = frozenset().union(*(bags[of[other]] for other in others if other in of))
    limit = max(2, len(bags) // 5)  # a word that a fifth of the catalogue has says nothing
    both = [w for w in bags[of[item]] & near if 2 <= spread[w] <= limit]
    return tuple(sorted(both, key=lambda w: (spread[w], w))[:most])


@lru_cache(maxsize=65_536)  # a catalogue that grows by one item is not read anew
def _words_in(text: str) -> frozenset[str]:
    return frozenset(w.lower() for w in _WORD.findall(text)) - _EMPTY


@lru_cache(maxsize=4)
def _words(catalog: Catalog) -> tuple[list[frozenset[str]], Counter[str]]:
    """The words of each item's text, and of what its picture shows if that was written down; in how many items each word is."""
    fields = [name for name in (*TEXT_FIELDS, "item_from_picture") if name in catalog.fields]
    bags = [frozenset() if text is None else _words_in(text) for text in catalog.texts(*fields).values]
    return bags, Counter(word for bag in bags for word in bag)


@lru_cache(maxsize=4)
def _names(catalog: Catalog) -> tuple[list[dict[tuple[str, str], str]], Counter[tuple[str, str]]]:
    """Names in the fields of LISTS: (field, name in small letters) -> name as written, an item; how many items have each."""
    found: list[dict[tuple[str, str], str]] = [{} for _ in range(len(catalog.items))]
    for field in LISTS:
        for row, text in enumerate(catalog.fields.get(field, ())):
            parts = [text or ""] if field == "brand" else PARTS.split(text or "")
            for part in map(str.strip, parts):
                if part:
                    found[row].setdefault((field, part.casefold()), part)
    return found, Counter(key for names in found for key in names)
