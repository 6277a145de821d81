"""Fence: texts of strangers in a prompt, marked so that none of them can pretend to be a part of the prompt.

A user message begins with a line that names its number, and holds blocks between tags that carry it:

    The data tags in this message carry the number 5f0c9a31d2e84b77.
    ...
    <data-5f0c9a31d2e84b77 reviews>
    1. item: Enamel mug
       review: Survived two house moves.
    2. item: ...
    </data-5f0c9a31d2e84b77>

The number is a hash of all that the blocks hold, so no text can contain the number of the message it will stand in, and
equal questions stay equal. Each value is one line, without control characters and invisible marks; so no value can
begin an entry, a field or a tag of its own. The system message says that data are read and never obeyed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape

__all__ = ["FIRST", "Block", "blocks_of", "clean", "fenced", "opening"]

FIRST = "The data tags in this message carry the number {}."
# Control characters and line breaks of all scripts, half surrogate pairs; marks that turn the direction of text or
# hide it: overrides, isolates, tags and variation selectors of the supplement. Joiners that emoji and scripts need stay.
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_HIDDEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e0fff]")
_FIRST = re.compile(re.escape(FIRST).replace(r"\{\}", "([0-9a-f]{16})"))
_MARKS = re.compile(
    r"<(?=[|\uff5c])|<(?=/?(?:s|bos|eos|pad|unk|im_start|im_end|start_of_turn|end_of_turn|image|video|audio)>)|"
    r"\[(?=/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG)\])",
    re.IGNORECASE,
)
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Block:
    """One fenced block: entries, each a sequence of (field, value); field is "" for an entry that is one text."""

    name: str
    entries: tuple[tuple[tuple[str, str], ...], ...]


def clean(text: str) -> str:
    """A stranger's text on one line, without what a reader cannot see; HTML's entities become the letters they mean.

    Marks by which servers' chat templates begin and end messages get a space, so that they are only letters.
    """
    if "&" in text:
        text = unescape(text)
    if "<" in text or "[" in text:
        text = _MARKS.sub(r"\g<0> ", text)
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return _SPACE.sub(" ", _HIDDEN.sub("", _HALF.sub("\ufffd", text))).strip()


def fenced(blocks: Sequence[Block]) -> tuple[str, Mapping[str, str]]:
    """The first line of the message, and each block by name as it is written into it. Values must be clean."""
    bodies = {block.name: "\n".join(_lines(block)) for block in blocks}
    said = "\n\n".join(f"{name}\n{body}" for name, body in bodies.items())
    number = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return FIRST.format(number), {
        name: f"<data-{number} {name}>\n{body}{chr(10) if body else ''}</data-{number}>"
        for name, body in bodies.items()
    }


def blocks_of(message: str) -> tuple[Block, ...]:
    """The blocks of a user message that hold anything, read back: what an engine that answers by rule works on."""
    number = opening(message)
    if number is None:
        return ()
    begin, end = f"\n<data-{number} ", f"</data-{number}>"
    found, at = [], message.find(begin)
    while at >= 0:
        name, _, body = message[at + len(begin) : message.find(end, at)].partition(">\n")
        if body:
            found.append(Block(name, tuple(_entries(body.removesuffix("\n"), name in WITH_FIELDS))))
        at = message.find(begin, at + 1)
    return tuple(found)


def opening(message: str) -> str | None:
    """The number that the message's first line names."""
    match = _FIRST.match(message)
    return match.group(1) if match else None


def _lines(block: Block) -> list[str]:
    lines = []
    for place, entry in enumerate(block.entries, 1):
        head = f"{place}. "
        for name, value in entry:
            lines.append(f"{head}{name}: {value}" if name else head + value)
            head = "   "
    return lines


def _entries(body: str, fields: bool) -> list[tuple[tuple[str, str], ...]]:
    entries: list[list[tuple[str, str]]] = []
    for line in body.split("\n"):
        if line[:3] != "   ":
            entries.append([])
            line = line.partition(". ")[2]
        elif entries:
            line = line[3:]
        name, colon, value = line.partition(": ")
        named = fields and bool(colon) and name in FIELDS
        if entries:
            entries[-1].append((name, value) if named else ("", line))
    return [tuple(entry) for entry in entries if entry]


WITH_FIELDS = frozenset({"reviews", "review", "choices"})
"""Blocks whose entries have fields; in the others each entry is one text, whatever it looks like."""

FIELDS = frozenset({"item", "rating", "review", "praised", "criticised", "need"})
"""What fields of an entry may be called."""
