"""Failures: every error as a status and one message, without repeating what was sent."""

from __future__ import annotations

import json

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


def failure(status: int, code: str, message: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


async def told(_: Request, error: Exception) -> Response:
    """Our own errors: each says what to do."""
    for kind, status, code in STATUS:
        if isinstance(error, kind):
            return failure(status, code, str(error))
    return failure(500, "fault", "a fault of ours; the log tells more")


async def invalid(_: Request, error: Exception) -> Response:
    """What was wrong with a request, without repeating it."""
    assert isinstance(error, RequestValidationError)
    said = []
    for one in error.errors()[:5]:
        where = ".".join(str(part)[:60] for part in one["loc"] if part not in ("body", "query", "path"))
        said.append(f"{where or 'the body'}: {one['msg'][:200]}")
    text = json.dumps("; ".join(said))[1:-1]
    return failure(422, "bad_request", text)


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
