"""Encoders: what makes vectors of a new item's words and picture, in a process of its own.

Torch is loaded there and not in the server, whose answers it would delay; a picture that breaks a decoder breaks that process, and
another is started.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
import tomllib
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from penchant.errors import BadInput, CannotServeColdItems, MissingInput, StateBusy
from penchant.serve.state import Vector

__all__ = ["Closed", "Encoders", "inputs_of", "unable"]

log = logging.getLogger("penchant.serve")
WAIT = 60.0  # seconds that a new item waits for encoders that are still being loaded

Made = dict[str, tuple[str, np.ndarray | None]]


def inputs_of(folder: Path) -> dict[str, dict[str, Any]]:
    """[inputs] of the recipe that a run was made by; none where it is not kept."""
    try:
        found = tomllib.loads((folder / "recipe.lock.toml").read_text("utf-8")).get("inputs", {})
    except (OSError, ValueError):
        return {}
    return {name: dict(spec) for name, spec in found.items() if isinstance(spec, dict)}


def unable(specs: Mapping[str, Mapping[str, Any]], wanted: tuple[str, ...]) -> str:
    """Why vectors of these inputs can't be made of one new item; "" where they can."""
    for name in wanted:
        spec = specs.get(name)
        if spec is None:
            return f"the run does not say what its input `{name}` was made of"
        for source in [spec["from"]] if isinstance(spec.get("from"), str) else spec.get("from", ()):
            if source.partition("/")[0] == "features" or source.startswith(("features.", "users.")):
                return f"its input `{name}` came with the data ({source}), and nobody can encode a new item so"
        if spec.get("centred") or spec.get("items"):
            return f"its input `{name}` is made of all items at once (centred, or items)"
        if str(spec.get("lm", "extractive")) != "extractive":
            return f"its input `{name}` is written by {spec['lm']}, which a service does not pay for: penchant refresh does"
    return ""


class Closed(Exception):
    """They were closed while they were being asked."""


class Encoders:
    """Vectors of one item by the names of the model's inputs. Opened without waiting: `ready` tells when it is warm."""

    def __init__(self, folder: Path, wanted: tuple[str, ...]) -> None:
        self.specs = {name: spec for name, spec in inputs_of(folder).items() if name in wanted}
        self.why_not = unable(self.specs, wanted)
        self._wanted = wanted
        self._lock = threading.Lock()
        self._closed = False
        self._pool: ProcessPoolExecutor | None = None
        self._warm: Future[Any] | None = None
        if wanted and not self.why_not:
            self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (os.getpid(),))
        self._warm = self._pool.submit(_encoded, self.specs, {"title": "warm"}, None)

    @property
    def ready(self) -> bool:
        """Whether the next item need not wait."""
        return self._warm is None or self._warm.done()

    def vectors(self, fields: Mapping[str, str | None], picture: bytes | None) -> dict[str, Vector]:
        """Raises CannotServeColdItems where they can't be made, StateBusy where it took too long."""
        if self.why_not:
            raise CannotServeColdItems(f"{self.why_not}. Add it to the data and train again:  penchant refresh RUN")
        if not self._wanted:
            return {}
        for attempt in (1, 2):
            with self._lock:
                if self._closed:
                    raise Closed
                if self._pool is None:
                    self._start()
                assert self._pool is not None
                pool = self._pool
            try:
                made = pool.submit(_encoded, self.specs, dict(fields), picture).result(WAIT)
                return {name: Vector(by, values) for name, (by, values) in made.items()}
            except TooLong:
                raise StateBusy(f"the encoders did not answer within {WAIT:.0f} s. Try again later") from None
            except (BrokenProcessPool, RuntimeError, CancelledError) as error:
                log.warning("the process of the encoders ended: %s", type(error).__name__)
                with self._lock:
                    if self._pool is pool:
                        pool.shutdown(wait=False, cancel_futures=True)
                        self._pool = None
                if attempt == 2:
                    raise BadInput("its words or its picture end the process that encodes them; send others") from None
        raise AssertionError

    def fits(self, folder: Path, wanted: tuple[str, ...]) -> bool:
        """Whether a run needs the same ones."""
        specs = {name: spec for name, spec in inputs_of(folder).items() if name in wanted}
        return not self._closed and (specs, wanted) == (self.specs, self._wanted)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._pool is not None:
                for process in list((self._pool._processes or {}).values()):
                    process.kill()
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None


# What follows runs in the other process.

_KEPT: dict[tuple[str, str], Any] = {}


def _begin(parent: int) -> None:
    """Ends with the server, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    os.nice(5)
    os.environ["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")


def _encoded(specs: Mapping[str, Mapping[str, Any]], fields: dict[str, str | None], picture: bytes | None) -> Made:
    """Vectors as the recipe makes them, of a catalogue of one item."""
    import tempfile

    from penchant.catalog import Catalog, Pictures
    from penchant.data import Dataset, Ids, Interactions
    from penchant.store import Store

    ids = Ids("item", ("new",))
    none = np.zeros(0, np.int32)
    pictures = Pictures.none(ids) if picture is None else Pictures(ids, np.zeros(1, np.int64), (picture,))
    catalog = Catalog(ids, {name: (text,) for name, text in fields.items()}, pictures)
    data = Dataset("new", Interactions(Ids("user", ()), ids, none, none), catalog)
    with tempfile.TemporaryDirectory(prefix="penchant-") as folder:
        return {name: _one(name, spec, data, Store(folder)) for name, spec in specs.items()}


def _one(name: str, spec: Mapping[str, Any], data: Any, store: Any) -> tuple[str, np.ndarray | None]:
    from penchant.inputs import Asking, column, is_prompt
    from penchant.recipe import input_of

    read = input_of(name, dict(spec))
    parts: list[tuple[np.ndarray | None, int]] = []
    by, mark = "", ""
    for source in read.from_:
        if source == "catalog.image":
            encoder = _opened("image", read.encoder or "layout")
            vector = _of_picture(encoder, data.catalog.pictures)
        else:
            encoder, text = _opened("text", read.encoder or "minilm"), None
            try:
                if is_prompt(source):
                    texts = Asking(name, read, data, store, lambda done, total: None, None, None)(source)
                else:
                    texts = column(name, source, read, data)
                text = texts.values[0]
                mark = "external:" if texts.source.external else mark
            except MissingInput:  # it has no such column: a gap
                pass
            vector = encoder.encode([text])[0] if text else None
        by = f"encoder:{encoder.name}@{encoder.revision}"
        parts.append((vector, encoder.dim))
    if len(parts) == 1:
        return mark + by, parts[0][0]
    if all(vector is None for vector, _ in parts):
        return mark + "join", None
    sides = [np.zeros(dim, np.float32) if vector is None else vector for vector, dim in parts]
    return mark + "join", np.concatenate(sides)


def _opened(kind: str, spec: str) -> Any:
    from penchant import encode

    if (kind, spec) not in _KEPT:
        _KEPT[kind, spec] = encode.open_image(spec) if kind == "image" else encode.open_text(spec)
    return _KEPT[kind, spec]


def _of_picture(encoder: Any, pictures: Any) -> np.ndarray | None:
    from penchant.catalog import open_picture

    raw = pictures.read(0)
    return None if raw is None else encoder.encode([open_picture(raw, "new", encoder.size)])[0]
