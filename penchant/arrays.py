"""Feature files: NAME.npy with one row per id, and NAME.ids.txt that says whose row it is.

Ids may hold anything, newlines too, so each line of NAME.ids.txt is one JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from penchant.data import Ids, Kind
from penchant.errors import BadInput, BadTable, Misaligned, MissingFile, some
from penchant.features import Features, align
from penchant.texts import Provenance

__all__ = ["FeatureFiles", "load_rows", "read_ids", "save_features", "with_gaps"]


def load_rows(path: Path) -> np.ndarray:
    """The table of numbers in a .npy file, memory-mapped. (n, dim)

    Raises MissingFile, or BadTable for a damaged file, one that holds objects, or one that is no table.
    """
    if not path.is_file():
        raise MissingFile(f"no file {path}")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadTable(
            f"{path.name} is no array file that can be read: {str(error).rstrip('.')}. Save it again with numpy.save."
        ) from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiub":
        found = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise BadTable(f"{path.name} holds {found}; features are a table of numbers (rows, dim).")
    return values


def with_gaps(ids: Ids, values: np.ndarray, name: str) -> Features:
    """Features as they came in a file: row i belongs to ids.keys[i]; a row that is NaN throughout is a gap.

    Raises Misaligned on a wrong number of rows, BadTable on any other NaN or infinity.
    """
    if len(values) != len(ids):
        raise Misaligned(
            f"{name} has {len(values)} rows for {len(ids)} {ids.kind}s. Each {ids.kind} needs one row, in the same "
            f"order; or name the rows in {Path(name).stem}.ids.txt, one id a line."
        )
    values = np.asarray(values, np.float32)
    present = ~np.isnan(values).all(axis=1) if values.shape[1] else np.zeros(len(ids), bool)
    try:
        return Features(ids, values, present, Provenance(f"external:{name}"))
    except BadTable as error:
        raise BadTable(f"{name}: {error}") from None


def read_ids(path: Path, kind: Kind) -> Ids:
    """The ids of a feature file: one JSON string a line, or, where not every line is one, the bare lines.

    Raises MissingFile, or BadTable for a repeated id.
    """
    if not path.is_file():
        raise MissingFile(f"no file {path}: {path.name.removesuffix('.ids.txt')}.npy needs it, one id a line.")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise BadTable(f"{path.name} is not UTF-8 text.") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    keys = [line.removesuffix("\r") for line in lines]
    try:
        read = json.loads("[" + ",".join(lines) + "]")
        if len(read) == len(lines) and all(isinstance(key, str) for key in read):
            keys = read
    except ValueError:
        pass
    try:
        return Ids(kind, tuple(keys))
    except BadTable as error:
        raise BadTable(f"{path.name}: {error}") from None


def save_features(features: Features, folder: Path, name: str) -> None:
    """Write NAME.npy (float32, gaps left out) and NAME.ids.txt into the folder.

    Raises BadInput for a name that is no plain file name.
    """
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise BadInput(f"features cannot be called {name!r}: use letters, digits and _ only.")
    folder.mkdir(exist_ok=True)
    rows = np.flatnonzero(features.present)
    whole = len(rows) == len(features.ids)
    np.save(folder / f"{name}.npy", features.values if whole else features.values[rows])
    keys = features.ids.keys if whole else [features.ids.keys[i] for i in rows]
    with (folder / f"{name}.ids.txt").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(key) + "\n" for key in keys)


@dataclass(frozen=True, eq=False)
class FeatureFiles(Mapping[str, Features]):
    """The features of a folder by name, each read when it is asked for, in the rows of these users and items.

    Raises Misaligned or BadTable, when an array is asked for, as `align` and `Features` do.
    """

    folder: Path
    user_ids: Ids
    item_ids: Ids
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    _read: dict[str, Features] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, users: Ids, items: Ids, kinds: Mapping[str, object]) -> FeatureFiles:
        """Finds NAME.npy files and looks at their heads: a wrong number of rows is refused here.

        kinds: "user" or "item" by name, as the card has it; for others a name that begins with "user" decides.
        """
        found: dict[str, Kind] = {}
        for name in sorted(p.stem for p in folder.glob("*.npy")) if folder.is_dir() else []:
            kind = kinds.get(name, "user" if name.startswith("user") else "item")
            found[name] = "user" if kind == "user" else "item"
            rows, keys = len(load_rows(folder / f"{name}.npy")), len(read_ids(folder / f"{name}.ids.txt", found[name]))
            if rows != keys:
                raise Misaligned(
                    f"features/{name}.npy has {rows} rows, but {name}.ids.txt names {keys}. Make it again."
                )
        return FeatureFiles(folder, users, items, found)

    def __getitem__(self, name: str) -> Features:
        if name not in self._read:
            own = read_ids(self.folder / f"{name}.ids.txt", self.kinds[name])
            ids = self.user_ids if own.kind == "user" else self.item_ids
            self._read[name] = align(
                with_gaps(own, load_rows(self.folder / f"{name}.npy"), f"features/{name}.npy"), ids
            )
        return self._read[name]

    def strange(self, name: str) -> tuple[int, int]:
        """How many of a file's ids are of no user or item here, and how many it has."""
        own = read_ids(self.folder / f"{name}.ids.txt", self.kinds[name])
        ids = self.user_ids if own.kind == "user" else self.item_ids
        return int((ids.rows(own.keys) < 0).sum()), len(own)

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)

    def __repr__(self) -> str:
        return f"features: {some(self.kinds, 10) or 'none'}"
