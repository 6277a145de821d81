"""Picture encoders: `layout`, a hand-made descriptor that needs no weights, and any Hugging Face vision model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
from PIL import Image

from penchant.encode.weights import Weights, device, find, fitting, loading
from penchant.errors import BadModel

__all__ = ["Layout", "VisionModel", "open_image"]

EXTRA = "hf"
Picture = Image.Image


def open_image(spec: str) -> Layout | VisionModel:
    """A picture encoder by name: "layout" (offline, no extra), a model's folder, or a name on the Hugging Face Hub.

    Raises MissingFile when there is no such model, BadSetting for an encoder of texts, MissingExtra without the
    extra `hf`.
    """
    fitting(spec, "pictures")
    return Layout() if spec == "layout" else VisionModel(find(spec, ("layout",), EXTRA))


class Layout:
    """Colour layout and oriented edges: a hand-made descriptor, not a semantic encoder. 1008 numbers a picture.

    It knows that two covers are dark with a red square on the left, not that both show a car. The picture is scaled
    to a square of 128 x 128; three blocks of equal weight, each of length at most 1, so that vectors have at most
    length 1:

        edges    8 x 8 cells x 9 directions of the brightness gradient, weighted by its strength      576
        colours  4 x 4 cells x (9 hues by colourfulness, 3 lightnesses by colourlessness, 3 saturations) 240
        layout   8 x 8 cells x mean Y, Cb, Cr around grey                                              192

    Directions, hues and levels are shared between the two nearest bins, so that a small change changes little.
    Histograms of gradients: Dalal and Triggs, 2005; the layout follows the colour layout descriptor of MPEG-7.
    """

    name = "layout"
    revision = "1"  # counts up with every change of what comes out
    dim = 576 + 240 + 192
    size: int | None = 128

    def encode(self, batch: Sequence[Picture]) -> np.ndarray:
        """(B, 1008) float32"""
        vectors = np.empty((len(batch), self.dim), np.float32)
        for row, picture in enumerate(batch):
            square = picture.resize((128, 128), Image.Resampling.BILINEAR)
            ycc = square.convert("YCbCr")
            vectors[row, :576] = _edges(np.asarray(ycc.getchannel(0), np.int32))
            # Every second pixel, not the mean of four: red and blue stripes must not become purple.
            vectors[row, 576:816] = _colours(
                np.asarray(square.resize((64, 64), Image.Resampling.NEAREST).convert("HSV"))
            )
            vectors[row, 816:] = _layout(np.asarray(ycc.resize((8, 8), Image.Resampling.BOX), np.float32))
        return vectors / np.float32(np.sqrt(3))


def _bins(at: np.ndarray, bins: int, around: bool) -> np.ndarray:
    """Soft membership: values in [0, 1) to (n, bins), shared by the two nearest bins. `around`: the ends meet."""
    place = at * bins if around else np.clip(at * bins - 0.5, 0, bins - 1)
    low = np.floor(place).astype(np.int64)
    share = (place - low)[:, None]
    eye = np.eye(bins)
    return ((1 - share) * eye[low % bins] + share * eye[(low + 1) % bins]).astype(np.float32)


LEVELS = np.arange(256) / 256
HUES = _bins(LEVELS, 9, around=True)  # (256, 9)
THIRDS = _bins(LEVELS, 3, around=False)  # (256, 3)
IN_CELL = np.add.outer(np.arange(128) // 16 * 8, np.arange(128) // 16)[1:-1, 1:-1].ravel() * 9  # of inner pixels

# Below, sums over pixels are bincounts and plain einsums on purpose: as matrix products they are handed to BLAS, whose
# threads wait for each other at every small picture, fifty times slower where other programs share the cores.


@cache
def _directions() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each gradient (y, x) in -255..255: the two nearest of nine directions, and the strength given to each."""
    y, x = np.mgrid[-255:256, -255:256].reshape(2, -1)
    place = np.arctan2(y, x) / np.pi % 1 * 9
    low = np.floor(place).astype(np.int64)
    strength = np.hypot(y, x) / 255
    return low % 9, (low + 1) % 9, strength * (1 - place + low), strength * (place - low)


def _edges(grey: np.ndarray) -> np.ndarray:
    """(128, 128) int to (576,)"""
    down = grey[2:, 1:-1] - grey[:-2, 1:-1]
    right = grey[1:-1, 2:] - grey[1:-1, :-2]
    at = ((down + 255) * 511 + right + 255).ravel()
    one, other, to_one, to_other = _directions()
    sums = np.bincount(IN_CELL + one.take(at), to_one.take(at), 576)
    cells = (sums + np.bincount(IN_CELL + other.take(at), to_other.take(at), 576)) / 256  # mean over a cell's pixels
    # Square roots keep one strong edge from drowning all others; the 1 keeps noise on a plain ground small.
    return np.sqrt(cells / (cells.sum() + 1))


def _colours(hsv: np.ndarray) -> np.ndarray:
    """(64, 64, 3) uint8 to (240,)"""
    hue, saturation, value = hsv.reshape(4, 16, 4, 16, 3).transpose(4, 0, 2, 1, 3).reshape(3, 16, 256)
    chroma = saturation.astype(np.float32) * value / 65025  # (16 cells, 256 pixels)
    parts = [
        np.einsum("cp,cpk->ck", chroma, HUES.take(hue, axis=0)),
        np.einsum("cp,cpk->ck", 1 - chroma, THIRDS.take(value, axis=0)),
        np.einsum("cpk->ck", THIRDS.take(saturation, axis=0)) / 2,
    ]
    cells = np.concatenate(parts, axis=1)  # (16, 15)
    return np.sqrt(cells / cells.sum()).ravel()


def _layout(ycc: np.ndarray) -> np.ndarray:
    """(8, 8, 3) to (192,)"""
    around = (ycc.ravel() - 128) / 128
    return around / np.sqrt(around @ around + 1)


class VisionModel:
    """A vision model of transformers in 32-bit floats: CLIP, SigLIP, DINO, ViT and their kin.

    The vector is what the model itself calls its picture features (CLIP, SigLIP), else its pooled output (DINOv2,
    ConvNeXt), else, where the checkpoint has no weights for pooling, the first token of the last layer (DINO).
    It is not scaled: use Features.unit() for cosines.
    """

    size: int | None = 1024  # larger pictures are scaled to this first; models look at 224 to 512 pixels

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.name = weights.name
        self.revision = weights.revision
        self._pooled = True

    @cached_property
    def _processor(self) -> Any:
        with loading(self.weights, EXTRA, "pictures"):
            from transformers import AutoImageProcessor

            return AutoImageProcessor.from_pretrained(str(self.weights.folder), local_files_only=True)

    @cached_property
    def _model(self) -> Any:
        with loading(self.weights, EXTRA, "pictures"):
            import torch
            from transformers import AutoModel

            model, report = AutoModel.from_pretrained(
                str(self.weights.folder), local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            # What a checkpoint lacks is filled with random numbers: harmless in parts that are not used here.
            missing = [key for key in report["missing_keys"] if not key.startswith(("text_", "logit_"))]
            self._pooled = not any("pooler" in key for key in missing)
            random = [key for key in missing if "pooler" not in key and "mask_token" not in key]
            if random:
                raise BadModel(f"encoder {self.name}: its weights lack {len(random)} tensors, e.g. {random[0]}")
            return model.eval().to(device())

    @cached_property
    def dim(self) -> int:
        return self.encode([Image.new("RGB", (64, 64))]).shape[1]

    def encode(self, batch: Sequence[Picture]) -> np.ndarray:
        """(B, dim) float32"""
        at_once = 64 if self._model.device.type == "cuda" else 8
        parts = [self._encode(batch[start : start + at_once]) for start in range(0, len(batch), at_once)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _encode(self, batch: Sequence[Picture]) -> np.ndarray:
        import torch

        model = self._model
        with torch.inference_mode():
            inputs = self._processor(images=list(batch), return_tensors="pt").to(model.device)
            features = getattr(model, "get_image_features", None)
            out = features(**inputs) if features else model(**inputs)
            vectors = out if torch.is_tensor(out) else self._vectors(out, pooled=self._pooled or bool(features))
            return vectors.float().cpu().numpy()

    def _vectors(self, out: Any, pooled: bool) -> Any:
        if pooled and getattr(out, "pooler_output", None) is not None:
            return out.pooler_output.flatten(1)
        last = out.last_hidden_state
        if last.ndim != 3:
            raise BadModel(f"encoder {self.name} has neither picture features nor a pooled output nor tokens")
        return last[:, 0]
