// Status: what can fail, who depends on whom, and the one that the others suffer from.

import { get, post, Refused } from "./api.js";
import { el, one, say, show, tell } from "./dom.js";
import { micros, when } from "./format.js";
import { draw } from "./graph.js";
import { alertRows } from "./trouble.js";
import { stateMark } from "./words.js";

const EVERY_MS = 5_000;

export async function begin(seat) {
  seat.live.addEventListener("status", ({ detail }) => all(detail));
  const ask = async () => {
    if (!document.hidden) {
      try {
        all(await get("/v1/status"));
        tell(one("#status-said"), "");
      } catch (why) {
        if (!(why instanceof Refused)) throw why;
        tell(one("#status-said"), why.message, "bad");
      }
    }
    setTimeout(ask, EVERY_MS);
  };
  one("#probe-now").addEventListener("click", (event) => probe(event.currentTarget));
  await ask();
}

function all(status) {
  say(one("#summary"), status.summary);
  show(one("#overall"), stateMark(status.state));
  show(one("#alerts"), alertRows(status.alerts));
  const titles = new Map(status.components.map((part) => [part.id, part.title]));
  draw(one("#graph"), status.components, titles);
  show(one("#components"), status.components.map((part) => row(part, titles)));
  probeView(status.probe);
}

function row(part, titles) {
  const why = part.affected_by ? `affected by ${titles.get(part.affected_by) ?? part.affected_by}${part.why ? `: ${part.why}` : ""}` : (part.why ?? "");
  return el(
    "tr",
    { "data-key": part.id },
    el("td", {}, el("b", {}, part.title), part.node ? el("span", { class: "faint" }, ` ${part.node}`) : null),
    el("td", { "data-h": "state" }, stateMark(part.state)),
    el("td", { class: "full break soft" }, why),
    el("td", { "data-h": "since" }, when(part.since_ms)),
    el("td", { "data-h": "needs", class: "faint" }, part.needs.map((id) => titles.get(id) ?? id).join(", ") || "nothing"),
  );
}

function probeView(probe) {
  if (!probe) return show(one("#probe"), el("p", { class: "empty" }, stateMark("unknown"), " No client of our own has gone through the system yet."));
  const step = (part) => el("li", {}, el("div", { class: "line" }, el("span", { class: "what" }, part.step), part.error ? stateMark("failed") : el("span", { class: "num" }, micros(part.took_us))), part.error ? el("div", { class: "small soft break" }, part.error) : null);
  show(one("#probe"), el("p", { class: "line" }, probe.ok ? stateMark("passed", "Went through") : stateMark("failed", "Did not get through"), " ", when(probe.at_ms)), el("ul", { class: "rows" }, probe.steps.map(step)));
}

async function probe(button) {
  button.disabled = true;
  tell(one("#status-said"), "A client goes through the system…");
  try {
    const said = await post("/v1/probe", { reason: "asked for on the console" });
    probeView(said);
    tell(one("#status-said"), "");
  } catch (why) {
    if (!(why instanceof Refused)) throw why;
    tell(one("#status-said"), why.message, "bad");
  }
  button.disabled = false;
}
