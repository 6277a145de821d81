"""Vbpr: BPR whose items also have a visual (or any content) part.

He & McAuley, "VBPR: visual Bayesian personalized ranking from implicit feedback", AAAI 2016.
"""

from __future__ import annotations

import math
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
from penchant.gemm import product
from penchant.intakes import Projected
from penchant.model import Model
from penchant.nn import Embedded, factors, pick, plain, table
from penchant.scorers import Scorer

__all__ = ["Vbpr"]


@dataclass(frozen=True)
class Vbpr(Model):
    """x_ui = g_u . g_i + t_u . (E f_i) + b' f_i (eq. 4, without the constants that ranking ignores); BPR loss.

    dim: of g; content_dim: of t. Any number of named features, each centred and scaled to rows of length content_scale,
    side by side: Adam moves every entry of E by the same step as an id's vector, so long feature rows would make E f
    learn, and overfit, many times faster than the ids do.
    **Departs from the paper**: no item bias beta_i beside b' f, as in the toolboxes compared with; one l2 for all (E and b
    in every step, tables on the rows touched); the loss needs only f_i - f_j, so one product E (f_i - f_j) is taken instead of two;
    an item without features has f = 0; Adam on rows in place of SGD.
    """

    dim: int = 32
    content_dim: int = 32
    content_scale: float = 0.1
    l2: float = 1e-5
    name: ClassVar[str] = "vbpr"
    asks_for_features: ClassVar[bool] = True

    def build(self, train: Interactions, **features: Features) -> VbprNet:
        if not 0 < self.content_scale < math.inf:
            raise BadSetting(
                f"[model] vbpr content_scale = {self.content_scale:g} is the length of an item's features, above 0 and finite:  "
                "content_scale = 0.1"
            )
        parts = [f.centred().unit().values for f in features.values()]
        f = self.content_scale * np.concatenate(parts, axis=1)
        return VbprNet(self, train, torch.from_numpy(f.astype(np.float32)))


class VbprNet(nn.Module):
    f: torch.Tensor
    sign: torch.Tensor

    def __init__(self, model: Vbpr, train: Interactions, f: torch.Tensor) -> None:
        super().__init__()
        self.pairs, self.l2, self.scale = Pairs(train), model.l2, model.content_scale
        self.register_buffer("f", f, persistent=False)  # (I, F), frozen
        self.register_buffer("sign", torch.tensor([[1.0, -1.0]]), persistent=False)
        self.g_user = table(len(train.users), model.dim, by_rows=True)  # (U, d)
        self.g_item = table(len(train.items), model.dim, by_rows=True)  # (I, d)
        self.t_user = table(len(train.users), model.content_dim, by_rows=True)  # (U, c)
        e = nn.init.normal_(torch.empty(model.content_dim, f.shape[1]), std=0.1 / model.content_scale)
        self.e = nn.Parameter(e)  # (c, F); E f starts about as small as the ids' vectors
        self.b = nn.Parameter(torch.zeros(f.shape[1]))  # (F,)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size)

    def loss(self, batch: Triples) -> torch.Tensor:
        g_u, t_u = pick(self.g_user, batch.user), pick(self.t_user, batch.user)  # (B, d), (B, c)
        g_i, g_j = pick(self.g_item, batch.items).unbind(1)  # (B, d) each
        f = F.embedding_bag(
            batch.items, self.f, per_sample_weights=self.sign.expand(len(batch), 2), mode="sum"
        )  # (B, F)
        content = product(f, torch.cat([self.e, self.b[None]]))  # (B, c + 1), the bias last
        x = (g_u * (g_i - g_j)).sum(-1) + (t_u * content[:, :-1]).sum(-1) + content[:, -1]  # (B,)
        return losses.bpr(x, torch.zeros_like(x))

    @torch.no_grad()
    def finish(self) -> Scorer:
        users = torch.cat([self.g_user, self.t_user], dim=1)  # (U, d + c)
        items = torch.cat([self.g_item, self.f @ self.e.T], dim=1)  # (I, d + c)
        return factors(self.pairs.train, Embedded(users, items, self.f @ self.b), self.intake)

    def intake(self, turn: np.ndarray) -> Projected:
        return Projected(turn, plain(self.e), plain(self.b), self.scale, self.g_item.shape[1])
