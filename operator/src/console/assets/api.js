// Talks to the API of the node that serves this page. Every refusal keeps the words of the node.

import { learnClock } from "./format.js";

const LIMIT_MS = 15_000;

/** Why the node said no, or that it said nothing (`status` 0). */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let csrf = null;

/** Who is logged in: {name, role, how, csrf, expires_ms}. */
export async function whoami() {
  const me = await get("/v1/whoami");
  csrf = me.csrf ?? null;
  return me;
}

/** Asks. */
export const get = (path) => ask(path, { method: "GET" });

/** Changes something. */
export async function post(path, body = {}, method = "POST") {
  const call = () =>
    ask(path, {
      method,
      headers: { "Content-Type": "application/json", ...(csrf ? { "X-Buslane-CSRF": csrf } : {}) },
      body: JSON.stringify(body),
    });
  try {
    return await call();
  } catch (why) {
    // The session was made anew in another tab.
    if (!(why instanceof Refused) || !/csrf/.test(why.code)) throw why;
    await whoami();
    return call();
  }
}

async function ask(path, how) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", redirect: "error", signal: AbortSignal.timeout(LIMIT_MS), ...how });
  } catch {
    throw new Refused(0, "unreachable", "The node does not answer. It may be down, or the way to it.");
  }
  if (answer.status === 401 && document.documentElement.dataset.page !== "login") {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  let said = null;
  try {
    said = await answer.json();
  } catch {
    if (answer.ok) return null;
  }
  if (!answer.ok) {
    const { code, message } = said?.error ?? {};
    throw new Refused(answer.status, code ?? "refused", message ?? `The node refused with status ${answer.status}.`);
  }
  const result = said && "result" in said ? said.result : said;
  learnClock(result?.now_ms);
  return result;
}
