"""Lexicon: which words betray which motive, which praise, blame and negate; read from the tables in `words/`.

    word = words()["sturdier"]      # Word: its root, whether it is a stop word, what it says (Sense)

About 75 themes ("price", "gifts", "suspense"), each with words that praise, blame or merely touch it. Words are known
by their forms ("sturdier" by "sturdy", "unsafe" by "safe" turned round), phrases of up to six words by a trie. What a
word says is worked out once and remembered, so that a text costs one look-up a word.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["TABLES", "Lexicon", "Sense", "Theme", "Word", "forms", "lexicon", "root"]

TABLES = ("things.txt", "stories.txt", "opinions.txt", "grammar.txt", "makings.txt")
HERE = "."  # where a phrase of the trie ends; no word is written so
LONGEST = 40  # letters of a word that are looked at
MOST_WORDS = 200_000  # remembered at a time
FAR, NEAR = 7, 2  # words that "not" and "less" reach
SAME, HARD, END, CONTRARY = 1, 2, 3, 4
"""How a word ends a clause: "and", a comma, a full stop, "but"."""


@dataclass(frozen=True)
class Theme:
    """Something people choose by. label: in words; need: what somebody who cares for it wants; bane: its contrary.

    occasion: a use or a person rather than a property ("gifts"): people never blame the occasion itself. story: it is
    sought in books, films and games.
    """

    name: str
    label: str
    need: str
    bane: str
    occasion: bool
    story: bool


@dataclass(frozen=True, slots=True)
class Sense:
    """What a word or phrase says: (theme, +1 praise, -1 blame, 0 talk), an opinion, how many words it negates."""

    themes: tuple[tuple[int, int], ...] = ()
    opinion: int = 0
    turns: int = 0
    breaks: int = 0

    @property
    def views(self) -> bool:
        """Whether it praises or blames."""
        return self.opinion != 0 or any(view for _, view in self.themes)

    def turned(self) -> Sense:
        return Sense(tuple((theme, -view) for theme, view in self.themes), -self.opinion)


@dataclass(frozen=True, slots=True, eq=False)
class Word:
    """A word as it stands in texts. root: the same for its plural; key: what phrases know it by ("" for none).

    content: it may begin or end a key phrase; stop words, numbers and opinions may not. usual: the share of ordinary texts that it is assumed to occur in.
    Each word is one object, so sets of words are quick.

    special: it says something, or begins a phrase that does; phrases: the trie of what may follow.
    """

    text: str
    root: str
    key: str
    content: bool
    usual: float
    special: bool
    sense: Sense | None
    phrases: dict | None


class Lexicon(dict[str, Word]):
    """Token -> Word for every token there is; themes in the order of the tables. print: hash of all tables."""

    def __init__(self, tables: dict[str, str]) -> None:
        super().__init__()
        said = "\0".join(f"{name}\0{text}" for name, text in sorted(tables.items()))
        self.tables = tables
        self.print = hashlib.sha256(said.encode()).hexdigest()
        self.themes: list[Theme] = []
        self.senses: dict[str, Sense] = {}
        phrases: dict[str, Sense] = {}
        self.stop: set[str] = set()
        self.common: set[str] = set()
        for where, mark, entry in self._entries(tables):
            sense = self._sense(where, mark)
            if sense is None:
                (self.stop if mark == "." else self.common).add(entry)
                continue
            for spelt in _contracted(entry.replace("-", "_")):
                into = phrases if "_" in spelt else self.senses
                into[spelt] = _both(into.get(spelt), sense)
        self._vocabulary = {word for phrase in phrases for word in phrase.split("_")}
        self.occasions = tuple(theme.occasion for theme in self.themes)
        self.trie: dict = {}
        for phrase, sense in phrases.items():
            node = self.trie
            for word in phrase.split("_"):
                node = node.setdefault(self._key(word), {})
            node[HERE] = _both(node.get(HERE), sense)

    def __missing__(self, token: str) -> Word:
        if len(self) > MOST_WORDS:
            self.clear()
        word = self[token] = self._word(token.strip("'")[:LONGEST] or ",")
        return word

    def theme(self, name: str) -> int:
        """Place of a theme by its name, label or need; -1 for none."""
        return self._named.get(name, -1)

    def _entries(self, tables: dict[str, str]) -> Iterator[tuple[str, str, str]]:
        """(table, mark, word or phrase), with themes put down as they come."""
        self._named: dict[str, int] = {}
        for name in TABLES[:4]:
            aside = False
            for line in tables[name].splitlines():
                mark, said = line[:1], line[2:].strip()
                if mark == "%":
                    aside = True
                elif mark in ("=", "~") and " | " in said:
                    aside = False
                    parts = [part.strip() for part in said.split("|")]
                    bane = parts[3] if len(parts) > 3 else parts[1]
                    place = len(self.themes)
                    self.themes.append(Theme(parts[0], parts[1], parts[2], bane, mark == "~", name == "stories.txt"))
                    self._named |= dict.fromkeys((bane, parts[2], parts[1], parts[0]), place)
                elif mark and mark != "#":
                    kind = "%" if aside else mark
                    for written in said.split():
                        yield from ((name, kind, entry) for entry in _spread(written))

    def _sense(self, table: str, mark: str) -> Sense | None:
        if mark == "%":
            return Sense()
        if table == "opinions.txt":
            if mark in "!?":
                return Sense(turns=FAR if mark == "!" else NEAR)
            return Sense(opinion={"+": 1, "-": -1}.get(mark, 0))
        if table == "grammar.txt":
            return Sense(breaks=SAME if mark == "," else CONTRARY) if mark in ",/" else None
        return Sense(themes=((len(self.themes) - 1, {"+": 1, "-": -1}.get(mark, 0)),))

    def _word(self, token: str) -> Word:
        if not (token[0].isalnum() or token in self.senses):
            ends = END if token[0] in ".!?…。！？\n" else HARD
            return Word(token, token, "", False, 1.0, True, Sense(breaks=ends), None)
        stop, key = token in self.stop, self._key(token)
        base = token if stop else root(token)
        common = token in self.common or base in self.common
        sense = self.senses.get(token) or self._by_form(token)
        if sense is None and token[:2] == "un" and len(token) > 5:
            turned = self._by_form(token[2:])
            sense = turned.turned() if turned and turned.views else None
        if sense is not None and not any((sense.themes, sense.opinion, sense.turns, sense.breaks)):
            sense = None
        opinion = sense is not None and sense.opinion != 0
        content = not stop and not opinion and len(token) > 1 and not token.isdigit() and token[0].isalpha()
        usual = 0.4 if stop else 0.08 if common else 0.03 if token.endswith("ly") else 0.003
        phrases = self.trie.get(key) if key else None
        return Word(token, base, key, content, usual, sense is not None or phrases is not None, sense, phrases)

    def _by_form(self, token: str) -> Sense | None:
        """What the nearest form says; "not" and "but" have no forms."""
        sense = next((self.senses[form] for form in forms(token) if form in self.senses), None)
        return sense if sense and (sense.themes or sense.opinion) else None

    def _key(self, word: str) -> str:
        return min((form for form in forms(word) if form in self._vocabulary), key=lambda f: (len(f), f), default="")


@cache
def lexicon() -> Lexicon:
    """The lexicon of the tables that come with Penchant, read once."""
    folder = Path(__file__).with_name("words")
    return Lexicon({name: (folder / name).read_text("utf-8") for name in TABLES})


def root(word: str) -> str:
    """A word without the s of plural or possession: "batteries" -> "battery". Nothing else is cut."""
    word = word.removesuffix("'s")
    if len(word) < 4 or word[-1] != "s" or word[-2] in "sui'":
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes", "zzes")) else word[:-1]


def forms(word: str) -> Iterator[str]:
    """The word and what it may be a form of, nearest first; most are no words, and only those in a table count."""
    yield word
    base = root(word)
    if base != word:
        yield base
        if word.endswith("es"):
            yield word[:-2]
    for suffix, least in (("ed", 5), ("ing", 6), ("er", 5), ("est", 6), ("ly", 5), ("ness", 7)):
        if not word.endswith(suffix) or len(word) < least:
            continue
        stem = word[: -len(suffix)]
        if stem[-1] == "i":
            yield stem[:-1] + "y"
        if suffix in ("ed", "ing", "er", "est"):
            yield stem + "e"
        yield stem
        if len(stem) > 3 and stem[-1] == stem[-2] and suffix not in ("ly", "ness"):
            yield stem[:-1]


def _both(first: Sense | None, second: Sense) -> Sense:
    """Two entries of one word. Where one says more of a theme than the other, the more is kept."""
    if first is None:
        return second
    themes = dict(first.themes)
    for theme, view in second.themes:
        themes[theme] = themes.get(theme) or view
    return Sense(
        tuple(themes.items()),
        first.opinion or second.opinion,
        first.turns or second.turns,
        first.breaks or second.breaks,
    )


def _spread(entry: str) -> Iterator[str]:
    """`{a|b}_c` -> a_c, b_c."""
    parts = [part[1:-1].split("|") if part[0] == "{" else [part] for part in re.findall(r"\{[^}]*\}|[^{]+", entry)]
    return ("".join(chosen) for chosen in itertools.product(*parts))


def _contracted(phrase: str) -> list[str]:
    """`did_not_fit` -> also didn't_fit and didnt_fit; `can't_beat` -> also cant_beat and can_not_beat."""
    spelt = [phrase]
    match = re.search(
        r"(?<![a-z])(do|does|did|is|was|are|were|would|will|could|can|has|have|had|should)_not(?![a-z])", phrase
    )
    if match:
        short = {"will": "wo", "can": "ca"}.get(match[1], match[1])
        spelt += [phrase.replace(match[0], f"{short}n't", 1), phrase.replace(match[0], f"{short}nt", 1)]
        spelt += [phrase.replace(match[0], "cannot", 1)] if match[1] == "can" else []
    elif "n't" in phrase:
        verb = re.search(r"([a-z]+)n't", phrase)
        assert verb
        full = {"wo": "will", "ca": "can"}.get(verb[1], verb[1])
        spelt += [phrase.replace("n't", "nt", 1)]
        spelt += [phrase.replace(verb[0], f"{full}_not", 1)] if "_" in phrase else []
    return spelt
