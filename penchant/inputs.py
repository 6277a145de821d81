"""What a recipe names, found and made: the data set, its split, and the model's inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant import encode, enrich, features, folder, lm, metrics, shop, sources, split
from penchant.data import Dataset, Interactions
from penchant.enrich import Written
from penchant.errors import BadInput, BadSetting, MissingFile, MissingInput, near
from penchant.features import Features
from penchant.lm.spending import Budget
from penchant.recipe import InputSpec, Recipe, SplitSpec
from penchant.split import Split
from penchant.store import Store
from penchant.texts import Provenance, Texts, joined

__all__ = ["Asking", "asking", "asks", "check", "find", "is_prompt", "make_input", "make_split", "open_data"]

Progress = Callable[[str, int, int], None]


def open_data(name: str, store: Store, interactions: str = "interactions", min_rating: float | None = None) -> Dataset:
    """A data set by name or path: "shop" (or "shop:3" for another seed), a folder, or a name in PENCHANT_DATA.

    A folder that is not canonical is imported into the store once, keyed by the hash of its files.
    """
    head, _, seed = name.partition(":")
    if head == "shop" and not Path(name).exists():
        if not (seed or "0").isdecimal():
            raise BadSetting(f'data = "{name}": the shop\'s seed must be a whole number, 0 or more, e.g. "shop:3"')
        return shop.make(seed=int(seed or 0)).dataset
    path = find(name)
    if not folder.is_canonical(path):
        place = store.data(_print(path))
        if not folder.is_canonical(place):
            try:
                sources.import_("parquet", path, place)
            except BadInput:
                if not folder.is_canonical(place):  # else another process was faster, with the same
                    raise
        path = place
    data = folder.read(path, interactions=interactions, min_rating=min_rating)
    return replace(
        data, name=Path(name).name if interactions == "interactions" else f"{Path(name).name}/{interactions}"
    )


def find(name: str) -> Path:
    """The folder of a data set. Raises MissingFile with the names there are."""
    if Path(name).is_dir():
        return Path(name)
    known = []
    for root in filter(None, os.environ.get("PENCHANT_DATA", "").split(os.pathsep)):
        if (Path(root) / name).is_dir() and not Path(name).is_absolute() and ".." not in Path(name).parts:
            return Path(root) / name
        known += [p.name for p in Path(root).iterdir() if p.is_dir()] if Path(root).is_dir() else []
    where = "PENCHANT_DATA lists no folder" if not known else f"PENCHANT_DATA has: {', '.join(sorted(known))}"
    raise MissingFile(
        f'no data set {name!r}.{near(name, known)} {where}. Give a path, set PENCHANT_DATA, or use  data = "shop"'
    )


def _print(path: Path) -> str:
    sha = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        sha.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as opened:
            sha.update(hashlib.file_digest(opened, "sha256").digest())
    return sha.hexdigest()


def make_split(data: Dataset, spec: SplitSpec) -> Split:
    """The split that a recipe asks for."""
    chosen = data.interactions
    if spec.k_core is not None:
        if spec.by == "given":
            raise BadSetting("k_core with a given split would change the published parts; leave it out")
        chosen = split.k_core(chosen, spec.k_core)
    if spec.by == "given":
        return split.given(chosen, data.given)
    if spec.by == "leave_last_out":
        return split.leave_last_out(chosen, spec.seed)
    if spec.by == "by_ratio":
        return split.by_ratio(chosen, spec.ratios, spec.seed, spec.chronological)
    if spec.by == "by_time":
        return split.by_time(chosen, spec.ratios, spec.seed)
    return split.cold_items(chosen, spec.share, spec.seed)


def check(recipe: Recipe, split: Split) -> None:
    """Raises BadSetting for what could only fail in validation or evaluation, so that nothing is trained in vain."""
    task = recipe.task
    if recipe.training.device.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise BadSetting(f'[training] device = {recipe.training.device!r}: choose "auto", "cpu" or "cuda"')
    for name in (recipe.training.select, *task.metrics):
        if metrics.parse(name).of_lists:
            raise BadSetting(f"`{name}` is of whole lists; validation and evaluation need ranks, e.g. recall@20")
    if task.only_cold and split.cold is None:
        raise BadSetting('[protocol] only_cold: the split has no cold items. Use:  split = { by = "cold_items" }')
    asked = split.part(task.part)
    if split.cold is not None and task.only_cold:
        asked = asked.take(np.isin(asked.item, split.cold))
    held = np.bincount(asked.user, minlength=len(split.users))
    if not len(asked):
        raise BadSetting(f"the {task.part} part is empty: nothing to measure on.{_larger(recipe.split, split)}")
    if recipe.search and not len(split.valid):
        raise BadSetting(f"[search] chooses on the valid part, which is empty.{_larger(recipe.split, split)}")
    if not (held >= task.min_test).any():
        raise BadSetting(
            f"[protocol] min_test = {task.min_test}: no user has so many held-out items in {task.part}; "
            f"the most is {held.max()}. Lower min_test, or hold out more.{_larger(recipe.split, split)}"
        )
    if task.candidates is not None:
        chosen = np.bincount(split.known(("train", "valid", "test")).user, minlength=len(split.users))
        left = len(split.items) - int(chosen[held >= task.min_test].max())
        if task.candidates.items - 1 > left:
            raise BadSetting(
                f"[protocol] candidates = {task.candidates.items}: some user leaves only {left} items unchosen; "
                f"at most {left + 1} candidates are possible"
            )


def _larger(spec: SplitSpec, split: Split) -> str:
    """How to split so that small histories leave something to every part."""
    if spec.by not in ("by_ratio", "leave_last_out"):
        return ""
    count = np.bincount(split.known(("train", "valid", "test")).user, minlength=len(split.users))
    middle = int(np.median(count[count > 0]))
    typical = f" A typical user has {middle} choice{'s' if middle != 1 else ''}"
    if middle < 3:  # too few to be parted person by person
        first = "" if split.train.time is not None else "add a `timestamp` column to the log, and then  "
        return f'{typical}, too few for a part of each. Part them by moments:  {first}split = {{ by = "by_time" }}'
    if spec.by == "leave_last_out":
        return f"{typical}; leave_last_out needs three."
    return (
        f"{typical}, of which shares are rounded down. Try  split.ratios = [0.5, 0.25, 0.25],  "
        'or  split = { by = "leave_last_out" }'
    )


def make_input(
    name: str,
    spec: InputSpec,
    data: Dataset,
    store: Store,
    progress: Progress | None = None,
    train: Interactions | None = None,
    written: list[Written] | None = None,
) -> Features:
    """Features for one input of a recipe, written and encoded where needed, cached in the store.

    train: the part that texts about people may be written from. written: takes what language models wrote.
    """
    if spec.items is not None and not any(source == "catalog.text" or is_prompt(source) for source in spec.from_):
        raise BadSetting(
            f"[inputs] {name}: items = {spec.items!r} puts texts before the catalogue's, and {', '.join(spec.from_)} has "
            f'none. Leave it out, or take  from = "catalog.text"'
        )
    parts = [_one(name, source, spec, data, store, progress, train, written) for source in spec.from_]
    if spec.centred:
        parts = [part.centred().unit() for part in parts]
    return parts[0] if len(parts) == 1 else features.join(parts)


def asks(spec: InputSpec) -> bool:
    """Whether an input is written by a language model."""
    return spec.items is not None or any(is_prompt(source) for source in spec.from_)


def is_prompt(source: str) -> bool:
    return source in enrich.prompts.names() or source.endswith(".md")


def _one(
    name: str,
    source: str,
    spec: InputSpec,
    data: Dataset,
    store: Store,
    progress: Progress | None,
    train: Interactions | None,
    written: list[Written] | None,
) -> Features:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total)

    title = f"{data.name} {source}"
    head, _, rest = source.replace("/", ".", 1).partition(".")
    if head == "features":
        if rest not in data.features:
            there = ", ".join(sorted(data.features)) or "none"
            raise MissingInput(f"[inputs] {name}: {data.name} has no features {rest!r}; it has: {there}")
        return data.features[rest]
    if source == "catalog.image":
        if not data.catalog.pictures.present.any():
            raise MissingInput(
                f"[inputs] {name}: {data.name} has no pictures. Add them (images/ITEM_ID.jpg) and import again, or take words:  "
                'from = "catalog.text"'
            )
        return encode.pictures(data.catalog.pictures, encode.open_image(spec.encoder or "layout"), store, report, title)
    ask = Asking(name, spec, data, store, report, train, written)
    if is_prompt(source):
        texts = ask(source, items=spec.items, through=spec.through)
    else:
        texts = column(name, source, spec, data)
        if source == "catalog.text" and spec.items is not None:
            texts = joined(ask(spec.items), texts)
        if not texts.present.any():
            raise MissingInput(f"[inputs] {name}: {data.name} has no text in {source}")
    return encode.texts(texts, encode.open_text(spec.encoder or "minilm"), store, report, title)


@dataclass(frozen=True)
class Asking:
    """Has a prompt's texts written for one input of a recipe."""

    name: str
    spec: InputSpec
    data: Dataset
    store: Store
    report: Callable[[int, int], None]
    train: Interactions | None
    written: list[Written] | None

    def __call__(self, prompt: str, **how: Any) -> Texts:
        spec = self.spec
        if spec.lm is None:
            raise BadSetting(
                f'[inputs] {self.name}: who writes {prompt}? Add  lm = "extractive"  (rules, no language model) or  lm = "openai:MODEL"'
            )
        model = lm.open(spec.lm, self.store, **asking(spec))
        how |= {"category": spec.category, "title": self.data.name}
        made = enrich.write(prompt, self.train, self.data.catalog, model, self.store, _Steps(self.report), **how)
        if self.written is not None:
            self.written.extend([*made.stages, made])
        return made.texts


def asking(spec: InputSpec) -> dict[str, Any]:
    """How whoever writes for an input is asked: settings of `lm.open`."""
    found: dict[str, Any] = {"parallel": spec.parallel}
    found |= {} if spec.context is None else {"context": spec.context}
    return found | ({} if spec.budget_usd is None else {"budget": Budget(spec.budget_usd)})


def column(name: str, source: str, spec: InputSpec, data: Dataset) -> Texts:
    """Texts that came with the data: catalog.text, items.COLUMN, users.COLUMN. Raises MissingInput, BadSetting."""
    head, _, column = source.replace("/", ".", 1).partition(".")
    if source == "catalog.text":
        return data.catalog.texts()
    columns = {"items": data.catalog.fields, "users": data.user_fields}.get(head)
    if columns is None:
        raise BadSetting(
            f"[inputs] {name}: from = {source!r} is not known.{near(source, enrich.prompts.names())} Choose catalog.text, "
            f"catalog.image, items.COLUMN, users.COLUMN, features/NAME, or a prompt: {', '.join(enrich.prompts.names())}"
        )
    if column not in columns:
        kind = " (that is a column of numbers)" if head == "items" and column in data.catalog.numbers else ""
        there = ", ".join(f"{head}.{c}" for c in columns) or "none"
        raise MissingInput(
            f"[inputs] {name}: {data.name} has no text column {source!r}{kind}.{near(column, columns)} It has: {there}"
        )
    written = column not in ("title", "description", "brand", "categories")
    if (head == "users" or written) and spec.origin != "external":
        raise BadSetting(
            f"[inputs] {name}: nobody can check what {source} was written from. "
            f'If you accept that, say so:  {name} = {{ from = "{source}", origin = "external" }}'
        )
    ids = data.items if head == "items" else data.users
    return Texts(
        ids, columns[column], Provenance(f"external:{data.name}/{source}" if written else source, (data.hash,))
    )


class _Steps:
    """A watcher that passes steps on and keeps the stage of its input."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report, self.total = report, 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.total = total or 0

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        self.report(done, total or self.total)
