"""Tokens, counted by one stated rule, because nobody knows a server's tokenizer: four bytes of UTF-8 are one token.

For English that is a little more than byte-pair tokenizers of current models count; for scripts of three bytes a letter
it is about right. Plans and truncation use the rule; what a server reports is what the card says was used. `most`
is safe for every tokenizer that works on bytes: none makes more tokens than there are bytes.
"""

from __future__ import annotations

__all__ = ["RULE", "count", "cut", "most"]

RULE = "4 bytes of UTF-8 a token"
BYTES = 4


def count(text: str) -> int:
    """Tokens of a text, by the rule."""
    return -(-_size(text) // BYTES)


def most(text: str) -> int:
    """More tokens than any byte-level tokenizer makes of a text."""
    return _size(text)


def cut(text: str, limit: int) -> tuple[str, int]:
    """The beginning of a text, at most `limit` tokens and ending with a whole word, and how many tokens were cut off."""
    size = _size(text)
    if size <= limit * BYTES:
        return text, 0
    kept = text.encode("utf-8", "surrogatepass")[: max(0, limit * BYTES)].decode("utf-8", "ignore")
    if " " in kept and not text[len(kept) : len(kept) + 1].isspace():
        kept = kept[: kept.rindex(" ")]
    return kept.rstrip(), count(text) - count(kept.rstrip())


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
