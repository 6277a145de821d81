"""Interrupted enrichments: kill -9 again and again, Ctrl-C, a full disk, two at once. No reply that was kept is asked
for again, and the texts come out as if nothing had been."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import pytest
from loopback import Server, question_name, serve

from penchant import folder, shop
from penchant.store import Store

CALLS, PARALLEL = 2000, 16


def command(data: Path, server: Server, store: Path) -> list[str]:
    """The command line as a user types it."""
    lm = ["--lm", f"{server.url}#stub", "--parallel", str(PARALLEL), "--limit", str(CALLS)]
    split = ["--split", "leave_last_out", "--store", str(store), "--json"]
    return [sys.executable, "-m", "penchant", "enrich", str(data), "user_preference", *lm, *split]


def committed(store: Path) -> set[str]:
    """The questions that the store holds an answer to, as the server's log calls them; read from the file itself."""
    with tempfile.TemporaryDirectory() as folder:  # a copy: who opens the database tidies it up, which is not our part
        for file in store.glob("store.sqlite*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, folder)
        db = sqlite3.connect(Path(folder) / "store.sqlite")
        there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone()
        rows = db.execute("SELECT request FROM calls WHERE status = 'ok'").fetchall() if there else []
        db.close()
    return {question_name(json.loads(zlib.decompress(request))["user"]) for (request,) in rows}


def finished(line: list[str]) -> dict[str, object]:
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_kills_lose_nothing_and_repeat_only_what_was_in_flight(tmp_path: Path, slow: bool) -> None:
    kills = 30 if slow else 8
    data, store = tmp_path / "data", tmp_path / "store"
    folder.write(shop.make(pictures=False, seed=0).dataset, data)
    rng = random.Random(20)
    moments = sorted(rng.randrange(CALLS - 60) for _ in range(kills))
    with serve(latency=0.08) as server:
        kept: list[tuple[set[str], int]] = []  # after each kill: what was committed, and how long the log was
        for moment in moments:
            process = subprocess.Popen(command(data, server, store), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            deadline = time.monotonic() + 60
            while (
                Path(server.plan.log).read_bytes().count(b'"sent"') < moment
                and process.poll() is None
                and time.monotonic() < deadline
            ):
                time.sleep(0.003)
            time.sleep(rng.random() * 0.16)
            process.kill()
            said = process.communicate()[1]
            assert process.returncode == -9, f"it ended by itself: {said.decode()}"
            time.sleep(0.1)  # the server reads what was sent before the kill
            asked = server.log("asked")
            before, length = kept[-1] if kept else (set(), 0)
            now = committed(store)
            assert before <= now
            open_ones = {line.question for line in asked[length:]} - now
            assert len(open_ones) <= PARALLEL, "what a kill may cost"
            kept.append((now, len(asked)))
        assert len(kept[-1][0]) > CALLS * 0.8, "the kills were spread over the whole run"
        found = finished(command(data, server, store))
        asked = server.log("asked")
        for (before, length), (_, end) in zip(kept, [*kept[1:], (set(), len(asked))], strict=True):
            again = [line.question for line in asked[length:end] if line.question in before]
            assert not again, "a reply that was kept is never asked for again"
        different = {line.question for line in asked}
        assert committed(store) == different
        assert kills < len(asked) - len(different) <= PARALLEL * kills, "kills fell upon calls in flight"
    with serve() as server:
        undisturbed = finished(command(data, server, tmp_path / "other"))
        assert {line.question for line in server.log("asked")} == different
        assert len(server.log("asked")) == len(different)
    first, second = Store(store), Store(tmp_path / "other")
    one, other = first.load_texts(str(found["ref"])), second.load_texts(str(undisturbed["ref"]))
    assert one.values == other.values
    assert sum(value is not None for value in one.values) == CALLS
    files = [
        place.path.joinpath(str(ref), "texts.parquet")
        for place, ref in ((first, found["ref"]), (second, undisturbed["ref"]))
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 shoppers."""
    data = tmp_path_factory.mktemp("small") / "data"
    folder.write(shop.make(products=40, shoppers=200, choices=6.0, pictures=False, seed=0).dataset, data)
    return data


def wait_for(server: Server, sent: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.log("sent")) < sent:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.long
def test_ctrl_c_ends_it_soon_and_keeps_what_came(small: Path, tmp_path: Path) -> None:
    with serve(latency=0.2) as server:
        process = subprocess.Popen(command(small, server, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(server, 40)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=10)[1].decode()
        assert process.returncode not in (0, -9)
        assert "Traceback" not in said
        asked = len(server.log("asked"))
        kept = committed(tmp_path)
        assert len({line.question for line in server.log("sent")} - kept) <= PARALLEL
        done = finished(command(small, server, tmp_path))
        assert done["answered"] == 200
        assert done["cached"] == len(kept) >= 24
        assert not kept & {line.question for line in server.log("asked")[asked:]}


@pytest.mark.long
def test_a_full_disk_stops_the_run_before_another_call_is_paid(small: Path, tmp_path: Path) -> None:
    """The system lets no file grow beyond 400 kB, which some forty replies fill."""

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    with serve(latency=0.05) as server:
        line = command(small, server, tmp_path)
        done = subprocess.run(line, capture_output=True, text=True, check=False, preexec_fn=little_room, timeout=60)
        assert done.returncode == 2, done.stderr
        assert "--store" in done.stderr
        assert "Traceback" not in done.stderr
        kept, asked = committed(tmp_path), len(server.log("asked"))
        assert 5 < len(kept) < 150
        assert asked <= len(kept) + 2 * PARALLEL
        assert finished(line)["answered"] == 200
        assert not kept & {line.question for line in server.log("asked")[asked:]}


@pytest.mark.long
def test_a_store_that_cannot_be_written_asks_nothing(small: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file stands where the store should be")
    with serve() as server:
        done = subprocess.run(command(small, server, tmp_path / "taken"), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "--store" in done.stderr
        assert server.log() == []


@pytest.mark.long
def test_two_at_once_share_a_store(small: Path, tmp_path: Path) -> None:
    with serve(latency=0.05) as server:
        both = [
            subprocess.Popen(
                command(small, server, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        said = [process.communicate(timeout=120) for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        found = [json.loads(out) for out, _ in said]
        assert found[0]["ref"] == found[1]["ref"]
        assert len(committed(tmp_path)) == 200
        with Store(tmp_path).calls() as calls:
            assert len(calls) == 200
        before = len(server.log("asked"))
        assert before == 200  # neither asked what the other was asking
        assert finished(command(small, server, tmp_path))["ref"] == found[0]["ref"]
        assert len(server.log("asked")) == before
