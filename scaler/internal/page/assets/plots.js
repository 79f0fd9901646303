// The plots: a ring of samples as the server has it, drawn as SVG.
import { h, svg, byId, fill } from "./dom.js";
import { known, quantity, seconds, share, time } from "./text.js";

export const titles = {
  queries: { title: "Queries per second", by: "by database server", text: quantity, least: 10 },
  latency: { title: "Latency", by: "of a command, mean, by web node", text: seconds, least: 0.001 },
  lag: { title: "Replication lag", by: "by replica", text: seconds, least: 1 },
  queue: { title: "Sessions waiting", by: "for a connection, by web node", text: quantity, least: 4 },
  cpu: { title: "Processors in use", by: "by node's machine", text: share, least: 1 },
  instances: { title: "Instances", by: "by role", text: quantity, least: 2, steps: true },
};

let kept = 450, pace = 2000, times = [];
let lines = {}; // by plot and name
let cursor = null; // an index from the end; null is now

export function take(m) {
  kept = m.kept; pace = m.pace;
  if (m.anew) { times = []; lines = {}; }
  const before = times.length;
  times = times.concat(m.times).slice(-kept);
  const cut = Math.max(0, before + m.times.length - kept);
  const next = {};
  for (const id of Object.keys(titles)) {
    next[id] = {};
    for (const [name, values] of Object.entries(m.lines[id] ?? {})) {
      const had = lines[id]?.[name] ?? new Array(before).fill(null);
      next[id][name] = had.concat(values).slice(cut);
    }
  }
  lines = next;
}

// latest is what a node measured last; undefined if that is not known.
export function latest(id, name) {
  const v = lines[id]?.[name]?.at(-1);
  return known(v) ? v : undefined;
}

const W = 360, H = 132, L = 2, R = 2, T = 8, B = 18;

// nice is the upper end of an axis.
function nice(v) {
  const ten = 10 ** Math.floor(Math.log10(v));
  for (const m of [1, 1.5, 2, 3, 5, 7.5, 10]) if (v <= m * ten * 1.0001) return m * ten;
}

// shown is how many samples an axis has room for: three minutes' at first, then as many
// as there are.
const shown = () => Math.min(kept, Math.max(90, times.length));
const x = (i) => L + (W - L - R) * (1 - (times.length - 1 - i) / (shown() - 1));

function path(values, top, steps) {
  let d = "", pen = false;
  values.forEach((v, i) => {
    if (!known(v)) { pen = false; return; }
    const at = x(i).toFixed(1), up = (T + (H - T - B) * (1 - Math.min(1, v / top))).toFixed(1);
    d += !pen ? `M${at} ${up}h.5` : steps ? `H${at}V${up}` : `L${at} ${up}`;
    pen = true;
  });
  return d;
}

const back = (minutes) => (minutes >= 3 ? `−${Math.round(minutes)} min` : `−${Math.round(minutes * 60)} s`);

function plot(id, t) {
  const names = Object.keys(lines[id] ?? {}).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const most = Math.max(t.least, ...names.flatMap((n) => lines[id][n].filter(known)));
  const top = id === "cpu" ? 1 : nice(most);
  const at = cursor === null ? times.length - 1 : Math.max(0, times.length - 1 - cursor);
  const say = (n) => t.text(lines[id][n][at] ?? undefined);
  const minutes = (shown() * pace) / 60000;
  const drawing = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${t.title} ${t.by}: ${names.length ? names.map((n) => n + " " + say(n)).join(", ") : "not known"}` },
    [0, 0.5, 1].map((f) => svg("path", { class: "grid", d: `M${L} ${T + (H - T - B) * (1 - f)}H${W - R}` })),
    [0, 1, 2, 3].map((n) => svg("text", { class: "tick", x: L + (W - L - R) * n / 3, y: H - 4, "text-anchor": ["start", "middle", "middle", "end"][n] }, n === 3 ? "now" : back(minutes * (1 - n / 3)))),
    names.map((n, i) => svg("path", { class: `line s${i % 8} ${i >= 8 ? "dashed" : ""}`, d: path(lines[id][n], top, t.steps) })),
    svg("text", { class: "tick", x: L, y: T + 9 }, t.text(top)),
    cursor !== null && times.length > 0 && svg("path", { class: "cursor", d: `M${x(at).toFixed(1)} ${T}V${H - B}` }));
  return h("figure", { class: "card plot", "data-key": id, "data-plot": id, tabindex: 0, "aria-label": `${t.title} ${t.by}; arrow keys go back in time` },
    h("figcaption", null, h("strong", null, t.title), " ", h("span", { class: "note" }, t.by)),
    drawing,
    names.length === 0
      ? h("p", { class: "note none" }, times.length ? "nobody reports it" : "the first samples come in a moment")
      : h("ul", { class: "legend" }, names.map((n, i) => h("li", { "data-key": n }, h("span", { class: `key s${i % 8} ${i >= 8 ? "dashed" : ""}`, "aria-hidden": "true" }), h("span", { class: "who" }, n), " ", h("span", { class: "value" }, say(n))))));
}

export function draw() {
  fill(byId("plots"), Object.entries(titles).map(([id, t]) => plot(id, t)));
  const at = times.length - 1 - (cursor ?? 0);
  byId("load-when").textContent = cursor === null || at < 0 ? "" : "at " + time(times[at]);
}

function move(to) {
  const next = to === null ? null : Math.min(Math.max(0, to), Math.max(0, times.length - 1));
  if (next === cursor) return;
  cursor = next;
  draw();
}

// Pointer and keys move one cursor in all plots.
export function listen() {
  const plots = byId("plots");
  plots.addEventListener("pointermove", (e) => {
    const box = e.target.closest(".plot")?.querySelector("svg").getBoundingClientRect();
    if (!box || e.clientY > box.bottom || e.clientY < box.top) return move(null);
    move(Math.round((1 - (e.clientX - box.left) / box.width) * (shown() - 1)));
  });
  plots.addEventListener("pointerleave", () => move(null));
  plots.addEventListener("focusout", () => move(null));
  plots.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 30, PageDown: -30 }[e.key];
    if (e.key === "Escape") return move(null);
    if (step === undefined) return;
    e.preventDefault();
    move((cursor ?? 0) + step);
    const figure = e.target.closest(".plot");
    if (figure) byId("reading").textContent = `${byId("load-when").textContent}: ${figure.querySelector("svg").getAttribute("aria-label")}`;
  });
}
