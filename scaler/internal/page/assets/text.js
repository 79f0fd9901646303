// Numbers and times for people. What is not known is "?", never 0.

export const known = (v) => typeof v === "number" && Number.isFinite(v);

const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export function quantity(v) {
  if (!known(v)) return "?";
  if (Math.abs(v) >= 1e6) return three.format(v / 1e6) + " M";
  if (Math.abs(v) >= 1e4) return three.format(v / 1e3) + " k";
  return three.format(v);
}

export function seconds(v) {
  if (!known(v)) return "?";
  if (v < 0.0995) return three.format(v * 1000) + " ms";
  if (v < 120) return three.format(v) + " s";
  if (v < 7200) return Math.round(v / 60) + " min";
  if (v < 172800) return Math.round(v / 3600) + " h";
  return Math.round(v / 86400) + " days";
}

export const share = (v) => (known(v) ? Math.round(v * 100) + " %" : "?");

export function bytes(v) {
  if (!known(v)) return "?";
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (v < 1024 || unit === "TiB") return three.format(v) + " " + unit;
    v /= 1024;
  }
}

export const money = (v) => new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(v);

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const whole = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

export function time(t) {
  const at = new Date(t);
  return Number.isNaN(at.getTime()) || at.getFullYear() < 1971 ? "?" : clock.format(at);
}

const other = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

// recent is a time of today, or a day and a time.
export function recent(t) {
  const at = new Date(t);
  return at.toDateString() === new Date().toDateString() ? time(t) : other.format(at);
}

export function moment(t) {
  const at = new Date(t);
  return Number.isNaN(at.getTime()) || at.getFullYear() < 1971 ? "?" : whole.format(at);
}

export function ago(t, now) {
  const at = new Date(t).getTime();
  return Number.isNaN(at) || at < 4e10 ? "?" : seconds(Math.max(0, Math.round((now - at) / 1000))) + " ago";
}

export const plural = (n, one, more) => `${n} ${n === 1 ? one : more ?? one + "s"}`;
