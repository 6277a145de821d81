"""Manners: what a refusal means. A server may not take the schema, or a setting, or the question, or not have the model.

Servers say so with different statuses and in different words, and the right thing to do differs: ask otherwise, give up
this question, or give up all. What a refusal names decides; where it names nothing, asking without the schema is tried.
"""

from __future__ import annotations

import re
from dataclasses import replace

from penchant.lm import Request
from penchant.lm.wire import LENGTHS, OPTIONAL, Manner, Refused

__all__ = ["simpler", "unknown_model"]

UNWANTED = re.compile(
    r"un(supported|recogni[sz]ed|known|expected)|not (supported|permitted|allowed)|\bextra", re.IGNORECASE
)
SHAPE = re.compile(r"schema|json_object|response_format\W+type|grammar", re.IGNORECASE)
ASKING = re.compile(r"format|json|structured|guided|param|argument|field|body", re.IGNORECASE)
QUESTION = re.compile(r"image|picture|vision|content[ _]|context|too (long|large|many)|maximum", re.IGNORECASE)
NO_MODEL = re.compile(
    r"model\b.{0,200}\b(not (found|exist)|doesn.t exist|not a valid)|(unknown|invalid|no such|not a valid) model",
    re.IGNORECASE,
)


def simpler(manner: Manner, said: Refused, request: Request) -> Manner | None:
    """How to ask after a refusal that may be about the way of asking; None where it is about the question or the model.

    A setting that is named is left out or called otherwise. Without the schema, any JSON object is asked for where the
    words are about the schema, else nothing is said about the format.
    """
    told = f"{said.code} {said.param} {said.words}"
    if said.status not in (400, 404, 415, 422, 501):
        return None
    unwanted = UNWANTED.search(told) is not None
    if unwanted and manner.length == LENGTHS[0] and re.search(rf"\b{LENGTHS[0]}\b", told):
        return replace(manner, length=LENGTHS[1])
    for name in OPTIONAL:
        if unwanted and name not in manner.without and re.search(rf"\b{name}\b", told):
            return replace(manner, without=manner.without | {name})
    if request.schema is None or manner.form == "free" or _named(said):
        return None
    if SHAPE.search(told):
        return replace(manner, form="object" if manner.form == "schema" else "free")
    vague = not said.words or said.status in (404, 415, 501) or unwanted or "provider" in told.lower()
    about_asking = ASKING.search(told) or (vague and not QUESTION.search(told))
    return replace(manner, form="free") if about_asking else None


def unknown_model(said: Refused) -> bool:
    """Whether the server does not have the model, as far as a refusal tells; status 404 means it when all else failed."""
    return said.status == 404 or _named(said)


def _named(said: Refused) -> bool:
    """Whether a refusal names the model as what is missing."""
    missing = said.code in ("model_not_found", "invalid_model") or NO_MODEL.search(said.words) is not None
    return said.status in (400, 404, 422) and missing
