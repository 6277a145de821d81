"""A training run's state on disk: one safetensors file, replaced whole at each validation."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

if TYPE_CHECKING:
    from penchant.training import Curve

__all__ = ["Checkpoint", "fits", "read", "restore", "write"]

NAME = "checkpoint.safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """tensors: parameters "net/...", optimiser state "opt/...", best parameters "best/..."."""

    tensors: Mapping[str, torch.Tensor]
    progress: dict[str, Any]
    curve: list[list[float | None]]


def write(
    folder: Path,
    run: str,
    module: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    best: Mapping[str, torch.Tensor] | None,
    progress: Mapping[str, Any],
    curve: Curve,
) -> None:
    """Replace the checkpoint in `folder`; a kill at any instant leaves the old one or the new one.

    run: hash of everything that must be equal for a continuation to make sense.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"net/{name}": value.contiguous() for name, value in module.state_dict().items()}
    tensors |= {f"best/{name}": value.contiguous() for name, value in (best or {}).items()}
    for number, optimiser in enumerate(optimisers):
        for row, state in optimiser.state_dict()["state"].items():
            tensors |= {f"opt/{number}/{row}/{name}": value.contiguous() for name, value in state.items()}
    header = {"run": run, "progress": json.dumps(dict(progress)), "curve": json.dumps(curve.rows())}
    header["sum"] = _sum(tensors, header["progress"], header["curve"])
    partial = folder / f"{NAME}.{os.getpid()}.part"
    save_file(tensors, partial, metadata=header)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(folder / NAME)


def _sum(tensors: Mapping[str, torch.Tensor], *texts: str) -> str:
    """Checksum of all there is; safetensors itself only notices a wrong length."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(tensors[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().data, total)
    for text in texts:
        total = zlib.crc32(text.encode(), total)
    return f"{total:08x}"


def read(folder: Path, run: str) -> Checkpoint | None:
    """The checkpoint of this very run, or None; one of another run, or a damaged one, is passed over."""
    for half in folder.glob(f"{NAME}.*.part"):  # of a run that was killed while it wrote
        half.unlink(missing_ok=True)
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("run") != run:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if header["sum"] != _sum(tensors, header["progress"], header["curve"]):
            return None
    except (SafetensorError, OSError, KeyError, UnicodeDecodeError):
        return None
    return Checkpoint(tensors, json.loads(header["progress"]), json.loads(header["curve"]))


def fits(found: Checkpoint, module: nn.Module) -> bool:
    """Whether it holds all of the module's state and nothing else: another version's nets may be made of other parts."""
    shapes = {f"net/{name}": value.shape for name, value in module.state_dict().items()}
    return shapes == {name: value.shape for name, value in found.tensors.items() if name.startswith("net/")}


def restore(
    found: Checkpoint, module: nn.Module, optimisers: list[torch.optim.Optimizer]
) -> dict[str, torch.Tensor] | None:
    """Put a checkpoint's state into module and optimisers; gives back the best parameters so far."""
    module.load_state_dict({k[4:]: v for k, v in found.tensors.items() if k.startswith("net/")})
    for number, optimiser in enumerate(optimisers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in found.tensors.items():
            if key.startswith(f"opt/{number}/"):
                _, _, row, name = key.split("/", 3)
                state.setdefault(int(row), {})[name] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    best = {k[5:]: v for k, v in found.tensors.items() if k.startswith("best/")}
    return best or None
