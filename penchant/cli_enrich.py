"""The command `enrich`: texts by a language model, with a plan before, a budget during and a summary after."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant import answers
from penchant.cli_data import Json, StorePath, imported_beside, open_store
from penchant.errors import BadSetting, MissingFile

if TYPE_CHECKING:
    from penchant.enrich import Written
    from penchant.enrich.plan import Plan
    from penchant.lm import LanguageModel
    from penchant.store import Store

__all__ = ["enrich"]

UNPRICED = "no price known; write one into a file and name it in PENCHANT_PRICES"
TROUBLE = ("refused", "unparsable", "truncated", "failed")


def enrich(
    data: Annotated[str, typer.Argument(help="A data folder, a name in PENCHANT_DATA, or shop.")],
    prompt: Annotated[
        str, typer.Argument(help="user_motives, item_from_picture, ... or your own file, ending with .md.")
    ],
    lm: Annotated[
        str,
        typer.Option(
            help="openai:MODEL, http://HOST/v1#MODEL, local:FOLDER or local:OWNER/MODEL, extractive or replay."
        ),
    ] = "extractive",
    split: Annotated[
        str,
        typer.Option(
            help="Whose train part may be read: leave_last_out, by_ratio,seed=1,chronological=true, ..., or a recipe."
        ),
    ] = "leave_last_out",
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be asked and what it would cost.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Take every answer from the store; never call.")] = False,
    budget_usd: Annotated[float | None, typer.Option(help="Stop before more than this could be spent.", min=0)] = None,
    parallel: Annotated[int, typer.Option(help="Calls in flight at most.", min=1, max=1024)] = 16,
    limit: Annotated[int | None, typer.Option(help="Ask for the first N only.", min=1)] = None,
    category: Annotated[str, typer.Option(help='What the catalogue is of, e.g. "kitchen things".')] = "",
    items: Annotated[
        str | None, typer.Option(help="Put the texts of this prompt before the catalogue's: item_from_picture.")
    ] = None,
    through: Annotated[
        bool,
        typer.Option("--through", help="Motives are read from review_motives of each review, not from the review."),
    ] = False,
    again: Annotated[
        list[str] | None, typer.Option(help="Ask these bad replies anew: refused, unparsable, truncated.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Tokens that the server reads at most; longer histories show less.", min=512)
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for one reply.", min=0.1)] = 120.0,
    retries: Annotated[int, typer.Option(help="How often a call that failed is repeated.", min=0, max=20)] = 5,
    interactions: Annotated[str, typer.Option(help="Which table of interactions.")] = "interactions",
    min_rating: Annotated[float | None, typer.Option(help="Leave out ratings below this.")] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Have a language model write texts about users or items; every reply is kept, a killed run asks only what is missing.

    Texts about users, and about items from reviews, are made from the train part of a split and from nothing else.
    """
    from penchant import enrich as enriching
    from penchant import inputs, screen

    enriching.prompts.read(prompt)  # a misspelt name is told before anything is opened
    if through and prompt in enriching.prompts.names() and prompt not in ("user_motives", "item_motives"):
        raise BadSetting(f"{prompt} does not go through reviews; --through is for user_motives and item_motives")
    kept = open_store(store)
    spec, interactions, min_rating = _split(split, interactions, min_rating)
    settings: dict[str, Any] = {"parallel": parallel, "timeout": timeout, "retries": retries}
    settings |= {"context": context} if context is not None else {}
    model = _model(lm, kept, budget_usd, replay, plan, settings)
    with imported_beside(data):
        found = inputs.open_data(data, kept, interactions, min_rating)
    train = inputs.make_split(found, spec).train
    how: dict[str, Any] = {
        "category": category,
        "items": items,
        "through": through,
        "limit": limit,
        "title": found.name,
    }
    how["again"] = tuple(again or ())
    if plan:
        made = enriching.plan(prompt, train, found.catalog, model, kept, **how)
        _print_plan(made, json)
        return
    with screen.bars(json) as watch:
        written = enriching.write(prompt, train, found.catalog, model, kept, watch, **how)
    _print_written(written, prompt, model, limit is not None, json)


def _model(
    spec: str, store: Store, budget: float | None, replay: bool, plan: bool, settings: dict[str, Any]
) -> LanguageModel:
    from penchant import lm
    from penchant.lm.replay import Replay
    from penchant.lm.spending import Budget

    if budget is not None and not plan:
        settings["budget"] = Budget(budget)
    opened = lm.open(spec, store, **settings)
    return Replay(opened, store) if replay and not isinstance(opened, Replay) else opened


def _split(text: str, interactions: str, min_rating: float | None) -> tuple[Any, str, float | None]:
    """The split that is meant, with the table and the ratings of its recipe if it is one."""
    from penchant import recipe as recipes

    if text.endswith(".toml"):
        if not Path(text).is_file():
            raise MissingFile(f"no recipe {text}. Give a recipe's file, or a split:  --split leave_last_out")
        read = recipes.read(text)
        return read.split, read.interactions, read.min_rating
    by, *rest = (part.strip() for part in re.split(r",(?![^\[]*\])", text))  # not at commas inside of brackets
    sets = [f"split.by={by!r}"]
    for part in rest:
        if "=" not in part:
            raise BadSetting(f"--split {text}: write settings as name=value, e.g.  --split by_ratio,seed=1")
        sets.append(f"split.{part}")
    return recipes.split_of(sets), interactions, min_rating


def _print_plan(plan: Plan, json: bool) -> None:
    if json:
        answers.print_json(plan.plain())
        return
    for part in (*plan.stages, plan):
        cut = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in part.truncated.items())
        facts = {
            "prompt": part.prompt,
            "model": part.model,
            "calls": f"{part.calls:,}",
            "answered by the store": f"{part.cached:,}",
            "nothing to ask about": f"{part.without_input:,}",
            "tokens in": f"{part.tokens_in:,}",
            "tokens out": f"{part.tokens_out:,}",
            "counted by": part.rule,
            "pictures": f"{part.pictures:,}, about {part.picture_tokens:,} tokens" if part.pictures else "none",
            "dollars": _dollars(part.usd, part.usd_most) if part.asks else "nothing: nobody outside is asked",
            "cut": cut or "nothing",
            "leaves this machine": part.leaves or f"no personal text{', but the pictures' if part.pictures else ''}",
        }
        answers.print_facts(facts, False)
        print()
    if plan.stages:
        print("A later prompt's tokens are estimated: what it will read is not written yet.")


def _dollars(usd: float | None, most: float | None) -> str:
    if usd is None or most is None:
        return UNPRICED
    return f"{usd:.2f}, at most {most:.2f}"


def _print_written(written: Written, prompt: str, model: LanguageModel, limited: bool, json: bool) -> None:
    from penchant.lm.spending import price_of

    counts = dict(written.counts)
    trouble = {name: counts[name] for name in TROUBLE if counts.get(name)}
    if json:
        stages = [{"ref": stage.ref, "usd": stage.usd, **stage.counts} for stage in written.stages]
        examples = {status: {"id": key, "error": error} for status, (key, error) in written.examples.items()}
        answers.print_json(
            {
                "ref": written.ref,
                "prompt": prompt,
                "model": model.name,
                "usd": written.usd,
                **counts,
                "examples": examples,
                "stages": stages,
            }
        )
        return
    gaps = int((~written.texts.present).sum())
    facts: dict[str, Any] = {"ref": written.ref, "by": f"{prompt}, {model.name}", "answered": counts.get("answered", 0)}
    facts |= {"asked now": counts.get("calls", 0), "known already": counts.get("cached", 0)}
    facts |= {"not asked (--limit)" if limited else "gaps": gaps}
    facts |= {name: f"{count}, e.g. {' '.join(written.examples[name])[:200]}" for name, count in trouble.items()}
    shown = {
        "empty": "answers without words",
        "cut_texts": "texts cut",
        "left_out": "older choices left out",
        "ungrounded": "aspects without evidence",
    }
    facts |= {name: counts[key] for key, name in shown.items() if counts.get(key)}
    if model.where:
        facts |= {"tokens of all answers": f"{counts.get('tokens_in', 0):,} in, {counts.get('tokens_out', 0):,} out"}
        known = price_of(model.name) is not None
        facts |= {"dollars now": f"{written.usd:.4f}, all answers {written.cost:.4f}" if known else UNPRICED}
    then = f"Read them:  penchant show {written.ref}"
    if counts.get("failed"):
        then = f"Some got no reply: call the same again to ask those. {then}"
    elif trouble:
        then = f"Ask bad replies anew:  --again {next(iter(trouble))}. {then}"
    answers.print_facts(facts, False, then)
