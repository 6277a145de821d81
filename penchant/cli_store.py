"""Commands about what the store holds: look at it, compare it, clean it, forget somebody."""

from __future__ import annotations

import json as jsonlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant import answers
from penchant.cli_data import Json, StorePath, open_store
from penchant.errors import BadSetting, MissingFile, some

if TYPE_CHECKING:
    from penchant.forgetting import Forgetting
    from penchant.garbage import Garbage
    from penchant.store import Store

__all__ = ["diff", "forget", "gc", "show"]

STATUSES = ("ok", "refused", "unparsable", "truncated", "failed")
RUNS = (Path("runs"), Path("demo-out"))
LISTED = 20  # things of a kind that are named before they are counted

NOT_BY_US = (
    "What Penchant cannot forget by itself: the data folder (remove the rows, or they are written about again), run folders "
    "(they hold ids, histories and titles: run them again), pages and copies made of the store, and what was sent to a server"
)


def show(
    ref: Annotated[str, typer.Argument(help="What is stored: texts/..., features/..., calls, or a run folder.")],
    id_: Annotated[str | None, typer.Option("--id", help="Only this user or item.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Calls about this user.")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Calls about this item.")] = None,
    number: Annotated[int, typer.Option("-n", help="How many texts or calls.", min=1)] = 5,
    html: Annotated[Path | None, typer.Option(help="Write the texts side by side into one page.")] = None,
    picture: Annotated[bool, typer.Option("--picture", help="Draw pictures even where no terminal is seen.")] = False,
    status: Annotated[str | None, typer.Option(help="Calls that ended so: refused, unparsable, ...")] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Look at something stored: texts with the questions behind them, features, calls, or a run's table."""
    from penchant.errors import near

    kept = open_store(store)
    stored = ref.startswith(("features/", "texts/")) and not (Path(ref) / "run.json").exists()
    calls = ref == "calls" and not (Path(ref) / "run.json").exists()
    if html is not None and not (stored and ref.startswith("texts/")):
        raise BadSetting(f"--html shows texts, and {ref} is none. Name some:  penchant show texts/... --html {html}")
    if status is not None and not calls:
        raise BadSetting(f"--status chooses among calls:  penchant show calls --status {status}")
    if status is not None and status not in STATUSES:
        raise BadSetting(f"no status {status!r}.{near(status, STATUSES)} There are: {', '.join(STATUSES)}")
    kind = "user" if user is not None else "item" if item is not None else None
    if kind is not None and not calls:
        raise BadSetting(f"--{kind} chooses among calls; else use:  penchant show {ref} --id {user or item}")
    if sum(given is not None for given in (id_, user, item)) > 1:
        raise BadSetting("give one of --user, --item and --id, e.g.  penchant show calls --user ID")
    if calls:
        name = next((given for given in (id_, user, item) if given is not None), None)
        _show_calls(kept, name, kind, status, number, json)
    elif stored:
        _show_stored(kept, ref, id_, number, html, picture, json)
    elif id_ is not None:
        raise BadSetting(
            f"--id is for texts, features and calls; for a run use:  penchant recommend {ref} --user {id_}"
        )
    else:
        _show_run(kept, ref, json)


def _show_run(kept: Store, ref: str, json: bool) -> None:
    from penchant import screen
    from penchant.report import Report
    from penchant.runs import finished
    from penchant.table import table

    try:
        run = finished(ref)
    except MissingFile as error:
        refs = () if Path(ref).exists() else kept.refs()
        stored = f"\nStored are: {some(refs)}" if refs else ""
        raise MissingFile(f"{error}{stored}") from None
    report = Report.read(run)
    if json:
        answers.print_json(jsonlib.loads((run / "report.json").read_text("utf-8")))
    else:
        screen.out.print(table([report], width=screen.out.width))


def _show_stored(
    kept: Store, ref: str, id_: str | None, number: int, html: Path | None, picture: bool, json: bool
) -> None:
    from penchant import gallery, showing, stored

    card = kept.card(ref)
    shelf = stored.Shelf.read(kept)
    facts: dict[str, Any] = showing.plain_card(card, shelf)
    if card["kind"] == "features":
        near: list[tuple[str, float]] | None = None
        if id_ is not None:
            near = stored.neighbours(kept.load_features(ref), id_, number)
            facts |= {"id": id_, "nearest": [{"id": key, "cosine": cosine} for key, cosine in near]}
        if json:
            answers.print_json(facts)
            return
        showing.card(card, shelf)
        if near is not None:
            showing.line()
            showing.line(f"{id_}{'' if near else ': a gap, or nothing else is there'}", "bold")
            for key, cosine in near:
                showing.line(f"  {cosine:+.4f}  {key}")
        return
    rows = stored.look(kept, ref, id_, number)
    if html is not None:
        gallery.write(html, card, rows)
        facts["html"] = str(html)
    if json:
        answers.print_json(facts | {"texts": [showing.plain_row(row) for row in rows]})
        return
    showing.card(card, shelf)
    if html is not None:
        showing.line()
        showing.line(f"{len(rows)} of them side by side:  {html}")
        return
    told: set[str] = set()
    for row in rows:
        showing.row(row, id_ is not None and len(rows) == 1, picture, told)


def _show_calls(kept: Store, id_: str | None, kind: str | None, status: str | None, number: int, json: bool) -> None:
    from penchant import questions, showing

    if id_ is not None:
        found, there, others = questions.calls_of(kept, id_, status, number, kind)
        kinds = [kind] if kind is not None else questions.kinds_of(kept, id_)
        facts: dict[str, Any] = {"id": id_, "kinds": kinds, "calls": there, "shown_in_others": others}
    else:
        sums = questions.totals(kept, status)
        found = questions.calls_with(kept, status, number) if status is not None else []
        facts = {"calls": sum(t.calls for t in sums), "usd": sum(t.usd for t in sums)}
        facts["totals"] = [showing.plain_total(t) for t in sums]
    if json:
        answers.print_json(facts | {"asked": [showing.plain_asked(one) for one in found]})
        return
    if id_ is not None:
        if len(kinds) > 1:
            name = shlex.quote(id_)
            showing.line(f"{id_} is an item and a user here; only one of them:  --item {name}  or  --user {name}")
        said = f"{there:,} calls asked for {f'{kind} ' if kind else ''}{id_}"
        showing.line(said + (f"; {others:,} more show its words" if others else ""))
    else:
        showing.totals(sums)
    told: set[str] = set()
    for one in found:
        showing.asked(one, len(found) == 1, told)
    if found and len(found) < facts["calls"]:
        showing.line()
        showing.line(f"{facts['calls'] - len(found):,} older ones:  -n {facts['calls']}")


def diff(
    first: Annotated[str, typer.Argument(help="texts/... or features/...")],
    second: Annotated[str, typer.Argument(help="Another one of the same kind.")],
    number: Annotated[int, typer.Option("-n", help="How many changed texts.", min=0)] = 3,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """What differs between two stored artefacts: how they were made, and which rows changed."""
    from dataclasses import asdict

    from penchant import difference, showing

    found = difference.compare(open_store(store), first, second, number)
    if json:
        answers.print_json({"first": first, "second": second, **asdict(found)})
        return
    showing.difference(found)


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; else it is only listed.")] = False,
    older_than: Annotated[
        float | None, typer.Option(help="Only what is older than so many days (calls: 1, the rest: 0).", min=0)
    ] = None,
    calls: Annotated[
        bool, typer.Option("--calls", help="Also answered calls that no stored text names; asking anew costs again.")
    ] = False,
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Where runs are whose inputs stay; else runs and demo-out. May be repeated."),
    ] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Find what the store need not keep: leftovers, artefacts that newer ones replace, failed calls, unused pictures."""
    from penchant import garbage

    for folder in runs or ():
        if not folder.is_dir():
            raise MissingFile(f"no folder {folder} with runs. Give the one that holds run folders:  --runs DIR")
    kept, looked = open_store(store), tuple(runs or (folder for folder in RUNS if folder.is_dir()))
    found = garbage.find(kept, looked, older_than, calls)
    if delete:
        garbage.remove(kept, found)
    _print_garbage(found, delete, looked, json)


def _print_garbage(found: Garbage, deleted: bool, runs: tuple[Path, ...], json: bool) -> None:
    from penchant import showing

    paid = {"usd": found.unused.usd} if found.unused.keys else {}
    if json:
        kinds = {name: {"number": number, "bytes": size} for name, (number, size) in found.kinds.items()}
        folders = [{"name": f.name, "bytes": f.size, "why": f.why} for f in found.folders]
        facts = {"deleted": deleted, "bytes": found.size, "kinds": kinds, "folders": folders, **paid}
        answers.print_json(facts | {"runs": [str(folder) for folder in runs], "damaged": list(found.damaged)})
        return
    for name, (number, size) in found.kinds.items():
        if number:
            showing.line(f"{number:>8,}  {name:<28} {showing.amount(size):>10}")
    for folder in found.folders[:LISTED]:
        showing.line(f"          {folder.name}  {folder.why}")
    if len(found.folders) > LISTED:
        showing.line(f"          and {len(found.folders) - LISTED:,} more")
    if found.damaged:
        showing.line(f"damaged, left alone: {some(found.damaged)}. Delete their folders and make them again")
    if not found.size and not found.folders:
        showing.line("nothing to remove")
        return
    if paid:
        showing.line(f"Unused calls cost ${found.unused.usd:.4f} when they were asked.")
    where = ", ".join(map(str, runs)) or "nowhere (there is no runs and no demo-out here)"
    showing.line(f"What a run names stays; runs were looked for in: {where}. Others:  --runs DIR")
    done = "Removed" if deleted else "Nothing was removed. Remove it:  the same with --delete. It is"
    showing.line(f"{done} {showing.amount(found.size)}.")


def forget(
    user: Annotated[str | None, typer.Option("--user", help="User id.")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Item id.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only listed.")] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Remove one user or item, and all that was written from it, from the whole store."""
    from penchant import forgetting

    if (user is None) == (item is None):
        raise BadSetting("give one of --user ID and --item ID, e.g.  penchant forget --user ID")
    kept = open_store(store)
    kind, key = ("user", user) if user is not None else ("item", item or "")
    found = forgetting.find(kept, kind, key or "")
    if yes:
        forgetting.forget(kept, found)
    again = f"penchant forget --{kind} {shlex.quote(found.key)}{f' --store {shlex.quote(str(store))}' if store else ''} --yes"
    _print_forgetting(found, yes, again, json)


def _print_forgetting(found: Forgetting, done: bool, again: str, json: bool) -> None:
    from penchant import showing

    if json:
        facts: dict[str, Any] = {"kind": found.kind, "id": found.key, "forgotten": done, "bytes": found.size}
        facts["artefacts"] = [{"ref": f.name, "bytes": f.size, "why": f.why} for f in found.artefacts]
        facts |= {"leftovers": [f.name for f in found.leftovers], "calls": len(found.calls.keys), "paid": found.paid}
        facts |= {"usd": found.calls.usd, "models": list(found.models), "data": list(found.data)}
        answers.print_json(facts | {"working": [f.name for f in found.working], "not_by_penchant": NOT_BY_US})
        return
    verb = "Gone" if done else "Would go"
    showing.line(f"{verb}, of {found.kind} {found.key}:")
    for folder in found.artefacts:
        showing.line(f"  {folder.name}  {showing.amount(folder.size):>10}  {folder.why}")
    if found.leftovers:
        showing.line(f"  {len(found.leftovers):,} leftovers of killed writes, which nobody can look into")
    showing.line(f"  {len(found.calls.keys):,} calls with their pictures, and the vectors of these texts")
    if found.paid:
        paid = f"{found.paid:,} of the calls were paid for, ${found.calls.usd:.4f} in all"
        showing.line(f"{paid}; whatever of it is about others costs that again when it is made anew.")
    if found.unfinished:
        showing.line(
            "An earlier forgetting was cut short; its last bytes " + ("are gone, too." if done else "go, too.")
        )
    for folder in found.working:
        showing.line(f"{folder.name} is being written or was left by a kill just now: call this again in an hour.")
    if found.data:
        showing.line(f"Imported data in the store have it and stay as they are: {', '.join(found.data)}")
    if found.models:
        showing.line(f"It was shown to: {some(found.models)}")
    showing.line(f"{NOT_BY_US}.")
    if not done:
        showing.line()
        showing.line(f"Nothing was removed. Do it:  {again}")
