"""Garbage: what a store need not keep: leftovers of killed writes, artefacts that newer ones replace, calls without an answer.

Looking is one thing (`find`), removing another (`remove`). A folder is renamed to a hidden name before it is removed,
and rows go in one transaction, so a kill in between leaves nothing that is half there. Calls that were answered were
paid for: they only count as garbage when asked for, and no artefact that stays may name them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from penchant.calls import Calls
from penchant.cards import REF, Card
from penchant.errors import StoreError
from penchant.store import Store
from penchant.stored import Shelf, ids_of, maker, open_calls
from penchant.sweep import (
    AT_ONCE,
    KILLED,
    Folder,
    delete,
    discard,
    leftovers,
    shortly,
    size_of,
    tidy,
    unshown,
)
from penchant.unswept import begun, finish

__all__ = ["CALL_SIZE", "Garbage", "Some", "content_of", "contents_of", "find", "named_by_runs", "remove", "unfinished"]

DAY = 1.0  # so old are answered calls before they count as unused
SHARED = 0.5  # of an artefact's rows must a newer one have to stand in for it


@dataclass(frozen=True)
class Some:
    """Rows of the database that may go: keys in hex, about how many bytes, and what they cost when they were paid."""

    keys: tuple[str, ...] = ()
    size: int = 0
    usd: float = 0.0


@dataclass(frozen=True)
class Garbage:
    """leftovers: of killed writes. superseded: artefacts. vectors: of the texts of these. failed: calls that never were
    answered. unused: answered calls that no artefact names, where asked for. pictures: that no call shows. damaged:
    refs that cannot be read, which are left alone."""

    leftovers: tuple[Folder, ...] = ()
    superseded: tuple[Folder, ...] = ()
    vectors: Some = Some()
    failed: Some = Some()
    unused: Some = Some()
    pictures: Some = Some()
    damaged: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[Folder, ...]:
        return (*self.leftovers, *self.superseded)

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """How many and how many bytes of each kind."""
        found = {
            "leftovers of killed writes": (len(self.leftovers), sum(f.size for f in self.leftovers)),
            "superseded artefacts": (len(self.superseded), sum(f.size for f in self.superseded)),
        }
        rows = {
            "vectors of superseded texts": self.vectors,
            "failed calls": self.failed,
            "unused calls": self.unused,
            "pictures no call shows": self.pictures,
        }
        return found | {name: (len(some.keys), some.size) for name, some in rows.items()}

    @property
    def size(self) -> int:
        return sum(size for _, size in self.kinds.values())


def find(store: Store, runs: Iterable[Path] = (), older_than: float | None = None, calls: bool = False) -> Garbage:
    """What may go. runs: folders in which reports and recipes name what must stay. older_than: days that things must
    have been there. calls: answered calls that no kept artefact names are garbage, too; where nothing is said, only
    those that are a day old: what an enrichment asks is named by nothing until it is through."""
    shelf = Shelf.read(store)
    until, unasked = _ago(older_than or 0), _ago(DAY if older_than is None else older_than)
    left = (*leftovers(store, max(KILLED, (older_than or 0) * 86400)), *unfinished(store))
    with open_calls(store) as db:
        models = {f"{name}@{rev}": name for name, rev, _ in db.models() if rev} if db is not None else {}
        replaced = _superseded(store, shelf, models, named_by_runs(runs), until)
        folders = tuple(
            Folder(ref, size_of(store.path / ref), f"superseded by {new}") for ref, new in sorted(replaced.items())
        )
        if db is None:
            return Garbage(left, folders, damaged=shelf.damaged)
        kept = [card for ref, card in shelf.cards.items() if ref not in replaced]
        failed = _calls(db, "WHERE status = 'failed' AND created <= ?", (until,))
        # With a damaged artefact nobody can know which calls it names.
        unused = _unused(store, db, kept, unasked) if calls and not shelf.damaged else Some()
        texts = contents_of(store, (shelf.cards[ref] for ref in replaced)) - contents_of(store, kept)
        lost = unshown(db, (*failed.keys, *unused.keys))
        pictures = Some(tuple(lost), sum(lost.values()))
        return Garbage(left, folders, _vectors(db, texts), failed, unused, pictures, shelf.damaged)


def _ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def remove(store: Store, garbage: Garbage) -> None:
    """Removes it. Raises StoreError where something cannot be removed; what is gone by then is gone whole."""
    with open_calls(store) as calls:
        if calls is not None:
            with shortly(calls, (*garbage.failed.keys, *garbage.unused.keys)) as db:
                # A failed call may have been answered since.
                delete(db, "DELETE FROM calls WHERE status = 'failed' AND key IN ({})", garbage.failed.keys)
                delete(db, "DELETE FROM calls WHERE key IN ({})", garbage.unused.keys)
                encoders = "encoder IN (SELECT id FROM encoders)"  # so that the index is used
                delete(db, f"DELETE FROM vectors WHERE {encoders} AND content IN ({{}})", garbage.vectors.keys)
            tidy(calls)
    discard(store, garbage.folders)
    finish(store)  # a forgetting that was cut short


def unfinished(store: Store) -> Iterator[Folder]:
    """Artefacts that a forgetting did not come to before it was cut short."""
    for ref in sorted({ref for work in begun(store) for ref in work.artefacts}):
        if (store.path / ref).exists():
            yield Folder(ref, size_of(store.path / ref), "was being forgotten")


def named_by_runs(folders: Iterable[Path]) -> set[str]:
    """Refs in the reports and locked recipes below these folders."""
    found: set[str] = set()
    for folder in folders:
        for name in ("report.json", "recipe.lock.toml"):
            for file in folder.rglob(name):
                with contextlib.suppress(OSError):
                    found |= {match[0] for match in REF.finditer(file.read_text("utf-8", "replace"))}
    return found


# ---- artefacts


def _superseded(
    store: Store, shelf: Shelf, models: Mapping[str, str], named: Collection[str], until: str
) -> dict[str, str]:
    """Refs that a newer artefact stands in for -> that one; but for those that a run names or that others were built from.

    models: name with revision -> name.
    """
    families: dict[Any, list[Card]] = {}
    for card in shelf.cards.values():
        families.setdefault(_family(shelf, models, card), []).append(card)
    found: dict[str, str] = {}
    for cards in families.values():
        newest = sorted(cards, key=lambda card: (card["created"], _written(store, card), card["ref"]), reverse=True)
        keys = [_keys(store, card) for card in newest] if len(cards) > 1 else [set[str]()]
        for place, card in enumerate(newest):
            if card["ref"] in named or card["created"] > until:
                continue
            for newer, there in zip(newest[:place], keys, strict=False):
                if len(keys[place] & there) >= SHARED * len(keys[place]):
                    found[card["ref"]] = newer["ref"]
                    break
    while True:
        staying = (card for ref, card in shelf.cards.items() if ref not in found)
        needed = {parent["ref"] for card in staying for parent in shelf.built_from(card)} & found.keys()
        if not needed:
            return found
        for ref in needed:
            del found[ref]


def _family(
    shelf: Shelf, models: Mapping[str, str], card: Card, above: frozenset[str] = frozenset()
) -> tuple[Any, ...]:
    """What artefacts have in common of which the newest stands in for the others: kind, title, maker without its version,
    the interactions that they may show, and their origin: the families of stored artefacts, and the hashes of what is
    not stored, such as the catalogue. So those of another split or another catalogue stay."""
    by = maker(card)
    what = by.what if by.version else card["made_by"]
    stored = {name: shelf.by_name[name] for name in card["parents"] if name in shelf.by_name}
    above |= {card["ref"]}
    origin = {
        _family(shelf, models, parent, above)
        for parents in stored.values()
        for parent in parents
        if parent["ref"] not in above
    }
    others = frozenset(name for name in card["parents"] if name not in stored)
    made = (card["kind"], card["of"], card["title"], what, models.get(by.model, by.model), card["interactions"])
    return (*made, frozenset(origin), others)


def _written(store: Store, card: Card) -> int:
    with contextlib.suppress(OSError):
        return (store.path / card["ref"] / "card.toml").stat().st_mtime_ns
    return 0


def _keys(store: Store, card: Card) -> set[str]:
    with contextlib.suppress(StoreError):
        return set(ids_of(store, card))
    return set()


def contents_of(store: Store, cards: Iterable[Card]) -> set[str]:
    """sha256 of all texts of these artefacts, as vectors are known by."""
    found: set[str] = set()
    for card in cards:
        if card["kind"] == "texts":
            with contextlib.suppress(StoreError):
                found |= {content_of(text) for text in store.load_texts(card["ref"]).values if text}
    return found


def content_of(text: str) -> str:
    """What a text's vector is known by: sha256, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# ---- rows of the database

CALL_SIZE = "length(key) + length(text) + coalesce(length(parsed), 0) + length(error) + length(request)"


def _calls(calls: Calls, where: str, values: Sequence[object]) -> Some:
    with calls.told() as db:
        rows = db.execute(f"SELECT key, {CALL_SIZE}, usd FROM calls {where} ORDER BY id", tuple(values)).fetchall()
    return Some(tuple(row[0].hex() for row in rows), sum(row[1] for row in rows), sum(row[2] for row in rows))


def _unused(store: Store, calls: Calls, kept: Iterable[Card], until: str) -> Some:
    """Answered calls that no kept artefact rests on.

    A row of an artefact names one call. Where a prompt was asked step by step, the earlier steps are named nowhere: all
    calls of that prompt and model stay.
    """
    named: set[str] = set()
    stepwise: set[str] = set()
    for card in kept:
        if card["kind"] == "texts":
            own = {key for key in store.beside(card["ref"], "call") if key}
            named |= own
            stepwise |= own if card["counts"].get("steps", 0) > 1 else set()
    with calls.told() as db:
        rows = db.execute(
            f"SELECT key, model, revision, prompt, {CALL_SIZE}, usd, status, created FROM calls"
        ).fetchall()
    lines = {(row[1], row[2], row[3]) for row in rows if row[0].hex() in stepwise}
    rows = [
        row
        for row in rows
        if row[0].hex() not in named and tuple(row[1:4]) not in lines and row[6] != "failed" and row[7] <= until
    ]
    return Some(tuple(row[0].hex() for row in rows), sum(row[4] for row in rows), sum(row[5] for row in rows))


def _vectors(calls: Calls, contents: Collection[str]) -> Some:
    found: dict[str, int] = {}
    keys = sorted(contents)
    for start in range(0, len(keys), AT_ONCE):
        some = [bytes.fromhex(key) for key in keys[start : start + AT_ONCE]]
        with calls.told() as db:
            rows = db.execute(
                f"SELECT content, sum(length(vector)) FROM vectors WHERE content IN ({','.join('?' * len(some))}) GROUP BY 1",
                some,
            )
            found |= {content.hex(): size for content, size in rows}
    return Some(tuple(found), sum(found.values()))
