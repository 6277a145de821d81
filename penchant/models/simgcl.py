"""SimGcl: LightGCN whose vectors must be recognised under noise.

Yu, Yin, Xia, Chen, Cui & Nguyen, "Are graph augmentations necessary? Simple graph contrastive learning for
recommendation", SIGIR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.hops import Hops, propagate
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, products, table

__all__ = ["SimGcl"]


@dataclass(frozen=True)
class SimGcl(Model):
    """L = L_rec + lambda L_cl (eq. 1) + l2 ||E^(0)||^2: BPR on clean vectors, and InfoNCE between two noisy views (eq. 2).

    In a view every layer is moved: e^(k+1) = A^ e^(k) + Delta, Delta = eps n / ||n|| * sign(A^ e^(k)), n ~ U(0, 1)^d
    (section 3.1), so that a vector turns a little and stays in its orthant.
    L_cl = mean over the users of a batch of -log exp(cos(e'_u, e''_u) / tau) / sum_v exp(cos(e'_u, e''_v) / tau), v all
    users; plus the same over its chosen items and all items.

    weight_contrast: lambda. temperature: tau. contrast: v runs over so many drawn rows; None: over all of them.
    **Departs from the paper**, as RLMRec's code does: layers 0..L are summed, where the paper takes the mean without
    layer 0; v runs over all rows in place of the batch's.
    """

    dim: int = 64
    layers: int = 3
    l2: float = 1e-5
    negatives: int = 1
    eps: float = 0.9
    temperature: float = 0.2
    weight_contrast: float = 0.05
    contrast: int | None = None
    name: ClassVar[str] = "simgcl"

    def build(self, train: Interactions) -> SimGclNet:
        return SimGclNet(self, train)


class SimGclNet(EmbeddingNet):
    linear: ClassVar[bool] = True

    def __init__(self, model: SimGcl, train: Interactions) -> None:
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
        return Embedded(users, items, parts=(e0, e))

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        y = products(vectors, batch)  # (B, 1 + n), the chosen item first
        rec = losses.bpr(y[:, :1], y[:, 1:])
        return rec + self.model.weight_contrast * self.cl(batch, vectors) if self.model.weight_contrast else rec

    def cl(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        """L_cl: users and chosen items of the batch, each told from all others of its kind."""
        sizes, tau, contrast = [self.users, len(vectors.items)], self.model.temperature, self.model.contrast
        (u1, i1), (u2, i2) = (view.split(sizes) for view in self.views(*vectors.parts))
        users = losses.agree(u1, u2, batch.user, temperature=tau, contrast=contrast)
        return users + losses.agree(i1, i2, batch.positive, temperature=tau, contrast=contrast)

    def views(self, e0: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Two noisy views of all vectors. e: the clean ones. (U + I, d) each

        Propagation is linear and the gradient of a sign is zero, so a view is e plus a constant: its gradient towards E^(0)
        is that of e, and one backward pass serves all three.
        """
        return tuple(e + delta for delta in self.deltas(e0, e).unbind(1))

    @torch.no_grad()
    def deltas(self, e0: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """What the noise of all layers makes of e, for both views side by side. (U + I, 2, d)"""
        total = (e0 - e)[:, None].repeat(1, 2, 1)
        layer = e0[:, None]  # the same in both views until the first noise
        for _ in range(self.model.layers):
            layer = self.hops.hop(layer.flatten(1)).unflatten(1, (-1, e.shape[1]))
            n = F.normalize(torch.rand_like(total), dim=-1)
            layer = torch.addcmul(layer, n, layer.sign(), value=self.model.eps)
            total += layer
        return total
