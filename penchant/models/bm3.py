"""Bm3: users, items and modalities pulled together by a predictor that must tell a vector from a damaged one; no negatives.

Zhou, Zhou, Liu, Zeng, Miao, Wang, You & Jiang, "Bootstrap latent representations for multi-modal recommendation", WWW 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant import losses
from penchant.batches import Pairs, Triples
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.hops import Hops, propagate
from penchant.modal import Contents
from penchant.model import Model
from penchant.nn import Embedded, Linear, factors, table
from penchant.scorers import Scorer

__all__ = ["Bm3"]


@dataclass(frozen=True)
class Bm3(Model):
    """h_u, h_i: the mean over LightGCN's layers 0..`layers`; items have e_i added. h_m = x^m W_m + b_m, x^m the features of
    modality m. Two views of each (section 3.2): h~ = h W_p + b_p, one predictor for all, and h' = h with entries dropped,
    through which no gradient goes. With C(a, b) = -cos(a, b) and means over the choices (u, i) of a batch (section 3.3):

    L_rec = C(h~_u, h'_i) + C(h~_i, h'_u): the graph is to be reconstructed.
    L_align = sum_m C(h~_m, h'_i): each modality of an item is drawn to the item.
    L_mask = sum_m C(h~_m, h'_m): and to what is left of itself.
    L = L_rec + weight_align (L_align + L_mask) + l2 ||Theta||^2. A score is h~_u . h~_i.

    Modalities are drawn to items and not items to modalities: an item is a target in L_align, so no gradient of it reaches e_i.
    What features change is the predictor, and scores through it alone; true features need not beat those of other items.

    A term counts from 0, as 1 + C. Entries are dropped once for each user and item of a batch, not for each choice.
    A step costs `layers` hops there and back over the graph, and for each modality one product of (B', F) and (F, d) and its
    gradient, B' the distinct items of the batch.
    **Departs from the paper**: l2 is of all parameters, where it has h_u and h_i; features are fixed, centred, and rows of
    length 1, where its code trains them, too; an item without a modality is left out of that modality's terms.
    """

    dim: int = 64
    layers: int = 1
    dropout: float = 0.3
    weight_align: float = 2.0
    l2: float = 1e-6
    name: ClassVar[str] = "bm3"
    asks_for_features: ClassVar[bool] = True

    def build(self, train: Interactions, **features: Features) -> Bm3Net:
        if not 0 <= self.dropout < 1:
            raise BadSetting(
                f"[model] bm3 dropout = {self.dropout:g} is the share of entries to drop, below 1:  dropout = 0.3"
            )
        return Bm3Net(self, train, Contents.of(features))


class Bm3Net(nn.Module):
    def __init__(self, model: Bm3, train: Interactions, contents: Contents) -> None:
        super().__init__()
        self.model, self.l2, self.pairs, self.users = model, model.l2, Pairs(train), len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.hops = Hops.bipartite(train)
        self.predictor = Linear(model.dim, model.dim)  # W_p, b_p
        self.contents = contents
        self.projections = nn.ModuleList(Linear(c.dim, model.dim) for c in contents)  # W_m, b_m
        for layer in (self.predictor, *self.projections):
            nn.init.xavier_normal_(layer.weight)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size, negatives=0)

    def embed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """h of users and of items. (U, d), (I, d)"""
        h = propagate(self.e0, self.hops, self.model.layers) / (self.model.layers + 1)
        return h[: self.users], h[self.users :] + self.e0[self.users :]

    def predicted(self, h: torch.Tensor) -> torch.Tensor:
        """h~, of length 1: losses are cosines. (n, d)"""
        return losses.unit(self.predictor(h))

    def target(self, h: torch.Tensor) -> torch.Tensor:
        """h', of length 1. (n, d)"""
        return losses.unit(F.dropout(h.detach(), self.model.dropout))

    def loss(self, batch: Triples) -> torch.Tensor:
        user, of_user = batch.user.unique(return_inverse=True)
        item, of_item = batch.positive.unique(return_inverse=True)
        users, items = self.embed()
        u, i = F.embedding(user, users), F.embedding(item, items)  # (U', d), (I', d)
        u_left, i_left = self.target(u), self.target(i)
        there = (F.embedding(of_user, self.predicted(u)) * i_left[of_item]).sum(-1)  # (B,)
        back = (F.embedding(of_item, self.predicted(i)) * u_left[of_user]).sum(-1)
        total = 2 - there.mean() - back.mean()
        if not self.model.weight_align:
            return total
        share = torch.bincount(of_item) / len(batch)  # (I',)
        for content, projection in zip(self.contents, self.projections, strict=True):
            has = content.has[item]
            h = projection(content.values[item[has]])  # (<= I', d)
            lost = 2 - (self.predicted(h) * (i_left[has] + self.target(h))).sum(-1)
            total = total + self.model.weight_align * (share[has] @ lost)
        return total

    @torch.no_grad()
    def finish(self) -> Scorer:
        users, items = self.embed()
        return factors(self.pairs.train, Embedded(self.predictor(users), self.predictor(items)))
