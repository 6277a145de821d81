"""The service killed at any moment: what it acknowledged is there once it is back, and nobody is left behind."""

from __future__ import annotations

import base64
import json
import random
import secrets
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
import serving
from postgres import Postgres, running
from serving import Reply, Server, drawn, lives, until

pytestmark = pytest.mark.long
ROUNDS, USER = 6, "visitor"
LOST = (OSError, HTTPException)  # no reply came, so nothing was promised


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serving.trained(tmp_path_factory)


@pytest.fixture(scope="module")
def database() -> Iterator[Callable[[], Postgres]]:
    with running() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a new state; "" for a file beside the run."""
    if request.param == "sqlite":
        return ""
    one: Callable[[], Postgres] = request.getfixturevalue("database")
    return one().make(f"d{secrets.token_hex(4)}")


@dataclass
class Promises:
    """What the server has said yes to, over all its lives. tried: deletions sent, of which some may have happened."""

    events: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    put: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    wrong: list[Reply] = field(default_factory=list)

    def post(self, server: Server, key: str, review: str) -> None:
        """One choice under an idempotency key, which its review tells again."""
        self.unsure[key] = review
        told = server.ask("POST", "/events", event(review), {"Idempotency-Key": key}, timeout=10)
        if told.status == 200:
            self.events[key] = self.unsure.pop(key)
        else:
            self.wrong.append(told)

    def busy(self, server: Server, stop: threading.Event, round_: int) -> list[threading.Thread]:
        """Three that go on until the server is gone."""
        picture = base64.b64encode(drawn("JPEG")).decode()

        def choosing(number: int) -> None:
            self.post(server, f"key-{round_}-{number}", f"review-{round_}-{number}")

        def putting(number: int) -> None:
            name = f"new-{round_}-{number}"
            told = server.ask("PUT", f"/items/{name}", {"title": name, "picture": picture}, timeout=10)
            self.put.add(name) if told.status == 200 else self.wrong.append(told)

        def deleting(number: int) -> None:
            left = sorted(name for name in self.put - self.tried if not name.endswith("-0"))  # those stay
            if number % 2 and left:
                name = left[0]
            elif number < 14:
                name = f"p{round_ * 7 + number // 2 + 1:04d}"
            else:
                time.sleep(0.01)
                return
            self.tried.add(name)
            told = server.ask("DELETE", f"/items/{name}", timeout=10)
            if told.status == 200:
                self.deleted.add(name)
            elif told.status != 404:  # it was deleted before the last kill, and nobody heard
                self.wrong.append(told)

        def again(one: Any) -> None:
            with suppress(*LOST):
                for number in range(100_000):
                    if stop.is_set():
                        return
                    one(number)

        threads = [threading.Thread(target=again, args=(one,)) for one in (choosing, putting, deleting)]
        for thread in threads:
            thread.start()
        return threads

    def check(self, server: Server) -> None:
        assert not self.wrong, self.wrong[:3]
        for key, review in list(self.unsure.items()):
            self.post(server, key, review)  # kept already or not: it has to count once
        for key, review in list(self.events.items())[-20:]:
            told = server.ask("POST", "/events", event(review), {"Idempotency-Key": key})
            assert told.json == {"accepted": 0, "repeated": True}
        assert not self.unsure
        kept = Counter(past["review"] for past in history(server) if past["live"])
        newest = list(self.events.values())
        assert set(kept) <= set(newest)
        assert len(kept) == min(len(newest), 500)  # as many as are shown
        assert set(kept.values()) == {1}
        for name in self.put:
            there = server.ask("GET", f"/items/{name}").json
            assert not there["deleted"] or name in self.tried
        shown = set(server.listed(k=1_000, chosen=True)) | set(server.listed(k=1_000, user="s00001", chosen=True))
        assert not shown & self.deleted
        assert self.put - self.tried <= shown
        assert all(server.ask("GET", f"/items/{name}").json["deleted"] for name in self.deleted)


def event(review: str, item: str = "p0000") -> dict[str, object]:
    return {"events": [{"user": USER, "item": item, "review": review}]}


def history(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get(f"/users/{USER}")["history"]
    return found


def test_what_was_acknowledged_outlives_every_kill(made: Path, tmp_path: Path, url: str) -> None:
    rng, said, key = random.Random(4), Promises(), ""
    for round_ in range(ROUNDS):
        with serving.serving(made, tmp_path, key=key, url=url) as server:
            key = server.key
            said.check(server) if round_ else None
            stop = threading.Event()
            threads = said.busy(server, stop, round_)
            time.sleep(rng.uniform(0.4, 1.5))
            children = server.children()
            server.kill()
            stop.set()
            for thread in threads:
                thread.join(30)
            assert children
            until(lambda: not any(map(lives, children)), 3, "a child outlived its server")  # noqa: B023
    with serving.serving(made, tmp_path, key=key, url=url) as server:
        said.check(server)
    assert len(said.events) > 2 * ROUNDS
    assert len(said.put) > ROUNDS
    assert len(said.deleted) > ROUNDS
    assert any(name.startswith("new") for name in said.deleted)
    assert said.put - said.tried


def test_reloads_lose_no_new_item_and_leave_no_process(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path) as server:
        before, picture, told = len(server.children()), base64.b64encode(drawn("JPEG")).decode(), []
        stop = threading.Event()

        def putting(name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                told.append(server.ask("PUT", f"/items/{name}-{number}", {"title": name, "picture": picture}).status)

        threads = [threading.Thread(target=putting, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for _ in range(5):
            time.sleep(0.3)
            assert server.ask("POST", "/reload").status == 200
        stop.set()
        for thread in threads:
            thread.join(60)
        assert set(told) == {200}
        assert len(server.listed(k=1_000)) == len(server.listed(k=1_000, chosen=True)) == 48 + len(told)
        time.sleep(1)
        assert len(server.children()) <= before, "reloads leave encoders behind"


def test_a_second_server_on_one_state_ends_with_one_clear_message(made: Path, tmp_path: Path, url: str) -> None:
    with serving.serving(made, tmp_path, warm=False, url=url) as server:
        command = serving.command(made, tmp_path / serving.RUN, server.state)
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, env=serving.environment())
        assert second.returncode == 2, second
        said = second.stdout + second.stderr
        assert "another server uses" in said
        assert url or str(server.process.pid) in said
        assert "s3cret" not in said
        assert "Traceback" not in said
        assert len(said.strip().splitlines()) <= 3
        assert server.ask("POST", "/events", event("first goes on")).status == 200
    with serving.serving(made, tmp_path, key=server.key, warm=False, url=url) as server:  # a killed one's hold is gone
        assert [past["review"] for past in history(server)] == ["first goes on"]


def test_a_database_that_stops_refuses_writes_until_it_is_back(
    made: Path, tmp_path: Path, database: Callable[[], Postgres]
) -> None:
    there = database()
    with serving.serving(made, tmp_path, warm=False, url=there.make(f"d{secrets.token_hex(4)}")) as server:
        before = server.listed(user="s00001")
        assert server.ask("POST", "/events", event("before")).status == 200
        there.stop("immediate")
        try:
            refused = server.ask("POST", "/events", event("refused"), {"Idempotency-Key": "k"})
            assert (refused.status, refused.json["error"]["code"]) == (503, "no_database")
            assert server.ask("DELETE", f"/items/{before[0]}").status == 503
            assert server.listed(user="s00001") == before
            until(lambda: server.ask("GET", "/ready").status == 503, 15, "/ready never told")
            assert "s3cret" not in json.dumps(server.ask("GET", "/ready").json) + server.said()
        finally:
            there.start()
        until(lambda: server.ask("GET", "/ready").status == 200, 30, "/ready never came back")
        assert [past["review"] for past in history(server)] == ["before"]
        again = server.ask("POST", "/events", event("refused"), {"Idempotency-Key": "k"})
        assert again.json == {"accepted": 1, "repeated": False}
        assert server.listed(user="s00001") == before


def test_a_locked_database_refuses_writes_and_not_reads(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path, warm=False) as server:
        before = server.listed(user="s00001")
        lock = sqlite3.connect(server.state, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        told: list[Reply] = []
        priced = {"title": "refused", "numbers": {"price": 123_456}}
        writing = [
            threading.Thread(target=lambda: told.append(server.ask("POST", "/events", event("refused")))),
            threading.Thread(target=lambda: told.append(server.ask("PUT", "/items/p0002", priced))),
            threading.Thread(target=lambda: told.append(server.ask("DELETE", "/items/p0001"))),
        ]
        for thread in writing:
            thread.start()
        reads = 0
        while any(thread.is_alive() for thread in writing):
            began = time.monotonic()
            assert server.listed(user="s00001") == before
            assert server.get("/health") == {"status": "ok"}
            assert time.monotonic() - began < 2
            reads += 1
        assert reads > 10
        assert [one.status for one in told] == [503, 503, 503]
        assert all(one.headers["retry-after"] and one.json["error"]["code"] == "no_database" for one in told)
        until(lambda: server.ask("GET", "/ready").status == 503, 15, "/ready never told")
        lock.execute("ROLLBACK")
        lock.close()
        until(lambda: server.ask("GET", "/ready").status == 200, 15, "/ready never came back")
        assert history(server) == []
        assert server.listed(filters={"price": 123_456}) == [], "what was refused was taken in"
        assert server.ask("POST", "/events", event("later")).json == {"accepted": 1, "repeated": False}
        assert [past["review"] for past in history(server)] == ["later"]
        assert server.listed(user="s00001") == before
