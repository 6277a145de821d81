"""The model folder: model.json, arrays.safetensors. Never pickle. Written beside and renamed, so never half there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from penchant.data import Ids, Queries
from penchant.errors import BadModel, BadSetting, MissingFile, some
from penchant.model import Recommender
from penchant.scorers import Factors, ItemToItem, Motivated, Nearest, Popularity, Scorer
from penchant.thin import Thin
from penchant.towers import Towers
from penchant.training import Curve

__all__ = ["FORMAT", "SCORERS", "read", "write"]

FORMAT = 1
SCORERS: dict[str, type[Scorer]] = {
    s.kind: s for s in (Popularity, ItemToItem, Factors, Motivated, Nearest, Thin, Towers)
}
FILES = ("arrays.safetensors", "ids.json", "model.json")


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
    save_file(arrays, partial / "arrays.safetensors")
    (partial / "arrays.safetensors").chmod(0o644)  # safetensors makes it private; a service may run as somebody else
    (partial / "ids.json").write_text(json.dumps({"users": rec.users.keys, "items": rec.items.keys}), "utf-8")
    head = {
        "format": FORMAT,
        "model": rec.name,
        "settings": rec.settings,
        "scorer": rec.scorer.kind,
        "parameters": rec.parameters,
        "curve": rec.curve.rows(),
        "sha256": {name: _sha(partial / name) for name in FILES[:2]},
    }
    (partial / "model.json").write_text(json.dumps(head, indent=1), "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path | str, again: str = "") -> Recommender:
    """The recommender saved in `folder`. Raises MissingFile, or BadModel when damaged or from a newer version.

    again: the command that makes it anew, for the messages.
    """
    folder = Path(folder)
    train, again = again or "penchant run RECIPE.toml --out DIR", again or "penchant run RECIPE.toml --out DIR --fresh"
    old = _beside(folder.resolve(), "old")
    if not folder.exists() and old.exists():
        folder = old  # a kill between the two renames of `write`
    if not (folder / "model.json").exists():
        raise MissingFile(f"no model in {folder}: model.json is not there. Train one:  {train}")
    try:
        head = json.loads((folder / "model.json").read_text("utf-8"))
        version = head["format"]
        if version > FORMAT:
            raise BadModel(
                f"the model in {folder} has format {version}; this Penchant reads up to {FORMAT}. Upgrade it."
            )
        for name in FILES[:2]:
            if not (folder / name).is_file():
                raise BadModel(f"the model in {folder} is not whole: {name} is missing. Make it anew:  {again}")
            if _sha(folder / name) != head["sha256"][name]:
                raise BadModel(
                    f"{folder / name} is damaged (its hash is not the recorded one). Run the recipe again:  {again}"
                )
        arrays = load_file(folder / "arrays.safetensors")
        ids = json.loads((folder / "ids.json").read_text("utf-8"))
        users, items = Ids("user", tuple(ids["users"])), Ids("item", tuple(ids["items"]))
        known = Queries(np.arange(len(users)), arrays["known/starts"], arrays["known/items"])
        scorer = SCORERS[head["scorer"]].of({n[7:]: value for n, value in arrays.items() if n.startswith("scorer/")})
        curve = Curve.of(head["curve"])
        seen = None
        if "seen/starts" in arrays:
            seen = Queries(np.arange(len(users)), arrays["seen/starts"], arrays["seen/items"])
        return Recommender(
            head["model"], head["settings"], users, items, scorer, known, curve, head["parameters"], seen
        )
    except BadModel:
        raise
    except (OSError, LookupError, TypeError, ValueError, SafetensorError) as error:
        raise BadModel(f"the model in {folder} is damaged: {error}. Run the recipe again:  {again}") from None


def _beside(folder: Path, what: str) -> Path:
    """A hidden neighbour, on the same disk so that a rename is one step."""
    return folder.with_name(f".{folder.name}.{what}")


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
