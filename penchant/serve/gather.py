"""Gather: requests that wait at the same moment are answered together, in one pass over the items."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from penchant.errors import PenchantError
from penchant.serve.asking import Job
from penchant.serve.listing import Listing
from penchant.serve.nearby import PACKED, factors_of

__all__ = ["Gather", "cost"]

MOST = 32  # in one pass: what a request may wait for
SMALL = 2_000_000  # numbers read by a pass that is no longer than handing it to a thread and back
ALONE = 10_000_000  # and by one that nobody waits beside: a few milliseconds, a quarter of which a thread would take to wake up
SLOW = 10 * ALONE

Answers = Callable[[Sequence[Job]], list[Listing | PenchantError]]


class Gather:
    """Belongs to one event loop. What is read quickly is answered in it at once, the rest in one thread beside."""

    def __init__(self, many: Answers, cost: Callable[[Job], int]) -> None:
        self._many, self._cost = many, cost
        self._waiting: list[tuple[Job, asyncio.Future[Listing]]] = []
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "penchant-scores")

    async def ask(self, job: Job) -> Listing:
        """Raises what scoring raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Listing] = loop.create_future()
        self._waiting.append((job, future))
        if len(self._waiting) == 1 and not self._busy:
            loop.call_soon(self._next)
        return await future

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        part, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        jobs = [job for job, _ in part]
        if max(map(self._cost, jobs)) <= (SMALL if len(jobs) > 1 else ALONE):
            self._answer(part, _tried(self._many, jobs))
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._next)
            return
        self._busy = True
        loop = asyncio.get_running_loop()

        def done(found: list[Listing | Exception]) -> None:
            self._busy = False
            self._answer(part, found)
            self._next()

        self._thread.submit(lambda: loop.call_soon_threadsafe(done, _tried(self._many, jobs)))

    @staticmethod
    def _answer(part: Sequence[tuple[Job, asyncio.Future[Listing]]], found: Sequence[object]) -> None:
        for (_, future), one in zip(part, found, strict=True):
            if future.cancelled():
                continue
            if isinstance(one, Exception):
                future.set_exception(one)
            else:
                assert isinstance(one, Listing)
                future.set_result(one)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _tried(many: Answers, jobs: Sequence[Job]) -> list[Listing | Exception]:
    """A fault is each one's answer: nobody waits for ever."""
    try:
        return list(many(jobs))
    except Exception as error:
        return [error] * len(jobs)


def cost(job: Job) -> int:
    """Numbers that a pass reads, about."""
    served, wish = job.served, job.wish
    if wish.diversity or wish.per_category is not None:
        return SLOW
    if job.plain:
        return len(served.rec.items)
    factors = factors_of(served.rec)
    if factors is None:
        return SLOW  # nobody knows
    read = factors.item.size
    near = served.nearby is not None and wish.only is None and served.nearby.reach(wish)
    return read // PACKED if near else read
