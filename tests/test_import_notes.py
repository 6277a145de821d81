"""What an import reads in one of two ways, leaves out or cannot place is said: in `data import`, in `data show`, on the
card. What cannot be decided is refused with the line of the file."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from answers_of import surrounded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from penchant import folder
from penchant.cli import main
from penchant.errors import BadInput, BadTable, PenchantError
from penchant.sources import import_
from penchant.times import seconds

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Call the command in tmp_path: exit code, standard output, standard error."""
    surrounded(monkeypatch, tmp_path / "store", tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["penchant", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return call


def shop(place: Path, interactions: str = "user_id,item_id\nann,mug\nben,pot\n", **others: str) -> Path:
    place.mkdir()
    for name, text in {"interactions": interactions, **others}.items():
        (place / f"{name}.csv").write_text(text, "utf-8")
    return place


def notes_of(source: Path, kind: str = "csv") -> dict[str, int]:
    """The notes that the card keeps and that `data show` prints."""
    card = import_(kind, source, source.parent / "out")
    accepted = card["accepted"]
    assert isinstance(accepted, dict)
    return accepted


def refusal(text: str | bytes, tmp_path: Path) -> str:
    (tmp_path / "log.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BadTable) as caught:
        import_("csv", tmp_path / "log.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# dates


def dated(tmp_path: Path, *dates: str) -> tuple[list[str], dict[str, int]]:
    rows = "".join(f"u{n},i,{date}\n" for n, date in enumerate(dates))
    (tmp_path / "log.csv").write_text("user_id,item_id,date\n" + rows)
    notes = notes_of(tmp_path / "log.csv")
    times = folder.read(tmp_path / "out").interactions.time
    assert times is not None
    return [datetime.fromtimestamp(float(t), UTC).strftime("%Y-%m-%d %H:%M") for t in times], notes


@pytest.mark.parametrize(
    ("dates", "read", "how"),
    [
        (("03/04/2024", "25/04/2024"), ["2024-04-03", "2024-04-25"], "day/month/year (as 25/04/2024 shows)"),
        (("03/04/2024", "04/25/2024"), ["2024-03-04", "2024-04-25"], "month/day/year (as 04/25/2024 shows)"),
        (("3-4-2024", "25-4-2024"), ["2024-04-03", "2024-04-25"], "day/month/year (as 25-4-2024 shows)"),
        (("3.4.2024", "5.6.2024"), ["2024-04-03", "2024-06-05"], "day/month/year (written with dots)"),
        (("3.4.2024", "5.26.2024"), ["2024-03-04", "2024-05-26"], "month/day/year (as 5.26.2024 shows)"),
    ],
)
def test_doubtful_dates_are_read_as_the_data_decide_and_it_is_said(
    dates: tuple[str, ...], read: list[str], how: str, tmp_path: Path
) -> None:
    found, notes = dated(tmp_path, *dates)
    assert found == [f"{day} 00:00" for day in read]
    assert notes[f"times of log.csv read as {how}"] == len(dates)


def test_dates_that_have_one_reading_need_no_note(tmp_path: Path) -> None:
    found, notes = dated(tmp_path, "2024-04-03", "2024/04/25", "2024-04-03T10:20:30")
    assert found == ["2024-04-03 00:00", "2024-04-25 00:00", "2024-04-03 10:20"]
    assert not [note for note in notes if "times" in note]


def test_the_time_of_day_is_kept(tmp_path: Path) -> None:
    found, _ = dated(tmp_path, "25/04/2024 14:05", "03/04/2024 2:05 PM", "03/04/2024 14:05:09", "03/04/2024")
    assert found == ["2024-04-25 14:05", "2024-04-03 14:05", "2024-04-03 14:05", "2024-04-03 00:00"]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (
            ("03/04/2024", "05/06/2024"),
            r"`date` can be read as day/month or as month/day \(03/04/2024 in line 2\), and no date among the 2 tells "
            r"which\. Write dates as 2024-04-03",
        ),
        (
            ("25/04/2024", "04/26/2024"),
            r"mixes day/month \(25/04/2024 in line 2\) and month/day \(04/26/2024 in line 3",
        ),
        (("3/4/24",), r"year of two digits in 1 of 1 rows, first in line 2 \('3/4/24'\)"),
        (("25/4/2024", "2024-04-03"), r"not written like '25/4/2024' in 1 of 2 rows, first in line 3 \('2024-04-03'\)"),
        (("31/02/2024",), r"no time that can be read in 1 of 1 rows, first in line 2 \('31/02/2024'\)"),
        (("25/04/2024 noon",), "no time that can be read"),
        (("20240403", "20240425"), r"dates written as one number \(20240403\)\. Write them as 2024-04-03"),
    ],
)
def test_dates_that_nothing_decides_are_refused(dates: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadTable, match=message):
        dated(tmp_path, *dates)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dates(datetime(1971, 1, 1).date(), datetime(2099, 1, 1).date()), min_size=1), st.booleans())
def test_no_date_is_ever_misread(dates: list, month_first: bool) -> None:
    written = pl.Series("timestamp", [f"{d:%m/%d/%Y}" if month_first else f"{d:%d/%m/%Y}" for d in dates])
    decided = any(d.day > 12 for d in dates) or all(d.day == d.month for d in dates)
    if decided:
        assert [datetime.fromtimestamp(t, UTC).date() for t in seconds(written, "log", {})] == dates
    else:
        with pytest.raises(BadTable, match="can be read as day/month or as month/day"):
            seconds(written, "log", {})


def test_numbers_that_are_hardly_seconds_are_noted(tmp_path: Path) -> None:
    _, notes = dated(tmp_path, "45385", "45386")  # days since 1900, as a spreadsheet counts
    assert notes["times of log.csv that all lie before March 1973 (are they seconds since 1970?)"] == 2


# what is left out


def test_import_and_show_print_every_note(ask: Ask, tmp_path: Path) -> None:
    shop(
        tmp_path / "mine",
        items="item_id,title\nmug,Mug\nmug,Cup\npot,Pot\n",
        users="user_id,age\nann,30\n",
        extra="a\n",
    )
    code, out, _ = ask("data", "import", "csv", "mine", "--out", "data/mine")
    assert code == 0
    shown = [line for line in out.splitlines() if line.startswith("note: ")]
    assert shown == [
        "note: 1  further rows of one id in items.csv dropped, the first kept",
        "note: 1  files and folders not used (extra.csv)",
        "note: 1  column of users that is no text, not used (age)",
        "note: 1  users without a row in the table of users",
        "note: 2  items without a picture",
    ]
    assert ask("data", "show", "data/mine")[1] == out
    facts = json.loads(ask("data", "show", "data/mine", "--json")[1])
    assert facts["note: further rows of one id in items.csv dropped, the first kept"] == 1
    assert folder.read("data/mine").catalog.fields["title"] == ("Mug", "Pot")


def test_notes_of_the_import_survive_rewriting(tmp_path: Path) -> None:
    shop(tmp_path / "mine", items="item_id,title\nmug,Mug\nmug,Cup\npot,Pot\n")
    notes = notes_of(tmp_path / "mine")
    assert folder.write(folder.read(tmp_path / "out"), tmp_path / "again")["accepted"] == notes


def test_numbers_of_items_are_shown(ask: Ask, tmp_path: Path) -> None:
    shop(tmp_path / "mine", items="item_id,price,stock\nmug,4.5,1\n")
    _, out, _ = ask("data", "import", "csv", "mine", "--out", "out")
    assert "item numbers        price, stock\n" in out


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("item_id,item_id", r"log\.csv has 2 columns called `item_id` in its header \(line 1\)"),
        ("user_id,item_id,note,note,note", r"has 3 columns called `note`"),
    ],
)
def test_two_columns_of_one_name_are_refused(header: str, message: str, tmp_path: Path) -> None:
    assert re.search(message, refusal(f"{header}\n{',' * header.count(',')}\n", tmp_path))


def test_columns_without_a_name_are_left_out_and_counted(tmp_path: Path) -> None:
    shop(tmp_path / "mine", "user_id,item_id,,\na,1,,\nb,2,x,\n")
    notes = notes_of(tmp_path / "mine")
    assert notes["columns of interactions without a name left out"] == 2
    assert pl.read_parquet(tmp_path / "out" / "interactions.parquet").columns == ["user_id", "item_id"]


def test_a_second_column_of_one_meaning_is_named(tmp_path: Path) -> None:
    shop(
        tmp_path / "mine",
        "uid,user_id,item_id,asin\n1,ann,mug,B1\n2,ben,pot,B2\n",
        items="item_id,title,name\nmug,Mug,The mug\n",
    )
    notes = notes_of(tmp_path / "mine")
    assert notes["interactions: `user_id` is taken as user_id; `uid`, which could be it too, is not used"] == 1
    assert notes["interactions: `item_id` is taken as item_id; `asin`, which could be it too, is not used"] == 1
    assert notes["items: `title` is taken as title; `name`, which could be it too, is kept as a column of its own"] == 1


def test_items_are_known_by_the_column_that_the_interactions_use(tmp_path: Path) -> None:
    shop(
        tmp_path / "mine",
        "user_id,product_id\nann,mug\nben,pot\n",
        items="asin,product_id,title\nB1,mug,Mug\nB2,pot,Pot\n",
    )
    notes_of(tmp_path / "mine")
    assert folder.read(tmp_path / "out").catalog.fields["title"] == ("Mug", "Pot")


@pytest.mark.parametrize("kind", ["item", "user"])
def test_a_table_that_describes_nobody_is_refused(kind: str, tmp_path: Path) -> None:
    shop(tmp_path / "mine", **{f"{kind}s": f"{kind}_id,title\nB1,Mug\n"})
    with pytest.raises(BadTable, match=rf"no {kind} of interactions\.csv is in {kind}s\.csv: .* there, B1 here"):
        notes_of(tmp_path / "mine")


def test_ids_of_spaces_are_refused_and_spaces_around_ids_noted(tmp_path: Path) -> None:
    assert "`user_id` is empty in 1 of 2 rows, first in line 3 ('   ')" in refusal(
        "user_id,item_id\nann,1\n   ,2\n", tmp_path
    )
    (tmp_path / "log.csv").write_text("user_id,item_id\nann,1\nann ,2\nben,2\n")
    notes = notes_of(tmp_path / "log.csv")
    assert notes["ids in user_id of log.csv that differ from others by spaces only, kept apart"] == 1


def test_a_column_without_any_value_is_noted(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,rating\nann,1,\nben,2,\n")
    assert notes_of(tmp_path / "log.csv")["empty column of log.csv left out (rating)"] == 1


def test_rows_that_end_early_are_counted(tmp_path: Path) -> None:
    text = "item_id,title,description\nmug,Mug,For tea\n and coffee\npot,Pot,\npan\n"  # a newline without quotes
    notes = notes_of(shop(tmp_path / "mine", items=text))
    assert notes["rows of items.csv that end early, filled up (the first in line 3)"] == 2


def test_films_without_genres_are_refused(tmp_path: Path) -> None:
    shop(tmp_path / "ml", ratings="userId,movieId,rating,timestamp\n1,10,4,964982703\n", movies="movieId,title\n10,A\n")
    with pytest.raises(BadTable, match=r"movies\.csv has no column genres\. It has: item_id, title"):
        import_("movielens", tmp_path / "ml", tmp_path / "out")


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    mine = shop(tmp_path / "mine", items="item_id\nmug\n", Orders="a\n")
    (mine / "pictures").mkdir()
    (mine / ".DS_Store").write_text("")
    assert notes_of(mine)["files and folders not used (Orders.csv, pictures)"] == 2
    card = import_("csv", mine / "interactions.csv", tmp_path / "alone")
    assert "files beside interactions.csv not used (items.csv); give the folder to use them" in str(card["accepted"])
    (mine / "Items.tsv").write_text("item_id\nmug\n")
    with pytest.raises(BadInput, match=r"mine has Items\.tsv and items\.csv\. Which is it"):
        import_("csv", mine, tmp_path / "never")


def test_tables_of_a_parquet_folder_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name, columns in {"interactions": {"user_id": ["a"], "item_id": ["1"]}, "stock": {"item_id": ["1"]}}.items():
        pl.DataFrame(columns).write_parquet(tmp_path / "raw" / f"{name}.parquet")
    (tmp_path / "raw" / "items.csv").write_text("item_id\n1\n")
    notes = notes_of(tmp_path / "raw", "parquet")
    assert notes["tables without user_id and item_id left out (stock.parquet)"] == 1
    assert notes["files and folders not used (items.csv)"] == 1


def test_what_published_layouts_leave_out_is_noted(tmp_path: Path) -> None:
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "ratings.dat").write_text("1::10::4::964982703\n")
    (tmp_path / "ml" / "movies.dat").write_text("10::A (1995)::Drama\n10::B (1996)::Drama\n")
    (tmp_path / "ml" / "users.dat").write_text("1::F::1::10::48067\n")
    notes = notes_of(tmp_path / "ml", "movielens")
    assert notes["further rows of one id in movies dropped, the first kept"] == 1
    assert notes["columns of users left out (zip)"] == 1
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "baby.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n")
    (tmp_path / "baby" / "meta-baby.csv").write_text("itemID,title\n0,A\n0,B\n7,C\n")
    card = import_("mmrec", tmp_path / "baby", tmp_path / "baby-out")
    assert "further rows of one id in meta-baby.csv dropped, the first kept': 1" in str(card["accepted"])
    assert "rows of meta-baby.csv whose id is not in this data left out': 1" in str(card["accepted"])


# pictures


def pictured(place: Path) -> Path:
    """A shop of two items whose folder of pictures holds everything that a folder can hold."""
    mine = shop(place, items="item_id\nmug\npot\n")
    images = mine / "images"
    images.mkdir()
    for name in ("mug.jpg", "mug.png"):
        Image.new("RGB", (8, 8), "red").save(images / name)
    (images / "pot.jpg").write_bytes(b"")
    (images / "pot.png").write_bytes(b"<html>not found")
    Image.new("RGB", (8, 8), "blue").save(place.parent / "secret.png")
    (images / "hat.png").symlink_to(place.parent / "secret.png")
    (images / "old.jpg").mkdir()
    (images / "readme.txt").write_text("mine")
    return mine


def test_what_lies_among_the_pictures_is_counted(tmp_path: Path) -> None:
    notes = notes_of(pictured(tmp_path / "mine"))
    assert notes["empty files in images/ left out"] == 1
    assert notes["further pictures of one item left out"] == 1
    assert notes["links in images/ not followed"] == 1
    assert notes["folders in images/ not looked into"] == 1
    assert notes["files in images/ that are no pictures left out"] == 1
    assert pl.read_parquet(tmp_path / "out" / "images.parquet")["item_id"].to_list() == ["mug", "pot"]


def test_a_linked_folder_of_pictures_is_not_followed_out(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (8, 8), "red").save(elsewhere / "mug.png")
    mine = shop(tmp_path / "mine")
    (mine / "images").symlink_to(elsewhere)
    assert notes_of(mine)["images/ is a link that leaves the folder, not followed"] == 1
    assert not (tmp_path / "out" / "images.parquet").exists()


def test_pictures_of_no_bytes_in_a_table_are_counted(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["1", "2", "3"]}).write_parquet(
        tmp_path / "raw" / "interactions.parquet"
    )
    pl.DataFrame({"item_id": ["1", "2", "3"], "bytes": [b"x", b"", None]}).write_parquet(
        tmp_path / "raw" / "images.parquet"
    )
    assert notes_of(tmp_path / "raw", "parquet")["pictures without any bytes left out"] == 2


def test_encode_says_what_it_could_not_read(ask: Ask, tmp_path: Path) -> None:
    import_("csv", pictured(tmp_path / "mine"), tmp_path / "out")
    code, out, _ = ask("encode", "out", "--image", "--encoder", "layout")
    assert code == 0
    said = dict(line.split(maxsplit=1) for line in out.splitlines() if line and "Look at it" not in line)
    assert (said["gaps"], said["unreadable"], said["unreadable_items"]) == ("1", "1", "pot")
    assert json.loads(ask("encode", "out", "--image", "--json")[1])["unreadable"] == 1


# messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,item_id\na,1\n".encode("utf-16"), "log.csv looks like UTF-16"),
        ("user_id,item_id\na,1\n".encode("utf-16-le"), "log.csv looks like UTF-16"),
        ("user_id,item_id\na,1\n".encode("utf-16-be"), "log.csv looks like UTF-16"),
        ("user_id,item_id\ra,1\rb,2\r", "ends its lines with CR alone"),
        (gzip.compress(b"user_id,item_id\na,1\n", mtime=0), "compressed (gzip)"),
        (b"PK\x03\x04" + b"x" * 20, "a zip or an Excel workbook"),
        (b"PAR1" + b"\0" * 20, "a parquet file. Use kind parquet"),
        ("user_id,item_id\na,1\nb,2,3\n", "line 3 has 3 fields, the header 2"),
        ('user_id,item_id\n"a\nb",1\nb,2,3\n', "line 4 has 3 fields, the header 2"),
        ('user_id,item_id\na,1\nb,"2,3\nc,4\n', "A quote that is opened in line 3 may never be closed"),
        ("user_id,item_id\na,1\nb,\xe9\n".encode("latin-1"), "is not UTF-8: line 3 holds the byte 0xe9"),
        ("user_id,item_id,score\na,1,2\nb,2,five\n", "`score` is no number in 1 of 2 rows, first in line 3 ('five')"),
        ('user_id,item_id,score\n"a\nb",1,2\n\nb,2,3\n', "`user_id` is empty in 1 of 3 rows, first in line 4"),
        ("\n\nuser_id;item_id\na;1\n;2\n", "`user_id` is empty in 1 of 2 rows, first in line 5 (no value)"),
    ],
)
def test_a_text_table_that_is_refused_names_the_line_and_the_way_out(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    assert message in refusal(text, tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text('ab"\n,', min_size=1, max_size=4)] * 2), max_size=6), st.integers(0, 6))
def test_the_line_is_the_line_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], at: int
) -> None:
    """A row without an id among quoted rows that hold newlines: the message names the line where it begins."""

    def quoted(*cells: str) -> str:
        return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n"

    lines = [quoted("user_id", "item_id"), *(quoted(f"x{a}", f"x{b}") for a, b in rows)]
    at = min(at, len(rows)) + 1
    lines.insert(at, ",nobody\n")
    place = tmp_path_factory.mktemp("csv") / "log.csv"
    place.write_text("".join(lines), "utf-8", newline="")
    with pytest.raises(BadTable, match=rf"first in line {''.join(lines[:at]).count(chr(10)) + 1} "):
        import_("csv", place, place.parent / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data", "import", "csv", "/dev/null"), "/dev/null is neither a folder nor a plain file"),
        (("data", "import", "csv", ""), "the place of the data is empty"),
        (
            ("data", "import", "csv", "named"),
            "PENCHANT_DATA has a data set of that name. Use:  penchant data import csv ",
        ),
        (("data", "import", "parquet", "whole"), 'Use:  penchant data show whole, and  data = "whole"  in a recipe'),
        (("data", "import", "parquet", "mine"), "looks like kind csv. Import it:  penchant data import csv PATH"),
    ],
)
def test_a_place_that_holds_no_data_is_one_message(
    words: tuple[str, ...], message: str, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(tmp_path / "mine")
    (tmp_path / "sets").mkdir()
    shop(tmp_path / "sets" / "named")
    import_("csv", tmp_path / "mine", tmp_path / "sets" / "whole")
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "sets"))
    code, out, err = ask(*words, "--out", "out")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_an_imported_copy_under_data_is_mentioned(ask: Ask, tmp_path: Path) -> None:
    import_("csv", shop(tmp_path / "mine"), tmp_path / "data" / "mine")
    import_("csv", tmp_path / "mine", tmp_path / "data" / "other")
    for name in ("mine", "other"):
        for command in (("data", "show", name), ("encode", name, "--text")):
            code, _, err = ask(*command)
            assert code == 2
            assert f"Or do you mean the imported one, data/{name}?" in err
    assert "imported one" not in ask("data", "show", "nowhere")[2]


def test_pictures_have_no_text_column(ask: Ask, tmp_path: Path) -> None:
    import_("csv", pictured(tmp_path / "mine"), tmp_path / "out")
    code, _, err = ask("encode", "out", "--image", "--column", "items.title")
    assert code == 2
    assert "--text --column items.title" in err


def test_a_name_that_a_terminal_would_obey_is_shown_harmless(ask: Ask, tmp_path: Path) -> None:
    shop(tmp_path / "mine", "user_id,item_id,\x1b[31mred\na,1,x\n")
    _, out, _ = ask("data", "import", "csv", "mine", "--out", "out")
    assert "\x1b" not in out
    assert "unknown column of interactions, not used (\\x1b[31mred)" in out


def test_refusals_are_still_errors_of_ours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(30):
        (tmp_path / "log.csv").write_bytes(b"user_id,item_id,date\n" + rng.integers(0, 256, 40, np.uint8).tobytes())
        with pytest.raises(PenchantError):
            import_("csv", tmp_path / "log.csv", tmp_path / f"out{n}")
