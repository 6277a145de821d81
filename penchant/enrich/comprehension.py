"""Comprehension: a language model reads histories in windows and carries its notes forward; each question is asked once.

    reader = Comprehension.open({"prompt": "preference_step", "lm": "extractive", "window": 5, "step": 3}, lines, store)
    notes = reader.read([np.array([4, 17, 9])], ["u1"])

h_1 = LM(W_1), h_k = LM(W_k, h_{k-1}): MLLM-SRec's temporal-aware comprehension, and with windows of 3 moved by 3 MLLM-MSR's
recurrence. A prompt without {earlier}, such as user_preference, reads the whole history at once. One with {choices}, such as
said_step, reads beside each choice what was said of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from penchant import lm as models
from penchant.calls import Mention
from penchant.data import Ids, Interactions, digest
from penchant.enrich import prompt as prompts
from penchant.enrich.checks import room
from penchant.enrich.material import Question
from penchant.enrich.prompt import Prompt
from penchant.enrich.remarks import Remarks
from penchant.enrich.runner import Answered, ask
from penchant.errors import BadSetting, MissingInput
from penchant.lm import LanguageModel, tokens
from penchant.lm.fence import Block, clean
from penchant.notes import Note, Notes, windows
from penchant.store import Store
from penchant.texts import Provenance, Texts

__all__ = ["Comprehension"]


@dataclass(eq=False)
class Comprehension(Notes):
    """A question that is not answered leaves the notes as they were before it: a gap, counted.

    lines: what is shown of each item. window, step: choices of a window, and by how many it moves; where a prompt reads a
    history at once they have no meaning. most: of a longer history only the newest are read, beginning at a whole multiple of
    half of that, so that most windows stay as they are when a choice is added. remarks: ratings and reviews, each shown beside its
    choice alone; of strangers there are none. store: keeps every answer; without one, and of strangers, answers are kept in this process alone. report: told how many questions have been answered, of a number that is not known beforehand (0).
    """

    prompt: Prompt
    lm: LanguageModel
    spec: str
    lines: Texts
    window: int = 3
    step: int = 3
    most: int = 60
    category: str = ""
    remarks: Remarks | None = None
    store: Store | None = None
    report: Callable[[int, int], None] | None = None
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    told: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.prompt.of != "user" or not {"items", "choices"} & set(self.prompt.blocks):
            raise BadSetting(
                f"{self.prompt.name} does not read what somebody chose. Take one that does: preference_step, user_preference, "
                "said_step, said_preference, user_profile"
            )
        if "train reviews" in self.prompt.sees and self.remarks is None:
            raise MissingInput(
                f"{self.prompt.name} reads what people said of their choices, and here nobody said anything. Give it a split's train part that has "
                "ratings or reviews:  remarks = split.train, or take  preference_step"
            )
        windows(1, self.window, self.step)  # raises where it cannot be
        if self.most < 2 * self.window:
            raise BadSetting(f"most = {self.most} must hold two windows of {self.window}:  most = {4 * self.window}")
        if not self.lines.present.any():
            raise MissingInput("no item has a text, so a history cannot be read. Add titles to items.parquet")
        self.lm = self.lm.reading(text for text in self.lines.values if text)

    @staticmethod
    def open(
        facts: Mapping[str, Any],
        lines: Texts,
        store: Store | None = None,
        remarks: Remarks | Interactions | None = None,
        **settings: Any,
    ) -> Comprehension:
        """facts: as `facts` gives them. remarks: or the choices that they came with, such as a split's train part. settings: those of
        `lm.open`. Raises BadSetting, UnknownKey, MissingInput."""
        rest = dict(facts)
        settings = {"context": rest["context"], **settings} if "context" in rest else settings
        rest.pop("context", None)
        prompt, spec = prompts.read(rest.pop("prompt")), rest.pop("lm")
        if isinstance(remarks, Interactions):
            remarks = Remarks.of(remarks, lines.ids, prompt)
        return Comprehension(
            prompt, models.open(spec, store, **settings), spec, lines, remarks=remarks, store=store, **rest
        )

    def facts(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("window", "step", "most", "category")}
        return {"prompt": self.prompt.name, "lm": models.shown(self.spec), "context": self.lm.context, **plain}

    @property
    def items(self) -> Ids:
        return self.lines.ids

    @cached_property
    def hash(self) -> str:
        told = (
            self.prompt.print,
            self.lm.name,
            self.lm.revision,
            self.window,
            self.step,
            self.most,
            self.category,
            self.space,
        )
        return digest(*map(str, told), self.lines.hash, "" if self.remarks is None else self.remarks.hash)

    @property
    def source(self) -> Provenance:
        made_by = f"enrich:{self.prompt.name}@{self.prompt.print[:12]}/{self.lm.name}@{self.lm.revision}"
        return Provenance(made_by, (self.lines.hash,), self.lines.source.interactions)

    @property
    def remarked(self) -> str | None:
        return None if self.remarks is None else self.remarks.source

    @property
    def recurrent(self) -> bool:
        return "earlier" in self.prompt.blocks

    def read(self, histories: Sequence[np.ndarray], users: Sequence[str | None]) -> list[tuple[Note, ...]]:
        """Raises LmError where nobody answers."""
        spans = [self.spans(len(history)) for history in histories]
        found: list[list[Note]] = [[] for _ in histories]
        for step in range(max(map(len, spans), default=0)):
            asked: dict[tuple[str, bytes], list[int]] = {}
            for n, history in enumerate(histories):
                if step < len(spans[n]):
                    begin, end = spans[n][step]
                    before = found[n][-1].text if found[n] else ""
                    part = self.named(history[begin:end], users[n])
                    asked.setdefault((before, part), []).append(n)
            who = {key: tuple(dict.fromkeys(users[n] for n in rows)) for key, rows in asked.items()}
            shown = {key: histories[rows[0]][slice(*spans[rows[0]][step])] for key, rows in asked.items()}
            told = self.answered({key: (shown[key], who[key]) for key in asked})
            for key, rows in asked.items():
                text, reason = told[key]
                for n in rows:
                    if text is not None:
                        found[n].append(Note(*spans[n][step], text, reason))
        return [tuple(notes) for notes in found]

    def named(self, rows: np.ndarray, user: str | None) -> bytes:
        """Equal where the same is shown, each remark beside the same choice."""
        own = self.beside(rows, user)
        parts = (part for pairs in own for part in (str(len(pairs)), *(part for pair in pairs for part in pair)))
        return rows.tobytes() + (digest(*parts).encode() if any(own) else b"")

    def beside(self, rows: np.ndarray, user: str | None) -> list[tuple[tuple[str, str], ...]]:
        """What was said of each of these choices."""
        if self.remarks is None:
            return [()] * len(rows)
        most = min(self.prompt.limits.review_tokens, self.each)
        found = [self.remarks.beside(user, row) for row in rows.tolist()]
        return [
            tuple((name, tokens.cut(said, most)[0] if name == "review" else said) for name, said in one)
            for one in found
        ]

    def spans(self, count: int) -> list[tuple[int, int]]:
        """The windows of a history of so many choices."""
        half = max(self.most // 2, 1)
        begin = -(-max(count - self.most, 0) // half) * half
        if not self.recurrent:
            return [(begin, count)] if count else []
        return [(begin + a, begin + b) for a, b in windows(count - begin, self.window, self.step)]

    def answered(
        self, asked: Mapping[tuple[str, bytes], tuple[np.ndarray, tuple[str | None, ...]]]
    ) -> dict[tuple[str, bytes], Any]:
        """Text and reason for each (notes before, choices), of these people."""
        fresh = [key for key in asked if key not in self.known]
        kept = [key for key in fresh if self.store is not None and None not in asked[key][1]]
        if kept:
            assert self.store is not None
            with self.store.calls() as calls:
                # What holds people's words is kept under all of their names.
                several = self.remarks is not None
                ask(
                    self.questions(kept, asked, several),
                    self.prompt,
                    self.category,
                    self.lm,
                    calls,
                    self.collector(kept),
                )
        alone = [key for key in fresh if key not in self.known]
        requests = (
            self.prompt.render(q.blocks, self.category, about=(q.about.kind, q.about.key))
            for q in self.questions(alone, asked)
        )
        for key, reply in zip(alone, self.lm.answer(requests), strict=True):
            self.count("calls", reply.tokens_in, reply.tokens_out, reply.usd)
            self.keep(key, reply.parsed, reply.status)
        return {key: self.known[key] for key in asked}

    @cached_property
    def known(self) -> dict[tuple[str, bytes], tuple[str | None, str]]:
        return {}

    def keep(self, key: tuple[str, bytes], answer: Any, status: str) -> None:
        if answer is None:
            self.counts[status] += 1
            self.known[key] = (None, status)
        else:
            self.known[key] = (answer.text().strip(), str(getattr(answer, "reasoning", "")))

    def answers(self) -> list[list[str | None]]:
        """All answers so far as plain values, to be kept with a model; none of what answers by rule, at no cost."""
        if self.spec == "extractive":
            return []
        return [[before, rows.hex(), *answer] for (before, rows), answer in self.known.items()]

    def remember(self, answers: Sequence[Sequence[str | None]]) -> None:
        """What `answers` gave."""
        for before, rows, text, reason in answers:
            self.known[before or "", bytes.fromhex(rows or "")] = (text, reason or "")

    def collector(self, keys: Sequence[tuple[str, bytes]]) -> Any:
        def collect(answered: Answered) -> None:
            self.count("cached" if answered.cached else "calls", answered.tokens_in, answered.tokens_out, answered.usd)
            self.keep(keys[answered.question.row], answered.answer, answered.status)

        return collect

    def count(self, how: str, tokens_in: int, tokens_out: int, usd: float) -> None:
        """One more question is answered."""
        for name, value in ((how, 1), ("tokens_in", tokens_in), ("tokens_out", tokens_out), ("usd", usd)):
            self.counts[name] += value
        now = time.monotonic()
        if self.report is not None and now - self.told > 0.2:
            self.told = now
            self.report(int(self.counts["calls"] + self.counts["cached"]), 0)

    def questions(
        self,
        keys: Sequence[tuple[str, bytes]],
        asked: Mapping[tuple[str, bytes], tuple[np.ndarray, tuple[str | None, ...]]],
        several: bool = False,
    ) -> Iterator[Question]:
        """One for each key, or, `several`, for each of its people; equal ones are asked once."""
        name = "items" if "items" in self.prompt.blocks else "choices"
        field = "" if name == "items" else "item"
        for place, key in enumerate(keys):
            rows, users = asked[key]
            said = zip(rows.tolist(), self.beside(rows, users[0]), strict=True)
            blocks = [Block(name, tuple(((field, self.shown[row]), *own) for row, own in said if self.shown[row]))]
            if key[0]:
                blocks.append(Block("earlier", ((("", tokens.cut(clean(key[0]), self.space // 3)[0]),),)))
            shows = tuple(Mention("item", self.items.keys[row]) for row in rows)
            for user in users if several else users[:1]:
                yield Question(place, Mention("user", user or "", True), shows, tuple(blocks))

    @cached_property
    def space(self) -> int:
        """Tokens for what is shown."""
        return room(self.prompt, self.lm)

    @cached_property
    def each(self) -> int:
        """Tokens for each text about a choice."""
        reviewed = self.remarks is not None and self.remarks.review is not None
        texts = (self.window if self.recurrent else self.most) * (2 if reviewed else 1)
        return self.space // (2 * texts) or 1

    @cached_property
    def shown(self) -> list[str]:
        """One line for each item, "" for one without any text."""
        most = min(self.prompt.limits.item_tokens, self.each)
        return [tokens.cut(clean(text), most)[0] if text else "" for text in self.lines.values]
