// A certified OpenID Connect provider (npm `oidc-provider`) for the tests of the sign-in, on a port of its own.
//
//     node provider.mjs FOLDER-WITH-NODE_MODULES
//
// It prints its issuer, and begins to answer once it has read a line from its input: {"redirect_uri", "client_secret"}. Its own pages for
// development ask for a name and take any password.

import { createServer } from "node:http";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { default: Provider } = await import(pathToFileURL(resolve(join(process.argv[2], "node_modules/oidc-provider/lib/index.js"))));

const PEOPLE = {
  kim: { email: "kim@example.org", email_verified: true, groups: ["everybody", "oncall"] },
  vera: { preferred_username: "vera", groups: ["watchers"] },
  lee: { email: "lee@example.org", email_verified: true, groups: ["everybody"] },
};

let answer = (_, response) => response.writeHead(503).end();
const server = createServer((request, response) => answer(request, response));
server.listen(0, "127.0.0.1", () => {
  // Another site than 127.0.0.1, as a provider is one elsewhere.
  const issuer = `http://localhost:${server.address().port}`;
  console.log(issuer);
  createInterface({ input: process.stdin }).once("line", (line) => {
    const { redirect_uri, client_secret } = JSON.parse(line);
    const provider = new Provider(issuer, {
      clients: [{ client_id: "buslane", client_secret, redirect_uris: [redirect_uri], grant_types: ["authorization_code"], response_types: ["code"] }],
      claims: { email: ["email", "email_verified"], profile: ["preferred_username"], groups: ["groups"] },
      cookies: { keys: ["for tests"] },
      features: { devInteractions: { enabled: true } },
      findAccount: (_, id) => PEOPLE[id] && { accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) },
      pkce: { required: () => true },
    });
    answer = provider.callback();
    console.log("answers");
  });
});
