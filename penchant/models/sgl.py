"""Sgl: LightGCN whose vectors must be recognised when a part of the graph is missing.

Wu, Wang, Feng, He, Chen, Lian & Xie, "Self-supervised graph learning for recommendation", SIGIR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.hops import Hops, propagate
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, products, table

__all__ = ["Sgl"]


@dataclass(frozen=True)
class Sgl(Model):
    """L = L_main + lambda_1 L_ssl + l2 ||E^(0)||^2 (section 3.3): BPR on the whole graph, and InfoNCE between two views.

    A view is the sum over layers of (M * A^)^k E^(0), where the mask M keeps each edge with probability keep_edges ("Edge
    Dropout", section 3.1). z', z'' are a node's vectors in the two views; over the users of a batch (section 3.2)
    L_ssl^user = mean -log exp(s(z'_u, z''_u) / tau) / sum_v exp(s(z'_u, z''_v) / tau), s the cosine, v all users;
    likewise for items.

    weight_contrast: lambda_1. temperature: tau. contrast: v runs over so many drawn rows; None: over all of them.
    **Departs from the paper**, as RLMRec's code does: layers are summed; means over the batch; the items of L_ssl are the
    chosen ones and, in a third term, the negatives; kept edges are not weighed up for the lost ones (here both directions
    of an edge stay or go together, there each is drawn for itself).
    """

    dim: int = 64
    layers: int = 3
    l2: float = 1e-6
    negatives: int = 1
    keep_edges: float = 0.8
    temperature: float = 0.2
    weight_contrast: float = 0.01
    contrast: int | None = None
    name: ClassVar[str] = "sgl"

    def build(self, train: Interactions) -> SglNet:
        return SglNet(self, train)


class SglNet(EmbeddingNet):
    linear: ClassVar[bool] = True

    def __init__(self, model: Sgl, train: Interactions) -> None:
        super().__init__(train, model.l2, model.negatives)
        self.model, self.users = model, len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = torch.nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.hops = Hops.bipartite(train)

    def ground(self) -> torch.Tensor:
        return self.e0

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        e0 = self.e0 if ground is None else ground
        e = propagate(e0, self.hops, self.model.layers)  # (U + I, d)
        users, items = e.split([self.users, len(e) - self.users])
        return Embedded(users, items, parts=(e0,))

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        y = products(vectors, batch)  # (B, 1 + n), the chosen item first
        main = losses.bpr(y[:, :1], y[:, 1:])
        return main + self.model.weight_contrast * self.ssl(batch, vectors) if self.model.weight_contrast else main

    def ssl(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        """L_ssl: users, chosen items and negatives of the batch, each told from all others of its kind."""
        sizes, tau, contrast = [self.users, len(vectors.items)], self.model.temperature, self.model.contrast
        (u1, i1), (u2, i2) = (self.view(vectors.parts[0]).split(sizes) for _ in range(2))
        users = losses.agree(u1, u2, batch.user, temperature=tau, contrast=contrast)
        return users + losses.agree(i1, i2, batch.positive, batch.negative, temperature=tau, contrast=contrast)

    def view(self, e0: torch.Tensor) -> torch.Tensor:
        """All vectors over a graph that lost some of its edges. (U + I, d)"""
        return propagate(e0, self.hops, self.model.layers, self.hops.thin(self.model.keep_edges))
