"""Template: how one model's conversations are written down, and what no stranger's text can write into them.

A model folder brings its template as a small program; a folder without one gets the system text, a blank line and the
question. Templates differ in what they take, so each is tried once with harmless words: does it keep the system
message, does it place pictures, does it keep the question at all?
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penchant.errors import BadModel, LmError
from penchant.lm import Request

__all__ = ["Template"]

# Templates of some models (Llama 3, Mistral) write the day into the prompt. Equal questions must stay equal questions,
# so it is always Wednesday, 1 January 2025.
DAY = (
    "{% macro strftime_now(form) %}{{ form | replace('%Y', '2025') | replace('%m', '01') | replace('%d', '01')"
    " | replace('%b', 'Jan') | replace('%B', 'January') | replace('%a', 'Wed') | replace('%A', 'Wednesday')"
    " | replace('%H', '12') | replace('%M', '00') | replace('%S', '00') }}{% endmacro %}"
)
HALF = re.compile("[\ud800-\udfff]")  # half surrogate pairs, which no tokenizer takes
TRIED = ("Describe things.", "What is shown?")


@dataclass(frozen=True)
class _Manner:
    """What a template takes. system: a system message; parts: contents as lists of texts and pictures."""

    system: bool
    parts: bool


class Template:
    """name: the model's, for messages. program: the folder's own, None without one. picture: what stands for a picture
    in a plain text, as `mark` with whatever is around it; both "" for a model that reads no pictures."""

    def __init__(self, name: str, tokenizer: Any, program: str | None, mark: str = "", picture: str = "") -> None:
        self.name, self.tokenizer, self.mark, self.picture = name, tokenizer, mark, picture
        self.program = DAY + program if program and "strftime_now" in program else program

    def text(self, request: Request, before: Sequence[str] = (), answer: str | None = None) -> str:
        """The conversation up to where the answer begins, or with this answer.

        before: a reply that was no use, and what is said to that. Raises LmError where the template refuses this very
        question, BadModel where it loses every question.
        """
        system, user = self.tame(request.system).strip(), self.tame(request.user).strip()
        rest = [(role, self.tame(said).strip()) for role, said in zip(("assistant", "user"), before, strict=False)]
        rest += [("assistant", answer)] if answer is not None else []
        if self.program is None:
            first = _joined(system, self.picture * len(request.images) + user)
            # A reply follows after a space, as a sentence does; what is said to it after a blank line.
            return first + "".join((" " if role == "assistant" else "\n\n") + said for role, said in rest)
        text = self._rendered(self._manner, system, user, len(request.images), rest, answer is None)
        if text is None:
            raise LmError(
                f"the chat template of {self.name} refuses this question. Take another model, or remove the template "
                "(chat_template.jinja, or `chat_template` in tokenizer_config.json)."
            )
        return text

    def tame(self, text: str) -> str:
        """Marks that a text spells, taken apart by a space after their first sign: readable, and words only."""
        return self._special.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", HALF.sub("\ufffd", text))

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """Every string that tokenizer or model take for more than words."""
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values()]
        found = {mark for mark in added if mark[:1] in ("<", "[")} | {*self.tokenizer.all_special_tokens, self.mark}
        longest_first = sorted((mark for mark in found if len(mark) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def _manner(self) -> _Manner:
        """The first way of asking in which every word and picture arrives.

        Some templates (Gemma, Mistral) refuse a system message or leave it out: then it leads the question. Some models
        that see have a template for texts alone: then the picture's mark stands in the text.
        """
        pictures = 1 if self.mark else 0
        for parts in (True, False) if self.mark else (False,):
            for system in (True, False):
                manner = _Manner(system, parts)
                text = self._rendered(manner, *TRIED, pictures, [], True) or ""
                whole = all(words in text for words in TRIED) and "'type'" not in text
                if whole and (not self.mark or text.count(self.mark) == pictures):
                    return manner
        raise BadModel(
            f"the chat template of {self.name} leaves out the question. Take another model, or remove the template "
            "(chat_template.jinja, or `chat_template` in tokenizer_config.json)."
        )

    def _rendered(
        self,
        manner: _Manner,
        system: str,
        user: str,
        pictures: int,
        rest: Sequence[tuple[str, str]],
        open_ended: bool,
    ) -> str | None:
        """By the program, pictures in the first message of the user; None where it refuses."""
        from jinja2 import TemplateError

        said = [("system", system)] if system and manner.system else []
        said += [("user", user if manner.system else _joined(system, user)), *rest]
        messages: list[dict[str, Any]] = []
        for role, text in said:
            shown, pictures = (pictures, 0) if role == "user" else (0, pictures)
            parts = [*[{"type": "image"}] * shown, {"type": "text", "text": text}]
            messages.append({"role": role, "content": parts if manner.parts else self.picture * shown + text})
        try:
            return self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.program,
                tokenize=False,
                add_generation_prompt=open_ended,
                enable_thinking=False,  # the typed replies have their own place to think, and it is counted
            )
        except (TemplateError, TypeError):
            return None


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
