"""Features as they should not be: a finite, sensible result, or one error that ends with what to type next.

Every model that reads features of items is held to all of it, alone and beside features that are as they should be.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w
import torch
from answers_of import Answer, Ask, asking, surrounded
from modal_worlds import item_graph
from worlds import NEVER, World

from penchant import models
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids
from penchant.errors import BadInput, BadSetting, BadTable, CannotServeColdItems, Misaligned, MissingInput
from penchant.features import Features
from penchant.graph import Graph, denoise, knn
from penchant.intake import CAN
from penchant.modal import Content, ItemGraph
from penchant.model import Model, Recommender
from penchant.models.bert4rec import Bert4rec
from penchant.models.bm3 import Bm3
from penchant.models.ease import Ease
from penchant.models.freedom import Freedom
from penchant.models.gru4rec import Gru4rec
from penchant.models.hstu import Hstu
from penchant.models.lirdrec import Lirdrec
from penchant.models.mllmrec import Mllmrec, joined
from penchant.models.sasrec import Sasrec
from penchant.models.vbpr import Vbpr
from penchant.models.weave import MOST_FEATURES, Weave
from penchant.ranking import Task, evaluate
from penchant.sequence import SequenceModel
from penchant.sources import import_
from penchant.texts import Provenance, Texts
from penchant.training import Training

MODELS: dict[str, Model] = {
    "ease": Ease(l2=5.0, alpha=1.0),
    "weave": Weave(),
    "vbpr": Vbpr(dim=16, content_dim=8),
    "freedom": Freedom(dim=16, neighbours=5, keep_edges=0.8),
    "bm3": Bm3(dim=16, l2=1e-3),
    "lirdrec": Lirdrec(dim=16, neighbours=5),
    "mllmrec": Mllmrec(dim=16, hidden=32, l2=1e-3),
    "sasrec": Sasrec(dim=16, layers=1, length=16),
    "gru4rec": Gru4rec(dim=16, length=16),
    "bert4rec": Bert4rec(dim=16, layers=1, length=16, dropout=0.0, hidden=0.6),
    "hstu": Hstu(dim=16, layers=1, length=16),
}
OPTIONAL = ("ease", "weave", "sasrec", "gru4rec", "bert4rec", "hstu")
MANY = tuple(name for name in MODELS if name != "mllmrec")  # of named features, any number
LONG = Training(epochs=30, batch_size=64, learning_rate=0.03, validate_every=5, select="recall@3", device="cpu")
SHORT = replace(LONG, epochs=3, validate_every=1)

every = pytest.mark.parametrize("name", MODELS)
many = pytest.mark.parametrize("name", MANY)


def of(world: World, values: np.ndarray, present: np.ndarray | None = None) -> Features:
    items = world.split.items
    return Features(items, values, np.ones(len(items), bool) if present is None else present, Provenance("drawn"))


def drawn(world: World, dim: int = 4, present: np.ndarray | None = None) -> Features:
    return of(world, np.random.default_rng(dim).normal(0.3, 1, (len(world.split.items), dim)), present)


def only(world: World, *rows: int) -> np.ndarray:
    return np.isin(np.arange(len(world.split.items)), rows)


def fit(name: str, world: World, *given: Features, training: Training = SHORT) -> Recommender:
    """The model with these features; a fit that ends with anything but finite scores is none."""
    names = ("item_texts",) if name == "mllmrec" else [f"look{n}" for n in range(len(given))]
    if isinstance(MODELS[name], SequenceModel):
        training = replace(training, batch_size=8, epochs=min(training.epochs, 10))  # of 60 histories
    rec = MODELS[name].fit(world.train, world.valid, training, **dict(zip(names, given, strict=True)))
    assert np.isfinite(rec.score(rec.known)).all()
    return rec


def scores(name: str, world: World, *given: Features) -> np.ndarray:
    rec = fit(name, world, *given)
    return rec.score(rec.known)


def takes_in_by_texts_alone(rec: Recommender, world: World) -> None:
    """Of `look0`, pictures that tell nothing, and `look1`, texts: new items with texts, with both, and with pictures alone."""
    ids = Ids("item", ("new-a", "new-b"))
    book = Catalog(ids, {}, Pictures.none(ids))
    drawn_ = np.random.default_rng(9).normal(0.3, 1, (2, 4)).astype(np.float32)
    image = Features(ids, drawn_, np.ones(2, bool), Provenance("drawn"))
    part = world.features()
    text = Features(ids, part.values[[1, 2]], np.ones(2, bool), part.source)
    if rec.name not in CAN:
        with pytest.raises(CannotServeColdItems, match="weave"):
            rec.add_items(book, {"look1": text})
        return
    more = rec.add_items(book, {"look1": text, "look0": image})
    score, old = more.score(more.known), len(world.split.items)
    assert np.isfinite(score).all()
    assert score[:, :old] == pytest.approx(rec.score(rec.known), abs=1e-5)
    alone = rec.add_items(book, {"look1": text})
    assert np.array_equal(score, alone.score(alone.known))
    with pytest.raises(CannotServeColdItems, match=r"2 of 2 new items .*look1.*new-a, new-b.*`look0`.*leave them out"):
        rec.add_items(book, {"look0": image})


def recall(rec: Recommender, world: World) -> float:
    """Recall@3 on the checkerboard, where .08 is chance."""
    return evaluate(rec, world.split, Task(mask=("train",), history=("train",), at=(3,)), lists=False).mean["recall@3"]


def test_all_models_of_features_are_here() -> None:
    found = set()
    for file in Path(models.__file__).parent.glob("*.py"):
        for value in vars(importlib.import_module(f"penchant.models.{file.stem}")).values():
            if isinstance(value, type) and issubclass(value, Model) and value.__module__.endswith(f".{file.stem}"):
                needs = () if getattr(value, "name", "") == "rerank" else value.needs(value)  # type: ignore[arg-type]
                found |= {value.name for need in needs if need.many or need.name == "item_texts"}
    assert found == MODELS.keys()


# --- nothing, and next to nothing -------------------------------------------------------------------------------------


@pytest.mark.long
@every
@pytest.mark.parametrize("how", ["gaps", "zeros"])
def test_pictures_for_no_item(name: str, how: str, world: World) -> None:
    n = len(world.split.items)
    nothing = of(world, np.zeros((n, 4)), np.full(n, how == "zeros"))
    if name in OPTIONAL:
        assert np.allclose(scores(name, world, nothing), scores(name, world), atol=1e-6), "as if there were none"
    elif name in OPTIONAL:
        assert recall(fit(name, world, nothing, training=LONG), world) > 0.8
    else:
        with pytest.raises(MissingInput, match=rf"none of {n} items has a vector.*\[inputs\]:  \w+ = \{{ from = "):
            fit(name, world, nothing)


@pytest.mark.long
@many
def test_pictures_for_no_item_beside_texts_do_no_harm(name: str, world: World) -> None:
    n = len(world.split.items)
    nothing = of(world, np.zeros((n, 4)), np.zeros(n, bool))
    rec = fit(name, world, nothing, world.features(), training=LONG)
    assert recall(rec, world) > 0.8
    takes_in_by_texts_alone(rec, world)


@pytest.mark.long
@every
def test_a_modality_of_one_item(name: str, world: World) -> None:
    one = drawn(world, present=only(world, 3))
    fit(name, world, one)
    if name in MANY:
        rec = fit(name, world, one, world.features(), training=LONG)
        assert recall(rec, world) > 0.8
        takes_in_by_texts_alone(rec, world)
    if name in OPTIONAL:
        assert np.allclose(scores(name, world, one), scores(name, world), atol=1e-6), "one is told from nothing"


@pytest.mark.long
@many
@pytest.mark.parametrize("values", [0.1, -3.0])
def test_vectors_that_are_all_the_same_say_nothing(name: str, values: float, world: World) -> None:
    same = of(world, np.full((len(world.split.items), 4), values))
    fit(name, world, same)
    rec = fit(name, world, same, world.features(), training=LONG)
    assert recall(rec, world) > 0.8
    takes_in_by_texts_alone(rec, world)
    if name in OPTIONAL:
        assert np.allclose(scores(name, world, same), scores(name, world), atol=1e-6)


def test_texts_that_are_all_the_same_are_refused_where_there_is_nothing_else(world: World) -> None:
    """Lengths do not matter, so one column of positive numbers is the same."""
    n = len(world.split.items)
    for same in (np.full((n, 4), 0.1), np.arange(1, n + 1)[:, None]):
        with pytest.raises(MissingInput, match=rf"{n} items have one and the same vector.*item_texts = \{{ from = "):
            fit("mllmrec", world, of(world, same))


def test_a_graph_of_items_leaves_out_what_is_all_the_same(world: World) -> None:
    """Whose nearest is whose would be a matter of chance."""
    told = {"text": world.features()}
    same = of(world, np.full((len(world.split.items), 4), 0.1))
    assert same.alike
    assert not told["text"].alike
    assert not replace(same, present=only(world, 3)).alike, "one is alone, not the same as others"
    graph = ItemGraph({"image": same, **told}, 5, [0.9, 0.1])
    eye = torch.eye(len(world.split.items))
    assert torch.allclose(graph.smooth(eye, 1), item_graph(told, 5, {"text": 1.0}), atol=1e-6)


@pytest.mark.long
@every
def test_one_number_an_item(name: str, world: World) -> None:
    """Signs can still be told apart."""
    fit(name, world, drawn(world, dim=1))
    if name in MANY:
        assert recall(fit(name, world, drawn(world, dim=1), world.features(), training=LONG), world) > 0.7


def test_no_number_an_item_is_refused(world: World) -> None:
    with pytest.raises(BadTable, match=r"no columns.*leave them out of \[inputs\]"):
        of(world, np.zeros((len(world.split.items), 0)))


@every
def test_what_is_no_vectors_is_refused_and_it_is_said_how_to_make_some(name: str, world: World) -> None:
    items = world.split.items
    texts = Texts(items, ("a title",) * len(items), Provenance("drawn"))
    given: list[tuple[Any, str]] = [
        (texts, r"is texts, .*Encode them:  \w+ = penchant\.encode\.texts\("),
        (list(texts.values), r"is text, .*Texts\(ids, .*penchant\.encode\.texts\("),
        (np.ones((len(items), 4)), r"is a ndarray, .*  \w+ = Features\(ids, values, "),
        (None, r"is a NoneType, .*Features\("),
    ]
    for value, said in given:
        with pytest.raises(BadInput, match=said):
            fit(name, world, value)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "then"),
    [
        (Freedom(neighbours=0), "neighbours = 10"),
        (Freedom(mm_layers=-1), "mm_layers = 1"),
        (Freedom(layers=-1), "layers = 2"),
        (Freedom(dim=0), "dim = 64"),
        (Lirdrec(neighbours=0), "neighbours = 10"),
        (Lirdrec(mm_layers=-1), "mm_layers = 1"),
        (Lirdrec(layers=-1), "layers = 2"),
        (Lirdrec(dim=0), "dim = 64"),
        (Bm3(layers=-1), "layers = 1"),
        (Bm3(dim=0), "dim = 64"),
        (Vbpr(content_scale=0), "content_scale = 0.1"),
        (Vbpr(content_scale=math.nan), "content_scale = 0.1"),
        (Vbpr(content_dim=0), "content_dim = 32"),
        (Vbpr(dim=0), "dim = 32"),
        (Mllmrec(negatives=0), "negatives = 1"),
    ],
    ids=lambda value: f"{value.name}" if isinstance(value, Model) else value.replace(" ", ""),
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_trained(model: Model, then: str, world: World) -> None:
    given = {"item_texts" if model.name == "mllmrec" else "look": world.features()}
    with pytest.raises(BadSetting, match=rf"^\[model\] {model.name} {then.partition(' ')[0]} = .*:  {then}$"):
        model.fit(world.train, world.valid, SHORT, **given)


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "what"),
    [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (-np.inf, "NaN or infinity"), (-1e30, r"beyond 1e\+15")],
)
def test_a_row_that_is_no_vector_is_named(value: float, what: str, world: World) -> None:
    values = drawn(world).values.copy()
    values[5, 2] = value
    with pytest.raises(BadTable, match=rf"{what} in 1 rows, e\.g\. {world.split.items.keys[5]}\. .*present = False"):
        of(world, values)
    gap = of(world, values, ~only(world, 5))
    assert not gap.values[5].any(), "nobody reads it"


@every
def test_a_row_of_zeros_is_a_gap(name: str, world: World) -> None:
    values = drawn(world).values.copy()
    values[[5, 9]] = 0
    assert np.array_equal(
        scores(name, world, of(world, values)), scores(name, world, of(world, values, ~only(world, 5, 9)))
    )
    both = [Content.of(part) for part in (of(world, values), of(world, values, ~only(world, 5, 9)))]
    assert torch.equal(both[0].has, both[1].has)
    assert (~both[0].has).nonzero().flatten().tolist() == [5, 9]
    assert not both[0].values[[5, 9]].any(), "zeros, not what is left of them without the mean"


@pytest.mark.long
@every
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**40])
def test_vectors_may_be_long_or_short(name: str, scale: float, world: World) -> None:
    part = drawn(world)
    longer = replace(part, values=part.values * np.float32(scale))
    assert np.allclose(scores(name, world, longer), scores(name, world, part), rtol=1e-3, atol=1e-3)


@every
def test_features_of_another_catalogue_are_refused(name: str, world: World) -> None:
    part = world.features()
    other = replace(part, ids=Ids("item", tuple(f"other-{n}" for n in range(len(part.ids)))))
    with pytest.raises(Misaligned, match=r"item-000, item-001 here and other-0, other-1 there.*penchant encode DIR"):
        fit(name, world, other)


@pytest.mark.long
@every
def test_an_item_with_no_neighbour_no_choice_and_no_features(name: str, world: World) -> None:
    """It is ranked like everything else, can be asked about, and changes nothing for others' recall."""
    row = world.split.items.row(NEVER)
    part = world.features()
    rec = fit(name, world, replace(part, present=part.present & ~only(world, row)), training=LONG)
    assert recall(rec, world) > 0.8
    assert len(rec.recommend(["user-001"], k=99, exclude_seen=False)[0].items) == len(world.split.items)
    assert np.isfinite(rec.similar([NEVER], k=5)[0].scores).all()
    assert np.isfinite(rec.recommend(["new"], histories=[[NEVER]])[0].scores).all()


# --- a hundred --------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in MANY if name != "weave"])
def test_a_hundred_modalities(name: str, world: World) -> None:
    """All say the same with noise of their own."""
    hundred = [world.features(dim=5, seed=seed) for seed in range(100)]
    assert recall(fit(name, world, *hundred, training=replace(LONG, epochs=5)), world) > 0.8


def test_a_hundred_modalities_are_too_many_to_be_weighed_one_by_one(world: World) -> None:
    some = [world.features(dim=5, seed=seed) for seed in range(MOST_FEATURES + 1)]
    with pytest.raises(BadSetting, match=r'17 are too many \(at most 16\).*from = \["features/a", "features/b"\]'):
        fit("weave", world, *some)
    assert recall(fit("weave", world, *some[1:]), world) > 0.8


# --- thresholds -------------------------------------------------------------------------------------------------------


def edges(graph: Graph) -> set[tuple[int, int]]:
    row, col = graph.matrix.nonzero()
    return set(zip(row.tolist(), col.tolist(), strict=True))


@pytest.fixture(scope="module")
def turned(world: World) -> Features:
    """In the plane, at angles that are all different; every item has one that points the other way, and one is a gap."""
    n = len(world.split.items)
    angle = np.random.default_rng(0).uniform(0, np.pi, n)
    angle[n // 2 :] = angle[: n - n // 2] + np.pi
    return of(world, np.stack([np.cos(angle), np.sin(angle)], axis=1), np.arange(n) != 0)


def test_thresholds_beyond_any_cosine(turned: Features, world: World) -> None:
    """Above 1 nothing is left of the nearest, -1 cuts none of them; counted one pair at a time."""
    n, k = len(turned.ids), 10
    crowd = [set(world.train.user[world.train.item == i].tolist()) for i in range(n)]
    same = {
        (i, j): len(crowd[i] & crowd[j]) / len(crowd[i] | crowd[j])
        for i in range(n)
        for j in range(n)
        if crowd[i] | crowd[j]
    }
    together, near = set(), set()
    for i in range(n):
        those = sorted((-same.get((i, j), 0.0), j) for j in range(n) if j != i)[:k]
        together |= {(i, j) for value, j in those if value < 0}
        if turned.present[i]:
            cosine = turned.values.astype(np.float64) @ turned.values[i]
            near |= {(i, j) for j in sorted(np.flatnonzero(turned.present), key=lambda j: -cosine[j])[:k]}
    model = Mllmrec(neighbours=k, neighbours_jaccard=k)
    assert edges(joined(replace(model, threshold=1.1), world.train, turned)) == together
    assert edges(joined(replace(model, threshold=-1), world.train, turned)) == together | near
    every_pair = knn(turned, n)
    assert every_pair.matrix.data.min() < -0.99, "and cosines do go down to -1"
    assert denoise(every_pair, -1).edges == every_pair.edges == 40 * 39
    assert denoise(every_pair, 1.1).edges == 0


def test_a_threshold_above_one_is_a_model_of_audiences_alone(turned: Features, world: World) -> None:
    models_ = [replace(MODELS["mllmrec"], **changed) for changed in ({"threshold": 1.1}, {"neighbours": 0})]  # type: ignore[type-var]
    first, second = (m.fit(world.train, world.valid, SHORT, item_texts=turned) for m in models_)
    assert np.array_equal(first.score(first.known), second.score(second.known))


# --- by recipe --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    surrounded(monkeypatch, tmp_path / "store", tmp_path)
    return asking(capsys, monkeypatch)


def imported(world: World, place: Path) -> Path:
    """The world as a canonical folder with features `look`."""
    raw, split = place / "raw", world.split
    raw.mkdir()
    parts = [
        (part.user, part.item, np.full(len(part), n)) for n, part in enumerate((split.train, split.valid, split.test))
    ]
    user, item, number = (np.concatenate(column) for column in zip(*parts, strict=True))
    pl.DataFrame(
        {"user_id": np.array(split.users.keys)[user], "item_id": np.array(split.items.keys)[item], "split": number}
    ).write_parquet(raw / "interactions.parquet")
    pl.DataFrame({"item_id": split.items.keys}).write_parquet(raw / "items.parquet")
    np.save(raw / "look_features.npy", world.features().values)
    import_("parquet", raw, place / "data")
    return place / "data"


def nan_in_a_row(file: Path) -> None:
    values = np.load(file)
    values[7, 1] = np.nan
    np.save(file, values)


def nothing(file: Path) -> None:
    np.save(file, np.full_like(np.load(file), np.nan))


def other_items(file: Path) -> None:
    ids = file.with_name("look_features.ids.txt")
    ids.write_text(ids.read_text().replace("item-", "thing-"))


def the_same(file: Path) -> None:
    np.save(file, np.ones_like(np.load(file)))


@pytest.mark.parametrize(
    ("damage", "model", "source", "said"),
    [
        (nan_in_a_row, "freedom", "features/look_features", "BadTable: features/look_features.npy: features hold NaN"),
        (nothing, "freedom", "features/look_features", "MissingInput: freedom: none of 41 items has a vector"),
        (other_items, "vbpr", "features/look_features", "Misaligned: "),
        (None, "lirdrec", "catalog.image", "MissingInput: [inputs] look: data has no pictures"),
        (None, "bm3", "features/lok_features", "MissingInput: [inputs] look: data has no features 'lok_features'"),
    ],
    ids=["nan", "nothing", "other", "no pictures", "misspelt"],
)
def test_a_recipe_is_refused_with_one_message_and_nothing_is_left(
    damage: Any, model: str, source: str, said: str, ask: Ask, world: World, tmp_path: Path
) -> None:
    data = imported(world, tmp_path)
    if damage is not None:
        damage(data / "features" / "look_features.npy")
    is_refused(ask("run", recipe(data, model, look=source), "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_refused_while_it_was_built_is_no_hindrance_when_mended(
    ask: Ask, world: World, tmp_path: Path
) -> None:
    data, out = imported(world, tmp_path), tmp_path / "out"
    file = data / "features" / "look_features.npy"
    good = file.read_bytes()
    the_same(file)
    asked = recipe(data, "mllmrec", item_texts="features/look_features")
    is_refused(ask("run", asked, "--out", out), "MissingInput: `item_texts`: 41 items have one and the same vector")
    assert {path.name for path in out.rglob("*")} <= {".lock", "run.json", "recipe.lock.toml", "log.jsonl"}
    file.write_bytes(good)
    assert ask("run", asked, "--out", out).code == 0
    assert (out / "report.json").exists()


def recipe(data: Path, model: str, **inputs: str) -> Path:
    tables = {
        "data": str(data),
        "split": {"by": "given"},
        "inputs": {name: {"from": source} for name, source in inputs.items()},
        "model": {"name": model},
        "training": {"epochs": 1},
        "protocol": {"at": [3]},
    }
    (data.parent / "x.toml").write_text(tomli_w.dumps(tables), "utf-8")
    return data.parent / "x.toml"


def is_refused(answer: Answer, said: str) -> None:
    """Exit code 2, nothing on standard output, and one mistake, the last line, that begins so."""
    assert answer.code == 2, answer
    assert answer.out == ""
    mistakes = re.findall(r"^penchant: [A-Z]\w+: .*", answer.err, re.MULTILINE)
    assert len(mistakes) == 1, answer.err
    assert mistakes[0].startswith(f"penchant: {said}")
    assert answer.err.rstrip().endswith(mistakes[0])
