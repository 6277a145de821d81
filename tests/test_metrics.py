"""Metrics: against hand computation, an independent library, a slow twin, and the identities that bind them."""

from __future__ import annotations

import time

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, Qrel, R, ScoredDoc, Success, nDCG
from scipy import sparse, stats

from penchant import metrics, topk
from penchant.data import Queries, no_history
from penchant.errors import BadSetting, BadTable, Misaligned, PenchantError, UnknownKey

LOG = np.log2
NAMES = ["recall@3", "ndcg@3", "hit@3", "mrr@3", "precision@3", "map@3", "auc", "map", "mrr"]

# One user a row: places of the held-out items, number of candidates, then NAMES by hand.
BY_HAND = [
    ([1], 10, [1, 1, 1, 1, 1 / 3, 1, 1, 1, 1]),
    ([2], 10, [1, 1 / LOG(3), 1, 1 / 2, 1 / 3, 1 / 2, 8 / 9, 1 / 2, 1 / 2]),
    ([4], 10, [0, 0, 0, 0, 0, 0, 6 / 9, 1 / 4, 1 / 4]),
    # Two held out, one found: precisions at the hits are 1/3 (place 3) and 2/6 (place 6).
    ([6, 3], 6, [1 / 2, (1 / 2) / (1 + 1 / LOG(3)), 1, 1 / 3, 1 / 3, 1 / 6, 1 - (2 + 4) / 8, 1 / 3, 1 / 3]),
    # Five held out, more than fit in a list of three.
    ([1, 2, 3, 4, 9], 10, [3 / 5, 1, 1, 1, 1, 1, 1 - 4 / 25, (4 + 5 / 9) / 5, 1]),
    # Fewer candidates than the list is long: precision still divides by 3, and nothing is left to be wrong about.
    ([2, 1], 2, [1, 1, 1, 1, 2 / 3, 1, 1 / 2, 1, 1]),
    ([1, 3], 4, [1, 1.5 / (1 + 1 / LOG(3)), 1, 1, 2 / 3, (1 + 2 / 3) / 2, 3 / 4, (1 + 2 / 3) / 2, 1]),
]


def of_places(places: list[list[int]], candidates: list[int], names: list[str]) -> dict[str, np.ndarray]:
    query = np.repeat(np.arange(len(places)), [len(p) for p in places])
    rank = np.array([r for p in places for r in p], np.int64)
    return metrics.per_user(names, query, rank, len(places), np.array(candidates))


def random_world(seed: int, users: int = 40, most: int = 60) -> tuple[list[list[int]], list[int]]:
    """Some users with one candidate, some with more held out than any cut, all with at least one held out."""
    rng = np.random.default_rng(seed)
    candidates = rng.integers(1, most, users)
    held = np.maximum(1, (candidates * rng.choice([0.02, 0.2, 0.7, 1.0], users)).astype(int))
    places = [(rng.permutation(n)[:h] + 1).tolist() for n, h in zip(candidates, held, strict=True)]
    return places, candidates.tolist()


@pytest.mark.parametrize("row", range(len(BY_HAND)))
def test_hand_computed_values(row: int) -> None:
    places, candidates, expected = BY_HAND[row]
    found = of_places([places], [candidates], NAMES)
    assert [found[name][0] for name in NAMES] == pytest.approx(expected, abs=1e-12)


def test_users_do_not_touch_each_other() -> None:
    """All rows of the table at once, pairs shuffled, give what each gives alone."""
    places = [row[0] for row in BY_HAND]
    query = np.repeat(np.arange(len(places)), [len(p) for p in places])
    rank = np.concatenate(places)
    shuffled = np.random.default_rng(0).permutation(len(query))
    candidates = np.array([row[1] for row in BY_HAND])
    found = metrics.per_user(NAMES, query[shuffled], rank[shuffled], len(places), candidates)
    assert np.column_stack([found[n] for n in NAMES]) == pytest.approx(np.array([row[2] for row in BY_HAND]))


def slow(name: str, places: list[int], candidates: int) -> float:
    """One metric of one user by walking down the ranking."""
    kind, _, cut = name.partition("@")
    k = int(cut) if cut else candidates
    relevant = [place in places for place in range(1, candidates + 1)] + [False] * k
    seen = relevant[:k]
    if kind == "recall":
        return sum(seen) / len(places)
    if kind == "precision":
        return sum(seen) / k
    if kind == "hit":
        return float(any(seen))
    if kind == "mrr":
        return next((1 / (i + 1) for i, good in enumerate(seen) if good), 0.0)
    if kind == "ndcg":
        gain = [1 / np.log2(i + 2) for i in range(k)]
        return sum(g for g, good in zip(gain, seen, strict=True) if good) / sum(gain[: min(k, len(places))])
    if kind == "map":
        return sum(sum(seen[: i + 1]) / (i + 1) for i in range(k) if seen[i]) / min(k, len(places))
    others = [p for p in range(1, candidates + 1) if p not in places]
    if not others:
        return 0.5
    return sum(mine < other for mine in places for other in others) / (len(places) * len(others))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 70))
def test_equals_a_slow_twin(seed: int, k: int) -> None:
    places, candidates = random_world(seed, users=12)
    names = [*(f"{kind}@{k}" for kind in ("recall", "ndcg", "hit", "mrr", "precision", "map")), "auc", "map", "mrr"]
    found = of_places(places, candidates, names)
    for name in names:
        assert found[name] == pytest.approx([slow(name, p, n) for p, n in zip(places, candidates, strict=True)]), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 5, 20])
def test_equals_ir_measures(seed: int, k: int) -> None:
    """An independent library on random rankings; scores are minus the place, so there are no ties to break."""
    places, candidates = random_world(seed)
    qrels = [Qrel(f"u{u}", f"p{p}", 1) for u, held in enumerate(places) for p in held]
    run = [ScoredDoc(f"u{u}", f"p{p}", -float(p)) for u, n in enumerate(candidates) for p in range(1, n + 1)]
    theirs = {
        f"recall@{k}": R @ k,
        f"ndcg@{k}": nDCG @ k,
        f"precision@{k}": P @ k,
        f"hit@{k}": Success @ k,
        f"mrr@{k}": RR @ k,
        f"map@{k}": AP @ k,
        "map": AP,
        "mrr": RR,
    }
    ours = of_places(places, candidates, list(theirs))
    # trec_eval divides a cut average precision by all held-out items, we by what a list of k can hold.
    held = np.array([len(p) for p in places])
    ours[f"map@{k}"] = ours[f"map@{k}"] * np.minimum(held, k) / held
    found = {name: np.full(len(places), np.nan) for name in theirs}
    names = {str(measure): name for name, measure in theirs.items()}
    for value in ir_measures.iter_calc(list(theirs.values()), qrels, run):
        found[names[str(value.measure)]][int(value.query_id[1:])] = value.value
    for name in theirs:
        assert not np.isnan(found[name]).any(), name
        assert ours[name] == pytest.approx(found[name], abs=1e-9), name


def test_a_user_with_nothing_held_out_has_no_value() -> None:
    found = of_places([[1], []], [5, 5], ["recall@1", "auc", "mrr", "ndcg@1"])
    assert all(np.isnan(values[1]) and values[0] == 1 for values in found.values())


def test_no_pairs_at_all() -> None:
    found = of_places([[], []], [5, 5], NAMES)
    assert all(np.isnan(values).all() for values in found.values())


@pytest.mark.parametrize(
    ("query", "rank", "queries", "candidates", "says"),
    [
        ([0], [0], 1, [5], "place 0"),
        ([0], [6], 1, [5], "place 6; places run from 1 to 5"),
        ([0, 0], [2, 2], 1, [5], "two items on place 2"),
        ([1], [2], 1, [5], "there are 1 users"),
    ],
)
def test_impossible_ranks_are_refused(query: list, rank: list, queries: int, candidates: list, says: str) -> None:
    with pytest.raises(BadTable, match=says):
        metrics.per_user(["mrr"], np.array(query), np.array(rank), queries, np.array(candidates))


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(Misaligned, match="2 queries, 1 ranks"):
        metrics.per_user(["mrr"], np.array([0, 0]), np.array([1]), 1, np.array([3]))


# --- names


@pytest.mark.parametrize("kind", ["recall", "ndcg", "hit", "mrr", "precision", "map", "coverage", "maxdiv"])
def test_names_with_a_cut(kind: str) -> None:
    metric = metrics.parse(f"{kind}@15")
    assert (metric.kind, metric.k) == (kind, 15)
    assert metric.of_lists == (kind in {"coverage", "maxdiv"})


@pytest.mark.parametrize("kind", ["auc", "map", "mrr"])
def test_names_of_the_whole_ranking(kind: str) -> None:
    assert metrics.parse(kind).k is None


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("recal@20", UnknownKey, "no metric `recal@20`. Did you mean `recall@20`"),
        ("Recall@10", UnknownKey, "Did you mean `recall@10`"),
        ("ndgc@5", UnknownKey, "Did you mean `ndcg@5`"),
        ("recal", UnknownKey, "Did you mean `recall@20`"),
        ("AUC", UnknownKey, "It has: auc"),
        ("", UnknownKey, "recall@20"),
        ("hr@10", BadSetting, "written `hit@10`"),
        ("HR@10", BadSetting, "written `hit@10`"),
        ("recall", BadSetting, "Write for example `recall@20`"),
        ("recall@", BadSetting, "needs a length of list"),
        ("recall@0", BadSetting, "from 1"),
        ("ndcg@-3", BadSetting, "from 1"),
        ("ndcg@2.5", BadSetting, "needs a length of list"),
        ("ndcg@ten", BadSetting, "needs a length of list"),
        ("mrr@ten", BadSetting, "needs a length of list"),
        ("auc@10", BadSetting, "Write `auc`"),
    ],
)
def test_wrong_names_say_what_to_type(name: str, error: type[PenchantError], says: str) -> None:
    with pytest.raises(error, match=says):
        metrics.parse(name)


def test_a_metric_of_lists_is_not_computed_from_ranks() -> None:
    with pytest.raises(BadSetting, match=r"metrics\.maxdiv"):
        of_places([[1]], [5], ["recall@1", "maxdiv@10"])


# --- identities of the checker kit


def single_target(seed: int, users: int, candidates: int, skill: float = 1.0) -> dict[str, float]:
    """Means over users with one held-out item each; skill < 1 pulls the places to the front."""
    rng = np.random.default_rng(seed)
    rank = np.ceil(candidates * rng.random(users) ** (1 / skill)).astype(int)
    names = [f"{kind}@{k}" for kind in ("recall", "hit", "ndcg", "mrr", "map", "precision") for k in (1, 3, 5, 10, 20)]
    found = metrics.per_user(names, np.arange(users), rank, users, np.full(users, candidates))
    return {name: float(values.mean()) for name, values in found.items()}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(1, 200),
    candidates=st.integers(1, 300),
    skill=st.floats(0.1, 1),
)
def test_interval_identities_hold_for_every_ranking(seed: int, users: int, candidates: int, skill: float) -> None:
    values = single_target(seed, users, candidates, skill)
    assert metrics.check_identities(values) == ()
    assert metrics.check_identities({name: round(v, 3) for name, v in values.items()}, rounded_to=3) == ()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k1=st.integers(1, 20), more=st.integers(1, 20))
def test_interval_identities_spelled_out(seed: int, k1: int, more: int) -> None:
    """The four inequalities as the kit writes them, without `check_identities`."""
    k2 = k1 + more
    rng = np.random.default_rng(seed)
    rank = rng.integers(1, 60, 80)
    names = [f"{kind}@{k}" for kind in ("hit", "ndcg", "mrr") for k in (k1, k2)]
    v = {n: x.mean() for n, x in metrics.per_user(names, np.arange(80), rank, 80, np.full(80, 60)).items()}
    hit, ndcg, mrr = ([v[f"{kind}@{k}"] for k in (k1, k2)] for kind in ("hit", "ndcg", "mrr"))
    small = 1e-12
    assert (hit[1] - hit[0]) / LOG(k2 + 1) - small <= ndcg[1] - ndcg[0] <= (hit[1] - hit[0]) / LOG(k1 + 2) + small
    assert hit[1] / LOG(k2 + 1) - small <= ndcg[1] <= hit[1] + small
    assert hit[1] / k2 - small <= mrr[1] <= hit[1] + small


@pytest.mark.parametrize(("rank", "too_much"), [(6, 0.001), (10, -0.001)])
@pytest.mark.parametrize("kind", ["ndcg", "mrr"])
def test_interval_identities_are_tight(rank: int, too_much: float, kind: str) -> None:
    """Everyone's target enters the ten at its first or last new place: the bound is met, and any more is caught."""
    gain = 1 / LOG(rank + 1) if kind == "ndcg" else 1 / rank
    values = {"hit@5": 0.0, "hit@10": 1.0, f"{kind}@5": 0.0, f"{kind}@10": gain}
    assert metrics.check_identities(values) == ()
    assert len(metrics.check_identities(values | {f"{kind}@10": gain + too_much})) == 1


PUBLISHED = {  # recall@5, ndcg@5, recall@10, ndcg@10 on Amazon Beauty; the TIGER paper, NeurIPS 2023
    "GRU4Rec": (0.0164, 0.0099, 0.0283, 0.0137),
    "BERT4Rec": (0.0203, 0.0124, 0.0347, 0.0170),
    "SASRec": (0.0387, 0.0249, 0.0605, 0.0318),
    "S3-Rec": (0.0387, 0.0244, 0.0647, 0.0327),
    "TIGER": (0.0454, 0.0321, 0.0648, 0.0384),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_single_target_rows_pass(model: str) -> None:
    row = dict(zip(("recall@5", "ndcg@5", "recall@10", "ndcg@10"), PUBLISHED[model], strict=True))
    assert metrics.check_identities(row, rounded_to=4) == ()


SEVERAL_TARGETS = {  # ndcg@5, 10, 20, recall@5, 10, 20: Table 5 of the MLLM-SRec paper, which cannot be single-target
    "base": (0.0180, 0.0219, 0.0285, 0.0313, 0.0479, 0.0808),
    "SV": (0.0182, 0.0225, 0.0294, 0.0325, 0.0496, 0.0819),
    "SVI": (0.0186, 0.0227, 0.0298, 0.0339, 0.0512, 0.0841),
    "SRec": (0.0197, 0.0242, 0.0313, 0.0359, 0.0539, 0.0876),
}


@pytest.mark.parametrize("model", SEVERAL_TARGETS)
def test_a_published_table_that_cannot_be_single_target_is_caught(model: str) -> None:
    """Both steps of each row gain less NDCG than the last place of the list would give: eight of eight fail."""
    names = [f"{kind}@{k}" for kind in ("ndcg", "recall") for k in (5, 10, 20)]
    wrong = metrics.check_identities(dict(zip(names, SEVERAL_TARGETS[model], strict=True)), rounded_to=4)
    assert len(wrong) == 2
    assert "0.2891 drecall <= dndcg from cut 5 to 10" in wrong[0]
    assert "0.2277 drecall <= dndcg from cut 10 to 20" in wrong[1]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ndcg@10": 0.9}, "dndcg <="),
        ({"ndcg@1": 0.01}, "dhit <= dndcg"),
        ({"mrr@10": 0.9}, "dmrr <="),
        ({"mrr@5": 0.01}, "dhit <= dmrr"),
        ({"hit@10": 0.01, "recall@10": 0.01}, "0 <= dhit from cut 5 to 10"),
        ({"map@10": 0.9}, "dmap <="),
        ({"hit@10": 0.9}, "dhit <= 1.0000 drecall"),
        ({"hit@5": float("nan"), "recall@5": float("nan")}, "does not hold"),
    ],
)
def test_a_broken_table_is_caught(changed: dict[str, float], says: str) -> None:
    values = single_target(0, 500, 50, 0.6) | changed
    assert any(says in sentence for sentence in metrics.check_identities(values))


CHANCE = [(21, "hit@5", 0.2381), (21, "mrr@5", 0.1087), (51, "hit@5", 0.0980), (101, "hit@10", 0.0990)]
CHANCE += [(101, "ndcg@10", 0.0450)]


class Constant:
    """Every item is as good as any other."""

    def __init__(self, items: int) -> None:
        self.items = items

    def score(self, queries: Queries) -> np.ndarray:
        return np.full((len(queries), self.items), 0.5, np.float32)


class Random:
    """Scores without meaning."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.rng = np.random.default_rng(3)

    def score(self, queries: Queries) -> np.ndarray:
        return self.rng.random((len(queries), self.items), np.float32)


@pytest.mark.parametrize("scorer", [Constant, Random])
@pytest.mark.parametrize(("candidates", "name", "chance"), CHANCE)
def test_random_and_constant_scorers_earn_chance(
    scorer: type[Constant] | type[Random], candidates: int, name: str, chance: float
) -> None:
    """The target always stands in column 0: ties broken by place would earn 1."""
    users = 20_000
    column = np.zeros(users, np.int64)
    held = sparse.csr_matrix((np.ones(users, np.float32), column, np.arange(users + 1)), (users, candidates))
    ranks = topk.ranks(scorer(candidates), no_history(np.arange(users)), held, block=4096)
    values = metrics.per_user([name, "auc"], ranks.query, ranks.rank, users, ranks.candidates)
    for found, expected in ((values[name], chance), (values["auc"], 0.5)):
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(users) + 5e-5


@pytest.mark.parametrize("candidates", [21, 51, 101])
@pytest.mark.parametrize("k", [5, 10])
def test_chance_is_exact_when_every_place_is_taken_once(candidates: int, k: int) -> None:
    """HR@K = K/N, MRR@K = H_K/N, NDCG@K = sum 1/log2(r + 1) / N: a uniform place, exactly."""
    names = [f"hit@{k}", f"mrr@{k}", f"ndcg@{k}", "auc"]
    places = np.arange(1, candidates + 1)
    found = metrics.per_user(names, places - 1, places, candidates, np.full(candidates, candidates))
    r = np.arange(1, k + 1)
    expected = [k / candidates, (1 / r).sum() / candidates, (1 / LOG(r + 1)).sum() / candidates, 0.5]
    assert [found[name].mean() for name in names] == pytest.approx(expected, abs=1e-12)
    for n, name, value in CHANCE:
        if n == candidates and name in found:
            assert found[name].mean() == pytest.approx(value, abs=5e-5)


# --- lists


LISTS = np.array([[0, 1, 2], [0, 1, -1], [0, -1, -1], [-1, -1, -1]])


def test_coverage_by_hand() -> None:
    assert metrics.coverage(LISTS, 6) == 3 / 6
    assert metrics.coverage(np.full((3, 2), -1), 6) == 0


def test_gini_by_hand() -> None:
    assert metrics.gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)
    assert metrics.gini(np.array([[0], [0], [0]]), 4) == pytest.approx(3 / 4)  # one of four takes all: 1 - 1/4
    shown = np.array([3, 2, 1, 0, 0, 0])
    twin = np.abs(shown[:, None] - shown[None, :]).sum() / (2 * 6**2 * shown.mean())
    assert metrics.gini(LISTS, 6) == pytest.approx(twin)
    assert metrics.gini(np.full((3, 2), -1), 6) == 0


def test_novelty_by_hand() -> None:
    popularity = np.array([8, 4, 1, 0])  # of 8 users: 0, 1, 3 bits; the item nobody chose counts as chosen once
    assert metrics.novelty_per_user(LISTS[:3], popularity, 8) == pytest.approx([4 / 3, 1 / 2, 0])
    assert metrics.novelty_per_user(np.array([[3]]), popularity, 8) == pytest.approx([3])
    assert np.isnan(metrics.novelty_per_user(LISTS, popularity, 8)[3])
    assert metrics.novelty(LISTS, popularity, 8) == pytest.approx((4 / 3 + 1 / 2) / 3)
    assert np.isnan(metrics.novelty(np.full((2, 2), -1), popularity, 8))


def test_maxdiv_by_hand() -> None:
    """Corners of a right triangle with sides 3, 4, 5: (9 + 16 + 25), each pair in both orders."""
    vectors = np.array([[0, 0], [3, 0], [0, 4]], np.float32)
    assert metrics.maxdiv_per_user(LISTS, vectors) == pytest.approx([100, 18, 0, 0])
    assert metrics.maxdiv(LISTS, vectors) == pytest.approx(118 / 4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 6), offset=st.floats(-50, 50))
def test_maxdiv_equals_all_pairs_wherever_the_vectors_lie(seed: int, k: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((9, 4)) + offset).astype(np.float32)
    top = rng.integers(-1, 9, (7, k))
    twin = [
        sum(float(((vectors[i].astype(float) - vectors[j]) ** 2).sum()) for i in row for j in row if min(i, j) >= 0)
        for row in top
    ]
    assert metrics.maxdiv_per_user(top, vectors) == pytest.approx(twin, abs=1e-5)


# --- what can be said of means


def test_bootstrap_is_close_to_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(1).exponential(size=4000)
    low, high = metrics.bootstrap(values, seed=0)
    reach = 1.96 * values.std() / np.sqrt(4000)
    assert low == pytest.approx(values.mean() - reach, abs=0.15 * reach)
    assert high == pytest.approx(values.mean() + reach, abs=0.15 * reach)
    assert metrics.bootstrap(values, seed=0) == (low, high)
    assert metrics.bootstrap(values, seed=1) != (low, high)


def test_bootstrap_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    intervals = [metrics.bootstrap(rng.random(80), seed=s, draws=300) for s in range(300)]
    covered = np.mean([low <= 0.5 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.985


def test_bootstrap_of_constants_and_of_one_user() -> None:
    assert metrics.bootstrap(np.full(10, 0.25), seed=0) == (0.25, 0.25)
    assert metrics.bootstrap(np.array([0.25]), seed=0) == (0.25, 0.25)


def test_bootstrap_of_twenty_thousand_users_is_fast() -> None:
    values = np.random.default_rng(0).random(20_000)
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        metrics.bootstrap(values, seed)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.6  # 0.12 on a quiet core; the room is for a busy one


@pytest.mark.parametrize("users", [2, 7, 300])
def test_paired_equals_scipy(users: int) -> None:
    rng = np.random.default_rng(users)
    a, b = rng.random(users) + 0.05, rng.random(users)
    theirs = stats.ttest_rel(a, b)
    ours = metrics.paired(a, b)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.difference == pytest.approx((a - b).mean())
    assert ours.ci95 == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_paired_is_two_sided_and_turns_round() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50) + 0.1
    there, back = metrics.paired(a, b), metrics.paired(b, a)
    assert there.p == back.p
    assert there.difference == -back.difference < 0
    assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))


def test_paired_finds_no_difference_between_a_thing_and_itself() -> None:
    a = np.random.default_rng(0).random(50)
    assert metrics.paired(a, a) == metrics.Paired(0.0, (0.0, 0.0), 1.0)
    same = metrics.paired(a + 0.5, a)
    assert same.p < 1e-9
    assert same.difference == pytest.approx(0.5)


def test_paired_calls_five_in_a_hundred_equal_pairs_different() -> None:
    rng = np.random.default_rng(5)
    p = np.array([metrics.paired(rng.exponential(size=60), rng.exponential(size=60)).p for _ in range(1500)])
    assert 0.03 < (p < 0.05).mean() < 0.07


@pytest.mark.parametrize(
    ("a", "b", "error", "says"),
    [
        ([0.1, 0.2], [0.1], BadTable, "at least 2"),
        ([0.1, 0.2], [0.1, 0.2, 0.3], Misaligned, "the same users twice; got 2 and 3"),
        ([0.1], [0.2], BadTable, "1 users were evaluated"),
        ([0.1, np.nan], [0.2, 0.3], BadTable, "1 of 2 users have no value"),
    ],
)
def test_paired_refuses(a: list[float], b: list[float], error: type[PenchantError], says: str) -> None:
    with pytest.raises(error, match=says):
        metrics.paired(np.array(a), np.array(b))


def test_bootstrap_refuses_no_users_and_gaps() -> None:
    with pytest.raises(BadTable, match="0 users were evaluated"):
        metrics.bootstrap(np.zeros(0), seed=0)
    with pytest.raises(BadTable, match="2 of 3 users have no value"):
        metrics.bootstrap(np.array([0.1, np.nan, np.nan]), seed=0)


def test_holm_by_hand() -> None:
    """Holm 1979: smallest times 3, next times 2, last times 1, never smaller than one before, never above 1."""
    assert metrics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert metrics.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert metrics.holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = metrics.holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-9).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
