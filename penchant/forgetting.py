"""Forgetting: one user or item taken out of a store, with everything that was written from it or about it.

What goes: artefacts that have a row of it, that a question about it or with its words in it led to, and all that was
built from these; the calls themselves with their pictures, and those that were shown what they led to; the vectors of
its texts and pictures. Artefacts go whole, because a vector of one person may stand in the mean of all. Afterwards no
byte of it is left in the store's files; `find` tells beforehand what asking anew will cost.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penchant.calls import Call, Calls
from penchant.errors import StoreError, UnknownId
from penchant.garbage import CALL_SIZE, Some, content_of, contents_of, unfinished
from penchant.questions import mentioning, named, quoting
from penchant.store import Store
from penchant.stored import Shelf, ids_of, known_keys, open_calls, parts_of, stored_key
from penchant.sweep import AT_ONCE, Folder, discard, leftovers, size_of
from penchant.unswept import Work, begin, finish, unswept

__all__ = ["Forgetting", "find", "forget"]

# A question of several steps has a block for what was written before; so its answer may hold what an earlier step read.
_STEP = re.compile(r"^<data-[0-9a-f]{16} earlier>$", re.MULTILINE)


@dataclass(frozen=True)
class Forgetting:
    """What goes with one user or item. calls: with their cost; paid: how many of them had one. models: who was asked.
    contents: sha256 of texts and pictures whose vectors go. vectors: of rows in features, as bytes. data: imported
    folders that have it and stay as they are. working: writes that may be in progress. unfinished: an earlier
    forgetting was cut short, of whomever; what is left of that goes, too."""

    kind: str
    key: str
    artefacts: tuple[Folder, ...] = ()
    leftovers: tuple[Folder, ...] = ()
    calls: Some = Some()
    paid: int = 0
    models: tuple[str, ...] = ()
    contents: frozenset[str] = frozenset()
    vectors: frozenset[bytes] = frozenset()
    data: tuple[str, ...] = ()
    working: tuple[Folder, ...] = ()
    unfinished: bool = False

    @property
    def known(self) -> bool:
        """Whether the store has anything of it."""
        return bool(self.artefacts or self.calls.keys or self.data)

    @property
    def size(self) -> int:
        return self.calls.size + sum(folder.size for folder in (*self.artefacts, *self.leftovers))


def find(store: Store, kind: str, key: str) -> Forgetting:
    """What would go. kind: "user" or "item". Raises UnknownId where the store has nothing of it."""
    shelf = Shelf.read(store)
    cut_short = unswept(store).exists()
    reads = _look(store, shelf, kind, key)
    with open_calls(store) as db:
        calls = _calls_about(db, kind, key) if db is not None else {}
        while db is not None and (more := _calls_through(db, shelf, reads, calls) | quoting(db, calls)):
            calls |= more
        costs = _costs(db, calls) if db is not None else Some()
    going, contents, vectors = _artefacts(store, shelf, reads, calls)
    contents |= {picture for call in calls.values() for picture in call.request["pictures"]}
    found = Forgetting(
        kind,
        key,
        tuple(Folder(ref, size_of(store.path / ref), why) for ref, why in sorted(going.items())),
        tuple(leftovers(store)),
        costs,
        sum(call.usd > 0 for call in calls.values()),
        tuple(dict.fromkeys(call.model for call in calls.values())),
        frozenset(contents),
        frozenset(vectors),
        tuple(_imported(store, kind, key)),
        tuple(leftovers(store, younger=True)),
        cut_short,
    )
    if not found.known and not cut_short:
        raise UnknownId(kind, key, known_keys(store, kind), f"Nothing in store {store.path} is about it.")
    if found.known and shelf.damaged:  # nobody can look into these, and nobody can use them
        lost = tuple(
            Folder(ref, size_of(store.path / ref), "is damaged: may be about it")
            for ref in shelf.damaged
            if ref not in going
        )
        found = replace(found, artefacts=(*found.artefacts, *lost))
    there = {folder.name for folder in found.artefacts}
    others = tuple(folder for folder in unfinished(store) if folder.name not in there)
    return replace(found, artefacts=(*found.artefacts, *others))


def forget(store: Store, found: Forgetting) -> None:
    """Removes all of it for good. A kill in between leaves a mark that names what has to go; the next call, or the next
    `gc --delete`, finishes the work.

    Raises StoreError before anything is removed where the database cannot be written anew, and afterwards where
    another process kept it from being.
    """
    file = store.path / "store.sqlite"
    store.ready(file.stat().st_size if file.is_file() else 0)
    vectors = tuple(sorted(vector.hex() for vector in found.vectors))
    refs = tuple(folder.name for folder in found.artefacts)
    begin(store, Work(found.kind, found.key, refs, found.calls.keys, tuple(sorted(found.contents)), vectors))
    discard(store, found.leftovers)
    finish(store)


# ---- calls


def _calls_about(calls: Calls, kind: str, key: str) -> dict[str, Call]:
    """Calls whose question was asked for it or shows its words, and the later steps that read their answers."""
    with calls.told() as db:
        whole = db.execute(
            "SELECT DISTINCT key FROM mentions WHERE kind = 'interaction' AND instr(key, ?)",
            (stored_key(_inside(key)),),
        ).fetchall()
    names = [(kind, stored_key(key))]
    names += [("interaction", row[0]) for row in whole if key in parts_of(row[0])[_part(kind) : _part(kind) + 1]]
    found: dict[str, Call] = {}
    for of, who in names:
        where = "WHERE id IN (SELECT call FROM mentions WHERE kind = ? AND mentions.key = ?)"
        found |= {call.key: call for call in calls.read_all(where, (of, who))}
    return found | _steps(calls, found)


def _steps(calls: Calls, found: dict[str, Call]) -> dict[str, Call]:
    """All steps of the questions of several steps among these."""
    steps: dict[str, Call] = {}
    for call in found.values():
        if not _STEP.search(str(call.request.get("user", ""))):
            continue
        for mention in calls.mentions(call.key):
            if mention.kind == "user":
                others = calls.of("user", mention.key, asked_only=False)
                steps |= {
                    other.key: other
                    for other in others
                    if (other.prompt, other.model, other.revision) == (call.prompt, call.model, call.revision)
                }
    return steps


def _calls_through(
    calls: Calls, shelf: Shelf, reads: Mapping[str, _Look | None], about: Collection[str]
) -> dict[str, Call]:
    """Further calls that were shown what was written with one of these calls, or in a row of it: those of the artefacts
    that were built from such texts. Which of their calls showed one of these texts is told by whom they mention."""
    found: dict[str, Call] = {}
    for ref, look in reads.items():
        if look is None or not (rows := look.touched(about)):
            continue
        shown = {name for row in rows if (name := named(shelf.cards[ref]["of"], look.keys[row]))}
        for child in shelf.built_into(shelf.cards[ref]):
            inner = reads[child["ref"]]
            own = {key for key in inner.asked if key and key not in about} if inner is not None else set()
            for name in shown if own else ():
                found |= {key: call for key in own & mentioning(calls, *name) if (call := calls.read(key))}
    found |= _steps(calls, found)
    return {key: call for key, call in found.items() if key not in about}


def _costs(calls: Calls, about: dict[str, Call]) -> Some:
    keys, size = list(about), 0
    for start in range(0, len(keys), AT_ONCE):
        some = [bytes.fromhex(key) for key in keys[start : start + AT_ONCE]]
        with calls.told() as db:
            marks = ",".join("?" * len(some))
            size += db.execute(f"SELECT sum({CALL_SIZE}) FROM calls WHERE key IN ({marks})", some).fetchone()[0] or 0
    return Some(tuple(keys), size, sum(call.usd for call in about.values()))


# ---- artefacts


@dataclass(frozen=True)
class _Look:
    """What an artefact has of it. keys: of all rows; rows: of it; asked: the call behind each row, where it has any."""

    keys: tuple[str, ...]
    rows: tuple[int, ...]
    asked: tuple[str | None, ...]

    def shown(self, calls: Collection[str]) -> list[int]:
        """Rows that one of these calls was asked for."""
        return [row for row, call in enumerate(self.asked) if call in calls]

    def touched(self, calls: Collection[str]) -> list[int]:
        return sorted({*self.rows, *self.shown(calls)})


def _look(store: Store, shelf: Shelf, kind: str, key: str) -> dict[str, _Look | None]:
    """Each artefact, looked into; None for a damaged one."""
    found: dict[str, _Look | None] = {}
    for ref, card in shelf.cards.items():
        try:
            keys = ids_of(store, card)
            asked = () if card["kind"] == "features" else store.beside(ref, "call")
            found[ref] = _Look(keys, tuple(_rows(card["of"], keys, kind, key)), asked)
        except StoreError:
            found[ref] = None
    return found


def _artefacts(
    store: Store, shelf: Shelf, reads: Mapping[str, _Look | None], calls: Collection[str]
) -> tuple[dict[str, str], set[str], set[bytes]]:
    """Refs that go with the reason why; sha256 of the texts that may hold something of it; vectors of its rows."""
    going: dict[str, str] = {}
    contents: set[str] = set()
    vectors: set[bytes] = set()
    for ref, look in reads.items():
        if look is None:
            going[ref] = "is damaged: may be about it"
        elif look.rows:
            going[ref] = "has a row of it"
        elif shown := look.shown(calls):
            going[ref] = f"{len(shown):,} of its rows were written with it shown"
        if look is None or ref not in going:
            continue
        if shelf.cards[ref]["kind"] == "texts":
            values = store.load_texts(ref).values
            contents |= {content_of(text) for row in look.touched(calls) if (text := values[row]) is not None}
        elif look.rows:
            features = store.load_features(ref)
            vectors |= {features.values[row].tobytes() for row in look.rows if features.present[row]}
    built = shelf.descendants(list(going))
    # Of what was built from these nobody knows more where its calls are gone: encoding all of it anew costs no money.
    contents |= contents_of(store, (shelf.cards[ref] for ref in built))
    return going | {ref: f"built from {parent}" for ref, parent in built.items()}, contents, vectors


def _rows(of: str, keys: Sequence[str], kind: str, key: str) -> list[int]:
    """Rows of this user or item, or of its interactions."""
    if of == kind:
        return [row for row, name in enumerate(keys) if name == key]
    if of == "interaction":
        at, inside = _part(kind), _inside(key)
        return [row for row, name in enumerate(keys) if inside in name and key in parts_of(name)[at : at + 1]]
    return []


def _inside(key: str) -> str:
    """A key as it stands in that of an interaction, which is JSON."""
    return json.dumps(key, ensure_ascii=False)[1:-1]


def _part(kind: str) -> int:
    """Where an interaction's key has the user, and where the item."""
    return 0 if kind == "user" else 1


# ---- imported data


def _imported(store: Store, kind: str, key: str) -> Iterator[str]:
    """Imported data folders that have it in any table."""
    for folder in sorted((store.path / "data").glob("[!.]*")):
        if any(_has(file, f"{kind}_id", key) for file in sorted(folder.glob("*.parquet"))):
            yield folder.relative_to(store.path).as_posix()


def _has(file: Path, column: str, key: str) -> bool:
    with contextlib.suppress(OSError, pa.ArrowException, UnicodeError):
        parquet = pq.ParquetFile(file)
        if column in parquet.schema_arrow.names:
            for batch in parquet.iter_batches(columns=[column]):
                if pc.any(pc.equal(batch.column(0).cast(pa.large_string()), key)).as_py():
                    return True
    return False
