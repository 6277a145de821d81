"""Report: what one run was, reached and cost. The dataclasses mirror report.json field by field."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from penchant.errors import BadInput, BadModel, MissingFile
from penchant.under_noise import Noise

__all__ = [
    "Claim",
    "DataFacts",
    "Input",
    "LmCost",
    "Metric",
    "Point",
    "Protocol",
    "Report",
    "Seconds",
    "plain",
    "write_whole",
]

FORMAT = 1  # of report.json; raised when an older Penchant could no longer read it

# JSON has no NaN: a number that is not finite is written as null and read back as NaN.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


@dataclass(frozen=True)
class DataFacts:
    """What was learned from: hash of interactions and given split, and how many of each."""

    name: str
    hash: str
    users: int
    items: int
    train: int
    valid: int
    test: int


@dataclass(frozen=True)
class Protocol:
    """How the numbers were made. All fields but `selected_by` and `ties` decide whether two runs may be compared.

    ranking: "full" or "candidates@N". mask: parts whose items could not be recommended. history: parts that the model
    knew of the user. split: the maker and its settings. min_test: users with fewer held-out items were left out.
    """

    part: str
    ranking: str
    mask: tuple[str, ...]
    history: tuple[str, ...]
    at: tuple[int, ...]
    selected_by: str
    ties: str = "random"
    split: str = ""
    min_test: int = 1


@dataclass(frozen=True)
class Metric:
    """mean over users of the seed-averaged values, its 95 % user bootstrap interval, and the mean of each seed."""

    mean: Number
    ci95: tuple[Number, Number]
    per_seed: tuple[Number, ...]


@dataclass(frozen=True)
class Seconds:
    """Wall time of the run, all seeds together; per_epoch is the mean over epochs."""

    prepare: Number
    train: Number
    per_epoch: Number
    evaluate: Number

    @property
    def total(self) -> float:
        return self.prepare + self.train + self.evaluate


@dataclass(frozen=True)
class LmCost:
    """What language models were asked for this run: calls made, answers taken from the store, tokens, US dollars."""

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A published value, what we got, and the relative tolerance. leaks: the claim is known to rest on leakage."""

    value: float
    relative: float
    got: Number
    source: str = ""
    leaks: bool = False

    @property
    def difference(self) -> float:
        """Relative: 0.02 means 2 % above the claim. A claim of 0 has none: 0 where it is reached exactly, else NaN."""
        if not self.value:
            return 0.0 if self.got == 0 else math.nan
        return (self.got - self.value) / abs(self.value)

    @property
    def verdict(self) -> str:
        """ "met" within the tolerance, "exceeded" above it, "missed" below it (or without a number).

        A claim of 0 leaves no tolerance: 0 meets it, more exceeds it.
        """
        if self.value == 0:
            return "met" if self.got == 0 else "exceeded" if self.got > 0 else "missed"
        if self.difference > self.relative:
            return "exceeded"
        return "met" if self.difference >= -self.relative else "missed"


@dataclass(frozen=True)
class Input:
    """One input of the model. external: its origin cannot be checked. leaking: known to have seen held-out choices. present: how
    many of `total` items (or users) have a vector; 0 of 0 in old reports, which did not count."""

    description: str
    ref: str = ""
    external: bool = False
    leaking: bool = False
    present: int = 0
    total: int = 0


class Point(NamedTuple):
    """One epoch of one seed; valid is the selection metric, None where nothing was validated."""

    seed: int
    epoch: int
    loss: Number
    valid: float | None = None


@dataclass(frozen=True)
class Report:
    """One run of one model under one protocol, over one or more seeds.

    epochs and parameters: of the kept model. best_seed: the seed that was best on validation, whose model and top
    lists are kept. notes: what was accepted and counted on the way. curve: every epoch of every seed. noise: what became
    of the numbers with random choices in train; none of it is in the other fields. leaky: which leak was repeated on purpose.
    """

    model: str
    data: DataFacts
    protocol: Protocol
    users_evaluated: int
    metrics: Mapping[str, Metric]
    seconds: Seconds
    epochs: int
    parameters: int
    peak_rss_mb: Number
    lm: LmCost
    seeds: tuple[int, ...]
    versions: Mapping[str, str]
    claim: Mapping[str, Claim] | None = None
    paper: str = ""
    best_seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    noise: Noise | None = None
    leaky: str | None = None

    @property
    def main(self) -> str:
        """The metric of the headline: the one selected by, else recall of the longest list, else the first."""
        chosen = self.protocol.selected_by.rsplit(" ", 1)[-1]
        longest = f"recall@{max(self.protocol.at, default=0)}"
        return next((m for m in (chosen, longest) if m in self.metrics), next(iter(self.metrics), ""))

    @property
    def kept(self) -> int | None:
        """The seed whose model was kept."""
        return self.best_seed if self.best_seed is not None else next(iter(self.seeds), None)

    @property
    def leaks(self) -> bool:
        """Whether an input is known to have seen held-out choices, so that the numbers prove nothing."""
        return self.leaky is not None or any(given.leaking for given in self.inputs.values())

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader of any table must know of this row: "leaking: NAME", "external: NAME"."""
        leaking = [f"leaking: {name}" for name, given in self.inputs.items() if given.leaking]
        return (*leaking, *(f"external: {name}" for name, i in self.inputs.items() if i.external and not i.leaking))

    @property
    def conditions(self) -> tuple[tuple[str, str], ...]:
        """(field, value) of all that must be equal before two reports may be compared."""
        d, p = self.data, self.protocol
        fields = {"data": d.hash, "split": p.split, "train": d.train, "valid": d.valid, "test": d.test, "part": p.part}
        fields |= {"ranking": p.ranking, "mask": list(p.mask), "history": list(p.history), "at": list(p.at)}
        fields |= {"min_test": p.min_test, "users_evaluated": self.users_evaluated}
        return tuple((name, json.dumps(value)) for name, value in fields.items())

    def write(self, folder: Path | str) -> Path:
        """report.json, one top-level field a line, always in the same order."""
        written = {"format": FORMAT, **plain(self)}
        if self.claim is not None:
            for name, claim in self.claim.items():
                written["claim"][name] |= {"difference": plain(claim.difference), "verdict": claim.verdict}
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in written.items())
        return write_whole(Path(folder) / "report.json", f"{{\n{lines}\n}}\n".encode())

    @staticmethod
    def read(folder: Path | str) -> Report:
        """From a run folder or its report.json.

        Raises MissingFile, BadInput when it is damaged, BadModel when a newer Penchant wrote it.
        """
        path = Path(folder)
        path = path if path.suffix == ".json" else path / "report.json"
        again = f"Run it again:  penchant run RECIPE.toml --out {path.parent}"
        if not path.is_file():
            raise MissingFile(f"no report in {path.parent}: report.json is missing. {again}")
        try:
            plain = json.loads(path.read_bytes())
            version = plain["format"]
            if not isinstance(version, int):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadInput(f"{path} is damaged: it is not the JSON of a report. {again}") from None
        if version > FORMAT:
            raise BadModel(
                f"{path} was written by a newer Penchant (format {version}; this one reads up to {FORMAT}). "
                "Upgrade:  pip install --upgrade penchant"
            )
        try:
            return _adapter().validate_json(json.dumps(plain), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{path} is damaged: `{where}`: {first['msg']}. {again}") from None


def write_whole(path: Path, content: bytes) -> Path:
    """The file appears complete or not at all, also after a kill. Raises BadInput where nothing can be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise BadInput(f"cannot write {path}: {error.strerror}. Give another place to write to") from None
    return path


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def plain(value: Any) -> Any:
    """What JSON can hold: null for a number that is not finite, text for anything it has no word for."""
    if isinstance(value, Point):
        return [plain(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
