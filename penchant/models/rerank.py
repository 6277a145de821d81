"""Rerank: a fast model's best items in the order of a slow one, or of a blend of both that is chosen on valid.

As MLLM-SRec and MLLM-MSR are used on catalogues that are too large to ask about every item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from penchant import metrics, topk
from penchant.binding import Input
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.judging import Judging
from penchant.model import Model, Need
from penchant.ranker import Known, Ranker, Reranked, blended, shortlist
from penchant.scorers import Scorer
from penchant.training import Curve, Training, Undecided, Validation

__all__ = ["Rerank"]

AMONG = 21  # candidates that `second` is validated among
BLOCK = 512  # people looked at at once
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Rerank(Model):
    """s = (1 - weight) s_1 + weight s_2 among the `depth` best of `first` that somebody has not chosen yet, each standardised there.

    Both are fitted on the same train part, each with those inputs that it asks for. weight: None to choose it on valid among
    twelve from 0, the lists of `first`, to 1, by the metric that the epoch of `first` is chosen by, all items ranked; the epoch of
    `second` by its AUC among 21 candidates. epochs, batch_size, learning_rate: of `second`, where they differ from those of `first`.
    """

    first: Model
    second: Model
    depth: int = 100
    weight: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    name: ClassVar[str] = "rerank"
    decides: ClassVar[str] = "the weight of the second model"
    keeps: ClassVar[tuple[str, ...]] = ("weight",)
    least: ClassVar[dict[str, int]] = {"depth": 1}

    def __post_init__(self) -> None:
        if not isinstance(self.second, Judging):
            raise BadSetting(
                f"[model] rerank second = {self.second.name}: it scores all items at once, so there is nothing to save. Choose a model that "
                'rates single things:  second = { name = "mllm_srec" }'
            )

    def needs(self) -> tuple[Need, ...]:
        """Those of both; what one of them must have is needed."""
        both = [need for model in (self.first, self.second) for need in model.needs()]
        must = {need.name for need in both if not need.optional}
        return tuple({n.name: n._replace(optional=n.name not in must) for n in both}.values())

    def build(self, train: Interactions, **inputs: Any) -> Reranking:
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise BadSetting(
                f"[model] rerank weight = {self.weight:g} is a share, from 0 to 1. Leave it out to have it chosen."
            )
        return Reranking(self, train, inputs)


class Reranking(Undecided):
    def __init__(self, model: Rerank, train: Interactions, inputs: dict[str, Input]) -> None:
        self.model, self.train, self.inputs = model, train, inputs

    def decide(
        self,
        validation: Validation | None,
        training: Training,
        folder: Path | None = None,
        progress: Callable[[Curve], None] | None = None,
    ) -> tuple[Scorer, Curve]:
        m = self.model
        valid = None if validation is None else validation.split.valid
        told = {n: getattr(m, n) for n in ("epochs", "batch_size", "learning_rate") if getattr(m, n) is not None}
        few = training.among or max(2, min(AMONG, len(self.train.items) // 2))
        first = self.fitted(m.first, valid, replace(training, among=None), folder, "first", progress)
        slow = replace(training, select="auc", among=few, **told)
        second = self.fitted(m.second, valid, slow, folder, "second", progress)
        assert isinstance(second, Ranker)
        if m.weight is not None:
            return Reranked(first, second, m.depth, m.weight), Curve()
        if validation is None:
            raise BadSetting(
                "[model] rerank chooses its weight on valid, and there is none. Say it, as a run with one has found it:  "
                "--set model.weight=0.3"
            )
        return Reranked(first, second, m.depth, self.weight(first, second, validation)), Curve()

    def fitted(
        self,
        model: Model,
        valid: Interactions | None,
        training: Training,
        folder: Path | None,
        part: str,
        progress: Any,
    ) -> Scorer:
        needs = model.needs()
        names = {need.name for need in needs}
        many = any(need.many for need in needs)
        own = {n: v for n, v in self.inputs.items() if n in names or (many and isinstance(v, Features))}
        place = None if folder is None else folder / part
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        rec = model.fit(self.train, valid, training, folder=place, progress=progress, **own)
        return rec.scorer

    def weight(self, first: Scorer, second: Ranker, validation: Validation) -> float:
        """The weight that is best on valid; the smallest of equally good ones. Each candidate is rated once for all weights."""
        everybody = validation.split.queries("valid", ("train",))
        held, mask = validation.split.held("valid"), validation.split.train.matrix()
        found: dict[float, list[np.ndarray]] = {weight: [] for weight in WEIGHTS}
        for start in range(0, len(everybody), BLOCK):
            queries = everybody.take(slice(start, start + BLOCK))
            own = first.score(queries)
            best = shortlist(own, queries, self.model.depth)
            other = second.rate(queries, best)
            for weight in WEIGHTS:
                scores = blended(own, best, other, weight) if weight else own
                ranks = topk.ranks(Known(scores), queries, held[queries.users], mask[queries.users])
                each = metrics.per_user([validation.select], ranks.query, ranks.rank, len(queries), ranks.candidates)
                found[weight].append(each[validation.select])
        means = [float(np.mean(np.concatenate(found[weight]))) for weight in WEIGHTS]
        return WEIGHTS[int(np.argmax(means))]
