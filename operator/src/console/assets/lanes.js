// Lanes: who has the seats, who waits, and what a job of each protocol costs.

import { get, Refused } from "./api.js";
import { el, one, say, show, svg } from "./dom.js";
import { bytes, count, micros, rate } from "./format.js";
import { FOREGROUND } from "./words.js";

const EVERY_MS = 1_000;

export async function begin(seat) {
  let latencies = new Map();
  seat.live.addEventListener("sample", ({ detail }) => (latencies = new Map(detail.classes.map((row) => [row.class, row]))));
  const ask = async () => {
    if (!document.hidden) {
      try {
        lanes(await get(seat.at("/v1/lanes")), latencies);
        say(one("#lanes-said"), "");
      } catch (why) {
        if (!(why instanceof Refused)) throw why;
        say(one("#lanes-said"), why.message);
      }
    }
    setTimeout(ask, EVERY_MS);
  };
  ask();
}

/** Seats of a lane: what it uses, its guarantee as a frame, its ceiling as a line. */
function bar(row, seats) {
  const part = (value) => (100 * Math.min(value, seats)) / Math.max(1, seats);
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": `${row.in_use} of ${row.ceiling} seats, ${row.guarantee} guaranteed` },
    svg("rect", { class: "ground", width: 100, height: 10 }),
    svg("rect", { class: "served", width: part(row.in_use), height: 10 }),
    svg("rect", { class: "guarantee", "vector-effect": "non-scaling-stroke", x: 0, y: 0, width: part(row.guarantee), height: 10 }),
    svg("line", { class: "ceiling", "vector-effect": "non-scaling-stroke", x1: part(row.ceiling), x2: part(row.ceiling), y1: 0, y2: 10 }),
  );
}

const cell = (head, ...inside) => el("td", { class: "num", "data-h": head }, ...inside);

function lanes(view, latencies) {
  say(one("#lanes-policy"), `${view.seats} seats, of which background may have ${view.background_seats} now; load is controlled by “${view.policy}”.`);
  const line = (row) => {
    const seen = latencies.get(row.class);
    return el(
      "tr",
      { "data-key": row.class },
      el("td", {}, el("b", {}, row.class), " ", row.title),
      el("td", { class: "full" }, bar(row, view.seats)),
      cell("in use", count(row.in_use)),
      cell("guaranteed", count(row.guarantee)),
      cell("at most", count(row.ceiling)),
      cell("waiting", count(row.waiting)),
      cell("bytes", bytes(row.waiting_bytes)),
      cell("would wait", micros(row.predicted_wait_us)),
      cell("admitted", rate(row.admitted_per_s)),
      cell("refused", rate(row.refused_per_s)),
      cell("p50", seen?.p50_us ? micros(seen.p50_us) : "–"),
      cell("p99", seen?.p99_us ? micros(seen.p99_us) : "–"),
    );
  };
  const part = (name) => el("tr", { class: "part", "data-key": name }, el("th", { colspan: 12, scope: "rowgroup" }, name));
  const front = view.lanes.filter((row) => FOREGROUND.includes(row.class));
  const back = view.lanes.filter((row) => !FOREGROUND.includes(row.class));
  show(one("#lanes"), part("Foreground"), front.map(line), part("Background"), back.map(line));
  show(
    one("#protocols"),
    view.protocols.length
      ? view.protocols.map((row) => el("tr", { "data-key": row.protocol }, el("td", { class: "mono" }, row.protocol), cell("in use", count(row.in_use)), cell("at most", count(row.cap)), cell("cost", micros(row.cost_us))))
      : el("tr", {}, el("td", { colspan: 4, class: "empty" }, "No protocol is used or capped now.")),
  );
}
