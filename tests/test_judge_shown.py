"""What a judge is shown of a person and a thing, what of it is trained, and that a training that was stopped goes on."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from answers_of import Ask, asking, surrounded
from test_judge import (
    FOLDERS,
    RECIPE,
    SIZE,
    SMALL,
    SYSTEM,
    TRAINING,
    Stop,
    asked,
    auc,
    fitted,
    histories,
    notes,
    world,
)
from toy_lm import MARK, Toy
from toy_lm import catalog as toy_catalog
from toy_lm import world as toy_world

from penchant import enrich, folder, recipe, run, runs
from penchant.catalog import Pictures
from penchant.data import Ids, Interactions, Queries
from penchant.enrich import prompts
from penchant.enrich.comprehension import Comprehension
from penchant.errors import BadSetting
from penchant.judge import Judge
from penchant.judging import JudgingNet
from penchant.lm import Request, replies
from penchant.lm.sharing import Shared
from penchant.lm.tuned import Lora, Tuned
from penchant.model import Recommender
from penchant.models.mllm_msr import MllmMsr
from penchant.models.mllm_srec import MllmSrec
from penchant.notes import windows
from penchant.store import Store
from penchant.texts import Provenance, Texts

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

WIDE = 4096  # tokens, so that nothing is cut


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny.several(tmp_path_factory.mktemp("models"))
    tiny.llama(path / "wide llama", tiny.byte_level(tiny.CHATML), WIDE)
    tiny.llava(path / "wide llava", WIDE)
    tiny.qwen(path / "wide qwen2.5", "2.5", WIDE)
    return path


def base(name: str, folders: Path) -> dict[str, Any]:
    """Settings of a model: tiny, or adapters on a folder's."""
    return SMALL if name == "tiny" else {"base": str(folders / f"wide {name}"), "rank": 2, "pairs": SMALL["pairs"]}


# --- what is said of a person --------------------------------------------------------------------------------------------


@cache
def canaries() -> tuple[Interactions, Texts]:
    """6 people who chose 8 of 20 things; each thing has a mark of its own. Of 20 more things nobody chose any."""
    users, items = Ids("user", tuple(f"u{n}" for n in range(6))), Ids("item", tuple(f"i{n}" for n in range(40)))
    rng = np.random.default_rng(0)
    item = np.concatenate([rng.permutation(20)[:8] for _ in range(6)])
    log = Interactions(users, items, np.repeat(np.arange(6), 8), item, position=np.tile(np.arange(8), 6))
    return log, Texts(items, tuple(f"TTL{n:02d}Q. A thing" for n in range(40)), Provenance("drawn"))


def marked(request: Request) -> Any:
    """Every mark that was shown, in every field of the answer."""
    assert request.schema is not None
    said = " ".join(["Keeps bees", *MARK.findall(request.user)])
    return request.schema.model_validate(dict.fromkeys(request.schema.model_fields, said))


def shown(train: Interactions, folders: Path, name: str, **settings: Any) -> JudgingNet:
    texts = canaries()[1]
    step, profile = (notes(Toy(says=marked), prompt, texts) for prompt in ("preference_step", "user_profile"))
    return MllmSrec(**base(name, folders), **settings).net(train, texts, step, profile, None)


def read(net: JudgingNet) -> list[str]:
    """What each pair is asked with, but for the thing; the number of a fence, which is of the whole log, is left out."""
    return [net.tuned.chat.tokenizer.decode(ids).replace(net.wording.number, "0") for ids in net.befores]


def by_name(said: str) -> dict[str, str]:
    """What stands under each name, in either wording."""
    bare = re.findall(r"^(\w+): (.+)$", said, re.MULTILINE)
    fenced = re.findall(r"^<data-0 (\w+)>\n(.*?)\n</data-0>$", said, re.MULTILINE | re.DOTALL)
    return {name.lower(): text for name, text in bare + fenced}


@pytest.mark.parametrize("steps", [True, False])
@pytest.mark.parametrize("name", ["tiny", "llama"])
def test_what_is_trained_on_shows_all_that_came_before_the_target_and_not_the_target(
    name: str, steps: bool, folders: Path
) -> None:
    """Canary: the tokens themselves, as text."""
    net = shown(canaries()[0], folders, name, lately=2, steps=steps)
    assert len(net.befores) == 6 * 7
    for said, history, target in zip(read(net), histories(net), net.target.tolist(), strict=True):
        before = {f"TTL{row:02d}Q" for row in history}
        assert f"TTL{target:02d}Q" not in said
        parts = by_name(said)
        assert set(parts) == {"profile", "notes", "lately"} | ({"steps"} if steps else set())
        assert "Keeps bees" in parts["profile"]
        for part in set(parts) - {"lately"}:
            assert set(MARK.findall(parts[part])) == before, part
        assert MARK.findall(parts["lately"]) == [f"TTL{row:02d}Q" for row in history[-2:]]
        if name == "tiny":
            assert ("Steps: " in said) == steps


@pytest.mark.parametrize("name", ["tiny", "llama"])
def test_what_comes_at_a_target_or_after_it_changes_no_letter_before_it(name: str, folders: Path) -> None:
    train, _ = canaries()
    assert train.position is not None
    for first in (2, 5):
        other = replace(train, item=np.where(train.position >= first, train.item + 20, train.item))
        nets = [shown(log, folders, name, lately=2, steps=True) for log in (train, other)]
        end = np.array([len(history) for history in histories(nets[0])])
        same = np.array([a == b for a, b in zip(*map(read, nets), strict=True)])
        assert (nets[0].target != nets[1].target)[end >= first].all()
        assert (end == first).any()
        assert np.array_equal(same, end <= first)


# --- what is trained -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_but_the_answer_is_told(name: str, folders: Path) -> None:
    tuned = Tuned(folders / name, SYSTEM, None)
    before, after = asked(tuned)
    yes = [True, False, False, True, True, False]
    pairs = [(before[n // 2], after[n % 3]) for n in range(6)]
    rows = tuned.rows(pairs, yes, False)
    shared = Shared.of(tuned, before, [thing for _, thing in pairs], yes)
    for label, ids in ((rows.label, rows.ids), (shared.label, shared.after)):
        for n, one in enumerate(yes):
            answer = tuned.parts.answers[0 if one else 1]
            assert label[n][label[n] >= 0].tolist() == answer
            begin = int((label[n] >= 0).int().argmax())
            assert ids[n, begin : begin + len(answer)].tolist() == answer
            assert ids[n, :begin].tolist()[-len(pairs[n][1]) :] == pairs[n][1]  # it follows what was asked


def test_what_was_chosen_is_answered_with_yes_and_the_other_with_no() -> None:
    split, texts, _ = world()
    net = MllmSrec(**SMALL).net(split.train, texts, None, None, None)
    moment = np.arange(5)
    drawn = (net.target[:5] + 1) % 32
    for model in (net.model, replace(net.model, whole=True)):
        net.model = model
        rows = net.rows(moment, np.stack([net.target[:5], drawn], axis=1))
        for n in range(10):
            thing = net.judge.afters[int((drawn if n % 2 else net.target)[n // 2])]
            answer = net.tuned.parts.answers[n % 2]
            ids = rows.after[n][rows.after_mask[n] > 0] if isinstance(rows, Shared) else rows.ids[n][rows.mask[n] > 0]
            assert ids.tolist()[-len(thing) - len(answer) :] == thing + answer


# --- pictures ------------------------------------------------------------------------------------------------------------

ASKED = Queries.of([-1, -1], [[0, 1], [3]])


def seeing(name: str, folders: Path, colours: tuple[str, ...], **settings: Any) -> JudgingNet:
    """4 things: the last has no picture."""
    train, texts = canaries()
    ids = Ids("item", texts.ids.keys[:4])
    log = Interactions(train.users, ids, np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]), position=np.arange(4))
    things = Texts(ids, ("a thing",) * 4, texts.source)
    picture = Pictures(ids, np.array([0, 1, 2, -1]), tuple(tiny.picture(colour) for colour in colours))
    torch.manual_seed(0)
    model = MllmMsr(**base(name, folders), **settings)
    return model.build(log, things, picture=picture).train(False)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", ["tiny", "llava", "qwen2.5"])
def test_each_thing_is_asked_about_with_its_own_picture(name: str, whole: bool, folders: Path) -> None:
    """The second and the third exchange theirs: what is said of these alone changes, in scores and in the loss."""
    old = seeing(name, folders, ("red", "lime", "blue"), whole=whole)
    new = seeing(name, folders, ("red", "blue", "lime"), whole=whole)
    scores = [net.finish().score(ASKED) for net in (old, new)]
    moved = np.abs(scores[1] - scores[0]).max(axis=0)
    assert moved[[0, 3]].max() < 1e-5
    assert moved[[1, 2]].min() > 1e-3
    for things, moves in (((0, 1), True), ((0, 2), True), ((3, 1), True), ((0, 3), False)):
        losses = [float(net.loss(net.rows(np.array([0]), np.array([things]))).detach()) for net in (old, new)]
        assert (abs(losses[1] - losses[0]) > 1e-4) == moves, things
        assert moves or losses[0] == pytest.approx(losses[1], abs=1e-6)
    if name == "tiny":
        assert len({round(float(z), 4) for z in scores[0][0]}) == 4  # the words are the same


def test_pictures_are_shown_unless_they_are_not_wanted(folders: Path) -> None:
    for name in ("tiny", "llava"):
        with_, without = (seeing(name, folders, ("red", "lime", "blue"), pictures=wanted) for wanted in (True, False))
        judge, blind = with_.finish(), without.finish()
        assert judge.looks is not None
        assert judge.seen is not None
        assert judge.seen.tolist() == [True, True, True, False]
        places = [after.count(with_.tuned.mark) for after in judge.afters]
        assert places == [judge.looks.shape[1]] * 3 + [0]
        assert blind.looks is None
        assert not any(without.tuned.mark in after for after in blind.afters)
        assert np.ptp(blind.score(ASKED)[0]) < 1e-5  # the words are the same; with pictures they are far apart
        assert np.ptp(judge.score(ASKED)[0]) > 1e-3
    assert seeing("llama", folders, ("red", "lime", "blue")).finish().looks is None  # it reads words alone


@pytest.mark.parametrize("name", ["tiny", "llava"])
def test_each_picture_goes_through_the_tower_once_for_however_many_people(
    name: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 people and 50 things: 50 pictures, and 50 summaries, each of which was asked for once."""
    data = toy_world(users=100, items=50)
    lm, again = Toy(), Toy()
    summary = enrich.run("item_summary", None, toy_catalog(50), lm, Store(tmp_path))
    enrich.run("item_summary", None, toy_catalog(50), again, Store(tmp_path))
    for schema in (replies.Looks, replies.Summary):
        assert len([one for one in lm.heard if one.schema is schema]) == 50
    assert len(set(lm.questions)) == len(lm.heard) == 100
    assert not again.heard
    count: list[int] = []
    looks = Tuned.looks

    def counted(tuned: Tuned, pixels: torch.Tensor) -> torch.Tensor:
        count.append(len(pixels))
        return looks(tuned, pixels)

    monkeypatch.setattr(Tuned, "looks", counted)
    settings = {**base(name, folders), "pairs": 2, "item_tokens": 8}
    net = MllmMsr(**settings).build(data.interactions, summary, picture=toy_catalog(50).pictures)
    assert sum(count) == 50
    judge = net.finish()
    first = sum(count)
    assert first == (100 if name == "tiny" else 50)  # under adapters the part that sees is never trained
    people = 100 if name == "tiny" else 10
    scores = judge.score(Queries.of(np.full(people, -1), [[n % 50] for n in range(people)]))
    assert scores.shape == (people, 50)
    assert sum(count) == first


# --- stopped, and gone on with -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"word_dropout": 0.3}, {"decay": 0.1}, {"accumulate": 2}, {"base": "llama", "rank": 2, "dropout": 0.1}],
    ids=lambda settings: next(iter(settings)),
)
def test_however_it_is_trained_it_goes_on_where_it_was_stopped(
    settings: dict[str, Any], folders: Path, tmp_path: Path
) -> None:
    split, texts, _ = world()
    training = replace(TRAINING, epochs=3, validate_every=1, batch_size=12)
    if "base" in settings:
        settings = {**settings, "base": str(folders / settings["base"])}
    model, valid = MllmSrec(**{**SMALL, "pairs": 36, **settings}), split.valid.take(np.arange(8))

    def stop(curve: Any) -> None:
        if len(curve.epoch) == 1:
            raise Stop

    def fit(folder: Path | None, progress: Any = None) -> Recommender:
        how: dict[str, Any] = {"folder": folder, "progress": progress, "summary": texts, "notes": notes()}
        return model.fit(split.train, valid, training, **how)

    with pytest.raises(Stop):
        fit(tmp_path / "work", stop)
    told: list[int] = []
    torch.rand(1)  # another process would have drawn other numbers
    again, undisturbed = fit(tmp_path / "work", lambda curve: told.append(len(curve.epoch))), fit(None)
    assert told == [2, 3]
    assert again.curve.loss == undisturbed.curve.loss
    assert again.curve.value == undisturbed.curve.value
    assert len(set(again.curve.loss)) == 3
    few = again.known.take(slice(0, 4))
    assert np.array_equal(again.score(few), undisturbed.score(few))


def test_other_weights_under_the_same_name_are_trained_from_the_beginning(folders: Path, tmp_path: Path) -> None:
    split, texts, _ = world()
    own = tmp_path / "base"
    shutil.copytree(folders / "llama", own)
    training = replace(TRAINING, epochs=2, validate_every=1)

    def fit(stopped: bool) -> list[int]:
        told: list[int] = []

        def progress(curve: Any) -> None:
            told.append(len(curve.epoch))
            if stopped:
                raise Stop

        model = MllmSrec(base=str(own), rank=2, pairs=8, item_tokens=12)
        model.fit(split.train, None, training, folder=tmp_path / "work", progress=progress, summary=texts)
        return told

    with pytest.raises(Stop):
        fit(stopped=True)
    kept = (tmp_path / "work" / "checkpoint.safetensors").read_bytes()
    assert fit(stopped=False) == [2]
    (tmp_path / "work" / "checkpoint.safetensors").write_bytes(kept)
    tiny.llama(own, tiny.byte_level(tiny.CHATML), seed=9)
    assert fit(stopped=False) == [1, 2]


@pytest.mark.parametrize("lora", [None, Lora(rank=2, dropout=0.0)], ids=["whole", "lora"])
@pytest.mark.parametrize("recompute", [True, False])
def test_layers_are_made_again_where_that_is_wanted_and_not_else(
    lora: Lora | None, recompute: bool, folders: Path
) -> None:
    tuned = Tuned(folders / "llama", SYSTEM, lora, 0, recompute)
    assert tuned.model.is_gradient_checkpointing == recompute
    made: list[int] = []
    for layer in tuned.decoder.layers:
        layer.self_attn.register_forward_hook(lambda *_: made.append(1))
    before, after = asked(tuned)
    tuned.model.train()
    value = tuned.loss(tuned.rows([(before[0], after[0])], [True], False))
    assert len(made) == 2
    value.backward()
    assert len(made) == (4 if recompute else 2)
    split, texts, _ = world()
    rank = 0 if lora is None else 2
    model = MllmSrec(base=str(folders / "llama"), rank=rank, pairs=2, recompute=recompute)
    assert model.net(split.train, texts, None, None, None).tuned.model.is_gradient_checkpointing == recompute


# --- tokens of the answer ------------------------------------------------------------------------------------------------

SPELLED = "A red mug with a handle, and a lamp of oak: what is in this shop is made by hand. "


def test_answers_of_several_tokens_are_told_by_their_first(tmp_path: Path) -> None:
    """p = sigmoid(z_Y - z_N), against a whole prompt; in training all of the answer is told."""
    split, texts, _ = world()
    place = tiny.llama(tmp_path / "base", tiny.byte_level(tiny.CHATML, text=SPELLED), WIDE)
    net = MllmSrec(base=str(place), rank=2, pairs=4, dropout=0.0).net(split.train, texts, notes(), None, None)
    tuned = net.tuned
    said = [tuned.chat.tokenizer.tokenize(answer) for answer in ("Yes", "No")]
    assert [one[0] for one in said] == ["Y", "N"]
    assert [len(one) > 1 for one in said] == [True, True]
    yes, no = (tuned.chat.tokenizer.convert_tokens_to_ids(one[0]) for one in said)
    judge = net.finish()
    query = Queries.of([-1], [[0, 4, 9]])
    (before,) = judge.befores(query)
    for item in (1, 7):
        with torch.no_grad():
            p = tuned.model(input_ids=torch.tensor([before + judge.afters[item]])).logits[0, -1].softmax(0)
        assert judge.heard(query, item).probability == pytest.approx(float(p[yes] / (p[yes] + p[no])), abs=1e-4)
    pairs = [(before, judge.afters[1]), (before, judge.afters[7])]
    nats = 0.0
    for (person, thing), one in zip(pairs, said, strict=True):
        ids = person + thing + tuned.chat.tokenizer.convert_tokens_to_ids(one)
        with torch.no_grad():
            z = tuned.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(1)
        nats -= sum(float(z[t - 1, ids[t]]) for t in range(len(person + thing), len(ids)))
    assert float(tuned.loss(tuned.rows(pairs, [True, False], False)).detach()) == pytest.approx(nats / 2, rel=1e-4)


def test_answers_that_begin_with_the_same_token_are_refused(tmp_path: Path) -> None:
    split, texts, _ = world()
    place = tiny.llama(tmp_path / "base", tiny.byte_level(tiny.VICUNA, text=SPELLED), WIDE)
    tokenizer = Tuned(place, SYSTEM, None).chat.tokenizer
    assert tokenizer.tokenize(" Yes")[0] == tokenizer.tokenize(" No")[0]  # a space of its own
    with pytest.raises(BadSetting, match=r"begins the answer `No` with the token that `Yes` begins with.*differently"):
        MllmSrec(base=str(place), rank=2, pairs=4).fit(split.train, None, TRAINING, summary=texts)


def test_a_base_that_cannot_be_asked_is_refused_before_anybody_is_asked_for_notes(tmp_path: Path) -> None:
    split, texts, _ = world()
    for place in (
        tiny.llama(tmp_path / "same", tiny.byte_level(tiny.VICUNA, text=SPELLED), WIDE),
        tiny.llama(tmp_path / "short", tiny.byte_level(tiny.CHATML), context=128),
    ):
        lm = Toy()
        with pytest.raises(BadSetting):
            MllmSrec(base=str(place), rank=2, pairs=4).fit(split.train, None, TRAINING, summary=texts, notes=notes(lm))
        assert not lm.heard, place.name


# --- gaps, and too much --------------------------------------------------------------------------------------------------


def test_a_thing_of_which_nothing_is_known_and_one_whose_picture_is_broken_are_asked_about() -> None:
    split, texts, _ = world()
    gaps = Texts(texts.ids, (None, *texts.values[1:]), texts.source)
    where = np.full(32, -1)
    where[1:4] = np.arange(3)
    whole = tiny.picture("red")
    picture = Pictures(split.items, where, (b"\x89PNG no picture", whole[: len(whole) // 2], whole))
    model = MllmSrec(**{**SMALL, "pairs": 60})
    rec = model.fit(split.train, split.valid, replace(TRAINING, epochs=1), summary=gaps, notes=notes(), picture=picture)
    assert np.isfinite(rec.curve.loss).all()
    assert np.isfinite(rec.score(rec.known)).all()
    assert isinstance(rec.scorer, Judge)
    assert rec.scorer.seen is not None
    assert np.flatnonzero(rec.scorer.seen).tolist() == [3]
    broken = replace(picture, where=np.where(np.arange(32) < 3, where, -1))
    net = model.net(split.train, gaps, None, None, broken)
    assert net.finish().looks is None


def test_somebody_with_ten_thousand_choices_can_be_learned_from() -> None:
    """Beside somebody with twenty: of who chose everything there is nothing to say no to."""
    many, all_ = 10_000, 10_020
    users, items = Ids("user", ("u", "w")), Ids("item", tuple(f"i{row}" for row in range(all_)))
    said = tuple(f"thing {row}. It is red and made of oak and felt" for row in range(all_))
    texts = Texts(items, said, Provenance("drawn"))
    log = Interactions(users, items, np.repeat([0, 1], [many, 20]), np.arange(all_), position=np.arange(all_))
    model = MllmSrec(**{**SMALL, "pairs": 40, "layers": 1}, lately=60, steps=True)
    lm = Toy()
    read = Comprehension(prompts.read("preference_step"), lm, "toy", texts, most=60)
    net = model.net(log, texts, read, None, None)
    end = [len(history) for history in histories(net)]
    assert max(end) > 5000
    assert len(lm.heard) < 20 * 21
    room = net.tuned.context - net.judge.longest - max(map(len, net.tuned.parts.answers))
    assert max(map(len, net.befores)) == room  # of more than fits, what is oldest is left out
    for before, history in zip(net.befores, histories(net), strict=True):
        assert net.tuned.chat.tokenizer.decode(before).endswith(f"thing {history[-1]}\nThing: ")
    rec = model.fit(log, None, replace(TRAINING, epochs=1, validate_every=1), summary=texts, notes=read)
    assert np.isfinite(rec.curve.loss).all()
    judge = rec.scorer
    assert isinstance(judge, Judge)
    assert np.isfinite(judge.rate(Queries.of([0], [np.arange(many)]), np.array([[many, many + 1]]))).all()


# --- why -----------------------------------------------------------------------------------------------------------------


def test_why_tells_after_which_choices_the_notes_were_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    surrounded(monkeypatch, tmp_path / "store", tmp_path)
    folder.write(toy_world(users=24), tmp_path / "data")
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE.format(data=tmp_path / "data", name="mllm_srec", settings=SIZE, more=""))
    run.run(recipe.read(file), tmp_path / "out", Store(tmp_path / "store"))
    ask: Ask = asking(capsys, monkeypatch)
    rec = runs.read(tmp_path / "out").recommender
    user, item = rec.users.keys[0], rec.items.keys[-1]
    count = len(rec.ask([user]).history_items)
    wanted = windows(count, 3, 2)
    assert len(wanted) > 1
    found = ask("why", "out", "--user", user, "--item", item, "--json").json
    notes = found["heard"]["notes"]
    assert [(note["begin"], note["end"]) for note in notes] == wanted
    begin, end = wanted[-1]
    said = f"after your choices {begin + 1} to {end} of {count}: “{notes[-1]['text'][:40]}"
    assert said in found["sentence"]
    assert said in " ".join(ask("why", "out", "--user", user, "--item", item).out.split())


# --- a world in which texts are swapped ----------------------------------------------------------------------------------


def test_texts_of_other_things_are_of_no_use() -> None:
    split, texts, _ = world()
    order = np.random.default_rng(1).permutation(32)
    swapped = Texts(texts.ids, tuple(texts.values[i] for i in order), texts.source)
    rec = MllmSrec(**SMALL).fit(split.train, split.valid, TRAINING, summary=swapped, notes=notes(texts=swapped))
    assert auc(rec) < auc(fitted()) - 0.2
