"""Binding: whether an input belongs to the interactions that a model is fitted to, and saw nothing else."""

from __future__ import annotations

from penchant.catalog import Catalog, Pictures
from penchant.data import Interactions, digest
from penchant.errors import BadInput, Leak, Misaligned
from penchant.features import Features, align
from penchant.graph import Graph
from penchant.leaky import is_admitted
from penchant.texts import LEAKING, Texts

__all__ = ["Input", "checked", "print_of", "vectors"]

Input = Features | Graph


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
    if isinstance(value, Features):
        return value.hash
    return digest(value.rows.kind, value.cols.kind, value.matrix.indptr, value.matrix.indices, value.matrix.data)


def checked(name: str, value: Input, train: Interactions) -> Input:
    """Aligned, and of this train part or of what noise was added to: no leak, it saw nothing but what is trained on. The one
    exception is what a leaky run has admitted, see leaky.py."""
    seen = value.interactions if isinstance(value, Graph) else (value.source.interactions,)
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
    try:
        return align(value, train.users if value.ids.kind == "user" else train.items)
    except Misaligned as error:
        raise Misaligned(f"input `{name}`: {error}") from None
