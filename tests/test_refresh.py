"""A run trained again with what its service has learned: nothing lost, nothing counted twice, nobody's folders removed."""

from __future__ import annotations

import fcntl
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import serving
import sqlalchemy as sql

from penchant import folder, runs
from penchant.errors import BadSetting, PenchantError
from penchant.refresh import refresh
from penchant.serve.forgotten import remains
from penchant.serve.newest import Newest
from penchant.serve.served import Served
from penchant.serve.service import Service
from penchant.serve.state import Event, Kept, State
from penchant.serve.wire import Choice
from penchant.store import Store

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serving.trained(tmp_path_factory)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return serving.copy(made, tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(str(tmp_path / "state.sqlite"))


def learned(run: Path, state: State) -> Path:
    return refresh(run, state, Store(run.parent / "store")).folder


def chose(served: Served, user: str) -> list[str]:
    return [choice.item_id for choice in served.people.choices(user)]


def test_only_what_refreshes_made_is_removed_and_the_one_before_stays(run: Path, state: State) -> None:
    for name in ("run-64", "run-2024", "run-7-data"):
        (run.parent / name).mkdir()
        (run.parent / name / "mine").touch()
    folders = []
    for n in range(3):
        state.add([Event("somebody", f"p000{n}", 1.7e9 + n)])
        folders.append(learned(run, state).name)
    assert all((run.parent / name / "mine").is_file() for name in ("run-64", "run-2024", "run-7-data"))
    assert folders == ["run-1", "run-2", "run-3"]
    assert [(run.parent / name).is_dir() for name in folders] == [False, True, True]
    assert not (run.parent / "run-1-data").exists()
    assert chose(Served.load(run, state), "somebody") == [
        "p0000",
        "p0001",
        "p0002",
    ]  # each once, whatever the split held out


def test_somebody_forgotten_is_out_and_back_with_what_she_chose_afterwards(run: Path, state: State) -> None:
    user = runs.read(run).recommender.users.keys[3]
    state.add([Event(user, "p0001", 1.7e9)])
    state.forget(user)
    state.add([Event(user, "p0005", 1.7e9), Event(user, "p0006", 1.7e9)])
    for _ in range(2):
        served = Served.load(run, state)
        assert sorted(chose(served, user)) == ["p0005", "p0006"]
        learned(run, state)
    assert sorted(chose(Served.load(run, state), user)) == ["p0005", "p0006"]
    state.forget(user)  # once more, after she was trained in again
    assert chose(Served.load(run, state), user) == []
    assert not Served.load(run, state).people.known(user)


def test_forgetting_takes_rows_out_of_every_table_and_names_what_stays(run: Path, state: State) -> None:
    user = runs.read(run).recommender.users.keys[5]
    learned(run, state)
    told = remains(run, Newest.of(run), user, True)
    for place in (run, run.parent / "run-1"):
        for name in ("top.parquet", "per_user.parquet"):
            assert not (pl.read_parquet(place / name)["user_id"] == user).any()
    assert any("run-1-data" in text for text in told)


def test_numbers_of_a_state_that_was_put_back_are_its_own(run: Path, state: State, tmp_path: Path) -> None:
    for n in range(5):
        state.add([Event("early", f"p000{n}", 1.7e9)])
    state.backup(tmp_path / "copy.sqlite")
    for n in range(5):
        state.add([Event("late", f"p001{n}", 1.7e9)])
    learned(run, state)
    with State.open(str(tmp_path / "other.sqlite")) as other:
        other.restore(tmp_path / "copy.sqlite")
        other.add([Event("after", "p0020", 1.7e9)])
        served = Served.load(run, other)
        assert chose(served, "after") == ["p0020"]
    with State.open(str(tmp_path / "fresh.sqlite")) as fresh:
        fresh.add([Event("first", "p0021", 1.7e9)])
        assert chose(Served.load(run, fresh), "first") == ["p0021"]


@pytest.mark.parametrize(
    "text", ["{", '{"folder": "run-9", "folded": 1, "state": "x", "made": []}', '{"folder": "../run"}', "[]"]
)
def test_a_pointer_that_leads_nowhere_leaves_the_run_as_it_was(run: Path, state: State, text: str) -> None:
    (run / "newer.json").write_text(text)
    assert Newest.of(run) == Newest(run)
    assert Served.load(run, state).folder == run


def test_changed_words_are_in_the_next_data_though_nobody_chose_anything(run: Path, state: State) -> None:
    learned(run, state)
    state.put(Kept("p0002", {"title": "Renamed"}, {}, None, {}))
    made = learned(run, state)
    data = folder.read(run.parent / f"{made.name}-data")
    assert data.catalog.title(data.catalog.items.rows_by_key["p0002"]) == "Renamed"
    assert Served.load(run, state).goods.title("p0002") == "Renamed"


def test_one_that_was_killed_is_gone_on_with_and_another_must_wait(run: Path, state: State) -> None:
    state.add([Event("x", "p0001", 1.7e9)])
    made = learned(run, state)
    # As a kill after training and before the pointer leaves it.
    plan = {"folder": made.name, "content": json.loads((run / "newer.json").read_text())["content"]}
    (run / "newer.json").unlink()
    (run / "refresh.json").write_text(json.dumps(plan))
    stamp = (made / "model" / "model.json").stat().st_mtime_ns
    assert learned(run, state) == made
    assert (made.parent / f"{made.name}-data").is_dir()
    assert not (run.parent / "run-2").exists()
    assert stamp <= (made / "model" / "model.json").stat().st_mtime_ns
    with (run / ".refresh.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BadSetting, match="another process refreshes"):
            learned(run, state)


@pytest.mark.parametrize("name", ["run.json", "recipe.lock.toml"])
@pytest.mark.parametrize("text", [b"{", b"", b"][", b"\xff\xfe\x00", b"7"])
def test_a_damaged_run_is_one_message(run: Path, state: State, name: str, text: bytes) -> None:
    (run / name).write_bytes(text)
    before = sorted(run.parent.iterdir())
    with pytest.raises(PenchantError, match=rf"{re.escape(name)} is damaged"):
        learned(run, state)
    assert sorted(run.parent.iterdir()) == before


@pytest.mark.parametrize("text", ["{", "{}", '{"folder": "../x", "content": ""}', "[]"])
def test_a_damaged_plan_is_none(run: Path, state: State, text: str) -> None:
    state.add([Event("x", "p0001", 1.7e9)])
    (run / "refresh.json").write_text(text)
    assert learned(run, state).name == "run-1"
    assert not (run / "refresh.json").exists()


def test_what_a_killed_refresh_left_is_told_and_removed(run: Path, state: State) -> None:
    state.add([Event("secret", "p0001", 1.7e9)])
    (run / "refresh.json").write_text(json.dumps({"folder": "run-1", "content": "other"}))
    for name in ("run-1-data", ".run-1-data.abc"):
        (run.parent / name).mkdir()
    assert any("run-1-data, .run-1-data.abc" in text for text in remains(run, Newest.of(run), "secret", False))
    assert learned(run, state).name == "run-1"
    assert not (run.parent / ".run-1-data.abc").exists()
    card = json.loads((run / "newer.json").read_text())
    (run.parent / "run-0-data").mkdir()  # as a kill before it was removed leaves it
    (run / "newer.json").write_text(json.dumps({**card, "made": [*card["made"], "run-0-data"]}))
    state.add([Event("secret", "p0002", 1.7e9)])
    learned(run, state)
    assert not (run.parent / "run-0-data").exists()
    assert "run-0-data" not in Newest.of(run).made


def test_the_order_that_is_served_is_the_order_that_is_trained(run: Path, state: State) -> None:
    wanted = ["p0004", "p0002", "p0009", "p0001", "p0007"]
    service = Service(run, state)
    service.add([Choice(user="x", item=key) for key in wanted[1:]], None)  # of one moment
    service.add([Choice(user="x", item=wanted[0], at=1e9)], None)
    assert chose(service.served, "x") == wanted
    service.close()
    data = folder.read(run.parent / f"{learned(run, state).name}-data")
    choices = data.interactions
    mine = [row for row in choices.order() if choices.user[row] == data.users.rows_by_key["x"]]
    assert [data.items.keys[item] for item in choices.item[mine]] == wanted


def test_what_is_read_of_the_state_does_not_grow_with_every_choice(run: Path, state: State) -> None:
    learned(run, state)
    counts = []
    for size in (10, 2_000):
        state.add([Event(f"u{n}", "p0001", 1.7e9 + n) for n in range(size)])
        asked: list[str] = []
        sql.event.listen(state._engine, "before_cursor_execute", lambda *given, asked=asked: asked.append(given[2]))
        Served.load(run, state)
        counts.append(len(asked))
    assert counts[1] <= counts[0] + 2, counts


def test_killed_at_any_moment_the_run_is_served_and_the_next_one_learns_all(run: Path, state: State) -> None:
    state.add([Event("x", f"p{n:04d}", 1.7e9 + n) for n in range(5)])
    state.close()
    where = run.parent / "state.sqlite"
    command = ["refresh", str(run), "--state", str(where), "--store", str(run.parent / "store"), "--json"]
    rng, killed = random.Random(8), 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "penchant", *command], stdout=subprocess.DEVNULL, env=serving.environment()
        )
        time.sleep(rng.uniform(0.8, 4.5))
        killed += process.poll() is None
        process.kill()
        process.wait()
        with State.open(str(where)) as held:
            served = Served.load(run, held)
            assert served.problem == ""
            assert sorted(chose(served, "x")) == [f"p{n:04d}" for n in range(5)]
    assert killed > 1
    with State.open(str(where)) as held:
        learned(run, held)
        served = Served.load(run, held)
        assert sorted(chose(served, "x")) == [f"p{n:04d}" for n in range(5)]
        assert len(served.people.trained("x")) == 4  # one is held out


def test_a_clock_that_jumps_changes_no_order_and_counts_nothing_twice(
    run: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(run, state)
    true = time.time
    for number, jump in enumerate((0, -86_400, 10 * 365 * 86_400, -40 * 365 * 86_400)):
        monkeypatch.setattr(time, "time", lambda jump=jump: true() + jump)
        assert service.add([Choice(user="x", item=f"p{number:04d}")], f"key-{number}")
        assert not service.add([Choice(user="x", item=f"p{number:04d}")], f"key-{number}")
    for served in (service.served, Served.load(run, state)):  # also after a restart: in the order they came
        assert chose(served, "x") == ["p0000", "p0001", "p0002", "p0003"]
    service.close()
