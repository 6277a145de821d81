"""How much of a language-model server's time reaches the reader, and what an answer that is kept costs.

    .venv/bin/python benchmarks/language_models.py [--only throughput overhead rerun] [--rounds 5] [--json]

throughput: 64 in flight at a server of ours that answers after 200 ms, as a share of the ideal (64 / 0.2 s a second).
overhead: milliseconds a call above a bare pool of the official client, as wide, against the same server in the same run,
in turn (A B A B), at no latency. rerun: 100,000 answers that the store holds, asked for again by a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from openai import AsyncOpenAI

from penchant import enrich, lm
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions
from penchant.lm import Request, wire_schema
from penchant.lm.endpoint import Endpoint
from penchant.lm.replies import Preference
from penchant.store import Store

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from loopback import WORDS, Server, serve

WIDTH = 64
SYSTEM = "You infer what somebody likes from the things that she or he chose, for a recommender."


def questions(first: int, n: int) -> Iterator[Request]:
    """About 1,500 bytes each, as user_preference asks them."""
    for number in range(first, first + n):
        rng = np.random.default_rng(number)
        lines = "\n".join(f"{k}. {' '.join(rng.choice(WORDS, 9))}" for k in range(1, 21))
        yield Request(
            SYSTEM, f"Somebody ({number}) chose these, oldest first:\n{lines}", (), Preference, max_tokens=400
        )


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of this process's own work: the second bears a busy machine better."""

    wall: float
    work: float


def timed(run: Callable[[], object]) -> Taken:
    wall, work = time.perf_counter(), time.process_time()
    run()
    return Taken(time.perf_counter() - wall, time.process_time() - work)


def ours(server: Server, requests: list[Request]) -> None:
    replies = list(Endpoint(server.url, "m", parallel=WIDTH).answer(requests))
    assert all(reply.status == "ok" for reply in replies)


def bare(server: Server, requests: list[Request]) -> None:
    """A pool of workers that take the next question from one iterator and look at nothing."""
    schema = {"name": "answer", "schema": wire_schema(Preference), "strict": True}
    waiting = iter(requests)

    async def work(client: AsyncOpenAI) -> None:
        for request in waiting:
            await client.chat.completions.create(
                model="m",
                messages=[{"role": "system", "content": request.system}, {"role": "user", "content": request.user}],
                response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[arg-type,misc]
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                seed=request.seed,
            )

    async def pool() -> None:
        async with AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            await asyncio.gather(*(work(client) for _ in range(WIDTH)))

    asyncio.run(pool())


def throughput(rounds: int) -> dict[str, float]:
    """Whole runs of 64 x 100 calls, from the first line to the last, start-up included."""
    latency, n = 0.2, WIDTH * 100
    shares: dict[str, list[float]] = {"ours": [], "bare": []}
    with serve(latency=latency) as server:
        warm = list(questions(0, WIDTH))
        for run in (ours, bare):
            run(server, warm)
        for turn in range(1, rounds + 1):
            requests = list(questions(turn * n, n))
            for run in (ours, bare) if turn % 2 else (bare, ours):
                taken = timed(partial(run, server, requests))
                shares[run.__name__].append(math.ceil(n / WIDTH) * latency / taken.wall)
    return {
        "share_of_ideal": round(statistics.median(shares["ours"]), 4),
        "best": round(max(shares["ours"]), 4),
        "worst": round(min(shares["ours"]), 4),
        "share_of_a_bare_pool": round(statistics.median(shares["bare"]), 4),
    }


def overhead(rounds: int) -> dict[str, float]:
    """Milliseconds a call, ours minus bare round by round, after one warm-up of each."""
    n = 2000
    found: dict[str, list[Taken]] = {"ours": [], "bare": []}
    with serve() as server:
        for turn in range(rounds + 1):
            requests = list(questions(turn * n, n))
            for run in (ours, bare) if turn % 2 else (bare, ours):
                found[run.__name__].append(timed(partial(run, server, requests)))
    a, b = found["ours"][1:], found["bare"][1:]
    each = 1000 / n
    return {
        "ours_ms": round(statistics.median(x.wall for x in a) * each, 3),
        "bare_ms": round(statistics.median(y.wall for y in b) * each, 3),
        "above_ms": round(statistics.median(x.wall - y.wall for x, y in zip(a, b, strict=True)) * each, 3),
        "above_ms_of_minima": round((min(x.wall for x in a) - min(y.wall for y in b)) * each, 3),
        "ours_work_ms": round(statistics.median(x.work for x in a) * each, 3),
        "bare_work_ms": round(statistics.median(y.work for y in b) * each, 3),
        "calls_a_second": round(n / statistics.median(x.wall for x in a)),
    }


def shelf(n: int) -> tuple[Interactions, Catalog]:
    """n items with a title and a description of some 40 words; a train part that says next to nothing."""
    rng = np.random.default_rng(0)
    drawn = np.array(WORDS)[rng.integers(0, len(WORDS), (n, 44))]
    titles = tuple(f"{' '.join(row[:4])} {place}" for place, row in enumerate(drawn))
    described = tuple(" ".join(row[4:]) for row in drawn)
    items = Ids("item", tuple(f"i{place}" for place in range(n)))
    train = Interactions(Ids("user", ("u",)), items, np.zeros(1), np.zeros(1))
    return train, Catalog(items, {"title": titles, "description": described}, Pictures.none(items))


def worker(url: str, store: str, n: int) -> None:
    """One enrichment in this process; prints seconds and peak memory as JSON."""
    train, catalog = shelf(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    started = time.perf_counter()
    written = enrich.write("item_motives", train, catalog, lm.open(f"{url}#stub", parallel=WIDTH), Store(store))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    cached = written.counts.get("cached", 0)
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "data_mb": before, "cached": cached, "ref": written.ref}))


def in_fresh_process(url: str, store: str, n: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", url, store, str(n)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), "process": time.perf_counter() - started}


def rerun(rounds: int, n: int = 100_000) -> dict[str, float]:
    """Asks once, stops the server, and asks again `rounds` times: nobody is there to answer but the store."""
    with tempfile.TemporaryDirectory() as store:
        with serve() as server:
            first, url = in_fresh_process(server.url, store, n), server.url
        again = [in_fresh_process(url, store, n) for _ in range(rounds)]
        assert all(found["cached"] == n and found["ref"] == first["ref"] for found in again)
        size = sum(file.stat().st_size for file in Path(store).rglob("*") if file.is_file())
    return {
        "items": n,
        "first_s": round(first["seconds"], 1),
        "again_s": round(statistics.median(found["seconds"] for found in again), 2),
        "again_whole_process_s": round(statistics.median(found["process"] for found in again), 2),
        "again_peak_mb": max(found["peak_mb"] for found in again),
        "of_that_before_it_began_mb": max(found["data_mb"] for found in again),
        "first_peak_mb": first["peak_mb"],
        "store_mb": round(size / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["throughput", "overhead", "rerun"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=3, metavar=("URL", "STORE", "ITEMS"), help="used by rerun itself")
    given = parser.parse_args()
    if given.worker:
        worker(given.worker[0], given.worker[1], int(given.worker[2]))
        return
    found: dict[str, object] = {"cores": os.cpu_count()}
    for task in given.only:
        found[task] = globals()[task](given.rounds)
        if not given.json:
            print(task, found[task], flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
