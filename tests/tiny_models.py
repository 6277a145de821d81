"""Language models small enough for a test: random weights, tokenizers trained on a page of text, saved as folders.

Two kinds. `llama`, `llava` and `qwen` have random weights: they go the way of their large kin, and what they write is
noise that depends on every token and every picture. `scripted` is a Llama whose weights spell out which word follows
which: what it answers, and with which probabilities, is known beforehand.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

TEXT = (
    "yes no Yes No yes yes no no maybe. yes, no! A red mug with a handle? Answer yes or no: does it suit her? "
    "The red enamel mug survived two house moves and the blue one did not. Is this what he wants? yes. no. "
    "system user assistant: you describe products in plain words, and answer with JSON. "
    '"yes" (yes) *yes* /yes/ -yes- "no" (no) *no* /no/ -no- '  # so that the bare words are tokens too
) * 3
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
MARKS = ("<|im_start|>", "<|im_end|>", "<image>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen writes it; the answer begins on a line of its own."""
VICUNA = (
    "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT: {{ m.content }}</s>"
    "{% else %}{{ m.role | upper }}: {{ m.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""The answer begins after a space that the prompt does not hold."""
PLAIN = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
"""One message after another, and no mark before the answer: what is said last decides what a scripted model writes."""
_PARTS = (
    "{%% for m in messages %%}<|im_start|>{{ m.role }}\n{%% if m.content is string %%}{{ m.content }}{%% else %%}"
    "{%% for part in m.content %%}{%% if part.type == 'image' %%}%s{%% else %%}{{ part.text }}{%% endif %%}"
    "{%% endfor %%}{%% endif %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)


def picture(colour: str = "red", width: int = 48, height: int = 48) -> bytes:
    """A PNG file: one colour, and a black corner."""
    image = Image.new("RGB", (width, height), colour)
    image.paste("black", (0, 0, width // 3, height // 3))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def byte_level(template: str = "", limit: int | None = None, text: str = TEXT) -> Any:
    """Byte-pair encoding as GPT-2 and its kin do it: a space belongs to the word that follows, "Ġyes". text: what it learns words
    from; others it spells."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*SPECIAL, *MARKS], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([text], trainer)
    return _fast(tokenizer, template, limit)


def metaspace(template: str = "", limit: int | None = None) -> Any:
    """As SentencePiece does it for Llama and Mistral: "▁" for a space, bytes for what is unknown, <s> in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*SPECIAL, *MARKS, *bytes_])
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _fast(tokenizer, template, limit)


def words(known: tuple[str, ...], template: str = "", limit: int | None = None) -> Any:
    """A token a word, split at white space; the rest is <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*SPECIAL, *known]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    return _fast(tokenizer, template, limit)


def _fast(tokenizer: Any, template: str, limit: int | None) -> Any:
    from transformers import PreTrainedTokenizerFast

    unk, bos, eos, pad = SPECIAL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unk, bos_token=bos, eos_token=eos, pad_token=pad, padding_side="right"
    )
    fast.chat_template = template or None
    if limit is not None:
        fast.model_max_length = limit
    return fast


def _numbers(tokenizer: Any) -> dict[str, int]:
    """What a config says of special tokens."""
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _text(tokenizer: Any, context: int) -> dict[str, Any]:
    """Sizes of the part that writes. Weights are drawn wide, so that near ties between words are rare."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.3,
        **_numbers(tokenizer),
    }


def llama(folder: Path, tokenizer: Any, context: int = 512, seed: int = 0) -> Path:
    """A model of texts with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**_text(tokenizer, context))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gemma(folder: Path, tokenizer: Any, context: int = 512) -> Path:
    """A Gemma 2 that keeps its logits near zero."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"head_dim": 16, "num_key_value_heads": 2, "initializer_range": 0.4, "sliding_window": 4096}
    torch.manual_seed(5)
    config = Gemma2Config(**(_text(tokenizer, context) | sizes), final_logit_softcapping=2.0)
    Gemma2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(folder: Path, context: int = 64) -> Path:
    """Of the old kind: places learnt by heart, one weight for reading and writing, one mark for everything."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = byte_level()
    tokenizer.pad_token = tokenizer.bos_token = tokenizer.unk_token = None
    end = tokenizer.eos_token_id
    size = {"n_positions": context, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    config = GPT2Config(vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, **size)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scripted(
    folder: Path,
    scripts: Mapping[str, str],
    z: Mapping[str, float] | None = None,
    context: int = 512,
    template: str = "",
) -> Path:
    """A Llama that writes, after a prompt whose last word is a key, the words of its script, and then </s>.

    z: logits of single words, in every place where the script says nothing. A script may end in `...`: then no end
    is written. A word may stand only once in all scripts, since which word follows depends on the one before alone:
    each word is a direction of its own, the layer adds nothing, and the head is a table of successors.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    z = z or {}
    follows: dict[str, str] = {}
    for key, script in scripts.items():
        chain = [key, *script.removesuffix(" ...").split(), *([] if script.endswith(" ...") else ["</s>"])]
        for word, after in pairwise(chain):
            assert word not in follows, f"{word!r} stands twice in the scripts"
            follows[word] = after
    tokenizer = words((*follows, *follows.values(), *z), template)
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size + size % 2,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=context,
        rms_norm_eps=0.0,
        **_numbers(tokenizer),
    )
    model = LlamaForCausalLM(config)
    number = tokenizer.convert_tokens_to_ids
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(config.hidden_size**-0.5)  # after the norm a word is a vector of length 1
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for word, logit in z.items():
            model.lm_head.weight[number(word), :size] = logit
        for word, after in follows.items():
            model.lm_head.weight[:, number(word)] = 0
            model.lm_head.weight[number(after), number(word)] = 50
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def llava(folder: Path, context: int = 512, template: str | None = None) -> Path:
    """LLaVA: a picture is 9 tokens. template: None for one with places for pictures, "" for none."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    tokenizer = byte_level(_PARTS % "<image>\n" if template is None else template)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=24, patch_size=8
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text(tokenizer, context)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        **_numbers(tokenizer),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    LlavaProcessor(
        pixels,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def qwen(folder: Path, kind: str, context: int = 512) -> Path:
    """Qwen2-VL, Qwen2.5-VL or Qwen3-VL (kind: "2", "2.5", "3"): a picture has more tokens the larger it is."""
    import torch
    import transformers as t
    from transformers import Qwen2VLImageProcessor

    torch.manual_seed(0)
    tokenizer = byte_level(_PARTS % "<|vision_start|><|image_pad|><|vision_end|>")
    number = tokenizer.convert_tokens_to_ids
    text = _text(tokenizer, context) | {"rope_parameters": {"type": "default", "mrope_section": [1, 1, 2]}}
    vision: dict[str, Any] = {"depth": 2, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2}
    if kind == "2":
        vision |= {"embed_dim": 32, "hidden_size": 32}
        classes = t.Qwen2VLConfig, t.Qwen2VLForConditionalGeneration
    elif kind == "2.5":
        vision |= {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "window_size": 32}
        vision |= {"fullatt_block_indexes": [1]}
        classes = t.Qwen2_5_VLConfig, t.Qwen2_5_VLForConditionalGeneration
    else:
        vision |= {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_position_embeddings": 64}
        vision |= {"deepstack_visual_indexes": [0, 1]}
        text |= {"head_dim": 8}
        text["rope_parameters"] |= {"mrope_interleaved": True}
        classes = t.Qwen3VLConfig, t.Qwen3VLForConditionalGeneration
    config = classes[0](
        text_config=text,
        vision_config=vision,
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<unk>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        **_numbers(tokenizer),
    )
    classes[1](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessor(
        patch_size=8, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    ).save_pretrained(folder)
    return folder


def several(path: Path) -> Path:
    """Folders of all that can be asked for yes or no."""
    llama(path / "llama", byte_level(CHATML))
    llama(path / "vicuna", metaspace(VICUNA))
    llama(path / "bare", byte_level(), seed=3)  # without a chat template
    gpt2(path / "gpt2", context=256)
    gemma(path / "gemma", byte_level(CHATML))
    llava(path / "llava")
    qwen(path / "qwen2", "2")
    qwen(path / "qwen2.5", "2.5")
    return path
