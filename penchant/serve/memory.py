"""Memory: have glibc give back what is freed. Elsewhere nothing is done.

Arrays of a model are replaced by every reload and grow with every new item, and rows of the database come and go: many threads would
keep a heap of holes each.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

__all__ = ["give_back", "keep_little"]


def keep_little() -> None:
    """Few heaps, and arrays with pages of their own; for the beginning of a process."""
    with suppress(OSError, AttributeError):
        _libc().mallopt(-8, 2)  # M_ARENA_MAX
        _libc().mallopt(-3, 262_144)  # M_MMAP_THRESHOLD: bytes from which an array has pages of its own
        _libc().mallopt(-1, 1_048_576)  # M_TRIM_THRESHOLD


def give_back() -> None:
    """Free pages amid the heaps, too; a few milliseconds in which others wait for memory."""
    with suppress(OSError, AttributeError):
        _libc().malloc_trim(0)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL("libc.so.6")
