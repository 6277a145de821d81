"""Replay: answers from the store alone. Nobody is called; a question that the store cannot answer is an error that says why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from penchant.errors import MissingInput, NotReplayed
from penchant.lm import Arrived, LanguageModel, Reply, Request
from penchant.store import Store

__all__ = ["Replay", "from_store"]

SHOWN = 60  # letters of a difference


@dataclass(frozen=True)
class Kept:
    """A model that is known by name alone: its answers are in the store, it is not here."""

    name: str
    revision: str
    context: int = 8192
    where: str = ""

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        raise NotReplayed(f"{self.name} is not here; only its kept answers are")

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        return self


@dataclass(frozen=True)
class Replay:
    """Stands in for a model under its name, so that every question has the key it had when the model was asked.

    The runner looks into the store first; whatever is asked here is therefore missing there, and refused.
    """

    of: LanguageModel
    store: Store

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def revision(self) -> str:
        return self.of.revision

    @property
    def context(self) -> int:
        return self.of.context

    @property
    def where(self) -> str:
        return ""

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """Raises NotReplayed for the first request; it names whom it was for and what differs from what was asked."""
        for place, request in enumerate(requests):
            key = request.key(self.name, self.revision)
            with self.store.calls() as calls:
                kept = calls.known([key]).get(key)
            if kept is None:
                raise NotReplayed(self._miss(request))
            reply = Reply("", None, "failed", error=kept.error, attempts=0)  # it was asked, and there was no answer
            if arrived is not None:
                arrived(place, reply)
            yield reply

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        return Replay(self.of.reading(corpus), self.store)

    def _miss(self, request: Request) -> str:
        kind, key = request.about or ("question", "")
        said = f"{kind} {key}".strip()
        how = "Ask it: call again without --replay"
        with self.store.calls() as calls:
            asked = calls.of(kind, key) if key else []
            mine = request.facts(self.name, self.revision)
            same = [call for call in asked if call.request.get("schema") == mine["schema"]] or asked
            if not same:
                return f"{said}: store {self.store.path} holds no answer for it, from any model. {how}"
            nearest = min(same, key=lambda call: _distance(call.request, mine))
            if all(nearest.request.get(name) == mine[name] for name in mine):
                return f"{said}: it was asked, but never answered ({nearest.status}: {nearest.error}). {how}"
        return f"{said}: the store has no answer to this question; the nearest kept one differs in {_differences(nearest.request, mine)}. {how}"


def from_store(store: Store | None, model: str = "") -> Replay:
    """The model whose answers a store holds: this one, or the one with most of them.

    Raises MissingInput when the store holds none.
    """
    store = store or Store()
    with store.calls() as calls:
        known = calls.models()
        for name, revision, _ in known:
            if not model or name == model:
                last = next(
                    calls.read_all("WHERE model = ? AND revision = ? ORDER BY id DESC LIMIT 1", (name, revision))
                )
                return Replay(Kept(name, revision, int(last.request.get("context", 8192))), store)
    there = ", ".join(dict.fromkeys(name for name, _, _ in known)) or "none"
    raise MissingInput(
        f"store {store.path} holds no answers of {model or 'any model'}; it has: {there}. Name another, replay:MODEL, "
        "or another store, --store DIR"
    )


def _distance(was: Any, now: dict[str, Any]) -> tuple[int, int]:
    """In how many facts two questions differ, and how many lines of the first are not in the second."""
    facts = sum(was.get(name) != now[name] for name in now)
    return facts, len(set(str(was.get("user")).splitlines()) - set(now["user"].splitlines()))


def _differences(was: Any, now: dict[str, Any]) -> str:
    return "; ".join(_difference(name, was.get(name), now[name]) for name in now if was.get(name) != now[name])


def _difference(name: str, was: object, now: object) -> str:
    if isinstance(was, str) and isinstance(now, str) and name in ("system", "user"):
        old, new = was.splitlines(), now.splitlines()
        # The first line of a user message names a number that follows from all the others.
        start = 1 if name == "user" and old[1:] != new[1:] else 0
        for a, b in zip(old[start:], new[start:], strict=False):
            if a != b and not a.startswith("<data-"):
                return f"the {name} text: was {a[:SHOWN]!r}, is {b[:SHOWN]!r}"
        return f"the {name} text: {len(old)} lines, now {len(new)}"
    if name == "schema":
        return "the reply's schema"
    if name == "pictures":
        return "the picture"
    return f"{name}: was {str(was)[:SHOWN]!r}, is {str(now)[:SHOWN]!r}"
