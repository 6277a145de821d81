"""Lmmrec: motivations read from behaviour and from texts, aligned, beside any backbone.

"LMMRec: LLM-driven motivation-aware multimodal recommendation": an LLM draws the motivations of users and items from text,
a dual encoder aligns them with motivations from interactions. Where its text leaves a choice open we follow IRLLRec
(Wang et al., SIGIR 2025), whose code has the same two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.model import Model
from penchant.motivation import Encoders, Interaction, Motives, Rows, Side
from penchant.nn import Embedded, EmbeddingNet, Momentum
from penchant.plugin import Texts, backbone_of, crowd, sampled

__all__ = ["Lmmrec"]


@dataclass(frozen=True)
class Lmmrec(Model):
    """L = L_R + weight_mcs L_mcs + weight_itcm L_itcm + l2 ||Theta||^2, L_R and Theta of the backbone and its own.

    Motivation from text: z = g(t). From interactions: r = a P with a = softmax(e P'), e the backbone's vector and P
    `prototypes` learned motivations, one table for users and one for items. reading "edge": the choices themselves are
    weighed by how alike both ends are motivated, w_uv = (cos(m_u, m_v) + 1) / 2 with m = a P, and r is e, propagated
    `layers` times over them.
    Motivation Coordination Strategy: L_mcs is InfoNCE of r with its z, for users (told from all), chosen and other items
    (told from those of the batch), temperature t. weight_robust: the same between both multiplied by 1 + noise, t = 1.
    Interaction-Text Correspondence Method: a momentum teacher's similarities of r and z over a batch, mixed with the
    identity, Y = soft softmax(T) + (1 - soft) I, are what the student's shall be:
    L_itcm = (KL(Y^rz || softmax S^rz) + KL(Y^zr || softmax S^zr)) / 2, soft growing from 0 over the first epoch.
    correspondence "feature": softmax(z of the teacher) against softmax(z) over the vector's entries, as in IRLLRec's code.
    fuse "sum": scores are (e + z) . (e + z), else the backbone's alone and texts cost nothing when serving.

    contrast: how many rows a row is told from, drawn anew in each step; None for all, the literal form.
    **Departs from the paper**: its loss names no weight of L_mcs and no L_R; weights, t and `soft` are IRLLRec's and ALBEF's.
    Rows without a text are left out of both losses.
    """

    backbone: Model
    prototypes: int = 128
    reading: Literal["prototype", "edge"] = "prototype"
    layers: int = 2
    weight_mcs: float = 0.02
    temperature: float = 0.2
    weight_robust: float = 0.0
    weight_itcm: float = 0.01
    temperature_itcm: float = 0.2
    correspondence: Literal["batch", "feature"] = "batch"
    momentum: float = 0.995
    soft: float = 0.4
    fuse: Literal["none", "sum"] = "none"
    contrast: int | None = 512
    name: ClassVar[str] = "lmmrec"

    def build(self, train: Interactions, user_motives: Features, item_motives: Features) -> LmmrecNet:
        net = backbone_of(self.name, self.backbone, train)
        fewest = min(len(train.users), len(train.items))
        if self.prototypes > fewest:
            raise BadSetting(
                f"[model] lmmrec prototypes = {self.prototypes}, but there are {len(train.users)} users and "
                f"{len(train.items)} items; a motivation is shared. Choose fewer, e.g. prototypes = {max(fewest // 8, 1)}"
            )
        if not 0 <= self.momentum <= 1 or not 0 <= self.soft <= 1:
            raise BadSetting("[model] lmmrec momentum and soft are shares, from 0 to 1: momentum = 0.995, soft = 0.4")
        return LmmrecNet(self, net, Texts("user_motives", user_motives), Texts("item_motives", item_motives))


class LmmrecNet(EmbeddingNet):
    seen: torch.Tensor

    def __init__(self, model: Lmmrec, backbone: EmbeddingNet, users: Texts, items: Texts) -> None:
        super().__init__(backbone.pairs.train, backbone.l2, backbone.negatives)
        self.model, self.users, self.items = model, users, items
        edges = model.layers if model.reading == "edge" else None
        self.student = Encoders(backbone, users, items, model.prototypes, edges)
        self.teacher = Momentum(self.student, model.momentum)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # triples, until now

    def ground(self) -> torch.Tensor:
        return self.student.backbone.ground()

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        e = self.student.backbone.embed(ground)
        if self.model.fuse == "none":
            return e
        both = (self.fused(e.users, self.student.users), self.fused(e.items, self.student.items))
        return Embedded(*both, e.bias, (e.users, e.items, *e.parts))

    def fused(self, e: torch.Tensor, side: Side) -> torch.Tensor:
        """e + z, e where there is no text. (n, d)"""
        return e.index_add(0, side.texts.rows, side.z(side.texts.rows))

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        model, e = self.model, vectors
        if model.fuse == "sum":
            users, items, *parts = vectors.parts
            vectors, e = vectors._replace(parts=tuple(parts)), Embedded(users, items)
        total = self.student.backbone.objective(batch, vectors)
        r = self.student.interaction(e)
        if model.weight_mcs:
            total = total + model.weight_mcs * self.coordinated(batch, r, model.temperature, noise=False)
        if model.weight_robust:
            total = total + model.weight_robust * self.coordinated(batch, r, 1.0, noise=True)
        if model.weight_itcm:
            total = total + model.weight_itcm * self.corresponding(batch, r)
        return total

    def coordinated(self, batch: Triples, r: Interaction, temperature: float, noise: bool) -> torch.Tensor:
        """L_mcs: users, chosen items, other items; means over the rows of the batch that have a text."""
        user = self.users.those(batch.user)
        chosen, other = (self.items.those(rows.reshape(-1)) for rows in (batch.positive, batch.negative))
        users = self.told(self.student.users, r.users, [(user, user if noise else self.users.rows)], temperature, noise)
        return users + self.told(self.student.items, r.items, [(chosen, chosen), (other, other)], temperature, noise)

    def told(
        self, side: Side, r: Rows, terms: Sequence[tuple[torch.Tensor, torch.Tensor]], temperature: float, noise: bool
    ) -> torch.Tensor:
        """Sum over terms (rows, among): InfoNCE of r with z at these rows, told from the z of some among those."""
        asked = []
        for rows, among in terms:
            own, weight = losses.tally(len(side.texts.has), rows)
            asked += [(own, weight, crowd(own, among, self.model.contrast))] if len(rows) else []
        if not asked:
            return side.p.new_zeros(())
        distinct = torch.cat([rows for own, _, told in asked for rows in (own, told.others)]).unique()
        own_r, own_z = r(distinct), side.z(distinct)
        own_r, own_z = (x + x * torch.randn_like(x) for x in (own_r, own_z)) if noise else (own_r, own_z)
        total = side.p.new_zeros(())
        for own, weight, (others, of, place) in asked:
            at, beside = torch.searchsorted(distinct, own), torch.searchsorted(distinct, others)
            total = total + losses.infonce(own_r[at], own_z[at], own_z[beside], temperature, of, weight, place)
        return total

    def corresponding(self, batch: Triples, r: Interaction) -> torch.Tensor:
        """L_itcm on the different users and the different items of the batch that have texts."""
        self.teacher.follow(self.student)
        user = sampled(self.users.those(batch.user.unique()), self.model.contrast)
        item = sampled(self.items.those(batch.items.unique()), self.model.contrast)
        self.student.eval()  # the teacher sees the whole graph
        taught = self.teacher.teach(self.student, user, item)
        self.student.train()
        self.seen += len(batch)
        soft = self.model.soft * (self.seen / len(self.pairs.rows)).clamp(max=1)
        users, items = self.student.users, self.student.items
        total = self.seen.new_zeros((), dtype=torch.float32)
        for own, other in (
            (Motives(r.users(user), users.z(user)), taught[0]),
            (Motives(r.items(item), items.z(item)), taught[1]),
        ):
            if len(own.r):
                total = total + correspondence(own, other, soft, self.model)
        return total


def correspondence(own: Motives, taught: Motives, soft: torch.Tensor, model: Lmmrec) -> torch.Tensor:
    """(KL(Y^rz || softmax S^rz) + KL(Y^zr || softmax S^zr)) / 2. taught: by the teacher."""
    if model.correspondence == "feature":
        return losses.kl(taught.z.softmax(dim=1), own.z)
    s, t = (losses.unit(m.r) @ losses.unit(m.z).T / model.temperature_itcm for m in (own, taught))  # (B, B)
    one = torch.eye(len(s), device=s.device)
    forth, back = (losses.kl(soft * y.softmax(dim=1) + (1 - soft) * one, x) for x, y in ((s, t), (s.T, t.T)))
    return (forth + back) / 2
