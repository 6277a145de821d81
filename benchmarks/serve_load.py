"""How fast the service answers: an open loop of requests from a second process, and what else a shop waits for.

    python benchmarks/serve_load.py [--only load million put export start] [--seconds 30] [--out runs/serve-load] [--json]

load     20,000 people, 7,000 items, 64 dimensions; POST /recommend k = 20 for random known people at 1,000 requests a second.
million  a BPR that was trained on a million items: exact, and with the index; recall@20 of the index against exact lists.
put      PUT /items with a title, a description and a picture on the built-in shop (MiniLM and the descriptor of pictures), one after
         the other, once warm; and whether the third click of somebody new changes her list.
export   top 20 of 20,000 people as parquet, after loading.
start    from starting the process to a /ready of 200: models without torch, and with it.

Open loop: each request has a moment at which it is to be sent, whatever came back before; its latency counts from that moment, so
waiting behind others is part of it (no coordinated omission). Replies have titles and scores. One worker process.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import io
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

RATE = 1_000
PARTS = ("load", "million", "put", "export", "start")


def saved(folder: Path, people: int, items: int, dim: int = 64, seed: int = 0) -> Path:
    """A run folder of a model of factors, as training would leave one, with titles; made once."""

    from penchant.data import Ids, Queries
    from penchant.model import Recommender
    from penchant.scorers import Factors

    if (folder / "items.parquet").exists():
        return folder
    rng = np.random.default_rng(seed)
    user, item = rng.normal(size=(people, dim)).astype(np.float32), rng.normal(size=(items, dim)).astype(np.float32)
    users, goods = Ids("user", tuple(f"u{n}" for n in range(people))), Ids("item", tuple(f"i{n}" for n in range(items)))
    known = Queries.of(np.arange(people), rng.integers(0, items, (people, 12)).tolist())
    Recommender("bpr", {}, users, goods, Factors(user, item, np.zeros(items, np.float32), item), known).save(
        folder / "model"
    )
    _titled(folder, goods.keys)
    return folder


def learned(folder: Path, people: int = 50_000, items: int = 1_000_000, choices: int = 40, dim: int = 64) -> Path:
    """A BPR of a shop of a million items, each in one of 5,000 tastes of which a person has four; made once."""
    from penchant.data import Ids, Interactions
    from penchant.models import Bpr
    from penchant.training import Training

    if (folder / "items.parquet").exists():
        return folder
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 5_000, items)
    order, starts = np.argsort(taste, kind="stable"), np.searchsorted(np.sort(taste), np.arange(5_001))
    own = rng.integers(0, 5_000, (people, 4))
    wanted = own[np.arange(people)[:, None], rng.integers(0, 4, (people, choices))]
    place = starts[wanted] + (rng.random(wanted.shape) ** 2 * (starts[wanted + 1] - starts[wanted])).astype(np.int64)
    pairs = np.unique(np.stack([np.repeat(np.arange(people), choices), order[place].reshape(-1)], axis=1), axis=0)
    users, goods = Ids("user", tuple(f"u{n}" for n in range(people))), Ids("item", tuple(f"i{n}" for n in range(items)))
    train = Interactions(users, goods, pairs[:, 0], pairs[:, 1])
    rec = Bpr(dim=dim).fit(train, training=Training(epochs=15, batch_size=16_384, learning_rate=5e-3))
    rec.save(folder / "model")
    _titled(folder, goods.keys)
    return folder


def _titled(folder: Path, keys: tuple[str, ...]) -> None:
    import polars as pl

    titles = [f"A thing of some use, number {key}" for key in keys]
    pl.DataFrame({"item_id": keys, "title": titles}).write_parquet(folder / "items.parquet")


@contextmanager
def server(run: Path, *options: str, threads: int = 1) -> Iterator[tuple[int, float]]:
    """Port, and seconds from the start of the process to /ready."""
    state = run / "bench.sqlite"
    for file in run.glob("bench.sqlite*"):
        file.unlink()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "penchant", "serve", str(run), "--port", "0", "--state", str(state), *options],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        },
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r"http://[^:]+:(\d+)/", line)))
        while _status(port) != 200:
            time.sleep(0.01)
        yield port, time.perf_counter() - began
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _status(port: int) -> int:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        line.request("GET", "/ready")
        return line.getresponse().status
    except OSError:
        return 0
    finally:
        line.close()


def generate(port: int, rate: float, seconds: float, people: int, seed: int, out: multiprocessing.Queue) -> None:
    """The second process: latencies in ms from the intended moments, and how many replies were no lists of 20."""
    import uvloop

    out.put(uvloop.run(_generate(port, rate, seconds, people, seed)))


async def _generate(port: int, rate: float, seconds: float, people: int, seed: int) -> tuple[list[float], int]:
    rng = np.random.default_rng(seed)
    count = int(rate * seconds)
    due = np.arange(count) / rate
    users = rng.integers(0, people, count).tolist()
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(64):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latency, wrong = [0.0] * count, 0
    begin = time.perf_counter() + 0.5

    async def one(n: int) -> None:
        nonlocal wrong
        reader, writer = await free.get()
        body = b'{"user":"u%d","k":20}' % users[n]
        writer.write(
            b"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        reply = await reader.readexactly(size)
        latency[n] = (time.perf_counter() - begin - due[n]) * 1e3
        wrong += (
            not head.startswith(b"HTTP/1.1 200") or reply.count(b'"item_id"') != 20 or b'"personal":true' not in reply
        )
        free.put_nowait((reader, writer))

    tasks = []
    for n in range(count):
        wait = begin + due[n] - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(n)))
    for task in tasks:  # gathering thousands at once would keep the last replies waiting here
        await task
    return latency, wrong


def loaded(port: int, rate: float, seconds: float, people: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue = context.Queue()
    for part, length in ((0, 2.0), (1, seconds)):  # the first warms up and is thrown away
        process = context.Process(target=generate, args=(port, rate, length, people, part, out))
        process.start()
        latency, wrong = out.get()
        process.join()
    sent = np.array(latency)
    return {
        "requests a second": rate,
        "requests": len(sent),
        "wrong": wrong,
        **{f"p{p:g} ms": round(float(np.percentile(sent, p)), 2) for p in (50, 95, 99, 99.9)},
        "max ms": round(float(sent.max()), 2),
    }


def load(out: Path, seconds: float) -> dict[str, object]:
    with server(saved(out / "factors", 20_000, 7_000)) as (port, _):
        return dict(loaded(port, RATE, seconds, 20_000))


def million(out: Path, seconds: float) -> dict[str, object]:
    run = learned(out / "million")
    found: dict[str, object] = {}
    lists = {}
    for name, options in (("exact", ("--index-from", "10000000")), ("index", ("--index-from", "1000"))):
        with server(run, *options, threads=2) as (port, ready):
            found[name] = {"ready s": round(ready, 1), **loaded(port, 10, seconds, 50_000)}
            lists[name] = [_list(port, f"u{n}") for n in range(0, 50_000, 250)]
    hits = sum(len(set(a) & set(b)) for a, b in zip(lists["exact"], lists["index"], strict=True))
    return {**found, "recall@20 of the index": hits / (20 * len(lists["exact"]))}


def _list(port: int, user: str) -> list[str]:
    return [item["item_id"] for item in asked(port, "POST", "/recommend", {"user": user, "k": 20})[1]["items"]]


def asked(port: int, method: str, path: str, body: object = None, key: str = "") -> tuple[int, dict]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    line.request(method, path, json.dumps(body), {"content-type": "application/json", "authorization": f"Bearer {key}"})
    reply = line.getresponse()
    found = reply.status, json.loads(reply.read())
    line.close()
    return found


def put(out: Path, seconds: float) -> dict[str, object]:
    from PIL import Image

    from penchant.serve.keys import made
    from penchant.serve.state import State

    run = shop(out)
    rng = np.random.default_rng(0)
    times = []
    with server(run) as (port, _):
        with State.open(str(run / "bench.sqlite"), hold=False) as state:
            key = made(state, "bench")[1]
        time.sleep(3)
        while asked(port, "GET", "/ready")[1]["warming"]:
            time.sleep(0.1)
        for n in range(100):
            raw = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (500, 500, 3), np.uint8)).resize((500, 500)).save(raw, "JPEG")
            body = {
                "title": f"Canvas tent number {n} for {n % 5 + 1} people, with two rooms",
                "description": "Made of waxed cotton. Keeps dry in a long rain and packs into a bag that one can carry. "
                * 3,
                "categories": "Camping, tents",
                "picture": base64.b64encode(raw.getvalue()).decode(),
            }
            began = time.perf_counter()
            status, _ = asked(port, "PUT", f"/items/new-{n}", body, key)
            times.append((time.perf_counter() - began) * 1e3)
            assert status == 200
            listed = asked(port, "POST", "/recommend", {"history": [f"new-{max(n - 1, 0)}"], "k": 450})[1]["items"]
            assert n == 0 or f"new-{n}" in [item["item_id"] for item in listed]
        clicks = [item["item_id"] for item in asked(port, "GET", "/items?k=3")[1]["items"]]
        lists = []
        for click in clicks:
            asked(port, "POST", "/events", {"events": [{"user": "somebody new", "item": click}]}, key)
            lists.append(
                [i["item_id"] for i in asked(port, "POST", "/recommend", {"user": "somebody new"})[1]["items"]]
            )
    return {
        "items": len(times),
        "p50 ms": round(float(np.percentile(times, 50)), 1),
        "p95 ms": round(float(np.percentile(times, 95)), 1),
        "third click changes the list": lists[2] != lists[1],
    }


def shop(out: Path) -> Path:
    """weave on the built-in shop; trained once."""
    from penchant import recipe, run
    from penchant.store import Store

    folder = out / "shop"
    if not (folder / "report.json").exists():
        own = recipe.read(Path(__file__).parent.parent / "recipes" / "shop-weave.toml")
        run.run(own, folder, Store(out / "store"))
    return folder


def export(out: Path, seconds: float) -> dict[str, object]:
    run = saved(out / "factors", 20_000, 7_000)
    times = []
    for _ in range(3):
        words = [
            sys.executable,
            "-m",
            "penchant",
            "export",
            str(run),
            "--parquet",
            str(out / "lists.parquet"),
            "-k",
            "20",
            "--json",
        ]
        told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        times.append(told["seconds"])
    return {"people": told["people"], "rows": told["rows"], "seconds": sorted(times)}


def start(out: Path, seconds: float) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, run in (("without torch", saved(out / "factors", 20_000, 7_000)), ("takes new items", shop(out))):
        times = []
        for _ in range(3):
            with server(run) as (_, ready):
                times.append(round(ready, 2))
        found[f"{name}, s"] = sorted(times)
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    words.add_argument("--seconds", type=float, default=30.0)
    words.add_argument("--out", type=Path, default=Path("runs/serve-load"))
    words.add_argument("--json", action="store_true")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    found: dict[str, object] = {"machine": machine}
    for part in given.only:
        found[part] = globals()[part](given.out, given.seconds)
        if not given.json:
            print(part, json.dumps(found[part], indent=1), flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
