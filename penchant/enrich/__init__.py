"""Catalogues and histories to Texts by asking a language model: each question once, each reply kept, nothing held out seen.

    texts = run("user_motives", split.train, data.catalog, lm, store)          # Texts with the train part's hash
    texts = run("item_from_picture", None, data.catalog, lm, store)            # of the catalogue alone
    plan("user_motives", split.train, data.catalog, lm, store).usd             # before anything is spent

A prompt is a Markdown file in prompts/ (`prompt`); what it may show is taken from a catalogue and a train part
(`material`); questions are answered by the store or by the model (`runner`); `enricher` leads from prompt to Texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penchant import lm as models
from penchant.enrich import prompt as prompts
from penchant.enrich.enricher import Enricher
from penchant.enrich.written import How, Watcher, Written
from penchant.lm import LanguageModel
from penchant.texts import Texts

if TYPE_CHECKING:
    from penchant.catalog import Catalog
    from penchant.data import Interactions
    from penchant.enrich.plan import Plan
    from penchant.store import Store

__all__ = ["Enricher", "How", "Written", "plan", "prompts", "run", "write"]


def run(
    prompt: str,
    train: Interactions | None,
    catalog: Catalog,
    lm: LanguageModel | str,
    store: Store,
    watch: Watcher | None = None,
    **how: Any,
) -> Texts:
    """The texts of `write`, which says what else there is to know of them."""
    return write(prompt, train, catalog, lm, store, watch, **how).texts


def write(
    prompt: str,
    train: Interactions | None,
    catalog: Catalog,
    lm: LanguageModel | str,
    store: Store,
    watch: Watcher | None = None,
    **how: Any,
) -> Written:
    """Texts by a prompt, saved in the store with their card; only what the store lacks is asked.

    prompt: a name (`prompts.names()`) or your own file, ending with .md. train: the part of a split that models are
    trained on, and nothing else: the texts carry its hash, and `fit` raises Leak on any other. None for prompts about
    the catalogue alone. how: fields of `How`.

    Raises MissingInput where the data lack what the prompt shows; LmError where nobody answers, the key or the model is
    refused, or the budget is spent; StoreError before anything is asked where nothing could be kept. Whatever was
    answered until then is kept.
    """
    return _enricher(train, catalog, lm, store, watch, how).write(prompts.read(prompt))


def plan(
    prompt: str, train: Interactions | None, catalog: Catalog, lm: LanguageModel | str, store: Store, **how: Any
) -> Plan:
    """What `write` would ask, and what it would cost; nobody is asked, and nothing is written but an empty store."""
    return _enricher(train, catalog, lm, store, None, how).plan(prompts.read(prompt))


def _enricher(
    train: Interactions | None,
    catalog: Catalog,
    lm: LanguageModel | str,
    store: Store,
    watch: Watcher | None,
    how: dict[str, Any],
) -> Enricher:
    opened = models.open(lm, store) if isinstance(lm, str) else lm
    return Enricher(train, catalog, opened, store, How.of(how), watch)
