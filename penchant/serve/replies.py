"""Replies: what is answered, as types."""

from __future__ import annotations

from typing import Literal

from penchant.serve.wire import Wire

__all__ = """About Accepted Category Deleted Evidence Failure Fault Forgotten Health Heard History Item Items
Listed Mean Moved Near Noted Past People Person Put Ready Reason Recommended Reloaded RunRow Runs
SharedOf Similar Told Whole Why""".split()  # noqa: SIM905


class Evidence(Wire):
    item_id: str
    title: str
    picture: bool
    weight: float
    span: str


class Moved(Wire):
    phrases: list[str]
    lift: float


class Noted(Wire):
    text: str
    begin: int
    end: int


class Heard(Wire):
    """What a language model had read when it was asked, and the probability of its yes."""

    probability: float
    profile: str
    notes: list[Noted]
    lately: list[str]


class Reason(Wire):
    sentence: str
    evidence: list[Evidence]
    words: list[str]
    motives: list[Moved]
    share: float
    exact: bool
    heard: Heard | None = None


class Listed(Wire):
    item_id: str
    title: str
    picture: bool
    score: float
    why: Reason | None = None


class Recommended(Wire):
    """`personal` is false and `fallback` says what stands in where the list is not this person's own."""

    user: str | None
    model: str
    personal: bool
    fallback: Literal["popular"] | None
    note: str
    items: list[Listed]


class Item(Wire):
    item_id: str
    title: str
    picture: bool


class Items(Wire):
    items: list[Item]
    total: int


class Told(Wire):
    """A text that a language model, or rules, wrote: what of, by which prompt, and where it lies in the store. phrases: its drivers."""

    what: str
    text: str
    model: str
    prompt: str
    ref: str
    status: str
    phrases: list[str]


class Whole(Item):
    fields: dict[str, str]
    numbers: dict[str, bool | int | float]
    came: Literal["trained", "added", "changed"]
    deleted: bool
    chosen_by: int
    lineage: list[Told]


class SharedOf(Wire):
    field: str
    value: str


class Near(Item):
    score: float
    shared: list[SharedOf]


class Similar(Wire):
    items: list[Near]
    note: str


class Why(Reason):
    user: str | None
    item: str
    title: str


class Put(Wire):
    """served: "new" items and "changed" ones are ranked by their content; of "words" only what is shown has changed."""

    item_id: str
    served: Literal["new", "changed", "words"]
    visible: bool
    note: str


class Deleted(Wire):
    deleted: bool


class Accepted(Wire):
    accepted: int
    repeated: bool


class Past(Item):
    at: float | None
    live: bool
    review: str


class History(Wire):
    user_id: str
    known: bool
    history: list[Past]
    motives: list[Moved]
    lineage: list[Told]


class Forgotten(Wire):
    """remains: what is left of the person elsewhere, and the command that takes it away."""

    forgotten: bool
    remains: list[str]


class Person(Wire):
    user_id: str
    choices: int


class People(Wire):
    users: list[Person]


class Category(Wire):
    value: str
    items: int


class About(Wire):
    model: str
    run: str
    data: str
    items: int
    users: int
    ready: bool
    not_ready: str
    reasons: bool
    takes_new_items: bool
    why_not: str
    private: bool
    writes_need_key: bool
    pictures_coming: bool
    fields: list[str]
    numbers: list[str]
    categories: list[Category]


class Health(Wire):
    status: Literal["ok"] = "ok"


class Ready(Wire):
    """status: "ready"; "fallback", where popular items stand in for the model; "no database", where choices can't be taken."""

    status: Literal["ready", "fallback", "no database"]
    model: str
    problems: list[str]
    warming: bool


class Reloaded(Wire):
    run: str
    model: str
    changed: bool


class Mean(Wire):
    mean: float | None
    ci95: list[float | None]


class RunRow(Wire):
    folder: str
    model: str
    data: str
    split: str
    protocol: str
    mask: list[str]
    history: list[str]
    selected_by: str
    seeds: int
    users: int
    seconds: float | None
    parameters: int
    metrics: dict[str, Mean]
    served: bool
    comparable: str


class Runs(Wire):
    runs: list[RunRow]


class Fault(Wire):
    code: str
    message: str


class Failure(Wire):
    """Every reply that is no answer."""

    error: Fault
