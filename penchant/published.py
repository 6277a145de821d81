"""Data sets in the layouts their authors published: MovieLens, RLMRec, MMRec."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from penchant.archives import load_array, load_matrix, load_texts
from penchant.arrays import load_rows, with_gaps
from penchant.columns import renamed, typed
from penchant.data import Ids
from penchant.errors import BadArchive, BadTable, Misaligned, some
from penchant.features import Features
from penchant.folder import Contents
from penchant.tables import check_interactions, check_rows, ids, rows_of
from penchant.textfiles import located, read_delimited

__all__ = ["mmrec", "movielens", "rlmrec"]

MOVIELENS_TERMS = "MovieLens: research use with citation, no commercial use without permission; see its README."
# The flags of u.item in their order (u.genre of ml-100k).
GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
RATING = ["user_id", "item_id", "rating", "timestamp"]


def movielens(root: Path) -> Contents:
    """ml-latest, ml-25m, ml-20m (ratings.csv, movies.csv), ml-1m (.dat, `::`) or ml-100k (u.data, u.item).

    "Toy Story (1995)" becomes the title "Toy Story" and the number year 1995; genres become categories. Tags are left
    out: users wrote them, some after the choices that a split holds out.
    """
    users, notes = None, dict[str, int]()
    if (root / "u.data").is_file():
        ratings = _fields(root / "u.data", "\t", RATING)
        films = _fields(root / "u.item", "|", ["item_id", "title", "released", "video", "url", *GENRES])
        flags = [pl.when(pl.col(g) == "1").then(pl.lit(g)) for g in GENRES[1:]]
        films = films.select(
            "item_id", "title", pl.concat_str(flags, separator=", ", ignore_nulls=True).alias("genres")
        )
        if (root / "u.user").is_file():
            users = _fields(root / "u.user", "|", ["user_id", "age", "gender", "occupation", "zip"])
    elif (root / "ratings.dat").is_file():
        ratings = _fields(root / "ratings.dat", "::", RATING)
        films = _fields(root / "movies.dat", "::", ["item_id", "title", "genres"])
        if (root / "users.dat").is_file():
            users = _fields(root / "users.dat", "::", ["user_id", "gender", "age", "occupation", "zip"])
    elif (root / "ratings.csv").is_file():
        ratings = renamed(read_delimited(root / "ratings.csv", notes), "interactions", notes)[0]
        films = read_delimited(root / "movies.csv", notes).rename({"movieId": "item_id"}, strict=False)
    else:
        raise _unknown(
            root, "MovieLens", "ratings.csv and movies.csv, ratings.dat and movies.dat, or u.data and u.item"
        )
    lacking = {"item_id", "title", "genres"} - set(films.columns)
    if lacking:
        raise BadTable(f"movies.csv has no column {some(sorted(lacking))}. It has: {some(films.columns, 20)}")
    year = r"\s*\((\d{4})[^()]*\)\s*$"
    films = films.with_columns(
        pl.col("title").str.replace(year, ""),
        pl.col("title").str.extract(year).cast(pl.Int64).alias("year"),
        pl.col("genres").replace("(no genres listed)", None),
    )
    items = check_rows(renamed(films, "items", notes)[0], "item_id", "movies")
    notes |= items.notes
    if users is not None:
        people = check_rows(typed(users.drop("zip"), "user_id"), "user_id", "users")
        notes |= {**people.notes, "columns of users left out (zip)": 1}
        users = people.frame
    if (root / "tags.csv").is_file():
        notes["files not used (tags.csv: some tags were written after the choices that a split holds out)"] = 1
    choices = check_interactions(ratings, "ratings", notes)
    return Contents("", "", choices, items.frame, users, terms=MOVIELENS_TERMS, notes=notes)


def rlmrec(root: Path) -> Contents:
    """trn_mat.pkl, val_mat.pkl, tst_mat.pkl (users x items, non-zero = chosen; trnMat.pkl of DiffMM will do).

    Beside them, as far as they are there: usr_prf.pkl and itm_prf.pkl -> the column llm_profile; usr_emb_np.pkl and
    itm_emb_np.pkl -> features user_profile and item_profile; image_feat.npy and the like -> image_features; the
    original ids of mapper/*.json -> a column. Ids are the row numbers. Pickles are read without running anything.
    """
    tables, shape = [], (0, 0)
    for code, part in enumerate(("trn", "val", "tst")):
        file = next((f for f in (root / f"{part}_mat.pkl", root / f"{part}Mat.pkl") if f.is_file()), None)
        if file is None:
            if part == "trn":
                raise _unknown(root, "RLMRec", "trn_mat.pkl, val_mat.pkl and tst_mat.pkl")
            continue
        matrix = load_matrix(file)
        if code and matrix.shape != shape:
            raise Misaligned(f"{file.name} is {matrix.shape}, the train matrix {shape}; they must have one shape.")
        shape = matrix.shape
        tables.append(pl.DataFrame({"user_id": matrix.row, "item_id": matrix.col}).with_columns(split=pl.lit(code)))
    notes: dict[str, int] = {}
    keys = {kind: [str(i) for i in range(n)] for kind, n in zip(("user", "item"), shape, strict=True)}
    frames, features = {}, _modalities(root, Ids("item", tuple(keys["item"])))
    for kind, short in (("user", "usr"), ("item", "itm")):
        frame = pl.DataFrame({f"{kind}_id": pl.Series(keys[kind], dtype=pl.String)})
        mapper = _mapper(root, kind)
        if mapper is not None:
            frame = _beside(frame, mapper.rename({f"{kind[0]}id": f"{kind}_id"}), f"the {kind} mapper", notes)
        if (root / f"{short}_prf.pkl").is_file():
            texts = load_texts(root / f"{short}_prf.pkl", "profile")
            profile = {f"{kind}_id": [str(row) for row in texts], "llm_profile": list(texts.values())}
            more = pl.DataFrame(profile, schema=dict.fromkeys(profile, pl.String))
            frame = _beside(frame, more, f"{short}_prf.pkl", notes)
        if (root / f"{short}_emb_np.pkl").is_file():
            values = load_array(root / f"{short}_emb_np.pkl")
            name = f"{short}_emb_np.pkl"
            features[f"{kind}_profile"] = with_gaps(Ids(kind, tuple(keys[kind])), values, name)  # type: ignore[arg-type]
        frames[kind] = frame
    choices = check_interactions(pl.concat(tables), "trn_mat.pkl", notes)
    return Contents("", "", choices, frames["item"], frames["user"], features=features, notes=notes)


def mmrec(root: Path) -> Contents:
    """NAME.inter (tab-separated userID, itemID, x_label and perhaps rating, timestamp); x_label is the split.

    image_feat.npy and text_feat.npy have row i for itemID i and become image_features and text_features.
    u_id_mapping.csv, i_id_mapping.csv and meta-NAME.csv become columns of users and items. Ids are the numbers.
    """
    found = sorted(root.glob("*.inter"))
    if len(found) != 1:
        raise _unknown(root, "MMRec", "one file NAME.inter")
    notes: dict[str, int] = {}
    given, columns = renamed(read_delimited(found[0], notes), "interactions", notes)
    with located(found[0], columns):
        choices = check_interactions(given, found[0].name, notes)
    arrays = sorted(root.glob("*_feat.npy"))
    numbers = choices.select(pl.col("user_id", "item_id").cast(pl.Int64, strict=False))
    if numbers["item_id"].null_count():
        raise BadTable(f"{found[0].name}: itemID must be whole numbers from 0, the rows of the feature files.")
    mapping = _mapped(root / "i_id_mapping.csv", "item_id", "itemID")
    highest = int(numbers["item_id"].to_numpy().max())
    count = mapping.height if mapping is not None else len(load_rows(arrays[0])) if arrays else highest + 1
    if count <= highest:
        raise Misaligned(
            f"itemID goes up to {highest}, but {arrays[0].name if arrays else 'the mapping'} has {count} rows."
        )
    frame = pl.DataFrame({"item_id": pl.Series([str(i) for i in range(count)], dtype=pl.String)})
    if mapping is not None:
        frame = _beside(frame, mapping, "i_id_mapping.csv", notes)
    for meta in sorted(root.glob("meta-*.csv")):
        table = renamed(read_delimited(meta, notes).rename({"itemID": "item_id"}, strict=False), "items", notes)[0]
        table = typed(table.drop([c for c in table.columns if c in frame.columns and c != "item_id"]), "item_id")
        with located(meta):
            checked = check_rows(table, "item_id", meta.name)
        notes |= checked.notes
        frame = _beside(frame, checked.frame, meta.name, notes)
    return Contents(
        "",
        "",
        choices,
        frame,
        _mapped(root / "u_id_mapping.csv", "user_id", "userID"),
        features=_modalities(root, Ids("item", tuple(frame["item_id"]))),
        columns=columns,
        notes=notes,
    )


def _unknown(root: Path, what: str, expected: str) -> BadArchive:
    inside = sorted(f.name for f in root.iterdir()) if root.is_dir() else [root.name]
    return BadArchive(f"this is not {what}'s layout: expected {expected}. Found: {some(inside, 12) or 'nothing'}")


def _fields(path: Path, separator: str, names: list[str]) -> pl.DataFrame:
    """A table without header or quotes, in Latin-1 as MovieLens writes it. All columns are text."""
    if not path.is_file():
        raise _unknown(path.parent, "MovieLens", path.name)
    text = path.read_bytes().decode("latin-1")
    if len(separator) > 1:
        text, separator = text.replace(separator, "\t"), "\t"
    try:
        frame = pl.read_csv(
            io.BytesIO(text.encode()), separator=separator, has_header=False, quote_char=None, infer_schema_length=0
        )
    except pl.exceptions.PolarsError as error:
        raise BadTable(f"{path.name} cannot be read as a table: {str(error).splitlines()[0]}") from None
    if frame.width != len(names):
        raise BadTable(f"{path.name} has {frame.width} columns, expected {len(names)}: {some(names, 5)}")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _modalities(root: Path, items: Ids) -> dict[str, Features]:
    """image_feat.npy -> image_features, and so on; row i belongs to item i."""
    return {
        file.name.removesuffix("_feat.npy") + "_features": with_gaps(items, load_rows(file), file.name)
        for file in sorted(root.glob("*_feat.npy"))
    }


def _mapper(root: Path, kind: str) -> pl.DataFrame | None:
    """{"iid": 0, "asin": "..."} a line, in mapper/ inside the folder or beside it; the other column is kept as text."""
    places = [*root.glob(f"mapper/*{kind}*.json"), root.parent / "mapper" / f"{root.name}_{kind}.json"]
    file = next((f for f in places if f.is_file()), None)
    if file is None:
        return None
    try:
        table = pl.read_ndjson(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadTable(f"{file.name} is no JSON by lines: {str(error).splitlines()[0]}") from None
    key = f"{kind[0]}id"
    return pl.DataFrame([ids(table, key, file.name), *_originals(table.drop(key), kind)])


def _mapped(path: Path, ours: str, number: str) -> pl.DataFrame | None:
    """MMRec's id tables: the original id and our number, tab-separated."""
    if not path.is_file():
        return None
    table = read_delimited(path)
    keys = ids(table, number, path.name).rename(ours)
    return pl.DataFrame([keys, *_originals(table.drop(number), ours.removesuffix("_id"))])


def _originals(table: pl.DataFrame, kind: str) -> list[pl.Series]:
    return [c.cast(pl.String).rename("original_id" if c.name == f"{kind}_id" else c.name) for c in table.get_columns()]


def _beside(frame: pl.DataFrame, more: pl.DataFrame, where: str, notes: dict[str, int]) -> pl.DataFrame:
    """The columns of `more` in the rows of `frame`, whose first column is the key of both; null where it has none.

    Further rows of one key, and rows of keys that are not in `frame`, are left out and counted.
    """
    key = frame.columns[0]
    once = more.unique(key, keep="first", maintain_order=True)
    at = pl.Series(rows_of(frame[key], once[key].to_list()))
    if more.height > once.height:
        notes[f"further rows of one id in {where} dropped, the first kept"] = more.height - once.height
    notes[f"rows of {where} whose id is not in this data left out"] = once.height - int((at >= 0).sum())
    return frame.hstack(once.drop(key).select(pl.all().gather(at.set(at < 0, None))).get_columns())
