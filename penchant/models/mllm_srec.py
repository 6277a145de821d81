"""MllmSrec: a multimodal language model that has read a history as it unfolded says yes or no to the next choice.

"MLLM-SRec", Scientific Reports 2025, 10.1038/s41598-025-14251-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.catalog import Pictures
from penchant.data import Interactions
from penchant.judging import Judging, JudgingNet
from penchant.notes import Notes
from penchant.texts import Texts

__all__ = ["MllmSrec"]


@dataclass(frozen=True)
class MllmSrec(Judging):
    """summary: of each item, its words merged with what was answered about its picture (Fig. 3b), so that no picture stands in a
    history. notes: a preference text, carried forward over windows of summaries in the order of time (Fig. 3c). profile: a text of
    its own (Table 1). Asked about are profile, preference, and the thing with its picture and summary; the answer is one word,
    and s = p(yes) / (p(yes) + p(no)) from the logits at its place.

    Supervised fine-tuning: as many things that were not chosen as that were; low-rank adapters on the base; the loss is of the
    answer alone. **Where the paper is silent** (window sizes, how profiles come about, adapters, the wording): notes are carried
    forward from window to window, and a profile is one reading of all titles. **Departs from it**: what is said of a person in
    training is written from the choices before the one that is asked about, and not from the whole history; labels are choices and
    not ratings.
    """

    name: ClassVar[str] = "mllm_srec"

    def build(
        self,
        train: Interactions,
        summary: Texts,
        notes: Notes | None = None,
        profile: Notes | None = None,
        picture: Pictures | None = None,
    ) -> JudgingNet:
        return self.net(train, summary, notes, profile, picture)
