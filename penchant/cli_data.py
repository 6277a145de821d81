"""Commands about what is kept: data in, features made, what is stored, what is installed."""

from __future__ import annotations

import json as jsonlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penchant import answers
from penchant.errors import BadSetting

if TYPE_CHECKING:
    from penchant.store import Store

__all__ = ["Json", "StorePath", "data_app", "doctor", "encode", "open_store", "show"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
StorePath = Annotated[
    Path | None, typer.Option("--store", help="Folder of cached features. Else PENCHANT_STORE, else ./store.")
]

data_app = typer.Typer(no_args_is_help=True, help="Bring data in, and look at it.")


@data_app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="parquet, csv, movielens, rlmrec or mmrec.")],
    path: Annotated[Path, typer.Argument(help="The download: a folder, a file or an archive.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    json: Json = False,
) -> None:
    """Turn a download into a canonical data folder."""
    from penchant import folder, sources

    sources.import_(kind, path, out)
    answers.show_data(folder.read(out), json)


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

    if strict:
        folder.read(inputs.find(path), interactions=interactions, min_rating=min_rating, strict=True)
    answers.show_data(inputs.open_data(path, open_store(store), interactions, min_rating), json)


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
    data = inputs.open_data(path, kept)
    source = column or ("catalog.text" if text else "catalog.image")
    spec = InputSpec((source,), encoder, "external" if column else None)
    with screen.bars(json) as watch:
        watch.stage(f"encoding {source}")
        found = inputs.make_input("text" if text else "image", spec, data, kept, lambda _, d, t: watch.step(d, t))
    ref = kept.save_features(found, f"{data.name} {source}")
    facts = {
        "ref": ref,
        "rows": len(found.ids),
        "dim": found.dim,
        "gaps": int((~found.present).sum()),
        "made_by": found.source.made_by,
    }
    answers.print_facts(facts, json, f"Look at it:  penchant show {ref}")


def show(
    ref: Annotated[str, typer.Argument(help="What is stored: features/..., or a run folder.")],
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Look at something stored: its card, or a run's table."""
    from penchant import screen
    from penchant.report import Report
    from penchant.table import table

    if (Path(ref) / "report.json").exists():
        report = Report.read(ref)
        if json:
            answers.print_json(jsonlib.loads((Path(ref) / "report.json").read_text("utf-8")))
        else:
            screen.out.print(table([report], width=screen.out.width))
        return
    card = open_store(store).card(ref)
    answers.print_facts(dict(card), json)


def doctor(store: StorePath = None, json: Json = False) -> None:
    """What is installed, which device is used, where data and store are."""
    from penchant import doctor as checks

    answers.print_facts(checks.look(_place(store)), json)


def _place(path: Path | None) -> Path:
    return path or Path(os.environ.get("PENCHANT_STORE") or "store")


def open_store(path: Path | None) -> Store:
    from penchant.store import Store

    return Store(_place(path))
