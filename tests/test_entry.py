"""How the command line ends: full and closed outputs, terminals without letters, settings beyond all memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penchant import recipe as recipes
from penchant import run as running
from penchant.errors import BadSetting
from penchant.store import Store

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

COMMAND = [sys.executable, "-m", "penchant"]
RECIPE = """
data = "shop"
model = { name = "bpr", dim = 8 }
[training]
epochs = 2
"""


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = line.replace("penchant", " ".join(COMMAND))
    return subprocess.run(
        ["bash", "-c", line], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(RECIPE)
    return tmp_path / "mine.toml"


def test_version() -> None:
    assert shell("penchant --version").stdout.strip().count(".") == 2


@pytest.mark.parametrize("words", ["rn", "run", "recommend nowhere --sideways", "compare"])
def test_misuse_is_an_object_too(words: str) -> None:
    done = shell(f"penchant {words} --json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "Usage"
    assert json.loads(done.stdout)["message"]
    assert "Traceback" not in done.stderr


def test_a_warning_of_ours_is_a_sentence_and_others_are_pythons() -> None:
    code = (
        "import warnings; from penchant.entry import guarded; from penchant.errors import Approximate\n"
        "def app(standalone_mode):\n"
        "    warnings.warn('too many items; kept = 100', Approximate)\n"
        "    warnings.warn('something else', UserWarning)\n"
        "guarded(app)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    ours, *others = done.stderr.splitlines()
    assert ours == "penchant: too many items; kept = 100"
    assert "UserWarning: something else" in others[0]


def test_a_full_standard_error_does_not_hide_the_object() -> None:
    done = shell("penchant rn --json 2> /dev/full")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "Usage"


def test_a_full_disk_behind_the_output_is_one_sentence() -> None:
    done = shell("penchant doctor --json > /dev/full")
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.long
def test_closed_outputs_are_no_fault() -> None:
    assert shell("penchant doctor >&-").returncode == 0
    assert shell("penchant doctor 2>&-").returncode == 0
    done = shell("set -o pipefail; penchant --help | true; penchant doctor --json | head -c 1 > /dev/null")
    assert done.returncode in (0, 141)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_terminal_without_letters_gets_question_marks(tmp_path: Path) -> None:
    missing = tmp_path / "Grüße.toml"
    done = shell(f"penchant run {missing}", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2
    assert "no recipe" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "setting",
    [
        "model.dim=1000000000",
        "model.dim=1000000000000000000",
        "model.negatives=1000000000",
        "training.seeds=[99999999999999999999]",
    ],
)
def test_settings_beyond_the_machine_are_one_message(recipe: Path, tmp_path: Path, setting: str) -> None:
    done = shell(f"penchant run {recipe} --out {tmp_path / 'out'} --set '{setting}' --json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "BadSetting"
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_list_longer_than_the_catalogue_is_all_of_it(recipe: Path, tmp_path: Path) -> None:
    made = running.run(
        recipes.read(recipe, ["protocol.at=[10, 1000000000]", "training.select=recall@10"]),
        tmp_path / "out",
        Store(tmp_path / "kept"),
    )
    items = len(made.prepared.split.items)
    assert made.top.item.shape[1] == items
    assert made.report.metrics["recall@1000000000"].mean == 1.0


def test_a_run_that_ended_in_a_mistake_leaves_nothing_in_the_way(recipe: Path, tmp_path: Path) -> None:
    """Histories of four choices at .8, .1, .1 leave valid empty: said before the folder is taken, with what to type."""
    data = tmp_path / "small"
    data.mkdir()
    rows = "".join(f"u{u},i{(3 * u + i) % 9},{i}\n" for u in range(12) for i in range(4))
    (data / "interactions.csv").write_text("user_id,item_id,timestamp\n" + rows)
    done = shell(f"penchant data import csv {data} --out {tmp_path / 'shop'}")
    assert done.returncode == 0, done.stderr
    recipe.write_text(RECIPE.replace('"shop"', f'"{tmp_path / "shop"}"') + '[search]\n"model.l2" = [0, 1]\n')
    store, out = Store(tmp_path / "kept"), tmp_path / "out"
    with pytest.raises(BadSetting, match=r"valid part, which is empty.* has 4 choices.*ratios = \[0.5, 0.25, 0.25\]"):
        running.run(recipes.read(recipe), out, store)
    assert not out.exists()
    fits = recipes.read(recipe, ["split.ratios=[0.5, 0.25, 0.25]"])
    assert running.run(fits, out, store).report.metrics


@pytest.mark.long
def test_a_folder_without_finished_work_can_be_taken_over(recipe: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", Store(tmp_path / "kept")
    done = shell(f"penchant run {recipe} --out {out} --set model.dim=1000000000")
    assert done.returncode == 2
    assert running.run(recipes.read(recipe), out, store).report.metrics
    with pytest.raises(BadSetting, match="holds another run"):
        running.run(recipes.read(recipe, ["model.dim=9"]), out, store)


@pytest.mark.long
def test_a_folder_in_work_is_not_taken_over(recipe: Path, tmp_path: Path) -> None:
    """Before its first checkpoint a run has left nothing; only the lock says that somebody is at work."""
    out = tmp_path / "out"
    words = ["run", str(recipe), "--out", str(out), "--store", str(tmp_path / "kept")]
    slow = ["--set", "training.epochs=100000", "--set", "training.validate_every=100000"]
    with subprocess.Popen([*COMMAND, *words, *slow], stderr=subprocess.DEVNULL) as first:
        try:
            log = out / "log.jsonl"
            deadline = time.monotonic() + 60
            while not log.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert log.exists()
            for extra in (["--set", "model.dim=16"], ["--fresh"]):
                done = subprocess.run([*COMMAND, *words, *extra], capture_output=True, text=True, timeout=60)
                assert done.returncode == 2
                assert "another process is working in" in done.stderr
            assert first.poll() is None
        finally:
            first.kill()


@pytest.mark.long
def test_files_of_others_in_a_run_folder_stay(recipe: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", Store(tmp_path / "kept")
    popular = ['model={name="popular"}']
    running.run(recipes.read(recipe, popular), out, store)
    (out / "notes.md").write_text("years of work")
    (out / "seeds" / "mine").mkdir()
    running.run(recipes.read(recipe, [*popular, "split.seed=1"]), out, store, fresh=True)
    assert (out / "notes.md").read_text() == "years of work"
    assert not (out / "seeds" / "mine").exists()  # what is in its own folders is the run's


@pytest.mark.long
def test_ids_survive_a_terminal_without_letters(tmp_path: Path) -> None:
    rows = "".join(f"ü{u},Ж{(3 * u + i) % 9},{i}\n" for u in range(12) for i in range(6))
    (tmp_path / "log.csv").write_text("user_id,item_id,position\n" + rows, "utf-8")
    (tmp_path / "r.toml").write_text(
        f'data = "{tmp_path / "shop"}"\nmodel = {{ name = "popular" }}\nsplit = {{ by = "leave_last_out" }}\n'
    )
    line = (
        f"penchant data import csv {tmp_path / 'log.csv'} --out {tmp_path / 'shop'} >&2 && "
        f"penchant run {tmp_path / 'r.toml'} --out {tmp_path / 'out'} --store {tmp_path / 'kept'} >&2 && "
        f"penchant recommend {tmp_path / 'out'} --user ü1 -k 2 --json"
    )
    done = shell(line, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["recommendations"][0]
    assert found["user_id"] == "ü1"
    assert all(item["item_id"].startswith("Ж") for item in found["items"])
