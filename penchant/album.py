"""Album: the pictures of items as a language model takes them in training and in scoring."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from penchant.catalog import Pictures, open_picture
from penchant.errors import BadPicture, BadSetting
from penchant.lm.tuned import Tuned

__all__ = ["Album"]

MOST, BLOCK = 2**32, 64  # bytes that are held of all pictures; pictures opened at once


@dataclass(frozen=True, eq=False)
class Album:
    """seen: (I,) bool, which items have a picture that can be opened. Under adapters the part of the model that sees stays as it is:
    `looks`, (I, n, d) float16, is made once, and no pixel is kept. Else `pixels`, (P, ...), of those that are seen, is looked at anew in
    each step."""

    seen: np.ndarray
    pixels: torch.Tensor | None = None
    looks: np.ndarray | None = None

    @classmethod
    def of(cls, picture: Pictures | None, tuned: Tuned, frozen: bool) -> Album | None:
        """None where nothing is shown: no pictures, or a model that sees none. Raises BadSetting where they would be too much to hold."""
        if picture is None or not tuned.sees:
            return None
        seen, looks, parts = np.zeros(len(picture.items), bool), None, list[torch.Tensor]()
        rows = np.flatnonzero(picture.present)
        for start in range(0, len(rows), BLOCK):
            images, whose = [], []
            for row in rows[start : start + BLOCK].tolist():
                with suppress(BadPicture):
                    images.append(open_picture(picture.read(row) or b"", picture.items.keys[row], 512))
                    whose.append(row)
            if not images:
                continue
            seen[whose] = True
            pixels = tuned.pixels(images)
            if not frozen:
                _fits(pixels[0].nbytes, len(rows), tuned)
                parts.append(pixels)
                continue
            made = _looks(tuned, pixels)
            _fits(made[0].nbytes, len(seen), tuned)
            looks = np.zeros((len(seen), *made.shape[1:]), np.float16) if looks is None else looks
            looks[whose] = made
        return cls(seen, torch.cat(parts) if parts else None, looks) if seen.any() else None

    @cached_property
    def where(self) -> np.ndarray:
        """Rows of `pixels`. (I,)"""
        return np.cumsum(self.seen) - 1

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
        parts = [_looks(tuned, self.pixels[at : at + BLOCK]) for at in range(0, len(self.pixels), BLOCK)]
        found = np.zeros((len(self.seen), *parts[0].shape[1:]), np.float16)
        found[self.seen] = np.concatenate(parts)
        return found


def _fits(size: int, pictures: int, tuned: Tuned) -> None:
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
