"""Failures: every error as a status and one message, without repeating what was sent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from penchant.errors import (
    BadInput,
    BadModel,
    BadRecipe,
    CannotServeColdItems,
    Diverged,
    KeyReused,
    Leak,
    Misaligned,
    MissingExtra,
    MissingFile,
    MissingInput,
    PenchantError,
    StateError,
    UnknownId,
)

__all__ = ["failure", "invalid", "refused", "told"]

log = logging.getLogger("penchant.serve")
STATUS: tuple[tuple[type[PenchantError], int, str], ...] = (
    (UnknownId, 404, "unknown_id"),
    (CannotServeColdItems, 409, "cannot_take_new_items"),
    (Misaligned, 409, "cannot_take_new_items"),
    (KeyReused, 409, "key_reused"),
    (MissingInput, 409, "not_kept_by_this_model"),
    (MissingFile, 409, "no_newer_run"),
    (StateError, 503, "no_database"),
    (BadModel, 503, "bad_model"),
    (Leak, 503, "leak"),
    (Diverged, 503, "model_diverged"),
    (MissingExtra, 503, "missing_extra"),
    (BadRecipe, 422, "bad_request"),
    (BadInput, 422, "bad_request"),
)


KINDS = {
    "filters": 'a value, a list of some, or {"min": 5, "max": 20} with one or both and min no more than max',
    "numbers": "a number, true or false; texts go into `fields`, and what has a place of its own stays out of both",
    "fields": "a text; numbers go into `numbers`, and what has a place of its own stays out of both",
}


def failure(status: int, code: str, message: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


async def told(request: Request, error: Exception) -> Response:
    """Our own errors: each says what to do. What is wrong with this machine names folders and databases: that is for those with a key."""
    for kind, status, code in STATUS:
        if isinstance(error, kind):
            if status == 503 and not request.scope.get("penchant.trusted"):
                log.warning("%s: %s", code, error)
                return failure(
                    503, code, "this can't be done now; the log says why, and so does this, asked with a key"
                )
            return failure(status, code, str(error))
    return failure(500, "fault", "a fault of ours; the log tells more")


async def invalid(_: Request, error: Exception) -> Response:
    """What was wrong with a request, without repeating it."""
    assert isinstance(error, RequestValidationError)
    said = dict.fromkeys(
        map(_said, error.errors())
    )  # of a value that may be of several kinds, one for each: they say the same
    text = "; ".join(list(said)[:5])
    return failure(422, "bad_request", text.encode("utf-8", "backslashreplace").decode())


def _said(one: Mapping[str, Any]) -> str:
    """One thing that is wrong, and what would be right."""
    loc = [str(part)[:60] for part in one["loc"]]
    loc = loc[1:] if loc[:1] in (["body"], ["query"], ["path"], ["header"]) else loc
    if one["type"] == "json_invalid":
        return "the body is not JSON that can be read"
    if not loc and one["loc"][:1] == ("body",) and one["type"] in ("model_attributes_type", "dict_type", "missing"):
        return "the body has to be a JSON object, sent with  content-type: application/json"
    for parent, right in KINDS.items():
        if loc[:1] == [parent] and len(loc) > 1:
            return f"{parent}.{loc[1]}: {right}"
    where = ".".join(loc) or "the body"
    if one["type"] == "extra_forbidden":
        return f"{where} is not known here; see /openapi.json. Further columns of an item go into `fields` (texts) or `numbers`"
    return f"{where}: {one['msg'].removeprefix('Value error, ')[:200]}"


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return failure(422, "bad_request", "the body is not JSON that can be read")
    code = {404: "no_route", 405: "no_method"}.get(error.status_code, "refused")
    message = {
        404: "there is no such route; see /openapi.json",
        405: "this route has no such method; see /openapi.json",
    }
    reply = failure(error.status_code, code, message.get(error.status_code, str(error.detail)))
    for name, value in (error.headers or {}).items():
        reply.headers[name] = value
    return reply
