// The order: what, why, for how long; what it would do; the word that confirms it; what became of it.
//
// Nothing is ordered without a preview of exactly these words: changing one of them takes the preview back.

import { post, Refused } from "./api.js";
import { all, el, one, say, show, tell } from "./dom.js";
import { clock, count } from "./format.js";
import { CLASSES, POSTURES, stateMark } from "./words.js";

/** Rows of the preview. */
const ROWS_MAX = 8;

export class OrderForm {
  #form = one("#order");
  #seen = null;
  #kind = "emergency";
  #done;

  /** `done` is called when an order was given. */
  constructor(done) {
    this.#done = done;
    for (const button of all("[data-kind]", this.#form)) button.addEventListener("click", () => this.#choose(button.dataset.kind));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#seen) this.#give();
      else this.#preview();
    });
    for (const name of ["reason", "duration"]) this.#field(name).addEventListener("input", () => this.#takeBack());
    this.#field("typed").addEventListener("input", () => this.#arm());
    one("[data-do=back]", this.#form).addEventListener("click", () => this.#takeBack());
    this.#choose("emergency");
  }

  #field(name) {
    return this.#form.elements.namedItem(name);
  }

  get #word() {
    return this.#kind.toUpperCase();
  }

  #choose(kind) {
    this.#kind = kind;
    for (const button of all("[data-kind]", this.#form)) button.setAttribute("aria-pressed", button.dataset.kind === kind);
    this.#takeBack();
  }

  #wish() {
    return { kind: this.#kind, reason: this.#field("reason").value.trim(), duration_ms: Number(this.#field("duration").value) * 1_000 };
  }

  #takeBack() {
    this.#seen = null;
    one("#preview", this.#form).hidden = true;
    one("#confirm", this.#form).hidden = true;
    one("#ask", this.#form).hidden = false;
    this.#field("typed").value = "";
    tell(one("#order-said"), "");
  }

  async #preview() {
    const said = one("#order-said");
    if (!this.#wish().reason) {
      tell(said, "Say why: those who read it at night need it.", "bad");
      return this.#field("reason").focus();
    }
    const wish = this.#wish();
    tell(said, "Asking what it would do…");
    try {
      const would = await post("/v1/orders", { ...wish, dry_run: true });
      this.#seen = wish;
      show(one("#preview", this.#form), ...this.#would(would));
      one("#preview", this.#form).hidden = false;
      one("#ask", this.#form).hidden = true;
      one("#confirm", this.#form).hidden = false;
      say(one("#type-word"), this.#word);
      tell(said, "");
      this.#arm();
      this.#field("typed").focus();
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(said, why.message, "bad");
    }
  }

  #would({ order, posture_now, posture_then, replaces, refuse }) {
    const more = (refuse ?? []).map((row) => ({ ...row, more: row.refused_then - row.refused_now })).filter((row) => row.more);
    more.sort((a, b) => Math.abs(b.more) - Math.abs(a.more));
    const shown = more.slice(0, ROWS_MAX).map((row) =>
      el("li", {}, el("span", {}, `${row.protocol} (${row.class} ${CLASSES[row.class] ?? ""})`), el("span", {}, `${row.more > 0 ? "+" : "−"}${count(Math.abs(row.more))} of ${count(row.offered)}/s`)),
    );
    const none = refuse ? "Of the requests of the last second none would be treated otherwise." : "What it would refuse is not known here: this process controls no load.";
    return [
      el("p", {}, el("b", {}, "If you give it: "), posture_now ? stateMark(posture_now) : "", posture_then ? [" → ", stateMark(posture_then)] : "", `, until ${clock(order.until_ms)}.`),
      replaces ? el("p", {}, `It takes the place of order ${POSTURES[replaces.kind]?.word ?? replaces.kind} by ${replaces.author}: “${replaces.reason}”.`) : null,
      shown.length ? [el("p", { class: "soft" }, "Refused more (+) or less (−), by the last second:"), el("ul", {}, shown)] : el("p", { class: "soft" }, none),
      more.length > ROWS_MAX ? el("p", { class: "faint" }, `and ${more.length - ROWS_MAX} more protocols`) : null,
    ];
  }

  #arm() {
    one("#give").disabled = this.#field("typed").value.trim().toUpperCase() !== this.#word;
  }

  async #give() {
    if (one("#give").disabled) return;
    one("#give").disabled = true;
    const said = one("#order-said");
    tell(said, "Ordering…");
    try {
      const { effective, not_kept } = await post("/v1/orders", this.#seen);
      const reason = this.#field("reason");
      this.#takeBack();
      reason.value = "";
      const all = effective && effective.nodes === effective.of;
      const reach = effective ? `Effective on ${effective.nodes} of ${effective.of} nodes${Number.isFinite(effective.after_ms) ? ` after ${effective.after_ms} ms` : ""}.` : "Given; it has not begun.";
      const lost = effective && !all ? " The others did not answer; they obey as soon as they hear of it." : "";
      tell(said, reach + lost + (not_kept ? ` It will not survive a restart: ${not_kept}` : ""), all || !effective ? "good" : "bad");
      this.#done();
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(said, why.message, "bad");
      this.#arm();
    }
  }
}
