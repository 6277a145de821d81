"""Lines: the texts of a catalogue and of a train part's reviews, cleaned and cut once, with what was cut off."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from penchant.catalog import Catalog
from penchant.data import Interactions
from penchant.enrich.prompt import Limits
from penchant.lm import tokens
from penchant.lm.fence import clean
from penchant.texts import Texts

__all__ = ["Lines"]

TITLE = 40  # tokens of a title
LONG = 200_000  # letters of a review; beyond them the end is only counted, not cleaned


class Lines:
    """before: texts that stand before the catalogue's own, such as descriptions of pictures: encoders and short contexts
    cut at the end."""

    def __init__(self, catalog: Catalog, train: Interactions | None, limits: Limits, before: Texts | None) -> None:
        self.catalog, self.train, self.limits, self.before = catalog, train, limits, before

    @property
    def items(self) -> list[str]:
        """One line a catalogue row, "" for an item without any text."""
        return self._items[0]

    @property
    def item_cuts(self) -> np.ndarray:
        """Tokens cut off each item's text. (I,) int64"""
        return self._items[1]

    @property
    def reviews(self) -> dict[int, str]:
        """One line for each train row that has a review."""
        return self._reviews[0]

    @property
    def review_cuts(self) -> np.ndarray:
        """Tokens cut off each review. (N,) int64"""
        return self._reviews[1]

    @cached_property
    def reviewed(self) -> np.ndarray:
        """Train rows whose review holds anything that can be read. (R,) int64"""
        return np.fromiter(self.reviews, np.int64, count=len(self.reviews))

    @cached_property
    def titles(self) -> list[str]:
        """The title of each catalogue row, or its key."""
        most = min(self.limits.item_tokens, TITLE)
        return [tokens.cut(clean(self.catalog.title(row)), most)[0] for row in range(len(self.catalog.items))]

    @cached_property
    def _items(self) -> tuple[list[str], np.ndarray]:
        own = self.catalog.texts().values
        first = dict(zip(self.before.ids.keys, self.before.values, strict=True)) if self.before is not None else {}
        whole = [
            clean(" ".join(part for part in (first.get(key), text) if part))
            for key, text in zip(self.catalog.items.keys, own, strict=True)
        ]
        made = [tokens.cut(text, self.limits.item_tokens) for text in whole]
        return [line for line, _ in made], np.array([lost for _, lost in made], np.int64)

    @cached_property
    def _reviews(self) -> tuple[dict[int, str], np.ndarray]:
        written = (self.train.review if self.train is not None else None) or ()
        cuts = np.zeros(len(written), np.int64)
        lines: dict[int, str] = {}
        for row, text in enumerate(written):
            if text and (line := clean(text[:LONG])):
                lines[row], lost = tokens.cut(line, self.limits.review_tokens)
                cuts[row] = lost + tokens.count(text[LONG:])
        return lines, cuts
