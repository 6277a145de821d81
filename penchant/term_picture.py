"""A picture in a terminal: two pixels a letter, the upper one as ink and the lower one as paper."""

from __future__ import annotations

from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from penchant.catalog import open_picture
from penchant.errors import BadPicture

__all__ = ["drawn"]


def drawn(raw: bytes, columns: int = 40) -> Text | None:
    """A picture file as lines of half blocks, at most so many columns wide and as many rows high as a square would be;
    None for what is no picture."""
    try:
        picture = open_picture(raw, "", 4 * columns)
    except BadPicture:
        return None
    scale = columns / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = picture.resize((width, height + height % 2), Image.Resampling.BILINEAR)
    pixels = small.load()
    assert pixels is not None
    text = Text(no_wrap=True)
    for row in range(0, small.height, 2):
        for column in range(width):
            ink, paper = (Color.from_rgb(*pixels[column, at]) for at in (row, row + 1))  # type: ignore[misc]
            text.append("\u2580", Style(color=ink, bgcolor=paper))
        text.append("\n" if row + 2 < small.height else "")
    return text
