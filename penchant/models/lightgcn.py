"""LightGcn: user and item tables smoothed over the graph of choices.

He, Deng, Wang, Li, Zhang & Wang, "LightGCN: simplifying and powering graph convolution network for recommendation",
SIGIR 2020.
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

__all__ = ["LightGcn"]


@dataclass(frozen=True)
class LightGcn(Model):
    """e^(k+1) = D^-1/2 A D^-1/2 e^(k) (eq. 8); e = sum_k e^(k) (eq. 4); BPR loss + l2 ||E^(0)||^2 (eq. 15).

    **Departs from the paper**: layers are summed, alpha_k = 1, as in RLMRec's code, where the paper takes the mean;
    the order of items is the same at equal tables, the loss is steeper.
    """

    dim: int = 64
    layers: int = 3
    l2: float = 1e-6
    negatives: int = 1
    name: ClassVar[str] = "lightgcn"

    def build(self, train: Interactions) -> LightGcnNet:
        return LightGcnNet(self, train)


class LightGcnNet(EmbeddingNet):
    linear: ClassVar[bool] = True

    def __init__(self, model: LightGcn, train: Interactions) -> None:
        super().__init__(train, model.l2, model.negatives)
        self.layers, self.users = model.layers, len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = torch.nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.hops = Hops.bipartite(train)

    def ground(self) -> torch.Tensor:
        return self.e0

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        e = propagate(self.e0 if ground is None else ground, self.hops, self.layers)  # (U + I, d)
        return Embedded(e[: self.users], e[self.users :])

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        x = products(vectors, batch)  # (B, 1 + n), the chosen item first
        return losses.bpr(x[:, :1], x[:, 1:])
