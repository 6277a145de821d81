"""Sasrec: self-attention over the choices so far; what is read up to each tells the next one.

Kang & McAuley, "Self-attentive sequential recommendation", ICDM 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from penchant.batches import Sequences
from penchant.data import Interactions
from penchant.features import Features
from penchant.nn import Linear
from penchant.readers import Attentive
from penchant.sequence import Attention, SequenceModel, SequenceNet

__all__ = ["Sasrec"]


@dataclass(frozen=True)
class Sasrec(SequenceModel):
    """x_t = e_t + p_t, p_t a vector of the place, counted from the newest choice. Each of `layers` blocks adds
    attention over the places up to t, and then a net of two layers of width d with a ReLU between them, each of what was
    normalised before (section 3.2, eqs. 2 to 6). h_t is normalised once more.

    **Departs from the paper**: a softmax over all items by default, where it has a logistic loss with one negative
    (`loss = "bce"`, section 3.5): a third more NDCG on its own data. "All" are those that were chosen in train: of others there is no id to learn. Of each block, queries, keys and values are all of what
    was normalised, as its text says; its code normalises queries alone. Its products of heads are mixed by W_o.
    """

    name: ClassVar[str] = "sasrec"

    def build(self, train: Interactions, **features: Features) -> SasrecNet:
        return SasrecNet(self, train, features)


class SasrecNet(SequenceNet):
    scorer = Attentive

    def __init__(self, model: Sasrec, train: Interactions, features: dict[str, Features]) -> None:
        super().__init__(model, train, features)
        self.position = nn.Parameter(0.02 * torch.randn(model.length, model.dim))  # (L, d)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.layers))
        self.norm = nn.LayerNorm(model.dim)

    def read(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        x = x + F.embedding(batch.place, self.position)
        for block in self.blocks:
            x = block(x, batch)
        return self.norm(x)


class Block(nn.Module):
    def __init__(self, model: Sasrec) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(model.dim), nn.LayerNorm(model.dim)
        self.attention = Attention(model.dim, model.heads, model.dropout, causal=True)
        self.first, self.second = Linear(model.dim, model.dim), Linear(model.dim, model.dim)
        self.drop = nn.Dropout(model.dropout)

    def forward(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        x = x + self.drop(self.attention(self.before(x), batch))
        return x + self.drop(self.second(self.drop(F.relu(self.first(self.after(x))))))
