"""Calls: what language models were asked and what they answered, one row a question, committed as it arrives.

A call is known by the hash of everything its answer may depend on. Who asked, and whose words stood in the question,
is kept apart (mentions), so that equal questions are paid once and one person can still be forgotten.
"""

from __future__ import annotations

import json
import os
import platform
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from penchant.database import Database

__all__ = ["Call", "Calls", "Kept", "Mention"]

AT_ONCE = 500  # keys asked for in one statement
CLAIM = 900.0  # seconds after which a question that another process wanted to ask is anybody's


@dataclass(frozen=True, slots=True)
class Mention:
    """A user or item that a question is about. asked: it was asked for this one; else its words were shown in it."""

    kind: str
    key: str
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an answer. parsed: the typed answer as JSON, None for a bad reply. usd: what it cost."""

    status: str
    parsed: str | None
    error: str
    tokens_in: int
    tokens_out: int
    usd: float


@dataclass(frozen=True)
class Call:
    """One row, whole. request: what was asked, as `Request.facts` says it."""

    key: str
    model: str
    revision: str
    prompt: str
    status: str
    text: str
    parsed: str | None
    error: str
    tokens_in: int
    tokens_out: int
    usd: float
    attempts: int
    seconds: float
    created: str
    request: Mapping[str, Any]


class Calls(Database):
    """The calls of a store's database."""

    @property
    def owner(self) -> str:
        """This process, as claims name it; asked when it is needed, because a process may have been forked since."""
        return f"{platform.node()}/{os.getpid()}"

    def known(self, keys: Sequence[str]) -> dict[str, Kept]:
        """What is kept for these keys; unknown ones are left out."""
        found: dict[str, Kept] = {}
        columns = "key, status, parsed, error, tokens_in, tokens_out, usd"
        for some in _chunks(keys):
            marks = ",".join("?" * len(some))
            with self.told() as db:
                rows = db.execute(
                    f"SELECT {columns} FROM calls WHERE key IN ({marks})", [bytes.fromhex(k) for k in some]
                )
                found |= {row[0].hex(): Kept(*row[1:]) for row in rows}
        return found

    def writable(self) -> None:
        """Raises StoreError where nothing could be committed."""
        with self.transaction():
            pass

    def put(self, call: Call, mentions: Iterable[Mention] = (), pictures: Mapping[str, bytes] | None = None) -> None:
        """Keeps one call, with whom it mentions and the pictures shown. A good answer is never replaced."""
        self.put_all([(call, mentions, pictures or {})])

    def put_all(self, rows: Iterable[tuple[Call, Iterable[Mention], Mapping[str, bytes]]]) -> None:
        """Keeps several calls in one transaction."""
        with self.transaction() as db:
            for call, mentions, pictures in rows:
                packed = zlib.compress(json.dumps(call.request, ensure_ascii=False).encode("utf-8", "surrogatepass"), 1)
                (row,) = db.execute(
                    """
                    INSERT INTO calls (key, model, revision, prompt, status, text, parsed, error, tokens_in, tokens_out,
                        usd, attempts, seconds, created, request)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT (key) DO UPDATE SET status = CASE calls.status WHEN 'ok' THEN 'ok' ELSE excluded.status END,
                        text = CASE calls.status WHEN 'ok' THEN calls.text ELSE excluded.text END,
                        error = CASE calls.status WHEN 'ok' THEN calls.error ELSE excluded.error END,
                        parsed = CASE calls.status WHEN 'ok' THEN calls.parsed ELSE excluded.parsed END,
                        tokens_in = calls.tokens_in + excluded.tokens_in,
                        tokens_out = calls.tokens_out + excluded.tokens_out,
                        usd = calls.usd + excluded.usd, attempts = calls.attempts + excluded.attempts
                    RETURNING id
                    """,
                    (
                        bytes.fromhex(call.key),
                        call.model,
                        call.revision,
                        call.prompt,
                        call.status,
                        _plain(call.text),
                        call.parsed if call.parsed is None else _plain(call.parsed),
                        _plain(call.error),
                        call.tokens_in,
                        call.tokens_out,
                        call.usd,
                        call.attempts,
                        call.seconds,
                        call.created or datetime.now(UTC).isoformat(timespec="seconds"),
                        packed,
                    ),
                ).fetchone()
                self._mention(row, mentions)
                db.execute("DELETE FROM claims WHERE key = ?", (bytes.fromhex(call.key),))
                for picture, raw in pictures.items():
                    db.execute("INSERT OR IGNORE INTO pictures VALUES (?, ?)", (bytes.fromhex(picture), raw))

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Those of these questions that this process is to ask: another one that is at work on a question keeps it until
        it has the answer, ends, or CLAIM seconds have passed. What is committed is no longer claimed."""
        mine: set[str] = set()
        with self.transaction() as db:
            for (owner,) in db.execute("SELECT DISTINCT owner FROM claims WHERE owner <> ?", (self.owner,)).fetchall():
                if _gone(owner):
                    db.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            db.execute("DELETE FROM claims WHERE until < ?", (time.time(),))
            for some in _chunks(keys):
                rows = [(bytes.fromhex(key), self.owner, time.time() + CLAIM) for key in some]
                db.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", rows)
                marks = ",".join("?" * len(some))
                ours = db.execute(
                    f"SELECT key FROM claims WHERE owner = ? AND key IN ({marks})", (self.owner, *(r[0] for r in rows))
                )
                mine |= {key.hex() for (key,) in ours}
        return mine

    def release(self) -> None:
        """Gives up all claims of this process."""
        with self.transaction() as db:
            db.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))

    def mention(self, mentions: Mapping[str, Iterable[Mention]]) -> None:
        """Keeps who else asked a question that was answered already; key -> mentions."""
        with self.transaction():
            for some in _chunks(list(mentions)):
                for key, row in self._rows(some):
                    self._mention(row, mentions[key])

    def asked(self, kind: str, keys: Sequence[str]) -> set[tuple[str, str]]:
        """(user or item key, call key) of the questions that were asked for these."""
        found: set[tuple[str, str]] = set()
        for some in _chunks(keys):
            marks = ",".join("?" * len(some))
            with self.told() as db:
                found |= {
                    (key, call.hex())
                    for key, call in db.execute(
                        f"""SELECT mentions.key, calls.key FROM mentions JOIN calls ON calls.id = mentions.call
                        WHERE kind = ? AND asked = 1 AND mentions.key IN ({marks})""",
                        (kind, *map(_plain, some)),
                    )
                }
        return found

    def read(self, key: str) -> Call | None:
        """One call, whole."""
        return next(self.read_all("WHERE key = ?", (bytes.fromhex(key),)), None)

    def of(self, kind: str, key: str, asked_only: bool = True) -> list[Call]:
        """Calls that were asked for a user or item, newest first; or all whose question holds its words."""
        only = " AND asked = 1" if asked_only else ""
        where = f"WHERE id IN (SELECT call FROM mentions WHERE kind = ? AND mentions.key = ?{only}) ORDER BY id DESC"
        return list(self.read_all(where, (kind, _plain(key))))

    def read_all(self, where: str = "", values: Sequence[object] = ()) -> Iterator[Call]:
        """Calls by a condition written in this package, never by a user."""
        columns = (
            "key, model, revision, prompt, status, text, parsed, error, tokens_in, tokens_out, usd, attempts, seconds, "
            "created, request"
        )
        with self.told() as db:
            for key, *rest, packed in db.execute(f"SELECT {columns} FROM calls {where}", tuple(values)):
                request = json.loads(zlib.decompress(packed).decode("utf-8", "surrogatepass"))
                yield Call(key.hex(), *rest, request)  # type: ignore[call-arg]

    def picture(self, picture: str) -> bytes | None:
        """A picture file that was shown to a model, by its sha256."""
        with self.told() as db:
            found = db.execute("SELECT picture FROM pictures WHERE hash = ?", (bytes.fromhex(picture),)).fetchone()
        return None if found is None else found[0]

    def mentions(self, key: str) -> list[Mention]:
        """Whom a call is about."""
        with self.told() as db:
            rows = db.execute(
                """SELECT kind, mentions.key, asked FROM mentions JOIN calls ON calls.id = mentions.call
                WHERE calls.key = ? ORDER BY kind, mentions.key""",
                (bytes.fromhex(key),),
            ).fetchall()
        return [Mention(kind, who, bool(asked)) for kind, who, asked in rows]

    def models(self) -> list[tuple[str, str, int]]:
        """(model, revision, calls) of all that is kept, most calls first."""
        with self.told() as db:
            return db.execute(
                "SELECT model, revision, count(*) FROM calls GROUP BY model, revision ORDER BY count(*) DESC"
            ).fetchall()

    def __len__(self) -> int:
        with self.told() as db:
            return db.execute("SELECT count(*) FROM calls").fetchone()[0]

    def _rows(self, keys: Sequence[str]) -> list[tuple[str, int]]:
        marks = ",".join("?" * len(keys))
        with self.told() as db:
            rows = db.execute(f"SELECT key, id FROM calls WHERE key IN ({marks})", [bytes.fromhex(k) for k in keys])
            return [(key.hex(), row) for key, row in rows]

    def _mention(self, row: int, mentions: Iterable[Mention]) -> None:
        self.connection.executemany(
            """INSERT INTO mentions VALUES (?, ?, ?, ?)
            ON CONFLICT (kind, key, call) DO UPDATE SET asked = max(asked, excluded.asked)""",
            [(m.kind, _plain(m.key), row, int(m.asked)) for m in mentions],
        )


def _gone(owner: str) -> bool:
    """Whether a process of this machine is known to have ended."""
    machine, _, number = owner.rpartition("/")
    if machine != platform.node():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _chunks(keys: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), AT_ONCE):
        yield list(keys[start : start + AT_ONCE])


def _plain(text: str) -> str:
    """Text that UTF-8 has room for; half a surrogate pair is written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
