"""Parsing: the words of a language model to a typed answer, or what was wrong with them.

Models put their JSON into fences, talk before and after it, begin again, or stop in the middle. What counts is the last
whole JSON object that the schema accepts. Around it anything may stand; inside, nothing is guessed: a missing key, a
number as text, a key that stands there twice or NaN make the answer wrong. Nothing is ever evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from penchant.lm.replies import Answer, ReviewMotives

__all__ = ["parse"]

START = re.compile(r'\{\s*["}]')  # how every JSON object begins, and little else
TRIED = 20  # objects that are shown to the schema, the last ones
WORK = 10  # a text is read at most about this many times over, so that hostile ones take linear time
EACH = 100  # characters that could be read while one object is begun
SHORT = 300  # characters that a complaint may have
HALF = re.compile("[\ud800-\udfff]")

# A review may praise nothing, criticise nothing and name no need; in all other answers, nothing is no answer.
MAY_BE_EMPTY = (ReviewMotives,)


def parse(text: str, schema: type[Answer]) -> tuple[Answer | None, str]:
    """The answer; or None, and what was wrong, in words short enough to show to the model.

    The words are ours alone: nothing of the text is quoted, because it may quote strangers.
    """
    found = _objects(text)
    complaints = []
    for one in reversed(found.whole):
        answer, complaint = _typed(one, schema)
        if answer is not None:
            return answer, ""
        complaints.append(complaint)
    if found.cut:  # what was whole is a part of it
        return None, "the JSON object is not complete: it ends in the middle"
    return None, complaints[0] if complaints else found.wrong


@dataclass(frozen=True)
class _Object:
    """A whole JSON object: what it holds, and what is wrong with it although it can be read."""

    holds: dict[str, Any]
    wrong: str


@dataclass(frozen=True)
class _Found:
    """What a text holds. whole: its last objects that stand in no other; cut: one is cut off by the text's end."""

    whole: tuple[_Object, ...]
    cut: bool
    wrong: str


def _objects(text: str) -> _Found:
    flaws: list[str] = []
    decoder = json.JSONDecoder(
        strict=False,  # models break lines inside strings; that is harmless
        object_pairs_hook=lambda pairs: _fields(pairs, flaws),
        parse_constant=lambda word: _odd(word, flaws),
        parse_float=lambda digits: _odd(digits, flaws) if math.isinf(float(digits)) else float(digits),
    )
    whole: deque[_Object] = deque(maxlen=TRIED)
    wrong, cut, at, work = "there is no JSON object in it", False, 0, WORK * (len(text) + 10 * EACH)
    while (work := work - EACH) >= 0 and (start := START.search(text, at)) is not None:
        flaws.clear()
        at = start.start() + 1
        try:
            holds, at = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            ended = error.msg.startswith("Unterminated string") or not text[error.pos : error.pos + 1]
            work -= (len(text) if ended else error.pos) - start.start() + error.pos // 20  # the error counts lines
            cut = cut or ended
            wrong = f"the JSON object is broken at character {error.pos}: {error.msg}"
        except (ValueError, RecursionError):  # a number of thousands of digits; objects in objects in objects
            work -= len(text) - start.start()
            wrong = "the JSON object is nested too deeply, or holds a number that is too long"
        else:
            whole.append(_Object(holds, flaws[0] if flaws else ""))
    return _Found(tuple(whole), cut, wrong[:SHORT])


def _fields(pairs: Sequence[tuple[str, Any]], flaws: list[str]) -> dict[str, Any]:
    fields = {key: _whole(value) for key, value in pairs}
    if len(fields) < len(pairs):
        flaws.append("a key stands in it more than once")
    return fields


def _whole(value: Any) -> Any:
    """Text on one line; halves of surrogate pairs, which no file can hold, become marks of replacement."""
    if isinstance(value, str):
        line = " ".join(value.split())
        return line if line.isascii() else HALF.sub("\ufffd", line)
    return [_whole(part) for part in value] if isinstance(value, list) else value


def _odd(number: str, flaws: list[str]) -> float:
    flaws.append(f"{number[:20]} is no number")
    return 0.0


def _typed(one: _Object, schema: type[Answer]) -> tuple[Answer | None, str]:
    if one.wrong:
        return None, one.wrong
    try:
        answer = schema.model_validate(one.holds)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        return None, f"the JSON object does not fit: {'; '.join(faults[:3])}{more}"[:SHORT]
    if not answer.text().strip(" .-") and not isinstance(answer, MAY_BE_EMPTY):
        return None, "the JSON object says nothing: its texts are empty"
    return answer, ""
