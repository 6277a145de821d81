"""Material: what a prompt may show about each user, item or interaction, taken from a catalogue and a train part alone.

Nothing here ever sees a data set: whoever enriches hands over the part that models are trained on. Every text is cleaned,
cut and counted once; histories show their newest entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from penchant.calls import Mention
from penchant.catalog import Catalog
from penchant.data import Ids, Interactions
from penchant.enrich.histories import Histories
from penchant.enrich.lines import Lines
from penchant.enrich.prompt import Prompt
from penchant.enrich.remarks import highest, stars
from penchant.lm import replies, tokens
from penchant.lm.fence import Block, clean
from penchant.texts import Texts

__all__ = ["Material", "Question"]

Entry = tuple[tuple[str, str], ...]
ENTRY = 4  # tokens of a number, a field's name and a line break


@dataclass(frozen=True)
class Question:
    """What is asked for one row. shows: who else's words are in it. cut: tokens cut off its texts. left_out: entries of
    the history that it does not show."""

    row: int
    about: Mention
    shows: tuple[Mention, ...] = ()
    blocks: tuple[Block, ...] = ()
    images: tuple[bytes, ...] = ()
    cut: int = 0
    left_out: int = 0

    @property
    def mentions(self) -> tuple[Mention, ...]:
        return (self.about, *self.shows)


class Material:
    """The texts and histories that one prompt is asked with.

    train: the part whose choices and reviews may be seen; None for prompts about the catalogue alone. room: tokens for
    all blocks together. items: texts that stand before the catalogue's own, such as descriptions of pictures. looks,
    read: what earlier prompts made of pictures, by catalogue row, and of reviews, by train row; None where they were
    not asked. `checks.check` has to be content with prompt and data.
    """

    def __init__(
        self,
        prompt: Prompt,
        catalog: Catalog,
        train: Interactions | None,
        room: int,
        items: Texts | None = None,
        looks: Mapping[int, replies.Answer] | None = None,
        read: Mapping[int, replies.Answer] | None = None,
    ) -> None:
        self.prompt, self.catalog, self.room = prompt, catalog, room
        self.looks, self.read, self.given = looks or {}, read, train
        self.limits = prompt.limits.fitting(room, "train reviews" in prompt.sees)
        self.lines = Lines(catalog, train, self.limits, items)
        if train is not None:
            self.histories = Histories(train, catalog.items, self.lines.reviewed)
            # Of reviews, only those that an earlier prompt has read, if it was to read them.
            self.readable = set(self.lines.reviewed.tolist()) if read is None else read.keys()

    @property
    def train(self) -> Interactions:
        assert self.given is not None  # checked when the material was made
        return self.given

    @cached_property
    def ids(self) -> Ids:
        """The rows that are asked about."""
        if self.prompt.of == "item":
            return self.catalog.items
        if self.prompt.of == "user":
            return self.train.users
        users, items = self.train.users.keys, self.train.items.keys
        pairs = zip(self.train.user[self.reviewed].tolist(), self.train.item[self.reviewed].tolist(), strict=True)
        return Ids("interaction", tuple(json.dumps([users[u], items[i]], ensure_ascii=False) for u, i in pairs))

    @property
    def reviewed(self) -> np.ndarray:
        """Rows of the train part that have a review. (R,) int64"""
        return self.lines.reviewed

    def questions(self) -> Iterator[Question]:
        """One question for each row that there is anything to ask about, in the order of rows."""
        if self.prompt.of == "item":
            return self._items()
        return self._users() if self.prompt.of == "user" else self._reviews()

    def steps(self) -> list[list[tuple[int, np.ndarray, int]]]:
        """For a recurrent prompt: for each step, (user, train rows of the block, older choices left out) of those who
        have one. Items without text are passed over; what is left out is told with the first step."""
        size = self.limits.block
        found: list[list[tuple[int, np.ndarray, int]]] = []
        for user in range(len(self.train.users)):
            rows, left = self.histories.of_user(user, self.limits.most)
            # Blocks begin at whole multiples, so that one more choice changes the last block and no other.
            late = -left % size if left else 0
            shown, step = rows[late:], 0
            for start in range(0, len(shown), size):
                part = shown[start : start + size]
                block = [
                    n
                    for n, r in zip(part, self.histories.catalog_rows(part), strict=True)
                    if r >= 0 and self.lines.items[r]
                ]
                if block:
                    if step == len(found):
                        found.append([])
                    found[step].append((user, np.array(block, np.int64), left + late if step == 0 else 0))
                    step += 1
        return found

    def step(self, user: int, rows: np.ndarray, earlier: str, left_out: int = 0) -> Question:
        """One step of a recurrent prompt: a block of items, and what was written before it."""
        at, said = self.histories.catalog_rows(rows), "choices" in self.prompt.blocks
        entries = (self._choice(row, item, said) for row, item in zip(rows.tolist(), at.tolist(), strict=True))
        blocks = [Block("choices" if said else "items", tuple(entries))]
        if earlier:
            blocks.append(Block("earlier", ((("", self._short(earlier)),),)))
        cut = self._cut(rows, at)
        return Question(user, self._user(user, True), self._shown(at), tuple(blocks), cut=cut, left_out=left_out)

    # ---- one question a row

    def _items(self) -> Iterator[Question]:
        blocks, shows = self.prompt.blocks, "picture" in self.prompt.sees and self.prompt.first is None
        lines, cuts = self.lines.items, self.lines.item_cuts.tolist()
        for row, key in enumerate(self.catalog.items.keys):
            about = Mention("item", key, True)
            if shows:
                raw = self.catalog.pictures.read(row)
                if raw is not None:
                    yield Question(row, about, images=(raw,))
                continue
            made: list[Block] = []
            looks = self.looks.get(row) if "looks" in blocks else None
            if lines[row]:
                made.append(Block("item", ((("", lines[row]),),)))
            if looks is not None and looks.text():
                made.append(Block("looks", ((("", self._short(looks.text())),),)))
            received = self._received(row) if "reviews" in blocks and self.given is not None else None
            block, seen, left, cut = received or (None, (), 0, 0)
            if block is not None:
                made.append(block)
            cut += cuts[row]
            if made:
                yield Question(row, about, seen, tuple(made), cut=cut, left_out=left)

    def _received(self, row: int) -> tuple[Block, tuple[Mention, ...], int, int] | None:
        """The reviews of an item: block, who wrote them, how many older ones are left out, tokens cut off."""
        rows, left = self.histories.of_item(row, self.limits.most, self.readable)
        if not len(rows):
            return None
        entries = [self._review(int(r), with_item=False) for r in rows]
        kept = self._fit(entries, tokens.count(self.lines.items[row]))
        rows = rows[len(rows) - kept :]
        writers = tuple(self._user(int(u)) for u in self.train.user[rows])
        block = Block("reviews", tuple(entries[len(entries) - kept :]))
        return block, writers, left + len(entries) - kept, self._review_cut(rows)

    def _users(self) -> Iterator[Question]:
        rated = "choices" in self.prompt.blocks
        for user in range(len(self.train.users)):
            question = self._said(user) if "reviews" in self.prompt.blocks else None
            question = question or self._chosen(user, rated)
            if question is not None:
                yield question

    def _said(self, user: int) -> Question | None:
        rows, left = self.histories.of_user(user, self.limits.most, self.readable)
        if not len(rows):
            return None
        entries = [self._review(int(r), with_item=True) for r in rows]
        kept = self._fit(entries)
        rows = rows[len(rows) - kept :]
        chosen = self._catalog_rows(rows)
        block = Block("reviews", tuple(entries[len(entries) - kept :]))
        cut = self._review_cut(rows)
        return Question(
            user, self._user(user, True), self._shown(chosen), (block,), (), cut, left + len(entries) - kept
        )

    def _chosen(self, user: int, rated: bool) -> Question | None:
        """From the texts of what was chosen."""
        rows, left = self.histories.of_user(user, self.limits.most)
        at = self.histories.catalog_rows(rows)
        there = np.array([r >= 0 and bool(self.lines.items[r]) for r in at], bool)
        rows, at = rows[there], at[there]
        if not len(rows):
            return None
        entries = [self._choice(row, item, rated) for row, item in zip(rows.tolist(), at.tolist(), strict=True)]
        kept = self._fit(entries)
        rows, at = rows[len(rows) - kept :], at[len(at) - kept :]
        block = Block("choices" if rated else "items", tuple(entries[len(entries) - kept :]))
        cut = self._cut(rows, at)
        left += len(there) - kept
        return Question(user, self._user(user, True), self._shown(at), (block,), (), cut, left)

    def _cut(self, rows: np.ndarray, at: np.ndarray) -> int:
        """Tokens that were cut off what is shown of these train rows and their items."""
        lost = self.lines.item_cuts[at].sum() if "item text" in self.prompt.sees else 0
        if "train reviews" in self.prompt.sees and len(self.lines.review_cuts):
            lost += self._review_cut(rows)
        return int(lost)

    def _choice(self, row: int, item: int, rated: bool) -> Entry:
        """A train row: the item's text, or beside a rating and a review its title, where the prompt reads no more of it."""
        if not rated:
            return (("", self.lines.items[item]),)
        sees = self.prompt.sees
        fields = [("item", self.lines.items[item] if "item text" in sees else self.lines.titles[item])]
        if self.train.value is not None and "ratings" in sees:
            fields.append(("rating", self._rating(row)))
        if "train reviews" in sees and row in self.lines.reviews:
            fields.append(("review", self.lines.reviews[row]))
        return tuple(fields)

    def _reviews(self) -> Iterator[Question]:
        for place, row in enumerate(self.reviewed.tolist()):
            block = Block("review", (self._review(row, with_item=True, raw=True),))
            about = Mention("interaction", self.ids.keys[place], True)
            user = self._user(int(self.train.user[row]))
            items = self._shown(self._catalog_rows(np.array([row])))
            yield Question(place, about, (user, *items), (block,), cut=int(self.lines.review_cuts[row]))

    def _review(self, row: int, with_item: bool, raw: bool = False) -> Entry:
        """One choice: the item's title, the rating, and the review or what an earlier prompt made of it."""
        fields: list[tuple[str, str]] = []
        item = int(self.histories.catalog_rows(np.array([row]))[0])
        if with_item and item >= 0:
            fields.append(("item", self.lines.titles[item]))
        if self.train.value is not None and "ratings" in self.prompt.sees:
            fields.append(("rating", self._rating(row)))
        told = None if raw or self.read is None else self.read.get(row)
        if isinstance(told, replies.ReviewMotives):
            praised, criticised = ("; ".join(a.aspect for a in part) for part in (told.positive, told.negative))
            for name, words in (("praised", praised), ("criticised", criticised), ("need", told.need)):
                if short := tokens.cut(clean(words), self.limits.review_tokens // 3)[0]:
                    fields.append((name, short))
        elif self.read is None or raw:
            fields.append(("review", self.lines.reviews[row]))
        return tuple(fields)

    def _rating(self, row: int) -> str:
        """A rating with the highest one given, because nobody knows the scale: "3.5/5"."""
        assert self.train.value is not None
        return stars(float(self.train.value[row]), self._highest)

    @cached_property
    def _highest(self) -> float:
        assert self.train.value is not None
        return highest(self.train.value)

    def _catalog_rows(self, rows: np.ndarray) -> np.ndarray:
        at = self.histories.catalog_rows(rows)
        return at[at >= 0]

    def _review_cut(self, rows: np.ndarray) -> int:
        return int(self.lines.review_cuts[rows].sum()) if self.read is None else 0

    def _short(self, text: str) -> str:
        """What a model wrote before, at most a third of the room: it may have ignored every limit."""
        return tokens.cut(clean(text), self.room // 3)[0]

    def _fit(self, entries: Sequence[Entry], taken: int = 0) -> int:
        """How many of the newest entries fit into the room that is left; at least one."""
        room = self.room - taken
        for place, entry in enumerate(reversed(entries)):
            room -= sum(tokens.count(value) + ENTRY for _, value in entry)
            if room < 0:
                return max(place, 1)
        return len(entries)

    def _user(self, row: int, asked: bool = False) -> Mention:
        return Mention("user", self.train.users.keys[row], asked)

    def _shown(self, rows: np.ndarray) -> tuple[Mention, ...]:
        return tuple(Mention("item", self.catalog.items.keys[row]) for row in rows)
