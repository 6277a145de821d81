"""Store: what was made once and is kept: vectors by content, finished features and texts, a card for each.

    store.sqlite         vectors, one row per (encoder, content), committed batch by batch; calls of language models, one
                         row per question, committed as each reply arrives
    features/<12 hex>/   values.npy, present.npy, ids.parquet, card.toml
    texts/<12 hex>/      texts.parquet (id, text; for written texts also status and call), card.toml
    data/<hash>/         canonical folders that a recipe imported

Nothing is ever overwritten. An artefact is written under a hidden name, card last, flushed to disk and then renamed,
so a folder that has a card is complete and a killed process leaves nothing that looks finished. Vectors are in
SQLite's write-ahead log: several processes may share a store on one machine (not over a network file system), and
whatever was committed survives a kill at any instant.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from penchant.calls import Calls
from penchant.cards import REF, Card, card_of, provenance_of
from penchant.data import Ids
from penchant.errors import BadTable, Misaligned, MissingFile, StoreError, near
from penchant.features import Features
from penchant.texts import Texts
from penchant.vectors import Vectors

__all__ = ["Store"]

SPARE = 32 << 20  # bytes that must stay free beside what is to be written: the log and the file system need room


class Store:
    """One folder; `path`, else the variable PENCHANT_STORE, else ./store. Made when something is first written."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path or os.environ.get("PENCHANT_STORE") or "store")

    def ready(self, size: int = 0) -> None:
        """Checks that about `size` more bytes can be written; call it before work that would otherwise be lost.

        Raises StoreError when the store is read-only or the disk too full.
        """
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{secrets.token_hex(4)}"
            try:
                probe.write_bytes(b"\0" * 4096)
            finally:
                probe.unlink(missing_ok=True)
            free = shutil.disk_usage(self.path).free
        if free < size + SPARE:
            raise StoreError(
                f"store {self.path}: {free / 1e9:.2f} GB are free, about {(size + SPARE) / 1e9:.2f} GB are needed. "
                "Free some space, or give another store: --store DIR"
            )

    def vectors(self, encoder: str) -> Vectors:
        """The vectors of one encoder, e.g. "text:minilm@3f2a...", by sha256 of what was encoded."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
        return Vectors(self.path / "store.sqlite", encoder)

    def calls(self) -> Calls:
        """What language models were asked and answered."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
        return Calls(self.path / "store.sqlite")

    def data(self, content: str) -> Path:
        """The place for the canonical folder imported from raw data with this hash; it need not exist yet."""
        if not re.fullmatch(r"[0-9A-Za-z_-]+", content):
            raise MissingFile(f"{content!r} is no content hash; imported data are named by letters and digits")
        return self.path / "data" / content

    def save_features(
        self,
        features: Features,
        title: str = "",
        counts: Mapping[str, int] | None = None,
        named: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """Stores features with their card and returns their ref; what is already there is left as it is."""

        def write(folder: Path) -> None:
            np.save(folder / "values.npy", features.values)
            np.save(folder / "present.npy", features.present)
            pq.write_table(pa.table({"id": _column(features.ids.keys)}), folder / "ids.parquet", compression="zstd")

        card = card_of(features, title, counts, named, int(features.present.sum()), features.dim)
        return self._save(card, write)

    def load_features(self, ref: str) -> Features:
        """Features by ref, values memory-mapped. Raises MissingFile, or StoreError on damaged files."""
        card = self.card(ref)
        folder = self._folder(ref, "features")
        with self._reading(ref):
            values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
            present = np.load(folder / "present.npy", allow_pickle=False)
            ids = Ids(card["of"], tuple(_strings(folder / "ids.parquet", "id")))  # type: ignore[arg-type]
            if values.shape != (card["rows"], card["dim"]) or present.sum() != card["present"]:
                raise ValueError(f"its card says {card['rows']} x {card['dim']}, values.npy is {values.shape}")
            return Features(ids, values, present, provenance_of(card))

    def save_texts(
        self,
        texts: Texts,
        title: str = "",
        counts: Mapping[str, int] | None = None,
        named: Mapping[str, Sequence[str]] | None = None,
        beside: Mapping[str, Sequence[str | None]] | None = None,
    ) -> str:
        """Stores texts with their card and returns their ref; what is already there is left as it is.

        beside: further columns, one value a row, for those who look closer (status, key of the call); see `beside`.
        """

        def write(folder: Path) -> None:
            columns = {"id": texts.ids.keys, "text": texts.values} | dict(beside or {})
            table = pa.table({name: _column(values) for name, values in columns.items()})
            pq.write_table(table, folder / "texts.parquet", compression="zstd")

        return self._save(card_of(texts, title, counts, named, int(texts.present.sum()), 0), write)

    def load_texts(self, ref: str) -> Texts:
        """Texts by ref. Raises MissingFile, or StoreError on damaged files."""
        card = self.card(ref)
        file = self._folder(ref, "texts") / "texts.parquet"
        with self._reading(ref):
            ids = Ids(card["of"], tuple(_strings(file, "id")))  # type: ignore[arg-type]
            texts = Texts(ids, tuple(_strings(file, "text")), provenance_of(card))
            if len(texts.values) != card["rows"] or texts.hash != card["hash"]:
                raise ValueError("its texts are not those its card names")
            return texts

    def beside(self, ref: str, column: str) -> tuple[str | None, ...]:
        """A further column of stored texts; all None where they have none of that name."""
        card = self.card(ref)
        file = self._folder(ref, "texts") / "texts.parquet"
        with self._reading(ref):
            there = column in pq.read_schema(file).names
            return tuple(_strings(file, column)) if there else (None,) * card["rows"]

    def card(self, ref: str) -> Card:
        """What is known of an artefact. Raises MissingFile for an unknown ref."""
        file = self._folder(ref) / "card.toml"
        if not file.is_file():
            raise MissingFile(
                f"store {self.path} has no {ref}.{near(ref, self.refs())} Make it:  penchant encode DATA --text"
            )
        with self._reading(ref):
            card = tomllib.loads(file.read_text("utf-8"))
            if missing := (Card.__required_keys__ - card.keys() - {"interactions"}):
                raise ValueError(f"card.toml lacks {', '.join(sorted(missing))}")
        card.setdefault("interactions", None)
        return card  # type: ignore[return-value]

    def refs(self, kind: str | None = None) -> list[str]:
        """Refs of all complete artefacts, or of one kind ("features", "texts"), sorted."""
        kinds = ("features", "texts") if kind is None else (kind,)
        found = (f"{k}/{card.parent.name}" for k in kinds for card in (self.path / k).glob("*/card.toml"))
        return sorted(ref for ref in found if REF.fullmatch(ref))

    def lineage(self, ref: str) -> list[Card]:
        """Cards of an artefact and of all it was made from, as far as they are stored; itself first."""
        cards = {r: self.card(r) for r in self.refs()}
        by_hash: dict[str, list[str]] = {}
        for r, card in cards.items():
            by_hash.setdefault(card["hash"], []).append(r)
        line = [self.card(ref)]
        seen = {ref}
        for card in line:  # grows while it is walked: breadth first
            for parent in card["parents"]:
                for r in [parent] if parent in cards else by_hash.get(parent, []):
                    if r not in seen:
                        seen.add(r)
                        line.append(cards[r])
        return line

    def _folder(self, ref: str, kind: str | None = None) -> Path:
        # A ref comes from recipes and the command line: only its exact form may touch the file system.
        if not REF.fullmatch(ref):
            raise MissingFile(
                f"{ref!r} is no ref; refs look like features/ab12cd34ef56, as `penchant encode` prints them"
            )
        if kind and not ref.startswith(kind):
            raise MissingFile(f"{ref} is not one of {kind}.{near(ref, self.refs(kind))}")
        return self.path / ref

    def _save(self, card: Card, write: Callable[[Path], None]) -> str:
        final = self.path / card["ref"]
        if (final / "card.toml").is_file():
            return card["ref"]
        hidden = final.parent / f".{final.name}-{secrets.token_hex(4)}"
        with self._writing():
            try:
                hidden.mkdir(parents=True)
                write(hidden)
                text = tomli_w.dumps({k: v for k, v in card.items() if v is not None})
                (hidden / "card.toml").write_bytes(text.encode("utf-8", "replace"))
                for file in (*hidden.iterdir(), hidden):
                    _flush(file)
                self._rename(hidden, final)
                _flush(final.parent)
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
        return card["ref"]

    @staticmethod
    def _rename(hidden: Path, final: Path) -> None:
        try:
            hidden.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not (final / "card.toml").is_file():  # no card: somebody damaged it, and nobody can be using it
                shutil.rmtree(final)
                hidden.rename(final)
            # Else another process finished the same artefact first; equal names have equal content.

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # numpy reports a short write without a number.
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "requested and" in str(error)
            what = "the disk is full" if full else f"it cannot be written ({error.strerror or error})"
            raise StoreError(
                f"store {self.path}: {what}. {'Free some space, or give' if full else 'Give'} another store: "
                "--store DIR, or set PENCHANT_STORE"
            ) from None

    @contextmanager
    def _reading(self, ref: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, KeyError, pa.ArrowException, BadTable, Misaligned) as error:
            raise StoreError(
                f"{ref} in store {self.path} is damaged: {error}. Delete its folder and make it again; "
                "vectors that are still in the store are not encoded twice"
            ) from None


def _column(values: Sequence[str | None]) -> pa.Array:
    """Strings as an Arrow column; as bytes where one holds half a surrogate pair, which UTF-8 has no room for."""
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([None if v is None else v.encode("utf-8", "surrogatepass") for v in values], pa.large_binary())


def _strings(file: Path, name: str) -> list:
    column = pq.read_table(file, columns=[name]).column(0)
    if pa.types.is_large_binary(column.type):
        return [None if v is None else v.decode("utf-8", "surrogatepass") for v in column.to_pylist()]
    return column.to_pylist()


def _flush(path: Path) -> None:
    """Forces a file or folder to disk; not every system can do it for folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
