// How the farm is: every part of the page but the plots and the journal. What is said
// of a server comes from the rows of scaler status and the findings of scaler doctor.
import { h, byId, fill } from "./dom.js";
import { quantity, seconds, share, bytes, money, moment, ago, plural, known } from "./text.js";
import { latest } from "./plots.js";

let farm = null;

export const take = (f) => { farm = f; };

const none = (text) => h("p", { class: "none" }, text);
const first = (text) => String(text ?? "").split("\n")[0];

function tone(row) {
  if (farm.old_seconds) return "unknown";
  if (row.wrong) return "bad";
  if (row.state === "?") return "unknown";
  return ["running", "serving"].includes(row.state) && !/^(is to leave|runs an older|is given up)/.test(row.detail ?? "") ? "good" : "warn";
}

const marks = { good: "●", warn: "◆", bad: "✕", unknown: "?" };
const mark = (t) => h("span", { class: "mark " + t, "aria-hidden": "true" }, marks[t]);
const badge = (text, t) => h("span", { class: "badge " + (t ?? "") }, text);

export function draw(now) {
  byId("name").textContent = farm?.farm || "Farmhand";
  document.title = farm ? `${farm.problems.length ? "(" + farm.problems.length + ") " : ""}${farm.farm} – Farmhand` : "Farmhand";
  const health = byId("health");
  if (!farm) { fill(health); return; }
  const worst = farm.old_seconds ? "unknown" : farm.problems.length ? "bad" : farm.rows.some((r) => tone(r) !== "good") ? "warn" : "good";
  fill(health, mark(worst), " ", { good: "all is well", warn: "something is changing", bad: plural(farm.problems.length, "thing is", "things are") + " wrong", unknown: "how it is now, nobody knows" }[worst]);
  health.className = "health " + worst;
  overview(now); problems(); servers(); topology(); thoughts(); operations(now); backups(now); cost(); control(now);
}

const tile = (key, label, value, note, t) => h("div", { class: "card tile " + (t ?? ""), "data-key": key }, h("h3", null, label), h("p", { class: "big" }, value), note && h("p", { class: "note" }, note));

function overview() {
  const a = farm.assignment, roles = Object.values(farm.roles ?? {});
  const live = roles.reduce((n, r) => n + r.live, 0), wanted = roles.reduce((n, r) => n + r.wanted, 0);
  const acks = (a?.servers ?? []).filter((s) => s.acknowledges).map((s) => s.name);
  const loss = (l) => (!l ? "?" : !l.known ? "?" : l.seconds < 0 ? "everything" : l.seconds === 0 ? "nothing" : "last " + seconds(l.seconds));
  const risk = (l) => (!l || !l.known ? "warn" : l.seconds === 0 ? "good" : l.seconds < 0 || l.seconds > 60 ? "bad" : "");
  const meter = farm.backups?.meter;
  const queries = farm.rows.map((r) => latest("queries", r.name)).filter(known);
  fill(byId("overview"),
    tile("servers", "Servers", `${live} of ${wanted}`, live === wanted ? "as many as wanted" : "there and wanted", live < wanted ? "warn" : ""),
    farm.cluster && tile("primary", "Primary", a?.primary || "none", a ? `epoch ${a.epoch}` + (a.phase ? `, ${a.phase}` : "") : "writes wait", a?.primary ? "" : "bad"),
    farm.cluster && tile("commits", "Commits are on", !a?.semi_sync ? "the primary only" : acks.length ? "two servers" : "wait", !a?.semi_sync ? "no replica acknowledges" : acks.length ? "acknowledged by one of " + acks.join(", ") : "no replica acknowledges", a?.semi_sync && acks.length ? "" : "warn"),
    queries.length > 0 && tile("queries", "Queries", quantity(queries.reduce((x, y) => x + y, 0)) + " /s", "on all database servers"),
    meter && tile("lose1", "Lost if the primary died", loss(meter.primary), null, risk(meter.primary)),
    meter && tile("loseall", "Lost if everything died", loss(meter.everything), null, risk(meter.everything)),
    tile("leader", "Decided by", farm.leads || "nobody", farm.leads ? `term ${farm.term}` : "nothing is decided", farm.leads ? "" : "bad"));
}

function problems() {
  fill(byId("problems"), farm.problems.map((p) => h("div", { class: "alert bad", "data-key": p.what }, h("p", null, mark("bad"), " ", h("strong", null, p.what), ": ", p.wrong), p.cure && h("p", { class: "cure" }, "Do: ", p.cure))));
}

function bar(label, v) {
  return h("div", { class: "meter" }, h("span", null, label),
    h("progress", { max: 1, value: known(v) ? Math.min(1, v) : 0, class: !known(v) ? "unknown" : v > 0.85 ? "hot" : "", "aria-label": `${label} ${share(v)}` }), h("span", { class: "value" }, share(v)));
}

function server(row) {
  const t = tone(row), queries = latest("queries", row.name), waiting = latest("queue", row.name), delay = latest("latency", row.name);
  const facts = [
    queries !== undefined && `${quantity(queries)} queries/s`,
    row.part === "replica" && row.behind !== "?" && `${row.behind} behind`,
    delay !== undefined && `${seconds(delay)} latency`,
    waiting > 0 && `${quantity(waiting)} waiting`,
  ].filter(Boolean);
  return h("li", { class: "card server " + t, "data-key": row.name },
    h("p", { class: "head" }, mark(t), " ", h("strong", null, row.name), " ", row.part !== row.role && badge(row.part, row.part === "primary" ? "primary" : ""), h("span", { class: "state" }, row.state === "?" ? "not known" : row.state)),
    h("p", { class: "note address" }, row.address),
    bar("CPU", latest("cpu", row.name)),
    facts.length > 0 && h("p", { class: "facts" }, facts.join(" · ")),
    row.wrong ? h("p", { class: "wrong" }, row.wrong) : row.detail && h("p", { class: "detail" }, row.detail));
}

function servers() {
  const names = Object.keys(farm.roles ?? {}).sort();
  const rows = (role) => farm.rows.filter((r) => r.role === role);
  const others = farm.rows.filter((r) => !names.includes(r.role));
  const launching = Object.entries(farm.doing ?? {}).filter(([n]) => !farm.rows.some((r) => r.name === n));
  fill(byId("roles"),
    names.length === 0 && none("The farm file has no roles that are there yet."),
    names.map((name) => {
      const r = farm.roles[name], coming = launching.filter(([, d]) => d === "launching " + name);
      return h("div", { class: "role" + (rows(name).length + coming.length > 3 ? " wide" : ""), "data-key": name },
        h("h3", null, name, " ", badge(r.kind), h("span", { class: "note" }, ` ${r.live} there, ${r.wanted} wanted, ${r.min} to ${r.max} possible`, r.pinned ? `; a person asked for ${r.pinned}` : "")),
        (r.held || r.failure || r.outdated?.length > 0) && h("p", { class: "detail" }, [r.held && "Held back: " + r.held, r.failure && "The last launch failed: " + first(r.failure), r.outdated?.length > 0 && `Older configuration: ${r.outdated.join(", ")}`].filter(Boolean).join(". ")),
        rows(name).length + coming.length === 0 ? none("no servers") :
        h("ul", { class: "servers" }, rows(name).map(server),
          coming.map(([n]) => h("li", { class: "card server warn", "data-key": n }, h("p", { class: "head" }, mark("warn"), " ", h("strong", null, n), h("span", { class: "state" }, "launching"))))));
    }),
    others.length > 0 && h("div", { class: "role", "data-key": " others" }, h("h3", null, "Of no role any more"), h("ul", { class: "servers" }, others.map(server))));
}

function member(s, row, node) {
  const d = node?.database, t = row ? tone(row) : "unknown", r = d?.replication;
  return h("div", { class: "card member " + t },
    h("p", { class: "head" }, mark(t), " ", h("strong", null, s.name), " ", badge(s.task === "lead" ? "primary" : s.task, s.task === "lead" ? "primary" : ""), s.acknowledges && badge("acknowledges"), s.state && s.task !== "lead" && badge(`${s.state}, weight ${s.weight}`)),
    h("dl", null,
      h("dt", null, "address"), h("dd", null, s.address),
      s.task !== "lead" && [h("dt", null, "behind"), h("dd", null, row?.behind ?? "?")],
      h("dt", null, "executed"), h("dd", { class: "position" }, d?.executed || "?"),
      s.task !== "lead" && [h("dt", null, "received"), h("dd", { class: "position" }, d?.received || "?")],
      r && [h("dt", null, "threads"), h("dd", null, `receiver ${r.receiver}, applier ${r.applier}`)],
      s.task === "lead" && d && [h("dt", null, "open"), h("dd", null, plural(d.open, "transaction"))]),
    (r?.receiver_error || r?.applier_error) && h("p", { class: "wrong" }, [r.receiver_error, r.applier_error].filter(Boolean).join(" ")));
}

function topology() {
  const a = farm.assignment;
  if (!farm.cluster) return fill(byId("topology"), none("The farm has no database cluster."));
  const row = (n) => farm.rows.find((r) => r.name === n), node = (n) => farm.nodes.find((x) => x.name === n);
  const servers = a?.servers ?? [], placed = new Set();
  const branch = (s) => {
    placed.add(s.name);
    const next = servers.filter((o) => o.source === s.name && !placed.has(o.name));
    next.forEach((o) => placed.add(o.name));
    return h("li", { "data-key": s.name }, member(s, row(s.name), node(s.name)), next.length > 0 && h("ul", { "aria-label": "follow " + s.name }, next.map(branch)));
  };
  const roots = servers.filter((s) => s.task === "lead").concat(servers.filter((s) => s.task !== "lead" && !servers.some((o) => o.name === s.source)));
  fill(byId("topology"), h("p", { class: "lead" }, farm.commits),
    servers.length > 0 && h("ul", { class: "tree" }, roots.map(branch), servers.filter((s) => !placed.has(s.name)).map(branch)));
}

function thoughts() {
  const about = [];
  if (farm.cluster) about.push(["cluster " + farm.cluster, farm.reasons ?? []]);
  for (const name of Object.keys(farm.roles ?? {}).sort()) about.push(["role " + name, (farm.roles[name].reasons ?? []).map((r) => [badge(r.Kind ?? r.kind), " ", r.Text ?? r.text])]);
  if (farm.backups) about.push(["backups", farm.backups.reasons ?? []]);
  for (const [name, doing] of Object.entries(farm.doing ?? {})) about.push([name, [doing]]);
  fill(byId("thoughts"), h("div", { class: "columns" }, about.map(([what, lines]) => h("div", { class: "card", "data-key": what }, h("h3", null, what),
    lines.length === 0 ? none("nothing to think about") : h("ul", { class: "plainlist" }, lines.map((l) => h("li", null, l)))))));
}

const table = (label, heads, rows) => h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, h("table", null,
  h("thead", null, h("tr", null, heads.map(([text, number]) => h("th", { scope: "col", class: number && "number" }, text)))), h("tbody", null, rows)));

function operations(now) {
  fill(byId("ops"), farm.operations.length === 0 ? none("Nobody has asked for anything that is not done.") :
    table("operations", [["ID"], ["What"], ["Asked by"], ["When"], ["State"], ["Last step"]], farm.operations.map((o) => h("tr", { "data-key": o.id },
      h("th", { scope: "row" }, o.id), h("td", { class: "wrap" }, [o.kind, ...Object.entries(o.args ?? {}).map(([k, v]) => `${k}=${v}`)].join(" ")), h("td", { class: "wrap" }, o.by),
      h("td", null, ago(o.asked, now)), h("td", null, badge(o.state, o.state === "running" ? "primary" : "")), h("td", { class: "wrap" }, first(o.steps?.at(-1)?.text))))));
}

function backups(now) {
  const b = farm.backups;
  if (!b) return fill(byId("meter"), none("The farm file has no store for backups: if every server is lost, everything is."));
  const fulls = [...(b.stock?.fulls ?? [])].reverse();
  const busy = Object.values(b.reports ?? {}).flatMap((r) => [r.full, r.drill]).filter((w) => w?.state === "running");
  fill(byId("meter"),
    h("dl", { class: "losses" },
      h("dt", null, "If the primary died now, lost would be"), h("dd", null, b.meter.primary.text),
      h("dt", null, "If everything died now, lost would be"), h("dd", null, b.meter.everything.text)),
    h("ul", { class: "plainlist" }, farm.backup_lines.slice(2).map((l) => h("li", { class: /^[A-Z]{3,}/.test(l) ? "wrong" : "" }, l))),
    busy.map((w) => h("p", { class: "note" }, `running since ${ago(w.began, now)}: ${bytes(w.bytes ?? w.done)} of about ${bytes(w.total)}`)),
    fulls.length > 0 && table("full backups", [["Full backup"], ["Taken on"], ["Ended"], ["Size", true], ["Proven"]], fulls.map((f) => h("tr", { "data-key": f.id },
      h("th", { scope: "row" }, f.id), h("td", null, f.node), h("td", null, moment(f.ended)), h("td", { class: "number" }, bytes(f.stored ?? f.bytes)), h("td", null, f.id === b.proven_backup ? "restore proven" : "")))));
}

function cost() {
  const c = farm.cost, priced = c.roles.some((r) => known(r.price));
  const hours = (v) => quantity(v) + " h";
  const sum = (f) => c.roles.reduce((n, r) => n + f(r), 0), all = (f) => (c.roles.every((r) => known(r.price)) ? money(sum((r) => f(r) * r.price)) : "?");
  const cells = (r) => {
    const v = known(r.price) ? (n) => money(n * r.price) : (n) => (priced ? "?" : hours(n));
    return [r.hours, r.day, 30 * r.day, 30 * r.least, 30 * r.most].map((n) => h("td", { class: "number" }, v(n)));
  };
  const v = priced ? all : (f) => hours(sum(f));
  fill(byId("hours"),
    c.roles.length === 0 ? none("There is nothing to count yet.") :
    table("cost by role", [["Role"], ...(priced ? [["Price/h", true]] : []), ["So far", true], ["A day", true], ["30 days", true], ["30 days, least", true], ["30 days, most", true]], [
      c.roles.map((r) => h("tr", { "data-key": r.role }, h("th", { scope: "row" }, r.role), priced && h("td", { class: "number" }, known(r.price) ? r.price : "?"), cells(r))),
      h("tr", { class: "sum", "data-key": " sum" }, h("th", { scope: "row" }, "together"), priced && h("td", null), [(r) => r.hours, (r) => r.day, (r) => 30 * r.day, (r) => 30 * r.least, (r) => 30 * r.most].map((f) => h("td", { class: "number" }, v(f))))]),
    h("p", { class: "note" }, `So far is since ${moment(c.since)}, as far as the journal reaches. A day and 30 days are at the size wanted now, at least and at most at the smallest and largest that the farm file allows. `,
      priced ? "" : ["These are instance-hours. With prices: ", h("code", null, `scaler ui ${farm.flags} --price ${c.roles[0]?.role ?? "db"}=0.40`)]));
}

function control(now) {
  fill(byId("scalers"), farm.scalers?.length ? table("control nodes", [["Name"], ["Registry at"], ["State"], ["Since"]], farm.scalers.map((s) => h("tr", { "data-key": s.name },
    h("th", { scope: "row" }, s.name), h("td", null, s.at), h("td", null, badge(s.state, s.state === "leads" ? "primary" : s.state === "silent" ? "bad" : "")), h("td", null, s.since ? ago(s.since, now) : "")))) : none("None is known."));
}
