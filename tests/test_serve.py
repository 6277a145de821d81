"""The service over HTTP, as a shop uses it: lists, choices, new items, forgetting, reloading, and runs that are not whole."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
import serving
from PIL import Image
from serving import Server

from penchant import runs
from penchant.serve.state import Kept, State

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serving.trained(tmp_path_factory)


@pytest.fixture(scope="module")
def server(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving.serving(made, tmp_path_factory.mktemp("served")) as found:
        yield found


def picture(colour: str = "red") -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def penchant(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penchant", *map(str, words)], capture_output=True, text=True, env=serving.environment()
    )


def test_known_people_get_what_the_model_recommends(server: Server, made: Path) -> None:
    rec = runs.read(made / "run").recommender
    for one in rec.recommend(rec.users.keys[:20], 7):
        found = server.ask("POST", "/recommend", {"user": one.user_id, "k": 7}).json
        assert [item["item_id"] for item in found["items"]] == list(one.items)
        assert np.allclose([item["score"] for item in found["items"]], one.scores, atol=1e-5)
        assert found["personal"]
        assert found["fallback"] is None


def test_a_stranger_is_judged_by_her_history_and_the_third_click_changes_the_list(server: Server, made: Path) -> None:
    rec = runs.read(made / "run").recommender
    clicks = list(rec.items.keys[3:6])
    two, three = server.listed(history=clicks[:2], k=10), server.listed(history=clicks, k=10)
    assert three == list(rec.recommend(["x"], 10, [clicks])[0].items)
    assert two != three


def test_somebody_unknown_gets_popular_items_that_are_named_so(server: Server) -> None:
    found = server.ask("POST", "/recommend", {"user": "nobody-knows-me", "k": 5}).json
    assert (found["personal"], found["fallback"]) == (False, "popular")
    assert "not personal" in found["note"]
    assert len(found["items"]) == 5


def test_filters_work_before_the_list_is_cut(server: Server, made: Path) -> None:
    opened = runs.read(made / "run")
    user, catalog = opened.recommender.users.keys[2], opened.catalog
    whole = server.listed(user=user, k=1_000)
    category = catalog.fields["categories"][0].split(",")[0]  # type: ignore[union-attr]
    price = float(np.nanmedian(catalog.numbers["price"].to_numpy()))
    row = catalog.items.rows_by_key

    def fits(key: str) -> bool:
        own = [part.strip() for part in (catalog.fields["categories"][row[key]] or "").split(",")]
        return category in own and catalog.numbers["price"][row[key]] <= price

    wanted = [key for key in whole if fits(key)]
    assert wanted
    filters = {"categories": [category], "price": {"max": price}}
    assert server.listed(user=user, k=3, filters=filters) == wanted[:3]
    assert server.listed(user=user, k=1_000, filters=filters, exclude=wanted[:1]) == wanted[1:]
    few = server.ask("POST", "/recommend", {"user": user, "k": 1_000, "filters": filters}).json
    assert "left after filters" in few["note"]


def test_what_was_chosen_is_listed_only_where_it_is_asked_for(server: Server, made: Path) -> None:
    rec = runs.read(made / "run").recommender
    user = rec.users.keys[1]
    chosen = {rec.items.keys[i] for i in rec.known.history[1].tolist()}
    assert not chosen & set(server.listed(user=user, k=1_000))
    assert chosen <= set(server.listed(user=user, k=1_000, chosen=True))


def test_equal_scores_are_in_an_order_that_the_seed_gives(server: Server) -> None:
    first = server.listed(user="never-seen-1", k=48, seed=1)
    assert first == server.listed(user="never-seen-1", k=48, seed=1)
    assert first != server.listed(user="never-seen-1", k=48, seed=2)


def test_reasons_come_with_the_list_and_are_those_of_why(server: Server, made: Path) -> None:
    user = runs.read(made / "run").recommender.users.keys[0]
    found = server.ask("POST", "/recommend", {"user": user, "k": 3, "why": True}).json["items"]
    for item in found:
        alone = server.get(f"/why?user={user}&item={item['item_id']}")
        assert alone["sentence"] == item["why"]["sentence"]
        assert alone["evidence"] == item["why"]["evidence"]
        assert alone["title"] == item["title"]
    new = server.ask("POST", "/why", {"history": [found[0]["item_id"]], "item": found[1]["item_id"]})
    assert new.status == 200


def test_a_choice_is_known_in_the_next_request_and_counted_once(server: Server) -> None:
    first = server.listed(user="clicker", k=3)
    event = {"events": [{"user": "clicker", "item": first[0]}]}
    once = {"Idempotency-Key": "one"}
    assert server.ask("POST", "/events", event, once).json == {"accepted": 1, "repeated": False}
    assert server.ask("POST", "/events", event, once).json == {"accepted": 0, "repeated": True}
    other = {"events": [{"user": "clicker", "item": first[1]}]}
    assert server.ask("POST", "/events", other, once).status == 409
    found = server.ask("POST", "/recommend", {"user": "clicker", "k": 5}).json
    assert found["personal"]
    assert first[0] not in [item["item_id"] for item in found["items"]]
    assert [past["item_id"] for past in server.get("/users/clicker")["history"]] == [first[0]]


def test_two_shops_may_count_their_requests_alike_and_a_retry_outlives_its_item(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path) as server:
        other = serving.made_key(server.state, "other")[1]
        serving.until(lambda: server.ask("POST", "/reload", key=other).status == 200, 10, "the key never held")
        server.ask("PUT", "/items/short-lived", {"title": "Short-lived", "picture": picture()})
        sent, once = {"events": [{"user": "a", "item": "short-lived"}]}, {"Idempotency-Key": "1"}
        assert server.ask("POST", "/events", sent, once).json == {"accepted": 1, "repeated": False}
        assert server.ask("POST", "/events", sent, once, key=other).json == {"accepted": 1, "repeated": False}
        server.ask("DELETE", "/items/short-lived")
        server.ask("POST", "/reload")
        assert server.ask("POST", "/events", sent, once).json == {"accepted": 0, "repeated": True}
        assert server.ask("POST", "/events", sent).status == 404
        assert server.ask("POST", "/events", {"events": [{"user": "b", "item": "gone"}]}, once).status == 409


def test_an_event_of_an_unknown_item_keeps_nothing_of_its_batch(server: Server) -> None:
    some = server.listed(user="batch", k=1)[0]
    events = {"events": [{"user": "batch", "item": some}, {"user": "batch", "item": "no-such"}]}
    assert server.ask("POST", "/events", events).status == 404
    assert not server.get("/users/batch")["known"]


def test_a_new_item_is_visible_in_the_next_request(server: Server) -> None:
    body = {"title": "A red thing", "categories": "Novelties", "numbers": {"price": 3.5}, "picture": picture()}
    found = server.ask("PUT", "/items/red%2Fone", body)
    assert found.status == 200, found
    assert (found.json["served"], found.json["visible"]) == ("new", True)
    assert server.listed(user="u", k=5, filters={"categories": "novelties"}) == ["red/one"]
    assert server.listed(history=[server.listed(user="u", k=1)[0]], filters={"price": {"max": 3.6, "min": 3.4}}) == [
        "red/one"
    ]
    near = server.get("/items/red%2Fone/similar?by=content&k=3")["items"]
    assert len(near) == 3
    assert server.ask("GET", "/items/red%2Fone/picture").headers["content-type"] == "image/jpeg"
    again = server.ask("PUT", "/items/red%2Fone", {"title": "A blue thing", "picture": picture("blue")}).json
    assert again["served"] == "changed"
    assert server.get("/items/red%2Fone")["title"] == "A blue thing"
    assert server.listed(user="u", filters={"categories": "novelties"}) == []  # it has no category now


def test_an_id_is_all_of_its_letters(server: Server) -> None:
    for one, other in (("vic", "vic\n"), ("a/similar", "a"), ("two\nlines", "two"), ("%2F", "/"), ("é/☕", "é")):
        for key in (one, other):
            path = quote(key, safe="")
            assert server.ask("PUT", f"/items/{path}", {"title": f"T{key!r}", "picture": picture()}).status == 200, key
            sent = {"events": [{"user": key, "item": key, "review": key}]}
            assert server.ask("POST", "/events", sent).status == 200
        for key in (one, other):
            path = quote(key, safe="")
            assert server.get(f"/items/{path}")["item_id"] == key
            assert server.get(f"/items/{path}/similar?k=3")["items"]
            assert server.ask("GET", f"/items/{path}/picture").status == 200
            assert [past["review"] for past in server.get(f"/users/{path}")["history"]] == [key]
        for route in ("users", "items"):
            assert server.ask("DELETE", f"/{route}/{quote(other, safe='')}").status == 200
        assert server.get(f"/users/{quote(one, safe='')}")["known"]
        assert not server.get(f"/users/{quote(other, safe='')}")["known"]
        assert not server.get(f"/items/{quote(one, safe='')}")["deleted"]
        assert server.get(f"/items/{quote(other, safe='')}")["deleted"]
    for method, path in (("GET", "/health%0A"), ("GET", "/items/p0001/similar%0A"), ("GET", "/nothing%0A")):
        assert server.ask(method, path).status == 404, path
    assert server.ask("PUT", "/items/%FF", {"title": "no letters"}).status == 422
    assert server.ask("PUT", "/items/p0001/similar", {"title": "whose?"}).status == 422


def test_a_history_is_in_the_order_of_time(server: Server) -> None:
    for number, at in enumerate((1.7e9, 1.6e9, 1.65e9, 1.6e9)):
        sent = {"events": [{"user": "late", "item": f"p000{number}", "at": at}]}
        assert server.ask("POST", "/events", sent).status == 200
    server.ask("POST", "/events", {"events": [{"user": "late", "item": "p0009"}]})
    wanted = ["p0001", "p0003", "p0002", "p0000", "p0009"]
    assert [past["item_id"] for past in server.get("/users/late")["history"]] == wanted
    assert server.ask("POST", "/reload").status == 200
    assert [past["item_id"] for past in server.get("/users/late")["history"]] == wanted
    for at in (4_102_444_800, 1e11, -1):
        assert server.ask("POST", "/events", {"events": [{"user": "late", "item": "p0001", "at": at}]}).status == 422


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"filters": {"price": {}}}, 'filters.price: a value, a list of some, or {"min": 5, "max": 20} with'),
        ({"filters": {"price": {"min": 9, "max": 2}}}, "min no more than max"),
        ({"filters": {"price": {"mx": 2}}}, "filters.price: a value"),
        ({"filters": {"price": "cheap"}}, "`price` is a column of numbers here, and 'cheap' is none"),
        ({"filters": {"categories": []}}, "filters.categories: a value"),
        ({"k": True}, "k: Input should be a valid integer"),
        ({"usr": "u"}, "usr is not known here"),
        ({"body": 1}, "body is not known here"),
        ({"query": 1, "path": 1}, "query is not known here"),
        ({"filters": {"query": {}}}, "filters.query: a value"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_once(server: Server, asked: dict[str, object], said: str) -> None:
    found = server.ask("POST", "/recommend", asked)
    assert found.status == 422
    assert said in found.json["error"]["message"]
    assert found.body.count(b"filters.") <= 1


def test_a_body_that_is_no_json_and_a_parameter_that_is_none_are_named(server: Server) -> None:
    found = server.ask("POST", "/recommend", b'{"user": "u"}', {"Content-Type": "application/x-www-form-urlencoded"})
    assert "content-type: application/json" in found.json["error"]["message"]
    assert "not JSON" in server.ask("POST", "/recommend", b"{").json["error"]["message"]
    found = server.ask("GET", "/items?category=Mugs")
    assert (found.status, "search" in found.json["error"]["message"]) == (422, True)
    assert server.ask("POST", "/recommend?k=3", {"user": "u"}).status == 422
    for path in ("/?utm_source=x", "/page.js?v=2", "/health?x=1", "/ready?x"):
        assert server.ask("GET", path).status == 200, path
    price = server.ask("PUT", "/items/x", {"title": "x", "price": 12}).json["error"]["message"]
    assert price.startswith("price is not known here")
    assert "`numbers`" in price


def test_a_deleted_item_is_gone_at_once_and_back_when_it_is_put(server: Server) -> None:
    key = server.listed(user="u", k=1)[0]
    words = server.get(f"/items/{key}")
    assert server.ask("DELETE", f"/items/{key}").status == 200
    assert key not in server.listed(user="u", k=1_000)
    assert server.ask("GET", f"/items/{key}/similar").status == 404
    assert server.ask("DELETE", f"/items/{key}").status == 404
    assert server.ask("PUT", f"/items/{key}", {"title": words["title"]}).json["served"] == "words"
    assert key in server.listed(user="u", k=1_000)


def test_caps_and_variety_hold_over_http(server: Server, made: Path) -> None:
    catalog = runs.read(made / "run").catalog
    user = runs.read(made / "run").recommender.users.keys[5]
    found = server.listed(user=user, k=6, per_category=1, diversity=0.3)
    seen: list[str] = []
    for key in found:
        row = catalog.items.rows_by_key.get(key)
        seen += (
            [part.strip() for part in (catalog.fields["categories"][row] or "").split(",")] if row is not None else []
        )
    assert len(seen) == len(set(seen))


def test_everything_is_there_after_a_restart_and_a_forgotten_person_is_not(made: Path, tmp_path: Path) -> None:
    rec = runs.read(made / "run").recommender
    user = rec.users.keys[4]
    with serving.serving(made, tmp_path) as first:
        assert first.ask("PUT", "/items/kept", {"title": "Kept", "picture": picture()}).status == 200
        gone = first.listed(user=user, k=1)[0]
        first.ask("DELETE", f"/items/{gone}")
        first.ask("POST", "/events", {"events": [{"user": user, "item": "kept", "review": "so private"}]})
        told = first.ask("DELETE", f"/users/{user}").json
        assert told["forgotten"]
        assert any("penchant refresh" in text for text in told["remains"])
        assert not first.get(f"/users/{user}")["known"]
        first.ask("POST", "/events", {"events": [{"user": "stays", "item": "kept"}]})
        assert first.ask("POST", "/recommend", {"user": user}).json["fallback"] == "popular"
    raw = b"".join(file.read_bytes() for file in tmp_path.glob("state.sqlite*"))
    assert b"so private" not in raw
    tables = [tmp_path / "run" / name for name in ("top.parquet", "per_user.parquet")]
    assert not any((pl.read_parquet(table)["user_id"] == user).any() for table in tables)
    with serving.serving(made, tmp_path, key=first.key) as again:
        assert again.get("/items/kept")["came"] == "added"
        assert gone not in again.listed(user="x", k=1_000)
        assert again.ask("POST", "/recommend", {"user": user}).json["fallback"] == "popular"
        assert [past["item_id"] for past in again.get("/users/stays")["history"]] == ["kept"]
        assert again.ask("POST", "/events", {"events": [{"user": user, "item": gone}]}).status == 200  # somebody new
        assert [past["item_id"] for past in again.get(f"/users/{user}")["history"]] == [gone]


def test_a_refresh_learns_what_came_and_is_taken_up_without_a_restart(made: Path, tmp_path: Path) -> None:
    rec = runs.read(made / "run").recommender
    with serving.serving(made, tmp_path) as server:
        server.ask("PUT", "/items/late", {"title": "Late", "picture": picture("green")})
        likes = [*rec.items.keys[:5], "late"]
        server.ask("POST", "/events", {"events": [{"user": "newbie", "item": key} for key in likes]})
        server.ask("DELETE", f"/users/{rec.users.keys[0]}")
        refreshed = penchant(
            "refresh", tmp_path / "run", "--state", tmp_path / "state.sqlite", "--store", tmp_path / "store", "--json"
        )
        assert refreshed.returncode == 0, refreshed.stderr
        facts = json.loads(refreshed.stdout)
        assert (facts["events"], facts["items"], facts["forgotten"]) == (6, 1, 1)
        assert server.ask("POST", "/reload").json["changed"]
        assert server.get("/about")["run"] == "run-1"
        history = server.get("/users/newbie")["history"]
        assert len(history) == len({past["item_id"] for past in history})
        server.ask("POST", "/events", {"events": [{"user": "newbie", "item": rec.items.keys[9]}]})
        assert rec.items.keys[9] in [past["item_id"] for past in server.get("/users/newbie")["history"]]
    new = runs.read(tmp_path / "run-1").recommender
    assert "newbie" in new.users.rows_by_key
    assert rec.users.keys[0] not in new.users.rows_by_key
    assert "late" in new.items.rows_by_key


def test_torch_is_not_loaded_by_the_server(server: Server) -> None:
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_a_model_that_cannot_take_new_items_says_why(made: Path, tmp_path: Path) -> None:
    from penchant import run
    from penchant.recipe import parse
    from penchant.store import Store

    recipe = {"data": str(made / "shop"), "split": {"by": "by_ratio"}, "model": {"name": "popular"}}
    run.run(parse(recipe, "plain"), tmp_path / "run", Store(tmp_path / "store"))
    with serving.serving(made, tmp_path) as server:
        found = server.ask("PUT", "/items/x", {"title": "X"})
        assert found.status == 409
        assert "popular knows an item by those who chose it" in found.json["error"]["message"]
        assert server.ask("POST", "/recommend", {"user": "u"}).json["fallback"] == "popular"
        assert server.ask("GET", "/items/x").status == 404


def test_a_newer_run_that_is_broken_is_refused_and_the_old_one_goes_on(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path, "--people-need-key", warm=False) as server:
        before = server.listed(history=["p0001"])
        refreshed = penchant(
            "refresh", tmp_path / "run", "--state", tmp_path / "state.sqlite", "--store", tmp_path / "store"
        )
        assert refreshed.returncode == 0, refreshed.stderr
        damaged_arrays(tmp_path / "run-1")
        told = server.ask("POST", "/reload")
        assert (told.status, told.json["error"]["code"]) == (409, "no_newer_run")
        assert server.get("/ready")["status"] == "ready"
        assert server.listed(history=["p0001"]) == before
    with serving.serving(made, tmp_path, "--people-need-key", key=server.key, warm=False, fallback=True) as again:
        for path in ("/ready", "/about"):  # names of folders are for those with a key
            assert str(tmp_path) in again.ask("GET", path).body.decode()
            assert str(tmp_path) not in again.ask("GET", path, key=None).body.decode()
            assert "can't be used" in again.ask("GET", path, key=None).body.decode()


def test_an_item_that_the_model_had_no_vectors_of_is_taken_in_beside(made: Path, tmp_path: Path) -> None:
    with State.open(str(tmp_path / "state.sqlite")) as state:  # as an older model, or a restored state, leaves it
        state.put(Kept("bare", {"title": "Bare"}, {}, base64.b64decode(picture("blue")), {}))
    with serving.serving(made, tmp_path, warm=False) as server:
        serving.until(lambda: "bare" in server.listed(user="x", k=1_000), 20, "it was never taken in")
        assert server.get("/ready")["problems"] == []


def test_a_column_is_of_texts_or_of_numbers_and_a_deleted_picture_is_gone(server: Server) -> None:
    new = {"title": "A", "picture": picture()}
    assert server.ask("PUT", "/items/c1", {**new, "numbers": {"kind": 1.5}}).status == 200
    assert "column of numbers" in server.ask("PUT", "/items/c2", {**new, "fields": {"kind": "x"}}).body.decode()
    assert server.ask("PUT", "/items/c2", {**new, "fields": {"tone": "x"}}).status == 200
    assert "column of texts" in server.ask("PUT", "/items/c1", {**new, "numbers": {"tone": 1}}).body.decode()
    assert (
        "Give it once"
        in server.ask("PUT", "/items/c1", {**new, "numbers": {"z": 1}, "fields": {"z": ""}}).body.decode()
    )
    assert server.ask("PUT", "/items/p0005", {"title": "Pictured", "picture": picture("red")}).status == 200
    before = server.ask("GET", "/items/p0005/picture").body
    server.ask("DELETE", "/items/p0005")
    assert server.ask("PUT", "/items/p0005", {"title": "Pictured once"}).status == 200
    assert server.get("/items/p0005")["picture"] == (server.ask("GET", "/items/p0005/picture").status == 200)
    assert server.ask("GET", "/items/p0005/picture").body != before


def test_there_is_an_end_to_columns(server: Server) -> None:
    statuses = set()
    for part in range(6):
        numbers = {f"made-up-{part}-{n}": n for n in range(50)}
        statuses.add(server.ask("PUT", "/items/p0003", {"title": "Many columns", "numbers": numbers}).status)
    assert statuses == {200, 422}
    assert server.ask("PUT", "/items/p0003", {"title": "One column", "numbers": {"price": 3}}).status == 200


def damaged_arrays(run: Path) -> None:
    file = run / "model" / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def newer(run: Path) -> None:
    card = run / "model" / "model.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))


def unknown_scorer(run: Path) -> None:
    card = run / "model" / "model.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "scorer": "not-there"}))


@pytest.mark.parametrize("hurt", [damaged_arrays, newer, unknown_scorer])
def test_a_run_that_is_not_whole_is_told_and_popular_items_stand_in(made: Path, tmp_path: Path, hurt: object) -> None:
    run = serving.copy(made, tmp_path)
    hurt(run)  # type: ignore[operator]
    state = tmp_path / "state.sqlite"
    with State.open(str(state)):
        pass
    process = subprocess.Popen(
        serving.command(made, run, state),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=serving.environment(),
    )
    try:
        assert process.stdout is not None
        port = next(int(line.rsplit(":", 1)[1].strip("/\n")) for line in process.stdout if "Serving on" in line)
        server = Server(process, port, "", state, tmp_path / "none")  # type: ignore[arg-type]
        serving.until(lambda: _answers(server), 30, "it never answered")
        ready = server.ask("GET", "/ready", key=None)
        assert ready.status == 503
        assert ready.json["status"] == "fallback"
        assert ready.json["problems"]
        assert str(tmp_path) in str(ready.json) + server.ask("GET", "/about", key=None).body.decode()
        found = server.ask("POST", "/recommend", {"user": "u", "k": 3}, key=None).json
        assert (found["fallback"], found["personal"]) == ("popular", False)
        assert "model can't be used" in found["note"]
        assert len(found["items"]) == 3
        serving.until(lambda: _first(server) == _most_chosen(made), 20, "the most chosen never came first")
    finally:
        process.kill()
        process.wait()


def _first(server: Server) -> str:
    return str(server.ask("POST", "/recommend", {"user": "u", "k": 1}, key=None).json["items"][0]["item_id"])


def _most_chosen(made: Path) -> str:
    rec = runs.read(made / "run").recommender
    return rec.items.keys[int(rec.popularity.argmax())]


def _answers(server: Server) -> bool:
    try:
        return server.ask("GET", "/health", key=None).status == 200
    except OSError:
        return False


def test_no_run_and_no_port_are_one_message(made: Path, tmp_path: Path, server: Server) -> None:
    for words in (
        ("serve", tmp_path / "nothing"),
        ("serve", made / "run", "--port", str(server.port), "--state", tmp_path / "s"),
        ("export", made / "run", "--csv", tmp_path / "lists.parquet"),
    ):
        found = penchant(*words)
        assert found.returncode == 2, found
        assert "Traceback" not in found.stderr
    assert not (tmp_path / "lists.parquet").exists()


def test_a_typing_mistake_makes_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, before = serving.copy(made, tmp_path), sorted(tmp_path.rglob("*"))
    for words in (
        ("keys", "add", tmp_path / "typo"),
        ("keys", "add", made / "shop"),
        ("keys", "add", run, "--name", " "),
        ("keys", "add", run, "--state", tmp_path / "nowhere" / "state.sqlite"),
        ("keys", "list", run, "--state", tmp_path / "none.sqlite"),
        ("serve", tmp_path / "typo"),
        ("serve", made / "shop"),
        ("state", "show", run, "--state", tmp_path / "none.sqlite"),
        ("state", "backup", run, "--to", tmp_path / "backup.sqlite"),
        ("state", "restore", run, "--from", run / "report.json", "--state", tmp_path / "new.sqlite"),
        ("state", "restore", run, "--from", tmp_path / "none", "--state", tmp_path / "new.sqlite"),
        ("refresh", run, "--state", tmp_path / "none.sqlite"),
        ("refresh", run),
    ):
        if len(words) == 2 and words[0] == "refresh":
            monkeypatch.setenv("PENCHANT_STATE", str(tmp_path / "typo.sqlite"))
        found = penchant(*words)
        assert (found.returncode, "Traceback" in found.stderr) == (2, False), (words, found)
        assert sorted(tmp_path.rglob("*")) == before, words
        assert not (made / "shop" / "service").exists()


def test_it_ends_quietly_when_it_is_told_to(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path) as server:
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert "Warning" not in server.said()
        assert "alembic" not in server.said()


def test_pictures_outlive_refreshes(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path, warm=False) as server:
        for number in range(1, 4):
            server.ask("POST", "/events", {"events": [{"user": "x", "item": f"p000{number}"}]})
            done = penchant("refresh", tmp_path / "run", "--state", server.state, "--store", tmp_path / "store")
            assert done.returncode == 0, done.stderr
            assert server.ask("POST", "/reload").json == {"run": f"run-{number}", "model": "ease", "changed": True}
            path = f"/items/p00{number:02d}/picture?size=640"
            serving.until(lambda path=path: server.ask("GET", path).status == 200, 10, "no picture")
    assert not (tmp_path / "run-1-data").exists()


def test_the_table_of_everybody_has_what_came_since(made: Path, tmp_path: Path) -> None:
    with serving.serving(made, tmp_path) as server:
        item = server.listed(user="u", k=1)[0]
        server.ask("POST", "/events", {"events": [{"user": "fresh", "item": item}]})
        mine = server.listed(user="fresh", k=4)
    out = tmp_path / "lists.parquet"
    found = penchant(
        "export", tmp_path / "run", "--parquet", out, "-k", "4", "--state", tmp_path / "state.sqlite", "--json"
    )
    assert found.returncode == 0, found.stderr
    table = pl.read_parquet(out)
    assert table.filter(pl.col("user_id") == "fresh")["item_id"].to_list() == mine
    assert table["user_id"].n_unique() == len(runs.read(made / "run").recommender.users) + 1
