"""Tiny: a multimodal language model of a few million weights, made for one catalogue and not trained yet.

It is a LLaVA as transformers have it: a tokenizer learnt from the texts at hand, a small Llama, and a small vision tower whose
patches stand among the words. It shows the whole way of a large one on two cores; it knows nothing but what it is trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from penchant.lm.chat import loading

__all__ = ["Tiny"]

UNKNOWN, BEGIN, END, PAD, PICTURE = "<unk>", "<s>", "</s>", "<pad>", "<image>"
FRAME = " Yes No Yes No\nProfile: \nNotes: \nSteps: \nLately: \nThing: "
"""Words of our own around the texts; they are read so often that each is a token, whatever else there is."""
OFTEN = 20_000


@dataclass(frozen=True)
class Tiny:
    """Sizes. words: entries of the tokenizer. dim, layers, heads: of the part that writes. context: tokens it reads. side: pixels
    of a picture, in patches of `patch`."""

    words: int = 6000
    dim: int = 128
    layers: int = 3
    heads: int = 4
    context: int = 512
    side: int = 32
    patch: int = 16

    def write(self, folder: Path, texts: Iterable[str], seed: int = 0) -> Path:
        """The model as a folder. texts: what its tokenizer learns words from. Raises MissingExtra without the extra `hf`."""
        with loading("tiny"):
            import torch
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
            from transformers import (
                CLIPVisionConfig,
                LlamaConfig,
                LlavaConfig,
                LlavaForConditionalGeneration,
                LlavaProcessor,
                PreTrainedTokenizerFast,
            )
            from transformers.models.clip import CLIPImageProcessorPil

            raw = Tokenizer(models.BPE())
            raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            raw.decoder = decoders.ByteLevel()
            special = [UNKNOWN, BEGIN, END, PAD, PICTURE]
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(
                vocab_size=self.words, special_tokens=special, initial_alphabet=alphabet, show_progress=False
            )
            raw.train_from_iterator((text for part in (texts, repeat(FRAME, OFTEN)) for text in part), trainer)
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=raw, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=END, pad_token=PAD
            )
            tokenizer.model_max_length = self.context
            number = tokenizer.convert_tokens_to_ids
            marks: Any = {f"{n}_token_id": number(t) for n, t in (("bos", BEGIN), ("eos", END), ("pad", PAD))}
            picture: Any = number(PICTURE)
            sees = CLIPVisionConfig(
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=self.side,
                patch_size=self.patch,
            )
            writes = LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=self.dim,
                intermediate_size=2 * self.dim,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.heads,
                max_position_embeddings=self.context,
                attention_dropout=0.0,
                initializer_range=self.dim**-0.5,  # the usual .02 is of widths in the thousands
                tie_word_embeddings=True,
                **marks,
            )
            config = LlavaConfig(
                vision_config=sees,
                text_config=writes,
                image_token_index=picture,
                vision_feature_layer=-1,
                tie_word_embeddings=True,
                **marks,
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                LlavaForConditionalGeneration(config).save_pretrained(folder)
            size = {"height": self.side, "width": self.side}
            pixels = CLIPImageProcessorPil(size={"shortest_edge": self.side}, crop_size=size)
            LlavaProcessor(
                pixels,
                tokenizer,
                patch_size=self.patch,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            ).save_pretrained(folder)
        return folder

    def again(self, folder: Path, files: Mapping[str, bytes]) -> Path:
        """A folder with these files of one that was made before, and with weights drawn anew."""
        with loading("tiny"):
            from transformers import AutoConfig, LlavaForConditionalGeneration

            for name, raw in files.items():
                (folder / Path(name).name).write_bytes(raw)
            LlavaForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
        return folder
