"""Language models: what is asked (Request), what comes back (Reply), and who answers (LanguageModel).

    lm = open("openai:gpt-4o-mini")                # or "http://localhost:8000/v1#model", "local:FOLDER", "extractive"
    for reply in lm.answer([Request("You describe products.", "What is a mug?")]): ...

Four kinds answer: a server (`endpoint`), a model folder in this process (`local`), the engine without any language
model (`extractive`), and the store alone (`replay`). Whoever asks does not know which one it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from penchant.lm.replies import Answer

if TYPE_CHECKING:
    from penchant.store import Store

__all__ = ["BAD", "Arrived", "LanguageModel", "Reply", "Request", "Status", "open", "shown", "wire_schema"]

Status = Literal["ok", "refused", "unparsable", "truncated", "failed"]
BAD: tuple[Status, ...] = ("refused", "unparsable", "truncated", "failed")

Arrived = Callable[[int, "Reply"], None]


@dataclass(frozen=True)
class Request:
    """One question. system and user are the whole text; images are picture files as they came (JPEG, PNG, ...).

    schema: the reply's type; None for free text. temperature, max_tokens, seed: how to sample. picture_size: pixels
    on the longer side that pictures are scaled down to before they are sent. about: whom it is asked for, as (kind,
    key), for messages alone: two requests that differ in nothing else are equal.
    """

    system: str
    user: str
    images: tuple[bytes, ...] = ()
    schema: type[Answer] | None = None
    temperature: float = 0.0
    max_tokens: int = 600
    seed: int = 0
    picture_size: int = 512
    about: tuple[str, str] | None = field(default=None, compare=False)

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """sha256 of each picture file."""
        return tuple(hashlib.sha256(raw).hexdigest() for raw in self.images)

    def facts(self, model: str, revision: str) -> dict[str, Any]:
        """Everything that the answer may depend on, and nothing else: no item id, date or server."""
        return {
            "model": model,
            "revision": revision,
            "system": self.system,
            "user": self.user,
            "pictures": list(self.pictures),
            "picture_size": self.picture_size if self.images else 0,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "schema": wire_schema(self.schema) if self.schema else None,
        }

    def key(self, model: str, revision: str) -> str:
        """sha256 of the facts as canonical JSON; equal questions have equal keys and are paid once. Hex."""
        sha = _beginning(
            model,
            revision,
            self.system,
            self.pictures,
            self.picture_size,
            float(self.temperature),
            self.max_tokens,
            self.seed,
            self.schema,
        ).copy()
        # "user" is the last key in order, so all before it is hashed once for many questions.
        sha.update(f',"user":{json.dumps(self.user, ensure_ascii=False)}}}'.encode("utf-8", "surrogatepass"))
        return sha.hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back. text: the words as they were; parsed: the typed answer, None unless status is "ok".

    tokens_in, tokens_out, usd: over all attempts. attempts: how often the question was sent. error: what was wrong,
    in words, for every status but "ok". seconds: from the first sending to the end.
    """

    text: str
    parsed: Answer | None = None
    status: Status = "ok"
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    attempts: int = 1
    error: str = ""
    seconds: float = 0.0


class LanguageModel(Protocol):
    """Who answers. name and revision together must change whenever the answers may.

    context: tokens (by `tokens.count`) that a question and its answer may take together. where: the server's address as
    it may be shown, "" for what answers in this process.
    """

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def where(self) -> str: ...

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        """One Reply a request, in the order asked; requests are taken when they can be worked on, never all at once.

        arrived(n, reply) is called as soon as the n-th reply is there, which may be out of order: who pays for
        replies keeps them then. What it raises ends everything. A bad reply is a Reply too; errors are raised only
        for what concerns every request, such as a wrong key.
        """
        ...

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        """The model after a look at the texts that the questions are made from; only `extractive` learns from them."""
        ...


def open(spec: str, store: Store | None = None, **settings: Any) -> LanguageModel:
    """A language model by its spec; nothing heavy is loaded and nobody is asked before the first question.

    "openai:MODEL", or "http://HOST/v1#MODEL" for any server that speaks the same way; "local:FOLDER" or "local:OWNER/MODEL", a Hugging Face
    model; "extractive", rules without any language model; "replay" or "replay:MODEL", what `store` has kept.
    settings: those of `endpoint.Endpoint`, e.g. parallel=16, budget=Budget(5.0); what answers in this process has no use
    for them. Raises BadSetting for another spec.
    """
    from penchant.errors import BadSetting, near

    head, _, rest = spec.partition(":")
    if head == "extractive" and not rest:
        from penchant.lm.extractive import Extractive

        return Extractive()
    if head == "replay":
        from penchant.lm.replay import from_store

        return from_store(store, rest)
    if head == "local" and rest:
        from penchant.lm.local import shared_local

        return shared_local(rest)
    if (head == "openai" and rest) or head in ("http", "https"):
        from penchant.lm.endpoint import open_endpoint

        return open_endpoint(spec, **settings)
    raise BadSetting(
        f"no language model {shown(spec)!r}.{near(head, ('extractive', 'replay', 'local', 'openai'))} Give openai:MODEL, "
        "http://HOST/v1#MODEL, local:FOLDER or local:OWNER/MODEL, extractive (rules, no language model) or replay"
    )


def shown(spec: str) -> str:
    """A spec as it may be written down: without a login or parameters of an address."""
    head, mark, rest = spec.partition("://")
    if not mark:
        return spec
    place, _, model = rest.partition("#")
    return f"{head}://{place.rpartition('@')[2].partition('?')[0]}#{model.partition('?')[0]}"


def wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema as servers want it: closed objects, every key required, no titles or defaults, no references."""
    return _wire_schema(schema)


@lru_cache(256)
def _beginning(
    model: str,
    revision: str,
    system: str,
    pictures: tuple[str, ...],
    picture_size: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    schema: type[Answer] | None,
) -> hashlib._Hash:
    """The canonical JSON of a question's facts up to its last key."""
    images = (b"",) if pictures else ()
    request = Request(system, "", images, schema, temperature, max_tokens, seed, picture_size)
    facts = request.facts(model, revision) | {"pictures": list(pictures)}
    facts.pop("user")
    said = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(said[:-1].encode("utf-8", "surrogatepass"))


@cache
def _wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    raw = schema.model_json_schema()
    parts = raw.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return plain(parts[node["$ref"].rpartition("/")[2]])
        kept = {
            k: plain(v) for k, v in node.items() if k not in ("title", "default", "description") or k == "properties"
        }
        if "properties" in node:
            kept["properties"] = {name: plain(part) for name, part in node["properties"].items()}
            kept |= {"required": list(node["properties"]), "additionalProperties": False}
        return kept

    return plain(raw)
