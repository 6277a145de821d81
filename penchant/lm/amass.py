"""Amass: many reviews or item texts of one person, or of one item, to themes ranked by what they betray.

A theme counts once a text: more for praise than for mention. Criticism by a person counts too, because nobody complains
of what she does not care for; criticism of an item counts against it. Themes are then ranked by how much more often
they come than in ordinary texts (`phrases.surprise`), and by how often they come at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from penchant.lm.fence import Block
from penchant.lm.findings import Finding, findings
from penchant.lm.lexicon import Lexicon, Theme, Word, lexicon
from penchant.lm.phrases import FEW, Background, surprise, words_of

__all__ = ["Ranked", "Said", "amass", "entries_of", "said_of", "telling", "title_of", "view_of"]

PRAISE, MENTION, BLAME = 1.0, 0.7, 0.7  # what a text adds to a person's theme
PRAISED, MENTIONED, BLAMED = 1.0, 0.5, -0.5  # and to an item's
MORE, MOST_MORE = 0.1, 0.3  # for each further word of the theme in the same text, and at most
PLAIN = 0.2  # weight of counting, beside surprise
STEADY = 5  # findings that the background's mixture of stories and things counts for
TITLE = 60  # letters of a title that are kept
FAINT = 0.02  # themes with less than this part of the first one's score are left out


@dataclass(slots=True)
class Said:
    """One entry as it was read: its words, its findings, size in words, the name of the item, +1, 0 or -1 for the rating.

    weight: how much it counts. plain: an item's own text, in which nothing is praise or blame.
    """

    words: list[Word]
    found: list[Finding]
    size: int
    item: str = ""
    rating: int = 0
    weight: float = 1.0
    plain: bool = False


@dataclass(slots=True)
class Ranked:
    """A theme with its support. praised, blamed: in how many texts; words: what was said for it and against it."""

    theme: Theme
    place: int
    support: float = 0.0
    praised: int = 0
    blamed: int = 0
    texts: int = 0
    score: float = 0.0
    words: dict[str, int] = field(default_factory=dict)
    against: dict[str, int] = field(default_factory=dict)


def entries_of(block: Block) -> list[Said]:
    """A block's entries, read: fields in `reviews` and `choices`, one text each in all others."""
    if block.name in ("reviews", "choices"):
        return [_entry(dict(entry)) for entry in block.entries]
    lines = [" ".join([value for _, value in entry]) for entry in block.entries]
    return [said_of(line, title_of(line), plain=True) for line in lines]


def said_of(text: str, item: str = "", rating: int = 0, plain: bool = False, weight: float = 1.0) -> Said:
    """One text, read."""
    words = words_of(text)
    found = findings(words, 0 if plain else rating)
    return Said(words, found, text.count(" ") + bool(text), item, rating, weight, plain)


def amass(read: Sequence[Said], background: Background, of_item: bool) -> tuple[list[Ranked], list[Ranked]]:
    """Themes for and themes against, strongest first."""
    known = lexicon()
    themes: dict[int, Ranked] = {}
    for said in read:
        _count(said, themes, known, of_item)
    texts = sum(said.weight for said in read)
    shares = background.theme_shares
    stories = _stories(read, background)
    for one in themes.values():
        # A screw of "series 100" is no story: whichever kind is the rarer here counts less.
        kind = min(1.0, 2 * (stories if one.theme.story else 1 - stories))
        if texts < FEW:
            one.score = kind * one.support * -math.log(shares[one.place])
        else:
            one.score = kind * (surprise(one.support, round(texts), shares[one.place]) + PLAIN * one.support)
    ranked = sorted((one for one in themes.values() if one.support > 0), key=lambda one: (-one.score, one.theme.name))
    least = FAINT * ranked[0].score if ranked else 0.0
    against = [one for one in themes.values() if one.blamed > one.praised]
    against.sort(key=lambda one: (-one.blamed, -one.score, one.theme.name))
    return [one for one in ranked if one.score >= least], against


def _stories(read: Sequence[Said], background: Background) -> float:
    """Share of the findings that are about stories, rather than things."""
    themes = lexicon().themes
    found = [themes[one.theme].story for said in read for one in said.found]
    return (sum(found) + STEADY * background.stories) / (len(found) + STEADY)


def telling(words: dict[str, int], most: int, label: str, background: Background) -> list[str]:
    """The words that tell most, one for each root, without what the label says anyway: said often, and rare elsewhere."""
    known = lexicon()
    chosen: list[str] = []
    roots = set(_roots(label))
    for _, said in sorted([(-count * background.rarity(said), said) for said, count in words.items()]):
        heard = [known[part] for part in said.split()]
        parts = {word.root for word in heard if word.content} or {word.root for word in heard}
        if not parts <= roots:
            chosen.append(said.removesuffix("'s"))
            roots |= parts
            if len(chosen) == most:
                break
    return chosen


@lru_cache(1024)
def _roots(label: str) -> frozenset[str]:
    known = lexicon()
    return frozenset(known[part].root for part in label.split())


def title_of(text: str) -> str:
    """What stands before the first stop of an item's text: its title, as catalogs write it; at most 60 letters."""
    end = text.find(". ")
    while end >= 0 and (text.count("(", 0, end) > text.count(")", 0, end) or end - text.rfind(" ", 0, end) < 4):
        end = text.find(". ", end + 1)  # "Dr. No (a.k.a. 007)"
    title = (text if end < 0 else text[:end]).rstrip(".")
    return title if len(title) <= TITLE else (title[:TITLE].rpartition(" ")[0] or title[:TITLE]).rstrip(" ,;:-(")


def _entry(fields: dict[str, str]) -> Said:
    rating = view_of(fields.get("rating", ""))
    item = fields.get("item", "")
    if "review" in fields:
        return said_of(fields["review"], title_of(item), rating)
    if fields.keys() & {"praised", "criticised", "need"}:
        return _earlier(fields, item, rating)
    return said_of(item, title_of(item), rating, plain=True)


def _earlier(fields: dict[str, str], item: str, rating: int) -> Said:
    """An entry made from an earlier answer about one review: lists of aspects, and the need behind the choice."""
    known = lexicon()
    words: list[Word] = []
    found: list[Finding] = []
    for name, view in (("praised", 1), ("need", 1), ("criticised", -1)):
        for aspect in fields.get(name, "").split("; "):
            label, _, rest = aspect.partition(": ")
            place = known.theme(label.strip())
            if place >= 0:
                found += [Finding(place, view, part, 0, 0) for part in (rest.split(", ") if rest else [""])]
            elif aspect.strip():
                read = words_of(aspect)
                words += read
                found += [one._replace(view=view) for one in findings(read)]
    return Said(words, found, len(words), item, rating)


def _count(said: Said, themes: dict[int, Ranked], known: Lexicon, of_item: bool) -> None:
    """Adds one entry to the tally."""
    views: dict[int, list[int]] = {}
    for place, view, words, _, _ in said.found:
        if said.plain:
            if view < 0 and not known.themes[place].story:
                continue  # "a dangerous journey" of a plot tells nothing of the reader's wish for safety
            view = 0
        if place not in views:
            views[place] = []
            if place not in themes:
                themes[place] = Ranked(known.themes[place], place)
        views[place].append(view)
        if words:
            into = themes[place].against if view < 0 else themes[place].words
            into[words] = into.get(words, 0) + 1
    for place, seen in views.items():
        one = themes[place]
        good, bad = max(seen) > 0, min(seen) < 0
        praise, mention, blame = (PRAISED, MENTIONED, BLAMED) if of_item else (PRAISE, MENTION, BLAME)
        if bad and not of_item and one.theme.bane == one.theme.label:
            blame = BLAMED  # who complains of noise wants quiet; who complains of horror does not want horror
        gain = praise if good or (said.plain and not of_item) else blame if bad else mention
        if gain > 0:
            gain += min(MOST_MORE, MORE * (len(seen) - 1))
        one.support += gain * said.weight * (-0.5 if said.plain and said.rating < 0 else 1.0)
        one.texts += 1
        one.praised += good
        one.blamed += bad


@lru_cache(1024)
def view_of(rating: str) -> int:
    """+1, 0 or -1 for a rating such as "4/5"; the highest is taken for 5 if it is not told.

    Where 1 is the highest, choices were only counted: no more is told than that one was made.
    """
    said, _, highest = rating.partition("/")
    try:
        value, best = float(said), float(highest or 5)
    except ValueError:
        return 0
    if best <= 1:
        return 0 if value > 0 else -1
    return 1 if value >= 0.75 * best else -1 if value <= 0.45 * best else 0
