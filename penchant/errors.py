"""Every error Penchant raises for something its user can mend.

Each message says what happened, what was there, and what to type next. The command line prints the
message alone and leaves with exit code 2; a traceback means a fault of ours.

    PenchantError
    ├── BadInput            something given to us cannot be used
    │   ├── MissingFile     no such file or folder
    │   ├── BadTable        an empty table, a missing column, a null id, an impossible value
    │   ├── BadPicture      truncated, not a picture, or far too large
    │   └── BadArchive      a path that leaves the archive, an unknown layout, an unsafe pickle
    ├── BadRecipe           a recipe that cannot be run as written
    │   ├── UnknownKey      a misspelt or unknown setting; the near one is named
    │   └── BadSetting      a value of the wrong type or outside its range
    ├── MissingInput        a model asks for Features, Texts or pictures that were not given
    ├── MissingExtra        an optional dependency is not installed
    ├── Misaligned          rows of an input do not belong to these users or items
    ├── Leak                an input was written from interactions outside this split's train part
    ├── UnknownId           a user or item that this run has never seen
    ├── CannotServeColdItems  this model has no vector for an item without interactions
    ├── DifferentProtocols  reports that must not stand in one table
    ├── BadModel            a damaged model folder, or one from a newer version
    ├── Diverged            training produced NaN or infinity
    ├── TooLarge            a batch does not fit into the memory of the graphics card
    ├── LmError             a language model cannot be asked
    │   ├── NoEndpoint      nobody answers there, or nobody does any more
    │   ├── BadKey          the server refuses the API key
    │   ├── UnknownModel    the server does not know the model or the path
    │   ├── BudgetSpent     another call could exceed the budget
    │   └── NotReplayed     an answer that should come from the store is not there
    ├── StoreError          the store is read-only, full or damaged
    └── StateError          the service's database is locked, full, gone, or not ours
        ├── StateBusy       it cannot be read or written for now; nothing was kept, try again
        └── KeyReused       an idempotency key came again with other content
    UserWarning
    └── Approximate         too large to be done exactly; how it is done instead
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "Approximate",
    "BadArchive",
    "BadInput",
    "BadKey",
    "BadModel",
    "BadPicture",
    "BadRecipe",
    "BadSetting",
    "BadTable",
    "BudgetSpent",
    "CannotServeColdItems",
    "DifferentProtocols",
    "Diverged",
    "KeyReused",
    "Leak",
    "LmError",
    "Misaligned",
    "MissingExtra",
    "MissingFile",
    "MissingInput",
    "NoEndpoint",
    "NotReplayed",
    "PenchantError",
    "StateBusy",
    "StateError",
    "StoreError",
    "TooLarge",
    "UnknownId",
    "UnknownKey",
    "UnknownModel",
    "example",
    "near",
    "some",
]


class PenchantError(Exception):
    """Base of all errors that the user can mend; str(error) is the whole message."""


class BadInput(PenchantError): ...


class MissingFile(BadInput): ...


class BadTable(BadInput): ...


class BadPicture(BadInput): ...


class BadArchive(BadInput): ...


class BadRecipe(PenchantError): ...


class UnknownKey(BadRecipe):
    """A key that nothing here is called; the nearest known one is suggested."""

    def __init__(self, where: str, key: str, known: Iterable[str], what: str = "setting") -> None:
        known = sorted(known)
        super().__init__(f"{where} has no {what} `{key}`.{near(key, known)} It has: {', '.join(known) or 'none'}")


class BadSetting(BadRecipe): ...


class MissingInput(PenchantError): ...


class MissingExtra(PenchantError):
    """An optional dependency is not installed; names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional part that is not installed. Install it:  pip install 'penchant[{extra}]'"
        )


class Misaligned(PenchantError): ...


class Leak(PenchantError): ...


class UnknownId(PenchantError):
    """A user or item key that is not known here; near keys are suggested."""

    def __init__(self, kind: str, key: str, known: Iterable[str], hint: str = "") -> None:
        super().__init__(f"no {kind} {key!r} here.{near(key, known)}{' ' + hint if hint else ''}")


class CannotServeColdItems(PenchantError): ...


class DifferentProtocols(PenchantError): ...


class BadModel(PenchantError): ...


class Diverged(PenchantError): ...


class TooLarge(PenchantError): ...


class LmError(PenchantError): ...


class NoEndpoint(LmError): ...


class BadKey(LmError): ...


class UnknownModel(LmError): ...


class BudgetSpent(LmError): ...


class NotReplayed(LmError): ...


class StoreError(PenchantError): ...


class StateError(PenchantError): ...


class StateBusy(StateError): ...


class KeyReused(StateError): ...


def near(key: str, known: Iterable[str]) -> str:
    """' Did you mean `x`?' for the closest known word, or nothing."""
    close = difflib.get_close_matches(key, list(known)[:50_000], n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""


def some(keys: Iterable[str], most: int = 3) -> str:
    """The first few keys for a message: 'a, b, c and 17 more'."""
    keys = list(keys)
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(repr(k)[1:-1] if not k.isprintable() else k for k in keys[:most]) + more


def example(name: str) -> str:
    """What to write for an input of this name."""
    kind, _, about = name.partition("_")
    if about in ("motives", "profiles"):
        return f'{name} = {{ from = "{kind}_motives", lm = "extractive", encoder = "minilm" }}'
    if name == "user_preferences":
        return f'{name} = {{ from = "user_preference", lm = "extractive", encoder = "minilm" }}'
    if name == "picture":
        return f'{name} = {{ from = "item_from_picture", lm = "extractive", encoder = "minilm" }}'
    if name == "summary":
        return 'summary = { from = "item_summary", lm = "extractive" }'
    if name in ("notes", "profile"):
        prompt = {"notes": "preference_step", "profile": "user_profile"}[name]
        return f'{name} = {{ from = "{prompt}", lm = "extractive", items = "item_summary" }}'
    if name == "tokens":
        return f'{name} = {{ from = "catalog.text", encoder = "minilm-tokens" }}'
    source = {"image": "catalog.image", "text": "catalog.text", "item_texts": "catalog.text"}.get(name, name)
    return f'{name} = {{ from = "{source}", encoder = "..." }}'


class Approximate(UserWarning):
    """What was asked for is too large to be done exactly, and how it is done instead."""
