"""Prompt: one Markdown file, read and checked; rendered into a Request without letting anybody's text become a part of it.

A file has a TOML head between lines of +++, then "# system" and "# user". In the user part {slots} are replaced in one pass,
so that what is put in is never looked at again: {opening} (the line that names the fence's number), {category} (what the
shop sells, a setting), and one slot a fenced block.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from penchant.errors import BadSetting, MissingFile, UnknownKey
from penchant.lm import Request, replies
from penchant.lm.fence import Block, clean, fenced

__all__ = ["PARSER", "Limits", "Prompt", "names", "read"]

PARSER = 1  # counts up when the same reply would be understood differently
KINDS = ("item", "user", "interaction")
SLOTS = ("opening", "category", "item", "items", "choices", "reviews", "review", "looks", "earlier")
SEES = {"picture", "item text", "titles", "train history", "train reviews", "ratings"}
ANYTHING = "things of many kinds"


@dataclass(frozen=True)
class Limits:
    """What a prompt shows at most. most: entries of a history, the newest; tokens are counted by `lm.tokens`.

    block: entries of one step of a recurrent prompt; 0 for one that is asked once.
    """

    most: int = 20
    item_tokens: int = 120
    review_tokens: int = 200
    block: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < (0 if f.name == "block" else 1):
                raise BadSetting(f"[limits] {f.name} = {value!r}: a whole number, 1 or more")

    def fitting(self, room: int, reviewed: bool) -> Limits:
        """Tightened so that the smallest question still fits into `room` tokens: a text with what was written before it, a review with
        its title, a whole block; where a block is read with its reviews, they are half of it."""
        both = bool(self.block and reviewed)
        item = room // ((4 if both else 2) * (self.block or 1))
        review = item if both else room // 3
        return replace(self, item_tokens=min(self.item_tokens, item), review_tokens=min(self.review_tokens, review))


@dataclass(frozen=True)
class Prompt:
    """A prompt file. of: whom it is asked for. sees: which kinds of material it shows. first: the prompt whose answers
    it needs. print: hash of the file and of the way replies are understood."""

    name: str
    version: int
    of: str
    reply: type[replies.Answer]
    sees: tuple[str, ...]
    system: str = field(repr=False)
    user: str = field(repr=False)
    print: str
    max_tokens: int = 600
    temperature: float = 0.0
    first: str | None = None
    limits: Limits = Limits()

    @property
    def personal(self) -> bool:
        """Whether it shows what people did or wrote; then it is made from a train part and from nothing else."""
        shown = any(part.startswith("train ") for part in self.sees)
        return shown or self.of != "item" or bool({"reviews", "review", "earlier"} & set(self.blocks))

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The fenced blocks that the user part has slots for."""
        return tuple(slot for slot in self._parts[1::2] if slot not in ("opening", "category"))

    @cached_property
    def _parts(self) -> list[str]:
        """The user part, cut at its slots: text, slot, text, slot, ..., text."""
        return re.split(r"{(\w+)}", self.user)

    def render(
        self,
        blocks: Sequence[Block],
        category: str = "",
        images: tuple[bytes, ...] = (),
        about: tuple[str, str] | None = None,
    ) -> Request:
        """The question with these blocks; blocks that are not given are empty."""
        given = {block.name: block for block in blocks}
        first, bodies = fenced([given.get(name, Block(name, ())) for name in self.blocks])
        values = {"opening": first, "category": clean(category) or ANYTHING, **bodies}
        user = "".join([values[part] if n % 2 else part for n, part in enumerate(self._parts)])
        return Request(self.system, user, images, self.reply, self.temperature, self.max_tokens, about=about)


def names() -> list[str]:
    """The prompts that come with Penchant."""
    return sorted(p.name.removesuffix(".md") for p in _folder().iterdir() if p.name.endswith(".md"))


def read(name: str) -> Prompt:
    """A prompt by name, or one of your own by its file, which ends with .md.

    Raises UnknownKey for a name that is not known, MissingFile, BadSetting for a file that is no prompt.
    """
    if name.endswith(".md"):
        path = Path(name)
        if not path.is_file():
            raise MissingFile(f"no prompt file {name}. Give the path of one, or a name: {', '.join(names())}")
        try:
            return _parse(path.stem, path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"prompt file {name} cannot be read as text: {error}. Save it as UTF-8") from None
    if name not in names():
        raise UnknownKey("penchant.enrich", name, names(), "prompt")
    return _parse(name, (_folder() / f"{name}.md").read_text("utf-8"))


def _folder() -> Path:
    return Path(str(resources.files("penchant.enrich"))) / "prompts"


def _parse(name: str, text: str) -> Prompt:
    def bad(what: str) -> BadSetting:
        return BadSetting(f"prompt {name}: {what}. Compare with one of ours:  {_folder() / 'item_motives.md'}")

    match = re.fullmatch(r"\+\+\+\n(.*?)\n\+\+\+\n+# system\n(.*?)\n# user\n(.*)", text.strip() + "\n", re.DOTALL)
    if match is None:
        raise bad('it needs a TOML head between lines of +++, then "# system" and "# user"')
    try:
        head = tomllib.loads(match.group(1))
    except tomllib.TOMLDecodeError as error:
        raise bad(f"its head is not valid TOML: {error}") from None
    known = {"version", "of", "reply", "sees", "max_tokens", "temperature", "first", "limits"}
    for key in head:
        if key not in known:
            raise UnknownKey(f"prompt {name}", key, known)
    for key in ("version", "of", "reply", "sees"):
        if key not in head:
            raise bad(f"its head lacks `{key}`")
    _typed(head, bad)
    limits = head.pop("limits", {})
    for key in limits:
        if key not in {f.name for f in fields(Limits)}:
            raise UnknownKey(f"prompt {name} [limits]", key, [f.name for f in fields(Limits)])
    reply = getattr(replies, str(head["reply"]), None) if head["reply"] in replies.__all__ else None
    if reply is None or not issubclass(reply, replies.Answer) or reply is replies.Answer:
        raise bad(f"reply = {head['reply']!r} is not one of the types in penchant/lm/replies.py")
    user = match.group(3).strip()
    slots = re.findall(r"{(\w+)}", user)
    if not set(slots) <= set(SLOTS):
        raise bad(f"it has the slot {{{min(set(slots) - set(SLOTS))}}}; slots are {', '.join(SLOTS)}")
    if set(slots) - {"category", "opening"} and not user.startswith("{opening}"):
        raise bad("its user part must begin with {opening}, which names the fence's number")
    wanted = {
        "reviews": "train reviews",
        "review": "train reviews",
        "items": "train history",
        "choices": "train history",
    }
    for slot, part in wanted.items():
        if slot in slots and part not in head["sees"]:
            raise bad(f"it shows {{{slot}}}, so `sees` must list {part!r}: what people did or wrote has to be declared")
    print_ = hashlib.sha256(f"{PARSER}\n{text}".encode()).hexdigest()
    rest = {key: value for key, value in head.items() if key not in ("reply", "sees")}
    return Prompt(
        name=name,
        reply=reply,
        sees=tuple(head["sees"]),
        system=match.group(2).strip(),
        user=user,
        print=print_,
        limits=Limits(**limits),
        **rest,
    )


def _typed(head: dict[str, Any], bad: Callable[[str], BadSetting]) -> None:
    """Raises for a value in the head that is of no use."""

    def whole(value: Any, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    if head["of"] not in KINDS:
        raise bad(f"of = {head['of']!r} is not one of {', '.join(KINDS)}")
    sees = head["sees"]
    if not isinstance(sees, list) or not all(isinstance(part, str) and part in SEES for part in sees):
        raise bad(f"sees = {sees!r} must list some of {', '.join(sorted(SEES))}")
    if not whole(head["version"], 1) or not whole(head.get("max_tokens", 1), 1):
        raise bad("version and max_tokens are whole numbers, 1 or more")
    warm = head.get("temperature", 0.0)
    if isinstance(warm, bool) or not isinstance(warm, int | float) or not 0 <= warm <= 2:
        raise bad(f"temperature = {warm!r} is a number from 0 to 2")
    if head.get("first") is not None and head["first"] not in names():
        raise bad(f"first = {head['first']!r} is not one of {', '.join(names())}")
    if not isinstance(head.get("limits", {}), dict):
        raise bad("[limits] is a table")
