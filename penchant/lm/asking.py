"""Asking: one question to a server until its end, a Reply whatever happens, or an error that concerns all questions."""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from penchant.errors import BadPicture, LmError
from penchant.lm import Reply, Request, Status, tokens, wire
from penchant.lm.client import Client
from penchant.lm.manners import simpler, unknown_model
from penchant.lm.parsing import parse
from penchant.lm.pool import Places, pause
from penchant.lm.replies import Answer
from penchant.lm.spending import Purse
from penchant.lm.wire import Heard, Lost, Manner, Message, Outcome, Refused

if TYPE_CHECKING:
    from penchant.lm.endpoint import Endpoint

__all__ = ["REFUSAL", "Learnt", "Run", "judged"]

QUIET = 20  # requests in a row without any reply, or three rounds of them, after which nobody is there any more
GATEWAY = (502, 504)  # what stands before a server has lost its answer, which may have been paid for
LONGEST = 20.0  # seconds that a pause of our own choice takes at most
REFUSAL = re.compile(
    r"\W*(i.?m (very |really )?sorry|i am sorry|sorry|i can.?t|i cannot|i can not|i won.?t|i.?m (not able|unable)|i am "
    r"(not able|unable)|i must decline|as an ai|unfortunately,? i)\b",
    re.IGNORECASE,
)


@dataclass
class Learnt:
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


class Run:
    """One call of `answer`: its connection, its places, its money."""

    def __init__(self, of: Endpoint) -> None:
        self.of, self.learnt = of, of.learnt
        self.places = Places(of.parallel)
        self.purse = Purse(of.budget)
        self.alone = asyncio.Lock()  # with a budget, the first reply is waited for: it tells how this server counts
        self.over: LmError | None = None  # why nothing more is asked

    @cached_property
    def client(self) -> Client:
        """The connection, made when there is something to ask: what the store answers needs no key."""
        return Client(self.of.at, self.of.spec, self.of.timeout)

    async def close(self) -> None:
        if "client" in self.__dict__:
            await self.client.close()

    async def ask(self, request: Request) -> Reply:
        """A question until its end: a Reply whatever happened, or an error that concerns all questions."""
        tally = _Tally()
        if self.over is not None:
            raise self.over
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
        try:
            second = await self._heard(request, wire.repaired(said, first.text, wrong, request.schema), tally)
        except LmError as error:  # the first reply was paid for: what it cost is kept, before everything ends
            self.over = error
            return tally.reply("failed", first.text, f"{wrong}; it could not be asked once more")
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
                if await self._locked_out(outcome):
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

    async def _locked_out(self, outcome: Refused) -> bool:
        """Whether a refusal is about the key or the account. 403 may be a filter's word about one question."""
        if outcome.status == 403 and outcome.code != "insufficient_quota":
            return not self.learnt.answered and not isinstance(await self.client.models(), tuple)
        return outcome.status in (401, 402) or outcome.code == "insufficient_quota"

    async def _send(self, request: Request, said: list[Message], manner: Manner, tally: _Tally) -> Outcome:
        """One sending; with a budget, one at a time until the first reply has shown how the server counts."""
        if self.of.budget is not None and not self.learnt.answered:
            async with self.alone:
                if not self.learnt.answered:
                    return await self._sent(request, said, manner, tally)
        return await self._sent(request, said, manner, tally)

    async def _sent(self, request: Request, said: list[Message], manner: Manner, tally: _Tally) -> Outcome:
        """One sending, when it can be paid and there is a place."""
        into, squares = wire.most_tokens(said, request)
        maximum = self.of.bound.usd(into, squares, request.max_tokens)
        async with self.purse.set_aside(maximum) as bill, self.places:
            tally.started = tally.started if tally.sent else time.monotonic()
            tally.sent += 1
            outcome = await self.client.send(wire.body(self.of.name, said, request, manner))
            if (isinstance(outcome, Refused) and outcome.status not in GATEWAY) or (
                isinstance(outcome, Lost) and not outcome.sent
            ):
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
        self.of.bound.learn(wire.most_tokens(said, request), request.max_tokens, into, out)
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
