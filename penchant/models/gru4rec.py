"""Gru4rec: gated recurrent units read the choices one by one; their state after each tells the next one.

Hidasi, Karatzoglou, Baltrunas & Tikk, "Session-based recommendations with recurrent neural networks", ICLR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from penchant.batches import Sequences
from penchant.data import Interactions
from penchant.features import Features
from penchant.nn import Linear
from penchant.readers import Gated
from penchant.sequence import SequenceModel, SequenceNet, grid

__all__ = ["Gru4rec"]


@dataclass(frozen=True)
class Gru4rec(SequenceModel):
    """s_t = GRU(s_{t-1}, e_t), of `layers` layers of width d (eqs. 1 to 4); h_t = W s_t + b.

    **Departs from the paper**: a history is a whole person's, where it has sessions; rows of a batch are whole histories, where it goes on
    with the next session wherever one ends; the loss is the softmax over all items or `loss = "bce"`, where it ranks by TOP1 or BPR among
    the other choices of a batch. The vector read of an item and the one it is scored by are the same. `heads` is not used.
    """

    layers: int = 1
    name: ClassVar[str] = "gru4rec"
    least: ClassVar[dict[str, float]] = {"layers": 1}

    def build(self, train: Interactions, **features: Features) -> Gru4recNet:
        return Gru4recNet(self, train, features)


class Gru4recNet(SequenceNet):
    scorer = Gated

    def __init__(self, model: Gru4rec, train: Interactions, features: dict[str, Features]) -> None:
        super().__init__(model, train, features)
        self.gru = nn.GRU(model.dim, model.dim, model.layers, batch_first=True)
        self.outward = Linear(model.dim, model.dim)
        self.drop = nn.Dropout(model.dropout)

    def read(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        size = torch.bincount(batch.row)
        width = int(size.max())
        where = batch.row * width + batch.at
        padded = grid(x, where, len(size) * width).view(len(size), width, -1)
        states, _ = self.gru(pack_padded_sequence(padded, size.cpu(), batch_first=True, enforce_sorted=False))
        flat = pad_packed_sequence(states, batch_first=True)[0].reshape(len(size) * width, -1)
        return self.outward(self.drop(F.embedding(where, flat)))
