"""Intake: what a fitted model keeps, so that items which were not there at training are served without training again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from penchant.binding import vectors
from penchant.catalog import Catalog
from penchant.data import Ids
from penchant.errors import BadInput, BadTable, CannotServeColdItems, Leak, Misaligned, MissingInput, some
from penchant.features import Features, align
from penchant.scorers import Arrays, Scorer

if TYPE_CHECKING:
    from penchant.model import Recommender

__all__ = ["CAN", "Intake", "Stock", "added", "cannot"]

CAN = ("bert4rec", "dmesr", "ease", "freedom", "gru4rec", "hstu", "lirdrec", "mllmrec", "sasrec", "vbpr", "weave")
"""Models that take in new items, if they were fitted with features of items."""


@dataclass(frozen=True, eq=False)
class Stock:
    """Features of a model's items by the names of its inputs, as they were given. trained: the first so many items were
    there at training; means and neighbours are of these alone."""

    features: Mapping[str, Features]
    trained: int

    def old(self, name: str) -> Features:
        """Of the items of training."""
        return rows(self.features[name], slice(0, self.trained))

    def centred(self, name: str, asked: Features) -> Features:
        """The rows of `asked` without the mean of the items of training; rows of zeros are gaps."""
        return replace(asked, values=asked.values - self.old(name).mean, present=asked.unit().present)

    def unit(self, name: str, asked: Features) -> np.ndarray:
        """The same as rows of length 1; gaps, and what is no different from the mean, are 0. (n, D)"""
        return self.centred(name, asked).unit().values

    def tells(self, name: str) -> bool:
        """Whether items of training differ in it: where they do not, no model can have learned what it means."""
        return bool(self.old(name).centred().values.any())

    @cached_property
    def units(self) -> tuple[np.ndarray, ...]:
        """Of all items in each modality, as `unit`. (I, D) each"""
        return tuple(self.unit(name, part) for name, part in self.features.items())


@dataclass(frozen=True, eq=False)
class Intake(ABC):
    """How a model makes of an item's features what its scorer holds of an item. A dataclass of arrays, numbers, and arrays by
    name.

    Nothing that is held of the items of training changes, and a new item has its neighbours among them alone. So new items may
    come together or one after the other, in any order.
    """

    kind: ClassVar[str]

    @abstractmethod
    def grown(self, scorer: Scorer, stock: Stock, new: Mapping[str, Features]) -> Scorer:
        """The scorer with the items of `new` after its own. new: rows of the same items for every name in `stock`, gaps in
        those that are not among `reads`."""

    def reads(self, stock: Stock) -> tuple[str, ...]:
        """Inputs from which it learns anything of a new item."""
        return tuple(name for name in stock.features if stock.tells(name))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything there is to save."""
        found: dict[str, np.ndarray] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Mapping):
                found |= {f"{f.name}/{name}": np.asarray(part) for name, part in value.items()}
            else:
                found[f.name] = np.asarray(value)
        return found

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        """What `arrays` came from."""
        found: dict[str, Any] = {f.name: {} for f in fields(cls)}
        for name, value in arrays.items():
            head, named, part = name.partition("/")
            plain = value if value.ndim else value.item()
            if named:
                found[head][part] = plain
            else:
                found[head] = plain
        return cls(**found)


def rows(features: Features, part: slice) -> Features:
    """Some of the rows."""
    ids = Ids(features.ids.kind, features.ids.keys[part])
    return Features(ids, features.values[part], features.present[part], features.source)


def added(rec: Recommender, catalog: Catalog, features: Mapping[str, Features]) -> Recommender:
    """What `Recommender.add_items` documents."""
    intake, stock = rec.scorer.intake, rec.stock
    _meant(catalog, features, next(iter(stock.features), "text") if stock is not None else "text")
    if intake is None or stock is None:
        raise CannotServeColdItems(cannot(rec))
    new = _new(rec, catalog)
    given = {name: _aligned(rec, stock, name, part, new) for name, part in features.items()}
    if not given:
        raise MissingInput(f"{rec.name} takes in items by their features; give some of: {', '.join(stock.features)}")
    whole = {name: given[name] if name in given else _gaps(old, new) for name, old in stock.features.items()}
    read = intake.reads(stock)
    told = np.logical_or.reduce([np.zeros(len(new), bool), *(whole[name].unit().present for name in read)])
    if not told.all():
        raise CannotServeColdItems(_untold(rec, [new.keys[i] for i in np.flatnonzero(~told)], new, read, tuple(given)))
    items = Ids("item", rec.items.keys + new.keys)
    joined = {name: _joined(items, old, whole[name]) for name, old in stock.features.items()}
    heard = {name: part if name in read else _gaps(part, new) for name, part in whole.items()}
    scorer = intake.grown(rec.scorer, stock, heard)
    return replace(rec, items=items, scorer=scorer, stock=replace(stock, features=joined))


def _meant(catalog: object, features: object, name: str) -> None:
    """Raises BadInput for what is no catalogue, or no features by name. name: of an input, for the message."""
    if not isinstance(catalog, Catalog):
        raise BadInput(
            f"add_items takes the new items as a Catalog, and this is a {type(catalog).__name__}. Make one:  "
            'ids = Ids("item", ("new-1", ...));  Catalog(ids, {"title": ("A title", ...)}, Pictures.none(ids))'
        )
    if not isinstance(features, Mapping):
        what = "Features without a name" if isinstance(features, Features) else f"a {type(features).__name__}"
        raise BadInput(
            f'add_items takes features by the names of inputs, and this is {what}. Write:  {{"{name}": features}}'
        )


def _untold(rec: Recommender, keys: list[str], new: Ids, read: tuple[str, ...], given: tuple[str, ...]) -> str:
    mute = [f"`{name}`" for name in given if name not in read]
    why = f" {' and '.join(mute)}: items of training do not differ there, or it has no weight." if mute else ""
    then = "Encode what there is of them, or leave them out of the catalogue."
    if not read:
        then = f"Fit {rec.name} again with features in which items differ, or leave these out of the catalogue."
    return (
        f"{len(keys)} of {len(new)} new items have no features that tell {rec.name} anything (those that do: "
        f"{', '.join(read) or 'none'}), e.g. {some(keys)}: nothing says whom they suit.{why} {then}"
    )


def cannot(rec: Recommender) -> str:
    able = f"Models that can, with features of items among their [inputs]: {', '.join(CAN)}"
    if rec.name not in CAN:
        why = f"{rec.name} knows an item by those who chose it, and nobody has chosen a new one"
        return f'{why}. {able}. Fit one of them:  [model]  name = "weave"'
    again = f'Fit it again:  [model]  name = "{rec.name}"'
    if rec.stock is None:
        why = f"this {rec.name} was fitted without features of items, or was saved before it could take in new ones"
        return f"{why}. {able}. {again}"
    for name, usual in (("mm_layers", 1), ("neighbours", 10)):
        if rec.settings.get(name, usual) < min(usual, 2):
            why = f"this {rec.name} gives an item nothing of its neighbours, for {name} = {rec.settings[name]}"
            return f"{why}; of its own, a new item has nothing. Fit it again with  {name} = {usual}"
    told = [name for name in rec.stock.features if rec.stock.tells(name)]
    if told:
        return f"this {rec.name} was saved before it could take in new items. {again}"
    return (
        f"this {rec.name} was fitted with {', '.join(rec.stock.features)}, where no item differs from the others, so it can tell "
        "nothing of a new one. Fit it again with features in which items differ."
    )


def _new(rec: Recommender, catalog: Catalog) -> Ids:
    if not len(catalog.items):
        raise BadTable("the catalogue of new items is empty. Give one with a row for each new item.")
    if not all(key.strip() for key in catalog.items.keys):
        raise BadTable("an id of the new items is empty. Give each item an id, or leave it out of the catalogue.")
    here = [key for key in catalog.items.keys if key in rec.items.rows_by_key]
    if here:
        raise BadTable(
            f"{len(here)} of {len(catalog.items)} new items are here already, e.g. {some(here)}. Leave them out of the catalogue."
        )
    return catalog.items


def _aligned(rec: Recommender, stock: Stock, name: str, part: Features, new: Ids) -> Features:
    """In the rows of the new items, made as those that the model was fitted with."""
    vectors(name, part)
    if name not in stock.features:
        raise MissingInput(f"{rec.name} was fitted without `{name}`. Give features of: {', '.join(stock.features)}")
    old = stock.features[name]
    if part.dim != old.dim:
        raise Misaligned(
            f"`{name}`: vectors of {part.dim} entries for new items, but {rec.name} was fitted with {old.dim}. Encode them with "
            f"the same encoder{_by(old)}."
        )
    mine, theirs = _encoder(part), _encoder(old)
    if mine and theirs and mine != theirs:
        raise Misaligned(
            f"`{name}` of new items is by {mine}, but {rec.name} was fitted with vectors by {theirs}. Encode them with that."
        )
    if part.source.interactions not in (None, old.source.interactions):
        raise Leak(
            f"`{name}` of new items was written from interactions {str(part.source.interactions)[:8]}, which {rec.name} was not "
            "fitted on. Give features that saw no interactions."
        )
    try:
        return align(part, new)
    except Misaligned as error:
        raise Misaligned(f"`{name}` of new items: {error}") from None


def _encoder(features: Features) -> str:
    """Name and revision of what encoded them, if that is known."""
    return features.source.made_by.partition("encoder:")[2]


def _by(features: Features) -> str:
    return f", {_encoder(features)}" if _encoder(features) else ""


def _gaps(like: Features, new: Ids) -> Features:
    return Features(new, np.zeros((len(new), like.dim), np.float32), np.zeros(len(new), bool), like.source)


def _joined(items: Ids, old: Features, new: Features) -> Features:
    values, present = np.concatenate([old.values, new.values]), np.concatenate([old.present, new.present])
    return Features(items, values, present, old.source)
