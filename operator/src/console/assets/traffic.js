// The first page: the split over time with the posture as a band, and the order in reach.

import { get, Refused } from "./api.js";
import { Banner } from "./banner.js";
import { Board } from "./board.js";
import { Chart } from "./chart.js";
import { all, el, one, say, show } from "./dom.js";
import { bytes, count, micros, percent, rate, span } from "./format.js";
import { OrderForm } from "./order.js";
import { alertRows, incidentRows } from "./trouble.js";
import { BACKGROUND, CLASSES, classOf, FOREGROUND, LETTERS, stateMark, sum } from "./words.js";

const outcome = (names) => [
  { label: "served", colour: "served", kind: "area", of: (sample) => sum(sample, names).served },
  { label: "told to come back", colour: "deferred", stripes: "slant", kind: "area", of: (sample) => sum(sample, names).deferred },
  { label: "refused", colour: "refused", stripes: "cross", kind: "area", of: (sample) => sum(sample, names).refused },
  { label: "asked for", colour: "offered", kind: "line", of: (sample) => sum(sample, names).offered },
];

const classes = (names) => [
  ...names.map((name) => ({ label: `${name} ${CLASSES[name]}`, colour: name.toLowerCase(), kind: "area", of: (sample) => classOf(sample, name)?.served_per_s ?? 0 })),
  { label: "asked for", colour: "offered", kind: "line", of: (sample) => sum(sample, names).offered },
];

const usual = (trend) => trend && [Math.max(0, trend.usual_per_s - 2 * trend.spread_per_s), trend.usual_per_s + 2 * trend.spread_per_s];

const logins = [
  { label: "± spread", colour: "usual", kind: "range", of: (sample) => usual(sample.logins.trend) },
  { label: "usual", colour: "usual", kind: "line", dash: [5, 4], of: (sample) => sample.logins.trend?.usual_per_s },
  { label: "let in", colour: "served", kind: "line", width: 2, of: (sample) => sample.logins.served_per_s },
  { label: "asked for", colour: "offered", kind: "line", of: (sample) => sample.logins.offered_per_s },
];

const latency = [
  { label: "p99", colour: "c7", kind: "line", of: (sample) => classOf(sample, "C1")?.p99_us ?? NaN },
  { label: "median", colour: "c1", kind: "line", width: 2, of: (sample) => classOf(sample, "C1")?.p50_us ?? NaN },
];

export async function begin(seat) {
  const board = new Board(seat.node);
  const place = (id, what) => {
    const chart = new Chart(one(id), board, what);
    board.add(chart);
    return chart;
  };
  const front = place("#chart-front", { title: "Foreground", unit: count, size: "hero", band: true, marks: true, series: outcome(FOREGROUND) });
  const back = place("#chart-back", { title: "Background", unit: count, size: "hero", marks: true, series: outcome(BACKGROUND) });
  place("#chart-logins", { title: "Logins per second", unit: count, size: "small", series: logins, least: 1 });
  place("#chart-latency", { title: "Talk (C1), time to answer", unit: micros, size: "small", series: latency, least: 1_000 });
  const banner = new Banner(seat);
  new OrderForm(() => banner.ask());
  switches(board, front, back);
  legend();

  seat.live.addEventListener("sample", ({ detail: sample }) => {
    board.onSample(sample);
    banner.onSample(sample);
    tiles(sample);
    table(sample);
  });
  seat.live.addEventListener("happening", ({ detail }) => board.onHappening(detail));
  seat.live.addEventListener("liveness", ({ detail }) => {
    if (detail.state === "idle") say(one("#chart-said"), "This process controls no load and measures none: choose another node above.");
  });
  seat.live.addEventListener("status", ({ detail }) => trouble(detail));
  seat.live.addEventListener("incident", () => listIncidents());
  seat.live.addEventListener("back", () => load(board));
  seat.addEventListener("nodes", ({ detail }) => {
    listNodes(detail);
    if (seat.node) banner.onNode(detail?.find((view) => view.node === seat.node));
  });
  document.addEventListener("visibilitychange", () => document.hidden || board.draw());
  await load(board);
  const last = board.samples.at(-1);
  if (last) {
    banner.onSample(last);
    tiles(last);
    table(last);
  }
  banner.ask();
  const here = () => {
    get("/v1/status").then(trouble, ignoreRefusal);
    listIncidents();
  };
  here();
  // The stream of another node does not say what this one sees.
  if (seat.node) setInterval(() => document.hidden || here(), HERE_MS);
}

/** How often the node of this page is asked while another one is looked at. */
const HERE_MS = 5_000;

/** Open incidents that are shown. */
const OPEN_MAX = 5;

const ignoreRefusal = (why) => {
  if (!(why instanceof Refused)) throw why;
};

async function load(board, span) {
  try {
    await board.load(span);
    say(one("#chart-said"), "");
  } catch (why) {
    ignoreRefusal(why);
    say(one("#chart-said"), `The past cannot be shown: ${why.message}`);
  }
}

function switches(board, front, back) {
  const press = (name, chosen) => {
    for (const button of all(`[data-${name}]`)) button.setAttribute("aria-pressed", button.dataset[name] === chosen);
  };
  for (const button of all("[data-span]")) {
    button.addEventListener("click", () => {
      press("span", button.dataset.span);
      load(board, button.dataset.span);
    });
  }
  for (const button of all("[data-by]")) {
    button.addEventListener("click", () => {
      press("by", button.dataset.by);
      const series = button.dataset.by === "class" ? classes : outcome;
      front.use(series(FOREGROUND));
      back.use(series(BACKGROUND));
    });
  }
}

function legend() {
  show(one("#letters"), LETTERS.map(([letter, name]) => el("span", {}, el("b", {}, letter), name)));
}

function tile(name, big, unit, more) {
  const box = one(`[data-tile=${name}]`);
  show(one(".big", box), big, unit ? el("small", {}, ` ${unit}`) : null);
  say(one(".more", box), more);
}

function tiles(sample) {
  const front = sum(sample, FOREGROUND);
  const back = sum(sample, BACKGROUND);
  const talk = classOf(sample, "C1");
  const { logins } = sample;
  tile("front", front.offered < 0.05 ? "quiet" : percent(front.served, front.offered), front.offered < 0.05 ? "" : "served", `${rate(front.served)} of ${rate(front.offered)}`);
  tile("talk", talk?.p99_us ? micros(talk.p99_us) : "–", "p99", talk?.p50_us ? `median ${micros(talk.p50_us)}` : "nothing was said");
  tile("back", back.offered < 0.05 ? "quiet" : percent(back.served, back.offered), back.offered < 0.05 ? "" : "served", back.deferred >= 0.05 ? `${rate(back.deferred)} told when to come back` : `${rate(back.served)} of ${rate(back.offered)}`);
  const times = logins.trend?.usual_per_s > 0 ? `${count(logins.offered_per_s / logins.trend.usual_per_s)}× the usual` : "the usual is not known yet";
  tile("logins", count(logins.offered_per_s), "asked/s", logins.ledger_ms > 1_000 ? `${count(logins.served_per_s)}/s let in, slots for ${span(logins.ledger_ms)}` : `${count(logins.served_per_s)}/s let in · ${times}`);
  tile("sessions", count(sample.sessions_front + sample.sessions_wake), "sessions", `${sample.processors.toFixed(2)} CPU · ${bytes(sample.resident_bytes)}`);
}

function table(sample) {
  for (const row of sample.classes) {
    const line = one(`[data-class=${CSS.escape(row.class)}]`);
    if (!line) continue;
    const put = (name, text) => say(one(`[data-f=${name}]`, line), text);
    put("offered", rate(row.offered_per_s));
    put("served", rate(row.served_per_s));
    put("deferred", rate(row.deferred_per_s));
    put("refused", rate(row.refused_per_s));
    put("waiting", count(row.waiting));
    put("p50", row.p50_us === null ? "–" : micros(row.p50_us));
    put("p99", row.p99_us === null ? "–" : micros(row.p99_us));
  }
}

function trouble(status) {
  say(one("#summary"), status.summary);
  show(one("#alerts"), alertRows(status.alerts));
}

async function listIncidents() {
  try {
    const said = await get("/v1/incidents?state=open");
    show(one("#incidents"), incidentRows(said.slice(0, OPEN_MAX)));
  } catch (why) {
    ignoreRefusal(why);
  }
}

function listNodes(views) {
  if (!views) return;
  show(
    one("#nodes"),
    views.map((view) =>
      el(
        "li",
        { "data-key": view.node },
        el("div", { class: "line" }, el("span", { class: "what" }, view.node), view.posture && view.state === "up" ? stateMark(view.posture) : stateMark(view.state)),
        el("div", { class: "small soft" }, view.role, view.sessions === null ? "" : ` · ${count(view.sessions)} sessions`, view.draining ? " · drains" : "", view.why ? ` · ${view.why}` : "", view.here || view.age_ms === null ? "" : [" · heard ", span(view.age_ms), " ago"], Math.abs(view.clock_skew_ms ?? 0) > 1_000 ? ` · its clock is ${span(Math.abs(view.clock_skew_ms))} off` : ""),
      ),
    ),
  );
}
