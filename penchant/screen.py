"""What the command line shows: progress bars, tables of recommendations, text that is safe to print."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from penchant.catalog import Catalog
from penchant.model import Recommendation
from penchant.reasons import Reason
from penchant.table import visible

__all__ = ["Bars", "bars", "console", "listing", "out", "plain"]

console = Console(stderr=True)
"""For people: progress and messages, on standard error."""

out = Console(width=None if sys.stdout.isatty() else 100)
"""For results, on standard output."""


class Bars:
    """Draws a run's stages as bars; without a terminal, one line a stage and one a minute; without a voice, nothing."""

    def __init__(self, drawn: rich_progress.Progress | None, quiet: bool, every: float = 60.0) -> None:
        self.drawn, self.quiet, self.every = drawn, quiet, every
        self.spoke = time.monotonic()
        self.task: rich_progress.TaskID | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        if self.drawn is not None:
            self.close()
            self.task = self.drawn.add_task(plain(name), total=total, note="")
        elif not self.quiet:
            self.say(name)

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        if self.drawn is not None and self.task is not None:
            self.drawn.update(self.task, completed=done, total=total, note=plain(note))
        elif self.drawn is None and not self.quiet and time.monotonic() - self.spoke >= self.every:
            self.say(", ".join(part for part in (f"{done:,}" + (f" of {total:,}" if total else ""), note) if part))

    def say(self, text: str) -> None:
        print(f"penchant: {visible(text)}", file=sys.stderr, flush=True)
        self.spoke = time.monotonic()

    def close(self) -> None:
        """The current stage is over, whatever it had announced."""
        if self.drawn is not None and self.task is not None:
            done = max(self.drawn.tasks[self.drawn.task_ids.index(self.task)].completed, 1)
            self.drawn.update(self.task, total=done, completed=done)
            self.drawn.stop_task(self.task)


@contextmanager
def bars(quiet: bool = False) -> Iterator[Bars]:
    """Bars for the time of a run."""
    if quiet or not console.is_terminal:
        yield Bars(None, quiet)
        return
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(compact=True),
        rich_progress.TextColumn("[dim]{task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=console) as drawn:
        made = Bars(drawn, quiet)
        yield made
        made.close()


def listing(
    found: Recommendation, catalog: Catalog, reasons: Sequence[Reason | str] = (), title: str = ""
) -> Table | Text:
    """A list of items as a table, with reasons or other sentences where given; without items, the note alone."""
    if not found.items:
        return Text(f"{visible(title)}\n{visible(found.note)}")
    said = [one if isinstance(one, str) else one.sentence for one in reasons]
    reasons = said if any(said) else ()
    table = Table(title=plain(title), caption=plain(found.note) or None, title_justify="left", show_lines=bool(reasons))
    table.caption_justify = "left"
    table.add_column("#", justify="right", style="dim")
    table.add_column("item", style="bold", max_width=40)
    table.add_column("id", style="dim", overflow="fold", max_width=14)
    table.add_column("score", justify="right")
    if reasons:
        table.add_column("why", ratio=1)
    for place, (key, score) in enumerate(zip(found.items, found.scores, strict=True)):
        row = catalog.items.rows_by_key.get(key, -1)
        cells = [str(place + 1), plain(catalog.title(row) if row >= 0 else key), plain(key), f"{score:.3f}"]
        table.add_row(*cells, *([plain(said[place])] if reasons else []))
    return table


def plain(text: str) -> str:
    """Untrusted text for a terminal: no markup, no control characters."""
    return escape(visible(text))
