"""Identity: what makes two runs the same work, as a hash: recipe, data, inputs, the code that decides numbers, base models."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from penchant.data import digest
from penchant.encode.weights import Weights
from penchant.model import Model
from penchant.recipe import Recipe
from penchant.seeds import Prepared

__all__ = ["code", "of"]

DECIDES = """among batches features fibres fused fusion hops intakes judge judging losses metrics modal motivation nn notes plugin ranker ranking
readers row_adam scorers sequence split strands thin topk towers train woven enrich/comprehension lm/chat lm/fence lm/local lm/sharing lm/sight
lm/template lm/tiny lm/tokens lm/tuned lm/wording training"""


def code(model: Model) -> str:
    """Hash of the code that decides a run's numbers: a run is not continued with other code than it was begun with."""
    here = Path(__file__).parent
    files = (here / f"{name}.py" for name in [*DECIDES.split(), *_files(model)])
    return digest(*(file.read_bytes() for file in files if file.exists()))


def _files(model: Model) -> list[str]:
    """Of a model and of the models that it holds."""
    held = (getattr(model, f.name) for f in fields(model))  # type: ignore[arg-type]
    return [f"models/{model.name}", *(name for part in held if isinstance(part, Model) for name in _files(part))]


def of(recipe: Recipe, ready: Prepared) -> str:
    """Of a whole run."""
    prints = (f"{name}:{value.hash}" for name, value in sorted(ready.inputs.items()))
    essence = json.dumps(_essence(recipe), sort_keys=True, default=str)
    parts = (ready.split.train.hash, ready.split.valid.hash, ready.split.test.hash)
    return digest(essence, code(recipe.model), *_bases(recipe.model), ready.data.hash, *parts, *prints)


def _essence(recipe: Recipe) -> dict[str, Any]:
    """What is asked for: everything but seeds, claims, the paper's name, and noise, which knows itself."""
    raw = {key: value for key, value in recipe.raw.items() if key not in ("claim", "paper", "noise")}
    if "training" in raw:
        raw["training"] = {key: value for key, value in raw["training"].items() if key != "seeds"}
    return _without(raw)


def _without(table: dict[str, Any]) -> dict[str, Any]:
    """Without how a batch is read, which is not what it is."""
    kept = {key: value for key, value in table.items() if key not in ("accumulate", "recompute")}
    return {key: _without(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _bases(model: Model) -> list[str]:
    """What lies in the folders of the language models that are trained further: other weights are another run."""
    folder = Path(str(getattr(model, "base", ""))).expanduser()
    own = [Weights(folder.name, folder).revision] if str(folder) != "." and folder.is_dir() else []
    held = (getattr(model, f.name) for f in fields(model))  # type: ignore[arg-type]
    return own + [revision for part in held if isinstance(part, Model) for revision in _bases(part)]
