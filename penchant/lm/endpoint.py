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
from collections.abc import Iterable, Iterator
from typing import Any

from penchant.errors import BadSetting
from penchant.lm import Arrived, LanguageModel, Reply, Request, wire
from penchant.lm.asking import Learnt, Run
from penchant.lm.client import OPENAI, Client, address
from penchant.lm.pool import Turns, in_order
from penchant.lm.spending import Bound, Budget, Prices
from penchant.lm.wire import Lost, Manner, Refused

__all__ = ["Endpoint", "open_endpoint"]

GLANCE = 10.0  # seconds that looking what is there takes at most


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
        self.at = address(base_url, key)
        self.price = (prices or Prices.read()).of(model)
        if budget is not None and self.price is None:
            raise BadSetting(
                f"nobody has written down what {model} costs, so no budget can be kept. Write it into a file that you name "
                f'in PENCHANT_PRICES, 0 where it costs nothing:  [models."{model}"]  in = 0.15  out = 0.60  (a line each)'
            )
        self.learnt = Learnt(Manner(length=wire.LENGTHS[self.at.openai]))
        self.bound = Bound(self.price)

    @property
    def where(self) -> str:
        """The server's address, without anything secret."""
        return self.at.url

    @property
    def spec(self) -> str:
        """What to type to open it again."""
        return f"openai:{self.name}" if self.at.openai else f"{self.where}#{self.name}"

    def __repr__(self) -> str:
        return f"Endpoint({self.spec!r}, parallel={self.parallel})"

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """See LanguageModel. Raises NoEndpoint, BadKey, UnknownModel, BudgetSpent; what `arrived` has heard of is done."""
        run = Run(self)
        yield from in_order(requests, run.ask, run.places, run.close, arrived)

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        return self

    def maximum(self, request: Request) -> float:
        """What one sending of this can cost at most. Dollars; 0 without a price."""
        return self.bound.usd(*wire.most_tokens(wire.messages(request, pictures=False), request), request.max_tokens)

    def ping(self) -> list[str]:
        """The models that the server lists; none where it is there and lists none. Raises NoEndpoint, BadKey."""
        turns, client = Turns(), Client(self.at, self.spec, min(self.timeout, GLANCE))
        try:
            found = turns.complete(client.models())
        finally:
            turns.close([], client.close)
        if isinstance(found, Lost):
            raise client.nobody(found)
        if isinstance(found, Refused) and found.status in (401, 403):
            raise client.bad_key(found)
        return list(found) if isinstance(found, tuple) else []


def open_endpoint(spec: str, **settings: Any) -> Endpoint:
    """An endpoint from "openai:MODEL", with the key of OPENAI_API_KEY, or "http(s)://HOST:PORT/v1#MODEL", with the key of
    PENCHANT_API_KEY if that is set: a key of OpenAI's goes to OpenAI alone. settings: see Endpoint."""
    url, _, model = (OPENAI, ":", spec.removeprefix("openai:")) if spec.startswith("openai:") else spec.partition("#")
    at = address(url)
    if not model:
        example = "openai:gpt-4o-mini" if at.openai else f"{at.url}#MODEL"
        raise BadSetting(f"which model of {at.url}? Write it behind the address:  --lm {example}")
    return Endpoint(url, model, os.environ.get(at.key_from, ""), **settings)
