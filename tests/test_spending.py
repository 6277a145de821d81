"""Spending: known prices, tables of the user's, and a budget that holds whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import random
import threading
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import BadSetting, BudgetSpent
from penchant.lm.endpoint import Endpoint
from penchant.lm.spending import OWN, Bound, Budget, Price, Prices, Purse, price_of

HERE = "http://127.0.0.1:9/v1"  # nobody is asked


# --- prices


def test_a_known_bill() -> None:
    price = Price(usd_in=0.15, usd_out=0.60, picture=8500)
    assert price.usd(1_000_000, 0) == pytest.approx(0.15)
    assert price.usd(0, 1_000_000) == pytest.approx(0.60)
    assert price.usd(2000, 500, pictures=2) == pytest.approx((19_000 * 0.15 + 500 * 0.60) / 1e6)
    assert Price(0, 0).usd(10**9, 10**9, 10**6) == 0


def test_our_own_table_is_whole_dated_and_plausible() -> None:
    raw = tomllib.loads(OWN.read_text("utf-8"))
    assert isinstance(raw["checked"], date)
    assert "PRICES CHANGE" in OWN.read_text("utf-8")
    for name in raw["models"]:
        price = Prices.read().of(name)
        assert price is not None
        assert 0 < price.usd_in < price.usd_out < 100
        assert 100 < price.picture < 10_000


def test_a_snapshot_costs_what_its_model_costs_unless_it_has_a_line() -> None:
    assert price_of("gpt-4o-mini-2024-07-18") == price_of("gpt-4o-mini")
    old, new = price_of("gpt-4o-2024-05-13"), price_of("gpt-4o-2024-08-06")
    assert old is not None
    assert new == price_of("gpt-4o")
    assert old.usd_in > 2.5


@pytest.mark.parametrize("model", ["gpt-4o-audio-preview", "gpt-5-pro", "gpt-4o-minimal", "my-model", "", "GPT-4O"])
def test_no_model_gets_the_price_of_another(model: str) -> None:
    assert price_of(model) is None


def test_a_table_of_the_users_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[models.gpt-4o]\nin = 1\nout = 2\n[models."local-*"]\nin = 0\nout = 0\n[models."local-big*"]\nin = 0.5\nout = 1\n'
        "picture = 600\n"
    )
    prices = Prices.read(file)
    assert prices.of("gpt-4o") == prices.of("gpt-4o-2024-08-06") == Price(1, 2)
    assert prices.of("local-small") == Price(0, 0)
    assert prices.of("local-bigger") == Price(0.5, 1, 600), "the longest pattern that fits"
    assert prices.of("gpt-4o-mini") == price_of("gpt-4o-mini"), "ours is still there"
    assert price_of("local-small") is None
    monkeypatch.setenv("PENCHANT_PRICES", str(file))
    assert price_of("local-small") == Price(0, 0)
    file.write_text('[models."*"]\nin = 0\nout = 0\n')
    assert price_of("gpt-4o") == Price(0, 0), "a pattern of the user's comes before our line"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models.m\n", "cannot be read"),
        ("[models.m]\nin = 1\n", "lacks `out`"),
        ("[models.m]\nin = 1\nout = 2\npictures = 3\n", "Did you mean `picture`?"),
        ("[models.m]\nin = -1\nout = 2\n", "`in` = -1"),
        ("[models.m]\nin = nan\nout = 2\n", "`in` = nan"),
        ("[models.m]\nin = true\nout = 2\n", "`in` = True"),
        ('[models.m]\nin = "1"\nout = 2\n', "`in` = '1'"),
        ("[m]\nin = 1\nout = 2\n", "has m, which is no price"),
        ("models = 3\n", "is no table"),
        ("[models]\nm = 3\n", "is no table"),
    ],
)
def test_a_table_that_is_wrong_is_named_with_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadSetting) as caught:
        Prices.read(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert 'Write, in dollars per million tokens:  [models."NAME"]' in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_PRICES", str(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match=r"none\.toml"):
        price_of("gpt-4o")


def test_a_budget_needs_a_price() -> None:
    with pytest.raises(BadSetting, match="PENCHANT_PRICES") as caught:
        Endpoint(HERE, "my-model", budget=Budget(1.0))
    assert '[models."my-model"]' in str(caught.value)
    free = Prices(({"my-model": Price(0, 0)},))
    assert Endpoint(HERE, "my-model", budget=Budget(0.0), prices=free).price == Price(0, 0)
    assert Endpoint(HERE, "my-model").price is None


# --- the budget


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_a_budget_is_an_amount(usd: float) -> None:
    with pytest.raises(BadSetting, match="--budget-usd"):
        Budget(usd)


def test_a_budget_is_used_to_the_last_cent_and_not_beyond() -> None:
    """Ten times 0.1 is 1.0 here, unlike in floating point, and nothing more fits."""
    budget = Budget(1.0)
    for _ in range(10):
        assert budget.reserve(0.1)
    assert budget.held == 1.0
    assert not budget.reserve(1e-12)
    for _ in range(10):
        budget.settle(0.1, 0.1)
    assert (budget.spent, budget.held) == (1.0, 0.0)
    assert not budget.reserve(1e-12)
    assert budget.reserve(0.0)


DOLLARS = st.floats(0, 2, allow_nan=False)


@given(usd=DOLLARS, steps=st.lists(st.tuples(DOLLARS, st.floats(0, 1), st.booleans()), max_size=60))
def test_spent_and_held_never_exceed_the_budget(usd: float, steps: list[tuple[float, float, bool]]) -> None:
    """Any mixture of reserving and settling; a call costs a share of its maximum. What fits is never refused."""
    budget = Budget(usd)
    flying: list[tuple[float, float]] = []
    for maximum, share, land in steps:
        if land and flying:
            reserved, actual = flying.pop(0)
            budget.settle(reserved, actual)
        else:
            free = usd - budget.spent - budget.held
            taken = budget.reserve(maximum)
            assert taken or maximum > free - 1e-9
            assert not taken or maximum <= free + 1e-9
            if taken:
                flying.append((maximum, maximum * share))
        assert budget.spent + budget.held <= usd + 1e-15
        assert budget.held == pytest.approx(sum(reserved for reserved, _ in flying), abs=1e-9)


def test_threads_share_a_budget() -> None:
    budget = Budget(1.0)
    taken: list[int] = []

    def work() -> None:
        mine = 0
        for _ in range(2000):
            if budget.reserve(0.001):
                mine += 1
                budget.settle(0.001, 0.001)
        taken.append(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000
    assert budget.spent == 1.0


# --- the purse of a run


def test_calls_wait_for_money_that_may_come_back_and_stop_when_none_can() -> None:
    """Calls may cost 0.4 and cost 0.01 to 0.4; whatever is in flight, the sum stays within 1.0, and little is left."""
    for seed in range(20):
        rng = random.Random(seed)
        budget = Budget(1.0)
        purse = Purse(budget)
        most = 0.0
        paid: list[float] = []

        async def call(purse: Purse, rng: random.Random, budget: Budget, paid: list[float]) -> None:
            async with purse.set_aside(0.4) as bill:
                await asyncio.sleep(rng.uniform(0, 0.002))
                nonlocal most
                most = max(most, budget.spent + budget.held)
                bill.cost = rng.uniform(0.01, 0.4)
                paid.append(bill.cost)

        async def all_of_them(*shared: object) -> list[BaseException | None]:
            return await asyncio.gather(*[call(*shared) for _ in range(60)], return_exceptions=True)  # type: ignore[arg-type]

        ends = asyncio.run(all_of_them(purse, rng, budget, paid))
        stopped = [end for end in ends if end is not None]
        assert stopped
        assert all(isinstance(end, BudgetSpent) for end in stopped)
        assert sum(paid) == pytest.approx(budget.spent)
        assert 0.6 < budget.spent <= 1.0, "as long as the maximum of a call fits, it is made"
        assert most <= 1.0
        assert budget.held == 0


def test_who_came_first_pays_first() -> None:
    order: list[int] = []

    async def call(purse: Purse, n: int, maximum: float) -> None:
        async with purse.set_aside(maximum) as bill:
            order.append(n)
            await asyncio.sleep(0.005)
            bill.cost = 0.0

    async def main() -> None:
        purse = Purse(Budget(1.0))
        await asyncio.gather(call(purse, 0, 0.6), call(purse, 1, 1.0), *[call(purse, n, 0.1) for n in range(2, 6)])

    asyncio.run(main())
    assert order[:2] == [0, 1], "the small ones do not starve the large one"
    assert sorted(order) == list(range(6))


def test_a_call_that_ends_nobody_knows_how_is_paid_in_full() -> None:
    async def main() -> Budget:
        budget = Budget(1.0)
        purse = Purse(budget)

        async def call() -> None:
            async with purse.set_aside(0.25):
                await asyncio.sleep(10)

        task = asyncio.create_task(call())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return budget

    budget = asyncio.run(main())
    assert (budget.spent, budget.held) == (0.25, 0.0)


def test_the_end_of_a_budget_says_what_was_spent_and_what_to_type() -> None:
    async def main() -> None:
        budget = Budget(2.0)
        assert budget.reserve(1.5)
        budget.settle(1.5, 1.5)
        purse = Purse(budget)
        purse.answered = 12
        async with purse.set_aside(0.75):
            pass

    with pytest.raises(BudgetSpent) as caught:
        asyncio.run(main())
    assert "$1.5000 are spent" in str(caught.value)
    assert "12 answers" in str(caught.value)
    assert "$0.7500" in str(caught.value)
    assert str(caught.value).endswith("--budget-usd")


# --- bounds


@given(
    into=st.integers(1, 10**5),
    squares=st.integers(0, 20),
    out=st.integers(1, 4000),
    used=st.floats(0, 1),
    price=DOLLARS,
)
def test_what_a_call_costs_is_within_its_bound(into: int, squares: int, out: int, used: float, price: float) -> None:
    bound = Bound(Price(price, price * 4, 300))
    most = bound.usd(into, squares, out)
    assert Price(price, price * 4).usd(used * (into + squares * 300), used * out) <= most * (1 + 1e-12)
    bound.learn((into, squares), out, int(used * into), int(used * out))
    assert bound.usd(into, squares, out) == most


def test_a_server_that_counts_more_than_is_possible_is_believed_from_then_on() -> None:
    bound = Bound(Price(1.0, 10.0, 100))
    bound.learn((1000, 10), 500, 6000, 750)
    assert bound.usd(1000, 10, 500) == pytest.approx((6000 * 1.0 + 750 * 10.0) / 1e6)
    bound.learn((1000, 0), 500, 1000, 500)
    assert bound.usd(500, 0, 100) == pytest.approx((500 * 3 * 1.0 + 150 * 10.0) / 1e6), "not forgotten"
    assert Bound(None).usd(10**6, 10**6, 10**6) == 0
