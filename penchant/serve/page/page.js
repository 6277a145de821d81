/** The main page: whose list it is, the list with its reasons, and what changes it. The address says what is looked at (#user=ID, #new, &item=ID); every step goes through it, so that the browser's way
 * back works and a place can be sent to somebody. Replies that are overtaken are dropped (`newest`).
 */

import { adding } from "./adding.js";
import { banner, card, changes, glide } from "./cards.js";
import { api, at, brief, calm, count, failed, find, h, newest, put, soon } from "./common.js";
import { detail } from "./detail.js";
import { askPerson, browser, markPerson, peopleSearch, showPerson } from "./people.js";

const FIRST = 12; // items of a list; "Show more" adds as many
const MOST = 96;

const items = new Map(); // what is known of items: id -> {item_id, title, picture}
const app = { about: {}, user: undefined, history: [], k: FIRST, shown: [], of: undefined };
const personInOrder = newest();
const listInOrder = newest();

const known = (id) => items.get(id);
const open = (item) => go({ item });
const keep = (item) => items.set(item.item_id, { item_id: item.item_id, title: item.title, picture: item.picture });

function place() {
  const said = new URLSearchParams(location.hash.slice(1));
  return { user: said.get("user") || null, fresh: said.has("new"), item: said.get("item") || null };
}

/** Goes to a place; what is not named stays. */
function go(change, replace = false) {
  const to = { user: app.user ?? null, fresh: app.user === null, item: null, ...change };
  const said = new URLSearchParams();
  if (to.user !== null) said.set("user", to.user);
  else if (to.fresh) said.set("new", "1");
  if (to.item !== null) said.set("item", to.item);
  const hash = `#${said}`;
  if (replace) {
    history.replaceState(null, "", hash);
    route();
  } else if (location.hash !== hash) location.hash = hash;
  else route();
}

function route() {
  const to = place();
  if (to.user !== null && to.user !== app.user) enter(to.user);
  else if (to.user === null && to.fresh && app.user !== null) enter(null);
  if (to.item !== null) look.show(to.item);
  else look.close();
}

function enter(user) {
  app.user = user;
  app.k = FIRST;
  calm();
  markPerson(user);
  find("browsing").hidden = user !== null;
  if (user === null) {
    meet({ user_id: null, known: false, history: app.history });
    if (!find("browse").children.length) grid.load();
  } else refreshPerson();
  clear();
  recommend("");
}

/** Nobody chooses from somebody else's list: its cards go at once, and their room stays until the new ones are here. */
function clear() {
  const cards = find("recommendations");
  cards.style.setProperty("min-height", `${cards.offsetHeight}px`);
  put(cards);
  put(find("status"));
  find("note").hidden = true;
}

function meet(person) {
  person.history.forEach(keep);
  const remove = person.user_id === null ? (id) => toggle(items.get(id)) : null;
  showPerson({ ...person, user: person.user_id }, { open, remove });
}

async function refreshPerson() {
  const user = app.user;
  find("person").classList.add("waiting");
  try {
    meet(await personInOrder((signal) => askPerson(user, signal)));
  } catch (error) {
    failed(error);
    if (error.name !== "AbortError" && app.user === user) find("person").hidden = true;
  } finally {
    if (app.user === user) find("person").classList.remove("waiting");
  }
}

const subject = () => ({ user: app.user ?? null, history: app.history.map((item) => item.item_id) });

function request() {
  const { user, history } = subject();
  const category = find("category").value;
  const diversity = Number(find("diversity").value);
  return {
    ...(user === null ? { history } : { user }),
    k: app.k,
    why: app.about.reasons !== false,
    ...(category ? { filters: { categories: [category] } } : {}),
    ...(diversity ? { diversity } : {}),
    ...(find("chosen").checked ? { chosen: true } : {}),
  };
}

/** Asks for the list and shows it. because: what it follows from, to be announced. Returns whether it was shown. */
async function recommend(because) {
  const grid = find("recommendations");
  const whose = app.user;
  grid.setAttribute("aria-busy", "true");
  try {
    const reply = await listInOrder((signal) => api("/recommend", { method: "POST", body: request(), signal }));
    show(reply, whose, because);
    grid.removeAttribute("aria-busy");
    return true;
  } catch (error) {
    failed(error);
    if (error.name !== "AbortError") {
      grid.removeAttribute("aria-busy");
      grid.style.removeProperty("min-height");
    }
    return false;
  }
}

function show(reply, whose, because) {
  const grid = find("recommendations");
  const before = app.of === whose ? app.shown : [];
  const now = reply.items.map((item) => item.item_id);
  const from = new Map([...grid.children].map((card) => [card.dataset.item, card.getBoundingClientRect()]));
  const held = grid.contains(document.activeElement) ? document.activeElement : null;
  const heldPlace = held ? [...grid.children].indexOf(held.closest(".card")) : -1;
  reply.items.forEach(keep);
  put(
    grid,
    reply.items.map((item, k) => card(item, k, before, { known, open, choose: press })),
  );
  if (!reply.items.length)
    put(grid, h("p", { class: "empty" }, "Nothing is left to recommend with these choices of what to show."));
  if (held) {
    const same = [...grid.children].find((one) => one.dataset.item === held.closest(".card")?.dataset.item);
    const next = same ?? grid.children[Math.min(heldPlace, grid.children.length - 1)];
    (next?.querySelector(held.classList.contains("more") ? "button.more" : "button.choose") ?? grid).focus({
      preventScroll: true,
    });
  }
  grid.style.removeProperty("min-height");
  if (before.length) glide(grid, from);
  banner(reply);
  put(find("status"), changes(before, now, because, reply));
  find("more").hidden = now.length < app.k || app.k >= MOST;
  [app.shown, app.of] = [now, whose];
}

async function press(event, item) {
  const button = event.currentTarget;
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true"; // a disabled button would lose the focus
  try {
    await choose(item);
  } catch (error) {
    failed(error);
  } finally {
    button.ariaDisabled = null;
  }
}

async function choose(item) {
  const user = app.user;
  calm();
  keep(item);
  if (user === null) return app.history.some((one) => one.item_id === item.item_id) ? undefined : toggle(item);
  await api("/events", {
    method: "POST",
    body: { events: [{ user, item: item.item_id }] },
    headers: {
      "Idempotency-Key": Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) =>
        b.toString(16).padStart(2, "0"),
      ).join(""),
    },
  });
  if (app.user !== user) return undefined; // somebody else is looked at by now
  return Promise.all([refreshPerson(), recommend(`After “${brief(item.title, 40)}”`)]);
}

/** Someone new: adds an item to her history, or takes it back. */
function toggle(item) {
  const there = app.history.some((one) => one.item_id === item.item_id);
  app.history = there
    ? app.history.filter((one) => one.item_id !== item.item_id)
    : [...app.history, { ...item, at: null, live: false, review: "" }];
  const held = find("history").contains(document.activeElement);
  meet({ user_id: null, known: false, history: app.history });
  if (held) (find("history").querySelector(".remove") ?? find("browse-search")).focus({ preventScroll: true });
  grid.mark();
  return recommend(`${there ? "Without" : "After"} “${brief(item.title, 40)}”`);
}

async function added(id, title) {
  await recommend(`After adding “${brief(title, 40)}”`);
  if (app.user === null) grid.load();
  if (app.shown.includes(id)) return app.shown.indexOf(id) + 1;
  const body = { ...request(), k: MOST, why: false };
  const further = await api("/recommend", { method: "POST", body }).catch(() => ({ items: [] }));
  return further.items.findIndex((item) => item.item_id === id) + 1;
}

async function remove(item) {
  await api(at("items", item.item_id), { method: "DELETE" });
  app.history = app.history.filter((one) => one.item_id !== item.item_id);
  if (app.user === null) {
    meet({ user_id: null, known: false, history: app.history });
    grid.load();
  } else refreshPerson();
  await recommend(`Without “${brief(item.title, 40)}”`);
}

async function introduce() {
  const about = await api("/about");
  const first = app.about.items === undefined;
  const arrived = app.about.pictures_coming && !about.pictures_coming;
  app.about = about;
  put(
    find("about"),
    h("b", {}, about.model),
    about.data && ` on ${about.data}`,
    ` · ${count(about.items, "item")}, ${count(about.users, "person", "people")}`,
    !about.ready && h("span", { class: "mark" }, "not ready: a fallback answers"),
  );
  put(
    find("foot"),
    about.run && ["Run ", h("code", {}, about.run), ". "],
    "This page asks nobody but the service it came from.",
  );
  if (!about.ready || about.pictures_coming) setTimeout(() => introduce().catch(failed), about.ready ? 1500 : 4000);
  if (arrived) app.user ? refreshPerson() : grid.load();
  if (!first) return void (about.ready && !about.pictures_coming && recommend(""));
  const categories = about.categories ?? [];
  find("category-label").hidden = !categories.length;
  find("category").append(
    ...categories.map((one) => h("option", { value: one.value }, `${brief(one.value, 40)} (${one.items})`)),
  );
  put(
    find("add-categories"),
    categories.map((one) => h("option", { value: one.value })),
  );
  if (about.takes_new_items === false && about.why_not) put(find("add-hint"), about.why_not);
}

const look = detail({
  subject,
  keep,
  known,
  choose,
  remove,
  open,
  closed: () => {
    // What had the focus before may be gone: the list was made anew meanwhile.
    if (document.activeElement === document.body) find("recommendations").focus({ preventScroll: true });
    if (place().item !== null) go({ item: null });
  },
});
const grid = browser({ toggle, keep, chosen: (id) => app.history.some((one) => one.item_id === id) });
const people = peopleSearch({ pick: (user) => go({ user, fresh: false }), isPrivate: () => app.about.private });

find("people-list").addEventListener("filled", () => app.user !== undefined && markPerson(app.user));
find("new-person").addEventListener("click", () => go({ user: null, fresh: true }));
find("category").addEventListener("change", () => recommend("In this category"));
find("chosen").addEventListener("change", () =>
  recommend(find("chosen").checked ? "With what was chosen" : "Without what was chosen"),
);
find("diversity").addEventListener(
  "input",
  soon(() => recommend("With this variety")),
);
find("more").addEventListener("click", () => {
  app.k = Math.min(MOST, app.k + FIRST);
  recommend("");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("recommendations").focus();
});
window.addEventListener("hashchange", route);
adding({ added });

try {
  await introduce();
  const first = await people().catch(failed);
  const to = place();
  if (to.user === null && !to.fresh) go({ user: first ?? null, fresh: !first, item: to.item }, true);
  else route();
} catch (error) {
  failed(error);
}
