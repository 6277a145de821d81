"""Faithful: whether the evidence of a reason is what the score rests on. What it names is taken out of the history.

DeYoung et al., "ERASER: a benchmark to evaluate rationalized NLP models", ACL 2020, call this comprehensiveness: how much
lower the score is without the evidence. It says something only beside other deletions of the same size: at random, of
popular items, and of the items that are most like the one that is explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penchant import topk
from penchant.data import Queries
from penchant.errors import BadSetting
from penchant.metrics import paired
from penchant.model import Recommender

__all__ = ["Deletion", "Faithfulness", "faithfulness"]

WAYS = ("random", "popular", "similar")
BLOCK = 1024  # histories that are scored at a time


@dataclass(frozen=True)
class Deletion:
    """What another deletion takes off the score. ratio: the evidence's mean drop over this one's; p: paired t-test, two-sided."""

    way: str
    drop: float
    ratio: float
    p: float


@dataclass(frozen=True)
class Faithfulness:
    """drop: mean fall of the score when the evidence is deleted, over `users` users with enough history."""

    users: int
    size: int
    drop: float
    others: tuple[Deletion, ...]


def faithfulness(rec: Recommender, users: Sequence[int], size: int = 2, draws: int = 20, seed: int = 0) -> Faithfulness:
    """Deletes the evidence of each user's first recommendation from her history, and as many items in other ways.

    She is scored by her history alone, as a stranger, because a score that does not read the history cannot fall.
    Users with fewer than size + 2 choices are left out; BadSetting when nobody is left.
    """
    if not rec.scorer.personal:
        raise BadSetting(
            f"faithfulness: {rec.name} recommends the same to everybody, so that no history carries its scores. Give the run of "
            "a model that reads them, e.g. ease"
        )
    starts, items = rec.known.history_starts, rec.known.history_items
    histories = [np.unique(items[starts[u] : starts[u + 1]]) for u in users]
    histories = [h for h in histories if len(h) >= size + 2]
    if not histories:
        raise BadSetting(
            f"faithfulness: no user with at least {size + 2} choices. Give more users (--users), or a smaller size (--size)"
        )
    rng = np.random.default_rng(seed)
    target = _first(rec, histories, seed)
    count = np.maximum(rec.popularity, 0)
    kept: list[np.ndarray] = []
    for history, item in zip(histories, target.tolist(), strict=True):
        order = {
            "evidence": np.argsort(-rec.scorer.carried(-1, history, item), kind="stable"),
            "popular": np.argsort(-count[history], kind="stable"),
            "similar": np.argsort(-rec.scorer.likeness(np.array([item]))[0, history], kind="stable"),
        }
        kept += [history, *(np.delete(history, order[way][:size]) for way in ("evidence", "popular", "similar"))]
        kept += [np.delete(history, rng.choice(len(history), size, replace=False)) for _ in range(draws)]
    each = 4 + draws
    score = _scores(rec, kept, np.repeat(target, each)).reshape(-1, each)  # (U, 4 + draws)
    drop = score[:, :1] - score
    own = drop[:, 1]
    found = {"random": drop[:, 4:].mean(axis=1), "popular": drop[:, 2], "similar": drop[:, 3]}
    others = []
    for way in WAYS:
        mean = float(found[way].mean())
        same = bool(np.allclose(own, found[way]))
        p = 1.0 if same or len(own) < 2 else paired(own, found[way]).p
        others.append(Deletion(way, mean, float(own.mean()) / mean if mean > 0 else float("inf"), p))
    return Faithfulness(len(histories), size, float(own.mean()), tuple(others))


def _first(rec: Recommender, histories: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """The item that each history is recommended first. (U,)"""
    queries = Queries.of(np.full(len(histories), -1), list(histories))
    return topk.top(rec.scorer, queries, 1, queries.matrix(len(rec.items)), seed=seed)[0][:, 0]


def _scores(rec: Recommender, histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
    """Each history's score of its item. (N,)"""
    found = []
    for start in range(0, len(histories), BLOCK):
        some = list(histories[start : start + BLOCK])
        score = rec.scorer.score(Queries.of(np.full(len(some), -1), some))
        found.append(score[np.arange(len(some)), items[start : start + BLOCK]])
    return np.concatenate(found).astype(np.float64)
