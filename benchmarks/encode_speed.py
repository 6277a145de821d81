"""How fast encoding and the store are: texts and pictures a second, against the plain way within one run.

    python benchmarks/encode_speed.py [--texts 512] [--pictures 400] [--rounds 3] [--whole] [--json]

Texts and pictures are those of `movielens-small-core5` where PENCHANT_DATA has it, else made up. Plain ways, run in
turn with ours, A B A B, the median of the rounds' ratios printed: sentence-transformers with its own batches of 32;
pictures decoded whole; one transaction and one SELECT a vector. `--whole` also encodes the complete catalogue, twice,
into a new store (a minute or two). Made-up JPEGs of 500 x 500 pixels and about 26 kB give the figure for pictures
that does not depend on the data.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from penchant import encode, inputs
from penchant.catalog import Pictures, open_picture
from penchant.data import Ids
from penchant.encode.image import Layout
from penchant.encode.text import open_text
from penchant.errors import MissingFile
from penchant.store import Store
from penchant.texts import Provenance, Texts


def catalogue(store: Store) -> tuple[str, Texts, Pictures]:
    try:
        data = inputs.open_data("movielens-small-core5", store)
        return data.name, data.catalog.texts(), data.catalog.pictures
    except MissingFile:
        rng = np.random.default_rng(0)
        words = np.array([f"{a}{b}" for a in "bcdfglmnprst" for b in ("am", "er", "ion", "ough", "ess", "ing")])
        values = tuple(" ".join(rng.choice(words, max(3, int(rng.gamma(2, 12))))) for _ in range(3650))
        ids = Ids("item", tuple(map(str, range(3650))))
        raw = jpegs(200)
        return "made up", Texts(ids, values, Provenance("made up")), Pictures(ids, np.arange(3650) % 200, tuple(raw))


def jpegs(n: int) -> list[bytes]:
    """Pictures of 500 x 500 pixels with large shapes and some grain, about 26 kB each."""
    made = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        rough = Image.fromarray(rng.integers(0, 255, (14, 14, 3), np.uint8)).resize(
            (500, 500), Image.Resampling.BICUBIC
        )
        grain = Image.fromarray(rng.integers(0, 40, (170, 170), np.uint8)).resize((500, 500), Image.Resampling.BICUBIC)
        pixels = np.asarray(rough, np.int16) + np.asarray(grain, np.int16)[..., None] - 20
        file = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=42)
        made.append(file.getvalue())
    return made


def in_turn(
    what: str, n: int, rounds: int, ours: Callable[[], object], plain: Callable[[], object]
) -> dict[str, object]:
    """Rates (a second) and the ratio of times, round by round."""
    times = np.zeros((rounds, 2))
    for each in range(rounds):
        for column, work in enumerate((ours, plain)):
            start = time.perf_counter()
            work()
            times[each, column] = time.perf_counter() - start
    rates = n / np.median(times, axis=0)
    ratio = statistics.median(times[:, 1] / times[:, 0])
    return {"what": what, "ours": round(rates[0], 1), "plain": round(rates[1], 1), "ratio": round(ratio, 2)}


def text_speed(texts: Texts, n: int, rounds: int) -> dict[str, object]:
    model = open_text("minilm")
    here = [value for value in texts.values if value]
    batch = [here[i] for i in np.random.default_rng(0).permutation(len(here))[:n]]
    model.encode(batch[:8])

    def ours() -> None:
        ordered = sorted(batch, key=len, reverse=True)
        for start in range(0, len(ordered), encode.BATCH):
            model.encode(ordered[start : start + encode.BATCH])

    def plain() -> None:
        model._model.encode(batch, batch_size=32, show_progress_bar=False)

    return in_turn(f"texts a second, minilm ({len(batch)})", len(batch), rounds, ours, plain)


def picture_speed(raw: list[bytes], rounds: int) -> dict[str, object]:
    layout = Layout()
    size = sum(map(len, raw)) / len(raw) / 1000

    def with_size(size: int | None) -> Callable[[], object]:
        return lambda: [layout.encode([open_picture(each, "", size)]) for each in raw]

    what = f"pictures a second, layout, one thread ({len(raw)} of {size:.0f} kB)"
    return in_turn(what, len(raw), rounds, with_size(layout.size), with_size(None))


def store_speed(n: int, rounds: int) -> list[dict[str, object]]:
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]
    values = np.random.default_rng(0).normal(size=(n, 384)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        kept = Store(f"{folder}/kept").vectors("all")

        def put(at_once: int) -> Callable[[], object]:
            def work() -> None:
                with tempfile.TemporaryDirectory(dir=folder) as new, Store(new).vectors("x") as vectors:
                    for start in range(0, n, at_once):
                        vectors.put(hashes[start : start + at_once], values[start : start + at_once])

            return work

        kept.put(hashes, values)
        rows = [
            in_turn(f"vectors stored a second, 384 numbers ({n})", n, rounds, put(encode.BATCH), put(1)),
            in_turn(
                f"vectors read a second ({n})",
                n,
                rounds,
                lambda: kept.get(hashes),
                lambda: [kept.get([h]) for h in hashes],
            ),
        ]
        kept.close()
    return rows


def whole(texts: Texts, pictures: Pictures, folder: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    store = Store(f"{folder}/whole")
    jobs: list[tuple[str, Callable[[], object]]] = [
        ("minilm", lambda: encode.texts(texts, "minilm", store)),
        ("layout", lambda: encode.pictures(pictures, "layout", store)),
    ]
    for name, work in jobs:
        for run in ("first run", "second run"):
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
            rows.append({"what": f"the whole catalogue, {name}, {run}", "seconds": round(seconds, 2)})
    for ref in store.refs():
        counts = store.card(ref)["counts"]
        rows.append({"what": store.card(ref)["made_by"], **counts})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name, texts, pictures = catalogue(Store(f"{folder}/data"))
        rows = [
            {"what": f"catalogue: {name}", "texts": int(texts.present.sum()), "pictures": int(pictures.present.sum())}
        ]
        rows.append(text_speed(texts, asked.texts, asked.rounds))
        rows.append(picture_speed(jpegs(asked.pictures), asked.rounds))
        here = np.flatnonzero(pictures.present)[: asked.pictures]
        rows.append(picture_speed([pictures.read(int(row)) or b"" for row in here], asked.rounds))
        rows += store_speed(20_000, asked.rounds)
        rows += whole(texts, pictures, folder) if asked.whole else []
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row.pop('what')!s:<62}", "  ".join(f"{key} {value:,}" for key, value in row.items()))


if __name__ == "__main__":
    main()
