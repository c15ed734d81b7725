// How things are called, and the sentence that says what is happening. The node's first view says the same: see `story.rs`.

import { svg, el } from "./dom.js";
import { count, micros, percent, rate } from "./format.js";

/** Postures and what they mean. */
export const POSTURES = {
  normal: { word: "NORMAL", means: "Everything is admitted." },
  guard: { word: "GUARD", means: "Background waits its turn so that foreground does not." },
  emergency: { word: "EMERGENCY", means: "What nobody misses is off; background logins come back in slots." },
  recovery: { word: "RECOVERY", means: "The storm is over; background is let back step by step." },
};

/** Classes as they are called for people. */
export const CLASSES = {
  C0: "control", C1: "talk", C2: "look", C3: "bulk",
  C4: "social", C5: "wake", C6: "pulse", C7: "spare",
};

export const FOREGROUND = ["C0", "C1", "C2", "C3"];
export const BACKGROUND = ["C4", "C5", "C6", "C7"];

const SIGNALS = {
  foreground_wait_ms: ["foreground would wait", "ms"],
  background_wait_ms: ["background would wait", "ms"],
  sojourn_ms: ["foreground waits in its queue", "ms"],
  lateness_ms: ["the workers run late", "ms"],
  seats_busy: ["seats are taken", "share"],
  logins: ["background logins come too fast", "times"],
  dependency: ["the backend answers slowly", "share"],
  timeouts: ["the backend times out", "share"],
  memory: ["memory is used up", "share"],
  descriptors: ["file descriptors are used up", "share"],
  handshakes: ["too many handshakes at once", "share"],
};

const amount = (value, unit) => {
  if (unit === "share") return `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
  if (unit === "ms") return `${count(value)} ms`;
  return unit === "times" ? `${count(value)}×` : count(value);
};

/** The signal that is over its limit, in words; nothing where there is none. */
export function causeWords(cause) {
  if (!cause) return "";
  const [words, unit] = SIGNALS[cause.signal] ?? [cause.signal, ""];
  return `Signal ${cause.signal}: ${words}, ${amount(cause.value, unit)} against a limit of ${amount(cause.limit, unit)}`;
}

/** Adds up some classes of a sample. */
export function sum(sample, names) {
  const total = { offered: 0, served: 0, deferred: 0, refused: 0, waiting: 0 };
  for (const row of sample?.classes ?? []) {
    if (!names.includes(row.class)) continue;
    total.offered += row.offered_per_s;
    total.served += row.served_per_s;
    total.deferred += row.deferred_per_s;
    total.refused += row.refused_per_s;
    total.waiting += row.waiting;
  }
  return total;
}

/** One class of a sample. */
export const classOf = (sample, name) => sample?.classes.find((row) => row.class === name);

/** What is happening, in a sentence or two. */
export function story(sample) {
  if (!sample) return "Nothing was measured yet.";
  const front = sum(sample, FOREGROUND);
  const back = sum(sample, BACKGROUND);
  const lost = front.refused + front.deferred;
  const first =
    front.offered < 0.05
      ? "Foreground is quiet."
      : lost < 0.05
        ? `Foreground gets all it asks for, ${rate(front.served)}.`
        : `Foreground gets ${percent(front.served, front.offered)} of ${rate(front.offered)}; ${rate(lost)} must wait.`;
  let second = "Background is quiet.";
  if (back.offered >= 0.05) {
    const put = [];
    if (back.deferred >= 0.05) put.push(`${rate(back.deferred)} are told when to come back`);
    if (back.refused >= 0.05) put.push(`${rate(back.refused)} are refused`);
    second = put.length
      ? `Background asks for ${rate(back.offered)}: ${rate(back.served)} served, ${put.join(", ")}.`
      : `Background gets all it asks for, ${rate(back.served)}.`;
  }
  const trend = sample.logins?.trend;
  const third =
    trend && trend.score > 4 && trend.usual_per_s > 0
      ? ` Logins are ${count(sample.logins.offered_per_s / trend.usual_per_s)} times the usual of this hour.`
      : "";
  const talk = classOf(sample, "C1");
  const fourth = talk?.p99_us > 250_000 ? ` Talk is slow: ${micros(talk.p99_us)} at the 99th percentile.` : "";
  return `${first} ${second}${third}${fourth}`;
}

const SHAPES = {
  ok: [["circle", { cx: 12, cy: 12, r: 9 }], ["path", { d: "M7.500 12.500l3 3 6-6.500" }]],
  guard: [["path", { d: "M12 3.500 21.500 20h-19z" }], ["path", { d: "M12 9.500v5M12 17v.6" }]],
  alarm: [["path", { d: "M8.300 2.500h7.400l5.800 5.800v7.400l-5.800 5.800H8.300l-5.800-5.800V8.300z" }], ["path", { d: "M12 7v6.500M12 16.500v.6" }]],
  rise: [["circle", { cx: 12, cy: 12, r: 9 }], ["path", { d: "M12 16.500V8M8.300 11.500 12 7.800l3.700 3.700" }]],
  wrench: [["rect", { x: 3.500, y: 3.500, width: 17, height: 17, rx: 4 }], ["path", { d: "M9 8.500v7M15 8.500v7" }]],
  ask: [["path", { d: "M12 2.800 21.200 12 12 21.200 2.800 12z" }], ["path", { d: "M9.800 10a2.200 2.200 0 1 1 3.200 2c-.7.400-1 .8-1 1.500M12 16.200v.4" }]],
  cross: [["circle", { cx: 12, cy: 12, r: 9 }], ["path", { d: "M8.500 8.500l7 7M15.500 8.500l-7 7" }]],
};

const SHAPE_OF = {
  normal: "ok", guard: "guard", emergency: "alarm", recovery: "rise",
  up: "ok", warning: "guard", maintenance: "wrench", unknown: "ask", down: "cross",
  low: "ok", medium: "guard", high: "alarm", critical: "alarm",
  detected: "alarm", declared: "guard", handling: "wrench", resolved: "ok", reviewed: "ok",
  passed: "ok", failed: "cross",
};

/** The sign of a state. */
export function glyph(state) {
  const shapes = SHAPES[SHAPE_OF[state] ?? "ask"].map(([tag, facts]) => svg(tag, facts));
  const facts = { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" };
  return svg("svg", facts, shapes);
}

const WORD_OF = { up: "Up", warning: "Warning", maintenance: "Maintenance", unknown: "Unknown", down: "Down" };

/** A state: its sign and its word. */
export function stateMark(state, word) {
  const said = word ?? WORD_OF[state] ?? POSTURES[state]?.word ?? (state ? state[0].toUpperCase() + state.slice(1) : "Unknown");
  return el("span", { class: "state", "data-state": state ?? "unknown" }, glyph(state), said);
}

/** What a happening is called on a chart: its letter, and its words. */
export function markOf(happening) {
  switch (happening.kind) {
    case "order_given":
      return { letter: "O", text: `Order ${happening.order_kind} by ${happening.author}: ${happening.reason}` };
    case "order_ended":
      return { letter: "o", text: "The order is over" };
    case "reloaded":
      return { letter: "C", text: `Settings changed by ${happening.author}: ${(happening.keys ?? []).join(", ")}` };
    case "mark":
      return { letter: { deploy: "D", config: "C", drill: "T" }[happening.mark] ?? "N", text: `${happening.mark}: ${happening.text} (${happening.author})` };
    case "process":
      return { letter: "P", text: `The process has ${happening.phase}, version ${happening.version}` };
    case "drain":
      return { letter: "W", text: happening.begins ? `Drain begun by ${happening.author}` : `Drain ended by ${happening.author}` };
    case "posture":
      return { letter: "", text: `${POSTURES[happening.from]?.word ?? happening.from} → ${POSTURES[happening.to]?.word ?? happening.to}: ${happening.why}` };
    default:
      return null;
  }
}

/** What the letters mean. */
export const LETTERS = [["O", "order"], ["o", "its end"], ["D", "deploy"], ["C", "settings"], ["T", "drill"], ["P", "process"], ["W", "drain"], ["N", "note"]];
