"""Small language models of our own, and a small world in which every text carries a mark of where it came from.

A mark is a word such as REV03x07Q (the review that user 3 wrote of item 7) or TTL07Q (the title of item 7). The models
here repeat each mark that they are shown, so that whatever a question showed is still there in the answers, in the
texts made of them and in the questions of later prompts.

python toy_lm.py STORE PROMPT LOG          writes a prompt's texts slowly, and a line into LOG for each question
"""

from __future__ import annotations

import hashlib
import io
import re
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from penchant import enrich
from penchant.catalog import Catalog, Pictures
from penchant.data import Dataset, Ids, Interactions
from penchant.lm import Answer, Arrived, LanguageModel, Reply, Request, Status, replies, tokens
from penchant.store import Store

MARK = re.compile(r"[A-Z]{3}\d+(?:x\d+)?Q")
THOUGHT = "THOUGHTTHATSTAYSINSIDE"
USERS, ITEMS = 10, 18

Opinion = Callable[[Request], "Status | None"]
Answers = Callable[[Request], Answer]


def never(request: Request) -> Status | None:
    return None


def repeated(request: Request) -> Answer:
    """All marks in the question, in their order, and a hash of the whole question: equal for equal questions only."""
    shown = "".join((request.system, request.user, *request.pictures))
    code = hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    said = " ".join([f"answer {code}", *MARK.findall(request.user)])
    assert request.schema is not None
    schema = request.schema
    if schema is replies.ReviewMotives:
        review = re.search(r"^ {3}review: (.*)$|^1\. review: (.*)$", request.user, re.MULTILINE)
        words = ((review.group(1) or review.group(2)) if review else "").split()
        aspect = replies.Aspect(aspect=said, evidence=" ".join(words[:3]))
        return replies.ReviewMotives(reasoning=THOUGHT, positive=[aspect], negative=[], need=said, confidence=0.5)
    made: dict[str, Any] = {"reasoning": THOUGHT}
    for name, part in schema.model_fields.items():
        if name != "reasoning":
            made[name] = said if part.annotation is str else []
    if schema is replies.Motives:
        made["drivers"] = [f"driver {code}", *MARK.findall(request.user)[:3]]
    return schema.model_validate(made)


@dataclass(eq=False)
class Toy:
    """A language model by rule. heard: every request that it was asked, in order.

    bad: the status of its reply where that is not "ok". width: how many questions it takes before it answers any;
    within these the last one is answered first, as servers may do. rate: tokens it counts for each of ours.
    """

    name: str = "toy"
    revision: str = "1"
    context: int = 8192
    where: str = ""
    bad: Opinion = never
    says: Answers = repeated
    width: int = 1
    pause: float = 0.0
    rate: float = 1.0
    usd: float = 0.0
    log: Path | None = None
    heard: list[Request] = field(default_factory=list)
    corpora: list[list[str]] = field(default_factory=list)

    def answer(self, requests: Iterable[Request], arrived: Arrived | None = None) -> Iterator[Reply]:
        held: list[Request] = []
        done = 0
        for request in requests:
            self.heard.append(request)
            if self.log is not None:
                with self.log.open("a") as log:
                    log.write(f"{request.key(self.name, self.revision)}\n")
            held.append(request)
            if len(held) == self.width:
                yield from self._together(held, done, arrived)
                done += len(held)
                held = []
        yield from self._together(held, done, arrived)

    def reading(self, corpus: Iterable[str]) -> LanguageModel:
        self.corpora.append(list(corpus))
        return self

    def _together(self, held: Sequence[Request], first: int, arrived: Arrived | None) -> list[Reply]:
        time.sleep(self.pause)
        found = [self._reply(request) for request in held]
        if arrived is not None:
            for n in reversed(range(len(held))):
                arrived(first + n, found[n])
        return found

    def _reply(self, request: Request) -> Reply:
        sent = round(self.rate * (tokens.count(request.system) + tokens.count(request.user) + 8))
        status = self.bad(request)
        if status is not None:
            return Reply("I would rather not", None, status, sent, 5, self.usd, error=f"it said {status}")
        answer = self.says(request)
        text = answer.model_dump_json()
        return Reply(text, answer, "ok", sent, tokens.count(text), self.usd)

    @property
    def questions(self) -> list[str]:
        """The key of each request that it was asked."""
        return [request.key(self.name, self.revision) for request in self.heard]


# the world


def title(item: int) -> str:
    return f"Thing TTL{item}Q"


def review(user: int, item: int) -> str:
    return f"It is well made and REV{user}x{item}Q says so, for good"


def picture(item: int) -> bytes:
    """A picture of one colour; no two items share one."""
    made = io.BytesIO()
    Image.new("RGB", (8, 8), (item, 255 - item, 7 * item % 256)).save(made, "PNG")
    return made.getvalue()


@cache
def catalog(items: int = ITEMS, pictures: bool = True) -> Catalog:
    ids = Ids("item", tuple(f"i{item}" for item in range(items)))
    fields = {
        "title": tuple(title(item) for item in range(items)),
        "description": tuple(f"Described as DSC{item}Q and so on" for item in range(items)),
    }
    shown = Pictures(ids, np.arange(items), tuple(picture(item) for item in range(items)))
    return Catalog(ids, fields, shown if pictures else Pictures.none(ids))


def world(users: int = USERS, items: int = ITEMS, choices: int = 9, seed: int = 0, reviews: bool = True) -> Dataset:
    """Everybody chose some things and wrote about each; the last two choices are held out, the one before is valid.

    The last user wrote nothing at all; the last item was chosen in held-out rows alone, and by two people.
    """
    rng = np.random.default_rng(seed)
    user, item, given, said = [], [], [], list[str | None]()
    for u in range(users):
        chosen = rng.permutation(items - 1)[:choices].tolist()
        if u < 2:
            chosen[-1] = items - 1
        user += [u] * choices
        item += chosen
        given += [0] * (choices - 3) + [1, 2, 2]
        said += [review(u, i) if reviews and u < users - 1 else None for i in chosen]
    n = len(user)
    ids = Ids("user", tuple(f"u{u}" for u in range(users)))
    made = Interactions(
        ids,
        Ids("item", tuple(f"i{i}" for i in range(items))),
        np.array(user),
        np.array(item),
        time=np.arange(n) * 60 + 1_000_000,
        value=rng.integers(1, 6, n).astype(float),
        review=tuple(said) if reviews else None,
    )
    return Dataset("world", made, catalog(items), np.array(given, np.int8))


def changed(data: Dataset, how: str) -> Dataset:
    """The same data, but for its held-out rows: "other items", "other reviews", "other ratings" or "removed"."""
    assert data.given is not None
    old, held = data.interactions, np.flatnonzero(data.given > 0)
    if how == "removed":
        kept = np.flatnonzero(data.given == 0)
        return replace(data, interactions=old.take(kept), given=data.given[kept])
    if how == "other items":
        taken, item = old.matrix().toarray() > 0, old.item.copy()
        rng = np.random.default_rng(3)
        for row in held:
            item[row] = rng.choice(np.flatnonzero(~taken[old.user[row]]))
            taken[old.user[row], item[row]] = True
        return replace(data, interactions=replace(old, item=item))
    if how == "other ratings":
        assert old.value is not None
        value = old.value.copy()
        value[held] = 6 - value[held]
        return replace(data, interactions=replace(old, value=value))
    assert how == "other reviews"
    assert old.review is not None
    said = list(old.review)
    for row in held:
        said[row] = f"Quite another opinion, REV{row}99x{row}Q"
    return replace(data, interactions=replace(old, review=tuple(said)))


# everything that is in a store


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file under a folder: its bytes, and what is packed in it (tables of SQLite and Parquet), as bytes."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        yield name, name.encode() + b"\n" + file.read_bytes()
        if file.suffix == ".parquet":
            yield name, repr(pq.read_table(file).to_pydict()).encode("utf-8", "surrogatepass")
        if file.suffix == ".sqlite":
            db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f"SELECT * FROM {table}"):
                    yield f"{name}/{table}", b"\n".join(_plain(value) for value in row)
            db.close()


def _plain(value: object) -> bytes:
    if isinstance(value, bytes):
        try:
            return zlib.decompress(value)
        except zlib.error:
            return value
    return str(value).encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    place, prompt, log = sys.argv[1:]
    data = world(users=60, items=40)
    lm = Toy(width=8, pause=0.01, log=Path(log), where="http://127.0.0.1:1/v1")
    print("ready", flush=True)
    sys.stdin.readline()
    assert data.given is not None
    train = data.interactions.take(data.given == 0)
    print(enrich.write(prompt, train, data.catalog, lm, Store(place)).ref)
