"""The guide: what it shows in code can be run."""

from __future__ import annotations

import ast
import re
import sys
import types
from pathlib import Path

import pytest
from worlds import checkerboard

import penchant as pc

TEXT = (Path(__file__).parent.parent / "docs" / "guide.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_its_model_of_your_own_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(block for block in BLOCKS if "class SsmNet" in block)
    module = types.ModuleType("penchant.models.ssm")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where a dataclass looks for its own types
    exec(compile(code, "guide.md", "exec"), module.__dict__)
    split = checkerboard()
    training = pc.Training(epochs=30, batch_size=64, learning_rate=0.05)
    rec = module.__dict__["Ssm"](dim=8).fit(split.train, None, training)
    assert rec.curve.loss[-1] < 0.8 * rec.curve.loss[0]


def test_what_its_code_takes_from_penchant_is_there() -> None:
    assert len(BLOCKS) > 4
    for block in BLOCKS:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pc":
                assert hasattr(pc, node.attr), f"pc.{node.attr}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                inner = node.value
                if isinstance(inner.value, ast.Name) and inner.value.id == "pc":
                    assert hasattr(getattr(pc, inner.attr), node.attr), f"pc.{inner.attr}.{node.attr}"
