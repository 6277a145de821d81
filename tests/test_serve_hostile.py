"""The service among strangers: 2,000 hostile requests, all of its OpenAPI by schemathesis, and what its security promises."""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("fastapi")
import serving
from serving import Server, drawn, head, located, png

from penchant.serve.guard import HEADERS

pytestmark = pytest.mark.long
TOTAL, GROWTH = 2_000, 150_000_000
TELLTALE = re.compile(rb'Traceback|File "|site-packages|/serve/\w+\.py|root:x?:0|sqlite3\.|\[boot loader\]')
TRIPS = b"Exif\0\0MM\0*" + struct.pack(">IHHHIIHHIII", 8, 2, 0x112, 3, 1, 6 << 16, 0xA005, 1, 1, 1, 0)
"""Turned, and with an entry that Pillow reads but can't write again."""
WRONG = [
    'null true -1 0 1.5 1e999 -1e999 NaN Infinity 1e308 99999999999999999999999999 "" " " "\\u0000" "\\ud800" "\\udc00x"',
    '"\\u202egnp.exe" "😀👨\u200d👩" "\'; DROP TABLE events; --" "\\"%s%n$(id)`id`{{7*7}}" "../../../../etc/passwd"',
    '"file:///etc/passwd" "http://127.0.0.1:1/x" "<script>alert(1)</script>" [] [[]] [null] ["a",1] {} {"a":{}} {"__class__":"x"}',
]
FIELDS = {
    "POST /recommend": 'user history k exclude filters diversity per_category chosen seed why {"filters":{"price":%s}} '
    '{"filters":{"price":{"min":%s}}} {"filters":{"in_stock":[%s]}} {"filters":{"title":%s}} {"history":[%s]} {"user":"s00001","k":%s}',
    "POST /events": 'events {"events":[%s]} {"events":[{"user":%s,"item":"p0001"}]} {"events":[{"user":"x","item":%s}]} '
    '{"events":[{"user":"x","item":"p0001","at":%s}]} {"events":[{"user":"x","item":"p0001","review":%s}]}',
    "POST /why": 'history item {"history":["p0001"],"item":%s} {"history":[%s],"item":"p0001"} {"history":%s,"item":"p0001"}',
    "PUT /items/h%d": 'title picture {"title":%s,"picture":"P"} {"title":"a","description":%s,"picture":"P"} '
    '{"title":"a","fields":{"x":%s},"picture":"P"} {"title":"a","numbers":{"price":%s},"picture":"P"} {"title":"a","picture":%s}',
}
TRICKS = [
    "..",
    "../..",
    "../../../../etc/passwd",
    "%2e%2e",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2F..%2F..%2Fetc%2Fpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cwindows%5cwin.ini",
    "%00",
    "a%00.jpg",
    "%0d%0aSet-Cookie:%20a=b",
    "%2F",
    "%2Fetc%2Fpasswd",
    "//etc/passwd",
    "//",
    ".",
    "./.",
    "%20",
    "%ff",
    "%c0%ae%c0%ae",
    "%ed%a0%80",
    "%F0%9F%98%80",
    "%E2%80%AEgpj",
    "';DROP%20TABLE%20items;--",
    "1%20OR%201=1",
    "file:///etc/passwd",
    "~root",
    "$HOME",
    "con",
    "*?",
    "%s%n",
    "{id}",
    "index.html/..",
    "__init__.py",
    "..%2Fapp.py",
    "..%2Fstate.sqlite",
    "state.sqlite",
    "recipe.lock.toml",
    "%3Cscript%3E",
    "a;b=c",
    "a/picture",
    "a/similar/picture",
    "/picture",
]
QUERIES = [
    "search=%s",
    "k=%s",
    "k=1&k=%s",
    "offset=%s",
    "prefix=%s",
    "user=%s&item=p0001",
    "user=s00001&item=%s",
    "size=%s",
    "by=%s",
    "%s=%s",
]
METHODS = ["GET", "PUT", "DELETE", "POST", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO", "get", "PROPFIND"]
HEADS = [
    *(f"Host: {host}" for host in ("evil.example", "127.0.0.1.evil.example", "", "a@127.0.0.1", "[::1", "\x7f", "é", "x" * 9_000)),
    *("Range: bytes=0-9999999999", "Range: bytes=-1,0-,9-2", "Expect: 100-continue", "Expect: lots", "X: " + "a" * 60_000),
    *("Authorization: Bearer", "Authorization: Bearer \xff\xfe", "Authorization: Basic eDp5", "Authorization: " + "B" * 9_999),
    *("Origin: null", "Origin: http://evil.example", "X-Forwarded-Host: evil", "X-Forwarded-For: 1.2.3.4", "X-Http-Method-Override: PUT"),
    *("Upgrade: websocket\r\nConnection: Upgrade", "Upgrade: h2c", "Accept: \xff", "Cookie: " + "a=b;" * 2_000, "Content-Encoding: gzip"),
    *("Idempotency-Key: " + "k" * 999, "Idempotency-Key: ", "Idempotency-Key: \xff", "If-None-Match: *", "Transfer-Encoding: gzip"),
    *("Content-Length: -1", "Content-Length: 1e3", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 99999999999999999999999"),
    *("Content-Length: 4\r\nTransfer-Encoding: chunked", "X : y", " folded: x", ": empty", "X\0: y", "X: a\0b", "X: a\rb"),
    *(f"Content-Type: {kind}" for kind in ("text/xml", "multipart/form-data", "application/json; charset=utf-7", "\xff", "*/*")),
]  # fmt: skip
GARBAGE = [
    *(b"\0" * 999, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"r" * 400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"EHLO me\r\n"),
    *(b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\n\n", b" GET / HTTP/1.1\r\n\r\n"),
    *(b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"G" * 70_000, b"{}" * 99, b"GET http:// HTTP/1.1\r\n\r\n"),
    *(line + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" for line in (b"OPTIONS *", b"CONNECT a:1", b"GET *", b"GET ?", b"GET #")),
    *(b"GET http://evil.example/users/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n"),
]  # fmt: skip
BODIES = [
    *(b"", b"\xff\xfe\x00", b"{", b'{"k":1', b'{"k":1}x', b"[" * 90_000, b'{"a":' * 90_000, b'{"k":1,"k":"x"}', b"\xef\xbb\xbf{}", b"nul"),
    *('{"k":2}'.encode("utf-32"), b'{"user":"\xed\xa0\x80"}', b'{"user":"\xc3("}', b"k=1&user=x", b"<?xml version='1.0'?><!DOCTYPE a>"),
    *(b'{"k":' + b"1" * 5_000 + b"}", b'{"k":1e' + b"9" * 99 + b"}", b" " * 999_000, b'"' + b"a" * 990_000 + b'"', b"a" * 1_500_000),
    *(zlib.compress(b"{}"), b"\x1f\x8b\x08\x00", b"cos\nsystem\n(S'id'\ntR.", b"!!python/object/apply:os.system ['id']"),
]  # fmt: skip


def pictures(rng: random.Random) -> list[bytes]:
    """Broken, cut, huge, disguised, and 150 with a few bytes changed."""
    good = [drawn("JPEG", exif=located(6)), drawn("PNG", exif=located(6)), drawn("WEBP"), drawn("GIF", 1)]
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script><image href="file:///etc/passwd"/></svg>'
    bombs = [
        png(50_000, 50_000),
        png(2**31 - 1, 1),
        png(0, 0),
        png(6_000, 6_000),
        png(9, 9, (b"zTXt", b"a\0\0" + zlib.compress(b"a" * 9_000_000))),
    ]
    odd = [
        b"",
        b"just text",
        svg,
        b"%PDF-1.4",
        b"GIF89a",
        b"BM" + b"\0" * 60,
        drawn("TIFF"),
        drawn("BMP"),
        b"%!PS\n(/etc/passwd) run",
    ]
    polyglots = [
        drawn("GIF", 1) + b"<script>1</script>",
        good[0] + b"PK\3\4" + b"\0" * 50,
        b"<?php ?>" + good[1],
        good[0][:2] + good[1],
    ]
    cut = [one[: len(one) * part // 4] for one in good for part in (1, 2, 3)]
    changed = []
    for _ in range(150):
        raw = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 2, 5))):
            raw[rng.randrange(min(len(raw), 260))] = rng.choice((0, 255, rng.randrange(256)))
        changed.append(bytes(raw))
    return [*good, *bombs, *odd, *polyglots, *cut, *changed, drawn("JPEG", exif=TRIPS)]


def hostile(seed: int, key: str) -> list[tuple[str, bytes]]:
    """TOTAL of them, with what each is about; the same for a seed, but for the key."""
    rng, small = random.Random(seed), base64.b64encode(drawn("JPEG")).decode()
    values = [
        *itertools.chain(*(json_values(line) for line in WRONG)),
        "1" * 400,
        "[" * 3_000 + "]" * 3_000,
        json.dumps("a" * 30_000),
    ]
    made: dict[str, list[bytes]] = {
        "fields": [],
        "paths": [],
        "pictures": [],
        "heads": [],
        "bodies": [],
        "queries": [],
        "http": [],
    }
    for (route, fields), value in itertools.product(FIELDS.items(), values):
        method, _, path = route.partition(" ")
        for form in shaped(fields):
            body = form.replace("%s", value).replace('"P"', f'"{small}"').encode("utf-8", "surrogatepass")
            made["fields"].append(head(method, path.replace("%d", str(rng.randrange(40))), body=body, key=key))
    for before, trick, after in itertools.product(
        ("/", "/items/", "/users/"), TRICKS, ("", "/picture", "/similar", "?k=1")
    ):
        method = rng.choice(METHODS[: 4 if rng.random() < 0.7 else None])
        body = b'{"title":"t"}' if method == "PUT" else b""
        made["paths"].append(head(method, before + trick + after, body=body, key=rng.choice((key, ""))))
    made["paths"] += [
        head(method, path, key=key)
        for method, path in itertools.product(METHODS, ("/recommend", "/events", "/why", "/metrics"))
    ]
    made["paths"] += [
        head("GET", f"/{kind}/" + "a" * n) for kind in ("items", "users") for n in (512, 513, 9_000, 60_000)
    ]
    for number, raw in enumerate(pictures(rng)):
        body = json.dumps({"title": "<img src=x onerror=alert(1)>", "picture": base64.b64encode(raw).decode()}).encode()
        made["pictures"].append(head("PUT", f"/items/pic{number % 20}", body=body, key=key))
    for text in ("!!!", "data:,x", "data:image/png;base64,", "/etc/passwd", "=" * 99, "A" * 5, "A" * 10_900_000):
        made["pictures"].append(
            head("PUT", "/items/text", body=json.dumps({"title": "a", "picture": text}).encode(), key=key)
        )
    for line, (method, path, body) in itertools.product(
        HEADS, (("GET", "/about", b""), ("POST", "/recommend", b'{"k":1}'), ("POST", "/events", b"{}"))
    ):
        made["heads"].append(head(method, path, line, body=body, key=key if rng.random() < 0.5 else ""))
    for body, path in itertools.product(BODIES, ("/recommend", "/events", "/why", "/nowhere")):
        made["bodies"].append(head("POST", path, body=body, key=key))
        chunks = (
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if rng.random() < 0.5 else b"zz\r\n" + body + b"\r\n-1\r\n\r\n"
        )
        made["bodies"].append(head("POST", path, "Transfer-Encoding: chunked", body=chunks, key=key))
    made["bodies"] += [head("POST", "/reload", body=body, key=key) for body in BODIES[:2]]  # each makes new encoders
    made["bodies"] += [
        head("PUT", "/items/a", "Content-Length: 12000001", key=key),
        head("POST", "/why", "Content-Length: 1000001"),
    ]
    places = (
        "/items",
        "/users",
        "/why",
        "/items/p0001/similar",
        "/items/p0001/picture",
        "/recommend",
        "/openapi.json",
        "/",
    )
    for place, query, value in itertools.product(
        places, QUERIES, ("-1", "1e9", "NaN", "%00", "%ff", "%F0%9F%98%80", "a" * 3_000, "..%2F", "'--", "%ed%a0%80")
    ):
        made["queries"].append(head("GET", f"{place}?{query.replace('%s', value)}", version=rng.choice(("1.1", "1.0"))))
    made["http"] += [*GARBAGE, *(rng.randbytes(rng.randrange(1, 3_000)) + b"\r\n\r\n" for _ in range(60))]
    several = head("GET", "/health").replace(b"Connection: close\r\n", b"")
    made["http"] += [several * n + head("GET", "/%2e%2e/x") for n in (1, 5, 50)]
    share = {
        "fields": 750,
        "paths": 420,
        "pictures": len(made["pictures"]),
        "heads": len(made["heads"]),
        "http": len(made["http"]),
        "bodies": 170,
    }
    share["queries"] = TOTAL - sum(share.values())
    chosen = [(about, raw) for about, n in share.items() for raw in rng.sample(made[about], n)]
    rng.shuffle(chosen)
    assert len(chosen) == TOTAL
    return chosen


def json_values(line: str) -> list[str]:
    """Those of a line, which may hold spaces within quotes."""
    return re.findall(r'"(?:[^"\\]|\\.)*"|[\[{][^ ]*|[^ ]+', line)


def shaped(fields: str) -> list[str]:
    return [field if "%s" in field else f'{{"{field}":%s}}' for field in fields.split(" ")]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serving.trained(tmp_path_factory)


@pytest.fixture(scope="module")
def server(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving.serving(made, tmp_path_factory.mktemp("hostile")) as running:
        yield running


def silent(server: Server, sent: bytes, then: bytes = b"") -> float:
    """Seconds until the server closes a connection on which only this comes, and `then` after a reply."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=45) as line:
        line.sendall(sent)
        if then:
            assert line.recv(9_999).startswith(b"HTTP/1.1 200")
            line.sendall(then)
        serving.read(line)
    return time.monotonic() - began


def dribbled(server: Server, body: bool) -> tuple[float, bytes]:
    """Seconds until the server had enough of a request that comes by one byte a second, and what it said."""
    began, sent = time.monotonic(), b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(sent + b"\r\n" * body)
        line.settimeout(1)
        while time.monotonic() - began < 40:
            try:
                return time.monotonic() - began, line.recv(9_999)
            except TimeoutError:
                line.send(b"a")
            except ConnectionResetError:
                return time.monotonic() - began, b""
    raise AssertionError("the server would have waited for ever")


def test_slow_and_silent_callers_are_let_go_and_keep_nobody_waiting(server: Server) -> None:
    whole = head("GET", "/health").replace(b"Connection: close\r\n", b"")
    with ThreadPoolExecutor(60) as pool:
        starts = [b""] * 50 + [
            b"\r\n\r\n",
            b"GET /hea",
            b"GET /health HTTP/1.1\r\nHost: local",
        ]
        waiting = [pool.submit(silent, server, start) for start in starts]
        second = pool.submit(silent, server, whole, b"GET /health HTTP/1.1\r\nHo")
        slow = [pool.submit(dribbled, server, body) for body in (True, True, False)]
        time.sleep(1)
        for _ in range(20):
            began = time.monotonic()
            assert server.get("/health") == {"status": "ok"}
            assert time.monotonic() - began < 2
        assert max(one.result(60) for one in waiting) < 25
        told = [one.result(60) for one in slow]
    assert all(seconds < 28 for seconds, _ in told)
    assert [said[:12] for _, said in told] == [b"HTTP/1.1 408", b"HTTP/1.1 408", b""]
    assert second.result(60) < 40  # a second head that never ends; TimeoutError if the server waits on


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_cut_off(server: Server, start: bytes) -> None:
    part = b"X: y\r\n" * 10_000 if start.endswith(b"\n") else b"a" * 60_000
    before = server.memory()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(start)
        cut = False
        for _ in range(200):
            try:
                line.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                cut = True
                break
        assert cut, "12 MB of a head were taken"
    assert server.memory() - before < 30_000_000


def test_2000_hostile_requests(server: Server) -> None:
    """Each gets a 4xx or a harmless answer; the server goes on as it was, and is no larger."""
    asked = {"user": "s00003", "k": 10}
    before, key, logged = server.listed(**asked), server.key, len(server.said())
    assert len(before) == 10
    memory, wrong, answers = server.memory(), list[tuple[str, object, bytes]](), Counter[int]()
    for about, sent in hostile(1, server.key):
        began = time.monotonic()
        try:
            said = server.raw(sent, 30)
        except TimeoutError:
            wrong.append((about, "no end", sent[:300]))
            continue
        first = re.match(rb"HTTP/1\.[01] (\d{3}) ", said)
        status = int(first[1]) if first else 0
        answers[status] += 1
        if status >= 500 or (status == 0 and about != "http") or TELLTALE.search(said.partition(b"\r\n\r\n")[2]):
            wrong.append((about, said[:300], sent[:300]))
        if time.monotonic() - began > 10:
            wrong.append((about, "slow", sent[:300]))
    assert not wrong, (len(wrong), answers, wrong[:20])
    assert answers[200] > 50  # harmless ones are there, too
    assert sum(answers[status] for status in (400, 401, 404, 405, 409, 413, 421, 422)) > 1_400, answers
    assert server.get("/health") == {"status": "ok"}
    after = [item for item in server.listed(**asked) if item in before]
    assert after
    assert after == before[: len(after)]
    assert server.memory() - memory < GROWTH
    written = server.said()[logged:]
    assert not re.search(r"Traceback| ERROR |DROP TABLE|onerror|/etc/passwd", written), written[-3_000:]
    assert key not in written


# what security promises


@pytest.fixture(scope="module")
def guarded(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """People need a key, and nobody may ask more than 40 times a second."""
    place = tmp_path_factory.mktemp("guarded")
    with serving.serving(made, place, "--people-need-key", "--rate", "40", warm=False) as running:
        yield running


def test_every_route_that_writes_needs_a_key_that_holds(server: Server) -> None:
    before, tried = server.listed(user="s00003"), 0
    for path, methods in server.get("/openapi.json")["paths"].items():
        for method in {"put", "delete", "post", "patch"} & set(methods):
            if path in ("/recommend", "/why"):
                continue  # which only read
            tried += 1
            for key in (None, "pk_wrong", server.key[:-1], server.key + "a", ""):
                given = {"Authorization": f"Bearer {key}"} if key is not None else {}
                told = server.ask(method.upper(), path.replace("{", "s00003").replace("}", ""), {}, given, key=None)
                assert told.status == 401, (method, path, key)
                assert told.json["error"]["code"] in ("no_key", "bad_key")
                assert told.headers["www-authenticate"] == "Bearer"
    assert tried >= 5
    assert server.listed(user="s00003") == before


def test_a_key_is_kept_as_a_hash_and_revoked_while_the_server_runs(server: Server, made: Path) -> None:
    from penchant.serve.state import State

    number, key = serving.made_key(server.state, "leaves")
    asked = {"events": [{"user": "keyed", "item": "p0001"}]}
    serving.until(lambda: server.ask("POST", "/events", asked, key=key).status == 200, 3, "a new key never held")
    with State.open(str(server.state), hold=False) as held:
        assert held.revoke(number)
    serving.until(lambda: server.ask("POST", "/events", asked, key=key).status == 401, 3, "a revoked key held on")
    assert server.ask("POST", "/events", asked).status == 200  # the other one holds
    files = list(server.state.parent.glob("state.sqlite*"))
    assert len(files) >= 2
    for file in files:
        assert key.removeprefix("pk_").encode() not in file.read_bytes()
        assert server.key.removeprefix("pk_").encode() not in file.read_bytes()


def test_security_headers_are_on_every_reply_and_cors_on_none(server: Server) -> None:
    found = [
        server.ask("GET", path) for path in ("/", "/health", "/openapi.json", "/items?k=1", "/metrics", "/users/nobody")
    ]
    found += [
        server.ask("GET", "/nowhere"),
        server.ask("PATCH", "/recommend"),
        server.ask("PUT", "/items/a", {}, key=None),
    ]
    found += [server.ask("POST", "/recommend", b"{"), server.ask("GET", "/health", headers={"Host": "evil.example"})]
    found += [
        server.ask("POST", "/events", b"a" * 1_000_001),
        server.ask("GET", "/items/nothing"),
        server.ask("GET", "/recommend/"),
    ]
    origin = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    found += [server.ask("OPTIONS", "/items/p0001", headers=origin), server.ask("GET", "/about", headers=origin)]
    assert {one.status for one in found} >= {200, 401, 404, 405, 413, 421, 422}
    for one in found:
        for name, value in HEADERS:
            assert one.headers[name.decode()] == value.decode(), one
        assert not [name for name in one.headers if name.startswith("access-control")]
        assert not {"server", "x-powered-by"} & set(one.headers)
    raw = server.raw(b"this is no HTTP\r\n\r\n")
    assert b"nosniff" in raw, raw


def test_a_wrong_host_is_not_answered(server: Server) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.", "0.0.0.0", ""):
        assert server.ask("GET", "/about", headers={"Host": host}).status == 421, host
    for host in ("localhost", "127.0.0.1:1", f"LOCALHOST:{server.port}", "[::1]:80", "[::1]"):
        assert server.ask("GET", "/about", headers={"Host": host}).status == 200, host


def test_what_is_known_of_people_needs_a_key_where_told(guarded: Server) -> None:
    secret = {"chosen": True}, {"why": True}
    assert guarded.ask("POST", "/events", {"events": [{"user": "s00001", "item": "p0001"}]}).status == 200
    for path in ("/users", "/users/s00001", "/users?prefix=s", "/why?user=s00001&item=p0001", "/users/x/", "/why/"):
        assert guarded.ask("GET", path, key=None).status == 401, path
        assert guarded.ask("GET", path).status in (200, 307), path
    assert guarded.ask("POST", "/why", {"history": [], "item": "p0001"}, key=None).status == 401
    for more in secret:
        assert guarded.ask("POST", "/recommend", {"user": "s00001", **more}, key=None).status == 401
        assert guarded.ask("POST", "/recommend", {"user": "s00001", **more}).status == 200
        assert guarded.ask("POST", "/recommend", {"history": ["p0001"], **more}, key=None).status == 200
    assert (
        guarded.ask("POST", "/recommend", {"user": "s00001"}, key=None).status == 401
    )  # the rest of the catalogue tells it


def test_who_asks_too_often_is_told_so(guarded: Server) -> None:
    time.sleep(1.1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: guarded.ask("GET", "/about", key=None), range(200)))
    counted = Counter(one.status for one in found)
    assert set(counted) == {200, 429}
    assert counted[200] >= 40
    assert next(one for one in found if one.status == 429).headers["retry-after"] == "1"
    assert guarded.ask("GET", "/about").status == 200  # a key has a measure of its own
    time.sleep(1.1)
    assert guarded.ask("GET", "/about", key=None).status == 200


def test_nothing_of_a_picture_but_its_pixels_is_kept(server: Server) -> None:
    raw = drawn("JPEG", 64, exif=located(6), comment=b"at home")
    assert b"SecretCamera" in raw
    assert b"at home" in raw
    picture = base64.b64encode(raw).decode()
    assert server.ask("PUT", "/items/located", {"title": "a", "picture": picture}).status == 200
    for size in (64, 4_000):
        told = server.ask("GET", f"/items/located/picture?size={size}")
        assert told.status == 200
        assert told.headers["content-type"] == "image/jpeg"
        assert not re.search(rb"Exif|SecretCamera|at home", told.body)
        assert not Image.open(io.BytesIO(told.body)).getexif()
    for file in server.state.parent.glob("state.sqlite*"):
        assert b"SecretCamera" not in file.read_bytes()


def test_script_in_a_title_comes_back_as_text(server: Server) -> None:
    title, picture = "<script>alert(1)</script>é", base64.b64encode(drawn("PNG", 40)).decode()
    assert server.ask("PUT", "/items/<b>x", b"{}").status == 422
    assert server.ask("PUT", "/items/%3Cb%3Ex", {"title": title, "picture": picture}).status == 200
    for path in ("/items/%3Cb%3Ex", "/items?search=alert", "/items/%3Cb%3Ex/similar", "/why?user=s00001&item=%3Cb%3Ex"):
        told = server.ask("GET", path)
        assert told.headers["content-type"] == "application/json"
        assert told.headers["x-content-type-options"] == "nosniff"
        assert "similar" in path or title in json.dumps(told.json, ensure_ascii=False)


def test_logs_name_nobody_and_repeat_nothing(server: Server) -> None:
    names = [f"{kind}-n4m3d" for kind in ("user", "item", "review", "search", "once")]
    user, item, review, search, once = names
    one = {"user": user, "item": "p0001", "review": review}
    assert server.ask("POST", "/events", {"events": [one]}, {"Idempotency-Key": once}).status == 200
    server.ask("POST", "/events", {"events": [one, one]}, {"Idempotency-Key": once})
    server.ask("POST", "/events", {"events": [{**one, "item": item}]})
    server.ask(
        "PUT", f"/items/{item}", {"title": search, "picture": base64.b64encode(drawn("JPEG", exif=TRIPS)).decode()}
    )
    server.ask("PUT", f"/items/{item}", {"title": search, "numbers": {"price": 10**400}})
    for path in (
        f"/users/{user}",
        f"/items/{item}",
        f"/items?search={search}",
        f"/why?user={user}&item={item}",
        "/nowhere/" + user,
    ):
        server.ask("GET", path)
    server.ask("GET", f"/users/{user}", key=user)
    server.raw(f"GET /users/{user} HTTP/9\r\nHost: {item}\r\n\r\n".encode())
    assert server.ask("DELETE", f"/users/{user}").status == 200
    said = server.said()
    assert said
    assert not [name for name in (*names, server.key, server.key[3:]) if name in said], said[-2_000:]


def test_schemathesis_finds_nothing(server: Server) -> None:
    """All of the OpenAPI, nothing left out. It deletes items and people, so it comes last."""
    pytest.importorskip("schemathesis")
    place = f"{server.address}/openapi.json"
    checks = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance"
    limits = [
        "--max-examples",
        "30",
        "--seed",
        "1",
        "--phases",
        "examples,coverage,fuzzing",
        "--generation-database",
        "none",
    ]
    run = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        place,
        "-H",
        f"Authorization: Bearer {server.key}",
        "--checks",
        checks,
    ]
    quiet = [
        "--suppress-health-check",
        "all",
        "--no-color",
        "--warnings",
        "off",
        "--continue-on-failure",
        "--request-timeout",
        "20",
        "--no-shrink",
    ]
    found = subprocess.run([*run, *limits, *quiet], capture_output=True, text=True, cwd=server.log.parent, timeout=400)
    assert found.returncode == 0, found.stdout[-9_000:] + found.stderr[-2_000:]
    tested = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", found.stdout)
    routes = sum(len(methods) for methods in server.get("/openapi.json")["paths"].values())
    assert tested is not None, found.stdout[-3_000:]
    assert [int(number) for number in tested.groups()] == [routes] * 3
    assert server.get("/health") == {"status": "ok"}
