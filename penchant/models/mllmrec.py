"""Mllmrec: what is read from texts about items and people, smoothed over a refined graph of items, through two towers.

Dang et al., "MLLMRec: A Preference Reasoning Paradigm with Graph Refinement for Multimodal Recommendation", arXiv
2508.15304 (2025), and its code, which settles what the text leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant import losses
from penchant.batches import Pairs, Triples
from penchant.data import Interactions
from penchant.errors import BadSetting, MissingInput
from penchant.features import Features
from penchant.graph import Graph, blend, denoise, jaccard, knn, normalise
from penchant.hops import Hops, propagate
from penchant.intakes import Towered
from penchant.model import Model
from penchant.nn import Embedded, Linear, plain, products
from penchant.scorers import Scorer
from penchant.towers import SLOPE, Towers

__all__ = ["Mllmrec"]


@dataclass(frozen=True)
class Mllmrec(Model):
    """score = h_u . h_i; h_i = f_item(e_i), h_u = f_user(t_u), each f Linear, LeakyReLU, Linear, with its own weights; BPR.

    X: texts about items, metadata and what is seen in their picture. (I, D)
    Graph: A = A_sem + A_jac. A_sem: the `neighbours` nearest of each item by cosine, itself among them, those below
    `threshold` cut and the others weighing 1. A_jac: the `neighbours_jaccard` items with the most similar audience in
    train, weighing |A n B| / |A u B|. A' = D^-1/2 A D^-1/2, D the sums of A's rows on both sides; A is directed.
    e = (I + A' + ... + A'^layers) X, without any weight, so it is made once. layers = 0: the texts as they are.
    Cosines end at 1 and -1: threshold above 1 leaves A_jac alone, -1 all of the nearest; neighbours = 0 leaves A_jac,
    neighbours_jaccard = 0 A_sem.
    t_u: the text about u's preferences. Without one, as for all users if none are given, t_u is the mean of e over her train
    items; so is a stranger's over her history. In training that mean is without the item that is ranked (not with gcn_layers): with
    it, the towers learn to tell what is in a mean, and not what goes with it.
    gcn_layers: the paper's "w/ GCN_UI", 2 there: z = h / |h| over users and items, smoothed over the graph of choices by so
    many layers of LightGCN, is added, h + sum_k z^(k).

    An item that comes after training has edges to its nearest by text, and no audience yet.
    An item without a text has the vectors of items with its audience, by A_jac, and zeros where there are none; it has none
    of its own to give. Zeros are read like any vector, so all scores are finite.
    **Departs from the paper**: texts must be written from train alone; its script shows each user's valid and test
    items to the language model, so its numbers are no target. Its code drops each Jaccard of exactly 1 to be rid of the item itself, and with
    it pairs with the same audience; here only the item itself is dropped. Vectors are scaled to length 1, as its
    encoder leaves them. The mean in place of a text is ours. Only the rows of a batch pass the towers, which changes no gradient.
    """

    dim: int = 64
    hidden: int = 256
    neighbours: int = 10
    neighbours_jaccard: int = 10
    threshold: float = 0.7
    layers: int = 1
    gcn_layers: int = 0
    l2: float = 0.0
    negatives: int = 1
    name: ClassVar[str] = "mllmrec"
    least: ClassVar[dict[str, int]] = {"neighbours": 0, "threshold": -1}  # in a recipe

    def build(self, train: Interactions, item_texts: Features, user_preferences: Features | None = None) -> MllmrecNet:
        texts = item_texts.unit()
        if not texts.present.any():
            raise MissingInput(
                f"`item_texts`: none of {len(texts.ids)} items has a vector other than zeros. Have texts encoded, or name "
                'others in [inputs]:  item_texts = { from = "catalog.text", encoder = "minilm" }'
            )
        if texts.alike:
            raise MissingInput(
                f"`item_texts`: {int(texts.present.sum())} items have one and the same vector, which tells none from another. "
                'Name other texts in [inputs]:  item_texts = { from = "catalog.text", encoder = "minilm" }'
            )
        graph = joined(self, train, texts)
        degree = np.asarray(graph.matrix.sum(axis=1)).reshape(-1)  # (I,)
        e = smoothed(normalise(graph, degree="row"), texts.values, self.layers)
        t, told = means(train, e[-1]), np.zeros(len(train.users), bool)
        if user_preferences is not None:
            if user_preferences.dim != texts.dim:
                raise BadSetting(
                    "[model] mllmrec reads a user without a text from the texts of her items, but vectors of `user_preferences` "
                    f"have {user_preferences.dim} entries and those of `item_texts` {texts.dim}. Give both the same encoder:  "
                    'encoder = "minilm"'
                )
            own = user_preferences.unit()
            t, told = np.where(own.present[:, None], own.values, t), own.present
        return MllmrecNet(self, train, e, t, told, degree)


def joined(model: Mllmrec, train: Interactions, texts: Features) -> Graph:
    """A, items to items: the nearest by text that are near enough, and those with the same audience."""
    alike = denoise(knn(texts, model.neighbours, with_self=True), model.threshold, binarise=True)
    return blend([(1, alike), (1, jaccard(train, model.neighbours_jaccard))])


def smoothed(graph: Graph, x: np.ndarray, layers: int) -> list[np.ndarray]:
    """X, X + A' X, ..., (I + A' + ... + A'^L) X by Horner's rule. (I, D) each"""
    e = [x]
    for _ in range(layers):
        e.append(x + graph.matrix @ e[-1])
    return e


def means(train: Interactions, e: np.ndarray) -> np.ndarray:
    """The mean of e over each user's items; zeros for a user without any. (U, D)"""
    chosen = train.matrix()
    return (chosen @ e) / np.maximum(np.diff(chosen.indptr), 1).astype(np.float32)[:, None]


class MllmrecNet(nn.Module):
    e: torch.Tensor
    t: torch.Tensor
    size: torch.Tensor

    def __init__(
        self,
        model: Mllmrec,
        train: Interactions,
        e: list[np.ndarray],
        t: np.ndarray,
        told: np.ndarray,
        degree: np.ndarray,
    ) -> None:
        super().__init__()
        self.model, self.l2, self.pairs, self.told = model, model.l2, Pairs(train), told
        self.below, self.degree = e[:-1] or e, degree  # for items that come later
        self.register_buffer("e", torch.tensor(e[-1]), persistent=False)  # (I, D), frozen
        self.register_buffer("t", torch.tensor(t), persistent=False)  # (U, D), frozen
        size = torch.tensor(np.bincount(train.user, minlength=len(t)) * ~told, dtype=torch.float32)
        self.register_buffer("size", size, persistent=False)  # (U,) how many items t_u is the mean of
        self.f_user, self.f_item = (_tower(t.shape[1], model) for _ in range(2))
        self.hops = Hops.bipartite(train) if model.gcn_layers else None

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Triples]:
        return self.pairs.epoch(rng, batch_size, self.model.negatives)

    def loss(self, batch: Triples) -> torch.Tensor:
        if self.hops is None:  # each row of the batch once
            t, user = self.asked(batch)
            items, item = batch.items.unique(return_inverse=True)
            vectors = Embedded(self.f_user(t), self.f_item(self.e[items]))
            x = products(vectors, Triples(user, item[:, 0], item[:, 1:]))  # (B, 1 + n), the chosen item first
        else:
            x = products(self.embed(), batch)
        return losses.bpr(x[:, :1], x[:, 1:])

    def asked(self, batch: Triples) -> tuple[torch.Tensor, torch.Tensor]:
        """t of the batch's users, and whose row is whose; of means without the item that is ranked."""
        n = self.size[batch.user, None]
        if not n.any():
            users, user = batch.user.unique(return_inverse=True)
            return self.t[users], user
        t = self.t[batch.user]
        rest = (n * t - self.e[batch.positive]) / (n - 1).clamp_min(1)
        return torch.where(n > 0, rest, t), torch.arange(len(t), device=t.device)

    def embed(self) -> Embedded:
        """All vectors. parts: with gcn_layers, what each item adds to those who choose it, see `Towers`."""
        h_user, h_item = self.f_user(self.t), self.f_item(self.e)  # (U, d), (I, d)
        if self.hops is None:
            return Embedded(h_user, h_item)
        h, layers = torch.cat([h_user, h_item]), self.model.gcn_layers
        z = F.normalize(h, dim=1)
        users, items = (h + propagate(z, self.hops, layers)).split([len(h_user), len(h_item)])
        return Embedded(users, items, parts=(z,))

    @torch.no_grad()
    def finish(self) -> Scorer:
        vectors = self.embed()
        first, bias, second, offset = map(plain, self.f_user.parameters())
        pull = None
        if self.hops is not None:
            below = propagate(vectors.parts[0], self.hops, self.model.gcn_layers - 1)[len(self.t) :]
            degree = np.bincount(self.pairs.train.item, minlength=len(self.e))
            pull = plain(below) / np.sqrt(np.maximum(degree, 1), dtype=np.float32)[:, None]
        w1, b1, w2, b2 = map(plain, self.f_item.parameters())
        m, e = self.model, np.stack(self.below)[1:]
        intake = Towered(self.degree, e, w1, b1, w2, b2, first, m.neighbours, m.threshold, m.layers)
        users, items, read = plain(vectors.users), plain(vectors.items), plain(self.e) @ first.T
        return Towers(users, self.told, items, read, bias, second, offset, pull, intake)


def _tower(inputs: int, model: Mllmrec) -> nn.Sequential:
    return nn.Sequential(Linear(inputs, model.hidden), nn.LeakyReLU(float(SLOPE)), Linear(model.hidden, model.dim))
