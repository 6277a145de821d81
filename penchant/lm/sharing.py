"""Sharing: what is said of a person is read once, and its keys and values serve for all things that are asked about, in training
and in scoring."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from penchant.errors import TooLarge
from penchant.lm.tuned import Tuned

__all__ = ["Shared", "apart", "loss"]

MOST = 2**17  # tokens read at once
NEAR = 2**22  # on a CPU, numbers of one state of all of them: 16 MB stay near to it, 32 MB take twice as long
Tokens = list[int]


@dataclass(frozen=True, eq=False)
class Shared:
    """A batch of people who are each asked about equally many things, with the answers.

    ids, mask: (B, P), what is said of each, padded on the left. after, after_mask, label: (B C, S), what is asked, person by person, and
    the answer, padded on the right; label -100 where no loss is. picture, pixels, looked: as in `tuned.Rows`.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    after: torch.Tensor
    after_mask: torch.Tensor
    label: torch.Tensor
    picture: torch.Tensor
    pixels: torch.Tensor
    looked: bool = False

    def __len__(self) -> int:
        return len(self.after)

    @property
    def tokens(self) -> int:
        """That are read."""
        return int(self.mask.sum() + self.after_mask.sum())

    @staticmethod
    def of(
        tuned: Tuned,
        before: Sequence[Tokens],
        after: Sequence[Tokens],
        yes: Sequence[bool],
        picture: np.ndarray | None = None,
        pixels: torch.Tensor | None = None,
        looked: bool = False,
    ) -> Shared:
        ids, mask = padded(before, tuned, left=True)
        ends = [tuned.parts.answers[0 if one else 1] for one in yes]
        whole, whole_mask = padded([a + end for a, end in zip(after, ends, strict=True)], tuned, left=False)
        label = torch.full_like(whole, -100)
        for n, (a, end) in enumerate(zip(after, ends, strict=True)):
            label[n, len(a) : len(a) + len(end)] = torch.tensor(end)
        where = np.full(len(after), -1) if picture is None else picture
        none = torch.zeros(0, 3, 1, 1) if pixels is None else pixels
        return Shared(ids, mask, whole, whole_mask, label, torch.as_tensor(where, dtype=torch.long), none, looked)


def loss(tuned: Tuned, batch: Shared) -> torch.Tensor:
    """Mean over questions of -log P of the answer, as `Tuned.loss` of whole prompts; each person is read once, there and back."""
    each = len(batch.after) // len(batch.ids)
    with tuned.mixed():
        place = (batch.mask.cumsum(1) - 1).clamp(min=0)
        words = tuned.words(batch.ids)
        past = tuned.decoder(
            inputs_embeds=words, attention_mask=batch.mask, position_ids=place, use_cache=True
        ).past_key_values
        past.batch_repeat_interleave(each)
        looks = tuned.seen(batch.pixels, batch.looked)
        begin = batch.mask.sum(1).repeat_interleave(each)[:, None]
        h = tuned.decoder(
            inputs_embeds=tuned.embedded(batch.after, looks, batch.picture),
            attention_mask=torch.cat([batch.mask.repeat_interleave(each, 0), batch.after_mask], 1),
            past_key_values=past,
            position_ids=tuned.positions(batch.after, begin),
            use_cache=True,
        ).last_hidden_state
        told = batch.label[:, 1:] >= 0  # state t tells token t + 1
        nats = F.cross_entropy(
            tuned.capped(tuned.head(h[:, :-1][told])).float(), batch.label[:, 1:][told], reduction="sum"
        )
    return nats / len(batch.after)


@torch.no_grad()
def apart(
    tuned: Tuned,
    before: Sequence[Tokens],
    after: Sequence[Sequence[Tokens]],
    looks: Sequence[Sequence[Any]] | None = None,
) -> list[np.ndarray]:
    """z_yes - z_no of each thing, by person. (C_b,) float32 each

    before: B shared parts, as `Tuned.before`. after: for each, the parts of its C_b things, as `Tuned.after`. looks: (n, d) of the
    picture of each, or None.
    """
    found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(before)
    order = sorted(range(len(before)), key=lambda b: -len(before[b]))
    most = min(MOST, NEAR // tuned.words.weight.shape[1]) if tuned.device.type == "cpu" else MOST
    start = 0
    while start < len(order):
        near = order[start : start + 64]
        each = max(max((len(a) for a in after[b]), default=1) * len(after[b]) for b in near)
        some = near[: max(1, most // max(len(before[near[0]]) + each, 1))]
        shown = None if looks is None else [looks[b] for b in some]
        try:
            told = _together(tuned, [before[b] for b in some], [after[b] for b in some], shown, most)
        except torch.OutOfMemoryError:  # fewer at once, down to one person and one thing
            if most < len(before[some[0]]):
                raise TooLarge(
                    f"one question of {len(before[some[0]]):,} tokens does not fit into the memory of {tuned.device}. Say less of each thing:  "
                    "--set model.item_tokens=40  or take a smaller base"
                ) from None
            most //= 2
            continue
        for b, z in zip(some, told, strict=True):
            found[b] = z
        start += len(some)
    return found


def _together(
    tuned: Tuned, before: list[Tokens], after: list[Sequence[Tokens]], looks: list[Sequence[Any]] | None, most: int
) -> list[np.ndarray]:
    """Of people whose shared parts are read together, padded on the left."""
    people, pad = len(before), [tuned.pad]
    ids, mask = padded(before, tuned, left=True)
    place = (mask.cumsum(1) - 1).clamp(min=0)
    found = [np.zeros(len(one), np.float32) for one in after]
    with tuned.mixed():
        words = tuned.words(ids)
        out = tuned.decoder(inputs_embeds=words, attention_mask=mask, position_ids=place, use_cache=True)
        count = max(map(len, after))
        longest = max((len(a) for one in after for a in one), default=1)
        step = max(1, most // max((ids.shape[1] + longest) * people, 1))
        for start in range(0, count, step):
            # Everybody is asked about equally many things: where one has fewer, about nothing, which is forgotten.
            size = min(step, count - start)
            few = [list(one[start : start + size]) for one in after]
            flat = [a for one in few for a in [*one, *[pad] * (size - len(one))]]
            seen = None
            if looks is not None:
                some = [list(one[start : start + size]) for one in looks]
                seen = [v for one in some for v in [*one, *[None] * (size - len(one))]]
            new, new_mask = padded(flat, tuned, left=False)
            past = deepcopy(out.past_key_values)
            past.batch_repeat_interleave(size)
            begin = mask.sum(1).repeat_interleave(size)[:, None]
            h = tuned.decoder(
                inputs_embeds=_embedded(tuned, new, seen),
                attention_mask=torch.cat([mask.repeat_interleave(size, 0), new_mask], 1),
                past_key_values=past,
                position_ids=tuned.positions(new, begin),
                use_cache=True,
            ).last_hidden_state
            last = h[torch.arange(len(h), device=h.device), new_mask.sum(1) - 1]
            with torch.autocast(tuned.device.type, enabled=False):
                told = tuned.told(last).cpu().numpy().reshape(people, size)
            for n, one in enumerate(found):
                one[start : start + size] = told[n, : max(len(one) - start, 0)]
    return found


def _embedded(tuned: Tuned, ids: torch.Tensor, looks: Sequence[Any] | None) -> torch.Tensor:
    there = [] if looks is None else [v for v in looks if v is not None]
    if looks is None or not there:
        return tuned.words(ids)
    which = np.cumsum([v is not None for v in looks]) - 1
    picture = torch.tensor(np.where([v is None for v in looks], -1, which), device=ids.device)
    return tuned.embedded(ids, torch.stack(there).to(ids.device), picture)


def padded(rows: Sequence[Tokens], tuned: Tuned, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask of rows of unequal length. (n, longest) int64 each"""
    width = max(max(map(len, rows)), 1)
    ids = torch.full((len(rows), width), tuned.pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for n, row in enumerate(rows):
        part = slice(width - len(row), width) if left else slice(0, len(row))
        ids[n, part] = torch.tensor(row, dtype=torch.long)
        mask[n, part] = 1
    return ids.to(tuned.device), mask.to(tuned.device)
