"""Model (settings) --fit--> Recommender (score, recommend, similar, save). Two types, so "not fitted" cannot happen."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from penchant import limits, topk
from penchant.binding import Input, checked, kind_of, meant, print_of
from penchant.catalog import Catalog
from penchant.data import Ids, Interactions, Queries, digest
from penchant.errors import BadInput, BadSetting, Misaligned, MissingInput, UnknownId, example
from penchant.features import Features
from penchant.intake import Stock, added
from penchant.likeness import By, alike, known
from penchant.scorers import Popularity, Scorer
from penchant.split import Split
from penchant.training import Curve, Training, Undecided, Validation, seeded

__all__ = ["Model", "Need", "Recommendation", "Recommender", "settings_of"]


class Need(NamedTuple):
    """One input that `build` asks for. many: any number of named Features. kind: "Features", "Graph", "Texts", "Notes", "Pictures"."""

    name: str
    optional: bool
    many: bool
    kind: str = "Features"


@dataclass(frozen=True)
class Recommendation:
    """Items for one user, best first. note says when the list is not personal."""

    user_id: str
    items: tuple[str, ...]
    scores: tuple[float, ...]
    note: str = ""


class Model(ABC):
    """Settings of one model. A subclass is a frozen dataclass that writes `build`; `fit` is final.

    The signature of `build` declares the needs: build(self, train, image) asks for an input called image; a parameter
    with a default is optional; `**features` takes any number of named Features.
    """

    name: ClassVar[str]

    @abstractmethod
    def build(self, *train: Any, **inputs: Any) -> Any:
        """build(train, **inputs): a Scorer, where training is a closed form, an `Undecided`, or a net for `train.run`."""

    def needs(self) -> tuple[Need, ...]:
        """What `build` asks for besides train."""
        found = []
        for name, p in list(inspect.signature(self.build).parameters.items())[1:]:
            found.append(Need(name, p.default is not p.empty, p.kind is p.VAR_KEYWORD, kind_of(p.annotation)))
        return tuple(found)

    def fit(
        self,
        train: Interactions,
        valid: Interactions | None = None,
        training: Training | None = None,
        *,
        folder: Path | None = None,
        progress: Callable[[Curve], None] | None = None,
        **inputs: Input,
    ) -> Recommender:
        """Train on `train`, choose the epoch on `valid`.

        Inputs are bound by name, aligned and checked for their origin. With a folder, a killed fit goes on from its
        last validation. Raises BadSetting, MissingInput, Misaligned, Leak, Diverged, BadInput.
        """
        limits.check(self)
        training = training or Training()
        bound = self.bind(train, inputs)
        validation = None if valid is None else Validation.of(train, valid, training.select, training.among)
        with seeded(training.seed):
            net = self.build(train, **bound)
        if isinstance(net, Scorer | Undecided):
            scorer, curve = (
                (net, Curve()) if isinstance(net, Scorer) else net.decide(validation, training, folder, progress)
            )
            parameters = sum(int(np.size(a)) for a in scorer.arrays().values())
        else:
            from penchant import train as loop

            parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
            prints = [f"{name}:{print_of(value)}" for name, value in sorted(bound.items())]
            own = str(getattr(net, "print", ""))  # of weights that it began with, where they lie in a folder
            identity = digest(
                repr(self), repr(training), train.hash, valid.hash if valid is not None else "", own, *prints
            )
            scorer, curve = loop.run(net, training, validation, folder, identity, progress)
        known = Split(train, train, train).queries("test", ("train",), np.arange(len(train.users)))
        given = {name: value for name, value in bound.items() if isinstance(value, Features)}
        leaking = tuple(name for name, value in given.items() if value.source.leaking)
        content = {name: value for name, value in given.items() if value.ids.kind == "item"}
        stock = Stock(content, len(train.items)) if content else None
        head = (self.name, settings_of(self) | dict(scorer.decided), train.users, train.items)
        return Recommender(*head, scorer, known, curve, parameters, stock=stock, leaking=leaking)

    def bind(self, train: Interactions, inputs: dict[str, Input]) -> dict[str, Input]:
        """The inputs as `build` takes them: all there, none too many, aligned with `train`, of this train part only.

        Raises MissingInput, Misaligned, Leak; BadInput for what is no vectors.
        """
        needs = self.needs()
        many = any(need.many for need in needs)
        names = {need.name for need in needs if not need.many}
        kinds = {need.name: need.kind for need in needs if not need.many}
        for name, value in inputs.items():
            if name not in names and not many:
                takes = ", ".join(sorted(names)) or "none"
                raise MissingInput(f"{self.name} takes no input `{name}`; it takes: {takes}. Remove it from [inputs].")
            meant(name, value, kinds.get(name, "Features"))
        for need in needs:
            if need.many and not need.optional and not (set(inputs) - names) and self.asks_for_features:
                raise MissingInput(_ask(self.name, "image", inputs))
            if not need.many and not need.optional and need.name not in inputs:
                raise MissingInput(_ask(self.name, need.name, inputs))
        for name, value in inputs.items():
            if name not in names and not (isinstance(value, Features) and value.ids.kind == "item"):
                what = f"vectors of {value.ids.kind}s" if isinstance(value, Features) else "a graph"
                raise Misaligned(
                    f"input `{name}` is {what}; {self.name} takes vectors of items. Remove it from [inputs]."
                )
            kind = name.partition("_")[0]  # of user_motives, item_motives
            if name in names and kind in ("user", "item") and isinstance(value, Features) and value.ids.kind != kind:
                raise Misaligned(
                    f"input `{name}` is vectors of {value.ids.kind}s; {self.name} takes those of {kind}s here. Name a source "
                    f"about {kind}s:  {example(name)}"
                )
        bound = {name: checked(name, value, train) for name, value in inputs.items()}
        said = {name: value for name, value in bound.items() if name not in names and isinstance(value, Features)}
        if self.asks_for_features and not any(value.values.any() for value in said.values()):
            raise MissingInput(
                f"{self.name}: none of {len(train.items)} items has a vector other than zeros in {', '.join(said)}. Name what "
                f"they have in [inputs]:  {example('text')}"
            )
        return bound

    asks_for_features: ClassVar[bool] = False
    """With `**features`: whether at least one is needed."""
    keeps: ClassVar[tuple[str, ...]] = ()
    """Settings that it chose on valid and can't choose where there is none: a final fit has them from the run that was measured."""
    decides: ClassVar[str] = ""
    """What it chooses by ranking while it is fitted, beside the epoch, in words; the metric is its setting `choose`."""


def _ask(model: str, name: str, inputs: dict[str, Input]) -> str:
    return f"{model} needs `{name}`; given: {', '.join(inputs) or 'nothing'}. Add to [inputs]:  {example(name)}"


@dataclass(frozen=True, eq=False)
class Recommender:
    """A fitted model: its scorer, the vocabularies, and what was known of each user.

    known: one query per user row, in order; the default history. seen: likewise, what is not recommended again (or None).
    leaking: inputs that have seen held-out choices, as only a leaky recipe lets them: to be measured, not to be used.
    stock: features of the items, where it was fitted with any.
    """

    name: str
    settings: dict[str, Any]
    users: Ids
    items: Ids
    scorer: Scorer
    known: Queries
    curve: Curve = Curve()
    parameters: int = 0
    seen: Queries | None = None
    stock: Stock | None = None
    leaking: tuple[str, ...] = ()

    def score(self, queries: Queries) -> np.ndarray:
        """(B, I) float32"""
        return self.scorer.score(queries)

    def ask(self, users: Sequence[str], histories: Sequence[Sequence[str]] | None = None) -> Queries:
        """Queries for user keys. A user never seen needs a history (item keys, oldest first); UnknownId otherwise. A history
        that is given stands for the person: she is judged by it alone. Raises BadInput for one id where a list of them is meant."""
        rows = self.users.rows(users)
        if isinstance(histories, str):
            raise BadInput(f"histories = {histories!r}: each user's is a list of item ids. Write:  [[{histories!r}]]")
        if histories is None:
            if (rows < 0).any():
                stranger = users[int(np.flatnonzero(rows < 0)[0])]
                raise UnknownId("user", stranger, self.users.keys, "For someone new, give a history of item ids.")
            return _rows(self.known, rows)
        if len(histories) != len(users):
            raise BadSetting(f"{len(histories)} histories for {len(users)} users; give one each")
        return Queries.of(np.full(len(users), -1), [known(self.items, history) for history in histories])

    def recommend(
        self,
        users: Sequence[str],
        k: int = 10,
        histories: Sequence[Sequence[str]] | None = None,
        exclude_seen: bool = True,
        seed: int = 0,
    ) -> list[Recommendation]:
        """The k best items for each user; fewer where the catalogue has fewer.

        A user of whom nothing is known gets what most people chose, and the note says so.
        """
        if k < 1:
            raise BadSetting(f"k = {k} must be at least 1")
        queries = self.ask(users, histories)
        past = queries if histories is not None or self.seen is None else _rows(self.seen, queries.users)
        mask = past.matrix(len(self.items)) if exclude_seen else None
        blank = (np.diff(queries.history_starts) == 0) & self.scorer.personal
        items, scores = topk.top(self.scorer, queries, min(k, len(self.items)), mask, seed=seed)
        if blank.any():
            plain, counts = topk.top(Popularity(self.popularity), queries, min(k, len(self.items)), mask, seed=seed)
            items[blank], scores[blank] = plain[blank], counts[blank]
        found = []
        for b, user in enumerate(users):
            live = items[b] >= 0
            note = "nothing is known of this user: popular items, not personal" if blank[b] else ""
            if not self.scorer.personal:
                note = "popular items, the same for everybody"
            keys = tuple(self.items.keys[i] for i in items[b][live])
            found.append(Recommendation(user, keys, tuple(float(s) for s in scores[b][live]), note))
        return found

    def similar(self, items: Sequence[str], k: int = 10, seed: int = 0, by: By = "behaviour") -> list[Recommendation]:
        """The k items most like each given one: by behaviour, as this model sees it (and by words where it scores by them), or
        by content, the features that it was fitted with. Raises MissingInput when there are none."""
        return alike(self, items, k, seed, by)

    def add_items(self, catalog: Catalog, features: Mapping[str, Features]) -> Recommender:
        """This model with new items after its own; nothing is trained. catalog: the new items. features: of them, by the names
        of the inputs that the model was fitted with; a gap is allowed, an item without any features is not.

        Raises CannotServeColdItems, BadTable for an item that is here already, BadInput for what is no vectors, MissingInput,
        Misaligned, Leak.
        """
        return added(self, catalog, features)

    @cached_property
    def popularity(self) -> np.ndarray:
        """How often each item was chosen in the known histories. (I,) float32"""
        return np.bincount(self.known.history_items, minlength=len(self.items)).astype(np.float32)

    def save(self, folder: Path | str) -> None:
        """Write the model folder (safetensors and json); see saved.py."""
        from penchant import saved

        saved.write(self, Path(folder))


def _rows(queries: Queries, rows: np.ndarray) -> Queries:
    """The queries at these rows, in this order."""
    starts = queries.history_starts
    return Queries.of(rows, [queries.history_items[starts[r] : starts[r + 1]] for r in rows])


def settings_of(model: Any) -> dict[str, Any]:
    """A model's settings as plain values; a nested model carries its name."""
    found = {}
    for f in fields(model):
        value = getattr(model, f.name)
        if isinstance(value, Model):
            value = {"name": value.name, **settings_of(value)}
        elif is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        found[f.name] = _listed(value)
    return found


def _listed(value: Any) -> Any:
    """Tuples as lists, as they come back from json."""
    return [_listed(each) for each in value] if isinstance(value, tuple | list) else value
