"""How training uses the machine: threads and memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["keep_memory", "product", "threads"]

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's malloc.h
LARGE = 2**28  # multiplications, a few milliseconds of one core


def keep_memory(limit: int = 512 * 2**20) -> None:
    """Let freed blocks up to `limit` bytes be used again instead of going back to the system after every step.

    A batch's tensors are freed and asked for again in each step; mapped afresh every time, their page faults cost more
    than their arithmetic. Holds for the whole process and cannot be taken back; a no-op where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # Old versions of glibc refuse more than 32 MB. Setting only the other threshold would make things worse.
    if mallopt is not None and (mallopt(_MMAP_THRESHOLD, limit) or mallopt(_MMAP_THRESHOLD, 32 * 2**20)):
        mallopt(_TRIM_THRESHOLD, limit)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch uses this many threads inside; None changes nothing."""
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def product(multiplications: int) -> contextlib.AbstractContextManager[object]:
    """numpy's BLAS takes one thread inside for a product of so few multiplications, all of them for a large one.

    BLAS threads wait for each other by spinning: on a busy machine a small product is four times faster without them.
    """
    return _blas().limit(limits=1) if multiplications < LARGE else contextlib.nullcontext()


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
