"""Spending: what calls cost, and a budget that is kept whatever happens to the calls in flight.

    price = price_of("gpt-4o-mini")                 # from prices.toml and the file that PENCHANT_PRICES names; or None
    price.usd(tokens_in=1_200, tokens_out=80)

    budget = Budget(5.0)
    if budget.reserve(maximum):                     # before a call: all that it can cost
        budget.settle(maximum, actual)              # after it: what it did cost, or the maximum where nobody knows

Money that is spent and the maxima of all calls in flight never exceed the budget together, so the bill cannot either.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import threading
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from penchant.errors import BadSetting, BudgetSpent, near

__all__ = ["Bill", "Bound", "Budget", "Price", "Prices", "Purse", "price_of"]

MILLION = 10**6
PICO = 10**12  # a budget counts in whole millionths of a millionth of a dollar, so that nothing is lost in rounding
PICTURE = 3000  # tokens of a picture of 512 x 512 pixels where nobody says: more than open models make of one
SNAPSHOT = re.compile(r"-20\d\d-\d\d-\d\d$")
OWN = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens that are sent and written; tokens that a picture of 512 x 512 pixels counts for."""

    usd_in: float
    usd_out: float
    picture: int = PICTURE

    def usd(self, tokens_in: float, tokens_out: float, pictures: float = 0) -> float:
        """What this costs; pictures: how many squares of 512 x 512 pixels. Dollars."""
        return ((tokens_in + pictures * self.picture) * self.usd_in + tokens_out * self.usd_out) / MILLION


@dataclass(frozen=True)
class Prices:
    """Prices by name or pattern of a model, in tables of which the first that knows a model decides."""

    tables: tuple[Mapping[str, Price], ...]

    @staticmethod
    def read(file: str | Path | None = None) -> Prices:
        """Ours, and before them those of a file of the user's: this one, or the one that PENCHANT_PRICES names.

        Raises BadSetting where that cannot be read, with the line that is wrong.
        """
        file = file or os.environ.get("PENCHANT_PRICES") or None
        return Prices((*([_table(Path(file))] if file else []), _table(OWN)))

    def of(self, model: str) -> Price | None:
        """A model's price: by its name, by its name without a date at the end, by the longest pattern that fits."""
        for table in self.tables:
            patterns = sorted((p for p in table if "*" in p and fnmatchcase(model, p)), key=len, reverse=True)
            for name in (model, SNAPSHOT.sub("", model), *patterns):
                if name in table:
                    return table[name]
        return None


def price_of(model: str) -> Price | None:
    """A model's price by `Prices.read()`; None where nobody has written one down."""
    return Prices.read().of(model)


class Budget:
    """Dollars that may be spent. Safe to share between endpoints and threads.

    spent: dollars that are gone, counting unknown costs at their maximum. held: maxima of calls in flight.
    """

    def __init__(self, usd: float) -> None:
        if not (math.isfinite(usd) and usd >= 0):
            raise BadSetting(f"a budget is an amount of dollars, not {usd}. Give one:  --budget-usd 5")
        self.usd = float(usd)
        self._all = math.floor(usd * PICO)
        self._spent = self._held = 0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        return self._spent / PICO

    @property
    def held(self) -> float:
        return self._held / PICO

    def reserve(self, maximum: float) -> bool:
        """Sets aside what a call can cost at most; False, and nothing is set aside, where that does not fit."""
        with self._lock:
            fits = self._spent + self._held + _pico(maximum) <= self._all
            self._held += _pico(maximum) if fits else 0
            return fits

    def settle(self, reserved: float, actual: float) -> None:
        """A call is over: what was set aside for it is free again, and what it cost is spent."""
        with self._lock:
            self._held -= _pico(reserved)
            self._spent += _pico(actual)

    def __repr__(self) -> str:
        return f"Budget(usd={self.usd:g}, spent={self.spent:.6f}, held={self.held:.6f})"


def _pico(usd: float) -> int:
    return math.ceil(usd * PICO)


class Bound:
    """What a call can cost at most, by a price. Learns from servers that count more than was thought possible."""

    def __init__(self, price: Price | None) -> None:
        self.price = price
        self._more_in = self._more_out = 1.0

    def usd(self, into: int, squares: int, out: int) -> float:
        """Dollars at most, for at most so many tokens of text, squares of pictures and tokens of the answer."""
        if self.price is None:
            return 0.0
        return self.price.usd(into * self._more_in, out * self._more_out, squares * self._more_in)

    def learn(self, most: tuple[int, int], most_out: int, into: int, out: int) -> None:
        """Compares what was thought possible (tokens and squares; tokens out) with what the server has counted."""
        picture = self.price.picture if self.price else 0
        self._more_in = max(self._more_in, into / max(1, most[0] + most[1] * picture))
        self._more_out = max(self._more_out, out / max(1, most_out))


@dataclass
class Bill:
    """What one call costs: at first its maximum, in the end what is known."""

    cost: float


class Purse:
    """The money of one run that has many calls in flight, in one event loop. answered: replies so far."""

    def __init__(self, budget: Budget | None) -> None:
        self.budget, self.answered, self._open = budget, 0, 0
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def set_aside(self, maximum: float) -> AsyncIterator[Bill]:
        """Money for a call, set aside when there is enough, and settled at the bill's cost when the call is over.

        Waits while calls in flight may leave something over, first come, first served. Raises BudgetSpent when there is
        none in flight that could.
        """
        bill = Bill(maximum)
        if self.budget is None:
            yield bill
            return
        async with self._turn:
            while not self.budget.reserve(maximum):
                if not self._open:
                    raise BudgetSpent(
                        f"the budget of ${self.budget.usd:g} is used up: ${self.budget.spent:.4f} are spent, with "
                        f"{self.answered} answers in this run, and the next call could cost ${maximum:.4f}. What was "
                        "answered is kept; a budget is for one run: call again to go on with another --budget-usd"
                    )
                self._freed.clear()
                await self._freed.wait()
        self._open += 1
        try:
            yield bill
        finally:
            self._open -= 1
            self.budget.settle(maximum, bill.cost)
            self._freed.set()


def _table(file: Path) -> dict[str, Price]:
    try:
        whole = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"the prices in {file} cannot be read: {error}. {_ADVICE}") from None
    models = whole.get("models", {})
    if odd := set(whole) - {"models", "checked"}:
        raise BadSetting(f"{file} has {', '.join(sorted(odd))}, which is no price. {_ADVICE}")
    if not isinstance(models, dict):
        raise BadSetting(f"{file}: `models` is no table. {_ADVICE}")
    return {name: _price(f'{file}, [models."{name}"]', entry) for name, entry in models.items()}


def _price(where: str, entry: Any) -> Price:
    """One entry of a table, or BadSetting with the key that is wrong."""
    if not isinstance(entry, dict):
        raise BadSetting(f"{where} is no table. {_ADVICE}")
    known = {"in": "usd_in", "out": "usd_out", "picture": "picture"}
    for key, value in entry.items():
        if key not in known:
            raise BadSetting(f"{where} has no `{key}`.{near(key, known)} {_ADVICE}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (math.isfinite(value) and value >= 0):
            raise BadSetting(f"{where}: `{key}` = {value!r} is no number from 0 on. {_ADVICE}")
    if missing := {"in", "out"} - set(entry):
        raise BadSetting(f"{where} lacks `{'` and `'.join(sorted(missing))}`. {_ADVICE}")
    return Price(**{known[key]: value for key, value in entry.items()})


_ADVICE = 'Write, in dollars per million tokens:  [models."NAME"]  in = 0.15  out = 0.60  (a line each)'
