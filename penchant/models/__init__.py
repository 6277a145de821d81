"""One model, one file. Saving a file here and naming its model below registers it.

Names are looked up when asked for, so that a model that needs no torch is used without importing it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from penchant.errors import BadRecipe, near

if TYPE_CHECKING:
    from penchant.model import Model

__all__ = [
    "AutoCf",
    "Bert4rec",
    "Bm3",
    "Bpr",
    "Dccf",
    "Dmesr",
    "Dpcml",
    "Ease",
    "Freedom",
    "Gccf",
    "Gru4rec",
    "Hstu",
    "ItemKnn",
    "LightGcn",
    "Lirdrec",
    "Lmmrec",
    "MllmMsr",
    "MllmSrec",
    "Mllmrec",
    "Popular",
    "Rerank",
    "Rlmrec",
    "Sasrec",
    "Sgl",
    "SimGcl",
    "Vbpr",
    "Weave",
    "by_name",
]

FILES = {name: name.lower() for name in __all__ if name != "by_name"} | {
    "ItemKnn": "item_knn",
    "MllmMsr": "mllm_msr",
    "MllmSrec": "mllm_srec",
}


def __getattr__(name: str) -> Any:
    if name not in FILES:
        raise AttributeError(f"module 'penchant.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"penchant.models.{FILES[name]}"), name)


def by_name(name: str) -> type[Model]:
    """The model class that recipes call `name`, e.g. "lightgcn". Raises BadRecipe with the nearest name."""
    known = {file: cls for cls, file in FILES.items()}
    if name not in known:
        raise BadRecipe(f"no model called {name!r}.{near(name, known)} There are: {', '.join(sorted(known))}")
    return __getattr__(known[name])
