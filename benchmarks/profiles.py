"""How well written user texts agree with profiles that a real language model wrote: xrec-amazon, rank of the own among 100.

    PENCHANT_DATA=... python benchmarks/profiles.py                  # extractive
    PENCHANT_DATA=... python benchmarks/profiles.py --lm openai:MODEL

Each text is written from a user's train titles and the item profiles of the data set. It is encoded by MiniLM and compared,
by cosine, with the real profile of its user and those of 99 others drawn at random (seeded). Beside it: the train titles
one after another without any engine (`titles`), and another user's text (`stranger`), which is chance.

The real profiles may have seen held-out interactions; this measures agreement, not accuracy of recommendations. The rules
of `extractive` were looked at on the first 300 users, who are left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import numpy as np

from penchant import encode, enrich, inputs, lm, split
from penchant.catalog import Catalog
from penchant.data import Dataset
from penchant.store import Store
from penchant.texts import Provenance, Texts

AMONG = 100
LOOKED_AT = 300


def ranks(texts: Texts, profiles: Texts, store: Store, seed: int = 0) -> np.ndarray:
    """Rank of the own profile among AMONG, 1 is best, ties count half. (users with both,) float64"""
    a, b = (encode.texts(t, "minilm", store).unit() for t in (texts, profiles))
    both = np.flatnonzero(a.present & b.present)
    both = both[both >= LOOKED_AT]
    score = a.values[both] @ b.values[both].T
    rng = np.random.default_rng(seed)
    found = []
    for row in range(len(both)):
        others = rng.choice(np.delete(np.arange(len(both)), row), AMONG - 1, replace=False)
        own = score[row, row]
        found.append(1 + (score[row, others] > own).sum() + (score[row, others] == own).sum() / 2)
    return np.array(found)


def told(data: Dataset) -> Catalog:
    """The catalogue with the real item profiles as descriptions."""
    fields = data.catalog.fields
    return Catalog(data.items, {"title": fields["title"], "description": fields["llm_profile"]}, data.catalog.pictures)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--lm", default="extractive")
    asked.add_argument("--prompts", nargs="*", default=["user_preference", "user_motives", "user_profile"])
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    store = Store()
    data = inputs.open_data("xrec-amazon", store, "interactions_llm_core5")
    train = split.given(data.interactions, data.given).train
    catalog = told(data)
    profiles = Texts(data.users, data.user_fields["llm_profile"], Provenance("external:xrec-amazon"))
    order = train.order()
    starts = np.searchsorted(train.user[order], np.arange(len(train.users) + 1))
    rows = catalog.items.rows(train.items.keys)
    titles = [
        ". ".join(catalog.title(int(rows[i])) for i in train.item[order[a:b]][-20:])
        for a, b in itertools.pairwise(starts)
    ]
    candidates = {"titles": Texts(data.users, tuple(t or None for t in titles), Provenance("titles"))}
    seconds = {"titles": 0.0}
    for prompt in given.prompts:
        started = time.perf_counter()
        candidates[prompt] = enrich.run(prompt, train, catalog, lm.open(given.lm, store), store, category="books")
        seconds[prompt] = time.perf_counter() - started
    last = candidates[given.prompts[0]]
    order = np.random.default_rng(1).permutation(len(data.users))
    values = [last.values[0]] * len(order)
    for row, other in zip(order, np.roll(order, 1), strict=True):  # neighbours in the list may have much in common
        values[row] = last.values[other]
    candidates["stranger"] = Texts(data.users, tuple(values), Provenance("stranger"))
    seconds["stranger"] = 0.0
    table = []
    for name, texts in candidates.items():
        found = ranks(texts, profiles, store)
        row = {
            "texts": name,
            "users": len(found),
            "mean_rank": round(float(found.mean()), 2),
            "median_rank": float(np.median(found)),
            "first": round(float((found <= 1).mean()), 4),
            "in_ten": round(float((found <= 10).mean()), 4),
            "seconds": round(seconds[name], 2),
        }
        table.append(row)
        if not given.json:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if given.json:
        print(json.dumps({"lm": given.lm, "rows": table}))


if __name__ == "__main__":
    main()
