"""Checks: whether the data hold what a prompt shows, and a context is wide enough for it, before anybody is asked."""

from __future__ import annotations

from penchant.catalog import Catalog
from penchant.data import Interactions
from penchant.enrich.prompt import Prompt
from penchant.errors import BadSetting, MissingInput
from penchant.lm import LanguageModel, tokens

__all__ = ["check", "has_reviews", "room"]

LEAST = 256  # tokens of material that are worth asking about
FRAME = 64  # tokens that a server and the fence put around messages and blocks


def check(prompt: Prompt, catalog: Catalog, train: Interactions | None) -> None:
    """Raises MissingInput for what the prompt shows and the data lack."""
    reviewed = has_reviews(train)
    if prompt.personal and train is None:
        raise MissingInput(
            f"{prompt.name} reads what people chose: give it a split's train part, e.g.  "
            f'enrich.run("{prompt.name}", split.train, data.catalog, lm, store)'
        )
    if "picture" in prompt.sees and not catalog.pictures.present.any():
        raise MissingInput(
            f"{prompt.name} looks at pictures, and this catalogue has none. Add images/ or images.parquet to the data "
            "folder, or choose a prompt that reads text:  item_motives, user_preference"
        )
    if prompt.of == "interaction" and not reviewed:
        raise MissingInput(
            f"{prompt.name} reads reviews, and these interactions have none. Add a column `review`, or use "
            "user_motives and item_motives, which read item texts where there are no reviews"
        )
    said = reviewed and "train reviews" in prompt.sees
    if not any(catalog.texts().values) and "picture" not in prompt.sees and not said:
        raise MissingInput(
            f"{prompt.name} reads item texts, and this catalogue has no title, brand, categories or description. "
            "Add them to items.parquet"
        )


def has_reviews(train: Interactions | None) -> bool:
    """Whether anybody wrote anything."""
    return any(text and text.strip() for text in (train.review if train is not None else None) or ())


def room(prompt: Prompt, model: LanguageModel) -> int:
    """Tokens that the material may take beside the prompt's own words and the answer.

    Raises BadSetting where the model reads too little for that.
    """
    own = tokens.count(prompt.system) + tokens.count(prompt.user) + prompt.max_tokens + FRAME
    if model.context < own + LEAST:
        raise BadSetting(
            f"{model.name} reads {model.context:,} tokens, and {prompt.name} takes {own:,} before it shows anything: "
            f"its own words, and {prompt.max_tokens} for the answer. Widen the server's context and say so:  "
            f"--context {-(-(own + LEAST) // 1024) * 1024}"
        )
    return model.context - own
