// The audit: who changed what and why, and whether the record is whole.

import { get, Refused } from "./api.js";
import { el, one, show, tell } from "./dom.js";
import { when } from "./format.js";
import { stateMark } from "./words.js";

/** The node checks the whole record each time. */
const EVERY_MS = 30_000;
const SHOWN_MAX = 300;

export async function begin(seat) {
  let entries = [];
  const field = one("#audit-filter");
  const put = () => list(entries, field.value.trim().toLowerCase());
  field.addEventListener("input", put);
  const ask = async () => {
    if (document.hidden) return;
    try {
      const view = await get(seat.at(`/v1/audit?limit=${SHOWN_MAX}`));
      entries = [...view.entries].sort((a, b) => b.no - a.no);
      whole(view.report);
      put();
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(one("#audit-said"), why.message, "bad");
    }
  };
  setInterval(ask, EVERY_MS);
  await ask();
}

function whole(report) {
  const box = one("#audit-whole");
  if (!report.damage.length) return show(box, stateMark("up", "Whole"), el("span", { class: "soft" }, ` ${report.entries} entries, every one fits the one before.`));
  show(box, stateMark("down", "Damaged"), el("ul", {}, report.damage.map((damage) => el("li", {}, `${damage.file}, line ${damage.line}: ${damage.what}`))));
}

function list(entries, wanted) {
  const shown = entries.filter((entry) => !wanted || `${entry.author} ${entry.action} ${entry.reason}`.toLowerCase().includes(wanted));
  const row = (entry) =>
    el(
      "tr",
      { "data-key": entry.no },
      el("td", {}, el("span", { class: "faint" }, `${entry.no} `), when(entry.at_ms)),
      el("td", { "data-h": "who", class: "break" }, entry.author),
      el("td", { "data-h": "what", class: "mono" }, entry.action),
      el("td", { class: "full break" }, entry.reason, after(entry)),
    );
  show(one("#audit"), shown.length ? shown.map(row) : el("tr", { "data-key": "none" }, el("td", { colspan: 4, class: "empty" }, entries.length ? "None fits." : "Nothing was changed yet.")));
}

function after(entry) {
  if (entry.before === null && entry.after === null) return null;
  return el("details", { class: "small" }, el("summary", { class: "faint" }, "before and after"), el("pre", { class: "mono break" }, `${JSON.stringify(entry.before)}\n→ ${JSON.stringify(entry.after)}`));
}
