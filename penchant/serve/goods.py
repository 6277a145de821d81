"""Goods: the items as they are served, those of training and those that came since. Immutable: a change makes another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from penchant.catalog import Catalog, Pictures
from penchant.data import Ids
from penchant.errors import CannotServeColdItems
from penchant.features import Features
from penchant.model import Recommender
from penchant.runs import Opened
from penchant.scorers import Factors
from penchant.serve.sieve import Sieve, values_of
from penchant.serve.state import Kept
from penchant.texts import Provenance

__all__ = ["Came", "Goods", "Words"]

log = logging.getLogger("penchant.serve")
FEW = 4_000_000  # numbers of which a second copy is no matter
Came = Literal["trained", "added", "changed"]


@dataclass(frozen=True)
class Words:
    """What is said of one item."""

    title: str
    fields: Mapping[str, str]
    numbers: Mapping[str, bool | int | float]


@dataclass(frozen=True, eq=False)
class Goods:
    """base: the run. rec: its model with new items after its own. put: items that came by the service, without what the state and the
    model have of them, picture and vectors. gone: deleted ones.
    left: items of `put` that this model could not take in, and why.
    """

    base: Opened
    rec: Recommender
    sieve: Sieve
    put: Mapping[str, Kept] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    left: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(base: Opened, kept: Sequence[Kept], gone: frozenset[str]) -> Goods:
        """With all that came before: new items are taken in together where they can be, else one by one."""
        goods = Goods(base, base.recommender, Sieve(base.catalog))
        new = [one for one in kept if one.item_id not in base.recommender.items.rows_by_key]
        rec, left = base.recommender, dict[str, str]()
        try:
            rec = _grown(rec, new)
        except Exception:  # one of them is not as this model needs it; which, is found out below
            for one in new:
                try:
                    rec = _grown(rec, [one])
                except Exception as error:  # what is stored may not keep a server from starting; /ready tells of it
                    log.warning("an item is left out: %s", type(error).__name__)
                    left[one.item_id] = str(error)
        goods = replace(goods, rec=_quick(rec), put={one.item_id: _light(one) for one in kept}, gone=gone, left=left)
        for one in kept:
            if one.item_id in rec.items.rows_by_key:
                goods.sieve.put(rec.items.rows_by_key[one.item_id], one.fields, one.numbers)
        return goods

    def with_item(self, item: Kept) -> Goods:
        """With one more, or another in its place. Raises what `Recommender.add_items` does."""
        rec, base = self.rec, self.base.recommender
        others = {key: one for key, one in self.put.items() if key != item.item_id}
        gone, left = self.gone - {item.item_id}, {k: v for k, v in self.left.items() if k != item.item_id}
        if item.item_id not in base.items.rows_by_key:
            rec = _grown(rec, [item]) if item.item_id not in rec.items.rows_by_key else _regrown(base, rec, item)
        return replace(self, rec=_quick(rec), put={**others, item.item_id: _light(item)}, gone=gone, left=left)

    def sift(self, item: Kept) -> None:
        """Let filters know what an item has now, once that is on disk."""
        self.sieve.put(self.rec.items.rows_by_key[item.item_id], item.fields, item.numbers)

    def without(self, key: str) -> Goods:
        """Without an item: it keeps its row, and is never shown again."""
        return replace(self, gone=self.gone | {key})

    @cached_property
    def hidden(self) -> np.ndarray:
        """Rows of items that are not to be recommended. (n,) int64"""
        rows = self.rec.items.rows(sorted(self.gone))
        return np.sort(rows[rows >= 0])

    def __contains__(self, key: str) -> bool:
        return key in self.rec.items.rows_by_key and key not in self.gone

    def __len__(self) -> int:
        return len(self.rec.items) - len(self.hidden)

    def came(self, key: str) -> Came:
        if key in self.put:
            return "changed" if key in self.base.recommender.items.rows_by_key else "added"
        return "trained"

    def title(self, key: str) -> str:
        """The title, or the id where there is none."""
        if key in self.put:
            return self.put[key].fields.get("title") or key
        row = self.base.catalog.items.rows_by_key.get(key, -1)
        return self.base.catalog.title(row) if row >= 0 else key

    def words(self, key: str) -> Words:
        if key in self.put:
            one = self.put[key]
            numbers = {n: v for n, v in one.numbers.items() if v is not None}
            return Words(self.title(key), {n: v for n, v in one.fields.items() if v}, numbers)
        catalog, row = self.base.catalog, self.base.catalog.items.rows_by_key.get(key, -1)
        if row < 0:
            return Words(key, {}, {})
        fields = {name: text for name, column in catalog.fields.items() if (text := column[row])}
        numbers = {n: v for n, c in catalog.numbers.items() if (v := c[row]) is not None and v == v}
        return Words(self.title(key), fields, numbers)

    def categories(self, row: int) -> list[str]:
        """Of one row, in small letters."""
        key, column = self.rec.items.keys[row], self.base.catalog.fields.get("categories")
        if key in self.put:
            text = self.put[key].fields.get("categories")
        else:
            text = column[row] if column is not None else None
        return [part.casefold() for part in values_of("categories", text)]

    def excerpt(self, keys: Iterable[str]) -> Catalog:
        """The catalogue of these items alone, with the words they have now."""
        ids = Ids("item", tuple(dict.fromkeys(keys)))
        told = [self.words(key).fields for key in ids.keys]
        fields = {name: tuple(one.get(name) for one in told) for name in dict.fromkeys(n for one in told for n in one)}
        return Catalog(ids, fields, Pictures.none(ids))


def _quick(rec: Recommender) -> Recommender:
    """With vectors of items, where they are few, in the order in which two to sixteen people at once are scored two to six times as
    fast (OpenBLAS packs the other one anew each time); what they are is the same."""
    factors = rec.scorer
    if not isinstance(factors, Factors) or factors.item.size > FEW or factors.item.flags.f_contiguous:
        return rec
    return replace(rec, scorer=replace(factors, item=np.asfortranarray(factors.item)))


def _grown(rec: Recommender, new: Sequence[Kept]) -> Recommender:
    """The model with these after its own. Raises CannotServeColdItems and whatever `Recommender.add_items` raises."""
    return rec.add_items(_catalog(new), _features(rec, new)) if new else rec


def _regrown(base: Recommender, rec: Recommender, item: Kept) -> Recommender:
    """With other vectors of one item that came before. Those of the others are where the model keeps them."""
    own, row = _features(base, [item]), rec.items.rows_by_key[item.item_id]
    later = slice(len(base.items), None)
    ids = Ids("item", rec.items.keys[later])
    features = {}
    for name, part in (rec.stock.features if rec.stock is not None else {}).items():
        values, present = part.values.copy(), part.present.copy()
        values[row], present[row] = own[name].values[0], own[name].present[0]
        features[name] = Features(ids, values[later], present[later], own[name].source)
    return base.add_items(Catalog(ids, {}, Pictures.none(ids)), features)


def _features(rec: Recommender, new: Sequence[Kept]) -> dict[str, Features]:
    """Of new items, by the names of the model's inputs; none for a model that keeps none. Raises CannotServeColdItems for vectors that
    were made by another encoder."""
    ids = Ids("item", tuple(one.item_id for one in new))
    found = {}
    for name, old in (rec.stock.features if rec.stock is not None else {}).items():
        values, present = np.zeros((len(new), old.dim), np.float32), np.zeros(len(new), bool)
        for row, one in enumerate(new):
            part = one.vectors.get(name)
            if part is None or part.values is None:
                continue
            if part.encoder not in ("", old.source.made_by) or len(part.values) != old.dim:
                raise CannotServeColdItems(
                    f"`{name}` of {one.item_id} was encoded by {part.encoder} ({len(part.values)} numbers), and this model's by "
                    f"{old.source.made_by} ({old.dim}). Put the item again:  PUT /items/{one.item_id}"
                )
            values[row], present[row] = part.values, True
        found[name] = Features(ids, values, present, Provenance(old.source.made_by, ("put",)))
    return found


def _light(one: Kept) -> Kept:
    return replace(one, picture=None, vectors={}, has_picture=one.has_picture or one.picture is not None)


def _catalog(items: Sequence[Kept]) -> Catalog:
    ids = Ids("item", tuple(one.item_id for one in items))
    names = dict.fromkeys(name for one in items for name in one.fields)
    fields = {name: tuple(one.fields.get(name) for one in items) for name in names}
    return Catalog(ids, fields, Pictures.none(ids))
