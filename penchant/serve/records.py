"""What the service remembers, one record each, and how a record becomes a row of a table and a row a record.

Text that not every database can hold (NUL, half of a surrogate pair) is refused here, so that none alters it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.engine import Row

from penchant.errors import StateError

__all__ = ["Event", "Kept", "Key", "Vector", "packed", "plain", "row", "unpacked", "veiled", "written"]

LONGEST = 512  # characters of an id: what an index of PostgreSQL can hold


@dataclass(frozen=True)
class Event:
    """A choice. at: unix seconds."""

    user_id: str
    item_id: str
    at: float
    review: str | None = None


@dataclass(frozen=True, eq=False)
class Vector:
    """An item's row of one input. values: float32 (D,); None is a gap."""

    encoder: str
    values: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Kept:
    """An item that came by the service. vectors: by input name; has_picture: whether one is kept, set when read."""

    item_id: str
    fields: Mapping[str, str | None]
    numbers: Mapping[str, int | float | bool | None]
    picture: bytes | None
    vectors: Mapping[str, Vector]
    has_picture: bool = False


@dataclass(frozen=True)
class Key:
    """An API key; only its digest is known. revoked: when, or None while it is good."""

    id: str
    name: str
    digest: str
    created: float
    revoked: float | None


def veiled(user_id: str) -> str:
    """What is kept of somebody who was forgotten: hex sha256 of the id."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()


def plain(text: str, longest: int | None = LONGEST) -> str:
    """The text itself, if every database can hold it."""
    if longest is not None and len(text) > longest:
        raise StateError(f"an id of {len(text)} characters is too long: {text[:20]!r}… Give at most {longest}")
    if "\0" in text:
        raise StateError(f"a text with a NUL character cannot be kept: {text[:40]!r}. Remove the character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise StateError(f"a text with half a surrogate pair cannot be kept: {text[:40]!r}. Send it as UTF-8") from None
    return text


def written(event: Event) -> dict[str, Any]:
    """An event as a row."""
    at = float(event.at)
    if not math.isfinite(at):
        raise StateError(f"an event at {at} has no time. Give unix seconds")
    review = None if event.review is None else plain(event.review, None)
    return {"user_id": plain(event.user_id), "item_id": plain(event.item_id), "at": at, "review": review}


def row(item: Kept) -> dict[str, Any]:
    """An item as a row, without its vectors."""
    fields, numbers = dict(item.fields), dict(item.numbers)
    for text in (*fields, *fields.values(), *numbers):
        if text is not None:
            plain(text, None)
    try:
        counted = json.dumps(numbers, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise StateError(f"item {item.item_id!r} has a number that is not finite: {numbers}. Leave it out") from None
    worded = json.dumps(fields, ensure_ascii=False)
    return {"deleted": False, "fields": worded, "numbers": counted, "picture": item.picture}


def packed(values: np.ndarray | None) -> bytes | None:
    """A vector as bytes."""
    if values is None:
        return None
    if values.ndim != 1 or not np.isfinite(values).all():
        raise StateError(f"a vector of shape {values.shape} is no row of finite numbers. Give None for a gap")
    return values.astype("<f4").tobytes()


def unpacked(found: Row[Any]) -> Vector:
    """A row of `vectors` as a record."""
    return Vector(found.encoder, None if found.vector is None else np.frombuffer(found.vector, "<f4").copy())
