"""Recipe: a claim in about fifteen lines of TOML, read into types. Misspellings fail here, before any work is done."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, NonNegativeInt

from penchant import leaky, metrics, misread
from penchant.errors import BadRecipe, BadSetting, MissingFile, UnknownKey, near
from penchant.model import Model
from penchant.models import by_name
from penchant.ranking import Candidates, Task
from penchant.training import Training
from penchant.typed import copied, made, put, table, typed

__all__ = ["ClaimSpec", "InputSpec", "NoiseSpec", "Recipe", "SplitSpec", "input_of", "parse", "read", "split_of"]

USUAL = {"name": "weave"}  # where no model is named: it takes whatever features there are, or none
SPLITS = ("given", "leave_last_out", "by_ratio", "by_time", "cold_items")


@dataclass(frozen=True)
class SplitSpec:
    """How to part the data; k_core first keeps users and items with k choices."""

    by: str = "by_ratio"
    seed: int = 0
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    chronological: bool = False
    share: float = 0.1
    k_core: int | None = None

    def __post_init__(self) -> None:
        if self.by not in SPLITS:
            raise BadSetting(f"split.by = {self.by!r} is not known; choose one of: {', '.join(SPLITS)}")


@dataclass(frozen=True)
class InputSpec:
    """Where an input comes from: catalog.text, catalog.image, items.COLUMN, users.COLUMN, features/NAME, or a prompt such as
    user_motives; several are joined. origin: "external" for text columns that came with the data. centred: each of them
    centred, and rows of length 1, before they are joined. For prompts: lm, who answers; items: a prompt whose texts come before
    the catalogue's; through: motives by way of review_motives; category: what the catalogue is of; parallel, context, budget_usd:
    as for `penchant enrich`. For notes on histories: window, step, most (`enrich.comprehension`); items: what is shown of each.
    """

    from_: tuple[str, ...]
    encoder: str | None = None
    origin: str | None = None
    lm: str | None = None
    items: str | None = None
    through: bool = False
    category: str = ""
    parallel: int = 16
    context: int | None = None
    budget_usd: float | None = None
    centred: bool = False
    window: int | None = None
    step: int | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        if not self.from_:
            raise BadSetting('from = [] names nothing; write for example  from = "catalog.text"')
        if self.lm is not None and "://" in self.lm and ("@" in self.lm or "?" in self.lm):
            raise BadSetting("lm: reports show this address: no login, no parameters. Set  export PENCHANT_API_KEY=...")
        if self.origin not in (None, "external"):
            raise BadSetting(f'origin = {self.origin!r}: the only origin that can be declared is "external"')


@dataclass(frozen=True)
class ClaimSpec:
    """A published value and how near counts as reproduced. leaks: the claim is known to rest on leakage."""

    value: float
    relative: float = 0.03
    source: str = ""
    leaks: bool = False


@dataclass(frozen=True)
class NoiseSpec:
    """[noise]: the run's models trained again on a train part with random choices among it, see noise.py.

    rates: how many, as shares of train. beside: further models, trained likewise. seed: of the choices, plus that of training.
    """

    rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    seed: int = 0
    beside: tuple[Model, ...] = ()

    def __post_init__(self) -> None:
        if not self.rates:
            raise BadSetting("[noise] rates = [] asks for nothing; write for example  rates = [0, 0.1, 0.2, 0.3]")
        for rate in self.rates:
            if not 0 <= rate <= 1:
                raise BadSetting(f"[noise] rates: {rate} is not a share of the train part, from 0 to 1, e.g. 0.1")
            if self.rates.count(rate) > 1:
                raise BadSetting(f"[noise] rates = {list(self.rates)} has {rate} twice; leave one out")


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of. search: settings ("model.l2") with the values to choose from on validation. leaky: see leaky.py."""

    name: str
    data: str
    model: Model
    paper: str = ""
    interactions: str = "interactions"
    min_rating: float | None = None
    split: SplitSpec = SplitSpec()
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    training: Training = Training()
    seeds: tuple[int, ...] = (0,)
    task: Task = Task()
    search: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    claim: Mapping[str, ClaimSpec] = field(default_factory=dict)
    noise: NoiseSpec | None = None
    leaky: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The TOML as read, with what was set on the command line."""

    def __post_init__(self) -> None:
        leaky.check(self.leaky, self.model.name, self.inputs, self.search, self.noise)

    def with_settings(self, chosen: Mapping[str, Any]) -> Recipe:
        """This recipe with some "section.key" replaced and no search."""
        raw = {key: value for key, value in copied(self.raw).items() if key not in ("search", "noise")}
        for key, value in chosen.items():
            put(raw, key.split("."), value)
        return replace(parse(raw, self.name), noise=self.noise)


def read(path: Path | str, sets: Sequence[str] = ()) -> Recipe:
    """A recipe file, with `sets` such as "model.dim=32" put on top. Raises MissingFile, BadRecipe."""
    path = Path(path)
    if not path.is_file():
        raise MissingFile(misread.absent(path))
    try:
        text = path.read_text("utf-8")
        raw = {"model": dict(USUAL), **tomllib.loads(text)}  # so that what is --set of it is set of that one
    except ValueError as error:  # of UTF-8 or of TOML
        raise BadRecipe(f"{path} is not valid TOML: {error}") from None
    for item in sets:
        at, value = _setting(item)
        leaky.refuse_set(at)
        put(raw, at, value)
    try:
        return parse(raw, path.stem)
    except UnknownKey as error:
        error.args = (f"{path}{misread.line(text, str(error))}: {error}",)
        raise
    except BadRecipe as error:
        raise type(error)(f"{path}: {error}") from None


def split_of(sets: Sequence[str]) -> SplitSpec:
    """A split from settings such as "split.by=by_time", checked as in a recipe."""
    raw: dict[str, Any] = {}
    for item in sets:
        put(raw, *_setting(item))
    return made("split", SplitSpec, raw["split"])


def parse(raw: Mapping[str, Any], name: str) -> Recipe:
    """A recipe from TOML's tables. Raises UnknownKey, BadSetting, BadRecipe."""
    known = {f.name for f in fields(Recipe)} - {"name", "seeds", "task", "raw"} | {"protocol"}
    for key in raw:
        if key not in known:
            raise UnknownKey("a recipe", key, known)
    if "data" not in raw:
        raise BadRecipe('the recipe lacks `data`. Add:  data = "shop"')
    raw = {"model": dict(USUAL), **raw}  # the lock names what was run
    training = dict(table("[training]", raw.get("training", {})))
    seeds = typed("[training] seeds", tuple[int, ...], training.pop("seeds", (0,)))
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise BadSetting(f"[training] seeds = {list(seeds)} must be distinct, not empty and below 2**32: [0, 1]")
    task = _task(table("[protocol]", raw.get("protocol", {})))
    model, split = _model(raw["model"], "[model]"), made("split", SplitSpec, raw.get("split", {}))
    return Recipe(
        name=name,
        data=typed("data", str, raw["data"]),
        model=model,
        paper=typed("paper", str, raw.get("paper", "")),
        interactions=typed("interactions", str, raw.get("interactions", "interactions")),
        min_rating=typed("min_rating", FiniteFloat | None, raw.get("min_rating")),
        split=split,
        inputs={key: input_of(key, value) for key, value in table("[inputs]", raw.get("inputs", {})).items()},
        training=made("[training]", Training, training, hidden=("seed",)),
        seeds=seeds,
        task=task,
        search=_search(table("[search]", raw.get("search", {})), raw),
        claim={m: _claim(m, value, task) for m, value in table("[claim]", raw.get("claim", {})).items()},
        noise=_noise(raw["noise"], () if raw.get("search") else (model,), split) if "noise" in raw else None,
        leaky=typed("leaky", str | None, raw.get("leaky")),
        raw=raw,
    )


def _model(raw: Any, where: str) -> Model:
    raw = dict(table(where, raw))
    if "name" not in raw:
        raise BadRecipe(f'{where} lacks `name`, e.g. name = "weave"')
    cls = by_name(typed(f"{where} name", str, raw.pop("name")))
    for key, value in raw.items():
        if isinstance(value, dict) and "name" in value:
            raw[key] = _model(value, f"{where} {key}")
    return made(f"{where} {cls.name}", cls, raw)


def _task(raw: Mapping[str, Any]) -> Task:
    ranking, raw = raw.get("ranking", "full"), {key: value for key, value in raw.items() if key != "ranking"}
    if ranking != "full" and not isinstance(ranking, Mapping):
        raise BadSetting(f'[protocol] ranking = {ranking!r}: choose "full" or {{ candidates = 21, seed = 0 }}')
    task = made("[protocol]", Task, raw, hidden=("part", "seed", "candidates"), also=("ranking",))
    parts = ("train", "valid")
    for name in {*task.mask, *task.history} - {*parts}:
        raise BadSetting(f'[protocol] mask, history: {name!r} is not "train" or "valid".{near(name, parts)}')
    if ranking == "full":
        return task
    for key in set(ranking) - {"candidates", "seed"}:
        raise UnknownKey("[protocol] ranking", key, ("candidates", "seed"))
    wanted = {"candidates": 0, "seed": 0} | ranking
    wanted = {key: typed(f"[protocol] ranking {key}", NonNegativeInt, value) for key, value in wanted.items()}
    return replace(task, candidates=Candidates(wanted["candidates"], wanted["seed"]))


def input_of(name: str, raw: Any) -> InputSpec:
    raw = dict(table(f"[inputs] {name}", raw))
    if "from" not in raw:
        raise BadRecipe(f'[inputs] {name} lacks `from`, e.g. {name} = {{ from = "catalog.text", encoder = "minilm" }}')
    given = raw["from"]
    return made(f"[inputs] {name}", InputSpec, {**raw, "from": (given,) if isinstance(given, str) else given})


def _claim(metric: str, raw: Any, task: Task) -> ClaimSpec:
    if metrics.parse(metric) and metric not in task.names:
        raise BadSetting(f"[claim] {metric} is not measured by this protocol; it measures: {', '.join(task.names)}")
    return made(f"[claim] {metric}", ClaimSpec, {"value": raw} if isinstance(raw, int | float) else raw)


def _noise(raw: Any, own: tuple[Model, ...], split: SplitSpec) -> NoiseSpec:
    raw = dict(table("[noise]", raw))
    given = raw.pop("beside", None)
    if given is not None and (not isinstance(given, list) or not given):
        raise BadSetting('[noise] beside must list models, or be left out:  beside = [{ name = "lightgcn" }]')
    beside = tuple(_model(one, f"[noise] beside, model {n}:") for n, one in enumerate(given or (), 1))
    for n, one in enumerate(beside):
        if one in (*own, *beside[:n]):
            raise BadSetting(f"[noise] beside: model {n + 1}, {one.name}, is in this recipe twice; leave it out there")
    if split.by == "cold_items":
        raise BadSetting(
            "[noise] gives items random choices, and then none is cold. Leave out [noise], or split otherwise"
        )
    spec = made("[noise]", NoiseSpec, raw, hidden=("beside",), also=("beside",))
    return replace(spec, rates=tuple(sorted(spec.rates)), beside=beside)


def _search(raw: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    found = {}
    for key, values in raw.items():
        head, _, rest = key.partition(".")
        if head not in ("model", "training") or rest in ("", "seeds"):
            raise BadSetting(f'[search] "{key}": only settings of model and training, e.g. "model.l2", can be chosen')
        if not isinstance(values, list) or not values:
            raise BadSetting(f'[search] "{key}" must list the values to choose from, e.g. "{key}" = [1e-6, 1e-5]')
        for value in values:  # each must be one that the recipe could be run with
            trial = {part: given for part, given in copied(whole).items() if part not in ("search", "noise")}
            put(trial, key.split("."), value)
            parse(trial, "search")
        found[key] = tuple(values)
    return found


def _setting(item: str) -> tuple[list[str], Any]:
    """model.dim=3 -> ["model", "dim"], 3. A part with dots is quoted, search."model.l2"; what is no TOML is a string."""
    key, _, text = item.partition("=")
    path: list[str] = []
    try:
        inner: Any = tomllib.loads(f"{key.strip()} = 0")
        while isinstance(inner, dict):
            ((part, inner),) = inner.items()
            path.append(part)
    except ValueError:
        text = ""
    if not text.strip():
        raise BadRecipe(f"--set {item}: write it as section.key=value, e.g.  --set model.dim=32")
    try:
        found = tomllib.loads(f"x = {text}")
    except tomllib.TOMLDecodeError:
        return path, text.strip()
    return path, found["x"] if len(found) == 1 else text.strip()
