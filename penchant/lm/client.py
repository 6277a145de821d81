"""Client: one server, reached through the official client, which hands every outcome over as a value, never as an error.

Retrying is not done here. What goes out is decided here: to a server that is not OpenAI's goes no header but ours, so
that nothing that the official client finds in the environment (keys, organisations, headers) reaches strangers.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from penchant.errors import BadKey, BadSetting, MissingExtra, NoEndpoint, UnknownModel, near, some
from penchant.lm.connections import Connections
from penchant.lm.wire import Lost, Outcome, Refused, heard, refused

__all__ = ["OPENAI", "Address", "Client", "address"]

OPENAI = "https://api.openai.com/v1"
CONNECT = 10.0  # seconds in which a connection is made, or nobody is there
OURS = {
    *("host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"),
    *("transfer-encoding", "authorization"),
}


@dataclass(frozen=True)
class Address:
    """Where a server is, and what opens it. url may be shown; nothing else may, so it has no repr.

    login: "user:password" that stood in the address, or "".
    """

    url: str
    key: str = field(default="", repr=False)
    login: str = field(default="", repr=False)

    @property
    def openai(self) -> bool:
        return self.url == OPENAI

    @property
    def key_from(self) -> str:
        """The environment variable that keys for this server are taken from."""
        return "OPENAI_API_KEY" if self.openai else "PENCHANT_API_KEY"

    @property
    def here(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.url).hostname or ""
        with suppress(ValueError):
            return ipaddress.ip_address(host).is_loopback
        return host == "localhost"

    @property
    def proxied(self) -> bool:
        """Whether the way there leads through a proxy; none stands between this machine and itself."""
        parts, known = urlsplit(self.url), getproxies()
        asked = parts.scheme in known or "all" in known
        return asked and not self.here and not proxy_bypass(parts.netloc)

    @property
    def authorization(self) -> str:
        basic = base64.b64encode(self.login.encode()).decode("ascii")
        return f"Basic {basic}" if self.login else f"Bearer {self.key or 'none'}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, the longest first."""
        password = self.login.partition(":")[2]
        found = {self.key, self.login, password, self.authorization.partition(" ")[2] if self.login else ""}
        return tuple(sorted((s for s in found if len(s) > 5), key=len, reverse=True))


def address(url: str, key: str = "") -> Address:
    """An address taken apart. Raises BadSetting for what is none, BadKey for what can be no key, and shows neither."""
    key = key.strip()
    shown = url.rpartition("@")[2].partition("?")[0]
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BadSetting(f"{shown!r} is no address of a server. Give one like http://localhost:8000/v1#MODEL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/") or "/v1"
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""
    found = Address(f"{parts.scheme}://{host}{port}{path}", key, login)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise BadKey(
            f"{found.key_from} holds spaces or letters that no key has. Set it again:  export {found.key_from}=..."
        )
    return found


class Client:
    """The connection of one run; belongs to one event loop, and is closed there. spec: what opens the endpoint again.

    Raises MissingExtra without `openai`, BadKey where OpenAI is asked without a key.
    """

    def __init__(self, at: Address, spec: str, timeout: float) -> None:
        self.at, self.spec, self.timeout = at, spec, timeout
        if at.openai and not at.key:
            raise self.bad_key()
        try:
            import httpx2
            import openai
        except ImportError:
            raise MissingExtra(f"Asking {at.url}", "llm") from None
        self._httpx, self._openai = httpx2, openai
        connect = min(timeout, CONNECT)
        tls = httpx2.create_ssl_context() if at.url.startswith("https:") else None
        own: Any = None if at.proxied else Connections(httpx2, tls, connect)
        wire = openai.DefaultAsyncHttpxClient(
            timeout=httpx2.Timeout(timeout, connect=connect),
            follow_redirects=False,  # what was meant for one server is not sent to another
            transport=own,
            trust_env=at.proxied,
            event_hooks={} if at.openai else {"request": [self._only_ours]},
        )
        self._client = openai.AsyncOpenAI(
            base_url=at.url, api_key=at.key or "none", max_retries=0, timeout=wire.timeout, http_client=wire
        )

    async def send(self, body: dict[str, Any]) -> Outcome:
        """One call, sent once."""
        raw = self._httpx.Response
        found = await self._answer(lambda: self._client.post("/chat/completions", body=body, cast_to=raw))
        return found if isinstance(found, Outcome) else heard(found.content, self.at.secrets)

    async def models(self) -> tuple[str, ...] | Outcome:
        """The models that the server lists; an outcome where it does not, () where it lists them in a way of its own."""
        found = await self._answer(lambda: self._client.get("/models", cast_to=self._httpx.Response))
        if isinstance(found, Outcome):
            return found
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            return tuple(str(one["id"]) for one in found.json()["data"])
        return ()

    async def close(self) -> None:
        await self._client.close()

    async def _answer(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The HTTP response, or what came instead of one. The call begins where it is awaited, so that Ctrl-C before that
        leaves none behind that was never begun."""
        try:
            async with asyncio.timeout(self.timeout):  # in all: a server that sends a byte now and then is stopped, too
                return await call()
        except (TimeoutError, self._openai.APITimeoutError) as error:
            connecting = isinstance(error.__cause__, self._httpx.ConnectTimeout)
            if connecting:
                return Lost("no connection: timed out", sent=False, reached=False)
            return Lost(f"timed out: no reply within {self.timeout:g} s")
        except self._openai.APIStatusError as error:
            return self._status(error.response)
        except self._openai.APIConnectionError as error:
            if isinstance(error.__cause__, self._httpx.ConnectError | self._httpx.ProxyError):
                return Lost(f"no connection: {_reason(error.__cause__)}", sent=False, reached=False)
            return Lost("the connection broke before the whole reply was there")

    def _status(self, response: Any) -> Outcome:
        code = response.status_code
        if 300 <= code < 400:
            place = response.headers.get("location", "").rpartition("@")[2].partition("?")[0]
            return Lost(f"it sends callers elsewhere: {place[:200]!r}", sent=False, reached=False)
        return refused(code, response.content, response.headers, self.at.secrets)

    # ---- what concerns every question

    def nobody(self, lost: Lost) -> NoEndpoint:
        return NoEndpoint(
            f"nobody answers at {self.at.url} ({lost.why}). Start the server, or look what is there:  "
            f"penchant doctor --lm {self.spec}"
        )

    def stopped(self, last: Refused | Lost, lost: int) -> NoEndpoint:
        return NoEndpoint(
            f"{self.at.url} stopped answering: {lost} questions in a row got no reply, the last one: {last.why}. What was "
            f"committed is kept; call again to go on, or look first:  penchant doctor --lm {self.spec}"
        )

    def bad_key(self, said: Refused | None = None) -> BadKey:
        """For a refusal with status 401 or 403, or of an account without credit; without one, for a missing key."""
        set_it = f"export {self.at.key_from}=..."
        if said is not None and said.status not in (401, 403):
            return BadKey(
                f"{self.at.url} takes no more calls on this account: {said.words or 'no credit is left'}. What was answered "
                f"is kept; add credit, or set another key:  {set_it}"
            )
        if self.at.key:
            return BadKey(f"{self.at.url} refuses the API key. Set the right one:  {set_it}")
        return BadKey(f"{self.at.url} wants an API key, and none is set. Set it:  {set_it}")

    async def unknown_model(self, model: str) -> UnknownModel:
        url, found = self.at.url, await self.models()
        if isinstance(found, tuple) and found and model not in found:
            other = "openai:MODEL" if self.at.openai else f"{url}#MODEL"
            return UnknownModel(
                f"{url} has no model `{model}`.{near(model, found)} It has: {some(found, 8)}. Name one:  --lm {other}"
            )
        return UnknownModel(
            f"{url} does not know the model `{model}`, or nothing answers under that path; most servers answer under /v1. "
            f"Look what is there:  penchant doctor --lm {self.spec}"
        )

    async def _only_ours(self, request: Any) -> None:
        for name in [name for name in request.headers if name not in OURS and not name.startswith("x-stainless-")]:
            del request.headers[name]
        request.headers["authorization"] = self.at.authorization


def _reason(error: BaseException | None) -> str:
    """The innermost cause of a connection that was not made, in the system's words."""
    reason = "nobody answers"
    while error is not None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error) or reason
        error = error.__cause__ or error.__context__
    return reason
