// Who depends on whom, drawn in columns: what is needed stands to the right of what needs it.

import { show, svg } from "./dom.js";
import { glyph } from "./words.js";

const WIDE = 188;
const HIGH = 50;
const GAP_X = 58;
const GAP_Y = 14;
/** A chain of needs longer than this is a circle. */
const DEPTH_MAX = 12;

/** Draws components into an svg element. */
export function draw(root, components, titles) {
  const known = new Map(components.map((part) => [part.id, part]));
  const columns = inColumns(components, known);
  const at = new Map();
  const tall = Math.max(1, ...columns.map((column) => column.length));
  columns.forEach((column, x) => {
    const top = ((tall - column.length) * (HIGH + GAP_Y)) / 2;
    column.forEach((part, y) => at.set(part.id, { x: 4 + x * (WIDE + GAP_X), y: 4 + top + y * (HIGH + GAP_Y) }));
  });
  const width = 8 + columns.length * WIDE + (columns.length - 1) * GAP_X;
  const height = 8 + tall * HIGH + (tall - 1) * GAP_Y;
  root.setAttribute("viewBox", `0 0 ${Math.max(width, 200)} ${height}`);
  const roots = new Set(components.map((part) => part.affected_by).filter(Boolean));
  show(root, edges(components, at, known), components.map((part) => box(part, at.get(part.id), roots, titles)));
}

function depth(part, known, seen = 0) {
  if (seen > DEPTH_MAX) return seen;
  const needed = part.needs.map((id) => known.get(id)).filter((other) => other && other !== part);
  return Math.max(0, ...needed.map((other) => 1 + depth(other, known, seen + 1)));
}

function inColumns(components, known) {
  const columns = [];
  for (const part of components) (columns[Math.min(DEPTH_MAX, depth(part, known))] ??= []).push(part);
  return columns.filter(Boolean).reverse();
}

/** Whether one needs another by way of its other needs: such a line is left out. */
function isImplied(part, id, known) {
  return part.affected_by !== id && part.needs.some((other) => other !== id && reaches(known.get(other), id, known));
}

function reaches(part, id, known, seen = 0) {
  if (!part || seen > DEPTH_MAX) return false;
  return part.needs.some((other) => other === id || reaches(known.get(other), id, known, seen + 1));
}

function edges(components, at, known) {
  return components.flatMap((part) =>
    part.needs.filter((id) => at.has(id) && !isImplied(part, id, known)).map((id) => {
      const from = at.get(part.id);
      const to = at.get(id);
      const [x1, y1, x2, y2] = [from.x + WIDE, from.y + HIGH / 2, to.x, to.y + HIGH / 2];
      const half = (x2 - x1) / 2;
      const hurts = part.affected_by === id;
      return svg("path", { class: `edge ${hurts ? "hurts" : ""}`, d: `M${x1} ${y1}C${x1 + half} ${y1} ${x2 - half} ${y2} ${x2} ${y2}` });
    }),
  );
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function box(part, { x, y }, roots, titles) {
  const isRoot = roots.has(part.id) && !part.affected_by;
  const under = part.affected_by ? `affected by ${titles.get(part.affected_by) ?? part.affected_by}` : isRoot ? "the cause" : (part.why ?? "");
  const sign = glyph(part.state);
  for (const [name, value] of Object.entries({ x: 10, y: 15, width: 20, height: 20 })) sign.setAttribute(name, value);
  return svg(
    "g",
    { transform: `translate(${x} ${y})`, class: isRoot ? "root" : part.affected_by ? "affected" : "", "data-state": part.state },
    svg("title", {}, `${part.title}: ${part.state}${part.why ? `, ${part.why}` : ""}${part.affected_by ? `, ${under}` : ""}`),
    svg("rect", { width: WIDE, height: HIGH, rx: 8 }),
    sign,
    svg("text", { class: "title", x: 38, y: under ? 22 : 30 }, short(part.title, 18)),
    under ? svg("text", { class: "under", x: 38, y: 38 }, short(under, 22)) : null,
  );
}
