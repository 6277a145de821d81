"""Identity: what makes two runs the same work, as a hash: recipe, data, inputs, the code that decides numbers, base models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penchant.data import digest
from penchant.encode.weights import Weights
from penchant.model import Model
from penchant.recipe import Recipe
from penchant.seeds import Prepared
from penchant.told import parts

__all__ = ["code", "of"]

DECIDES = """album among batches features fibres fused fusion hops intakes judge judging losses metrics modal motivation nn notes plugin ranker ranking
readers row_adam scorers sequence split strands thin topk towers train woven enrich/comprehension enrich/remarks lm/amass lm/chat lm/fence lm/local lm/sharing lm/sight
lm/template lm/tiny lm/tokens lm/tuned lm/wording training"""


def code(model: Model) -> str:
    """Hash of the code that decides a run's numbers: a run is not continued with other code than it was begun with."""
    here = Path(__file__).parent
    names = [*DECIDES.split(), *(f"models/{part.name}" for part in parts(model))]
    files = (here / f"{name}.py" for name in names)
    return digest(*(file.read_bytes() for file in files if file.exists()))


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
    named = (str(getattr(part, "base", "") or "").removeprefix("local:") for part in parts(model))
    folders = (Path(base).expanduser() for base in named if base)
    return [Weights(folder.name, folder).revision for folder in folders if folder.is_dir()]
