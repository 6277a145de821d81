"""What a command said and how it ended, for the tests of the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penchant.cli import main

__all__ = ["Answer", "Ask", "asking", "surrounded"]


@dataclass(frozen=True)
class Answer:
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output; NaN and Infinity, which JSON has not, are refused."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


Ask = Callable[..., Answer]


def surrounded(monkeypatch: pytest.MonkeyPatch, store: Path, place: Path | None = None) -> None:
    """A store of its own, no data of this machine, and from inside `place`."""
    monkeypatch.setenv("PENCHANT_STORE", str(store))
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    if place is not None:
        monkeypatch.chdir(place)


def asking(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *first: str) -> Ask:
    """A call of the command line in this process, with `first` before the words that are given."""

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["penchant", *first, *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call
