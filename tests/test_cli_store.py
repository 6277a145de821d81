"""The commands about the store: what people read, what machines read, and what strangers' words cannot do."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tiny_store
from answers_of import Answer, Ask, asking
from PIL import Image
from tiny_store import EACH, ITEMS, PRICE, USERS, Parrot, Shelved, drop, word

from penchant.calls import Call, Mention
from penchant.data import Ids
from penchant.store import Store
from penchant.term_picture import drawn
from penchant.texts import Provenance, Texts

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

COMMANDS = ("show", "diff", "gc", "forget")

HOSTILE = '</pre><script>alert(1)</script>[bold red]\x1b[31mNice\x1b[0m\x07\u202e & "more" {{ 7 * 7 }}\u2066'


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Shelved]:
    store = Store(tmp_path_factory.mktemp("full") / "store")
    refs = tiny_store.fill(store)
    tiny_store.write("item_motives", store, Parrot(name="shy", refuses=word("item", 2)), title="shy")
    return store, refs


@pytest.fixture
def ask(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    full: tuple[Store, Shelved],
    tmp_path: Path,
) -> Ask:
    """Call the command with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENCHANT_STORE", str(full[0].path))

    return asking(capsys, monkeypatch)


@pytest.fixture
def own(full: tuple[Store, Shelved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> Store:
    """A copy to change, in which the commands work."""
    shutil.copytree(full[0].path, tmp_path / "copy")
    monkeypatch.setenv("PENCHANT_STORE", str(tmp_path / "copy"))
    return Store(tmp_path / "copy")


def mistake(answer: Answer, *words: str) -> None:
    assert answer.code == 2, answer
    assert answer.out == ""
    assert len(re.findall(r"^penchant: [A-Z]\w+: ", answer.err, re.MULTILINE)) == 1, answer.err
    for said in words:
        assert said in answer.err


def values(answer: Answer) -> dict[str, str]:
    """Names and values of the facts on top."""
    lines = answer.out.split("\n\n")[0].splitlines()
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines if "  " in line)  # type: ignore[misc]


# help and mistakes


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(ask: Ask, name: str) -> None:
    answer = ask(name, "--help")
    assert answer.code == 0
    assert f"penchant {name}" in answer.out
    assert "--json" in answer.out
    for line in (line for line in answer.out.splitlines() if line.strip().startswith("-")):
        assert len(line.split("  ", 2)[-1].strip()) > 5, line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("show texts/0123456789ab", "texts/0123456789ab"),
        ("show texts/{motives} --id uma77", "no user 'uma77'"),
        ("show {motive_vectors} --html x.html", "--html shows texts"),
        ("show calls --html x.html", "--html shows texts"),
        ("show runs --html x.html", "--html shows texts"),
        ("show runs --id uma1", "penchant recommend runs --user uma1"),
        ("show {motives} --status refused", "penchant show calls --status refused"),
        ("show calls --status refusd", "Did you mean `refused`"),
        ("show calls --id uma77", "Did you mean `uma"),
        ("show calls --user i1", "no user 'i1'"),
        ("show calls --user uma1 --id uma1", "give one of --user, --item and --id"),
        ("show {motives} --user uma1", "--id uma1"),
        ("diff {motives} texts/0123456789ab", "has no texts/0123456789ab"),
        ("diff {motives} {motive_vectors}", "only two of a kind"),
        ("diff x y", "is no ref"),
        ("gc --runs nowhere", "no folder nowhere with runs"),
        ("forget", "give one of --user ID and --item ID"),
        ("forget --user a --item b", "give one of --user ID and --item ID"),
        ("forget --user uma77", "Did you mean `uma"),
        ("forget --item uma1", "no item 'uma1'"),
    ],
)
def test_mistakes_are_answered(ask: Ask, full: tuple[Store, Shelved], tmp_path: Path, words: str, message: str) -> None:
    words = words.replace("texts/{motives}", "{motives}").format(**vars(full[1]))
    mistake(ask(*words.split()), message)
    assert list(tmp_path.iterdir()) == []
    answer = ask(*words.split(), "--json")
    assert answer.json["message"] in answer.err


# show


def test_show_texts_says_how_they_were_made(ask: Ask, full: tuple[Store, Shelved]) -> None:
    store, refs = full
    answer = ask("show", refs.motives)
    assert answer.code == 0, answer.err
    facts, card = values(answer), store.card(refs.motives)
    assert facts["prompt"] == "user_motives"
    assert facts["model"] == "parrot"
    assert facts["of"] == f"{USERS} users"
    assert (facts["texts"], facts["gaps"]) == (str(USERS), "0")
    assert facts["cost"] == f"${PRICE * USERS:.4f}"
    assert facts["interactions"] == card["interactions"]
    assert refs.motive_vectors in facts["built into"]
    assert answer.out.count("\n  asked ") == 5  # the first few
    assert ask("show", refs.motives, "-n", 2).out.count("\n  asked ") == 2


def test_show_one_text_has_question_reply_and_cost(ask: Ask, full: tuple[Store, Shelved]) -> None:
    store, refs = full
    answer = ask("show", refs.motives, "--id", "uma3")
    said = answer.out
    assert word("user", 3) in said
    assert word("user", 1) not in said
    names = ("text", "reasoning", "drivers", "aversions", "summary", "asked", "system", "user")
    places = [re.search(rf"^  {name} ", said, re.MULTILINE) for name in names]
    assert all(places)
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    assert "You find out what drives somebody's choices" in said
    assert f"review: {word('user', 3)} says" in said
    assert f"${PRICE:.4f}" in said
    assert f"{store.card(refs.motives)['created'][:10]}T" in said


def test_show_as_json_is_card_kin_and_whole_texts(ask: Ask, full: tuple[Store, Shelved]) -> None:
    store, refs = full
    found = ask("show", refs.through, "--json", "-n", 3).json
    card = store.card(refs.through)
    assert {name: found[name] for name in card} == card
    parents = {part["ref"]: part["stored"] for part in found["built_from"]}
    assert parents == {refs.reviews: True, tiny_store.catalog().hash: False}
    assert found["built_into"] == []
    assert [part["id"] for part in found["texts"]] == ["i0", "i1", "i2"]
    first = found["texts"][0]
    assert first["text"] == store.load_texts(refs.through).values[0]
    assert first["reply"]["reasoning"].startswith("Because of")
    assert first["call"]["usd"] == PRICE
    assert word("item", 0) in first["call"]["user"]


def test_a_gap_says_why(ask: Ask, full: tuple[Store, Shelved]) -> None:
    store, _ = full
    ref = next(ref for ref in store.refs("texts") if store.card(ref)["title"].startswith("shy"))
    said = ask("show", ref, "--id", "i2").out
    assert re.search(r"^i2   refused$", said, re.MULTILINE)
    assert "it refused to answer" in said
    assert "I can't help with that." in said
    assert values(ask("show", ref))["refused"] == "1, e.g. i2"


def test_what_an_interaction_led_to_is_shown_for_its_user(ask: Ask, full: tuple[Store, Shelved]) -> None:
    found = ask("show", full[1].reviews, "--id", "uma2", "--json").json["texts"]
    assert [part["id"] for part in found] == [f'["uma2", "i{i}"]' for i in (2, 3, 4)]


def test_show_features_and_their_neighbours(ask: Ask, full: tuple[Store, Shelved]) -> None:
    _, refs = full
    found = ask("show", refs.motive_vectors, "--id", "uma1", "-n", 2, "--json").json
    assert len(found["nearest"]) == 2
    assert found["built_from"][0]["ref"] == refs.motives
    said = ask("show", refs.motive_vectors, "--id", "uma1", "-n", 2).out
    for part in found["nearest"]:
        assert f"{part['cosine']:+.4f}  {part['id']}" in said
    assert values(ask("show", refs.motive_vectors))["dim"] == "48"


def test_show_calls_sums_by_model_and_prompt(ask: Ask) -> None:
    found = ask("show", "calls", "--json").json
    by_name = {(part["model"], part["prompt"].partition("@")[0]): part for part in found["totals"]}
    assert by_name["parrot", "user_motives"]["calls"] == USERS
    assert by_name["shy", "item_motives"]["by_status"] == {"ok": ITEMS - 1, "refused": 1}
    assert found["calls"] == USERS + ITEMS + 2 * ITEMS + USERS * EACH + ITEMS
    assert found["usd"] == pytest.approx(PRICE * found["calls"])
    said = ask("show", "calls").out
    assert "user_motives@1" in said
    assert "1 refused" in said


def test_show_calls_of_one_status_are_listed(ask: Ask) -> None:
    found = ask("show", "calls", "--status", "refused", "--json").json
    (one,) = found["asked"]
    assert one["status"] == "refused"
    assert {"kind": "item", "id": "i2", "asked": True} in one["mentions"]
    assert "it refused to answer" in ask("show", "calls", "--status", "refused").out
    assert ask("show", "calls", "--status", "truncated").code == 0


def test_show_calls_of_one_user(ask: Ask) -> None:
    found = ask("show", "calls", "--id", "uma2", "-n", 50, "--json").json
    assert found["calls"] == len(found["asked"]) == 1 + EACH
    assert found["shown_in_others"] == 3 * EACH
    said = ask("show", "calls", "--id", "uma2", "-n", 1).out
    assert f"{1 + EACH} calls asked for uma2; {3 * EACH} more show its words" in said
    assert f"-n {1 + EACH}" in said
    key = '["uma2", "i3"]'  # as the message of `enrich` names it
    assert ask("show", "calls", "--id", key, "--json").json["calls"] == 1


def test_a_user_and_an_item_of_one_number_are_told_apart(ask: Ask, tmp_path: Path, monkeypatch: Any) -> None:
    store = Store(tmp_path / "numbered")
    monkeypatch.setenv("PENCHANT_STORE", str(store.path))
    with store.calls() as calls:
        for key, (kind, who) in enumerate([("user", "1"), ("item", "1"), ("item", "1"), ("interaction", '["1", "2"]')]):
            request = {"system": "s", "user": f"about {kind} {who}", "pictures": [], "schema": None}
            shown = [Mention("user", "1"), Mention("item", "2")] if kind == "interaction" else []
            made = Call(f"{key:064x}", "parrot", "", "p@1", "ok", "x", None, "", 1, 1, 0.0, 1, 0.1, "", request)
            calls.put(made, [Mention(kind, who, True), *shown])
    assert ask("show", "calls", "--user", "1", "--json").json["calls"] == 2
    assert ask("show", "calls", "--item", "1", "--json").json["calls"] == 2
    said = ask("show", "calls", "--item", "1").out
    assert said.count("about item 1") == 2
    assert "about user 1" not in said
    both = ask("show", "calls", "--id", "1")
    assert "4 calls asked for 1" in both.out
    assert "--item 1  or  --user 1" in both.out
    assert len(re.findall(r"^(?:user|item) 1   ok$", both.out, re.MULTILINE)) == 3  # each says whom it is about
    assert ask("show", "calls", "--id", "1", "--json").json["kinds"] == ["item", "user"]


def test_a_prompt_is_printed_once_and_questions_in_short(ask: Ask, full: tuple[Store, Shelved]) -> None:
    _, refs = full
    for said in (ask("show", refs.motives).out, ask("show", "calls", "--status", "ok", "-n", 5).out):
        systems = re.findall(r"^  system .*", said, re.MULTILINE)
        assert len(systems) == len(set(systems)) == 1
        assert len(re.findall(r"^  user ", said, re.MULTILINE)) == 5
    one = ask("show", refs.motives, "--id", "uma3").out
    question = ask("show", refs.motives, "--id", "uma3", "--json").json["texts"][0]["call"]["user"]
    assert len(question) > 300
    last = question.splitlines()[-1]
    assert last in one
    assert last not in ask("show", refs.motives, "-n", "4").out


def test_looking_makes_nothing(ask: Ask, tmp_path: Path) -> None:
    for words in (("show", "calls"), ("show", "calls", "--json"), ("gc",), ("gc", "--delete")):
        assert ask(*words, "--store", tmp_path / "none").code == 0
    mistake(ask("forget", "--user", "x", "--store", tmp_path / "none"), "no user 'x'")
    assert list(tmp_path.iterdir()) == []


# pictures


def test_pictures_are_drawn_in_their_colours() -> None:
    text = drawn(tiny_store.drawing(7), 40)
    assert text is not None
    lines = text.split("\n")
    assert [len(line) for line in lines] == [40] * 14  # 60 x 40 pixels: 40 x 27, two rows a line
    first, last = lines[0].spans[0].style, lines[-1].spans[0].style
    assert first.color.triplet == (220, 30, 20)  # type: ignore[union-attr]
    assert last.bgcolor.triplet == (20, 40, 210)  # type: ignore[union-attr]
    assert drawn(b"no picture") is None


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 5)])
def test_pictures_of_any_shape_fit(size: tuple[int, int]) -> None:
    import io

    out = io.BytesIO()
    Image.new("RGB", size, "green").save(out, "PNG")
    text = drawn(out.getvalue(), 40)
    assert text is not None
    lines = text.split("\n")
    assert 1 <= len(lines) <= 20
    assert all(1 <= len(line) <= 40 for line in lines)


def test_a_picture_is_named_by_its_hash_and_drawn_on_request(ask: Ask, full: tuple[Store, Shelved]) -> None:
    _, refs = full
    said = ask("show", refs.described, "--id", "i3").out
    assert hashlib.sha256(tiny_store.drawing(3)).hexdigest() in said
    assert "\u2580" not in said
    drawn_too = ask("show", refs.described, "--id", "i3", "--picture").out
    assert drawn_too.count("\u2580") == 40 * 14
    assert "38;2;220;30;20" in drawn_too


# the page


class Reader(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_a_page_holds_pictures_texts_and_questions(ask: Ask, full: tuple[Store, Shelved], tmp_path: Path) -> None:
    store, refs = full
    answer = ask("show", refs.described, "--html", tmp_path / "page.html", "-n", 4)
    assert answer.code == 0, answer.err
    assert str(tmp_path / "page.html") in answer.out
    page = (tmp_path / "page.html").read_text("utf-8")
    reader = Reader()
    reader.feed(page)
    pictures = [attrs["src"] or "" for tag, attrs in reader.tags if tag == "img"]
    assert len(pictures) == 4
    assert all(base64.b64decode(p.partition("base64,")[2]).startswith(b"\xff\xd8") for p in pictures)
    assert sum(tag == "details" for tag, _ in reader.tags) == 4
    for text in store.load_texts(refs.described).values[:4]:
        assert html.escape(text or "") in page
    assert "You describe things that people choose" in page
    assert ask("show", refs.described, "--html", tmp_path / "page.html", "--json").json["html"]


def test_a_page_that_cannot_be_written_is_a_mistake(ask: Ask, full: tuple[Store, Shelved], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mistake(ask("show", full[1].motives, "--html", tmp_path / "file" / "page.html"), "cannot write")


# strangers


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> tuple[Store, str, str]:
    """A store whose texts, ids, replies and questions are hostile; two versions of its texts."""
    store, refs = Store(tmp_path / "hostile"), []
    for says in (HOSTILE, HOSTILE + "again " * 3):
        lm = Parrot(name=f"evil{HOSTILE}{len(says)}", says=says)
        refs.append(tiny_store.write("user_motives", store, lm, title=HOSTILE + says[-3:]))
    ids = Ids("user", (HOSTILE, "x"))
    source = Provenance(f"enrich:{HOSTILE}@{'0' * 12}/{HOSTILE}", (HOSTILE,))
    for text in ("word " + HOSTILE, HOSTILE + "x" * 300_000):
        refs.append(store.save_texts(Texts(ids, (text, None), source), HOSTILE, {HOSTILE: 3}, {HOSTILE: (HOSTILE,)}))
    monkeypatch.setenv("PENCHANT_STORE", str(store.path))
    return store, *refs  # type: ignore[return-value]


def test_hostile_words_steer_no_terminal(ask: Ask, hostile: tuple[Store, str, str, str, str]) -> None:
    _, one, two, three, four = hostile
    shows = [ask("show", ref) for ref in (one, two, three, four)]
    assert all("[bold red]" in answer.out for answer in shows)  # shown as what it is, not obeyed
    answers = [
        *shows,
        ask("show", three, "--id", HOSTILE),
        ask("show", "calls"),
        ask("show", "calls", "--id", "uma1"),
        ask("diff", one, two),
        ask("diff", three, four),
        ask("gc"),
        ask("forget", "--user", HOSTILE),
        ask("forget", "--user", "uma1"),
    ]
    for answer in answers:
        assert answer.code == 0, answer.err
        for steering in "\x1b\x07\u202e\u2066\r":
            assert steering not in answer.out
        assert len(answer.out) < 60_000  # huge ones are cut
    mistake(ask("show", three, "--id", HOSTILE + "?"), "[bold red]")
    assert "\x1b" not in ask("show", three, "--id", HOSTILE + "?").err
    exact = ask("show", four, "--json").json["texts"][0]
    assert (exact["id"], exact["text"]) == (HOSTILE, HOSTILE + "x" * 300_000)  # machines get all of it
    assert "\x1b" not in ask("show", four, "--json").out


def test_hostile_words_act_on_no_page(ask: Ask, hostile: tuple[Store, str, str, str, str], tmp_path: Path) -> None:
    _, *refs = hostile
    for ref in refs:
        assert ask("show", ref, "--html", tmp_path / "p.html").code == 0
        page = (tmp_path / "p.html").read_text("utf-8")
        reader = Reader()
        reader.feed(page)
        assert not {tag for tag, _ in reader.tags} & {"script", "iframe", "object", "link", "form", "a"}
        assert not [a for _, attrs in reader.tags for a in attrs if a.startswith("on") or a in ("href", "srcset")]
        assert "default-src 'none'" in page
        assert "&lt;script&gt;alert(1)" in page
        assert "{{ 7 * 7 }}" in page  # no template of theirs is run
        assert not set(page) & set("\x1b\x07\u202e\u2066")
        assert len(page) < 400_000


def test_the_command_of_a_message_names_a_hostile_id_safely(
    ask: Ask, hostile: tuple[Store, str, str, str, str]
) -> None:
    answer = ask("forget", "--user", "it's; rm -rf $HOME", "--json")
    assert answer.code == 2
    store = hostile[0]
    store.save_texts(Texts(Ids("user", ("it's; $HOME",)), ("x",), Provenance("toy")))
    said = ask("forget", "--user", "it's; $HOME").out
    (command,) = re.findall(r"Do it:  (.*)", said)
    assert shlex.split(command) == ["penchant", "forget", "--user", "it's; $HOME", "--yes"]
    assert ask(*shlex.split(command)[1:]).code == 0
    assert ask("forget", "--user", "it's; $HOME").code == 2


# diff


def test_diff_shows_what_changed(ask: Ask, own: Store) -> None:
    one = tiny_store.write("user_motives", own, Parrot(), title="a")
    two = tiny_store.write("user_motives", own, Parrot(name="owl", says="Hoo! "), title="a")
    found = ask("diff", one, two, "--json", "-n", 2).json
    assert (found["stayed"], found["changed"]) == (0, USERS)
    assert len(found["changes"]) == 2
    assert {"name": "model", "before": "parrot", "after": "owl"} in found["facts"]
    said = ask("diff", one, two).out
    assert "parrot  ->  owl" in said
    assert f"{USERS} changed" in said
    assert "{+Hoo!+}" in said
    assert "0 changed" in ask("diff", one, one).out


def test_diff_of_features(ask: Ask, full: tuple[Store, Shelved]) -> None:
    _, refs = full
    found = ask("diff", refs.item_vectors, refs.described_vectors, "--json").json
    said = ask("diff", refs.item_vectors, refs.described_vectors).out
    assert f"mean {found['cosine']['mean']:.4f}" in said
    assert found["cosine"]["least_key"] in said


# gc


def superseded(store: Store) -> tuple[str, str]:
    """Two versions of the same texts: other words of the same model, an hour apart."""
    refs = []
    for digit in "01":
        source = Provenance(f"enrich:words@{digit * 12}/parrot", created=f"2025-01-0{1 + int(digit)}T00:00:00+00:00")
        refs.append(store.save_texts(Texts(Ids("item", ("a",)), (f"text {digit}",), source), "old and new"))
    return refs[0], refs[1]


def test_gc_lists_and_then_removes(ask: Ask, own: Store) -> None:
    old, new = superseded(own)
    (own.path / "texts" / ".killed").mkdir()
    os.utime(own.path / "texts" / ".killed", (time.time() - 7200,) * 2)
    before = own.refs()
    dry = ask("gc")
    assert dry.code == 0, dry.err
    assert f"{old}  superseded by {new}" in dry.out
    assert "texts/.killed" in dry.out
    assert "Nothing was removed" in dry.out
    assert "runs were looked for in: nowhere" in dry.out
    assert own.refs() == before
    found = ask("gc", "--json").json
    assert found["deleted"] is False
    assert found["kinds"]["superseded artefacts"]["number"] == 1
    assert found["bytes"] == found["kinds"]["superseded artefacts"]["bytes"] > 0
    done = ask("gc", "--delete")
    assert done.code == 0, done.err
    assert "Removed" in done.out
    assert own.refs() == [ref for ref in before if ref != old]
    assert not (own.path / "texts" / ".killed").exists()
    assert "nothing to remove" in ask("gc").out


@pytest.mark.parametrize("place", ["runs", "demo-out", "elsewhere"])
def test_gc_keeps_what_runs_name(ask: Ask, own: Store, tmp_path: Path, place: str) -> None:
    old, _ = superseded(own)
    (tmp_path / place / "one").mkdir(parents=True)
    (tmp_path / place / "one" / "report.json").write_text(json.dumps({"inputs": {"text": {"ref": old}}}))
    more = ("--runs", place) if place == "elsewhere" else ()
    assert "nothing to remove" in ask("gc", "--delete", *more).out
    assert old in own.refs()


def test_gc_removes_paid_calls_only_when_told(ask: Ask, own: Store) -> None:
    gone = tiny_store.write("user_motives", own, Parrot(name="parrot two"))
    shutil.rmtree(own.path / gone)
    assert "nothing to remove" in ask("gc").out
    assert "nothing to remove" in ask("gc", "--calls").out  # somebody may be asking still
    more = ("--calls", "--older-than", "0")
    dry = ask("gc", *more, "--json").json
    assert dry["kinds"]["unused calls"]["number"] == USERS
    assert dry["usd"] == pytest.approx(PRICE * USERS)
    assert f"${PRICE * USERS:.4f}" in ask("gc", *more).out
    assert ask("gc", *more, "--delete").code == 0
    assert "parrot two" not in ask("show", "calls").out


def test_a_text_whose_question_is_gone_says_so(ask: Ask, own: Store, full: tuple[Store, Shelved]) -> None:
    with own.calls() as calls:
        drop(calls, [call.key for call in calls.of("user", "uma1")])
    said = ask("show", full[1].motives, "--id", "uma1")
    assert said.code == 0
    assert "not kept any more" in said.out
    assert word("user", 1) in said.out


# forget


def test_forget_lists_and_then_forgets(ask: Ask, own: Store, full: tuple[Store, Shelved]) -> None:
    _, refs = full
    dry = ask("forget", "--user", "uma2")
    assert dry.code == 0, dry.err
    for said in (
        "Would go",
        refs.motives,
        refs.motive_vectors,
        "Nothing was removed",
        "retrain" if 0 else "run folders",
    ):
        assert said in dry.out
    assert "penchant forget --user uma2 --yes" in dry.out
    assert refs.motives in own.refs()
    found = ask("forget", "--user", "uma2", "--json").json
    assert found["forgotten"] is False
    assert found["calls"] == found["paid"] == 1 + EACH + 3 * EACH
    assert found["usd"] == pytest.approx(PRICE * found["calls"])
    done = ask("forget", "--user", "uma2", "--yes")
    assert done.code == 0, done.err
    assert "Gone" in done.out
    assert "what was sent to a server" in done.out
    token = word("user", 2).encode()
    assert not [p for p in own.path.rglob("*") if p.is_file() and token in p.read_bytes()]
    mistake(ask("forget", "--user", "uma2"), "no user 'uma2'")


def test_forget_in_another_store_names_it(ask: Ask, own: Store) -> None:
    said = ask("forget", "--item", "i1", "--store", own.path).out
    assert f"--store {own.path} --yes" in said


# a process of its own


@pytest.mark.long
def test_a_reader_who_leaves_early_sees_no_traceback(full: tuple[Store, Shelved]) -> None:
    for words in (f"show {full[1].motives}", "show calls --json"):
        command = [sys.executable, "-c", "from penchant.cli import main; main()", *words.split()]
        environment = {**os.environ, "PENCHANT_STORE": str(full[0].path)}
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.close()
        said = reader.stderr.read().decode()
        reader.wait()
        assert said == "", said


@pytest.mark.long
def test_in_a_terminal_pictures_are_drawn(full: tuple[Store, Shelved]) -> None:
    """A pseudo-terminal, as an editor or ssh gives."""
    import pty

    command = [sys.executable, "-c", "from penchant.cli import main; main()", "show", full[1].described, "-n", "1"]
    master, slave = pty.openpty()
    environment = {
        **os.environ,
        "PENCHANT_STORE": str(full[0].path),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    environment.pop("NO_COLOR", None)
    running = subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE, env=environment)
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        said += part
    assert running.wait(timeout=30) == 0
    assert said.decode().count("\u2580") == 40 * 14
