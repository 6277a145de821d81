"""Sayings: what is written about each user in a few phrases each, and what she said of items; so that reasons have words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant import inputs
from penchant.data import Dataset, Interactions
from penchant.drives import Drives, named
from penchant.enrich import Written
from penchant.lm.phrases import Background, key_phrases, words_of
from penchant.model import Recommender
from penchant.recipe import Recipe
from penchant.scorers import Motivated
from penchant.store import Store
from penchant.texts import Texts

__all__ = ["drives"]

MOST = 6  # phrases of one user


def drives(
    recipe: Recipe, rec: Recommender, data: Dataset, train: Interactions, written: Sequence[Written], store: Store
) -> Drives | None:
    """Names for the motivations of a fitted model, from the texts that it was fitted with; None where it has none.

    train: the part that the model and its texts have seen; nothing else is quoted.
    """
    if not isinstance(rec.scorer, Motivated):
        return None
    said: list[Sequence[str]] = [()] * len(rec.users)
    for name in recipe.inputs:
        texts, replies = _about_users(recipe, name, data, written, store)
        if texts is None or texts.ids.kind != "user":
            continue
        rows = texts.ids.rows(rec.users.keys)
        own = _phrases(texts, replies)
        said = [own[at] if at >= 0 else () for at in rows]
        break
    return Drives(named(rec.scorer, said), _reviews(train))


def _about_users(
    recipe: Recipe, name: str, data: Dataset, written: Sequence[Written], store: Store
) -> tuple[Texts | None, Sequence[str | None]]:
    """The texts of an input, and the replies that they were made from."""
    spec = recipe.inputs[name]
    source = spec.from_[0]
    for made in written:
        if made.texts.source.made_by.removeprefix("enrich:").partition("@")[0] == Path(source).stem:
            return made.texts, store.beside(made.ref, "reply")
    if source.startswith("users."):
        texts = inputs.column(name, source, spec, data)
        return texts, (None,) * len(texts.ids)
    return None, ()


def _phrases(texts: Texts, replies: Sequence[str | None]) -> list[Sequence[str]]:
    """Drivers where a language model ranked them, else the phrases that are rarest in others' texts."""
    ranked = [_drivers(raw) for raw in replies]
    if any(ranked):
        return ranked
    background = Background.of(text for text in texts.values if text)
    return [
        [phrase.text for phrase in key_phrases([words_of(text)], background, MOST)] if text else ()
        for text in texts.values
    ]


def _drivers(raw: str | None) -> Sequence[str]:
    reply: Any = json.loads(raw) if raw else {}
    found = reply.get("drivers", ()) if isinstance(reply, dict) else ()
    return [str(driver) for driver in found][:MOST]


def _reviews(train: Interactions) -> Mapping[tuple[str, str], str]:
    if train.review is None:
        return {}
    users, items = train.users.keys, train.items.keys
    rows = zip(train.user.tolist(), train.item.tolist(), train.review, strict=True)
    return {(users[u], items[i]): review for u, i, review in rows if review}
