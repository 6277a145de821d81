"""A run folder: claimed by one recipe, and opened for recommending: the kept model and the words of its items."""

from __future__ import annotations

import contextlib
import io
import json
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import polars as pl
import tomli_w

from penchant import saved
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, digest
from penchant.errors import BadModel, BadSetting, MissingFile
from penchant.model import Recommender
from penchant.recipe import Recipe
from penchant.report import write_whole

try:
    import fcntl
except ImportError:  # not on Windows, where a run folder is not locked
    fcntl = None  # type: ignore[assignment]

__all__ = ["Opened", "claim", "claimed", "read", "versions", "write_items", "write_lock"]


@dataclass(frozen=True, eq=False)
class Opened:
    """What `penchant recommend`, `similar` and `why` need."""

    folder: Path
    recommender: Recommender
    catalog: Catalog


def write_items(catalog: Catalog, items: Ids, out: Path) -> None:
    """items.parquet in a run folder: titles, texts and typed columns, so that the folder stands alone."""
    rows = [int(r) if r >= 0 else None for r in catalog.items.rows(items.keys)]
    columns: dict[str, Any] = {"item_id": items.keys}
    for name, values in catalog.fields.items():
        columns[name] = pl.Series([None if r is None else values[r] for r in rows], dtype=pl.String)
    for name, series in catalog.numbers.items():
        columns[name] = pl.Series([None if r is None else series[r] for r in rows], dtype=series.dtype)
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    write_whole(out / "items.parquet", buffer.getvalue())


def read(folder: Path | str) -> Opened:
    """The model and catalogue of a finished run. Raises MissingFile, BadModel."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFile(f"no run folder {folder}. Make one:  penchant run RECIPE.toml --out {folder}")
    if not (folder / "model").exists() and (folder / "run.json").exists():
        raise MissingFile(f"the run in {folder} is not finished. Go on with it:  {_again(folder)}")
    rec = saved.read(folder / "model")
    path = folder / "items.parquet"
    try:
        table = pl.read_parquet(path) if path.exists() else pl.DataFrame({"item_id": rec.items.keys})
        keys = Ids("item", tuple(table["item_id"].to_list()))
    except (pl.exceptions.PolarsError, OSError, TypeError) as error:
        raise BadModel(f"{path} is damaged: {error}. Run the recipe again:  {_again(folder)}") from None
    text = {c: tuple(table[c].to_list()) for c in table.columns if c != "item_id" and table[c].dtype == pl.String}
    numbers = {c: table[c] for c in table.columns if c != "item_id" and c not in text}
    return Opened(folder, rec, Catalog(keys, text, Pictures.none(keys), numbers))


def _again(folder: Path) -> str:
    name = "RECIPE.toml"
    with contextlib.suppress(OSError, ValueError):
        name = json.loads((folder / "run.json").read_text("utf-8")).get("recipe") or name
    return f"penchant run {name} --out {folder}"


def claimed(out: Path) -> str | None:
    """The identity of the run in a folder."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a damaged file is nobody's run
        return json.loads((out / "run.json").read_text("utf-8")).get("identity")
    return None


def code(model: str) -> str:
    """Hash of the code that decides a run's numbers: a run is not continued with other code than it was begun with."""
    here = Path(__file__).parent
    names = ["batches", "losses", "metrics", "nn", "ranking", "row_adam", "scorers", "split", "topk", "train"]
    files = (here / f"{name}.py" for name in (*names, f"models/{model}"))
    return digest(*(file.read_bytes() for file in files if file.exists()))


def lock(out: Path) -> IO[str]:
    """Hold the run folder until the file is closed or the process ends. Raises BadSetting when another process has it."""
    file = (out / ".lock").open("w")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise BadSetting(
                f"another process is working in {out}. Wait for it, or choose another:  --out DIR"
            ) from None
    return file


def claim(out: Path, recipe: Recipe, identity: str, fresh: bool, renew: bool = False) -> None:
    """Make `out` this run's folder. Another run there is only replaced when asked for."""
    lock = out / "run.json"
    if out.exists() and not out.is_dir():
        raise BadSetting(f"{out} is a file. Choose a folder:  --out DIR")
    if lock.exists() and claimed(out) != identity:
        if not fresh and not renew and _kept(out):
            raise BadSetting(
                f"{out} holds another run (other settings, data, inputs or code). Choose another folder with --out DIR, "
                "or replace it:  --fresh"
            )
        _remove(out)
    elif fresh and lock.exists():
        _remove(out)
    elif out.exists() and not lock.exists() and any(not file.name.startswith(".") for file in out.iterdir()):
        raise BadSetting(f"{out} is not empty and not a run folder. Choose another:  --out DIR")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"cannot make the folder {out}: {error.strerror}. Choose another:  --out DIR") from None
    (out / "report.json").unlink(missing_ok=True)
    write_whole(lock, json.dumps({"identity": identity, "recipe": f"{recipe.name}.toml"}).encode())
    write_lock(out, recipe, identity)


def _kept(out: Path) -> bool:
    """Whether a run has left any work: one that ended in a mistake of its recipe has not, and nobody misses it."""
    return any(True for name in ("done.json", "search.json", "checkpoint.*", "model") for _ in out.rglob(name))


def _remove(out: Path) -> None:
    """Renamed first: a kill in the middle does not leave half a run under this name."""
    old = out.resolve().with_name(f".{out.resolve().name}.old")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    shutil.rmtree(old)


def write_lock(out: Path, recipe: Recipe, identity: str) -> None:
    """recipe.lock.toml: the recipe as run, with versions; it can be run again as it is."""
    head = f"# run {identity[:12]}; " + "; ".join(f"{k} {v}" for k, v in versions().items()) + "\n"
    write_whole(out / "recipe.lock.toml", (head + tomli_w.dumps(dict(recipe.raw))).encode())


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("penchant", "numpy", "scipy", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
