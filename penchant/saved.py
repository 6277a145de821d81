"""The model folder: model.json, ids.json, arrays.safetensors, and stock.safetensors where features of items are kept.

Never pickle. Written beside and renamed, so never half there.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from penchant.data import Ids, Queries
from penchant.errors import BadModel, BadSetting, Leak, MissingFile, some
from penchant.features import Features
from penchant.intake import Intake, Stock
from penchant.intakes import INTAKES
from penchant.model import Recommender
from penchant.ranker import Reranked
from penchant.readers import Attentive, Gated, Pointwise
from penchant.scorers import Factors, ItemToItem, Motivated, Nearest, Popularity, Scorer
from penchant.texts import Provenance
from penchant.thin import Thin
from penchant.towers import Towers
from penchant.training import Curve

__all__ = ["FORMAT", "SCORERS", "coded", "decoded", "read", "scorer_of", "write"]

FORMAT = 1
SCORERS: dict[str, type[Scorer]] = {
    s.kind: s
    for s in (Popularity, ItemToItem, Factors, Motivated, Nearest, Thin, Towers, Attentive, Gated, Pointwise, Reranked)
}
LATE = {"judge": "penchant.judge:Judge"}
"""Scorers that need torch and a language model: found when one of them is read."""
FILES = ("arrays.safetensors", "ids.json", "model.json", "stock.safetensors")


def write(rec: Recommender, folder: Path) -> None:
    """Write `rec`; an older model at the same place is replaced only when the new one is complete.

    Raises BadSetting when the folder holds anything but a model, because replacing it would delete that.
    """
    folder = folder.resolve()
    other = [f.name for f in folder.iterdir() if f.name not in FILES] if folder.is_dir() else []
    if other or (folder.exists() and not folder.is_dir()):
        raise BadSetting(
            f"{folder} holds something else than a model ({some(other or [folder.name])}). Name a new folder."
        )
    partial, old = _beside(folder, "part"), _beside(folder, "old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    arrays = {f"scorer/{name}": np.ascontiguousarray(value) for name, value in rec.scorer.arrays().items()}
    arrays["known/starts"], arrays["known/items"] = rec.known.history_starts, rec.known.history_items
    if rec.seen is not None:
        arrays["seen/starts"], arrays["seen/items"] = rec.seen.history_starts, rec.seen.history_items
    _save(arrays, partial / "arrays.safetensors")
    (partial / "ids.json").write_text(json.dumps({"users": rec.users.keys, "items": rec.items.keys}), "utf-8")
    head: dict[str, Any] = {
        "format": FORMAT,
        "model": rec.name,
        "settings": rec.settings,
        "scorer": rec.scorer.kind,
        "parameters": rec.parameters,
        "leaking": rec.leaking,
        "curve": rec.curve.rows(),
        "sha256": {name: _sha(partial / name) for name in FILES[:2]},
    }
    if rec.stock is not None:
        head["stock"] = _write_stock(rec.stock, rec.scorer.intake, partial / FILES[3])
        head["sha256"][FILES[3]] = _sha(partial / FILES[3])
    (partial / "model.json").write_text(json.dumps(head, indent=1), "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path | str, again: str = "", leaking: bool = False, plain: bool = False) -> Recommender:
    """The recommender saved in `folder`, or in `model` of it: that of a run. Raises MissingFile; BadModel when damaged or from a newer version; Leak for a model
    of a leaky run, which nobody may be served with.

    again: the command that makes it anew, for the messages. leaking: have that one, too; for those who measure it. plain:
    what most people chose in place of its scores, whatever of the rest is damaged or needs what is not here.
    """
    folder = Path(folder)
    train, again = again or "penchant run RECIPE.toml --out DIR", again or "penchant run RECIPE.toml --out DIR --fresh"
    old = _beside(folder.resolve(), "old")
    if not folder.exists() and old.exists():
        folder = old  # a kill between the two renames of `write`
    if not (folder / "model.json").exists() and (folder / "model" / "model.json").exists():
        folder = folder / "model"
    if not (folder / "model.json").exists():
        raise MissingFile(f"no model in {folder}: model.json is not there. Train one:  {train}")
    try:
        head = json.loads((folder / "model.json").read_text("utf-8"))
        version = head["format"]
        if version > FORMAT:
            raise BadModel(
                f"the model in {folder} has format {version}; this Penchant reads up to {FORMAT}. Upgrade it."
            )
        for name in (*FILES[:2], *FILES[3 : 3 + ("stock" in head)]):
            if not (folder / name).is_file():
                raise BadModel(f"the model in {folder} is not whole: {name} is missing. Make it anew:  {again}")
            if not plain and _sha(folder / name) != head["sha256"][name]:
                raise BadModel(
                    f"{folder / name} is damaged (its hash is not the recorded one). Run the recipe again:  {again}"
                )
        arrays = load_file(folder / "arrays.safetensors")
        ids = json.loads((folder / "ids.json").read_text("utf-8"))
        users, items = Ids("user", tuple(ids["users"])), Ids("item", tuple(ids["items"]))
        known = Queries(np.arange(len(users)), arrays["known/starts"], arrays["known/items"])
        if plain:
            count = np.bincount(known.history_items, minlength=len(items)).astype(np.float32)
            return Recommender(head["model"], head["settings"], users, items, Popularity(count), known)
        scorer = scorer_of(head["scorer"]).of({n[7:]: value for n, value in arrays.items() if n.startswith("scorer/")})
        curve = Curve.of(head["curve"])
        seen = None
        if "seen/starts" in arrays:
            seen = Queries(np.arange(len(users)), arrays["seen/starts"], arrays["seen/items"])
        told = tuple(map(str, head.get("leaking", ())))
        if told and not leaking:
            raise Leak(
                f"the model in {folder} leaks: it was fitted with `{told[0]}` written from held-out choices, to measure what that "
                "adds. It recommends to nobody. Run the honest twin of its recipe, without `leaky`:  penchant run RECIPE.toml"
            )
        stock = None
        if "stock" in head:
            stock, intake = _read_stock(head["stock"], items, load_file(folder / FILES[3]))
            scorer = scorer if intake is None else replace(scorer, intake=intake)  # type: ignore[type-var]
        return Recommender(
            head["model"], head["settings"], users, items, scorer, known, curve, head["parameters"], seen, stock, told
        )
    except (BadModel, Leak):
        raise
    except (OSError, LookupError, TypeError, ValueError, SafetensorError) as error:
        raise BadModel(f"the model in {folder} is damaged: {error}. Run the recipe again:  {again}") from None


def scorer_of(kind: str) -> type[Scorer]:
    """The class that a model folder calls so."""
    if kind in LATE:
        module, _, name = LATE[kind].partition(":")
        return getattr(importlib.import_module(module), name)
    return SCORERS[kind]


def coded(facts: Any) -> np.ndarray:
    """Plain values, JSON, as an array among a scorer's. (n,) uint8"""
    return np.frombuffer(json.dumps(facts).encode("utf-8", "surrogatepass"), np.uint8)


def decoded(array: np.ndarray) -> Any:
    """What `coded` made an array of."""
    return json.loads(array.tobytes().decode("utf-8", "surrogatepass"))


def _write_stock(stock: Stock, intake: Intake | None, file: Path) -> dict[str, Any]:
    """Features of items and how new ones are taken in; what model.json says of them."""
    arrays: dict[str, np.ndarray] = {}
    sources: dict[str, Any] = {}
    for n, (name, part) in enumerate(stock.features.items()):  # by number: a name may hold anything
        arrays |= {f"stock/{n}/values": part.values, f"stock/{n}/present": part.present}
        sources[name] = [part.source.made_by, list(part.source.parents), part.source.interactions]
    if intake is not None:
        arrays |= {f"intake/{name}": value for name, value in intake.arrays().items()}
    _save({name: np.ascontiguousarray(value) if value.ndim else value for name, value in arrays.items()}, file)
    return {"trained": stock.trained, "inputs": sources, "intake": None if intake is None else intake.kind}


def _read_stock(head: dict[str, Any], items: Ids, arrays: Mapping[str, np.ndarray]) -> tuple[Stock, Intake | None]:
    features = {}
    for n, (name, (made_by, parents, seen)) in enumerate(head["inputs"].items()):
        source = Provenance(made_by, tuple(parents), seen)
        features[name] = Features(items, arrays[f"stock/{n}/values"], arrays[f"stock/{n}/present"], source)
    kept = {name[7:]: value for name, value in arrays.items() if name.startswith("intake/")}
    intake = None if head["intake"] is None else INTAKES[head["intake"]].of(kept)
    return Stock(features, head["trained"]), intake


def _save(arrays: dict[str, np.ndarray], file: Path) -> None:
    save_file(arrays, file)
    file.chmod(0o644)  # safetensors makes it private; a service may run as somebody else


def _beside(folder: Path, what: str) -> Path:
    """A hidden neighbour, on the same disk so that a rename is one step."""
    return folder.with_name(f".{folder.name}.{what}")


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
