"""Weights: a model's folder, found by name or path, named by the hash of what is in it, loaded without noise."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from penchant.data import digest
from penchant.errors import BadModel, BadSetting, MissingExtra, MissingFile, PenchantError, near

__all__ = ["Weights", "bundled", "device", "find", "fitting", "loading", "on_hub", "quiet"]

WANTED = (
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.safetensors",
)  # what a model needs; other exports of it are not fetched
EXPORTS = ("onnx", "openvino", "coreml")
READS = {"minilm": "texts", "minilm-tokens": "texts", "layout": "pictures"}  # the encoders of our own
FITTING = {
    "texts": "`minilm`, or a text model's folder or name on the Hugging Face Hub",
    "pictures": "`layout`, or a vision model's folder or name on the Hugging Face Hub",
}
NEEDED = {  # a model of this kind has one of these files
    "texts": ("modules.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
    "pictures": ("preprocessor_config.json", "processor_config.json"),
}


@dataclass(frozen=True)
class Weights:
    """name: as the user gave it (the last part of a path). folder: where the files lie."""

    name: str
    folder: Path

    @cached_property
    def revision(self) -> str:
        """Hash of weights, settings and tokenizer, 12 hex digits; about 0.06 s for 90 MB.

        Read from the files each time: a remembered hash would be wrong exactly when someone swaps the weights.
        """
        files = [p for p in sorted(self.folder.rglob("*")) if p.is_file() and not _apart(p.relative_to(self.folder))]
        safe = any(p.suffix == ".safetensors" for p in files)
        parts = []
        for file in files:
            if file.suffix in {".json", ".txt", ".model", ".safetensors"} or (file.suffix == ".bin" and not safe):
                with file.open("rb") as opened:
                    sha = hashlib.file_digest(opened, "sha256").hexdigest()
                parts += [file.relative_to(self.folder).as_posix(), sha]
        return digest(*parts)[:12]


def _apart(path: Path) -> bool:
    return any(part.startswith(".") or part in EXPORTS for part in path.parts)


def bundled(package: str, inside: str, name: str, extra: str) -> Weights:
    """Weights that come as a Python package, which is found but not imported.

    Raises MissingExtra when it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"encoder `{name}`", extra)
    return Weights(name, Path(spec.origin).parent / inside)


def fitting(spec: str, what: str) -> None:
    """Raises BadSetting when one of our own encoders is asked to read what it does not; what: texts or pictures."""
    reads = READS.get(spec.partition(":")[0], what)
    if reads != what:
        raise BadSetting(f"encoder `{spec}` reads {reads}, not {what}. For {what}: {FITTING[what]}")


def find(spec: str, known: tuple[str, ...], extra: str, what: str = "encoder") -> Weights:
    """Weights by folder, or by name on the Hugging Face Hub ("owner/model", "owner/model@revision").

    What the Hub's cache holds is used without a network; with HF_HUB_OFFLINE=1 nothing else is tried.
    Raises MissingFile when there is no such model, MissingExtra without the libraries.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "modules.json")):
            raise MissingFile(f"folder {spec} holds no model: it has no config.json. Give the folder it was saved to.")
        return Weights(path.resolve().name, path)
    if not on_hub(spec) and (os.sep in spec or spec.startswith((".", "~"))):
        raise MissingFile(f"no folder {spec}. Give a model's folder, a name on the Hugging Face Hub, or: {known[0]}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra(f"{what} {spec}", extra) from None
    name, _, revision = spec.partition("@")
    try:
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(WANTED),
            ignore_patterns=[f"{export}/*" for export in EXPORTS],
        )
    except (OSError, ValueError) as error:  # no such name, no network, no rights: the Hub has a class for each
        raise MissingFile(
            f"no {what} {spec!r} here, and the Hugging Face Hub did not give it ({type(error).__name__})."
            f"{near(spec, READS if what == 'encoder' else known)} Give a folder, a name on the Hub, or one that needs no network: {', '.join(known)}"
        ) from None
    if not any(Path(folder).glob("*.safetensors")):
        raise MissingFile(f"{spec} has no .safetensors weights. Convert it, save it to a folder and give that folder.")
    return Weights(name, Path(folder))


def on_hub(spec: str) -> bool:
    """Whether it is written as a name on the Hub is, "owner/model"."""
    return spec.count("/") == 1 and not spec.startswith((".", "~", os.sep))


def device() -> str:
    """Where encoders run: the first CUDA device if there is one, else the processor, with all cores torch is given."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def quiet(who: str, extra: str) -> Iterator[None]:
    """Around imports and loading: no progress bars or notes of the libraries. Raises MissingExtra where one is missing."""
    try:
        from transformers.utils import logging
    except ImportError:
        raise MissingExtra(who, extra) from None
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except ImportError as error:
        if error.name in ("transformers", "sentence_transformers", "torch", "tokenizers"):
            raise MissingExtra(who, extra) from None
        raise
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def loading(weights: Weights, extra: str, what: str) -> Iterator[None]:
    """`quiet`, with the libraries' errors in our words. what: texts or pictures.

    Raises MissingExtra when a library is missing, BadModel when the folder cannot be loaded, BadSetting when that is
    because it is a model of another kind.
    """
    try:
        with quiet(f"encoder {weights.name}", extra):
            yield
    except PenchantError:
        raise
    except Exception as error:  # the libraries raise everything from KeyError to their own Rust errors here
        raise _unloadable(weights, error, what) from error


def _unloadable(weights: Weights, error: Exception, what: str) -> PenchantError:
    if not any((weights.folder / file).is_file() for file in NEEDED[what]):
        return BadSetting(
            f"encoder {weights.name} cannot read {what}: it has none of {', '.join(NEEDED[what])}. "
            f"For {what}: {FITTING[what]}"
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BadModel(
        f"encoder {weights.name} cannot be loaded: {first[:300]}. "
        "Is the folder whole, and a model of this kind? Models that bring their own code are not run."
    )
