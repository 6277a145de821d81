"""The store: exact round trips, nothing overwritten, real kills, several processes, full and read-only disks."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_encoder import Toy, toy_job
from watching import watching

from penchant import encode
from penchant.cards import reference
from penchant.data import Ids
from penchant.errors import MissingFile, StoreError
from penchant.features import Features
from penchant.store import Store
from penchant.texts import Provenance, Texts
from penchant.vectors import Vectors

ODD_KEYS = ("a", 'quo"te', "new\nline", "ünïcode 商品", "", " ", "\x00", "half \ud83d pair")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def some_features(n: int = 7, dim: int = 5, seed: int = 0, gaps: bool = True, **source: object) -> Features:
    rng = np.random.default_rng(seed)
    present = np.arange(n) % 3 != 1 if gaps else np.ones(n, bool)
    origin = replace(Provenance("encoder:toy@1", ("parent",), "feed" * 16), **source)
    ids = Ids("item", tuple(f"i{row}" for row in range(n)))
    return Features(ids, rng.normal(size=(n, dim)).astype(np.float32), present, origin)


# Vectors


def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    hashes = [sha(str(i)) for i in range(1234)]
    values = np.random.default_rng(0).normal(size=(1234, 6)).astype(np.float32)
    with Store(tmp_path).vectors("toy@1") as vectors:
        vectors.put(hashes, values, cut=np.arange(1234))
    with Store(tmp_path).vectors("toy@1") as vectors:
        asked = np.random.default_rng(1).integers(0, 1234, 3000)
        assert np.array_equal(vectors.get([hashes[i] for i in asked]), values[asked])
        assert vectors.known([hashes[3], sha("x"), hashes[3]]).tolist() == [3, -1, 3]


def test_encoders_do_not_see_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.vectors("toy@1") as one, store.vectors("toy@2") as two:
        one.put([sha("a")], np.ones((1, 2)))
        two.put([sha("a")], np.zeros((1, 9)))
        assert one.get([sha("a")]).shape == (1, 2)
        assert two.get([sha("a")]).shape == (1, 9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=6), st.integers(0, 2**32))
def test_vectors_are_a_dictionary_that_keeps_the_first(batches: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    twin: dict[int, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            values = rng.normal(size=(len(batch), 3)).astype(np.float32)
            with Store(folder).vectors("toy") as vectors:
                vectors.put([sha(str(i)) for i in batch], values)
            for i, value in zip(batch, values, strict=True):
                twin.setdefault(i, value)
        with Store(folder).vectors("toy") as vectors:
            assert (vectors.known([sha(str(i)) for i in range(31)]) >= 0).tolist() == [i in twin for i in range(31)]
            got = vectors.get([sha(str(i)) for i in twin])
            assert np.array_equal(got, np.array(list(twin.values()), np.float32).reshape(got.shape))
            assert len(vectors) == len(twin)


def test_asking_for_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with Store(tmp_path).vectors("toy") as vectors, pytest.raises(StoreError, match="missing"):
        vectors.get([sha("nothing")])


def test_a_put_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path).vectors("toy") as vectors:
        with pytest.raises(ValueError, match="shorter"):
            vectors.put([sha("a"), sha("b")], np.ones((1, 2)))
        assert len(vectors) == 0
        vectors.put([sha("a")], np.ones((1, 2)))
        assert len(vectors) == 1


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    store, failures = Store(tmp_path), []

    def work(who: int) -> None:
        try:
            with store.vectors("toy") as vectors:
                for i in range(20):
                    vectors.put([sha(f"{who} {i}"), sha(f"both {i}")], np.full((2, 4), who))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with store.vectors("toy") as vectors:
        assert len(vectors) == 8 * 20 + 20


def test_a_damaged_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"this is no database, only a long enough text" * 100)
    with pytest.raises(StoreError, match=r"damaged.*Move it away"):
        Store(tmp_path).vectors("toy")


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).vectors("toy").close()
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer"):
        Store(tmp_path).vectors("toy")


# Artefacts


@pytest.mark.parametrize("gaps", [False, True])
def test_features_round_trip(tmp_path: Path, gaps: bool) -> None:
    features = some_features(gaps=gaps, cost_usd=0.25)
    store = Store(tmp_path)
    ref = store.save_features(features, "a title", {"encoded": 4, "cached": 3}, {"unreadable": ("i1", "new\nline")})
    again = Store(tmp_path).load_features(ref)
    assert again.hash == features.hash
    assert again.values.tobytes() == features.values.tobytes()
    assert np.array_equal(again.present, features.present)
    assert replace(again.source, created="") == features.source
    card = store.card(ref)
    assert card["title"] == "a title"
    assert card["counts"] == {"encoded": 4, "cached": 3}
    assert card["named"] == {"unreadable": ["i1", "new\nline"]}
    assert card["interactions"] == "feed" * 16
    assert (card["rows"], card["dim"], card["present"]) == (7, 5, int(features.present.sum()))
    assert card["created"].endswith("+00:00")


def test_large_features_are_not_read_into_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    loaded = store.load_features(store.save_features(some_features(500, 300, gaps=False)))
    base = loaded.values
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@pytest.mark.parametrize("kind", ["user", "item"])
def test_odd_ids_and_texts_survive(tmp_path: Path, kind: str) -> None:
    store, ids = Store(tmp_path), Ids(kind, ODD_KEYS)  # type: ignore[arg-type]
    features = Features(ids, np.eye(8), np.ones(8, bool), Provenance("toy"))
    assert store.load_features(store.save_features(features)).ids == ids
    values = ("plain", None, "x" * 100_000, "\x00\x01", "half \ud83d pair", "سلام 你好 🙂", "line\r\nbreak", None)
    texts = Texts(ids, values, Provenance("lm:toy", ("p",), None, 1.5))
    loaded = store.load_texts(store.save_texts(texts, counts={"refused": 2}))
    assert loaded.values == values
    assert loaded.ids == ids
    assert loaded.source.cost_usd == 1.5
    assert loaded.source.interactions is None


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    store, features = Store(tmp_path), some_features()
    ref = store.save_features(features, "first", {"encoded": 7})
    assert ref == reference(features)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted((tmp_path / ref).iterdir())}
    assert store.save_features(features, "second", {"encoded": 0}) == ref
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted((tmp_path / ref).iterdir())} == before


def test_origin_is_part_of_the_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sources = ({}, {"made_by": "external:x"}, {"parents": ("other",)}, {"interactions": None}, {"interactions": "ab"})
    refs = {store.save_features(some_features(**source)) for source in sources}
    assert len(refs) == len(sources)
    assert store.refs() == sorted(refs)
    # Cost and title say nothing about what the vectors are.
    assert store.save_features(some_features(cost_usd=9.0), "other title") in refs


def test_lineage_leads_from_features_to_texts_to_texts(tmp_path: Path) -> None:
    store, ids = Store(tmp_path), Ids("item", ("a", "b"))
    plots = Texts(ids, ("x", "y"), Provenance("catalog:title", ("no longer stored",)))
    summary = Texts(ids, ("x!", "y!"), Provenance("lm:toy", (store.save_texts(plots),)))
    features = Features(ids, np.eye(2), np.ones(2, bool), Provenance("encoder:toy", (summary.hash,)))
    ref = store.save_features(features)
    store.save_features(some_features())
    store.save_texts(summary)
    line = store.lineage(ref)
    assert [card["made_by"] for card in line] == ["encoder:toy", "lm:toy", "catalog:title"]


def test_an_unknown_ref_names_the_near_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = store.save_features(some_features())
    wrong = ref[:-1] + ("0" if ref[-1] != "0" else "1")
    with pytest.raises(MissingFile, match=ref):
        store.load_features(wrong)
    with pytest.raises(MissingFile, match="not one of texts"):
        store.load_texts(ref)


@pytest.mark.parametrize(
    "ref", ["features/../../../etc/passwd", "/etc", "features/", "features/ABCDEF012345", "x/y", ""]
)
def test_a_ref_cannot_leave_the_store(tmp_path: Path, ref: str) -> None:
    with pytest.raises(MissingFile, match="no ref"):
        Store(tmp_path).card(ref)
    with pytest.raises(MissingFile):
        Store(tmp_path).data("../" + ref)


@pytest.mark.parametrize("file", ["values.npy", "present.npy", "ids.parquet", "card.toml"])
@pytest.mark.parametrize("harm", ["cut", "gone", "noise"])
def test_damage_is_named(tmp_path: Path, file: str, harm: str) -> None:
    store = Store(tmp_path)
    ref = store.save_features(some_features())
    path = tmp_path / ref / file
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if harm == "cut" else b"\x93noise" * 40)
    with pytest.raises(MissingFile if (file, harm) == ("card.toml", "gone") else StoreError, match=ref):
        store.load_features(ref)


def test_texts_that_are_not_the_cards_are_refused(tmp_path: Path) -> None:
    store, ids = Store(tmp_path), Ids("item", ("a",))
    one, two = (store.save_texts(Texts(ids, (word,), Provenance("toy"))) for word in ("one", "two"))
    (tmp_path / one / "texts.parquet").write_bytes((tmp_path / two / "texts.parquet").read_bytes())
    with pytest.raises(StoreError, match="not those its card names"):
        store.load_texts(one)


def test_a_folder_without_card_is_incomplete_and_is_made_again(tmp_path: Path) -> None:
    store, features = Store(tmp_path), some_features()
    ref = store.save_features(features)
    (tmp_path / ref / "card.toml").unlink()
    (tmp_path / ref / "values.npy").write_bytes(b"half")
    assert store.refs() == []
    assert store.save_features(features) == ref
    assert store.load_features(ref).hash == features.hash


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENCHANT_STORE", raising=False)
    assert Store().path == Path("store")
    monkeypatch.setenv("PENCHANT_STORE", str(tmp_path / "b"))
    assert Store().path == tmp_path / "b"
    assert Store(tmp_path / "c").path == tmp_path / "c"
    assert Store(tmp_path).data("ab12") == tmp_path / "data" / "ab12"
    assert not (tmp_path / "b").exists()  # asking makes nothing
    assert Store(tmp_path / "b").refs() == []


# Disks


def test_a_read_only_store_stops_before_work_but_can_be_read() -> None:
    # Not in tmp_path: for this, the folders above must be open to others. Root may write anywhere, so step down.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "store"
        ref = Store(path).save_features(some_features())
        Store(path).vectors("toy").close()
        root = os.geteuid() == 0
        for each in (path, *path.rglob("*")):
            each.chmod(0o555 if each.is_dir() else 0o444)
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(StoreError, match=r"cannot be written.*--store DIR"):
                Store(path).ready()
            with pytest.raises(StoreError, match="cannot be written"):
                Store(path).vectors("toy")
            with pytest.raises(StoreError, match="cannot be written"):
                Store(path).save_features(some_features(seed=1))
            with pytest.raises(StoreError, match="cannot be written"):
                encode.texts(*toy_job(5), Store(path))
            assert len(Store(path).load_features(ref).values) == 7
        finally:
            if root:
                os.seteuid(0)
            for each in (path, *path.rglob("*")):
                each.chmod(0o777)


def test_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"are free.*--store DIR"):
        Store(tmp_path).ready(10**18)


def test_a_disk_too_small_for_the_vectors_is_found_before_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 34 * 2**20, 34 * 2**20))
    texts, toy = toy_job(20)
    encode.texts(texts, toy, Store(tmp_path))  # 34 MB are enough for a few
    texts, toy = toy_job(2000)
    with pytest.raises(StoreError, match="are needed"):
        encode.texts(texts, toy, Store(tmp_path))
    assert toy.calls == 0


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "store").ready()


def test_a_disk_that_fills_up_keeps_what_was_committed(tmp_path: Path) -> None:
    # A limit on the size of files gives the same failed writes as a full disk.
    store = Store(tmp_path)
    rng = np.random.default_rng(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    committed = 0
    try:
        vectors = store.vectors("toy")
        with suppress(StoreError):
            for batch in range(1000):
                vectors.put([sha(f"{batch} {i}") for i in range(20)], rng.normal(size=(20, 256)))
                committed += 20
        with pytest.raises(StoreError, match="cannot be written"):
            vectors.put([sha(str(i)) for i in range(200)], rng.normal(size=(200, 256)))
        vectors.close()
        with pytest.raises(StoreError, match="disk is full"):
            store.save_features(some_features(4000, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 20 <= committed < 1000 * 20
    with store.vectors("toy") as vectors:
        assert len(vectors) == committed
    assert store.refs() == []
    assert list((tmp_path / "features").iterdir()) == []
    assert store.load_features(store.save_features(some_features(4000, 100))).dim == 100


# Kills


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, toy_encoder.__file__, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def lines(log: Path) -> int:
    return len(log.read_text().split()) if log.exists() else 0


def committed(folder: Path) -> int:
    with Vectors(folder / "store.sqlite", "text:toy@1") as vectors:
        return len(vectors)


@pytest.mark.long
def test_killed_again_and_again_an_encode_repeats_at_most_a_batch_and_ends_the_same(tmp_path: Path) -> None:
    n, folder, log = 1500, tmp_path / "killed", tmp_path / "log"
    undisturbed = encode.texts(*toy_job(n), Store(tmp_path / "whole"))
    total = len({value for value in toy_job(n)[0].values if value})
    rng = np.random.default_rng(0)
    for batches in (1, 3, 2, 4):
        before = lines(log)
        worker = start("encode", folder, log, n)
        while lines(log) < before + batches:
            assert worker.poll() is None, "the worker ended before it could be killed"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.04))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert Store(folder).refs() == []
    kept, asked = committed(folder), sum(map(int, log.read_text().split()))
    assert 0 < kept < total
    assert asked - kept <= 4 * 64  # four kills: at most one batch each was encoded and lost

    texts, toy = toy_job(n)
    resumed = encode.texts(texts, toy, Store(folder))
    assert toy.seen == total - kept
    assert resumed.values.tobytes() == undisturbed.values.tobytes()
    assert resumed.hash == undisturbed.hash
    (ref,) = Store(folder).refs()
    assert ref == reference(undisturbed)
    card, whole = Store(folder).card(ref), Store(tmp_path / "whole").card(ref)
    assert card["counts"]["encoded"] == total - kept
    assert card["counts"]["cached"] == kept
    assert card["counts"]["cut"] == whole["counts"]["cut"] > 0  # counted for what the killed ones encoded, too
    assert card["counts"]["cut_tokens"] == whole["counts"]["cut_tokens"]


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers = [start("encode", tmp_path / "shared", log, 800) for _ in range(2)]
    told = [worker.communicate()[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    alone = encode.texts(*toy_job(800), Store(tmp_path / "alone"))
    assert told == [alone.hash, alone.hash]
    total = len({value for value in toy_job(800)[0].values if value})
    assert committed(tmp_path / "shared") == total
    assert len(Store(tmp_path / "shared").refs()) == 1


@pytest.mark.long
def test_many_processes_make_a_new_store_at_once(tmp_path: Path) -> None:
    workers = [start("open", tmp_path) for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    moment = time.time() + 0.1
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{moment}\n")
        worker.stdin.flush()
    for worker in workers:
        _, said = worker.communicate()
        assert worker.returncode == 0, said
    for attempt in range(60):
        with Store(tmp_path / str(attempt)).vectors("toy") as vectors:
            assert len(vectors) == 1


def test_what_another_process_has_encoded_meanwhile_is_not_encoded_again(tmp_path: Path) -> None:
    class Overtaken(Toy):
        """While it encodes its first batch, somebody else does the whole job."""

        def encode(self, batch: Sequence[str]) -> np.ndarray:
            if not self.calls:
                encode.texts(*toy_job(700), Store(tmp_path))
            return super().encode(batch)

    overtaken, told = Overtaken(), []
    features = encode.texts(toy_job(700)[0], overtaken, Store(tmp_path), lambda *done: told.append(done))
    assert overtaken.calls == 1
    assert told[-1] == (630, 630)
    assert features.hash == encode.texts(*toy_job(700), Store(tmp_path / "alone")).hash


@pytest.mark.long
def test_a_killed_save_leaves_whole_artefacts_or_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        worker = start("save", tmp_path)
        assert worker.stdout is not None
        for _ in range(3):
            worker.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        store = Store(tmp_path)
        assert len(store.refs()) >= 3
        for ref in store.refs():
            assert reference(store.load_features(ref)) == ref


def test_at_no_moment_is_there_a_card_without_its_files(tmp_path: Path) -> None:
    """What a kill would leave at each step of saving: nothing, or what can be loaded whole."""
    store, seen, failures = Store(tmp_path), [], []

    def question() -> None:
        try:
            for ref in store.refs():
                made = store.load_features(ref) if ref.startswith("features") else store.load_texts(ref)
                assert reference(made) == ref
            seen.append(len(store.refs()))
        except Exception as error:
            failures.append(error)

    with watching(question):
        store.save_features(some_features())
        store.save_texts(Texts(Ids("user", ("u",)), ("words",), Provenance("toy")))
        store.save_features(some_features(seed=1))
    assert not failures
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert len(seen) > 20
