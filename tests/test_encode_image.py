"""Picture encoders: what `layout` tells apart, every kind of file, damage, and vision models of Hugging Face."""

from __future__ import annotations

import colorsys
import io
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw

from penchant import encode
from penchant.catalog import Pictures, open_picture
from penchant.data import Ids
from penchant.encode.image import Layout, VisionModel, open_image
from penchant.errors import BadModel, BadPicture, BadSetting, MissingExtra, MissingFile
from penchant.store import Store

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick


def drawn(colour: str, shape: str = "square", ground: str = "white", size: tuple[int, int] = (160, 160)) -> Image.Image:
    picture = Image.new("RGB", size, ground)
    pen, (w, h) = ImageDraw.Draw(picture), size
    if shape == "square":
        pen.rectangle((w * 0.25, h * 0.25, w * 0.75, h * 0.75), fill=colour)
    elif shape == "disc":
        pen.ellipse((w * 0.25, h * 0.25, w * 0.75, h * 0.75), fill=colour)
    else:
        for x in range(0, w, 20):
            pen.rectangle((x, 0, x + 9, h) if shape == "upright" else (0, x, w, x + 9), fill=colour)
    return picture


def saved(picture: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def shelf(*raw: bytes | None) -> Pictures:
    ids = Ids("item", tuple(f"i{row}" for row in range(len(raw))))
    kept = tuple(r for r in raw if r is not None)
    where = np.where([r is not None for r in raw], np.cumsum([r is not None for r in raw]) - 1, -1)
    return Pictures(ids, where, kept)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class Counted(Layout):
    def __init__(self) -> None:
        self.seen = 0

    def encode(self, batch: Sequence[Image.Image]) -> np.ndarray:
        self.seen += len(batch)
        return super().encode(batch)


# layout


def test_colour_shape_and_direction_are_told_apart() -> None:
    red, dark, disc, blue, upright, level = Layout().encode(
        [
            drawn("red"),
            drawn("firebrick"),
            drawn("red", "disc"),
            drawn("blue"),
            drawn("red", "upright"),
            drawn("red", "level"),
        ]
    )
    assert cosine(red, dark) > cosine(red, blue) + 0.1  # the same colour is nearer
    assert cosine(red, disc) > cosine(red, blue)
    assert cosine(red, disc) < 0.99
    # Stripes that stand and stripes that lie hold the same colours, and their edges share no direction.
    assert cosine(upright[576:816], level[576:816]) > 0.99
    assert cosine(upright[:576], level[:576]) < 0.1


def test_the_nearest_picture_has_the_same_colour() -> None:
    rng = np.random.default_rng(0)
    colours = ["red", "green", "blue", "yellow", "purple", "black"]
    made = []
    for _ in range(20):
        for colour in colours:
            picture = drawn(colour, "disc", size=(120 + 8 * int(rng.integers(9)), 120 + 8 * int(rng.integers(9))))
            noise = rng.normal(0, 12, (*picture.size[::-1], 3))
            made.append(Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)))
    vectors = Layout().encode(made)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    score = vectors @ vectors.T - 2 * np.eye(len(made))
    label = np.arange(len(made)) % len(colours)
    assert (label[score.argmax(axis=1)] == label).mean() > 0.95


def test_turning_the_hue_moves_the_vector_and_turning_it_more_moves_it_more() -> None:
    def hue(at: float) -> Image.Image:
        return drawn("#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hsv_to_rgb(at, 1, 1)))

    vectors = Layout().encode([hue(at) for at in (0, 0.02, 0.08, 0.2, 0.5, 0.98)])
    for block in (slice(576, 816), slice(None)):
        away = [1 - cosine(vectors[0, block], v[block]) for v in vectors[1:]]
        assert 0 < away[0] < away[1] < away[2] <= away[3]
        assert away[3] > 0.1
        assert away[0] / 2 < away[4] < away[0] * 2  # hue is a circle: 0.98 is as near to 0 as 0.02


def test_thin_stripes_are_not_mixed_into_another_colour() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, (np.arange(128) + 1) % 4 < 2] = (255, 0, 0)
    stripes[:, (np.arange(128) + 1) % 4 >= 2] = (0, 0, 255)
    striped, mixed, red = Layout().encode(
        [Image.fromarray(stripes), Image.new("RGB", (128, 128), "purple"), Image.new("RGB", (128, 128), "red")]
    )[:, 576:816]
    assert cosine(striped, red) > cosine(striped, mixed) + 0.1


def test_small_changes_change_little() -> None:
    picture = drawn("teal", "disc", "linen", (300, 300))
    same = Image.open(io.BytesIO(saved(picture, "JPEG", quality=70)))
    brighter = picture.point(lambda value: min(255, value + 6))
    smaller = picture.resize((200, 200))
    vectors = Layout().encode([picture, same.convert("RGB"), brighter, smaller])
    assert min(cosine(vectors[0], v) for v in vectors[1:]) > 0.97


def test_the_vector_is_as_documented() -> None:
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (50, 90, 3), np.uint8)) for _ in range(3)]
    plain = [
        Image.new("RGB", size, colour) for size, colour in (((1, 1), "black"), ((9, 400), "white"), ((7, 7), "#808080"))
    ]
    vectors = Layout().encode(noise + plain)
    assert vectors.shape == (6, 1008)
    assert vectors.dtype == np.float32
    assert (np.linalg.norm(vectors, axis=1) > 0.3).all()  # none is zero: a zero row would be taken for a gap
    assert (np.linalg.norm(vectors, axis=1) <= 1 + 1e-6).all()
    assert np.allclose(np.linalg.norm(vectors[:, 576:816], axis=1), 3**-0.5, atol=1e-6)
    assert not vectors[3:, :576].any()  # no edges in a plain picture
    assert np.array_equal(Layout().encode(noise[1:2])[0], vectors[1])
    assert Layout().encode([]).shape == (0, 1008)


def test_edges_against_a_loop() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))
    grey = np.asarray(picture.convert("YCbCr").getchannel(0), float)
    wanted = np.zeros((8, 8, 9))
    for y in range(1, 127):
        for x in range(1, 127):
            down, right = grey[y + 1, x] - grey[y - 1, x], grey[y, x + 1] - grey[y, x - 1]
            place = np.arctan2(down, right) % np.pi / np.pi * 9
            low, share = int(place), place - int(place)
            wanted[y // 16, x // 16, low % 9] += np.hypot(down, right) / 255 * (1 - share) / 256
            wanted[y // 16, x // 16, (low + 1) % 9] += np.hypot(down, right) / 255 * share / 256
    wanted = np.sqrt(wanted / (wanted.sum() + 1) / 3).ravel()
    assert np.abs(Layout().encode([picture])[0, :576] - wanted).max() < 1e-5


KINDS = {
    "png": saved(drawn("red")),
    "jpeg": saved(drawn("red"), "JPEG", quality=95),
    "cmyk jpeg": saved(drawn("red").convert("CMYK"), "JPEG", quality=95),
    "palette": saved(drawn("red").convert("P", palette=Image.Palette.ADAPTIVE)),
    "gif": saved(drawn("red").convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
    "webp": saved(drawn("red"), "WEBP", lossless=True),
    "bmp": saved(drawn("red"), "BMP"),
    "alpha": saved(drawn("red").convert("RGBA")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_red_square(kind: str, tmp_path: Path) -> None:
    features = encode.pictures(shelf(KINDS["png"], KINDS[kind]), "layout", Store(tmp_path), strict=True)
    assert cosine(*features.values) > 0.98


def test_grey_and_transparent_pictures(tmp_path: Path) -> None:
    clear = drawn("red").convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.asarray(drawn("red"))[..., 1] > 128, 0, 255).astype(np.uint8)))
    grey = drawn("red").convert("L")
    raw = [saved(drawn("red")), saved(clear), saved(grey), saved(grey.convert("LA")), saved(grey.convert("1"))]
    features = encode.pictures(shelf(*raw), "layout", Store(tmp_path), strict=True)
    assert cosine(features.values[0], features.values[1]) > 0.98  # what shines through is white
    assert cosine(features.values[2], features.values[3]) > 0.999
    assert not features.values[2, 576:816].reshape(16, 15)[:, :9].any()  # no colour, no hue


# Catalogues


def test_equal_pictures_are_opened_once_and_a_second_run_opens_none(tmp_path: Path) -> None:
    raw = [saved(drawn(c)) for c in ("red", "green", "blue")]
    pictures, store, encoder = shelf(raw[0], None, raw[1], raw[0], raw[2]), Store(tmp_path), Counted()
    told: list[tuple[int, int]] = []
    first = encode.pictures(pictures, encoder, store, lambda done, total: told.append((done, total)), title="covers")
    assert encoder.seen == 3
    assert told[-1] == (3, 3)
    assert first.present.tolist() == [True, False, True, True, True]
    assert np.array_equal(first.values[0], first.values[3])
    again = encode.pictures(pictures, encoder, store)
    assert encoder.seen == 3
    assert again.values.tobytes() == first.values.tobytes()
    (ref,) = store.refs()
    card = store.card(ref)
    assert card["counts"] == {"pictures": 4, "gaps": 1, "repeated": 1, "encoded": 3, "cached": 0, "unreadable": 0}
    assert (card["title"], card["made_by"], card["interactions"]) == ("covers", "encoder:layout@1", None)


def test_a_picture_that_cannot_be_opened_is_a_gap_with_a_name_or_refused(tmp_path: Path) -> None:
    good = saved(drawn("red"), "JPEG")
    bomb = saved(Image.new("1", (20_000, 20_000)))
    raw = [good, good[: len(good) // 2], b"no picture", b"", bomb, good[:-1] + b"\0", saved(drawn("blue"))]
    with pytest.raises(BadPicture, match="picture i1 "):
        encode.pictures(shelf(*raw), "layout", Store(tmp_path), strict=True)
    assert Store(tmp_path).refs() == []
    for _ in range(2):  # the second time the good ones are cached, and the bad ones are still named
        store = Store(tmp_path)
        features = encode.pictures(shelf(*raw), "layout", store)
        (ref,) = store.refs()
        unreadable = store.card(ref)["named"]["unreadable"]
        assert unreadable[:4] == ["i1", "i2", "i3", "i4"]
        assert features.present.tolist() == [f"i{row}" not in unreadable for row in range(7)]
        assert features.present[[0, 6]].all()
        assert store.card(ref)["counts"]["unreadable"] == len(unreadable) == 7 - store.card(ref)["counts"]["pictures"]


def test_files_and_tables_of_pictures(tmp_path: Path) -> None:
    raw = [saved(drawn(c)) for c in ("red", "green")]
    ids, store = Ids("item", ("a", "b", "c", "d")), Store(tmp_path / "store")
    for name, content in zip(("a.png", "b.png"), raw, strict=True):
        (tmp_path / name).write_bytes(content)
    files = Pictures(ids, np.array([0, 1, 2, -1]), (tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png"))
    by_file = encode.pictures(files, "layout", store)
    assert by_file.present.tolist() == [True, True, False, False]
    assert [store.card(ref)["named"] for ref in store.refs()] == [{"unreadable": ["c"]}]
    with pytest.raises(BadPicture, match="picture c cannot be read"):
        encode.pictures(files, "layout", store, strict=True)
    pl.DataFrame({"bytes": [raw[1], None, raw[0]]}).write_parquet(tmp_path / "images.parquet")
    table = Pictures(ids, np.array([2, 0, 1, -1]), tmp_path / "images.parquet")
    by_table = encode.pictures(table, "layout", store)
    assert by_table.values.tobytes() == by_file.values.tobytes()


def test_no_pictures_at_all(tmp_path: Path) -> None:
    features = encode.pictures(Pictures.none(Ids("item", ("a", "b"))), "layout", Store(tmp_path))
    assert features.values.shape == (2, 1008)
    assert not features.present.any()


def test_more_pictures_than_a_batch_and_progress(tmp_path: Path) -> None:
    raw = [saved(Image.new("RGB", (4, 4), (i, 255 - i, i // 2))) for i in range(150)] + [b"bad"]
    told: list[tuple[int, int]] = []
    features = encode.pictures(shelf(*raw), "layout", Store(tmp_path), lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [0, 64, 128, 151]
    alone = Layout().encode([Image.new("RGB", (4, 4), (i, 255 - i, i // 2)) for i in range(150)])
    assert np.array_equal(features.values[:150], alone)


# Vision models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random vision models, saved as Hugging Face does it. `dino` is a ViT without weights for its pooling."""
    import torch
    import transformers as hf

    hf.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    root, square = tmp_path_factory.mktemp("models"), {"height": 32, "width": 32}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    seen = {**small, "intermediate_size": 37, "image_size": 32, "patch_size": 8}
    read = {**small, "intermediate_size": 37, "vocab_size": 99, "max_position_embeddings": 16}
    read |= {"bos_token_id": 1, "eos_token_id": 2}
    crop = {"size": {"shortest_edge": 32}, "crop_size": square}
    made = {
        "clip": (
            hf.CLIPModel(hf.CLIPConfig(text_config=read, vision_config=seen, projection_dim=16)),
            hf.CLIPImageProcessorPil(**crop),
        ),
        "siglip": (
            hf.SiglipModel(hf.SiglipConfig(text_config=read, vision_config=seen)),
            hf.SiglipImageProcessorPil(size=square),
        ),
        "dinov2": (
            hf.Dinov2Model(hf.Dinov2Config(**small, image_size=32, patch_size=8)),
            hf.BitImageProcessorPil(**crop),
        ),
        "dino": (hf.ViTModel(hf.ViTConfig(**seen), add_pooling_layer=False), hf.ViTImageProcessorPil(size=square)),
        "vit": (hf.ViTModel(hf.ViTConfig(**seen)), hf.ViTImageProcessorPil(size=square)),
        "convnext": (
            hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1])),
            hf.ConvNextImageProcessorPil(size={"shortest_edge": 32}),
        ),
    }
    for name, (model, processor) in made.items():
        model.half().save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return root


DIMS = {"clip": 16, "siglip": 32, "dinov2": 32, "dino": 32, "vit": 32, "convnext": 24}


@pytest.mark.parametrize("name", DIMS)
def test_a_vision_model_gives_what_the_library_gives(name: str, models: Path, tmp_path: Path) -> None:
    import torch
    import transformers as hf

    shots = [drawn("red"), drawn("blue", "disc", size=(90, 50)), drawn("green", "level")]
    features = encode.pictures(shelf(*map(saved, shots)), str(models / name), Store(tmp_path), strict=True)
    model = hf.AutoModel.from_pretrained(models / name, dtype=torch.float32).eval()
    inputs = hf.AutoImageProcessor.from_pretrained(models / name)(images=shots, return_tensors="pt")
    with torch.inference_mode():
        if name in ("clip", "siglip"):
            wanted = model.get_image_features(**inputs).pooler_output
        elif name == "dino":
            wanted = model(**inputs).last_hidden_state[:, 0]
        else:
            wanted = model(**inputs).pooler_output.flatten(1)
    assert features.values.shape == (3, DIMS[name])
    assert np.abs(features.values - wanted.numpy()).max() < 1e-5
    assert features.source.made_by == f"encoder:{name}@{open_image(str(models / name)).revision}"


def test_weights_that_are_missing_are_not_made_up(models: Path) -> None:
    # Without weights for its pooling the library fills in random ones, different ones in each process.
    one, two = (VisionModel(open_image(str(models / "dino")).weights) for _ in range(2))
    assert np.array_equal(one.encode([drawn("red")]), two.encode([drawn("red")]))


def test_a_checkpoint_that_lacks_layers_is_refused(models: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    copy = Path(shutil.copytree(models / "dinov2", tmp_path / "holed"))
    weights = load_file(copy / "model.safetensors")
    lost = next(name for name in weights if "layer.1" in name)
    save_file({k: v for k, v in weights.items() if k != lost}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModel, match="lack 1 tensors"):
        open_image(str(copy)).encode([drawn("red")])


def test_batches_do_not_matter_to_a_vision_model(models: Path) -> None:
    model = open_image(str(models / "clip"))
    shots = [drawn(c, s) for c in ("red", "green", "blue") for s in ("square", "disc", "level", "upright")]
    together = model.encode(shots)
    assert np.abs(np.concatenate([model.encode([shot]) for shot in shots]) - together).max() < 1e-5
    assert model.encode([]).shape == (0, model.dim)


def test_a_model_of_texts_is_no_picture_encoder(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(
        BadSetting, match=r"bert cannot read pictures: .*preprocessor_config.json.* For pictures: `layout`"
    ):
        open_image(str(tmp_path / "bert")).encode([drawn("red")])
    with pytest.raises(BadSetting, match=r"encoder `minilm` reads texts, not pictures\. For pictures: `layout`, or "):
        open_image("minilm")
    (tmp_path / "bert" / "preprocessor_config.json").write_text("{")
    with pytest.raises(BadModel, match="bert cannot be loaded"):
        open_image(str(tmp_path / "bert")).encode([drawn("red")])
    with pytest.raises(MissingFile, match="no folder"):
        open_image(str(tmp_path / "gone"))


def test_layout_needs_no_torch_and_a_model_without_its_extra_names_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys\nimport numpy as np\nfrom PIL import Image\nfrom penchant.encode import open_image\n"
        "assert open_image('layout').encode([Image.new('RGB', (9, 9))]).shape == (1, 1008)\n"
        "assert not {'torch', 'transformers', 'torchvision'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'penchant\[hf\]'"):
        open_image(str(models / "clip")).encode([drawn("red")])


def test_a_picture_whose_notes_on_itself_cannot_be_read_is_bad_and_none_of_them_goes_on() -> None:
    notes = b"Exif\0\0MM\0*" + struct.pack(">IHHHIIHHIII", 8, 2, 0x112, 3, 1, 6 << 16, 0xA005, 1, 1, 1, 0)
    with pytest.raises(BadPicture, match="damaged"):
        open_picture(saved(drawn("red"), "JPEG", exif=notes), "odd")
    assert not open_picture(saved(drawn("red"), "JPEG", comment=b"at home"), "told").info
