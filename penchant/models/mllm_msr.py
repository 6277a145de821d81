"""MllmMsr: a recurrent summary of what somebody prefers, and a multimodal language model that answers for the next thing.

Ye et al., "Harnessing multimodal large language models for multimodal sequential recommendation" (MLLM-MSR), AAAI 2025,
arXiv 2408.09698.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.catalog import Pictures
from penchant.data import Interactions
from penchant.judging import Judging, JudgingNet
from penchant.notes import Notes
from penchant.texts import Texts

__all__ = ["MllmMsr"]


@dataclass(frozen=True)
class MllmMsr(Judging):
    """summary: of each item, its words and what its picture shows, each as long as the other; without pictures, its words alone.
    notes: h_1 = LM(B_1), h_k = LM(B_k, h_{k-1}) over blocks B_k of three choices in the order of time, the one that is asked about
    excluded (section 3.3): in a recipe  notes = { from = "preference_step", window = 3, ... }, and the paper's direct variant is
    { from = "user_preference", ... }. Asked about are the last h and the thing, with its picture; p = p(yes) / (p(yes) + p(no))
    (eq. 1), at the first place of the answer.

    **Departs from the paper**: the loss is of the answer alone, where eq. 2 and its code have the prompt in it, too (`whole`); each
    choice of somebody may be asked about in training, after notes on those before it, where the paper has one moment a person;
    tokens of yes and no are those that follow the very prompt, and not found by their spelling.
    """

    name: ClassVar[str] = "mllm_msr"

    def build(
        self, train: Interactions, summary: Texts, notes: Notes | None = None, picture: Pictures | None = None
    ) -> JudgingNet:
        return self.net(train, summary, notes, None, picture)
