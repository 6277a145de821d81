"""Paths: which part of an address is an id, whatever letters that id has.

A `/` that was written as %2F belongs to an id and divides nothing: /items/a%2Fsimilar is the item `a/similar`, /items/a/similar are
those like `a`. While a route is looked for it is another letter, which no address can hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.routing import Route

__all__ = ["exactly", "item_of", "key_of", "parted"]

SLASH = "\udc2f"  # half a surrogate pair, which UTF-8 never gives
BELOW = ("/similar", "/picture")


def parted(raw: bytes) -> str | None:
    """The path of an address as it was sent; None for what is no UTF-8."""
    try:
        return "/".join(unquote_to_bytes(part).decode().replace("/", SLASH) for part in raw.split(b"/"))
    except UnicodeDecodeError:
        return None


def key_of(text: str) -> str:
    """The id that a part of such a path is."""
    return text.replace(SLASH, "/")


def item_of(text: str) -> str:
    """As `key_of`. Raises ValueError for one that other routes would take for theirs."""
    if text.endswith(BELOW):
        raise ValueError("ends as a route of its own does: write the / within an id as %2F")
    return key_of(text)


def exactly(routes: Iterable[Any]) -> None:
    """Let routes match the whole of a path, line breaks too: by themselves they leave one at its end out, which an id may have."""
    for route in routes:
        if isinstance(route, Route):
            route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
