"""What every model must do. A new file in penchant/models is found by listing the folder and is held to all of it.

A model that needs other inputs or settings than the ones planted here gets a line in SETTINGS or in `planted`.
"""

from __future__ import annotations

import ast
import importlib
import math
import re
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import NEVER, NOBODY, World, checkerboard, skewed

from penchant import graph, models, recipe, saved
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadRecipe, BadSetting, Leak, Misaligned, MissingInput, UnknownId
from penchant.features import Features
from penchant.model import Input, Model, Recommendation, Recommender
from penchant.models.lightgcn import LightGcn
from penchant.models.sasrec import Sasrec
from penchant.models.weave import NO_FACTORS
from penchant.ranking import Task, evaluate
from penchant.scorers import Factors, Popularity
from penchant.sequence import SequenceModel
from penchant.texts import Provenance
from penchant.training import Training

FOLDER = Path(models.__file__).parent
# Asked about single things, in seconds each fit: held to the same in test_judge.py.
RATING = {"mllm_msr", "mllm_srec", "rerank"}
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in {"__init__", *RATING})
WITHOUT_PAPER = {"popular"}
NOT_PERSONAL = {"popular"}
IN_CHECK = {"popular", "item_knn", "ease", "ease+inputs", "lightgcn", "bpr", "weave"}
DRAWS = {"weave"}  # has no epochs, and chance all the same

# Small values for settings by their name, and what single models need besides.
SMALL = {"dim": 16, "content_dim": 8, "layers": 2, "neighbours": 20, "prototypes": 8}
BACKBONE = LightGcn(dim=16, layers=2)  # of every plug-in but these
BACKBONES: dict[str, Model] = {"dmesr": Sasrec(dim=16, layers=1)}
SETTINGS: dict[str, dict[str, object]] = {
    "ease": {"l2": 5.0, "alpha": 1.0},
    "item_knn": {"shrink": 1.0},
    "bm3": {"l2": 1e-3},  # as mllmrec: at so large a step scores reach tens, where rounding shows
    "freedom": {"neighbours": 5, "keep_edges": 0.8},  # a fifth of so few choices is too few
    "lirdrec": {"neighbours": 5},
    "bert4rec": {"layers": 1, "dropout": 0.0, "hidden": 0.6},
    # Order tells nothing here: groups are learned at once, and the rest by heart.
    "hstu": {"layers": 1, "dropout": 0.0},
    "sasrec": {"layers": 1, "dropout": 0.0},
    "dccf": {"layers": 1, "prototypes": 8},
    "dmesr": {"token_dim": 3},  # of two tokens
    "mllmrec": {"hidden": 32, "l2": 1e-3},  # at so large a step towers without l2 score in tens, where rounding shows
    # People here have one interest, and nearly always one of ten other items is of it and held out.
    "dpcml": {"vectors": 2, "sampling": "uniform", "low": 0.0, "high": 0.1},
    "autocf": {"seeds": 5, "weight_contrast": 0.0},  # what spreads vectors out hardly falls: log of how many there are
}

LONG = Training(
    epochs=40, batch_size=64, learning_rate=0.03, validate_every=5, patience=8, select="recall@3", device="cpu"
)
SHORT = replace(LONG, epochs=3, validate_every=1)


def class_of(name: str) -> type[Model]:
    """The one class of the file whose `name` is the file's."""
    module = importlib.import_module(f"penchant.models.{name}")
    found = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Model) and c.__module__ == module.__name__ and c.name == name
    ]
    assert len(found) == 1, f"models/{name}.py must define one Model with name = {name!r}; it has {found}"
    return found[0]


def plain(name: str) -> Model:
    """The model with its defaults; a plug-in has none for its backbone."""
    cls = class_of(name)
    return cls(backbone=BACKBONES.get(name, BACKBONE)) if "backbone" in {f.name for f in fields(cls)} else cls()


@dataclass(frozen=True)
class Case:
    """A model, with all inputs it can take or with only those it must have."""

    name: str
    full: bool

    @property
    def model(self) -> Model:
        model = plain(self.name)
        small = {f.name: SMALL[f.name] for f in fields(model) if f.name in SMALL}
        return replace(model, **{**small, **SETTINGS.get(self.name, {})})

    def inputs(self, world: World) -> dict[str, Input]:
        found: dict[str, Input] = {}
        for need in self.model.needs():
            if need.many and (self.full or self.model.asks_for_features):
                found |= {"image": world.features(dim=6), "text": world.features(dim=5, seed=1)}
            elif not need.many and (self.full or not need.optional):
                found[need.name] = planted(need.name, world)
        return found

    def fit(self, world: World, training: Training = LONG, valid: bool = True, **inputs: Input) -> Recommender:
        inputs = self.inputs(world) | inputs
        return self.model.fit(world.train, world.valid if valid else None, self.paced(training), **inputs)

    def paced(self, training: Training) -> Training:
        """Of whole histories there are 60 here, so batches are smaller."""
        whole = isinstance(getattr(self.model, "backbone", self.model), SequenceModel)
        return replace(training, batch_size=8) if whole else training


def planted(name: str, world: World) -> Input:
    """An input by its name: a graph, vectors of users, or vectors of items."""
    if "graph" in name:
        return graph.knn(world.features(), 5)
    return world.features("user" if name.startswith("user") else "item")


def cases() -> list[Case]:
    found = []
    for name in NAMES:
        optional = any(need.optional or need.many for need in plain(name).needs())
        found += [Case(name, False)] if not optional else [Case(name, False), Case(name, True)]
    # Two cases with the same inputs are one.
    return [c for c in found if not (c.full and class_of(c.name).asks_for_features)]


CASES = cases()
WITH_FEATURES = [c for c in CASES if any(isinstance(v, Features) for v in c.inputs(checkerboard()).values())]


def label(case: Case) -> str:
    return f"{case.name}+inputs" if case.full else case.name


def together(case: Case) -> object:
    """All tests of a case in one process, which fits it once; those of a few quick ones are part of scripts/check."""
    marks = [pytest.mark.xdist_group(label(case))]
    return pytest.param(case, id=label(case), marks=marks if label(case) in IN_CHECK else [*marks, pytest.mark.long])


every = pytest.mark.parametrize("case", [together(c) for c in CASES])
with_features = pytest.mark.parametrize("case", [together(c) for c in WITH_FEATURES])


@cache
def shared() -> World:
    return checkerboard()


@cache
def fitted(case: Case) -> Recommender:
    """One well trained model of each case, used by every test that only looks at it."""
    return case.fit(shared())


@cache
def quick(case: Case) -> np.ndarray:
    """Scores after a short training, to be compared bit by bit."""
    rec = case.fit(shared(), SHORT)
    return rec.score(rec.known)


def trained(rec: Recommender) -> bool:
    return bool(rec.curve.epoch)


def close(a: Recommendation, b: Recommendation) -> bool:
    """The same list; two items may change places where their scores differ by rounding only."""
    if a.note != b.note or len(a.items) != len(b.items) or not np.allclose(a.scores, b.scores, atol=1e-5, rtol=1e-5):
        return False
    mine, theirs = dict(zip(a.items, a.scores, strict=True)), dict(zip(b.items, b.scores, strict=True))
    return all(abs(mine[i] - theirs.get(i, b.scores[-1])) < 2e-5 for i in mine)


def group(rec: Recommender, key: str) -> int:
    return int(shared().item_group[rec.items.row(key)])


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_list_of_models_and_the_folder_agree() -> None:
    everything = [*NAMES, *RATING]
    assert {class_of(name).__name__ for name in everything} == set(models.__all__) - {"by_name"}
    for name in everything:
        assert models.by_name(name) is class_of(name)
        assert getattr(models, class_of(name).__name__) is class_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_one_short_file_that_names_its_paper(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    assert len(text.splitlines()) < 200
    tree = ast.parse(text)
    head = ast.get_docstring(tree) or ""
    assert len(head) > 40
    if name in WITHOUT_PAPER:
        return
    assert re.search(r"\b(19|20)\d\d\b", head), "the docstring names no paper with its year"
    everything = " ".join(
        ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.Module)
    )
    assert "**Departs from the paper**" in everything


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_frozen_and_have_defaults(name: str) -> None:
    model = plain(name)
    assert model.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for f in fields(model):
        with pytest.raises(FrozenInstanceError):
            setattr(model, f.name, 1)
    assert plain(name) == model, "two models with the same settings are equal"


def wrong_settings() -> list[tuple[str, str, float]]:
    """A model, one of its settings, and a number that no recipe takes there."""
    found: list[tuple[str, str, float]] = []
    for name in NAMES:
        model = plain(name)
        for f in fields(model):
            value = getattr(model, f.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found += [(name, f.name, wrong) for wrong in (-2, math.nan, math.inf)]
                found += [(name, f.name, 0)] * (
                    f.name in SMALL and f.name != "layers" and "least" not in vars(type(model))
                )
    return found


@pytest.mark.parametrize(("name", "setting", "wrong"), wrong_settings())
def test_a_number_that_a_recipe_refuses_is_refused_in_python_too(name: str, setting: str, wrong: float) -> None:
    model = replace(plain(name), **{setting: wrong})
    said = rf"^\[model\] {name} {setting} = {wrong} must be .*:  {setting} = "
    with pytest.raises(BadSetting, match=said):
        model.fit(shared().train, None, SHORT, **Case(name, False).inputs(shared()))
    table = {"name": name, setting: wrong} | ({"backbone": {"name": "bpr"}} if hasattr(model, "backbone") else {})
    with pytest.raises(BadRecipe, match=rf"{setting} = {wrong} "):
        recipe.parse({"data": "shop", "model": table}, "x")


def test_the_settings_of_a_backbone_are_looked_at_as_well() -> None:
    with pytest.raises(BadSetting, match=r"^\[model\] backbone lightgcn layers = -2 must be 0 or more:  layers = 3$"):
        models.Weave(backbone=LightGcn(layers=-2)).fit(shared().train, None, SHORT)
    with pytest.raises(BadSetting, match=r"^\[model\] sgl temperature = 0 must be above 0"):
        models.Sgl(temperature=0).fit(shared().train, None, SHORT)


@pytest.mark.long
def test_weave_knows_at_once_what_can_be_no_backbone_of_it() -> None:
    for case in CASES:
        factors = isinstance(case.fit(shared(), replace(SHORT, epochs=1), valid=False).scorer, Factors)
        assert factors == (case.name not in NO_FACTORS)
        if factors:
            assert models.Weave(backbone=case.model).backbone == case.model
            continue
        with pytest.raises(BadSetting, match=rf"^\[model\] weave backbone = {case.name}: its scores are not products"):
            models.Weave(backbone=case.model)


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@every
def test_learns_its_world(case: Case) -> None:
    """Held-out items of the own group on the first places: all three unseen ones of 34 that compete."""
    task = Task(at=(3,), mask=("train",), history=("train",))
    if case.name in NOT_PERSONAL:
        world = skewed()
        reached = evaluate(case.fit(world), world.split, task).mean["recall@3"]
        assert reached > 2.5 * 3 / 36, "3 of 36 is chance"
        return
    assert evaluate(fitted(case), shared().split, task).mean["recall@3"] > 0.85, "3 of 34 is chance"


@every
def test_a_stranger_is_served_from_her_history(case: Case) -> None:
    if case.name in NOT_PERSONAL:
        pytest.skip("the same list for everybody")
    rec = fitted(case)
    for g in range(4):
        mine = [k for k in rec.items.keys[:-1] if group(rec, k) == g][:4]
        listed = rec.recommend(["somebody-new"], k=5, histories=[mine])[0]
        assert not listed.note
        assert not set(listed.items) & set(mine)
        assert sum(group(rec, k) == g for k in listed.items) >= 4, "6 of the 37 others are of her group"


@every
def test_the_loss_falls(case: Case) -> None:
    rec = fitted(case)
    if trained(rec):
        assert rec.curve.loss[-1] < 0.8 * rec.curve.loss[0]
        assert rec.curve.epoch == tuple(range(1, len(rec.curve.epoch) + 1))
        assert rec.curve.best_epoch in rec.curve.epoch
    assert rec.parameters > 0


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.long
@every
def test_the_same_seed_gives_the_same_scores_and_another_gives_others(case: Case) -> None:
    torch.rand(3), np.random.random()  # noqa: NPY002 (the state of the global generators must not matter)
    rec = case.fit(shared(), SHORT)
    assert np.array_equal(rec.score(rec.known), quick(case))
    other = case.fit(shared(), replace(SHORT, seed=1))
    assert np.array_equal(other.score(other.known), quick(case)) != (trained(rec) or case.name in DRAWS)


@every
def test_fit_leaves_the_global_generators_and_its_arguments_alone(case: Case) -> None:
    world = checkerboard()
    inputs = case.inputs(world)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    kept = world.train.user.copy(), world.train.item.copy()
    values = {name: v.values.copy() for name, v in inputs.items() if isinstance(v, Features)}
    case.model.fit(world.train, world.valid, SHORT, **inputs)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert np.array_equal(world.train.user, kept[0])
    assert np.array_equal(world.train.item, kept[1])
    assert all(np.array_equal(inputs[name].values, v) for name, v in values.items())  # type: ignore[union-attr]


@pytest.mark.long
@every
def test_a_second_fit_forgets_the_first(case: Case) -> None:
    model, other = case.model, checkerboard(users=45, items=36, groups=3, seed=5)
    short = case.paced(SHORT)
    model.fit(other.train, other.valid, short, **case.inputs(other))
    rec = model.fit(shared().train, shared().valid, short, **case.inputs(shared()))
    assert np.array_equal(rec.score(rec.known), quick(case))


@every
@pytest.mark.long
def test_the_order_of_interactions_only_matters_as_an_order_of_batches(case: Case) -> None:
    """A closed form must not see it at all; a trained net learns the same world from it."""
    world = shared()
    back = np.arange(len(world.train))[::-1]
    turned = replace(world, split=replace(world.split, train=world.train.take(back)))
    rec = case.fit(turned)
    if not trained(rec):
        assert np.allclose(rec.score(rec.known), fitted(case).score(fitted(case).known), atol=1e-6)
    elif case.name not in NOT_PERSONAL:
        task = Task(at=(3,), mask=("train",), history=("train",))
        assert evaluate(rec, world.split, task).mean["recall@3"] > 0.85


# --- scoring ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@every
def test_a_batch_scores_as_its_queries_one_by_one(case: Case) -> None:
    rec = fitted(case)
    some = rec.items.keys[:3]
    known = [np.asarray(h) for h in rec.known.history]
    queries = Queries.of([*rec.known.users, -1, -1], [*known, rec.items.rows(some), rec.items.rows([NEVER])])
    whole = rec.score(queries)
    assert whole.shape == (len(queries), len(rec.items))
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    single = np.concatenate([rec.score(queries.take(slice(b, b + 1))) for b in range(len(queries))])
    assert np.abs(whole - single).max() < 1e-5


@every
def test_lists_do_not_depend_on_who_else_is_asked_about(case: Case) -> None:
    rec = fitted(case)
    users = [*rec.users.keys, "new-a", "new-b"]
    histories = [[rec.items.keys[i] for i in h] for h in rec.known.history] + [[NEVER], list(rec.items.keys[:2])]
    together = rec.recommend(users, 10, histories)
    backwards = rec.recommend(users[::-1], 10, histories[::-1])[::-1]
    alone = [rec.recommend([u], 10, [h])[0] for u, h in zip(users, histories, strict=True)]
    assert [r.user_id for r in together] == users
    assert all(close(a, b) for a, b in zip(together, backwards, strict=True))
    assert all(close(a, b) for a, b in zip(together, alone, strict=True))


@every
def test_what_was_chosen_is_not_recommended_again_unless_asked_for(case: Case) -> None:
    rec = fitted(case)
    everybody = list(rec.users.keys)
    again = 0
    for hidden, shown, h in zip(
        rec.recommend(everybody, 10), rec.recommend(everybody, 10, exclude_seen=False), rec.known.history, strict=True
    ):
        seen = {rec.items.keys[i] for i in h}
        assert len(hidden.items) == len(shown.items) == 10
        assert not seen & set(hidden.items)
        again += len(seen & set(shown.items))
    assert again > 0


@every
def test_asking_for_more_than_there_is_gives_everything_once(case: Case) -> None:
    rec = fitted(case)
    user = rec.users.keys[0]
    mine = {rec.items.keys[i] for i in rec.known.history[0]}
    listed = rec.recommend([user], k=10_000)[0]
    assert sorted(listed.items) == sorted(set(rec.items.keys) - mine)
    assert list(listed.scores) == sorted(listed.scores, reverse=True)
    assert sorted(rec.recommend([user], k=10_000, exclude_seen=False)[0].items) == sorted(rec.items.keys)


@every
def test_a_list_of_no_length_is_a_mistake(case: Case) -> None:
    rec = fitted(case)
    for ask in (lambda: rec.recommend(["user-000"], k=0), lambda: rec.similar(["item-000"], k=0)):
        with pytest.raises(BadSetting, match="k = 0"):
            ask()
    assert rec.recommend([], 5) == rec.similar([], 5) == []


@every
def test_nobody_gets_what_is_popular_and_is_told_so(case: Case) -> None:
    rec = fitted(case)
    known, new = rec.recommend([NOBODY, "new"], 8, histories=[[], []])
    default = rec.recommend([NOBODY], 8)[0]
    popularity = np.bincount(shared().train.item, minlength=len(rec.items))
    for listed in (known, new, default):
        assert "popular" in listed.note
        counts = [popularity[rec.items.row(k)] for k in listed.items]
        assert counts == sorted(popularity, reverse=True)[:8]


@every
def test_an_item_nobody_chose_is_scored_and_can_be_asked_about(case: Case) -> None:
    rec = fitted(case)
    never = rec.items.row(NEVER)
    assert np.isfinite(rec.score(rec.known)[:, never]).all()
    assert NEVER not in rec.similar([NEVER], 5)[0].items
    listed = rec.recommend(["new"], 5, histories=[[NEVER]])[0]
    assert len(listed.items) == 5
    assert np.isfinite(listed.scores).all()


@every
def test_similar_items_are_of_the_same_kind_and_never_the_item_itself(case: Case) -> None:
    rec = fitted(case)
    asked = list(rec.items.keys)
    found = rec.similar(asked, k=3)
    assert [f.user_id for f in found] == asked
    assert all(
        key not in f.items and len(set(f.items)) == len(f.items) == 3 for key, f in zip(asked, found, strict=True)
    )
    if case.name not in NOT_PERSONAL:
        alike = [group(rec, a) == group(rec, b) for a, f in zip(asked[:-1], found, strict=False) for b in f.items]
        assert np.mean(alike) > 0.8, "a quarter is chance"


# --- saving -----------------------------------------------------------------------------------------------------------


@every
def test_what_is_loaded_is_what_was_saved(case: Case, tmp_path: Path) -> None:
    rec = fitted(case)
    rec.save(tmp_path / "model")
    again = saved.read(tmp_path / "model")
    strangers = Queries.of([-1, -1], [[0, 5], []])
    assert np.array_equal(again.score(rec.known), rec.score(rec.known))
    assert np.array_equal(again.score(strangers), rec.score(strangers))
    everybody = list(rec.users.keys)
    assert again.recommend(everybody, 7) == rec.recommend(everybody, 7)
    assert again.similar(rec.items.keys[:4], 5) == rec.similar(rec.items.keys[:4], 5)
    assert (again.name, again.users, again.items, again.curve) == (rec.name, rec.users, rec.items, rec.curve)
    assert again.parameters == rec.parameters
    assert again.settings == rec.settings


# --- inputs and mistakes ----------------------------------------------------------------------------------------------


@every
def test_a_missing_input_is_named(case: Case) -> None:
    given = case.inputs(shared())
    required = {n.name for n in case.model.needs() if not n.optional and not n.many}
    for name in required:
        with pytest.raises(MissingInput, match=f"{case.name}.*`{name}`"):
            case.model.fit(shared().train, **{n: v for n, v in given.items() if n != name})
    if case.model.asks_for_features:
        with pytest.raises(MissingInput, match=rf"{case.name} needs `image`.*\[inputs\]"):
            case.model.fit(shared().train, **{n: given[n] for n in required})
    assert required <= set(given)


@every
def test_an_unknown_input_is_named(case: Case) -> None:
    if any(need.many for need in case.model.needs()):
        # Any name will do, but only for what can be a property of an item.
        for wrong in (shared().features("user"), graph.knn(shared().features(), 3)):
            with pytest.raises((Misaligned, MissingInput), match="`photographs`"):
                case.fit(shared(), SHORT, photographs=wrong)
        return
    with pytest.raises(MissingInput, match="`photographs`"):
        case.fit(shared(), SHORT, photographs=shared().features())


@every
def test_a_misspelt_user_or_item_is_answered_with_the_near_one(case: Case) -> None:
    rec = fitted(case)
    with pytest.raises(UnknownId, match="Did you mean `user-003`"):
        rec.recommend(["user-001", "usr-003"])
    for ask in (lambda: rec.recommend(["x"], histories=[["itm-007"]]), lambda: rec.similar(["itm-007"])):
        with pytest.raises(UnknownId, match="Did you mean `item-007`"):
            ask()


@pytest.mark.long
@with_features
def test_features_are_aligned_by_id_and_not_by_row(case: Case) -> None:
    world = shared()
    mixed: dict[str, Input] = {}
    for seed, (name, value) in enumerate(case.inputs(world).items()):
        if isinstance(value, Features):
            order = np.random.default_rng(seed).permutation(len(value.ids))
            ids = Ids(value.ids.kind, tuple(value.ids.keys[i] for i in order))
            mixed[name] = Features(ids, value.values[order], value.present[order], value.source)
    rec = case.fit(world, SHORT, **mixed)
    assert np.array_equal(rec.score(rec.known), quick(case))


@with_features
def test_features_of_another_catalogue_are_refused(case: Case) -> None:
    for name, value in case.inputs(shared()).items():
        if isinstance(value, Features):
            ids = Ids(value.ids.kind, tuple(f"other-{i}" for i in range(len(value.ids))))
            with pytest.raises(Misaligned, match=f"`{name}`"):
                case.fit(shared(), SHORT, **{name: replace(value, ids=ids)})


@pytest.mark.long
@with_features
def test_features_written_from_other_interactions_are_a_leak(case: Case) -> None:
    """Those that saw valid or test are refused; those that saw exactly train are as good as any."""
    world = shared()
    everything = world.split.known(("train", "valid", "test"))
    for name, value in case.inputs(world).items():
        if not isinstance(value, Features):
            continue
        leaking = replace(value, source=Provenance("an engine", interactions=everything.hash))
        with pytest.raises(Leak, match=f"`{name}`.*{everything.hash[:8]}.*{world.train.hash[:8]}"):
            case.fit(world, SHORT, **{name: leaking})
        clean = replace(value, source=Provenance("an engine", interactions=world.train.hash))
        rec = case.fit(world, SHORT, **{name: clean})
        assert np.array_equal(rec.score(rec.known), quick(case))


@pytest.mark.long
@with_features
def test_features_matter(case: Case) -> None:
    """The vectors of other items in their place give other scores."""
    world = shared()
    turned = {
        name: replace(v, values=np.roll(v.values, 1, axis=0), present=np.roll(v.present, 1))
        for name, v in case.inputs(world).items()
        if isinstance(v, Features)
    }
    rec = case.fit(world, SHORT, **turned)
    assert not np.allclose(rec.score(rec.known), quick(case), atol=1e-4)


# --- the rules of binding, on a model that asks for one of everything -------------------------------------------------


@dataclass(frozen=True)
class Asking(Model):
    """Popular, but curious."""

    name = "asking"

    def build(
        self, train: Interactions, user_motives: Features, item_graph: graph.Graph, text: Features | None = None
    ) -> Popularity:
        assert user_motives.ids == train.users
        assert text is None or text.ids == train.items
        return Popularity(np.bincount(train.item, minlength=len(train.items)).astype(np.float32))


def test_texts_of_users_that_saw_other_interactions_are_a_leak() -> None:
    world = shared()
    motives, near = world.features("user"), graph.knn(world.features(), 5)
    Asking().fit(world.train, user_motives=motives, item_graph=near)
    seen = world.split.known(("train", "test"))
    leaking = replace(motives, source=Provenance("extractive", interactions=seen.hash))
    with pytest.raises(Leak, match="`user_motives`"):
        Asking().fit(world.train, user_motives=leaking, item_graph=near)
    with pytest.raises(Leak, match="`item_graph`"):
        Asking().fit(world.train, user_motives=motives, item_graph=graph.jaccard(seen, 5))
    Asking().fit(world.train, user_motives=motives, item_graph=graph.jaccard(world.train, 5))


def test_a_graph_of_other_items_is_refused_and_kinds_are_not_confused() -> None:
    world, other = shared(), checkerboard(users=45, items=36, groups=3)
    motives = world.features("user")
    with pytest.raises(Misaligned, match="`item_graph`"):
        Asking().fit(world.train, user_motives=motives, item_graph=graph.knn(other.features(), 5))
    with pytest.raises(MissingInput, match="asking needs `item_graph`; given: user_motives"):
        Asking().fit(world.train, user_motives=motives)
    assert [(n.name, n.optional, n.many) for n in Asking().needs()] == [
        ("user_motives", False, False),
        ("item_graph", False, False),
        ("text", True, False),
    ]
