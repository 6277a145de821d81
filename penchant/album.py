"""Album: the pictures of items as a language model takes them in training and in scoring."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from penchant.catalog import Pictures, open_picture
from penchant.errors import BadPicture, BadSetting
from penchant.lm.tuned import Tuned

__all__ = ["Album"]

MOST, BLOCK = 2**32, 64  # bytes that are held of all pictures; pictures opened at once


@dataclass(eq=False)
class Album:
    """seen: (I,) bool, which items have a picture that can be opened. Under adapters the part of the model that sees stays as it is:
    `looks`, (I, n, d) float16, is made once, and no pixel is kept. Else `pixels`, (P, ...), is looked at anew in each step; where:
    (I,) rows of it."""

    seen: np.ndarray
    where: np.ndarray
    pixels: torch.Tensor | None = None
    looks: np.ndarray | None = None

    @classmethod
    def of(cls, picture: Pictures | None, tuned: Tuned, frozen: bool) -> Album | None:
        """None where nothing is shown: no pictures, or a model that sees none. Raises BadSetting where they would be too much to hold."""
        if picture is None or not tuned.sees:
            return None
        made = cls(np.zeros(len(picture.items), bool), np.full(len(picture.items), -1, np.int64))
        rows, parts = np.flatnonzero(picture.present), list[torch.Tensor]()
        for start in range(0, len(rows), BLOCK):
            images, whose = [], []
            for row in rows[start : start + BLOCK].tolist():
                with suppress(BadPicture):
                    images.append(open_picture(picture.read(row) or b"", picture.items.keys[row], 512))
                    whose.append(row)
            if not images:
                continue
            pixels = tuned.pixels(images)
            if frozen:
                looks = _looks(tuned, pixels)
                fits(looks[0].nbytes, len(picture.items), tuned)
                made.hang(whose, looks)
            else:
                fits(pixels[0].nbytes, len(rows), tuned)
                parts.append(pixels)
            made.where[whose] = np.arange(len(whose)) + made.seen.sum()
            made.seen[whose] = True
        if not made.seen.any():
            return None
        made.pixels = torch.cat(parts) if parts else None
        return made

    def hang(self, rows: list[int], looks: np.ndarray) -> None:
        """What was made of these items' pictures. (m, n, d)"""
        if self.looks is None:
            self.looks = np.zeros((len(self.seen), *looks.shape[1:]), np.float16)
        self.looks[rows] = looks

    def shown(self, items: np.ndarray) -> tuple[np.ndarray, torch.Tensor, bool]:
        """Pictures of a batch, each once, where each item's stands among them, -1 for none, and whether they are looks. (B,), (p, ...)"""
        has = self.seen[items]
        distinct, place = np.unique(items[has], return_inverse=True)
        picture = np.full(len(items), -1, np.int64)
        picture[has] = place
        if self.looks is not None:
            return picture, torch.from_numpy(self.looks[distinct]), True
        assert self.pixels is not None
        return picture, self.pixels[self.where[distinct]], False

    def whole(self, tuned: Tuned) -> np.ndarray:
        """What the model, as it is now, makes of each item's picture; rows of zeros where there is none. (I, n, d) float16"""
        if self.looks is not None:
            return self.looks
        assert self.pixels is not None
        rows = np.flatnonzero(self.seen)
        found = np.zeros(0, np.float16)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            looks = _looks(tuned, self.pixels[self.where[part]])
            if not start:
                found = np.zeros((len(self.seen), *looks.shape[1:]), np.float16)
            found[part] = looks
        return found


def fits(size: int, pictures: int, tuned: Tuned) -> None:
    """Raises BadSetting for more bytes than are held. size: bytes of one picture."""
    if size * pictures > MOST:
        raise BadSetting(
            f"{pictures:,} pictures would take {size * pictures / 2**30:.1f} GB as {tuned.chat.name} sees them. Let their descriptions "
            "speak for them:  --set model.pictures=false"
        )


@torch.no_grad()
def _looks(tuned: Tuned, pixels: torch.Tensor) -> np.ndarray:
    """(P, ...) -> (P, n, d) float16"""
    return tuned.looks(pixels).float().cpu().numpy().astype(np.float16)
