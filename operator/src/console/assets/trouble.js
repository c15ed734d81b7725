// Rows of alerts and incidents, as several pages show them.

import { el } from "./dom.js";
import { when } from "./format.js";
import { stateMark } from "./words.js";

/** What is wrong: one row for each cause. */
export function alertRows(alerts) {
  if (!alerts?.length) return [el("li", { class: "empty" }, stateMark("up", "Nothing is wrong"))];
  return alerts.map((alert) =>
    el(
      "li",
      { "data-key": alert.key, class: "cause-box", "data-severity": alert.severity },
      el("div", { class: "line" }, el("span", { class: "what" }, alert.title), stateMark(alert.severity)),
      el("div", { class: "small soft break" }, alert.why),
      el("div", { class: "small faint" }, "since ", when(alert.since_ms), alert.affects?.length ? ` · affects ${alert.affects.join(", ")}` : "", alert.pages ? "" : " · calls nobody", alert.runbook ? ` · see docs/operations.md${alert.runbook}` : ""),
    ),
  );
}

/** Incidents, each with the way to it. */
export function incidentRows(incidents) {
  if (!incidents.length) return [el("li", { class: "empty" }, stateMark("up", "None is open"))];
  return incidents.map((incident) =>
    el(
      "li",
      { "data-key": incident.no },
      el("div", { class: "line" }, el("a", { class: "what", href: `/incidents/${incident.no}` }, `#${incident.no} ${incident.title}`), stateMark(incident.severity)),
      el("div", { class: "small soft" }, stateMark(incident.state), " · opened ", when(incident.opened_ms), incident.acknowledged_by ? ` · ${incident.acknowledged_by} sees to it` : ""),
    ),
  );
}
