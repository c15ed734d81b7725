// Strokes of a chart, and how samples fall apart into what is drawn in one: runs without a gap, stretches of one posture.

/** A straight line. */
export function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

/** A line through samples; broken where a value is not known. */
export function trace(context, run, of, x, y) {
  let drawing = false;
  context.beginPath();
  for (const sample of run) {
    const value = of(sample);
    if (!Number.isFinite(value)) drawing = false;
    else if (drawing) context.lineTo(x(sample.at_ms), y(value));
    else {
      context.moveTo(x(sample.at_ms), y(value));
      drawing = true;
    }
  }
  context.stroke();
}

/** Samples without a gap between them. */
export function split(samples, step_ms) {
  const runs = [];
  for (const sample of samples) {
    const last = runs.at(-1)?.at(-1);
    if (last && sample.at_ms - last.at_ms <= 2.5 * step_ms) runs.at(-1).push(sample);
    else runs.push([sample]);
  }
  return runs;
}

/** Stretches of one posture. */
export function stretches(run, step_ms) {
  const found = [];
  for (const sample of run) {
    const last = found.at(-1);
    if (last?.posture === sample.posture) last.to = sample.at_ms;
    else found.push({ posture: sample.posture, from: last?.to ?? sample.at_ms - step_ms, to: sample.at_ms });
  }
  return found;
}
