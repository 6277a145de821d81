"""Motivation: the two encoders of LMMRec, one for what people do and one for what is written about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn

from penchant import losses
from penchant.hops import Hops
from penchant.nn import Embedded, EmbeddingNet, Momentum, pick, tower
from penchant.plugin import Texts, width

__all__ = ["Encoders", "Motives", "Reading", "Side", "Teacher"]

Reading = Literal["prototype", "residual", "edge"]


class Motives(NamedTuple):
    """Motivations from interactions and from texts, row by row a pair. m: what correspondence looks at, where it is not r.
    (B, d) each"""

    r: torch.Tensor
    z: torch.Tensor
    m: torch.Tensor | None = None

    @property
    def corresponding(self) -> Motives:
        return self if self.m is None else Motives(self.m, self.z)


class Side(nn.Module):
    """Users, or items: texts and prototypes. temperature: of the attention on prototypes, by cosine; None: by the plain
    product."""

    def __init__(self, texts: Texts, prototypes: int, dim: int, temperature: float | None) -> None:
        super().__init__()
        self.texts, self.temperature = texts, temperature
        p = nn.init.xavier_uniform_(torch.empty(prototypes, dim))
        # With a mean of 0, r begins as a linear image of e; else it begins as the same vector for everybody, and the text
        # losses have nothing to work on until that is gone.
        self.p = nn.Parameter(p - p.mean(dim=0) if prototypes > 1 else p)  # (K, d)

    def shares(self, e: torch.Tensor) -> torch.Tensor:
        """a = softmax(e P'), or softmax(cos(e, P) / t). (B, d) -> (B, K)"""
        if self.temperature is None:
            return (e @ self.p.T).softmax(dim=1)
        return (losses.unit(e) @ losses.unit(self.p).T / self.temperature).softmax(dim=1)

    def mixed(self, e: torch.Tensor) -> torch.Tensor:
        """m = a P. (B, d) -> (B, d)"""
        return self.shares(e) @ self.p


class Encoders(nn.Module):
    """What has a teacher: backbone, text encoder, prototypes."""

    def __init__(
        self,
        backbone: EmbeddingNet,
        users: Texts,
        items: Texts,
        prototypes: int,
        temperature: float | None,
        reading: Reading,
        layers: int,
    ) -> None:
        """layers: of reading "edge"."""
        super().__init__()
        self.backbone, self.reading, self.layers = backbone, reading, layers
        d = width(backbone)
        # For both sides; held here alone, because a teacher swaps parameters by one name each.
        self.g = tower(users.dim, d)
        self.users = Side(users, prototypes, d, temperature)
        self.items = Side(items, prototypes, d, temperature)
        self.hops = Hops.bipartite(backbone.pairs.train) if reading == "edge" else None

    def forward(self, user: torch.Tensor, item: torch.Tensor, e: Embedded | None = None) -> tuple[Motives, Motives]:
        """Of these users and of these items, all of which have texts, as correspondence looks at them."""
        users, items = self.motives(self.backbone.embed() if e is None else e, user, item)
        return users.corresponding, items.corresponding

    def motives(self, e: Embedded, user: torch.Tensor, item: torch.Tensor) -> tuple[Motives, Motives]:
        """The same, read off these vectors."""
        texts = self.users.texts.values.new_empty(len(user) + len(item), self.users.texts.dim)
        torch.index_select(self.users.texts.values, 0, user, out=texts[: len(user)])
        torch.index_select(self.items.texts.values, 0, item, out=texts[len(user) :])
        z_user, z_item = self.g(texts).split([len(user), len(item)])  # both at once: half the time
        if self.hops is not None:
            r_users, r_items = self.over_edges(e, self.hops)
            return Motives(r_users[user], z_user), Motives(r_items[item], z_item)
        e_user, e_item = pick(e.users, user), pick(e.items, item)
        m_user, m_item = self.users.mixed(e_user), self.items.mixed(e_item)
        if self.reading == "prototype":
            return Motives(m_user, z_user), Motives(m_item, z_item)
        return Motives(e_user + m_user, z_user, m_user), Motives(e_item + m_item, z_item, m_item)

    def z(self, side: Side, rows: torch.Tensor) -> torch.Tensor:
        """Motivation from text, of one side. (B,) -> (B, d)"""
        return side.texts.read(self.g, rows)

    @torch.no_grad()
    def reasons(self, e: Embedded) -> tuple[torch.Tensor, torch.Tensor]:
        """Each user's shares of the prototypes, and the cosine of each item's motivation with users' prototypes."""
        r = self.items.mixed(e.items) if self.hops is None else self.over_edges(e, self.hops)[1]
        return self.users.shares(e.users), losses.unit(r) @ losses.unit(self.users.p).T  # (U, K), (I, K)

    def over_edges(self, e: Embedded, hops: Hops) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors propagated over choices that weigh what both ends' motivations have in common. (U, d), (I, d)"""
        x, count = torch.cat([e.users, e.items]), len(e.users)
        total = torch.zeros_like(x)
        for _ in range(self.layers):
            m = losses.unit(torch.cat([self.users.mixed(x[:count]), self.items.mixed(x[count:])]))  # (U + I, d)
            w = (hops.alike(m) + 1) / 2  # (nnz,)
            x = hops.weigh(x, w / w.new_zeros(len(x)).index_add(0, hops.rows, w).clamp_min(1e-8)[hops.rows])
            total = total + x
        return total[:count] / self.layers, total[count:] / self.layers


class Teacher(nn.Module):
    """The exponential mean of encoders, of all their parameters.

    Where the backbone is linear its vectors are averaged in place of its table, step by step as they are made: the same up
    to rounding, without a second pass over the graph.
    """

    e_users: torch.Tensor  # (U, d), or None as is the other
    e_items: torch.Tensor  # (I, d)

    def __init__(self, student: Encoders, momentum: float) -> None:
        super().__init__()
        self.linear = student.backbone.linear
        self.mean = Momentum(student, momentum, without="backbone" if self.linear else None)
        with torch.no_grad():
            e = student.backbone.embed() if self.linear else None
        self.register_buffer("e_users", None if e is None else e.users.clone())
        self.register_buffer("e_items", None if e is None else e.items.clone())

    @torch.no_grad()
    def learn(self, student: Encoders, e: Embedded) -> None:
        """One step of the mean. e: the student's vectors in this step, as she begins it."""
        self.mean.follow(student)
        if self.linear:
            torch._foreach_lerp_([self.e_users, self.e_items], [e.users, e.items], 1 - self.mean.momentum)

    def ask(self, student: Encoders, user: torch.Tensor, item: torch.Tensor) -> tuple[Motives, Motives]:
        """What the student would make of these users and items if she were the teacher."""
        return self.mean.teach(student, user, item, Embedded(self.e_users, self.e_items) if self.linear else None)
