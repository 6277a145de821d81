/** Runs that were measured alike, side by side: one plot and one part of the table for each group. */

import { api, brief, count, failed, find, h, newest, plain, put, svg } from "./common.js";

const ROW = 34; // height of a run in a plot
const PHONE = matchMedia("(max-width: 560px)");
const NUMBERS = 76; // width of the values at the right of a plot

const inOrder = newest();
let runs = [];

const value = (run, metric) => run.metrics?.[metric]?.mean;
const interval = (run, metric) => run.metrics?.[metric]?.ci95 ?? null;
const written = (x) =>
  x === undefined || x === null
    ? "–"
    : Math.abs(x) >= 100
      ? x.toFixed(0)
      : Math.abs(x) < 0.001 && x !== 0
        ? x.toPrecision(2)
        : x.toFixed(4);

/** Groups in the order of their served run, then of their size; runs in a group by the metric, best first. */
function groups(metric) {
  const found = Map.groupBy ? Map.groupBy(runs, (run) => run.comparable) : fallbackGroups();
  const served = (group) => group.some((run) => run.served);
  return [...found.values()]
    .map((group) => group.toSorted((a, b) => (value(b, metric) ?? -Infinity) - (value(a, metric) ?? -Infinity)))
    .toSorted((a, b) => served(b) - served(a) || b.length - a.length);
}

function fallbackGroups() {
  const found = new Map();
  for (const run of runs) found.set(run.comparable, [...(found.get(run.comparable) ?? []), run]);
  return found;
}

function protocol(run) {
  const said = [
    run.split && `split ${run.split}`,
    run.protocol,
    run.mask?.length && `hidden from the ranking: ${run.mask.join(", ")}`,
    run.history?.length && `history from ${run.history.join(", ")}`,
    run.selected_by && `chosen by ${run.selected_by}`,
    run.users && count(run.users, "person", "people"),
  ];
  return said.filter(Boolean).join(" · ");
}


/** A plot has units of its own and scales with the page: a narrower one for a phone, so that words stay readable. */
function plot(group, metric) {
  const [wide, names] = PHONE.matches ? [370, 116] : [640, 190];
  const measured = group.filter((run) => value(run, metric) !== undefined);
  const ends = measured
    .flatMap((run) => [value(run, metric), ...(interval(run, metric) ?? [])])
    .filter(Number.isFinite);
  const [low, high] = scale(Math.min(...ends), Math.max(...ends));
  const x = (v) => names + 12 + ((v - low) / (high - low)) * (wide - names - NUMBERS - 24);
  const bottom = measured.length * ROW + 8;
  const steps = ticks(low, high);
  const title = `${plain(metric)}: ${measured.map((run) => `${plain(run.model)} ${spoken(run, metric)}`).join("; ")}`;
  return h(
    "figure",
    { class: "runs-group" },
    h(
      "figcaption",
      {},
      h("h2", {}, h("bdi", {}, group[0].data)),
      h("p", { class: "muted small" }, protocol(group[0])),
      PHONE.matches &&
        group.some((run) => run.served) &&
        h("p", { class: "small" }, "In bold: the run that is served."),
    ),
    measured.length
      ? svg(
          "svg",
          { viewBox: `0 0 ${wide} ${bottom + 26}`, role: "img", "aria-label": title },
          steps.map((v) => [
            svg("line", { class: "rule", x1: x(v), x2: x(v), y1: 0, y2: bottom }),
            svg("text", { class: "tick", x: x(v), y: bottom + 18, "text-anchor": "middle" }, Number(v.toPrecision(6))),
          ]),
          measured.map((run, k) => mark(run, metric, x, k * ROW + ROW / 2 + 4, wide, names)),
        )
      : h("p", { class: "muted" }, `None of these runs measured ${plain(metric)}.`),
  );
}

function mark(run, metric, x, y, wide, names) {
  const ends = interval(run, metric);
  const served = run.served && !PHONE.matches; // no room: bold, and said below the heading
  return svg(
    "g",
    { class: run.served ? "run served" : "run" },
    svg("title", {}, `${plain(run.model)}: ${spoken(run, metric)} (${plain(run.folder)})`),
    svg(
      "text",
      { x: names - 8, y: y + 5, "text-anchor": "end" },
      brief(run.model, Math.floor(names / 8.4) - (served ? 9 : 0)) + (served ? " (served)" : ""),
    ),
    ends && svg("line", { class: "interval", x1: x(ends[0]), x2: x(ends[1]), y1: y, y2: y }),
    svg("circle", { cx: x(value(run, metric)), cy: y, r: 6 }),
    svg("text", { class: "value", x: wide, y: y + 5, "text-anchor": "end" }, written(value(run, metric))),
  );
}

function spoken(run, metric) {
  const ends = interval(run, metric);
  return `${written(value(run, metric))}${ends ? `, between ${written(ends[0])} and ${written(ends[1])}` : ""}`;
}

/** A little air on both sides; a single value still gets a scale. */
function scale(low, high) {
  const air = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - air, high + air];
}

function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(v);
  return found;
}


function table(all, metric) {
  const head = ["Model", metric, "95 % interval", "Seeds", "Parameters", "Time", "Folder"];
  const numbers = new Set([1, 2, 3, 4, 5]);
  return [
    h("caption", { class: "out-of-sight" }, `Runs by ${plain(metric)}, best first, in groups that were measured alike`),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head.map((name, k) =>
          h(
            "th",
            { scope: "col", class: numbers.has(k) ? "number" : "", "aria-sort": k === 1 ? "descending" : null },
            name,
          ),
        ),
      ),
    ),
    all.map((group) =>
      h(
        "tbody",
        {},
        h(
          "tr",
          { class: "group" },
          h(
            "th",
            { scope: "rowgroup", colspan: String(head.length) },
            h("bdi", {}, group[0].data),
            h("small", {}, protocol(group[0])),
          ),
        ),
        group.map((run) => row(run, metric)),
      ),
    ),
  ];
}

function row(run, metric) {
  const ends = interval(run, metric);
  const cell = (text) => h("td", { class: "number" }, text);
  return h(
    "tr",
    { class: run.served ? "served" : "", "data-folder": run.folder },
    h("th", { scope: "row" }, h("bdi", {}, run.model), run.served && h("span", { class: "mark" }, "served")),
    cell(written(value(run, metric))),
    cell(ends ? `${written(ends[0])} – ${written(ends[1])}` : "–"),
    cell(run.seeds ?? "–"),
    cell(run.parameters?.toLocaleString("en") ?? "–"),
    cell(run.seconds === undefined || run.seconds === null ? "–" : time(run.seconds)),
    h("td", {}, h("code", {}, run.folder)),
  );
}

const time = (s) =>
  s < 90 ? `${s.toFixed(s < 10 ? 1 : 0)} s` : s < 5400 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`;


function show() {
  const metric = find("runs-metric").value;
  const all = groups(metric);
  put(
    find("runs-plot"),
    all.map((group) => plot(group, metric)),
  );
  put(find("runs-table"), table(all, metric));
  put(find("status"), `${count(runs.length, "run")} in ${count(all.length, "group")}, best first`);
}

function start(reply) {
  runs = reply.runs;
  const often = new Map();
  for (const run of runs)
    for (const name of Object.keys(run.metrics ?? {})) often.set(name, (often.get(name) ?? 0) + 1);
  const names = [...often.keys()].toSorted((a, b) => often.get(b) - often.get(a) || a.localeCompare(b));
  const served = runs.find((run) => run.served);
  const first =
    served?.selected_by in (served?.metrics ?? {})
      ? served.selected_by
      : (names.find((name) => name === "ndcg@20") ?? names[0]);
  put(
    find("runs-metric"),
    names.map((name) => h("option", { value: name, selected: name === first }, name)),
  );
  if (!runs.length) put(find("status"), "No runs here yet.");
  else show();
}

find("runs-metric").addEventListener("change", show);
PHONE.addEventListener("change", () => runs.length && show());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("runs-table").focus();
});
api("/about")
  .then((about) => put(find("about"), "Served: ", h("b", {}, about.model), about.data && ` on ${about.data}`))
  .catch(failed);
inOrder((signal) => api("/runs", { signal }))
  .then(start)
  .catch(failed);
