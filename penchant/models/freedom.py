"""Freedom: LightGCN on a pruned graph of choices, beside a frozen graph of items that look or read alike.

Zhou & Shen, "A tale of two graphs: freezing and denoising graph structures for multimodal recommendation", ACM MM 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from penchant.hops import Hops, propagate
from penchant.intakes import Smoothed
from penchant.modal import Contents, ItemGraph, Weights, by_name, shares
from penchant.model import Model
from penchant.nn import Embedded, factors, products, table
from penchant.scorers import Scorer

__all__ = ["Freedom"]


@dataclass(frozen=True)
class Freedom(Model):
    """h_u = e_u, h_i = e_i + (S^mm_layers E_i)_i: the mean over LightGCN's layers 0..`layers`, and for items their ids
    smoothed over the frozen graph S = sum_m alpha_m S_m of the `neighbours` nearest in each modality (see `ItemGraph`).

    Denoising (section 3.2): in each epoch LightGCN runs on a graph of its own that keeps a share keep_edges of the choices,
    drawn without replacement with probabilities proportional to 1 / sqrt(d_u d_i), and normalised by the degrees it has
    left. What is recommended is made on the whole graph.
    Loss (section 3.3): L = BPR(h_u, h_i, h_j) + lambda sum_m BPR(h_u, W_m x_i^m, W_m x_j^m), x^m the features of modality m.

    keep_edges: 1 - rho. weight_features: lambda. weights: alpha by name. mm_layers: 0 leaves S out.
    A step costs `layers` hops there and back over the choices kept, mm_layers over S (at most M k I edges), and for each
    modality one product of (B, F) and (F, d) and its gradient: only differences x_i - x_j of the batch are projected.
    **Departs from the paper**: features are fixed, centred, and rows of length 1, where its code trains them, too; W_m has no
    bias, which cancels in x_i - x_j; a pair with a gap in a modality is left out of that term; an item without a modality
    gives its alpha to the others; with mm_layers = 0 its code adds E_i itself. Without
    `weights` all modalities weigh the same, where its code has .1 for pictures and .9 for texts. Negatives are drawn among all items, not only
    those that somebody chose.
    An item that comes after training has no id: its vector is S^mm_layers E alone, its neighbours' ids.
    """

    dim: int = 64
    layers: int = 2
    mm_layers: int = 1
    neighbours: int = 10
    weights: Weights = None
    keep_edges: float = 0.2
    weight_features: float = 1e-3
    l2: float = 0.0
    name: ClassVar[str] = "freedom"
    asks_for_features: ClassVar[bool] = True

    def build(self, train: Interactions, **features: Features) -> FreedomNet:
        if not 0 < self.keep_edges <= 1:
            raise BadSetting(
                f"[model] freedom keep_edges = {self.keep_edges:g} is the share of choices that an epoch keeps, above 0 and "
                "at most 1:  keep_edges = 0.2"
            )
        alpha = shares(self.name, self.weights, features)
        graph = ItemGraph(features, self.neighbours, alpha) if self.mm_layers else None
        return FreedomNet(self, train, graph, Contents.of(features), dict(zip(features, alpha, strict=True)))


class FreedomNet(nn.Module):
    def __init__(
        self,
        model: Freedom,
        train: Interactions,
        graph: ItemGraph | None,
        contents: Contents,
        alpha: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.model, self.l2, self.pairs, self.users = model, model.l2, Pairs(train), len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.contents = contents
        self.w = nn.ParameterList(nn.Linear(c.dim, model.dim, bias=False).weight for c in contents)  # (d, F) each
        self.graph = graph
        self.hops = self.pruned = Hops.bipartite(train)
        degree = [np.bincount(train.user, minlength=self.users), np.bincount(train.item, minlength=len(train.items))]
        self.root = np.sqrt(degree[0][train.user] * degree[1][train.item].astype(np.float64))  # (N,)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        if self.model.keep_edges < 1:
            self.pruned = Hops.bipartite(self.prune(rng)).to(self.e0.device)
        return self.pairs.epoch(rng, batch_size)

    def prune(self, rng: np.random.Generator) -> Interactions:
        """The choices that an epoch keeps.

        Of clocks that ring at rates p those that ring first are a draw without replacement in proportion to p
        (Efraimidis & Spirakis 2006).
        """
        train, count = self.pairs.train, max(round(self.model.keep_edges * len(self.root)), 1)
        first = np.argpartition(rng.exponential(size=len(self.root)) * self.root, count - 1)[:count]
        return Interactions(train.users, train.items, train.user[first], train.item[first])

    def embed(self, hops: Hops) -> Embedded:
        """All vectors, on the whole graph of choices or a pruned one."""
        e = propagate(self.e0, hops, self.model.layers) / (self.model.layers + 1)  # (U + I, d)
        users, items = e[: self.users], e[self.users :]
        if self.graph is not None:
            items = items + self.graph.smooth(self.e0[self.users :], self.model.mm_layers)
        return Embedded(users, items)

    def loss(self, batch: Triples) -> torch.Tensor:
        vectors = self.embed(self.pruned)
        x = products(vectors, batch)  # (B, 2), the chosen item first
        total = losses.bpr(x[:, 0], x[:, 1])
        if not self.model.weight_features:
            return total
        u = F.embedding(batch.user, vectors.users)  # (B, d)
        for content, w in zip(self.contents, self.w, strict=True):
            both = content.has[batch.items].all(dim=1)  # (B,)
            apart = product(content.apart(batch.positive[both], batch.negative[both]), w)  # (<= B, d)
            lost = F.softplus(-(u[both] * apart).sum(-1)).sum() / len(batch)
            total = total + self.model.weight_features * lost
        return total

    def finish(self) -> Scorer:
        told = self.graph is not None and self.model.neighbours > 1  # by others than itself
        return factors(self.pairs.train, self.embed(self.hops), self.intake if told else None)

    @torch.no_grad()
    def intake(self, turn: np.ndarray) -> Smoothed:
        assert self.graph is not None
        below = self.graph.below(self.e0[self.users :], self.model.mm_layers)
        return Smoothed(turn, below, by_name(self.alpha), self.model.neighbours)
