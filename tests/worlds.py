"""Planted worlds: small catalogues in which the right answer is known, because it was put there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions
from penchant.features import Features
from penchant.split import Split
from penchant.texts import Provenance

NOBODY, NEVER = "user-nobody", "item-never"


@dataclass(frozen=True, eq=False)
class World:
    """split: the last user has no interaction at all, nor has the last item.

    user_group, item_group: what decides who chooses what. The lone user and item count to group 0.
    """

    split: Split
    user_group: np.ndarray
    item_group: np.ndarray

    @property
    def train(self) -> Interactions:
        return self.split.train

    @property
    def valid(self) -> Interactions:
        return self.split.valid

    def features(self, kind: str = "item", dim: int = 6, noise: float = 0.1, seed: int = 0) -> Features:
        """Vectors that tell the group, with some noise; the first row is a gap."""
        ids, group = (self.split.users, self.user_group) if kind == "user" else (self.split.items, self.item_group)
        rng = np.random.default_rng([seed, dim])
        centres = rng.normal(size=(int(group.max()) + 1, dim))
        present = np.arange(len(ids)) > 0
        values = centres[group] + noise * rng.normal(size=(len(ids), dim))
        return Features(ids, np.where(present[:, None], values, 0), present, Provenance("planted"))


def interactions(users: Ids, items: Ids, user: np.ndarray, item: np.ndarray) -> Interactions:
    """Choices in a shuffled order, so that nothing leans on rows being sorted."""
    shuffled = np.random.default_rng(len(user)).permutation(len(user))
    return Interactions(users, items, np.asarray(user)[shuffled], np.asarray(item)[shuffled])


def keys(kind: str, n: int) -> tuple[str, ...]:
    """item-000, item-001, ..."""
    return tuple(f"{kind}-{i:03d}" for i in range(n))


def checkerboard(users: int = 60, items: int = 40, groups: int = 4, seed: int = 0) -> World:
    """Users choose within their group alone: all but three of its items are train, one valid, two test.

    Row r belongs to group r % groups. Whoever learns it puts the held-out items on the first places.
    """
    rng = np.random.default_rng(seed)
    user_group, item_group = np.arange(users + 1) % groups, np.arange(items + 1) % groups
    user_group[-1] = item_group[-1] = 0
    pairs: list[list[tuple[int, int]]] = [[], [], []]
    for u in range(users):
        mine = rng.permutation(np.flatnonzero(item_group[:items] == u % groups))
        for place, i in enumerate(mine):
            pairs[0 if place >= 3 else 1 if place == 2 else 2].append((u, int(i)))
    user_ids = Ids("user", (*keys("user", users), NOBODY))
    item_ids = Ids("item", (*keys("item", items), NEVER))
    parts = [interactions(user_ids, item_ids, *np.array(part).T) for part in pairs]
    return World(Split(*parts, how="planted"), user_group, item_group)


def skewed(users: int = 80, items: int = 40, seed: int = 0) -> World:
    """Everybody draws from one steep popularity; nothing personal is there to learn."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, items + 1)
    place = rng.permutation(items)  # the popular items are not the first rows
    pairs: list[list[tuple[int, int]]] = [[], [], []]
    for u in range(users):
        mine = place[rng.choice(items, 8, replace=False, p=weight / weight.sum())]
        for drawn, i in zip(rng.permutation(8), mine, strict=True):
            pairs[0 if drawn >= 3 else 1 if drawn == 2 else 2].append((u, int(i)))
    user_ids = Ids("user", (*keys("user", users), NOBODY))
    item_ids = Ids("item", (*keys("item", items), NEVER))
    parts = [interactions(user_ids, item_ids, *np.array(part).T) for part in pairs]
    return World(Split(*parts, how="planted"), np.zeros(users + 1, int), np.zeros(items + 1, int))


def random_split(seed: int, users: int = 30, items: int = 25, most: int = 12) -> Split:
    """Unstructured: each user chose some items, each pair falls in train, valid or test by chance (3:1:2)."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rng.integers(1, most, users))
    item = np.concatenate([rng.permutation(items)[:n] for n in np.bincount(user, minlength=users)])
    part = rng.choice(3, len(user), p=[0.5, 0.17, 0.33])
    user_ids, item_ids = Ids("user", keys("user", users)), Ids("item", keys("item", items))
    parts = [interactions(user_ids, item_ids, user[part == p], item[part == p]) for p in range(3)]
    return Split(*parts, how=f"random seed={seed}")


def worded(world: World, words: tuple[str, ...] = ("cotton", "granite", "violin", "saffron")) -> Catalog:
    """A catalogue whose titles are unique and whose descriptions hold a word of the item's group."""
    n = len(world.split.items)
    titles = tuple(f"Thing {chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(n))
    described = tuple(f"made with {words[g % len(words)]} for daily use" for g in world.item_group)
    return Catalog(world.split.items, {"title": titles, "description": described}, Pictures.none(world.split.items))
