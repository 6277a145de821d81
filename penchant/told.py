"""Told: inputs of a recipe that are not vectors: texts, notes on histories, pictures, by what the model's `build` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from penchant.binding import PLAIN, Input
from penchant.cards import reference
from penchant.catalog import Pictures
from penchant.data import Dataset, Interactions
from penchant.enrich import Written, prompts
from penchant.enrich.comprehension import Comprehension
from penchant.errors import BadSetting, MissingInput, example, near
from penchant.features import Features
from penchant.graph import Graph
from penchant.inputs import Asking, asking, column, is_prompt
from penchant.model import Model
from penchant.notes import Notes
from penchant.recipe import InputSpec, Recipe
from penchant.report import LmCost
from penchant.store import Store
from penchant.texts import Texts

__all__ = ["describe", "kinds", "make_told", "origin", "parts", "present", "reference_of", "with_notes"]


def kinds(recipe: Recipe) -> dict[str, str]:
    """The kind of each input that some model of the recipe asks for as no vectors, by its name."""
    models = [recipe.model, *(recipe.noise.beside if recipe.noise else ())]
    return {
        need.name: need.kind for model in models for one in parts(model) for need in one.needs() if need.kind in PLAIN
    }


def parts(model: Model) -> Iterator[Model]:
    """A model, and those that are its settings."""
    yield model
    for value in vars(model).values():
        if isinstance(value, Model):
            yield from parts(value)


def make_told(
    name: str,
    kind: str,
    spec: InputSpec,
    data: Dataset,
    store: Store,
    report: Callable[[int, int], None],
    train: Interactions,
    written: list[Written],
) -> Input:
    """Texts, Notes or Pictures for one input of a recipe. Raises BadSetting, MissingInput."""
    if len(spec.from_) > 1 or spec.encoder is not None or spec.centred:
        raise BadSetting(
            f"[inputs] {name} is read as it is: name one source, and no encoder:  {name} = {{ from = ... }}"
        )
    source = spec.from_[0]
    ask = Asking(name, spec, data, store, report, train, written)
    if kind == "Pictures":
        return pictures(name, source, data)
    if kind == "Texts":
        found = (
            ask(source, items=spec.items, through=spec.through)
            if is_prompt(source)
            else column(name, source, spec, data)
        )
        if not found.present.any():
            raise MissingInput(f"[inputs] {name}: {data.name} has no text in {source}")
        return found
    if not is_prompt(source) and source != "catalog.text":
        known = near(source, prompts.names())
        raise BadSetting(f"[inputs] {name}: no prompt {source!r}.{known} Notes are written so:  {example(name)}")
    if not is_prompt(source) or spec.lm is None:
        raise BadSetting(f"[inputs] {name}: who writes {source}? Say so:  {example(name)}")
    lines = data.catalog.texts() if spec.items is None else ask(spec.items)
    facts: dict[str, Any] = {"prompt": source, "lm": spec.lm, "category": spec.category}
    facts |= {n: getattr(spec, n) for n in ("window", "step", "most") if getattr(spec, n) is not None}
    facts |= {"step": spec.window} if spec.window is not None and spec.step is None else {}
    rows = dict(zip(lines.ids.keys, lines.values, strict=True))
    aligned = Texts(data.items, tuple(rows.get(key) for key in data.items.keys), lines.source)
    reader = Comprehension.open(facts, aligned, store, train, **asking(spec))
    return replace(reader, report=report)


def pictures(name: str, source: str, data: Dataset) -> Pictures:
    if source != "catalog.image":
        raise BadSetting(f'[inputs] {name} is pictures as they are:  {name} = {{ from = "catalog.image" }}')
    if not data.catalog.pictures.present.any():
        raise MissingInput(
            f"[inputs] {name}: {data.name} has no pictures. Add them (images/ITEM_ID.jpg) and import again, or leave the input out."
        )
    return data.catalog.pictures


def with_notes(cost: LmCost, inputs: Iterable[Input]) -> LmCost:
    """What language models cost, with what notes asked while a model was fitted and evaluated in this process."""
    names = ("calls", "cached", "tokens_in", "tokens_out")
    for notes in (value for value in inputs if isinstance(value, Notes)):
        more = {name: getattr(cost, name) + int(notes.counts[name]) for name in names}
        cost = LmCost(**more, usd=cost.usd + notes.counts["usd"])
    return cost


def reference_of(value: Input) -> str:
    """Under which name the store has it, or would."""
    if isinstance(value, Features | Texts):
        return reference(value)
    assert not isinstance(value, Graph)
    return f"{type(value).__name__.lower()}/{value.hash[:12]}"


def origin(value: Input) -> tuple[bool, bool]:
    """Whether it came from outside, and whether it leaks."""
    if isinstance(value, Pictures | Graph):
        return False, False
    return value.source.external, value.source.leaking


def describe(recipe: Recipe, name: str) -> str:
    """One line for the report: where an input comes from."""
    spec = recipe.inputs[name]
    by = f" by {spec.lm}" if spec.lm else ""
    encoder = f", encoder {spec.encoder}" if spec.encoder else ""
    first = f"{spec.items}, then " if spec.items and "catalog.text" in spec.from_ else ""
    centred = ", centred" if spec.centred else ""
    return first + " + ".join(spec.from_) + centred + by + encoder


def present(value: Input) -> tuple[int, int]:
    """How many rows of an input hold anything, and how many there are."""
    if isinstance(value, Notes | Graph):
        count = len(value.items if isinstance(value, Notes) else value.rows)
        return count, count
    if isinstance(value, Pictures):
        return int(value.present.sum()), len(value.items)
    own = value.present if isinstance(value, Texts) else value.unit().present
    return int(own.sum()), len(value.ids)
