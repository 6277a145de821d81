"""Written: how an enrichment is asked for, what became of every question, and what is left at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

from penchant.data import Ids
from penchant.enrich.material import Material
from penchant.enrich.runner import Answered
from penchant.errors import BadSetting, UnknownKey
from penchant.lm import BAD
from penchant.texts import Texts

__all__ = ["How", "Result", "Watcher", "Written"]

AGAIN = tuple(status for status in BAD if status != "failed")


class Watcher(Protocol):
    """Is told how far things have come; the command line draws bars from it."""

    def stage(self, name: str, total: int | None = None) -> None: ...
    def step(self, done: int, total: int | None = None, note: str = "") -> None: ...


@dataclass(frozen=True)
class How:
    """Settings of an enrichment.

    category: what the catalogue is of, e.g. "kitchen things". items: a prompt about items ("item_from_picture") whose
    texts are put before the catalogue's own. through: user_motives and item_motives read what review_motives made of
    each review, not the review. limit: ask for the first so many only. again: bad replies to ask anew: "refused",
    "unparsable", "truncated". title: of the card.
    """

    category: str = ""
    items: str | None = None
    through: bool = False
    limit: int | None = None
    again: tuple[str, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise BadSetting(f"limit = {self.limit}: ask for 1 or more, or leave it out")
        for status in self.again:
            if status not in AGAIN:
                raise BadSetting(
                    f"again = {status!r}: choose from {', '.join(AGAIN)}; failed calls are always repeated"
                )

    @staticmethod
    def of(settings: Mapping[str, Any]) -> How:
        known = [f.name for f in fields(How)]
        for name in settings:
            if name not in known:
                raise UnknownKey("enrich", name, known)
        return How(**settings)


@dataclass(frozen=True, eq=False)
class Written:
    """counts: asked (questions), answered, cached, calls, tokens and one for each kind of trouble. examples: for each
    kind of bad reply one key and what was wrong. usd: what was paid now; cost, and the tokens: what all its answers cost
    when they were asked. stages: prompts that were answered before."""

    ref: str
    texts: Texts
    counts: Mapping[str, int]
    usd: float
    cost: float
    examples: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    stages: tuple[Written, ...] = ()


@dataclass(eq=False)
class Result:
    """All answers of one prompt, by row: text, typed reply as JSON, status, key of the call. before: questions that were
    asked in earlier steps."""

    ids: Ids
    material: Material
    texts: dict[int, str] = field(default_factory=dict)
    replies: dict[int, str] = field(default_factory=dict)
    status: dict[int, str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    paid: set[str] = field(default_factory=set)
    usd: float = 0.0
    cost: float = 0.0
    before: int = 0
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)

    def take(self, answered: Answered) -> None:
        row = answered.question.row
        self.counts["asked"] += 1
        self.counts["cached" if answered.cached else "calls"] += 1
        self.counts["cut_tokens"] += answered.question.cut
        self.counts["cut_texts"] += answered.question.cut > 0
        self.counts["left_out"] += answered.question.left_out
        self.counts["ungrounded"] += answered.dropped
        self.usd += 0.0 if answered.cached else answered.usd
        if answered.key not in self.paid:  # equal questions are paid once
            self.paid.add(answered.key)
            self.counts["tokens_in"] += answered.tokens_in
            self.counts["tokens_out"] += answered.tokens_out
            self.cost += answered.usd
        self.status[row], self.keys[row] = answered.status, answered.key
        if answered.answer is None:
            self.texts.pop(row, None)
            self.replies.pop(row, None)
            self.counts[answered.status] += 1
            self.examples.setdefault(answered.status, (self.ids.keys[row], answered.error))
        else:
            self.texts[row] = answered.answer.text().strip()
            self.counts["empty"] += not self.texts[row]
            self.replies[row] = answered.reply
            self.counts["answered"] += 1

    def note(self, seconds: float) -> str:
        """How fast it goes, what it has cost and how many replies were bad, for a progress bar."""
        bad = sum(self.counts[status] for status in BAD)
        cost = f"  ${self.usd:.2f}" if self.usd else ""
        return f"{self.counts['asked'] / max(seconds, 1e-3):.0f}/s{cost}{f'  {bad} bad' if bad else ''}"

    @cached_property
    def values(self) -> tuple[str | None, ...]:
        return tuple(self.texts.get(row) or None for row in range(len(self.ids)))
