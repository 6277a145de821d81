"""Reports: what is written comes back, damage is named, and the page is true, closed and safe."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from penchant import page, plots, words
from penchant.data import Ids
from penchant.errors import BadInput, BadModel, BadTable, Misaligned, MissingFile, UnknownKey
from penchant.page import Card, Example
from penchant.report import Claim, DataFacts, Input, LmCost, Metric, Point, Protocol, Report, Seconds
from penchant.results import Audience, PerUser, TopLists, summarise
from penchant.table import claims, table

USERS = tuple(f"u{i}" for i in range(40))


def people(seed: int = 0) -> PerUser:
    rng = np.random.default_rng(seed)
    shape = (2, len(USERS))
    return PerUser(USERS, (0, 7), {"recall@10": rng.random(shape).round(2), "ndcg@10": rng.random(shape)})


def a_report(**changes: object) -> Report:
    per_user = people()
    curve = [Point(s, e, 1 / e, 0.1 * e - 0.01 * e * e if e % 2 else None) for s in (0, 7) for e in range(1, 10)]
    made = Report(
        "lightgcn",
        DataFacts("shop", "ab12cd34" * 8, 50, 30, 400, 40, 41),
        Protocol("test", "full", ("train",), ("train",), (10,), "valid recall@10", split="leave_last_out seed=0"),
        len(USERS),
        summarise(per_user),
        Seconds(1.5, 60.25, 0.5, 2.0),
        5,
        5120,
        412.5,
        LmCost(3, 4, 500, 60, 0.25),
        (0, 7),
        {"penchant": "0.1.0"},
        {"recall@10": Claim(0.5, 0.03, per_user.averaged("recall@10").mean(), "A paper, table 2")},
        "He et al., 2020",
        7,
        {"dim": 32, "backbone": {"name": "lightgcn", "layers": 3}},
        {"epochs": 9},
        {"image": Input("posters", "features/ab12"), "profile": Input("of the authors", external=True)},
        {"duplicate interactions dropped": 3},
        tuple(curve),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def lists() -> TopLists:
    item = np.random.default_rng(1).permuted(np.tile(np.arange(30), (len(USERS), 1)), axis=1)[:, :10]
    score = np.linspace(1, 0, 10, dtype=np.float32) + np.zeros(item.shape, np.float32)
    return TopLists(USERS, Ids("item", tuple(f"i{i}" for i in range(30))), item, score)


def audience() -> Audience:
    return Audience(np.arange(30, 0, -1), lists().counts(), np.arange(len(USERS)) + 1)


@cache
def jpeg(width: int = 400, height: int = 600) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(out, "JPEG")
    return out.getvalue()


# --- report.json


def test_a_report_comes_back_as_it_was(tmp_path):
    report = a_report()
    report.write(tmp_path)
    assert Report.read(tmp_path) == report
    assert Report.read(tmp_path / "report.json") == report


def test_the_json_has_the_fields_the_design_fixes_and_does_not_depend_on_when_it_is_written(tmp_path):
    path = a_report().write(tmp_path)
    plain = json.loads(path.read_text())
    needed = "model data protocol users_evaluated metrics seconds epochs parameters peak_rss_mb lm seeds versions claim"
    assert set(needed.split()) < set(plain)
    assert set(plain["metrics"]["recall@10"]) == {"mean", "ci95", "per_seed"}
    assert set(plain["seconds"]) == {"prepare", "train", "per_epoch", "evaluate"}
    assert set(plain["lm"]) == {"calls", "cached", "tokens_in", "tokens_out", "usd"}
    assert {"part", "ranking", "mask", "history", "at", "selected_by", "ties"} <= set(plain["protocol"])
    claim = plain["claim"]["recall@10"]
    assert claim["difference"] == pytest.approx((claim["got"] - 0.5) / 0.5)
    first = path.read_bytes()
    assert a_report().write(tmp_path).read_bytes() == first
    assert json.loads(a_report(claim=None).write(tmp_path).read_text())["claim"] is None


def test_what_is_not_a_number_survives_as_strict_json(tmp_path):
    report = a_report(peak_rss_mb=float("nan"), metrics={"coverage@10": Metric(0.5, (float("nan"),) * 2, (0.5,))})
    path = report.write(tmp_path)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = Report.read(tmp_path)
    assert np.isnan(back.peak_rss_mb)
    assert np.isnan(back.metrics["coverage@10"].ci95[0])


@pytest.mark.parametrize(
    ("got", "verdict"), [(0.1157, "met"), (0.1123, "met"), (0.1122, "missed"), (0.1192, "exceeded"), (np.nan, "missed")]
)
def test_a_claim_is_judged_by_its_tolerance(got, verdict):
    assert Claim(0.1157, 0.03, got).verdict == verdict


@pytest.mark.parametrize(
    ("value", "got", "verdict"),
    [
        (0.0, 0.0, "met"),
        (0.0, 1e-4, "exceeded"),
        (0.0, -1e-4, "missed"),
        (0.0, math.nan, "missed"),
        (-2.0, -2.01, "met"),
        (-2.0, -1.0, "exceeded"),
        (-2.0, -3.0, "missed"),
    ],
)
def test_a_claim_of_zero_or_less_is_met_when_its_value_is_reached(value, got, verdict):
    claim = Claim(value, 0.03, got, "Table 2")
    assert claim.verdict == verdict
    assert verdict in shown(claims([a_report(claim={"recall@10": claim})]))


def test_a_damaged_or_newer_report_is_refused_by_name(tmp_path):
    with pytest.raises(MissingFile, match="penchant run"):
        Report.read(tmp_path)
    path = a_report().write(tmp_path)
    plain = json.loads(path.read_text())
    path.write_text(path.read_text()[:200])
    with pytest.raises(BadInput, match=r"report\.json is damaged"):
        Report.read(tmp_path)
    for other in ("[]", "{}", '"format"', '{"format": "1"}', "\x00", "[" * 100_000):
        path.write_text(other)
        with pytest.raises(BadInput, match="damaged"):
            Report.read(tmp_path)
    path.write_text(json.dumps(plain | {"users_evaluated": "many"}))
    with pytest.raises(BadInput, match="users_evaluated"):
        Report.read(tmp_path)
    path.write_text(json.dumps({k: v for k, v in plain.items() if k != "metrics"}))
    with pytest.raises(BadInput, match="metrics"):
        Report.read(tmp_path)
    path.write_text(json.dumps({"format": plain["format"] + 1}))
    with pytest.raises(BadModel, match="newer Penchant"):
        Report.read(tmp_path)


def test_nothing_half_written_is_left_where_writing_fails(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="Give another place to write to"):
        a_report().write(tmp_path / "file")
    (tmp_path / "run" / "report.json").mkdir(parents=True)
    with pytest.raises(BadInput, match="cannot write"):
        a_report().write(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["report.json"]


# --- per_user.parquet and top.parquet


@settings(max_examples=15, deadline=None)
@given(
    users=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), unique=True, max_size=6),
    seeds=st.lists(st.integers(0, 2**40), unique=True, min_size=1, max_size=3),
    names=st.lists(st.sampled_from(["recall@10", "ndcg@20", "auc"]), unique=True, min_size=1),
)
def test_per_user_values_come_back_in_their_rows(tmp_path_factory, users, seeds, names):
    rng = np.random.default_rng(0)
    values = {name: rng.random((len(seeds), len(users))) for name in names}
    folder = tmp_path_factory.mktemp("run")
    PerUser(tuple(users), tuple(seeds), values).write(folder)
    back = PerUser.read(folder)
    if not users:
        assert back.users == ()
        return
    assert back.users == tuple(users)
    assert back.seeds == tuple(seeds)
    for name in names:
        np.testing.assert_array_equal(back.values[name], values[name])


def test_per_user_parquet_is_a_plain_long_table(tmp_path):
    path = people().write(tmp_path)
    frame = pl.read_parquet(path)
    assert frame.columns == ["user_id", "seed", "metric", "value"]
    assert frame.schema["user_id"] == pl.String
    assert len(frame) == 2 * 2 * len(USERS)
    one = frame.filter((pl.col("user_id") == "u3") & (pl.col("seed") == 7) & (pl.col("metric") == "ndcg@10"))
    assert one["value"].to_list() == [people().values["ndcg@10"][1, 3]]


def test_shuffled_rows_are_read_alike_and_holes_are_refused(tmp_path):
    path = people().write(tmp_path)
    frame = pl.read_parquet(path)
    frame.sample(fraction=1, shuffle=True, seed=3).write_parquet(path)
    back, true = PerUser.read(tmp_path), people()
    rows = [back.users.index(u) for u in USERS]
    for name in true.values:
        seeds = [back.seeds.index(s) for s in true.seeds]
        np.testing.assert_array_equal(back.values[name][seeds][:, rows], true.values[name])
    for damaged in (frame[1:], frame[1:].vstack(frame[1:2]), frame.drop("seed"), frame.with_columns(value=None)):
        damaged.write_parquet(path)
        with pytest.raises(BadTable, match="penchant run"):
            PerUser.read(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadTable, match="damaged"):
        PerUser.read(tmp_path)
    with pytest.raises(
        UnknownKey, match=r"^no metric `recal@10` .* Did you mean `recall@10`\? There are: ndcg@10, rec"
    ):
        true.averaged("recal@10")


def test_top_lists_come_back_also_short_ones(tmp_path):
    true = lists()
    true.item[3, 4:] = -1
    path = true.write(tmp_path)
    back = TopLists.read(tmp_path)
    keys = np.array([*back.items.keys, ""])
    assert back.users == true.users
    np.testing.assert_array_equal(keys[back.item], np.array([*true.items.keys, ""])[true.item])
    np.testing.assert_array_equal(back.score[true.item >= 0], true.score[true.item >= 0])
    frame = pl.read_parquet(path)
    assert frame.columns == ["user_id", "rank", "item_id", "score"]
    assert frame.filter(pl.col("user_id") == "u3")["rank"].to_list() == [1, 2, 3, 4]
    assert true.counts().sum() == len(frame)
    for rank in (0, 2, 2_000_000_000):
        frame.with_columns(rank=pl.when(pl.col("rank") == 1).then(rank).otherwise("rank")).write_parquet(path)
        with pytest.raises(BadTable, match="ranks"):
            TopLists.read(tmp_path)


def test_summary_averages_seeds_first_and_brackets_the_mean():
    per_user = people()
    got = summarise(per_user)["recall@10"]
    values = per_user.values["recall@10"]
    assert got.mean == pytest.approx(values.mean())
    assert got.per_seed == pytest.approx(values.mean(axis=1))
    assert got.ci95[0] < got.mean < got.ci95[1]
    # The width is that of the seed-averaged value: about 3.92 standard errors over users.
    error = values.mean(axis=0).std(ddof=1) / np.sqrt(len(USERS))
    assert got.ci95[1] - got.ci95[0] == pytest.approx(3.92 * error, rel=0.15)


# --- the terminal


def shown(renderable: object, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_holds_every_fact_at_100_columns():
    reports = [a_report(), a_report(model="bpr", parameters=2_400_000, inputs={}), a_report(model="[red]ease[/red]")]
    names = ("recall@10", "ndcg@10", "hit@10")
    reports = [replace(r, metrics=dict.fromkeys(names, r.metrics["recall@10"])) for r in reports]
    text = shown(table(reports))
    got = reports[0].metrics["recall@10"]
    for fact in (*names, "seeds", "64 s", "5,120", "2.4 M", "$0.25", "40 users", "mask train", "history train"):
        assert fact in text, fact
    assert text.count(f"{got.mean:.4f}") == 9
    assert f"{got.ci95[0]:.4f}–{got.ci95[1]:.4f}" in text
    assert "external" in text
    assert "[red]ease" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_table_says_when_protocols_differ():
    other = replace(a_report(), protocol=replace(a_report().protocol, mask=("train", "valid")))
    assert "not to be compared" in shown(table([a_report(), other]))
    assert "not to be compared" not in shown(table([a_report(), a_report(model="bpr")]))


def test_claims_show_claimed_got_difference_and_verdict():
    text = shown(claims([a_report(claim={"recall@10": Claim(0.1157, 0.03, 0.1235, "RLMRec, Table 2", leaks=True)})]))
    for fact in ("0.1157", "0.1235", "+6.7 %", "±3 %", "exceeded", "RLMRec, Table 2", "leakage"):
        assert fact in text
    assert claims([a_report(claim=None)]) is None


def test_runs_of_one_model_are_told_apart_by_what_differs():
    ease = a_report(model="ease", settings={"l2": 200, "alpha": 1})
    names = words.labels([ease, replace(ease, settings={"l2": 1000, "alpha": 1}), a_report()])
    assert names == ("ease l2=200", "ease l2=1000", "lightgcn")
    assert words.labels([ease, ease]) == ("ease #1", "ease #2")
    folders = ["films-ease", "films-ease-wide", "films-graph"]
    assert words.labels([ease, ease, a_report()], folders) == ("ease", "ease-wide", "lightgcn")
    assert words.labels([ease, ease, a_report()], ["a", "b", "c"]) == ("a", "b", "lightgcn")
    assert words.labels([ease, ease], ["same", "same"]) == ("ease #1", "ease #2")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.metric("valid ndcg@20"), "Validation NDCG@20"),
        (words.signed(-0.008), "−0.8 %"),
        (words.meaning("mrr"), "one over the place of the first hit"),
        (words.meaning("mrr@10"), "one over the place of the first hit, nothing if it is beyond 10"),
        (words.duration(0.42), "0.4 s"),
        (words.duration(240), "4.0 min"),
        (words.count(1_234_567), "1.2 M"),
        (words.figure("recall@20", 0.0858), "8.58 %"),
        (words.figure("ndcg@20", 0.0858), "0.0858"),
    ],
)
def test_numbers_are_said_for_people(said, expected):
    assert said == expected


# --- report.html


class Reader(HTMLParser):
    """Collects what a browser would see: elements, attributes, text by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)


def written(tmp_path, **changes) -> str:
    cards = tuple(
        Card(f"i{i}", f"Thing {i}", jpeg() if i == 0 else None, "$4.99", 1 - i / 10, "Because.", i == 2)
        for i in range(10)
    )
    given = {
        "report": a_report(),
        "per_user": people(),
        "top": lists(),
        "examples": (Example("u1", cards[:3], cards),),
        "others": (a_report(model="popular", inputs={}),),
        "audience": audience(),
    } | changes
    return page.write(tmp_path, **given).read_text("utf-8")


NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</title></style><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\bad_math$ & &lt;b&gt;",
    "data:text/html,<script>1</script>",
)


def test_whatever_strangers_wrote_stays_text(tmp_path):
    clean = Reader(written(tmp_path))
    quick = {"audience": None, "per_user": PerUser((), (0,), {})}  # fewer plots
    for evil in NASTY:
        card = Card(evil, evil, None, evil, 1.0, evil, True)
        report = a_report(
            model=evil,
            curve=(),
            paper=evil,
            data=replace(a_report().data, name=evil),
            settings={evil: evil},
            versions={evil: evil},
            notes={evil: 1},
            inputs={evil: Input(evil, evil, external=True)},
            claim={"recall@10": Claim(0.5, 0.03, 0.5, evil)},
        )
        same = replace(report, model="beside " + evil)
        html = written(
            tmp_path, report=report, others=(same,), examples=(Example(evil, (card,), (card,), evil),), **quick
        )
        seen = Reader(html)
        assert set(seen.tags) <= set(clean.tags), evil
        assert {(t, n) for t, n, _ in seen.attributes} <= {(t, n) for t, n, _ in clean.attributes}, evil
        assert sum(evil in part for part in seen.text) >= 12, evil
        assert "49" not in "".join(p for p in seen.text if "7 * 7" in p)


@settings(max_examples=25, deadline=None)
@given(title=st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=30))
def test_any_title_is_read_back_as_it_was(tmp_path_factory, title):
    html = page.environment().get_template("parts.html").module.picture(page.Shown(Card("i", title), ""))
    steering = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
    said = steering.sub(lambda found: repr(found[0])[1:-1], title)
    assert said in "".join(Reader(str(html)).text)


def test_what_would_steer_a_terminal_or_turn_a_line_is_written_out(tmp_path):
    """Somebody reads the page with `cat`, or looks at a title that runs backwards over its neighbours."""
    evil = "\x1b[31mred\x1b[0m \u202egnp.exe\u2066 \x9b2J\x07"
    card = Card(evil, evil, None, evil, reason=evil)
    report = a_report(paper=evil, claim={"recall@10": Claim(0.5, 0.03, 0.5, evil)}, notes={evil: 3})
    report = replace(report, data=replace(report.data, name=evil), model=evil)
    people_ = (Example(evil, (card,), (card,), evil),)
    html = page.write(tmp_path, report, people(), lists(), people_, (), audience()).read_text("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    assert r"\x1b[31mred\x1b[0m \u202egnp.exe" in html


@pytest.mark.parametrize("evil", ["\x1b[31mred", "\u202egnp.exe", "\x9b2J"])
def test_tables_do_not_steer_a_terminal(evil):
    report = a_report(model=evil, claim={"recall@10": Claim(0.5, 0.03, 0.5, evil, leaks=True)})
    report = replace(report, data=replace(report.data, name=evil), inputs={evil: Input("posters", external=True)})
    for made in (table([report]), claims([report])):
        said = shown(made)
        assert evil[0] not in said
        assert evil[1:] in said


def test_words_of_scripts_with_joiners_stay_whole():
    assert "می\u200cخواهم" in shown(table([a_report(model="می\u200cخواهم")]))


def test_the_page_asks_for_nothing_from_outside(tmp_path):
    html = written(tmp_path)
    seen = Reader(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"} & set(seen.tags)
    assert "default-src 'none'" in html
    for tag, name, value in seen.attributes:
        assert not name.startswith("on")
        if name in ("src", "srcset", "href", "xlink:href", "poster", "action", "data"):
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
    assert not re.search(r"https?://|@import|url\((?!['\"]?#)", html)


def test_the_page_says_what_was_measured(tmp_path):
    report = a_report()
    text = re.sub(r"\s+", " ", " ".join(Reader(written(tmp_path)).text))
    got = report.metrics["recall@10"]
    for fact in (
        "lightgcn on shop",
        f"first 10 recommendations hold {100 * got.mean:.1f} % on average",
        f"between {100 * got.ci95[0]:.1f} % and {100 * got.ci95[1]:.1f} %",
        "Claim",
        "A paper, table 2",
        "popular",
        "Kept: epoch 5",
        "came with the data; what it has seen cannot be checked",
        "duplicate interactions dropped",
        "features/ab12",
        "leave_last_out seed=0",
        "oldest first",
        "1 of 10 was indeed chosen later",
        "✓ chosen later",
        "$4.99",
    ):
        assert fact in text, fact


def test_order_of_the_page(tmp_path):
    html = written(tmp_path)
    parts = [
        html.index(f'id="{name}"')
        for name in ["numbers", "comparison", "learning", "users", "popularity", "examples", "how"]
    ]
    assert parts == sorted(parts)


def test_a_bare_run_still_makes_a_page(tmp_path):
    bare = a_report(curve=(), claim=None, inputs={}, settings={}, training={}, notes={}, best_seed=None, paper="")
    html = written(tmp_path, report=bare, examples=(Example("new", (), ()),), others=(), audience=None)
    assert "no epochs" in html
    assert 'id="comparison"' not in html
    assert 'id="popularity"' not in html
    assert "Nothing is known of this user" in html
    assert "<h1>" in written(tmp_path, report=replace(bare, metrics={}), others=(), examples=(), audience=None)


def test_other_protocols_are_named_but_not_shown_beside(tmp_path):
    alien = a_report(model="alien", protocol=replace(a_report().protocol, history=("train", "valid")))
    html = written(tmp_path, others=(a_report(model="popular"), alien))
    rows = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    assert any("popular" in row for row in rows)
    assert not any("alien" in row for row in rows)
    assert "Not shown" in html
    assert "alien" in html


def test_pictures_are_small_and_damaged_ones_become_a_title(tmp_path):
    small = page.thumbnail(jpeg(3000, 2000))
    assert small is not None
    assert max(Image.open(io.BytesIO(small)).size) <= 160
    assert page.thumbnail(b"no picture") is None
    assert page.thumbnail(jpeg()[:900]) is None
    html = written(tmp_path, examples=(Example("u", (), (Card("x", "The broken one", b"GIF89a"),)),))
    assert "data:image" not in html.split("<body>")[1]
    assert html.count("The broken one") == 2  # in the place of the picture, and as the title


def test_three_users_with_ten_pictures_each_stay_under_two_megabytes(tmp_path):
    examples = []
    for user in range(3):
        cards = tuple(Card(f"i{i}", f"Thing {i}", jpeg(), score=0.5, reason="word " * 40) for i in range(30))
        examples.append(Example(f"u{user}", cards, cards[:10]))
    html = written(tmp_path, examples=tuple(examples))
    assert html.count("data:image/jpeg") == 3 * (12 + 10)
    assert "18 earlier choices not shown" in html
    assert len(html.encode()) < 2_000_000


def test_histories_of_another_number_of_users_are_refused(tmp_path):
    with pytest.raises(Misaligned, match="39 history lengths for 40 users"):
        written(tmp_path, audience=replace(audience(), history=np.ones(39, int)))


# --- plots


def all_plots() -> dict[str, str]:
    curve = a_report().curve
    return {
        "loss": plots.loss(curve, 7),
        "validation": plots.validation(curve, 7),
        "spread": plots.spread(np.array([0, 0, 0.5, 1.0])),
        "history": plots.by_history(np.linspace(0, 1, 40), np.arange(40)),
        "tail": plots.tail(np.array([3, 0, 1]), np.array([5, 0, 0])),
    }


def test_plots_take_every_colour_from_the_page_and_clash_with_nothing():
    drawn = all_plots()
    for name, svg in drawn.items():
        assert not re.search(r"#[0-9a-fA-F]{6}", svg), name
        assert "var(--accent)" in svg
        assert "font-family" not in svg
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) <= set(ids)
    every = [i for svg in drawn.values() for i in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(every) == len(set(every))
    assert drawn == all_plots()


def test_plots_tell_the_truth():
    assert plots.chosen([Point(0, 1, 1.0, 0.2), Point(0, 2, 1.0, 0.3), Point(0, 3, 1.0, 0.3)]) == Point(0, 2, 1.0, 0.3)
    assert plots.chosen([Point(0, 1, 1.0)]) is None
    assert "kept: epoch 5, 0.2500" in plots.validation(a_report().curve, 7)
    bars = re.findall(r">(\d+ %)<", plots.spread(np.array([0, 0, 0.05, 1.0])))
    assert bars == ["50 %", "25 %", "25 %"]
    groups = plots.by_history(np.ones(6), np.array([1, 1, 1, 1, 5, 9]), groups=2)
    assert "4 users" in groups
    assert "5–9" in groups


@pytest.mark.parametrize("history", [[3], [3, 3, 3], [0, 0, 0, 9], [1, 2]])
def test_history_groups_hold_every_user_once(history):
    svg = plots.by_history(np.ones(len(history)), np.array(history))
    assert sum(int(n) for n in re.findall(r"(\d+) users", svg)) == len(history)


def test_drawing_is_lazy_and_leaves_no_state_behind():
    code = (
        "import sys, penchant.page, penchant.compare; assert 'matplotlib' not in sys.modules;"
        "from penchant import plots; import numpy as np; plots.spread(np.array([0.5]));"
        "assert 'matplotlib.pyplot' not in sys.modules; import matplotlib;"
        "assert matplotlib.rcParams['svg.fonttype'] == 'path'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
