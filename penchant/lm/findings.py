"""Findings: what a text praises, blames or touches, clause by clause, by the words of the lexicon.

    "Not cheap, but it never rattles."   ->   price blamed ("cheap", turned round by "not"), quiet praised ("rattles",
    turned round by "never")

Rules: "not" turns round what follows until the clause ends, at most seven words on; two of them cancel out. "too" before
a word is blame; "free" after it turns it round. A word that only touches a theme is blamed right after "no"; others
("the handle") take the view of the opinion in their clause ("great"), else of the sentence up to "but", else the
contrary of what stood before "but", else of the rating.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from penchant.lm.lexicon import CONTRARY, END, HARD, HERE, NEAR, Word, lexicon

__all__ = ["Finding", "clause", "findings", "opinion"]


class Finding(NamedTuple):
    """A theme that words first..last touch. view: +1 praise, -1 blame, 0 neither; said: the words themselves."""

    theme: int
    view: int
    said: str
    first: int
    last: int


def findings(words: list[Word], rating: int = 0) -> list[Finding]:
    """All findings of a text, in its order. rating: +1, -1 or 0, the view of what nobody gives a view of."""
    return _read(words, rating)[0]


def opinion(words: list[Word]) -> int:
    """The text's opinion words, good minus bad, negations heeded."""
    return _read(words, 0)[1]


def clause(words: list[Word], first: int, last: int) -> tuple[int, int]:
    """The first and last word of the clause, between commas, stops and "but", that holds these words."""
    while first > 0 and not _ends(words[first - 1]):
        first -= 1
    while last + 1 < len(words) and not _ends(words[last + 1]):
        last += 1
    return first, last


def _ends(word: Word) -> bool:
    return word.sense is not None and word.sense.breaks >= HARD


def _read(words: list[Word], rating: int) -> tuple[list[Finding], int]:
    occasions = lexicon().occasions
    found: list[Finding] = []
    own = segment = before = total = 0  # opinions of the clause, since the last "but" or stop, before that, of all
    waiting: list[int] = []  # topics of this clause, then of this segment: places in `found`
    left: list[int] = []
    contrary = False
    start, until, odd = 0, -1, False  # where the last negation stands, how far it reaches, whether they do not cancel
    done, spoken = 0, -1  # where the last phrase ended, where the last opinion stands
    count = len(words)
    for at, word in [(at, word) for at, word in enumerate(words) if word.special]:
        if at < done:
            continue
        sense, last = word.sense, at
        if word.phrases is not None:
            node: Any = word.phrases
            ahead = at + 1
            while ahead < count and (node := node.get(words[ahead].key)) is not None:
                if HERE in node:
                    sense, last = node[HERE], ahead
                ahead += 1
            done = last + 1
        if sense is None:
            continue
        if sense.breaks:
            until = -1
            if own and waiting:
                _settle(found, waiting, own)
            left += waiting
            waiting, own = [], 0
            if sense.breaks >= END:
                if left:
                    _settle(found, left, segment or (-before if contrary else 0) or rating)
                contrary = sense.breaks == CONTRARY
                before, segment, left = segment if contrary else 0, 0, []
            if not (sense.opinion or sense.themes):
                continue
        if sense.turns:
            odd = word.text == "nor" or not (odd and at <= until)
            start, until = at, last + sense.turns
        turned = odd and at <= until
        begin, end = start if turned and at - start <= NEAR else at, last
        if last == at and at + 1 < count and words[at + 1].text == "free":
            turned, end = not turned, at + 1
        excess = at > 0 and words[at - 1].text == "too"
        if sense.opinion:
            view = -1 if excess else sense.opinion
            view = -view if turned else view
            own += view
            segment += view
            total += view
            spoken = at
        for theme, view in sense.themes:
            said = word.text if begin == end else " ".join([each.text for each in words[begin : end + 1]])
            if turned and begin == at == end:
                said = f"not {said}"
            if occasions[theme]:
                if not turned:
                    found.append(Finding(theme, view, said, at, last))
                continue
            if excess:
                view = -1
            if view:
                view = -view if turned else view
                own += view
                segment += view
            elif turned and spoken < start and at - start <= 3:
                view = -1  # "no pockets"; but in "no problem with the pockets" the problem is negated
            else:
                waiting.append(len(found))
            found.append(Finding(theme, view, said, at, last))
    if own and waiting:
        _settle(found, waiting, own)
        waiting = []
    _settle(found, left + waiting, segment or (-before if contrary else 0) or rating)
    return found, total


def _settle(found: list[Finding], topics: list[int], view: int) -> None:
    """Gives topics their view, and takes them off the list."""
    if view:
        for place in topics:
            theme, _, said, first, last = found[place]
            found[place] = Finding(theme, 1 if view > 0 else -1, said, first, last)
    topics.clear()
