"""Connections: replies of HTTP/1.1 in any pieces, cut anywhere, broken in any way; kept open, closed, encrypted.

The twin of the reader is h11, which the official client would read with.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import NoEndpoint
from penchant.lm import Request
from penchant.lm.connections import MOST_BODY, BadReply, Reader
from penchant.lm.endpoint import Endpoint

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

BODY = b'{"choices": [{"message": {"content": "warm"}, "finish_reason": "stop"}]}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
QUESTIONS = [Request("", f"Question {n}") for n in range(10)]


def read(raw: bytes, cuts: tuple[int, ...] = ()) -> Reader | None:
    """The reply, read in these pieces, the connection closed at the end; None where it was not whole."""
    reader = Reader()
    places = (0, *sorted(cuts), len(raw))
    whole = any(reader.feed(raw[start:stop]) for start, stop in pairwise(places))
    return reader if whole or reader.end() else None


# --- what is a reply


@pytest.mark.parametrize(
    ("raw", "status", "body", "keep"),
    [
        (PLAIN, 200, BODY, True),
        (PLAIN.replace(b"1.1", b"1.0"), 200, BODY, False),
        (PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive, Close\r\n\r\n"), 200, BODY, False),
        (PLAIN.replace(b"\r\n", b"\n"), 200, BODY, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + PLAIN, 200, BODY, True),
        (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", 429, b"", True),
        (b"HTTP/1.1 204\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, 200, BODY, False),
        (PLAIN + b"HTTP/1.1 200 OK", 200, BODY, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nwar\r\n1;x=y\r\nm\r\n0\r\n\r\n", 200, b"warm", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA \r\n0123456789\r\n00\r\nX: y\r\n\r\n", 200, b"0123456789", True),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 9\n\n4\nwarm\n0\n\n", 200, b"warm", True),
    ],
)  # fmt: skip
def test_replies_and_whether_the_connection_stays(raw: bytes, status: int, body: bytes, keep: bool) -> None:
    reader = read(raw)
    assert reader is not None
    assert (reader.status, bytes(reader.body), reader.keep) == (status, body, keep)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\nwarm",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nwarm",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwarm\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwarm\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nwarm\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\nwarm",
    ],
)
def test_what_is_no_reply(raw: bytes) -> None:
    with pytest.raises(BadReply):
        read(raw)


@given(raw=st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"HTTP/1.1 200 OK\r\n" + b))
def test_no_bytes_at_all_make_it_fail_otherwise(raw: bytes) -> None:
    with suppress(BadReply):
        read(raw)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a head without end": lambda: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000,
    "a long first line": lambda: b"HTTP/1.1 200 " + b" " * 1_000_000,
    "a header of spaces": lambda: b"HTTP/1.1 200 OK\r\nA:" + b" " * 60_000 + b"x" + b" " * 4000 + b"y\x00\r\n\r\n",
    "a chunk size without end": lambda: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000,
    "a trailer without end": lambda: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 50_000
    ),
    "a body without end": lambda: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MOST_BODY + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_are_refused_in_little_time_and_memory(name: str) -> None:
    raw = HOSTILE[name]()
    began = time.perf_counter()
    with pytest.raises(BadReply):
        read(raw, tuple(range(0, len(raw), 65_536)))
    assert time.perf_counter() - began < 1.0


# --- twins


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Server", b"x-request-id", b"Retry-After", b"Date"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map(str.encode),
    ),
    max_size=4,
)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """A reply of HTTP/1.1 with a length, in chunks, or until the end of the connection."""
    body = draw(st.binary(max_size=80))
    lines = [b"HTTP/1.1 %d Reason" % draw(st.sampled_from([200, 201, 400, 404, 429, 503]))]
    lines += [b"%s: %s" % header for header in draw(HEADERS)]
    how = draw(st.sampled_from(["length", "chunks", "end"]))
    if how == "length":
        lines.append(b"Content-Length: %d" % len(body))
    if how == "chunks":
        lines.append(b"Transfer-Encoding: chunked")
        cuts = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=4))})
        parts = [body[start:stop] for start, stop in pairwise(cuts)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    early = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return early + b"\r\n".join(lines) + b"\r\n\r\n" + body


def twin(raw: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    connection.receive_data(b"")
    status, headers, body = 0, [], b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status, headers = event.status_code, [(bytes(k), bytes(v)) for k, v in event.headers]
        if isinstance(event, h11.Data):
            body += bytes(event.data)
    return status, headers, body


@settings(max_examples=50)
@given(raw=replies(), data=st.data())
def test_any_reply_in_any_pieces_is_what_h11_reads(raw: bytes, data: st.DataObject) -> None:
    cuts = tuple(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    status, headers, body = twin(raw)
    for pieces in ((), cuts, tuple(range(len(raw)))):
        reader = read(raw, pieces)
        assert reader is not None
        assert (reader.status, bytes(reader.body)) == (status, body)
        assert [(name.lower(), value) for name, value in reader.headers] == headers


@given(raw=replies(), data=st.data())
def test_a_reply_that_is_cut_is_none(raw: bytes, data: st.DataObject) -> None:
    """Save for one that lasts until the connection ends, of which nobody can tell."""
    head = raw.rindex(b"\r\n\r\n") if b"chunked" not in raw else len(raw) - 4
    if b"Content-Length" in raw or b"chunked" in raw:
        cut = data.draw(st.integers(0, len(raw) - 1))
    else:
        cut = data.draw(st.integers(0, max(0, min(head, raw.index(b"\r\n\r\n")))))
    assert read(raw[:cut]) is None


# --- on real sockets


@contextmanager
def listening(
    serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[int]]]:
    """A port where each connection is handed to `serve`, and the list of connections so far."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen: list[int] = []

        def handle(connection: socket.socket) -> None:
            try:
                with tls.wrap_socket(connection, server_side=True) if tls else connection as wire:
                    serve(wire)
            except OSError:
                pass

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                seen.append(1)
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], seen


def request(wire: socket.socket) -> bytes:
    """The next request; b"" at the end."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = wire.recv(65_536)
        if not piece:
            return b""
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += wire.recv(65_536)
    return head + b"\r\n\r\n" + body


def always(raw: bytes, times: int = 10**9) -> Callable[[socket.socket], None]:
    """Answers with this, so many times on each connection."""

    def serve(wire: socket.socket) -> None:
        for _ in range(times):
            if not request(wire):
                return
            wire.sendall(raw)

    return serve


def asked(port: int, **more: object) -> list[str]:
    lm = Endpoint(f"http://127.0.0.1:{port}/v1", "m", parallel=1, backoff=0.01, **more)  # type: ignore[arg-type]
    return [reply.status for reply in lm.answer(QUESTIONS)]


@pytest.mark.parametrize(
    ("serve", "connections"),
    [
        (always(PLAIN), 1),
        (always(PLAIN, times=3), 4),  # closes without a word
        (always(PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), 10),
        (always(b"HTTP/1.1 200 OK\r\n\r\n" + BODY, times=1), 10),
        (always(PLAIN + b"and more"), 10),
    ],
    ids=["kept", "closed now and then", "closed as said", "until the end", "more than asked for"],
)
def test_connections_are_kept_where_they_can_be(serve: Callable[[socket.socket], None], connections: int) -> None:
    with listening(serve) as (port, seen):
        assert asked(port) == ["ok"] * 10
        assert len(seen) == connections


def test_one_connection_a_question_in_flight() -> None:
    def serve(wire: socket.socket) -> None:
        while request(wire):
            time.sleep(0.05)
            wire.sendall(PLAIN)

    with listening(serve) as (port, seen):
        lm = Endpoint(f"http://127.0.0.1:{port}/v1", "m", parallel=4)
        assert [reply.status for reply in lm.answer(QUESTIONS * 2)] == ["ok"] * 20
        assert len(seen) == 4


def test_a_connection_that_was_left_alone_is_not_trusted() -> None:
    """The caller takes his time; meanwhile the server hangs up. No question is lost on the old connection."""

    def serve(wire: socket.socket) -> None:
        wire.settimeout(0.5)
        always(PLAIN)(wire)

    with listening(serve) as (port, seen):
        replies = Endpoint(f"http://127.0.0.1:{port}/v1", "m", parallel=1, retries=0).answer(QUESTIONS[:2])
        assert next(replies).status == "ok"
        time.sleep(1.7)
        assert next(replies).status == "ok"
        assert len(seen) == 2


@pytest.mark.parametrize(
    "raw",
    [b"", PLAIN[:30], PLAIN[:-5], b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwa"],
)
def test_half_a_reply_is_a_failure_that_may_have_cost_something(raw: bytes) -> None:
    with listening(always(raw, times=1)) as (port, seen):
        lm = Endpoint(f"http://127.0.0.1:{port}/v1", "m", parallel=1, retries=2, backoff=0.01)
        [reply] = lm.answer(QUESTIONS[:1])
        assert (reply.status, reply.attempts) == ("failed", 3)
        assert reply.tokens_in == 3 * 3, "'Question 0' was sent, and read, for all we know"
        assert len(seen) == 3


def test_what_is_said_is_said_whole_however_long_it_is() -> None:
    said: list[int] = []

    def serve(wire: socket.socket) -> None:
        while raw := request(wire):
            said.append(len(raw))
            wire.sendall(PLAIN)

    with listening(serve) as (port, _):
        [reply] = Endpoint(f"http://127.0.0.1:{port}/v1", "m").answer([Request("", "x" * 5_000_000)])
        assert reply.status == "ok"
        assert said[0] > 5_000_000


ASKING = """
import sys
from penchant.lm import Request
from penchant.lm.endpoint import Endpoint
print([r.status for r in Endpoint(sys.argv[1], "m", retries=0).answer([Request("", "x")] * 3)])
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_encrypted_and_only_with_whom_it_is_meant_for(tmp_path: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with listening(always(PLAIN), tls) as (port, _):
        with pytest.raises(NoEndpoint, match=r"(?i)certificate"):
            list(Endpoint(f"https://localhost:{port}/v1", "m", retries=0).answer(QUESTIONS[:1]))
        environment = {"SSL_CERT_FILE": str(tmp_path / "cert.pem"), "PATH": ""}
        for host, expected in (("localhost", "['ok', 'ok', 'ok']"), ("127.0.0.1", "certificate")):
            asking = [sys.executable, "-c", ASKING, f"https://{host}:{port}/v1"]
            done = subprocess.run(asking, capture_output=True, text=True, env=environment, check=False)
            assert expected in done.stdout + done.stderr


def test_a_proxy_of_the_environment_is_used_for_others_and_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []

    def proxy(wire: socket.socket) -> None:
        while raw := request(wire):
            heads.append(raw.split(b"\r\n")[0])
            wire.sendall(PLAIN)

    with listening(proxy) as (port, _), listening(always(PLAIN)) as (own, _):
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        [reply] = Endpoint("http://model.example/v1", "m", retries=0).answer(QUESTIONS[:1])
        assert reply.status == "ok"
        assert heads == [b"POST http://model.example/v1/chat/completions HTTP/1.1"]
        assert asked(own) == ["ok"] * 10
        assert len(heads) == 1
        monkeypatch.setenv("no_proxy", "model.example")
        with pytest.raises(NoEndpoint):
            list(Endpoint("http://model.example/v1", "m", retries=0).answer(QUESTIONS[:1]))
        assert len(heads) == 1


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "xn--a.example"])
def test_names_of_nobody(host: str) -> None:
    with pytest.raises(NoEndpoint, match="nobody answers at"):
        list(Endpoint(f"http://{host}:9/v1", "m", retries=0).answer(QUESTIONS[:1]))
