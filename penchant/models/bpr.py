"""Bpr: matrix factorisation trained on pairs.

Rendle, Freudenthaler, Gantner & Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, products, table

__all__ = ["Bpr"]


@dataclass(frozen=True)
class Bpr(Model):
    """x_ui = w_u . h_i (eq. 8); loss = mean -ln sigmoid(x_ui - x_uj) + l2 (||w_u||^2 + ||h_i||^2 + ||h_j||^2) (BPR-Opt).

    **Departs from the paper**: minibatch Adam on the rows of the batch (`row_adam.RowAdam`) in place of single-triple SGD;
    l2 is added once a step to each distinct row touched, beside a mean over the batch, so its strength grows with fewer,
    larger batches.
    """

    dim: int = 64
    l2: float = 1e-5
    negatives: int = 1
    name: ClassVar[str] = "bpr"

    def build(self, train: Interactions) -> BprNet:
        return BprNet(self, train)


class BprNet(EmbeddingNet):
    def __init__(self, model: Bpr, train: Interactions) -> None:
        super().__init__(train, model.l2, model.negatives)
        self.user = table(len(train.users), model.dim, by_rows=True)  # (U, d)
        self.item = table(len(train.items), model.dim, by_rows=True)  # (I, d)

    def ground(self) -> torch.Tensor:
        return torch.cat([self.user, self.item])

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        if ground is None:
            return Embedded(self.user, self.item)
        return Embedded(ground[: len(self.user)], ground[len(self.user) :])

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        x = products(vectors, batch)  # (B, 1 + n), the chosen item first
        return losses.bpr(x[:, :1], x[:, 1:])
