// What all charts of a page share: the samples, the window of time, and the cursor.

import { get } from "./api.js";
import { el } from "./dom.js";
import { now } from "./format.js";
import { markOf } from "./words.js";

/** Stretches that can be shown. */
export const SPANS = { "10m": 600_000, "3h": 10_800_000, "24h": 86_400_000 };

/** The least that is shown. */
const YOUNG_MS = 60_000;

/** Marks that are kept. */
const HAPPENINGS_MAX = 500;

/** A stretch is not fetched again sooner, however often the stream breaks. */
const MEND_MS = 10_000;

export class Board {
  samples = [];
  happenings = [];
  step_ms = 1_000;
  pointed = null;
  #span = "10m";
  #node;
  #charts = [];
  #hint = el("div", { class: "hint", hidden: true });
  #asked = 0;
  #holder = null;
  #mendable = 0;

  constructor(node) {
    this.#node = node;
  }

  add(chart) {
    this.#charts.push(chart);
  }

  get to_ms() {
    return Math.max(now(), this.samples.at(-1)?.at_ms ?? 0);
  }

  get from_ms() {
    // A node that is young fills the picture with what there is.
    const first = (this.samples[0]?.at_ms ?? 0) - this.step_ms;
    return Math.max(this.to_ms - SPANS[this.#span], Math.min(first, this.to_ms - YOUNG_MS));
  }

  /** Fetches a stretch; the one that was asked for last wins. */
  async load(span = this.#span) {
    this.#span = span;
    const turn = (this.#asked += 1);
    const query = this.#node ? `&node=${encodeURIComponent(this.#node)}` : "";
    const view = await get(`/v1/traffic?span=${span}${query}`);
    if (turn !== this.#asked) return;
    this.samples = view.samples;
    this.happenings = view.happenings;
    this.step_ms = view.step_ms;
    this.pointAway();
    this.draw();
  }

  /** Takes a second. Longer stretches have longer steps: they are fetched again when one is over. */
  onSample(sample) {
    const last = this.samples.at(-1);
    if (last && sample.at_ms <= last.at_ms) return;
    if (this.step_ms > sample.span_ms * 1.5) {
      if (last && sample.at_ms - last.at_ms > 2 * this.step_ms) this.load().catch(() => {});
      return;
    }
    // After a break of the stream what lies between is fetched.
    if (last && sample.at_ms - last.at_ms > 2.5 * this.step_ms) this.#mend();
    this.samples.push(sample);
    while (this.samples.length && this.samples[0].at_ms < this.to_ms - SPANS[this.#span] - this.step_ms) this.samples.shift();
    this.draw();
  }

  #mend() {
    if (performance.now() < this.#mendable) return;
    this.#mendable = performance.now() + MEND_MS;
    this.load().catch(() => {});
  }

  onHappening(happening) {
    this.happenings.push(happening);
    if (this.happenings.length > HAPPENINGS_MAX) this.happenings.shift();
  }

  draw() {
    for (const chart of this.#charts) chart.draw();
    if (this.pointed) this.#hold();
  }

  /** Puts the cursor at a share of the window. */
  pointAt(share, chart) {
    if (!this.samples.length) return;
    const wanted = this.from_ms + share * (this.to_ms - this.from_ms);
    this.#point(this.samples.reduce((best, sample) => (Math.abs(sample.at_ms - wanted) < Math.abs(best.at_ms - wanted) ? sample : best)), chart);
  }

  /** Moves the cursor by samples. */
  pointBy(step, chart) {
    if (!this.samples.length) return;
    const at = this.pointed ? this.samples.indexOf(this.pointed) : this.samples.length;
    this.#point(this.samples[Math.min(this.samples.length - 1, Math.max(0, at + step))], chart);
  }

  pointAway() {
    if (!this.pointed) return;
    this.pointed = null;
    this.#hint.hidden = true;
    for (const chart of this.#charts) chart.point();
  }

  #point(sample, chart) {
    this.pointed = sample;
    this.#holder = chart;
    for (const other of this.#charts) other.point();
    this.#hold();
  }

  #hold() {
    if (!this.samples.includes(this.pointed)) return this.pointAway();
    const near = this.#near(this.pointed.at_ms);
    this.#holder?.hint(this.#hint, this.pointed, near);
  }

  #near(at_ms) {
    const reach_ms = Math.max(this.step_ms, SPANS[this.#span] / 120);
    const close = this.happenings.filter((one) => Math.abs(one.at_ms - at_ms) <= reach_ms);
    return close.slice(-4).map(markOf).filter(Boolean).map((mark) => mark.text);
  }
}
