"""Replay: answers from the store alone. Nobody is called; a question that the store cannot answer is an error that says why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from penchant.errors import MissingInput, NotReplayed
from penchant.lm import BAD, Arrived, LanguageModel, Reply, Request
from penchant.lm.stand_in import StandIn
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


class Replay(StandIn):
    """A model's answers without the model. The runner looks into the store first; what is asked here has no answer there."""

    def __init__(self, of: LanguageModel, store: Store) -> None:
        super().__init__(of)
        self.store = store

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """What was asked in vain is in vain again. Raises NotReplayed for the first question that never was asked; it
        names whom it was for and what differs from what was asked."""
        for place, request in enumerate(requests):
            key = request.key(self.name, self.revision)
            with self.store.calls() as calls:
                kept = calls.read(key)
            if kept is None or kept.status == "ok":
                raise NotReplayed(self._miss(request))
            status = next(known for known in BAD if known == kept.status)
            reply = Reply(kept.text, None, status, error=kept.error, attempts=0)
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
        differs = _differences(nearest.request, mine)
        return f"{said}: the store has no answer to this question; the nearest kept one differs in {differs}. {how}"


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
