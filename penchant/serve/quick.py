"""Quick: POST /recommend without reasons, answered before the framework would have found its route.

Whatever is not plainly such a request, or is refused, goes on to the routes, which say what is wrong; they call the same functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from penchant.errors import PenchantError
from penchant.serve import wire
from penchant.serve.asking import Asking
from penchant.serve.gather import Gather
from penchant.serve.gauges import Gauges

__all__ = ["Quick"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
HERE = SimpleNamespace(path="/recommend")  # what the gauges call it


@dataclass(eq=False)
class Quick:
    """ASGI, between the guard, which has read the body, and the routes."""

    app: Callable[[Message, Receive, Send], Awaitable[None]]
    asking: Asking
    gather: Gather
    gauges: Gauges
    private: bool

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/recommend" or scope["method"] != "POST" or not _plain(scope):
            await self.app(scope, receive, send)
            return
        message = await receive()
        try:
            asked = wire.Asked.model_validate_json(message.get("body", b""))
            if asked.why or (self.private and asked.user is not None):
                raise _NotHere
            found = await self.gather.ask(await self.asking.ready(asked))
        except (ValidationError, PenchantError, _NotHere):
            await self.app(scope, _again(message, receive), send)
            return
        scope["route"] = HERE
        body = found.json()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.gauges.listed("personal" if found.personal else "popular")


class _NotHere(Exception): ...


def _plain(scope: Message) -> bool:
    """JSON, without parameters."""
    return not scope.get("query_string") and any(
        name == b"content-type" and value.startswith(b"application/json") for name, value in scope["headers"]
    )


def _again(message: Message, receive: Receive) -> Receive:
    """The body once more, then what comes."""
    left = [message]

    async def read() -> Message:
        return left.pop() if left else await receive()

    return read
