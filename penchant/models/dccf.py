"""Dccf: what neighbours say and what shared intents say of a node, each weighing the graph for the other.

Ren, Xia, Zhao, Yin & Huang, "Disentangled contrastive collaborative filtering", SIGIR 2023, arXiv 2305.02759; the formulas
are those of RLMRec's code (Ren et al., WWW 2024), with whose table results are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.hops import Hops
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, pick, products, table

__all__ = ["Dccf"]


@dataclass(frozen=True)
class Dccf(Model):
    """L = L_bpr + weight_contrast L_cl + l2 ||all parameters||^2.

    In each layer, over users and items: z = D^-1/2 A D^-1/2 e, from the neighbours; r = sum_k c_k softmax_k(c_k.e), from the
    K intents c of the node's side; and twice the neighbours again, h^z and h^r, on a graph whose edge (u, v) weighs
    (cos(x_u, x_v) + 1) / 2, rows scaled to sum 1, for x = z and for x = r ("adaptive augmentation"). The next layer is
    e + z + r + h^z + h^r; the vectors are the sum of all layers, e^(0) included.

    L_cl = sum over layers, over x in (r, h^z, h^r) and over both sides of sum_b -log exp(cos(z_b, x_b) / temperature) /
    sum_c exp(cos(z_b, x_c) / temperature); b and c are the distinct users, or chosen items, of the batch. Both sides are
    divided by the number of users.

    prototypes: K. contrast: c runs over so many drawn rows; None: over all of them.
    **Departs from the paper**, as RLMRec's code does: one l2 for tables and intents; negatives are not in L_cl.
    """

    dim: int = 64
    layers: int = 2
    prototypes: int = 128
    temperature: float = 0.1
    weight_contrast: float = 1e-3
    contrast: int | None = None
    l2: float = 1e-4
    negatives: int = 1
    name: ClassVar[str] = "dccf"

    def build(self, train: Interactions) -> DccfNet:
        return DccfNet(self, train)


class DccfNet(EmbeddingNet):
    def __init__(self, model: Dccf, train: Interactions) -> None:
        super().__init__(train, model.l2, model.negatives)
        self.model, self.users = model, len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = torch.nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.user_intents = table(model.prototypes, model.dim)  # (K, d)
        self.item_intents = table(model.prototypes, model.dim)  # (K, d)
        self.hops = Hops.bipartite(train)

    def ground(self) -> torch.Tensor:
        return self.e0

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        e = total = self.e0 if ground is None else ground
        parts: tuple[torch.Tensor, ...] = ()
        for _ in range(self.model.layers):
            z, r = self.hops.hop(e), self.intents(e)  # (U + I, d)
            layer = z, r, self.masked(z, e), self.masked(r, e)
            e = sum(layer, start=e)
            total, parts = total + e, parts + layer
        return Embedded(total[: self.users], total[self.users :], parts=parts)

    def intents(self, e: torch.Tensor) -> torch.Tensor:
        """sum_k c_k softmax_k(c_k . e). (U + I, d) -> (U + I, d)"""
        sides = (e[: self.users], self.user_intents), (e[self.users :], self.item_intents)
        return torch.cat([(x @ c.T).softmax(dim=1) @ c for x, c in sides])

    def masked(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """Mean of the neighbours' e, weighed by (cos(x_u, x_v) + 1) / 2; 0 where all weights are. (U + I, d) -> (U + I, d)"""
        w = (self.hops.alike(F.normalize(x)) + 1) / 2  # (nnz,)
        total = torch.zeros_like(e[:, 0]).index_add(0, self.hops.rows, w)  # (U + I,)
        return self.hops.weigh(e, w) / torch.where(total > 0, total, 1)[:, None]

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        y = products(vectors, batch)  # (B, 1 + n), the chosen item first
        loss = losses.bpr(y[:, :1], y[:, 1:])
        if not self.model.weight_contrast:
            return loss
        users, items = batch.user.unique(), self.users + batch.positive.unique()
        terms = []
        for z, *others in zip(*(vectors.parts[k::4] for k in range(4)), strict=True):
            terms += [self.told_apart(z, x, rows) for x in others for rows in (users, items)]
        return loss + self.model.weight_contrast / len(users) * sum(terms)

    def told_apart(self, z: torch.Tensor, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Sum over these rows of InfoNCE: z_b knows x_b among the x_c of these rows."""
        every, m = torch.arange(len(rows), device=rows.device), self.model
        z, x = pick(z, rows), pick(x, rows)
        return len(rows) * losses.agree(z, x, every, temperature=m.temperature, contrast=m.contrast)
