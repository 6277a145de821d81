"""Tuned: a language model from a folder whose answer, yes or no, is trained, and read off its logits for many things at once.

A question is in two parts, what is said of a person and what is said of a thing, each turned into tokens by itself, so that
the first part is read once for all things that are asked about, see `sharing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from penchant.errors import BadSetting, MissingExtra
from penchant.lm import Request
from penchant.lm.chat import EXTRA
from penchant.lm.local import open_local
from penchant.lm.sight import Places, sight_of

__all__ = ["ANSWERS", "Lora", "Parts", "Rows", "Tuned"]

ANSWERS = ("Yes", "No")
PERSON, THING = "{person}", "{thing}"  # where the two parts stand while a template is filled in


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on every linear layer of the part that writes. Hu et al., "LoRA", ICLR 2022."""

    rank: int = 8
    alpha: int = 32
    dropout: float = 0.1


@dataclass(frozen=True)
class Parts:
    """Tokens of a template around the two parts: head, person, middle, thing, tail, and those of each answer after it."""

    head: list[int]
    middle: list[int]
    tail: list[int]
    answers: tuple[list[int], list[int]]


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch of questions with their answers, padded on the right. ids, mask, label: (B, T); label -100 where no loss is.

    whole: the prompt's tokens are told, too. picture: (B,) rows of `pixels`, -1 for none. pixels: (P, ...), each picture of the batch
    once, or, where it is `looked` at already, what was made of it, (P, n, d).
    """

    ids: torch.Tensor
    mask: torch.Tensor
    label: torch.Tensor
    picture: torch.Tensor
    pixels: torch.Tensor
    whole: bool = False
    looked: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """That are read."""
        return int(self.mask.sum())


class Tuned:
    """folder: of a causal model, a LLaVA 1.5, a Qwen2-VL or Qwen2.5-VL of transformers. system: what it is told to do. lora: None to train all weights.
    recompute: what layers made is made again for the gradient, and not kept: a third more time, a fraction of the memory.

    Nothing is downloaded and no code of the folder is run. Raises BadModel, MissingFile, MissingExtra as `open_local`.
    """

    def __init__(
        self, folder: Path | str, system: str, lora: Lora | None, seed: int = 0, recompute: bool = False
    ) -> None:
        self.local = open_local(str(folder))
        self.chat, self.system, self.lora = self.local.chat, system, lora
        self.model = self.local.writer.model
        self.decoder, self.words = self.model.get_decoder(), self.model.get_input_embeddings()
        self.head = self.model.get_output_embeddings()
        self.model.requires_grad_(lora is None)
        if lora is not None:
            self._adapt(lora, seed)
        self.own = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        for p in self.own.values():
            p.data = p.data.float()  # steps of a small learning rate are lost in half precision
        if recompute:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def _adapt(self, lora: Lora, seed: int) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise MissingExtra("fine-tuning by LoRA", EXTRA) from None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear"
            )
            inject_adapter_in_model(config, self.decoder)

    def settle(self) -> None:
        """Reads what is still to be read of the folder, which may go afterwards."""
        _ = self.parts
        if self.sees:
            _ = self.chat.processor

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def pad(self) -> int:
        """The token that fills up a batch."""
        return int(self.model.generation_config.pad_token_id)

    @property
    def context(self) -> int:
        return self.chat.context

    @cached_property
    def parts(self) -> Parts:
        """Raises BadSetting where the two answers begin with the same token."""
        request = Request(self.system, f"{PERSON}{THING}")
        head, _, rest = self.chat.template.text(request).partition(PERSON)
        middle, _, tail = rest.partition(THING)
        drop, (yes, no) = self.chat.follow(tail, self.chat.gap(request, ANSWERS[0]), ANSWERS)
        end = self.tokens(tail)
        return Parts(self.chat.ids(head) if head else [], self.tokens(middle), end[: len(end) - drop], (yes, no))

    def tokens(self, text: str) -> list[int]:
        """Tokens of a part, without marks of a beginning or an end, and with no mark that a stranger's text spells."""
        ids: list[int] = self.chat.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
        return ids

    def many(self, texts: Sequence[str]) -> list[list[int]]:
        """As `tokens`, of several."""
        tame = [self.chat.template.tame(text) for text in texts]
        return self.chat.tokenizer(tame, add_special_tokens=False, verbose=False)["input_ids"] if tame else []

    def after(self, thing: list[int], picture: int = 0) -> list[int]:
        """What is asked about one thing, its picture in `picture` places before it, up to the answer."""
        shown = self.sight.around(picture) if picture and self.sight is not None else []
        return [*self.parts.middle, *shown, *thing, *self.parts.tail]

    def before(self, person: list[int], longest: int, opening: Sequence[int] = ()) -> list[int]:
        """What is shared by all that is asked about a person. longest: tokens of the longest `after`. opening: stands first. Where the context is too
        short the person's tokens are cut at their beginning: what is newest stands last, and thing and answer are whole.

        Raises BadSetting where the thing alone does not fit."""
        head = [*self.parts.head, *opening]
        room = self.context - len(head) - longest - max(map(len, self.parts.answers))
        if room < 0:
            raise BadSetting(
                f"{self.chat.name} reads {self.context:,} tokens, and what is asked about one thing takes {longest:,}. Take a base that reads more, or say less of each:  "
                "--set model.item_tokens=40"
            )
        return [*head, *person[max(len(person) - room, 0) :]]

    @cached_property
    def sight(self) -> Places | None:
        return sight_of(self.chat, self.model)

    @property
    def sees(self) -> bool:
        return self.sight is not None

    def positions(self, ids: torch.Tensor, begin: torch.Tensor) -> torch.Tensor:
        """Where tokens stand that come after `begin` others. (B, S), (B, 1) -> (B, S), or (3, B, S) on a grid"""
        plain = begin + torch.arange(ids.shape[1], device=ids.device)
        return plain if self.sight is None else self.sight.positions(ids, begin)

    @property
    def mark(self) -> int:
        """The token in whose place a picture stands; -1 for a model that sees none."""
        return -1 if self.sight is None else self.sight.mark

    def pixels(self, images: Sequence[Any]) -> torch.Tensor:
        """Pictures as the model takes them. (P, ...)"""
        assert self.sight is not None
        return self.sight.pixels(images)

    def looks(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the model makes of pictures: vectors that stand among those of words. (P, ...) -> (P, n, d)"""
        assert self.sight is not None
        return self.sight.looks(pixels.to(self.device))

    def seen(self, pixels: torch.Tensor, looked: bool) -> torch.Tensor | None:
        """`looks` of a batch's pictures; None where it has none."""
        if not len(pixels):
            return None
        return pixels.to(self.device) if looked else self.looks(pixels)

    def embedded(self, ids: torch.Tensor, looks: torch.Tensor | None, picture: torch.Tensor | None) -> torch.Tensor:
        """Vectors of tokens, those of pictures in the places that are theirs. (B, T) -> (B, T, d)"""
        x = self.words(ids)
        if looks is None or picture is None:
            return x
        there = ids == self.mark
        return x.masked_scatter(there[..., None], looks[picture[picture >= 0]].to(x.dtype))

    def told(self, h: torch.Tensor) -> torch.Tensor:
        """z_yes - z_no of states, in 32 bits: in 16, logits of many things would be the same. (n, d) -> (n,)"""
        yes, no = (answer[0] for answer in self.parts.answers)
        z = F.linear(h.float(), self.head.weight[[yes, no]].float())
        bias = getattr(self.head, "bias", None)
        z = self.capped(z if bias is None else z + bias[[yes, no]].float())
        return z[:, 0] - z[:, 1]

    def capped(self, z: torch.Tensor) -> torch.Tensor:
        """Logits as the model means them: Gemma 2 keeps them between -30 and 30, Cohere and Granite scale them."""
        config = self.model.config.get_text_config()
        z = z * (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return z if cap is None else cap * torch.tanh(z / cap)

    # ---- training

    def loss(self, rows: Rows) -> torch.Tensor:
        """Mean over questions of -log P of the answer, or, where the prompt's tokens are told too, of the mean token."""
        with self.mixed():
            looks = self.seen(rows.pixels, rows.looked)
            x = self.embedded(rows.ids, looks, rows.picture)
            place = self.positions(rows.ids, torch.zeros_like(rows.ids[:, :1]))
            h = self.decoder(
                inputs_embeds=x, attention_mask=rows.mask, position_ids=place, use_cache=False
            ).last_hidden_state
            told = rows.label[:, 1:] >= 0  # state t tells token t + 1
            z = self.capped(self.head(h[:, :-1][told]))
            nats = F.cross_entropy(z.float(), rows.label[:, 1:][told], reduction="none")
            return nats.sum() / (len(nats) if rows.whole else len(told))

    def rows(
        self,
        asked: Sequence[tuple[list[int], list[int]]],
        answer: Sequence[bool],
        whole: bool,
        picture: np.ndarray | None = None,
        pixels: torch.Tensor | None = None,
        looked: bool = False,
    ) -> Rows:
        """A batch. whole: the loss is of every token, and not of the answer alone."""
        texts = [before + after for before, after in asked]
        ends = [self.parts.answers[0 if yes else 1] for yes in answer]
        width = max(len(t) + len(e) for t, e in zip(texts, ends, strict=True))
        ids = torch.full((len(texts), width), self.pad, dtype=torch.long)
        mask, label = torch.zeros_like(ids), torch.full_like(ids, -100)
        for n, (text, end) in enumerate(zip(texts, ends, strict=True)):
            size = len(text) + len(end)
            ids[n, :size] = torch.tensor(text + end)
            mask[n, :size] = 1
            begin = 0 if whole else len(text)
            label[n, begin:size] = ids[n, begin:size]
        if whole and self.sees:
            label[ids == self.mark] = -100
        none = torch.full((len(texts),), -1, dtype=torch.long)
        where = none if picture is None else torch.as_tensor(picture, dtype=torch.long)
        return Rows(ids, mask, label, where, torch.zeros(0, 3, 1, 1) if pixels is None else pixels, whole, looked)

    # ---- the machine

    @contextmanager
    def mixed(self) -> Iterator[None]:
        """bfloat16 on a graphics card."""
        if self.device.type != "cuda":
            yield
            return
        with torch.autocast("cuda", torch.bfloat16):
            yield
