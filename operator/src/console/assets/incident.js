// One incident: where it stands, its timeline, and what people do about it.

import { get, post, Refused } from "./api.js";
import { all, el, one, say, show, tell } from "./dom.js";
import { clock, now, span, utc, when } from "./format.js";
import { stateMark } from "./words.js";

const STATES = ["detected", "declared", "handling", "resolved", "reviewed"];
const EVERY_MS = 5_000;

export async function begin(seat) {
  const no = Number(document.documentElement.dataset.no);
  const said = one("#incident-said");
  const put = (incident) => draw(incident, no);
  const ask = async () => {
    if (document.hidden) return;
    try {
      put(await get(`/v1/incidents/${no}`));
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(said, why.message, "bad");
    }
  };
  const change = async (what, body) => {
    try {
      put(await post(`/v1/incidents/${no}/${what}`, body));
      tell(said, "Done, and written into the audit.", "good");
      return true;
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(said, why.message, "bad");
      return false;
    }
  };
  for (const form of all("form[data-change]")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = Object.fromEntries(new FormData(form));
      if (body.duration_ms) body.duration_ms = Number(body.duration_ms);
      if (await change(form.dataset.change, body)) form.reset();
    });
  }
  seat.live.addEventListener("incident", ({ detail }) => detail.no === no && ask());
  setInterval(ask, EVERY_MS);
  await ask();
}

function draw(incident, no) {
  document.title = `#${no} ${incident.title} · Buslane`;
  say(one("#title"), `#${no} ${incident.title}`);
  const at = STATES.indexOf(incident.state);
  show(one("#steps"), STATES.map((state, index) => el("li", { class: index < at ? "done" : "", "aria-current": index === at ? "step" : null }, state)));
  const late = !incident.recovered_ms && now() > incident.expected_ms;
  const fact = (name, ...value) => [el("dt", {}, name), el("dd", {}, ...value)];
  show(
    one("#facts"),
    fact("Severity", stateMark(incident.severity), ` grade ${incident.grade}`),
    fact("About", el("span", { class: "mono" }, incident.key)),
    fact("Opened", when(incident.opened_ms), ` by ${incident.opened_by}`),
    fact("Recovered", incident.recovered_ms ? [when(incident.recovered_ms), ` after ${span(incident.recovered_ms - incident.opened_ms)}`] : ["not yet; expected ", when(incident.expected_ms), late ? el("b", {}, " — later than expected") : ""]),
    fact("Seen to by", incident.acknowledged_by ?? "nobody yet"),
    incident.told_by ? fact("Told by", `${incident.told_by.node}: it is incident ${incident.told_by.no} there`) : null,
    incident.silenced_until_ms ? fact("Silenced until", utc(incident.silenced_until_ms)) : null,
  );
  const entry = (line, index) =>
    el("li", { "data-kind": line.kind, "data-key": index }, el("div", { class: "small" }, clock(line.at_ms), " · ", when(line.at_ms), ` · ${line.author} · ${line.kind}`), el("div", {}, line.text));
  show(one("#timeline"), (incident.timeline ?? []).map(entry).reverse());
}
