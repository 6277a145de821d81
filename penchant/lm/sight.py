"""Sight: how pictures become vectors among those of words, for the families of models whose layout is known here.

Every picture takes the same number of places: LLaVA 1.5 scales to one size by itself, and for Qwen-VL pictures are made square first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from penchant.lm.chat import Chat

__all__ = ["Grid", "Places", "sight_of"]

SIDE = 224  # pixels of a square picture for Qwen-VL: 64 places of 28 x 28 pixels


def sight_of(chat: Chat, model: Any) -> Places | None:
    """How a model sees. None for models of texts, and for those whose layout is not known here, LLaVA-NeXT, Qwen3-VL and others: these
    read descriptions of pictures instead."""
    kind = chat.config.model_type
    if not chat.sees or kind not in ("llava", "qwen2_vl", "qwen2_5_vl"):
        return None
    return Places(chat, model) if kind == "llava" else Grid(chat, model)


class Places:
    """LLaVA 1.5: a picture stands among words as so many words would, one place after the other."""

    def __init__(self, chat: Chat, model: Any) -> None:
        self.chat, self.model = chat, model

    @property
    def mark(self) -> int:
        """The token in whose place a picture stands."""
        return int(self.model.config.image_token_index)

    def around(self, count: int) -> list[int]:
        """The tokens of one picture."""
        return [self.mark] * count

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures as the model takes them. (P, 3, H, W)"""
        return torch.as_tensor(
            self.chat.processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        )

    def looks(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the model makes of them. (P, ...) -> (P, n, d)"""
        return torch.stack(list(self.model.get_image_features(pixel_values=pixels).pooler_output))

    def positions(self, ids: torch.Tensor, begin: torch.Tensor) -> torch.Tensor:
        """Where each token stands. (B, S), (B, 1) -> (B, S)"""
        return begin + torch.arange(ids.shape[1], device=ids.device)


class Grid(Places):
    """Qwen2-VL and Qwen2.5-VL: places of a picture have a row and a column; what follows stands behind the larger of both."""

    @property
    def mark(self) -> int:
        return int(self.model.config.image_token_id)

    @cached_property
    def side(self) -> int:
        """Places in a row of a square picture."""
        seen = self.chat.grids(images=[Image.new("RGB", (SIDE, SIDE))], return_tensors="pt")["image_grid_thw"]
        return int(seen[0, 1]) // self.chat.grids.merge_size

    def around(self, count: int) -> list[int]:
        config = self.model.config
        return [config.vision_start_token_id, *[self.mark] * count, config.vision_end_token_id]

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(P, patches, values of a patch)"""
        square = [image.resize((SIDE, SIDE)) for image in images]
        values = self.chat.grids(images=square, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(values).view(len(images), -1, values.shape[-1])

    def looks(self, pixels: torch.Tensor) -> torch.Tensor:
        edge = self.side * self.chat.grids.merge_size
        grid = torch.tensor([[1, edge, edge]] * len(pixels), device=pixels.device)
        flat = pixels.reshape(-1, pixels.shape[-1])
        found = self.model.get_image_features(pixel_values=flat, image_grid_thw=grid)
        return torch.stack(list(found.pooler_output))

    def positions(self, ids: torch.Tensor, begin: torch.Tensor) -> torch.Tensor:
        """(B, S), (B, 1) -> (3, B, S): moment, row, column"""
        there = ids == self.mark
        plain = begin + torch.arange(ids.shape[1], device=ids.device)
        nth = there.cumsum(1)
        first = begin + there.int().argmax(1, keepdim=True)
        after = (nth == self.side**2) & ~there
        along = torch.where(after, plain - self.side**2 + self.side, plain)
        row, column = first + (nth - 1) // self.side, first + (nth - 1) % self.side
        parts = (first.expand_as(ids), row, column)
        return torch.stack([torch.where(there, part, along) for part in parts])
