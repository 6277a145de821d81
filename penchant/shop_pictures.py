"""The shop's pictures: one small drawing a product, made with Pillow alone.

The shape shows what a thing is, the fill its colour, and two attributes are to be seen here and nowhere else: the
pattern of the fill and the accent colour of flaps, straps, handles and caps. No text of the shop names either.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

__all__ = ["ACCENTS", "COLOURS", "PATTERNS", "SIZE", "draw"]

SIZE = 128  # pixels on each side
FINER = 2  # drawn this much larger, then averaged down, so that edges are smooth

PATTERNS = ("plain", "stripes", "dots", "checks", "zigzag", "stars")  # seen only in the picture
ACCENTS = {  # seen only in the picture; strong colours that no fill comes near
    "gold": (240, 178, 18),
    "scarlet": (222, 28, 52),
    "turquoise": (0, 186, 190),
    "violet": (128, 52, 206),
    "ink": (20, 22, 38),
    "pink": (250, 92, 168),
}
COLOURS = {  # the fill; words name it too
    "moss green": (104, 124, 76),
    "sand": (206, 184, 146),
    "slate blue": (98, 118, 146),
    "rust": (174, 94, 62),
    "plum": (116, 80, 108),
    "fog grey": (164, 168, 172),
    "sage": (152, 176, 150),
    "clay": (196, 146, 120),
    "denim": (70, 96, 138),
    "oat": (222, 208, 182),
}
BACKDROPS = ((250, 246, 240), (240, 246, 250), (244, 248, 240), (250, 243, 246), (246, 244, 250))

# Two drawings a category, in a square of 128 x 128. A step is a layer, a form and its numbers:
#   layers  b body (patterned)   a accent   s shade   h light   d dark detail
#   forms   poly x,y ...   box x,y x,y radius   oval x,y x,y   line width x,y ...   ring width x,y x,y
SHAPES = """
tents: b poly 10,104 64,26 118,104; s poly 64,26 92,104 118,104; a poly 64,48 46,104 82,104;
    s poly 64,48 64,104 82,104; d line 2 64,12 64,28; a poly 65,11 84,18 65,25; d line 2 10,104 118,104
tents: b poly 8,104 12,78 24,56 42,40 64,34 86,40 104,56 116,78 120,104;
    s poly 86,40 104,56 116,78 120,104 98,104 94,70; a poly 64,56 50,64 43,80 42,104 86,104 85,80 78,64;
    h poly 64,62 54,68 48,82 47,104 64,104; a line 4 12,78 24,56 42,40 64,34 86,40 104,56 116,78
backpacks: a ring 6 44,10 84,44; b box 28,26 100,112 22; s box 84,34 100,112 12; a box 36,68 92,106 10;
    d line 2 36,80 92,80; h box 60,78 68,88 3; a line 5 28,52 100,52
backpacks: a ring 6 50,8 78,34; b poly 34,40 44,26 84,26 94,40 98,112 30,112;
    a poly 34,40 44,24 84,24 94,40 94,60 64,68 34,60; h box 60,58 68,70 2; s box 36,80 92,104 6; d line 2 36,88 92,88
jackets: b poly 46,24 82,24 96,32 98,110 30,110 32,32; b poly 32,32 12,84 26,92 40,56;
    b poly 96,32 116,84 102,92 88,56; s poly 88,56 98,40 98,110 84,110; a line 5 64,26 64,110;
    a poly 46,24 64,40 82,24 76,16 52,16; a poly 12,84 26,92 24,99 9,91; a poly 116,84 102,92 104,99 119,91;
    d line 2 40,84 54,84; d line 2 74,84 88,84
jackets: a oval 44,8 84,46; s oval 50,14 78,44; b poly 44,30 84,30 98,38 104,114 24,114 30,38;
    b poly 30,38 14,80 28,90 42,60; b poly 98,38 114,80 100,90 86,60; a box 34,80 56,100 4; a box 72,80 94,100 4;
    d line 2 64,32 64,114; h oval 61,46 67,52; h oval 61,64 67,70
mugs: a ring 9 76,44 114,88; b box 24,32 90,106 10; s box 74,34 90,106 8; a oval 24,24 90,42; d oval 30,28 84,39
mugs: a ring 8 80,54 112,88; b poly 22,42 94,42 86,92 76,104 40,104 30,92; s poly 80,42 94,42 86,92 76,104 70,104;
    a poly 22,42 94,42 93,50 23,50; a box 40,102 76,108 3; d line 2 50,32 46,22 52,12; d line 2 66,32 62,22 68,12
lamps: a line 6 64,66 64,108; a box 40,104 88,112 4; b poly 46,18 82,18 102,68 26,68; s poly 72,18 82,18 102,68 84,68;
    h oval 52,64 76,78; a line 4 26,68 102,68
lamps: d line 2 64,4 64,26; a box 54,22 74,34 4; b poly 54,32 74,32 98,56 104,84 24,84 30,56;
    s poly 66,32 74,32 98,56 104,84 86,84; a line 5 24,85 104,85
toys: b poly 12,84 12,56 42,56 54,34 88,34 88,56 116,62 116,84; h poly 57,40 70,40 70,56 49,56;
    h poly 75,40 84,40 84,56 75,56; s poly 12,74 116,74 116,84 12,84; a oval 20,70 50,100; a oval 78,70 108,100;
    h oval 30,80 40,90; h oval 88,80 98,90
toys: b box 14,66 58,110 5; b box 66,66 110,110 5; b box 40,18 84,62 5; s poly 76,18 84,18 84,62 76,62;
    s poly 50,66 58,66 58,110 50,110; s poly 102,66 110,66 110,110 102,110; a oval 26,78 46,98;
    a poly 88,76 102,100 74,100; a box 53,31 71,49 2
bottles: b box 44,36 84,114 12; s box 72,40 84,114 8; a box 50,14 78,34 4; a ring 4 56,4 72,18; a line 5 44,92 84,92
bottles: b poly 40,58 52,40 76,40 88,58 88,104 82,114 46,114 40,104; s poly 74,40 76,40 88,58 88,104 82,114 74,114;
    a box 52,22 76,40 3; d line 2 52,30 76,30; a poly 40,70 88,70 88,80 40,80
cushions: a poly 16,16 112,16 112,112 16,112; b poly 20,20 64,25 108,20 103,64 108,108 64,103 20,108 25,64;
    s poly 90,21 108,20 103,64 108,108 92,107 96,64; a oval 56,56 72,72
cushions: a line 5 10,28 16,38; a line 5 10,102 16,92; a line 5 118,28 112,38; a line 5 118,102 112,92;
    b poly 14,34 64,38 114,34 110,65 114,96 64,92 14,96 18,65; s poly 96,35 114,34 110,65 114,96 98,95 102,65;
    a poly 58,36 70,36 70,94 58,94
notebooks: b box 28,16 102,112 5; s box 28,16 40,112 4; a line 6 88,16 88,112; h box 48,32 78,46 2;
    d line 2 54,39 72,39; a poly 58,112 68,112 68,122 63,117 58,122
notebooks: b box 24,20 104,110 4; a line 3 18,30 32,30; a line 3 18,43 32,43; a line 3 18,56 32,56;
    a line 3 18,69 32,69; a line 3 18,82 32,82; a line 3 18,95 32,95; a poly 104,20 80,20 104,46;
    s poly 96,46 104,46 104,110 96,110; h box 46,56 84,74 2
umbrellas: a line 5 64,60 64,108; a ring 5 50,96 66,120;
    b poly 8,68 14,48 30,32 50,22 64,20 78,22 98,32 114,48 120,68 102,60 83,68 64,60 45,68 26,60;
    s poly 78,22 98,32 114,48 120,68 102,60 92,64 90,40; a line 4 64,10 64,22; a line 3 64,20 45,66;
    a line 3 64,20 83,66
umbrellas: d line 3 64,8 64,20; b poly 38,32 50,24 64,18 78,24 90,32 80,92 64,98 48,92;
    s poly 76,22 90,32 80,92 66,98; a poly 41,52 87,52 85,64 43,64; a line 6 64,96 64,112; a ring 5 62,102 82,122
teapots: a ring 8 84,46 118,86; b poly 40,64 24,58 10,42 18,38 32,46 44,52; b oval 28,40 98,108;
    s poly 86,52 96,64 96,86 86,98; a oval 44,34 82,50; a oval 57,24 69,36; d line 2 44,108 82,108
teapots: a ring 6 40,8 88,60; b poly 34,72 14,54 20,48 40,58; b poly 36,46 92,46 102,78 92,106 36,106 26,78;
    s poly 84,46 92,46 102,78 92,106 84,106; a box 44,38 84,48 4; a oval 58,28 70,40
baskets: a ring 6 12,46 40,72; a ring 6 88,46 116,72; b poly 20,46 108,46 98,110 30,110;
    s poly 92,46 108,46 98,110 84,110; a poly 18,42 110,42 108,54 20,54
baskets: a ring 6 30,10 98,86; b poly 16,60 112,60 104,88 92,108 36,108 24,88;
    s poly 98,60 112,60 104,88 92,108 84,108; a box 14,54 114,64 4
"""

Step = tuple[str, str, list[float], float]
Paint = int | tuple[int, ...]


def draw(category: str, variant: int, colour: str, pattern: str, accent: str, look: np.ndarray) -> bytes:
    """One picture as PNG bytes. look: (4,) in 0..1, what differs between otherwise equal things: width, height,
    backdrop, shift of the pattern."""
    side = SIZE * FINER
    wide, high = 0.86 + 0.14 * look[0], 0.86 + 0.14 * look[1]
    fill = _fill(pattern, colour, int(look[3] * 4))
    canvas = _backdrop(int(look[2] * len(BACKDROPS))).copy()
    pen = ImageDraw.Draw(canvas, "RGBA")
    dark = _whole(np.array(COLOURS[colour]) * 0.42)
    paint: dict[str, Paint] = {"a": ACCENTS[accent], "s": (0, 0, 0, 44), "h": (255, 255, 255, 168), "d": dark}
    for layer, form, numbers, extra in _shapes()[category][variant]:
        # Things stand on the floor at y = 112, so height shrinks towards it.
        points = [
            ((64 + (x - 64) * wide) * FINER, (112 + (y - 112) * high) * FINER)
            for x, y in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        if layer == "b":
            mask = Image.new("L", (side, side))
            _form(ImageDraw.Draw(mask), form, points, extra, 255)
            canvas.paste(fill, (0, 0), mask)
            _edge(pen, form, points, extra, dark)
        else:
            _form(pen, form, points, extra, paint[layer])
    out = io.BytesIO()
    canvas.reduce(FINER).save(out, "PNG")
    return out.getvalue()


def _form(pen: ImageDraw.ImageDraw, form: str, points: list, extra: float, paint: Paint) -> None:
    """One form in one paint."""
    if form == "poly":
        pen.polygon(points, fill=paint)
    elif form == "box":
        pen.rounded_rectangle(points, radius=extra * FINER, fill=paint)
    elif form == "oval":
        pen.ellipse(points, fill=paint)
    elif form == "ring":
        pen.ellipse(points, outline=paint, width=round(extra * FINER))
    else:
        pen.line(points, fill=paint, width=round(extra * FINER), joint="curve")


def _edge(pen: ImageDraw.ImageDraw, form: str, points: list, extra: float, paint: Paint) -> None:
    """A thin dark outline, so that pale things stand out from the pale backdrop."""
    if form == "poly":
        pen.line([*points, points[0]], fill=paint, width=FINER, joint="curve")
    elif form == "box":
        pen.rounded_rectangle(points, radius=extra * FINER, outline=paint, width=FINER)
    else:
        pen.ellipse(points, outline=paint, width=FINER)


def _whole(colour: np.ndarray) -> tuple[int, int, int]:
    """A colour that Pillow takes."""
    red, green, blue = colour.astype(int).tolist()
    return red, green, blue


@cache
def _shapes() -> dict[str, list[list[Step]]]:
    """SHAPES, read: category -> its drawings -> steps (layer, form, coordinates, width or radius)."""
    shapes: dict[str, list[list[Step]]] = {}
    for drawing in SHAPES.replace("\n    ", " ").strip().splitlines():
        category, steps = drawing.split(":")
        shapes.setdefault(category, []).append([_step(step) for step in steps.split(";")])
    return shapes


def _step(words: str) -> Step:
    layer, form, *rest = words.replace(",", " ").split()
    numbers = [float(x) for x in rest]
    extra = numbers.pop(0) if form in ("line", "ring") else numbers.pop() if form == "box" else 0.0
    return layer, form, numbers, extra


def _fill(pattern: str, colour: str, shift: int) -> Image.Image:
    """The patterned cloth that bodies are cut from."""
    base = np.array(COLOURS[colour], float)
    # The second tone is the fill made much lighter, or darker where the fill is light already.
    second = base + (250 - base) * 0.72 if base.mean() < 160 else base * 0.58
    return ImageOps.colorize(_ink(pattern, shift), _whole(base), _whole(second))


@cache
def _ink(pattern: str, shift: int) -> Image.Image:
    """How much of the second tone each point takes, as a grey picture."""
    side = SIZE * FINER
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / FINER + shift * 3
    if pattern == "stripes":
        ink = x % 12 < 5
    elif pattern == "dots":
        ink = ((x + np.floor(y / 9) % 2 * 8) % 16 - 8) ** 2 + (y % 9 - 4.5) ** 2 < 9.5
    elif pattern == "checks":
        ink = (x % 16 < 8) * 0.5 + (y % 16 < 8) * 0.5
    elif pattern == "zigzag":
        ink = (y + np.abs(x % 16 - 8)) % 12 < 5
    elif pattern == "stars":
        return _stars(shift)
    else:
        ink = np.zeros((side, side))
    return Image.fromarray(np.uint8(ink * 255))


def _stars(shift: int) -> Image.Image:
    """Rows of five-pointed stars."""
    cloth = Image.new("L", (SIZE * FINER, SIZE * FINER))
    pen = ImageDraw.Draw(cloth)
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 7.0, 2.9)
    star = np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)
    for row, top in enumerate(range(-20, SIZE + 20, 14)):
        for left in range(-20, SIZE + 20, 19):
            centre = np.array([left + row % 2 * 9.5, top]) - shift * 3
            pen.polygon([tuple(p) for p in (star + centre) * FINER], fill=255)
    return cloth


@cache
def _backdrop(which: int) -> Image.Image:
    """A pale wall, a slightly darker floor and a soft shadow on it."""
    side = SIZE * FINER
    wall = Image.new("RGB", (side, side), BACKDROPS[which])
    shade = Image.new("L", (side, side))
    ImageDraw.Draw(shade).ellipse([16 * FINER, 102 * FINER, 112 * FINER, 120 * FINER], fill=90)
    shade = shade.filter(ImageFilter.GaussianBlur(5 * FINER))
    wall.paste((120, 116, 112), (0, 0), shade)
    return wall
