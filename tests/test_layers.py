"""Who may import whom, what may never be imported where, and what every file must have.

A file is in exactly one layer of LAYERS. Arrows point down or stay in their layer; the two halves of layer 3 never
meet; models import no other model. Imports under `if TYPE_CHECKING` are for readers and do not count.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import penchant

ROOT = Path(penchant.__file__).parent

# By file name without .py; a folder stands for all its files.
LAYERS: dict[str, str] = {
    "0": "errors",
    "1": "data catalog texts notes features graph split leaky "
    "folder shelf sources archives arrays assembly columns published tables cells textfiles times "
    "shop shop_choices shop_pictures shop_products shop_reviews shop_words datafacts",
    "2": "store cards database vectors calls metrics report results protocols compare page plots story table words "
    "under_noise stored questions difference gallery posters garbage forgetting sweep unswept",
    "3 left": "encode/ lm/ enrich/",
    "3 right": "scorers readers ranker among sequence interests towers thin fused fusion intake intakes likeness topk training strands fibres woven limits model saved binding batches gemm losses beside nn hops modal plugin motivation train row_adam machine checkpoint quantise",
    "3 bridge": "judge judging album",
    "4": "models/",
    "5": "ranking reasons attributes drives faithful tune",
    "6": "recipe told identity typed noise misread sayings drives_file inputs seeds chosen run runs exported examples demo",
    "7": "cli cli_data cli_enrich cli_reasons cli_serve cli_store refresh entry answers doctor screen showing term_picture serve/ __main__",
    "8": "__init__",  # the public face, which only its users import
}

TORCH = {
    "judge",
    "judging",
    "album",
    "batches",
    "gemm",
    "losses",
    "nn",
    "sequence",
    "hops",
    "modal",
    "fusion",
    "beside",
    "plugin",
    "motivation",
    "train",
    "row_adam",
    "machine",
    "checkpoint",
}  # and everything in these folders:
TORCH_FOLDERS = ("encode", "models", "lm")

NETWORK = {
    *("aiohttp", "asyncio", "ftplib", "http", "httpx", "huggingface_hub", "imaplib", "poplib", "requests", "smtplib"),
    *("socket", "socketserver", "ssl", "urllib", "urllib3", "websockets"),
}
CLOCK = {"time"}
CLOCK_CALLS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}


@dataclass(frozen=True)
class Arrow:
    """One import. module: dotted name; inside: a module of this package, else None. top: run when the file is loaded."""

    module: str
    inside: str | None
    top: bool
    line: int


@cache
def files() -> dict[str, Path]:
    """Module name below penchant ("models.bpr", "__init__") -> file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(files()[name].read_text("utf-8"))


def layer(name: str) -> str | None:
    """The layer of a module: by its own name, or by its folder."""
    top, _, below = name.partition(".")
    for key, members in LAYERS.items():
        if (f"{top}/" if below else top) in members.split():
            return key
    return None


def _inside(dotted: str) -> str | None:
    """The file of this package that a dotted name means; a folder means its __init__."""
    if dotted == "penchant":
        return "__init__"
    if not dotted.startswith("penchant."):
        return None
    below = dotted.removeprefix("penchant.")
    while below:
        for candidate in (below, f"{below}.__init__"):
            if candidate in files():
                return candidate
        below = below.rpartition(".")[0]
    return "__init__"


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _imports(node: ast.AST, top: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement below `node`, and whether it runs when the file is loaded."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, top
    top = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    below = node.orelse if _is_type_checking(node) else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
    for child in below:
        yield from _imports(child, top)


@cache
def arrows(name: str) -> tuple[Arrow, ...]:
    return tuple(arrows_of(tree(name), name))


def arrows_of(module: ast.Module, name: str) -> list[Arrow]:
    found = []
    for node, top in _imports(module):
        if isinstance(node, ast.Import):
            found += [Arrow(alias.name, _inside(alias.name), top, node.lineno) for alias in node.names]
            continue
        assert node.level == 0, f"{name}, line {node.lineno}: imports are written in full, not relative"
        base = node.module or ""
        for alias in node.names:
            # `from penchant import topk` means the module, `from penchant.topk import ranks` its file.
            deeper = f"{base}.{alias.name}"
            target = _inside(deeper)
            exact = target is not None and target.removesuffix(".__init__") == deeper.removeprefix("penchant.")
            found.append(Arrow(base, target if exact else _inside(base), top, node.lineno))
    return found


ALL = sorted(files())


def test_every_file_has_its_layer() -> None:
    lost = [name for name in ALL if layer(name) is None]
    assert not lost, f"put these into LAYERS: {lost}"
    twice = [m for m in " ".join(LAYERS.values()).split() if " ".join(LAYERS.values()).split().count(m) > 1]
    assert not twice


@pytest.mark.parametrize("name", ALL)
def test_arrows_point_down(name: str) -> None:
    mine = layer(name)
    assert mine is not None
    for arrow in arrows(name):
        if arrow.inside is None:
            continue
        lost = arrow.inside == "__init__" and arrow.module != "penchant"
        assert not lost, f"{name}, line {arrow.line}, imports {arrow.module}, and there is no such file"
        theirs = layer(arrow.inside)
        assert theirs is not None
        where = f"{name} (layer {mine}), line {arrow.line}, imports {arrow.inside} (layer {theirs})"
        assert int(theirs[0]) <= int(mine[0]), where
        assert {mine, theirs} != {"3 left", "3 right"}, f"{where}: the halves of layer 3 never meet"
        if mine == theirs == "4" and not name.endswith("__init__"):
            raise AssertionError(f"{where}: a model imports no other model; take it as a field")


def test_no_module_waits_for_itself() -> None:
    """No cycle among imports that run when a file is loaded."""
    edges = {name: {a.inside for a in arrows(name) if a.top and a.inside} - {"__init__"} for name in ALL}
    left = dict(edges)
    while True:
        free = [name for name, to in left.items() if not to & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    assert not left, f"a cycle among {sorted(left)}"


@pytest.mark.parametrize("name", [n for n in ALL if (layer(n) or "9")[0] in "01"])
def test_the_lowest_layers_know_no_torch_no_network_and_no_clock(name: str) -> None:
    for arrow in arrows(name):
        package = arrow.module.partition(".")[0]
        where = f"{name}, line {arrow.line}: {arrow.module}"
        if arrow.module == "urllib.parse":
            continue  # taking an address apart needs no network
        assert package not in NETWORK, where
        assert package not in CLOCK, where
        assert package not in {"torch", "transformers", "sentence_transformers"}, where
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in CLOCK_CALLS, f"{name}, line {node.lineno} asks what time it is"


@pytest.mark.parametrize("name", ALL)
def test_torch_is_loaded_only_where_it_is_needed(name: str) -> None:
    if name in TORCH or name.partition(".")[0] in TORCH_FOLDERS:
        return
    for arrow in arrows(name):
        if arrow.top:
            assert arrow.module.partition(".")[0] != "torch", f"line {arrow.line}"
            assert arrow.module != "safetensors.torch", f"line {arrow.line}"


def test_recommending_and_the_command_line_start_without_torch() -> None:
    """Every module that may not need torch, imported in one fresh process, leaves it unloaded."""
    names = [n for n in ALL if n not in TORCH and n.partition(".")[0] not in TORCH_FOLDERS]
    names += ["models.__init__", "models.ease", "models.item_knn", "models.popular"]
    dotted = [f"penchant.{n}".removesuffix(".__init__") for n in names]
    assert {"penchant.scorers", "penchant.model", "penchant.ranking", "penchant.recipe", "penchant.cli"} <= set(dotted)
    code = (
        "import sys, importlib\n"
        f"for name in {dotted!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ALL)
def test_a_file_says_what_it_is_and_is_short(name: str) -> None:
    text = files()[name].read_text("utf-8")
    lines = len(text.splitlines())
    assert lines <= 300, f"{lines} lines: one file, one idea"
    assert len(ast.get_docstring(tree(name)) or "") >= 20, "a file begins with what it is for"


@pytest.mark.parametrize("name", ALL)
def test_what_a_file_offers_is_there(name: str) -> None:
    module = importlib.import_module(f"penchant.{name}".removesuffix(".__init__"))
    offered = getattr(module, "__all__", [])
    assert len(set(offered)) == len(offered)
    for word in offered:
        assert not word.startswith("_")
        getattr(module, word)


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile(r"(?<![\w./~-])/(?:work|root|tmp|home|Users|mnt|opt|scratch)/\w|[A-Z]:\\\\Users")
    found = []
    for path in [*ROOT.rglob("*"), *Path(__file__).parent.rglob("*")]:
        if path.suffix in {".py", ".html", ".toml", ".md", ".css", ".js", ".txt", ".json"} and path != Path(__file__):
            lines = path.read_text("utf-8", "replace").splitlines()
            found += [
                f"{path.name}, line {n}: {line.strip()}" for n, line in enumerate(lines, 1) if places.search(line)
            ]
    assert not found


def test_the_reader_of_imports_sees_them_all() -> None:
    """One import of each sort."""
    source = (
        "from typing import TYPE_CHECKING\nimport torch.nn\nfrom penchant import topk\n"
        "if TYPE_CHECKING:\n    from penchant.data import Ids\nelse:\n    import time\n"
        "def f():\n    from penchant.models import by_name\n    import socket\n"
        "class C:\n    from penchant.models.bpr import Bpr\n"
        "try:\n    import penchant\nexcept ImportError:\n    import penchant.models.bpr as b\n"
    )
    assert {(a.module, a.inside, a.top) for a in arrows_of(ast.parse(source), "a")} == {
        ("typing", None, True),
        ("torch.nn", None, True),
        ("penchant", "topk", True),
        ("time", None, True),
        ("penchant.models", "models.__init__", False),
        ("socket", None, False),
        ("penchant.models.bpr", "models.bpr", True),
        ("penchant", "__init__", True),
    }
