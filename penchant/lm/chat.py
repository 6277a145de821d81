"""Chat: from a Request to what one model's weights take, by that model's own template, tokenizer and picture sizes.

Texts of strangers stay texts: a review that spells `<|im_end|>` or `<image>` does not end the message it stands in,
nor hold a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penchant.catalog import open_picture
from penchant.encode.weights import Weights, quiet
from penchant.errors import BadModel, BadPicture, BadSetting, LmError, PenchantError
from penchant.lm import Request
from penchant.lm.template import Template

__all__ = ["EXTRA", "Chat", "Prompt", "loading"]

EXTRA = "hf"
BOUNDLESS = 10**9  # a tokenizer without a limit says 10^30
PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class Prompt:
    """One conversation as the model takes it. arrays: (1, tokens) in PER_TOKEN, and a picture's under other names."""

    arrays: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """How many, pictures included."""
        return int(self.arrays["input_ids"].shape[1])

    @property
    def sees(self) -> bool:
        return len(self.arrays) > 2

    def without_end(self, tokens: int) -> Prompt:
        """Without the last few tokens, which are never those of a picture."""
        kept = self.tokens - tokens
        return Prompt({name: a[:, :kept] if name in PER_TOKEN else a for name, a in self.arrays.items()})


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Around imports and loading: the libraries are quiet, and their errors are in our words."""
    try:
        with quiet(f"language model {name}", EXTRA):
            yield
    except PenchantError:
        raise
    except Exception as error:  # the libraries raise everything from KeyError to their own Rust errors here
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadModel(
            f"language model {name} cannot be loaded: {first[:300]}. Is the folder whole? Models that bring their own "
            "code are not run. Save model and tokenizer into one folder once more, with save_pretrained."
        ) from error


class Chat:
    """How one model is talked to. config: the folder's, as transformers read it; sees: whether it reads pictures."""

    def __init__(self, weights: Weights, config: Any, sees: bool) -> None:
        self.name, self.folder, self.config, self.sees = weights.name, str(weights.folder), config, sees

    @cached_property
    def tokenizer(self) -> Any:
        with loading(self.name):
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)

    @cached_property
    def context(self) -> int:
        """Tokens that a prompt and its answer may take together: the model's positions or the tokenizer's limit."""
        positions = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        known = [limit for limit in (positions, self.tokenizer.model_max_length) if limit and limit < BOUNDLESS]
        return int(min(known, default=1 << 20))  # without any limit in the folder: a million

    def prompt(self, request: Request, before: Sequence[str] = ()) -> Prompt:
        """The question, its pictures and, if it was asked before, the reply that was no use and what is said to that.

        Raises LmError or BadPicture for what this model cannot be asked.
        """
        if request.images and not self.sees:
            raise LmError(
                f"{self.name} reads no pictures, and this question has {len(request.images)}. "
                "Take a LLaVA or Qwen-VL model, or a prompt without pictures."
            )
        text = self.template.text(request, before)
        if not request.images:
            return Prompt(self._padless(self.ids(text)))
        pictures = [
            open_picture(raw, f"{place} of {len(request.images)}", request.picture_size)
            for place, raw in enumerate(request.images, 1)
        ]
        try:
            return Prompt(self._gridded(text, pictures) if self.by_grid else self._processed(text, pictures))
        except ValueError as error:  # e.g. a picture a hundred times as wide as high
            raise BadPicture(f"{self.name} cannot read the picture: {error}. Replace or remove it.") from None

    def ids(self, text: str) -> list[int]:
        """Token numbers of a whole conversation."""
        add = self._adds_marks(text)
        ids: list[int] = self.tokenizer(text, add_special_tokens=add, verbose=False)["input_ids"]
        while add and len(ids) > 1 and ids[-1] == self.special("eos_token"):  # else the answer would already be over
            ids = ids[:-1]
        return ids

    def special(self, name: str) -> int | None:
        """The number of `eos_token`, `pad_token`, ...; None where the tokenizer has none (asked directly, it complains)."""
        token = self.tokenizer.special_tokens_map.get(name)
        return None if token is None else int(self.tokenizer.convert_tokens_to_ids(str(token)))

    def begin(self, request: Request, answers: Sequence[str]) -> tuple[int, list[int]]:
        """The first token of each answer as it would really follow this prompt, and how many of its tokens to drop.

        Tokenizers write a word differently after a space, a line break or a mark ("▁yes", "Ġyes", "yes"), so the
        prompt is encoded with each answer and compared with the prompt alone. Where a tokenizer melts the prompt's
        end and the answer together, those last tokens of the prompt are to be dropped (hardly ever: else 0).
        Raises BadSetting when two answers begin with the same token.
        """
        text = self.template.text(request)
        # Nothing after a line break, a space after "ASSISTANT:".
        gap = self.gap(request, answers[0])
        drop, rest = self.follow(text, gap, answers)
        return drop, [ids[0] for ids in rest]

    def gap(self, request: Request, answer: str) -> str:
        """What the template puts between a question and its answer."""
        text, whole = self.template.text(request), self.template.text(request, answer=answer)
        after = whole[len(text) :] if whole.startswith(text) else ""
        return after[: max(0, after.find(answer))]

    def follow(self, text: str, gap: str, answers: Sequence[str]) -> tuple[int, list[list[int]]]:
        """How many of the last tokens of `text` to drop, and those of each answer after it. Raises BadSetting as `begin` does."""
        alone = self.ids(text)
        together = [self.ids(text + gap + answer) for answer in answers]
        shared = min(_common(alone, ids) for ids in together)
        first = [ids[shared] if len(ids) > shared else -1 for ids in together]
        for place, token in enumerate(first):
            if token < 0 or token in first[:place]:
                other = "nothing" if token < 0 else f"the token that `{answers[first.index(token)]}` begins with"
                raise BadSetting(
                    f"{self.name} begins the answer `{answers[place]}` with {other}, so its probability cannot be told. "
                    'Take another model, or answers that begin differently, e.g. ("yes", "no").'
                )
        return len(alone) - shared, [ids[shared:] for ids in together]

    @cached_property
    def processor(self) -> Any:
        """Template and pictures of LLaVA and its kin, which put as many marks into the text as a picture has tokens."""
        with loading(self.name):
            from transformers import AutoProcessor

            return AutoProcessor.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)

    @cached_property
    def grids(self) -> Any:
        """Pictures of Qwen-VL. Its processor needs torchvision (for films), so text and picture are joined by hand."""
        with loading(self.name):
            from transformers import AutoImageProcessor

            return AutoImageProcessor.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)

    @property
    def by_grid(self) -> bool:
        return self.sees and self.config.model_type.startswith("qwen")

    @cached_property
    def template(self) -> Template:
        """Of the processor, where there is one that has one, else of the tokenizer."""
        own = self.processor.chat_template if self.sees and not self.by_grid else None
        if not isinstance(own, str):
            own = self.tokenizer.get_chat_template() if self.tokenizer.chat_template else None
        if not self.sees:
            return Template(self.name, self.tokenizer, own)
        if not self.by_grid:
            mark = str(self.processor.image_token)
            return Template(self.name, self.tokenizer, own, mark, f"{mark}\n")
        config = self.config
        around = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id)
        begin, mark, end = self.tokenizer.convert_ids_to_tokens(list(around))
        return Template(self.name, self.tokenizer, own, mark, begin + mark + end)

    def _adds_marks(self, text: str) -> bool:
        """Whether the tokenizer has to add <s> and the like; a template for texts writes them itself, those for
        pictures mostly leave the first one out."""
        bos = self.tokenizer.special_tokens_map.get("bos_token")
        return self.template.program is None or (self.sees and not (bos and text.startswith(str(bos))))

    def _padless(self, ids: Sequence[int]) -> dict[str, Any]:
        import torch

        tokens = torch.tensor([ids], dtype=torch.long)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    def _processed(self, text: str, pictures: Sequence[Any]) -> dict[str, Any]:
        add = self._adds_marks(text)
        return dict(self.processor(text=[text], images=list(pictures), add_special_tokens=add, return_tensors="pt"))

    def _gridded(self, text: str, pictures: Sequence[Any]) -> dict[str, Any]:
        """Each picture's one mark becomes as many as it has tokens: patches over the patches merged into one."""
        seen = dict(self.grids(images=list(pictures), return_tensors="pt"))
        sizes = iter((seen["image_grid_thw"].prod(dim=1) // self.grids.merge_size**2).tolist())
        mark = self.config.image_token_id
        ids = [n for token in self.ids(text) for n in ([mark] * next(sizes) if token == mark else [token])]
        arrays = self._padless(ids)
        return arrays | {"mm_token_type_ids": (arrays["input_ids"] == mark).int()} | seen


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share from their beginnings."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
