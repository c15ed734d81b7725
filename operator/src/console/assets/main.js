// Begins a page: who looks, which node is looked at, what the node pushes; then what this page has of its own.

import { Refused, whoami, post, get } from "./api.js";
import { all, el, one, say } from "./dom.js";
import { clock, now, span, tick } from "./format.js";
import { Live } from "./live.js";

const PAGES = {
  traffic: () => import("./traffic.js"),
  lanes: () => import("./lanes.js"),
  status: () => import("./status.js"),
  incidents: () => import("./incidents.js"),
  incident: () => import("./incident.js"),
  users: () => import("./users.js"),
  drills: () => import("./drills.js"),
  audit: () => import("./audit.js"),
};

/** How often the list of nodes is asked for. */
const NODES_MS = 5_000;

const ROLES = ["viewer", "operator", "admin"];

/** What every page is given. */
class Seat extends EventTarget {
  node = new URLSearchParams(location.search).get("node") ?? "";
  me = null;

  constructor() {
    super();
    this.live = new Live(this.node);
  }

  /** Whether who looks may do what this role may. */
  may(role) {
    return ROLES.indexOf(this.me?.role) >= ROLES.indexOf(role);
  }

  /** A path of the API for the node that is looked at. */
  at(path) {
    if (!this.node) return path;
    return `${path}${path.includes("?") ? "&" : "?"}node=${encodeURIComponent(this.node)}`;
  }
}

async function begin() {
  const page = document.documentElement.dataset.page;
  if (page === "login") return (await import("./login.js")).begin();
  const seat = new Seat();
  try {
    seat.me = await whoami();
  } catch (why) {
    if (!(why instanceof Refused)) throw why;
  }
  for (const node of all("[data-needs]")) node.hidden = !seat.may(node.dataset.needs);
  for (const node of all("[data-lacks]")) node.hidden = seat.may(node.dataset.lacks);
  leave(seat);
  keepTrue(seat);
  const { begin } = await PAGES[page]();
  await begin(seat);
  seat.live.start();
  nodes(seat);
}

/** The way out. */
function leave(seat) {
  const button = one("#leave");
  button.hidden = !seat.me || seat.me.how === "root";
  button.addEventListener("click", async () => {
    try {
      await post("/v1/logout");
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
    }
    location.assign("/login");
  });
}

/** Says how old everything on the page is, twice a second. */
function keepTrue(seat) {
  const mark = one("#live");
  const note = one("#stale");
  const words = { live: "live", slow: "asking", hidden: "paused", idle: "no traffic here" };
  let last_ms = now();
  seat.live.addEventListener("sample", (event) => (last_ms = event.detail.at_ms));
  seat.live.addEventListener("liveness", ({ detail: { state, silence_ms } }) => {
    mark.dataset.live = state;
    say(mark, words[state] ?? `no data ${span(silence_ms)}`);
    note.hidden = state !== "stale";
    if (state === "stale") {
      document.documentElement.dataset.stale = "";
      say(note, `No data for ${span(silence_ms)}. What is shown is from ${clock(last_ms)} and may be wrong.`);
    } else delete document.documentElement.dataset.stale;
    if (!document.hidden) tick();
  });
}

/** The nodes that can be looked at. */
async function nodes(seat) {
  const chooser = one("#node");
  const ask = async () => {
    if (!document.hidden) {
      try {
        const said = await get("/v1/nodes");
        seat.live.onWord();
        choices(chooser, seat, said);
        seat.dispatchEvent(new CustomEvent("nodes", { detail: said }));
      } catch (why) {
        if (!(why instanceof Refused)) throw why;
        seat.dispatchEvent(new CustomEvent("nodes", { detail: null }));
      }
    }
    setTimeout(ask, NODES_MS);
  };
  chooser.addEventListener("change", () => {
    const to = new URL(location.href);
    if (chooser.value) to.searchParams.set("node", chooser.value);
    else to.searchParams.delete("node");
    location.assign(to);
  });
  await ask();
}

function choices(chooser, seat, views) {
  const here = views.find((view) => view.here);
  const rows = views.filter((view) => !view.here).map((view) => ({ value: view.node, text: view.state === "up" ? view.node : `${view.node} (${view.state})` }));
  const wanted = [{ value: "", text: here ? `${here.node} (this one)` : "this one" }, ...rows];
  if (seat.node && !rows.some((row) => row.value === seat.node)) wanted.push({ value: seat.node, text: `${seat.node} (unknown)` });
  const same = wanted.length === chooser.options.length && wanted.every((row, at) => chooser.options[at].value === row.value && chooser.options[at].text === row.text);
  if (same) return;
  chooser.replaceChildren(...wanted.map(({ value, text }) => el("option", { value }, text)));
  chooser.value = seat.node;
}

begin();
