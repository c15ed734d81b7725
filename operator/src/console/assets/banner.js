// The posture: what holds, why, since when, which order is in force and for how long.

import { get, post, Refused } from "./api.js";
import { el, one, say, show } from "./dom.js";
import { left, now, when } from "./format.js";
import { causeWords, glyph, POSTURES, stateMark, story } from "./words.js";

/** How often the node is asked while something is going on, and while nothing is. */
const BUSY_MS = 1_000;
const CALM_MS = 5_000;
/** How long the first press of two counts. */
const SURE_MS = 5_000;

export class Banner {
  #seat;
  #box = one("#posture");
  #shown = "";
  #view = null;
  #sample = null;
  #timer = 0;
  #sure_until = 0;
  #ending = false;

  constructor(seat) {
    this.#seat = seat;
    setInterval(() => this.#countdown(), 500);
    this.#box.addEventListener("click", (event) => {
      if (event.target.closest("[data-do=end]")) this.#end();
    });
    // The first painting is the node's own; it has no sign.
    this.#set(this.#box.dataset.posture);
  }

  /** What is in force, as the node said last. */
  get order() {
    return this.#view?.order ?? null;
  }

  onSample(sample) {
    const changed = this.#sample && this.#sample.posture !== sample.posture;
    const ordered = this.#sample?.order !== sample.order;
    this.#sample = sample;
    this.#set(sample.posture);
    say(one("[data-f=story]", this.#box), story(sample));
    if (changed || ordered) this.ask();
  }

  /** Asks the node for the cause and the order, and goes on asking. */
  async ask() {
    clearTimeout(this.#timer);
    if (!document.hidden) {
      try {
        this.#show(await get(this.#seat.at("/v1/posture")));
      } catch (why) {
        if (!(why instanceof Refused)) throw why;
      }
    }
    const busy = this.#view?.order || (this.#sample && this.#sample.posture !== "normal");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), busy ? BUSY_MS : CALM_MS);
  }

  /** What is heard of another node, where it cannot be asked itself. */
  onNode(view) {
    if (this.#view?.here?.node === this.#seat.node) return;
    say(one("[data-f=cause]", this.#box), view?.cause ? `${view.cause}.` : "");
  }

  #set(posture) {
    const known = POSTURES[posture] ? posture : "unknown";
    if (this.#shown === known) return;
    this.#shown = known;
    this.#box.dataset.posture = known;
    say(one("[data-f=word]", this.#box), POSTURES[known]?.word ?? "UNKNOWN");
    one("[data-f=glyph]", this.#box).replaceChildren(glyph(known));
    document.title = known === "normal" ? "Buslane" : `${POSTURES[known]?.word ?? "UNKNOWN"} · Buslane`;
  }

  #show(view) {
    this.#view = view;
    const mine = !this.#seat.node || view.here?.node === this.#seat.node;
    if (mine && view.here) {
      if (!this.#sample) this.#set(view.here.posture);
      show(one("[data-f=since]", this.#box), "since ", when(view.here.since_ms));
      say(one("[data-f=cause]", this.#box), this.#cause(view));
    }
    this.#inForce(view);
    this.#seat.dispatchEvent(new CustomEvent("posture", { detail: view }));
  }

  #cause({ here, order }) {
    const measured = causeWords(here.cause);
    if (order && here.order === order.id) {
      const without = POSTURES[here.measured]?.word ?? here.measured;
      return `Ordered by ${order.author}: “${order.reason}”. Without the order it would be ${without}.${measured ? ` ${measured}.` : ""}`;
    }
    if (measured) return `${measured}.`;
    return POSTURES[here.posture]?.means ?? "";
  }

  #inForce({ order, effective, coming }) {
    const box = one("[data-f=inforce]", this.#box);
    if (!order) {
      const next = coming?.[0];
      return show(box, next ? el("p", {}, "Next order: ", stateMark(next.kind === "emergency" ? "emergency" : "normal", next.kind), " ", when(next.from_ms)) : null);
    }
    const reach = effective ? `effective on ${effective.nodes} of ${effective.of} nodes${Number.isFinite(effective.after_ms) ? ` after ${effective.after_ms} ms` : ""}` : "";
    show(
      box,
      el("p", {}, "Order ", el("b", {}, order.kind.toUpperCase()), " ends in", el("span", { class: "countdown", id: "countdown", "data-until": order.until_ms }, left(order.until_ms - now()))),
      el("p", { class: effective && effective.nodes < effective.of ? "state" : "", "data-state": "down", id: "reach" }, reach),
      this.#seat.may("operator") ? el("button", { type: "button", "data-do": "end", disabled: this.#ending }, this.#isSure() ? "Press again to end it" : "End the order now") : null,
    );
  }

  #countdown() {
    const node = one("#countdown");
    if (!node) return;
    const rest = Number(node.dataset.until) - now();
    say(node, left(rest));
    if (rest < 0) this.ask();
  }

  #isSure() {
    return performance.now() < this.#sure_until;
  }

  /** The second press within a few seconds ends it. */
  async #end() {
    if (this.#ending || !this.#view) return;
    if (!this.#isSure()) {
      this.#sure_until = performance.now() + SURE_MS;
      return this.#inForce(this.#view);
    }
    this.#sure_until = 0;
    this.#ending = true;
    this.#inForce(this.#view);
    let refused = "";
    try {
      await post("/v1/orders", { kind: "automatic", reason: "ended on the console" });
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      refused = `The order was not ended: ${why.message}`;
    }
    this.#ending = false;
    await this.ask();
    if (refused) say(one("[data-f=cause]", this.#box), refused);
  }
}
