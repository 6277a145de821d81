"""Plug-in: what models share that put terms about texts beside any backbone's own objective."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from penchant.batches import Triples
from penchant.data import Interactions
from penchant.errors import BadSetting, MissingInput
from penchant.features import Features
from penchant.model import Model
from penchant.nn import EmbeddingNet

__all__ = ["Texts", "backbone_of", "taken", "width"]


class Texts(nn.Module):
    """Vectors of texts, one side: about users, or about items. They are data, not trained.

    values: (n, D), has: (n,) bool, rows: those that have a text. What has none is left out of every term.
    """

    values: torch.Tensor
    has: torch.Tensor
    rows: torch.Tensor

    def __init__(self, name: str, features: Features) -> None:
        super().__init__()
        if features.present.sum() < 2:
            kind, count = features.ids.kind, int(features.present.sum())
            raise MissingInput(
                f"`{name}`: {count} of {len(features.ids)} {kind}s {'have' if count != 1 else 'has'} a text; one is told from "
                f"another, so 2 must. Have more written (penchant enrich DATA {kind}_motives --lm extractive) and name them in [inputs]"
            )
        for field, value in (
            ("values", torch.tensor(features.values)),
            ("has", torch.tensor(features.present)),
            ("rows", torch.tensor(np.flatnonzero(features.present))),
        ):
            self.register_buffer(field, value, persistent=False)

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    def those(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows among these that have a text, repetitions kept. (B,) -> (<= B,)"""
        return rows[self.has[rows]]

    def read(self, g: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """g of the texts of these rows, each named once. (B,) -> (B, d)"""
        return g(self.values.index_select(0, rows))


def taken(batch: Triples, count: int | None) -> Triples:
    """`count` triples of a batch at random, or the batch."""
    if count is None or len(batch) <= count:
        return batch
    some = torch.randperm(len(batch), device=batch.user.device)[:count]
    return Triples(batch.user[some], batch.positive[some], batch.negative[some])


def backbone_of(plugin: str, backbone: Model, train: Interactions) -> EmbeddingNet:
    """The net of a plug-in's backbone. Raises BadSetting where it has no vectors of users and items to work on."""
    needs = [need.name for need in backbone.needs() if not (need.optional or need.many)]
    if needs or backbone.asks_for_features:
        wanted = ", ".join(needs) or "features of items"
        raise BadSetting(f"[model] {plugin}: backbone {backbone.name} asks for inputs of its own ({wanted}). {ADVICE}")
    net = backbone.build(train)
    if not isinstance(net, EmbeddingNet):
        raise BadSetting(f"[model] {plugin}: backbone {backbone.name} trains no vectors of users and items. {ADVICE}")
    return net


ADVICE = 'Choose one that does:  backbone = { name = "lightgcn", dim = 32 }'


@torch.no_grad()
def width(net: EmbeddingNet) -> int:
    """The length of a net's vectors, which may be several layers side by side."""
    was = net.training
    found = net.eval().embed().users.shape[1]
    net.train(was)
    return int(found)
