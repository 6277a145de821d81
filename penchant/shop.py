"""The shop: a generated demo world whose shoppers' motives are known.

About 400 drawn products, 2,500 shoppers, two years of choices and short reviews, all from one seed. It is what the demo
shows, and an instrument: because the truth is planted, one can measure whether a text engine finds the motives that
reviews betray, whether a model gains by knowing them, whether pictures tell it what no text does, and how all of it
bears noise and change.

    shop = make(seed=0)                     # the same seed gives the same world, on any machine
    shop.dataset                            # as if read from a folder
    shop.truth(users)                       # what each shopper likes, at the end of the history

How a choice comes about. A product's appeal to each motive follows from what its text says (category, material,
features, brand), from its price, and from its picture (pattern, accent colour). A shopper has two or three motives with
weights w that add up to 1. Utility of item i for user u:

    3 w_u . appeal_i  +  0.9 liking of the category  +  0.5 quality_i  -  0.3 thrift_u log(price / usual)

Choices are drawn from the softmax of utility without replacement. `noise` is the share of choices made at random and
of reviews about something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
import polars as pl

from penchant import shop_reviews
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions, Queries
from penchant.errors import BadSetting, UnknownKey
from penchant.shop_choices import Tastes, Visits, choose, visits
from penchant.shop_pictures import draw
from penchant.shop_products import Product, appeal, describe, stock
from penchant.shop_words import MOTIVES, categories

__all__ = ["PICTURE_ONLY", "Motive", "Settings", "Shop", "make"]

PICTURE_ONLY = ("pattern", "accent")  # attributes that move choices and that no text names


@dataclass(frozen=True)
class Settings:
    """A world's sizes and dials. Raises BadSetting on values that make no world.

    choices: mean choices a shopper (at least 5, at most a quarter of the products). noise: share of choices made at random;
    also of reviews about something else, unless review_noise says otherwise. drift: share of shoppers whose motives
    change for others in the middle of their history. reviewed: share of choices with a review. pictures: False leaves
    them undrawn, which is faster where nobody looks.
    """

    products: int = 400
    shoppers: int = 2500
    choices: float = 12.0
    noise: float = 0.15
    review_noise: float | None = None
    drift: float = 0.25
    reviewed: float = 0.6
    pictures: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("noise", "drift", "reviewed"):
            _share(name, getattr(self, name))
        if self.review_noise is not None:
            _share("review_noise", self.review_noise)
        if self.products < 24:
            raise BadSetting(f"shop: products = {self.products}; at least 24, two of each category")
        if self.shoppers < 1 or self.seed < 0:
            raise BadSetting(f"shop: shoppers = {self.shoppers}, seed = {self.seed}; at least 1 and 0")
        if not 5 <= self.choices <= self.products / 4:
            raise BadSetting(
                f"shop: choices = {self.choices} a shopper; between 5 and a quarter of the {self.products} products"
            )


@dataclass(frozen=True)
class Motive:
    """Why people choose. signs: the words that only reviews moved by it use; its name's own words are never used."""

    name: str
    signs: frozenset[str]


@dataclass(frozen=True, eq=False)
class Shop:
    """The data anyone may see, and the truth behind them.

    before, after: (U, M) float32 motive weights of each shopper, rows sum to 1; equal where nothing changed.
    changed_at: (U,) int64 seconds, the first choice by the new motives; -1 for who never changes.
    appeal: (I, M) float32 what each item is to each motive, columns of mean 0 and spread 1; appeal_pictures: the part
    of it that only pictures show. pattern, accent: the two attributes seen only in pictures, by item.
    driver: (N,) int64 the motive that made each choice, -1 where it was none. about: (N,) the motive that the review's
    first sentence speaks of, -1 for small talk, -2 without a review. blind: (N,) bool, choices made at random.
    """

    settings: Settings
    dataset: Dataset = field(repr=False)
    motives: tuple[Motive, ...] = field(repr=False)
    before: np.ndarray
    after: np.ndarray
    changed_at: np.ndarray
    appeal: np.ndarray
    appeal_pictures: np.ndarray
    pattern: tuple[str, ...] = field(repr=False)
    accent: tuple[str, ...] = field(repr=False)
    driver: np.ndarray
    about: np.ndarray
    blind: np.ndarray
    tastes: Tastes = field(repr=False)

    def truth(self, queries: Queries | np.ndarray, at: str = "end", pictures: bool = True) -> np.ndarray:
        """The utility of every item for these users, which nobody but the shop knows. (B, I) float32

        queries: Queries or user rows; row -1, a stranger, gets the mean shopper's motives. at: "end", the motives
        after any change, or "start". pictures: False leaves out what only pictures show.
        """
        if at not in ("end", "start"):
            raise BadSetting(f'truth: at = {at!r}; it may be "end" or "start"')
        users = np.asarray(queries.users if isinstance(queries, Queries) else queries, np.int64)
        known = replace(self.tastes, motives=self.after if at == "end" else self.before)
        seen = self.appeal if pictures else self.appeal - self.appeal_pictures
        score = known.utility(np.maximum(users, 0), seen)
        if (users < 0).any():
            score[users < 0] = known.mean(seen)
        return score

    def score(self, queries: Queries) -> np.ndarray:
        """truth(queries), under the name that evaluation asks for: the ceiling of every table on the shop."""
        return self.truth(queries)

    def match(self, text: str) -> np.ndarray:
        """How many sign words of each motive a text holds: the rule by which free words count as a motive. (M,)"""
        words = set(shop_reviews.words(text))
        return np.array([len(words & motive.signs) for motive in self.motives])


def make(settings: Settings | None = None, **changes: object) -> Shop:
    """The world of these settings: make(), make(seed=1, noise=0.3) or make(Settings(...)).

    Noise and drift have random streams of their own: products and shoppers stay the same when only they differ.
    Raises UnknownKey on a misspelt setting.
    """
    known = [f.name for f in fields(Settings)]
    for name in changes:
        if name not in known:
            raise UnknownKey("shop", name, known)
    s = replace(settings or Settings(), **changes)  # type: ignore[arg-type]
    products = stock(s.products, s.seed)
    full, shown = appeal(products)
    tastes, after = _shoppers(s, products)
    plan = visits(s.shoppers, s.choices, 5, s.products // 2, s.noise, s.drift, s.seed)
    after = np.where((plan.changed_at >= 0)[:, None], after, tastes.motives)
    item = choose(plan, tastes, replace(tastes, motives=after), full, s.seed)
    driver, about, reviews = _reviews(s, plan, tastes.motives, after, full, item, products)

    # The log as a shop keeps it: oldest first.
    order = np.argsort(plan.time, kind="stable")
    users = Ids("user", tuple(f"s{row:05d}" for row in range(s.shoppers)))
    items = Ids("item", tuple(f"p{row:04d}" for row in range(s.products)))
    interactions = Interactions(
        users, items, plan.shopper[order], item[order], time=plan.time[order], review=tuple(reviews[order].tolist())
    )
    return Shop(
        settings=s,
        dataset=_dataset(s, interactions, products),
        motives=tuple(Motive(name, words) for name, words in zip(MOTIVES, shop_reviews.signs(), strict=True)),
        before=tastes.motives,
        after=after,
        changed_at=plan.changed_at,
        appeal=full,
        appeal_pictures=shown,
        pattern=tuple(p.pattern for p in products),
        accent=tuple(p.accent for p in products),
        driver=driver[order],
        about=about[order],
        blind=plan.blind[order],
        tastes=tastes,
    )


def _shoppers(s: Settings, products: list[Product]) -> tuple[Tastes, np.ndarray]:
    """Tastes at the start, and the motives (U, M) that a shopper has after a change: none of the old ones."""
    rng = np.random.default_rng([s.seed, 3])
    wanted = np.array([1.3, 1.0, 1.0, 1.2, 1.0, 1.0, 1.0, 1.0])  # some motives are more common
    # The largest of log(weight) + Gumbel noise: a draw of motives without replacement, weights for the first three.
    rank = np.argsort(-(np.log(wanted) + rng.gumbel(size=(s.shoppers, len(MOTIVES)))), axis=1)
    three = rng.random(s.shoppers) < 0.5
    first, second = 0.5 + 0.2 * rng.random(s.shoppers), 0.6 + 0.2 * rng.random(s.shoppers)
    shares = np.stack([first, np.where(three, (1 - first) * second, 1 - first), (1 - first) * (1 - second) * three], 1)
    shares = np.round(shares * 256) / 256
    shares[:, 0] += 1 - shares.sum(axis=1)
    start, end = (np.zeros((s.shoppers, len(MOTIVES)), np.float32) for _ in range(2))
    np.put_along_axis(start, rank[:, :3], shares.astype(np.float32), axis=1)
    np.put_along_axis(end, rank[:, 3:6], shares.astype(np.float32), axis=1)

    def steps(values: np.ndarray) -> np.ndarray:
        return (np.round(values * 256) / 256).astype(np.float32)

    usual = np.array([categories()[p.category].price for p in products])
    tastes = Tastes(
        motives=start,
        shelf=steps(rng.normal(size=(s.shoppers, len(categories())))),
        thrift=steps(rng.lognormal(0, 0.5, s.shoppers)),
        category=np.array([p.category for p in products]),
        quality=steps(np.random.default_rng([s.seed, 6]).normal(size=s.products)),
        dear=steps(np.log(np.array([p.price for p in products]) / usual)),
    )
    return tastes, end


def _reviews(
    s: Settings,
    plan: Visits,
    before: np.ndarray,
    after: np.ndarray,
    full: np.ndarray,
    item: np.ndarray,
    products: list[Product],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What made each choice, what its review is about, and the review. Each (N,)

    The first sentence praises the motive that gave most to the choice. Where none did, it misses what the shopper
    wants most, or is small talk. The second is on her next motive: praise if the item serves it, else what is missed.
    """
    rng = np.random.default_rng([s.seed, 8])
    n = len(item)
    weights = np.where(plan.late[:, None], after[plan.shopper], before[plan.shopper])  # (N, M)
    gain = weights * full[item]
    best = gain.argmax(axis=1)
    rows = np.arange(n)
    driver = np.where(plan.blind | (gain[rows, best] < 0.15), -1, best)
    top = weights.argmax(axis=1)
    misses = (driver < 0) & (full[item, top] < -0.3) & (rng.random(n) < 0.6)
    about = np.where(misses, top, driver)
    noise = s.noise if s.review_noise is None else s.review_noise
    # Half of the noise is small talk, half is about what somebody else would want.
    off, kind = rng.random(n) < noise, rng.random(n) < 0.5
    about = np.where(off, np.where(kind, -1, rng.integers(0, len(MOTIVES), n)), about)
    praised = ~misses | off
    about = np.where(rng.random(n) < s.reviewed, about, shop_reviews.SILENT)

    weights[rows, np.maximum(about, 0)] = 0
    second = weights.argmax(axis=1)
    has_second = (rng.random(n) < 0.45) & ~off & (weights[rows, second] > 0) & (about >= 0)
    liked = full[item, second] > 0
    second = np.where(has_second, second, shop_reviews.SILENT)
    short = [shop_reviews.nouns().index(p.noun.split()[-1]) for p in products]
    return driver, about, shop_reviews.write(about, praised, second, liked, np.array(short)[item], s.seed)


def _dataset(s: Settings, interactions: Interactions, products: list[Product]) -> Dataset:
    titles, told = describe(products, s.seed)
    items = interactions.items
    rng = np.random.default_rng([s.seed, 9])
    looks, there = rng.random((s.products, 4)), rng.random(s.products) < 0.93
    shelves = categories()
    pictures = Pictures.none(items)
    if s.pictures:
        drawn = tuple(
            draw(shelves[p.category].name, p.variant, p.colour, p.pattern, p.accent, look)
            for p, look in zip(products, looks, strict=True)
        )
        pictures = Pictures(items, np.arange(s.products), drawn)
    catalog = Catalog(
        items,
        {
            "title": tuple(titles),
            "brand": tuple(p.brand[0] for p in products),
            "categories": tuple(f"{shelves[p.category].shelf}, {shelves[p.category].name}" for p in products),
            "description": tuple(told),
        },
        pictures,
        {
            "price": pl.Series("price", [p.price for p in products], pl.Float64),
            "in_stock": pl.Series("in_stock", there, pl.Boolean),
        },
    )
    name = f"shop:{s.seed}" if s.seed else "shop"
    card = {"name": name, "source": f"generated by penchant.shop, seed {s.seed}", "terms": "Apache-2.0"}
    return Dataset(name, interactions, catalog, card=card)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise BadSetting(f"shop: {name} = {value}; it is a share, between 0 and 1")
