"""Protocols: whether runs may stand in one table, and what to type where they may not."""

from __future__ import annotations

import json
from collections.abc import Sequence

from penchant.errors import DifferentProtocols, some
from penchant.report import Report

__all__ = ["COLD", "DRAWN", "alike"]

DRAWN = ", candidates drawn with seed "  # in Protocol.split
COLD = "(cold items only)"  # in Protocol.ranking


def alike(reports: Sequence[Report], names: Sequence[str]) -> None:
    """Raises DifferentProtocols that says which field differs, in which run, and what to type."""
    under, lines, different = [_conditions(report) for report in reports], [], []
    for name in under[0]:
        held: dict[str, list[str]] = {}
        for label, conditions in zip(names, under, strict=True):
            held.setdefault(conditions[name], []).append(label)
        if len(held) > 1:
            different.append(name)
            lines.append(f"  {name}: " + "; ".join(f"{value} in {some(who, 3)}" for value, who in held.items()))
    if not different:
        return
    settable = [n for n in ("part", "ranking", "mask", "history", "at", "min_test") if n in different]
    if "data" in different or "split" in different:
        also = f" and the same [protocol] {', '.join(settable)}," if settable else ""
        hint = f"Give the recipes the same `data`, `interactions`, `min_rating` and `split`,{also} and run them again."
    elif settable:
        sets = " ".join(f"--set '{one}'" for name in settable for one in _sets(reports, name, under[0][name]))
        hint = f"Run the others as {names[0]} was:  penchant run RECIPE.toml {sets}"
    else:
        hint = "Run them again on the same split:  penchant run RECIPE.toml"
    raise DifferentProtocols(
        "these runs must not stand in one table; they differ in\n" + "\n".join(lines) + f"\n{hint}"
    )


def _conditions(report: Report) -> dict[str, str]:
    """What must be equal; the seed of candidates beside how many they are, and not within the split."""
    split, _, seed = report.protocol.split.partition(DRAWN)
    ranking = f"{report.protocol.ranking}, seed {seed}" if seed else report.protocol.ranking
    return dict(report.conditions) | {"split": json.dumps(split), "ranking": json.dumps(ranking)}


def _sets(reports: Sequence[Report], name: str, value: str) -> list[str]:
    """For --set: what makes this part of a protocol as in the first run."""
    if name != "ranking":
        return [f"protocol.{name}={value}"]
    first = reports[0].protocol
    count = first.ranking.partition("@")[2]
    ranking = f"{{candidates={count}, seed={first.split.partition(DRAWN)[2] or 0}}}" if count else '"full"'
    cold = [COLD in report.protocol.ranking for report in reports]
    return [f"protocol.ranking={ranking}", *([f"protocol.only_cold={json.dumps(cold[0])}"] if any(cold) else [])]
