"""Picture words: what can be said of a picture without any model: colours, brightness, contrast, layout.

Nothing here knows what a picture shows. Colours are compared in OKLab (Ottosson 2020), in which equal distances look
about equal, with a palette of common colour names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["PictureWords", "look_at"]

SIDE = 96  # pixels on the longer side that are looked at
LEAST = 0.06  # share of the picture that a colour must cover to be named
MOST_COLOURS = 4

PALETTE: tuple[tuple[str, str], ...] = (
    ("black", "#000000 #161616"),
    ("dark grey", "#3a3a3a #4d4d4d"),
    ("grey", "#808080 #6b6b6b #959595"),
    ("light grey", "#c0c0c0 #d4d4d4"),
    ("white", "#ffffff #f4f4f4"),
    ("red", "#d81e1e #ff0000 #b81414"),
    ("dark red", "#7a0f14 #5a0a0e"),
    ("pink", "#ff8fb3 #f4b6c8 #ff69b4"),
    ("magenta", "#d0108c #ff00ff"),
    ("orange", "#ff8000 #f0701a #ffa500"),
    ("peach", "#ffc79c #f5b895"),
    ("brown", "#7b4a21 #5e3717 #96603a #a0422a"),
    ("dark brown", "#35200f #2a180c"),
    ("tan", "#c8a06e #b98d5a"),
    ("beige", "#e8d9b8 #ddcba4"),
    ("cream", "#fbf3d9"),
    ("gold", "#d4a017 #c08f20"),
    ("yellow", "#ffe600 #f7d038 #ffff00"),
    ("pale yellow", "#fff6a0"),
    ("lime green", "#a4d812 #7fff00"),
    ("green", "#1f8f2e #00b400 #2ea84a #00ff00"),
    ("dark green", "#12401c #0b2e14"),
    ("olive", "#6f7021 #585a1c"),
    ("pale green", "#b4e2b0"),
    ("turquoise", "#26c4b4 #40e0d0"),
    ("teal", "#0f7173 #0a5a60"),
    ("light blue", "#8cc4f0 #add8f2"),
    ("blue", "#1f5fd0 #0000ff #2f7fe0"),
    ("navy", "#14204f #0c1638"),
    ("purple", "#7a2ea8 #5b1f87 #800080"),
    ("lilac", "#c5a3e0 #b48cd6"),
)


@dataclass(frozen=True)
class PictureWords:
    """colours: those that cover most first; light: brightness and contrast; layout: how the picture is filled.

    tint: "black and white", "mostly one colour", "muted" or "colourful". shares: the colours' shares of the picture.
    """

    colours: tuple[str, ...]
    shares: tuple[float, ...]
    light: str
    layout: str
    tint: str


def look_at(picture: Image.Image) -> PictureWords:
    """Words for an RGB picture of any size."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    lab = oklab(np.asarray(small, np.float32) / 255)
    names, shares = _colours(lab)
    return PictureWords(names, shares, _light(lab), _layout(lab), _tint(lab))


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1, shape (..., 3), to OKLab: lightness 0..1, green to red, blue to yellow."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(linear @ _TO_LMS)
    return lms @ _TO_LAB


_TO_LMS = np.array(
    [
        [0.4122214708, 0.2119034982, 0.0883024619],
        [0.5363325363, 0.6806995451, 0.2817188376],
        [0.0514459929, 0.1073969566, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 1.9779984951, 0.0259040371],
        [0.7936177850, -2.4285922050, 0.7827717662],
        [-0.0040720468, 0.4505937099, -0.8086757660],
    ],
    np.float32,
)


def _rgb(code: str) -> list[float]:
    return [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]


_SAMPLES = oklab(np.array([_rgb(code) for _, codes in PALETTE for code in codes.split()], np.float32))
_NAME = np.array([place for place, (_, codes) in enumerate(PALETTE) for _ in codes.split()])


def _colours(lab: np.ndarray) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names of the main colours and their shares of the picture, largest first."""
    pixels = lab.reshape(-1, 3)
    # |p - s|^2 without p^2, which is the same for every sample. Chroma counts double: a bluish grey is a blue.
    scale = np.array([1, 2, 2], np.float32)
    samples = _SAMPLES * scale
    far = (samples**2).sum(1) - 2 * (pixels * scale) @ samples.T
    counts = np.bincount(_NAME[far.argmin(1)], minlength=len(PALETTE)) / len(pixels)
    order = sorted(range(len(PALETTE)), key=lambda place: (-counts[place], place))
    kept = [place for place in order if counts[place] >= LEAST][:MOST_COLOURS] or order[:1]
    return tuple(PALETTE[place][0] for place in kept), tuple(round(float(counts[place]), 2) for place in kept)


def _light(lab: np.ndarray) -> str:
    lightness = lab[..., 0]
    mean, spread = float(lightness.mean()), float(lightness.std())
    words = ("very dark", "dark", "of medium brightness", "bright", "very bright")
    contrast = "low" if spread < 0.08 else "high" if spread > 0.24 else "medium"
    return f"{words[int(np.digitize(mean, (0.2, 0.42, 0.68, 0.88)))]}, {contrast} contrast"


def _tint(lab: np.ndarray) -> str:
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    if np.quantile(chroma, 0.98) < 0.025:
        return "black and white"
    if chroma.mean() < 0.02:
        return "almost without colour"
    # How far the hues agree, each counted by its chroma: 1 for one hue, 0 for all of them.
    agree = float(np.hypot(lab[..., 1].sum(), lab[..., 2].sum()) / chroma.sum())
    if agree > 0.93:
        return "of one hue"
    return "colourful" if chroma.mean() > 0.07 and agree < 0.75 else "muted" if chroma.mean() < 0.05 else "coloured"


def _layout(lab: np.ndarray) -> str:
    """How the frame is filled, judged by its border, an eighth of each side wide at most."""
    height, width = lab.shape[:2]
    edge = max(1, min(height, width) // 12)
    inner = np.zeros((height, width), bool)
    inner[edge : height - edge, edge : width - edge] = True
    border, middle = lab[~inner], lab[inner]
    if not len(middle):
        return "too small to tell"
    ground = np.median(border, axis=0)
    near = np.linalg.norm(border - ground, axis=1) < 0.07
    if near.mean() < 0.8:
        darker = middle[:, 0].mean() - border[:, 0].mean()
        return "fills the frame, with dark edges" if darker > 0.2 else "fills the frame"
    tone = "pale" if ground[0] > 0.8 else "dark" if ground[0] < 0.35 else "plain"
    plain = f"a {tone} plain ground" if tone != "plain" else "a plain ground"
    thing = np.linalg.norm(lab - ground, axis=2) > 0.07
    if thing.mean() < 0.005:
        return f"nothing but {plain}"
    rows, columns = np.flatnonzero(thing.any(1)), np.flatnonzero(thing.any(0))
    down, across = (rows[0] + rows[-1]) / 2 / (height - 1 or 1), (columns[0] + columns[-1]) / 2 / (width - 1 or 1)
    size = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / (height * width)
    much = "small and " if size < 0.15 else "large and " if size > 0.7 else ""
    if max(abs(down - 0.5), abs(across - 0.5)) < 0.12:
        return f"{much}centred on {plain}"
    if abs(across - 0.5) > abs(down - 0.5):
        return f"{much}at the {'left' if across < 0.5 else 'right'} on {plain}"
    return f"{much}at the {'top' if down < 0.5 else 'bottom'} on {plain}"
