"""Judge: a language model that has read notes on somebody, and tells how likely she chooses a thing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import expit

from penchant.data import Ids, Queries
from penchant.enrich.comprehension import Comprehension
from penchant.enrich.remarks import Remarks
from penchant.errors import BadModel
from penchant.lm.amass import title_of
from penchant.lm.fence import clean
from penchant.lm.sharing import apart
from penchant.lm.tiny import Tiny
from penchant.lm.tuned import Lora, Tuned
from penchant.lm.wording import Wording
from penchant.nn import quicken
from penchant.notes import Note, Notes
from penchant.ranker import Heard, Ranker
from penchant.saved import coded, decoded
from penchant.scorers import Arrays
from penchant.texts import Provenance, Texts

__all__ = ["Base", "Judge", "Readers"]


@dataclass(frozen=True, eq=False)
class Readers:
    """What is known of a history: notes, and a profile; either may be missing."""

    notes: Notes | None = None
    profile: Notes | None = None

    def read(self, histories: Sequence[np.ndarray], users: Sequence[str | None]) -> list[tuple[tuple[Note, ...], str]]:
        """Notes and profile of each history."""
        notes = [()] * len(histories) if self.notes is None else self.notes.read(histories, users)
        told = [()] * len(histories) if self.profile is None else self.profile.read(histories, users)
        return [(own, who[-1].text if who else "") for own, who in zip(notes, told, strict=True)]


@dataclass(frozen=True)
class Base:
    """The language model that is trained: spec "tiny", made here with these sizes from `texts`, or a model's folder."""

    spec: str
    tiny: Tiny = Tiny()
    lora: Lora | None = None
    seed: int = 0
    recompute: bool = False

    @property
    def small(self) -> bool:
        return self.spec == "tiny"

    def open(
        self, system: str, texts: Iterable[str], files: Mapping[str, bytes] | None = None
    ) -> tuple[Tuned, dict[str, bytes]]:
        """The model, and its files but for the weights where it was made here. files: those of one that was made before; its weights are
        drawn anew, for whoever kept them to put in place."""
        if not self.small:
            return _quick(Tuned(self.spec, system, self.lora, self.seed, self.recompute)), {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if files is None:
                self.tiny.write(folder, texts, self.seed)
            else:
                self.tiny.again(folder, files)
            tuned = Tuned(folder, system, None, self.seed, self.recompute)
            tuned.settle()
            kept = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix != ".safetensors"}
        return _quick(tuned), kept


@dataclass(frozen=True, eq=False)
class Judge(Ranker):
    """score = z_yes - z_no, so that p = sigmoid(score) = p(yes) / (p(yes) + p(no)); nothing is generated.

    things: what is said of each item. readers: write of a history what is known of a person. steps: whether how they came about is
    shown, too. looks: (I, n, d) float16, what was made of each item's picture; seen: (I,) bool, which items have one.
    item: (I, d), what an item's words are to the model, for likeness. files: of a base that was made here.
    users: ids of the rows of training, so that answers are kept under the names of those they are about. lately: of so many of the
    newest choices the title is shown, too.
    """

    tuned: Tuned
    base: Base
    wording: Wording
    things: Texts
    readers: Readers
    steps: bool = False
    looks: np.ndarray | None = None
    seen: np.ndarray | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    users: Ids | None = None
    lately: int = 0
    kind: ClassVar[str] = "judge"

    @property
    def size(self) -> int:
        return len(self.things.ids)

    @cached_property
    def afters(self) -> list[list[int]]:
        """Tokens of what is asked about each item."""
        each = self.tuned.many([self.wording.thing(text or "") for text in self.things.values])
        there = np.zeros(self.size, bool) if self.looks is None or self.seen is None else self.seen
        places = 0 if self.looks is None else self.looks.shape[1]
        return [self.tuned.after(thing, places if has else 0) for thing, has in zip(each, there, strict=True)]

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.afters))

    @cached_property
    def titles(self) -> list[str]:
        """What stands before the first stop of what is said of each item."""
        return [title_of(clean(text or "")) for text in self.things.values]

    def newest(self, history: np.ndarray) -> tuple[str, ...]:
        """Titles of the newest choices, the newest last."""
        named = (self.titles[row] for row in history[max(len(history) - self.lately, 0) :].tolist())
        return tuple(title for title in named if title)

    def said(self, read: tuple[tuple[Note, ...], str], history: np.ndarray) -> str:
        """What is said of a person of whom this was read."""
        notes, profile = read
        steps = [note.reason for note in notes] if self.steps else []
        return self.wording.person(profile, notes[-1].text if notes else "", steps, self.newest(history))

    def befores(self, queries: Queries) -> list[list[int]]:
        """Tokens of what is shared by all that is asked about each query's person."""
        read = self.readers.read(queries.history, self.names(queries))
        persons = self.tuned.many([self.said(*both) for both in zip(read, queries.history, strict=True)])
        return [self.tuned.before(person, self.longest, self.opening) for person in persons]

    @cached_property
    def opening(self) -> list[int]:
        return self.tuned.tokens(self.wording.opening)

    def names(self, queries: Queries) -> list[str | None]:
        keys = self.users
        return [None if keys is None or u < 0 else keys.keys[u] for u in queries.users.tolist()]

    def rate(self, queries: Queries, candidates: np.ndarray) -> np.ndarray:
        was = self.tuned.model.training
        self.tuned.model.eval()
        after = [[self.afters[max(i, 0)] for i in row] for row in candidates.tolist()]
        looks = None
        if self.looks is not None:
            assert self.seen is not None
            vectors = torch.from_numpy(self.looks)
            looks = [[vectors[i] if i >= 0 and self.seen[i] else None for i in row] for row in candidates.tolist()]
        found = np.array(apart(self.tuned, self.befores(queries), after, looks), np.float32).reshape(candidates.shape)
        self.tuned.model.train(was)
        return np.where(candidates >= 0, found, np.float32(-np.inf))

    def heard(self, queries: Queries, item: int) -> Heard:
        ((notes, profile),) = self.readers.read(queries.history, self.names(queries))
        z = float(self.rate(queries, np.array([[item]]))[0, 0])
        return Heard(float(expit(z)), notes, profile, len(queries.history_items), self.newest(queries.history[0]))

    def carried(self, user: int, history: np.ndarray, item: int) -> np.ndarray:
        """What the score loses when one choice is left out of the history."""
        without = [np.delete(history, place) for place in range(len(history))]
        queries = Queries.of(np.full(len(history) + 1, -1), [history, *without])
        found = self.rate(queries, np.full((len(queries), 1), item))[:, 0]
        return found[0] - found[1:]

    @cached_property
    def item(self) -> np.ndarray:
        """The mean of the vectors of each item's words. (I, d), rows of length 1"""
        table = self.tuned.words.weight.detach().float().cpu().numpy()
        each = self.tuned.many([text or "" for text in self.things.values])
        found = np.stack([table[ids].mean(axis=0) if ids else np.zeros(table.shape[1], np.float32) for ids in each])
        found -= found.mean(axis=0)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def likeness(self, items: np.ndarray) -> np.ndarray:
        return self.item[items] @ self.item.T

    @property
    def remembers(self) -> bool:
        """Whether what people said of their choices is read, too: then it matters whose a history is."""
        readers = (self.readers.notes, self.readers.profile)
        return any(one is not None and one.remarked is not None for one in readers)

    # ---- kept

    def arrays(self) -> dict[str, np.ndarray]:
        """Trained weights, and everything that it was made of; of a base that is a folder, its name and revision alone."""
        facts: dict[str, Any] = {
            "spec": self.base.spec,
            "tiny": asdict(self.base.tiny),
            "lora": None if self.base.lora is None else asdict(self.base.lora),
            "seed": self.base.seed,
            "revision": "" if self.base.small else self.tuned.local.revision,
            "wording": asdict(self.wording),
            "steps": self.steps,
            "lately": self.lately,
            "items": self.things.ids.keys,
            "things": self.things.values,
        }
        for name in ("notes", "profile"):
            reader = getattr(self.readers, name)
            facts[name] = None if reader is None else dict(reader.facts())
            if reader is not None:
                facts[f"{name}_lines"] = reader.lines.values
                facts[f"{name}_known"] = reader.answers()
                facts[f"{name}_rules"] = reader.lm.revision if reader.spec == "extractive" else ""
                facts[f"{name}_from"] = reader.remarked
                facts[f"{name}_said"] = (
                    None if reader.remarks is None else reader.remarks.plain(reader.prompt.limits.review_tokens)
                )
        if self.remembers:
            facts["users"] = None if self.users is None else self.users.keys
        found = {"facts": coded(facts)}
        found |= {f"own/{name}": p.detach().float().cpu().numpy() for name, p in self.tuned.own.items()}
        found |= {f"file/{name}": np.frombuffer(raw, np.uint8) for name, raw in self.files.items()}
        if self.looks is not None:
            assert self.seen is not None
            found |= {"looks": self.looks, "seen": self.seen}
        return found

    @classmethod
    def of(cls, arrays: Arrays) -> Judge:
        """Raises BadModel where the base is not there any more, or is another one now."""
        facts = decoded(arrays["facts"])
        lora = None if facts["lora"] is None else Lora(**facts["lora"])
        base = Base(facts["spec"], Tiny(**facts["tiny"]), lora, facts["seed"])
        things = Texts(Ids("item", tuple(facts["items"])), tuple(facts["things"]), Provenance("kept"))
        wording = Wording(**facts["wording"])
        files = {name.removeprefix("file/"): v.tobytes() for name, v in arrays.items() if name.startswith("file/")}
        tuned, _ = base.open(wording.system, (), files or None)
        if not base.small and tuned.local.revision != facts["revision"]:
            raise BadModel(
                f"this model was fine-tuned on {base.spec} as it was then (revision {facts['revision']}), and the folder holds another "
                f"model now (revision {tuned.local.revision}). Put the old weights back, or fit again:  penchant run RECIPE.toml"
            )
        with torch.no_grad():
            for name, p in tuned.own.items():
                kept = arrays.get(f"own/{name}")
                if kept is None or kept.shape != tuple(p.shape):
                    raise BadModel(
                        f"the weights that were trained do not fit {base.spec}: {name} differs. Fit it again."
                    )
                p.copy_(torch.from_numpy(np.array(kept)))
        readers = {}
        for name in ("notes", "profile"):
            if facts[name] is not None:
                lines = Texts(things.ids, tuple(facts[f"{name}_lines"]), Provenance("kept"))
                said = facts.get(f"{name}_said")
                remarks = None if said is None else Remarks.again(said, facts[f"{name}_from"])
                readers[name] = Comprehension.open(facts[name], lines, remarks=remarks)
                readers[name].remember(facts[f"{name}_known"])
                rules = facts.get(f"{name}_rules", "")
                if rules and rules != readers[name].lm.revision:
                    raise BadModel(
                        "this model learned from notes that were written by other rules than those of this version of Penchant. Fit it again:  "
                        "penchant run RECIPE.toml --fresh"
                    )
        looks = (arrays.get("looks"), arrays.get("seen"))
        users = Ids("user", tuple(facts["users"])) if facts.get("users") else None
        lately = facts.get("lately", 0)
        return cls(tuned, base, wording, things, Readers(**readers), facts["steps"], *looks, files, users, lately)


def _quick(tuned: Tuned) -> Tuned:
    if tuned.device.type == "cpu":
        quicken(tuned.decoder)
    return tuned
