/** The cards of the list: picture, title, the reason and what it rests on; what is new in it is marked and said. */

import { brief, count, find, h, picture, plain, put } from "./common.js";

const CALM = matchMedia("(prefers-reduced-motion: reduce)");

/** One recommended item. before: the list that was there, so that what is new or has climbed is marked. */
export function card(item, k, before, { known, open, choose }) {
  const was = before.indexOf(item.item_id);
  const added = before.length > 0 && was < 0 && k < before.length;
  const climbed = was > k + 2 ? was - k : 0; // a step or two is no news
  const look = () => open(item.item_id);
  return h(
    "article",
    {
      class: `card${added ? " arrived" : climbed ? " climbed" : ""}`,
      "data-item": item.item_id,
      "aria-labelledby": `card-${k}`,
    },
    h(
      "button",
      { type: "button", class: "face", tabindex: "-1", "aria-hidden": "true", onclick: look },
      picture(item),
      (added || climbed > 0) && h("span", { class: "mark" }, added ? "new here" : `up ${climbed}`),
    ),
    h("h3", { class: "card-title", id: `card-${k}`, dir: "auto" }, item.title),
    item.why && h("p", { class: "reason", dir: "auto" }, item.why.sentence),
    item.why?.evidence?.length > 0 &&
      h(
        "ul",
        { class: "evidence", "aria-label": "What it rests on" },
        item.why.evidence.map((one) => evidence(one, known)),
      ),
    h(
      "p",
      { class: "actions" },
      h(
        "button",
        {
          type: "button",
          class: "choose",
          "aria-label": `Choose ${plain(item.title)}`,
          onclick: (event) => choose(event, item),
        },
        "Choose",
      ),
      h(
        "button",
        { type: "button", class: "more quiet", "aria-label": `Why and similar: ${plain(item.title)}`, onclick: look },
        "Why & similar",
      ),
    ),
  );
}

function evidence(one, known) {
  return h(
    "li",
    {},
    picture({ ...one, picture: known(one.item_id)?.picture ?? one.picture ?? false }, 96),
    h(
      "div",
      {},
      h("span", { class: "evidence-title", dir: "auto" }, one.title),
      one.span && h("q", { dir: "auto" }, one.span),
    ),
  );
}

/** Cards that stay glide from their old place to the new one. */
export function glide(grid, from) {
  if (CALM.matches) return;
  for (const card of grid.children) {
    const old = from.get(card.dataset.item);
    const now = card.getBoundingClientRect();
    if (!old || (Math.abs(old.left - now.left) < 1 && Math.abs(old.top - now.top) < 1)) continue;
    const start = `translate(${old.left - now.left}px, ${old.top - now.top}px)`;
    card.animate([{ transform: start }, { transform: "none" }], {
      duration: 420,
      easing: "cubic-bezier(.2, .7, .2, 1)",
    });
  }
}

/** What became of a list, in words. because: what it follows from. */
export function changes(before, now, because, reply) {
  const lead = because ? `${because}: ` : "";
  if (!now.length) return `${lead}nothing to recommend.`;
  const first = `first is “${brief(reply.items[0].title, 50)}”`;
  if (!before.length) return `${count(now.length, "item")}, ${first}.`;
  const fresh = now.filter((id) => !before.includes(id)).length;
  const moved = now.filter((id, k) => before.includes(id) && before.indexOf(id) !== k).length;
  if (!fresh && !moved) return `${lead}the list stays as it was.`;
  return `${lead}${[fresh && `${fresh} new`, moved && `${moved} moved`].filter(Boolean).join(", ")}; ${first}.`;
}

/** Says of a list that is not personal that it is not, and what the service has to note. */
export function banner({ personal, fallback, note }) {
  const said = note || (fallback ? "What most people choose." : personal ? "" : "This list is the same for everybody.");
  find("note").hidden = !said;
  put(
    find("note"),
    !personal && h("b", {}, fallback === "popular" ? "Not personal: popular items. " : "Not personal. "),
    said,
  );
}
