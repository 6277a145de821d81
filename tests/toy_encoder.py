"""A text encoder that is slow on request and writes down what it is asked; run as a program, it is there to be killed.

python toy_encoder.py encode STORE LOG N     encodes N texts, 0.03 s a batch, and prints the hash
python toy_encoder.py save STORE             saves features without end, a line for each
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from penchant import encode
from penchant.data import Ids
from penchant.features import Features
from penchant.store import Store
from penchant.texts import Provenance, Texts


class Toy:
    """A product of the whole batch: as in a real model, the last bits depend on what is encoded together."""

    name, revision, dim = "toy", "1", 48

    def __init__(self, pause: float = 0.0, log: Path | None = None) -> None:
        self.pause, self.log, self.calls, self.seen = pause, log, 0, 0

    def cut(self, batch: Sequence[str]) -> np.ndarray:
        return np.array([max(0, len(text) - 40) for text in batch])

    def encode(self, batch: Sequence[str]) -> np.ndarray:
        self.calls += 1
        self.seen += len(batch)
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(f"{len(batch)}\n")
        time.sleep(self.pause)
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in batch]
        rows = np.stack([np.random.default_rng(seed).normal(size=96) for seed in seeds]).astype(np.float32)
        weights = np.random.default_rng(7).normal(size=(96, 48)).astype(np.float32)
        return np.tanh(rows @ weights + np.float32(len(batch) * 1e-6))


def toy_job(n: int, pause: float = 0.0, log: Path | None = None) -> tuple[Texts, Toy]:
    """n rows, a tenth of them gaps, many of them equal, some longer than Toy's limit of 40; and an encoder."""
    values = tuple(None if i % 10 == 3 else f"text {i % 500} " + "word " * (i % 17) for i in range(n))
    return Texts(Ids("item", tuple(map(str, range(n)))), values, Provenance("catalog:title")), Toy(pause, log)


def save_without_end(store: Store) -> None:
    ids = Ids("item", tuple(map(str, range(3000))))
    for seed in range(1000):
        values = np.random.default_rng(seed).normal(size=(3000, 200))
        store.save_features(Features(ids, values, np.ones(3000, bool), Provenance("toy")))
        print(seed, flush=True)


def open_at_once(folder: Path) -> None:
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    for attempt in range(60):
        while time.time() < start + attempt * 0.03:
            pass
        with Store(folder / str(attempt)).vectors("toy") as vectors:
            vectors.put(["ab" * 32], np.ones((1, 2)))


if __name__ == "__main__":
    if sys.argv[1] == "encode":
        store, log, n = sys.argv[2:]
        print(encode.texts(*toy_job(int(n), pause=0.03, log=Path(log)), Store(store)).hash)
    elif sys.argv[1] == "open":
        open_at_once(Path(sys.argv[2]))
    else:
        save_without_end(Store(sys.argv[2]))
