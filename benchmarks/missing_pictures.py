"""What models lose when pictures are missing: 0 to 90 % of them taken away at random, beside the same model without any.

    PENCHANT_DATA=... python benchmarks/missing_pictures.py movielens-small-core5 --min-rating 4 [--svg docs/missing-pictures.svg]
    python benchmarks/missing_pictures.py shop

Two tasks. warm: each user's choices in order of time, 80 % train, 10 % valid, 10 % test; Recall@20 among all items. cold: a tenth of
the items is taken out of train (`split.cold_items`), Recall@20 among these alone. The floor of each line is the model without
pictures; VBPR with pictures alone has none but chance. Taken away: a share of all items' pictures, the same ones for every model, more of
them at each step, so that steps are nested; seeds draw them anew. Weave weighs its strands on valid; others train for fixed EPOCHS.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant import inputs, models, split
from penchant.features import Features
from penchant.model import Model
from penchant.ranking import Task, evaluate
from penchant.recipe import InputSpec
from penchant.split import Split
from penchant.store import Store
from penchant.training import Training

SHARES = (0.0, 0.3, 0.6, 0.9)
EPOCHS = {"weave": 1, "vbpr": 40, "freedom": 40, "lirdrec": 10}
MODELS: dict[str, tuple[Model, tuple[str, ...]]] = {
    "weave, text and pictures": (models.Weave(), ("text", "image")),
    "weave, pictures": (models.Weave(), ("image",)),
    "vbpr, pictures": (models.Vbpr(), ("image",)),
    "freedom, text and pictures": (models.Freedom(), ("text", "image")),
}


def without(features: Features, share: float, seed: int) -> Features:
    """With a share of all rows taken away."""
    place = np.random.default_rng(seed).permutation(len(features.ids))
    return replace(features, present=features.present & (place >= round(share * len(place))))


def reached(model: Model, parts: Split, features: Mapping[str, Features], seed: int) -> float:
    training = Training(epochs=EPOCHS[model.name], batch_size=2048, learning_rate=1e-3, seed=seed, device="cpu")
    valid = parts.valid if model.name == "weave" else None
    rec = model.fit(parts.train, valid, training, **features)
    task = Task(at=(20,), mask=("train",), history=("train",), only_cold=parts.cold is not None, metrics=("recall@20",))
    return evaluate(rec, parts, task, lists=False).mean["recall@20"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--min-rating", type=float)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path, help="draw the curves here")
    asked = parser.parse_args()
    store = Store(asked.store)
    data = inputs.open_data(asked.data, store, min_rating=asked.min_rating)
    spec = {"text": InputSpec(("catalog.text",), "minilm"), "image": InputSpec(("catalog.image",), "layout")}
    given = {name: inputs.make_input(name, one, data, store) for name, one in spec.items()}
    tasks = {
        "cold": lambda seed: split.cold_items(data.interactions, 0.1, seed),
        "warm": lambda seed: split.by_ratio(data.interactions, chronological=True),
    }
    rows = []
    for task, make in tasks.items():
        for name in asked.models:
            model, asks = MODELS[name]
            curve = np.zeros((asked.seeds, len(SHARES) + 1))
            for seed in range(asked.seeds):
                parts = make(seed)
                for n, share in enumerate((*SHARES, 1.0)):
                    own = {part: given[part] for part in asks}
                    if share < 1:
                        own["image"] = without(own["image"], share, seed)
                    else:
                        del own["image"]
                    if not own and model.asks_for_features:
                        curve[seed, n] = np.nan
                        if parts.cold is not None:
                            curve[seed, n] = 20 / len(parts.cold)
                        continue
                    curve[seed, n] = reached(model, parts, own, seed)
                    if not own and parts.cold is not None:  # nothing is known of cold items: all tie
                        curve[seed, n] = 20 / len(parts.cold)
            mean = curve.mean(axis=0)
            rows.append({"task": task, "model": name, "shares": list(SHARES), "recall@20": mean[:-1].tolist()})
            rows[-1]["floor"] = None if np.isnan(mean[-1]) else float(mean[-1])
            rows[-1]["spread"] = curve.std(axis=0).tolist()
            print(f"{task:<5} {name:<28}", *(f"{v:.4f}" for v in mean), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    if asked.svg:
        draw(rows, asked.svg)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "penchant", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for axes, (task, title) in zip(
        all_axes, (("cold", "cold items, among themselves"), ("warm", "all items")), strict=True
    ):
        for n, row in enumerate(r for r in rows if r["task"] == task):
            colour = f"C{n}"
            axes.plot([100 * s for s in row["shares"]], row["recall@20"], "o-", color=colour, label=row["model"], ms=4)
            if row["floor"] is not None:
                axes.axhline(row["floor"], color=colour, linestyle=":", linewidth=1.2)
        axes.set_title(title, loc="left")
        axes.set_xlabel("pictures missing, %")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylabel("Recall@20")
    all_axes[1].legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
