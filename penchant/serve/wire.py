"""Wire: what may be asked, as types, from which OpenAPI and all checks of a request follow."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from penchant.times import LATEST

__all__ = ["MOST_ITEMS", "Asked", "Between", "Choice", "Condition", "Events", "Id", "New", "WhyAsked", "Wire", "clean"]

MOST_ITEMS = 1_000  # in one reply
MOST_HISTORY = 10_000  # of one person, in a request


def clean(text: str) -> str:
    """Neither NUL nor half a character: no database and no file could keep it."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a character that cannot be kept (NUL, or half a surrogate pair)")
    return text


def _named(key: str) -> str:
    if not key.strip():
        raise ValueError("is blank")
    return clean(key)


Id = Annotated[str, Field(min_length=1, max_length=512, examples=["P1"]), AfterValidator(_named)]
Words = Annotated[str, Field(max_length=20_000), AfterValidator(clean)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(clean)]
OWN = ("item_id", "title", "description", "brand", "categories")


def _further(fields: dict[str, Any]) -> dict[str, Any]:
    taken = [name for name in fields if name in OWN]
    if taken:
        raise ValueError(f"{taken[0]} has a place of its own, beside `fields` and `numbers`")
    return fields


Whole = Annotated[StrictInt, Field(ge=-(2**53), le=2**53)]
Real = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Number = StrictBool | Whole | Real


class Wire(BaseModel):
    """An unknown field is a mistake and not passed over."""

    model_config = ConfigDict(extra="forbid")


class Between(Wire):
    """At least min, at most max; one of them may be left out."""

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _any(self) -> Between:
        if self.min is None and self.max is None:
            raise ValueError('say how much:  {"min": 5}, {"max": 20} or both')
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max, so nothing is between")
        return self


Value = Annotated[str, Field(max_length=512), AfterValidator(clean)]
Condition = Between | StrictBool | Whole | Real | Value | Annotated[list[Value], Field(min_length=1, max_length=100)]


class Asked(Wire):
    """Whom to recommend to: `user`, or `history` for someone never seen (item ids, oldest first); popular items for neither."""

    user: Id | None = None
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = None
    k: Annotated[StrictInt, Field(ge=1, le=MOST_ITEMS)] = 10
    exclude: Annotated[list[Id], Field(max_length=MOST_HISTORY, default_factory=list)]
    filters: Annotated[dict[Name, Condition], Field(max_length=20, default_factory=dict)]
    """By field of the catalogue: a value, several of which one is enough, or {"min": ..., "max": ...}."""
    diversity: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    per_category: Annotated[StrictInt, Field(ge=1, le=MOST_ITEMS)] | None = None
    chosen: bool = False
    """Recommend what was chosen already, too."""
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] = 0
    why: bool = False


class WhyAsked(Wire):
    history: Annotated[list[Id], Field(max_length=1_000)]
    item: Id


class New(Wire):
    """A new or changed item. picture: a JPEG, PNG, WebP or GIF, base64."""

    title: Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(_named)]
    description: Words | None = None
    brand: Words | None = None
    categories: Words | None = None
    fields: Annotated[dict[Name, Words], Field(max_length=50), AfterValidator(_further)] = {}
    numbers: Annotated[dict[Name, Number], Field(max_length=50), AfterValidator(_further)] = {}
    picture: Annotated[str, Field(max_length=11_000_000)] | None = None


class Choice(Wire):
    user: Id
    item: Id
    at: Annotated[FiniteFloat, Field(ge=0, lt=LATEST)] | None = None
    """Seconds since 1970, before 2100; now, if not given, which is after all that this person chose before."""
    review: Words | None = None


class Events(Wire):
    events: Annotated[list[Choice], Field(min_length=1, max_length=1_000)]
