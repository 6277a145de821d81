"""Identity: the code that decides a run's numbers, as a hash."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from penchant.data import digest
from penchant.model import Model

__all__ = ["code"]

DECIDES = """among batches features fibres fused fusion hops intakes judge judging losses metrics modal motivation nn notes plugin ranker ranking
readers row_adam scorers sequence split strands thin topk towers train woven enrich/comprehension lm/sharing lm/tiny lm/tuned
lm/wording"""


def code(model: Model) -> str:
    """Hash of the code that decides a run's numbers: a run is not continued with other code than it was begun with."""
    here = Path(__file__).parent
    files = (here / f"{name}.py" for name in [*DECIDES.split(), *_files(model)])
    return digest(*(file.read_bytes() for file in files if file.exists()))


def _files(model: Model) -> list[str]:
    """Of a model and of the models that it holds."""
    held = (getattr(model, f.name) for f in fields(model))  # type: ignore[arg-type]
    return [f"models/{model.name}", *(name for part in held if isinstance(part, Model) for name in _files(part))]
