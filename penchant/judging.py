"""Judging: a language model trained to say yes or no to the next choice, after notes on the choices before it.

A pair is a person at one moment and a thing: yes for what was chosen next, no for something never chosen. What is said of the
person is written from the choices before that moment alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from penchant.album import Album
from penchant.batches import Pairs
from penchant.catalog import Pictures
from penchant.data import Interactions, digest
from penchant.errors import BadSetting, BadTable, Leak
from penchant.judge import Base, Judge, Readers
from penchant.lm.sharing import Shared, loss
from penchant.lm.tiny import Tiny
from penchant.lm.tuned import Lora, Rows
from penchant.lm.wording import Wording
from penchant.model import Model
from penchant.notes import Notes
from penchant.texts import Texts

__all__ = ["Judging", "JudgingNet", "moments"]


TAIL = 3  # tokens at the end of what is said of a person: where the thing begins


@dataclass(frozen=True)
class Judging(Model):
    """What models that train a Judge can be set to.

    base: the language model: "tiny", made here for the catalogue, with `dim`, `layers`, `words` (entries of its tokenizer); or a
    folder of transformers or a name on the Hugging Face Hub (as for `lm`, "local:" may stand before it), a causal model, a LLaVA 1.5, a Qwen2-VL or Qwen2.5-VL. rank, alpha, dropout: of the low-rank adapters on it; rank 0 trains all
    its weights, as tiny always does.
    pairs: questions of an epoch, half of them yes. whole: the loss is of every token, where it is of the answer alone.
    steps: how the notes came about is shown, too. lately: so many of the newest choices are named, too, by what stands before
    the first stop of their summaries. pictures: the thing's picture is shown, where there is one and the model sees.
    word_dropout: share of the tokens said of a person that are left out, drawn anew each time, so that nobody is learned by heart;
    for tiny. decay: AdamW's, of all trained weights.
    item_tokens: of what is said of a thing. accumulate: parts that a batch is read in, one after the other. recompute:
    see `lm.tuned.Tuned`.
    """

    base: str = "tiny"
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.1
    pairs: int = 20_000
    whole: bool = False
    steps: bool = False
    lately: int = 0
    pictures: bool = True
    item_tokens: int = 80
    accumulate: int = field(default=1, repr=False)  # how it is computed is no part of what a checkpoint belongs to
    recompute: bool = field(default=False, repr=False)
    dim: int = 128
    layers: int = 3
    words: int = 6000
    word_dropout: float = 0.0
    decay: float = 0.0
    least: ClassVar[dict[str, float]] = {
        "pairs": 2,
        "item_tokens": 1,
        "lately": 0,
        "accumulate": 1,
        "words": 300,
        "layers": 1,
    }

    def net(
        self, train: Interactions, summary: Texts, notes: Notes | None, profile: Notes | None, picture: Pictures | None
    ) -> JudgingNet:
        if self.base == "tiny" and self.dim % 8:  # four heads, and each turns its numbers in pairs
            raise BadSetting(f"[model] {self.name} dim = {self.dim} must be a multiple of 8:  dim = 128")
        for name in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise BadSetting(
                    f"[model] {self.name} {name} = {getattr(self, name):g} is the share to drop, below 1:  {name} = 0.1"
                )
        for name, made in (("summary", summary), ("notes", notes), ("profile", profile)):
            if made is not None and made.source.interactions is not None:
                raise Leak(
                    f"`{name}` was written from what people chose or said: of a thing that is asked about, that may be what came of the very "
                    f'choice. Take texts of the catalogue alone:  summary = {{ from = "item_summary", lm = ... }}, items = "item_summary"'
                )
        return JudgingNet(self, train, summary, Readers(notes, profile), picture if self.pictures else None)


class JudgingNet(nn.Module):
    betas: ClassVar[tuple[float, float]] = (0.9, 0.95)
    clip: ClassVar[float] = 1.0  # of the gradient's length

    def __init__(
        self, model: Judging, train: Interactions, summary: Texts, readers: Readers, picture: Pictures | None
    ) -> None:
        super().__init__()
        self.model, self.train_part, self.readers = model, train, readers
        self.l2, self.decay = 0.0, model.decay
        small = model.base == "tiny"
        lora = None if small or not model.rank else Lora(model.rank, model.alpha, model.dropout)
        tiny, seed = Tiny(model.words, model.dim, model.layers), int(torch.initial_seed() % 2**31)
        self.base = Base(model.base.removeprefix("local:"), tiny, lora, seed, model.recompute)
        self.wording = Wording(small, "" if small else digest(train.hash)[:16], model.item_tokens)
        self.things = summary
        if (
            not small
        ):  # what is wrong with a folder shows before anything is asked; a tiny one is made of what was answered
            self._open((), picture)
            self.tuned.before([], self.judge.longest, self.judge.opening)
        user, end = moments(train, model.pairs // 2, self.base.seed)
        if not len(user):
            raise BadTable(
                f"{model.name} learns what was chosen next from what was not, and in train nobody chose twice, or everybody all there is. Hold out less, or use:  [model]  "
                'name = "popular"'
            )
        order = train.order()
        starts = np.searchsorted(train.user[order], np.arange(len(train.users) + 1))
        item = train.item[order].astype(np.int64)
        histories = [item[starts[u] : starts[u] + e] for u, e in zip(user.tolist(), end.tolist(), strict=True)]
        read = readers.read(histories, [train.users.keys[u] for u in user])
        self.user, self.target = user, item[starts[user] + end]
        said = (text for text in (*self.things.values, *(note.text for own, _ in read for note in own[-1:])) if text)
        if small:
            self._open(said, picture)
        persons = self.tuned.many([self.judge.said(*both) for both in zip(read, histories, strict=True)])
        self.befores = [self.tuned.before(person, self.judge.longest, self.judge.opening) for person in persons]
        self.negatives = Pairs(train, chosen=True)
        self.own = nn.ParameterList(self.tuned.own.values())

    def _open(self, said: Iterable[str], picture: Pictures | None) -> None:
        self.tuned, self.files = self.base.open(self.wording.system, said)
        self.print = "" if self.base.small else self.tuned.local.revision
        self.album = Album.of(picture, self.tuned, self.base.lora is not None)
        self.judge = self._judge()

    def _judge(self) -> Judge:
        shown = self.album
        looks = None if shown is None else shown.whole(self.tuned)
        seen = None if shown is None else shown.seen
        whose = self.train_part.users
        return Judge(
            self.tuned,
            self.base,
            self.wording,
            self.things,
            self.readers,
            self.model.steps,
            looks,
            seen,
            self.files,
            whose,
            self.model.lately,
        )

    def _apply(self, fn: Any, recurse: bool = True) -> JudgingNet:
        """Moves go to the whole model, of which what is trained here is a part."""
        self.tuned.model._apply(fn, recurse)
        return self

    def train(self, mode: bool = True) -> JudgingNet:
        self.tuned.model.train(mode)
        return super().train(mode)

    def steps(self, batch_size: int) -> int:
        """Of an epoch."""
        return -(-len(self.user) // max(1, batch_size // 2))

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[Rows | Shared, ...]]:
        """Each moment once, with what was chosen then and with something that was not; about equally long ones together."""
        drawn = self.negatives.negatives(self.user.astype(np.int64), rng)
        item = np.stack([self.target, drawn], axis=1)  # (P, 2)
        size = np.array([len(b) for b in self.befores])
        mixed = rng.permutation(len(size))
        step = max(1, batch_size // 2)
        for start in range(0, len(mixed), step * 16):
            part = mixed[start : start + step * 16]
            part = part[np.argsort(size[part], kind="stable")]
            cut = [part[at : at + step] for at in range(0, len(part), step)]
            for place in rng.permutation(len(cut)):
                pieces = np.array_split(cut[place], min(self.model.accumulate, len(cut[place])))
                yield tuple(self.rows(piece, item[piece], rng) for piece in pieces)

    def rows(self, moment: np.ndarray, item: np.ndarray, rng: np.random.Generator | None = None) -> Rows | Shared:
        """Questions about what was chosen, and about what was not, at these moments. (m,), (m, 2)"""
        said = [self.befores[m] for m in moment.tolist()]
        if rng is not None and self.model.word_dropout:
            said = [self.thinned(one, rng) for one in said]
        flat, yes = item.reshape(-1), [True, False] * len(moment)
        picture, pixels, looked = (None, None, False) if self.album is None else self.album.shown(flat)
        after = [self.judge.afters[i] for i in flat.tolist()]
        if self.model.whole or self.model.recompute:  # what is told in the shared part, or made again, is not shared
            before = [one for one in said for _ in range(2)]
            asked = list(zip(before, after, strict=True))
            return self.tuned.rows(asked, yes, self.model.whole, picture, pixels, looked)
        return Shared.of(self.tuned, said, after, yes, picture, pixels, looked)

    def thinned(self, before: list[int], rng: np.random.Generator) -> list[int]:
        """Without some of the tokens said of a person; what stands before and after them is whole."""
        head = len(self.tuned.parts.head) + len(self.judge.opening)
        keep = rng.random(len(before)) >= self.model.word_dropout
        keep[:head], keep[-TAIL:] = True, True
        return [token for token, kept in zip(before, keep.tolist(), strict=True) if kept]

    def loss(self, rows: Rows | Shared) -> torch.Tensor:
        return loss(self.tuned, rows) if isinstance(rows, Shared) else self.tuned.loss(rows)

    def finish(self) -> Judge:
        """The judge of the weights as they are; made anew only where it holds what they made of pictures."""
        return self.judge if self.album is None or self.base.lora is not None else self._judge()


def moments(train: Interactions, most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whose next choice is asked about, and how many choices come before it: at least one. One of everybody's at random, then another,
    and so on, as many as are wanted: notes at moments far apart differ, so that no person is learned by heart. (P,), (P,) int64"""
    n = np.bincount(train.user, minlength=len(train.users))
    left = n < len(np.unique(train.item))  # of others there is nothing to say no to
    user = np.repeat(np.arange(len(n)), np.maximum(n - 1, 0) * left)
    end = 1 + np.arange(len(user)) - np.searchsorted(user, user)
    mixed = np.random.default_rng(seed).random(len(user))
    drawn = np.lexsort((mixed, user))
    nth = np.empty(len(user), np.int64)
    nth[drawn] = np.arange(len(user)) - np.searchsorted(user, user)
    some = np.lexsort((user, nth))[:most]
    return user[some].astype(np.int64), end[some].astype(np.int64)
