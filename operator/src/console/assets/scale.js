// Axes: round numbers for values, round times for the time.

const STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/** The least round number that is not under a value. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.map((step) => step * power).find((step) => step >= value * 0.9999) ?? 10 * power;
}

/** Values at which lines are drawn, from 0 to a round top. */
export function valueTicks(top, lines) {
  return Array.from({ length: lines + 1 }, (_, at) => (top * at) / lines);
}

const MINUTE = 60_000;
const TIMES = [MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 180 * MINUTE, 360 * MINUTE];

/** Times at which lines are drawn: round ones of this place's day, at most `most`. */
export function timeTicks(from_ms, to_ms, most) {
  const step = TIMES.find((step) => (to_ms - from_ms) / step <= most) ?? TIMES.at(-1);
  const zone_ms = new Date(to_ms).getTimezoneOffset() * MINUTE;
  const ticks = [];
  for (let at = Math.ceil((from_ms - zone_ms) / step) * step + zone_ms; at <= to_ms; at += step) ticks.push(at);
  return ticks;
}
