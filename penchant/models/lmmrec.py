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
from penchant.beside import Beside
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.gemm import product
from penchant.model import Model
from penchant.motivation import Encoders, Motives, Reading, Side, Teacher
from penchant.nn import Embedded, EmbeddingNet
from penchant.plugin import Texts, backbone_of, taken

__all__ = ["Lmmrec"]


@dataclass(frozen=True)
class Lmmrec(Model):
    """L = L_R + weight_mcs L_mcs + weight_itcm L_itcm + l2 ||Theta||^2, L_R and l2 of the backbone, Theta all parameters.

    Motivation from text: z = g(t). From interactions: r = m = a P with a = softmax(e P'), e the backbone's vector and P
    `prototypes` learned motivations, one table for users and one for items; with temperature_prototypes, a is the softmax of
    their cosines over it: fewer prototypes a user, which tell more when they are named. reading "residual": r = e + m in the
    coordination, so that texts reach all of e and not what prototypes let through, and m in the correspondence. reading
    "edge": the choices themselves are weighed by how alike both ends are motivated, w_uv = (cos(m_u, m_v) + 1) / 2, and r is
    e, propagated `layers` times over them.
    Motivation Coordination Strategy: L_mcs is InfoNCE of r with its z, for users (told from all), chosen and other items
    (told from those of the batch), temperature t. weight_robust: the same between both multiplied by 1 + noise, t = 1.
    Interaction-Text Correspondence Method: a momentum teacher's similarities of r and z over a batch, mixed with the
    identity, Y = soft softmax(T) + (1 - soft) I, are what the student's shall be:
    L_itcm = (KL(Y^rz || softmax S^rz) + KL(Y^zr || softmax S^zr)) / 2, soft growing from 0 over the first epoch.
    correspondence "feature": softmax(z of the teacher) against softmax(z) over the vector's entries, as in IRLLRec's code.
    fuse "sum": scores are (e + z) . (e + z). fuse "texts", ours: weight_texts v_u . w_i is added to them, in training too; w are
    texts about items, fixed, v_u those of what she chose (`Beside`). Else scores are the backbone's alone and texts cost
    nothing when serving.

    contrast: text terms take the users of so many triples of a batch, drawn anew in each step, and both items of half of
    them; they are told from each other. None ("none" in a recipe): the whole batch, and users told from all users, the
    literal form.
    **Departs from the paper**: its loss names no weight of L_mcs and no L_R; weights, t and `soft` are IRLLRec's and ALBEF's.
    "residual" and "texts" are ours: the paper's motivation is a mixture of prototypes, and nothing fixed stands beside its
    vectors. Rows without a text are left out of both losses. AutoCF is given its "texts" after training.
    """

    backbone: Model
    prototypes: int = 128
    temperature_prototypes: float | None = None
    reading: Reading = "prototype"
    layers: int = 2
    weight_mcs: float = 0.02
    temperature: float = 0.2
    weight_robust: float = 0.0
    weight_itcm: float = 0.01
    temperature_itcm: float = 0.2
    correspondence: Literal["batch", "feature"] = "batch"
    momentum: float = 0.995
    soft: float = 0.4
    fuse: Literal["none", "sum", "texts"] = "none"
    weight_texts: float = 4.0
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
        if self.reading == "edge" and self.layers < 1:
            raise BadSetting(
                '[model] lmmrec reading = "edge" propagates over layers, and layers = 0. Write:  layers = 2'
            )
        if min(self.temperature, self.temperature_itcm) <= 0:
            raise BadSetting("[model] lmmrec temperatures must be above 0: temperature = 0.2, temperature_itcm = 0.2")
        if self.weight_texts < 0:
            raise BadSetting(f"[model] lmmrec weight_texts = {self.weight_texts:g} must be 0 or more: 4.0")
        if user_motives.dim != item_motives.dim:
            raise BadSetting(
                f"[model] lmmrec reads both kinds of texts by one encoder, but vectors of `user_motives` have {user_motives.dim} "
                f'entries and those of `item_motives` {item_motives.dim}. Give both the same encoder:  encoder = "minilm"'
            )
        beside = Beside(train, item_motives, self.weight_texts) if self.fuse == "texts" and self.weight_texts else None
        return LmmrecNet(self, net, Texts("user_motives", user_motives), Texts("item_motives", item_motives), beside)


class LmmrecNet(EmbeddingNet):
    seen: torch.Tensor

    def __init__(
        self, model: Lmmrec, backbone: EmbeddingNet, users: Texts, items: Texts, beside: Beside | None = None
    ) -> None:
        super().__init__(backbone.pairs.train, backbone.l2, backbone.negatives)
        self.model, self.users, self.items, self.beside = model, users, items, beside
        how = (model.prototypes, model.temperature_prototypes, model.reading, model.layers)
        self.student = Encoders(backbone, users, items, *how)
        self.teacher = Teacher(self.student, model.momentum)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # triples, until now

    def ground(self) -> torch.Tensor:
        return self.student.backbone.ground()

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        e = self.student.backbone.embed(ground)
        vectors = e._replace(beside=self.beside)
        if self.model.fuse == "sum":
            both = (self.fused(e.users, self.student.users), self.fused(e.items, self.student.items))
            vectors = Embedded(*both, e.bias, (e.users, e.items, *e.parts))
        return vectors if self.training else vectors._replace(motives=self.student.reasons(e))

    def fused(self, e: torch.Tensor, side: Side) -> torch.Tensor:
        """e + z, e where there is no text. (n, d)"""
        return e.index_add(0, side.texts.rows, self.student.z(side, side.texts.rows))

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        model, e = self.model, vectors
        if model.fuse == "sum":
            users, items, *parts = vectors.parts
            vectors, e = vectors._replace(parts=tuple(parts)), Embedded(users, items)
        total = self.student.backbone.objective(batch, vectors)
        self.seen += len(batch)
        if model.weight_mcs or model.weight_robust or model.weight_itcm:
            total = total + self.aligned(taken(batch, model.contrast), e)
        return total

    def aligned(self, batch: Triples, e: Embedded) -> torch.Tensor:
        """What both losses and the teacher are asked about is read once: the users and items of the batch that have texts."""
        model, literal = self.model, self.model.contrast is None
        half = len(batch) if literal else (len(batch) + 1) // 2  # so that there are as many items as users
        user, chosen = self.users.those(batch.user), self.items.those(batch.positive[:half])
        other = self.items.those(batch.negative[:half].reshape(-1))
        users, items = user.unique(), torch.cat([chosen, other]).unique()
        among = self.users.rows if literal else users
        of_users, of_items = self.student.motives(e, among, items)
        total = of_users.r.new_zeros(())
        if model.weight_mcs or model.weight_robust:
            for own, rows, table in ((of_users, user, among), (of_items, chosen, items), (of_items, other, items)):
                total = total + self.coordinated(own, torch.searchsorted(table, rows), own is of_users)
        if model.weight_itcm:
            at = torch.searchsorted(among, users)
            own = of_users.corresponding
            here = Motives(own.r[at], own.z[at]), of_items.corresponding
            total = total + model.weight_itcm * self.corresponding(here, e, users, items)
        return total

    def coordinated(self, own: Motives, at: torch.Tensor, everyone: bool) -> torch.Tensor:
        """weight_mcs L_mcs + weight_robust of the same under noise, of one side. at: where the batch's rows stand in `own`;
        they are told from all in `own` if everyone, or else from each other."""
        if not len(at):
            return own.r.new_zeros(())
        model, total = self.model, own.r.new_zeros(())
        rows, weight = losses.tally(len(own.r), at)  # each row once, weighed by how often it stands in the batch
        r, z = (x.index_select(0, rows) for x in (own.r, own.z))
        if model.weight_mcs:
            others = z if model.contrast is not None else own.z if everyone else own.z[at]
            total = total + model.weight_mcs * losses.infonce(r, z, others, model.temperature, weight=weight)
        if model.weight_robust:
            r, z = (x + x * torch.randn_like(x) for x in (r, z))
            total = total + model.weight_robust * losses.infonce(r, z, z, 1.0, weight=weight)
        return total

    def corresponding(
        self, own: Sequence[Motives], e: Embedded, users: torch.Tensor, items: torch.Tensor
    ) -> torch.Tensor:
        """L_itcm of these users and of these items."""
        self.teacher.learn(self.student, e)
        self.student.eval()  # the teacher sees the whole graph
        taught = self.teacher.ask(self.student, users, items)
        self.student.train()
        soft = self.model.soft * (self.seen / len(self.pairs.rows)).clamp(max=1)
        return sum(
            (correspondence(*pair, soft, self.model) for pair in zip(own, taught, strict=True) if len(pair[0].r)),
            start=own[0].r.new_zeros(()),
        )


def correspondence(own: Motives, taught: Motives, soft: torch.Tensor, model: Lmmrec) -> torch.Tensor:
    """(KL(Y^rz || softmax S^rz) + KL(Y^zr || softmax S^zr)) / 2. taught: by the teacher."""
    if model.correspondence == "feature":
        return losses.kl(taught.z.softmax(dim=1), own.z)
    s, t = (product(losses.unit(m.r) / model.temperature_itcm, losses.unit(m.z)) for m in (own, taught))  # (B, B)
    return losses.both_ways(s, t, soft, bound=1 / model.temperature_itcm)
