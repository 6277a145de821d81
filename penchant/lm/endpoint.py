"""Endpoint: any server that speaks like OpenAI's (OpenAI, vLLM, Ollama, llama.cpp, TGI, transformers serve), asked in bulk.

    lm = Endpoint("http://localhost:8000/v1", "qwen", parallel=32)
    for reply in lm.answer(requests, arrived): ...

What happens to one question:

- It is sent when there is a place and, with a budget, when all that it can cost still fits.
- Too busy, broken, timed out, no connection: sent again after a pause, `retries` times at most; then it is "failed".
- The server does not take the JSON schema, or a setting: sent without; what worked is remembered.
- The words do not parse: sent back once with what is wrong; then it is "unparsable", or "refused" if they plainly refuse.
- Cut at max_tokens: "truncated". Marked as refused or filtered: "refused". Refused as a question: "failed".
- What concerns every question (key, model, budget, nobody there) is raised at once, and nothing more is sent.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from penchant.errors import BadPicture, BadSetting
from penchant.lm import Arrived, LanguageModel, Reply, Request, Status, tokens, wire
from penchant.lm.client import OPENAI, Client, address
from penchant.lm.manners import simpler, unknown_model
from penchant.lm.parsing import parse
from penchant.lm.pool import Places, Turns, in_order, pause
from penchant.lm.replies import Answer
from penchant.lm.spending import Bound, Budget, Prices, Purse
from penchant.lm.wire import Heard, Lost, Manner, Message, Outcome, Refused

__all__ = ["Endpoint", "open_endpoint"]

QUIET = 20  # requests in a row without any reply, or three rounds of them, after which nobody is there any more
GLANCE = 10.0  # seconds that looking what is there takes at most
LONGEST = 20.0  # seconds that a pause of our own choice takes at most
REFUSAL = re.compile(
    r"\W*(i.?m (very |really )?sorry|i am sorry|sorry|i can.?t|i cannot|i can not|i won.?t|i.?m (not able|unable)|i am "
    r"(not able|unable)|i must decline|as an ai|unfortunately,? i)\b",
    re.IGNORECASE,
)


class Endpoint:
    """A server's model. Raises BadSetting for an address or a number that is none, and for a budget without prices.

    base_url: up to and with /v1. key: "" where none is needed. parallel: questions in flight. timeout: seconds for one
    sending. context: tokens that a question and its answer may take. budget: dollars not to be exceeded; prices: what
    they are counted with. backoff: seconds; the first pause before a question is sent again is up to so long, and grows
    twofold. longest_wait: seconds; more is not waited, however long the server asks for.

    The dollars of a reply are never too low: a sending of unknown cost counts with all that it can have cost.
    """

    revision = ""  # a server does not tell, and its address says nothing of the model

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str = "",
        parallel: int = 16,
        retries: int = 5,
        timeout: float = 120.0,
        context: int = 8192,
        budget: Budget | None = None,
        prices: Prices | None = None,
        backoff: float = 0.5,
        longest_wait: float = 60.0,
    ) -> None:
        for what, number, least in (("parallel", parallel, 1), ("retries", retries, 0), ("context", context, 1)):
            if number < least:
                raise BadSetting(f"{what} = {number} is too small. Give at least {least}")
        if not timeout > 0:
            raise BadSetting(f"timeout = {timeout} is no time. Give seconds, e.g. 120")
        self.name, self.context, self.parallel, self.retries, self.timeout = model, context, parallel, retries, timeout
        self.budget, self.backoff, self.longest_wait = budget, backoff, longest_wait
        self._at = address(base_url, key)
        self.price = (prices or Prices.read()).of(model)
        if budget is not None and self.price is None:
            raise BadSetting(
                f"nobody has written down what {model} costs, so no budget can be kept. Write it into a file that you name "
                f'in PENCHANT_PRICES, 0 where it costs nothing:  [models."{model}"]  in = 0.15  out = 0.60  (a line each)'
            )
        self._learnt = _Learnt(Manner(length=wire.LENGTHS[self._at.openai]))
        self._bound = Bound(self.price)

    @property
    def where(self) -> str:
        """The server's address, without anything secret."""
        return self._at.url

    @property
    def spec(self) -> str:
        """What to type to open it again."""
        return f"openai:{self.name}" if self._at.openai else f"{self.where}#{self.name}"

    def __repr__(self) -> str:
        return f"Endpoint({self.spec!r}, parallel={self.parallel})"

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """See LanguageModel. Raises NoEndpoint, BadKey, UnknownModel, BudgetSpent; what `arrived` has heard of is done."""
        run = _Run(self)
        yield from in_order(requests, run.ask, run.places, run.client.close, arrived)

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        return self

    def maximum(self, request: Request) -> float:
        """What one sending of this can cost at most. Dollars; 0 without a price."""
        return self._bound.usd(*wire.most_tokens(wire.messages(request, pictures=False), request), request.max_tokens)

    def ping(self) -> list[str]:
        """The models that the server lists; none where it is there and lists none. Raises NoEndpoint, BadKey."""
        turns, client = Turns(), Client(self._at, self.spec, min(self.timeout, GLANCE))
        try:
            found = turns.complete(client.models())
        finally:
            turns.close([], client.close)
        if isinstance(found, Lost):
            raise client.nobody(found)
        if isinstance(found, Refused) and found.status in (401, 403):
            raise client.bad_key(found)
        return list(found) if isinstance(found, tuple) else []


@dataclass
class _Learnt:
    """What an endpoint has learnt of its server. lost: requests in a row that ended without a reply."""

    manner: Manner
    proven: bool = False  # the manner has worked
    answered: int = 0
    lost: int = 0


@dataclass
class _Tally:
    """What one request has taken so far."""

    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0

    def reply(self, status: Status, text: str, error: str, parsed: Answer | None = None) -> Reply:
        seconds = time.monotonic() - self.started
        return Reply(text, parsed, status, self.tokens_in, self.tokens_out, self.usd, self.sent, error, seconds)


@dataclass(frozen=True)
class _Gone:
    """The end of a question that got no reply."""

    status: Status
    why: str


class _Run:
    """One call of `answer`: its connection, its places, its money."""

    def __init__(self, of: Endpoint) -> None:
        self.of, self.learnt = of, of._learnt
        self.client = Client(of._at, of.spec, of.timeout)
        self.places = Places(of.parallel)
        self.purse = Purse(of.budget)

    async def ask(self, request: Request) -> Reply:
        """A question until its end: a Reply whatever happened, or an error that concerns all questions."""
        tally = _Tally()
        try:
            said = wire.messages(request)
        except BadPicture as error:
            return tally.reply("failed", "", str(error))
        first = await self._heard(request, said, tally)
        if isinstance(first, _Gone):
            return tally.reply(first.status, "", first.why)
        status, wrong, parsed = judged(first, request)
        if status != "unparsable":
            return tally.reply(status, first.text, wrong, parsed)
        second = await self._heard(request, wire.repaired(said, first.text, wrong, request.schema), tally)
        if isinstance(second, _Gone):
            return tally.reply(second.status, first.text, f"{second.why}. Before that: {wrong}")
        status, wrong, parsed = judged(second, request)
        text = second.text or first.text
        if status == "unparsable" and REFUSAL.match(text):
            return tally.reply("refused", text, "the model refuses in its own words")
        return tally.reply(status, text, wrong, parsed)

    async def _heard(self, request: Request, said: list[Message], tally: _Tally) -> Heard | _Gone:
        """The reply to a conversation, sent as often as it takes and is allowed."""
        manner = self.learnt.manner
        while True:
            outcome = await self._send(request, said, manner, tally)
            if isinstance(outcome, Heard):
                self._worked(manner, request)
                return outcome
            if isinstance(outcome, Refused):
                if outcome.status in (401, 402, 403) or outcome.code == "insufficient_quota":
                    raise self.client.bad_key(outcome)
                if (other := simpler(manner, outcome, request)) is not None:
                    manner = other
                    continue
                if unknown_model(outcome) and (outcome.status == 404 or not self.learnt.answered):
                    raise await self.client.unknown_model(self.of.name)
                if not outcome.passing:
                    self.learnt.lost = 0
                    return _Gone("refused" if outcome.code.startswith("content_") else "failed", outcome.why)
            tally.failures += 1
            if tally.failures > self.of.retries:
                return self._given_up(outcome, tally)
            await pause(self._pause(outcome, tally.failures))

    async def _send(self, request: Request, said: list[Message], manner: Manner, tally: _Tally) -> Outcome:
        """One sending, when it can be paid and there is a place."""
        into, squares = wire.most_tokens(said, request)
        maximum = self.of._bound.usd(into, squares, request.max_tokens)
        async with self.purse.set_aside(maximum) as bill, self.places:
            tally.started = tally.started if tally.sent else time.monotonic()
            tally.sent += 1
            outcome = await self.client.send(wire.body(self.of.name, said, request, manner))
            if isinstance(outcome, Refused) or (isinstance(outcome, Lost) and not outcome.sent):
                bill.cost = 0.0
            else:
                bill.cost = self._counted(outcome, request, said, bill.cost, tally)
        tally.usd += bill.cost
        self.places.told(isinstance(outcome, Refused) and outcome.status == 429)
        return outcome

    def _counted(self, outcome: Outcome, request: Request, said: list[Message], most: float, tally: _Tally) -> float:
        """Adds up tokens, by our rule where the server does not tell, and returns the cost, `most` where it is unknown."""
        heard = outcome if isinstance(outcome, Heard) else Heard("")
        into = heard.tokens_in if heard.tokens_in is not None else sum(map(tokens.count, wire.texts(said)))
        out = heard.tokens_out if heard.tokens_out is not None else tokens.count(heard.text)
        tally.tokens_in, tally.tokens_out = tally.tokens_in + into, tally.tokens_out + out
        if heard.tokens_in is None or heard.tokens_out is None:
            return most
        self.of._bound.learn(wire.most_tokens(said, request), request.max_tokens, into, out)
        return self.of.price.usd(into, out) if self.of.price else 0.0

    def _worked(self, manner: Manner, request: Request) -> None:
        """A reply has come: the server is there, and takes questions asked in this manner."""
        self.learnt.lost = 0
        self.learnt.answered += 1
        self.purse.answered += 1
        if request.schema is None:  # which tells nothing of schemas
            manner = replace(manner, form=self.learnt.manner.form)
        if manner == self.learnt.manner or not self.learnt.proven:
            self.learnt.manner = manner
            self.learnt.proven = self.learnt.proven or request.schema is not None

    def _pause(self, outcome: Refused | Lost, failures: int) -> float:
        """Seconds before a question is sent again: what the server asks for, else a random part of a growing time."""
        if isinstance(outcome, Refused) and outcome.wait:
            return min(outcome.wait, self.of.longest_wait) * random.uniform(1.0, 1.1)
        if isinstance(outcome, Lost) and not outcome.reached and not self.learnt.answered:
            return random.uniform(0.0, min(0.1 * 2**failures, 1.0))  # nobody was ever there: that is soon said
        return random.uniform(0.0, min(self.of.backoff * 2 ** (failures - 1), LONGEST, self.of.longest_wait))

    def _given_up(self, outcome: Refused | Lost, tally: _Tally) -> _Gone:
        """A question without any reply; too many of them, and nobody is there."""
        self.learnt.lost += 1
        if isinstance(outcome, Lost) and not outcome.reached and not self.learnt.answered:
            raise self.client.nobody(outcome)
        if self.learnt.lost >= max(QUIET, 3 * self.of.parallel):
            raise self.client.stopped(outcome, self.learnt.lost)
        return _Gone("failed", f"{outcome.why}; sent {'once' if tally.sent == 1 else f'{tally.sent} times'}")


def judged(heard: Heard, request: Request) -> tuple[Status, str, Answer | None]:
    """What a reply is: its status, what is wrong with it, and the typed answer."""
    if heard.refusal or heard.finish == "content_filter":
        return "refused", heard.refusal or "the server's filter took the answer away", None
    parsed, wrong = None, ""
    if not heard.text.strip():
        wrong = "it is empty"
    elif request.schema is not None:
        parsed, wrong = parse(heard.text, request.schema)
    if heard.finish == "length" and parsed is None:
        return "truncated", f"it was cut off at max_tokens = {request.max_tokens}", None
    return ("unparsable", wrong, None) if wrong else ("ok", "", parsed)


def open_endpoint(spec: str, **settings: Any) -> Endpoint:
    """An endpoint from "openai:MODEL", with the key of OPENAI_API_KEY, or "http(s)://HOST:PORT/v1#MODEL", with the key of
    PENCHANT_API_KEY if that is set: a key of OpenAI's goes to OpenAI alone. settings: see Endpoint."""
    url, _, model = (OPENAI, ":", spec.removeprefix("openai:")) if spec.startswith("openai:") else spec.partition("#")
    at = address(url)
    if not model:
        example = "openai:gpt-4o-mini" if at.openai else f"{at.url}#MODEL"
        raise BadSetting(f"which model of {at.url}? Write it behind the address:  --lm {example}")
    return Endpoint(url, model, os.environ.get(at.key_from, ""), **settings)
