// One chart: stacked areas, lines and ranges over time, with the posture as a band and marks for what people did.
//
// The picture is drawn once for each sample, and only while somebody looks; the cursor has a canvas of its own, so that moving
// it draws nothing anew. A gap in the samples is a gap in the picture.

import { el, say, show } from "./dom.js";
import { clock } from "./format.js";
import { colour, fill, swatch } from "./paint.js";
import { line, split, stretches, trace } from "./strokes.js";
import { roundUp, timeTicks, valueTicks } from "./scale.js";
import { markOf, POSTURES } from "./words.js";

const LEFT = 46;
const RIGHT = 6;
const BOTTOM = 18;
const BAND = 18;
const FONT = "11px -apple-system, 'Segoe UI', Roboto, Cantarell, 'Noto Sans', 'Liberation Sans', Arial, sans-serif";
const TONES = { normal: "good", guard: "deferred", emergency: "refused", recovery: "served" };

export class Chart {
  #plot;
  #picture = el("canvas", { "aria-hidden": "true" });
  #cursor = el("canvas", { "aria-hidden": "true" });
  #legend = el("ul", { class: "legend" });
  #outputs = new Map();
  #series = [];
  #window = null;
  #size = { width: 0, height: 0, scale: 1 };

  /** `what`: {title, unit, series, size: "hero" | "small", band: whether the posture is named, marks}. */
  constructor(figure, board, what) {
    this.board = board;
    this.what = what;
    this.#plot = el("div", {
      class: `plot ${what.size ?? ""}`, tabindex: 0, role: "slider", "aria-label": `${what.title}, over time`,
      "aria-orientation": "horizontal", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 100,
    }, this.#picture, this.#cursor);
    figure.replaceChildren(el("figcaption", {}, el("b", {}, what.title), this.#legend), this.#plot);
    this.use(what.series);
    this.#listen();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.use(this.#series));
    new ResizeObserver(() => this.#onSize()).observe(this.#plot);
  }

  /** Shows other series: [{label, colour, stripes, kind: "area" | "line" | "range", of: sample => number | [number, number]}]. */
  use(series) {
    this.#series = series;
    this.#outputs.clear();
    const items = series.map((one) => {
      const output = el("output", {}, "–");
      const ink = el("canvas", { "aria-hidden": "true" });
      this.#outputs.set(one, output);
      swatch(ink, one);
      return el("li", {}, ink, one.label, one.kind === "range" ? null : output);
    });
    this.#legend.replaceChildren(...items);
    this.draw();
  }

  /** Draws the picture anew. */
  draw() {
    const { width, height } = this.#size;
    const { samples, from_ms, to_ms, step_ms } = this.board;
    this.#readout(samples.at(-1));
    if (!width || !height || document.hidden) return;
    const top = roundUp(this.#highest(samples) * 1.06);
    const head = this.what.band ? BAND + 4 : 6;
    const area = { left: LEFT, right: width - RIGHT, top: head, bottom: height - BOTTOM };
    const x = (at) => area.left + ((at - from_ms) / (to_ms - from_ms)) * (area.right - area.left);
    const y = (value) => area.bottom - (Math.min(value, top) / top) * (area.bottom - area.top);
    this.#window = { area, x, y, top };
    const context = this.#ready(this.#picture);
    this.#grid(context, top);
    const runs = split(samples, step_ms);
    this.#postures(context, runs);
    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left, area.bottom + 1);
    context.clip();
    for (const run of runs) this.#run(context, run);
    context.restore();
    if (this.what.marks) this.#marks(context);
    this.point();
  }

  /** Draws the cursor where the board has it. */
  point() {
    if (!this.#window) return;
    const context = this.#ready(this.#cursor);
    const sample = this.board.pointed;
    this.#readout(sample ?? this.board.samples.at(-1));
    if (!sample) return;
    const { x, y, area } = this.#window;
    const at = Math.round(x(sample.at_ms)) + 0.5;
    context.strokeStyle = colour("soft");
    context.beginPath();
    context.moveTo(at, area.top);
    context.lineTo(at, area.bottom);
    context.stroke();
    for (const one of this.#series) {
      const value = one.kind === "line" ? one.of(sample) : null;
      if (!Number.isFinite(value)) continue;
      context.fillStyle = colour(one.colour);
      context.beginPath();
      context.arc(at, y(value), 3, 0, 7);
      context.fill();
    }
  }

  #readout(sample) {
    for (const [one, output] of this.#outputs) {
      const value = sample ? one.of(sample) : NaN;
      say(output, Number.isFinite(value) ? this.what.unit(value) : "–");
    }
  }

  #highest(samples) {
    let most = this.what.least ?? 1;
    for (const sample of samples) {
      let stacked = 0;
      for (const one of this.#series) {
        const value = one.of(sample);
        if (one.kind === "area") stacked += value || 0;
        else most = Math.max(most, (Array.isArray(value) ? value[1] : value) || 0);
      }
      most = Math.max(most, stacked);
    }
    return most;
  }

  #grid(context, top) {
    const { area, x, y } = this.#window;
    context.font = FONT;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const value of valueTicks(top, this.what.size === "hero" ? 4 : 2)) {
      const at = Math.round(y(value)) + 0.5;
      context.strokeStyle = colour(value ? "grid" : "line-strong");
      line(context, area.left, at, area.right, at);
      context.fillStyle = colour("faint");
      context.fillText(value ? this.what.unit(value) : "0", area.left - 6, at);
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    const most = Math.max(2, Math.floor((area.right - area.left) / 78));
    for (const at of timeTicks(this.board.from_ms, this.board.to_ms, most)) {
      const place = Math.round(x(at)) + 0.5;
      if (place < area.left + 14 || place > area.right - 16) continue;
      context.strokeStyle = colour("grid");
      line(context, place, area.top, place, area.bottom);
      context.fillText(clock(at).slice(0, 5), place, area.bottom + 13);
    }
  }

  #postures(context, runs) {
    const { area, x } = this.#window;
    for (const run of runs) {
      for (const { posture, from, to } of stretches(run, this.board.step_ms)) {
        const left = Math.max(area.left, x(from));
        const width = Math.min(area.right, x(to)) - left;
        if (width <= 0) continue;
        context.fillStyle = colour(TONES[posture] ?? "faint");
        if (posture !== "normal") {
          context.globalAlpha = 0.13;
          context.fillRect(left, area.top, width, area.bottom - area.top);
        }
        if (!this.what.band) continue;
        context.globalAlpha = posture === "normal" ? 0.22 : 0.92;
        context.fillRect(left, 0, Math.max(1, width - 1), BAND - 3);
        context.globalAlpha = 1;
        this.#name(context, POSTURES[posture]?.word ?? posture, left, width, posture);
      }
      context.globalAlpha = 1;
    }
  }

  #name(context, word, left, width, posture) {
    context.font = `600 ${FONT}`;
    if (context.measureText(word).width + 10 > width) return;
    context.fillStyle = posture === "normal" ? colour("ink") : "#10161c";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(word, left + 5, (BAND - 3) / 2 + 0.5);
    context.textBaseline = "alphabetic";
  }

  #run(context, run) {
    const { x, y } = this.#window;
    const base = new Float64Array(run.length);
    for (const one of this.#series) {
      if (one.kind === "area") this.#area(context, run, base, one);
    }
    for (const one of this.#series) {
      if (one.kind === "range") this.#range(context, run, one);
      if (one.kind !== "line") continue;
      context.strokeStyle = colour(one.colour);
      context.lineWidth = one.width ?? 1.6;
      context.setLineDash(one.dash ?? []);
      context.lineJoin = "round";
      trace(context, run, (sample) => one.of(sample), x, y);
      context.setLineDash([]);
    }
  }

  #area(context, run, base, one) {
    const { x, y } = this.#window;
    context.beginPath();
    run.forEach((sample, at) => context.lineTo(x(sample.at_ms), y(base[at] + (one.of(sample) || 0))));
    for (let at = run.length - 1; at >= 0; at -= 1) context.lineTo(x(run[at].at_ms), y(base[at]));
    context.closePath();
    context.fillStyle = fill(context, one.colour, one.stripes);
    context.fill();
    run.forEach((sample, at) => (base[at] += one.of(sample) || 0));
  }

  #range(context, run, one) {
    const { x, y } = this.#window;
    const known = run.filter((sample) => one.of(sample));
    if (!known.length) return;
    context.beginPath();
    for (const sample of known) context.lineTo(x(sample.at_ms), y(one.of(sample)[1]));
    for (const sample of known.toReversed()) context.lineTo(x(sample.at_ms), y(one.of(sample)[0]));
    context.closePath();
    context.globalAlpha = 0.22;
    context.fillStyle = colour(one.colour);
    context.fill();
    context.globalAlpha = 1;
  }

  #marks(context) {
    const { area, x } = this.#window;
    context.font = `700 ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const happening of this.board.happenings) {
      const mark = markOf(happening);
      const at = Math.round(x(happening.at_ms)) + 0.5;
      if (!mark?.letter || at < area.left || at > area.right) continue;
      context.strokeStyle = colour("ink");
      context.setLineDash([3, 3]);
      line(context, at, area.top, at, area.bottom);
      context.setLineDash([]);
      context.fillStyle = colour("ink");
      context.beginPath();
      context.arc(at, area.top + 9, 8, 0, 7);
      context.fill();
      context.fillStyle = colour("sheet");
      context.fillText(mark.letter, at, area.top + 9.5);
    }
    context.textBaseline = "alphabetic";
  }

  #ready(canvas) {
    const { width, height, scale } = this.#size;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  #onSize() {
    const { width, height } = this.#plot.getBoundingClientRect();
    this.#size = { width, height, scale: window.devicePixelRatio || 1 };
    this.draw();
  }

  #listen() {
    const plot = this.#plot;
    plot.addEventListener("pointermove", (event) => {
      if (!this.#window) return;
      const { area } = this.#window;
      const share = (event.clientX - plot.getBoundingClientRect().left - area.left) / (area.right - area.left);
      this.board.pointAt(share, this);
    });
    plot.addEventListener("pointerleave", () => this.board.pointAway());
    plot.addEventListener("blur", () => this.board.pointAway());
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
      if (event.key === "Escape") this.board.pointAway();
      if (step === undefined) return;
      event.preventDefault();
      this.board.pointBy(step, this);
    });
  }

  /** Shows beside the cursor what holds there. */
  hint(box, sample, marks) {
    if (!this.#window) return;
    const rows = this.#series.map((one) => {
      const value = one.of(sample);
      const said = Array.isArray(value) ? value.map((end) => this.what.unit(Math.max(0, end))).join(" – ") : Number.isFinite(value) ? this.what.unit(value) : "–";
      return [el("dt", {}, one.label), el("dd", {}, said)];
    });
    const head = `${clock(sample.at_ms)} · ${POSTURES[sample.posture]?.word ?? sample.posture}`;
    show(box, el("p", {}, head), el("dl", {}, rows), marks.map((text) => el("div", {}, text)));
    if (box.parentNode !== this.#plot) this.#plot.append(box);
    box.hidden = false;
    const place = this.#window.x(sample.at_ms);
    const width = box.offsetWidth;
    box.style.left = `${place + width + 14 > this.#size.width ? Math.max(0, place - width - 12) : place + 12}px`;
    const index = this.board.samples.indexOf(sample);
    const of = Math.max(1, this.board.samples.length - 1);
    this.#plot.setAttribute("aria-valuenow", Math.round((index / of) * 100));
    this.#plot.setAttribute("aria-valuetext", [head, ...rows.map(([name, value]) => `${name.textContent} ${value.textContent}`), ...marks].join(", "));
  }
}
