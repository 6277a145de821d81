"""Plan: what an enrichment would ask and cost, found by going the whole way with a model that only counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from penchant.calls import Calls
from penchant.enrich.prompt import Prompt
from penchant.lm import Answer, Arrived, LanguageModel, Reply, Request, tokens, wire_schema
from penchant.lm.spending import Price
from penchant.lm.stand_in import StandIn

__all__ = ["Counting", "Plan", "leaving"]

ENOUGH = 20  # kept calls of a prompt from which the length of its answers is learnt
FRAME = 8  # tokens that a server puts around a message


@dataclass(frozen=True)
class Plan:
    """calls: questions to ask; cached: those that the store answers. Tokens are counted by `rule`.

    usd: expected; usd_most: if every answer were as long as it may be; both where nothing has to be repeated, and None where
    no price is known. asks: the server's address, "" for what answers in this process. leaves: what personal text would
    go to which address; "" where nothing leaves this machine. stages: the same by prompt, where one needs another.
    """

    prompt: str
    model: str
    calls: int
    cached: int
    without_input: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    usd_most: float | None
    rule: str
    leaves: str
    asks: str = ""
    pictures: int = 0
    picture_tokens: int = 0
    truncated: dict[str, int] = field(default_factory=dict)
    stages: tuple[Plan, ...] = ()

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class Counting(StandIn):
    """Stands in for a model: counts what it would be asked and answers with words of a usual length."""

    def __init__(self, of: LanguageModel, price: Price | None, calls: Calls, label: str) -> None:
        super().__init__(of)
        self.price = price
        self.asked = self.tokens_in = self.tokens_out = self.most_out = self.pictures = self.squares = 0
        self.ratio, self.length = _learnt(calls, of.name, label)

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        return self

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        for n, request in enumerate(requests):
            out = self.length or request.max_tokens // 2
            self.asked += 1
            self.pictures += len(request.images)
            # A square of 512 pixels counts once, as in `Endpoint.maximum`.
            self.squares += len(request.images) * (-(-request.picture_size // 512)) ** 2
            self.tokens_in += round(self.ratio * (tokens.count(request.system) + tokens.count(request.user) + FRAME))
            self.tokens_out += out
            self.most_out += request.max_tokens
            reply = Reply("", _usual(request.schema) if request.schema else None)
            if arrived is not None:
                arrived(n, reply)
            yield reply

    @property
    def usd(self) -> float | None:
        return None if self.price is None else self.price.usd(self.tokens_in, self.tokens_out, self.squares)

    @property
    def usd_most(self) -> float | None:
        return None if self.price is None else self.price.usd(self.tokens_in, self.most_out, self.squares)

    @property
    def rule(self) -> str:
        if not self.length:
            return f"{tokens.RULE}; answers half as long as allowed"
        return f"{tokens.RULE}, times {self.ratio:.2f} as kept calls of this prompt had; answers as long as theirs"


def leaving(prompt: Prompt, model: LanguageModel) -> str:
    """What personal text would leave this machine, and to where; "" where none does."""
    host = urlsplit(model.where).hostname or model.where
    if not prompt.personal or not host or host == "localhost" or _loopback(host):
        return ""
    shown = ", ".join(
        part.removeprefix("train ") for part in prompt.sees if part.startswith("train ") or part == "ratings"
    )
    return f"{shown} of people, without their ids, to {host}"


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _learnt(calls: Calls, model: str, label: str) -> tuple[float, int]:
    """How many tokens the server counted for each of ours, and how long its answers were; (1, 0) where unknown."""
    counted = said = length = number = 0
    where = "WHERE model = ? AND prompt = ? AND status = 'ok' AND attempts = 1 ORDER BY id DESC LIMIT 200"
    for call in calls.read_all(where, (model, label)):
        if call.request["pictures"] or not call.tokens_in:
            continue
        number, length, counted = number + 1, length + call.tokens_out, counted + call.tokens_in
        said += tokens.count(call.request["system"]) + tokens.count(call.request["user"]) + FRAME
    return (counted / said, -(-length // number)) if number >= ENOUGH and said else (1.0, 0)


def _usual(schema: type[Answer]) -> Answer:
    """An answer of words that mean nothing, about as long as real ones are."""

    def filled(node: dict[str, Any]) -> Any:
        kind = node.get("type")
        if kind == "object":
            return {name: filled(part) for name, part in node["properties"].items()}
        if kind == "array":
            return [filled(node["items"]) for _ in range(4)]
        return 0.5 if kind == "number" else "words words words words words"

    made = {name: filled(part) for name, part in wire_schema(schema)["properties"].items()}
    last = list(made)[-1]
    if isinstance(made[last], str):
        made[last] = " ".join(["words"] * 60)  # the paragraph that later prompts will show
    return schema.model_validate(made)
