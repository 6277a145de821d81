"""The command line. Every command has --json; a user's mistake gives one message and exit code 2."""

from __future__ import annotations

import json as jsonlib
import webbrowser
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from penchant import answers
from penchant.cli_data import Json, StorePath, data_app, doctor, encode, open_store
from penchant.cli_enrich import enrich
from penchant.cli_reasons import K, RunFolder, faithful, similar, why
from penchant.cli_serve import export, keys_app, refresh, serve, state_app
from penchant.cli_store import diff, forget, gc, show
from penchant.entry import guarded
from penchant.errors import BadSetting

if TYPE_CHECKING:  # what is only named here is not loaded, so that --help answers at once
    from penchant.recipe import Recipe
    from penchant.store import Store

__all__ = ["app", "main"]

# Commands import what they use when they are called, so that --help and mistakes answer at once.

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(keys_app, name="keys")
app.add_typer(state_app, name="state")


def _version(asked: bool) -> None:
    if asked:
        print(metadata.version("penchant"))
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Recommends from interactions, words and pictures, and says why."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo-out"),
    user: Annotated[str | None, typer.Option(help="Whose recommendations to print.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open report.html in the browser.")] = False,
    serving: Annotated[bool, typer.Option("--serve", help="Then serve the shop, with a page to look at.")] = False,
    port: Annotated[int, typer.Option(help="Of --serve.", min=0, max=65_535)] = 8000,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """The whole path on the built-in shop: data, features, seven models, a table, ten items with reasons, report.html."""
    from penchant import demo as demos
    from penchant import runs, screen
    from penchant.reasons import explain
    from penchant.table import table

    with screen.bars(json) as watch:
        made = demos.make(out, open_store(store), watch, lambda text: screen.console.print(text, markup=False))
    catalog = made.shown.prepared.data.catalog
    opened = runs.read(made.shown.folder)
    chosen = user or made.user
    opened.know([chosen])
    rec = opened.recommender
    found = rec.recommend([chosen])[0]
    reasons = [explain(rec, chosen, key, catalog, drives=opened.drives) for key in found.items]
    if json:
        answers.print_json(
            {
                "reports": {r.model: answers.means(r) for r in made.reports},
                "folder": str(out),
                **answers.listed(found, catalog, reasons),
            }
        )
        return
    screen.out.print(table(made.reports, ("recall@20", "ndcg@20"), screen.out.width))
    screen.out.print()
    screen.out.print(screen.listing(found, catalog, reasons, f"Ten items for {chosen}, by {made.shown.report.model}"))
    page = (out / "report.html").resolve()
    screen.out.print(f"\nPictures and plots:  {page}", markup=False, highlight=False, soft_wrap=True)
    if serving:
        from penchant.cli_serve import start
        from penchant.serve.server import Settings

        start(out / "weave", Settings(port=port), None, store, key=True, browse=open_page)
    elif open_page:
        webbrowser.open(page.as_uri())


@app.command()
def run(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipes, TOML; one after the other.")],
    out: Annotated[Path | None, typer.Option(help="Run folder of one recipe; runs/NAME if not given.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1 in place of the recipe's.", min=1)] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, put on top of the recipe.")
    ] = None,
    final: Annotated[
        bool, typer.Option("--final", help="Train on everything for the run's epochs; no number.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what is in the run folder.")] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Run a recipe: train each seed, choose on validation, evaluate, report. A killed run goes on when called again."""
    from penchant import recipe as reading
    from penchant import run as running
    from penchant import screen

    if out is not None and len(recipes) > 1:
        raise BadSetting(
            f"--out {out} is of one recipe, and there are {len(recipes)}. Leave it out: each goes to runs/NAME"
        )
    sets = [*(sets or []), *([f"training.seeds={list(range(seeds))}"] if seeds else [])]
    read = [reading.read(path, sets) for path in recipes]  # a mistake in the last shows before the first is run
    for what in read:
        folder = out or Path("runs") / what.name
        if not final:
            _measured(what, folder, open_store(store), fresh, json)
            continue
        target = folder.with_name(folder.name + "-final")
        with screen.bars(json) as watch:
            running.final(what, target, open_store(store), watch, folder)
        answers.print_facts(
            {"model": what.model.name, "folder": str(target)},
            json,
            f"Recommend:  penchant recommend {target} --user ID",
        )


def _measured(what: Recipe, folder: Path, store: Store, fresh: bool, json: bool) -> None:
    from penchant import examples, page, screen
    from penchant import run as running
    from penchant.table import claims, noise, table

    def finish(made: running.Run) -> None:
        shown = examples.make(made)
        page.write(folder, made.report, made.per_user, made.top, shown, (), examples.audience(made))

    with screen.bars(json) as watch:
        made = running.run(what, folder, store, watch, fresh, finish=finish)
    if json:
        answers.print_json(jsonlib.loads((folder / "report.json").read_text("utf-8")))
        return
    screen.out.print(table([made.report], width=screen.out.width))
    claimed = claims([made.report])
    if claimed is not None:
        screen.out.print(claimed)
    noisy = noise(made.report)
    if noisy is not None:
        screen.out.print(noisy)
    screen.out.print(f"\n{folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path | None, typer.Option(help="Also write compare.json and compare.html here.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Model that every run is tested against; the best if not given.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metrics to show.")] = None,
    json: Json = False,
) -> None:
    """Paired tests, intervals and cost of several runs of one protocol, in one table."""
    from penchant import compare as comparing
    from penchant import screen
    from penchant.report import Report
    from penchant.results import PerUser
    from penchant.runs import finished

    read = [(Report.read(folder), PerUser.read(folder)) for folder in map(finished, runs)]
    made = comparing.compare(read, reference, metric, [folder.resolve().name for folder in runs])
    if out is not None:
        made.write(out)
    if json:
        answers.print_json(made.plain())
        return
    screen.out.print(made.table())


@app.command()
def recommend(
    run: RunFolder,
    user: Annotated[list[str] | None, typer.Option("--user", help="User id; may be repeated.")] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", help="Item id of someone new; may be repeated, oldest first.")
    ] = None,
    k: K = 10,
    why: Annotated[bool, typer.Option("--why", help="Say why, with evidence.")] = False,
    json: Json = False,
) -> None:
    """The best items for a user, or for someone new with a few choices."""
    from penchant import runs, screen
    from penchant.reasons import explain

    if user and history:
        raise BadSetting(
            "give --user ID, or --history ITEM for someone new, who is judged by that alone; not both. Leave one out:  "
            f"penchant recommend {run} --user {user[0]}  or  penchant recommend {run} --history {history[0]}"
        )
    if not user and not history:
        raise BadSetting("give --user ID, or --history ITEM (repeated) for someone new")
    opened = runs.read(run)
    rec = opened.recommender
    opened.know(user or (), history or ())
    given = None if user else tuple(history or ())
    found = rec.recommend(user or ["(someone new)"], k, None if given is None else [given])
    said = []
    for one in (answers.told(one, rec, k, given) for one in found):
        reasons = (
            [explain(rec, one.user_id, key, opened.catalog, given, drives=opened.drives) for key in one.items]
            if why
            else []
        )
        said.append(answers.listed(one, opened.catalog, reasons))
        if not json:
            screen.out.print(screen.listing(one, opened.catalog, reasons, f"{rec.name}: for {one.user_id}"))
    if json:
        answers.print_json({"model": rec.name, "recommendations": said})


for command in (serve, export, refresh, similar, why, faithful, enrich, encode, show, diff, gc, forget, doctor):
    app.command()(command)


def main() -> NoReturn:
    """Entry point: errors of ours become one message and exit code 2."""
    guarded(app)
