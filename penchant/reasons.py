"""Reasons: which choices of the user's history, and which words, speak for an item.

A reason is read off the scorer itself. A linear scorer's score is the sum of what each choice adds, so shares are exact.
Learned factors have no such sum: there the choices are ordered by their part in the linear reading of the history
(scorers.turn), and the sentence speaks of nearness, not of shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penchant.attributes import common_words
from penchant.catalog import Catalog
from penchant.data import Queries
from penchant.drives import Drives, span
from penchant.likeness import known
from penchant.model import Recommender
from penchant.ranker import Heard, Ranker, Reranked
from penchant.scorers import ItemToItem, Motivated

__all__ = ["Evidence", "Moved", "Reason", "explain", "moved"]


@dataclass(frozen=True)
class Evidence:
    """One earlier choice. weight: what it adds to the score, in the model's own terms. span: what she said of it then."""

    item_id: str
    title: str
    weight: float
    span: str = ""


@dataclass(frozen=True)
class Moved:
    """A motivation that a user has more of than others and that the item answers to. phrases: its names, the best first.

    lift: her share of it over everybody's mean share. strength: lift times how far the item answers to it.
    """

    phrases: tuple[str, ...]
    lift: float
    strength: float


LONG = 120  # characters of a title, in a sentence
FEW = 4  # choices, below which it is said that motives rest on so little
MORE = 1.1  # times as much as all people together: what moves somebody "more than most"


@dataclass(frozen=True)
class Reason:
    """Why an item stands in somebody's list. share: of the positive part of the score that the evidence carries.

    exact: each weight is an exact part of the score. motives: of models that know them, the strongest first. heard: what a language
    model had read and answered, where one was asked.
    """

    user_id: str
    item_id: str
    sentence: str
    evidence: tuple[Evidence, ...] = ()
    words: tuple[str, ...] = ()
    share: float = 0.0
    exact: bool = False
    motives: tuple[Moved, ...] = ()
    heard: Heard | None = None


def explain(
    rec: Recommender,
    user: str,
    item: str,
    catalog: Catalog | None = None,
    history: tuple[str, ...] | None = None,
    most: int = 2,
    drives: Drives | None = None,
    within: Catalog | None = None,
) -> Reason:
    """The reason for one user and one item. history: item keys, in place of what is known of the user. drives: names of
    motivations, for a model that has them. within: the whole catalogue, where `catalog` has the items of this history alone.

    Raises UnknownId.
    """
    queries = rec.ask([user], None if history is None else [history])
    chosen = np.array(list(dict.fromkeys(queries.history_items.tolist())), np.int64)
    row = int(known(rec.items, [item])[0])
    if not rec.scorer.personal:
        return Reason(user, item, f"{_people(rec, row)} here chose it; this list is the same for everybody.")
    if not len(chosen):
        return Reason(user, item, f"Nothing is known of this user; {_people(rec, row)} here chose it.")
    again = "You chose this one already. " if row in chosen else ""
    ranker = rec.scorer.second if isinstance(rec.scorer, Reranked) else rec.scorer
    asked = not isinstance(rec.scorer, Reranked) or rec.scorer.weight > 0  # else its answer has no part in the list
    heard = ranker.heard(queries, row) if isinstance(ranker, Ranker) and asked else None
    if heard is not None and ranker is rec.scorer:  # what each choice adds would be asked for once a choice
        return Reason(user, item, again + _heard(heard), heard=heard)
    weight = rec.scorer.carried(int(queries.users[0]), chosen, row)
    weight = np.where(chosen == row, 0, weight)
    best = [int(b) for b in np.argsort(-weight, kind="stable")[:most] if weight[b] > 0]
    motives = _moved(rec, int(queries.users[0]), chosen, row, drives)
    phrases = [phrase for moved in motives for phrase in moved.phrases]
    evidence = tuple(_evidence(rec, catalog, user, int(chosen[b]), float(weight[b]), drives, phrases) for b in best)
    if not evidence:
        said = "No single earlier choice speaks for it." + (f" {_heard(heard)}" if heard is not None else "")
        return Reason(user, item, again + said, heard=heard)
    share = float(sum(e.weight for e in evidence) / np.maximum(weight, 0).sum())
    near = tuple(e.item_id for e in evidence)
    words = () if catalog is None else common_words(catalog, rec.items.keys[row], near, within=within)
    exact = isinstance(rec.scorer, ItemToItem)
    said = _sentence(evidence, words, share if exact else None, len(chosen), motives)
    said += f" {_heard(heard)}" if heard is not None else ""
    return Reason(user, item, again + said, evidence, words, share, exact, motives, heard)


def _heard(heard: Heard) -> str:
    """The answer, what it rests on, and the window that was written after."""
    said = f"Asked whether you would choose it next, the language model says yes with a probability of {heard.probability:.0%}."
    if heard.lately:
        titles = ", ".join(f"“{one}”" for one in heard.lately[-3:])
        count = len(heard.lately)
        named = f", the last three {titles}" if count > 3 else f": {titles}"
        said += f" It knew your newest {f'{count} choices' if count > 1 else 'choice'} by name{named}."
    if not heard.notes:
        return said
    last = heard.notes[-1]
    note = last.text if len(last.text) <= 3 * LONG else last.text[: 3 * LONG - 1] + "…"
    span = f"choices {last.begin + 1} to {last.end}" if last.end > last.begin + 1 else f"choice {last.end}"
    return f"{said} It had noted after your {span} of {heard.of}: “{note}”"


def _people(rec: Recommender, row: int) -> str:
    count = int(rec.popularity[row])
    return {0: "nobody", 1: "1 person"}.get(count, f"{count} people")


def _moved(
    rec: Recommender, user: int, chosen: np.ndarray, item: int, drives: Drives | None, most: int = 2
) -> tuple[Moved, ...]:
    if drives is None or not isinstance(rec.scorer, Motivated):
        return ()
    lift, strength = rec.scorer.drives(user, chosen), rec.scorer.matched(user, chosen, item)
    found: dict[str, Moved] = {}  # prototypes whose names begin alike ("price: ...") are one motivation
    for k in np.argsort(-strength, kind="stable"):
        phrases = drives.phrases[k]
        if strength[k] <= 0 or len(found) == most:
            break
        if phrases and lift[k] >= MORE:
            found.setdefault(phrases[0].partition(":")[0], Moved(phrases, float(lift[k]), float(strength[k])))
    return tuple(found.values())


def moved(rec: Recommender, queries: Queries, drives: Drives | None, most: int = 3) -> tuple[Moved, ...]:
    """What somebody has more of than others, the strongest first; nothing for a model that does not know. queries: of one person."""
    if drives is None or not isinstance(rec.scorer, Motivated):
        return ()
    chosen = np.unique(queries.history_items)
    lift = rec.scorer.drives(int(queries.users[0]), chosen)
    found: dict[str, Moved] = {}
    for k in np.argsort(-lift, kind="stable"):
        phrases = drives.phrases[k]
        if lift[k] < MORE or len(found) == most:
            break
        if phrases:
            found.setdefault(phrases[0].partition(":")[0], Moved(phrases, float(lift[k]), float(lift[k])))
    return tuple(found.values())


def _evidence(
    rec: Recommender,
    catalog: Catalog | None,
    user: str,
    row: int,
    weight: float,
    drives: Drives | None,
    phrases: Sequence[str],
) -> Evidence:
    item = rec.items.keys[row]
    review = "" if drives is None else drives.reviews.get((user, item), "")
    return Evidence(item, _title(catalog, rec, row), weight, span(review, phrases) if review and phrases else "")


def _sentence(
    evidence: tuple[Evidence, ...], words: tuple[str, ...], share: float | None, of: int, motives: tuple[Moved, ...]
) -> str:
    """share: of what speaks for the item, where it can be read off the score; None where factors were learned."""
    moved = " and ".join(f"“{m.phrases[0]}”" for m in motives)
    verb = "moves" if len(motives) == 1 else "move"
    tells = "" if of >= FEW else ", as far as one choice tells" if of == 1 else f", as far as {of} choices tell"
    before = f"Answers to {moved}, which {verb} you more than most{tells}. " if motives else ""
    quoted = next((e for e in evidence if e.span), None)
    named = _listed([f"“{e.title if len(e.title) <= LONG else e.title[: LONG - 1] + '…'}”" for e in evidence])
    if share is not None:
        said = f"Because you chose {named}"
        said += f": {share:.0%} of what speaks for it in your {of} choices" if of > len(evidence) else ""
    elif of > len(evidence):
        said = f"Of your {of} choices, {named} {'are' if len(evidence) > 1 else 'is'} nearest to it in what the model learned"
    else:
        said = f"You chose {named}"
    if words:
        said += f". Shared words: {', '.join(words)}"
    after = f" Of “{quoted.title}” you said: “{quoted.span}”" if quoted else ""
    return f"{before}{said}.{after}"


def _listed(names: Sequence[str]) -> str:
    """A, B and C"""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def _title(catalog: Catalog | None, rec: Recommender, row: int) -> str:
    if catalog is None:
        return rec.items.keys[row]
    at = catalog.items.rows_by_key.get(rec.items.keys[row], -1)
    return catalog.title(at) if at >= 0 else rec.items.keys[row]
