"""Benchmarks: every one can still be started; what they measure is theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penchant import shop

FOLDER = Path(__file__).parent.parent / "benchmarks"
LOADED = """
import importlib, sys, traceback
bad = []
for name in sys.argv[1:]:
    sys.argv = [name]
    try:
        importlib.import_module(name)
    except Exception:
        bad.append(traceback.format_exc())
print(*bad, sep="\\n", file=sys.stderr)
sys.exit(bool(bad))
"""


@pytest.mark.long
def test_every_benchmark_finds_what_it_imports() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert len(names) > 15
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *names], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_cold_items_are_known_by_their_words_where_there_are_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from cold_items import content  # type: ignore[import-not-found]

    for pictures, known_by in ((True, {"text", "image"}), (False, {"text"})):
        data = shop.make(products=24, shoppers=30, choices=5, pictures=pictures).dataset
        assert content(data).keys() == known_by


@pytest.mark.long
def test_cold_items_of_data_that_is_not_there_end_in_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "cold_items.py", "nowhere", "--draws", "0"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("MissingFile: no data set 'nowhere'.")
    assert "Traceback" not in ended.stderr
