"""Files from strangers: zip archives and pickles, opened so that nothing in them can act.

A zip is checked whole before anything is written, and then unpacked into a temporary folder only. A pickle is read by
an unpickler that knows a handful of names; numpy and scipy classes are replaced by inert holders, so that not even
their own loading code runs on bytes that were made up.
"""

from __future__ import annotations

import math
import pickle
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from scipy import sparse

from penchant.errors import BadArchive, MissingFile, near, some

__all__ = ["load_array", "load_matrix", "load_texts", "opened"]

MOST_BYTES = 32 * 2**30  # unpacked; a published data set with pictures stays under this
MOST_FILES = 2_000_000
MOST_RATIO = 250  # unpacked over packed; text and sparse numbers reach about 20, a bomb 1000
SMALL = 64 * 2**20  # below this no ratio is suspicious
MOST_ROWS = 50_000_000  # of users or items in a pickled matrix


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The path itself, or for a .zip a temporary folder that holds what was in it and vanishes afterwards.

    Raises MissingFile, or BadArchive for a damaged or encrypted archive, a member that leaves it (zip slip), a
    link, or a decompression bomb; then nothing has been unpacked.
    """
    if not path.exists():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise MissingFile(f"no file or folder {path}.{near(path.name, there)}")
    if not (path.is_dir() or path.is_file()):
        raise MissingFile(
            f"{path} is neither a folder nor a plain file. Give the folder or the file that holds the data."
        )
    if path.is_dir() or path.suffix.lower() != ".zip":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="penchant-") as folder:
        root = Path(folder)
        _unpack(path, root)
        while len(inside := list(root.iterdir())) == 1 and inside[0].is_dir():
            root = inside[0]  # most archives hold one folder that holds everything
        yield root


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            _check(members, path.name, folder)
            left = MOST_BYTES
            for member in members:
                target = folder.joinpath(*PurePosixPath(member.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 2**20)
                    left -= sink.tell()
                if left < 0:
                    raise BadArchive(f"{path.name} unpacks to more than it declares. Do not trust it.")
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadArchive(f"{path.name} is damaged: {error}. Download it again.") from None
    except (OSError, ValueError) as error:
        raise BadArchive(f"{path.name} cannot be unpacked: {error}") from None


def _check(members: list[zipfile.ZipInfo], name: str, folder: Path) -> None:
    """BadArchive unless every member stays inside the archive and the whole is of a bearable size."""
    for member in members:
        raw = member.orig_filename
        place = PurePosixPath(raw)
        leaves = place.is_absolute() or ".." in place.parts or re.match(r"[A-Za-z]:", raw)
        if leaves or "\\" in raw or "\0" in raw:
            raise BadArchive(f"{name} holds a path that leaves the archive: {some([raw])}. Do not trust it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise BadArchive(f"{name} holds a link, {some([raw])}. Unpack it yourself and give the folder.")
        if member.flag_bits & 1:
            raise BadArchive(f"{name} is encrypted. Unpack it yourself and give the folder.")
    names = [m.filename for m in members]
    if len(set(names)) < len(names):
        raise BadArchive(f"{name} holds the same file twice. Unpack it yourself and give the folder.")
    packed, unpacked = sum(m.compress_size for m in members), sum(m.file_size for m in members)
    bomb = unpacked > SMALL and unpacked > MOST_RATIO * max(packed, 1)
    if bomb or unpacked > MOST_BYTES or len(members) > MOST_FILES:
        raise BadArchive(
            f"{name} would unpack from {packed:,} to {unpacked:,} bytes in {len(members):,} files, as a "
            "decompression bomb does. If you trust it, unpack it yourself and give the folder."
        )
    if unpacked > shutil.disk_usage(folder).free:
        raise BadArchive(f"{name} unpacks to {unpacked:,} bytes; the temporary folder has no room for it.")


class _Sealed(type):
    """Classes that a pickle may name but cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a class cannot be changed")


class _Held(metaclass=_Sealed):
    """What a pickle says about an object, held and not acted upon."""

    def __new__(cls, *args: object) -> _Held:
        held = object.__new__(cls)
        held.__dict__["args"] = args
        return held

    def __setstate__(self, state: object) -> None:
        self.__dict__["state"] = state


class _Type(_Held): ...


class _Array(_Held): ...


class _Buffer(_Held): ...


class _Scalar(_Held): ...


class _Coo(_Held): ...


class _Csr(_Held): ...


class _Csc(_Held): ...


class _Encoded(metaclass=_Sealed):
    """Stands for `_codecs.encode`, which old pickles use to spell bytes."""

    def __new__(cls, text: str, coding: str = "latin1") -> bytes:  # type: ignore[misc]
        return text.encode("latin1")


_PLAIN = {"dict": dict, "list": list, "set": set, "tuple": tuple, "bytearray": bytearray}
_NUMPY = {
    "ndarray": _Array,
    "_reconstruct": _Array,
    "_frombuffer": _Buffer,
    "dtype": _Type,
    "scalar": _Scalar,
}


class _Unpickler(pickle.Unpickler):
    """Knows plain containers, numeric arrays and three sparse formats; any other name ends the loading."""

    def find_class(self, module: str, name: str) -> type:
        top = module.split(".")[0]
        if module == "builtins" and name in _PLAIN:
            return _PLAIN[name]
        if (module, name) == ("_codecs", "encode"):
            return _Encoded
        if top == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if module.startswith("scipy.sparse"):
            for form, held in (("coo", _Coo), ("csr", _Csr), ("csc", _Csc)):
                if name in (f"{form}_matrix", f"{form}_array"):
                    return held
        raise BadArchive(f"asks for {module}.{name}, which data has no need of: it could run code when loaded")


def _load(path: Path) -> object:
    if not path.is_file():
        raise MissingFile(f"no file {path}")
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except BadArchive as error:
        raise BadArchive(f"{path.name} {error}. Nothing in it was run.") from None
    except Exception as error:  # a broken pickle raises nearly anything
        raise BadArchive(f"{path.name} is no pickle that can be read: {error or type(error).__name__}") from None


def load_matrix(path: Path) -> sparse.coo_matrix:
    """A pickled scipy matrix (coo, csr or csc) without its zeros, rows then columns ascending. (rows, cols)

    Raises BadArchive for anything else, for indices outside the shape, and for any name but numpy's and scipy's.
    """
    held = _load(path)
    try:
        state = held.__dict__["state"] if isinstance(held, _Coo | _Csr | _Csc) else None
        if not isinstance(state, dict):
            raise ValueError("it holds no sparse matrix (coo, csr or csc)")
        shape = state.get("_shape", state.get("shape"))
        rows, cols = (int(n) for n in shape or ())
        if not (0 < rows <= MOST_ROWS and 0 < cols <= MOST_ROWS):
            raise ValueError(f"a matrix of {rows} x {cols} is none of users and items")
        data = _array(state["data"])
        if isinstance(held, _Coo):
            pair = state["coords"] if "coords" in state else (state["row"], state["col"])
            row, col = (_array(a) for a in pair)
        else:
            outer, inner = _array(state["indptr"]), _array(state["indices"])
            lengths = np.diff(outer)
            if outer[0] != 0 or (lengths < 0).any() or outer[-1] != len(inner):
                raise ValueError("its row starts are damaged")
            spread = np.repeat(np.arange(len(lengths)), lengths)
            row, col = (spread, inner) if isinstance(held, _Csr) else (inner, spread)
        if not len(row) == len(col) == len(data) or row.ndim != 1 or data.ndim != 1:
            raise ValueError("its columns differ in length")
        if len(row) and not (row.min() >= 0 and row.max() < rows and col.min() >= 0 and col.max() < cols):
            raise ValueError("an index lies outside its shape")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadArchive(f"{path.name}: {error}") from None
    order = np.lexsort((col, row))
    order = order[data[order] != 0]
    return sparse.coo_matrix((data[order], (row[order], col[order])), shape=(rows, cols))


def load_array(path: Path) -> np.ndarray:
    """A pickled numeric numpy array. Raises BadArchive for anything else."""
    try:
        return _array(_load(path))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadArchive(f"{path.name}: {error}") from None


def load_texts(path: Path, name: str) -> Mapping[int, str]:
    """A pickled {row: text} or {row: {name: text, ...}}. Raises BadArchive for anything else."""
    held = _load(path)
    try:
        if not isinstance(held, dict):
            raise ValueError("it holds no dictionary")
        pairs = ((_row(key), value[name] if isinstance(value, dict) else value) for key, value in held.items())
        texts = {row: text for row, text in pairs if text is not None}
        odd = [row for row, text in texts.items() if not isinstance(text, str)]
        if odd:
            raise ValueError(f"row {odd[0]} holds no text")
        return texts
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadArchive(f"{path.name}: {error}; expected {{row: {{'{name}': text}}}}") from None


def _row(key: object) -> int:
    if isinstance(key, _Scalar):
        kind, raw = key.__dict__["args"]
        return int(np.frombuffer(raw, _dtype(kind))[0])
    return int(key)  # type: ignore[call-overload]


def _dtype(held: object) -> np.dtype:
    """A plain number type; types that hold objects or fields are refused."""
    if not isinstance(held, _Type):
        raise ValueError("an array without a type")
    code = held.__dict__["args"][0]
    if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
        raise ValueError(f"an array of type {code!r}; only numbers are read")
    state = held.__dict__.get("state", (3, "<"))
    return np.dtype((">" if state[1] == ">" else "<") + code)


def _array(held: object) -> np.ndarray:
    if isinstance(held, _Buffer):
        raw, kind, shape, order = held.__dict__["args"]
    elif isinstance(held, _Array):
        _, shape, kind, columns_first, raw = held.__dict__["state"]
        order = "F" if columns_first else "C"
    else:
        raise ValueError("it holds no array of numbers")
    dtype = _dtype(kind)
    if not isinstance(raw, bytes | bytearray) or len(raw) != dtype.itemsize * math.prod(shape):
        raise ValueError("an array whose bytes do not fill its shape")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C").astype(dtype.newbyteorder("="))
