"""By rule: the answers of the engine without a language model, one function a schema, made from counts and templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from penchant.lm.amass import Ranked, Said, amass, entries_of, telling
from penchant.lm.fence import Block
from penchant.lm.lexicon import lexicon
from penchant.lm.phrases import Background, key_phrases
from penchant.lm.picture_words import PictureWords
from penchant.lm.replies import Attribute, Description, Looks, Motives, Preference, Profile, Summary

__all__ = ["description", "looks", "motives", "preference", "profile", "summary"]

Blocks = Mapping[str, Block]

LABELS = 6  # themes named, before key phrases
FEWER = 4  # where there are no reviews, or only titles
PHRASES = 5  # key phrases named
WORDS = 3  # telling words of a theme
EARLIER = 0.5  # of earlier notes beside one text: with more they outlive every change of taste
BESIDE = 0.3  # of a thing's own text where people wrote of what they chose
MOST_WORDS = 100  # of a description or summary


def motives(blocks: Blocks, background: Background) -> Motives:
    """Drivers and aversions of a person, or of an item: one with a block `item`, or with reviews that name no item."""
    own, said = _read(blocks, "item"), _read(blocks, "reviews")
    items = [] if said else _read(blocks, "items")
    of_item = bool(own) or ("reviews" in blocks and not any(one.item for one in said))
    read = said + items + [replace(one, weight=0.5 if said else 1.0) for one in own]
    pros, cons = amass(read, background, of_item)
    most = LABELS if said else FEWER
    named = {one.place for one in pros[:most]}
    drivers = [_named(one, one.theme.label, background) for one in pros[:most]]
    aversions = [_named(one, one.theme.bane, background, against=True) for one in cons if one.place not in named][:5]
    phrases = _phrases(read, background, pros[:most] + cons)
    drivers += phrases[: 2 if said else max(0, most - len(drivers))]
    summary = _parts(
        ("", [one.theme.label for one in pros[:WORDS]]),
        ("Also", [one.theme.label for one in pros[WORDS : 2 * WORDS + 2]]),
        (
            "Criticised for" if of_item else "Put off by",
            [one.theme.bane for one in cons if one.place not in named][:WORDS],
        ),
        ("Recurring:" if len(read) > 1 else "Its words:", phrases),
    )
    return Motives(
        reasoning=_reason(read, pros[:most], background), drivers=drivers, aversions=aversions, summary=summary
    )


def preference(blocks: Blocks, background: Background) -> Preference:
    """What somebody likes, from her choices, what she wrote of them, and what was said of her before."""
    read = [replace(one, item="", weight=EARLIER) for one in _read(blocks, "earlier")]
    chosen = _read(blocks, "choices") + _read(blocks, "items")
    said_of_them = any(not one.plain for one in chosen)
    read += [replace(one, weight=BESIDE) if one.plain and said_of_them else one for one in chosen]
    pros, _ = amass(read, background, of_item=False)
    said = _parts(
        ("", [_bracketed(one, background) for one in pros[:LABELS]]),
        ("Recurring:", _phrases(read, background, pros[:LABELS])),
    )
    return Preference(reasoning=_reason(read, pros[:LABELS], background), preference=said)


def profile(blocks: Blocks, background: Background) -> Profile:
    """Who somebody is as a customer, from her items and ratings."""
    items = _read(blocks, "choices") + _read(blocks, "items")
    pros, _ = amass(items, background, of_item=False)
    widest = max((one.texts for one in pros), default=0) / (len(items) or 1)
    breadth = "a narrow choice" if widest > 0.6 else "a broad choice" if widest < 0.25 else "a choice"
    rated = [one.rating for one in items if one.rating]
    share = rated.count(1) / len(rated) if rated else 0.5
    mood = ", mostly liked" if share > 0.8 else ", rarely liked" if share < 0.3 else ""
    said = _parts(
        ("", [_bracketed(one, background) for one in pros[:FEWER]]),
        ("Recurring:", _phrases(items, background, pros[:FEWER])),
        ("", [f"{breadth} of {len(items)}{mood}"] if items else []),
    )
    return Profile(reasoning=_reason(items, pros[:FEWER], background), profile=said)


def description(blocks: Blocks, background: Background, pictures: Sequence[PictureWords]) -> Description:
    """An item from its picture, and its words where they were given."""
    own = _read(blocks, "item")
    found = _attributes(own, pictures)
    pros, _ = amass(own, background, of_item=True)
    said = _parts(
        ("", [one.item for one in own[:1]]),
        ("Made of", [one.value for one in found if one.name == "material"]),
        ("Answers to", [one.theme.label for one in pros[:WORDS]]),
        ("Its words:", _phrases(own, background, pros[:WORDS])),
        ("", [f"{_listed(one.colours)}, {one.tint}; {one.light}; {one.layout}" for one in pictures[:1]]),
    )
    reason = _reason(own, pros[:WORDS], background) if own else "by rule"
    return Description(reasoning=_with_pictures(reason, pictures), attributes=found, description=_short(said))


def looks(blocks: Blocks, background: Background, pictures: Sequence[PictureWords]) -> Looks:
    """Fixed questions about a picture. What only a model could see is answered from the item's words, or not at all."""
    own = _read(blocks, "item")
    named = {one.name: one.value for one in _attributes(own, pictures)}
    pros, _ = amass(own, background, of_item=True)
    style = [named.get("style", "")] + [part for one in pictures[:1] for part in (one.tint, one.light, one.layout)]
    return Looks(
        reasoning=_with_pictures("by rule", pictures),
        thing="".join(one.item for one in own[:1]),
        colours=named.get("colours", ""),
        material=named.get("material", ""),
        style=", ".join(part for part in style if part),
        use=", ".join(each.theme.label for each in pros if each.theme.occasion),
    )


def summary(blocks: Blocks, background: Background) -> Summary:
    """An item in one paragraph, from its words and what was said of its picture."""
    own = _read(blocks, "item")
    seen = [" ".join(value for _, value in entry) for entry in blocks["looks"].entries] if "looks" in blocks else []
    seen = [text.removeprefix(f"{own[0].item}. ") if own and own[0].item else text for text in seen]
    pros, _ = amass(own, background, of_item=True)
    said = _parts(
        ("", [one.item for one in own[:1]]),
        ("Answers to", [_bracketed(one, background) for one in pros[:LABELS]]),
        ("Its words:", _phrases(own, background, pros[:LABELS])),
        ("Looks:", [text.rstrip(". ") for text in seen if text.strip(". ")]),
    )
    return Summary(reasoning=_reason(own, pros[:LABELS], background), summary=_short(said))


def _read(blocks: Blocks, name: str) -> list[Said]:
    return entries_of(blocks[name]) if name in blocks else []


def _named(one: Ranked, label: str, background: Background, against: bool = False) -> str:
    """`price: bargain, cheap`; a driver known only by complaints is `durability, missed: broke`."""
    words = telling(one.against if against else one.words, WORDS, label, background)
    if words or against:
        return f"{label}: {', '.join(words)}" if words else label
    missed = telling(one.against, WORDS, label, background)
    return f"{label}, missed: {', '.join(missed)}" if missed else label


def _bracketed(one: Ranked, background: Background) -> str:
    words = telling(one.words, WORDS, one.theme.label, background)
    return f"{one.theme.label} ({', '.join(words)})" if words else one.theme.label


def _phrases(read: Sequence[Said], background: Background, themes: Iterable[Ranked]) -> list[str]:
    """Key phrases that say more than the themes' own words do."""
    known = lexicon()
    told = {known[part].root for one in themes for words in (*one.words, *one.against) for part in words.split()}
    return [phrase.text for phrase in key_phrases([one.words for one in read], background, PHRASES, told)]


def _attributes(own: Sequence[Said], pictures: Sequence[PictureWords]) -> list[Attribute]:
    found: list[Attribute] = []
    for name, known in _makings().items():
        words = dict.fromkeys(word.text for one in own for word in one.words if word.text in known)
        found += [Attribute(name=name, value=", ".join(list(words)[:4]))] if words else []
    for one in pictures[:1]:
        found.append(Attribute(name="colours", value=", ".join(one.colours)))
        found += [
            Attribute(name=n, value=v) for n, v in (("tint", one.tint), ("light", one.light), ("layout", one.layout))
        ]
    return found


@cache
def _makings() -> dict[str, frozenset[str]]:
    """Words of material and style, from the lexicon's tables."""
    lines = [line.partition(": ") for line in lexicon().tables["makings.txt"].splitlines() if line[:1] != "#"]
    return {name: frozenset(words.split()) for name, _, words in lines}


def _with_pictures(reason: str, pictures: Sequence[PictureWords]) -> str:
    for one in pictures:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(one.colours, one.shares, strict=True))
        reason += f"; colours by area: {shares}; what the picture shows cannot be told by rule"
    return reason


def _reason(read: Sequence[Said], pros: Sequence[Ranked], background: Background) -> str:
    """What was counted."""
    words = sum(one.size for one in read)
    parts = [f"by rule: {len(read)} text{'s' * (len(read) != 1)}, {words} words"]
    for one in pros:
        views = [f"{n} {what}" for n, what in ((one.praised, "praised"), (one.blamed, "criticised")) if n]
        parts.append(f"{one.theme.name} in {one.texts}{' (' + ', '.join(views) + ')' if views else ''}")
    known = f"{background.texts} texts" if background.texts else "nothing: no texts were read beforehand"
    return "; ".join(parts) + f"; compared with {known}"


def _parts(*said: tuple[str, Sequence[str]]) -> str:
    """Sentences, each a head and a list; nothing for an empty list."""
    parts = [f"{head} {_listed(names)}".strip() for head, names in said if any(names)]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _short(text: str) -> str:
    words = text.split(" ")
    return " ".join(words[:MOST_WORDS])
