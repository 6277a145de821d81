"""Questions: what a store's calls come to, and which of them were asked for somebody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from penchant.calls import Call, Calls, Mention
from penchant.errors import UnknownId
from penchant.store import Store
from penchant.stored import known_keys, open_calls, parts_of, stored_key

__all__ = ["Asked", "Total", "calls_of", "calls_with", "kinds_of", "mentioning", "named", "quoting", "totals"]

TELLING = 30  # characters that two texts do not begin with by chance


@dataclass(frozen=True)
class Total:
    """Calls of one model with one prompt. by_status: how many ended so."""

    model: str
    prompt: str
    calls: int
    by_status: Mapping[str, int]
    tokens_in: int
    tokens_out: int
    usd: float


@dataclass(frozen=True)
class Asked:
    """A call and whom it is about."""

    call: Call
    mentions: tuple[Mention, ...]


def totals(store: Store, status: str | None = None) -> list[Total]:
    """What the store's calls come to, by model and prompt, most calls first; all of them or those of one status."""
    groups: dict[tuple[str, str], list[tuple[str, int, int, int, float]]] = {}
    with open_calls(store) as calls:
        if calls is None:
            return []
        with calls.told() as db:
            rows = db.execute(
                """SELECT model, prompt, status, count(*), sum(tokens_in), sum(tokens_out), sum(usd) FROM calls
                WHERE ? IS NULL OR status = ? GROUP BY model, prompt, status ORDER BY status""",
                (status, status),
            ).fetchall()
    for model, prompt, *rest in rows:
        groups.setdefault((model, prompt), []).append(tuple(rest))
    made = [
        Total(
            model,
            prompt,
            sum(row[1] for row in rows),
            {row[0]: row[1] for row in rows},
            sum(row[2] for row in rows),
            sum(row[3] for row in rows),
            sum(row[4] for row in rows),
        )
        for (model, prompt), rows in groups.items()
    ]
    return sorted(made, key=lambda total: (-total.calls, total.model, total.prompt))


def calls_of(
    store: Store, key: str, status: str | None = None, most: int | None = None, kind: str | None = None
) -> tuple[list[Asked], int, int]:
    """Calls that were asked for a user or item, or about one of its interactions, newest first.

    kind: "user" or "item" where a key may be both. Returns at most so many of them, how many there are, and how many
    others only show its words. Raises UnknownId.
    """
    name = stored_key(key)
    mine = """SELECT call FROM mentions WHERE key = :key AND asked = 1 AND (:kind IS NULL OR kind = :kind) UNION
        SELECT part.call FROM mentions AS part JOIN mentions AS whole ON whole.call = part.call
        WHERE part.key = :key AND (:kind IS NULL OR part.kind = :kind) AND whole.kind = 'interaction' AND whole.asked = 1"""
    of_all = "SELECT call FROM mentions WHERE key = :key AND (:kind IS NULL OR kind = :kind)"
    values = {"key": name, "status": status, "kind": kind, "most": -1 if most is None else most}
    with open_calls(store) as calls:
        if calls is not None:
            only = "AND (:status IS NULL OR status = :status)"
            with calls.told() as db:
                count = "SELECT count(*) FROM calls WHERE id IN"
                (number,) = db.execute(f"{count} ({mine}) {only}", values).fetchone()
                (mentioned,) = db.execute(f"{count} ({of_all}) {only}", values).fetchone()
                there = db.execute(f"{of_all} LIMIT 1", values).fetchone()
                where = f"SELECT key FROM calls WHERE id IN ({mine}) {only} ORDER BY id DESC LIMIT :most"
                keys = [row[0].hex() for row in db.execute(where, values)]
            if there:
                found = [call for key in keys if (call := calls.read(key)) is not None]
                return [Asked(call, tuple(calls.mentions(call.key))) for call in found], number, mentioned - number
    raise UnknownId(
        kind or "user or item",
        key,
        known_keys(store, kind),
        "No question was ever asked about it.  penchant show calls",
    )


def kinds_of(store: Store, key: str) -> list[str]:
    """What this key is in questions: "item", "user", or both, where users and items are numbered alike."""
    with open_calls(store) as calls:
        if calls is None:
            return []
        with calls.told() as db:
            query = "SELECT DISTINCT kind FROM mentions WHERE key = ? AND kind != 'interaction' ORDER BY kind"
            return [row[0] for row in db.execute(query, (stored_key(key),))]


def calls_with(store: Store, status: str, most: int = 5) -> list[Asked]:
    """The newest calls that ended with this status."""
    with open_calls(store) as calls:
        if calls is None:
            return []
        found = list(calls.read_all("WHERE status = ? ORDER BY id DESC LIMIT ?", (status, most)))
        return [Asked(call, tuple(calls.mentions(call.key))) for call in found]


def mentioning(calls: Calls, kind: str, key: str) -> set[str]:
    """Keys of all calls that were asked for somebody or show its words."""
    where = "WHERE id IN (SELECT call FROM mentions WHERE kind = ? AND mentions.key = ?)"
    with calls.told() as db:
        return {call.hex() for (call,) in db.execute(f"SELECT key FROM calls {where}", (kind, stored_key(key)))}


def named(of: str, key: str) -> tuple[str, str] | None:
    """Whom a question mentions that shows what was written of this row; of an interaction its user."""
    if of != "interaction":
        return of, key
    parts = parts_of(key)
    return ("user", parts[0]) if parts else None


def quoting(calls: Calls, about: Mapping[str, Call]) -> dict[str, Call]:
    """Further calls whose question repeats what one of these answered about whom they mention: also where the texts
    between the two are gone, or never were saved because the run was killed."""
    said: dict[tuple[str, str], set[str]] = {}
    for call in about.values():
        if words := _beginnings(call.parsed):
            for mention in calls.mentions(call.key):
                if mention.asked and (name := named(mention.kind, mention.key)):
                    said.setdefault(name, set()).update(words)
    found: dict[str, Call] = {}
    for name, words in said.items():
        for key in mentioning(calls, *name) - about.keys() - found.keys():
            other = calls.read(key)
            if other is not None and any(word in " ".join(str(other.request.get("user")).split()) for word in words):
                found[key] = other
    return found


def _beginnings(parsed: str | None) -> set[str]:
    """How the longer texts in a typed answer begin, as a question shows them: with single spaces."""
    found, line = set(), [json.loads(parsed)] if parsed else []
    for value in line:  # grows while it is walked
        if isinstance(value, str) and len(text := " ".join(value.split())) >= TELLING:
            found.add(text[:TELLING])
        elif isinstance(value, (dict, list)):
            line += value.values() if isinstance(value, dict) else value
    return found
