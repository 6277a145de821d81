"""Pool: many questions in flight at once in one thread, replies in the order asked; and how many may be in flight.

Everything that belongs to the caller runs outside of the event loop: taking a request, hearing of a reply, working on
it. So the caller may do there whatever he likes, ask another model included; meanwhile nothing here moves.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from penchant.lm import Arrived, Reply, Request

__all__ = ["Places", "Turns", "in_order", "pause"]

T = TypeVar("T")
DRAIN = 20.0  # seconds that those in flight are waited for when one has found that there is no going on
BUSY = 0.1  # share of replies from which a server that says it is too busy is believed
SHRINK = 0.7  # of the limit is left then
GROW = 0.05  # of the full number of places comes back with every round of good replies, but at least one place


class Places:
    """Places for what is being sent, at most `parallel`; fewer while the server says too often that it is too busy.

    One in ten of the last `limit` replies may say so. Beyond that the limit falls to 0.7 of what it was, once in as many
    replies as there were places, and comes back by a fixed step a round. `async with places:` waits for one.
    """

    def __init__(self, parallel: int) -> None:
        self.parallel = parallel
        self._limit = float(parallel)
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._recent: deque[bool] = deque()
        self._patience = 0  # replies to come before the limit may fall again

    @property
    def limit(self) -> int:
        return int(self._limit)

    def told(self, busy: bool) -> None:
        """Hears of a reply: whether the server called itself too busy (429)."""
        self._recent.append(busy)
        while len(self._recent) > self.limit:
            self._recent.popleft()
        self._patience -= 1
        if busy and self._patience <= 0 and sum(self._recent) >= BUSY * self._limit:
            self._patience = self.limit
            self._limit = max(1.0, self._limit * SHRINK)
            self._recent.clear()
        elif not busy:
            self._limit = min(self.parallel, self._limit + max(1.0, GROW * self.parallel) / self._limit)
            self._wake()

    async def __aenter__(self) -> None:
        if self._taken < self.limit and not self._waiting:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn  # whoever wakes it has taken the place for it

    async def __aexit__(self, *_: object) -> None:
        self._taken -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._taken < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)


@contextmanager
def _whole(hurry: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Ctrl-C in here is raised at the end, and `hurry` is called at once: no step of the loop is left half done."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # somebody else decides what Ctrl-C is
        return
    came = False

    def later(*_: object) -> None:
        nonlocal came
        came = True
        hurry()

    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while nobody moves it: a caller who takes his time makes no call time out."""

    stood = 0.0  # seconds that the clock has missed so far

    def time(self) -> float:
        return time.monotonic() - self.stood


class Turns:
    """An event loop that moves only while somebody waits for it, in the thread of whoever waits.

    Where that thread is inside an event loop of its own, as in a notebook, the turn is taken by a thread made for it.
    """

    def __init__(self) -> None:
        self.loop = _Loop()
        self._left = self.loop.time()
        self._ending = False

    def take(self) -> None:
        """Moves until something calls `loop.stop()`."""
        self.loop.stood += self.loop.time() - self._left
        try:
            self._move()
        finally:
            self._left = self.loop.time()

    def _move(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with _whole(lambda: self.loop.call_soon_threadsafe(self.loop.stop)):
                self.loop.run_forever()
            return
        around = asyncio.current_task()
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
                if around and around.cancelling() and not self._ending:
                    raise asyncio.CancelledError
        except BaseException:  # Ctrl-C reaches us, in one way or the other, and not the thread
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            raise

    def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Moves until this is done."""
        task = self.loop.create_task(work)
        task.add_done_callback(lambda _: self.loop.stop())
        while not task.done():
            self.take()
        return task.result()

    def close(self, tasks: Iterable[asyncio.Task[Any]], last: Callable[[], Awaitable[None]]) -> None:
        """Ends what is still going on, does what comes last, and leaves nothing behind."""
        self._ending, tasks = True, list(tasks)
        for task in tasks:
            task.cancel()

        async def rest() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await last()
            await self.loop.shutdown_asyncgens()

        try:
            self.complete(rest())
        finally:
            self.loop.close()


async def pause(seconds: float) -> None:
    """Sleeps by the clock on the wall, which goes on while nobody moves the loop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 0.25))


def in_order(
    requests: Iterable[Request],
    ask: Callable[[Request], Coroutine[Any, Any, Reply]],
    places: Places,
    close: Callable[[], Awaitable[None]],
    arrived: Arrived | None = None,
) -> Iterator[Reply]:
    """A reply a request, in order; `arrived` hears of each at once. A request is taken when there is a place for it.

    Whatever is raised, by the requests, by `arrived` or by whoever reads the replies, ends everything: what is in flight is
    cancelled, and `close` is awaited. What `ask` raises is raised when the others in flight have been heard, because
    they may be paid for, or after DRAIN seconds.
    """
    turns = Turns()
    tasks: dict[asyncio.Task[Reply], int] = {}  # in flight, and its number
    done: deque[asyncio.Task[Reply]] = deque()
    ready: dict[int, Reply] = {}  # arrived, but not its turn yet
    end = weakref.finalize(turns, turns.close, tasks, close)  # where nobody reads on, when Python ends at the latest
    stream = iter(requests)
    asked = given = 0
    failed: BaseException | None = None
    until = 0.0

    def finished(task: asyncio.Task[Reply]) -> None:
        done.append(task)
        turns.loop.stop()

    try:
        while True:
            while failed is None and len(tasks) < places.limit and (request := next(stream, None)) is not None:
                with _whole():
                    task = turns.loop.create_task(ask(request))
                    task.add_done_callback(finished)
                    tasks[task] = asked
                    asked += 1
            if failed is not None and (not tasks or time.monotonic() > until):
                raise failed
            if not tasks:
                return
            turns.take()
            while done:
                task = done.popleft()
                number = tasks.pop(task)
                if failed is None and task.exception() is not None:
                    failed, until = task.exception(), time.monotonic() + DRAIN
                    turns.loop.call_later(DRAIN, turns.loop.stop)
                if task.exception() is None:
                    ready[number] = task.result()
                    if arrived is not None:
                        arrived(number, ready[number])
            while given in ready:
                yield ready.pop(given)
                given += 1
    finally:
        end()
