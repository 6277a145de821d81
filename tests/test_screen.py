"""What the command line says where no terminal is: in a log, a pipe, a job."""

from __future__ import annotations

import pytest

from penchant.screen import Bars


def test_a_log_hears_of_long_work_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(None, quiet=False, every=0.0)
    bars.stage("sasrec, seed 0")
    bars.step(12, 400, "loss 3.1000, valid 0.0567")
    bars.step(1300)
    told = capsys.readouterr().err.splitlines()
    assert told == ["penchant: sasrec, seed 0", "penchant: 12 of 400, loss 3.1000, valid 0.0567", "penchant: 1,300"]


def test_a_log_is_not_filled_with_steps(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(None, quiet=False)
    bars.stage("sasrec, seed 0")
    for done in range(1000):
        bars.step(done, 1000)
    assert capsys.readouterr().err.count("\n") == 1


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(None, quiet=True, every=0.0)
    bars.stage("sasrec, seed 0")
    bars.step(1, 2)
    assert capsys.readouterr().err == ""
