"""Refresh: a run trained again with what its service has learned since, beside the old one, which goes on serving until then."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant import folder as folders
from penchant import recipe as recipes
from penchant import run as running
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.errors import MissingFile
from penchant.features import Features
from penchant.inputs import open_data
from penchant.report import write_whole
from penchant.seeds import Watcher
from penchant.serve.newest import NAME, Newest
from penchant.serve.state import Event, Kept, State, veiled
from penchant.store import Store

__all__ = ["Refreshed", "grown", "refresh"]


@dataclass(frozen=True)
class Refreshed:
    """folder: of the new run. events, items: that came since. forgotten: people left out."""

    folder: Path
    events: int
    items: int
    forgotten: int


def refresh(run: Path, state: State, store: Store, watch: Watcher | None = None) -> Refreshed:
    """Train the recipe of `run` on its data with all events and items of its service, into a neighbour that newer.json names.

    Prompts that have not changed are not asked again. Killed, it goes on when called again with the same events. A server takes it up on
    POST /reload. Raises MissingFile where the recipe is not kept, and whatever a run raises; the old run stays then.
    """
    locked = run / "recipe.lock.toml"
    if not locked.is_file():
        raise MissingFile(
            f"{run} keeps no recipe, so nobody knows how to train it again. Run one:  penchant run RECIPE.toml"
        )
    raw: dict[str, Any] = tomllib.loads(locked.read_text("utf-8"))
    recipe = recipes.parse(raw, run.name)
    data = open_data(recipe.data, store, recipe.interactions, recipe.min_rating)
    numbered = list(state.events())
    upto = numbered[-1][0] if numbered else 0
    kept = [replace(one, picture=state.picture(one.item_id)) for one in state.items()]
    gone = state.forgotten()
    whole = grown(data, [event for _, event in numbered], kept, gone, recipe.min_rating)
    card = json.loads((run / "run.json").read_text("utf-8")) if (run / "run.json").is_file() else {}
    number = _number(run, whole.hash)
    base = run.with_name(f"{run.name}-{number}")
    place = base.with_name(f"{base.name}-data")
    if not folders.is_canonical(place):
        shutil.rmtree(place, ignore_errors=True)
        folders.write(whole, place)
    own = recipes.parse(
        {**{k: v for k, v in raw.items() if k not in ("interactions", "claim")}, "data": str(place.resolve())},
        base.name,
    )
    running.run(own, base, store, watch, renew=True)
    made = base
    if card.get("final"):
        made = base.with_name(f"{base.name}-final")
        running.final(own, made, store, watch, base)
    old = Newest.of(run).folder
    write_whole(run / NAME, json.dumps({"folder": made.name, "folded": upto, "data": whole.hash}).encode())
    state.fold(upto)
    _tidy(run, old, made)
    lost = sum(veiled(user) in gone for user in data.users.keys)
    return Refreshed(made, len(numbered), len(kept), lost)


def grown(
    data: Dataset, events: Sequence[Event], kept: Sequence[Kept], gone: frozenset[str], min_rating: float | None = None
) -> Dataset:
    """A data set with what came since. A pair that is there already is not counted twice; a new choice has the highest rating
    there is, because it counts as one; where only an order is known it comes last. Of the forgotten nothing is left but what
    they chose afterwards."""
    lost = {row for row, user in enumerate(data.users.keys) if veiled(user) in gone}
    old = data.interactions
    stay = ~np.isin(old.user, list(lost))
    users = list(data.users.keys)
    users = [user for row, user in enumerate(users) if row not in lost]
    users += list(dict.fromkeys(e.user_id for e in events if e.user_id not in set(users)))
    new = [one for one in kept if one.item_id not in data.items.rows_by_key]
    known = {*data.items.keys, *(one.item_id for one in new)}
    items = Ids("item", (*data.items.keys, *(one.item_id for one in new)))
    people = Ids("user", tuple(users))
    there = {
        (data.users.keys[u], int(i)) for u, i in zip(old.user[stay].tolist(), old.item[stay].tolist(), strict=True)
    }
    more: dict[tuple[str, int], Event] = {}
    for event in events:
        pair = (event.user_id, items.rows_by_key.get(event.item_id, -1))
        if event.item_id in known and pair not in there:
            more.setdefault(pair, event)
    added = list(more.items())

    def column(name: str, values: Sequence[Any]) -> np.ndarray | None:
        before = getattr(old, name)
        return (
            None
            if before is None
            else np.concatenate([np.asarray(before)[stay], np.asarray(values, np.asarray(before).dtype)])
        )

    best = float(np.nanmax(old.value)) if old.value is not None and len(old.value) else (min_rating or 1.0)
    last = int(np.max(old.position)) if old.position is not None and len(old.position) else 0
    at = people.rows([data.users.keys[u] for u in old.user[stay].tolist()])
    review = None
    if old.review is not None:
        review = (*(old.review[i] for i in np.flatnonzero(stay)), *(event.review for _, event in added))
    interactions = Interactions(
        people,
        items,
        np.concatenate([at, people.rows([user for (user, _), _ in added])]),
        np.concatenate([old.item[stay], np.array([item for (_, item), _ in added], np.int32)]),
        column("time", [event.at for _, event in added]),
        column("position", [last + 1 + n for n in range(len(added))]),
        column("value", [best] * len(added)),
        review,
    )
    given = (
        None if data.given is None else np.concatenate([np.asarray(data.given)[stay], np.zeros(len(added), np.int8)])
    )
    rows = data.users.rows(people.keys)
    fields = {
        name: tuple(None if r < 0 else values[r] for r in rows.tolist()) for name, values in data.user_fields.items()
    }
    features = {
        name: _longer(part, items if part.ids.kind == "item" else people) for name, part in data.features.items()
    }
    catalog = _catalog(data.catalog, kept)
    return replace(data, interactions=interactions, catalog=catalog, given=given, user_fields=fields, features=features)


def _catalog(catalog: Catalog, kept: Sequence[Kept]) -> Catalog:
    """With the words and pictures of items that were put."""
    put = {one.item_id: one for one in kept}
    items = Ids("item", (*catalog.items.keys, *(key for key in put if key not in catalog.items.rows_by_key)))
    names = dict.fromkeys([*catalog.fields, *(name for one in kept for name in one.fields)])
    fields = {}
    for name in names:
        before = catalog.fields.get(name, (None,) * len(catalog.items))
        fields[name] = tuple(
            put[key].fields.get(name) if key in put else before[row] for row, key in enumerate(items.keys)
        )
    numbers = {}
    for name, series in catalog.numbers.items():
        values = [put[key].numbers.get(name) if key in put else series[row] for row, key in enumerate(items.keys)]
        numbers[name] = type(series)(name, values, dtype=series.dtype, strict=False)
    if not any(one.picture for one in kept):
        where = np.concatenate([catalog.pictures.where, np.full(len(items) - len(catalog.items), -1)])
        pictures = Pictures(items, where, catalog.pictures.source, catalog.pictures.column)
    else:
        raw = [_picture(catalog, put, row, key) for row, key in enumerate(items.keys)]
        there = np.array([one is not None for one in raw])
        pictures = Pictures(
            items, np.where(there, np.cumsum(there) - 1, -1), tuple(one for one in raw if one is not None)
        )
    return Catalog(items, fields, pictures, numbers)


def _picture(catalog: Catalog, put: Mapping[str, Kept], row: int, key: str) -> bytes | None:
    if key in put and put[key].picture is not None:
        return put[key].picture
    return catalog.pictures.read(row) if row < len(catalog.items) else None


def _longer(part: Features, ids: Ids) -> Features:
    """Rows by key; gaps for who is new."""
    rows = part.ids.rows(ids.keys)
    values = np.where((rows >= 0)[:, None], part.values[np.maximum(rows, 0)], 0)
    return Features(ids, values, part.present[np.maximum(rows, 0)] & (rows >= 0), part.source)


def _number(run: Path, content: str) -> int:
    """Of the next neighbour; that of one which was begun with the same data, to go on with."""
    number = 1
    while True:
        place = run.with_name(f"{run.name}-{number}-data")
        if not place.exists() and not run.with_name(f"{run.name}-{number}").exists():
            return number
        if folders.is_canonical(place) and folders.read(place).hash == content:
            return number
        number += 1


def _tidy(run: Path, old: Path, made: Path) -> None:
    """Of the refreshes before, the last stays, for those who still serve it; never the run itself."""
    for file in run.parent.glob(f"{run.name}-*"):
        rest = file.name.removeprefix(f"{run.name}-").removesuffix("-data").removesuffix("-final")
        stays = (made.name.removesuffix("-final"), old.name.removesuffix("-final"))
        if rest.isdecimal() and f"{run.name}-{rest}" not in stays and file.is_dir():
            shutil.rmtree(file, ignore_errors=True)
