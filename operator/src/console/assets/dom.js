// Making and changing what is on the page. Whatever comes from outside becomes text here and nothing else: there is no
// innerHTML anywhere, and no attribute that runs anything.

const SVG = "http://www.w3.org/2000/svg";

function made(node, facts, inside) {
  for (const [name, value] of Object.entries(facts ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on") || name === "style" || name === "srcdoc") throw new Error(`not an attribute here: ${name}`);
    node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const part of inside.flat(2)) {
    if (part === undefined || part === null || part === false) continue;
    node.append(part instanceof Node ? part : document.createTextNode(String(part)));
  }
  return node;
}

/** An element: el("td", {class: "num"}, "12", el("b", {}, "x")). */
export const el = (tag, facts, ...inside) => made(document.createElement(tag), facts, inside);

/** An element of a drawing. */
export const svg = (tag, facts, ...inside) => made(document.createElementNS(SVG, tag), facts, inside);

/** The first element that fits. */
export const one = (selector, from = document) => from.querySelector(selector);

/** All that fit. */
export const all = (selector, from = document) => [...from.querySelectorAll(selector)];

/** Sets a text where it is another, so that nothing is drawn or read aloud again for nothing. */
export function say(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

/** Says how something went, beside a form. */
export function tell(node, text, how = "") {
  node.dataset.how = how;
  say(node, text);
}

/** Makes the children of an element these, and keeps those that are the same already: focus and selection stay. */
export function show(parent, ...wanted) {
  if (!parent) return;
  const next = wanted.flat(2).filter((part) => part !== undefined && part !== null && part !== false);
  next.forEach((part, at) => {
    const node = part instanceof Node ? part : document.createTextNode(String(part));
    const old = parent.childNodes[at];
    if (!old) parent.append(node);
    else if (!become(old, node)) old.replaceWith(node);
  });
  while (parent.childNodes.length > next.length) parent.lastChild.remove();
}

function become(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) return false;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return true;
  }
  if (old.dataset?.key !== next.dataset?.key) return false;
  // What a reader has opened stays open.
  const isKept = (name) => next.hasAttribute(name) || (name === "open" && old.nodeName === "DETAILS");
  for (const { name } of [...old.attributes]) if (!isKept(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  show(old, [...next.childNodes]);
  return true;
}
