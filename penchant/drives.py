"""Drives: what learned motivations mean, in words that were written about the people who have them.

A prototype of LMMRec is a vector. It is named by the phrases that stand in the motives of people who have more of it than
others; the phrases come from the train part, like everything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from penchant.scorers import Motivated

__all__ = ["Drives", "named", "span"]

LEAST = 3  # people of whom a phrase is said before it may name anything
PRIOR = 5.0  # people with an average share who are put beside those of whom a phrase is said
MOST = 3  # phrases of a prototype
LONGEST = 240  # letters of a span

_SENTENCE = re.compile(r"[^.!?;\n]+[.!?;]*")
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Drives:
    """phrases: for each prototype its names, the best first; () where nothing is known of it. reviews: what a user said
    of an item, by (user_id, item_id), from the train part."""

    phrases: tuple[tuple[str, ...], ...]
    reviews: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        return json.dumps({"phrases": self.phrases}, ensure_ascii=False, indent=1)

    @staticmethod
    def of_json(text: str, reviews: Mapping[tuple[str, str], str]) -> Drives:
        raw: dict[str, Any] = json.loads(text)
        return Drives(tuple(tuple(str(phrase) for phrase in own) for own in raw["phrases"]), reviews)


def named(scorer: Motivated, said: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Names of the prototypes. said: for each user row the phrases about her, the most important first.

    A phrase's closeness to a prototype is the mean lift (share over everybody's mean share) of those of whom it is said,
    the n-th phrase counting 1 / n, with PRIOR people of lift 1 put beside them. Only closeness above 1 names.
    """
    places: dict[str, int] = {}
    rows, cols, weights = [], [], []
    for row, phrases in enumerate(said):
        for rank, phrase in enumerate(dict.fromkeys(phrases), 1):
            rows.append(row)
            cols.append(places.setdefault(phrase, len(places)))
            weights.append(1 / rank)
    if not places:
        return ((),) * scorer.shares.shape[1]
    w = sparse.csr_matrix((weights, (rows, cols)), shape=(len(said), len(places)), dtype=np.float64)
    total = np.asarray(w.sum(axis=0)).reshape(-1, 1)  # (P, 1)
    close = (w.T @ scorer.lift + PRIOR) / (total + PRIOR)  # (P, K)
    close[np.diff(w.tocsc().indptr) < LEAST] = 0
    words = tuple(places)
    best = np.argsort(-close, axis=0, kind="stable")[:MOST]  # (MOST, K)
    return tuple(tuple(words[p] for p in best[:, k] if close[p, k] > 1) for k in range(close.shape[1]))


def span(review: str, phrases: Sequence[str]) -> str:
    """The sentence of a review that says most of these phrases' words, as it stands there; "" if none says any."""
    wanted = {word for phrase in phrases for word in _stems(phrase)}
    best, found = 0, ""
    for sentence in (match.group().strip() for match in _SENTENCE.finditer(review)):
        count = len(wanted & set(_stems(sentence)))
        if count > best:
            best, found = count, sentence
    return found if len(found) <= LONGEST else found[:LONGEST].rsplit(" ", 1)[0] + " …"


def _stems(text: str) -> list[str]:
    """Words, without a plural's s."""
    return [word.removesuffix("s") for word in (w.lower() for w in _WORD.findall(text))]
