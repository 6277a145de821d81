"""What `penchant show` and `diff` say of stored texts, features and calls: as lines for people, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant import screen
from penchant.answers import print_facts
from penchant.calls import Call
from penchant.cards import Card, provenance_of
from penchant.difference import Difference, Piece, shortened, wordwise
from penchant.errors import some
from penchant.gallery import cut, said
from penchant.questions import Asked, Total
from penchant.stored import Row, Shelf, maker
from penchant.table import visible
from penchant.term_picture import drawn

__all__ = [
    "amount",
    "asked",
    "card",
    "difference",
    "line",
    "plain_asked",
    "plain_card",
    "plain_row",
    "plain_total",
    "row",
    "totals",
]

LONG, BRIEF = 20_000, 1_500  # characters of a text: where one was asked for, and where there are several
SHORT = 300  # of what stood in one of several questions
MARGIN = 11  # columns of the names on the left


def line(text: str = "", style: str | None = None) -> None:
    """One line that nobody's text can break, colour or hide."""
    screen.out.print(visible(cut(text, LONG)), markup=False, highlight=False, soft_wrap=True, style=style)


def block(name: str, text: str, most: int) -> None:
    """A text of several lines beside its name."""
    for place, part in enumerate(cut(text, most).splitlines() or [""]):
        line(f"  {name if not place else '':<{MARGIN}} {part}".rstrip())


def amount(size: int) -> str:
    """In few characters: "940 B", "1.2 MB"."""
    value, units = float(size), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


# ---- cards


def card(kept: Card, shelf: Shelf) -> None:
    """What a card says, and what the artefact was built from and into."""
    by = maker(kept)
    texts = kept["kind"] == "texts"
    facts: dict[str, object] = {"ref": kept["ref"], "title": kept["title"] or "none"}
    facts |= {("prompt" if by.model else "made by" if not by.version else "encoder"): by.what}
    facts |= {"version": by.version} if by.version else {}
    facts |= {"model": by.model} if by.model else {}
    facts |= {"of": f"{kept['rows']:,} {kept['of']}s", "texts" if texts else "vectors": f"{kept['present']:,}"}
    facts |= {"gaps": f"{kept['rows'] - kept['present']:,}"}
    facts |= {} if texts else {"dim": kept["dim"]}
    named = {name: f", e.g. {some(keys)}" for name, keys in kept["named"].items()}
    facts |= {
        name.replace("_", " "): f"{count:,}{named.get(name, '')}"
        for name, count in kept["counts"].items()
        if name not in ("gaps", "texts")
    }
    facts |= {"cost": f"${kept['cost_usd']:.4f}", "interactions": kept["interactions"] or "none seen"}
    facts |= {"leaking": "has seen held-out choices; for measuring a leak alone"} if _leaks(kept) else {}
    facts |= {"hash": kept["hash"], "created": kept["created"]}
    print_facts(facts, False)
    width = max(len(name) for name in facts)
    parents = [(c["ref"], _named(c)) for c in shelf.built_from(kept)]
    parents += [(name[:12], "not in this store") for name in kept["parents"] if name not in shelf.by_name]
    children = [(c["ref"], _named(c)) for c in shelf.built_into(kept)]
    for name, found in (("built from", parents), ("built into", children)):
        for place, (ref, what) in enumerate(found or [("nothing", "")]):
            line(f"{name if not place else '':<{width}}  {ref}  {what}".rstrip())


def plain_card(kept: Card, shelf: Shelf) -> dict[str, Any]:
    parents: list[dict[str, Any]] = [_plain(c) | {"stored": True} for c in shelf.built_from(kept)]
    parents += [{"ref": name, "stored": False} for name in kept["parents"] if name not in shelf.by_name]
    return {
        **kept,
        "leaking": _leaks(kept),
        "built_from": parents,
        "built_into": [_plain(c) for c in shelf.built_into(kept)],
    }


def _leaks(kept: Card) -> bool:
    return provenance_of(kept).leaking


def _plain(kept: Card) -> dict[str, Any]:
    return {"ref": kept["ref"], "title": kept["title"], "made_by": kept["made_by"]}


def _named(kept: Card) -> str:
    leaks = ", leaking" if _leaks(kept) else ""
    return (f"{kept['title']}, {kept['made_by']}" if kept["title"] else kept["made_by"]) + leaks


# ---- texts


def row(found: Row, alone: bool, picture: bool, told: set[str]) -> None:
    """One row: its text, the reply, the picture, the question. alone: nothing else is shown, so there is room. told:
    system prompts that were printed before; they are printed once."""
    most = LONG if alone else BRIEF
    line()
    bad = found.status if found.status not in (None, "ok") else ""
    line(f"{found.key}{f'   {bad}' if bad else ''}", "bold")
    if found.text is not None:
        block("text", found.text, most)
    elif not bad:
        line(f"  {'text':<{MARGIN}} {'none: nothing was asked' if found.status is None else 'none'}")
    for name, value in (found.reply or {}).items():
        block(name.replace("_", " "), said(value), most)
    if found.call is not None:
        _call(found.call, found.reply is None, alone, told)
    elif found.call_key:
        line(f"  {'question':<{MARGIN}} not kept any more")
    for name, raw in found.pictures:
        line(f"  {'picture':<{MARGIN}} {name}{'' if raw else ', not kept any more'}")
        if raw and (picture or screen.out.is_terminal):
            shown = drawn(raw)
            console = screen.out if screen.out.is_terminal else Console(force_terminal=True, color_system="truecolor")
            console.print(shown if shown is not None else "  It cannot be opened.")


def plain_row(found: Row) -> dict[str, Any]:
    return {
        "id": found.key,
        "text": found.text,
        "status": found.status,
        "reply": found.reply,
        "call": None if found.call is None else plain_call(found.call),
    }


# ---- calls


def totals(found: Sequence[Total]) -> None:
    """A table by model and prompt."""
    if not found:
        line("no calls")
        return
    table = Table(title=f"{sum(t.calls for t in found):,} calls, ${sum(t.usd for t in found):.2f}")
    table.title_justify = "left"
    table.add_column("model", overflow="fold")
    table.add_column("prompt", overflow="fold")
    for name in ("calls", "ok"):
        table.add_column(name, justify="right")
    table.add_column("not ok")
    for name in ("tokens in", "tokens out", "dollars"):
        table.add_column(name, justify="right")
    for total in found:
        bad = ", ".join(f"{count:,} {status}" for status, count in total.by_status.items() if status != "ok")
        numbers = f"{total.tokens_in:,}", f"{total.tokens_out:,}", f"{total.usd:.4f}"
        ok = f"{total.by_status.get('ok', 0):,}"
        cells = screen.plain(total.model), screen.plain(total.prompt), f"{total.calls:,}", ok, screen.plain(bad)
        table.add_row(*cells, *numbers)
    screen.out.print(table)


def plain_total(total: Total) -> dict[str, Any]:
    return {
        "model": total.model,
        "prompt": total.prompt,
        "calls": total.calls,
        "by_status": dict(total.by_status),
        "tokens_in": total.tokens_in,
        "tokens_out": total.tokens_out,
        "usd": total.usd,
    }


def asked(found: Asked, alone: bool, told: set[str]) -> None:
    """One call with whom it is about. alone, told: as of a row."""
    line()
    about = ", ".join(f"{m.kind} {m.key}" for m in found.mentions if m.asked)
    others = [f"{m.kind} {m.key}" for m in found.mentions if not m.asked]
    line(f"{about or 'asked for nobody who is kept'}   {found.call.status}", "bold")
    if others:
        line(f"  {'shows':<{MARGIN}} {some(others)}")
    _call(found.call, True, alone, told)


def plain_asked(found: Asked) -> dict[str, Any]:
    mentions = [{"kind": m.kind, "id": m.key, "asked": m.asked} for m in found.mentions]
    return plain_call(found.call) | {"mentions": mentions}


def _call(call: Call, reply: bool, alone: bool, told: set[str]) -> None:
    most = LONG if alone else BRIEF
    if call.error:
        block("error", call.error, most)
    if reply:
        block("reply", call.text, most)
    revision = f" @ {call.revision}" if call.revision else ""
    tokens = f"{call.tokens_in:,} tokens in, {call.tokens_out:,} out"
    tried = f", {call.attempts} attempts" if call.attempts > 1 else ""
    line(
        f"  {'asked':<{MARGIN}} {call.model}{revision}, {call.prompt}: {tokens}, ${call.usd:.4f}{tried}, {call.created}"
    )
    asked: Mapping[str, Any] = call.request
    system = str(asked.get("system", ""))
    if system not in told:
        block("system", system, most)
        told.add(system)
    block("user", str(asked.get("user", "")), LONG if alone else SHORT)


def plain_call(call: Call) -> dict[str, Any]:
    names = ("key", "model", "revision", "prompt", "status", "error", "text", "tokens_in", "tokens_out", "usd")
    found = {name: getattr(call, name) for name in (*names, "attempts", "seconds", "created")}
    return found | {name: call.request.get(name) for name in ("system", "user", "pictures")}


# ---- differences


def difference(found: Difference) -> None:
    """What the cards say differently, how many rows changed, and a few changed texts side by side."""
    width = max((len(fact.name) for fact in found.facts), default=0)
    for fact in found.facts:
        line(f"{fact.name:<{width}}  {fact.before}  ->  {fact.after}")
    if not found.facts:
        line("made alike")
    line()
    line(
        f"{found.stayed:,} rows stayed, {found.changed:,} changed, {len(found.appeared):,} appeared, "
        f"{len(found.vanished):,} vanished, {found.gaps:,} are gaps in both"
    )
    for name, keys in (("appeared", found.appeared), ("vanished", found.vanished)):
        if keys:
            line(f"{name}: {some(keys, 5)}")
    if found.cosine is not None:
        least = f"least {found.cosine.least:.4f} ({found.cosine.least_key})"
        line(f"cosine of rows that both have: mean {found.cosine.mean:.4f}, {least}")
    for change in found.changes:
        table = Table(title=screen.plain(change.key), title_justify="left", expand=True)
        table.add_column("first", ratio=1, overflow="fold")
        table.add_column("second", ratio=1, overflow="fold")
        table.add_row(*(_marked(shortened(p)) for p in wordwise(change.before, change.after)))
        screen.out.print()
        screen.out.print(table)


def _marked(pieces: list[Piece]) -> Text:
    """Words with what is gone as [-gone-] and what is new as {+new+}."""
    styles = {"-": ("[-{}-]", "red"), "+": ("{{+{}+}}", "green"), "…": ("… {} …", "dim"), " ": ("{}", "")}
    text = Text()
    for place, piece in enumerate(pieces):
        form, style = styles[piece.mark]
        words = piece.text if piece.mark == "…" else cut(piece.text, BRIEF)
        text.append(" " if place else "").append(form.format(visible(words)), style)
    return text
