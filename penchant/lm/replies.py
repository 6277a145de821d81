"""Replies: what language models are asked to answer, as types. Reasoning comes first, is kept, and is never encoded.

The order of fields is the order in which a model writes them: it thinks, then answers. `text()` is what is encoded and
shown. Unknown keys are ignored, missing or wrongly typed ones make a reply unparsable; lists that are too long keep
their first entries, because they are ranked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = [
    "Answer",
    "Aspect",
    "Attribute",
    "Description",
    "Looks",
    "Motives",
    "Part",
    "Preference",
    "Profile",
    "ReviewMotives",
    "Summary",
]

MOST_DRIVERS, MOST_AVERSIONS, MOST_ASPECTS = 8, 5, 12


Line = str
"""Text on one line: parsing makes single spaces of whatever spaces and breaks a model put in."""


class Part(BaseModel):
    """Base of replies and of what they are made of. Strict: "3" is no number and null no text."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Answer(Part, ABC):
    """Base of all replies."""

    @abstractmethod
    def text(self) -> str:
        """What is encoded and shown; never the reasoning. Empty where the model had nothing to say."""


class Attribute(Part):
    """One thing about an item that sways a choice: name "material", value "brushed steel"."""

    name: Line
    value: Line


class Description(Answer):
    """What a picture shows (`item_from_picture`). description: at most 100 words."""

    reasoning: Line
    attributes: list[Attribute]
    description: Line

    def text(self) -> str:
        return self.description


class Looks(Answer):
    """Answers to fixed questions about a picture (`item_questions`), the first half of `item_summary`."""

    reasoning: Line
    thing: Line
    colours: Line
    material: Line
    style: Line
    use: Line

    def text(self) -> str:
        parts = (self.thing, self.colours, self.material, self.style, self.use)
        return ". ".join(part.rstrip(".") for part in parts if part)


class Summary(Answer):
    """An item in one paragraph, from words and picture together (`item_summary`)."""

    reasoning: Line
    summary: Line

    def text(self) -> str:
        return self.summary


class Preference(Answer):
    """What somebody likes, in one paragraph (`user_preference`, `preference_step`)."""

    reasoning: Line
    preference: Line

    def text(self) -> str:
        return self.preference


class Aspect(Part):
    """Something praised or criticised; evidence is a verbatim span of the review."""

    aspect: Line
    evidence: Line


class ReviewMotives(Answer):
    """Why somebody chose an item, from one review (`review_motives`). confidence: 0 to 1."""

    reasoning: Line
    positive: Annotated[list[Aspect], BeforeValidator(lambda v: _first(v, MOST_ASPECTS))]
    negative: Annotated[list[Aspect], BeforeValidator(lambda v: _first(v, MOST_ASPECTS))]
    need: Line
    confidence: Annotated[float, BeforeValidator(lambda v: _share(v))]

    def text(self) -> str:
        parts = [f"Chose it for: {self.need}" if self.need else ""]
        parts += ["Praises " + "; ".join(a.aspect for a in self.positive)] if self.positive else []
        parts += ["Criticises " + "; ".join(a.aspect for a in self.negative)] if self.negative else []
        return ". ".join(part.rstrip(".") for part in parts if part)


class Motives(Answer):
    """What drives somebody's choices, or what an item answers to (`user_motives`, `item_motives`). Ranked, strongest first."""

    reasoning: Line
    drivers: Annotated[list[Line], BeforeValidator(lambda v: _first(v, MOST_DRIVERS))]
    aversions: Annotated[list[Line], BeforeValidator(lambda v: _first(v, MOST_AVERSIONS))]
    summary: Line

    def text(self) -> str:
        return ". ".join(part.rstrip(". ") for part in (self.summary, *self.drivers) if part.strip())


class Profile(Answer):
    """Who somebody is as a customer, in a sentence or two (`user_profile`)."""

    reasoning: Line
    profile: Line

    def text(self) -> str:
        return self.profile


def _first(value: Any, most: int) -> Any:
    return value[:most] if isinstance(value, list) else value


def _share(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(max(float(value), 0.0), 1.0) if number else value
