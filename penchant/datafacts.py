"""What a data set is, in numbers: for `penchant data show` and for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from penchant.arrays import FeatureFiles
from penchant.data import Dataset
from penchant.features import Features

__all__ = ["doubts", "facts"]


def facts(data: Dataset) -> dict[str, Any]:
    """Counts, density, time span, coverage of text and pictures, and what import and reading accepted and counted."""
    log, catalog = data.interactions, data.catalog
    users, items = len(log.users), len(log.items)
    per_user = np.bincount(log.user, minlength=users)
    found: dict[str, Any] = {
        "name": data.name,
        "hash": data.hash[:12],
        "users": users,
        "items": items,
        "interactions": len(log),
        "density": f"{len(log) / max(users * items, 1):.3%}",
        "choices per user": f"median {int(np.median(per_user))}, from {per_user.min()} to {per_user.max()}"
        if users
        else "none",
        "items never chosen": items - len(np.unique(log.item)),
    }
    if log.time is not None and len(log):
        first, last = (datetime.fromtimestamp(float(t), UTC).date() for t in (log.time.min(), log.time.max()))
        found["time"] = f"{first} to {last}"
    elif log.position is not None:
        found["time"] = "an order within each user, no timestamps"
    else:
        found["time"] = "none"
    if data.given is not None:
        counts = np.bincount(data.given, minlength=3)
        found["split"] = f"given: {counts[0]} train, {counts[1]} valid, {counts[2]} test"
    if log.value is not None and len(log):
        found["ratings"] = f"{log.value.min():g} to {log.value.max():g}"
    if log.review is not None:
        found["reviews"] = _share(np.array([r is not None for r in log.review]))
    text = catalog.texts()
    found["items with text"] = _share(text.present)
    for name, values in catalog.fields.items():
        found[f"items with {name}"] = _share(np.array([v is not None for v in values], bool))
    if catalog.numbers:
        found["item numbers"] = ", ".join(catalog.numbers)
    found["items with picture"] = _share(catalog.pictures.present)
    if data.user_fields:
        found["user texts"] = ", ".join(data.user_fields)
    if data.features:
        found["features"] = ", ".join(f"{name} ({f.dim})" for name, f in data.features.items())
    imported = data.card.get("imported", {})
    for note, count in {**(imported if isinstance(imported, Mapping) else {}), **data.notes}.items():
        found[f"note: {note}"] = count
    return found


def doubts(features: Features, sources: Sequence[str] = (), data: Dataset | None = None) -> list[str]:
    """What a reader should know of an input before anything is trained on it: gaps, rows that tell nothing apart, and ids in its
    files that are of nobody here. sources: what it was made from, such as "features/image" of `data`."""
    has, kind = features.unit().present, features.ids.kind
    total, gaps = len(has), int((~has).sum())
    said = [f"{gaps:,} of {total:,} {kind}s have none ({gaps / total:.1%})"] if gaps else []
    rows = np.flatnonzero(has)
    blocks = (features.values[rows[start : start + 1024]] for start in range(0, len(rows), 1024))
    if len(rows) > 1 and all((block == features.values[rows[0]]).all() for block in blocks):
        said.append(f"all {len(rows):,} vectors are the same, so they tell no {kind} from another")
    if data is not None and isinstance(data.features, FeatureFiles):
        for source in sources:
            head, _, file = source.replace("/", ".", 1).partition(".")
            strange, count = data.features.strange(file) if head == "features" and file in data.features else (0, 0)
            if strange:
                said.append(f"{strange:,} of its {count:,} ids are of no {data.features.kinds[file]} here")
    return said


def _share(present: np.ndarray) -> str:
    return f"{int(present.sum())} ({present.mean():.1%})" if len(present) else "none"
