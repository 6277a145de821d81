"""Writer: the weights of a language model at work: a batch of prompts to what follows them, word by word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from penchant.errors import BadModel
from penchant.lm import Request
from penchant.lm.chat import PER_TOKEN, Chat, Prompt, loading

__all__ = ["Said", "Writer"]

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """What the model wrote. ended: by itself, not because there was no more room. tokens: with the mark of the end."""

    text: str
    tokens: int
    ended: bool


class Writer:
    """A model's weights, loaded when the first prompt comes. device: "cpu" (32-bit floats) or "cuda" (the checkpoint's).

    Each answer in a list stands for the prompt in its place; a str says why there is none. A batch that does not fit
    into the memory is done in halves.
    """

    def __init__(self, chat: Chat, device: str) -> None:
        self.chat, self.device = chat, device

    def written(self, prompts: Sequence[Prompt], requests: Sequence[Request], room: int) -> list[Said | str]:
        """What follows each prompt, at most `room` tokens, chosen by the request's temperature and seed."""
        return self._halving(range(len(prompts)), lambda rows: self._written(prompts, requests, room, rows), prompts)

    def logits(self, prompts: Sequence[Prompt]) -> list[np.ndarray | str]:
        """What the model thinks of every token as the first one. (tokens known,) float64 each"""
        return self._halving(range(len(prompts)), lambda rows: self._logits(prompts, rows), prompts)

    def _written(
        self, prompts: Sequence[Prompt], requests: Sequence[Request], room: int, rows: Sequence[int]
    ) -> list[Said]:
        ids = self._generated([prompts[row] for row in rows], room, [requests[row] for row in rows]).sequences
        ends = set(self.model.generation_config.eos_token_id)
        said = []
        for row in ids[:, max(prompts[row].tokens for row in rows) :].tolist():
            end = next((place for place, token in enumerate(row) if token in ends), None)
            text = self.chat.tokenizer.decode(row[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
            said.append(Said(text.strip(), len(row) if end is None else end + 1, end is not None))
        return said

    def _logits(self, prompts: Sequence[Prompt], rows: Sequence[int]) -> list[np.ndarray]:
        out = self._generated([prompts[row] for row in rows], 1, logits=True)
        return list(out.logits[0].double().cpu().numpy())

    def _generated(
        self, prompts: Sequence[Prompt], room: int, requests: Sequence[Request] = (), logits: bool = False
    ) -> Any:
        import torch
        from transformers import GenerationConfig

        settings = GenerationConfig(
            max_new_tokens=room, do_sample=False, output_logits=logits, return_dict_in_generate=True
        )
        arrays = _stacked(prompts, self.model.generation_config.pad_token_id)
        choice = _Choice(self.chat.name, requests)
        with torch.inference_mode():
            arrays = {name: array.to(self.device) for name, array in arrays.items()}
            return self.model.generate(**arrays, generation_config=settings, logits_processor=[choice])

    def _halving(
        self, rows: Sequence[int], work: Callable[[Sequence[int]], list[T]], prompts: Sequence[Prompt]
    ) -> list[T | str]:
        import torch

        try:
            return list(work(rows))
        except torch.OutOfMemoryError:
            pass  # what the failed attempt holds is free only out here
        if len(rows) == 1:
            return [
                f"a prompt of {prompts[rows[0]].tokens:,} tokens does not fit into the memory of {self.device}. "
                "Put less into one question, or take a smaller model."
            ]
        half = len(rows) // 2
        return self._halving(rows[:half], work, prompts) + self._halving(rows[half:], work, prompts)

    @cached_property
    def model(self) -> Any:
        """Raises BadModel for weights that cannot be loaded or are not whole."""
        chat = self.chat
        with loading(chat.name):
            import torch
            from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

            kind: Any = AutoModelForImageTextToText if chat.sees else AutoModelForCausalLM
            loaded, report = kind.from_pretrained(
                chat.folder,
                local_files_only=True,
                trust_remote_code=False,
                # The type is named because libraries now default to the checkpoint's own, slow on a processor.
                dtype=torch.float32 if self.device == "cpu" else "auto",
                output_loading_info=True,
            )
            missing = sorted(report["missing_keys"])  # the library fills them with random numbers
            if missing:
                raise BadModel(
                    f"language model {chat.name}: its weights lack {len(missing)} tensors, e.g. {missing[0]}. "
                    "Fetch the folder again."
                )
            named = loaded.generation_config.eos_token_id
            ends = {*(named if isinstance(named, list) else [named]), chat.special("eos_token")} - {None}
            pads = [token for token in (chat.special("pad_token"), *sorted(ends)) if token is not None]
            # Nothing else of the folder's settings: no penalty, no cut-off, no temperature of its own.
            loaded.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=[*pads, 0][0])
            return loaded.eval().to(self.device)


class _Choice:
    """Makes the word of the highest score the word chosen by the request's temperature and seed.

    Adding Gumbel noise to z / temperature and taking the highest is drawing from softmax(z / temperature); every row
    has noise of its own, so a row's draws do not depend on its neighbours.
    """

    def __init__(self, name: str, requests: Sequence[Request]) -> None:
        import torch

        self.name = name
        self.sampled = [
            (row, one.temperature, torch.Generator().manual_seed(one.seed))
            for row, one in enumerate(requests)
            if one.temperature > 0
        ]

    def __call__(self, ids: Any, scores: Any) -> Any:
        """ids (B, tokens), scores (B, words) -> (B, words)"""
        import torch

        if scores.isnan().any():
            raise BadModel(
                f"language model {self.name} computes NaN: its weights are damaged, or overflow in "
                f"{str(scores.dtype).removeprefix('torch.')}. Fetch the folder again, or take another model."
            )
        for row, temperature, generator in self.sampled:
            waited = torch.empty(scores.shape[1]).exponential_(generator=generator).clamp_min(1e-38)
            scores[row] = scores[row] / temperature - waited.log().to(scores.device)
        return scores


def _stacked(prompts: Sequence[Prompt], pad: int) -> Mapping[str, Any]:
    """One batch: what is per token padded on the left (B, longest), pictures one after another (pictures, ...)."""
    import torch

    longest = max(prompt.tokens for prompt in prompts)
    arrays: dict[str, Any] = {}
    for name in prompts[0].arrays:
        parts = [prompt.arrays[name] for prompt in prompts]
        if name in PER_TOKEN:
            fill = pad if name == "input_ids" else 0
            parts = [torch.nn.functional.pad(part, (longest - part.shape[1], 0), value=fill) for part in parts]
        elif parts[0].ndim == 5:  # a picture in tiles, as many as it needs (LLaVA-NeXT)
            tiles = max(part.shape[1] for part in parts)
            parts = [torch.cat([p, p.new_zeros(len(p), tiles - p.shape[1], *p.shape[2:])], dim=1) for p in parts]
        arrays[name] = torch.cat(parts)
    return arrays
