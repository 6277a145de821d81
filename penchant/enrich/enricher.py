"""Enricher: the way from a prompt to Texts, through the prompts that it builds on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from penchant.catalog import Catalog
from penchant.data import Interactions, digest
from penchant.enrich import prompt as prompts
from penchant.enrich.checks import check, has_reviews, room
from penchant.enrich.lines import Lines
from penchant.enrich.material import Material, Question
from penchant.enrich.plan import Counting, Plan, leaving
from penchant.enrich.prompt import Prompt
from penchant.enrich.runner import Answered, ask
from penchant.enrich.written import How, Result, Watcher, Written
from penchant.errors import BadSetting, LmError, MissingInput
from penchant.lm import LanguageModel, replies
from penchant.lm.spending import price_of
from penchant.store import Store
from penchant.texts import Provenance, Texts

__all__ = ["Enricher"]

THROUGH = {"user_motives": "review_motives", "item_motives": "review_motives"}
SPARE_TIME = 2.0  # seconds between two looks at whether the store can still be written


@dataclass(eq=False)
class Enricher:
    """A catalogue, a train part, a model and a store, for one or several prompts. It never holds a data set."""

    train: Interactions | None
    catalog: Catalog
    lm: LanguageModel
    store: Store
    how: How = How()
    watch: Watcher | None = None
    only: frozenset[int] | None = None

    def write(self, prompt: Prompt) -> Written:
        """Asks what is missing and saves the texts."""
        self.store.ready()
        stages: list[Written] = []
        result, source = self._answered(prompt, stages, keep=True)
        if not result.counts["asked"]:
            raise MissingInput(
                f"{prompt.name}: there is nothing to ask about: nobody here has a history or a text that it could show"
            )
        if not result.replies:
            status, (key, error) = next(iter(result.examples.items()))
            raise LmError(
                f"{prompt.name}: none of {result.counts['asked']} questions was answered; {status}, e.g. {key}: {error}. "
                "Look at one reply:  penchant show calls --id " + key
            )
        return self._saved(prompt, result, source, stages)

    def _saved(self, prompt: Prompt, result: Result, source: Provenance, stages: list[Written]) -> Written:
        texts = Texts(result.ids, result.values, source)
        result.counts["answered"] = len(result.replies)  # of a recurrent prompt, each person counts once
        counts = {name: count for name, count in sorted(result.counts.items()) if count}
        part = self.how.limit is not None or self.only is not None
        counts["without_input"] = 0 if part else len(result.ids) - len(result.status)
        columns = {"status": result.status, "call": result.keys, "reply": result.replies}
        beside = {name: [column.get(row) for row in range(len(result.ids))] for name, column in columns.items()}
        limited = f", first {self.how.limit}" if self.how.limit else ", a part" if part else ""
        title = f"{self.how.title} {prompt.name}{limited}".strip()
        named = {status: [key] for status, (key, _) in result.examples.items()}
        ref = self.store.save_texts(texts, title, counts, named, beside)
        return Written(ref, texts, counts, result.usd, result.cost, result.examples, tuple(stages))

    def plan(self, prompt: Prompt) -> Plan:
        """What would be asked; words of a usual length stand in for answers that later prompts would show."""
        stages: list[Plan] = []
        self._answered(prompt, stages, keep=False)
        last = stages.pop()
        return replace(last, stages=tuple(stages))

    # ---- the way to the answers

    def _answered(self, prompt: Prompt, stages: list[Any], keep: bool) -> tuple[Result, Provenance]:
        """Answers of a prompt, by way of those that it builds on, and where they come from: that is the train part, too,
        where only what they were made from has seen it."""
        stage_prompts = self._needed(prompt)
        for needed in (prompt, *stage_prompts.values()):
            check(needed, self.catalog, self.train)  # all of it before the first question
        model = self.lm.reading(self._corpus(prompt))
        space = room(prompt, model)
        only = self._rows(prompt, space)
        given = {
            role: self._stage(p, self._narrowed(p, prompt.of, only), stages, keep) for role, p in stage_prompts.items()
        }
        looks, read = (given[role].told if role in given else None for role in ("looks", "read"))
        before = given["items"].texts if "items" in given else None
        material = Material(prompt, self.catalog, self.train, space, before, looks, read)
        result = Result(material.ids, material)
        with self.store.calls() as calls:
            if keep:
                calls.writable()
            counting = Counting(model, price_of(model.name), calls, f"{prompt.name}@{prompt.version}")
            ready = _Ready(self.store) if keep else None
            self._tell(f"{prompt.name} by {model.name}", len(material.ids) if only is None else len(only))
            for questions in self._rounds(material, result, only):
                ask(
                    (q for q in questions if only is None or q.row in only),
                    prompt,
                    self.how.category,
                    model if keep else counting,
                    calls,
                    self._collector(result),
                    self.how.again,
                    keep,
                    ready,
                )
        if not keep:
            stages.append(_planned(prompt, model, counting, result, only))
        built = [prompt.print, *(f"{role}:{p.print}" for role, p in sorted(stage_prompts.items()))]
        how = (self.how.category, str(space), ",".join(map(str, sorted(only or ()))))
        revision = f"@{model.revision}" if model.revision else ""
        made_by = f"enrich:{prompt.name}@{digest(*built, *how)[:12]}/{model.name}{revision}"
        parents = (self.catalog.hash, *(part.ref for part in given.values() if part.ref))
        personal = prompt.personal or any(part.texts.source.interactions for part in given.values())
        seen = self.train.hash if personal and self.train is not None else None
        return result, Provenance(made_by, parents, seen, result.cost)

    def _needed(self, prompt: Prompt) -> dict[str, Prompt]:
        """The prompts whose answers this one builds on, by what it takes from them.

        Raises BadSetting for a prompt about items that cannot stand before items' texts, or where none are shown.
        """
        found: dict[str, Prompt] = {}
        if self.how.items:
            items = prompts.read(self.how.items)
            if items.of != "item" or items.name == prompt.name:
                raise BadSetting(
                    f"items = {items.name!r} is asked for {items.of}s; name one about items: item_from_picture"
                )
            if "item text" not in prompt.sees:
                raise BadSetting(
                    f"{prompt.name} shows no item texts, so nothing can stand before them. Leave out --items"
                )
            found["items"] = items
        first = prompt.first or (THROUGH.get(prompt.name) if self.how.through else None)
        if first:
            earlier = prompts.read(first)
            # Where there are no reviews, item texts are read instead.
            if earlier.of != "interaction" or has_reviews(self.train):
                found["read" if earlier.of == "interaction" else "looks"] = earlier
        return found

    def _rows(self, prompt: Prompt, space: int) -> frozenset[int] | None:
        """The rows to ask about; None for all."""
        if self.how.limit is None:
            return self.only
        questions = Material(prompt, self.catalog, self.train, space).questions()
        return frozenset(question.row for question in islice(questions, self.how.limit))

    def _narrowed(self, stage: Prompt, of: str, only: frozenset[int] | None) -> frozenset[int] | None:
        """The rows of an earlier prompt that questions about these rows may show."""
        if only is None or (stage.of == "item" and self.train is None):
            return only
        assert self.train is not None
        about = self.catalog.items.rows(self.train.items.keys)[self.train.item]  # catalogue row of each train row
        mine = np.isin(about if of == "item" else self.train.user, list(only))
        if stage.of == "item":
            return only if of == "item" else frozenset(about[mine].tolist())
        reviewed = Lines(self.catalog, self.train, stage.limits, None).reviewed
        return frozenset(np.flatnonzero(mine[reviewed]).tolist())

    def _stage(self, prompt: Prompt, only: frozenset[int] | None, stages: list[Any], keep: bool) -> _Given:
        """An earlier prompt's answers, saved as an artefact of their own."""
        inner = replace(self, how=replace(self.how, limit=None, through=False, items=None), only=only)
        result, source = inner._answered(prompt, stages, keep)
        ref, texts = "", Texts(result.ids, result.values, source)
        if keep and result.replies:  # without any answer the later prompt does without
            written = inner._saved(prompt, result, source, [])
            stages.append(written)
            ref, texts = written.ref, written.texts
        answers = {row: prompt.reply.model_validate_json(text) for row, text in result.replies.items()}
        if prompt.of == "interaction":
            rows = result.material.reviewed
            answers = {int(rows[place]): answer for place, answer in answers.items()}
        return _Given(ref, texts, answers)

    def _rounds(self, material: Material, result: Result, only: frozenset[int] | None) -> Iterator[Iterable[Question]]:
        """One round for most prompts; for a recurrent one, a round a step, each knowing the answers of the one before."""
        if not material.limits.block:
            yield material.questions()
            return
        for number, whole in enumerate(material.steps()):
            # A chain that broke stays broken: a text that has not read everything would pass for one that has.
            going = only if number == 0 else result.texts.keys()
            step = [part for part in whole if going is None or part[0] in going]
            notes = {user: result.texts[user] if number else "" for user, *_ in step}
            self._tell(f"{material.prompt.name}, step {number + 1}", len(step))
            result.before = result.counts["asked"]
            result.counts["steps"] = number + 1
            yield (material.step(user, rows, notes[user], left) for user, rows, left in step)

    def _corpus(self, prompt: Prompt) -> Iterable[str]:
        """The texts that questions are made from; what is held out is not among them, because it is not here."""
        yield from (text for text in self.catalog.texts().values if text)
        if "train reviews" in prompt.sees and self.train is not None:
            yield from (text for text in self.train.review or () if text)

    def _collector(self, result: Result) -> Callable[[Answered], None]:
        started, told = time.monotonic(), 0.0

        def collect(answered: Answered) -> None:
            nonlocal told
            result.take(answered)
            now = time.monotonic()
            if self.watch is not None and now - told > 0.2:
                told = now
                self.watch.step(result.counts["asked"] - result.before, None, result.note(now - started))

        return collect

    def _tell(self, name: str, total: int) -> None:
        if self.watch is not None:
            self.watch.stage(name, total)


@dataclass(frozen=True)
class _Given:
    """What an earlier prompt gives to a later one. told: its typed answers by row of the catalogue or train part."""

    ref: str
    texts: Texts
    told: Mapping[int, replies.Answer]


class _Ready:
    """Raises StoreError where nothing more can be kept; asks the file system now and then."""

    def __init__(self, store: Store) -> None:
        self.store, self.at = store, 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.at > SPARE_TIME:
            self.store.ready()
            self.at = now


def _planned(
    prompt: Prompt, model: LanguageModel, counting: Counting, result: Result, only: frozenset[int] | None
) -> Plan:
    counts = result.counts
    return Plan(
        prompt=prompt.name,
        model=model.name,
        calls=counting.asked,
        cached=counts["asked"] - counting.asked,
        without_input=0 if only is not None else len(result.ids) - len(result.status),
        tokens_in=counting.tokens_in,
        tokens_out=counting.tokens_out,
        usd=counting.usd,
        usd_most=counting.usd_most,
        rule=counting.rule,
        leaves=leaving(prompt, model),
        asks=model.where,
        pictures=counting.pictures,
        picture_tokens=counting.squares * counting.price.picture if counting.price else 0,
        truncated={name: counts[name] for name in ("cut_texts", "cut_tokens", "left_out") if counts[name]},
    )
