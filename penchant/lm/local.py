"""Local: a language model from a folder, in this process. Any causal model of transformers; pictures with LLaVA, Qwen-VL.

Nothing is downloaded but what is named as on the Hugging Face Hub and not here yet, and no code of a folder is run. Questions are answered in batches of about equal length, padded
on the left, and what one is answered depends on nothing else in its batch (up to the last bits of floating point,
which decide only between words of equal score).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from penchant.data import digest
from penchant.encode.weights import Weights, device, find, on_hub
from penchant.errors import BadModel, BadPicture, BadSetting, LmError, MissingExtra, MissingFile
from penchant.lm import Arrived, Reply, Request
from penchant.lm.asking import REFUSAL, judged
from penchant.lm.chat import EXTRA, Chat, Prompt, loading
from penchant.lm.wire import Heard, repaired
from penchant.lm.writer import Said, Writer

__all__ = ["Local", "open_local", "shared_local"]

LAYOUT = "1"  # counts up with every change of how questions are written down for a model, or answers chosen
TAKEN = {"cpu": 32, "cuda": 128}  # requests taken at once, to be put into batches by length
# Tokens in one batch, answers included: what the model remembers of each is 0.1 to 0.5 MB for 7 thousand million weights.
TOKENS = {"cpu": 8_192, "cuda": 32_768}
_open: WeakValueDictionary[tuple[object, ...], Local] = WeakValueDictionary()
WRITERS = ("CausalLM", "LMHead", "ConditionalGeneration")  # in the names of classes that write text


def open_local(folder: str) -> Local:
    """The language model in a folder, or of a name on the Hugging Face Hub, "owner/model"; weights are loaded when the first question is asked.

    Raises MissingFile when there is no such folder or model, BadModel when it holds no model, MissingExtra without the extra
    `hf`. What is wrong with the weights shows with the first question, as BadModel.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        if on_hub(folder):
            return Local(find(folder, ("extractive",), EXTRA, "language model"))
        raise MissingFile(
            f'no folder {folder}. Give the folder of a model, or its name on the Hugging Face Hub:  "local:FOLDER", "local:OWNER/MODEL"; a model that is trained here may have  base = "tiny"'
        )
    if not (path / "config.json").is_file():
        raise BadModel(f"folder {folder} holds no model: it has no config.json. Give the folder it was saved to.")
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra(f"language model {folder}", EXTRA)
    return Local(Weights(path.resolve().name, path))


def shared_local(folder: str) -> Local:
    """As `open_local`; who asks the same folder, unchanged, while another still holds it, gets the same model: weights are in memory once.
    For asking alone, not for training."""
    path = Path(folder).expanduser()
    files = sorted(path.rglob("*")) if path.is_dir() else []
    key = (str(path.resolve()), *((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()))
    found = _open.get(key)
    if found is None:
        found = _open[key] = open_local(folder)
    return found


@dataclass(frozen=True)
class _Asked:
    """A question on its way. number: the n-th; room: tokens left for the answer; began: by the clock; before: the
    reply that was no use."""

    number: int
    request: Request
    prompt: Prompt
    room: int
    began: float
    before: Reply | None = None


class Local:
    """A model folder as a LanguageModel. name: the folder's; at_once: tokens in one batch, None for the device's own.

    Greedy at temperature 0; else sampled from the whole distribution with the request's seed, alike in any company.
    Penalties and cut-offs that the folder sets for sampling are not used. Replies against a schema are asked for
    once more when they cannot be parsed, as an endpoint does. Floats of 32 bits on the processor, the checkpoint's
    own on a graphics card.
    """

    where = ""

    def __init__(self, weights: Weights, at_once: int | None = None) -> None:
        self.weights, self.name, self.at_once = weights, weights.name, at_once

    @cached_property
    def revision(self) -> str:
        """Hash of weights, settings, tokenizer and chat templates, 12 hex digits."""
        templates = sorted(self.weights.folder.rglob("*.jinja"))
        return digest(LAYOUT, self.weights.revision, *(path.read_text("utf-8", "replace") for path in templates))[:12]

    @property
    def context(self) -> int:
        """Tokens of this model's own tokenizer that a question and its answer may take together."""
        return self.chat.context

    def reading(self, corpus: Iterable[str]) -> Local:
        return self

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """One Reply a request, in the order asked; TAKEN requests are held at a time.

        "failed" is what this model cannot be asked: pictures it does not see or cannot open, a prompt longer than
        its context. "truncated" is an answer that max_tokens or the context cut off, unless what is there fits the schema.
        """
        source = enumerate(requests)
        while window := list(islice(source, TAKEN.get(self._device, TAKEN["cpu"]))):
            replies: dict[int, Reply] = {}
            due = window[0][0]
            for number, reply in self._window(window):
                replies[number] = reply
                if arrived is not None:
                    arrived(number, reply)
                while due in replies:
                    yield replies.pop(due)
                    due += 1

    def probabilities(self, requests: Iterable[Request], answers: Sequence[str] = ("yes", "no")) -> np.ndarray:
        """How likely each answer begins, among these answers alone. (B, len(answers)) float64, rows sum to 1

        p(a) / sum of p over the answers, at the first place after the prompt: for two, sigmoid(z_yes - z_no). An
        answer is told by its first token as it would follow this very prompt; nothing is generated, and temperature,
        schema and max_tokens do not matter.
        Raises BadSetting when two answers begin with the same token, LmError, which names the question, for what this
        model cannot be asked.
        """
        if len(answers) < 2 or not all(answers):
            raise BadSetting(f'probabilities are told among two answers or more, not {list(answers)}: ("yes", "no")')
        rows = [np.zeros((0, len(answers)))]
        source = enumerate(requests)
        while window := list(islice(source, TAKEN.get(self._device, TAKEN["cpu"]))):
            first: dict[int, list[int]] = {}
            asked = []
            for number, request in window:
                one = self._asked(number, replace(request, max_tokens=1))
                if isinstance(one, str):
                    raise _unasked(number, request, one)
                drop, first[number] = self.chat.begin(request, answers)
                asked.append(replace(one, prompt=one.prompt.without_end(drop)))
            values = np.zeros((len(window), len(answers)))
            for batch in self._batches(asked):
                for one, z in zip(batch, self.writer.logits([a.prompt for a in batch]), strict=True):
                    if isinstance(z, str):
                        raise _unasked(one.number, one.request, z)
                    values[one.number - window[0][0]] = z[first[one.number]]
            weights = np.exp(values - values.max(axis=1, keepdims=True))
            rows.append(weights / weights.sum(axis=1, keepdims=True))
        return np.concatenate(rows)

    def _window(self, window: Sequence[tuple[int, Request]]) -> Iterator[tuple[int, Reply]]:
        """Replies to some requests, as they come."""
        asked = []
        for number, request in window:
            one = self._asked(number, request)
            if isinstance(one, str):
                yield number, Reply("", status="failed", error=one, attempts=0)
            else:
                asked.append(one)
        while asked:
            again = []
            for batch in self._batches(asked):
                prompts, requests = [one.prompt for one in batch], [one.request for one in batch]
                for one, said in zip(batch, self.writer.written(prompts, requests, batch[0].room), strict=True):
                    reply = self._reply(one, said)
                    once_more = self._once_more(one, reply) if reply.status == "unparsable" else None
                    if once_more is None:
                        yield one.number, reply
                    else:
                        again.append(once_more)
            asked = again

    def _asked(self, number: int, request: Request, before: Reply | None = None) -> _Asked | str:
        """The question as this model takes it, or why it cannot."""
        try:
            again = repaired([], before.text, before.error, request.schema) if before else []
            prompt = self.chat.prompt(request, tuple(message["content"] for message in again))
        except (BadPicture, LmError) as error:
            return str(error)
        room = min(request.max_tokens, self.context - prompt.tokens)
        if request.max_tokens < 1:
            return f"max_tokens is {request.max_tokens}, which leaves no answer. Set it to at least 1."
        if room < 1:
            return (
                f"the prompt has {prompt.tokens:,} tokens, and {self.name} takes {self.context:,} for prompt and answer "
                "together. Put less into one question, or take a model with a longer context."
            )
        return _Asked(number, request, prompt, room, time.monotonic())

    def _once_more(self, one: _Asked, reply: Reply) -> _Asked | None:
        """The question with the reply and what was wrong with it; None when it was asked twice or has become too long."""
        if one.before is not None:
            return None
        asked = self._asked(one.number, one.request, reply)
        return None if isinstance(asked, str) else replace(asked, began=one.began, before=reply)

    def _reply(self, one: _Asked, said: Said | str) -> Reply:
        before = one.before or Reply("", attempts=0)
        reply = Reply(
            before.text,
            tokens_in=before.tokens_in + one.prompt.tokens,
            tokens_out=before.tokens_out + (0 if isinstance(said, str) else said.tokens),
            attempts=before.attempts + 1,
            seconds=time.monotonic() - one.began,
        )
        if isinstance(said, str):
            return replace(reply, status="failed", error=said)
        status, wrong, parsed = judged(Heard(said.text, finish="stop" if said.ended else "length"), one.request)
        if status == "truncated" and one.room < one.request.max_tokens:
            wrong = f"it was cut off after {said.tokens:,} tokens, where the model's context of {self.context:,} ends"
        text = said.text or before.text
        if status == "unparsable" and one.before and REFUSAL.match(text):
            status, wrong = "refused", "the model refuses in its own words"
        return replace(reply, text=text, status=status, error=wrong, parsed=parsed)

    def _batches(self, asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
        """Questions of about equal length, longest first, at most `at_once` tokens with padding and answers.

        Those in one batch have equal room, so none runs on beyond its own, and all have pictures or none has.
        """
        most = self.at_once or TOKENS.get(self._device, TOKENS["cpu"])
        batch: list[_Asked] = []
        for one in sorted(asked, key=lambda a: (-a.room, a.prompt.sees, -a.prompt.tokens)):
            if batch:
                longest = batch[0]
                alike = (one.room, one.prompt.sees) == (longest.room, longest.prompt.sees)
                if not alike or (len(batch) + 1) * (longest.prompt.tokens + longest.room) > most:
                    yield batch
                    batch = []
            batch.append(one)
        if batch:
            yield batch

    @cached_property
    def _device(self) -> str:
        return device()

    @cached_property
    def writer(self) -> Writer:
        return Writer(self.chat, self._device)

    @cached_property
    def chat(self) -> Chat:
        with loading(self.name):
            from transformers import (
                MODEL_FOR_CAUSAL_LM_MAPPING,
                MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
                AutoConfig,
            )

            folder = str(self.weights.folder)
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            classes = config.architectures or WRITERS
            writes = any(part in name for name in classes for part in WRITERS)
            if not writes or not (sees or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING):
                raise BadModel(
                    f"{self.name} ({config.model_type}: {', '.join(classes)}) is no model that writes text. "
                    "Take a causal language model, or LLaVA or Qwen-VL for pictures."
                )
        return Chat(self.weights, config, sees)


def _unasked(number: int, request: Request, why: str) -> LmError:
    about = f" ({' '.join(request.about)})" if request.about else ""
    return LmError(f"question {number + 1}{about}: {why}")
