"""Metrics: pure functions of held-out ranks and of top-k lists, and what can be said of their means.

Nothing here knows a model or a split. Ranks come from `topk.ranks`: 1 is the best place among the items that compete
for that user. All users are handled at once; there is no loop over users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy.special import stdtr, stdtrit

from penchant.errors import BadSetting, BadTable, Misaligned, UnknownKey

__all__ = [
    "LIST_METRICS",
    "RANK_METRICS",
    "Metric",
    "Paired",
    "bootstrap",
    "check_identities",
    "coverage",
    "gini",
    "holm",
    "maxdiv",
    "maxdiv_per_user",
    "novelty",
    "novelty_per_user",
    "paired",
    "parse",
    "per_user",
]

RANK_METRICS = ("auc", "hit", "map", "mrr", "ndcg", "precision", "recall")
LIST_METRICS = ("coverage", "gini", "maxdiv", "novelty")
MAY_BE_UNCUT = ("auc", "map", "mrr")
OTHER_NAMES = {"hr": "hit", "success": "hit", "p": "precision", "r": "recall", "rr": "mrr", "ap": "map"}


@dataclass(frozen=True)
class Metric:
    """A parsed name: kind "recall", k 20 (None where the whole ranking counts), of_lists: needs no held-out ranks."""

    kind: str
    k: int | None
    of_lists: bool


def parse(name: str) -> Metric:
    """The metric of a name such as "recall@20", "mrr" or "maxdiv@10".

    Raises UnknownKey with the nearest known name, BadSetting where the cut is missing, zero or makes no sense.
    """
    kind, at, cut = name.partition("@")
    is_length = re.fullmatch("[1-9][0-9]*", cut) is not None
    if kind.lower() in OTHER_NAMES:
        raise BadSetting(f"the metric `{name}` is written `{OTHER_NAMES[kind.lower()]}{at}{cut}` here.")
    if kind not in RANK_METRICS + LIST_METRICS:
        known = [k if k == "auc" else f"{k}@{cut if is_length else 20}" for k in RANK_METRICS + LIST_METRICS]
        raise UnknownKey("Penchant", name, known, "metric")
    if kind == "auc" and at:
        raise BadSetting(f"the metric `auc` looks at the whole ranking. Write `auc`, not `{name}`.")
    if not is_length and (at or kind not in MAY_BE_UNCUT):
        raise BadSetting(f"the metric `{name}` needs a length of list, from 1. Write for example `{kind}@20`.")
    return Metric(kind, int(cut) if at else None, kind in LIST_METRICS)


def per_user(
    names: Sequence[str], query: np.ndarray, rank: np.ndarray, queries: int, candidates: np.ndarray
) -> dict[str, np.ndarray]:
    """Each metric for each user, from the ranks of the held-out items.

    query, rank: (M,) int, one entry per held-out pair, in any order: the user's row 0..queries-1 and the item's place,
    from 1, among the candidates of that user; two items of a user never share a place. candidates: (queries,) int.
    Returns one (queries,) float64 array per name; NaN for users without any held-out pair, who cannot be judged.

    With h held-out items of a user at places r_1 < ... < r_h among n candidates, and those with r_j <= k counted:

        recall@k      hits / h                            precision@k   hits / k, even where n < k
        hit@k         1 if there is a hit                 mrr@k         1 / r_1 if r_1 <= k, else 0
        ndcg@k        sum 1/log2(r_j + 1), over the same sum at places 1 .. min(k, h)
        map@k         sum j/r_j, over min(k, h)           (trec_eval divides by h; equal where h <= k)
        auc           share of pairs of a held-out and another candidate in the right order; .5 without any other
    """
    metrics = {name: parse(name) for name in names}
    for name, metric in metrics.items():
        if metric.of_lists:
            raise BadSetting(f"`{name}` is a metric of lists, not of held-out ranks: call metrics.{metric.kind}")
    query, rank, candidates = (np.asarray(column, np.int64) for column in (query, rank, candidates))
    if len(query) != len(rank) or len(candidates) != queries:
        raise Misaligned(f"{len(query)} queries, {len(rank)} ranks; {len(candidates)} candidates for {queries} users")
    order = np.lexsort((rank, query))
    query, rank = query[order], rank[order]
    _check_places(query, rank, queries, candidates)

    held = np.bincount(query, minlength=queries)
    nth = np.arange(len(query)) - (np.cumsum(held) - held)[query] + 1  # the j of r_j

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(query, weights=weights, minlength=queries)

    found: dict[str, np.ndarray] = {}
    for name, metric in metrics.items():
        k = metric.k or int(max(rank.max(initial=1), held.max(initial=1)))
        hit = (rank <= k).astype(np.float64)
        first = hit * (nth == 1)
        ideal = np.maximum(np.minimum(held, k), 1)
        if metric.kind == "recall":
            value = total(hit) / np.maximum(held, 1)
        elif metric.kind == "precision":
            value = total(hit) / k
        elif metric.kind == "hit":
            value = total(first)
        elif metric.kind == "mrr":
            value = total(first / rank)
        elif metric.kind == "map":
            value = total(hit * nth / rank) / ideal
        elif metric.kind == "ndcg":
            best = np.cumsum(1 / np.log2(np.arange(2, ideal.max(initial=1) + 2)))
            value = total(hit / np.log2(rank + 1)) / best[ideal - 1]
        else:
            pairs = held * (candidates - held)
            value = np.where(pairs > 0, 1 - total(rank - nth) / np.maximum(pairs, 1), 0.5)
        found[name] = np.where(held > 0, value, np.nan)
    return found


def _check_places(query: np.ndarray, rank: np.ndarray, queries: int, candidates: np.ndarray) -> None:
    """Raises BadTable on ranks that no ranking can produce. query and rank are sorted together."""
    if len(query) and (query[0] < 0 or query[-1] >= queries):
        raise BadTable(f"queries run from {query[0]} to {query[-1]}, but there are {queries} users (0..{queries - 1})")
    off = np.flatnonzero((rank < 1) | (rank > candidates[query]))
    if len(off):
        user, place = query[off[0]], rank[off[0]]
        raise BadTable(f"user row {user} has an item on place {place}; places run from 1 to {candidates[user]} there")
    twice = np.flatnonzero((query[1:] == query[:-1]) & (rank[1:] == rank[:-1]))
    if len(twice):
        raise BadTable(f"user row {query[twice[0]]} has two items on place {rank[twice[0]]}; break ties first")


def coverage(top: np.ndarray, items: int) -> float:
    """Share of all items that stand in at least one list. top: (B, k) item rows, -1 where a list ends early."""
    return len(np.unique(top[top >= 0])) / items


def gini(top: np.ndarray, items: int) -> float:
    """How unequally the lists treat the items: 0 where all are shown equally often, near 1 where a few take all.

    The Gini coefficient of the number of lists each item is in, over all `items`, shown or not. top: (B, k), -1 gaps.
    """
    shown = np.sort(np.bincount(top[top >= 0], minlength=items)).astype(np.float64)
    return (
        0.0
        if not shown.sum()
        else float(2 * (np.arange(1, items + 1) @ shown) / (items * shown.sum()) - (items + 1) / items)
    )


def novelty_per_user(top: np.ndarray, popularity: np.ndarray, users: int) -> np.ndarray:
    """Mean surprise -log2(share of users who chose the item) of each list, in bits. (B,); NaN for an empty list.

    top: (B, k), -1 gaps. popularity: (I,) users per item in train, out of `users`; nobody counts as one, to be finite.
    """
    surprise = -np.log2(np.maximum(np.asarray(popularity, np.float64), 1) / users)
    with np.errstate(invalid="ignore"):
        return np.append(surprise, 0)[top].sum(axis=1) / (top >= 0).sum(axis=1)


def novelty(top: np.ndarray, popularity: np.ndarray, users: int) -> float:
    """Mean of `novelty_per_user` over the users with a list; higher is more surprising. NaN if nobody has one."""
    listed = (top >= 0).any(axis=1)
    return float(novelty_per_user(top[listed], popularity, users).mean()) if listed.any() else float("nan")


def maxdiv_per_user(top: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Sum over ordered pairs of listed items of their squared distance. (B,) float64

    MaxDiv of the DPCML paper (arXiv 2209.15292). top: (B, k) item rows, -1 gaps; vectors: (I, d). For n listed vectors
    sum_ij |v_i - v_j|^2 = 2 n sum_i |v_i|^2 - 2 |sum_i v_i|^2, so no pair is ever formed.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)  # distances stay, less is lost in the subtraction
    v = np.vstack([centred, np.zeros(vectors.shape[1])])  # a gap, -1, points at the zero row
    squares = (v * v).sum(axis=1)[top].sum(axis=1)
    summed = sum((v[column] for column in top.T), np.zeros((len(top), v.shape[1])))  # (B, d)
    return np.maximum(2 * ((top >= 0).sum(axis=1) * squares - (summed * summed).sum(axis=1)), 0)


def maxdiv(top: np.ndarray, vectors: np.ndarray) -> float:
    """Mean of `maxdiv_per_user` over all users. It grows with k and with the scale of the vectors."""
    return float(maxdiv_per_user(top, vectors).mean()) if len(top) else float("nan")


def bootstrap(values: np.ndarray, seed: int, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of the mean over users: 2.5th and 97.5th percentile of the means of resampled users.

    values: (U,), one number a user; average over seeds first. Raises BadTable on no users or NaN.
    """
    values = _judged(values)
    rng, n = np.random.default_rng(seed), len(values)
    means = np.empty(draws)
    block = max(1, 200_000 // n)  # so many indices stay in cache
    for start in range(0, draws, block):
        drawn = rng.integers(n, size=(min(block, draws - start), n), dtype=np.int32)
        means[start : start + block] = values[drawn].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """How much better the first of two is, over the same users: difference of means, its 95 % interval, two-sided p."""

    difference: float
    ci95: tuple[float, float]
    p: float


def paired(a: np.ndarray, b: np.ndarray) -> Paired:
    """Paired t test of a against b with the user as unit; row u of both is the same user. (U,) each

    A t test: with hundreds of users the mean difference is close to normal whatever the metric; it needs no seed; and
    its p has no floor, which resampling has and Holm's correction would multiply. Interval and p agree: 0 is outside
    exactly when p < .05. Raises Misaligned on different lengths, BadTable on fewer than two users or NaN.
    """
    a, b = _judged(a, least=2), _judged(b, least=2)
    if len(a) != len(b):
        raise Misaligned(f"a paired test needs the same users twice; got {len(a)} and {len(b)}")
    off = a - b
    difference = float(off.mean())
    error = float(off.std(ddof=1) / np.sqrt(len(off)))
    if error <= 1e-12 * abs(difference) or error == 0:  # every user differs by the same amount
        return Paired(difference, (difference, difference), 0.0 if difference else 1.0)
    reach = float(stdtrit(len(off) - 1, 0.975)) * error
    p = 2 * float(stdtr(len(off) - 1, -abs(difference) / error))
    return Paired(difference, (difference - reach, difference + reach), p)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values corrected for their number by Holm's step-down method, in the order given. (m,)

    Calling those below .05 different keeps the chance of any false call in the whole table under 5 %.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def _judged(values: np.ndarray, least: int = 1) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if len(values) < least:
        raise BadTable(
            f"{len(values)} users were evaluated; this takes at least {least}. Choose another split or part."
        )
    gaps = int(np.isnan(values).sum())
    if gaps:
        raise BadTable(f"{gaps} of {len(values)} users have no value, since nothing of theirs competes; leave them out")
    return values


def check_identities(values: Mapping[str, float], rounded_to: int | None = None) -> tuple[str, ...]:
    """What cannot be true in one row of a table where every user has exactly one held-out item; () if all can be.

    values: means by name, as fractions (not percent); hit and recall are the same thing here, and so are mrr and map.
    rounded_to: decimals of a printed table, whose rounding is then allowed for. A target that enters the list between
    two cuts K1 < K2 has a rank in K1 + 1 .. K2, so (d: difference of the two cuts; all is 0 at a first K1 = 0)

        dHit >= 0,    dHit / log2(K2 + 1) <= dNDCG <= dHit / log2(K1 + 2),    dHit / K2 <= dMRR <= dHit / (K1 + 1)
    """
    half = 1e-9 if rounded_to is None else 0.5 * 10.0**-rounded_to + 1e-9
    columns: dict[str, dict[int, float]] = {kind: {0: 0.0} for kind in RANK_METRICS + LIST_METRICS}
    for name, value in values.items():
        metric = parse(name)
        columns[metric.kind] |= {metric.k: float(value)} if metric.k else {}
    wrong: list[str] = []

    def claim(low: float, high: float, slack: float, text: str) -> None:
        if not low <= high + slack * half:
            wrong.append(f"{text} does not hold: {low:.5f} > {high:.5f}")

    for hit_kind, kind in product(("hit", "recall"), ("hit", "recall", "ndcg", "mrr", "map")):
        hit, other = columns[hit_kind], columns[kind]
        for k1, k2 in pairwise(sorted(hit.keys() & other.keys())):
            entered, gained = hit[k2] - hit[k1], other[k2] - other[k1]
            rounded = 2 if k1 else 1  # printed figures on each side
            where = f"from cut {k1} to {k2}"
            if kind == hit_kind:
                claim(0, entered, rounded, f"0 <= d{kind} {where}")
                continue
            gains = {"ndcg": (1 / np.log2(k2 + 1), 1 / np.log2(k1 + 2)), "hit": (1, 1), "recall": (1, 1)}
            least, most = gains.get(kind, (1 / k2, 1 / (k1 + 1)))
            claim(entered * least, gained, rounded * (1 + least), f"{least:.4f} d{hit_kind} <= d{kind} {where}")
            claim(gained, entered * most, rounded * (1 + most), f"d{kind} <= {most:.4f} d{hit_kind} {where}")
    return tuple(wrong)
