"""Weave: many linear readings of choices, words and pictures, each in closed form, woven by weights that ranking chooses.

Ours; docs/weave.md. What it weaves is others' and is named in `strands`: EASE (Steck 2019), random walks (Cooper et al.
2014), low-pass graph filters (Shen et al. 2021), texts and pictures as they are. Stacking: Wolpert, "Stacked
generalization", Neural Networks 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from penchant import metrics
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.features import Features
from penchant.model import Model
from penchant.scorers import ItemToItem, Scorer
from penchant.strands import Strands
from penchant.training import Undecided, Validation
from penchant.woven import FEW, chosen, rivals

__all__ = ["Weave"]

MOST_FEATURES = (
    16  # two strands each; what competes for 5,000 users takes up to 2.6 GB, and each weight is tried in turn
)
MOST_ITEMS = 15_000  # a table of items x items is 900 MB there, and there are ten


@dataclass(frozen=True)
class Weave(Model):
    """score = x sum_k w_k B_k, x the history, B_k the strands of `Strands`, w chosen to rank what is held out in valid.

    Features are optional, any number of named ones; each has two strands of its own and stands under X in another, so that
    how much a modality counts is learned. An item that nobody chose is found by them; somebody new is scored by her
    history as everybody is.
    Without a valid part, a tenth of train is held out to choose w, and strands are then made of all of train. Texts that were
    written from train know that tenth, and would be believed too much: with them, give it a valid part.
    l2: of EASE, each value a strand. alpha: of features under X. choose: the metric that w is to make large; that of a longer
    list than one means to show is less a matter of chance.
    Memory: ten tables I x I in single precision; time: about ten times I^3 operations.
    **Departs from the paper** of stacking: w is chosen on valid by ranking, not on folds of train by least squares.
    """

    l2: tuple[float, ...] = (50.0, 500.0)
    alpha: float = 4.0
    choose: str = "ndcg@100"
    name: ClassVar[str] = "weave"

    def build(self, train: Interactions, **features: Features) -> Loom:
        metrics.parse(self.choose)
        if not self.l2 or not all(value > 0 for value in self.l2) or not self.alpha >= 0:
            raise BadSetting(
                "[model] weave: l2 are one or more values above 0, alpha is 0 or more: l2 = [50, 500], alpha = 4"
            )
        if len(train.items) > MOST_ITEMS:
            raise BadSetting(
                f"weave holds items x items tables: {len(train.items)} items are too many (at most {MOST_ITEMS}). Try ease or item_knn."
            )
        # What says nothing has no strand: a second reading of choices alone would be one too many.
        features = {name: part for name, part in features.items() if part.centred().values.any()}
        if len(features) > MOST_FEATURES:
            raise BadSetting(
                f"weave weighs each of its features by itself: {len(features)} are too many (at most {MOST_FEATURES}). Join some in "
                '[inputs]:  looks = { from = ["features/a", "features/b"] }'
            )
        return Loom(self, train, features)


class Loom(Undecided):
    def __init__(self, model: Weave, train: Interactions, features: dict[str, Features]) -> None:
        self.model, self.train, self.features = model, train, features

    def strands(self, train: Interactions) -> Strands:
        return Strands(train, self.features, self.model.l2, self.model.alpha)

    def decide(self, validation: Validation | None, seed: int) -> Scorer:
        if validation is not None:
            strands = self.strands(self.train)
            return ItemToItem(strands.woven(self.weights(strands, self.train, validation.split.valid, seed)))
        kept, held = _apart(self.train, seed)
        weights = self.weights(self.strands(kept), kept, held, seed)
        return ItemToItem(self.strands(self.train).woven(weights))

    def weights(self, strands: Strands, known: Interactions, held: Interactions, seed: int) -> dict[str, float]:
        """What each strand is multiplied with, so that those in `known` are best given what is held out."""
        x, missing = known.matrix(), held.matrix()
        asked = np.flatnonzero(np.diff(missing.indptr) > 0)
        if len(asked) > FEW:
            asked = np.sort(np.random.default_rng(seed).choice(asked, FEW, replace=False))
        if not len(asked):
            raise BadSetting(
                "weave: nothing is held out to choose its weights by. Give it a valid part, or users with two choices and more"
            )
        found = rivals(strands, x[asked], missing[asked])
        w = chosen(found, self.model.choose, seed) / found.scale
        return dict(zip(strands.names, w.tolist(), strict=True))


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
