"""Review: why somebody chose an item, by rule, from one review; every evidence is a span of the review itself."""

from __future__ import annotations

import math

from penchant.lm.amass import telling, view_of
from penchant.lm.findings import Finding, clause, findings, opinion
from penchant.lm.lexicon import Word, lexicon
from penchant.lm.phrases import Background, key_phrases, spans
from penchant.lm.replies import Aspect, ReviewMotives

__all__ = ["review_motives"]

LONGEST = 200  # letters of an evidence; of longer clauses what stands around the telling words
AROUND = 10  # words on either side
WORDS = 3

Span = tuple[str, int, int]


def review_motives(review: str, rating: str, background: Background) -> ReviewMotives:
    """Aspects praised and criticised, the need behind the choice, and how sure a count can be of it."""
    known = lexicon()
    tokens = list(spans(review))
    words = [known[token] for token, _, _ in tokens]
    view = view_of(rating)
    found = findings(words, view)
    good = _grouped([one for one in found if one.view >= 0])
    bad = _grouped([one for one in found if one.view < 0])
    positive = [_aspect(group, False, review, tokens, words, background) for group in good]
    negative = [_aspect(group, True, review, tokens, words, background) for group in bad]
    need = _need(good or bad, background)
    letters = sum(1 for word in words if word.text[0].isalnum())
    reason = f"by rule: {letters} words; {len(positive)} themes praised or talked of, {len(negative)} criticised"
    if not found and words:
        overall, said = _overall(review, tokens, words, view, background)
        positive, negative = (overall, []) if said >= 0 else ([], overall)
        reason += "; no word of the lexicon, so the opinion words or the rarest ones"
    counted = sum(len(group) for group in good) or 0.5 * len(bad)
    sure = 1 - 0.6**counted
    if view < 0 or (view > 0 and not good):
        sure *= 0.6
    return ReviewMotives(reasoning=reason, positive=positive, negative=negative, need=need, confidence=round(sure, 2))


def _grouped(found: list[Finding]) -> list[list[Finding]]:
    """Findings by theme: most first, then as they come."""
    groups: dict[int, list[Finding]] = {}
    for one in found:
        groups.setdefault(one.theme, []).append(one)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].first, group[0].theme))


def _aspect(
    group: list[Finding], blame: bool, review: str, tokens: list[Span], words: list[Word], background: Background
) -> Aspect:
    theme = lexicon().themes[group[0].theme]
    label = theme.bane if blame else theme.label
    counts: dict[str, int] = {}
    for one in group:
        counts[one.said] = counts.get(one.said, 0) + 1
    best = max(group, key=lambda one: (abs(one.view), one.last - one.first, -one.first))
    said = telling(counts, WORDS, label, background)
    evidence = _evidence(review, tokens, words, best.first, best.last)
    return Aspect(aspect=f"{label}: {', '.join(said)}" if said else label, evidence=evidence)


def _evidence(review: str, tokens: list[Span], words: list[Word], first: int, last: int) -> str:
    """The clause around these words, as it stands in the review."""
    start, end = clause(words, first, last)
    if tokens[end][2] - tokens[start][1] > LONGEST:
        start, end = max(start, first - AROUND), min(end, last + AROUND)
    if tokens[end][2] - tokens[start][1] > LONGEST:
        start, end = first, last
    return review[tokens[start][1] : tokens[end][2]]


def _need(groups: list[list[Finding]], background: Background) -> str:
    """What somebody wants who says this: the need of the theme with most words for it, the rarer theme first."""
    if not groups:
        return ""
    shares = background.theme_shares
    best = max(groups, key=lambda group: (len(group) * math.log(1 / shares[group[0].theme]), -group[0].first))
    return lexicon().themes[best[0].theme].need


def _overall(
    review: str, tokens: list[Span], words: list[Word], view: int, background: Background
) -> tuple[list[Aspect], int]:
    """What can be said without a theme: that it is good or bad, or else what it talks of."""
    said = opinion(words)
    for at, word in enumerate(words):
        if said and word.sense is not None and word.sense.opinion:
            return [Aspect(aspect="overall impression", evidence=_evidence(review, tokens, words, at, at))], said
    aspects = []
    for phrase in key_phrases([words], background, WORDS):
        long = len(phrase.words)
        at = next(at for at in range(len(words)) if words[at : at + long] == phrase.words)
        evidence = _evidence(review, tokens, words, at, at + long - 1)
        aspects.append(Aspect(aspect=phrase.text, evidence=evidence))
    return aspects, view
