"""What is held out is nowhere: in no question, no kept reply, no text, no vector, no run.

Every review and every title of the toy world carries a mark (tests/toy_lm.py), and its language model repeats all marks
that it is shown, so a leak at any stage would be seen at every later one. A title is the catalogue's and no secret;
that a person is going to choose it is one. So a question about a person may hold marks of train choices alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import toy_encoder
from loopback import question_name, serve
from toy_lm import MARK, Toy, changed, contents, world

from penchant import encode, enrich, folder, inputs, run
from penchant import split as splits
from penchant.data import Dataset, Interactions
from penchant.enrich import Written
from penchant.errors import BadSetting, Leak, MissingInput, PenchantError
from penchant.features import Features
from penchant.lm import Request
from penchant.model import Model
from penchant.reasons import explain
from penchant.recipe import InputSpec, parse
from penchant.scorers import Factors
from penchant.store import Store
from penchant.texts import Texts

HOW: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in enrich.prompts.names()]
HOW += [(name, {"through": True}) for name in ("user_motives", "item_motives")]
HOW += [(name, {"items": "item_from_picture"}) for name in ("user_motives", "user_preference", "preference_step")]
HOW += [
    ("user_preference", {"items": "item_motives"}),
    ("user_motives", {"items": "item_summary", "through": True}),
    ("preference_step", {"items": "item_motives", "limit": 4}),
]
NAMES = ["+".join([name, *map(str, how), *(str(v) for v in how.values() if isinstance(v, str))]) for name, how in HOW]
PERSONAL = [(name, how) for name, how in HOW if enrich.prompts.read(name).personal]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return world()


def part(data: Dataset, *parts: int) -> Interactions:
    """The rows of these parts: 0 train, 1 valid, 2 test."""
    assert data.given is not None
    return data.interactions.take(np.isin(data.given, parts))


def pairs(choices: Interactions) -> set[tuple[int, int]]:
    return set(zip(choices.user.tolist(), choices.item.tolist(), strict=True))


def marks(text: str) -> set[str]:
    return set(MARK.findall(text))


def review_marks(choices: Interactions) -> set[str]:
    assert choices.review is not None
    return {mark for review in choices.review for mark in marks(review or "")}


@dataclass(eq=False)
class Noting:
    """A text encoder that notes what it is given."""

    of: toy_encoder.Toy = field(default_factory=toy_encoder.Toy)
    read: list[str] = field(default_factory=list)
    name: str = "toy"
    revision: str = "1"
    dim: int = 48

    def cut(self, batch: Any) -> np.ndarray:
        return self.of.cut(batch)

    def encode(self, batch: Any) -> np.ndarray:
        self.read += batch
        return np.stack([self.of.encode([text])[0] for text in batch])


@dataclass(eq=False)
class Made:
    """All that an enrichment leaves."""

    prompt: str
    how: dict[str, Any]
    store: Store
    asked: list[Request]
    keys: list[str]
    corpora: list[list[str]]
    written: Written
    features: Features
    encoded: list[str]


def make(data: Dataset, prompt: str, how: dict[str, Any], place: Path) -> Made:
    lm, noting, store = Toy(width=3), Noting(), Store(place)
    written = enrich.write(prompt, part(data, 0), data.catalog, lm, store, **how)
    features = encode.texts(written.texts, noting, store)
    return Made(prompt, how, store, lm.heard, lm.questions, lm.corpora, written, features, noting.read)


@pytest.fixture(scope="module", params=HOW, ids=NAMES)
def made(request: pytest.FixtureRequest, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each prompt, asked once in a store of its own."""
    prompt, how = request.param
    return make(data, prompt, how, tmp_path_factory.mktemp("made"))


# no mark of what is held out, anywhere


def test_no_held_out_review_is_in_any_question_text_vector_or_file(made: Made, data: Dataset) -> None:
    secret = review_marks(part(data, 1, 2))
    assert secret
    for request in made.asked:
        assert not secret & marks(request.system + request.user)
    for corpus in made.corpora:
        assert not secret & marks(" ".join(corpus))
    assert not secret & marks(" ".join(made.encoded))
    seen = 0
    for name, raw in contents(made.store.path):
        found = marks(raw.decode("utf-8", "replace"))
        seen += len(found)
        assert not secret & found, name
    if enrich.prompts.read(made.prompt).blocks:
        assert seen, "the marks of train can be found there, so those of the rest could"


def allowed(request: Request, train: Interactions) -> set[str]:
    """The marks that a question may show, by whom it is about."""
    chosen = pairs(train)
    assert request.about is not None
    kind, key = request.about
    if kind == "item":
        item = int(key[1:])
        return {f"TTL{item}Q", f"DSC{item}Q"} | {f"REV{u}x{i}Q" for u, i in chosen if i == item}
    if kind == "user":
        mine = {(u, i) for u, i in chosen if f"u{u}" == key}
    else:
        who, what = ast.literal_eval(key)
        mine = {(int(who[1:]), int(what[1:]))} & chosen
    others = {f"REV{u}x{i}Q" for u, i in chosen if i in {i for _, i in mine}}
    return {f"{name}{i}Q" for _, i in mine for name in ("TTL", "DSC")} | others


def test_a_question_about_somebody_shows_only_what_was_chosen_in_train(made: Made, data: Dataset) -> None:
    """Reviews by others may reach a person's question by way of item texts that were made from train reviews."""
    train = part(data, 0)
    assert made.asked
    for request in made.asked:
        assert marks(request.user) <= allowed(request, train), request.about
        if request.about is not None and request.about[0] == "user" and made.how.get("items") != "item_motives":
            own = {mark for mark in marks(request.user) if mark.startswith("REV")}
            assert own <= {f"REV{u}x{i}Q" for u, i in pairs(train) if f"u{u}" == request.about[1]}


CHANGES = ("other items", "other reviews", "other ratings", "removed")


def slow_ones(cases: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Those that ask about pictures first are kept for the long tests."""
    marked = []
    for prompt, how in cases:
        name = NAMES[HOW.index((prompt, how))]
        marked.append(pytest.param(prompt, how, id=name, marks=[pytest.mark.long] if "items" in how else []))
    return marked


@pytest.mark.parametrize(("prompt", "how"), slow_ones(PERSONAL))
def test_changing_what_is_held_out_changes_no_letter(
    prompt: str, how: dict[str, Any], data: Dataset, tmp_path: Path
) -> None:
    first = make(data, prompt, how, tmp_path / "one")
    asked = [(r.system, r.user, r.pictures) for r in first.asked]
    for change in CHANGES:
        second = make(changed(data, change), prompt, how, tmp_path / change)
        assert [(r.system, r.user, r.pictures) for r in second.asked] == asked
        assert second.keys == first.keys
        assert second.corpora == first.corpora
        assert second.written.ref == first.written.ref
        assert second.written.texts.values == first.written.texts.values
        assert [stage.ref for stage in second.written.stages] == [stage.ref for stage in first.written.stages]
        assert second.features.hash == first.features.hash
        assert second.encoded == first.encoded


def test_changing_train_does_change_the_questions(data: Dataset, tmp_path: Path) -> None:
    """So that the test above could fail."""
    train = part(data, 0)
    for n, other in enumerate((train.take(np.arange(1, len(train))), part(data, 0, 1))):
        one, two = Toy(), Toy()
        enrich.write("user_motives", train, data.catalog, one, Store(tmp_path / f"a{n}"))
        enrich.write("user_motives", other, data.catalog, two, Store(tmp_path / f"b{n}"))
        assert set(one.questions) != set(two.questions)


# origin


def test_texts_carry_the_hash_of_the_train_part_they_were_made_from(made: Made, data: Dataset) -> None:
    train, written = part(data, 0), made.written
    personal = enrich.prompts.read(made.prompt).personal
    assert written.texts.source.interactions == (train.hash if personal else None)
    assert made.store.load_texts(written.ref).source.interactions == written.texts.source.interactions
    assert made.features.source.interactions == written.texts.source.interactions
    for stage in written.stages:
        named = enrich.prompts.read(stage.texts.source.made_by.partition(":")[2].partition("@")[0])
        assert stage.texts.source.interactions == (train.hash if named.personal else None)


@pytest.mark.parametrize("name", [name for name, how in PERSONAL if not how])
def test_nobody_writes_about_people_without_a_train_part(name: str, data: Dataset, tmp_path: Path) -> None:
    lm = Toy()
    with pytest.raises(MissingInput, match=r"train part.*enrich\.run"):
        enrich.run(name, None, data.catalog, lm, Store(tmp_path))
    assert lm.heard == []


OWN = {
    "user": ("Motives", "{opening}\n{reviews}\n{items}"),
    "item": ("Motives", "{opening}\n{item}\n{reviews}"),
    "interaction": ("ReviewMotives", "{opening}\n{review}"),
}


@pytest.mark.parametrize("of", OWN)
def test_a_prompt_of_ones_own_cannot_show_histories_without_the_texts_saying_so(
    of: str, data: Dataset, tmp_path: Path
) -> None:
    """Refused when it is read, or marked with the hash: both are safe."""
    reply, user = OWN[of]
    file = tmp_path / "mine.md"
    head = f'version = 1\nof = "{of}"\nreply = "{reply}"\nsees = ["item text"]'
    file.write_text(f"+++\n{head}\n+++\n# system\nSay it.\n\n# user\n{user}\n", "utf-8")
    train = part(data, 0)
    try:
        texts = enrich.run(str(file), train, data.catalog, Toy(), Store(tmp_path / "store"))
    except PenchantError:
        return
    shown = {mark for text in texts.values for mark in marks(text or "") if mark.startswith("REV")}
    assert texts.source.interactions == train.hash, f"reviews in its texts: {sorted(shown)[:3]}"


def test_a_prompt_of_ones_own_about_people_asks_for_a_train_part(data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    head = 'version = 1\nof = "user"\nreply = "Motives"\nsees = ["item text"]'
    file.write_text(f"+++\n{head}\n+++\n# system\nSay it.\n\n# user\n{{opening}}\n{{items}}\n", "utf-8")
    try:
        enrich.run(str(file), None, data.catalog, Toy(), Store(tmp_path / "store"))
    except PenchantError:
        return
    except AssertionError as error:
        pytest.fail(f"a traceback: AssertionError {error}")


@dataclass(frozen=True)
class Nearest(Model):
    """Users and items of one space: the least that takes texts of both."""

    name: ClassVar[str] = "nearest"

    def build(self, train: Interactions, user_motives: Features, item_motives: Features) -> Factors:
        items = item_motives.values
        return Factors(user_motives.values, items, np.zeros(len(items), np.float32), items)


def motives(train: Interactions, data: Dataset, lm: Toy, store: Store) -> tuple[dict[str, Features], list[Texts]]:
    """What a model is given, by way of texts that were made from these interactions."""
    names = ("user_motives", "item_motives")
    texts = [enrich.run(name, train, data.catalog, lm, store, through=True) for name in names]
    made = [encode.texts(text, toy_encoder.Toy(), store) for text in texts]
    return dict(zip(names, made, strict=True)), texts


def test_fit_takes_texts_of_its_own_train_part_and_refuses_all_others(data: Dataset, tmp_path: Path) -> None:
    store, train = Store(tmp_path), part(data, 0)
    right, _ = motives(train, data, Toy(), store)
    rec = Nearest().fit(train, part(data, 1), **right)
    assert len(rec.recommend(["u0"], k=5)[0].items) == 5
    for other in (part(data, 0, 1), part(data, 0, 1, 2), train.take(np.arange(1, len(train)))):
        wrong, _ = motives(other, data, Toy(), store)
        for name in right:
            with pytest.raises(
                Leak, match=rf"`{name}` was written from interactions {other.hash[:8]}.*{train.hash[:8]}"
            ):
                Nearest().fit(train, part(data, 1), **{**right, name: wrong[name]})
        with pytest.raises(Leak):
            Nearest().fit(other, None, **right)


def test_a_text_keeps_its_origin_through_the_store(data: Dataset, tmp_path: Path) -> None:
    train, store = part(data, 0), Store(tmp_path)
    wrong, _ = motives(part(data, 0, 1, 2), data, Toy(), store)
    for ref in store.refs("features"):
        loaded = store.load_features(ref)
        if loaded.ids.kind == "user":
            with pytest.raises(Leak):
                Nearest().bind(train, {**wrong, "user_motives": loaded})


def test_for_the_final_fit_only_what_changed_is_asked_again(data: Dataset, tmp_path: Path) -> None:
    store, lm = Store(tmp_path), Toy(width=4)
    train, everything = part(data, 0), part(data, 0).join(part(data, 1)).join(part(data, 2))
    _, texts = motives(train, data, lm, store)
    assert {text.source.interactions for text in texts} == {train.hash}
    before = set(lm.questions)
    lm.heard.clear()
    fresh = Toy()
    features, texts = motives(everything, data, lm, store)
    motives(everything, data, fresh, Store(tmp_path / "other"))
    assert {text.source.interactions for text in texts} == {everything.hash}
    assert set(lm.questions) == set(fresh.questions) - before
    assert len(lm.questions) == len(set(lm.questions))
    review_questions = [r for r in lm.heard if r.about is not None and r.about[0] == "interaction"]
    assert len(review_questions) == sum(bool(review) for review in part(data, 1, 2).review or ())
    Nearest().fit(everything, None, **features)
    lm.heard.clear()
    motives(everything, data, lm, store)
    motives(train, data, lm, store)
    assert lm.heard == []


def test_whose_history_did_not_change_is_not_asked_again_where_times_tie(data: Dataset, tmp_path: Path) -> None:
    """MovieLens has whole histories at one second. A user without held-out rows has the same question as before."""
    users = 60
    ids = type(data.users)("user", tuple(f"u{n}" for n in range(users)))
    user, item = np.repeat(np.arange(users), 3), (np.arange(users * 3) * 7 + np.arange(users * 3) // 18) % 18
    train = Interactions(ids, data.items, user, item, time=np.zeros(users * 3))
    later = Interactions(ids, data.items, np.array([0]), np.setdiff1d(np.arange(18), item[:3])[:1], time=np.ones(1))
    lm, store = Toy(), Store(tmp_path)
    enrich.run("user_preference", train, data.catalog, lm, store)
    lm.heard.clear()
    enrich.run("user_preference", train.join(later), data.catalog, lm, store)
    assert {request.about for request in lm.heard} == {("user", "u0")}


def test_ratings_and_reviews_that_one_part_lacks_do_not_come_from_another(data: Dataset, tmp_path: Path) -> None:
    """A split makes the train part; whoever holds it holds nothing of the rest."""
    split = splits.given(data.interactions, data.given)
    lm = Toy()
    enrich.run("user_motives", replace(split.train, review=None), data.catalog, lm, Store(tmp_path))
    assert not [request for request in lm.heard if "REV" in request.user]


# recipes and runs


def written_by(lm: str | None) -> InputSpec:
    return InputSpec(("user_motives",), lm=lm, encoder="minilm")


@pytest.mark.long
def test_a_recipes_input_about_people_is_made_from_the_part_it_is_given(data: Dataset, tmp_path: Path) -> None:
    """The answers are in the store already, so nobody is called."""
    store, written = Store(tmp_path), list[Written]()
    for train in (part(data, 0), part(data, 0, 1, 2)):
        right = enrich.run("user_motives", train, data.catalog, Toy(), store, title=data.name)
        made = inputs.make_input("user_motives", written_by("replay:toy"), data, store, train=train, written=written)
        assert made.ids == data.users
        assert made.source.interactions == train.hash
        assert written[-1].texts.values == right.values
        assert written[-1].counts["cached"] == written[-1].counts["asked"]
    with pytest.raises(MissingInput, match="train part"):
        inputs.make_input("user_motives", written_by("replay:toy"), data, store)


def test_a_recipe_must_say_who_writes(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r'who writes user_motives\? Add  lm = "extractive"'):
        inputs.make_input("user_motives", written_by(None), data, Store(tmp_path), train=part(data, 0))


def recipe(place: Path, lm: str, prompt: str = "item_motives") -> Any:
    return parse(
        {
            "data": str(place),
            "split": {"by": "given"},
            "model": {"name": "vbpr", "dim": 4, "content_dim": 4},
            "inputs": {"text": {"from": prompt, "lm": lm, "encoder": "minilm"}},
            "training": {"epochs": 2, "batch_size": 64, "validate_every": 1, "select": "recall@10"},
            "protocol": {"at": [10], "mask": ["train"], "history": ["train"]},
        },
        "leak",
    )


@pytest.fixture(scope="module")
def place(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data") / "world"
    folder.write(data, found)
    return found


@pytest.fixture(scope="module")
def lm_server() -> Iterator[Any]:
    pytest.importorskip("openai")
    with serve() as server:
        yield server


@pytest.mark.long
def test_a_run_holds_no_held_out_review_and_final_asks_only_what_changed(
    place: Path, lm_server: Any, tmp_path: Path
) -> None:
    data = folder.read(place)
    store, wish = Store(tmp_path / "store"), recipe(place, f"{lm_server.url}#stub")
    made = run.run(wish, tmp_path / "run", store)
    secret = review_marks(part(data, 1, 2))
    shown = set[str]()
    for name, raw in (*contents(tmp_path / "run"), *contents(tmp_path / "store")):
        shown |= marks(raw.decode("utf-8", "replace"))
        assert not secret & shown, name
    assert review_marks(part(data, 0)) <= shown
    for user in data.users.keys:
        for item in made.recommender.recommend([user])[0].items:
            reason = explain(made.recommender, user, item, data.catalog)
            assert not secret & marks(repr(reason))
    first = {line.question for line in lm_server.log("asked")}
    assert made.report.lm.calls == len(first) == len(data.items)
    assert made.prepared.inputs["text"].source.interactions == part(data, 0).hash

    run.final(wish, tmp_path / "final", store, source=tmp_path / "run")
    asked = [line.question for line in lm_server.log("asked")][len(first) :]
    listener = Toy()
    enrich.run("item_motives", part(data, 0, 1, 2), data.catalog, listener, Store(tmp_path / "listener"))
    needed = {question_name(request.user) for request in listener.heard}
    assert set(asked) == needed - first
    assert len(asked) == len(set(asked))
    cards = [store.card(ref) for ref in store.refs("texts")]
    assert {card["interactions"] for card in cards} == {part(data, 0).hash, part(data, 0, 1, 2).hash}
    assert review_marks(part(data, 1, 2)) <= {
        mark for _, raw in contents(tmp_path / "store") for mark in marks(raw.decode("utf-8", "replace"))
    }


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES)
def test_the_rules_engine_learns_nothing_from_what_is_held_out(change: str, data: Dataset, tmp_path: Path) -> None:
    """It reads the corpus before it answers; a word's rarity could tell what others are going to write."""
    pytest.importorskip("penchant.lm.extractive")
    for prompt, how in PERSONAL:
        if how.get("items") in ("item_from_picture", "item_summary"):
            continue
        made = []
        for n, one in enumerate((data, changed(data, change))):
            store = Store(tmp_path / f"{prompt}{sorted(how)}{n}")
            made.append(enrich.write(prompt, part(one, 0), one.catalog, "extractive", store, **how))
        assert made[0].ref == made[1].ref
        assert made[0].texts.values == made[1].texts.values


def test_a_text_made_from_a_text_that_saw_reviews_carries_their_hash_too(data: Dataset, tmp_path: Path) -> None:
    """item_summary reads no reviews itself; but what item_motives made of them is put before the item texts here."""
    train, store = part(data, 0), Store(tmp_path)
    made = enrich.write("item_summary", train, data.catalog, Toy(), store, items="item_motives")
    assert made.texts.source.interactions == train.hash
    alone = enrich.write("item_summary", train, data.catalog, Toy(), store)
    assert alone.texts.source.interactions is None
