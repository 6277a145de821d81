"""Commands of the service: serve, keys, state, export, refresh."""

from __future__ import annotations

import gc
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant import answers, runs
from penchant.cli_data import Json, StorePath, open_store
from penchant.cli_reasons import K, RunFolder
from penchant.errors import BadSetting, MissingExtra, MissingFile

if TYPE_CHECKING:
    from penchant.serve.server import Settings
    from penchant.serve.state import State

__all__ = ["export", "keys_app", "refresh", "serve", "start", "state_app", "state_of"]

StateUrl = Annotated[
    str | None,
    typer.Option(
        "--state",
        help="Where choices and new items are kept: a file, or postgresql://...; RUN/service/state.sqlite if not given.",
    ),
]
keys_app = typer.Typer(no_args_is_help=True, help="Keys of the API: add, list, revoke.", rich_markup_mode=None)
state_app = typer.Typer(
    no_args_is_help=True, help="What a service has kept: backup, restore, show.", rich_markup_mode=None
)


def state_of(run: Path, url: str | None, hold: bool = False, make: bool = False) -> State:
    """The state of a run's service. make: where there is none yet. Raises MissingFile for what is no run, StateError, MissingExtra."""
    try:
        from penchant.serve.engines import place
        from penchant.serve.state import State
    except ImportError as error:
        raise MissingExtra(f"The service ({error.name})", "serve") from None
    runs.check(run)
    named = url or os.environ.get("PENCHANT_STATE")
    given = named or str(run / "service" / "state.sqlite")
    file = place(given).file
    if file is not None and not file.exists():
        if not make:
            raise MissingFile(
                f"no state {file}: no service of {run} has kept anything there. Start one:  penchant serve {run}"
            )
        if named and not file.parent.is_dir():  # a typing mistake makes no folders
            raise MissingFile(
                f"no folder {file.parent} for the state. Make it:  mkdir -p {shlex.quote(str(file.parent))}"
            )
    return State.open(given, hold=hold)


def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65_535)] = 8000,
    state: StateUrl = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name by which it may be called, e.g. behind a proxy; may be repeated."),
    ] = None,
    people_need_key: Annotated[
        bool,
        typer.Option(
            "--people-need-key", help="Routes about people need a key; so they do wherever others can reach them."
        ),
    ] = False,
    reads_need_key: Annotated[
        bool, typer.Option("--reads-need-key", help="All routes but /health and the like need a key.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second of one key or address, 0 for any; 50 where others can reach it.", min=0),
    ] = None,
    index_from: Annotated[
        int, typer.Option("--index-from", help="Items from which an approximate index is used (extra `ann`).", min=1)
    ] = 200_000,
    store: StorePath = None,
) -> None:
    """Serve a run: recommendations, reasons, new items and choices over HTTP, and a page to look at."""
    gc.disable()  # what is loaded now stays, so nothing is looked for in it until `Server.run` enables it
    try:
        known = tuple(allow_host or ())
        start(run, _settings(host, port, known, people_need_key, reads_need_key, rate, index_from), state, store)
    finally:
        gc.enable()


def _settings(*given: Any) -> Settings:
    """Raises MissingExtra."""
    try:
        from penchant.serve.server import Settings
    except ImportError as error:
        raise MissingExtra(f"The service ({error.name})", "serve") from None
    return Settings(*given)


def start(
    run: Path, settings: Settings, state: str | None, store: Path | None, key: bool = False, browse: bool = False
) -> None:
    """Serve until a signal ends it. key: make one for the page and print its address with it. browse: open that."""
    import logging
    import signal
    import sys
    import warnings
    import webbrowser

    from penchant import screen
    from penchant.serve.keys import made
    from penchant.serve.server import Server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("uvicorn", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="PIL")  # about what strangers' pictures carry
    with state_of(run, state, hold=True, make=True) as held:
        server = Server(run, held, open_store(store), settings)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends at them, then raises them again
            signal.signal(number, lambda *_: sys.exit(0))
        try:
            listening = server.listen()
            port = listening.getsockname()[1]
            named = f"[{settings.host}]" if ":" in settings.host else settings.host
            address = f"http://{named}:{port}/"
            served = server.service.served
            if key:
                address += f"#key={made(held, 'page')[1]}"
            screen.console.print(
                f"{served.rec.name} of {served.folder}: {len(served.goods):,} items, {len(served.people):,} people",
                markup=False,
            )
            if served.problem:
                screen.console.print(f"popular items stand in for the model: {served.problem}", markup=False)
            elif server.service.why_not():
                screen.console.print(f"new items can't be taken in: {server.service.why_not()}", markup=False)
            if not held.keys():
                screen.console.print(
                    f"Writing needs a key. Make one:  penchant keys add {run} --name NAME", markup=False
                )
            screen.console.print(f"Serving on  {address}", markup=False, soft_wrap=True)
            if browse:
                webbrowser.open(address)
            server.run(listening)
        finally:
            server.close()


@keys_app.command("add")
def add_key(
    run: RunFolder,
    name: Annotated[str, typer.Option(help="Whose it is.")] = "shop",
    state: StateUrl = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown once and kept as a hash."""
    from penchant.serve import keys

    if not name.strip():
        raise BadSetting(
            f"a key needs a name, by which it is known when it is to be revoked:  penchant keys add {run} --name shop"
        )
    with state_of(run, state, make=True) as held:
        kept, key = keys.made(held, name)
    then = f'Use it so:  curl -H "Authorization: Bearer {key}" ...   It is not shown again.'
    answers.print_facts({"id": kept.id, "name": kept.name, "key": key}, json, then)


@keys_app.command("list")
def list_keys(run: RunFolder, state: StateUrl = None, json: Json = False) -> None:
    """The keys there are, without themselves."""
    from datetime import UTC, datetime

    def when(at: float | None) -> str:
        return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")

    with state_of(run, state) as held:
        found = held.keys()
    if json:
        rows = [{"id": k.id, "name": k.name, "created": k.created, "revoked": k.revoked} for k in found]
        answers.print_json({"keys": rows})
        return
    facts = {
        k.id: f"{k.name}, made {when(k.created)}{', revoked ' + when(k.revoked) if k.revoked else ''}" for k in found
    }
    answers.print_facts(
        facts or {"keys": "none"}, False, f"Make one:  penchant keys add {run} --name NAME" if not facts else ""
    )


@keys_app.command("revoke")
def revoke_key(
    run: RunFolder, key: Annotated[str, typer.Argument(help="Its id.")], state: StateUrl = None, json: Json = False
) -> None:
    """Let a key hold no longer; a running server knows within two seconds."""
    with state_of(run, state) as held:
        if not held.revoke(key):
            raise BadSetting(f"no key {key!r} that holds. Look:  penchant keys list {run}")
    answers.print_facts({"revoked": key}, json)


@state_app.command("show")
def show_state(run: RunFolder, state: StateUrl = None, json: Json = False) -> None:
    """How much a service has kept."""
    with state_of(run, state) as held:
        answers.print_facts({"state": held.url, **held.counts()}, json)


@state_app.command("backup")
def backup(
    run: RunFolder,
    to: Annotated[Path, typer.Option("--to", help="A new file: SQLite, whatever the state is kept in.")],
    state: StateUrl = None,
    json: Json = False,
) -> None:
    """Copy the state as it is at one moment; a running server goes on."""
    with state_of(run, state) as held:
        held.backup(to)
        counts = held.counts()
    answers.print_facts({"backup": str(to), **counts}, json, f"Put it back:  penchant state restore {run} --from {to}")


@state_app.command("restore")
def restore(
    run: RunFolder,
    source: Annotated[Path, typer.Option("--from", help="A file that `state backup` wrote.")],
    state: StateUrl = None,
    json: Json = False,
) -> None:
    """Put a backup into a state that is still empty, of either kind. No server may run on it."""
    from penchant.serve.backup import opened

    runs.check(run)
    with opened(source):  # what can't be put back makes no state either
        pass
    with state_of(run, state, hold=True, make=True) as held:
        answers.print_facts({"state": held.url, **held.restore(source)}, json)


def export(
    run: RunFolder,
    csv: Annotated[Path | None, typer.Option("--csv", help="File to write.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="File to write.")] = None,
    k: K = 20,
    state: StateUrl = None,
    json: Json = False,
) -> None:
    """The best items of everybody, with what the run's service has learned, in one pass."""
    import time

    from penchant import exported
    from penchant.serve.everybody import everybody

    files = [file for file in (csv, parquet) if file is not None]
    if not files:
        raise BadSetting(f"name a file:  penchant export {run} --parquet lists.parquet  or  --csv lists.csv")
    for kind, file in (("csv", csv), ("parquet", parquet)):
        if file is not None and file.suffix != f".{kind}":
            raise BadSetting(
                f"--{kind} {file}: the file's name ends in .{kind}. Name it so:  --{kind} {file.stem}.{kind}"
            )
    everyone = everybody(run, None if not _has_state(run, state) else state_of(run, state))
    started = time.perf_counter()
    table = exported.lists(*everyone, k)
    for file in files:
        exported.write(table, file)
    facts = {"people": len(everyone[1]), "rows": table.height, "seconds": round(time.perf_counter() - started, 3)}
    answers.print_facts({**facts, **{file.suffix[1:]: str(file) for file in files}}, json)


def _has_state(run: Path, url: str | None) -> bool:
    return bool(url or os.environ.get("PENCHANT_STATE")) or (run / "service" / "state.sqlite").is_file()


def refresh(run: RunFolder, state: StateUrl = None, store: StorePath = None, json: Json = False) -> None:
    """Train a run again with what its service has learned; only prompts that have changed are asked again."""
    from penchant import refresh as refreshing
    from penchant import screen

    with (
        state_of(run, state, make=state is None and not os.environ.get("PENCHANT_STATE")) as held,
        screen.bars(json) as watch,
    ):
        made = refreshing.refresh(run, held, open_store(store), watch)
    facts = {"folder": str(made.folder), "events": made.events, "items": made.items, "forgotten": made.forgotten}
    facts |= {"choices": made.choices, "choices of the run before": made.before}
    answers.print_facts(
        facts,
        json,
        "A running server takes it up:  curl -X POST -H 'Authorization: Bearer KEY' http://HOST:PORT/reload",
    )
