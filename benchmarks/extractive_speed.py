"""How fast the engine without a language model is: answers a second, against TF-IDF alone on the same texts.

    python benchmarks/extractive_speed.py [--users 4000] [--reviews 8] [--rounds 5] [--json]

The reviews are made up here, with a fixed seed: about 20 words each, from a vocabulary of 4,000 words with Zipf's
frequencies, with two clauses about what people care for. One thread a process. Plain way, in turn with ours,
A B A B, medians printed: scikit-learn's TfidfVectorizer, fitted on one text a user, and each user's top ten terms. It
only finds words; ours reads each review's clauses, ranks themes, and writes the typed reply from the fenced prompt.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from penchant.lm import Request
from penchant.lm.extractive import Extractive
from penchant.lm.fence import Block, clean, fenced
from penchant.lm.replies import Answer, Motives, ReviewMotives

CLAUSES = (
    "it was cheaper than the others",
    "the colour is lovely",
    "it broke after a month",
    "my daughter loves it",
    "not as sturdy as I hoped",
    "a birthday present for a friend",
    "so easy to clean",
    "far too loud for a small flat",
    "we take it camping",
    "made from recycled glass",
    "the smell never goes away",
    "arrived late and dented",
    "it fits perfectly",
    "I would not trust it again",
    "the sound is great",
    "hardly any waste",
)


def reviews(users: int, each: int, seed: int = 0) -> list[list[str]]:
    """Made-up reviews of about 20 words, `each` a user."""
    rng = np.random.default_rng(seed)
    parts = ["".join(pair) for pair in zip("bcdfghklmnprst" * 3, "aeiou" * 9, strict=False)]
    words = np.array(["".join(rng.choice(parts, rng.integers(1, 4))) for _ in range(4000)])
    often = 1 / np.arange(1, len(words) + 1)
    often /= often.sum()
    said = []
    for _ in range(users):
        own = []
        for _ in range(each):
            filler = [" ".join(rng.choice(words, size, p=often)) for size in rng.integers(4, 11, 2)]
            own.append(f"{filler[0]}, {rng.choice(CLAUSES)}. {rng.choice(CLAUSES)} and {filler[1]}.".capitalize())
        said.append(own)
    return said


def request(schema: type[Answer], name: str, said: Sequence[str]) -> Request:
    entries = tuple((("item", "a thing"), ("rating", "4"), ("review", clean(review))) for review in said)
    first, blocks = fenced([Block(name, entries)])
    return Request("", f"{first}\n\nWhat drives this customer?\n\n{blocks[name]}", schema=schema)


def answered(engine: Extractive, requests: Sequence[Request]) -> int:
    return sum(reply.status == "ok" for reply in engine.answer(requests))


def in_turn(rounds: int, ways: Sequence[Callable[[], object]]) -> list[tuple[float, float]]:
    """Median seconds of each way, run in turn: on the clock, and of the processor."""
    times: list[list[tuple[float, float]]] = [[] for _ in ways]
    for _ in range(rounds):
        for kept, way in zip(times, ways, strict=True):
            start = time.perf_counter(), time.process_time()
            way()
            kept.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return [
        (statistics.median(clock for clock, _ in kept), statistics.median(own for _, own in kept)) for kept in times
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--reviews", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    said = reviews(asked.users, asked.reviews)
    whole = [" ".join(own) for own in said]
    flat = [review for own in said for review in own]
    amassed = [request(Motives, "reviews", own) for own in said]
    single = [request(ReviewMotives, "review", [review]) for review in flat[: asked.users]]
    engine = Extractive().reading(flat)

    def plain() -> list[list[str]]:
        vectorizer = TfidfVectorizer(ngram_range=(1, 3), stop_words="english")
        matrix = vectorizer.fit_transform(whole)
        names = vectorizer.get_feature_names_out()
        tops = []
        for row in range(matrix.shape[0]):
            start, end = matrix.indptr[row], matrix.indptr[row + 1]
            best = np.argsort(-matrix.data[start:end])[:10]
            tops.append([str(names[column]) for column in matrix.indices[start:end][best]])
        return tops

    halves = [amassed[::2], amassed[1::2]]
    two = multiprocessing.get_context("fork").Pool(2)

    def both() -> None:
        two.map(partial(answered, engine), halves, chunksize=1)

    both()  # the processes have read the tables
    seconds = in_turn(
        asked.rounds,
        [
            lambda: answered(engine, amassed),
            both,
            plain,
            lambda: answered(engine, single),
            lambda: Extractive().reading(flat),
        ],
    )
    done = (
        ("user_motives, texts, one process", asked.users),
        ("user_motives, texts, two processes", asked.users),
        ("TfidfVectorizer with top ten terms, texts", asked.users),
        ("review_motives, reviews", asked.users),
        ("learning the background, reviews", len(flat)),
    )
    rows = [
        {"what": what, "a second": round(count / clock)}
        | ({} if "two" in what else {"a second of the processor": round(count / own)})
        for (what, count), (clock, own) in zip(done, seconds, strict=True)
    ]
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    words = sum(len(review.split()) for review in flat) / len(flat)
    print(f"{asked.users:,} users with {asked.reviews} reviews of {words:.1f} words, {asked.rounds} rounds, medians")
    for row in rows:
        print(f"{row.pop('what')!s:<44}", "  ".join(f"{figure:>8,} {name}" for name, figure in row.items()))


if __name__ == "__main__":
    main()
