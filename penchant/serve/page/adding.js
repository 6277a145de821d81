/** A new item from a picture and a title: dropped, pasted or chosen; in the list as soon as the service has it. */

import { Refused, api, at, failed, find, h, plain, put, renew } from "./common.js";

const LARGEST = 1280; // pixels on the longer side; a larger picture is made smaller before it is sent
const HEAVY = 1_500_000; // bytes, above which it is written anew
const LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"; // none that look alike

/** added(id, title): shows the list anew and says where the item stands in it, from 1, or 0. */
export function adding({ added }) {
  const drop = find("add-drop");
  const [file, title, id, send] = ["add-picture", "add-title", "add-id", "add-send"].map(find);
  let chosen = null; // the picture
  let typed = false; // the id was written by hand
  let replacing = ""; // the id of an item that may be replaced: it was said what that means
  let ending = chance();

  const show = (picked) => {
    if (picked && !picked.type.startsWith("image/")) return tell(`“${plain(picked.name)}” is not a picture.`, true);
    chosen = picked ?? null;
    drop.classList.toggle("full", Boolean(chosen));
    find("add-clear").hidden = !chosen;
    if (!chosen) file.value = "";
    if (!chosen) return put(find("add-preview"), h("b", {}, "Drop a picture here"), h("span", {}, "or choose a file"));
    const image = h("img", { alt: "", src: URL.createObjectURL(chosen) });
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    image.addEventListener("error", () =>
      put(find("add-preview"), h("b", {}, plain(chosen?.name)), h("span", {}, "This browser cannot show it.")),
    );
    put(find("add-preview"), image);
    if (!title.value) {
      title.value = plain(chosen.name)
        .replace(/\.[^.]*$/, "")
        .replace(/[_-]+/g, " ")
        .trim();
      name();
    }
    return tell("");
  };
  const name = () => {
    if (!typed) id.value = title.value.trim() ? `${slug(title.value)}-${ending}` : "";
  };

  for (const kind of ["dragover", "drop"]) {
    // A picture that misses the zone would otherwise replace the page.
    window.addEventListener(kind, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
  }
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    event.preventDefault();
    if (event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
  });
  find("add-form").addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (pasted) show(pasted);
  });
  file.addEventListener("change", () => show(file.files[0]));
  find("add-clear").addEventListener("click", () => {
    show(null);
    tell("");
    file.focus();
  });
  title.addEventListener("input", name);
  id.addEventListener("input", () => (typed = Boolean(id.value.trim())));

  find("add-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!title.value.trim()) {
      tell("A title is needed.", true);
      title.focus();
      return;
    }
    name();
    const key = id.value.trim() || `${slug(title.value)}-${ending}`;
    const called = title.value.trim();
    send.disabled = true;
    tell("Adding it …");
    try {
      const there = typed && replacing !== key ? await known(key) : null;
      if (there) {
        replacing = key;
        tell(`“${plain(there)}” has this id. Press once more to replace all that is said of it, or give another id.`, true);
        return;
      }
      const body = { title: called };
      if (find("add-description").value.trim()) body.description = find("add-description").value.trim();
      if (find("add-category").value.trim()) body.categories = find("add-category").value.trim();
      if (chosen) body.picture = await encoded(chosen);
      const reply = await api(at("items", key), { method: "PUT", body });
      renew(key);
      const place = await added(key, called);
      const how = { changed: "Changed.", words: "Added by its words.", new: "Added." }[reply.served] ?? "Added.";
      const where = place
        ? ` It stands at place ${place} of the list above.`
        : " It is not among the first of the list above.";
      put(
        find("add-said"),
        how,
        where,
        reply.note ? ` ${reply.note} ` : " ",
        h("a", { href: `#${new URLSearchParams({ item: key })}` }, "Look at it"),
      );
      find("add-said").classList.remove("bad");
      for (const field of [title, id, find("add-description")]) field.value = "";
      [typed, ending, replacing] = [false, chance(), ""];
      show(null);
    } catch (error) {
      if (error instanceof Refused) tell(error.message, true);
      else {
        tell("");
        failed(error);
      }
    } finally {
      send.disabled = false;
    }
  });
}

/** The title of an item that has this id, or null. */
async function known(key) {
  try {
    const found = await api(at("items", key));
    return found.deleted ? null : found.title;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

function tell(text, bad = false) {
  find("add-said").classList.toggle("bad", bad);
  put(find("add-said"), text);
}

const slug = (title) =>
  title
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 40)
    .replace(/^-+|-+$/g, "") || "item";

const chance = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(4)), (byte) => LETTERS[byte % LETTERS.length]).join("");

/** The picture in base64; made smaller first where it is large. One that this browser cannot read goes as it is. */
async function encoded(file) {
  let blob = file;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    if (scale < 1 || file.size > HEAVY) {
      const canvas = h("canvas", {
        width: Math.round(bitmap.width * scale),
        height: Math.round(bitmap.height * scale),
      });
      const paint = canvas.getContext("2d");
      paint.fillStyle = "#fff"; // behind what is see-through
      paint.fillRect(0, 0, canvas.width, canvas.height);
      paint.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      blob = (await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9))) ?? file;
    }
    bitmap.close();
  } catch {
    blob = file;
  }
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(new Refused(0, "unreadable", "The picture could not be read from disk."));
    reader.readAsDataURL(blob);
  });
}
