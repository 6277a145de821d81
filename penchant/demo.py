"""The demo: the whole path on the built-in shop, in about a minute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant import examples, page
from penchant.errors import MissingExtra
from penchant.recipe import Recipe, parse
from penchant.report import Report
from penchant.run import Run, run
from penchant.seeds import Watcher
from penchant.store import Store

__all__ = ["Demo", "make"]

_CONTENT = {
    "text": {"from": "catalog.text", "encoder": "minilm"},
    "image": {"from": "catalog.image", "encoder": "layout"},
}
_MODELS: dict[str, dict[str, Any]] = {
    "popular": {"model": {"name": "popular"}},
    "bpr": {"model": {"name": "bpr", "l2": 1e-4}},
    "vbpr": {"model": {"name": "vbpr", "l2": 1e-4}, "inputs": _CONTENT},
    "lightgcn": {"model": {"name": "lightgcn", "layers": 2, "l2": 1e-4}},
    "lmmrec": {
        "model": {
            "name": "lmmrec",
            "backbone": {"name": "lightgcn", "layers": 2, "l2": 1e-4},
            "reading": "residual",
            "prototypes": 32,
            "temperature_prototypes": 0.1,
            "weight_mcs": 0.03,
            "weight_itcm": 0.1,
            "contrast": 128,
        },
        "inputs": {
            name: {"from": name, "lm": "extractive", "encoder": "minilm"} for name in ("user_motives", "item_motives")
        },
    },
    "weave": {
        "model": {"name": "weave", "backbone": {"name": "lightgcn", "layers": 2, "l2": 1e-4}},
        "inputs": _CONTENT,
    },
    "ease": {"model": {"name": "ease"}, "search": {"model.l2": [50.0, 200.0, 800.0]}},
    "ease-content": {
        "model": {"name": "ease"},
        "inputs": _CONTENT,
        "search": {"model.l2": [200.0, 800.0], "model.alpha": [3.0, 10.0]},
    },
}
_SHARED = {
    "data": "shop",
    "split": {"by": "by_ratio", "chronological": True},
    "training": {"epochs": 60, "batch_size": 1024, "learning_rate": 5e-3, "validate_every": 3, "patience": 4},
    "protocol": {"at": [10, 20], "mask": ["train"], "history": ["train"]},
}


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo leaves: all reports, best first, and the run that the page and the ten items are of."""

    folder: Path
    reports: tuple[Report, ...]
    shown: Run
    user: str


def recipes() -> dict[str, Recipe]:
    """The demo's recipes by name."""
    return {name: parse({**_SHARED, **raw}, f"demo-{name}") for name, raw in _MODELS.items()}


def make(out: Path, store: Store, watch: Watcher | None = None, say: Callable[[str], None] = print) -> Demo:
    """Run every model of the demo into `out`, then write out/report.html of the one that can say most about its reasons:
    LMMRec, or the best on validation where LMMRec was left out."""
    done: dict[str, Run] = {}
    for name, recipe in recipes().items():
        try:
            done[name] = run(recipe, out / name, store, watch, renew=True)
        except MissingExtra as error:
            say(f"left out {name}: {error}")
    kept = done.get("lmmrec") or max(done.values(), key=lambda r: _valid(r))
    others = tuple(r.report for r in done.values() if r is not kept)
    shown = examples.make(kept)
    page.write(out, kept.report, kept.per_user, kept.top, shown, others, examples.audience(kept))
    reports = tuple(sorted((r.report for r in done.values()), key=lambda r: -r.metrics["recall@20"].mean))
    return Demo(out, reports, kept, shown[len(shown) // 2].user_id)


def _valid(made: Run) -> float:
    return made.valid if made.valid is not None else -1.0
