"""Rlmrec: the vectors of any backbone, aligned with vectors of texts that describe users and items.

Ren, Wei, Xia, Su, Cheng, Wang, Yin & Huang, "Representation learning with large language models for recommendation",
WWW 2024, arXiv 2310.15950.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, pick, tower
from penchant.plugin import Texts, backbone_of, taken, width

__all__ = ["Rlmrec"]


@dataclass(frozen=True)
class Rlmrec(Model):
    """L = L_R + weight_align L_info (eq. 2) + l2 ||all parameters||^2; L_info = -E log f(s_i, e_i) / sum_j f(s_j, e_i) (eqs. 6 and 7).

    form "con": f = exp(cos(g(s), e) / t), g takes texts down to the graph's size (eq. 8). Users are told from all users,
    chosen items and others from those of the batch: three terms. form "gen": a share `masked` of E^(0) gives way to one
    learned vector before propagation, and f = exp(cos(s, g(e)) / t), g taking the vectors of just these rows up to the
    texts' size (eq. 9); they are told from each other. Scores are the backbone's: no text is needed to serve.

    contrast: "con" takes so many triples of a batch, drawn anew in each step, and tells users, too, from each other; None:
    the whole batch and all users, as in the paper.
    **Departs from the paper**: rows without a text are left out of L_info; the paper's data have none. Items are told
    from those of the batch, as in its code, where its equation has all.
    """

    backbone: Model
    form: Literal["con", "gen"] = "con"
    weight_align: float = 0.01
    temperature: float = 0.2
    masked: float = 0.1
    contrast: int | None = None
    name: ClassVar[str] = "rlmrec"

    def build(self, train: Interactions, user_profiles: Features, item_profiles: Features) -> RlmrecNet:
        if not 0 < self.masked < 1:
            raise BadSetting(f"[model] rlmrec masked = {self.masked} is a share of the rows, above 0 and below 1: 0.1")
        net = backbone_of(self.name, self.backbone, train)
        return RlmrecNet(self, net, Texts("user_profiles", user_profiles), Texts("item_profiles", item_profiles))


class RlmrecNet(EmbeddingNet):
    def __init__(self, model: Rlmrec, backbone: EmbeddingNet, users: Texts, items: Texts) -> None:
        super().__init__(backbone.pairs.train, backbone.l2, backbone.negatives)
        self.model, self.backbone, self.users, self.items = model, backbone, users, items
        self.contrastive = model.form == "con"
        d, up = width(backbone), users.dim
        self.g = tower(up, d) if self.contrastive else tower(d, up)
        self.mask = nn.Parameter(torch.zeros(backbone.ground().shape[1]), requires_grad=not self.contrastive)

    def ground(self) -> torch.Tensor:
        return self.backbone.ground()

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        if self.contrastive or not self.training or not self.model.weight_align:
            return self.backbone.embed(ground)
        e0 = self.ground() if ground is None else ground  # (U + I, d)
        seeds = torch.randperm(len(e0), device=e0.device)[: max(int(self.model.masked * len(e0)), 1)]
        vectors = self.backbone.embed(e0.index_copy(0, seeds, self.mask.expand(len(seeds), -1)))
        return vectors._replace(parts=(*vectors.parts, seeds))

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        weight = self.model.weight_align
        if not weight:
            return self.backbone.objective(batch, vectors)
        if self.contrastive:
            return self.backbone.objective(batch, vectors) + weight * self.con(batch, vectors)
        *parts, seeds = vectors.parts
        return self.backbone.objective(batch, vectors._replace(parts=tuple(parts))) + weight * self.gen(seeds, vectors)

    def con(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        """Users, chosen items, other items: each with its own text, told from other texts."""
        some = taken(batch, self.model.contrast)
        user = self.users.those(some.user)
        total = self.told(vectors.users, self.users, user, self.users.rows if self.model.contrast is None else user)
        for rows in (some.positive, some.negative.reshape(-1)):
            item = self.items.those(rows)
            total = total + self.told(vectors.items, self.items, item, item)
        return total

    def told(self, e: torch.Tensor, texts: Texts, rows: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
        """e: (n, d); rows: (B,) with a text; among: whose texts they are told from. Mean over rows, 0 without any."""
        if not len(rows):
            return e.new_zeros(())
        own, weight = losses.tally(len(e), rows)  # each row once, weighed by how often it stands in the batch
        wide = among.unique()  # all of `own` are among them
        z = texts.read(self.g, wide)
        x, y, others = pick(e, own), z[torch.searchsorted(wide, own)], z[torch.searchsorted(wide, among)]
        return losses.infonce(x, y, others, self.model.temperature, weight=weight)

    def gen(self, seeds: torch.Tensor, vectors: Embedded) -> torch.Tensor:
        """Texts of the masked rows, read off the graph around them. seeds: (M,) rows of E^(0)"""
        count = len(self.users.has)
        user = self.users.those(seeds[seeds < count])
        item = self.items.those(seeds[seeds >= count] - count)
        if not len(user) + len(item):
            return vectors.users.new_zeros(())
        e = torch.cat([pick(vectors.users, user), pick(vectors.items, item)])  # (M, d)
        s = torch.cat([self.users.values[user], self.items.values[item]])  # (M, D)
        return losses.infonce(self.g(e), s, s, self.model.temperature)
