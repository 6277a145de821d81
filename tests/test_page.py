"""The page in a real browser on a real server: it shows what the API gives and runs nothing that strangers wrote."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import polars as pl
import pytest
import serving
from serving import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api", reason="THE PAGE IS NOT TESTED: pip install playwright")
pytestmark = pytest.mark.long

QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run --disable-sync"
HURT = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>&amp;'
CARDS, HISTORY, BROWSE, NEAR = "#recommendations .card", "#history li", "#browse button", "#similar-items [data-item]"
KEPT = "sessionStorage.getItem('penchant-key')"
LIGHT = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).reduce((sum, one) => sum + one / 255 / 3, 0)"
FITS = "[...document.querySelectorAll('html, #detail-inside')].every((one) => one.scrollWidth <= one.clientWidth)"
FILE = """(raw) => { const held = new DataTransfer(), bytes = Uint8Array.from(atob(raw), (one) => one.charCodeAt(0));
  held.items.add(new File([bytes], "b.jpg", {type: "image/jpeg"})); return held; }"""
STOPS = """window.stops = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']"
  )].filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility())"""
OUTLINED = (
    "(k) => [stops[k], stops[k].nextElementSibling].some((e) => e && getComputedStyle(e).outlineStyle == 'solid')"
)


@dataclass(eq=False)
class Tab:
    """provoked: part of the errors that a test brings about."""

    page: Page
    server: Server
    provoked: str = "nothing"

    def go(self, place: str, *steps: str) -> Tab:
        self.page.goto(f"{self.server.address}/{place}")
        return self.does(*steps)

    def does(self, *steps: str) -> Tab:
        """`WHERE` is clicked; `WHERE = TEXT` filled in; `WHERE ! KEY` pressed; `? WHERE` waited for."""
        for step in steps:
            if step.startswith("? "):
                playwright.expect(self.page.locator(step[2:]).first).to_be_visible()
            elif " = " in step:
                self.page.fill(*step.split(" = "))
            elif " ! " in step:
                self.page.press(*step.split(" ! "))
            else:
                self.page.click(step)
        return self

    def says(self, told: dict[str, Any]) -> Tab:
        """Whole texts, soon; a list for all elements that there are."""
        for where, text in told.items():
            playwright.expect(self.page.locator(where)).to_have_text(text)
        return self

    def gives(self, where: str, wanted: list[Any], name: str = "dataset.item") -> Tab:
        """A property of all elements, soon."""
        end, script = time.monotonic() + 10, f"all => all.map((one) => one.{name})"
        while (found := self.page.locator(where).evaluate_all(script)) != wanted and time.monotonic() < end:
            self.page.wait_for_timeout(30)
        assert found == wanted
        return self

    def lists(self, k: int = 12, **asked: Any) -> list[str]:
        """The list that the API gives, once it is here with its reasons."""
        found = self.server.ask("POST", "/recommend", {"k": k, "why": True, **asked}).json["items"]
        why = [item["why"] for item in found]
        self.gives(CARDS, [item["item_id"] for item in found])
        self.says({f"{CARDS} h3": [item["title"] for item in found], f"{CARDS} .reason": [w["sentence"] for w in why]})
        self.says({f"{CARDS} .evidence-title": [one["title"] for w in why for one in w["evidence"]]})
        return [item["item_id"] for item in found]

    def past(self, user: str) -> list[str]:
        return [one["item_id"] for one in self.server.get(f"/users/{user}")["history"]]

    def meets(self, user: str, item: str, **words: Any) -> None:
        """An item is brought in and chosen, with its title as the review."""
        words["picture"] = base64.b64encode(serving.drawn("PNG")).decode()
        assert self.server.ask("PUT", f"/items/{quote(item, safe='')}", words).status == 200
        events = [{"user": user, "item": item, "review": words["title"]}]
        assert self.server.ask("POST", "/events", {"events": events}).status == 200

    def shot(self, name: str) -> None:
        if folder := os.environ.get("PENCHANT_SHOTS"):
            self.page.wait_for_timeout(1_000)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("THE PAGE IS NOT TESTED: there is no Chromium here. Install it: apt-get install chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=found, args=QUIET.split())


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving.serving(serving.trained(tmp_path_factory), tmp_path_factory.mktemp("page")) as found:
        serving.until(lambda: not found.get("/about")["pictures_coming"], 30, "no pictures came")
        yield found


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    """Whatever it does: no other host is asked, the key is in no request's address, no script fails, no box pops up."""
    asked, said = list[str](), list[str]()
    with browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce") as context:
        context.on("request", lambda request: asked.append(request.url))
        context.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else None)
        context.on("weberror", lambda error: said.append(str(error.error)))
        context.on("dialog", lambda box: (said.append(box.message), box.dismiss()))  # type: ignore
        yield (tab := Tab(context.new_page(), server))
    assert {urlsplit(url)[:2] for url in asked if url[:5] != "blob:"} == {urlsplit(server.address)[:2]}
    assert not any(server.key in url for url in asked)
    assert [text for text in said if tab.provoked not in text] == []


def test_a_person_is_found_by_typing_and_taken_by_keys(tab: Tab, server: Server) -> None:
    users, find = [one["user_id"] for one in server.get("/users?prefix=s0001")["users"]], "#people-search"
    tab.go("").says({"#person-title": server.get("/users?k=1")["users"][0]["user_id"]})
    tab.does(f"{find} = s0001").says({"#people-list bdi": users})
    tab.does(*[f"{find} ! Arrow{way}" for way in ("Down", "Down", "Down", "Up")], "? [aria-activedescendant=people-1]")
    tab.does(f"{find} ! Enter").says({"#person-title": users[1], "#people-list [aria-selected=true] bdi": users[1]})
    first = tab.lists(user=users[1])
    assert tab.does("#people-4").lists(user=users[4]) != first
    tab.page.go_back()
    assert tab.says({"#person-title": users[1]}).lists(user=users[1]) == first
    tab.does(f"{find} = nobody", "? #people-said:has-text('Press Enter')", f"{find} ! Enter").lists(user="nobody")
    said = server.ask("POST", "/recommend", {"user": "nobody"}).json["note"]
    tab.says({"#note": f"Not personal: popular items. {said}", "#person-facts": re.compile("not known to the model")})


def test_history_is_in_order_of_time(tab: Tab, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert len(set(tab.go("#user=s00001").lists(user="s00001"))) == 12
    tab.gives(HISTORY, tab.past("s00001")).shot("page")
    log = pl.read_parquet(serving.trained(tmp_path_factory) / serving.SHOP / "interactions.parquet")
    when = dict(log.filter(pl.col("user_id") == "s00001").select("item_id", "timestamp").iter_rows())
    shown = [when[key] for key in tab.past("s00001")]
    assert shown == sorted(when.values())[: max(4, len(shown))]
    tab.does("#more").lists(user="s00001", k=24)


def test_a_click_on_choose_is_kept_once_and_the_card_goes(tab: Tab, server: Server) -> None:
    before = tab.past("s00002")
    shown = tab.go("#user=s00002").lists(user="s00002")
    tab.go(f"#key={server.key}&user=s00002").gives("html", [f"{server.address}/#user=s00002"], "ownerDocument.URL")
    title = tab.page.locator(f"{CARDS} h3").first.inner_text()[:30]
    tab.page.locator(f"{CARDS} .choose").first.evaluate("(one) => { one.focus(); one.click(); one.click(); }")
    tab.gives(HISTORY, [*before, shown[0]]).does(f"? #status:has-text('After “{title}')", f"? {CARDS} .choose:focus")
    assert shown[0] not in tab.lists(user="s00002")
    tab.page.reload()
    second = tab.says({f"{HISTORY} .mark": ["live"]}).lists(user="s00002")[0]
    tab.does(f"{CARDS} .choose").gives(HISTORY, [*before, shown[0], second])


def test_the_dialog_says_why_and_what_is_similar_and_gives_the_focus_back(tab: Tab, server: Server) -> None:
    item, button = tab.go("#user=s00003").lists(user="s00003")[2], f"{CARDS}:nth-child(3) button.more"
    why = server.get(f"/why?user=s00003&item={item}")
    near = [server.get(f"/items/{item}/similar?k=6&by={by}")["items"] for by in ("behaviour", "content")]
    first, second = ([one["item_id"] for one in found] for found in near)
    assert first != second
    tab.does(f"{button} ! Enter").says({"#detail-title": why["title"], "#detail-why .reason": why["sentence"]})
    tab.says({"#detail .weights .evidence-title": [one["title"] for one in why["evidence"]]})
    tab.gives(NEAR, first).shot("dialog")
    tab.does("#similar-behaviour ! ArrowRight", "? #similar-content[aria-selected=true]:focus").gives(NEAR, second)
    tab.does(NEAR).says({"#detail-why .reason": server.get(f"/why?user=s00003&item={second[0]}")["sentence"]})
    tab.does("#detail ! Escape", f"? {button}:focus").gives("#detail[open]", [])
    assert tab.page.url == f"{server.address}/#user=s00003"


def test_someone_new_is_met_in_three_clicks(tab: Tab, server: Server) -> None:
    offered, lists = server.get("/items?k=24")["items"], [server.listed(history=[], k=12)]
    tab.go("", "#new-person").gives(BROWSE, [item["item_id"] for item in offered]).gives(CARDS, lists[0])
    clicks: list[str] = []
    for item in offered[3:6]:
        clicks.append(item["item_id"])
        lists.append(tab.does(f"{BROWSE}[data-item={clicks[-1]}]").lists(history=clicks))
        assert lists[-1] != lists[-2]
        said = re.compile(rf"^After “{re.escape(item['title'][:30])}.*(new|moved).*; first is")
        tab.says({"#status[role=status][aria-live=polite]": said}).gives(HISTORY, clicks)
    tab.gives(f"{BROWSE}[aria-pressed=true]", clicks)
    tab.does(f"{CARDS} button.more ! Enter", "#detail-actions button ! Enter", "? main :focus")
    tab.lists(history=[*clicks, lists[-1][0]])
    tab.does(".remove ! Enter", "? #person :focus").lists(history=[*clicks[1:], lists[-1][0]])
    found = [item["item_id"] for item in server.get("/items?k=24&search=umbrella")["items"]]
    tab.does("#browse-search = umbrella").gives(BROWSE, found)


def test_an_item_is_added_by_a_picture_a_title_and_a_key(tab: Tab, server: Server) -> None:
    title, said, tab.provoked = "A mug from the page", "? #add-said:has-text('{}')", "401"
    tab.go("#user=s00004").lists(user="s00004")
    tab.page.set_input_files("#add-picture", {"name": "m.png", "mimeType": "", "buffer": serving.drawn("PNG", 90)})
    held = tab.page.evaluate_handle(FILE, base64.b64encode(serving.drawn("JPEG", 120)).decode())
    tab.gives("#add-preview img", [90], "naturalWidth").page.dispatch_event("#add-drop", "drop", {"dataTransfer": held})
    tab.gives("#add-preview img", [120], "naturalWidth").does(f"#add-title = {title}")
    item = tab.page.locator("#add-id").input_value()
    tab.does("#add-send", "text=Not now", said.format("this needs a key"))
    tab.does("#add-send", "#key = wrong", "#key ! Enter", said.format("this key is not known"))
    tab.does("#add-send", "? dialog:has-text('did not accept')", f"#key = {server.key}", "#key ! Enter")
    tab.does(said.format("Added."))
    tab.does(said.format(f"It stands at place {server.listed(user='s00004', k=96).index(item) + 1} of"))
    assert tab.page.evaluate(KEPT) == server.key
    there = server.get(f"/items/{item}")
    assert (there["title"], there["picture"], there["came"]) == (title, True, "added")
    tab.does("#add-said a").says({"#detail-title": title, "#detail-kicker": f"{item} · added while serving"})
    tab.gives("#detail-picture img", [120], "naturalWidth").does("#detail ! Escape", "#new-person")
    tab.does("#browse-search = mug from the page").gives(BROWSE, [item])


def test_an_item_that_is_there_is_not_replaced_unasked_and_a_picture_can_be_taken_out(tab: Tab, server: Server) -> None:
    said, tab.provoked = "? #add-said:has-text('{}')", "422"
    tab.go(f"#key={server.key}&user=s00004").lists(user="s00004")
    tab.page.set_input_files("#add-picture", {"name": "m.png", "mimeType": "image/png", "buffer": b"none"})
    tab.does("#add-title = Another", "#add-id = p0007", "#add-send", said.format("Press once more"))
    before = server.get("/items/p0007")
    assert before["title"] != "Another"
    tab.does("#add-send", said.format("the picture is none of"), "#add-clear")
    tab.says({"#add-preview b": "Drop a picture here"}).does("#add-send", said.format("Added by its words"))
    assert server.get("/items/p0007")["title"] == "Another"
    words = {"title": before["title"], "fields": {}, "numbers": before["numbers"]}
    words |= {
        name: before["fields"][name] for name in ("brand", "categories", "description") if name in before["fields"]
    }
    assert server.ask("PUT", "/items/p0007", words).status == 200


def test_what_strangers_wrote_is_text(tab: Tab, server: Server) -> None:
    item, user, kind = 'x/../"><img src=x onerror="window.hurt=1">?#%2F', "<b onclick=hurt=1>&lt;/../", HURT[:35]
    tab.meets(user, item, title=HURT, description=HURT, categories=kind, fields={HURT[:90]: HURT})
    tab.go(f"#key={server.key}&user={quote(user, safe='')}").lists(user=user)
    assert (tab.page.evaluate(KEPT), server.key in tab.page.url) == (server.key, False)
    tab.says({"#person-title": user, f"{HISTORY} .tile-title": HURT, f"{HISTORY} q": HURT})
    tab.says({f"{CARDS} .reason >> nth=0": re.compile(re.escape(HURT)), "#people-0 bdi": user})
    tab.page.select_option("#category", kind)
    tab.does("#chosen").lists(user=user, filters={"categories": [kind]}, chosen=True)
    tab.does(f"{CARDS} .face").says({"#detail-title": HURT, "#detail-fields dd": [HURT, kind, HURT, "1 person"]})
    tab.page.set_input_files("#add-picture", {"name": HURT, "mimeType": "image/png", "buffer": b"none"})
    tab.says({"#add-preview b": HURT}).go(f"#user={quote(kind)}").says({"#person-title": kind})
    assert tab.page.evaluate("window.hurt === undefined")
    tab.gives("img[src=x], script:not([src]), b[onclick], [onerror]", [])


def test_what_to_show_changes_the_list_as_the_api_does(tab: Tab) -> None:
    asked: dict[str, Any] = {"user": "s00005", "diversity": 0.5}
    found = [tab.go("#user=s00005").lists(user="s00005")]
    found.append(tab.does(*["#diversity ! ArrowRight"] * 5).lists(**asked))
    asked["filters"] = {"categories": ["Kitchen"]}
    tab.page.select_option("#category", "Kitchen")
    found.append(tab.does("? #note:has-text('left after filters')").lists(**asked))
    found.append(tab.does("#chosen").lists(**asked, chosen=True))
    assert len({tuple(one) for one in found}) == 4


def test_runs_stand_beside_those_that_were_measured_alike(tab: Tab, server: Server) -> None:
    report = json.loads((server.state.parent / serving.RUN / "report.json").read_text())
    report["metrics"]["ndcg@20"]["mean"] += 0.25
    for name, data in (("better", report["data"]["hash"]), ("elsewhere", "another")):
        (server.state.parent / name).mkdir()
        report["data"]["hash"] = data
        (server.state.parent / name / "report.json").write_text(json.dumps(report))
    tab.go("runs.html").gives("tbody tr", ["-", "better", "run", "-", "elsewhere"], "dataset.folder ?? '-'")
    for metric in ("ndcg@20", "recall@10"):
        tab.page.select_option("#runs-metric", metric)
        found = next(run for run in server.get("/runs")["runs"] if run["served"])["metrics"][metric]
        value, ends = f"{found['mean']:.4f}", " – ".join(f"{end:.4f}" for end in found["ci95"])
        tab.says({"#runs-table th:nth-child(2)": metric, ".run.served text.value": value, "tr.served th": "easeserved"})
        tab.says({"tr.served td >> nth=0": value, "tr.served td >> nth=1": ends})
    tab.does("nav a", "? #person-title")


def test_a_phone_shows_all_of_it_by_day_and_by_night(tab: Tab) -> None:
    tab.meets("A" * 28, "i" * 150, title="W" * 300, description="m" * 900, categories="v" * 90)
    tab.page.set_viewport_size({"width": 360, "height": 780})
    for place in ("runs.html", "#new=1", f"#user={'A' * 28}&item={'i' * 150}", f"#user={'A' * 28}", "#user=s00006"):
        tab.go(place).page.reload(wait_until="networkidle")
        assert tab.page.evaluate(FITS), place
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        assert (tab.page.evaluate(LIGHT) < 0.3) == (scheme == "dark")
        tab.shot(f"phone-{scheme}")


def test_all_is_reached_by_tab_and_has_a_name_and_a_mark(tab: Tab) -> None:
    tab.go("#new=1", BROWSE).lists(history=[tab.server.get("/items?k=1")["items"][0]["item_id"]])
    tab.page.evaluate(STOPS)
    tab.does(".skip ! Tab").page.keyboard.press("Shift+Tab")
    reached: list[int] = []
    while len(reached) < 200 and (k := tab.page.evaluate("window.stops.indexOf(document.activeElement)")) >= 0:
        reached.append(k)
        name = tab.page.locator(":focus").aria_snapshot().splitlines()[0]
        assert re.match(r'- \W?\w+ "[^"]{2,}', name), name
        assert tab.page.evaluate(OUTLINED, k), name
        tab.page.keyboard.press("Tab")
    assert len(reached) > 50
    assert reached == list(range(tab.page.evaluate("window.stops.length")))
