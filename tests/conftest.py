"""One thread, and the same examples every time: what a run shows does not depend on the machine or the day."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from worlds import World

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when numpy and torch are loaded, so before any test module is

settings.register_profile("penchant", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("penchant")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="all repetitions: thirty kills")


@pytest.fixture(scope="session")
def slow(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--slow"))


@pytest.fixture(scope="session")
def world() -> World:
    """The checkerboard that most tests share; nothing may write to it."""
    from worlds import checkerboard

    return checkerboard()
