"""A server of our own that talks like OpenAI's, on this machine alone: set latency, set faults, a log of all it was asked.

    python tests/loopback.py --latency 0.2 --faults 0.2 --log asked.jsonl     # prints its address when it is ready

    with serve(latency=0.2, faults=0.2) as server:                            # in a test; stopped in every case
        ... server.url, server.log()

The question is the first user message with its pictures; whatever is sent about it again (a retry, a repair, the same
without a schema) is its next attempt. Answers depend on the question alone: JSON of the schema that was sent, words
drawn from a hash. Faults depend on seed, question and attempt alone, so neither the order of arrival nor the number in
flight changes them; a refusal belongs to the question and comes at every attempt.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import email.utils
import hashlib
import io
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

KINDS = ("429", "500", "reset", "half", "hang", "badjson", "shape", "empty", "refusal")
VOCABULARY = """
amber basil cedar dusk ember fern gravel hazel iris jade kelp linen maple nickel olive pewter quartz russet slate thyme
umber velvet willow yarrow zinc brisk calm deft eager frank gentle humble keen lively modest neat plain quiet sturdy
tender warm light soft bright handy simple
"""
WORDS = VOCABULARY.split()


@dataclass(frozen=True)
class Plan:
    """What the server is to do; each field is an option of the command.

    latency, hang: seconds before a reply, and before one that hangs. faults: share of replies, evenly over `kinds`.
    retry_after: seconds, or "date" for a date two seconds ahead, or "" for no such header.
    most_in_flight: what comes above it is answered 429 (0: no limit). reject_schema, refuse_pictures: the status that
    answers a response_format, or a picture. ignore_schema: "words", "fenced" (JSON in a code block) or "prose" (JSON
    between sentences). gullible: obeys what stands outside the fence. dear: a token a byte, and every answer is
    charged at its max_tokens. price_log: work for a client that hung up is charged too.
    """

    latency: float = 0.0
    faults: float = 0.0
    kinds: str = ",".join(KINDS)
    seed: int = 0
    log: str = ""
    key: str = ""
    model: str = ""
    retry_after: str = "1"
    hang: float = 5.0
    most_in_flight: int = 0
    reject_schema: int = 0
    refuse_pictures: int = 0
    ignore_schema: str = ""
    gullible: bool = False
    dear: bool = False
    price_log: bool = False
    leash: bool = False  # ends when its standard input does, so with whoever started it


@dataclass(frozen=True)
class Line:
    """One line of the log. event: "asked", "sent" (its first byte went out) or "gone" (the client hung up before).

    fault: its kind, "busy" above most_in_flight, "" for a proper answer. in_flight: with this one. time: s since 1970.
    pixels: the longest side of its pictures.
    """

    event: str
    question: str
    attempt: int
    fault: str
    status: int
    tokens_in: int
    tokens_out: int
    in_flight: int
    time: float
    pixels: int = 0


@dataclass(frozen=True)
class Question:
    """A request as the server reads it. later: user messages after the first, such as a demand for repair."""

    system: str
    user: str
    later: tuple[str, ...]
    pictures: tuple[str, ...]
    schema: Any
    most: int

    @cached_property
    def name(self) -> str:
        return question_name(self.user, self.pictures)

    @cached_property
    def seed(self) -> int:
        """What the answer is drawn from; the same for all attempts."""
        said = json.dumps([self.system, self.user, self.pictures, self.schema])
        return int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def question_name(user: str, pictures: tuple[str, ...] = ()) -> str:
    """What the log calls a question: 16 hex digits of its first user message and pictures (data URLs)."""
    return hashlib.sha256("\0".join((user, *pictures)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fault_of(plan: Plan, question: str, attempt: int) -> str:
    """What goes wrong with this attempt, or ""; attempts count from 1."""
    kinds = plan.kinds.split(",")
    each = plan.faults / len(kinds)
    if "refusal" in kinds:
        kinds.remove("refusal")
        if _draw(f"{plan.seed}:{question}:refusal") < each:
            return "refusal"
        each /= 1 - each  # so that the first attempts of all questions have their even shares
    place = int(_draw(f"{plan.seed}:{question}:{attempt}") / each) if each else len(kinds)
    return kinds[place] if place < len(kinds) else ""


def pixels(pictures: tuple[str, ...]) -> int:
    """The longest side of these data URLs. Raises Malformed for what is no picture."""
    if not pictures:
        return 0
    from PIL import Image

    try:
        return max(max(Image.open(io.BytesIO(base64.b64decode(p.partition(",")[2]))).size) for p in pictures)
    except (OSError, ValueError) as error:
        raise Malformed(f"invalid image: {error}") from None


def _draw(said: str) -> float:
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big") / 2**64


# --- what it answers ------------------------------------------------------------------------------------------------


class Malformed(Exception):
    """Not a request of this interface."""


def read_question(body: Any) -> Question:
    try:
        messages = body["messages"]
        texts: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
        pictures: list[str] = []
        for message in messages:
            parts = message["content"]
            if isinstance(parts, str):
                parts = [{"type": "text", "text": parts}]
            said = "".join(part["text"] for part in parts if part["type"] == "text")
            texts[message["role"]].append(said)
            if message["role"] == "user" and len(texts["user"]) == 1:
                pictures += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if not all(picture.startswith("data:image/") for picture in pictures):
            raise Malformed("a picture is a data URL")
        wanted = body.get("response_format")
        schema = wanted["json_schema"]["schema"] if wanted and wanted["type"] == "json_schema" else None
        most = int(body.get("max_completion_tokens") or body.get("max_tokens") or 1000)
        user, *later = texts["user"]
        return Question("\n".join(texts["system"]), user, tuple(later), tuple(pictures), schema, most)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"malformed request: {error!r}") from None


def words(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 12)))


def example(schema: Any, rng: random.Random, question: Question, name: str = "", say: str = "") -> Any:
    """A value of this JSON schema; with `say`, every text in it is that. A field "evidence" quotes the question."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], rng, question, name, say)
    kind = schema.get("type", "string")
    if kind == "object":
        below = schema.get("properties", {}).items()
        return {key: example(part, rng, question, key, say) for key, part in below}
    if kind == "array":
        return [example(schema["items"], rng, question, name, say) for _ in range(rng.randint(1, 3))]
    if kind in ("number", "integer"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1)
        return rng.randint(low, high) if kind == "integer" else round(rng.uniform(low, high), 3)
    if kind in ("boolean", "null"):
        return rng.random() < 0.5 if kind == "boolean" else None
    if name == "evidence" and not say:
        spans = re.findall(r"\w+(?: \w+){1,4}", question.user.partition("review: ")[2] or question.user)
        return rng.choice(spans or [""])
    return say or words(rng)


def schema_in(text: str) -> Any:
    """The first JSON schema of an object that a text holds, or None."""
    return next((found for found in objects_in(text) if "properties" in found), None)


def schema_said(text: str) -> Any:
    """The object that a prompt asks for in words, a line a key: - "drivers": a list of at most eight ..."""
    found: dict[str, Any] = {}
    last: Any = {"type": "string"}
    for key, said in re.findall(r'^- "(\w+)": (.*)', text, re.MULTILINE):
        if said.startswith("a list of {"):
            below = re.findall(r'"(\w+)"', said.partition("}")[0])
            parts = {part: {"type": "string"} for part in below}
            last = {"type": "array", "items": {"type": "object", "properties": parts}}
        elif said.startswith("a list"):
            last = {"type": "array", "items": {"type": "string"}}
        elif not said.startswith("the same"):
            last = {"type": "number" if said.startswith("from 0 to 1") else "string"}
        found[key] = last
    return {"type": "object", "properties": found} if found else None


def objects_in(text: str) -> Iterator[dict[str, Any]]:
    place = text.find("{")
    while place >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(text, place)
        except ValueError:
            end = place + 1
        else:
            if isinstance(found, dict):
                yield found
        place = text.find("{", end)


def outside(message: str) -> tuple[str, str]:
    """What stands outside the fence and what within, to somebody who reads tags loosely.

    The first line names a number; a tag is anything that looks like <data-NUMBER ...> or </data-NUMBER>, anywhere,
    in whatever letters look alike.
    """
    plain = unicodedata.normalize("NFKC", message)
    number = re.match(r"[^\n]*?\b([0-9a-f]{16})\b", plain)
    if not number:
        return plain, ""
    parts = re.split(rf"<\s*(/?)\s*data\s*-\s*{number.group(1)}\b[^<>\n]*>", plain, flags=re.IGNORECASE)
    free, fenced = parts[:1], parts[:0]
    for slash, text in zip(parts[1::2], parts[2::2], strict=True):
        (free if slash else fenced).append(text)
    return "\n".join(free), "\n".join(fenced)


def obeyed(question: Question) -> tuple[str, str]:
    """What somebody told the gullible one outside the fence: a word to say, or JSON to give. ("", "") where nobody did."""
    free = outside(question.user)[0]
    for text in (question.system, free, *question.later):
        told = re.search(r"\bignore\b.{0,80}?\babove\b.{0,80}?\bsay (\w+)|\bsay (\w+) instead\b", text, re.I | re.S)
        if told:
            return told.group(1) or told.group(2), ""
    for text in (free, *question.later):
        for found in objects_in(text):
            if found and "properties" not in found:
                return "", json.dumps(found)
    return "", ""


def answer(question: Question, plan: Plan, fault: str, bearer: str) -> str:
    """The reply's text."""
    rng = random.Random(question.seed)
    if fault == "empty":
        return ""
    if fault == "badjson":
        return '{"reasoning": "so far so good", "next'
    if fault == "shape":
        return json.dumps({"unexpected": [1, 2, 3]})
    if fault == "leak":  # what it was called with comes back as its answer, as behind some proxies
        return json.dumps(example(question.schema, rng, question, say=f"You sent {bearer}"))
    if fault == "echo":  # wrong shape, and strangers' words in it
        return json.dumps({"unexpected": outside(question.user)[1] or question.user})
    say, given = obeyed(question) if plan.gullible else ("", "")
    if given:
        return given
    schema = question.schema
    if plan.ignore_schema or schema is None:
        schema = schema_in(question.system) or schema_in(question.user) or schema_said(question.system)
        schema = schema or (question.schema if plan.ignore_schema in ("fenced", "prose") else None)
    if schema is None or plan.ignore_schema == "words":
        return say or words(rng)
    found = json.dumps(example(schema, rng, question, say=say), ensure_ascii=False)
    if plan.ignore_schema == "prose":
        return f"Sure! Here it is: {found} I hope that helps."
    return f"```json\n{found}\n```" if plan.ignore_schema == "fenced" or question.schema is None else found


# --- how it answers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sending:
    """A reply that waits to be sent. cut: bytes of the body after which the connection breaks; None: never."""

    status: int
    body: bytes
    wait: float = 0.0
    headers: str = ""
    cut: int | None = None
    reset: bool = False
    line: Line | None = None


def failure(status: int, message: str, **more: Any) -> Sending:
    return Sending(
        status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode(), **more
    )


class Desk:
    """The state all connections share: attempts so far, calls in flight, the log."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.attempts: dict[str, int] = {}
        self.in_flight = 0
        self.file = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if plan.log else -1

    def note(self, line: Line, event: str) -> None:
        """One write a line, so what is in the log is whole."""
        if self.file >= 0:
            said = asdict(line) | {"event": event, "time": time.time(), "in_flight": self.in_flight}
            os.write(self.file, json.dumps(said).encode() + b"\n")

    def reply(self, method: str, path: str, bearer: str, raw: bytes) -> Sending:
        plan = self.plan
        if plan.key and bearer != f"Bearer {plan.key}":
            return failure(401, f"Incorrect API key provided: {bearer.removeprefix('Bearer ')}.")
        if path == "/v1/models" and method == "GET":
            listed = [{"id": plan.model or "loopback", "object": "model"}]
            return Sending(200, json.dumps({"object": "list", "data": listed}).encode())
        if path != "/v1/chat/completions" or method != "POST":
            return Sending(404, b'{"detail": "Not Found"}')
        try:
            body = json.loads(raw)
            question = read_question(body)
            size = pixels(question.pictures)
        except (ValueError, Malformed) as error:
            return failure(400, str(error))
        if plan.model and body.get("model") != plan.model:
            return failure(404, f"The model `{body.get('model')}` does not exist.")
        return self.asked(question, body, size, bearer)

    def asked(self, question: Question, body: Any, longest: int, bearer: str) -> Sending:
        plan = self.plan
        attempt = self.attempts[question.name] = self.attempts.get(question.name, 0) + 1
        self.in_flight += 1
        busy = plan.most_in_flight and self.in_flight > plan.most_in_flight
        fault = "busy" if busy else fault_of(plan, question.name, attempt)
        sending, said = self.outcome(question, body, fault, bearer)
        size = sum(
            len(text.encode("utf-8", "surrogatepass")) for text in (question.system, question.user, *question.later)
        )
        tokens_in = (size if plan.dear else -(-size // 4)) + 85 * len(question.pictures)
        tokens_out = question.most if plan.dear else min(question.most, -(-len(said.encode()) // 4))
        charged = sending.status == 200 and not sending.reset
        line = Line("", question.name, attempt, fault, sending.status, tokens_in, tokens_out, 0, 0.0, longest)
        self.note(line, "asked")
        if not charged:
            line = replace(line, tokens_in=0, tokens_out=0)
            return replace(sending, line=line)
        message = {"role": "assistant", "content": said or ("" if fault == "empty" else None), "refusal": None}
        if fault == "refusal":
            message |= {"content": None, "refusal": "I cannot help with that."}
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        finish = "length" if fault == "length" else "content_filter" if fault == "filter" else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        whole = {"id": f"chat-{question.name}-{attempt}", "object": "chat.completion", "created": 0, "usage": usage}
        raw = json.dumps(whole | {"model": body.get("model"), "choices": [choice]}).encode()
        cut = len(raw) // 2 if fault == "half" else None
        return replace(sending, body=raw, line=line, cut=cut)

    def outcome(self, question: Question, body: Any, fault: str, bearer: str) -> tuple[Sending, str]:
        """How the reply is sent, and its words if it has any."""
        plan = self.plan
        if plan.reject_schema and body.get("response_format"):
            if plan.reject_schema == 404:
                return Sending(404, b'{"detail": "Not Found"}'), ""
            return failure(plan.reject_schema, "Unknown parameter: 'response_format'."), ""
        if plan.refuse_pictures and question.pictures:
            return failure(plan.refuse_pictures, "Invalid image: image input is not supported by this model."), ""
        if fault in ("429", "busy"):
            after = (
                email.utils.formatdate(time.time() + 2, usegmt=True) if plan.retry_after == "date" else plan.retry_after
            )
            header = f"Retry-After: {after}\r\n" if after else ""
            return failure(429, "Rate limit reached.", headers=header), ""
        if fault.isdigit():
            said = f"The server had an error. Your request began with Authorization: {bearer}"  # as unkind as some are
            return failure(int(fault), said, wait=plan.latency), ""
        if fault == "reset":
            return Sending(200, b"", plan.latency, reset=True), ""
        said = "" if fault in ("refusal", "filter") else answer(question, plan, fault, bearer)
        if fault == "length":
            said = said[: len(said) // 2]
        return Sending(200, b"", plan.hang if fault == "hang" else plan.latency), said


REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Connection(asyncio.Protocol):
    """HTTP/1.1, kept alive; one request is answered before the next is read."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.buffer = bytearray()
        self.waiting: tuple[Sending, asyncio.TimerHandle] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.work()

    def work(self) -> None:
        if self.waiting:
            return
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *rest = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        size = int(headers.get("content-length", 0))
        if len(self.buffer) < end + 4 + size:
            return
        raw = bytes(self.buffer[end + 4 : end + 4 + size])
        del self.buffer[: end + 4 + size]
        method, path, _ = first.split(" ", 2)
        try:
            sending = self.desk.reply(method, path, headers.get("authorization", ""), raw)
        except Exception:  # a fault of this file: whoever started it hears of it
            traceback.print_exc()
            os._exit(70)
        self.waiting = sending, asyncio.get_running_loop().call_later(sending.wait, self.send)

    def send(self) -> None:
        assert self.waiting
        sending, _ = self.waiting
        self.waiting = None
        if sending.line:
            self.desk.in_flight -= 1
            self.desk.note(sending.line, "sent")
        if sending.reset:
            linger = struct.pack("ii", 1, 0)  # a reset instead of a goodbye
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
            return
        head = (
            f"HTTP/1.1 {sending.status} {REASONS.get(sending.status, 'Error')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(sending.body)}\r\n{sending.headers}\r\n"
        )
        self.transport.write(head.encode() + sending.body[: sending.cut])
        if sending.cut is not None:
            self.transport.close()
            return
        self.work()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.waiting:
            return
        sending, timer = self.waiting
        timer.cancel()
        self.waiting = None
        if sending.line:
            self.desk.in_flight -= 1
            line = sending.line
            if not self.desk.plan.price_log:
                line = replace(line, tokens_in=0, tokens_out=0)
            self.desk.note(line, "gone")


async def run(plan: Plan) -> None:
    desk = Desk(plan)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(desk), "127.0.0.1", 0, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    if plan.leash:
        await loop.run_in_executor(None, sys.stdin.read)
        os._exit(0)
    await server.serve_forever()


# --- for tests ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A server that runs as a process of its own."""

    url: str
    plan: Plan
    process: subprocess.Popen[str]

    def log(self, event: str = "") -> list[Line]:
        """What it has written so far, all of it or one kind of line."""
        lines = [Line(**json.loads(line)) for line in Path(self.plan.log).read_text("utf-8").splitlines()]
        return [line for line in lines if event in ("", line.event)]

    def usd(self, usd_in: float, usd_out: float) -> float:
        """What all replies cost that it began to send, at these prices a million tokens."""
        charged = [line for line in self.log() if line.event != "asked"]
        return sum(line.tokens_in * usd_in + line.tokens_out * usd_out for line in charged) / 1e6

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serve(**settings: Any) -> Iterator[Server]:
    """Starts a server with these fields of Plan, and stops it in every case; raises if it broke meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        plan = replace(Plan(log=str(Path(folder) / "log.jsonl"), leash=True), **settings)
        Path(plan.log).touch()
        command = [sys.executable, __file__]
        for field in fields(plan):
            value = getattr(plan, field.name)
            flag = "--" + field.name.replace("_", "-")
            if value is True:
                command.append(flag)
            elif value != field.default:
                command.append(f"{flag}={value}")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the server did not start")
            yield Server(url, plan, process)
            if process.poll() == 70:
                raise RuntimeError("the server broke; its traceback is above")
        finally:
            process.kill()
            process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Plan):
        flag, kind = "--" + field.name.replace("_", "-"), type(field.default)
        if kind is bool:
            parser.add_argument(flag, action="store_true")
        elif field.name == "ignore_schema":
            parser.add_argument(flag, nargs="?", const="words", default="")
        else:
            parser.add_argument(flag, type=kind, default=field.default)
    with suppress(KeyboardInterrupt):
        asyncio.run(run(Plan(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
