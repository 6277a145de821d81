"""A question that is asked at every touch of the file system: what would a kill in this moment leave?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["watching"]

WATCHED: list[Callable[[], None]] = []  # a hook cannot be taken out, so it stays and finds nothing here


def _hook(event: str, _: object) -> None:
    if WATCHED and event.partition(".")[0] in ("open", "os", "shutil"):
        question = WATCHED.pop()  # so that asking does not ask
        try:
            question()
        finally:
            WATCHED.append(question)


@contextmanager
def watching(question: Callable[[], None]) -> Iterator[None]:
    """Asks it while the block runs."""
    sys.addaudithook(_hook)
    WATCHED.append(question)
    try:
        yield
    finally:
        WATCHED.clear()
