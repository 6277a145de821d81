"""Benchmarks: every one can still be started; what they measure is theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_every_benchmark_finds_what_it_imports() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert len(names) > 15
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *names], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
