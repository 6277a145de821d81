"""Phrases: texts as words, and the phrases that tell one person's texts, or one item's, from ordinary ones.

What is ordinary is learnt from the texts at hand (`Background`), or, without them, taken from a list of common words.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from penchant.lm.findings import findings
from penchant.lm.lexicon import HARD, Word, lexicon

__all__ = ["Background", "Phrase", "key_phrases", "spans", "surprise", "words_of"]

# Marks that continue a letter in scripts such as Hindi and Thai, and the characters of Chinese and Japanese, which
# write no spaces: two neighbours make a "word" there.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff\u200c\u200d"
_RUN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_FACES = "\U0001f300-\U0001faff\u2600-\u27bf\u2b50"
_STOPS = r"[.!?…。！？]+|[,;:()\[\]|/\"“”«»–—•·、，；：（）]+|(?<= )-(?= )"
_ALL = re.compile(rf"[{_RUN}]+|(?:[^\W_{_RUN}]|[{_MARKS}])+(?:['’](?:[^\W_{_RUN}])+)*|{_STOPS}|[{_FACES}]")
_RUNS = re.compile(f"[{_RUN}]")
# ASCII: what ends a sentence becomes a stop, what ends a clause a comma, every other mark a space.
_MARKED: dict[int, str] = {at: " " for at in range(128) if not chr(at).isalnum() and chr(at) != "'"}
_MARKED.update({ord(mark): "." if mark in "!?." else "," for mark in '!?.,;:()[]|/"'})

FEW = 3  # fewer texts cannot repeat anything: their phrases are ranked by rarity
COMMON = 1.5  # words of this rarity or less, in every fourth text or more, tell nothing
SEEDS = 32  # words that phrases are made of: those that tell most
MOST_RARITIES = 200_000  # remembered at a time
PRIOR = 10  # ordinary texts that the assumed shares count for, beside those that were seen
USUAL_THEME = 0.1  # share of ordinary texts assumed to touch a theme


def words_of(text: str) -> list[Word]:
    """The words and the marks that end clauses, in order."""
    known = lexicon()
    if not text.isascii():
        return [known[token] for token, _, _ in spans(text)]
    # Three times as fast as the expression of `spans`, to the same effect.
    plain = text.lower().replace(" - ", ",").translate(_MARKED).replace(".", " . ").replace(",", " , ")
    return list(map(known.__getitem__, plain.split()))


def spans(text: str) -> Iterator[tuple[str, int, int]]:
    """(token, start, end): tokens in small letters, and where they stand in the text."""
    for match in _ALL.finditer(text):
        start, end = match.span()
        token = match.group()
        if end - start > 1 and _RUNS.match(token):
            yield from ((text[at : at + 2], at, at + 2) for at in range(start, end - 1))
        else:
            yield token.lower().replace("’", "'"), start, end


@dataclass(frozen=True)
class Background:
    """How often words and themes occur in ordinary texts. words, themes: in how many of `texts` texts each stands."""

    texts: int = 0
    words: Mapping[str, int] = field(default_factory=dict)
    themes: tuple[int, ...] = ()

    @staticmethod
    def of(corpus: Iterable[str]) -> Background:
        """Learnt from texts; their order does not matter."""
        count = 0
        words: dict[str, int] = {}
        themes = [0] * len(lexicon().themes)
        for text in corpus:
            count += 1
            said = words_of(text)
            for word in {word.root for word in said if word.content}:
                words[word] = words.get(word, 0) + 1
            for theme in {found.theme for found in findings(said)}:
                themes[theme] += 1
        return Background(count, words, tuple(themes))

    @cached_property
    def print(self) -> str:
        """sha256 of all counts; empty without texts."""
        if not self.texts:
            return ""
        said = "\n".join(f"{word} {count}" for word, count in sorted(self.words.items()))
        whole = f"{self.texts} {self.themes}\n{said}"
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

    def share(self, word: Word) -> float:
        """Share of ordinary texts with this word."""
        return (self.words.get(word.root, 0) + PRIOR * word.usual) / (self.texts + PRIOR)

    def rarity(self, said: str) -> float:
        """How rare the rarest word of a phrase is: minus the logarithm of its share."""
        rare = self._rarities.get(said)
        if rare is None:
            if len(self._rarities) > MOST_RARITIES:
                self._rarities.clear()
            known = lexicon()
            rare = self._rarities[said] = max(
                (-math.log(self.share(known[part])) for part in said.split()), default=0.0
            )
        return rare

    @cached_property
    def tells(self) -> dict[Word, bool]:
        """Whether a word may stand in key phrases: no stop word, no opinion, and not in every fourth text."""
        return _Tells(self)

    @cached_property
    def _rarities(self) -> dict[str, float]:
        return {}

    @cached_property
    def stories(self) -> float:
        """Share of what the texts touch that is about stories, rather than things; a half if nothing is known."""
        told = sum(count for count, theme in zip(self.themes, lexicon().themes, strict=False) if theme.story)
        return (told + PRIOR) / (sum(self.themes) + 2 * PRIOR)

    @cached_property
    def theme_shares(self) -> tuple[float, ...]:
        """Share of ordinary texts that touch each theme."""
        seen = self.themes or (0,) * len(lexicon().themes)
        return tuple((count + PRIOR * USUAL_THEME) / (self.texts + PRIOR) for count in seen)


class _Tells(dict[Word, bool]):
    """Worked out when a word is first asked for."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self.background = background

    def __missing__(self, word: Word) -> bool:
        if len(self) > MOST_RARITIES:
            self.clear()
        tells = self[word] = word.content and -math.log(self.background.share(word)) > COMMON
        return tells


def surprise(count: float, texts: int, share: float) -> float:
    """How much more often than expected: the Poisson log-likelihood ratio, with half a text added to what is expected.

    0 where it is not more often. The half keeps a single mention of something rare from counting as a habit.
    """
    expected = texts * share + 0.5
    return count * math.log(count / expected) - (count - expected) if count > expected else 0.0


@dataclass(slots=True)
class Phrase:
    """A run of words; count: in how many texts, or, of one or two texts, how often; place: the text counted last."""

    words: list[Word]
    count: int = 0
    place: int = 0

    @property
    def text(self) -> str:
        """As it was first said. Neighbours of a script without spaces share a character, which is written once."""
        said = self.words[0].text
        for word in self.words[1:]:
            shared = len(word.text) == 2 and _RUNS.match(word.text) and said[-1] == word.text[0]
            said += word.text[1:] if shared else " " + word.text
        return said.removesuffix("'s")


def key_phrases(
    texts: Sequence[list[Word]], background: Background, most: int, told: frozenset[str] | set[str] = frozenset()
) -> list[Phrase]:
    """Up to `most` phrases of one to three words that recur in these texts and are rare elsewhere, best first.

    No phrase begins or ends with a stop word or goes over a comma. Of one or two texts, in which nothing can recur, the
    rarest words count, the more often said the better. told: roots of words that need not be said again.
    """
    few = len(texts) < FEW
    tells = background.tells
    places = [[at for at, word in enumerate(words) if tells[word]] for words in texts]
    counts: Counter[str] = Counter()
    for words, own in zip(texts, places, strict=True):
        roots = [words[at].root for at in own]
        counts.update(roots if few else set(roots))
    telling = _telling(counts, len(texts), background)
    found: dict[str, Phrase] = {}
    for place, words in enumerate(texts):
        _grams(words, places[place], telling, found, -1 if few else place)
    for each, phrase in found.items():
        if each in telling:
            phrase.count = counts[each]
    ranked = sorted(
        [
            (-(telling.get(name) or _score(phrase, len(texts), background)), name)
            for name, phrase in found.items()
            if few or phrase.count > 1
        ]
    )
    chosen: list[Phrase] = []
    used: list[set[str]] = []
    for score, name in ranked:
        parts = set(name.split())
        if score < 0 and not parts <= told and all(parts - other and other - parts for other in used):
            chosen.append(found[name])
            used.append(parts)
            if len(chosen) == most:
                break
    return chosen


def _telling(counts: Mapping[str, int], texts: int, background: Background) -> dict[str, float]:
    """The words (by root) that tell most, of which phrases are made, and how much. counts: how often each is said."""
    scored = []
    for each, count in counts.items():
        if texts < FEW:
            scored.append(((1 + math.log(count)) * (background.rarity(each) - COMMON), each))
        elif count > 1:
            rare = background.rarity(each)
            scored.append((rare * surprise(count, texts, math.exp(-rare)), each))
    return {each: score for score, each in sorted(scored)[-SEEDS:] if score > 0}


def _grams(words: list[Word], own: list[int], telling: dict[str, float], found: dict[str, Phrase], place: int) -> None:
    """Counts runs of one to three such words, which stand at `own`; a stop word may stand in the middle of three.

    Each is counted once a place, but for place -1.
    """
    last = len(words) - 1
    for at in own:
        word = words[at]
        name = word.root
        if name not in telling:
            continue
        if name not in found:
            found[name] = Phrase([word])
        if at == last:
            return
        second = words[at + 1]
        if second.content:
            if second.root not in telling:
                continue
            _count(found, f"{name} {second.root}", words, at, 2, place)
        elif second.sense is not None and second.sense.breaks >= HARD:
            continue
        if at + 1 < last and words[at + 2].content and words[at + 2].root in telling:
            _count(found, f"{name} {second.root} {words[at + 2].root}", words, at, 3, place)


def _count(found: dict[str, Phrase], name: str, words: list[Word], at: int, long: int, place: int) -> None:
    phrase = found.get(name)
    if phrase is None:
        found[name] = Phrase(words[at : at + long], 1, place)
    elif phrase.place != place or place < 0:
        phrase.count += 1
        phrase.place = place


def _score(phrase: Phrase, texts: int, background: Background) -> float:
    """What a phrase of several words tells."""
    rare = [background.rarity(word.text) for word in phrase.words if word.content]
    mean = sum(rare) / len(rare)
    longer = 0.75 + 0.25 * len(rare)
    if texts < FEW:
        if len(phrase.words) > 2 and phrase.count < 2 and not _RUNS.match(phrase.words[0].text):
            return 0.0
        return (1 + math.log(phrase.count)) * (mean - COMMON) * longer
    # A phrase is rarer than its rarest word; by how much is not known.
    return surprise(phrase.count, texts, math.exp(-max(rare)) / len(rare)) * mean * longer
