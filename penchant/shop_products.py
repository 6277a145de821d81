"""The shop's shelves: products drawn at random, what each is to each motive, and the text that describes it.

Everything a title or description says is true of the product and counts in its appeal, so that content can rank what
nobody has bought yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from penchant.shop_pictures import ACCENTS, COLOURS, PATTERNS
from penchant.shop_words import MODELS, MOTIVES, brands, categories, looks

__all__ = ["Product", "appeal", "describe", "stock"]

T = TypeVar("T")

TITLES = (
    "{brand} {model} {noun}",
    "{brand} {noun} {model} in {colour}",
    "{model} {noun}, {material}",
    "{noun} {model} in {colour}",
    "{brand} {model}: {noun} in {colour}",
    "{noun} {model} by {brand}",
)
MADE = (
    "Made of {material}, in {colour}.",
    "{noun} of {material} in {colour}.",
    "{material}, coloured {colour}.",
    "This {noun} comes in {colour} and is made of {material}.",
    "The {model} is made of {material}; the colour is {colour}.",
    "In {colour}. Material: {material}.",
)
WITH_TWO = (
    "It has {a} and {b}.",
    "Comes with {a} and {b}.",
    "You get {a}, plus {b}.",
    "What sets it apart: {a} and {b}.",
    "{a}, {b}: small things that make a difference.",
    "{brand} gave it {a} and {b}.",
)
WITH_ONE = ("It has {a}.", "Comes with {a}.", "You also get {a}.", "Not to forget: {a}.", "Then there is {a}.")
CLOSES = (
    "From the {brand} workshop.",
    "Measures {x} x {y} cm.",
    "About {x} cm high and {y} cm wide.",
    "Part of the {model} range.",
    "Designed and tested by {brand}.",
    "",
)


@dataclass(frozen=True)
class Product:
    """One product before it is put into words. material, brand and features carry the motive that they speak to."""

    category: int
    variant: int
    noun: str
    model: str
    brand: tuple[str, float, int]
    material: tuple[str, int]
    features: tuple[tuple[str, int], ...]
    colour: str
    pattern: str
    accent: str
    price: float


def stock(count: int, seed: int) -> list[Product]:
    """This many products, the categories in equal parts."""
    rng = np.random.default_rng([seed, 1])
    chance = rng.random((count, 16))
    spread = np.round(rng.normal(0, 0.3, count), 3)
    shelf = rng.permutation(np.arange(count) % len(categories()))
    return [_product(int(c), luck, float(s)) for c, luck, s in zip(shelf, chance, spread, strict=True)]


def appeal(products: list[Product]) -> tuple[np.ndarray, np.ndarray]:
    """What each product is to each motive: from all that is known of it, and the part that only pictures show.

    Two (I, M) float32; the first has mean 0 and spread 1 in every column. Multiples of 1/256, so that products with
    the shoppers' weights are exact in float32 on any machine.
    """
    told = np.stack([_told(p) for p in products])
    shown = np.stack([looks()[p.pattern] + looks()[p.accent] for p in products])
    total = told + shown
    spread = np.maximum(total.std(axis=0), 1e-6)
    both, seen = (total - total.mean(axis=0)) / spread, (shown - shown.mean(axis=0)) / spread
    return (np.round(both * 256) / 256).astype(np.float32), (np.round(seen * 256) / 256).astype(np.float32)


def describe(products: list[Product], seed: int) -> tuple[list[str], list[str]]:
    """Titles, no two the same, and descriptions."""
    chance = np.random.default_rng([seed, 2]).random((len(products), 10))
    titles, told, seen = [], [], dict[str, int]()
    for product, luck in zip(products, chance, strict=True):
        noun, brand, material = product.noun, product.brand[0], product.material[0]
        words = {"noun": noun, "model": product.model, "brand": brand, "material": material, "colour": product.colour}
        title = _capital(_pick(TITLES, luck[0]).format(**words))
        seen[title] = seen.get(title, 0) + 1
        titles.append(title if seen[title] == 1 else f"{title}, No. {seen[title]}")
        names = [name for name, _ in product.features]
        high = round(categories()[product.category].size * (0.85 + luck[6] * 0.3))
        parts = [
            _pick(categories()[product.category].uses, luck[1]),
            _pick(MADE, luck[2]).format(**words),
            _pick(WITH_TWO, luck[3]).format(a=names[0], b=names[1], **words),
            _pick(WITH_ONE, luck[4]).format(a=names[2]) if len(names) > 2 else "",
            _pick(CLOSES, luck[5]).format(x=high, y=round(high * (0.6 + luck[7] * 0.3)), **words),
        ]
        if luck[8] < 0.5:
            parts[0], parts[1] = parts[1], parts[0]
        told.append(" ".join(_capital(part) for part in parts if part))
    return titles, told


def _product(shelf: int, luck: np.ndarray, spread: float) -> Product:
    category = categories()[shelf]
    variant = int(luck[0] * 2)
    brand, material = _pick(brands(), luck[1]), _pick(category.materials, luck[2])
    # A feature's motive is drawn more often where the category leans towards it.
    weight = np.cumsum(np.exp(category.lean / 2))
    motives = list(dict.fromkeys(int(m) for m in np.searchsorted(weight, luck[10:] * weight[-1] * 0.999999)))
    motives = (motives + [m for m in range(len(MOTIVES)) if m not in motives])[: 2 + int(luck[6] < 0.5)]
    features = tuple((_pick(category.features[m], luck[7 + k]), m) for k, m in enumerate(motives))
    # Materials and features that are cheap make the thing cheaper, those of taste and of long life dearer.
    speaks = [m for _, m in features] + [material[1]]
    price = category.price * brand[1] * np.exp(spread) * 0.82 ** speaks.count(0) * 1.12 ** speaks.count(3)
    return Product(
        category=shelf,
        variant=variant,
        noun=_pick(category.nouns[variant], luck[5]),
        model=_pick(MODELS, luck[3]),
        brand=brand,
        material=material,
        features=features,
        colour=_pick(tuple(COLOURS), luck[4]),
        pattern=_pick(PATTERNS, luck[0] * 2 % 1),
        accent=_pick(tuple(ACCENTS), luck[1] * len(brands()) % 1),
        price=max(1.0, round(price) - 0.05),
    )


def _told(product: Product) -> np.ndarray:
    """What words and price say to each motive. (M,)"""
    category = categories()[product.category]
    said = category.lean.copy()
    said[product.material[1]] += 0.8
    if product.brand[2] >= 0:
        said[product.brand[2]] += 0.6
    for _, motive in product.features:
        said[motive] += 1.2
    dear = np.log(product.price / category.price)
    said[0] -= 2.2 * dear
    said[3] += 0.5 * dear
    return said


def _pick(choices: Sequence[T], chance: float) -> T:
    return choices[int(chance * len(choices))]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
