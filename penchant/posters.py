"""Posters: what people chose, in pictures, beside new items that are recommended to them, so that one can see whether they fit.

Titles and reasons are written by strangers: the template escapes every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from penchant.catalog import open_picture
from penchant.errors import BadPicture
from penchant.page import Card, Example, environment, people_of
from penchant.report import write_whole

__all__ = ["sheet", "write"]

PAPER, INK, MUTED, ACCENT, LINE = "#fcfbf9", "#1d1c1a", "#6a665f", "#1a6b66", "#e3dfd8"
TILE, GAP, MARGIN, CAPTION = 132, 14, 36, 40  # pixels


def write(file: Path, heading: str, intro: str, examples: Sequence[Example]) -> Path:
    """Writes one file that holds everything. Raises BadInput where it cannot be written."""
    people, ratio = people_of(examples)
    template = environment().get_template("posters.html")
    text = template.render(heading=heading, intro=intro, people=people, ratio=ratio)
    return write_whole(file, text.encode("utf-8", "replace"))


def sheet(examples: Sequence[Example], before: int = 4, new: int = 4) -> Image.Image:
    """The same as one picture: a row a user, the last of `history` to the left, new items to the right."""
    columns = before + new
    width = 2 * MARGIN + columns * TILE + (columns - 1) * GAP + 2 * GAP
    row = TILE + CAPTION + 30
    page = Image.new("RGB", (width, MARGIN + 26 + len(examples) * row), PAPER)
    draw = ImageDraw.Draw(page)
    right = MARGIN + before * (TILE + GAP) + 2 * GAP
    draw.text((MARGIN, MARGIN - 10), "chosen before: what speaks most for the first of the new", MUTED, _font(17))
    draw.text((right, MARGIN - 10), "new here, recommended", ACCENT, _font(17))
    for n, example in enumerate(examples):
        top = MARGIN + 24 + n * row
        for place, card in enumerate(example.history[-before:]):
            _tile(page, draw, MARGIN + place * (TILE + GAP), top, card, LINE)
        for place, card in enumerate(example.recommended[:new]):
            _tile(page, draw, right + place * (TILE + GAP), top, card, ACCENT)
    return page


def _tile(page: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, card: Card, edge: str) -> None:
    try:
        picture = None if card.picture is None else open_picture(card.picture, card.item_id, TILE)
    except BadPicture:
        picture = None
    if picture is not None:
        scale = TILE / max(picture.size)
        size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
        page.paste(picture.resize(size), (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
    draw.rectangle((left - 2, top - 2, left + TILE + 1, top + TILE + 1), outline=edge, width=2)
    for line, words in enumerate(_lines(draw, card.title, TILE)):
        draw.text((left, top + TILE + 6 + 17 * line), words, INK, _font(13))


def _lines(draw: ImageDraw.ImageDraw, text: str, width: int, most: int = 2) -> list[str]:
    """The text in lines that are no wider, the last one cut where more is left."""
    lines, font = [""], _font(13)
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    return [_cut(draw, line, width) for line in lines]


def _cut(draw: ImageDraw.ImageDraw, line: str, width: int) -> str:
    font = _font(13)
    while line and draw.textlength(line, font) > width:
        line = line.removesuffix("…").rstrip()[:-1] + "…"
    return line


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
