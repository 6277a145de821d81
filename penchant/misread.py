"""Where a recipe went wrong: words for the messages of recipe.py."""

from __future__ import annotations

import re
from pathlib import Path

from penchant.errors import near, some

__all__ = ["absent", "line"]


def absent(path: Path) -> str:
    """Why there is no recipe at this path, and what there is instead."""
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.toml"))
        return (
            f"{path} is a folder, not a recipe. {f'It has: {some(inside)}' if inside else 'Give a file, RECIPE.toml'}"
        )
    beside = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    if beside:
        return f"no recipe {path}.{near(path.name, beside)} In {path.parent} there are: {some(sorted(beside), 8)}"
    return f'no recipe {path}. A recipe is a TOML file; two lines do:  data = "shop"  and  model = {{ name = "lightgcn" }}. Then:  penchant run {path}'


def line(text: str, message: str) -> str:
    """', line N' for the unknown key that a message names, where it stands in its own table of the file."""
    where, _, rest = message.partition(" has no ")
    key = re.escape(rest.partition("`")[2].partition("`")[0])
    table = {"a recipe": "", "Penchant": "*"}.get(where, (re.findall(r"\w+", where) or [""])[0])
    stands = re.compile(rf"[\"']{key}[\"']" if table == "*" else rf"(^|[{{,\s\"'.\[]){key}[\"'\s]*[=.\]]")
    inside = ""
    found: dict[str, int] = {}
    for number, written in enumerate(text.splitlines(), 1):
        code = written.split("#")[0].strip()
        words = re.findall(r"[\w-]+", code)
        inside = words[0] if code.startswith("[") and words else inside
        if stands.search(code):
            own = "" if inside in ("", words[0]) and re.fullmatch(key, words[0]) else inside or words[0]
            found.setdefault(own, number)
    at = min(found.values(), default=0) if table == "*" else found.get(table, found.get("search", 0))
    return f", line {at}" if at else ""  # a value of [search] is tried as if it stood in its own table
