// What the server sends: "farm" (how it is, or why that is not known), "journal"
// (entries), "load" (samples).
import { h, byId, fill } from "./dom.js";
import { seconds } from "./text.js";
import * as plots from "./plots.js";
import * as journal from "./journal.js";
import * as farm from "./farm.js";

let lost = "", old = 0, seen = false, cut = 0;

function alerts() {
  const list = [];
  if (cut) list.push(h("div", { class: "alert bad" }, h("p", null, h("strong", null, "The connection to scaler ui is lost. "), "Nothing here is new; is it still running?")));
  if (lost) list.push(h("div", { class: "alert bad" }, h("p", null, h("strong", null, seen ? "How the farm is now is not known: " : "Nothing is known of the farm: "), lost)));
  else if (old) list.push(h("div", { class: "alert warn" }, h("p", null, h("strong", null, `This was seen ${seconds(Math.round(old))} ago. `), "Nobody leads, or the one that does hangs: how it is now nobody knows.")));
  if (paused) list.push(h("div", { class: "alert warn" }, h("p", null, h("strong", null, "The farm is paused: "), paused, " (scaler resume)")));
  fill(byId("alerts"), list);
  document.body.classList.toggle("stale", Boolean(cut || lost || old));
  const state = cut ? "disconnected" : lost ? "lost" : old ? "old" : seen ? "live" : "waiting";
  byId("live").className = "live " + state;
  byId("live-text").textContent = state;
}
let paused = "";

farm.draw(Date.now());
plots.listen();
plots.draw();
journal.listen();
alerts();

// One drawing for all that comes at once.
let due = 0;
function later() {
  due ||= requestAnimationFrame(() => {
    due = 0;
    if (seen) farm.draw(Date.now());
    plots.draw();
    alerts();
    document.body.dataset.drawn = "yes";
  });
}

const live = new EventSource("/live");
live.addEventListener("open", () => { cut = 0; later(); });
live.addEventListener("error", () => { cut = 1; later(); });
live.addEventListener("farm", (e) => {
  const m = JSON.parse(e.data);
  lost = m.lost ?? "";
  if (m.farm) {
    seen = true;
    old = m.farm.old_seconds ?? 0;
    paused = m.farm.paused ?? "";
    farm.take(m.farm);
  }
  later();
});
live.addEventListener("load", (e) => { plots.take(JSON.parse(e.data)); later(); });
live.addEventListener("journal", (e) => { journal.take(JSON.parse(e.data)); });
