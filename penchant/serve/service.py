"""Service: what the routes do, without HTTP. Reads go on while something is written; writes are one at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from penchant.errors import BadInput, CannotServeColdItems, MissingFile, PenchantError, StateBusy, UnknownId
from penchant.intake import cannot
from penchant.serve import replies, wire
from penchant.serve.album import Album
from penchant.serve.encoders import Closed, Encoders
from penchant.serve.forgotten import remains
from penchant.serve.nearby import Nearby
from penchant.serve.newest import Newest
from penchant.serve.served import Served, open_run
from penchant.serve.state import Event, Kept, State, Vector
from penchant.serve.uploads import clean
from penchant.times import LATEST

__all__ = ["Service", "row_of"]

log = logging.getLogger("penchant.serve")
PATIENCE = 10.0  # seconds that a write waits for others
MOMENT = 0.001  # seconds between two choices of a person whose times are not given
COLUMNS = 200  # of the catalogue: each new number of an item is a column of all


class Service:
    """One run folder, served. Open it, then `close`; every method may be called from any thread. renewed: called after another run was
    taken up, or one that can't be used."""

    def __init__(self, folder: Path, state: State, index_from: int = 200_000) -> None:
        self.run, self.state = folder, state
        self._index_from = index_from
        self.renewed: Callable[[], object] = lambda: None
        self.unsure = False  # whether the state may hold what is not in memory
        self._tried: set[str] = set()
        self._writing = threading.RLock()
        self.album = Album(state)
        self.served = Served.load(folder, state)
        self.encoders = self._encoders(self.served)
        self._meet(self.served)

    def close(self) -> None:
        self.encoders.close()

    # Writing: the state first, then memory; what was answered is on disk.

    def put(self, key: str, new: wire.New) -> replies.Put:
        """A new item, or another content of one. Raises BadPicture, CannotServeColdItems, StateBusy."""
        fields: dict[str, str | None] = {"title": new.title, "description": new.description, "brand": new.brand}
        fields |= {"categories": new.categories, **new.fields}
        fields = {name: text for name, text in fields.items() if text}
        picture = clean(new.picture) if new.picture is not None else None
        trained = key in self.served.goods.base.recommender.items.rows_by_key
        old = None if picture is not None else self.state.picture(key)
        if not trained and (why := self.why_not()):
            raise CannotServeColdItems(why)
        self._fits(new)
        vectors = {} if trained else self._vectors(fields, picture if picture is not None else old)
        kept = Kept(key, fields, new.numbers, picture if picture is not None else old, vectors)
        with self._turn():
            self._fits(new)  # again: others may have put columns while this one was encoded
            if picture is None and self.state.picture(key) != old:
                raise StateBusy("its picture was changed at the same moment; nothing was kept. Try again")
            changed = key in self.served.goods.put and not trained
            self._keep(kept)
        if trained:
            note = "What is shown has changed. Its place in the lists is what the model learned of it, until the next refresh."
            return replies.Put(item_id=key, served="words", visible=True, note=note)
        return replies.Put(item_id=key, served="changed" if changed else "new", visible=True, note="")

    def _fits(self, new: wire.New) -> None:
        """Raises BadInput where a column of the catalogue is of another type, or there would be too many."""
        sieve = self.served.goods.sieve
        for given, kind in ((new.fields, "numbers"), (new.numbers, "texts")):
            for name in given:
                if sieve.kind(name) == kind:
                    raise BadInput(f"`{name}` is a column of {kind} here. Give it as one")
        if twice := new.fields.keys() & new.numbers.keys():
            raise BadInput(f"`{min(twice)}` is given as a text and as a number. Give it once")
        if sieve.lacks([*new.fields, *new.numbers]) > COLUMNS:
            raise BadInput(
                f"the catalogue would have over {COLUMNS} columns. Use the names that it has; see  GET /about"
            )

    def _vectors(self, fields: Mapping[str, str | None], picture: bytes | None) -> dict[str, Vector]:
        while True:  # a reload may close encoders that are being asked
            encoders = self.encoders
            try:
                return encoders.vectors(fields, picture)
            except Closed:
                if encoders is self.encoders:
                    raise StateBusy("the service is closing. Try again later") from None

    def why_not(self) -> str:
        """Why new items can't be taken in; "" where they can."""
        served = self.served
        if served.problem:
            return f"the model can't be used, so nothing can be told of a new item: {served.problem}"
        rec = served.goods.base.recommender
        if rec.scorer.intake is None or rec.stock is None or not rec.scorer.intake.reads(rec.stock):
            return cannot(rec)
        if self.encoders.why_not:
            return f"{self.encoders.why_not}. Add the item to the data and train again:  penchant refresh {self.run}"
        return ""

    def delete(self, key: str) -> None:
        """Never recommended again, from the moment this returns. Raises UnknownId, StateBusy."""
        with self._turn():
            if key in self.served.goods.gone or key not in self.served.goods.put:
                row_of(self.served, key)
            self.state.delete(key)
            self.album.put(key, False)
            self.served = self.served.with_goods(self.served.goods.without(key))

    def add(self, events: Sequence[wire.Choice], key: str | None) -> bool:
        """Choices; False where this key came before with the same. Raises UnknownId for an item, KeyReused, StateBusy."""
        now = time.time()
        given = [Event(e.user, e.item, 0.0 if e.at is None else e.at, e.review) for e in events]
        with self._turn():
            served = self.served
            latest = {e.user: served.people.latest(e.user) for e in events}
            made = []
            for sent, one in zip(events, given, strict=True):
                if sent.at is None:  # a clock that was set back makes no new choice an old one
                    one = replace(one, at=min(max(now, latest[one.user_id] + MOMENT), LATEST - MOMENT))
                latest[one.user_id] = max(one.at, latest[one.user_id])
                made.append(one)
            for e in events:
                if e.item not in served.rec.items.rows_by_key and e.item not in served.goods.put:
                    if key is not None and self.state.came(key, given):
                        return False  # it was there then
                    raise UnknownId(
                        "item", e.item, (), "Nothing of this request was kept. Put the item first:  PUT /items/ID"
                    )
            if not self.state.add(made, key, given):
                return False
            for event in made:
                served.people.add(event)
                served.count(event.item_id)
        return True

    def forget(self, user: str) -> list[str]:
        """A person out of state and memory; what is left elsewhere, with the commands. Raises StateBusy."""
        with self._turn():
            trained = user in self.served.goods.base.recommender.users.rows_by_key
            swept = self.state.forget(user)
            self.served.forget(user)
            left = remains(self.run, self.served.newest, user, trained)
        if not swept:
            left.append(
                "bytes of deleted rows in the database's files, while somebody reads them; they are cleared within seconds after"
            )
        return left

    def reload(self) -> bool:
        """The newest run in place of this one, without a lost request; False where it is the same. Raises MissingFile, Leak."""
        while True:
            newest = Newest.of(self.run)
            run = open_run(newest.folder)  # which takes the longest, while others write
            with self._turn():
                if Newest.of(self.run) != newest:  # a refresh has ended meanwhile
                    continue
                self.unsure = False
                served = Served.of(newest, run, self.state)
                if served.problem and not self.served.problem:
                    raise MissingFile(f"the newer run can't be used, and the old one goes on: {served.problem}")
                old, new = self.encoders, self._encoders(served)
                self.encoders = new
                changed = newest != self.served.newest
                self.served = served
                self._tried.clear()
                self._meet(served)
                break
        if old is not new:
            old.close()
        if changed or served.problem:
            self.renewed()
        return changed

    def settle(self, newest: Newest, then: Callable[[], object]) -> None:
        """Do what is still to be done of a run, unless another has been taken up meanwhile."""
        with self._turn():
            if self.served.newest == newest:
                then()

    def catch_up(self) -> None:
        """Take in one item that this model had no vectors of, each once; for a thread beside."""
        if self.unsure:
            self.reload()
        goods = self.served.goods
        key = next((key for key in goods.left if key not in self._tried and key not in goods.gone), None)
        if key is None or self.why_not():
            return
        kept, picture = goods.put[key], self.state.picture(key)
        self._tried.add(key)
        try:
            whole = replace(kept, vectors=self._vectors(kept.fields, picture), picture=picture)
            with self._turn():
                if self.served.goods.put.get(key) is kept and key not in self.served.goods.gone:
                    self._keep(whole)
                else:
                    self._tried.discard(key)  # another model is served by now, or the item has other words
        except StateBusy:
            self._tried.discard(key)
        except PenchantError as error:
            log.warning("an item stays left out: %s", type(error).__name__)

    def _keep(self, item: Kept) -> None:
        """Into the model to see that it can, then on disk, then for all to see. Raises what `Goods.with_item` and the state do."""
        goods = self.served.goods.with_item(item)
        self.state.put(item)
        goods.sift(item)
        self.served = self.served.with_goods(goods)
        self.album.put(item.item_id, item.picture is not None)
        self._index()

    def _encoders(self, served: Served) -> Encoders:
        rec = served.goods.base.recommender
        able = rec.stock is not None and rec.scorer.intake is not None and not served.problem
        wanted = tuple(rec.stock.features) if able and rec.stock is not None else ()
        old = getattr(self, "encoders", None)
        return old if old is not None and old.fits(served.folder, wanted) else Encoders(served.folder, wanted)

    def _meet(self, served: Served) -> None:
        """What depends on which run is served."""
        self.album.take({key for key, kept in served.goods.put.items() if kept.has_picture})
        self._index()

    def _index(self) -> None:
        rec, nearby = self.served.rec, self.served.nearby
        if nearby is None or not nearby.fits(rec):
            self.served = replace(self.served, nearby=Nearby.of(rec, self._index_from))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One writer at a time; StateBusy for who has waited too long, so that nobody's thread is held for ever."""
        if not self._writing.acquire(timeout=PATIENCE):
            raise StateBusy(f"others are writing for over {PATIENCE:g} s; nothing was kept. Try again")
        try:
            yield
        except StateBusy:
            self.unsure = True  # it may be on disk all the same: a server of PostgreSQL can vanish while it commits
            raise
        finally:
            self._writing.release()


def row_of(served: Served, key: str) -> int:
    """Raises UnknownId, also for an item that was deleted."""
    if key not in served.goods:
        raise UnknownId("item", key, (), "It is not in the catalogue, or was deleted. Look:  GET /items?search=WORD")
    return served.rec.items.rows_by_key[key]
