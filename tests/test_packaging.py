"""The package as a stranger gets it: pins, scripts, templates, licence, and no trace of the machine it was made on."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import penchant

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
SCRIPTS = ("demo", "test", ".ci/run", "scripts/check", "scripts/servers", "scripts/setup")


def plain(name: str) -> str:
    """As indexes compare names: lower case, one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return plain(found[0])


def pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {plain(name): version for name, version in pairs}


def tracked() -> list[Path]:
    """Files of the repository; without git, what a source archive holds."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


# what is installed


def test_every_dependency_is_pinned() -> None:
    wanted = [*PROJECT["dependencies"], *(name for extra in EXTRAS.values() for name in extra)]
    assert {asked(name) for name in wanted} <= set(pins())


def test_every_pin_is_one_exact_version() -> None:
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line.strip()), line
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", pins()["torch"])  # setup adds +cpu where no GPU is asked for


def test_pins_fulfil_what_the_project_asks_for() -> None:
    from packaging.requirements import Requirement

    pinned = pins()
    for text in [*PROJECT["dependencies"], *(name for extra in EXTRAS.values() for name in extra)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[plain(requirement.name)]), text


def test_what_runs_here_is_what_is_pinned() -> None:
    for name in ("numpy", "polars", "typer", "pydantic", "torch"):
        assert metadata.version(name).split("+")[0] == pins()[name]


def test_nothing_for_gpus_is_pinned_or_installed() -> None:
    banned = ("nvidia", "cuda", "cupy", "triton", "cudnn")
    assert not [name for name in pins() if any(word in name for word in banned)]
    if os.environ.get("PENCHANT_GPU", "0") == "1":
        pytest.skip("a GPU build was asked for")
    import torch

    assert torch.version.cuda is None
    installed = {plain(d.metadata["Name"]) for d in metadata.distributions() if d.metadata["Name"]}
    assert not [name for name in installed if name.startswith("nvidia-")]


def test_every_dependency_is_imported_somewhere() -> None:
    """What nobody imports is downloaded by everybody for nothing."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "penchant").rglob("*.py"))
    module = {"pillow": "PIL", "tomli-w": "tomli_w"}
    for requirement in PROJECT["dependencies"]:
        name = asked(requirement)
        assert re.search(rf"(import|from) {module.get(name, name)}\b", source), name


def test_the_version_that_is_installed_is_that_of_the_project() -> None:
    assert metadata.version("penchant") == PROJECT["version"]
    assert PROJECT["requires-python"] == ">=3.11"


# scripts


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_called_and_are_plain_sh(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text("utf-8").startswith("#!/bin/sh\n")
    checked = subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert re.search(r"^set -eu$", path.read_text("utf-8"), re.MULTILINE)


def test_ci_calls_the_very_test_that_people_call() -> None:
    code = [line for line in (ROOT / ".ci/run").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert code == ["set -eu", 'exec "$(dirname "$0")/../test"']


def test_setup_says_which_python_it_needs() -> None:
    found = subprocess.run(
        ["sh", str(ROOT / "scripts/setup")],
        env={**os.environ, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "Python 3.11 or newer is needed" in found.stderr
    assert "PYTHON=" in found.stderr


# what a wheel holds


def test_the_page_templates_are_package_data() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    folder = ROOT / "penchant"
    packed = {path for pattern in patterns["penchant"] for path in folder.glob(pattern)}
    data = {p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc", ".typed")}
    assert data
    assert data <= packed
    for path in data:
        assert resources.files("penchant").joinpath(path.relative_to(folder).as_posix()).read_bytes()


def test_every_folder_of_code_is_a_package() -> None:
    for path in (ROOT / "penchant").rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path


def test_all_names_of_the_public_face_are_there() -> None:
    for name in penchant.__all__:
        assert getattr(penchant, name) is not None
    assert sorted(penchant.__all__) == penchant.__all__
    assert set(dir(penchant)) == set(penchant.__all__)
    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        penchant.recomend  # noqa: B018


@pytest.mark.parametrize("module", ["cli", "errors", "run", "runs", "recipe", "screen", "store", "shop"])
def test_all_names_of_a_module_are_there(module: str) -> None:
    loaded = importlib.import_module(f"penchant.{module}")
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_the_command_is_the_one_that_is_installed() -> None:
    assert PROJECT["scripts"] == {"penchant": "penchant.cli:main"}
    command = Path(sys.executable).parent / "penchant"
    answer = subprocess.run([str(command), "--help"], capture_output=True, text=True)
    assert answer.returncode == 0
    assert "recommend" in answer.stdout


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])


# the repository


def test_nothing_names_a_path_of_the_machine_it_was_made_on() -> None:
    """Paths of somebody's home and work folder help nobody else."""
    words = re.compile(rb"/(" + b"|".join([b"wo" + b"rk", b"ro" + b"ot", b"ho" + b"me"]) + rb")/[A-Za-z.]")
    found = [path.relative_to(ROOT) for path in tracked() if words.search(path.read_bytes())]
    assert not found


def test_no_data_set_and_no_secret_is_in_the_repository() -> None:
    for path in tracked():
        assert path.stat().st_size < 1_500_000, path
        assert path.suffix not in (".npy", ".npz", ".parquet", ".safetensors", ".pt", ".pkl", ".db", ".sqlite"), path
        assert not path.name.startswith(".env"), path


def test_what_runs_leave_behind_is_ignored() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    left = ["store/x", "runs/x", "demo-out/x", ".venv/x", "penchant/__pycache__/x"]
    ignored = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert ignored == left


@pytest.mark.parametrize("path", sorted((ROOT / "penchant").rglob("*.py")), ids=lambda p: p.stem)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines < (200 if path.parent.name == "models" else 300)


def test_importing_the_package_needs_no_torch_and_no_extra() -> None:
    code = (
        "import sys, penchant, penchant.cli, penchant.cli_data, penchant.folder, penchant.shop, penchant.sources, "
        "penchant.metrics, penchant.store, penchant.recipe, penchant.report;"
        "print([m for m in ('torch', 'sentence_transformers', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
