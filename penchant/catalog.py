"""Catalog: what is known of each item: text fields, typed columns, pictures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError

from penchant.data import Ids, digest
from penchant.errors import BadPicture, Misaligned
from penchant.texts import Provenance, Texts

__all__ = ["MOST_PIXELS", "Catalog", "Pictures", "open_picture"]

MOST_PIXELS = 64_000_000  # a decoded picture of this size takes 192 MB; anything larger is refused unread
TEXT_FIELDS = ("title", "brand", "categories", "description")  # what `catalog.text` may see, most telling first


def open_picture(raw: bytes, name: str, size: int | None = None) -> Image.Image:
    """An RGB picture from bytes, decoded whole, at most about `size` pixels on its longer side if given.

    Raises BadPicture for what is no picture, is cut off, or has more than MOST_PIXELS pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture: Image.Image = Image.open(io.BytesIO(raw))
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise BadPicture(
                    f"picture {name} is {width} x {height} pixels; at most {MOST_PIXELS:,}. Scale it down."
                )
            if size is not None:
                picture.draft("RGB", (size, size))
                if max(picture.size) > size:
                    picture.thumbnail((size, size), Image.Resampling.BILINEAR)
            picture = ImageOps.exif_transpose(picture)
            if picture.mode in ("RGBA", "LA", "P", "PA"):
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("RGB")
            picture.info = {}  # comments, profiles, places: nothing but its pixels goes on
            return picture
    except BadPicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"picture {name} has too many pixels to be opened safely. Scale it down.") from None
    except UnidentifiedImageError:
        raise BadPicture(
            f"picture {name} is no picture that can be read ({len(raw)} bytes). Replace or remove it."
        ) from None
    except Exception as error:  # decoders and readers of EXIF raise whatever they stumble over
        raise BadPicture(f"picture {name} is damaged: {error}. Replace or remove it.") from None


@dataclass(frozen=True, eq=False)
class Pictures:
    """One encoded picture (JPEG, PNG, ...) per item, read when asked for.

    where[row] is the row of the item's picture in `source`, or -1. The source is a parquet file's binary column,
    a list of files, or bytes in memory.
    """

    items: Ids
    where: np.ndarray
    source: Path | tuple[Path, ...] | tuple[bytes, ...]
    column: str = "bytes"

    def __post_init__(self) -> None:
        if len(self.where) != len(self.items):
            raise Misaligned(f"{len(self.where)} picture rows for {len(self.items)} items")

    @property
    def present(self) -> np.ndarray:
        """(n,) bool"""
        return self.where >= 0

    @cached_property
    def hash(self) -> str:
        """Hash of ids and content."""
        return digest(self.items.print, *(self.read(row) or b"" for row in range(len(self.items))))

    @cached_property
    def _column(self) -> object:
        assert isinstance(self.source, Path)
        return pq.read_table(self.source, columns=[self.column], memory_map=True).column(0)

    def read(self, row: int) -> bytes | None:
        """The encoded picture of the item at this row."""
        at = int(self.where[row])
        if at < 0:
            return None
        if isinstance(self.source, Path):
            return self._column[at].as_py()  # type: ignore[index]
        found = self.source[at]
        return found.read_bytes() if isinstance(found, Path) else found

    def join(self, other: Pictures, items: Ids) -> Pictures:
        """These, then the other's, all of them in memory if the other has any."""
        if not other.present.any():
            return Pictures(items, np.concatenate([self.where, other.where]), self.source, self.column)
        raw = [part.read(row) for part in (self, other) for row in range(len(part.items))]
        there = np.array([found is not None for found in raw], bool)
        where = np.where(there, np.cumsum(there) - 1, -1)
        return Pictures(items, where, tuple(found for found in raw if found is not None))

    @staticmethod
    def none(items: Ids) -> Pictures:
        return Pictures(items, np.full(len(items), -1, np.int64), ())


@dataclass(frozen=True, eq=False)
class Catalog:
    """The catalogue in rows of `items`.

    fields: text columns, one value (or None) an item. numbers: numeric and boolean columns, with their types, for
    filters; a gap is null.
    """

    items: Ids
    fields: Mapping[str, tuple[str | None, ...]]
    pictures: Pictures
    numbers: Mapping[str, pl.Series] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.fields.items()}
        lengths |= {name: len(column) for name, column in self.numbers.items()}
        for name, length in lengths.items():
            if length != len(self.items):
                raise Misaligned(f"catalogue field `{name}` has {length} rows for {len(self.items)} items")

    @cached_property
    def hash(self) -> str:
        """Hash of ids and text fields; pictures are hashed when they are read."""
        parts = [self.items.print]
        for name in sorted(self.fields):
            parts += [name, *("\0" if v is None else v for v in self.fields[name])]
        return digest(*parts)

    def join(self, other: Catalog) -> Catalog:
        """These items, then the other's; what one of them has no column for is a gap there. Raises BadTable on an item of both,
        Misaligned on a column of other types."""
        items = Ids("item", self.items.keys + other.items.keys)
        texts = {
            name: self.fields.get(name, (None,) * len(self.items)) + other.fields.get(name, (None,) * len(other.items))
            for name in dict.fromkeys((*self.fields, *other.fields))
        }
        try:
            numbers = {
                name: pl.concat([_column(part, name) for part in (self, other)], how="vertical_relaxed")[name]
                for name in dict.fromkeys((*self.numbers, *other.numbers))
            }
        except pl.exceptions.PolarsError as error:
            raise Misaligned(f"columns of two catalogues differ in type: {error}. Give both the same type.") from None
        return Catalog(items, texts, self.pictures.join(other.pictures, items), numbers)

    def title(self, row: int) -> str:
        """The title, or the key where there is none."""
        titles = self.fields.get("title")
        return (titles[row] if titles else None) or self.items.keys[row]

    def texts(self, *names: str) -> Texts:
        """One text an item from these fields, or from title, brand, categories and description.

        The most telling come first, because encoders cut what is long at the end. Items with none are gaps.
        """
        chosen = names or tuple(name for name in TEXT_FIELDS if name in self.fields)
        columns = [self.fields[name] for name in chosen]
        values = tuple(
            ". ".join(part.strip().rstrip(".") for part in row if part and part.strip()) or None
            for row in zip(*columns, strict=True)
        )
        if not columns:
            values = (None,) * len(self.items)
        return Texts(self.items, values, Provenance("catalog:" + "+".join(chosen), (self.hash,)))


def _column(catalog: Catalog, name: str) -> pl.DataFrame:
    found = catalog.numbers.get(name, pl.Series([None] * len(catalog.items)))
    return pl.DataFrame({name: found})
