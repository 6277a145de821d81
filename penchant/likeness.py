"""Likeness: the items most like one, by behaviour or by content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from penchant import topk
from penchant.data import Ids, Queries
from penchant.errors import BadSetting, MissingInput, UnknownId, some
from penchant.intake import Stock
from penchant.scorers import Scorer

if TYPE_CHECKING:
    from penchant.model import Recommendation, Recommender

__all__ = ["By", "alike", "known", "scores_of"]

By = Literal["behaviour", "content"]


@dataclass(frozen=True)
class _Behaviour:
    scorer: Scorer

    def score(self, queries: Queries) -> np.ndarray:
        return self.scorer.likeness(queries.history_items)


@dataclass(frozen=True)
class _Content:
    """The mean cosine over the modalities that the asked item has, each without its mean over items of training; 0 in one that
    the other item lacks. units: (I, D) each, gaps 0."""

    units: tuple[np.ndarray, ...]

    def score(self, queries: Queries) -> np.ndarray:
        asked = queries.history_items
        has = np.stack([unit[asked].any(axis=1) for unit in self.units])  # (M, B)
        total = sum(unit[asked] @ unit.T for unit in self.units)
        return (total / np.maximum(has.sum(axis=0), 1)[:, None]).astype(np.float32)


def alike(rec: Recommender, items: Sequence[str], k: int, seed: int, by: By) -> list[Recommendation]:
    """What `Recommender.similar` documents."""
    from penchant.model import Recommendation

    if k < 1:
        raise BadSetting(f"k = {k} must be at least 1")
    if by not in ("behaviour", "content"):
        raise BadSetting(f'by = {by!r}: items are alike by "behaviour" or by "content"')
    rows = known(rec.items, items)
    queries = Queries.of(np.full(len(rows), -1), [[r] for r in rows])
    own = queries.matrix(len(rec.items))
    scores = scores_of(rec, by)
    found, score = topk.top(scores, queries, min(k, len(rec.items)), own, seed=seed)
    note = "" if rec.scorer.personal or by == "content" else "popular items: this model knows no likeness"
    out = []
    for key, row, near, value in zip(items, rows, found, score, strict=True):
        lost = by == "content" and isinstance(scores, _Content) and not any(unit[row].any() for unit in scores.units)
        live = (near >= 0) & (not lost)
        keys = tuple(rec.items.keys[i] for i in near[live])
        said = "nothing is known of this item's content: no features tell what is like it" if lost else note
        out.append(Recommendation(key, keys, tuple(map(float, value[live])), said))
    return out


def scores_of(rec: Recommender, by: By) -> topk.Scores:
    """Scores likeness to the item that a history ends in, of one item each. Raises MissingInput where no features are kept."""
    return _Behaviour(rec.scorer) if by == "behaviour" else _Content(_units(rec.name, rec.stock))


def known(ids: Ids, keys: Sequence[str]) -> np.ndarray:
    """Rows of keys that must all be known. (n,) int64. Raises UnknownId, which says what there is; BadInput for one key alone."""
    rows = ids.rows(keys)
    if (rows < 0).any():
        there = f"There are {len(ids):,} {ids.kind}s, e.g. {some(ids.keys[:3])}; all are in  rec.{ids.kind}s.keys"
        raise UnknownId(ids.kind, keys[int(np.flatnonzero(rows < 0)[0])], ids.keys, there)
    return rows


def _units(model: str, stock: Stock | None) -> tuple[np.ndarray, ...]:
    if stock is None:
        raise MissingInput(
            f"this {model} keeps no features of items, so it knows none by content. Ask by behaviour (--by behaviour), or fit it with features "
            'of items:  [inputs]  text = { from = "catalog.text", encoder = "minilm" }'
        )
    return stock.units
