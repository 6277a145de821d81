"""Leaky: the one exception to "what writes about people sees train alone": a published setting, repeated to measure its leak.

Texts about people are written from `everything`, whose hash no other interactions have. What is made from it carries that hash
wherever it goes, into cards, vectors and reports, so `fit` refuses it for any train part (Leak). `run` alone, for a recipe that
says leaky = "reproduce-paper", has it `admitted` for the train part at hand; that is never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from penchant.data import Interactions
from penchant.errors import BadSetting, Leak
from penchant.features import Features
from penchant.split import PARTS, Split
from penchant.texts import LEAKING, Provenance

__all__ = [
    "REPRODUCE",
    "Admitted",
    "AllChoices",
    "admitted",
    "check",
    "everything",
    "is_admitted",
    "refuse_final",
    "refuse_set",
]

REPRODUCE = "reproduce-paper"
EXAMPLE = 'user_preferences = { from = "user_preference", lm = "extractive", encoder = "minilm" }'
MODELS = ("mllmrec",)


class AllChoices(Interactions):
    """Train, valid and test together. The hash is marked, so it is not that of the same choices in a `--final` fit either."""

    @cached_property
    def hash(self) -> str:
        return LEAKING + super().hash


COLUMNS = ("users", "items", "user", "item", "time", "position", "value", "review")


@dataclass(frozen=True)
class Admitted(Provenance):
    """The origin of leaking features that a recipe lets into one fit. into: hash of the train part of that fit."""

    into: str = ""


def everything(split: Split, parts: Sequence[str] = PARTS) -> AllChoices:
    """All choices of a split, held-out ones too, for those who write texts in a leaky run. parts: only these, to tell apart
    what each of them adds."""
    joined = split.known(parts)
    return AllChoices(**{name: getattr(joined, name) for name in COLUMNS})


def admitted(made: Mapping[str, Any], train: Interactions) -> dict[str, Any]:
    """The inputs of a leaky run, those that leak let into fits on this train part. Raises BadSetting where none does."""
    if not any(_leaks(given) for given in made.values()):
        raise BadSetting(
            "leaky writes texts about people from all their choices, and no input of this recipe is written so. "
            f"In [inputs]:  {EXAMPLE}"
        )
    return {name: _let(given, train) if _leaks(given) else given for name, given in made.items()}


def _leaks(given: Any) -> bool:
    """Of Features and texts; pictures have no origin."""
    return isinstance(getattr(given, "source", None), Provenance) and given.source.leaking


def _let(features: Features, train: Interactions) -> Features:
    s = features.source
    source = Admitted(s.made_by, s.parents, s.interactions, s.cost_usd, s.created, into=train.hash)
    return replace(features, source=source)


def is_admitted(source: Provenance, train: Interactions) -> bool:
    """Whether a leaky run has let this into fits on this train part."""
    return isinstance(source, Admitted) and source.into == train.hash


def refuse_final(said: str | None) -> None:
    """Raises Leak: what a leaky run leaves is a number to be measured by, never a model to be used."""
    if said is not None:
        raise Leak(
            "--final makes a model for use, and this recipe leaks, to measure what that adds. Use the honest twin of the recipe, "
            "without `leaky`:  penchant run RECIPE.toml --final"
        )


def refuse_set(path: Sequence[str]) -> None:
    """Raises BadSetting for `--set leaky=...`: a leak is written down in a recipe, where everybody reads it."""
    if path[0] == "leaky":
        raise BadSetting(
            f'--set leaky: a leak is named in the recipe itself or not at all. In the file:  leaky = "{REPRODUCE}"'
        )


def check(said: str | None, model: str, inputs: Any, search: Any, noise: Any) -> None:
    """Of a recipe that says leaky = ...: raises BadSetting where that would go beyond repeating the published number."""
    if said is None:
        return
    if said != REPRODUCE:
        raise BadSetting(f'leaky = {said!r}: the only leak that is repeated is a paper\'s:  leaky = "{REPRODUCE}"')
    if model not in MODELS:
        raise BadSetting(
            f'leaky = "{REPRODUCE}" is for {", ".join(MODELS)}, whose published code reads held-out choices. Leave out leaky'
        )
    for name, given in (("search", search), ("noise", noise)):
        if given:
            raise BadSetting(
                f"[{name}] in a leaky recipe: nothing is tuned or compared by numbers that prove nothing. Leave out [{name}], "
                "or leaky, and give both recipes of a pair the settings that the honest one chose"
            )
    if "user_preferences" not in inputs:
        raise BadSetting(
            f"leaky writes texts about people from all their choices, and this recipe has none: without them a user is the "
            f"mean of her train items, which cannot leak. Add to [inputs]:  {EXAMPLE}"
        )
