"""Weave: many linear readings of choices, words and pictures, each in closed form, woven by weights that ranking chooses.

Ours; docs/weave.md. What it weaves is others' and is named in `strands`: EASE (Steck 2019), random walks (Cooper et al.
2014), low-pass graph filters (Shen et al. 2021), texts and pictures as they are. Stacking: Wolpert, "Stacked
generalization", Neural Networks 1992.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from penchant import metrics
from penchant.data import Interactions
from penchant.errors import Approximate, BadSetting
from penchant.features import Features
from penchant.fibres import Fibres
from penchant.model import Model
from penchant.scorers import Factors, Scorer
from penchant.strands import Pairs, Strands, taken
from penchant.training import Curve, Training, Undecided, Validation
from penchant.woven import FEW, chosen, rivals

__all__ = ["Weave"]

KEPT = 100
NO_FACTORS = (  # refused before anything is fitted
    *("bert4rec", "dmesr", "dpcml", "ease", "gru4rec", "hstu", "item_knn", "lmmrec", "mllm_msr", "mllm_srec"),
    *("mllmrec", "popular", "rerank", "sasrec", "weave"),
)
MOST_FEATURES = 16  # two strands each; what competes for 5,000 users takes up to 2.6 GB
MOST_ITEMS = 15_000  # a table of items x items is 900 MB there, and there are ten


@dataclass(frozen=True)
class Weave(Model):
    """score = x sum_k w_k B_k, x the history, B_k the strands of `Strands`, w chosen to rank what is held out in valid.

    Features are optional, any number of named ones; each has two strands of its own and stands under X in another, so that
    how much a modality counts is learned. An item that nobody chose is found by them; somebody new is scored by her
    history as everybody is.
    Without a valid part, a tenth of train is held out to choose w, and strands are then made of all of train. Texts that were
    written from train know that tenth, and would be believed too much: with them, give it a valid part.
    backbone: a factor model, fitted first, with the features it takes, by the same Training. People are folded into it by their histories
    alone, so it is a strand like the others, of low rank; biases are left out. Without one nothing is trained by gradient.
    l2: of EASE, each value a strand. alpha: of features under X. choose: the metric that w is to make large; that of a longer
    list than one means to show is less a matter of chance.
    kept: how many neighbours an item keeps in each strand, see `fibres`; None: all up to 15,000 items, and 100 beyond them, of
    which an `Approximate` warns.
    Memory: ten tables I x I in single precision; time: about ten times I^3 operations. With `kept`, see `Fibres`.
    **Departs from the paper** of stacking: w is chosen on valid by ranking, not on folds of train by least squares.
    """

    backbone: Model | None = None
    l2: tuple[float, ...] = (50.0, 500.0)
    alpha: float = 4.0
    choose: str = "ndcg@100"
    kept: int | None = None
    name: ClassVar[str] = "weave"
    decides: ClassVar[str] = "the weights of its strands"

    def __post_init__(self) -> None:
        if self.backbone is not None and self.backbone.name in NO_FACTORS:
            raise BadSetting(_no_factors(self.backbone))

    def build(self, train: Interactions, **features: Features) -> Loom:
        metrics.parse(self.choose)
        if not self.l2 or not all(value > 0 for value in self.l2) or not self.alpha >= 0:
            raise BadSetting(
                "[model] weave: l2 are one or more values above 0, alpha is 0 or more: l2 = [50, 500], alpha = 4"
            )
        if self.kept is not None and self.kept < 1:
            raise BadSetting(f"[model] weave kept = {self.kept}: each item keeps 1 neighbour or more: kept = {KEPT}")
        if self.kept is None and len(train.items) > MOST_ITEMS:
            warnings.warn(
                f"weave: {len(train.items)} items are too many for tables of items x items (at most {MOST_ITEMS}). Each item keeps {KEPT} "
                f"neighbours, see docs/weave.md. To choose how many:  kept = {KEPT}",
                Approximate,
                stacklevel=3,
            )
        # What says nothing has no strand: a second reading of choices alone would be one too many.
        features = {name: part for name, part in features.items() if part.centred().values.any()}
        if len(features) > MOST_FEATURES:
            raise BadSetting(
                f"weave weighs each of its features by itself: {len(features)} are too many (at most {MOST_FEATURES}). Join some in "
                '[inputs]:  looks = { from = ["features/a", "features/b"] }'
            )
        names = taken(self.l2, None if self.backbone is None else self.backbone.name)
        for name in features:
            if name in names | {f"{other} as is" for other in features}:
                raise BadSetting(
                    f"weave calls a strand of its own `{name}`, so no input can be called that. Give it another name in "
                    "[inputs], such as  text  or  image"
                )
        return Loom(self, train, features)


class Loom(Undecided):
    def __init__(self, model: Weave, train: Interactions, features: dict[str, Features]) -> None:
        self.model, self.train, self.features = model, train, features

    def decide(
        self,
        validation: Validation | None,
        training: Training,
        folder: Path | None = None,
        progress: Callable[[Curve], None] | None = None,
    ) -> tuple[Scorer, Curve]:
        fit = partial(self.fitted, folder=folder, progress=progress)
        if validation is not None:
            held = validation.split.valid
            vectors, curve = fit(self.train, held, training)
            strands = self.strands(self.train, vectors)
            return strands.scorer(self.weights(strands, self.train, held, training.seed)), curve
        kept, held = _apart(self.train, training.seed)
        vectors, curve = fit(kept, held, training)
        weights = self.weights(self.strands(kept, vectors), kept, held, training.seed)
        vectors, curve = fit(self.train, None, replace(training, epochs=max(curve.best_epoch, 1)))
        return self.strands(self.train, vectors).scorer(weights), curve

    def fitted(
        self, train: Interactions, valid: Interactions | None, training: Training, **where: Any
    ) -> tuple[Pairs, Curve]:
        """The backbone's vectors; how it fared on valid is left out of the curve, for it says nothing of the whole."""
        backbone = self.model.backbone
        if backbone is None:
            return {}, Curve()
        needs = backbone.needs()
        many, names = any(need.many for need in needs), {need.name for need in needs}
        own: dict[str, Any] = {name: part for name, part in self.features.items() if many or name in names}
        fitted = backbone.fit(train, valid, training, **where, **own)
        if not isinstance(fitted.scorer, Factors):
            raise BadSetting(_no_factors(backbone))
        curve = replace(fitted.curve, value=(None,) * len(fitted.curve.epoch))
        return {backbone.name: (fitted.scorer.fold, fitted.scorer.item)}, curve

    def strands(self, train: Interactions, vectors: Pairs) -> Strands | Fibres:
        l2, alpha = self.model.l2, self.model.alpha
        if self.model.kept is None and len(train.items) <= MOST_ITEMS:
            return Strands(train, self.features, l2, alpha, vectors)
        return Fibres(train, self.features, l2, alpha, vectors, self.model.kept or KEPT)

    def weights(
        self, strands: Strands | Fibres, known: Interactions, held: Interactions, seed: int
    ) -> dict[str, float]:
        """What each strand is multiplied with, so that those in `known` are best given what is held out."""
        x, missing = known.matrix(), held.matrix()
        asked = np.flatnonzero(np.diff(missing.indptr) > 0)
        if len(asked) > FEW:
            asked = np.sort(np.random.default_rng(seed).choice(asked, FEW, replace=False))
        if not len(asked):
            raise BadSetting(
                "weave: nothing is held out to choose its weights by. Give it a valid part, or users with two choices and more. "
                'Of people with one choice each nothing can be learned but what most choose:  [model] name = "popular"'
            )
        found = rivals(strands, x[asked], missing[asked])
        w = chosen(found, self.model.choose, seed) / found.scale
        return dict(zip(strands.names, w.tolist(), strict=True))


def _no_factors(backbone: Model) -> str:
    return (
        f"[model] weave backbone = {backbone.name}: its scores are not products of two vectors. Choose a factor model:  "
        'backbone = { name = "lightgcn" }'
    )


def _apart(train: Interactions, seed: int, share: float = 0.1) -> tuple[Interactions, Interactions]:
    """train without, and only, a random tenth of each user's choices, one at least, of users with two or more.

    Of so many of those users that it is about a tenth of train: strands of much less than train would be weighed wrongly.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(train)), train.user))
    user = train.user[order]
    count = np.bincount(user, minlength=len(train.users))
    nth = np.arange(len(user)) - (np.cumsum(count) - count)[user]
    out = nth < np.where(count > 1, np.maximum((share * count).astype(np.int64), 1), 0)[user]
    most = max(int(share * len(train)), 1)
    if out.sum() > most:
        people = np.unique(user[out])
        asked = max(len(people) * most // int(out.sum()), 1)
        out &= np.isin(user, np.random.default_rng([seed, 1]).choice(people, asked, replace=False))
    return train.take(np.sort(order[~out])), train.take(np.sort(order[out]))
