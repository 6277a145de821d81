"""Whether the service stands half an hour of everything at once, with and without being killed.

    python benchmarks/serve_soak.py [--minutes 30] [--kills | --no-kills] [--state URL] [--out runs/serve-soak] [--json]

Four threads at once: lists for known people and strangers with random filters and exclusions; choices with idempotency keys (a
request without an answer is sent again with its key); new and changed items with pictures, and deletions; a reload every twenty
seconds. --kills: `kill -9` at a random moment of every minute, and a start right after.
The catalogue turns over: NEW items beside those of training, and as many put as deleted once they are there. Choices only grow.

Checked all the time: no deleted or excluded item in any list, no chosen item in that person's list, no reply of 5xx but while it is being started again.
Checked after every start and at the end, against what was acknowledged: every choice, each once and in its order; every item with its
last title; every deletion. Without kills also: memory, the mean of the last third within 5 % of the second's.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from serve_load import shop

NEW = 100  # items beside those of training


class Down(Exception):
    """No answer: the server is being started again."""


class World:
    """What was acknowledged, by thread-safe steps, and what must therefore be so."""

    def __init__(self, items: list[str], users: list[str]) -> None:
        self.lock = threading.Lock()
        self.items, self.users = items, users
        self.choices: dict[str, list[str]] = {}
        self.titles: dict[str, str] = {}
        self.gone: set[str] = set()  # acknowledged deletions
        self.unsure: set[str] = set()  # items with a request in the air
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def told(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)
        print("WRONG", what, flush=True)


class Served:
    """A server that can be killed and started again; a client that knows when it is down."""

    def __init__(self, run: Path, state: str) -> None:
        self.run, self.state, self.port, self.key = run, state, 0, ""
        self.process: subprocess.Popen[str] | None = None
        self.up = threading.Event()

    def start(self) -> None:
        words = ["penchant", "serve", str(self.run), "--port", str(self.port), "--state", self.state]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://[^:]+:(\d+)/", line):
                self.port = int(found[1])
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        while self.process.poll() is None:
            with suppress(Down):
                if self.once("GET", "/ready")[0] == 200:
                    break
            time.sleep(0.05)
        self.up.set()

    def kill(self) -> None:
        assert self.process is not None
        self.up.clear()
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def once(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = {"content-type": "application/json", "authorization": f"Bearer {self.key}", **headers}
            line.request(method, path, None if body is None else json.dumps(body), sent)
            reply = line.getresponse()
            return reply.status, json.loads(reply.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError):
            raise Down from None
        finally:
            line.close()

    def memory(self) -> float:
        """MB resident."""
        assert self.process is not None
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


def lists(server: Served, world: World, dice: random.Random) -> None:
    user = dice.choice(world.users)
    with world.lock:
        gone = world.gone - world.unsure  # and below only those that are so still
        mine = set(world.choices.get(user, ())) if user.startswith("soak") else set()
    excluded = dice.sample(world.items, 3)
    asked: dict[str, object] = {"user": user, "k": 20, "exclude": excluded}
    if dice.random() < 0.2:
        asked = {"history": dice.sample(world.items, 3), "k": 20, "exclude": excluded}
        mine = set()
    if dice.random() < 0.3:
        asked["filters"] = {"price": {"max": dice.uniform(5, 90)}}
    if dice.random() < 0.1:
        asked |= {"diversity": 0.4, "why": True, "k": 5}
    status, found = server.once("POST", "/recommend", asked)
    if status == 404:
        return  # an item of the history is of a deleted, added one
    if status != 200:
        world.told(f"{status} for a list: {found}")
        return
    shown = {item["item_id"] for item in found["items"]}
    with world.lock:
        gone &= world.gone - world.unsure
    for name, bad in (("deleted", gone), ("excluded", set(excluded)), ("chosen", mine)):
        if shown & bad:
            world.told(f"{name} items in a list: {sorted(shown & bad)[:3]}")
    world.counts["lists"] += 1


def choose(server: Served, world: World, dice: random.Random, number: int) -> None:
    user, item = f"soak{dice.randrange(400)}", dice.choice(world.items)
    body = {"events": [{"user": user, "item": item, "at": 1.7e9 + number}]}
    while True:  # until it is answered: with its key it counts once
        with suppress(Down):
            status, found = server.once("POST", "/events", body, **{"idempotency-key": f"n{number}"})
            if status == 200:
                with world.lock:
                    world.choices.setdefault(user, []).append(item)
                world.counts["choices"] += 1
                return
            if status < 500:
                world.told(f"{status} for a choice: {found}")
                return
            if server.up.is_set() and status != 503:
                world.told(f"{status} for a choice: {found}")
        server.up.wait(60)


def stock(server: Served, world: World, dice: random.Random, number: int, pictures: list[str]) -> None:
    """Puts an item, changes one, or deletes one. A shop has NEW of them at a time: what it holds in memory is of as many items at the
    end as in the middle, so that what grows nevertheless is a leak."""
    with world.lock:
        there = sorted(world.titles)
    full = len(there) >= NEW
    delete = dice.random() < (0.8 if full else 0.2)
    again = bool(there) and (delete or full or dice.random() < 0.3)
    key = dice.choice(there) if again else f"new/{number}"
    title = f"Soaked tent {number}, waterproof"
    with world.lock:
        world.unsure.add(key)
    try:
        path = f"/items/{quote(key, safe='')}"
        body = {
            "title": title,
            "categories": "Camping, tents",
            "numbers": {"price": 20.0},
            "picture": dice.choice(pictures),
        }
        status, found = server.once("DELETE", path) if delete else server.once("PUT", path, body)
        if status >= 500 or (status != 200 and not delete) or status not in (200, 404):
            world.told(f"{status} for an item: {found}")
        with world.lock:
            if status == 200 and delete:
                world.gone.add(key)
                world.titles.pop(key, None)
            elif status == 200:
                world.titles[key] = title
                world.gone.discard(key)
            world.unsure.discard(key)
        world.counts["deletions" if delete else "items"] += status == 200
    except Down:  # nobody knows: its state is asked for before anything is claimed of it
        server.up.wait(60)
        with suppress(Down):
            status, found = server.once("GET", path)
            with world.lock:
                world.unsure.discard(key)
                if status == 404 or found.get("deleted"):
                    world.titles.pop(key, None)
                    if found.get("deleted"):
                        world.gone.add(key)
                else:
                    world.titles[key] = found["title"]
                    world.gone.discard(key)


def check(server: Served, world: World) -> None:
    """Everything acknowledged, against what the server says."""
    with world.lock:
        choices = {user: list(items) for user, items in world.choices.items()}
        titles, gone, unsure = dict(world.titles), set(world.gone), set(world.unsure)
    for user, items in choices.items():
        status, found = server.once("GET", f"/users/{user}")
        kept = [past["item_id"] for past in found.get("history", ())]
        with world.lock:  # more may have been acknowledged since, and one be in the air
            more = Counter(kept) - Counter(world.choices[user])
        order = iter(kept)
        if status != 200 or not all(item in order for item in items) or more.total() > 1:
            world.told(f"{user} chose {len(items)} and {len(kept)} are kept")
    for key, title in titles.items():
        status, found = server.once("GET", f"/items/{quote(key, safe='')}")
        with world.lock:  # it may have been deleted since the list was made
            still = world.titles.get(key) == title and key not in world.unsure and key not in unsure
        if still and (status != 200 or found.get("deleted") or found["title"] != title):
            world.told(f"{key} ({title}) was acknowledged, and is not there so: {found.get('title')}")
    status, found = server.once("POST", "/recommend", {"user": "x", "k": 1_000})
    shown = {item["item_id"] for item in found["items"]}
    with world.lock:
        gone &= world.gone - world.unsure
    if shown & (gone - unsure):
        world.told(f"deleted items in a list: {sorted(shown & gone)[:3]}")
    world.counts["checks"] += 1


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=30.0)
    words.add_argument("--kills", action=argparse.BooleanOptionalAction, default=True)
    words.add_argument("--state", default="")
    words.add_argument("--out", type=Path, default=Path("runs/serve-soak"))
    words.add_argument("--json", action="store_true")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    from penchant import runs
    from penchant.serve.keys import made
    from penchant.serve.state import State

    run = shop(given.out)
    url = given.state or str(given.out / f"soak-{os.getpid()}.sqlite")
    server = Served(run, url)
    with State.open(url, hold=False) as state:
        server.key = made(state, "soak")[1]
    rec = runs.read(run).recommender
    world = World(list(rec.items.keys), [*rec.users.keys[:2_000], *(f"soak{n}" for n in range(400))])
    pictures = []
    for n in range(20):
        raw = io.BytesIO()
        Image.new("RGB", (200, 200), (n * 12, 255 - n * 12, 90)).save(raw, "JPEG")
        pictures.append(base64.b64encode(raw.getvalue()).decode())
    server.start()
    while server.once("GET", "/ready")[1]["warming"]:
        time.sleep(0.2)
    stop = threading.Event()
    memory: list[tuple[float, float]] = []
    began = time.monotonic()

    def loop(seed: int, step: object, pause: float) -> None:
        dice, number = random.Random(seed), 0
        while not stop.is_set():
            server.up.wait(60)
            with suppress(Down):
                step(server, world, dice, number)  # type: ignore[operator]
            number += 1
            stop.wait(dice.expovariate(1 / pause))

    def reload(server: Served, world: World, dice: random.Random, number: int) -> None:
        status, found = server.once("POST", "/reload", {})
        if status != 200:
            world.told(f"{status} for a reload: {found}")
        world.counts["reloads"] += 1

    steps = (
        (lambda s, w, d, n: lists(s, w, d), 0.02),
        (choose, 0.05),
        (lambda s, w, d, n: stock(s, w, d, n, pictures), 0.5),
        (reload, 20.0),
    )
    threads = [
        threading.Thread(target=loop, args=(n, step, pause), daemon=True) for n, (step, pause) in enumerate(steps)
    ]
    for thread in threads:
        thread.start()
    dice = random.Random(99)
    minute = 0
    while time.monotonic() - began < given.minutes * 60:
        minute += 1
        due, kill = began + minute * 60, time.monotonic() + dice.uniform(1, 50)
        while time.monotonic() < min(due, began + given.minutes * 60):
            if given.kills and time.monotonic() >= kill:
                server.kill()
                world.counts["kills"] += 1
                server.start()
                check(server, world)
                kill = float("inf")
            memory.append((time.monotonic() - began, server.memory()))
            time.sleep(1)
        if not given.json:
            print(
                f"minute {minute}: {dict(world.counts)}, {memory[-1][1]:.0f} MB, wrong {len(world.wrong)}", flush=True
            )
    stop.set()
    for thread in threads:
        thread.join(70)
    check(server, world)
    server.end()
    third = given.minutes * 60 / 3
    means = [statistics.mean(mb for at, mb in memory if part * third <= at < (part + 1) * third) for part in range(3)]
    found = {
        "minutes": given.minutes,
        **dict(world.counts),
        "wrong": len(world.wrong),
        "MB in each third": [round(mean, 1) for mean in means],
        "last third over the second": round(means[2] / means[1], 3),
    }
    print(json.dumps(found, indent=None if given.json else 1))
    grown = not given.kills and means[2] / means[1] > 1.05
    sys.exit(1 if world.wrong or grown else 0)


if __name__ == "__main__":
    main()
