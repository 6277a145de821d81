"""Refresh: a run trained again with what its service has learned since, beside the old one, which goes on serving until then."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from penchant import folder as folders
from penchant import recipe as recipes
from penchant import run as running
from penchant import runs
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions, digest
from penchant.errors import BadModel, MissingFile, StateError
from penchant.features import Features
from penchant.inputs import open_data
from penchant.report import write_whole
from penchant.seeds import Watcher
from penchant.serve.newest import PLAN, Newest, unfinished
from penchant.serve.state import Event, Kept, State, veiled
from penchant.store import Store

__all__ = ["Refreshed", "grown", "refresh"]


@dataclass(frozen=True)
class Refreshed:
    """folder: of the new run. events, items: that came since. forgotten: people left out. choices: of all, now and in the run before."""

    folder: Path
    events: int
    items: int
    forgotten: int
    choices: int
    before: int


def refresh(run: Path, state: State, store: Store, watch: Watcher | None = None) -> Refreshed:
    """Train the recipe of `run` on its data with all events and items of its service, into a neighbour that newer.json names.

    Prompts that have not changed are not asked again. Killed, it goes on when called again with the same events. A server takes it up on
    POST /reload. Raises MissingFile where the recipe is not kept, and whatever a run raises; the old run stays then.
    """
    if not run.is_dir():
        raise MissingFile(f"no run folder {run}. Make one:  penchant run RECIPE.toml --out {run}")
    with runs.lock(run, ".refresh.lock", f"another process refreshes {run}. Wait for it"):
        return _refreshed(run, state, store, watch)


def _refreshed(run: Path, state: State, store: Store, watch: Watcher | None) -> Refreshed:
    locked = run / "recipe.lock.toml"
    if not locked.is_file():
        raise MissingFile(
            f"{run} keeps no recipe, so nobody knows how to train it again. Run one:  penchant run RECIPE.toml"
        )
    raw = _kept(run, locked.name)
    recipe = recipes.parse(raw, run.name)
    data = open_data(recipe.data, store, recipe.interactions, recipe.min_rating)
    gone, numbered = _seen(state)
    upto = numbered[-1][0] if numbered else 0
    kept = [replace(one, picture=state.picture(one.item_id)) for one in state.items()]
    whole = grown(data, [event for _, event in numbered], kept, gone, recipe.min_rating)
    newest = Newest.of(run)
    card = _kept(run, "run.json") if (run / "run.json").is_file() else {}
    before = _choices(newest.folder)
    content = digest(whole.hash, whole.catalog.hash, whole.catalog.pictures.hash)
    base = _place(run, newest, content)
    place = base.with_name(f"{base.name}-data")
    if not folders.is_canonical(place):
        folders.write(whole, place)
    kept_as = {**{k: v for k, v in raw.items() if k not in ("interactions", "claim")}, "data": str(place.resolve())}
    own = recipes.parse(kept_as, base.name)
    running.run(own, base, store, watch, renew=True)
    made = base
    if card.get("final"):
        made = base.with_name(f"{base.name}-final")
        running.final(own, made, store, watch, base)
    if state.forgotten().keys() - gone:
        raise StateError(
            f"somebody asked to be forgotten meanwhile, and {made} knows of it. Nothing is changed; begin again:  penchant refresh {run}"
        )
    state.fold(upto)
    stay = [name for name in (newest.folder.name, made.name, *(one.name for one in (base, place))) if name != run.name]
    stay += [f"{newest.folder.name.removesuffix('-final')}{end}" for end in ("", "-data") if newest.folder != run]
    old = [name for name in newest.made if name not in stay]
    ident = state.ident()
    Newest.write(run, made.name, upto, ident, sorted({*stay, *old}), content)
    (run / PLAN).unlink(missing_ok=True)
    for name in old:
        shutil.rmtree(run.parent / name, ignore_errors=True)
    still = {name for name in old if (run.parent / name).exists()}  # a kill on the way forgets none of them either
    Newest.write(run, made.name, upto, ident, sorted({*stay, *still}), content)
    lost = sum(veiled(user) in gone for user in data.users.keys)
    return Refreshed(made, len(numbered), len(kept), lost, len(whole.interactions), before)


def _kept(run: Path, name: str) -> dict[str, Any]:
    """A file of the run's own. Raises BadModel where it is damaged."""
    try:
        text = (run / name).read_text("utf-8")
        found = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
        if isinstance(found, dict) and (found or name.endswith(".json")):
            return found
        raise ValueError("it holds something else")
    except (OSError, ValueError) as error:
        raise BadModel(
            f"{run / name} is damaged: {error}. Run the recipe again:  penchant run RECIPE.toml --out {run} --fresh"
        ) from None


def _choices(run: Path) -> int:
    """That a run was made from; 0 where nobody knows."""
    try:
        data = json.loads((run / "report.json").read_text("utf-8"))["data"]
        return sum(int(data[part]) for part in ("train", "valid", "test"))
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def _seen(state: State) -> tuple[frozenset[str], list[tuple[int, Event]]]:
    """Who is forgotten, and all events, of one moment: nobody's old choices may pass for those of somebody new."""
    while True:
        before = state.forgotten()
        numbered = list(state.events())
        if state.forgotten() == before:
            return frozenset(before), numbered


def _place(run: Path, newest: Newest, content: str) -> Path:
    """The folder to be made: that of a refresh which was begun with the same and killed, else one that nothing is called so far.
    Of one that was begun with less, what is there is removed: refreshes made it, and nobody was served with it."""
    begun, of = unfinished(run)
    if begun and of == content:
        for name in begun:
            if name.startswith("."):  # half-written
                shutil.rmtree(run.with_name(name), ignore_errors=True)
        return run.with_name(begun[0])
    for name in begun:
        if name not in newest.made:
            shutil.rmtree(run.with_name(name), ignore_errors=True)
    mine = re.compile(re.escape(run.name) + r"-(\d+)(-data|-final)?")
    made = (*newest.made, newest.folder.name)
    number = 1 + max((int(found[1]) for name in made if (found := mine.fullmatch(name))), default=0)
    while any(run.with_name(f"{run.name}-{number}{end}").exists() for end in ("", "-data", "-final")):
        number += 1
    base = run.with_name(f"{run.name}-{number}")
    write_whole(run / PLAN, json.dumps({"folder": base.name, "content": content}).encode())
    return base


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
    there = set(users)
    users += list(dict.fromkeys(e.user_id for e in events if e.user_id not in there))
    new = [one for one in kept if one.item_id not in data.items.rows_by_key]
    known = {*data.items.keys, *(one.item_id for one in new)}
    items = Ids("item", (*data.items.keys, *(one.item_id for one in new)))
    people = Ids("user", tuple(users))
    pairs = {
        (data.users.keys[u], int(i)) for u, i in zip(old.user[stay].tolist(), old.item[stay].tolist(), strict=True)
    }
    more: dict[tuple[str, int], Event] = {}
    for event in events:
        pair = (event.user_id, items.rows_by_key.get(event.item_id, -1))
        if event.item_id in known and pair not in pairs:
            more.setdefault(pair, event)
    added = sorted(more.items(), key=lambda one: one[1].at)

    def column(name: str, values: Sequence[Any]) -> np.ndarray | None:
        before = getattr(old, name)
        if before is None:
            return None
        kind = np.result_type(before, np.float64) if name == "time" and values else np.asarray(before).dtype
        return np.concatenate([np.asarray(before, kind)[stay], np.asarray(values, kind)])

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
    rows[np.isin(rows, list(lost))] = -1  # under an old id, somebody new
    fields = {
        name: tuple(None if r < 0 else values[r] for r in rows.tolist()) for name, values in data.user_fields.items()
    }
    features = {
        name: _longer(part, items, part.ids.rows(items.keys))
        if part.ids.kind == "item"
        else _longer(part, people, rows)
        for name, part in data.features.items()
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
    for name in dict.fromkeys([*catalog.numbers, *(name for one in kept for name in one.numbers)]):
        series = catalog.numbers.get(name, pl.Series([None] * len(catalog.items), dtype=pl.Float64))
        values = [put[key].numbers.get(name) if key in put else series[row] for row, key in enumerate(items.keys)]
        numbers[name] = pl.Series(name, values, dtype=series.dtype, strict=False)
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


def _longer(part: Features, ids: Ids, rows: np.ndarray) -> Features:
    """Its rows under other ids; gaps for who is new, row -1."""
    values = np.where((rows >= 0)[:, None], part.values[np.maximum(rows, 0)], 0)
    return Features(ids, values, part.present[np.maximum(rows, 0)] & (rows >= 0), part.source)
