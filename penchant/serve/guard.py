"""Guard: what stands before every route: who may ask, how often, how much, how slowly, and the headers of each reply."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penchant.serve.gauges import Gauges
from penchant.serve.keys import Keys
from penchant.serve.paths import parted

__all__ = ["HEADERS", "Guard", "Rules", "is_local"]

log = logging.getLogger("penchant.serve")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SLOWEST = 20.0  # seconds in which a body must have come
DRAINED = 2.0  # seconds of a body that is too large
CALLERS = 10_000  # whose rate is remembered
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
PEOPLE = ("/why", "/users")
OPEN = ("/health", "/ready", "/metrics", "/about", "/openapi.json")
STATIC = frozenset({"/", *(f"/{file.name}" for file in (Path(__file__).parent / "page").iterdir())})


def is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Rules:
    """people: routes about people need a key; reads: all others, too. rate: requests a second of one key or address, None for no
    limit. hosts: names that a request may call this machine, None for any. body, picture: bytes of a request."""

    people: bool
    reads: bool = False
    rate: float | None = None
    hosts: frozenset[str] | None = None
    body: int = 1_000_000
    picture: int = 12_000_000


@dataclass(eq=False)
class Guard:
    """ASGI. Nothing that is refused reaches a route."""

    app: App
    rules: Rules
    keys: Keys
    gauges: Gauges
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        begun = False

        async def sent(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            refused = self._refused(scope)
            if refused is not None:
                await _fail(sent, *refused)
                return
            limit = self.rules.picture if scope["method"] == "PUT" else self.rules.body
            body = _Body(receive, limit)
            try:
                await body.read(_length(scope))
            except _TooLarge:
                await body.drained()
                await _fail(sent, 413, "too_large", f"a request of this kind has at most {limit:,} bytes")
                return
            except TimeoutError:
                await _fail(sent, 408, "too_slow", f"the body did not come within {SLOWEST:.0f} s")
                return
            await self.app(scope, body, sent)
        except Exception as error:
            # The text of an error may hold what a stranger sent: its kind and place are enough to find it.
            log.error("%s in %s %s", _where(error), scope["method"], _route(scope))
            if not begun:
                await _fail(sent, 500, "fault", "a fault of ours; the log tells more")
        finally:
            self.gauges.answered(_route(scope), status, time.perf_counter() - started)

    def _refused(self, scope: Message) -> tuple[int, str, str] | None:
        """Status, code and message of a request that must not go on."""
        headers = dict(scope["headers"])
        if self.rules.hosts is not None:
            name = _host(headers.get(b"host", b"").decode("latin-1"))
            if name not in self.rules.hosts:
                return 421, "wrong_host", "this name is not served here. Start the server with  --allow-host NAME"
        key = self._key(headers)
        client = scope.get("client")
        caller = key or (str(client[0]) if client else "")
        if self.rules.rate is not None and not self._may(caller):
            return 429, "too_many", f"more than {self.rules.rate:g} requests a second; wait a moment"
        if b"%" in (raw := scope.get("raw_path") or b""):
            found = parted(raw)
            if found is None:
                return 422, "bad_request", "the address is no UTF-8. Encode it so:  encodeURIComponent(ID)"
            scope["path"] = found
        path = str(scope["path"])
        if not path.startswith("/"):
            return 404, "no_route", "there is no such route; see /openapi.json"
        if self._needs_key(str(scope["method"]), path) and key is None:
            if headers.get(b"authorization"):
                return 401, "bad_key", "this key is not known, or was revoked. See:  penchant keys list RUN"
            return (
                401,
                "no_key",
                "this needs a key:  Authorization: Bearer KEY. Make one:  penchant keys add RUN --name NAME",
            )
        scope["penchant.key"] = key
        scope["penchant.trusted"] = not self.rules.people or key is not None
        return None

    def _needs_key(self, method: str, path: str) -> bool:
        first = "/" + path.split("/")[1] if path != "/" else "/"
        if path in STATIC or first in OPEN:
            return False
        if method in ("PUT", "DELETE") or first in ("/events", "/reload"):
            return True
        if first in PEOPLE:
            return self.rules.people
        return self.rules.reads

    def _key(self, headers: dict[bytes, bytes]) -> str | None:
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not given:
            return None
        return self.keys.whose(given.strip().decode("latin-1"))

    def _may(self, caller: str) -> bool:
        """A bucket of `rate` requests that fills again within a second, for each caller."""
        assert self.rules.rate is not None
        now = time.monotonic()
        left, when = self._buckets.pop(caller, (max(self.rules.rate, 1.0), now))
        left = min(max(self.rules.rate, 1.0), left + (now - when) * self.rules.rate)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return left >= 1


class _TooLarge(Exception): ...


class _Body:
    """The whole body, read before a route runs, so that no route waits for a slow sender."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._message: Message | None = None

    async def read(self, length: int | None) -> None:
        if length is not None and length > self._limit:
            raise _TooLarge
        # uvicorn's, which says whether it has all of it: no clock is needed then.
        cycle = getattr(self._receive, "__self__", None)
        if not getattr(cycle, "more_body", True):
            self._message = await self._receive()
            if len(self._message.get("body", b"")) > self._limit:
                raise _TooLarge
            return
        parts, size = [], 0
        async with asyncio.timeout(SLOWEST):
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    self._message = message
                    return
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._limit:
                    raise _TooLarge
                if not message.get("more_body"):
                    break
        self._message = {"type": "http.request", "body": b"".join(parts), "more_body": False}

    async def drained(self) -> None:
        """What is still on its way, for a moment: who is cut off while sending does not hear why."""
        left = 4 * self._limit
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        return

    async def __call__(self) -> Message:
        if self._message is not None:
            message, self._message = self._message, None
            return message
        return await self._receive()


def _host(given: str) -> str:
    """The name in a Host header, without brackets and port."""
    name = given[1:].partition("]")[0] if given.startswith("[") else given.partition(":")[0]
    return name.lower()


def _length(scope: Message) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _route(scope: Message) -> str:
    """The route's own name, without anybody's id; "other" for none."""
    route = scope.get("route")
    return str(getattr(route, "path", "other")) if route is not None else "other"


def _where(error: BaseException) -> str:
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"


async def _fail(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (413, 408):
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
