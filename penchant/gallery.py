"""A page of stored texts beside what they were written from: picture, text, reply and question, to be read by people.

All of it was written by strangers and by language models. The template escapes every value; the page has no script,
asks no network, and its pictures are in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.cards import Card
from penchant.page import environment, thumbnail
from penchant.report import write_whole
from penchant.stored import Row, maker

__all__ = ["cut", "said", "write"]

MOST = 20_000  # characters of one text on a page
PICTURE_SIZE = 480  # pixels on the longer side


@dataclass(frozen=True)
class Exhibit:
    """A Row ready for the page. pictures: data addresses, "" for what cannot be opened. reply: (name, words)."""

    row: Row
    text: str
    pictures: tuple[str, ...]
    reply: tuple[tuple[str, str], ...]
    raw: str
    system: str
    user: str


def write(file: Path, card: Card, rows: Sequence[Row]) -> Path:
    """Writes one file that holds everything. Raises BadInput where it cannot be written."""
    template = environment().get_template("gallery.html")
    text = template.render(card=card, maker=maker(card), exhibits=[_exhibit(row) for row in rows])
    return write_whole(file, text.encode("utf-8", "replace"))


def cut(text: str, most: int = MOST) -> str:
    """A text that is no longer than it can be read, with a word on how much is missing."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"


def said(value: object) -> str:
    """A field of a typed reply in words: lists and objects on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(said(part) for part in value)
    if isinstance(value, dict):
        return " · ".join(said(part) for part in value.values())
    return json.dumps(value)


def _exhibit(row: Row) -> Exhibit:
    asked = row.call.request if row.call is not None else {}
    return Exhibit(
        row,
        cut(row.text or ""),
        tuple(_address(raw) for _, raw in row.pictures),
        tuple((name.replace("_", " "), cut(said(value))) for name, value in (row.reply or {}).items()),
        cut(row.call.text) if row.call is not None else "",
        cut(str(asked.get("system", ""))),
        cut(str(asked.get("user", ""))),
    )


def _address(raw: bytes | None) -> str:
    small = thumbnail(raw, size=PICTURE_SIZE) if raw is not None else None
    return "data:image/jpeg;base64," + base64.b64encode(small).decode() if small else ""
