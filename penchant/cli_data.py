"""Commands about what is kept: data in, features made, what is stored, what is installed."""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penchant import answers
from penchant.errors import BadInput, BadSetting, MissingFile, some

if TYPE_CHECKING:
    from penchant.cards import Card
    from penchant.data import Dataset
    from penchant.store import Store

__all__ = ["Json", "StorePath", "data_app", "doctor", "encode", "open_store"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
StorePath = Annotated[
    Path | None, typer.Option("--store", help="Folder of cached features. Else PENCHANT_STORE, else ./store.")
]

data_app = typer.Typer(no_args_is_help=True, help="Bring data in, and look at it.")


@data_app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="parquet, csv, movielens, rlmrec or mmrec.")],
    path: Annotated[str, typer.Argument(help="The download: a folder, a file or a .zip of either.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    json: Json = False,
) -> None:
    """Turn a download into a canonical data folder; what was left out or doubtful is counted in the notes."""
    from penchant import folder, sources

    if path.strip() and not Path(path).exists() and (named := _named(path)) is not None:
        how = f"penchant data import {kind} {named} --out {out}"
        if folder.is_canonical(named):
            how = f"penchant data show {path}, and  data = {jsonlib.dumps(path)}  in a recipe; it needs no import"
        raise MissingFile(f"no file or folder {path}, but PENCHANT_DATA has a data set of that name. Use:  {how}")
    sources.import_(kind, path, out)
    _print_data(folder.read(out), json)


@data_app.command("show")
def show_data(
    path: Annotated[str, typer.Argument(help="A data folder, a name in PENCHANT_DATA, or shop.")],
    interactions: Annotated[str, typer.Option(help="Which table of interactions.")] = "interactions",
    min_rating: Annotated[float | None, typer.Option(help="Leave out ratings below this.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse interactions whose item has no catalogue row.")] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Counts, density, time span, coverage of text and pictures."""
    from penchant import folder, inputs

    with imported_beside(path):
        if strict:
            folder.read(inputs.find(path), interactions=interactions, min_rating=min_rating, strict=True)
        data = inputs.open_data(path, open_store(store), interactions, min_rating)
    _print_data(data, json)


def encode(
    path: Annotated[str, typer.Argument(help="A data folder, a name in PENCHANT_DATA, or shop.")],
    text: Annotated[bool, typer.Option("--text", help="Encode the catalogue's texts.")] = False,
    image: Annotated[bool, typer.Option("--image", help="Encode the catalogue's pictures.")] = False,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder: minilm or layout, or any Hugging Face name or folder.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="A text column, as items.COLUMN, in place of the usual ones.")
    ] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Turn texts or pictures into vectors, cached in the store; a killed encode goes on where it stopped."""
    from penchant import inputs, screen
    from penchant.recipe import InputSpec

    if text == image:
        raise BadSetting("choose one of --text and --image, e.g.  penchant encode shop --text")
    kept = open_store(store)
    if image and column:
        raise BadSetting(f"--column names a text column. For pictures leave it out, or:  --text --column {column}")
    with imported_beside(path):
        data = inputs.open_data(path, kept)
    source = column or ("catalog.text" if text else "catalog.image")
    spec = InputSpec((source,), encoder, "external" if column else None)
    with screen.bars(json) as watch:
        watch.stage(f"encoding {source}")
        found = inputs.make_input("text" if text else "image", spec, data, kept, lambda _, d, t: watch.step(d, t))
    ref = kept.save_features(found)
    facts = {
        "ref": ref,
        "rows": len(found.ids),
        "dim": found.dim,
        "gaps": int((~found.present).sum()),
        **_left_out(kept.card(ref)),
        "made_by": found.source.made_by,
    }
    answers.print_facts(facts, json, f"Look at it:  penchant show {ref}")


def doctor(
    lm: Annotated[
        str | None, typer.Option(help="Also ask whether this language model answers, e.g. http://HOST/v1#MODEL.")
    ] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """What is installed, which device is used, where data and store are, which language model answers."""
    from penchant import doctor as checks

    answers.print_facts(checks.look(_place(store)) | ({} if lm is None else checks.ask(lm, open_store(store))), json)


def _print_data(data: Dataset, json: bool) -> None:
    """Facts in two columns; below them the notes, which are sentences, each with its count before it."""
    from penchant import screen
    from penchant.datafacts import facts

    found = facts(data)
    notes = {} if json else {name: found.pop(name) for name in list(found) if name.startswith("note: ")}
    answers.print_facts(found if json else {_visible(name): value for name, value in found.items()}, json)
    width = max((len(str(count)) for count in notes.values()), default=0)
    for name, count in notes.items():
        line = f"note: {count:>{width}}  {_visible(name.removeprefix('note: '))}"
        screen.out.print(line, markup=False, highlight=False, soft_wrap=True)


def _visible(name: str) -> str:
    """Names of columns may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def _left_out(card: Card) -> dict[str, str | int]:
    """What an encoder could not read: pictures that cannot be opened, ends of texts that are too long."""
    counts, bad = card["counts"], card["named"].get("unreadable", [])
    found: dict[str, str | int] = {name: counts[name] for name in ("unreadable", "cut") if name in counts}
    if bad:
        found["unreadable_items"] = some(bad)
    return found


def _named(name: str) -> Path | None:
    """The folder of a data set of this name in PENCHANT_DATA, if there is one."""
    from penchant import inputs

    try:
        return inputs.find(name)
    except MissingFile:
        return None


@contextmanager
def imported_beside(name: str) -> Iterator[None]:
    """Where no data set can be opened, the message mentions data/NAME, the usual place of an imported one."""
    from penchant import folder

    try:
        yield
    except BadInput as error:
        place = Path("data") / name
        if Path(name).is_absolute() or folder.is_canonical(name) or not folder.is_canonical(place):
            raise
        raise type(error)(f"{error}. Or do you mean the imported one, {place}?") from None


def _place(path: Path | None) -> Path:
    return path or Path(os.environ.get("PENCHANT_STORE") or "store")


def open_store(path: Path | None) -> Store:
    from penchant.store import Store

    return Store(_place(path))
