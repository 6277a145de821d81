"""Dmesr: what a language model wrote of an item's picture and of its words, aligned, and each fused with the words themselves.

DMESR, arXiv 2602.13715, 2026, of which we could read the abstract alone: it names the three parts, and how each is made here is
our reading of it. The nearest published code is that of LLM-ESR, whose senior author is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from penchant import losses
from penchant.batches import Sequences
from penchant.data import Interactions
from penchant.errors import BadSetting, MissingInput
from penchant.features import Features
from penchant.fused import Fused
from penchant.fusion import Fusion
from penchant.model import Model
from penchant.nn import plain
from penchant.readers import Reader
from penchant.sequence import SequenceModel, SequenceNet

__all__ = ["Dmesr"]


@dataclass(frozen=True)
class Dmesr(Model):
    """L = L_rec + weight_align L_align, L_rec and all of its settings, also l2 and what is read of a history, of the backbone,
    any model of sequences. Its items have the vector e_i = id_i + W_p [f_i^v ; f_i^t]; without `ids` of the backbone the latter alone.

    v_i: `picture`, the vector of what was written of the picture. t_i: `text`, of what was written of the words. o_i: `tokens`,
    vectors of `token_dim` entries, D, one for each of up to T tokens of the words, side by side in a row of T D numbers; a
    token of zeros is padding. Adapters, a = A v + b, bring v and t to the backbone's width d.
    f_i^v = norm(a + W_v sum_t softmax_t(q k_t / sqrt(d)) o_it) with q = W_q a + b_q, k_t = W_k o_it, and f_i^t likewise with weights of
    its own. Padding has no part in the softmax. An item without tokens is given nothing there, and one without a picture, or
    without words about it, has v or t = 0, the mean, and is left out of the alignment. cross = false: f = norm(a).
    L_align = -1/2 mean_i (log softmax_j(cos(a_i^v, a_j^t) / temperature)_i + log softmax_j(cos(a_i^t, a_j^v) / temperature)_i), i and j items that
    a batch reads or tells, each once, and of them `contrast` at random, in each step anew ("none" in a recipe: all).
    Vectors and tokens are centred, of length sqrt(their width).

    Nothing here depends on the user: when training ends, e is one table in the backbone's own scorer, and serving costs what the
    backbone costs. In training it is made once a step, for all I items, whatever the loss. Vectors and tokens themselves
    are frozen; keys and values are not, and would be I T vectors made anew; but q k_t = (W_k' q) o_t, and a mean of W_v o_t is W_v of a
    mean. So a step costs about 4 I (T D + d D) multiplications for both views, forward, in place of 4 I T d D (T = 16, d = 64: 13
    times fewer), and three times that with gradients. 12,000 items, T = 16, D = 384: 300 MB, a quarter of a second on one core.

    **Departs from the paper**, as far as it could be read: one head; cosines and temperature of the alignment, the weights and the widths are
    our choice; its description of the text and its text are two inputs, which may be made of the same words.
    """

    backbone: Model
    token_dim: int = 384
    cross: bool = True
    weight_align: float = 0.1
    temperature: float = 0.2
    contrast: int | None = 512
    name: ClassVar[str] = "dmesr"
    least: ClassVar[dict[str, float]] = {"token_dim": 1}
    usual_backbone: ClassVar[str] = '{ name = "sasrec", dim = 64 }'

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, SequenceModel):
            told = getattr(self.backbone, "name", type(self.backbone).__name__)
            raise BadSetting(
                f"[model] dmesr: backbone {told} reads no sequences. Choose one that does:  backbone = {self.usual_backbone}"
            )

    def build(self, train: Interactions, picture: Features, text: Features, tokens: Features) -> DmesrNet:
        assert isinstance(self.backbone, SequenceModel)
        if self.cross and tokens.dim % self.token_dim:
            raise BadSetting(
                f"[model] dmesr token_dim = {self.token_dim}, but `tokens` has rows of {tokens.dim} numbers, which is no whole number of "
                'tokens. Encode it by tokens:  tokens = { from = "catalog.text", encoder = "minilm-tokens" }'
            )
        if self.cross and not tokens.values.any():
            raise MissingInput(
                f"dmesr: none of {len(tokens.ids)} items has a token in `tokens`. Name words in [inputs]:  "
                'tokens = { from = "catalog.text", encoder = "minilm-tokens" }, or go without:  [model] cross = false'
            )
        net = replace(self.backbone, ids=True).build(train)
        if not self.backbone.ids:
            net.ids = None
        fusion = Fusion(self.backbone.dim, picture, text, tokens if self.cross else None, self.token_dim)
        both = int(fusion.both.sum())
        if self.weight_align and both < 2:
            raise MissingInput(
                f"dmesr aligns `picture` with `text`, and {both} of {len(fusion.both)} items have both, in vectors that tell one from "
                "another; 2 must. Have more written, or align nothing:  [model] weight_align = 0"
            )
        return DmesrNet(self, net, fusion)


class DmesrNet(nn.Module):
    """The backbone's net, whose items are given `fusion`, and the alignment."""

    def __init__(self, model: Dmesr, net: SequenceNet, fusion: Fusion) -> None:
        super().__init__()
        self.model, self.net, self.l2, self.betas = model, net, net.l2, net.betas
        net.more = fusion

    @property
    def fusion(self) -> Fusion:
        assert isinstance(self.net.more, Fusion)
        return self.net.more

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Sequences]:
        return self.net.batches(rng, batch_size)

    def loss(self, batch: Sequences) -> torch.Tensor:
        total = self.net.loss(batch)
        if self.model.weight_align:
            total = total + self.model.weight_align * self.aligned(batch)
        return total

    def aligned(self, batch: Sequences) -> torch.Tensor:
        """L_align; 0 where fewer than two items of the batch have both."""
        items = torch.cat([batch.item, batch.target[batch.target >= 0]]).unique()
        items = items[self.fusion.both[items]]
        if self.model.contrast is not None and len(items) > self.model.contrast:
            items = items[torch.randperm(len(items), device=items.device)[: self.model.contrast]]
        v, t = self.fusion.adapted(items)
        if len(items) < 2:
            return v.new_zeros(())
        tau = self.model.temperature
        return (losses.infonce(v, t, t, tau) + losses.infonce(t, v, v, tau)) / 2

    @torch.no_grad()
    def finish(self) -> Reader:
        fusion = self.fusion
        net = {name: plain(value) for name, value in fusion.state_dict().items()}
        return replace(self.net.finish(), intake=Fused(self.model.token_dim, fusion.mean, net))
