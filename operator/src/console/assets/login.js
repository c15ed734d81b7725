// The way in: the token is sent once, in the body of a request, and is never kept by the page.

import { post, Refused } from "./api.js";
import { one, tell } from "./dom.js";

/** Only a page of this host is gone to; what the browser makes of a path is what counts. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  try {
    const to = new URL(wanted, location.origin);
    return to.origin === location.origin ? to.href : "/";
  } catch {
    return "/";
  }
}

export function begin() {
  const form = one("#login");
  const field = one("#token");
  const said = one("#login-said");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = one("button", form);
    button.disabled = true;
    tell(said, "Asking…");
    try {
      await post("/v1/login", { token: field.value.trim() });
      location.assign(next());
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      tell(said, why.message, "bad");
      field.select();
    } finally {
      button.disabled = false;
    }
  });
}
