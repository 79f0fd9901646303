// The journal: what happened and was decided, the newest first. An entry unfolds to what
// scaler why says of it.
import { h, byId } from "./dom.js";
import { moment, recent, plural } from "./text.js";

// What follows is bound to how many the server keeps.
const most = 400, around = 10000; // entries; milliseconds, as scaler why has it
let entries = []; // oldest first

const isMinor = (e) => e.fields?.minor === "true";
const text = (e) => [e.kind, e.who, e.text, ...Object.values(e.fields ?? {})].join(" ").toLowerCase();
const tone = (kind) => (/failed|lost|crash|broken|gap|unreadable/.test(kind) ? "bad" : kind === "decision" ? "decided" : "plain");

function row(e) {
  return h("li", { "data-revision": e.revision },
    h("details", null,
      h("summary", null,
        h("time", { datetime: e.time, title: moment(e.time) }, recent(e.time)),
        h("span", { class: "kind " + tone(e.kind) }, e.kind),
        h("span", { class: "said" }, e.text))));
}

// more is what an entry unfolds to, made when it does.
function more(e) {
  const fields = Object.entries(e.fields ?? {}).filter(([, v]) => v !== "").sort();
  const at = new Date(e.time).getTime();
  const near = entries.filter((o) => o !== e && Math.abs(new Date(o.time).getTime() - at) < around);
  return h("div", { class: "more" },
    h("dl", null, h("dt", null, "when"), h("dd", null, moment(e.time)), h("dt", null, e.node ? "node" : "who"), h("dd", null, e.who), h("dt", null, "entry"), h("dd", null, e.revision),
      fields.map(([k, v]) => [h("dt", null, k), h("dd", null, v)])),
    near.length > 0 && [h("p", { class: "note" }, "within 10 seconds of it:"),
      h("ul", { class: "near" }, near.map((o) => h("li", null, h("time", { datetime: o.time }, recent(o.time)), " ", h("span", { class: "kind " + tone(o.kind) }, o.kind), " ", o.text)))]);
}

export function take(list) {
  const there = new Set(entries.map((e) => e.revision));
  const fresh = list.filter((e) => !there.has(e.revision));
  entries = entries.concat(fresh);
  const ol = byId("entries");
  for (const e of fresh) ol.prepend(row(e));
  for (const gone of entries.splice(0, Math.max(0, entries.length - most))) ol.querySelector(`[data-revision="${gone.revision}"]`)?.remove();
  filter();
}

function filter() {
  const kinds = byId("kinds").value, minor = byId("minor").checked, words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = new Map([...byId("entries").children].map((li) => [li.getAttribute("data-revision"), li]));
  let shown = 0;
  for (const e of entries) {
    const fits = (kinds === "all" || (kinds === "decision") === (e.kind === "decision")) && (minor || !isMinor(e)) && words.every((w) => text(e).includes(w));
    const li = rows.get(String(e.revision));
    if (li && li.hidden === fits) li.hidden = !fits;
    if (fits) shown++;
  }
  byId("count").textContent = entries.length === 0 ? "nothing yet" : `${shown} of ${plural(entries.length, "entry", "entries")}`;
}

export function listen() {
  for (const id of ["kinds", "minor", "search"]) byId(id).addEventListener("input", filter);
  byId("entries").addEventListener("toggle", (ev) => {
    const details = ev.target;
    details.querySelector(".more")?.remove();
    if (!details.open) return;
    const revision = details.parentElement.getAttribute("data-revision");
    const e = entries.find((o) => String(o.revision) === revision);
    if (e) details.append(more(e));
  }, true); // toggle does not bubble
}
