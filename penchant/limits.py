"""Limits: how low a setting may be, by its name; the same in a recipe and in Python."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass
from numbers import Real
from typing import Any

from penchant.errors import BadSetting

__all__ = ["check", "lowest"]

# of which there must be one
COUNTS = ("dim", "content_dim", "hidden", "negatives", "neighbours", "k_core", "prototypes", "contrast", "length")


def lowest(cls: type[Any], name: str) -> float:
    """The least a setting of this name may be. A class whose settings may be lower than is usual says so in `least`."""
    return getattr(cls, "least", {}).get(name, int(name in COUNTS))


def check(model: Any, where: str = "[model]") -> None:
    """Raises BadSetting for the first number among a model's settings, or among those of a model that it holds, that a recipe
    refuses too: too low, not finite, or a temperature of 0."""
    for f in fields(model):
        value, least = getattr(model, f.name), lowest(type(model), f.name)
        if is_dataclass(value):
            check(value, f"{where} {f.name}")
        if not isinstance(value, Real):
            continue
        number = float(value)
        wrong = "" if least <= number < math.inf else f"{least:g} or more" if not number >= least else "finite"
        if not number and f.name.split("_")[0] == "temperature":
            wrong = "above 0: similarities are divided by it"
        if wrong:
            usual = f.default if f.default is not None else 0.2 if f.name.startswith("temperature") else 100
            then = "" if f.default is MISSING else f":  {f.name} = {usual}"
            raise BadSetting(f"{where} {model.name} {f.name} = {value} must be {wrong}{then}")
