/** Whose list it is: finding a person, her history in pictures, what moves her; a new history by clicking. */

import {
  api,
  at,
  brief,
  count,
  failed,
  find,
  h,
  heldKey,
  lineage,
  newest,
  picture,
  plain,
  put,
  soon,
} from "./common.js";

const SHOWN = 12; // people at first; more while searching
const TILES = 24; // items a page in the grid to choose from
const EARLY = 1e8; // seconds; a smaller number is a position, not a time

/** The search for people. Arrow keys move, Enter takes. Returns a function that gives the first person, or null. */
export function peopleSearch({ pick, isPrivate }) {
  const field = find("people-search");
  const list = find("people-list");
  const inOrder = newest();
  let marked = -1;

  const mark = (place) => {
    const options = [...list.children];
    marked = options.length ? (place + options.length) % options.length : -1;
    options.forEach((option, k) => option.classList.toggle("marked", k === marked));
    if (marked < 0) field.removeAttribute("aria-activedescendant");
    else {
      field.setAttribute("aria-activedescendant", options[marked].id);
      options[marked].scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  };

  const load = async () => {
    const prefix = field.value.trim();
    const query = new URLSearchParams({ prefix, k: prefix ? 20 : SHOWN });
    const { users } = await inOrder((signal) => api(`/users?${query}`, { signal }));
    put(
      list,
      users.map((user, k) =>
        h(
          "div",
          {
            id: `people-${k}`,
            role: "option",
            "data-user": user.user_id,
            "aria-selected": "false",
            onclick: () => pick(user.user_id),
          },
          h("bdi", {}, brief(user.user_id, 32)),
          h("small", { title: count(user.choices, "choice") }, user.choices),
          h("span", { class: "out-of-sight" }, user.choices === 1 ? " choice" : " choices"),
        ),
      ),
    );
    marked = -1;
    field.removeAttribute("aria-activedescendant");
    told(users.length ? "" : `Nobody's id begins with “${brief(prefix)}”. Press Enter to ask for it all the same.`);
    list.dispatchEvent(new Event("filled"));
    return users[0]?.user_id ?? null;
  };

  const told = (text) => {
    find("people-said").hidden = !text;
    put(find("people-said"), text);
  };

  field.addEventListener(
    "input",
    soon(() => load().catch(failed)),
  );
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (step && !(sideways && marked < 0)) {
      event.preventDefault();
      mark(marked < 0 && step < 0 ? -1 : marked + step);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const taken = list.children[marked]?.dataset.user ?? field.value.trim();
      if (taken) pick(taken);
    } else if (event.key === "Escape" && field.value) {
      event.preventDefault();
      field.value = "";
      load().catch(failed);
    } else if (sideways) return;
    else mark(-1);
  });

  return async () => {
    if (isPrivate() && !heldKey()) {
      told("People are private here. Type the start of an id; a key will be asked for.");
      return null;
    }
    return load();
  };
}

/** Shows which person of the list is looked at; null for someone new. */
export function markPerson(user) {
  for (const option of find("people-list").children) {
    option.setAttribute("aria-selected", String(option.dataset.user === user));
  }
  find("new-person").setAttribute("aria-pressed", String(user === null));
}

/** Who it is and what she chose, newest at the right. remove: given where choices can be taken back. */
export function showPerson({ user, known, history, motives = [], lineage: origin = [] }, { open, remove }) {
  find("person").hidden = false;
  const live = history.filter((item) => item.live).length;
  put(find("person-title"), user === null ? "Someone new" : h("bdi", {}, brief(user, 60)));
  put(
    find("person-facts"),
    history.length ? count(history.length, "choice") : "",
    live && user !== null ? `, ${live} of them since the model was trained` : "",
    user !== null && !known ? " · not known to the model" : "",
  );
  const strip = find("history");
  put(
    strip,
    history.map((item) => choice(item, open, remove)),
  );
  strip.hidden = !history.length;
  strip.scrollLeft = strip.scrollWidth;
  find("history-empty").hidden = history.length > 0;
  put(
    find("history-empty"),
    user === null ? "Nothing chosen yet. Click something below, and watch the list change." : "Nothing chosen yet.",
  );
  showMotives(motives, origin);
}

function choice(item, open, remove) {
  const when =
    item.at > EARLY ? new Date(item.at * 1000).toLocaleDateString("en", { year: "numeric", month: "short" }) : "";
  return h(
    "li",
    { "data-item": item.item_id, class: item.live ? "live" : "" },
    h(
      "button",
      { type: "button", class: "tile", onclick: () => open(item.item_id) },
      picture(item, 160),
      h("span", { class: "tile-title", dir: "auto" }, item.title),
    ),
    h("span", { class: "when" }, when, item.live && h("span", { class: "mark" }, "live")),
    item.review && h("q", { dir: "auto", title: item.review }, brief(item.review, 90)),
    remove &&
      h(
        "button",
        {
          type: "button",
          class: "close remove",
          "aria-label": `Take back ${plain(item.title)}`,
          onclick: () => remove(item.item_id),
        },
        "×",
      ),
  );
}

function showMotives(motives, origin) {
  const place = find("motives");
  place.hidden = !motives.length;
  put(
    place,
    h("h3", {}, "What moves her"),
    h(
      "ul",
      { class: "phrases" },
      motives.map((motive) =>
        h(
          "li",
          {},
          h("b", { dir: "auto" }, motive.phrases[0]),
          motive.phrases.length > 1 && h("span", { dir: "auto" }, motive.phrases.slice(1, 4).join(", ")),
          motive.lift > 0 && h("small", {}, `${motive.lift.toFixed(1)} times as much as most`),
        ),
      ),
    ),
    origin.length > 0 && h("details", {}, h("summary", {}, "Where this comes from"), lineage(origin)),
  );
}

/** The grid to build a history from. toggle(item): adds it or takes it back. */
export function browser({ toggle, chosen, keep }) {
  const field = find("browse-search");
  const grid = find("browse");
  const inOrder = newest();
  let shown = 0;

  const tile = (item) =>
    h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: "tile pick",
          "data-item": item.item_id,
          "aria-pressed": String(chosen(item.item_id)),
          onclick: () => toggle(item),
        },
        picture(item, 160),
        h("span", { class: "tile-title", dir: "auto" }, item.title),
      ),
    );

  const load = async (further = false) => {
    if (!further) shown = 0;
    const query = new URLSearchParams({ search: field.value.trim(), k: TILES, offset: shown });
    const { items, total } = await inOrder((signal) => api(`/items?${query}`, { signal }));
    items.forEach(keep);
    const first = items[0];
    if (further) grid.append(...items.map(tile));
    else put(grid, items.map(tile));
    shown += items.length;
    put(
      find("browse-said"),
      total
        ? `${shown.toLocaleString("en")} of ${count(total, "item")} `
        : `No title has “${brief(field.value.trim())}” in it.`,
      shown < total &&
        first &&
        h("button", { type: "button", class: "link", onclick: () => load(true).catch(failed) }, "Show more of them"),
    );
  };

  field.addEventListener(
    "input",
    soon(() => load().catch(failed)),
  );
  return {
    load: () => load().catch(failed),
    mark: () => {
      for (const button of grid.querySelectorAll("button.pick")) {
        button.setAttribute("aria-pressed", String(chosen(button.dataset.item)));
      }
    },
  };
}

/** Asks for a person. Raises Refused. */
export const askPerson = (user, signal) => api(at("users", user), { signal });
