"""Motivation: the two encoders of LMMRec, one for what people do and one for what is written about it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from penchant import losses
from penchant.hops import Hops
from penchant.nn import Embedded, EmbeddingNet, pick, tower
from penchant.plugin import Texts, width

__all__ = ["Encoders", "Motives", "Side"]


class Motives(NamedTuple):
    """Motivations from interactions and from texts, row by row a pair. (B, d) each"""

    r: torch.Tensor
    z: torch.Tensor


class Side(nn.Module):
    """Users, or items: texts and prototypes. g: the text encoder, which both sides share."""

    def __init__(self, texts: Texts, prototypes: int, g: nn.Sequential, dim: int) -> None:
        super().__init__()
        self.texts, self.g = texts, g
        self.p = nn.Parameter(nn.init.xavier_uniform_(torch.empty(prototypes, dim)))  # (K, d)

    def z(self, rows: torch.Tensor) -> torch.Tensor:
        """Motivation from text. (B,) -> (B, d)"""
        return self.texts.read(self.g, rows)

    def mixed(self, e: torch.Tensor) -> torch.Tensor:
        """a P, a = softmax(e P'). (B, d) -> (B, d)"""
        return (e @ self.p.T).softmax(dim=1) @ self.p


class Encoders(nn.Module):
    """What has a teacher: backbone, text encoder, prototypes."""

    def __init__(
        self, backbone: EmbeddingNet, users: Texts, items: Texts, prototypes: int, layers: int | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers or 0
        d = width(backbone)
        g = tower(users.dim, d)
        self.users, self.items = Side(users, prototypes, g, d), Side(items, prototypes, g, d)
        self.hops = None if layers is None else Hops.bipartite(backbone.pairs.train)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> tuple[Motives, Motives]:
        """Of these users and of these items, all of which have texts."""
        return self.motives(self.backbone.embed(), user, item)

    def motives(self, e: Embedded, user: torch.Tensor, item: torch.Tensor) -> tuple[Motives, Motives]:
        """The same, read off these vectors."""
        if self.hops is None:
            r_user, r_item = self.users.mixed(pick(e.users, user)), self.items.mixed(pick(e.items, item))
        else:
            r_users, r_items = self.over_edges(e, self.hops)
            r_user, r_item = r_users[user], r_items[item]
        return Motives(r_user, self.users.z(user)), Motives(r_item, self.items.z(item))

    def over_edges(self, e: Embedded, hops: Hops) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors propagated over choices that weigh what both ends' motivations have in common. (U, d), (I, d)"""
        x, count = torch.cat([e.users, e.items]), len(e.users)
        total = torch.zeros_like(x)
        for _ in range(self.layers):
            m = losses.unit(torch.cat([self.users.mixed(x[:count]), self.items.mixed(x[count:])]))  # (U + I, d)
            w = ((m[hops.rows] * m[hops.columns]).sum(-1) + 1) / 2  # (nnz,)
            x = hops.weigh(x, w / w.new_zeros(len(x)).index_add(0, hops.rows, w).clamp_min(1e-8)[hops.rows])
            total = total + x
        return total[:count] / self.layers, total[count:] / self.layers
