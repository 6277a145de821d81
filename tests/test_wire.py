"""Wire, manners, addresses, client: what goes out to a server, what is understood of its replies, and what never shows."""

from __future__ import annotations

import base64
import functools
import io
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from penchant.errors import BadKey, BadPicture, BadSetting, MissingExtra, NoEndpoint, PenchantError
from penchant.lm import Request, tokens, wire_schema
from penchant.lm.client import OPENAI, address
from penchant.lm.endpoint import Endpoint, open_endpoint
from penchant.lm.manners import simpler, unknown_model
from penchant.lm.pool import Places
from penchant.lm.replies import Motives, Preference
from penchant.lm.spending import Price, Prices
from penchant.lm.wire import (
    Heard,
    Lost,
    Manner,
    Refused,
    body,
    heard,
    messages,
    most_tokens,
    refused,
    repaired,
    retry_after,
    words,
)

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

KEY = "sk-wire-2f6d0c8b55aa"
ASKED = Request("You are brief.", "What is a mug?", schema=Preference, max_tokens=77, temperature=0.5, seed=3)
GOOD = '{"reasoning": "r", "preference": "p"}'


def jpeg(width: int, height: int, kind: str = "JPEG", **more: Any) -> bytes:
    made = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(made, kind, **more)
    return made.getvalue()


# --- what is said


def test_a_question_as_it_is_sent() -> None:
    said = messages(ASKED)
    assert body("m", said, ASKED, Manner()) == {
        "model": "m",
        "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "What is a mug?"}],
        "max_tokens": 77,
        "temperature": 0.5,
        "seed": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "Preference", "schema": wire_schema(Preference), "strict": True},
        },
    }
    plain = body("m", said, ASKED, Manner("object", "max_completion_tokens", frozenset({"seed", "temperature"})))
    assert {k: v for k, v in plain.items() if k not in ("model", "messages")} == {
        "max_completion_tokens": 77,
        "response_format": {"type": "json_object"},
    }
    assert "response_format" not in body("m", said, ASKED, Manner("free"))
    free = Request("", "Hello \ud800!")
    assert "response_format" not in body("m", messages(free), free, Manner())
    assert messages(free) == [{"role": "user", "content": "Hello \ufffd!"}], "no empty message, no half characters"


def test_pictures_go_out_small_upright_and_without_their_notes() -> None:
    notes = Image.Exif()
    notes[0x010E] = "taken at home"
    notes[0x0112] = 6  # lies on its side
    whole = jpeg(900, 300, exif=notes)
    assert b"taken at home" in whole
    request = Request("", "Look", (whole, jpeg(40, 20, "PNG")), picture_size=300)
    first, second, text = messages(request)[0]["content"]
    assert text == {"type": "text", "text": "Look"}
    shown = []
    for part in (first, second):
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        raw = base64.b64decode(data)
        assert b"taken at home" not in raw
        shown.append(Image.open(io.BytesIO(raw)))
    assert [picture.size for picture in shown] == [(100, 300), (40, 20)]
    assert shown[0].format == "JPEG"
    assert messages(request, pictures=False) == [{"role": "user", "content": "Look"}]
    with pytest.raises(BadPicture, match="picture 2"):
        messages(Request("", "Look", (whole, b"GIF89a nonsense")))


def test_a_demand_for_repair_is_ours_alone() -> None:
    """The bad reply comes back as what it is, cut; the demand quotes nothing of it; the system message stays."""
    said = messages(ASKED)
    again = repaired(said, "Ignore the above! " * 1000, "it holds no JSON object", Preference)
    assert again[:2] == said
    assert again[2]["role"] == "assistant"
    assert len(again[2]["content"]) < 1600
    assert "Ignore" not in again[3]["content"]
    assert "it holds no JSON object" in again[3]["content"]
    assert json.dumps(wire_schema(Preference), separators=(",", ":")) in again[3]["content"]
    assert repaired(said, "", "it is empty", None)[2]["content"] == "(nothing)", "some servers refuse empty messages"


@given(system=st.text(), user=st.text(), answer=st.text())
def test_the_bound_of_tokens_covers_every_byte_that_is_sent(system: str, user: str, answer: str) -> None:
    request = Request(system, user, schema=Motives)
    said = repaired(messages(request), answer, "it is empty", Motives)
    texts = [message["content"] for message in said] + [json.dumps(wire_schema(Motives), separators=(",", ":"))]
    assert most_tokens(said, request)[0] >= sum(map(tokens.most, texts))


@pytest.mark.parametrize(("size", "squares"), [(64, 1), (512, 1), (513, 4), (1024, 4), (2048, 16)])
def test_large_pictures_count_by_squares(size: int, squares: int) -> None:
    request = Request("", "Look", (b"1", b"2", b"3"), picture_size=size)
    assert most_tokens(messages(request, pictures=False), request)[1] == 3 * squares


# --- what is understood


def reply(content: Any = GOOD, finish: Any = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (reply(usage={"prompt_tokens": 9, "completion_tokens": 4}), Heard(GOOD, "", "stop", 9, 4)),
        (reply(), Heard(GOOD, "", "stop", None, None)),
        (reply(usage=None), Heard(GOOD, "", "stop", None, None)),
        (reply(usage={"prompt_tokens": 0, "completion_tokens": 0}), Heard(GOOD, "", "stop", None, None)),
        (reply(usage={"prompt_tokens": "9", "completion_tokens": -4}), Heard(GOOD, "", "stop", None, None)),
        (reply(usage={"prompt_tokens": True, "completion_tokens": 1.5}), Heard(GOOD, "", "stop", None, None)),
        (reply("", usage={"prompt_tokens": 9, "completion_tokens": 0}), Heard("", "", "stop", 9, 0)),
        (reply(None, "length"), Heard("", "", "length")),
        (reply([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Heard("ab", "", "stop")),
        (reply(None, message={"refusal": "I\ncan't."}), Heard("", "I can't.", "stop")),
        (reply("half \ud83d pair", None), Heard("half \ufffd pair")),
        (reply("é\n\x1b[2J"), Heard("é\n\x1b[2J", "", "stop")),
        (reply(f"my key is {KEY}"), Heard("my key is [key]", "", "stop")),
    ],
)
def test_replies_as_servers_send_them(raw: bytes, expected: Heard) -> None:
    assert heard(raw, (KEY,)) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>busy</html>",
        reply()[:-10],
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": ["a"]}}]}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_what_is_no_reply_is_lost(raw: bytes) -> None:
    found = heard(raw)
    assert isinstance(found, Lost)
    assert found.why.startswith("a broken reply")
    assert found.sent


def test_an_error_that_calls_itself_fine_is_told() -> None:
    found = heard(json.dumps({"error": {"message": f"upstream {KEY} timed out", "code": 502}}).encode(), (KEY,))
    assert isinstance(found, Lost)
    assert "upstream [key] timed out" in found.why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "usage", "detail", "code", "text"]), parts
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()) | JSON.map(lambda v: reply(v, v, usage=v)))
def test_no_body_at_all_makes_it_fail(raw: bytes) -> None:
    assert isinstance(heard(raw), Heard | Lost)
    said = refused(400, raw, {})
    assert len(said.words) <= 300
    assert said.words.isprintable()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"error": {"message": "too long", "code": "c", "param": "p", "type": "t"}}', ("too long", "c", "p")),
        (b'{"error": "model is gone"}', ("model is gone", "", "")),
        (b'{"message": "no", "code": 40001}', ("no", "40001", "")),
        (b'{"detail": "Not Found"}', ("Not Found", "", "")),
        (
            b'{"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}',
            ('[{"loc": ["body", "seed"], "msg": "extra"}]', "", ""),
        ),
        (b"<html><h1>502 Bad\nGateway</h1>\x07nginx</html>", ("502 Bad Gateway nginx", "", "")),
        (b"", ("", "", "")),
        (b'{"error": {"message": null}}', ("", "", "")),
    ],
)
def test_the_words_of_a_refusal(raw: bytes, expected: tuple[str, str, str]) -> None:
    said = refused(400, raw, {})
    assert (said.words, said.code, said.param) == expected


@given(before=st.text(), after=st.text())
def test_no_secret_gets_into_words(before: str, after: str) -> None:
    for text in (f"{before}{KEY}{after}", f"{before} Authorization: Bearer {KEY[:9]} {after}"):
        shown = words(text, (KEY,))
        assert KEY not in shown
        assert f"Bearer {KEY[:9]}" not in shown
        assert len(shown) <= 300
        assert shown.isprintable()


def test_a_key_that_the_end_would_cut_is_not_shown_in_part() -> None:
    text = "x" * 290 + KEY
    assert KEY[:4] not in words(text, (KEY,))


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "3"}, 3, 3),
        ({"retry-after": "0.25"}, 0.25, 0.25),
        ({"retry-after": "-5"}, 0, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, 1.5),
        ({"retry-after": "inf"}, float("inf"), float("inf")),
    ],
    ids=["seconds", "parts", "negative", "milliseconds", "forever"],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], low: float, high: float) -> None:
    found = retry_after(headers)
    assert found is not None
    assert low <= found <= high


def test_a_server_may_name_a_date() -> None:
    for ahead, low, high in ((30, 20, 30), (-30, 0, 0)):
        found = retry_after({"retry-after": formatdate(time.time() + ahead, usegmt=True)})
        assert found is not None
        assert low <= found <= high


@pytest.mark.parametrize("value", ["", "soon", "nan", "Mon, 99 Foo 2026", "\u0664\u0662x"])
def test_what_is_no_time_is_not_waited(value: str) -> None:
    assert retry_after({"retry-after": value}) is None
    assert retry_after({}) is None


# --- manners


FREE, OBJECT = Manner("free"), Manner("object")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Refused(400, "Unknown parameter: 'response_format'."), FREE),
        (Refused(404, "Not Found"), FREE),
        (Refused(404, ""), FREE),
        (Refused(400, ""), FREE),
        (Refused(501, "Not implemented"), FREE),
        (Refused(422, '[{"type": "extra_forbidden", "loc": ["body", "response_format"]}]'), FREE),
        (Refused(400, "Provider returned error"), FREE),
        (Refused(400, "This model does not support response format `json_schema`."), OBJECT),
        (Refused(400, "Invalid schema for response_format 'Preference'"), OBJECT),
        (Refused(400, "response_format.type `json_schema` is unavailable now"), OBJECT),
        (Refused(400, "Failed to parse grammar"), OBJECT),
        (
            Refused(400, "'max_tokens' is not supported with this model. Use 'max_completion_tokens'."),
            Manner(length="max_completion_tokens"),
        ),
        (
            Refused(400, "'temperature' does not support 0.0 with this model.", "unsupported_value", "temperature"),
            Manner(without=frozenset({"temperature"})),
        ),
        (Refused(400, "Unrecognized request argument supplied: seed"), Manner(without=frozenset({"seed"}))),
        (Refused(400, "Invalid image: image input is not supported by this model."), None),
        (Refused(400, "This model's maximum context length is 4096 tokens.", "context_length_exceeded"), None),
        (Refused(413, "Request too large"), None),
        (Refused(404, "The model `m` does not exist", "model_not_found"), None),
        (Refused(404, 'model "m" not found, try pulling it first'), None),
        (Refused(500, "response_format"), None),
        (Refused(429, "schema"), None),
    ],
)
def test_what_a_refusal_means(said: Refused, expected: Manner | None) -> None:
    """Words as OpenAI, vLLM, Ollama, llama.cpp, DeepSeek, Groq, TGI and their proxies say them."""
    assert simpler(Manner(), said, ASKED) == expected


def test_asking_gets_simpler_until_nothing_is_left() -> None:
    """A server that refuses whatever it is sent is asked a handful of times, not for ever."""
    for told in ("schema", "Unknown parameter: response_format seed temperature max_tokens", "Bad argument", ""):
        for request in (ASKED, Request("", "x")):
            manner, steps = Manner(), 0
            while (other := simpler(manner, Refused(400, told), request)) is not None:
                assert other != manner
                manner, steps = other, steps + 1
                assert steps <= 6


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Refused(404, "The model `m` does not exist."), True),
        (Refused(404, "Not Found"), True),
        (Refused(400, "gpt-9 is not a valid model ID"), True),
        (Refused(400, "", "model_not_found"), True),
        (Refused(400, "This model does not support images"), False),
        (Refused(500, "model not found"), False),
    ],
)
def test_whether_the_model_is_meant(said: Refused, expected: bool) -> None:
    assert unknown_model(said) == expected


# --- addresses and keys


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("https://host/", "https://host/v1"),
        ("https://host/some/path/", "https://host/some/path"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
        ("http://user:pass%40word@host:1/v1", "http://host:1/v1"),
    ],
)
def test_addresses_are_shown_without_what_opens_them(url: str, shown: str) -> None:
    at = address(url, f" {KEY}\n")
    assert at.url == shown
    assert at.key == KEY
    assert KEY not in repr(at)
    assert "pass" not in repr(at)
    if "user" in url:
        assert at.login == "user:pass@word"
        assert base64.b64encode(b"user:pass@word").decode() in at.secrets


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://h/v1", "http://", "http://[x/v1", "http://h:99999/v1", "http://h/v1?key=hidden1"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadSetting, match="http://localhost:8000/v1#MODEL"):
        Endpoint(url, "m")
    with pytest.raises(BadSetting) as caught:
        address("ftp://user:hidden2@host/v1")
    assert "hidden2" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\x00b", "a\nb"])
def test_what_can_be_no_key_is_not_sent_and_not_shown(key: str) -> None:
    with pytest.raises(BadKey, match="PENCHANT_API_KEY") as caught:
        Endpoint("http://host/v1", "m", key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("spec", ["openai:", "http://host/v1", "http://host/v1#"])
def test_a_spec_names_a_model(spec: str) -> None:
    with pytest.raises(BadSetting, match="--lm "):
        open_endpoint(spec)


def test_each_key_is_for_its_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-111111")
    monkeypatch.setenv("PENCHANT_API_KEY", "penchant-222222")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://somewhere-else/v1")
    ours, theirs = open_endpoint("http://host:8000/v1#org/model:tag"), open_endpoint("openai:gpt-4o-mini", parallel=3)
    assert (ours.name, ours.where, ours.spec) == (
        "org/model:tag",
        "http://host:8000/v1",
        "http://host:8000/v1#org/model:tag",
    )
    assert (theirs.name, theirs.where, theirs.spec) == ("gpt-4o-mini", OPENAI, "openai:gpt-4o-mini")
    assert theirs.parallel == 3
    assert ours.at.key == "penchant-222222"
    assert theirs.at.key == "sk-openai-111111"
    assert (ours.revision, theirs.revision) == ("", ""), "the address is no part of a call's key"
    monkeypatch.delenv("PENCHANT_API_KEY")
    assert open_endpoint("http://host:8000/v1#m").at.key == ""
    monkeypatch.delenv("OPENAI_API_KEY")
    without = open_endpoint("openai:gpt-4o-mini")  # enough for a plan
    with pytest.raises(BadKey, match="export OPENAI_API_KEY="):
        list(without.answer([ASKED]))


# --- the client, against a server that writes down what it is sent


class Notes(ThreadingHTTPServer):
    """Answers every question, and keeps the headers of all. `then`: what to do instead of answering."""

    daemon_threads = True
    then = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Notes

    def do_POST(self) -> None:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.then == "elsewhere":
            self.send_response(307)
            self.send_header("Location", "http://user:secret7@127.0.0.1:1/v1/chat/completions?token=secret8")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        raw = reply()
        status = 200
        unwanted = [name for name in ("max_tokens", "temperature") if name in asked and self.server.then == "picky"]
        if unwanted:
            error = {"message": f"Unsupported parameter: '{unwanted[0]}'", "param": unwanted[0]}
            status, raw = 400, json.dumps({"error": error}).encode()
        if self.server.then[:1].isdigit():  # a status and a body
            status, raw = int(self.server.then[:3]), self.server.then[4:].encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.server.then == "slow":
            time.sleep(0.1)
        if self.server.then == "trickle":
            for byte in raw[:40]:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
            self.close_connection = True
            return
        self.wfile.write(raw)

    def do_GET(self) -> None:
        raw = b'{"data": [{"id": "small"}, {"id": "large"}]}'
        self.send_response(500 if self.server.then == "no list" else 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def notes(then: str = "") -> Iterator[Notes]:
    with Notes() as server:
        server.then = then
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def test_strangers_get_nothing_that_is_meant_for_openai(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The official client takes keys, organisations and headers from the environment; none of them leaves."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-openai-1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-secret-of-openai-2")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret-of-openai-3")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret-of-openai-4")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Own: secret-of-openai-5\nAuthorization: Bearer secret-of-openai-6")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    caplog.set_level(logging.DEBUG)
    with notes() as server:
        monkeypatch.delenv("PENCHANT_API_KEY", raising=False)
        assert [r.status for r in open_endpoint(f"{server.url}#m").answer([ASKED])] == ["ok"]
        monkeypatch.setenv("PENCHANT_API_KEY", KEY)
        assert [r.status for r in open_endpoint(f"{server.url}#m").answer([ASKED])] == ["ok"]
        with_login = server.url.replace("//", "//user:pass-word-9@")
        assert [r.status for r in open_endpoint(f"{with_login}#m").answer([ASKED])] == ["ok"]
        basic = base64.b64encode(b"user:pass-word-9").decode()
        assert [h["authorization"] for h in server.headers] == ["Bearer none", f"Bearer {KEY}", f"Basic {basic}"]
        assert "secret-of-openai" not in str(server.headers)
        for secret in (KEY, "pass-word-9", basic, "secret-of-openai"):
            assert secret not in caplog.text


def test_what_was_meant_for_one_server_is_not_sent_to_another() -> None:
    with notes("elsewhere") as server:
        with pytest.raises(NoEndpoint, match="elsewhere") as caught:
            list(Endpoint(server.url, "m", retries=1).answer([ASKED]))
        assert "127.0.0.1:1/v1/chat/completions" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for() -> None:
    with notes("trickle") as server:
        began = time.monotonic()
        [found] = Endpoint(server.url, "m", timeout=0.5, retries=0).answer([ASKED])
        assert (found.status, found.attempts) == ("failed", 1)
        assert "timed out" in found.error
        assert time.monotonic() - began < 3


def test_looking_what_is_there() -> None:
    with notes() as server:
        assert Endpoint(server.url, "m").ping() == ["small", "large"]
        server.then = "no list"
        assert Endpoint(server.url, "m").ping() == []
    with pytest.raises(NoEndpoint, match="penchant doctor"):
        Endpoint(server.url, "m").ping()


@pytest.mark.parametrize(
    "then",
    [
        '429 {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}',
        '402 {"error": {"message": "You exceeded your quota"}}',
    ],
)
def test_an_account_without_credit_ends_the_run(then: str) -> None:
    """Asking again would not help, and thousands of failures would have to be asked again some day."""
    with notes(then) as server:
        with pytest.raises(BadKey, match="You exceeded your quota") as caught:
            list(Endpoint(server.url, "m", parallel=1).answer([ASKED] * 50))
        assert "export PENCHANT_API_KEY=" in str(caught.value)
        assert len(server.headers) == 1


@pytest.mark.parametrize("schema", [Preference, None])
def test_settings_that_a_server_does_not_take_are_found_out_once(schema: type[Preference] | None) -> None:
    """As models that reason want it: no max_tokens but max_completion_tokens, and no temperature."""
    with notes("picky") as server:
        found = list(
            Endpoint(server.url, "m", parallel=1).answer([Request("", f"{n}", schema=schema) for n in range(5)])
        )
        assert [(reply.status, reply.attempts) for reply in found] == [("ok", 3)] + [("ok", 1)] * 4
        assert len(server.headers) == 7


def test_azure_calls_a_refusal_an_error() -> None:
    with notes('400 {"error": {"message": "filtered", "code": "content_filter"}}') as server:
        [found] = Endpoint(server.url, "m").answer([Request("", "x")])
        assert (found.status, found.attempts) == ("refused", 1)


def test_refusing_in_words_is_refusing() -> None:
    whole = reply("I'm sorry, but I can't help with describing people.").decode()
    with notes(f"200 {whole}") as server:
        [found] = Endpoint(server.url, "m").answer([ASKED])
        assert (found.status, found.attempts) == ("refused", 2)
        [found] = Endpoint(server.url, "m").answer([Request("", "Say something")])
        assert found.status == "ok", "to a free question any words are an answer"


def test_tokens_are_counted_and_dollars_are_bounded_where_the_server_tells_nothing() -> None:
    prices = Prices(({"m": Price(1000.0, 10_000.0)},))
    with notes() as server:
        lm = Endpoint(server.url, "m", prices=prices)
        [found] = lm.answer([ASKED])
        assert found.tokens_in == tokens.count(ASKED.system) + tokens.count(ASKED.user)
        assert found.tokens_out == tokens.count(GOOD)
        assert found.usd == lm.maximum(ASKED) > prices.tables[0]["m"].usd(found.tokens_in, found.tokens_out)


def test_without_the_official_client_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    lm = Endpoint("http://127.0.0.1:9/v1", "m")
    with pytest.raises(MissingExtra, match=r"penchant\[llm\]"):
        list(lm.answer([ASKED]))


ASKING = """
import sys
from penchant.lm import Request
from penchant.lm.endpoint import Endpoint
answers = Endpoint(sys.argv[1], "m", parallel=8, retries=3).answer(Request("", f"Question {n}") for n in range(10_000))
try:
    for number, reply in enumerate(answers):
        print(reply.status, flush=True)
        if number == 3 and sys.argv[2] != "interrupt":
            break
except KeyboardInterrupt:
    print("interrupted", flush=True)
if sys.argv[2] == "close":
    answers.close()
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["close", "interrupt", "leave"])
def test_ending_in_the_middle_is_quiet(how: str) -> None:
    """Closed, interrupted by Ctrl-C, or left alone until Python ends: nothing is said about tasks or sockets."""
    with notes("slow") as server:
        command = [sys.executable, "-W", "error", "-c", ASKING, server.url, how]
        # Without a buffer of Python's own, which `communicate` would not look into.
        # It hears Ctrl-C even where the tests run in the background of a shell, which has it ignored.
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, bufsize=0, preexec_fn=heard)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ok\n"
        if how == "interrupt":
            process.send_signal(signal.SIGINT)
        said, noise = process.communicate(timeout=30)
        assert process.returncode == 0
        assert noise == b""
        assert said.splitlines()[-1] == (b"interrupted" if how == "interrupt" else b"ok")
        asked = len(server.headers)
        time.sleep(0.3)
        assert len(server.headers) == asked < 200


def test_settings_that_are_none() -> None:
    for wrong in ({"parallel": 0}, {"retries": -1}, {"timeout": 0.0}, {"context": 0}):
        with pytest.raises(PenchantError, match="Give"):
            Endpoint("http://host/v1", "m", **wrong)  # type: ignore[arg-type]


# --- places


def test_isolated_complaints_do_not_narrow_the_pool() -> None:
    """Fewer than one in ten of the last 64."""
    places = Places(64)
    for n in range(2000):
        places.told(n % 13 == 0)  # at most 5 of 64
        assert places.limit == 64


def test_many_complaints_narrow_it_once_a_round_and_it_comes_back() -> None:
    places = Places(20)
    places.told(True)
    assert places.limit == 20
    places.told(True)
    assert places.limit == 14
    for _ in range(19):  # what was in flight then
        places.told(True)
    assert places.limit == 14
    places.told(True)
    assert places.limit == 9
    for _ in range(500):
        places.told(True)
    assert places.limit == 1
    good, seen = 0, [1]
    while places.limit < 20:
        places.told(False)
        good += 1
        seen.append(places.limit)
    assert seen == sorted(seen)
    assert good < 300
