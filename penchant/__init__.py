"""Penchant: recommends from interactions, words and pictures, and says why.

    import penchant as pc

    data = pc.read("data/shop")
    split = pc.split.leave_last_out(data.interactions)
    rec = pc.models.LightGcn().fit(split.train, split.valid, pc.Training(seed=0))
    pc.evaluate(rec, split, part="test", at=(10, 20)).mean
    rec.recommend(["u1", "u2"], k=10)

Names are imported when they are first used, so that a service that needs no torch does not load it.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# torch's worker threads spin while they wait, which on a busy machine can make small operations ten times slower.
# The variable is read once, when torch is first imported; what the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = [
    "Store",
    "Training",
    "encode",
    "enrich",
    "evaluate",
    "explain",
    "graph",
    "lm",
    "load",
    "metrics",
    "models",
    "read",
    "read_items",
    "shop",
    "split",
]

_MODULES = {"encode", "enrich", "graph", "lm", "metrics", "models", "shop", "split"}
_NAMES = {
    "Store": ("store", "Store"),
    "Training": ("training", "Training"),
    "evaluate": ("ranking", "evaluate"),
    "explain": ("reasons", "explain"),
    "load": ("saved", "read"),
    "read": ("folder", "read"),
    "read_items": ("shelf", "read_items"),
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        module, attribute = _NAMES[name]
        return getattr(importlib.import_module(f"penchant.{module}"), attribute)
    if name in _MODULES:
        return importlib.import_module(f"penchant.{name}")
    raise AttributeError(f"module 'penchant' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
