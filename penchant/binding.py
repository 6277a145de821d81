"""Binding: whether an input belongs to the interactions that a model is fitted to, and saw nothing else."""

from __future__ import annotations

import re

import numpy as np

from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions, digest
from penchant.errors import BadInput, Leak, Misaligned
from penchant.features import Features, align
from penchant.graph import Graph
from penchant.leaky import is_admitted
from penchant.notes import Notes
from penchant.texts import LEAKING, Texts

__all__ = ["PLAIN", "Input", "checked", "kind_of", "meant", "print_of", "vectors"]

Input = Features | Graph | Texts | Notes | Pictures

KINDS: dict[str, type] = {"Features": Features, "Graph": Graph, "Texts": Texts, "Notes": Notes, "Pictures": Pictures}
"""By the annotation of a parameter of `build`."""
PLAIN = ("Texts", "Notes", "Pictures")  # taken as they are, and not as vectors


def kind_of(annotation: object) -> str:
    """The kind of input that a parameter of `build` is annotated with, e.g. "Texts | None". "Features" where that tells nothing."""
    named = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return next((kind for kind in KINDS if kind in re.findall(r"\w+", named)), "Features")


def meant(name: str, value: object, kind: str) -> None:
    """Raises BadInput when an input is of another kind than is asked for."""
    if kind == "Features":
        if not isinstance(value, Graph):
            vectors(name, value)
    elif not isinstance(value, KINDS[kind]):
        made = {"Texts": 'Texts(ids, values, Provenance("mine"))', "Pictures": "data.catalog.pictures"}
        made |= {"Notes": 'Comprehension.open({"prompt": "preference_step", "lm": "extractive"}, texts, store)'}
        then = made.get(kind, "penchant.graph.knn(features, 10)")
        raise BadInput(f"input `{name}` is a {type(value).__name__}, and {kind} is meant. Give it:  {name} = {then}")


def vectors(name: str, value: object) -> None:
    """Raises BadInput when an input is anything else than Features."""
    if isinstance(value, Features):
        return
    encoded = 'penchant.encode.texts(texts, "minilm", store)'
    if isinstance(value, Texts):
        what, then = "texts", f"Encode them:  {name} = {encoded}"
    elif isinstance(value, Pictures):
        what, then = "pictures", f'Encode them:  {name} = penchant.encode.pictures(pictures, "layout", store)'
    elif isinstance(value, Catalog):
        what, then = "a catalogue", f"Encode its words:  texts = catalog.texts();  {name} = {encoded}"
    elif isinstance(value, str) or (isinstance(value, list | tuple) and any(isinstance(v, str) for v in value)):
        made = 'Texts(ids, tuple(values), Provenance("mine"))'
        what, then = "text", f"Encode it:  texts = {made};  {name} = {encoded}"
    else:
        what = f"a {type(value).__name__}"
        then = (
            f'Say whose rows they are:  {name} = Features(ids, values, np.ones(len(values), bool), Provenance("mine"))'
        )
    raise BadInput(f"input `{name}` is {what}, but vectors are meant, an object of penchant.features.Features. {then}")


def print_of(value: Input) -> str:
    """Hash of an input's content; rows are those of train already."""
    if not isinstance(value, Graph):
        return value.hash
    return digest(value.rows.kind, value.cols.kind, value.matrix.indptr, value.matrix.indices, value.matrix.data)


def checked(name: str, value: Input, train: Interactions) -> Input:
    """Aligned, and of this train part or of what noise was added to: no leak, it saw nothing but what is trained on. The one
    exception is what a leaky run has admitted, see leaky.py."""
    if isinstance(value, Pictures):
        return _in_rows(value, train.items)
    seen: tuple[str | None, ...] = value.interactions if isinstance(value, Graph) else (value.source.interactions,)
    if isinstance(value, Notes):
        seen = (*seen, value.remarked)
    for origin in seen:
        let = isinstance(value, Features) and is_admitted(value.source, train)
        if origin not in (None, train.hash, train.grown_from) and not let:
            short = origin[: 8 + len(LEAKING) * origin.startswith(LEAKING)]
            raise Leak(
                f"`{name}` was written from interactions {short}, but this split's train part is {train.hash[:8]}. "
                "Rebuild it from this split's train part:  penchant enrich ..."
            )
    if isinstance(value, Graph):
        for ids in (value.rows, value.cols):
            if ids != (train.users if ids.kind == "user" else train.items):
                raise Misaligned(f"input `{name}`: a graph of other {ids.kind}s than these interactions. Make it anew.")
        return value
    if isinstance(value, Texts):
        if value.ids.kind != "item" and not name.startswith("user"):
            raise Misaligned(
                f'input `{name}` is texts about {value.ids.kind}s, and texts about items are meant:  {name} = {{ from = "item_summary" }}'
            )
        ids = train.users if value.ids.kind == "user" else train.items
        told = dict(zip(value.ids.keys, value.values, strict=True))
        return value if value.ids == ids else Texts(ids, tuple(told.get(key) for key in ids.keys), value.source)
    if isinstance(value, Notes):
        if value.items != train.items:
            raise Misaligned(
                f"input `{name}`: notes on other items than these interactions have. Give it texts of these."
            )
        return value
    try:
        return align(value, train.users if value.ids.kind == "user" else train.items)
    except Misaligned as error:
        raise Misaligned(f"input `{name}`: {error}") from None


def _in_rows(pictures: Pictures, items: Ids) -> Pictures:
    rows = pictures.items.rows(items.keys)
    where = np.where(rows >= 0, pictures.where[rows], -1)
    return Pictures(items, where, pictures.source, pictures.column)
