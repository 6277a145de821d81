"""Texts or pictures to Features: each content is encoded once, kept in the store, and a kill loses at most one batch.

Importing this is light: torch and the model libraries are imported when the first content has to be encoded.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image

from penchant.catalog import Pictures, open_picture
from penchant.data import Ids, digest
from penchant.encode.image import open_image
from penchant.encode.text import open_text
from penchant.errors import BadInput, BadModel, BadPicture
from penchant.features import Features
from penchant.store import Store
from penchant.texts import Provenance, Texts
from penchant.vectors import Vectors

__all__ = ["PictureEncoder", "TextEncoder", "open_image", "open_text", "pictures", "texts"]

BATCH = 64  # contents between two commits: what a kill can lose
ROOM = 16_384  # bytes a content is assumed to take in the store: a vector of 2048 floats, twice
Progress = Callable[[int, int], None]


class TextEncoder(Protocol):
    """What `texts` asks of an encoder; name and revision together must change whenever its vectors do."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dim(self) -> int: ...
    def cut(self, batch: Sequence[str]) -> np.ndarray:
        """Tokens of each text beyond the encoder's limit. (B,) int"""
        ...

    def encode(self, batch: Sequence[str]) -> np.ndarray:
        """(B, dim) float32"""
        ...


class PictureEncoder(Protocol):
    """What `pictures` asks of an encoder. size: pixels on the longer side that it needs at most, None for all."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def size(self) -> int | None: ...
    def encode(self, batch: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures to (B, dim) float32"""
        ...


def texts(
    texts: Texts, encoder: str | TextEncoder, store: Store, progress: Progress | None = None, title: str = ""
) -> Features:
    """Features of texts, saved in the store with their card; a gap stays a gap.

    Only what the store lacks is encoded, equal texts once. The card counts texts, gaps, repeated, encoded, cached,
    cut (texts beyond the encoder's limit) and cut_tokens. The features carry over whose interactions the texts saw,
    and that they are external, if they are. progress(done, total) counts different texts.

    Raises BadInput for what is no Texts or no store, StoreError before any work when the store cannot be written.
    """
    _meant(texts, Texts, 'Texts(Ids("item", keys), tuple(values), Provenance("mine"))', store)
    encoder = open_text(encoder) if isinstance(encoder, str) else encoder
    store.ready()
    rows = np.flatnonzero(texts.present)
    values = [texts.values[row] or "" for row in rows]
    hashes = [hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest() for value in values]
    text = dict(zip(hashes, values, strict=True))
    # By length, so that little is padding; by content among equals, so that a run that continues a killed one has the
    # same batches: what is encoded together decides the last bits of a vector.
    unique = sorted(text, key=lambda h: (-len(text[h]), h))

    with store.vectors(f"text:{encoder.name}@{encoder.revision}") as vectors:
        missing = _Missing(vectors, unique, store, progress)
        for some in missing:
            batch = [text[h] for h in some]
            missing.put(some, _checked(encoder.encode(batch), encoder.name, batch), encoder.cut(batch))
        by_content = _gather(vectors, unique, encoder)
        cut = dict(zip(unique, vectors.known(unique).tolist(), strict=True))

    beyond = np.array([cut[h] for h in hashes], np.int64)
    counts = {"texts": len(rows), **_counts(texts.ids, rows, unique, missing.encoded)}
    counts |= {"cut": int((beyond > 0).sum()), "cut_tokens": int(beyond.sum())}
    mark = "external:" if texts.source.external else ""
    source = Provenance(f"{mark}encoder:{encoder.name}@{encoder.revision}", (texts.hash,), texts.source.interactions)
    return _saved(texts.ids, rows, hashes, unique, by_content, source, store, title, counts, ())


def pictures(
    pictures: Pictures,
    encoder: str | PictureEncoder,
    store: Store,
    progress: Progress | None = None,
    title: str = "",
    strict: bool = False,
) -> Features:
    """Features of pictures, saved in the store with their card; an item without a picture is a gap.

    A picture that cannot be opened is a gap too, counted on the card as `unreadable` with its item's key, or, if
    strict, refused with BadPicture. Only what the store lacks is opened and encoded, equal pictures once.
    Raises BadInput for what is no Pictures or no store, StoreError before any work when the store cannot be written.
    """
    _meant(pictures, Pictures, "pictures = catalog.pictures", store)
    encoder = open_image(encoder) if isinstance(encoder, str) else encoder
    store.ready()
    keys = pictures.items.keys
    content = [_hash(pictures, row, strict) for row in range(len(keys))]
    found = np.array([row for row, h in enumerate(content) if h], np.int64)
    first = {content[row]: int(row) for row in found[::-1]}  # one row to read each content from
    unique = list(first)[::-1]
    unreadable = {h for h in unique if h.startswith("!")}

    def opened(h: str) -> Image.Image | None:
        row = first[h]
        try:
            return open_picture(pictures.read(row) or b"", keys[row], encoder.size)
        except BadPicture:
            if strict:
                raise
            return None

    with store.vectors(f"image:{encoder.name}@{encoder.revision}") as vectors:
        missing = _Missing(vectors, [h for h in unique if h not in unreadable], store, progress)
        for some, images in _ahead(iter(missing), opened):
            good = {h: image for h, image in zip(some, images, strict=True) if image is not None}
            unreadable |= set(some) - set(good)
            made = encoder.encode(list(good.values())) if good else np.zeros((0, 0))
            made = _checked(made, encoder.name, [keys[first[h]] for h in good])
            missing.put(list(good), made, given_up=len(some) - len(good))
        unique = [h for h in unique if h not in unreadable]
        by_content = _gather(vectors, unique, encoder)

    bad = tuple(keys[row] for row in found if content[row] in unreadable)
    rows = np.array([row for row in found if content[row] not in unreadable], np.int64)
    counts = {"pictures": len(rows), **_counts(pictures.items, rows, unique, missing.encoded), "unreadable": len(bad)}
    source = Provenance(
        f"encoder:{encoder.name}@{encoder.revision}", (digest(pictures.items.print, *(h or "\0" for h in content)),)
    )
    hashes = [content[row] for row in rows]
    return _saved(pictures.items, rows, hashes, unique, by_content, source, store, title, counts, bad)


def _meant(value: object, kind: type, example: str, store: object) -> None:
    """Raises BadInput for what is not of this kind, or no store. example: how to make one."""
    if not isinstance(value, kind):
        raise BadInput(
            f"encode.{kind.__name__.lower()} takes an object of penchant.{kind.__module__.partition('.')[2]}.{kind.__name__}, "
            f"and this is a {type(value).__name__}. Make one:  {example}"
        )
    if not isinstance(store, Store):
        path = f'"{store}"' if isinstance(store, str | os.PathLike) else ""
        raise BadInput(f"the store is a {type(store).__name__}. Open one:  store = penchant.Store({path})")


def _hash(pictures: Pictures, row: int, strict: bool) -> str:
    """sha256 of an item's encoded picture; empty for none; "!" and the row for a file that cannot be read."""
    try:
        raw = pictures.read(row)
    except OSError as error:
        if strict:
            raise BadPicture(
                f"picture {pictures.items.keys[row]} cannot be read: {error.strerror}. Put it back, or remove it."
            ) from None
        return f"!{row}"
    return "" if raw is None else hashlib.sha256(raw).hexdigest()


class _Missing:
    """What is not stored yet, batch by batch, and how far we are."""

    def __init__(self, vectors: Vectors, hashes: Sequence[str], store: Store, progress: Progress | None) -> None:
        self.vectors, self.hashes, self.progress = vectors, hashes, progress
        self.known = vectors.known(hashes) >= 0
        self.encoded, self.done = 0, int(self.known.sum())
        store.ready(ROOM * (len(hashes) - self.done))
        self._tell()

    def __iter__(self) -> Iterator[list[str]]:
        # A kill leaves whole batches undone, so the run that continues has the very batches that were to come.
        lacking = [h for h, known in zip(self.hashes, self.known, strict=True) if not known]
        for start in range(0, len(lacking), BATCH):
            batch = lacking[start : start + BATCH]
            # Asked again: another process may have encoded it since.
            fresh = [h for h, cut in zip(batch, self.vectors.known(batch).tolist(), strict=True) if cut < 0]
            if len(fresh) < len(batch):
                self.done += len(batch) - len(fresh)
                self._tell()
            if fresh:
                yield fresh

    def put(self, batch: Sequence[str], made: np.ndarray, cut: np.ndarray | None = None, given_up: int = 0) -> None:
        if len(batch):
            self.vectors.put(batch, made, cut)
        self.encoded += len(batch)
        self.done += len(batch) + given_up
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.done, len(self.hashes))


def _ahead(
    batches: Iterator[list[str]], opened: Callable[[str], Image.Image | None]
) -> Iterator[tuple[list[str], list[Image.Image | None]]]:
    """Batches with their pictures, which are decoded on all cores while the batch before is being encoded."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # The threads change the filters of warnings one after another; out here they are put back as they were.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, min(cores, 16))) as pool:
        before: tuple[list[str], list[Future[Image.Image | None]]] | None = None
        for batch in batches:
            coming = (batch, [pool.submit(opened, h) for h in batch])
            if before is not None:
                yield before[0], [future.result() for future in before[1]]
            before = coming
        if before is not None:
            yield before[0], [future.result() for future in before[1]]


def _checked(made: np.ndarray, name: str, batch: Sequence[str]) -> np.ndarray:
    """Vectors as float32, or BadModel: what is stored once is used for good."""
    made = np.asarray(made, np.float32)
    if made.ndim != 2 or len(made) != len(batch):
        raise BadModel(f"encoder {name} gave an array of shape {made.shape} for {len(batch)} inputs")
    odd = np.flatnonzero(~np.isfinite(made).all(axis=1))
    if len(odd):
        raise BadModel(
            f"encoder {name} gave NaN or infinity for {len(odd)} of {len(batch)} inputs, e.g. {batch[int(odd[0])][:60]!r}. "
            "Its weights are damaged or overflow; nothing of this batch was kept"
        )
    return made


def _gather(vectors: Vectors, unique: Sequence[str], encoder: TextEncoder | PictureEncoder) -> np.ndarray:
    return vectors.get(unique) if unique else np.zeros((0, encoder.dim), np.float32)


def _counts(ids: Ids, rows: np.ndarray, unique: Sequence[str], encoded: int) -> dict[str, int]:
    return {
        "gaps": len(ids) - len(rows),
        "repeated": len(rows) - len(unique),
        "encoded": encoded,
        "cached": len(unique) - encoded,
    }


def _saved(
    ids: Ids,
    rows: np.ndarray,
    hashes: Sequence[str],
    unique: Sequence[str],
    by_content: np.ndarray,
    source: Provenance,
    store: Store,
    title: str,
    counts: dict[str, int],
    unreadable: tuple[str, ...],
) -> Features:
    at = {h: i for i, h in enumerate(unique)}
    values = np.zeros((len(ids), by_content.shape[1]), np.float32)
    values[rows] = by_content[[at[h] for h in hashes]] if len(rows) else 0
    present = np.zeros(len(ids), bool)
    present[rows] = True
    features = Features(ids, values, present, source)
    named = {"unreadable": unreadable} if unreadable else {}
    return store.load_features(store.save_features(features, title, counts, named))
