"""Ctrl-C at the worst moment: between making a call and letting it go, and inside of a step of the loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import warnings
from collections.abc import Iterator

import pytest

from penchant.lm import Reply, Request
from penchant.lm.pool import Places, in_order


async def _closed() -> None:
    return None


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """As at a terminal: a process that a shell put into the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("moment", ["made", "begun"])
def test_ctrl_c_leaves_no_call_that_was_never_begun(moment: str) -> None:
    made: list[str] = []
    ended: list[str] = []

    async def call(name: str) -> Reply:
        try:
            if moment == "begun" and name == "5":
                signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.001)
            return Reply("", None, "ok", 0, 0, 0.0, 1, "", 0.0)
        finally:
            ended.append(name)

    def ask(request: Request) -> object:
        made.append(request.user)
        coroutine = call(request.user)
        if moment == "made" and request.user == "5":
            signal.raise_signal(signal.SIGINT)
        return coroutine

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            list(in_order((Request("", f"{n}") for n in range(100)), ask, Places(8), _closed))  # type: ignore[arg-type]
        gc.collect()
    assert not [str(one.message) for one in said]
    assert set(ended) <= set(made)
    assert len(made) < 20
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
