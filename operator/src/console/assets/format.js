// Numbers and times for people. Times are relative to the clock of the node that answered, so that a wrong clock of this
// machine does not make an old figure look new.

import { all, el, say } from "./dom.js";

let ahead_ms = 0;

/** Learns how far the node's clock is from this one's. */
export const learnClock = (now_ms) => {
  if (Number.isFinite(now_ms)) ahead_ms = now_ms - Date.now();
};

/** Now, by the node's clock. */
export const now = () => Date.now() + ahead_ms;

/** "1,240", "12.4k", "0.4". */
export function count(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 1 : 2)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1).replace(/\.0$/, "")}k`;
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en-US");
  return size < 0.05 ? "0" : value.toFixed(1);
}

/** "1,240/s". */
export const rate = (value) => (Number.isFinite(value) ? `${count(value)}/s` : "–");

/** Microseconds: "0.42 ms", "180 ms", "2.1 s". */
export function micros(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 1e4) return `${(value / 1e3).toFixed(2)} ms`;
  if (value < 1e6) return `${Math.round(value / 1e3)} ms`;
  return `${(value / 1e6).toFixed(1)} s`;
}

/** Milliseconds: "4 ms", "12 s", "3 min 20 s", "2 h 5 min". */
export function span(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 1e3) return `${Math.max(0, Math.round(ms))} ms`;
  const s = Math.floor(ms / 1e3);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

/** "04:59", "1:02:03": what is left. */
export function left(ms) {
  const s = Math.max(0, Math.ceil(ms / 1e3));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600);
  return (hours ? `${hours}:` : "") + `${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
}

/** Bytes: "312 MiB". */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${value < 10 && at ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

/** "99.9 %", and never 100 % where something is missing. */
export function percent(part, whole) {
  if (!(whole > 0)) return "–";
  const share = Math.min(1, part / whole) * 100;
  if (share > 99.95 && share < 100) return share >= 99.99 ? "99.99 %" : "99.9 %";
  return `${share >= 99.5 && share < 100 ? share.toFixed(1) : Math.round(share)} %`;
}

const pad = (n) => String(n).padStart(2, "0");

/** "14:05:09" where this browser is. */
export const clock = (ms) => {
  const at = new Date(ms);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
};

/** "2026-11-21 14:05:09 UTC". */
export const utc = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;

const ago = (ms) => {
  const past = now() - ms;
  if (past < -1_500) return `in ${span(-past)}`;
  return past < 2_000 ? "just now" : `${span(past)} ago`;
};

/** A time: relative, absolute when pointed at. `tick` keeps it true. */
export function when(ms) {
  if (!Number.isFinite(ms) || ms <= 0) return el("span", { class: "faint" }, "never");
  return el("time", { datetime: new Date(ms).toISOString(), "data-ms": ms, title: `${utc(ms)} (${clock(ms)} here)` }, ago(ms));
}

/** Brings all relative times on the page up to date. */
export function tick() {
  for (const node of all("time[data-ms]")) say(node, ago(Number(node.dataset.ms)));
}
