/** What both pages share: building elements, asking the service, pictures, errors, the key.
 *
 * All that comes from the service was written by strangers. It becomes text nodes and attribute values, never HTML,
 * and ids stand in addresses only by way of `at`.
 */

const KEY = "penchant-key";
const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "selected"]);
// Control characters but for tab and line end, and marks that override or isolate a direction.
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export const find = (id) => document.getElementById(id);
export const plain = (text) => String(text ?? "").replace(STEERING, "");

/** An element: h("p", {class: "muted", onclick: f}, "text", child). Empty children are left out. */
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/** The same for drawings. */
export function svg(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : plain(value));
  }
  node.append(...content(children));
  return node;
}

/** Puts children in place of what a node held. */
export function put(node, ...children) {
  node.replaceChildren(...content(children));
  return node;
}

function content(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== undefined && child !== null && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : document.createTextNode(plain(child))));
}

/** An address from parts, each written so that it stays one part: at("items", id, "similar"). */
export function at(...parts) {
  if (parts.some((part) => part === "." || part === ".." || part === "")) {
    throw new Refused(0, "bad_id", "An id that is empty or only dots cannot be asked for.");
  }
  return "/" + parts.map((part) => encodeURIComponent(part).replaceAll("'", "%27")).join("/");
}

/** A reply that is not what was hoped for; `message` is for people. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Asks the service; asks for a key, once, where one is needed. Raises Refused. */
export async function api(where, { method = "GET", body, headers = {}, signal } = {}) {
  const send = (key) =>
    fetch(where, {
      method,
      signal,
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "unreachable", "The service does not answer. Is it still running?");
    });
  const used = heldKey();
  let reply = await send(used);
  if (reply.status === 401) {
    const key = heldKey() && heldKey() !== used ? heldKey() : await askForKey(Boolean(used));
    if (key) reply = await send(key);
  }
  const said = await reply.json().catch(() => null);
  if (!reply.ok) {
    const error = said?.error ?? {};
    throw new Refused(reply.status, error.code ?? "", error.message || `The service answered ${reply.status}.`);
  }
  return said ?? {};
}

/** Keeps replies in order: of several calls only the newest may come back; older ones end as AbortError. */
export function newest() {
  let current = null;
  return async (work) => {
    current?.abort();
    const mine = new AbortController();
    current = mine;
    const reply = await work(mine.signal);
    if (mine !== current) throw new DOMException("A newer request took its place", "AbortError");
    return reply;
  };
}

/** Calls `work` once things have been quiet for a moment. */
export function soon(work, wait = 180) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, wait);
  };
}


export const heldKey = () => sessionStorage.getItem(KEY) ?? "";

/** `penchant demo --serve` opens the page with its key in the address; it may also be pasted into a tab that is open. */
function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("key")) return;
  sessionStorage.setItem(KEY, given.get("key"));
  given.delete("key");
  history.replaceState(null, "", `#${given}`);
}
takeKey();
window.addEventListener("hashchange", takeKey); // before a page's own, which is added later

let asking = null; // everything that waits for a key waits for one dialog

function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    const field = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true });
    const dialog = h(
      "dialog",
      { class: "small-dialog", "aria-labelledby": "key-title" },
      h(
        "form",
        {
          onsubmit: (event) => {
            event.preventDefault();
            if (field.value.trim()) dialog.close(field.value.trim());
          },
        },
        h("h2", { id: "key-title" }, "A key is needed"),
        h(
          "p",
          {},
          refused
            ? "The service did not accept the key that was used."
            : "This part of the service is not open to all.",
        ),
        h(
          "p",
          { class: "muted small" },
          "Make one with ",
          h("code", {}, "penchant keys"),
          ". It is kept until this tab is closed.",
        ),
        h("label", { for: "key" }, "Key", field),
        h(
          "p",
          { class: "send" },
          h("button", { type: "submit" }, "Use it"),
          h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, "Not now"),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      if (dialog.returnValue) sessionStorage.setItem(KEY, dialog.returnValue);
      dialog.remove();
      asking = null;
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
  return asking;
}


/** Shows an error in the bar; replies that came too late are no errors. */
export function failed(error) {
  if (error?.name === "AbortError") return;
  const bar = find("error");
  const said = error instanceof Refused ? error.message : "Something went wrong on this page. Load it again.";
  if (!(error instanceof Refused)) console.error(error);
  put(
    bar,
    h("span", {}, said),
    h("button", { type: "button", class: "close", "aria-label": "Close this message", onclick: calm }, "×"),
  );
  bar.hidden = false;
}

export function calm() {
  find("error").hidden = true;
}


const renewed = new Map(); // item id -> how often it was changed from here: a new address, past the cache
const shapes = []; // width over height of the first pictures: all frames take the middle one
let guarded = false; // pictures need the key: an <img> cannot send it

export function renew(id) {
  renewed.set(id, (renewed.get(id) ?? 0) + 1);
}

/** A frame with the item's picture, or with the first letters of its title. Decoration: the title stands beside it. */
export function picture(item, size = 320) {
  const frame = h("span", { class: "picture", "aria-hidden": "true" });
  const letters = () => {
    const words = plain(item.title).match(/[\p{L}\p{N}]+/gu) ?? ["–"];
    const first = words.slice(0, 2).map((word) => Array.from(word)[0].toUpperCase());
    return put(frame, h("span", { class: "letters" }, first.join("")));
  };
  if (!item.picture) return letters();
  let where;
  try {
    where = `${at("items", item.item_id, "picture")}?size=${size}`;
  } catch {
    return letters();
  }
  if (renewed.has(item.item_id)) where += `&turn=${renewed.get(item.item_id)}`;
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
  let tried = false; // with the key
  const withKey = async () => {
    tried = true;
    const reply = await fetch(where, { headers: { Authorization: `Bearer ${heldKey()}` } });
    if (!reply.ok) throw new Refused(reply.status, "", "");
    guarded = true;
    image.src = URL.createObjectURL(await reply.blob());
  };
  image.addEventListener("load", () => {
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    frame.classList.toggle("fits", shape(image.naturalWidth / image.naturalHeight));
  });
  image.addEventListener("error", () => {
    if (tried || !heldKey()) letters();
    else withKey().catch(letters);
  });
  frame.append(image);
  if (guarded) withKey().catch(letters);
  else image.src = where;
  return frame;
}

/** Takes note of a picture's shape; true where it fills the common frame with little cut off. */
function shape(ratio) {
  if (!(ratio > 0)) return false;
  const root = document.documentElement;
  if (shapes.length < 9) {
    shapes.push(ratio);
    if ([1, 3, 9].includes(shapes.length)) {
      const middle = shapes.toSorted((a, b) => a - b)[shapes.length >> 1];
      root.style.setProperty("--ratio", Math.min(1.4, Math.max(0.66, middle)).toFixed(2));
    }
  }
  const frame = parseFloat(root.style.getPropertyValue("--ratio"));
  return Math.abs(Math.log(ratio / frame)) < 0.12;
}


export const count = (n, one, many = `${one}s`) => `${Number(n).toLocaleString("en")} ${n === 1 ? one : many}`;

export const brief = (text, most = 60) => {
  const all = Array.from(plain(text));
  return all.length > most ? `${all.slice(0, most - 1).join("")}…` : all.join("");
};

/** Texts with their origin: which model wrote them, after which prompt. */
export function lineage(rows) {
  return h(
    "ul",
    { class: "lineage" },
    rows.map((row) =>
      h(
        "li",
        {},
        h("p", { class: "kicker" }, row.what),
        row.text && h("blockquote", { dir: "auto" }, row.text),
        h(
          "p",
          { class: "muted small" },
          row.model ? ["by ", h("b", {}, row.model)] : "origin not recorded",
          row.prompt && [", after the prompt ", h("code", {}, row.prompt)],
          row.status && `, ${row.status}`,
          row.ref && [" · ", h("code", {}, row.ref)],
        ),
      ),
    ),
  );
}
