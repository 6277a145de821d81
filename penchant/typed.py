"""TOML's tables into types: what is misspelt, missing or of another type is named, with where it stands."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from penchant.errors import BadRecipe, BadSetting, UnknownKey
from penchant.limits import lowest
from penchant.model import Model

__all__ = ["copied", "made", "put", "table", "typed"]

NET = '{ name = "lightgcn", dim = 32 }'


def made(where: str, cls: type[Any], raw: Any, hidden: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> Any:
    """A dataclass from a TOML table, values checked against its fields, less the `hidden`. also: keys read elsewhere.

    A class whose settings may be lower than is usual says so in `least`.
    """
    raw = table(where, raw)
    hints = typing.get_type_hints(cls)
    names = {f.name.rstrip("_"): f for f in fields(cls) if f.name not in hidden}
    for key in raw:
        if key not in names:
            raise UnknownKey(where, key, [*names, *also])
    for name, f in names.items():
        if name not in raw and f.default is MISSING and f.default_factory is MISSING:
            example = f". Add:  {name} = {_usual(cls)}" if _takes_model(hints[f.name]) else ""
            raise BadRecipe(f"{where} lacks `{name}`{example}")
    values = {}
    for key, value in raw.items():
        f, least = names[key], lowest(cls, key)
        if isinstance(value, int | float) and not least <= value < math.inf:
            raise BadSetting(f"{where} {key} = {value} must be {least} or more, and finite")
        if value == 0 and key.split("_")[0] == "temperature":
            raise BadSetting(
                f"{where} {key} = {value} must be above 0: similarities are divided by it. Usual:  {key} = 0.2"
            )
        meant = _takes_model(hints[f.name]) and value != "none"
        if meant != isinstance(value, Model):
            wanted = f"a model is meant here, e.g. {key} = {_usual(cls)}" if meant else "no model is meant here"
            raise BadSetting(f"{where} {key} = {_short(value)}: {wanted}")
        values[f.name] = value if isinstance(value, Model) else typed(f"{where} {key}", hints[f.name], value)
    return cls(**values)


def _usual(cls: type[Any]) -> str:
    """A backbone as a recipe writes it; a class that takes none of these says so in `usual_backbone`."""
    return str(getattr(cls, "usual_backbone", NET))


def _takes_model(hint: Any) -> bool:
    """A model, or a model or None."""
    return hint is Model or Model in typing.get_args(hint)


def typed(where: str, hint: Any, value: Any) -> Any:
    """`value` as the type that is meant: a TOML array may be a tuple, 3 may be 3.0, but true is not 1 nor "3" a 3.

    TOML has no word for None; "none" says it where None is possible and words are not.
    """
    kinds = typing.get_args(hint)
    if value == "none" and type(None) in kinds and str not in kinds:
        return None
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError) as error:  # a TypeError where TOML's date or time is not meant
        said = error.errors()[0]["msg"].lower() if isinstance(error, ValidationError) else "no date is meant here"
        raise BadSetting(f"{where} = {value!r}: {said}") from None


def _short(value: Any) -> str:
    return f'{{ name = "{value.name}" ... }}' if isinstance(value, Model) else repr(value)


def table(where: str, raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise BadSetting(f"{where} must be a table, not {raw!r}")
    return raw


def copied(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: copied(value) if isinstance(value, Mapping) else value for key, value in raw.items()}


def put(raw: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise BadRecipe(f"--set {'.'.join(path)}: `{part}` is not a table")
    raw[last] = value
