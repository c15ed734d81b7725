// Incidents: those that are open, those that are over, and a new one by hand.

import { get, post, Refused } from "./api.js";
import { all, el, one, show, tell } from "./dom.js";
import { span, when } from "./format.js";
import { stateMark } from "./words.js";

const EVERY_MS = 10_000;

export async function begin(seat) {
  let chosen = "open";
  const said = one("#incidents-said");
  const ask = async () => {
    if (document.hidden) return;
    try {
      list(await get(`/v1/incidents${chosen ? `?state=${chosen}` : ""}`));
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(said, why.message, "bad");
    }
  };
  for (const button of all("[data-state-of]")) {
    button.addEventListener("click", () => {
      chosen = button.dataset.stateOf;
      for (const other of all("[data-state-of]")) other.setAttribute("aria-pressed", other === button);
      ask();
    });
  }
  seat.live.addEventListener("incident", ask);
  setInterval(ask, EVERY_MS);
  one("#open-incident").addEventListener("submit", (event) => {
    event.preventDefault();
    open(event.currentTarget, said);
  });
  await ask();
}

async function open(form, said) {
  const { title, severity, reason } = Object.fromEntries(new FormData(form));
  try {
    const incident = await post("/v1/incidents", { title, severity, reason });
    location.assign(`/incidents/${Number(incident.no)}`);
  } catch (why) {
    if (!(why instanceof Refused)) throw why;
    tell(said, why.message, "bad");
  }
}

/** One that is open for a moment yet, although its cause is gone, says so. */
function goneOr(state, incident) {
  return incident.recovered_ms && !incident.resolved_ms ? `${state}, its cause is gone` : state;
}

function list(incidents) {
  const row = (incident) => {
    const end = incident.resolved_ms ?? incident.recovered_ms;
    return el(
      "tr",
      { "data-key": incident.no },
      el("td", { class: "break" }, el("a", { href: `/incidents/${incident.no}` }, `#${incident.no} ${incident.title}`)),
      el("td", { "data-h": "state" }, stateMark(incident.state, goneOr(incident.state, incident))),
      el("td", { "data-h": "severity" }, stateMark(incident.severity, `${incident.severity} · grade ${incident.grade}`)),
      el("td", { "data-h": "opened" }, when(incident.opened_ms)),
      el("td", { class: "num", "data-h": "lasted" }, end ? span(end - incident.opened_ms) : "goes on"),
      el("td", { "data-h": "seen to by", class: "break" }, incident.acknowledged_by ?? "nobody yet"),
    );
  };
  show(one("#incidents"), incidents.length ? incidents.map(row) : el("tr", { "data-key": "none" }, el("td", { colspan: 6, class: "empty" }, "There is none.")));
}
