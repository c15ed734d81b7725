// A user: which devices are where, what they asked for, and why they were refused.

import { get, post, Refused } from "./api.js";
import { el, one, show, tell } from "./dom.js";
import { span, when } from "./format.js";
import { stateMark } from "./words.js";

export async function begin(seat) {
  const form = one("#find-user");
  const field = form.elements.namedItem("user");
  const find = async () => {
    const user = field.value.trim();
    if (!user) return;
    history.replaceState(null, "", seat.at(`/users?user=${encodeURIComponent(user)}`));
    await look(seat, user);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });
  one("#disconnect").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [text, how] = await disconnect(event.target);
    await look(seat, event.target.dataset.user);
    // After the look, which says something of its own.
    tell(one("#user-said"), text, how);
  });
  one("#sessions").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-device]");
    if (button) choose(button.dataset.user, button.dataset.device);
  });
  field.value = new URLSearchParams(location.search).get("user") ?? "";
  await find();
}

async function look(seat, user) {
  const said = one("#user-said");
  try {
    const view = await get(`/v1/users/${encodeURIComponent(user)}`);
    tell(said, view.silent.length ? `Did not answer, so what they hold is not shown: ${view.silent.join(", ")}` : "", "bad");
    one("#user").hidden = false;
    why(view);
    show(one("#sessions"), view.sessions.length ? view.sessions.map((session) => sessionRow(seat, view.user, session)) : el("li", { class: "empty" }, `${view.user} has no live session.`));
    show(one("#refusals"), view.refusals.length ? view.refusals.map(refusal) : el("tr", { "data-key": "none" }, el("td", { colspan: 7, class: "empty" }, "None is remembered.")));
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    one("#user").hidden = true;
    tell(said, refused.message, "bad");
  }
}

function why({ user, refusals }) {
  const [last] = refusals;
  const box = one("#why");
  if (!last) return show(box, el("p", { class: "soft" }, `${user} was not refused lately.`));
  const back = last.slot_at_ms ?? last.retry_at_ms;
  show(box, el("p", { class: "sentence" }, last.sentence, " ", el("span", { class: "soft" }, "(", when(last.at_ms), back ? ["; may come back ", when(back)] : "", ")")));
}

function sessionRow(seat, user, session) {
  const request = (one) => el("li", { class: "small" }, el("span", { class: "mono" }, one.protocol), ` ${one.class} · ${one.outcome} · `, when(one.at_ms));
  return el(
    "li",
    { "data-key": session.device },
    el("div", { class: "line" }, el("span", { class: "what mono" }, session.device), stateMark(session.connected ? "up" : "unknown", session.connected ? "Connected" : "Waits to be resumed")),
    el("div", { class: "small soft" }, `${session.app_state} · ${session.port} port of ${session.node} · since `, when(session.since_ms)),
    el("ul", {}, session.last.map(request)),
    seat.may("operator") ? el("div", {}, el("button", { type: "button", "data-user": user, "data-device": session.device }, "Disconnect…")) : null,
  );
}

function refusal(row) {
  return el(
    "tr",
    { "data-key": `${row.at_ms}/${row.node}/${row.what}` },
    el("td", {}, when(row.at_ms)),
    el("td", { "data-h": "what", class: "mono" }, row.what),
    el("td", { "data-h": "code", class: "mono" }, row.code),
    el("td", { "data-h": "class" }, row.class ?? "–"),
    el("td", { class: "num", "data-h": "level / cut" }, row.level === null ? "–" : `${row.level} / ${row.cut ?? "–"}`),
    el("td", { "data-h": "posture" }, stateMark(row.posture)),
    el("td", { class: "full break" }, row.sentence, row.slot_at_ms ? el("span", { class: "faint" }, ` Its slot was ${span(row.slot_at_ms - row.at_ms)} later.`) : null),
  );
}

function choose(user, device) {
  const form = one("#disconnect");
  form.hidden = false;
  form.dataset.user = user;
  form.dataset.device = device;
  show(one("#disconnect-what"), "Disconnect ", el("b", {}, user), " ", el("span", { class: "mono" }, device), ". The device may log in again; to revoke it, use the account.");
  form.elements.namedItem("reason").focus();
}

/** Ends the session of a device; what is to be said of it, and how. */
async function disconnect(form) {
  try {
    const { user, device } = form.dataset;
    const { silent } = await post(`/v1/users/${encodeURIComponent(user)}/disconnect`, { device, reason: form.elements.namedItem("reason").value.trim() });
    form.hidden = true;
    form.reset();
    return silent.length ? [`The device is disconnected; did not answer: ${silent.join(", ")}`, "bad"] : ["The device is disconnected.", "good"];
  } catch (why) {
    if (!(why instanceof Refused)) throw why;
    return [why.message, "bad"];
  }
}
