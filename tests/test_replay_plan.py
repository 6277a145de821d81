"""Replay, which calls nobody, and the plan, which says beforehand what a run is going to ask."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_lm import Toy, catalog, picture, review, title, world

from penchant import enrich
from penchant import lm as models
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.errors import MissingInput, NotReplayed
from penchant.lm import Request, Status, tokens
from penchant.lm.replay import Replay
from penchant.store import Store

HOW: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in enrich.prompts.names()]
HOW += [("user_motives", {"through": True}), ("item_motives", {"through": True})]
HOW += [("user_preference", {"items": "item_from_picture"}), ("user_motives", {"category": "cups"})]
NAMES = ["+".join([name, *how]) for name, how in HOW]


def train_of(data: Dataset) -> Interactions:
    assert data.given is not None
    return data.interactions.take(data.given == 0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return world()


@pytest.fixture(scope="module")
def train(data: Dataset) -> Interactions:
    return train_of(data)


def some_bad(request: Request) -> Status | None:
    """Every fifth question or so ends badly, in one of three ways."""
    number = int(request.key("toy", "1")[:8], 16)
    return None if number % 5 else ("refused", "unparsable", "truncated")[number // 5 % 3]  # type: ignore[return-value]


# replay


@pytest.mark.parametrize(("prompt", "how"), HOW, ids=NAMES)
def test_a_whole_run_is_replayed_without_a_call(
    prompt: str, how: dict[str, Any], data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    store, lm = Store(tmp_path), Toy(width=5, bad=some_bad)
    first = enrich.write(prompt, train, data.catalog, lm, store, **how)
    calls = len(lm.heard)
    for spec in ("replay", "replay:toy", Replay(lm, store)):
        again = enrich.write(prompt, train, data.catalog, spec, store, **how)
        assert again.ref == first.ref
        assert again.texts.values == first.texts.values
        assert again.counts["cached"] == again.counts["asked"] == first.counts["asked"]
        assert again.usd == 0
    assert len(lm.heard) == calls
    assert "replay" not in first.texts.source.made_by


def miss(prompt: str, train: Interactions | None, shop: Catalog, lm: Toy | str, store: Store, **how: Any) -> str:
    with pytest.raises(NotReplayed) as raised:
        enrich.write(prompt, train, shop, lm if isinstance(lm, str) else Replay(lm, store), store, **how)
    said = str(raised.value)
    assert said.endswith("without --replay")
    return said


def test_a_miss_names_the_item_and_says_that_the_model_differs(
    data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    enrich.write("item_motives", train, data.catalog, Toy(), store)
    said = miss("item_motives", train, data.catalog, Toy(name="another"), store)
    assert said.startswith("item i0: ")
    assert "model: was 'toy', is 'another'" in said
    said = miss("item_motives", train, data.catalog, Toy(revision="2"), store)
    assert "revision: was '1', is '2'" in said
    assert "model:" not in said


def test_a_miss_says_which_line_of_the_question_differs(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store = Store(tmp_path)
    enrich.write("user_motives", train, data.catalog, Toy(), store)
    assert train.review is not None
    row = int((train.user == 3).nonzero()[0][2])
    said = list(train.review)
    said[row] = "Something else entirely"
    other = replace(train, review=tuple(said))
    found = miss("user_motives", other, data.catalog, "replay", store)
    assert found.startswith("user u3: ")
    item = int(train.item[row])
    assert f"was '   review: {review(3, item)}"[:40] in found
    assert "is '   review: Something else entirely'" in found


def test_a_miss_says_that_the_prompt_differs(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), tmp_path / "mine.md"
    head = 'version = 1\nof = "user"\nreply = "Preference"\nsees = ["titles", "train history"]'

    def write(system: str, reply: str = "Preference", most: int = 600) -> str:
        said = head.replace("Preference", reply) + f"\nmax_tokens = {most}"
        file.write_text(f"+++\n{said}\n+++\n# system\n{system}\n\n# user\n{{opening}}\n{{items}}\n", "utf-8")
        return str(file)

    enrich.write(write("Say what she likes."), train, data.catalog, Toy(), store)
    assert "the system text: was 'Say what she likes.', is 'Say it.'" in miss(
        write("Say it."), train, data.catalog, "replay", store
    )
    assert "max_tokens: was '600', is '601'" in miss(
        write("Say what she likes.", most=601), train, data.catalog, "replay", store
    )
    assert "the reply's schema" in miss(write("Say what she likes.", "Motives"), train, data.catalog, "replay", store)
    assert "is 'The catalogue is of cups" in _category_miss(train, data, tmp_path)


def _category_miss(train: Interactions, data: Dataset, place: Path) -> str:
    store = Store(place / "category")
    enrich.write("item_from_picture", None, data.catalog, Toy(), store)
    return miss("item_from_picture", None, data.catalog, "replay", store, category="cups")


def test_a_miss_says_that_the_picture_differs(data: Dataset, tmp_path: Path) -> None:
    store = Store(tmp_path)
    enrich.write("item_from_picture", None, data.catalog, Toy(), store)
    raw = [picture(n) for n in range(18)]
    raw[7] = picture(200)
    shown = Pictures(data.items, data.catalog.pictures.where, tuple(raw))
    said = miss("item_from_picture", None, replace(data.catalog, pictures=shown), "replay", store)
    assert said.startswith("item i7: ")
    assert "differs in the picture." in said


def test_a_miss_of_something_never_asked_says_so(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store = Store(tmp_path)
    enrich.write("user_motives", train, data.catalog, Toy(), store, limit=4)
    said = miss("user_motives", train, data.catalog, "replay", store)
    assert said.startswith("user u4: ")
    assert "holds no answer for it" in said
    said = miss("item_motives", train, data.catalog, "replay", store)
    assert said.startswith("item i0: ")


def test_what_was_asked_in_vain_is_a_gap_again_and_nobody_is_called(
    data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    lm = Toy(bad=lambda request: "failed" if title(3) in request.user else None)
    first = enrich.write("item_motives", train, data.catalog, lm, store)
    again = enrich.write("item_motives", train, data.catalog, "replay", store)
    assert again.texts.values == first.texts.values
    assert again.texts.values[3] is None


def test_a_miss_in_a_recurrence_says_what_differs(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store = Store(tmp_path)
    enrich.write("preference_step", train, data.catalog, Toy(), store)
    said = miss("preference_step", train, data.catalog, "replay", store, category="cups")
    assert said.startswith("user u0: ")
    assert "The catalogue is of cups" in said


def test_replay_alone_takes_the_model_that_answered_most(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store = Store(tmp_path)
    few = enrich.write("user_motives", train, data.catalog, Toy(name="few"), store)
    enrich.write("user_motives", train, data.catalog, Toy(name="many"), store)
    enrich.write("item_motives", train, data.catalog, Toy(name="many"), store)
    assert models.open("replay", store).name == "many"
    assert enrich.write("user_motives", train, data.catalog, "replay:few", store).ref == few.ref
    with pytest.raises(MissingInput, match=r"no answers of none.*it has: many, few.*replay:MODEL"):
        models.open("replay:none", store)
    with pytest.raises(MissingInput, match="any model"):
        models.open("replay", Store(tmp_path / "empty"))


@pytest.mark.parametrize("context", [2000, 100_000])
def test_replay_alone_cuts_histories_as_the_model_needed_them(context: int, tmp_path: Path) -> None:
    data = world(users=3, items=40, choices=33)
    shop = replace(
        data.catalog, fields={"title": data.catalog.fields["title"], "description": ("long word " * 250,) * 40}
    )
    train = replace(train_of(data), review=tuple("very long review " * 90 for _ in range(90)))
    store = Store(tmp_path)
    file = tmp_path / "mine.md"
    head = 'version = 1\nof = "user"\nreply = "Preference"\nsees = ["item text", "train history", "train reviews"]'
    limits = "[limits]\nmost = 30\nitem_tokens = 300\nreview_tokens = 400"
    file.write_text(f"+++\n{head}\n{limits}\n+++\n# system\nSay it.\n\n# user\n{{opening}}\n{{reviews}}\n", "utf-8")
    first = enrich.write(str(file), train, shop, Toy(context=context), store)
    try:
        assert enrich.write(str(file), train, shop, "replay", store).ref == first.ref
    except NotReplayed as error:
        pytest.fail(str(error))


# plan


def planned(plan: Any) -> Counter[str]:
    """Calls by prompt."""
    return Counter({part.prompt: part.calls for part in (*plan.stages, plan)})


@pytest.mark.parametrize(("prompt", "how"), HOW, ids=NAMES)
def test_a_plan_says_how_often_a_run_is_going_to_ask(
    prompt: str, how: dict[str, Any], data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    store, lm = Store(tmp_path), Toy()
    plan = enrich.plan(prompt, train, data.catalog, lm, store, **how)
    assert lm.heard == []
    assert sum(planned(plan).values()) > 0
    written = enrich.write(prompt, train, data.catalog, lm, store, **how)
    asked = Counter[str]()
    for stage in (*written.stages, written):
        asked[stage.texts.source.made_by.partition(":")[2].partition("@")[0]] = stage.counts["calls"]
    assert planned(plan) == asked
    assert sum(asked.values()) == len(lm.heard)
    assert plan.cached == 0
    assert plan.without_input == written.counts.get("without_input", 0)
    after = enrich.plan(prompt, train, data.catalog, lm, store, **how)
    assert sum(planned(after).values()) == 0
    assert after.cached == written.counts["asked"]
    assert (after.tokens_in, after.tokens_out) == (0, 0)


def test_a_plan_writes_nothing_and_asks_nobody(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store, lm = Store(tmp_path / "store"), Toy()
    for prompt, how in HOW:
        enrich.plan(prompt, train, data.catalog, lm, store, **how)
    assert lm.heard == []
    assert {path.name.split("-")[0] for path in store.path.iterdir()} <= {"store.sqlite"}
    with store.calls() as calls:
        assert len(calls) == 0
        assert calls.connection.execute("SELECT count(*) FROM mentions").fetchone() == (0,)
        assert calls.connection.execute("SELECT count(*) FROM pictures").fetchone() == (0,)


def test_after_a_part_of_a_run_the_rest_is_planned(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    store, lm = Store(tmp_path), Toy()
    enrich.write("user_motives", train, data.catalog, lm, store, limit=4)
    plan = enrich.plan("user_motives", train, data.catalog, lm, store)
    assert (plan.calls, plan.cached) == (6, 4)
    assert enrich.plan("user_motives", train, data.catalog, lm, store, limit=3).calls == 0
    assert enrich.plan("user_motives", train, data.catalog, lm, store, limit=5).calls == 1


def test_failed_calls_are_planned_again_and_bad_ones_on_demand(
    data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    bad: dict[str, Status] = {"u1": "failed", "u2": "refused", "u3": "truncated"}
    lm = Toy(bad=lambda request: bad.get(request.about[1]) if request.about else None)
    enrich.write("user_motives", train, data.catalog, lm, store)
    assert enrich.plan("user_motives", train, data.catalog, lm, store).calls == 1
    assert enrich.plan("user_motives", train, data.catalog, lm, store, again=("refused", "truncated")).calls == 3


def same_choices(users: int) -> tuple[Interactions, Catalog]:
    """Everybody chose the same, and nobody wrote about it: one question for all."""
    shop = catalog(4)
    ids = Ids("user", tuple(f"u{n}" for n in range(users)))
    user = [n for n in range(users) for _ in range(2)]
    return Interactions(ids, shop.items, user, [0, 1] * users), shop  # type: ignore[arg-type]


def test_equal_questions_are_planned_once(tmp_path: Path) -> None:
    train, shop = same_choices(150)
    plan = enrich.plan("user_preference", train, shop, Toy(), Store(tmp_path))
    assert (plan.calls, plan.cached) == (1, 149)


@pytest.mark.parametrize("prompt", ["user_motives", "item_motives", "review_motives", "user_profile"])
def test_planned_tokens_are_those_of_the_questions_by_the_stated_rule(
    prompt: str, data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    store, lm = Store(tmp_path), Toy()
    plan = enrich.plan(prompt, train, data.catalog, lm, store)
    written = enrich.write(prompt, train, data.catalog, lm, store)
    assert (
        plan.tokens_in
        == written.counts["tokens_in"]
        == sum(tokens.count(r.system) + tokens.count(r.user) + 8 for r in lm.heard)
    )
    assert plan.rule.startswith(tokens.RULE)
    assert plan.tokens_out <= len(lm.heard) * lm.heard[0].max_tokens


def test_the_rule_is_corrected_by_what_the_server_counted(tmp_path: Path) -> None:
    data = world(users=60, items=30)
    train, store = train_of(data), Store(tmp_path)
    lm = Toy(rate=2.0)
    exact = enrich.plan("user_motives", train, data.catalog, lm, store)
    enrich.write("user_motives", train, data.catalog, lm, store, limit=19)
    too_few = enrich.plan("user_motives", train, data.catalog, lm, store)
    assert too_few.rule == exact.rule
    first = enrich.write("user_motives", train, data.catalog, lm, store, limit=40)
    plan = enrich.plan("user_motives", train, data.catalog, lm, store)
    assert plan.calls == 20
    assert "times 2.00" in plan.rule
    rest = enrich.write("user_motives", train, data.catalog, lm, store)
    needed = rest.counts["tokens_in"] - first.counts["tokens_in"]
    assert plan.tokens_in == pytest.approx(needed, rel=0.02)
    answered = rest.counts["tokens_out"] - first.counts["tokens_out"]
    assert plan.tokens_out == pytest.approx(answered, rel=0.1)
    another = enrich.plan("user_motives", train, data.catalog, Toy(name="another"), store)
    assert another.rule == exact.rule


def test_dollars_follow_from_a_price_that_the_user_may_write(
    data: Dataset, train: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENCHANT_PRICES", raising=False)
    unknown = enrich.plan("user_motives", train, data.catalog, Toy(), Store(tmp_path / "s"))
    assert unknown.usd is None
    assert unknown.usd_most is None
    prices = tmp_path / "prices.toml"
    prices.write_text("[models.toy]\nin = 2.0\nout = 10.0\n", "utf-8")
    monkeypatch.setenv("PENCHANT_PRICES", str(prices))
    plan = enrich.plan("user_motives", train, data.catalog, Toy(), Store(tmp_path / "s"))
    assert plan.usd is not None
    assert plan.usd_most is not None
    assert plan.usd == pytest.approx((2 * plan.tokens_in + 10 * plan.tokens_out) / 1e6)
    assert plan.usd_most == pytest.approx((2 * plan.tokens_in + 10 * plan.calls * 600) / 1e6)
    assert plan.usd_most > plan.usd


@pytest.mark.parametrize("prompt", ["user_motives", "item_motives", "user_preference", "review_motives"])
def test_a_plan_says_what_is_cut(prompt: str, tmp_path: Path) -> None:
    data = world(users=4, items=30, choices=28)
    train = train_of(data)
    long = replace(train, review=tuple("a very long review " * 200 for _ in range(len(train))))
    shop = replace(data.catalog, fields={**data.catalog.fields, "description": ("many words " * 300,) * 30})
    plan = enrich.plan(prompt, long, shop, Toy(), Store(tmp_path))
    written = enrich.write(prompt, long, shop, Toy(), Store(tmp_path))
    assert plan.truncated
    assert plan.truncated == {
        name: written.counts[name] for name in ("cut_texts", "cut_tokens", "left_out") if written.counts.get(name)
    }


HERE = ("", "http://localhost:8000/v1", "http://127.0.0.1:8000/v1", "http://[::1]:8000/v1", "http://LOCALHOST/v1")
THERE = (
    ("https://api.openai.com/v1", "api.openai.com"),
    ("http://10.0.0.5:8000/v1", "10.0.0.5"),
    ("http://127.0.0.1.example.com/v1", "127.0.0.1.example.com"),
    ("http://localhost.example.com/v1", "localhost.example.com"),
)


@pytest.mark.parametrize("where", HERE)
def test_nothing_leaves_to_this_machine(where: str, data: Dataset, train: Interactions, tmp_path: Path) -> None:
    for prompt in ("user_motives", "review_motives", "item_motives"):
        plan = enrich.plan(prompt, train, data.catalog, Toy(where=where), Store(tmp_path), through=True)
        assert [part.leaves for part in (*plan.stages, plan)] == [""] * (1 + len(plan.stages))


def test_nothing_leaves_to_any_loopback_address(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    lm = Toy(where="http://127.0.0.2:8000/v1")
    assert enrich.plan("user_motives", train, data.catalog, lm, Store(tmp_path)).leaves == ""


@pytest.mark.parametrize(("where", "host"), THERE)
def test_a_plan_names_what_leaves_and_where_to(
    where: str, host: str, data: Dataset, train: Interactions, tmp_path: Path
) -> None:
    lm, store = Toy(where=where), Store(tmp_path)
    said = enrich.plan("user_motives", train, data.catalog, lm, store).leaves
    assert said.endswith(f"to {host}")
    assert "reviews" in said
    assert "history" in said
    assert "ratings" in said
    assert "reviews" not in enrich.plan("user_preference", train, data.catalog, lm, store).leaves
    assert enrich.plan("item_from_picture", None, data.catalog, lm, store).leaves == ""
    through = enrich.plan("user_motives", train, data.catalog, lm, store, through=True)
    assert "reviews" in through.stages[0].leaves


def test_a_plan_is_plain_for_machines(data: Dataset, train: Interactions, tmp_path: Path) -> None:
    plan = enrich.plan("item_summary", None, data.catalog, Toy(), Store(tmp_path))
    said = json.loads(json.dumps(plan.plain()))
    assert said["calls"] == 18
    assert said["stages"][0]["prompt"] == "item_questions"
    assert plan.stages[0].calls == 18
