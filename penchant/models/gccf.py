"""Gccf: graph convolution without weights and nonlinearities, whose layers each add to the score.

Chen, Wu, Hong, Zhang & Wang, "Revisiting graph based collaborative filtering: a linear residual graph convolutional
network approach" (LR-GCCF), AAAI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.hops import Hops
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, products, table

__all__ = ["Gccf"]


@dataclass(frozen=True)
class Gccf(Model):
    """E^(k+1) = S E^(k), S = D^-1/2 (A + I) D^-1/2; r_ui = sum_k <e_u^(k), e_i^(k)>; BPR loss + l2 ||E^(0)||^2.

    "Linear embedding propagation" and "residual preference prediction" of the paper: each layer predicts what the ones
    before it left over. The sum of products is the product of the layers side by side, so vectors are (layers + 1) dim wide.
    **Departs from the paper**: no weight matrices W^(k) between layers, and D^-1/2 on both sides, as in RLMRec's code.
    """

    dim: int = 64
    layers: int = 2
    l2: float = 1e-6
    negatives: int = 1
    name: ClassVar[str] = "gccf"

    def build(self, train: Interactions) -> GccfNet:
        return GccfNet(self, train)


class GccfNet(EmbeddingNet):
    linear: ClassVar[bool] = True

    def __init__(self, model: Gccf, train: Interactions) -> None:
        super().__init__(train, model.l2, model.negatives)
        self.layers, self.users = model.layers, len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = torch.nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.s = Hops.bipartite(train, loops=True)

    def ground(self) -> torch.Tensor:
        return self.e0

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        layers = [self.e0 if ground is None else ground]  # (U + I, d) each
        for _ in range(self.layers):
            layers.append(self.s.hop(layers[-1]))
        e = torch.cat(layers, dim=1)  # (U + I, (L + 1) d)
        users, items = e.split([self.users, len(e) - self.users])
        return Embedded(users, items)

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        r = products(vectors, batch)  # (B, 1 + n), the chosen item first
        return losses.bpr(r[:, :1], r[:, 1:])
