"""Lineage: which texts about an item or a person a model was given, who wrote them, and from which prompt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from penchant.errors import PenchantError, StateError
from penchant.serve import replies
from penchant.serve.encoders import inputs_of
from penchant.serve.served import Served
from penchant.store import Store
from penchant.stored import Shelf, look, maker

__all__ = ["Lineage"]

log = logging.getLogger("penchant.serve")
LONGEST = 4_000  # letters of a text


def _drivers(reply: Mapping[str, Any] | None) -> list[str]:
    """What a typed reply calls so, the strongest first."""
    found = (reply or {}).get("drivers")
    return [str(one)[:200] for one in found[:8]] if isinstance(found, list) else []


class Lineage:
    """Of what the store holds. Nothing is opened that a caller names: refs are those of this run's prompts alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.train: frozenset[str] = frozenset()  # hashes of what the run was trained on, once the data are read
        self.data = ""
        self._refs: dict[str, list[tuple[str, str, str]]] = {}
        self._of: object = None
        self._lock = threading.Lock()

    def of(self, kind: str, key: str, served: Served) -> list[replies.Told]:
        """Texts about one user or item; none where the store is not there."""
        found = []
        for ref, prompt, model in self._known(served).get(kind, ()):
            try:
                rows = look(self._store, ref, key, 1)
            except (PenchantError, StateError):
                continue
            for row in rows:
                asked = str(row.call.request.get("user", "")) if row.call is not None else ""
                found.append(
                    replies.Told(
                        what=prompt.replace("_", " "),
                        text=(row.text or "")[:LONGEST],
                        model=model,
                        prompt=asked[:LONGEST],
                        ref=ref,
                        status=row.status or "",
                        phrases=_drivers(row.reply),
                    )
                )
        return found

    def _known(self, served: Served) -> dict[str, list[tuple[str, str, str]]]:
        """(ref, prompt, model) of users and of items, the newest of each prompt: texts that this run's recipe names, and those that
        were written of the same data from the same train part."""
        with self._lock:
            now = (served.newest, self.train)
            if self._of == now:
                return self._refs
            prompts = set()
            for spec in inputs_of(served.folder).values():
                sources = [spec.get("from")] if isinstance(spec.get("from"), str) else spec.get("from", ())
                prompts |= {str(source) for source in sources} | {str(spec.get("items", ""))}
            refs: dict[str, list[tuple[str, str, str]]] = {}
            try:
                cards = sorted(Shelf.read(self._store).cards.values(), key=lambda card: card["created"], reverse=True)
            except (PenchantError, OSError) as error:
                log.warning("the store can't be read, so nothing tells where texts come from: %s", error)
                cards = []
            done: set[tuple[str, str]] = set()
            for card in cards:
                who = maker(card)
                if card["kind"] != "texts" or card["of"] not in ("user", "item") or not who.version:
                    continue
                same = card["interactions"] in self.train or (
                    card["interactions"] is None and card["title"] == self.data
                )
                if ((self.train and same) or who.what in prompts) and (who.what, card["of"]) not in done:
                    done.add((who.what, card["of"]))
                    refs.setdefault(card["of"], []).append((card["ref"], who.what, who.model))
            self._refs, self._of = refs, now
            return refs
