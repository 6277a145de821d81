"""Bert4rec: some choices of a history are hidden, and told from those before and after them.

Sun, Liu, Wu, Pei, Lin, Ou & Jiang, "BERT4Rec: sequential recommendation with bidirectional encoder representations from
transformer", CIKM 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant.batches import Sequences, Windows
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.nn import Linear
from penchant.readers import Attentive
from penchant.sequence import Attention, SequenceModel, SequenceNet, packed

__all__ = ["Bert4rec"]


@dataclass(frozen=True)
class Bert4rec(SequenceModel):
    """x_t = e_t + p_t; `layers` blocks of attention over all places and of a net of width 4 d with a GELU (section 3.3, 3.4).

    hidden: the share of choices in whose place the vector [MASK] is read in training (rho; eq. 8), at least one of each window.
    last: the share of windows of which the newest choice alone is hidden, as it is when somebody is recommended to: then [MASK]
    follows the history, of which the newest length - 1 choices are read. No place sees the choice that it is to tell.

    **Departs from the paper**: blocks normalise what they read, and not what they have made (its post-norm), which trains
    without a warm-up; the state of a hidden place is scored as it is, without a projection and without a bias for each item.
    A window is drawn anew in each epoch, where its code hides ten times beforehand.
    """

    hidden: float = 0.4
    last: float = 0.2
    name: ClassVar[str] = "bert4rec"
    least: ClassVar[dict[str, float]] = {"hidden": 0}  # elsewhere, a width

    def build(self, train: Interactions, **features: Features) -> Bert4recNet:
        for name in ("hidden", "last"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadSetting(
                    f"[model] bert4rec {name} = {getattr(self, name):g} is a share, from 0 to 1:  {name} = 0.2"
                )
        return Bert4recNet(self, train, features)


class Bert4recNet(SequenceNet):
    scorer = Attentive

    def __init__(self, model: Bert4rec, train: Interactions, features: dict[str, Features]) -> None:
        super().__init__(model, train, features)
        self.share, self.last = model.hidden, model.last
        self.windows = Windows(train, model.length)
        self.mask = nn.Parameter(0.02 * torch.randn(model.dim))  # [MASK]
        self.position = nn.Parameter(0.02 * torch.randn(model.length, model.dim))  # (L, d)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.layers))
        self.norm = nn.LayerNorm(model.dim)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Sequences]:
        """Whole windows; targets are the hidden choices, and -1 elsewhere."""
        for rows, size, at in self.windows.epoch(rng, batch_size):
            item = self.train_part.item[rows].astype(np.int64)
            draw = rng.random(len(item))
            first = np.cumsum(size) - size
            lowest = np.minimum.reduceat(draw, first)
            hidden = (draw < self.share) | (draw == np.repeat(lowest, size))
            alone = np.repeat(rng.random(len(size)) < self.last, size)
            hidden = np.where(alone, at == np.repeat(size, size) - 1, hidden)
            drawn = np.zeros(0, np.int64)
            if self.model.loss == "bce":
                drawn = self.pairs.negatives(self.train_part.user[rows[hidden]], rng)
            yield packed(item, size, self.model.length, np.where(hidden, item, -1), drawn)

    def loss(self, batch: Sequences) -> torch.Tensor:
        e, hidden = self.items(), batch.target >= 0
        x = torch.where(hidden[:, None], self.mask, self.scale * F.embedding(batch.item, e))
        h = self.read(self.dropped(x), batch)[hidden]
        return self.told(h, e, batch.target[hidden], batch.negative)

    def read(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        x = x + F.embedding(batch.place, self.position)
        for block in self.blocks:
            x = block(x, batch)
        return self.norm(x)


class Block(nn.Module):
    def __init__(self, model: Bert4rec) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(model.dim), nn.LayerNorm(model.dim)
        self.attention = Attention(model.dim, model.heads, model.dropout, causal=False)
        self.first, self.second = Linear(model.dim, 4 * model.dim), Linear(4 * model.dim, model.dim)
        self.drop = nn.Dropout(model.dropout)

    def forward(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        x = x + self.drop(self.attention(self.before(x), batch))
        return x + self.drop(self.second(F.gelu(self.first(self.after(x)))))
