"""Uploads: a picture from a stranger, made harmless before anything keeps it."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from penchant.catalog import open_picture
from penchant.errors import BadPicture

__all__ = ["MOST_BYTES", "clean", "small"]

MOST_BYTES = 8_000_000
MOST_PIXELS = 40_000_000
SIDE = 1_600  # pixels on the longer side of what is kept
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


def clean(encoded: str) -> bytes:
    """A JPEG of at most SIDE pixels from base64, without anything else that the file carried (place, camera, comments).

    Raises BadPicture for what is no base64, none of FORMATS by its content, too large, or damaged.
    """
    head, comma, rest = encoded.partition(",")
    body = rest if comma and head.startswith("data:") else encoded
    try:
        raw = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadPicture("the picture is not base64. Send its bytes so:  base64 -w0 picture.jpg") from None
    if len(raw) > MOST_BYTES:
        raise BadPicture(f"the picture has {len(raw):,} bytes; at most {MOST_BYTES:,}. Scale it down.")
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as found:
            width, height = found.size
    except Exception:
        raise BadPicture(
            f"the picture is none of {', '.join(FORMATS)} ({len(raw)} bytes). Send one of these."
        ) from None
    if width * height > MOST_PIXELS:
        raise BadPicture(f"the picture is {width} x {height} pixels; at most {MOST_PIXELS:,}. Scale it down.")
    return small(raw, SIDE, 90)


def small(raw: bytes, side: int, quality: int = 85) -> bytes:
    """A JPEG of at most `side` pixels. Raises BadPicture."""
    picture = open_picture(raw, "uploaded", side)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
