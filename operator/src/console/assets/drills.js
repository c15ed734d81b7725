// Drills: storms on purpose, what was expected of each, and whether it held.

import { get, Refused } from "./api.js";
import { el, one, show, tell } from "./dom.js";
import { count, span, when } from "./format.js";
import { stateMark } from "./words.js";

export async function begin() {
  try {
    const said = await get("/v1/drills");
    list(said);
  } catch (why) {
    if (!(why instanceof Refused)) throw why;
    tell(one("#drills-said"), why.message, "bad");
  }
}

const cell = (head, value) => el("td", { class: "num", "data-h": head }, value);
const told = (value, how) => (Number.isFinite(value) ? how(value) : "–");

function list(drills) {
  const newest = [...drills].sort((a, b) => Date.parse(b.began) - Date.parse(a.began));
  const row = (drill, at) =>
    el(
      "tr",
      { "data-key": `${drill.began}/${at}` },
      el("td", {}, el("b", {}, drill.scenario), " ", when(Date.parse(drill.began))),
      el("td", { "data-h": "verdict" }, stateMark({ pass: "passed", fail: "failed", passed: "passed", failed: "failed" }[drill.verdict] ?? "unknown", drill.verdict)),
      el("td", { class: "full break soft" }, drill.hypothesis, drill.against ? ` (against ${drill.against})` : ""),
      cell("in time", told(drill.fg_success, (share) => `${(Math.floor(share * 1e6) / 1e4).toFixed(2)} %`)),
      cell("p99", told(drill.fg_p99_ms, (ms) => `${count(ms)} ms`)),
      cell("to EMERGENCY", told(drill.enter_ms, (ms) => `${count(ms)} ms`)),
      cell("to NORMAL", told(drill.exit_s, (s) => span(s * 1_000))),
      cell("lost", told(drill.lost, count)),
    );
  show(one("#drills"), newest.length ? newest.map(row) : el("tr", { "data-key": "none" }, el("td", { colspan: 8, class: "empty" }, "There was none yet. `buslane drill surge` makes one.")));
}
