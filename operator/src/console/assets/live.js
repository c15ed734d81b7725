// What the node pushes: samples, happenings, status, incidents. It knows how old the last word is, and says so: a page that
// shows old figures as if they were new is worse than none.

import { get, Refused } from "./api.js";
import { learnClock } from "./format.js";

/** Without a sample for so long the page is stale. */
const STALE_MS = 3_000;
/** Without any answer for so long, where nothing is measured. */
const IDLE_MS = 12_000;
/** How often the node is asked where it does not push. */
const POLL_MS = 2_000;
/** After a refused stream it is tried again. */
const AGAIN_MS = 10_000;
/** A page that nobody looks at gives its connection back: browsers have six for a host. */
const HIDDEN_MS = 20_000;
/** How often a hidden page asks, so that its title stays true. */
const HIDDEN_POLL_MS = 15_000;

const KINDS = ["hello", "sample", "status", "happening", "incident"];

export class Live extends EventTarget {
  #node;
  #source = null;
  #heard = performance.now();
  #polling = false;
  #timer = 0;
  #hidden = 0;
  #measures = true;

  constructor(node) {
    super();
    this.#node = node;
  }

  start() {
    this.#open();
    setInterval(() => this.#look(), 500);
    document.addEventListener("visibilitychange", () => this.#onVisible());
  }

  /** How long nothing was heard, milliseconds. */
  get silence_ms() {
    return performance.now() - this.#heard;
  }

  /** A process that measures nothing is alive while it answers anything. */
  onWord() {
    if (!this.#measures) this.#heard = performance.now();
  }

  #open() {
    clearTimeout(this.#timer);
    this.#close();
    const query = this.#node ? `?node=${encodeURIComponent(this.#node)}` : "";
    const source = new EventSource(`/v1/live${query}`);
    this.#source = source;
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.#on(kind, event.data));
    source.onopen = () => (this.#polling = false);
    source.onerror = () => {
      // A browser comes back by itself after a broken connection, and gives up after a refusal.
      if (source.readyState === EventSource.CLOSED) this.#pollInstead();
    };
  }

  #close() {
    this.#source?.close();
    this.#source = null;
  }

  #on(kind, data) {
    let said;
    try {
      said = JSON.parse(data);
    } catch {
      return;
    }
    if (kind === "hello") {
      learnClock(said.now_ms);
      // A process that controls no load measures none.
      this.#measures = said.sample !== null;
      this.onWord();
      said = said.sample;
    }
    if (kind === "hello" || kind === "sample") return said && this.#onSample(said);
    // Of another node only the traffic is shown: its status and its incidents are those that it sees, and these are asked for here.
    if (this.#node && (kind === "status" || kind === "incident")) return;
    this.dispatchEvent(new CustomEvent(kind, { detail: said }));
  }

  #onSample(sample) {
    if (!Array.isArray(sample.classes)) return;
    this.#heard = performance.now();
    this.#measures = true;
    learnClock(sample.at_ms);
    this.dispatchEvent(new CustomEvent("sample", { detail: sample }));
  }

  #pollInstead() {
    this.#close();
    this.#polling = true;
    const until = performance.now() + AGAIN_MS;
    const next = async () => {
      await this.#poll();
      if (!this.#polling || document.hidden) return;
      if (performance.now() > until) this.#open();
      else this.#timer = setTimeout(next, POLL_MS);
    };
    this.#timer = setTimeout(next, POLL_MS);
  }

  async #poll() {
    const query = this.#node ? `&node=${encodeURIComponent(this.#node)}` : "";
    try {
      const view = await get(`/v1/traffic?span=1m${query}`);
      const last = view.samples.at(-1);
      if (last && view.now_ms - last.at_ms < STALE_MS) this.#onSample(last);
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
    }
  }

  #look() {
    const limit_ms = this.#measures ? (this.#polling ? STALE_MS + POLL_MS : STALE_MS) : IDLE_MS;
    const word = this.#measures ? (this.#polling ? "slow" : "live") : "idle";
    const state = document.hidden ? "hidden" : this.silence_ms > limit_ms ? "stale" : word;
    this.dispatchEvent(new CustomEvent("liveness", { detail: { state, silence_ms: this.silence_ms } }));
  }

  #onVisible() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => {
        this.#close();
        this.#polling = false;
        clearTimeout(this.#timer);
        const ask = async () => {
          await this.#poll();
          if (document.hidden) this.#hidden = setTimeout(ask, HIDDEN_POLL_MS);
        };
        ask();
      }, HIDDEN_MS);
    } else if (!this.#source) {
      this.#open();
      this.dispatchEvent(new CustomEvent("back"));
    }
  }
}
