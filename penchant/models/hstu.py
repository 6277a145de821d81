"""Hstu: attention that is not made to sum to 1, so that how often something was chosen counts, and a gate.

Zhai, Liao, Liu, Wang, Li, Cao, Gao, Gong, Gu, He, Lu & Shi, "Actions speak louder than words: trillion-parameter sequential
transducers for generative recommendations", ICML 2024.
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
from penchant.readers import Pointwise
from penchant.sequence import SequenceModel, SequenceNet, grid, lanes

__all__ = ["Hstu"]


@dataclass(frozen=True)
class Hstu(SequenceModel):
    """x_t = e_t + p_t, and of each of `layers` blocks (section 3.2, eqs. 2 to 4), in each head:

    U, Q, K, V = split(SiLU(W_1 norm(x) + b_1));  A = SiLU(Q K' + r) / L over the places up to t, r_ab a number for each distance
    a - b;  x <- x + W_2 (norm(A V) * U) + b_2. L is `length`. h_t is normalised once more.

    **Departs from the paper**: r knows distances in choices alone and not in time, and a history is choices alone, without
    what was done with them; positions are learned and added, as in its published code for small data.
    """

    name: ClassVar[str] = "hstu"

    def build(self, train: Interactions, **features: Features) -> HstuNet:
        return HstuNet(self, train, features)


class HstuNet(SequenceNet):
    scorer = Pointwise

    def __init__(self, model: Hstu, train: Interactions, features: dict[str, Features]) -> None:
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
    def __init__(self, model: Hstu) -> None:
        super().__init__()
        self.heads, self.length = model.heads, model.length
        self.before, self.after = nn.LayerNorm(model.dim), nn.LayerNorm(model.dim)
        self.inward, self.outward = Linear(model.dim, 4 * model.dim), Linear(model.dim, model.dim)  # f_1, f_2
        self.distance = nn.Parameter(torch.zeros(model.heads, model.length))  # r
        self.drop = nn.Dropout(model.dropout)

    def forward(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        z = F.silu(self.inward(self.before(x)))
        d, told, parts = x.shape[1], [], []
        for mine, where, rows, width in lanes(batch):
            padded = grid(F.embedding(mine, z[:, d:]), where, rows * width).view(rows, width, 3, self.heads, -1)
            q, k, v = padded.permute(2, 0, 3, 1, 4)  # (rows, heads, width, d / heads) each
            at = torch.arange(width, device=x.device)
            apart = at[:, None] - at  # (width, width)
            r = self.distance[:, apart.clamp(min=0)]
            a = F.silu(q @ k.transpose(2, 3) + r) / self.length * (apart >= 0)
            told.append(mine)
            parts.append(F.embedding(where, (a @ v).transpose(1, 2).reshape(rows * width, -1)))
        found = grid(torch.cat(parts), torch.cat(told), len(x))
        return x + self.drop(self.outward(self.after(found) * z[:, :d]))
