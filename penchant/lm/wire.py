"""Wire: what is said to a server that speaks like OpenAI's, and what is understood of its replies.

Nothing here sends anything. Servers differ in what they take (`Manner`) and in how they fail, so everything that comes
back is read with suspicion: usage may be missing, the schema ignored, the content a list, null or an error.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Literal

from penchant.catalog import open_picture
from penchant.lm import Request, tokens, wire_schema
from penchant.lm.replies import Answer

__all__ = [
    "LENGTHS",
    "OPTIONAL",
    "Heard",
    "Lost",
    "Manner",
    "Message",
    "Outcome",
    "Refused",
    "body",
    "heard",
    "messages",
    "most_tokens",
    "refused",
    "repaired",
    "retry_after",
    "texts",
    "words",
]

Message = dict[str, Any]
WORDS = 300  # characters of a server's words that are kept
QUOTED = 1500  # characters of a bad reply that its writer is shown again
QUALITY = 85  # of the JPEG files that are sent
SQUARE = 512  # pixels; pictures are counted in squares of this side
FRAME = 32  # tokens that a server may put around a message, more than templates do
OPTIONAL = ("seed", "temperature")
NAMES = {408: "timed out", 409: "in conflict", 429: "too many requests"}
LENGTHS = ("max_tokens", "max_completion_tokens")
HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Manner:
    """How a server is asked. form: with the JSON schema; for any JSON object; or without a word about the format.

    length: what the limit of the answer is called. without: optional settings that the server does not take.
    """

    form: Literal["schema", "object", "free"] = "schema"
    length: str = LENGTHS[0]
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Heard:
    """A reply. refusal: the words of one that the model marked as such. finish: why it ended. Tokens None: not told."""

    text: str
    refusal: str = ""
    finish: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class Refused:
    """An error status. words: the server's own, clean and short; code, param: what it calls the error and the setting
    that it complains of; wait: seconds that it asks for."""

    status: int
    words: str
    code: str = ""
    param: str = ""
    wait: float | None = None

    @property
    def passing(self) -> bool:
        """Whether the same question may well be answered a little later."""
        return self.status in (408, 409, 429) or (self.status >= 500 and self.status != 501)

    @property
    def why(self) -> str:
        name = "server error" if self.status >= 500 else NAMES.get(self.status, "not accepted")
        return f"{name} ({self.status}){': ' + self.words if self.words else ''}"


@dataclass(frozen=True)
class Lost:
    """No reply that can be read. sent: the server may have worked, and charged, for it. reached: somebody was there."""

    why: str
    sent: bool = True
    reached: bool = True


Outcome = Heard | Refused | Lost


# ---- what is said


def messages(request: Request, pictures: bool = True) -> list[Message]:
    """The request as messages, pictures scaled down and as data URLs. Raises BadPicture for what is none."""
    user: Any = _mended(request.user)
    if request.images and pictures:
        urls = [_picture(raw, place, request.picture_size) for place, raw in enumerate(request.images, 1)]
        shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        user = [*shown, {"type": "text", "text": user}]
    said = [{"role": "system", "content": _mended(request.system)}] if request.system else []
    return [*said, {"role": "user", "content": user}]


def repaired(said: list[Message], answer: str, wrong: str, schema: type[Answer] | None) -> list[Message]:
    """The conversation with an answer that cannot be used, and the demand for a better one. Its words are ours alone."""
    if schema is None:
        demand = f"Your answer cannot be used: {wrong}. Answer the first message again."
    else:
        demand = (
            f"Your answer cannot be used: {wrong}. Answer the first message again, with nothing but one JSON object "
            f"that fits this JSON schema: {_shape(schema)}"
        )
    quoted = answer if len(answer) <= QUOTED else answer[:QUOTED] + " ..."
    return [*said, {"role": "assistant", "content": quoted or "(nothing)"}, {"role": "user", "content": demand}]


def body(model: str, said: list[Message], request: Request, manner: Manner) -> dict[str, Any]:
    """The body of a call."""
    whole: dict[str, Any] = {"model": model, "messages": said, manner.length: request.max_tokens}
    whole |= {name: getattr(request, name) for name in OPTIONAL if name not in manner.without}
    if request.schema is not None and manner.form == "schema":
        name = re.sub(r"\W", "_", request.schema.__name__, flags=re.ASCII)[:64]
        strict = {"name": name, "schema": wire_schema(request.schema), "strict": True}
        whole["response_format"] = {"type": "json_schema", "json_schema": strict}
    elif request.schema is not None and manner.form == "object":
        whole["response_format"] = {"type": "json_object"}
    return whole


def most_tokens(said: list[Message], request: Request) -> tuple[int, int]:
    """What a call can count as input at most: tokens of its texts with the schema, and squares of its pictures."""
    schema = tokens.most(_shape(request.schema)) if request.schema else 0
    total = schema + FRAME * (len(said) + 1) + sum(map(tokens.most, texts(said)))
    return total, len(request.images) * math.ceil(request.picture_size / SQUARE) ** 2


def texts(said: list[Message]) -> Iterator[str]:
    """The words of messages, without their pictures."""
    for message in said:
        content = message["content"]
        yield content if isinstance(content, str) else content[-1]["text"]


@cache
def _shape(schema: type[Answer]) -> str:
    return json.dumps(wire_schema(schema), separators=(",", ":"))


def _picture(raw: bytes, place: int, size: int) -> str:
    made = io.BytesIO()
    open_picture(raw, str(place), size).save(made, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(made.getvalue()).decode("ascii")


def _mended(text: str) -> str:
    """Without halves of surrogate pairs, which cannot be sent."""
    return text if text.isascii() else HALF.sub("\ufffd", text)


# ---- what is understood


def heard(raw: bytes, hidden: tuple[str, ...] = ()) -> Heard | Lost:
    """A body of status 200; Lost where it is no reply. hidden: secrets that must not come out again."""
    try:
        whole = json.loads(raw)
        message = whole["choices"][0]["message"]
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content)
        text, refusal = str(content or ""), str(message.get("refusal") or "")
        finish = str(whole["choices"][0].get("finish_reason") or "")
    except (ValueError, RecursionError):
        return Lost("a broken reply: its body is no JSON")
    except (KeyError, IndexError, TypeError, AttributeError):
        said = _error(whole) if isinstance(whole, dict) and "error" in whole else {}
        told = words(str(said.get("message") or ""), hidden)
        return Lost(f"a broken reply: it holds no message{': ' + told if told else ''}")
    for secret in hidden:
        text = text.replace(secret, "[key]")
    usage = whole.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    into = _count(counted.get("prompt_tokens"), needed=True)
    out = _count(counted.get("completion_tokens"), needed=bool(text))
    return Heard(_mended(text), words(refusal, hidden), finish, into, out)


def refused(status: int, raw: bytes, headers: Any, hidden: tuple[str, ...] = ()) -> Refused:
    """A reply with an error status."""
    try:
        said = _error(json.loads(raw))
    except (ValueError, RecursionError):
        said = {"message": re.sub(r"<[^<>]*>", " ", raw[:20_000].decode("utf-8", "replace"))}
    told, code, param = (str(said.get(name) or "") for name in ("message", "code", "param"))
    return Refused(status, words(told, hidden), code, param, retry_after(headers))


def words(text: str, hidden: tuple[str, ...] = ()) -> str:
    """A server's words on one line, short, without control characters and without secrets."""
    for secret in hidden:
        text = text.replace(secret, "[key]")
    text = re.sub(r"(?i)\b(bearer|basic)\s+[^\s\"',]+|\bsk-[\w*.-]+", "[key]", text)
    shown = "".join(c if c.isprintable() else " " for c in text[: 10 * WORDS])
    shown = " ".join(shown.split())
    return shown if len(shown) <= WORDS else shown[: WORDS - 4] + " ..."


def retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait, from Retry-After as seconds or as a date; None where it asks for nothing."""
    if value := headers.get("retry-after-ms"):
        return _seconds(value, 1000)
    value = headers.get("retry-after") or ""
    seconds = _seconds(value, 1)
    if seconds is None and value:
        try:
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds


def _seconds(value: str, parts: int) -> float | None:
    try:
        seconds = float(value) / parts
    except ValueError:
        return None
    return max(0.0, seconds) if not math.isnan(seconds) else None


def _count(value: Any, needed: bool) -> int | None:
    """A number of tokens, None where it is none, or 0 although there must have been some."""
    if not isinstance(value, int) or isinstance(value, bool) or not needed <= value < 10**9:
        return None
    return value


def _error(whole: Any) -> dict[str, Any]:
    """message, code and param of an error body; every family of servers has its own shape."""
    said = whole.get("error", whole) if isinstance(whole, dict) else whole
    if not isinstance(said, dict):
        return {"message": said if isinstance(said, str) else json.dumps(said)}
    if not isinstance(said.get("message"), str):
        rest = said.get("detail") or said.get("error") or said.get("message") or ""
        said = {**said, "message": rest if isinstance(rest, str) else json.dumps(rest)}
    return said
