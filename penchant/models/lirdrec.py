"""Lirdrec: items have no vectors of their own; they are what their features and neighbours make of them.

Zhou, Zhang, Niyato & Shen, "Learning item representations directly from multimodal features for effective recommendation",
arXiv 2505.04960 (2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import fft
from torch import nn

from penchant import losses
from penchant.batches import Pairs, Triples
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.hops import Hops, propagate
from penchant.intakes import Branched
from penchant.modal import Content, Contents, ItemGraph, Weights, by_name, shares
from penchant.model import Model
from penchant.nn import Embedded, Linear, factors, plain, products
from penchant.scorers import Scorer

__all__ = ["Lirdrec"]


@dataclass(frozen=True)
class Lirdrec(Model):
    """Score = sum_m alpha_um u_m . i_m, m over the modalities and one branch that they share.

    Items: x_m W1 + b1, LeakyReLU, W2, with 4 dim entries between; x_m are the features of modality m, and in the shared branch
    all of them after a cosine transform, side by side (see `shared`). Users: a free vector in each branch. Rows are scaled to
    length 1 and set side by side, and propagated: the sum of LightGCN's layers 0..`layers`. To items, (S^mm_layers i) is
    added, S the frozen graph of the `neighbours` nearest (see `ItemGraph`).
    Progressive weight copying (PWC): alpha_u = softmax(w1 f_u + w2 theta_u), w1 + w2 = 1; f_um = f_m(u_m), a network with
    dim / 4 entries between, and theta a table. At the start of epoch t, w1 / w2 is multiplied by decay^t, so after T epochs
    it is decay^(T (T + 1) / 2) of what it was, and theta becomes the alpha of the last step.
    Loss: BPR + lambda (mean of U^2 + mean of I^2) over all entries of all final vectors, U already weighed by alpha.

    An item that nobody chose is scored by its features like any other; but it is drawn as a negative for everybody, and long
    training lowers it.

    weights: of modalities in S. weight_norm: lambda. decay: b. network: w1 before the first epoch. copied: what theta becomes.
    "shares": alpha itself, as its code does; a softmax of shares is nearly even, so theta forgets each epoch most of what was
    learned. "logits": log alpha, so that softmax(theta) is alpha, and nothing is lost by copying.
    A step reads all features of all items, because each item is some user's neighbour's neighbour: about 16 I F dim operations a
    branch, forward and backward, F its features; then `layers` hops of M + 1 times dim entries, and mm_layers over S.
    **Departs from the paper**: the cosine transform is of each item's features, as in its code, where the paper transforms over
    items, too, so that vectors would depend on how items are numbered. Features are centred and rows of length 1; a branch of
    which an item has no features is 0 for it; an item without a modality gives its weight in S to the others. With
    mm_layers = 0 nothing is added, where its code adds the items once more. What is recommended is made anew, not left from
    the last step of training. Without `weights` all modalities weigh the same, where its code has .1 for pictures and .9 for texts.
    """

    dim: int = 64
    layers: int = 2
    mm_layers: int = 1
    neighbours: int = 10
    weights: Weights = None
    weight_norm: float = 1e-4
    decay: float = 0.9
    network: float = 0.9
    copied: Literal["shares", "logits"] = "shares"
    l2: float = 0.0
    name: ClassVar[str] = "lirdrec"
    asks_for_features: ClassVar[bool] = True

    def build(self, train: Interactions, **features: Features) -> LirdrecNet:
        if not 0 <= self.network < 1 or not 0 < self.decay <= 1:
            raise BadSetting(
                f"[model] lirdrec network = {self.network:g} and decay = {self.decay:g}: the first is a share below 1, the "
                "second above 0 and at most 1:  network = 0.9, decay = 0.9"
            )
        alpha = shares(self.name, self.weights, features)
        graph = ItemGraph(features, self.neighbours, alpha) if self.mm_layers else None
        contents = Contents.of(features)
        weights = dict(zip(features, alpha, strict=True))
        return LirdrecNet(self, train, graph, Contents([*contents, shared(contents)]), weights)


def shared(contents: Contents) -> Content:
    """Each modality after an orthonormal DCT-II of its features, side by side: a rotation of each, no length or angle changes.

    An item is present where any modality is. Made once.
    """
    parts = [fft.dct(c.values.numpy(), type=2, norm="ortho", axis=1) for c in contents]
    return Content(np.concatenate(parts, axis=1), np.logical_or.reduce([c.has.numpy() for c in contents]))


class LirdrecNet(nn.Module):
    alpha: torch.Tensor
    epoch: torch.Tensor

    def __init__(
        self,
        model: Lirdrec,
        train: Interactions,
        graph: ItemGraph | None,
        contents: Contents,
        weights: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.weights = weights  # of modalities in S
        self.model, self.l2, self.pairs = model, model.l2, Pairs(train)
        users, branches, dim, narrow = len(train.users), len(contents), model.dim, max(model.dim // 4, 1)
        self.contents, self.graph, self.hops = contents, graph, Hops.bipartite(train)
        self.towers = nn.ModuleList(
            nn.Sequential(Linear(c.dim, 4 * dim), nn.LeakyReLU(), Linear(4 * dim, dim, bias=False)) for c in contents
        )
        self.user = nn.ParameterList(nn.init.xavier_normal_(torch.empty(users, dim)) for _ in contents)  # (U, d) each
        self.networks = nn.ModuleList(
            nn.Sequential(Linear(dim, narrow), nn.LeakyReLU(), Linear(narrow, 1)) for _ in contents
        )  # f_m
        self.theta = nn.Parameter(nn.init.xavier_normal_(torch.empty(users, branches)))  # (U, M + 1)
        self.register_buffer("alpha", self.theta.detach().clone())  # of the last step; none yet
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))  # T

    @property
    def w1(self) -> float:
        """The network's part in alpha's logits, after T epochs have begun."""
        t, w = int(self.epoch), self.model.network
        rest = w * self.model.decay ** (t * (t + 1) / 2)
        return rest / (rest + 1 - w)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        with torch.no_grad():
            made = self.epoch > 0 and self.model.copied == "logits"
            self.theta.copy_(self.alpha.clamp(min=1e-30).log() if made else self.alpha)
            self.epoch += 1
        return self.pairs.epoch(rng, batch_size)

    def ground(self) -> torch.Tensor:
        """What is propagated: users, then items, each branch of length 1 or, for an item without it, 0. (U + I, (M + 1) d)"""
        users = [losses.unit(u) for u in self.user]
        items = [losses.unit(f(c.values)) * c.has[:, None] for f, c in zip(self.towers, self.contents, strict=True)]
        return torch.cat([torch.cat(users, dim=1), torch.cat(items, dim=1)])

    def embed(self) -> Embedded:
        """All vectors; alpha is the first of the parts. (U, (M + 1) d), (I, (M + 1) d)"""
        e, count = propagate(self.ground(), self.hops, self.model.layers), len(self.pairs.train.users)
        u, items = e[:count], e[count:]
        if self.graph is not None:
            items = items + self.graph.smooth(items, self.model.mm_layers)
        blocks = u.unflatten(1, (-1, self.model.dim))  # (U, M + 1, d)
        f = torch.cat([f(blocks[:, m]) for m, f in enumerate(self.networks)], dim=1)  # (U, M + 1)
        alpha = (self.w1 * f + (1 - self.w1) * self.theta).softmax(dim=1)
        return Embedded((alpha[:, :, None] * blocks).flatten(1), items, parts=(alpha,))

    def loss(self, batch: Triples) -> torch.Tensor:
        vectors = self.embed()
        self.alpha.copy_(vectors.parts[0].detach())
        x = products(vectors, batch)  # (B, 2), the chosen item first
        lengths = vectors.users.square().mean() + vectors.items.square().mean()
        return losses.bpr(x[:, 0], x[:, 1]) + self.model.weight_norm * lengths

    def finish(self) -> Scorer:
        return factors(self.pairs.train, self.embed(), self.intake)

    @torch.no_grad()
    def intake(self, turn: np.ndarray) -> Branched:
        items = propagate(self.ground(), self.hops, self.model.layers)[len(self.pairs.train.users) :]
        none = np.zeros((0, *items.shape), np.float32)
        below = none if self.graph is None else self.graph.below(items, self.model.mm_layers)
        parts = [[plain(value) for value in f.parameters()] for f in self.towers]  # W1, b1, W2
        first, bias, second = (dict(zip([*self.weights, ""], part, strict=True)) for part in zip(*parts, strict=True))
        return Branched(turn, first, bias, second, below, by_name(self.weights), self.model.neighbours)
