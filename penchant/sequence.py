"""SequenceNet: what models share that read a history in its order and tell the next choice."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant import losses
from penchant.batches import Pairs, Sequences, Windows
from penchant.data import Interactions
from penchant.errors import BadSetting, BadTable, MissingInput
from penchant.features import Features
from penchant.modal import Contents
from penchant.model import Model
from penchant.nn import Linear, plain
from penchant.readers import Reader, Spoken

__all__ = ["Attention", "SequenceModel", "SequenceNet", "grid", "lanes", "packed"]

LOSSES = ("softmax", "bce")
TEXT = 'Add to [inputs]:  text = { from = "catalog.text", encoder = "minilm" }'
LANES = (3, 6, 12, 24)  # lengths up to which rows are padded together


@dataclass(frozen=True)
class SequenceModel(Model):
    """What all models of sequences can be set to.

    A score is h . e_i, h what was read of the history, of which each choice i is read as sqrt(d) e_i:
    e_i = id_i + sum_m W_m f_i^m, f^m features of modality m, centred, of length 1; without `ids` the sum alone, so that an
    item nobody has chosen has a vector, too.

    dim: d. length: choices that are read, the newest. dropout: of vectors read, and within blocks.
    loss: "softmax", -log softmax of the choice among all items, or with `contrast` among so many drawn ones that stand for all;
    "bce", -log sigmoid of the choice and of 1 - one item that the user chose nowhere. l2: of all parameters.
    """

    dim: int = 64
    layers: int = 2
    heads: int = 1
    length: int = 50
    dropout: float = 0.2
    loss: str = "softmax"
    contrast: int | None = None
    ids: bool = True
    l2: float = 0.0

    def check(self, features: Mapping[str, Features]) -> None:
        """Raises BadSetting."""
        if self.loss not in LOSSES:
            raise BadSetting(
                f'[model] {self.name} loss = "{self.loss}" is not known; choose one of: {", ".join(LOSSES)}'
            )
        if self.loss == "bce" and self.contrast is not None:
            raise BadSetting(
                f'[model] {self.name} contrast is of loss = "softmax"; with "bce" a choice is told from one item. Leave it out.'
            )
        if not 0 <= self.dropout < 1:
            raise BadSetting(
                f"[model] {self.name} dropout = {self.dropout:g} is the share to drop, below 1:  dropout = 0.2"
            )
        if self.heads < 1 or self.dim % self.heads:
            raise BadSetting(f"[model] {self.name} heads = {self.heads} must divide dim = {self.dim}:  heads = 1")
        if not self.ids and not features:
            raise BadSetting(
                f"[model] {self.name} ids = false leaves an item nothing but its features, and [inputs] names none. {TEXT}"
            )


class SequenceNet(nn.Module, ABC):
    """A subclass writes `read`, and `scorer`, the class that reads the same without torch. Raises BadSetting, and BadTable where
    nobody chose twice."""

    betas: ClassVar[tuple[float, float]] = (0.9, 0.98)
    scorer: ClassVar[type[Reader]]
    chosen: torch.Tensor | None

    def __init__(self, model: SequenceModel, train: Interactions, features: Mapping[str, Features]) -> None:
        super().__init__()
        model.check(features)
        self.model, self.l2, self.train_part = model, model.l2, train
        self.scale = math.sqrt(model.dim)  # of what is read
        self.windows = Windows(train, model.length + 1, shared=1)
        if not len(self.windows.bounds):
            raise BadTable(
                f"{model.name} learns what follows what, and in train nobody chose twice. Hold out less, or use:  [model]  "
                'name = "popular"'
            )
        self.pairs = Pairs(train, chosen=True)
        # What says nothing is left out, so that it changes nothing.
        said = {name: part for name, part in features.items() if part.centred().values.any()}
        if not model.ids and not said:
            raise MissingInput(f"{model.name}: no item differs from another in {', '.join(features)}. {TEXT}")
        self.contents = Contents.of(said)
        self.names = tuple(said)
        chosen = torch.from_numpy(np.bincount(train.item, minlength=len(train.items)) > 0)
        ids = 0.02 * torch.randn(len(chosen), model.dim) * chosen[:, None]
        self.ids = nn.Parameter(ids) if model.ids else None  # (I, d)
        rows = None if chosen.all() else chosen.nonzero().reshape(-1)
        self.register_buffer("chosen", rows, persistent=False)  # items that anybody chose; None for all
        self.projections = nn.ModuleList(Linear(c.dim, model.dim, bias=False) for c in self.contents)  # W_m
        self.more: nn.Module | None = None  # what a plug-in adds to each item's vector, () -> (I, d)

    @abstractmethod
    def read(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        """What has been read up to each choice, x its vectors. (N, d) -> (N, d)"""

    def items(self) -> torch.Tensor:
        """e of all items. (I, d)"""
        parts: list[torch.Tensor] = [] if self.ids is None else [self.ids]
        parts += [w(c.values) for c, w in zip(self.contents, self.projections, strict=True)]
        parts += [] if self.more is None else [self.more()]
        found: torch.Tensor = parts[0]
        for part in parts[1:]:
            found = found + part
        return found

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Sequences]:
        """Each choice but the last of a window is read, and the next one is its target."""
        nothing = np.zeros(0, np.int64)
        for rows, size, _ in self.windows.epoch(rng, batch_size):
            item = self.train_part.item[rows].astype(np.int64)
            last = np.cumsum(size) - 1
            read, told = np.ones(len(rows), bool), np.ones(len(rows), bool)
            read[last], told[last - size + 1] = False, False
            drawn = nothing
            if self.model.loss == "bce":
                drawn = self.pairs.negatives(self.train_part.user[rows[told]], rng)
            yield packed(item[read], size - 1, self.model.length, item[told], drawn)

    def loss(self, batch: Sequences) -> torch.Tensor:
        e = self.items()
        h = self.read(self.dropped(self.scale * F.embedding(batch.item, e)), batch)
        return self.told(h, e, batch.target, batch.negative)

    def dropped(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.model.dropout, self.training)

    def told(self, h: torch.Tensor, e: torch.Tensor, target: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        """The loss of states h, each of which is to tell its target. (n, d), (I, d), (n,), (n,) or empty"""
        own = (h * F.embedding(target, e)).sum(-1)
        if self.model.loss == "bce":
            other = (h * F.embedding(negative.clamp(min=0), e)).sum(-1)
            other = other.masked_fill(negative < 0, -math.inf)  # who chose everything is told nothing she would not
            return F.softplus(-own).mean() + F.softplus(other).mean()
        if self.chosen is not None:  # what nobody could choose is told from nothing
            e, target = F.embedding(self.chosen, e), torch.searchsorted(self.chosen, target)
        return losses.crowd(h, e, contrast=self.model.contrast, own=target) - own.mean()

    @torch.no_grad()
    def finish(self) -> Reader:
        inner = ("ids", "projections.", "contents.", "more.")
        net = {n: plain(v) for n, v in self.state_dict().items() if not n.startswith(inner)}
        net["length"], net["heads"] = np.array(self.model.length), np.array(self.model.heads)
        told = {n: plain(w) for n, w in zip(self.names, self.projections.parameters(), strict=True)}
        return self.scorer(plain(self.items()), net, Spoken(told) if told else None)


def packed(item: np.ndarray, size: np.ndarray, length: int, target: np.ndarray, negative: np.ndarray) -> Sequences:
    """Sequences of these sizes, end to end."""
    row = np.repeat(np.arange(len(size)), size)
    at = np.arange(len(item)) - np.repeat(np.cumsum(size) - size, size)
    place = at + length - size[row]
    columns = (item, row, at, place, target, negative)
    return Sequences(*(torch.from_numpy(np.ascontiguousarray(column, np.int64)) for column in columns))


class Attention(nn.Module):
    """softmax(Q K' / sqrt(d / heads)) V, then a product with W_o, over each row of a batch; over earlier places only if `causal`.

    Only products of queries and keys are padded, and among rows of about equal length.
    """

    def __init__(self, dim: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.inward, self.outward = Linear(dim, 3 * dim), Linear(dim, dim)

    def forward(self, x: torch.Tensor, batch: Sequences) -> torch.Tensor:
        """(N, d) -> (N, d)"""
        inward, told, parts = self.inward(x), [], []
        drop = self.dropout if self.training else 0.0
        for mine, where, rows, width in lanes(batch):
            padded = grid(F.embedding(mine, inward), where, rows * width).view(rows, width, 3, self.heads, -1)
            q, k, v = padded.permute(2, 0, 3, 1, 4)  # (rows, heads, width, d / heads) each
            mask = None
            if not self.causal:
                mask = x.new_zeros(rows * width, dtype=torch.bool).index_fill_(0, where, True).view(rows, 1, 1, width)
            found = F.scaled_dot_product_attention(q, k, v, mask, drop, is_causal=self.causal)
            told.append(mine)
            parts.append(F.embedding(where, found.transpose(1, 2).reshape(rows * width, -1)))
        return self.outward(grid(torch.cat(parts), torch.cat(told), len(x)))


def lanes(batch: Sequences) -> Iterator[tuple[torch.Tensor, torch.Tensor, int, int]]:
    """Rows of about equal length together, so that the long ones pad no short ones: which choices (n,), where each stands in a
    table of rows x width (n,), rows, width."""
    lane = torch.bucketize(torch.bincount(batch.row), torch.tensor(LANES, device=batch.row.device))  # (B,)
    for number in range(len(LANES) + 1):
        here = lane == number
        mine = here[batch.row].nonzero().reshape(-1)
        if len(mine):
            row, at = (here.cumsum(0) - 1)[batch.row[mine]], batch.at[mine]
            width = int(at.max()) + 1
            yield mine, row * width + at, int(row[-1]) + 1, width


def grid(x: torch.Tensor, where: torch.Tensor, size: int) -> torch.Tensor:
    """Rows of x at these rows of a table of zeros. (N, d) -> (size, d)"""
    return x.new_zeros(size, x.shape[1]).index_copy(0, where, x)
