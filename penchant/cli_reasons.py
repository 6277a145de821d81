"""Commands about reasons: why an item is in a list, and whether what is named is what the score rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penchant import answers
from penchant.cli_data import Json

__all__ = ["K", "RunFolder", "faithful", "similar", "why"]

K = Annotated[int, typer.Option("-k", help="How many items.", min=1)]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a finished run.")]


def why(
    run: RunFolder,
    user: Annotated[str, typer.Option("--user", help="User id.")],
    item: Annotated[str, typer.Option("--item", help="Item id.")],
    json: Json = False,
) -> None:
    """The reason for one item in one user's list, with its evidence."""
    from dataclasses import asdict

    from penchant import runs, screen
    from penchant.reasons import explain
    from penchant.table import visible

    opened = runs.read(run)
    opened.know([user], [item])
    reason = explain(opened.recommender, user, item, opened.catalog, most=5, drives=opened.drives)
    if json:
        answers.print_json({"model": opened.recommender.name, **asdict(reason)})
        return
    screen.out.print(visible(reason.sentence), markup=False, soft_wrap=True)
    for moved in reason.motives:
        said = visible(f"  {moved.lift:.1f} x  {'; '.join(moved.phrases)}")
        screen.out.print(said, markup=False, highlight=False, soft_wrap=True)
    for part in reason.evidence:
        quoted = f"  “{part.span}”" if part.span else ""
        said = visible(f"  {part.weight:+.4f}  {part.title}  ({part.item_id}){quoted}")
        screen.out.print(said, markup=False, highlight=False, soft_wrap=True)
    if reason.motives:
        screen.out.print(
            "  (x: her share of a motive over everybody's; named by phrases about those who have it)", style="dim"
        )
    kind = "are exact parts of the score" if reason.exact else "order the history by a linear reading"
    if reason.evidence:
        screen.out.print(f"  (weights {kind} of {opened.recommender.name})", style="dim")


def similar(
    run: RunFolder,
    item: Annotated[str, typer.Option("--item", help="Item id.")],
    by: Annotated[
        str, typer.Option("--by", help='"behaviour": by what people chose; "content": by words and pictures.')
    ] = "behaviour",
    k: K = 10,
    json: Json = False,
) -> None:
    """Items most like one, with what the catalogue says that they have in common."""
    from typing import cast

    from penchant import runs, screen
    from penchant.attributes import said, shared
    from penchant.likeness import By

    opened = runs.read(run)
    opened.know(items=[item])
    rec = opened.recommender
    found = rec.similar([item], k, by=cast(By, by))[0]
    found = answers.alike(found, rec) if by == "behaviour" else found
    both = [shared(opened.catalog, item, key) for key in found.items]
    if json:
        listed = answers.listed(found, opened.catalog, [], about="item_id", shared=both)
        answers.print_json({"model": rec.name, "by": by, **listed})
        return
    title = f"{rec.name}: like {item}" + (" by content" if by == "content" else "")
    screen.out.print(screen.listing(found, opened.catalog, [said(one) for one in both], title))


def faithful(
    run: RunFolder,
    users: Annotated[int, typer.Option("--users", help="How many, drawn at random.", min=1)] = 500,
    size: Annotated[int, typer.Option("--size", help="Items of evidence that are deleted.", min=1)] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of users and of random deletions.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Whether evidence carries the score: what deleting it from the history takes off, beside other deletions."""
    from dataclasses import asdict

    import numpy as np

    from penchant import runs
    from penchant.compare import probability
    from penchant.faithful import faithfulness

    rec = runs.read(run).recommender
    some = np.random.default_rng(seed).permutation(len(rec.users))[:users]
    found = faithfulness(rec, some.tolist(), size, seed=seed)
    if json:
        answers.print_json({"model": rec.name, **asdict(found)})
        return
    said = f"what the first recommendation of {found.users:,} users loses without {size} items of their history"
    facts = {"measured": f"{said}, by which alone they are known", "evidence": f"{found.drop:.4f}"}
    for other in found.others:
        facts[other.way] = f"{other.drop:.4f}  evidence takes {other.ratio:.2f} times as much, p {probability(other.p)}"
    answers.print_facts(facts, False)
