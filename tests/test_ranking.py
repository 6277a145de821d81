"""evaluate(): against a slow twin, against chance, and what a model can and cannot know when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import World, checkerboard, random_split

from penchant import metrics
from penchant import split as splits
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadSetting, Diverged, Leak, Misaligned
from penchant.models.bpr import Bpr
from penchant.models.ease import Ease
from penchant.models.popular import Popular
from penchant.ranking import Candidates, Task, evaluate, metric_names
from penchant.scorers import ItemToItem
from penchant.split import Split
from penchant.training import Training


@dataclass(frozen=True, eq=False)
class Table:
    """Scores by row of user, and a note of what was asked."""

    values: np.ndarray
    asked: list[Queries] = field(default_factory=list)

    def score(self, queries: Queries) -> np.ndarray:
        self.asked.append(queries)
        return self.values[queries.users]


def table(split: Split, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    return Table(
        rng.permuted(np.arange(len(split.users) * len(split.items), dtype=np.float32)).reshape(
            len(split.users), len(split.items)
        )
    )


def chosen(part: Interactions, user: int) -> set[int]:
    return {int(i) for i in part.item[part.user == user]}


def slow(scores: np.ndarray, split: Split, task: Task) -> dict[str, dict[int, float]]:
    """The definitions, one user at a time, one list at a time. name -> user row -> value."""
    found: dict[str, dict[int, float]] = {name: {} for name in task.names}
    for u in range(len(split.users)):
        held = chosen(split.part(task.part), u)
        hidden = set().union(*(chosen(split.part(p), u) for p in task.mask))
        if len(held) < task.min_test:
            continue
        order = sorted(set(range(len(split.items))) - hidden, key=lambda i: -scores[u, i])
        places = sorted(order.index(i) + 1 for i in held)
        wins = sum(scores[u, i] > scores[u, j] for i in held for j in set(order) - held)
        pairs = len(held) * (len(order) - len(held))
        for k in task.at:
            hits = [r for r in places if r <= k]
            ideal = sum(1 / np.log2(r + 1) for r in range(1, min(k, len(held)) + 1))
            found[f"recall@{k}"][u] = len(hits) / len(held)
            found[f"precision@{k}"][u] = len(hits) / k
            found[f"hit@{k}"][u] = float(bool(hits))
            found[f"mrr@{k}"][u] = 1 / hits[0] if hits else 0.0
            found[f"ndcg@{k}"][u] = sum(1 / np.log2(r + 1) for r in hits) / ideal
        found["map"][u] = sum((j + 1) / r for j, r in enumerate(places)) / len(held)
        found["mrr"][u] = 1 / places[0]
        found["auc"][u] = wins / pairs if pairs else 0.5
    return found


@given(
    st.integers(0, 10**6),
    st.sampled_from([("train",), ("train", "valid"), ("valid",), ()]),
    st.sampled_from(["test", "valid"]),
    st.integers(1, 3),
)
def test_full_ranking_is_what_the_definitions_say(seed: int, mask: tuple[str, ...], part: str, min_test: int) -> None:
    split = random_split(seed)
    mask = tuple(m for m in mask if m != part)
    task = Task(part=part, at=(1, 3, 50), mask=mask, history=("train",), min_test=min_test)
    scores = table(split, seed)
    expected = slow(scores.values, split, task)
    if not expected["mrr"]:
        with pytest.raises(BadSetting, match="min_test"):
            evaluate(scores, split, task)
        return
    found = evaluate(scores, split, task)
    assert found.users.tolist() == list(expected["mrr"])
    assert found.per_user.keys() == set(metric_names(task.at))
    for name, values in expected.items():
        assert found.per_user[name] == pytest.approx(list(values.values()), abs=1e-12), name
        assert found.mean[name] == pytest.approx(np.mean(list(values.values())), abs=1e-12)
    for row, u in enumerate(found.users):
        hidden = set().union(*(chosen(split.part(p), int(u)) for p in mask))
        best = sorted(set(range(len(split.items))) - hidden, key=lambda i: -scores.values[u, i])[:50]
        assert found.items[row][: len(best)].tolist() == best
        assert (found.items[row][len(best) :] == -1).all()


def test_settings_by_keyword_are_those_of_a_task() -> None:
    split = random_split(1)
    a = evaluate(table(split), split, Task(part="valid", at=(5,), mask=("train",), history=()))
    b = evaluate(table(split), split, part="valid", at=(5,), mask=("train",), history=())
    assert a.mean == b.mean
    assert evaluate(table(split), split, Task(at=(5,)), at=(7,)).task.at == (7,), "a keyword changes the task given"


# --- what the model is told, what it may answer -----------------------------------------------------------------------


@pytest.mark.parametrize("history", [("train",), ("train", "valid"), ()])
def test_a_model_is_told_the_history_that_the_task_allows_and_no_more(history: tuple[str, ...]) -> None:
    split = random_split(2)
    scores = table(split)
    found = evaluate(scores, split, Task(history=history, mask=("train",)))
    told = {int(u): set(h.tolist()) for q in scores.asked for u, h in zip(q.users, q.history, strict=True)}
    assert set(told) == set(found.users.tolist())
    for u, items in told.items():
        assert items == set().union(*(chosen(split.part(p), u) for p in history))


def test_what_is_masked_never_competes_and_what_is_not_does() -> None:
    """A model that likes valid items best: they push the test items down unless they are masked."""
    split = random_split(3)
    likes = split.valid.matrix().toarray() * 2 + split.test.matrix().toarray()
    hidden = evaluate(Table(likes), split, Task(mask=("train", "valid")))
    shown = evaluate(Table(likes), split, Task(mask=("train",)))
    assert hidden.mean["mrr"] == 1.0
    with_valid = np.isin(shown.users, split.valid.user)
    assert (shown.per_user["mrr"][with_valid] < 1).all()
    assert (shown.per_user["mrr"][~with_valid] == 1).all()
    valid = split.valid.matrix()
    for row, u in enumerate(hidden.users):
        assert not set(hidden.items[row].tolist()) & set(valid[u].indices.tolist())


def test_history_and_mask_are_two_things() -> None:
    """History without mask: a model that repeats what it was told fills the list with it."""
    split = random_split(4)
    echo = ItemToItem(np.eye(len(split.items), dtype=np.float32))
    shown = evaluate(echo, split, Task(at=(1,), history=("train",), mask=()))
    for row, u in enumerate(shown.users):
        if chosen(split.train, int(u)):
            assert shown.items[row, 0] in chosen(split.train, int(u))


@pytest.mark.parametrize("wrong", [{"history": ("train", "test")}, {"mask": ("test",)}, {"part": "valid"}])
def test_the_answers_cannot_be_shown(wrong: dict[str, object]) -> None:
    """`part = "valid"` alone fails too: by default valid is known and masked."""
    with pytest.raises(BadSetting, match=r"\[protocol\]"):
        Task(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadSetting):
        Task(at=(0,))
    with pytest.raises(BadSetting):
        Task(candidates=Candidates(1))


def test_users_with_too_few_held_out_items_are_left_out() -> None:
    split = random_split(5)
    held = np.bincount(split.test.user, minlength=len(split.users))
    for least in (1, 2, 3):
        assert (
            evaluate(table(split), split, Task(min_test=least)).users.tolist() == np.flatnonzero(held >= least).tolist()
        )
    with pytest.raises(BadSetting, match="no user has 1000 held-out items in test"):
        evaluate(table(split), split, Task(min_test=1000))


# --- cold items -------------------------------------------------------------------------------------------------------


def test_only_cold_ranks_cold_items_among_themselves() -> None:
    whole = random_split(6, users=60, items=40)
    split = splits.cold_items(whole.known(("train", "valid", "test")), share=0.4, seed=1)
    assert split.cold is not None
    scores = table(split)
    task = Task(only_cold=True, at=(3,), mask=("train", "valid"), history=("train",))
    found = evaluate(scores, split, task)
    assert "cold" in task.ranking
    hidden = [chosen(split.valid, int(u)) for u in found.users]
    for row, u in enumerate(found.users):
        competing = set(split.cold.tolist()) - hidden[row]
        order = sorted(competing, key=lambda i: -scores.values[u, i])
        assert [i for i in found.items[row].tolist() if i >= 0] == order[:3]
        first = min(order.index(i) + 1 for i in chosen(split.test, int(u)))
        assert found.per_user["mrr"][row] == pytest.approx(1 / first)
    with pytest.raises(BadSetting, match="cold_items"):
        evaluate(scores, replace(split, cold=None), task)
    with pytest.raises(BadSetting, match="only_cold"):
        Task(only_cold=True, candidates=Candidates(5))


# --- candidates -------------------------------------------------------------------------------------------------------

# Chance among N candidates: hit@k = k/N, mrr@k = H(k)/N, ndcg@k = sum of 1/log2(r + 1) up to k, over N.
CHANCE = [
    (21, {"hit@5": 0.2381, "mrr@5": 0.1087}),
    (51, {"hit@5": 0.0980}),
    (101, {"hit@10": 0.0990, "ndcg@10": 0.0450}),
]


def single(users: int, items: int, seed: int = 0) -> Split:
    """Everybody holds out one item, and it is always the first column's neighbour: position must not matter."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 4)
    item = np.argsort(rng.random((users, items - 1)), axis=1)[:, :4] + 1
    item[:, 3] = 0  # the held-out item is column 0 for all, where a stable sort would favour it
    ids = Ids("user", tuple(map(str, range(users)))), Ids("item", tuple(map(str, range(items))))
    everything = Interactions(*ids, user, item.ravel())
    part = np.tile([0, 0, 1, 2], users)
    return splits.given(everything, part)


@pytest.mark.parametrize("kind", ["random", "constant"])
@pytest.mark.parametrize(("candidates", "expected"), CHANCE, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_candidate_ranking_by_chance(kind: str, candidates: int, expected: dict[str, float]) -> None:
    users, items = 6000, 600
    split = single(users, items)
    values = np.zeros((users, items), np.float32)
    if kind == "random":
        values = np.random.default_rng(7).random((users, items), np.float32)
    task = Task(candidates=Candidates(candidates, seed=3), metrics=tuple(expected), at=(10,))
    found = evaluate(Table(values), split, task)
    assert task.ranking == f"candidates@{candidates}"
    for name, value in expected.items():
        error = found.per_user[name].std() / np.sqrt(users)
        assert abs(found.mean[name] - value) < 4 * error + 5e-5, name
    assert found.items.size == 0, "there are no top lists among candidates"


def test_candidates_are_other_items_that_the_user_never_chose() -> None:
    """A model that dislikes what the user chose anywhere, and a model that likes it, see no difference."""
    split = random_split(8, users=50, items=60)
    mine = split.known(("train", "valid", "test")).matrix().toarray()
    test = split.test.matrix().toarray()
    base = np.random.default_rng(0).random(mine.shape).astype(np.float32)
    task = Task(candidates=Candidates(20), metrics=("hit@5", "mrr", "auc"))
    for other in (-10, 10):
        scores = np.where((mine > 0) & (test == 0), other, base).astype(np.float32)
        assert evaluate(Table(scores), split, task).mean == evaluate(Table(base), split, task).mean
    # Held-out items of the same user do not compete with each other either: liking all of them is perfect.
    assert evaluate(Table(test + base / 2), split, task).mean == {"hit@5": 1.0, "mrr": 1.0, "auc": 1.0}
    again = evaluate(Table(base), split, replace(task, candidates=Candidates(20, seed=1))).mean
    assert again != evaluate(Table(base), split, task).mean, "another seed draws other candidates"


def test_all_items_as_candidates_is_full_ranking_without_what_was_chosen() -> None:
    """One held-out item, as many candidates as there are items left: nothing is drawn twice, nothing left out."""
    split = single(40, 30)
    scores = np.random.default_rng(1).random((40, 30)).astype(np.float32)
    full = evaluate(Table(scores), split, Task(metrics=("mrr", "auc")))
    among = evaluate(Table(scores), split, Task(metrics=("mrr", "auc"), candidates=Candidates(27)))
    assert among.per_user["mrr"] == pytest.approx(full.per_user["mrr"])
    assert among.per_user["auc"] == pytest.approx(full.per_user["auc"])
    with pytest.raises(BadSetting, match="candidates = 28"):
        evaluate(Table(scores), split, Task(candidates=Candidates(28)))


@pytest.mark.parametrize("task", [Task(), Task(candidates=Candidates(5))], ids=["full", "candidates"])
def test_scores_that_are_no_numbers_never_become_a_result(task: Task) -> None:
    split = random_split(9)
    scores = table(split).values
    scores[:, 3] = np.nan
    with pytest.raises(Diverged):
        evaluate(Table(scores), split, task)


@pytest.mark.parametrize("few", [None, Candidates(9)], ids=["full", "candidates"])
def test_a_table_that_cannot_be_is_never_handed_out(few: Candidates | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One held-out item each: NDCG that grows from cut 5 to 10 by more than recall allows is an error, not a result."""
    split, task = single(40, 30), Task(at=(5, 10), candidates=few)
    scores = Table(np.random.default_rng(1).random((40, 30)).astype(np.float32))
    assert evaluate(scores, split, task).mean["ndcg@10"] > 0
    right = metrics.per_user

    def wrong(*args: Any, **named: Any) -> dict[str, np.ndarray]:
        found = right(*args, **named)
        return found | {"ndcg@10": found["ndcg@10"] + found["recall@10"]}

    monkeypatch.setattr(metrics, "per_user", wrong)
    with pytest.raises(RuntimeError, match=r"contradict one another.*dndcg <= .* dhit from cut 5 to 10 does not hold"):
        evaluate(scores, split, task)


# --- honesty ----------------------------------------------------------------------------------------------------------


def test_what_is_held_out_for_test_reaches_neither_fit_nor_selection(world: World) -> None:
    """The test part replaced by noise, or taken away: the same model to the last bit."""
    training = Training(epochs=6, batch_size=64, learning_rate=0.03, validate_every=2, device="cpu")
    rng = np.random.default_rng(0)
    n = len(world.split.test)
    noise = replace(world.split.test, user=rng.integers(0, 60, n), item=rng.integers(0, 40, n))
    models = []
    for split in (world.split, replace(world.split, test=noise), world.split.without_test()):
        rec = Bpr(dim=8).fit(split.train, split.valid, training)
        asked = split.queries("test", ("train", "valid"), np.arange(len(split.users)))
        models.append((rec.scorer.arrays(), rec.curve.value, rec.curve.best_epoch, asked.history_items))
    for arrays, *rest in models[1:]:
        assert all(np.array_equal(arrays[name], value) for name, value in models[0][0].items())
        assert rest[:2] == list(models[0][1:3])
        assert np.array_equal(rest[2], models[0][3])


def test_a_model_that_has_seen_the_answers_is_refused(world: World) -> None:
    """Fitted on another split of the same data, or on everything: its number would be worth nothing."""
    everything = world.split.known(("train", "valid", "test"))
    seen = Ease(l2=5.0).fit(everything)
    with pytest.raises(Leak, match="120 of the 120 held-out"):
        evaluate(seen, world.split)
    other = splits.by_ratio(everything, seed=3)
    with pytest.raises(Leak):
        evaluate(Ease(l2=5.0).fit(other.train), world.split)
    evaluate(Ease(l2=5.0).fit(world.train.join(world.valid)), world.split)
    with pytest.raises(Leak):
        evaluate(Ease(l2=5.0).fit(world.train.join(world.valid)), world.split, Task(part="valid", mask=(), history=()))


def test_a_model_of_another_vocabulary_is_refused() -> None:
    a = checkerboard()
    users = Ids("user", tuple(reversed(a.train.users.keys)))
    turned = replace(a.split, **{p: replace(a.split.part(p), users=users) for p in ("train", "valid", "test")})
    with pytest.raises(Misaligned, match="users"):
        evaluate(Popular().fit(a.train), turned)
