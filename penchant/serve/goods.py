"""Goods: the items as they are served, those of training and those that came since. Immutable: a change makes another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from penchant.serve.sieve import SPLIT, Sieve
from penchant.serve.state import Kept
from penchant.texts import Provenance

__all__ = ["Came", "Goods", "Words"]

Came = Literal["trained", "added", "changed"]


@dataclass(frozen=True)
class Words:
    """What is said of one item."""

    title: str
    fields: Mapping[str, str]
    numbers: Mapping[str, bool | int | float]


@dataclass(frozen=True, eq=False)
class Goods:
    """base: the run. rec: its model with new items after its own. put: items that came by the service. gone: deleted ones.
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
                except Exception as error:
                    left[one.item_id] = str(error)
        goods = replace(goods, rec=rec, put={one.item_id: one for one in kept}, gone=gone, left=left)
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
        return replace(self, rec=rec, put={**others, item.item_id: item}, gone=gone, left=left)

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

    @cached_property
    def categories(self) -> list[tuple[str, ...]]:
        """Of each row, in small letters."""
        column = self.catalog.fields.get("categories", (None,) * len(self.catalog.items))
        return [
            tuple(part.strip().casefold() for part in SPLIT.split(text) if part.strip()) if text else ()
            for text in column
        ]

    @cached_property
    def catalog(self) -> Catalog:
        """Of all items that the model knows, by its rows, with the words they have now."""
        base = self.base.catalog
        later = [self.put[key] for key in self.rec.items.keys[len(self.base.recommender.items) :]]
        whole = base.join(_catalog(later)) if later else base
        changed = {row: one for key, one in self.put.items() if (row := base.items.rows_by_key.get(key, -1)) >= 0}
        if not changed:
            return whole
        names = dict.fromkeys([*whole.fields, *(name for one in changed.values() for name in one.fields)])
        fields = {name: list(whole.fields.get(name, (None,) * len(whole.items))) for name in names}
        for name, column in fields.items():
            for row, one in changed.items():
                column[row] = one.fields.get(name)
        return Catalog(whole.items, {n: tuple(c) for n, c in fields.items()}, whole.pictures, whole.numbers)


def _grown(rec: Recommender, new: Sequence[Kept]) -> Recommender:
    """The model with these after its own. Raises CannotServeColdItems and whatever `Recommender.add_items` raises."""
    if not new:
        return rec
    if rec.stock is None:
        return rec.add_items(_catalog(new), {})  # which says why it can't
    features = {}
    ids = Ids("item", tuple(one.item_id for one in new))
    for name, old in rec.stock.features.items():
        parts = [one.vectors.get(name) for one in new]
        encoders = {part.encoder for part in parts if part is not None and part.values is not None}
        if len(encoders) > 1 or any(encoder not in ("", old.source.made_by) for encoder in encoders):
            raise CannotServeColdItems(
                f"`{name}` was encoded by {', '.join(sorted(encoders))}, and this model by {old.source.made_by}. "
                f"Put the item again:  PUT /items/{new[0].item_id}"
            )
        values = np.zeros((len(new), old.dim), np.float32)
        present = np.zeros(len(new), bool)
        for row, part in enumerate(parts):
            if part is not None and part.values is not None:
                if len(part.values) != old.dim:
                    raise CannotServeColdItems(f"`{name}` has {len(part.values)} numbers, and this model {old.dim}")
                values[row], present[row] = part.values, True
        features[name] = Features(ids, values, present, Provenance(old.source.made_by, ("put",)))
    return rec.add_items(_catalog(new), features)


def _regrown(base: Recommender, rec: Recommender, item: Kept) -> Recommender:
    """With other vectors of one item that came before. Those of the others are where the model keeps them."""
    alone = _grown(base, [item])
    assert base.stock is not None
    assert rec.stock is not None
    assert alone.stock is not None
    first, row = len(base.items), rec.items.rows_by_key[item.item_id] - len(base.items)
    ids = Ids("item", rec.items.keys[first:])
    features = {}
    for name, part in rec.stock.features.items():
        values, present = part.values[first:].copy(), part.present[first:].copy()
        values[row], present[row] = alone.stock.features[name].values[-1], alone.stock.features[name].present[-1]
        features[name] = Features(ids, values, present, Provenance(part.source.made_by, ("put",)))
    return base.add_items(Catalog(ids, {}, Pictures.none(ids)), features)


def _catalog(items: Sequence[Kept]) -> Catalog:
    ids = Ids("item", tuple(one.item_id for one in items))
    names = dict.fromkeys(name for one in items for name in one.fields)
    fields = {name: tuple(one.fields.get(name) for one in items) for name in names}
    return Catalog(ids, fields, Pictures.none(ids))
