"""evaluate(): rank the held-out items of every user, in full or among seeded candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from penchant import among, metrics, topk
from penchant.among import Candidates
from penchant.data import Ids
from penchant.errors import BadSetting, Leak, Misaligned
from penchant.model import Recommender
from penchant.protocols import COLD
from penchant.split import Split
from penchant.topk import Scores

__all__ = ["Candidates", "Evaluation", "Task", "evaluate", "metric_names"]


@dataclass(frozen=True)
class Task:
    """What is asked of a model at test time.

    mask: parts whose items cannot be recommended. history: parts that the model may know of the user. min_test: users
    with fewer held-out items are not evaluated. only_cold: only the split's cold items compete. seed: of ties.
    """

    part: str = "test"
    at: tuple[int, ...] = (10, 20)
    mask: tuple[str, ...] = ("train", "valid")
    history: tuple[str, ...] = ("train", "valid")
    candidates: Candidates | None = None
    min_test: int = 1
    only_cold: bool = False
    metrics: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.at or min(self.at) < 1:
            raise BadSetting(f"[protocol] at = {list(self.at)} must be list lengths of at least 1, e.g. [10, 20]")
        if self.part in self.history or self.part in self.mask:
            raise BadSetting(f"[protocol] mask or history contains {self.part!r}, the part that is asked about")
        if self.candidates is not None and self.candidates.items < 2:
            raise BadSetting("[protocol] candidates must be at least 2: the held-out item and one other")
        if self.candidates is not None and self.only_cold:
            raise BadSetting("[protocol] only_cold ranks all cold items; leave out either it or candidates")
        for name in self.metrics:
            metrics.parse(name)

    @property
    def ranking(self) -> str:
        """As printed beside every number."""
        kind = "full" if self.candidates is None else f"candidates@{self.candidates.items}"
        return kind + (f" {COLD}" if self.only_cold else "")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics of this task."""
        return self.metrics or metric_names(self.at)


def metric_names(at: Sequence[int]) -> tuple[str, ...]:
    """Recall, NDCG, precision, hit and MRR at each length, and the uncut map, mrr and auc."""
    return tuple(f"{m}@{k}" for m in ("recall", "ndcg", "precision", "hit", "mrr") for k in at) + ("map", "mrr", "auc")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Values of one fitted model on one task.

    users: (B,) rows of those evaluated. per_user: metric -> (B,). items, scores: their top lists (B, max(at)), -1 where
    a list ends early; empty for candidate ranking.
    """

    task: Task
    ids: Ids
    users: np.ndarray
    per_user: dict[str, np.ndarray] = field(repr=False)
    items: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)

    @property
    def mean(self) -> dict[str, float]:
        """Mean over users."""
        return {name: float(value.mean()) if len(value) else float("nan") for name, value in self.per_user.items()}


def evaluate(
    scorer: Scores, split: Split, task: Task | None = None, *, lists: bool = True, **settings: Any
) -> Evaluation:
    """Rank the held-out items of `task.part` for everyone with at least `min_test` of them.

    settings: fields of Task, e.g. evaluate(rec, split, part="test", at=(10, 20)).

    Train-only masking and full ranking are the literature's protocol; the default also knows and masks valid. Raises
    Diverged on NaN scores, BadSetting when nobody can be evaluated, Leak when the model was trained on what is asked.
    """
    task = replace(task or Task(), **settings)
    if isinstance(scorer, Recommender):
        _check_seen(scorer, split, task.part)
    held = split.held(task.part)
    if task.only_cold:
        held = _only(held, _cold(split))
    users = np.flatnonzero(np.diff(held.indptr) >= task.min_test)
    if not len(users):
        raise BadSetting(
            f"no user has {task.min_test} held-out items in {task.part}; lower min_test or split otherwise"
        )
    held = held[users]
    queries = split.queries(task.part, task.history, users)
    mask = split.known(task.mask).matrix()[users] if task.mask else None
    only = _cold(split) if task.only_cold else None
    k = min(max(task.at), len(split.items))  # a longer list holds all items
    empty = np.zeros((len(users), 0))
    if task.candidates is not None:
        chosen = split.known(("train", "valid", "test")).matrix()[users]
        per_user = among.per_user(scorer, queries, held, chosen, task.candidates, task.names, task.seed)
        _consistent(per_user, held)
        return Evaluation(task, split.users, users, per_user, empty.astype(np.int64), empty.astype(np.float32))
    ranks = topk.ranks(scorer, queries, held, mask, only, task.seed)
    per_user = metrics.per_user(task.names, ranks.query, ranks.rank, len(users), ranks.candidates)
    _consistent(per_user, held)
    if not lists:
        return Evaluation(task, split.users, users, per_user, empty.astype(np.int64), empty.astype(np.float32))
    items, scores = topk.top(scorer, queries, k, mask, only, task.seed)
    return Evaluation(task, split.users, users, per_user, items, scores)


def _check_seen(rec: Recommender, split: Split, part: str) -> None:
    """Raises Misaligned for a model of other users or items, Leak for one that was trained on held-out choices."""
    for mine, theirs in ((rec.users, split.users), (rec.items, split.items)):
        if mine != theirs:
            raise Misaligned(f"{rec.name} was fitted on other {mine.kind}s than this split has. Fit it on split.train.")
    held = split.held(part)
    seen = rec.known.matrix(len(rec.items)).multiply(held).nnz
    if seen and part != "train":
        raise Leak(
            f"{rec.name} was trained on {seen} of the {held.nnz} held-out choices of {part}: it was fitted on another "
            "split or on everything. Fit it on this split's train part:  fit(split.train, split.valid)"
        )


def _consistent(per_user: dict[str, np.ndarray], held: sparse.csr_matrix) -> None:
    """Where everyone has one held-out item, cuts bound one another: no table leaves here that cannot be true."""
    if (np.diff(held.indptr) == 1).all():
        means = {name: float(value.mean()) for name, value in per_user.items()}
        wrong = metrics.check_identities({name: mean for name, mean in means.items() if np.isfinite(mean)})
        if wrong:
            raise RuntimeError(f"metrics contradict one another, which is an error of Penchant itself: {wrong[0]}")


def _cold(split: Split) -> np.ndarray:
    if split.cold is None:
        raise BadSetting('cold items are asked for, but the split has none. Use:  split = { by = "cold_items" }')
    only = np.zeros(len(split.items), bool)
    only[split.cold] = True
    return only


def _only(held: sparse.csr_matrix, only: np.ndarray) -> sparse.csr_matrix:
    kept = held.multiply(only[None, :].astype(np.float32)).tocsr()
    kept.eliminate_zeros()
    return kept
