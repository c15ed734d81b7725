// Colours and patterns of charts, read from the style sheet, so that dark and light have one home.

let known = new Map();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (known = new Map()));

/** A colour of the style sheet by its name. */
export function colour(name) {
  if (!known.has(name)) known.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return known.get(name);
}

/** What fills an area: its colour, with stripes where it is not served, so that it is told apart without colour. */
export function fill(context, name, stripes) {
  const key = `${name}/${stripes}`;
  if (!known.has(key)) known.set(key, stripes ? striped(colour(name), stripes) : colour(name));
  const found = known.get(key);
  return typeof found === "string" ? found : context.createPattern(found, "repeat");
}

const TILE = 12;

function striped(ink, stripes) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = TILE;
  const context = tile.getContext("2d");
  context.globalAlpha = 0.5;
  context.fillStyle = ink;
  context.fillRect(0, 0, TILE, TILE);
  context.globalAlpha = 1;
  context.strokeStyle = ink;
  context.lineWidth = 3;
  const stroke = (sign) => {
    context.beginPath();
    for (const at of [-TILE, 0, TILE]) {
      context.moveTo(at - 2, sign > 0 ? TILE + 2 : -2);
      context.lineTo(at + TILE + 2, sign > 0 ? -2 : TILE + 2);
    }
    context.stroke();
  };
  stroke(1);
  if (stripes === "cross") stroke(-1);
  return tile;
}

/** Shows in a legend what an area or a line looks like. */
export function swatch(canvas, series) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = 13 * scale;
  canvas.height = 11 * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  if (series.kind === "line") {
    context.strokeStyle = colour(series.colour);
    context.lineWidth = 2;
    context.setLineDash(series.dash ?? []);
    context.beginPath();
    context.moveTo(0, 5.5);
    context.lineTo(13, 5.5);
    context.stroke();
  } else {
    context.globalAlpha = series.kind === "range" ? 0.25 : 1;
    context.fillStyle = fill(context, series.colour, series.stripes);
    context.fillRect(0, 0, 13, 11);
  }
}
