"""What tests of models with several modalities share: drawn features with gaps, dense twins, a world that needs features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from worlds import interactions, keys, random_split

from penchant.batches import Pairs, Triples
from penchant.data import Ids, Interactions
from penchant.features import Features
from penchant.model import Model
from penchant.ranking import evaluate
from penchant.split import Split
from penchant.texts import Provenance
from penchant.training import Training


def irregular() -> Interactions:
    """Degrees differ; the last user and the last item are without any choice."""
    whole = random_split(11, users=23, items=17, most=9).train
    keep = (whole.user != 22) & (whole.item != 16)
    return Interactions(whole.users, whole.items, whole.user[keep], whole.item[keep])


def drawn(items: Ids, dim: int, seed: int, gaps: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    present = np.ones(len(items), bool)
    present[rng.permutation(len(items))[:gaps]] = False
    return Features(items, rng.normal(0.5, 1, (len(items), dim)), present, Provenance("drawn"))


def modalities(items: Ids, count: int = 2, gaps: int = 3) -> dict[str, Features]:
    """image, text, sound: of different widths, gaps in different rows."""
    names = ("image", "text", "sound")[:count]
    return {name: drawn(items, 4 + m, m, gaps) for m, name in enumerate(names)}


def triples(train: Interactions, n: int = 40) -> Triples:
    return next(Pairs(train).epoch(np.random.default_rng(0), n))


def adjacency(train: Interactions) -> torch.Tensor:
    """D^-1/2 A D^-1/2 over users, then items, one edge at a time. (N, N)"""
    users = len(train.users)
    a = torch.zeros(users + len(train.items), users + len(train.items))
    for u, i in zip(train.user, train.item, strict=True):
        a[u, users + i] = a[users + i, u] = 1
    scale = a.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * a * scale


def item_graph(features: Mapping[str, Features], k: int, alpha: Mapping[str, float]) -> torch.Tensor:
    """S, one item and one modality at a time. (I, I)"""
    n = len(next(iter(features.values())).ids)
    s = torch.zeros(n, n)
    for i in range(n):
        shared = sum(alpha[name] for name, part in features.items() if part.present[i])
        for name, part in features.items():
            if not part.present[i]:
                continue
            x = part.values.astype(np.float64)
            cosine = {
                j: x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in np.flatnonzero(part.present)
            }
            near = sorted(cosine, key=lambda j: -cosine[j])[:k]
            for j in near:  # every row has as many, so D^-1/2 on both sides is one over their number
                s[i, j] += alpha[name] / shared / len(near)
    return s


def fixed(part: Features) -> torch.Tensor:
    """Centred over the present rows, each of length 1, gaps zero. (I, F)"""
    values = part.values.astype(np.float64)
    values = values - values[part.present].mean(axis=0)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[~part.present] = 0
    return torch.from_numpy(values).float()


def permuted(
    train: Interactions, features: Mapping[str, Features], order: np.ndarray
) -> tuple[Interactions, dict[str, Features]]:
    """The same world with its items in another order: row r is what was row order[r]."""
    items = Ids("item", tuple(train.items.keys[i] for i in order))
    row = np.argsort(order)
    turned = Interactions(train.users, items, train.user, row[train.item])
    return turned, {
        name: Features(items, part.values[order], part.present[order], part.source) for name, part in features.items()
    }


def needy(seed: int = 0, users: int = 200, items: int = 400, groups: int = 10) -> tuple[Split, Features]:
    """Each user chooses four items in her group and two anywhere, and an item has three choices in train: too few to tell
    its group from. Features tell it. (split, features)
    """
    rng = np.random.default_rng(seed)
    group = np.arange(items) % groups
    pairs: list[list[tuple[int, int]]] = [[], [], []]
    for u in range(users):
        for place, i in enumerate(rng.permutation(np.flatnonzero(group == u % groups))[:7]):
            pairs[0 if place < 4 else 1 if place == 4 else 2].append((u, int(i)))
        pairs[0] += [(u, int(i)) for i in rng.permutation(np.flatnonzero(group != u % groups))[:2]]
    user_ids, item_ids = Ids("user", keys("user", users)), Ids("item", keys("item", items))
    split = Split(*(interactions(user_ids, item_ids, *np.array(part).T) for part in pairs), how="planted")
    values = rng.normal(size=(groups, 12))[group] + 0.5 * rng.normal(size=(items, 12))
    return split, Features(item_ids, values, np.ones(items, bool), Provenance("planted"))


def helped(model: Model, training: Training) -> tuple[float, float]:
    """recall@20 in the needy world with true features, and with those of other items."""
    split, true = needy()
    shuffled = replace(true, values=true.values[np.random.default_rng(1).permutation(len(true.values))])
    reached = []
    for features in (true, shuffled):
        rec = model.fit(split.train, None, training, look=features)
        task = {"history": ("train",), "mask": ("train",), "at": (20,), "metrics": ("recall@20",)}
        reached.append(evaluate(rec, split, **task).mean["recall@20"])  # type: ignore[arg-type]
    return reached[0], reached[1]
