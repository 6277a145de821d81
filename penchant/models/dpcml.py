"""Dpcml: several vectors for each user, of which the nearest to an item decides.

Bao, Xu, Yang, He, Cao & Huang, "The minority matters: a diversity-promoting collaborative metric learning algorithm",
NeurIPS 2022, arXiv 2209.15292; hard sampling as one-way partial AUC after the same authors' arXiv 2409.01012 (2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from penchant.batches import Pairs, Triples
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.losses import unit
from penchant.model import Model
from penchant.nn import ByRows, pick
from penchant.scorers import Nearest

__all__ = ["Dpcml"]


@dataclass(frozen=True)
class Dpcml(Model):
    """s(u, v) = min_c |g_u^c - g_v|^2, small is good; L = mean [margin + s(u, v+) - s(u, v-)]_+ + diversity mean_u psi(u).

    vectors: C, each on the unit sphere; items are in the unit ball. One vector is CML (Hsieh et al., WWW 2017) without
    its covariance term and its rank weights.

    DCRS: psi(u) = [low - delta_u]_+ + [delta_u - high]_+, delta_u = sum_c,c' |g_u^c - g_u^c'|^2 / (2 C (C - 1)). On the sphere
    that is 1 less the mean cosine of two of her vectors. diversity_form "code": as in the authors' code each pair's own
    |g_u^c - g_u^c'|^2 is held to the band, which is twice as wide a measure, and the mean is over C x C pairs.

    sampling, of `negatives` uniform candidates S: "uniform" takes all; "hard" the one nearest to the user; "opauc" the
    ceil(share S) nearest, whose mean hinge is one-way partial AUC up to a false positive rate of share.

    **Departs from the paper**: both terms are means over the batch's pairs, the paper's L with each user weighed by her
    choices. Its code adds the *sum* of a batch's hinges to diversity times a mean over all users: its 10 at batches of 256
    is 10 / 256 here. Adam on rows in place of dense Adam, which goes on moving what a batch did not name. "uniform" takes
    a chosen item's candidates in one step, the code in S steps.
    """

    dim: int = 100
    vectors: int = 5
    margin: float = 1.0
    diversity: float = 10.0
    low: float = 0.05
    high: float = 0.25
    diversity_form: Literal["paper", "code"] = "paper"
    sampling: Literal["uniform", "hard", "opauc"] = "hard"
    negatives: int = 10
    share: float = 0.3
    name: ClassVar[str] = "dpcml"

    def build(self, train: Interactions) -> DpcmlNet:
        for setting in ("dim", "vectors", "negatives"):
            if getattr(self, setting) < 1:
                raise BadSetting(f"[model] dpcml {setting} = {getattr(self, setting)} must be at least 1")
        if not (self.margin > 0 and self.diversity >= 0):
            raise BadSetting(
                f"[model] dpcml margin = {self.margin:g} must be above 0, diversity = {self.diversity:g} not below: 1.0, 10.0"
            )
        if not 0 <= self.low <= self.high:
            raise BadSetting(
                f"[model] dpcml low = {self.low:g}, high = {self.high:g} must be a band from 0 up: low = 0.05, high = 0.25"
            )
        if not 0 < self.share <= 1:
            raise BadSetting(
                f"[model] dpcml share = {self.share:g} is a share of the candidates, above 0 and up to 1: 0.3"
            )
        return DpcmlNet(self, train)

    @property
    def kept(self) -> int:
        """How many of a pair's candidates are in its loss."""
        share = {"uniform": 1.0, "hard": 1 / self.negatives, "opauc": self.share}[self.sampling]
        return max(math.ceil(share * self.negatives - 1e-9), 1)


def distances(g_u: torch.Tensor, g_v: torch.Tensor) -> torch.Tensor:
    """|g_u^c - g_v|^2. (B, C, d), (B, n, d) -> (B, C, n)"""
    return g_u.square().sum(-1)[:, :, None] + g_v.square().sum(-1)[:, None] - 2 * torch.bmm(g_u, g_v.transpose(1, 2))


def spread(g_u: torch.Tensor) -> torch.Tensor:
    """delta_u: the trace of the covariance of a user's vectors, which is the sum over pairs. (B, C, d), C > 1 -> (B,)"""
    return (g_u - g_u.mean(1, keepdim=True)).square().sum((1, 2)) / (g_u.shape[1] - 1)


def outside(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """[low - value]_+ + [value - high]_+"""
    return (low - value).relu() + (value - high).relu()


class DpcmlNet(nn.Module):
    def __init__(self, model: Dpcml, train: Interactions) -> None:
        super().__init__()
        self.model, self.pairs, self.l2 = model, Pairs(train), 0.0
        self.user = ByRows(torch.randn(len(train.users) * model.vectors, model.dim))  # (U C, d), row u C + c is g_u^c
        self.item = ByRows(torch.randn(len(train.items), model.dim) / math.sqrt(model.dim))  # (I, d)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size, self.model.negatives)

    def loss(self, batch: Triples) -> torch.Tensor:
        m = self.model
        user = batch.user[:, None] * m.vectors + torch.arange(m.vectors, device=batch.user.device)  # (B, C)
        self.confine(user, batch.items)
        g_u = pick(self.user, user)  # (B, C, d)
        chosen = torch.cat([batch.positive[:, None], self.nearest(g_u.detach(), batch.negative)], dim=1)
        s = (
            distances(g_u, pick(self.item, chosen)).min(1).values
        )  # (B, 1 + kept); one vector answers, even of two alike
        loss = (m.margin + s[:, :1] - s[:, 1:]).relu().mean()
        if m.diversity and m.vectors > 1:
            loss = loss + m.diversity * self.dcrs(g_u)
        return loss

    @torch.no_grad()
    def confine(self, user: torch.Tensor, item: torch.Tensor) -> None:
        """These users' vectors back on the sphere, these items' into the ball.

        Done to the rows of a batch before they are read, which is the same as to all rows after each step.
        """
        self.user[user] = unit(self.user[user])
        length = self.item[item].norm(dim=-1)
        far = length > 1
        self.item[item[far]] /= length[far, None]

    @torch.no_grad()
    def nearest(self, g_u: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        """The candidates that count. (B, C, d), (B, S) or (B,) -> (B, kept)"""
        negative = negative.reshape(len(g_u), -1)
        if self.model.kept == negative.shape[1]:
            return negative
        s = distances(g_u, self.item[negative]).amin(1)  # (B, S)
        return negative.gather(1, s.topk(self.model.kept, dim=1, largest=False).indices)

    def dcrs(self, g_u: torch.Tensor) -> torch.Tensor:
        """Omega over the batch's users. (B, C, d)"""
        m = self.model
        if m.diversity_form == "paper":
            return outside(spread(g_u), m.low, m.high).mean()
        others = 1 - torch.eye(m.vectors, device=g_u.device)
        return (outside(distances(g_u, g_u), m.low, m.high) * others).mean()

    @torch.no_grad()
    def finish(self) -> Nearest:
        train, m = self.pairs.train, self.model
        user = unit(self.user).view(len(train.users), m.vectors, m.dim).cpu().numpy()
        item = (self.item / self.item.norm(dim=-1, keepdim=True).clamp(min=1)).cpu().numpy()
        return Nearest(user, item, np.bincount(train.user, minlength=len(train.users)) > 0)
