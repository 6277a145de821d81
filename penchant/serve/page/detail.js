/** An item in a dialog: picture, fields, why it is recommended, what each choice weighs, what is like it, lineage. */

import { Refused, api, at, brief, count, failed, find, h, lineage, newest, picture, put } from "./common.js";

const BY = { behaviour: "Chosen by the same people", content: "Alike in words and picture" };
const inOrder = newest();
const similarInOrder = newest();

/** subject(): whose list it is. choose(item), remove(item), open(id), closed(): what the page does then. */
export function detail({ subject, keep, known, choose, remove, open, closed }) {
  const dialog = find("detail");
  find("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  dialog.addEventListener("close", closed);

  const show = async (id) => {
    const guess = known(id) ?? { item_id: id, title: id, picture: false };
    head(guess);
    put(find("detail-fields"));
    put(find("detail-actions"));
    put(find("detail-why"), h("h3", {}, "Why"), h("p", { class: "muted" }, "Asking …"));
    put(find("detail-similar"));
    put(find("detail-lineage"));
    if (!dialog.open) dialog.showModal();
    find("detail-inside").scrollTop = 0;
    find("detail-title").focus({ preventScroll: true });
    const who = subject();
    await inOrder(async (signal) => {
      const why = askWhy(who, id, signal).catch((error) => error);
      similar(id, "behaviour");
      try {
        const item = await api(at("items", id), { signal });
        if (signal.aborted) return;
        keep(item);
        about(item);
      } catch (error) {
        if (error.name === "AbortError") return;
        put(find("detail-fields"), h("div", {}, h("dd", { class: "bad" }, said(error))));
      }
      const reply = await why;
      if (!signal.aborted) showWhy(reply);
    }).catch(failed);
  };

  const head = (item) => {
    put(find("detail-picture"), picture(item, 640));
    put(find("detail-title"), h("bdi", {}, item.title));
    put(find("detail-kicker"), h("bdi", {}, brief(item.item_id, 60)));
  };

  const about = (item) => {
    head(item);
    const rows = [...Object.entries(item.fields ?? {}), ...Object.entries(item.numbers ?? {})].filter(
      ([name, value]) => name !== "title" && value !== null && value !== "",
    );
    put(
      find("detail-fields"),
      rows.map(([name, value]) =>
        h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", { dir: "auto" }, written(value))),
      ),
      h(
        "div",
        {},
        h("dt", {}, "chosen by"),
        h("dd", {}, item.chosen_by ? count(item.chosen_by, "person", "people") : "nobody yet"),
      ),
    );
    const came = { added: "added while serving", changed: "changed while serving" }[item.came];
    put(
      find("detail-kicker"),
      h("bdi", {}, brief(item.item_id, 60)),
      came && ` · ${came}`,
      item.deleted && " · taken out of the catalogue",
    );
    put(
      find("detail-actions"),
      !item.deleted && h("button", { type: "button", onclick: () => act(() => choose(item)) }, "Choose"),
      !item.deleted && item.came === "added" && takeAway(item),
    );
    put(
      find("detail-lineage"),
      item.lineage?.length ? [h("h3", {}, "Where its words come from"), lineage(item.lineage)] : [],
    );
  };

  const takeAway = (item) => {
    const button = h("button", { type: "button", class: "quiet" }, "Take it away");
    button.addEventListener("click", () => {
      if (button.classList.contains("sure")) act(() => remove(item));
      else {
        button.classList.add("sure");
        put(button, "Never recommend it again?");
      }
    });
    return button;
  };

  const act = async (work) => {
    for (const button of find("detail-actions").children) button.disabled = true;
    try {
      await work();
      dialog.close();
    } catch (error) {
      for (const button of find("detail-actions").querySelectorAll("button")) button.disabled = false;
      find("detail-actions").querySelector(".bad")?.remove();
      find("detail-actions").append(h("p", { class: "bad", role: "status" }, said(error)));
    }
  };

  const similar = (id, by) => {
    const tabs = Object.entries(BY).map(([name, label]) =>
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `similar-${name}`,
          "aria-controls": "similar-items",
          "aria-selected": String(name === by),
          tabindex: name === by ? "0" : "-1",
          onclick: () => turn(name),
          onkeydown: (event) =>
            ["ArrowLeft", "ArrowRight"].includes(event.key) && turn(name === "content" ? "behaviour" : "content"),
        },
        label,
      ),
    );
    const turn = (name) => {
      similar(id, name);
      find(`similar-${name}`).focus();
    };
    const panel = h("div", {
      id: "similar-items",
      role: "tabpanel",
      tabindex: "0",
      "aria-labelledby": `similar-${by}`,
      "aria-busy": "true",
    });
    put(
      find("detail-similar"),
      h("h3", {}, "Similar items"),
      h("div", { role: "tablist", class: "tabs", "aria-label": "Similar by" }, tabs),
      panel,
    );
    similarInOrder((signal) => api(`${at("items", id, "similar")}?${new URLSearchParams({ k: 6, by })}`, { signal }))
      .then(({ items, note }) => {
        panel.removeAttribute("aria-busy");
        items.forEach(keep);
        put(
          panel,
          note && h("p", { class: "muted small" }, note),
          items.length
            ? h("ul", { class: "tiles" }, items.map(neighbour))
            : !note && h("p", { class: "muted" }, "None."),
        );
      })
      .catch((error) => error.name !== "AbortError" && put(panel, h("p", { class: "muted" }, said(error))));
  };

  const neighbour = (item) =>
    h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "tile", "data-item": item.item_id, onclick: () => open(item.item_id) },
        picture(item, 160),
        h("span", { class: "tile-title", dir: "auto" }, item.title),
      ),
      item.shared?.length > 0 &&
        h(
          "small",
          { class: "muted", dir: "auto" },
          `same ${item.shared
            .slice(0, 2)
            .map((s) => `${s.field}: ${brief(s.value, 30)}`)
            .join(", ")}`,
        ),
    );

  const showWhy = (why) => {
    const place = find("detail-why");
    if (why === null)
      return put(
        place,
        h("h3", {}, "Why"),
        h("p", { class: "muted" }, "Nobody has chosen anything yet, so there is no reason to give."),
      );
    if (why instanceof Error)
      return why.name === "AbortError" ? null : put(place, h("h3", {}, "Why"), h("p", { class: "muted" }, said(why)));
    const most = Math.max(...why.evidence.map((one) => one.weight), 0) || 1;
    return put(
      place,
      h("h3", {}, "Why"),
      h("p", { class: "reason", dir: "auto" }, why.sentence),
      why.motives?.length > 0 &&
        h(
          "ul",
          { class: "phrases" },
          why.motives.map((m) =>
            h(
              "li",
              {},
              h("b", { dir: "auto" }, m.phrases[0]),
              h("small", {}, `${m.lift.toFixed(1)} times as much as most`),
            ),
          ),
        ),
      why.evidence.length > 0 &&
        h(
          "ul",
          { class: "weights" },
          why.evidence.map((one) => weighed(one, most)),
        ),
      why.evidence.length > 0 &&
        h(
          "p",
          { class: "muted small" },
          why.exact
            ? "Each number is an exact part of the score."
            : "Numbers are in the model's own terms: nearness, not shares of the score.",
        ),
      why.words?.length > 0 &&
        h(
          "p",
          { class: "words" },
          h("span", { class: "muted small" }, "Words in common "),
          why.words.map((word) => h("bdi", { class: "chip" }, word)),
        ),
      why.heard && heard(why.heard),
    );
  };

  const weighed = (one, most) => {
    const bar = h("span", { class: "weight", "aria-hidden": "true" }, h("span"));
    bar.firstChild.style.setProperty("--share", String(Math.max(0, one.weight / most)));
    return h(
      "li",
      {},
      picture(known(one.item_id) ?? { ...one, picture: one.picture ?? false }, 96),
      h(
        "div",
        {},
        h("span", { class: "evidence-title", dir: "auto" }, one.title),
        bar,
        one.span && h("q", { dir: "auto" }, one.span),
      ),
      h("span", { class: "number" }, h("span", { class: "out-of-sight" }, "weight "), one.weight.toPrecision(2)),
    );
  };

  return { show, close: () => dialog.open && dialog.close() };
}

async function askWhy({ user, history }, item, signal) {
  if (user !== null) return api(`/why?${new URLSearchParams({ user, item })}`, { signal });
  if (!history.length) return null;
  return api("/why", { method: "POST", body: { history, item }, signal });
}

function heard({ probability, profile, notes }) {
  return h(
    "details",
    {},
    h("summary", {}, `A language model was asked: ${Math.round(probability * 100)} % yes`),
    profile && h("blockquote", { dir: "auto" }, profile),
    notes?.length > 0 &&
      h(
        "ul",
        { class: "lineage" },
        notes.map((note) =>
          h(
            "li",
            {},
            h("p", { class: "kicker" }, `after choices ${note.begin + 1} to ${note.end}`),
            h("blockquote", { dir: "auto" }, note.text),
          ),
        ),
      ),
  );
}

const said = (error) => (error instanceof Refused ? error.message : "Something went wrong on this page.");

function written(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number"
    ? value.toLocaleString("en", { useGrouping: false, maximumFractionDigits: 3 })
    : brief(value, 700);
}
