"""Extractive: the engine without any language model. It counts words, and says so.

    lm = Extractive().reading(review for review in reviews)     # what is usual in these texts
    for reply in lm.answer(requests): ...

It answers the prompts of Penchant with the same schemas as a language model, from the fenced data of the question alone:
aspects and their polarity by a lexicon (`lexicon`, `findings`), phrases that are rarer elsewhere (`phrases`), colours
and layout of pictures (`picture_words`), put into templates (`by_rule`, `review`). Equal questions have equal answers,
on every machine, in any order. What it cannot know it does not say; its reasoning begins with "by rule".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from penchant.catalog import open_picture
from penchant.errors import BadPicture
from penchant.lm import Arrived, Reply, Request, by_rule
from penchant.lm.fence import Block, blocks_of
from penchant.lm.lexicon import lexicon
from penchant.lm.phrases import Background
from penchant.lm.picture_words import SIDE, PictureWords, look_at
from penchant.lm.replies import (
    Answer,
    Description,
    Looks,
    Motives,
    Preference,
    Profile,
    ReviewMotives,
    Summary,
)
from penchant.lm.review import review_motives

__all__ = ["Extractive"]

VERSION = 2  # of the rules: raised whenever an answer may change without a table having changed
CONTEXT = 100_000_000  # tokens: nothing is too long to be counted

FROM_WORDS: dict[type[Answer], Callable[[by_rule.Blocks, Background], Answer]] = {
    Motives: by_rule.motives,
    Preference: by_rule.preference,
    Profile: by_rule.profile,
    Summary: by_rule.summary,
}
FROM_PICTURES = (Description, Looks)
ANSWERED = "Description, Looks, Motives, Preference, Profile, ReviewMotives, Summary"


@dataclass(frozen=True)
class Extractive:
    """A LanguageModel that answers by rule. background: what is usual in the texts at hand (`reading`)."""

    background: Background = field(default_factory=Background)

    @property
    def name(self) -> str:
        return "extractive"

    @cached_property
    def revision(self) -> str:
        """Changes with the rules, the tables of words and the texts that were read. 12 hex digits."""
        said = f"{VERSION}\0{lexicon().print}\0{self.background.print}"
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    @property
    def context(self) -> int:
        return CONTEXT

    @property
    def where(self) -> str:
        return ""

    def reading(self, corpus: Iterable[str]) -> Extractive:
        """The engine with a new background, learnt from these texts; their order does not matter."""
        return Extractive(Background.of(corpus))

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """One Reply a request, at once and in order. Status "failed" where there is no rule, no data or no picture."""
        for place, request in enumerate(requests):
            reply = self._reply(request)
            if arrived is not None:
                arrived(place, reply)
            yield reply

    def _reply(self, request: Request) -> Reply:
        blocks = {block.name: block for block in blocks_of(request.user)}
        try:
            parsed = self._answer(request, blocks)
        except _NoAnswer as error:
            return Reply("", status="failed", error=str(error))
        return Reply(parsed.model_dump_json(), parsed)

    def _answer(self, request: Request, blocks: dict[str, Block]) -> Answer:
        schema = request.schema
        if schema in FROM_PICTURES:
            pictures = [_seen(raw, place) for place, raw in enumerate(request.images, 1)]
            if not pictures and "item" not in blocks:
                raise _NoAnswer("the question has neither a picture nor a block `item`. Give one of them.")
            rule = by_rule.description if schema is Description else by_rule.looks
            return rule(blocks, self.background, pictures)
        if schema is not ReviewMotives and schema not in FROM_WORDS:
            asked = schema.__name__ if schema else "free text"
            raise _NoAnswer(
                f"extractive has no rule for {asked}; it answers {ANSWERED}. "
                "Ask a language model instead, e.g. --lm openai:MODEL."
            )
        if not blocks:
            raise _NoAnswer("the question holds no fenced data to read. Write them with penchant.lm.fence.fenced.")
        if schema is ReviewMotives:
            return self._review(blocks)
        return FROM_WORDS[schema](blocks, self.background)

    def _review(self, blocks: dict[str, Block]) -> ReviewMotives:
        if "review" not in blocks:
            raise _NoAnswer(f"the question has no block `review`; it has: {', '.join(sorted(blocks))}.")
        entries = blocks["review"].entries
        fields = dict(entries[0]) if entries else {}
        review = fields["review"] if "review" in fields else fields.get("", "")
        return review_motives(review, fields.get("rating", ""), self.background)


class _NoAnswer(Exception):
    """Why a question cannot be answered by rule, in words."""


def _seen(raw: bytes, place: int) -> PictureWords:
    try:
        return look_at(open_picture(raw, str(place), SIDE * 2))
    except BadPicture as error:
        raise _NoAnswer(str(error)) from None
