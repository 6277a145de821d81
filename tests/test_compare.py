"""Comparison: only what may be compared is, pairs are of the same users, and p is corrected."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from penchant.compare import compare
from penchant.errors import BadInput, BadSetting, DifferentProtocols, UnknownId, UnknownKey
from penchant.report import DataFacts, Input, LmCost, Protocol, Report, Seconds
from penchant.results import PerUser, summarise

USERS = tuple(f"u{i}" for i in range(120))
Run = tuple[Report, PerUser]


def run(model: str, gain: float = 0.0, seed: int = 0, seeds: tuple[int, ...] = (0, 1), **changes: object) -> Run:
    """A model whose users all share one difficulty, lifted by `gain`, with noise of its own."""
    easy = np.random.default_rng(99).random(len(USERS))
    noise = np.random.default_rng(seed).normal(0, 0.05, (2, len(seeds), len(USERS)))
    per_user = PerUser(USERS, seeds, {n: easy + gain + noise[i] for i, n in enumerate(("recall@20", "ndcg@20"))})
    return wrap(model, per_user, **changes)


def wrap(model: str, per_user: PerUser, **changes: object) -> Run:
    report = Report(
        model,
        DataFacts("shop", "ab" * 32, 120, 30, 400, 40, 41),
        Protocol("test", "full", ("train",), ("train",), (20,), "valid recall@20", split="leave_last_out seed=0"),
        len(per_user.users),
        summarise(per_user),
        Seconds(1, 2, 0.1, 0.5),
        5,
        100,
        50.0,
        LmCost(),
        per_user.seeds,
        {},
        settings={"l2": 1},
    )
    return replace(report, **changes), per_user  # type: ignore[arg-type]


def found(comparison, label, metric="recall@20"):
    return next(row for row in comparison.under(metric) if row.label == label)


def test_differences_and_p_are_those_of_the_textbook():
    runs = [run("a", 0.02, 1), run("b", 0.0, 2), run("c", -0.01, 3, seeds=(4,))]
    made = compare(runs, reference="a")
    a = runs[0][1].values["recall@20"].mean(axis=0)
    raw = {}
    for name, (_, per_user) in zip("bc", runs[1:], strict=True):
        other = per_user.values["recall@20"].mean(axis=0)
        test = stats.ttest_rel(other, a)
        row = found(made, name).difference
        assert row.value == pytest.approx((other - a).mean())
        assert row.relative == pytest.approx((other - a).mean() / a.mean())
        assert row.p == pytest.approx(test.pvalue)
        assert row.ci95 == pytest.approx(tuple(test.confidence_interval(0.95)))
        raw[name] = test.pvalue
    low, high = sorted(raw, key=raw.get)
    assert found(made, low).difference.adjusted == pytest.approx(min(2 * raw[low], 1))
    assert found(made, high).difference.adjusted == pytest.approx(min(max(2 * raw[low], raw[high]), 1))
    assert made.tests == 2
    assert found(made, "a").difference is None


def test_pairing_sees_what_two_intervals_hide():
    """Users differ far more than models do: intervals of the means overlap, the paired difference is clear."""
    made = compare([run("a", 0.03, 1), run("b", 0.0, 2)])
    a, b = found(made, "a"), found(made, "b")
    assert a.got.ci95[0] < b.got.ci95[1]
    assert b.difference.adjusted < 1e-4
    assert b.difference.ci95[1] < 0


def test_the_best_is_the_reference_and_pays_for_having_been_picked():
    runs = [run("a", 0.0, 1), run("b", 0.02, 2), run("c", -0.01, 3)]
    free, fixed = compare(runs), compare(runs, reference="b")
    assert free.reference == fixed.reference == "b"
    assert (free.tests, fixed.tests) == (3, 2)
    assert [row.label for row in free.under("recall@20")] == ["b", "a", "c"]
    for name in "ac":
        ours, theirs = found(free, name).difference, found(fixed, name).difference
        assert (ours.value, ours.p) == (theirs.value, theirs.p)
        assert ours.adjusted >= theirs.adjusted
    assert "Holm-corrected for 3 tests" in free.method


def test_equal_models_are_rarely_called_different():
    """Forty comparisons of three models that differ by noise alone: about two false calls in all are allowed."""
    calls = 0
    for trial in range(40):
        made = compare([run(n, 0.0, 10 * trial + i) for i, n in enumerate("abc")], metrics=["recall@20"])
        calls += any(row.difference and row.difference.adjusted < 0.05 for row in made.rows)
    assert calls <= 6


def test_users_are_matched_by_id_not_by_place():
    a, (report, per_user) = run("a", 0.0, 1), run("b", 0.02, 2)
    order = np.random.default_rng(5).permutation(len(USERS))
    turned = PerUser(
        tuple(USERS[i] for i in order), per_user.seeds, {n: v[:, order] for n, v in per_user.values.items()}
    )
    straight, mixed = compare([a, (report, per_user)], "b"), compare([a, (report, turned)], "b")
    assert found(mixed, "a").difference.p == pytest.approx(found(straight, "a").difference.p)
    assert found(mixed, "a").difference.ci95 == pytest.approx(found(straight, "a").difference.ci95)


def test_a_leaking_row_is_marked_and_never_the_reference():
    leak = {"profile": Input("profiles of the authors", leaking=True)}
    outside = {"text": Input("came with the data", external=True)}
    made = compare([run("a"), run("cheat", 0.3, 1, inputs=leak), run("given", -0.1, 2, inputs=outside)])
    assert made.reference == "a"
    assert made.rows[0].label == "cheat"
    text = shown(made)
    assert "leaking: profile" in re.sub(r"\s+", " ", text)
    assert "external: text" in re.sub(r"\s+", " ", text)


DIFFERENT = {
    "data": lambda r: {"data": replace(r.data, hash="cd" * 32)},
    "split": lambda r: {"protocol": replace(r.protocol, split="by_ratio seed=1")},
    "test": lambda r: {"data": replace(r.data, test=12)},
    "part": lambda r: {"protocol": replace(r.protocol, part="valid")},
    "ranking": lambda r: {"protocol": replace(r.protocol, ranking="candidates@21")},
    "mask": lambda r: {"protocol": replace(r.protocol, mask=("train", "valid"))},
    "history": lambda r: {"protocol": replace(r.protocol, history=("train", "valid"))},
    "at": lambda r: {"protocol": replace(r.protocol, at=(10, 20))},
    "min_test": lambda r: {"protocol": replace(r.protocol, min_test=2)},
    "users_evaluated": lambda r: {"users_evaluated": 119},
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_other_protocols_are_refused_with_field_run_and_remedy(field):
    report, per_user = run("b")
    other = replace(report, **DIFFERENT[field](report))
    with pytest.raises(DifferentProtocols) as refused:
        compare([run("a"), (other, per_user), run("c")])
    message = str(refused.value)
    assert re.search(rf"^  {field}: .* in a, c; .* in b$", message, re.MULTILINE), message
    if field in ("part", "ranking", "mask", "history", "at", "min_test"):
        assert f"--set 'protocol.{field}=" in message
    else:
        assert "again" in message


def test_what_does_not_decide_comparability_may_differ():
    report, per_user = run("b", 0.1)
    other = replace(
        report, protocol=replace(report.protocol, selected_by="valid ndcg@20", ties="seeded"), versions={"x": "2"}
    )
    assert compare([run("a"), (other, per_user)]).reference == "b"


def test_equally_many_but_other_users_are_refused():
    report, per_user = run("b")
    strangers = PerUser((*USERS[:-1], "stranger"), per_user.seeds, per_user.values)
    with pytest.raises(DifferentProtocols, match=r"b evaluated other users than a: 1 are missing and 1 are more.*u119"):
        compare([run("a"), (report, strangers)])


def test_values_of_another_run_than_the_report_are_refused():
    report, _ = run("b")
    with pytest.raises(BadInput, match=r"per_user\.parquet gives recall@20"):
        compare([run("a"), (report, run("b", 0.2)[1])])


def test_wrong_requests_name_what_there_is():
    runs = [run("a"), run("ease", settings={"l2": 1}), run("ease", settings={"l2": 2})]
    with pytest.raises(BadInput, match="needs two"):
        compare(runs[:1])
    with pytest.raises(UnknownId, match=r"a, ease l2=1, ease l2=2"):
        compare(runs, reference="ease")
    assert compare(runs, reference="ease l2=2").reference == "ease l2=2"
    with pytest.raises(
        UnknownKey, match=r"^no metric `ndgc@20` .* Did you mean `ndcg@20`\? There are: ndcg@20, recall@20$"
    ):
        compare(runs, metrics=["ndgc@20"])
    with pytest.raises(BadSetting, match="`hr@20` is written `hit@20`"):
        compare(runs, metrics=["hr@20"])


def test_nothing_in_common_is_said_as_that():
    report, per_user = run("b")
    other = PerUser(per_user.users, per_user.seeds, {"map": per_user.values["recall@20"]})
    with pytest.raises(BadInput, match="no metric in common"):
        compare([run("a"), (replace(report, metrics=summarise(other)), other)])


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
    made = compare([run("a"), run("b", 0.1)])
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "compare.html").write_text("years of work")
    with pytest.raises(BadSetting, match=r"not empty.*compare\.html.*--out DIR"):
        made.write(thesis)
    assert [(p.name, p.read_text()) for p in thesis.iterdir()] == [("compare.html", "years of work")]
    with pytest.raises(BadSetting, match="is a file"):
        made.write(thesis / "compare.html")


def test_a_new_an_empty_and_an_older_comparisons_folder_are_written(tmp_path):
    made, other = compare([run("a"), run("b", 0.1)]), compare([run("c"), run("d", 0.1)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".compare.json.123.part").touch()  # of a killed first write
    for name in ("new", "empty"):
        made.write(tmp_path / name)
        page = other.write(tmp_path / name)
        assert json.loads((tmp_path / name / "compare.json").read_text())["reference"] == "d"
        assert page.name == "compare.html"
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"compare.json", "compare.html"}


def test_a_reference_that_reached_nothing_leaves_strict_json(tmp_path):
    nothing = PerUser(USERS, (0,), {"recall@20": np.zeros((1, len(USERS)))})
    made = compare([wrap("a", nothing), run("b", 0.1)], reference="a", metrics=["recall@20"])
    made.write(tmp_path)
    (row,) = (
        r
        for r in json.loads((tmp_path / "compare.json").read_text(), parse_constant=pytest.fail)["rows"]
        if r["difference"]
    )
    assert row["difference"]["relative"] is None


def shown(comparison) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(comparison.table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_holds_what_every_table_must_at_100_columns():
    made = compare([run("a", 0.02, 1), run("[b]bold[/b]", -0.3, 2)])
    text = shown(made)
    for fact in (
        "recall@20",
        "ndcg@20",
        "reference",
        "seeds",
        "time",
        "parameters",
        "LLM cost",
        "120 users",
        "[b]bold",
    ):
        assert fact in text, fact
    assert "<0.001" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_json_and_page_say_the_same_and_stay_closed(tmp_path):
    evil = "<script>alert(1)</script>"
    made = compare([run("a", 0.02, 1), run(evil, 0.0, 2)])
    page = made.write(tmp_path).read_text("utf-8")
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [(r["model"], r["metric"]) for r in rows] == [(r.label, r.metric) for r in made.rows]
    other = next(r for r in rows if r["model"] == evil and r["metric"] == "recall@20")
    assert other["difference"]["adjusted"] == found(made, evil).difference.adjusted
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    assert f"{other['mean']:.4f}" in page
    assert "Difference to a" in page
