"""A run folder: claimed by one recipe, and opened for recommending: the kept model and the words of its items."""

from __future__ import annotations

import contextlib
import io
import json
import platform
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import polars as pl
import tomli_w

from penchant import drives_file, saved
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids
from penchant.drives import Drives
from penchant.errors import BadModel, BadSetting, MissingFile, UnknownId, near, some
from penchant.model import Recommender
from penchant.recipe import Recipe
from penchant.report import write_whole

try:
    import fcntl
except ImportError:  # not on Windows, where a run folder is not locked
    fcntl = None  # type: ignore[assignment]

__all__ = ["Opened", "catalog_of", "claim", "claimed", "finished", "lock", "read", "versions", "write_items"]


OWN = (
    *("report.json", "report.html", "model", ".model.old", "top.parquet", "per_user.parquet", "items.parquet"),
    *(*drives_file.NAMES, "noise"),
    *("chosen.json", "search.json", "search", "seeds", "work", "log.jsonl", "recipe.lock.toml", "run.json"),
)
"""What a run writes into its folder."""


@dataclass(frozen=True, eq=False)
class Opened:
    """What `penchant recommend`, `similar` and `why` need."""

    folder: Path
    recommender: Recommender
    catalog: Catalog
    drives: Drives | None = None

    def know(self, users: Sequence[str] = (), items: Sequence[str] = ()) -> None:
        """Raises UnknownId for the first that is not of this run, with near ones, some that are, and where all stand."""
        rec = self.recommender
        for kind, asked, ids in (("user", users, rec.users), ("item", items, rec.items)):
            for key in asked:
                if key not in ids.rows_by_key:
                    raise UnknownId(kind, key, ids.keys, self._who_there_is(kind, key, ids))

    def _who_there_is(self, kind: str, key: str, ids: Ids) -> str:
        where = (self.folder if _alone(self.folder) else self.folder / "model") / "ids.json"
        titled = self.folder / "items.parquet"
        there = f"There are {len(ids):,} {kind}s, e.g. {some(ids.keys[:3])}; all"
        if kind == "user":
            return f"{there} are in {where}. For someone new:  penchant recommend {_word(self.folder)} --history ITEM"
        titles = ((k, self.catalog.title(row)) for row, k in enumerate(self.catalog.items.keys))
        alike = [f"{k} is {title!r}" for k, title in titles if len(key) > 2 and key.casefold() in title.casefold()]
        there = f"Titled so: {some(alike, 2)}. {there}" if alike else there
        return f"{there}, with their titles, are in {titled}." if titled.is_file() else f"{there} are in {where}."


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


def read(folder: Path | str, plain: bool = False) -> Opened:
    """The model and catalogue of a finished run; or a model that was saved by itself, without titles. Raises MissingFile, BadModel.

    plain: see `saved.read`; nobody's motives are read then.
    """
    folder = Path(folder)
    alone = _alone(folder)
    there = any((folder / name).exists() for name in ("model", ".model.old"))  # the latter: a kill between two renames
    if not alone and not there:
        raise MissingFile(_unmade(folder))
    again = "" if alone else _again(folder, exact=True)
    rec = saved.read(folder if alone else folder / "model", again, plain=plain)
    try:
        catalog = catalog_of(folder, rec.items)
    except (pl.exceptions.PolarsError, OSError, TypeError) as error:
        raise BadModel(f"{folder / 'items.parquet'} is damaged: {error}. Run the recipe again:  {again}") from None
    return Opened(folder, rec, catalog, None if plain else drives_file.read(folder, again))


def check(folder: Path) -> None:
    """Raises MissingFile where nothing is that a run leaves, damaged or not; a folder of data is none."""
    names = ("model", ".model.old", "recipe.lock.toml", "run.json", "report.json")
    if not _alone(folder) and not any((folder / name).exists() for name in names):
        raise MissingFile(_unmade(folder))


def catalog_of(folder: Path, items: Ids) -> Catalog:
    """What `write_items` wrote; the keys alone where it is not there. Raises what polars does where it is damaged."""
    path = folder / "items.parquet"
    table = pl.read_parquet(path) if path.exists() else pl.DataFrame({"item_id": items.keys})
    keys = Ids("item", tuple(table["item_id"].to_list()))
    text = {c: tuple(table[c].to_list()) for c in table.columns if c != "item_id" and table[c].dtype == pl.String}
    numbers = {c: table[c] for c in table.columns if c != "item_id" and c not in text}
    return Catalog(keys, text, Pictures.none(keys), numbers)


def finished(folder: Path | str) -> Path:
    """The folder of a run with numbers; its report.json may be named instead.

    Raises MissingFile, which says what is there in its place and what to type next.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == "report.json" and folder.is_file() else folder
    if (folder / "report.json").is_file():
        return folder
    if not (folder / "run.json").is_file() or not _is_final(folder) or not (folder / "model").is_dir():
        raise MissingFile(_unmade(folder))
    base = folder.with_name(folder.name.removesuffix("-final"))
    raise MissingFile(
        f"{folder} holds a model that was trained on everything (--final): nothing was left to measure it on, so it has "
        f"no numbers. Those are of the run beside it:  penchant show {_word(base)}  or  penchant compare {_word(base)} RUN\n"
        f"The model itself recommends:  penchant recommend {_word(folder)} --user ID"
    )


def _unmade(folder: Path) -> str:
    """What stands where a finished run was expected, and what to type next."""
    word = _word(folder)
    if (folder / "report.json").is_file():
        return f"the run in {folder} has lost its model. Make it anew:  {_again(folder, exact=True)}"
    if (folder / "run.json").is_file():
        exact = _again(folder, exact=True)
        also = "" if exact == _again(folder) else f"\nWith the settings that it was begun with:  {exact}"
        return f"the run in {folder} is not finished. Go on with it:  {_again(folder)}{also}"
    if folder.is_file():
        then = f"It may be a recipe:  penchant run {word}" if folder.suffix == ".toml" else "Give the folder of a run"
        return f"{folder} is a file, not a run folder. {then}"
    if not folder.is_dir():
        beside = _runs_in(folder.parent)
        there = f" In {folder.parent} there are: {some(beside, 8)}." if beside else ""
        return f"no run folder {folder}.{near(folder.name, beside)}{there} Make one:  penchant run RECIPE.toml --out {word}"
    inside = _runs_in(folder)
    known = {
        "interactions.parquet": f"a data folder. Look at it:  penchant data show {word}",
        "compare.json": f"a comparison, made by `penchant compare`. Open {folder / 'compare.html'}",
        "store.sqlite": "a store. Look at what it holds:  penchant show features/... --store " + word,
        "model.json": f"a saved model, which has no numbers. It recommends:  penchant recommend {word} --user ID"
        if _alone(folder)
        else f"the model of a run. Give the run:  {_word(folder.parent)}",
    }
    if inside:
        return (
            f"{folder} is not a run folder, but holds some: {some(inside, 8)}. Give one:  {_word(folder / inside[0])}"
        )
    what = next((said for name, said in known.items() if (folder / name).exists()), None)
    return f"{folder} is " + (
        what or "not a run folder: it has no run.json. Make one:  penchant run RECIPE.toml --out DIR"
    )


def _alone(folder: Path) -> bool:
    """Whether a folder is a model that stands by itself, and not that of the run around it."""
    return (folder / "model.json").is_file() and not (folder.parent / "run.json").is_file()


def _runs_in(folder: Path) -> list[str]:
    """Names of the run folders in a folder."""
    return sorted(p.parent.name for p in folder.glob("*/run.json")) if folder.is_dir() else []


def _is_final(folder: Path) -> bool:
    """Of `run --final`."""
    return bool(_card(folder).get("final"))


def _again(folder: Path, exact: bool = False) -> str:
    """The command that goes on with the run in a folder, or makes it whole again.

    exact: from the recipe that is locked in the folder, which has what was --set; else from the recipe by its name.
    """
    name, locked = _card(folder).get("recipe") or "RECIPE.toml", folder / "recipe.lock.toml"
    named = locked if locked.is_file() and (exact or name == locked.name) else name
    final = _is_final(folder)
    base = folder.with_name(folder.name.removesuffix("-final")) if final else folder
    return f"penchant run {_word(named)} --out {_word(base)}{' --final' if final else ''}"


def _word(path: Path | str) -> str:
    """As one word of a command."""
    return shlex.quote(str(path))


def claimed(out: Path) -> str | None:
    """The identity of the run in a folder."""
    return _card(out).get("identity")


def _card(folder: Path) -> dict[str, Any]:
    """run.json; nothing where it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / "run.json").read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def lock(out: Path, name: str = ".lock", busy: str = "") -> IO[str]:
    """Hold the run folder until the file is closed or the process ends. Raises BadSetting when another process has it.

    name: of the file, for what may go on beside a run. busy: what to say then.
    """
    file = (out / name).open("w")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise BadSetting(
                busy or f"another process is working in {out}. Wait for it, or choose another:  --out DIR"
            ) from None
    return file


def claim(out: Path, recipe: Recipe, identity: str, fresh: bool, renew: bool = False, final: bool = False) -> IO[str]:
    """Make `out` this run's folder and hold it: see `lock`. Another run's work there is only replaced when asked for."""
    if out.exists() and not out.is_dir():
        raise BadSetting(f"{out} is a file. Choose a folder:  --out DIR")
    card = out / "run.json"
    if out.exists() and not card.exists() and any(not file.name.startswith(".") for file in out.iterdir()):
        raise BadSetting(f"{out} is not empty and not a run folder. Choose another:  --out DIR")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"cannot make the folder {out}: {error.strerror}. Choose another:  --out DIR") from None
    held = lock(out)  # before anything is looked at or replaced: it may be another process's, in work
    try:
        other = card.exists() and claimed(out) != identity
        if other and not fresh and not renew and _kept(out):
            raise BadSetting(
                f"{out} holds another run (other settings, data, inputs or code). Choose another folder with --out DIR, "
                "or replace it:  --fresh"
            )
        if other or fresh:
            _clear(out)
        (out / "report.json").unlink(missing_ok=True)
        body = {"identity": identity, "recipe": f"{recipe.name}.toml", "final": final}
        write_whole(card, json.dumps(body).encode())
        write_lock(out, recipe, identity)
    except BaseException:
        held.close()
        raise
    return held


def _kept(out: Path) -> bool:
    """Whether a run has left any work: one that ended in a mistake of its recipe has not, and nobody misses it."""
    return any(True for name in ("done.json", "search.json", "checkpoint.*", "model") for _ in out.rglob(name))


def _clear(out: Path) -> None:
    """Remove what a run writes, and nothing else; run.json last, so that a kill in between leaves an unfinished run."""
    for name in OWN:
        file = out / name
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


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
