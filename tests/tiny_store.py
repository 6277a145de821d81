"""A small world with pictures and reviews, a language model that repeats what it reads, and a store that holds what it wrote.

Every user and item has a word of its own, which stands in everything written from it: so a test can see where it went.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from toy_encoder import Toy

from penchant import encode, enrich
from penchant.calls import Calls
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions
from penchant.lm import Arrived, LanguageModel, Reply, Request, wire_schema
from penchant.lm.fence import blocks_of
from penchant.store import Store
from penchant.sweep import delete, shortly

USERS, ITEMS = 6, 8
EACH = 3  # choices of a user
PRICE = 0.01  # of a call


def word(kind: str, row: int) -> str:
    """The word of one user or item: "Quzuserthree"."""
    return f"Quz{kind}{('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven')[row]}"


def drawing(row: int) -> bytes:
    """A picture of its own for each item, red above and blue below."""
    picture = Image.new("RGB", (60, 40), (220, 30, 20))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 20, 60, 40), fill=(20, 40, 210))
    draw.ellipse((5 * row, 10, 5 * row + 8, 18), fill=(250, 250, 250))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def catalog(title: str = "") -> Catalog:
    """title: put before every item's own."""
    items = Ids("item", tuple(f"i{row}" for row in range(ITEMS)))
    titles = tuple(f"{title}{word('item', row)} lamp" for row in range(ITEMS))
    pictures = Pictures(items, np.arange(ITEMS), tuple(drawing(row) for row in range(ITEMS)))
    return Catalog(items, {"title": titles}, pictures)


def train(review: str = "{0} says that {1} is fine and warm") -> Interactions:
    """User u chooses items u, u + 1 and u + 2, and says so."""
    users = Ids("user", tuple(f"uma{row}" for row in range(USERS)))
    user = np.repeat(np.arange(USERS), EACH)
    item = user + np.tile(np.arange(EACH), USERS)
    said = tuple(review.format(word("user", u), word("item", i)) for u, i in zip(user, item, strict=True))
    return Interactions(users, catalog().items, user, item, time=np.arange(len(user)), review=said)


@dataclass
class Parrot:
    """Repeats the words of strangers in every field of its reply; refuses what it was told to refuse.

    seen: the user messages, in the order asked.
    """

    name: str = "parrot"
    revision: str = ""
    where: str = "https://parrot.example"
    context: int = 8192
    refuses: str = ""
    fails: str = ""
    says: str = ""
    seen: list[str] = field(default_factory=list)

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        return self

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        for n, request in enumerate(requests):
            self.seen.append(request.user)
            reply = self._reply(request)
            if arrived is not None:
                arrived(n, reply)
            yield reply

    def _reply(self, request: Request) -> Reply:
        facts: dict[str, Any] = {"tokens_in": len(request.user) // 4, "tokens_out": 20, "usd": PRICE}
        if self.refuses and self.refuses in request.user:
            return Reply("I can't help with that.", None, "refused", error="it refused to answer", **facts)
        if self.fails and self.fails in request.user:
            return Reply("", None, "failed", error="the server hung up", **facts)
        values = [v for block in blocks_of(request.user) for entry in block.entries for _, v in entry]
        seen = f"{self.says}{' '.join(values) or f'a picture of {len(request.images[0])} bytes'}"
        assert request.schema is not None
        made = {
            name: self._filled(node, seen) if name != "reasoning" else f"Because of {seen}"
            for name, node in wire_schema(request.schema)["properties"].items()
        }
        parsed = request.schema.model_validate(made)
        return Reply(parsed.model_dump_json(), parsed, **facts)

    def _filled(self, node: dict[str, Any], seen: str) -> Any:
        if node["type"] == "array":
            return [self._filled(node["items"], seen)]
        if node["type"] == "object":
            return {name: self._filled(part, seen) for name, part in node["properties"].items()}
        return 0.5 if node["type"] == "number" else seen


@dataclass(frozen=True)
class Shelved:
    """Refs of what was written and encoded."""

    described: str  # items, from their pictures
    motives: str  # users, from their reviews
    item_motives: str  # items, from reviews
    reviews: str  # of each interaction
    through: str  # items, from what was made of each review
    motive_vectors: str  # of users
    item_vectors: str  # of items, from `item_motives`
    described_vectors: str


def write(prompt: str, store: Store, lm: Parrot | None = None, **how: Any) -> str:
    """The ref of texts by a prompt."""
    personal = enrich.prompts.read(prompt).personal
    how.setdefault("title", "tiny")
    return enrich.write(prompt, train() if personal else None, catalog(), lm or Parrot(), store, **how).ref


def vectors(ref: str, store: Store) -> str:
    """The ref of the vectors of texts."""
    return encoded(encode.texts(store.load_texts(ref), Toy(), store), store)


def encoded(features: Any, store: Store) -> str:
    return store.save_features(features)


def fill(store: Store, lm: Parrot | None = None) -> Shelved:
    """Everything a project would have after a day."""
    described = write("item_from_picture", store, lm)
    motives = write("user_motives", store, lm)
    item_motives = write("item_motives", store, lm)
    through = write("item_motives", store, lm, through=True)
    reviews = next(ref for ref in store.refs("texts") if store.card(ref)["of"] == "interaction")
    return Shelved(
        described,
        motives,
        item_motives,
        reviews,
        through,
        vectors(motives, store),
        vectors(item_motives, store),
        vectors(described, store),
    )


def drop(calls: Calls, keys: Sequence[str]) -> int:
    """Takes calls out of a store, as those who use `sweep` do; how many there were."""
    before = len(calls)
    with shortly(calls, keys) as db:
        delete(db, "DELETE FROM calls WHERE key IN ({})", keys)
    with calls.told() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - len(calls)
