"""Signing in with a real OpenID Connect provider, in a browser, at a real server.

    python sign_in.py --buslane target/debug/buslane --node-modules FOLDER

The binary has the feature `oidc`; FOLDER is where `npm install` was run with package.json. Every test waits for what it expects, with a limit, and
none sleeps. Exit code 77: there is no Chromium or no Node.js.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from server import Server, chromium
from tests import Console

SKIPPED = 77
HERE = Path(__file__).parent
SECRET = "a secret for tests alone"
SETTINGS = """
[oidc]
name = "Test ID"
issuer = "%s"
client_id = "buslane"
client_secret_file = "%s"
scopes = ["email", "profile", "groups"]
[oidc.roles]
oncall = "operator"
watchers = "viewer"
"""


class Provider:
    """Runs until `stop`."""

    def __init__(self, node_modules: str):
        self.process = subprocess.Popen(
            ["node", str(HERE / "provider.mjs"), node_modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.issuer = self.process.stdout.readline().strip()
        assert self.issuer, "the provider did not start"

    def begin(self, redirect_uri: str) -> None:
        self.process.stdin.write(json.dumps({"redirect_uri": redirect_uri, "client_secret": SECRET}) + "\n")
        self.process.stdin.flush()
        # It warns of itself on the same output.
        assert any(line.strip() == "answers" for line in self.process.stdout), "the provider ended"

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class World(Console):
    """What the tests share."""

    provider: Provider

    def away(self, context: BrowserContext, path: str = "/") -> Page:
        """A page that was sent to the provider."""
        page = context.new_page()
        # The provider's own pages want a font from elsewhere.
        page.route("**/*", lambda route: route.continue_() if re.match(r"http://(localhost|127\.0\.0\.1):", route.request.url) else route.abort())
        # A provider that did not answer is not asked again for three seconds.
        deadline = time.monotonic() + 15
        while True:
            page.goto(path)
            page.get_by_role("link", name="Sign in with Test ID").click()
            page.wait_for_url(re.compile(rf"^{re.escape(self.provider.issuer)}/|failed="))
            if page.url.startswith(self.provider.issuer):
                return page
            assert time.monotonic() < deadline, page.url

    def sign_in(self, context: BrowserContext, name: str, path: str = "/") -> Page:
        page = self.away(context, path)
        page.locator("input[name=login]").fill(name)
        page.locator("input[name=password]").fill("any")
        page.get_by_role("button", name="Sign-in").click()
        page.get_by_role("button", name="Continue").click()
        return page


def tokens_work_before_the_provider_does(world: World) -> None:
    context = world.context()
    page = context.new_page()
    page.goto("/login")
    page.get_by_role("link", name="Sign in with Test ID").click()
    expect(page.locator("#login-said")).to_contain_text("does not answer")
    world.log_in(context, world.server.token).close()
    context.close()
    world.provider.begin(f"{world.server.url}/v1/login/oidc/callback")


def an_operator_signs_in(world: World) -> None:
    context = world.context()
    page = world.sign_in(context, "kim", "/audit")
    expect(page).to_have_url(f"{world.server.url}/audit", timeout=20_000)
    expect(page.locator(".who")).to_have_text("kim@example.org (operator)")
    expect(page.locator("#audit tr", has_text="page.login").filter(has_text="kim@example.org").first).to_be_visible()
    cookies = {cookie["name"]: cookie for cookie in context.cookies(world.server.url)}
    port = world.server.url.rsplit(":", 1)[1]
    session = cookies[f"buslane-{port}"]
    assert session["sameSite"] == "Strict" and session["httpOnly"], session
    assert f"buslane-{port}-sign-in" not in cookies, cookies
    page.goto("/")
    expect(page.locator("#order")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login"))
    context.close()


def a_viewer_sees_and_orders_nothing(world: World) -> None:
    context = world.context()
    page = world.sign_in(context, "vera")
    expect(page.locator(".who")).to_have_text("vera (viewer)", timeout=20_000)
    expect(page.get_by_text("Orders need the role operator")).to_be_visible()
    context.close()


def who_has_no_role_is_told_so(world: World) -> None:
    context = world.context()
    page = world.sign_in(context, "lee")
    expect(page.locator("#login-said")).to_contain_text("Your account has no role here", timeout=20_000)
    page.goto("/")
    expect(page).to_have_url(re.compile("/login"))
    context.close()


def a_state_counts_once_and_in_its_own_browser(world: World) -> None:
    context, other = world.context(), world.context()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = world.away(context)
    state = next(found[1] for url in reversed(asked) if (found := re.search(r"[?&]state=([^&]+)", url)))
    # Somebody is given a link with the state of another browser, or with one that was guessed.
    victim = other.new_page()
    for shown in ["guessed", state]:
        victim.goto(f"/v1/login/oidc/callback?state={shown}&code=guessed")
        expect(victim.locator("#login-said")).to_contain_text("This sign-in is over")
    # That has spent it: also the code that the provider gives now is of no use.
    page.locator("input[name=login]").fill("kim")
    page.locator("input[name=password]").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#login-said")).to_contain_text("This sign-in is over")
    assert any("/callback?" in url and "code=" in url for url in asked), "the provider gave no code"
    for browser in [context, other]:
        signed_in = [cookie["name"] for cookie in browser.cookies(world.server.url) if "sign-in" not in cookie["name"]]
        assert not signed_in, signed_in
        browser.close()


def who_says_no_is_back_at_the_login(world: World) -> None:
    context = world.context()
    page = world.away(context, "/lanes")
    page.get_by_role("link", name="[ Cancel ]").click()
    expect(page.locator("#login-said")).to_contain_text("Nobody was signed in")
    expect(page).to_have_url(re.compile(r"next=/lanes"))
    context.close()


def a_provider_that_is_gone_is_told_and_tokens_work(world: World) -> None:
    world.provider.stop()
    context = world.context()
    page = context.new_page()
    # What is known of it is believed for ten seconds: until then the browser itself would say that nobody is there.
    deadline = time.monotonic() + 30
    while "/login?failed=" not in context.request.get("/v1/login/oidc", max_redirects=0).headers["location"]:
        assert time.monotonic() < deadline, "it is believed to be there"
    page.goto("/login?next=/lanes")
    page.get_by_role("link", name="Sign in with Test ID").click()
    expect(page.locator("#login-said")).to_contain_text("does not answer")
    page.get_by_label("Token").fill(world.server.token)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{world.server.url}/lanes")
    context.close()


TESTS = [
    tokens_work_before_the_provider_does, an_operator_signs_in, a_viewer_sees_and_orders_nothing, who_has_no_role_is_told_so,
    a_state_counts_once_and_in_its_own_browser, who_says_no_is_back_at_the_login, a_provider_that_is_gone_is_told_and_tokens_work,
]  # fmt: skip


def run(world: World) -> int:
    failed = 0
    for test in TESTS:
        began = time.monotonic()
        world.complaints.clear()
        try:
            test(world)
            ours = [said for said in world.complaints if said.startswith(world.server.url)]
            assert not ours, ours
            print(f"ok    {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as error:  # one failure must not hide the others
            failed += 1
            print(f"FAIL  {test.__name__}: {error}", flush=True)
    return failed


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--buslane", required=True)
    arguments.add_argument("--node-modules", required=True)
    chosen = arguments.parse_args()
    if chromium() is None or shutil.which("node") is None:
        print("there is no Chromium or no Node.js: install the packages chromium and nodejs")
        return SKIPPED
    with tempfile.NamedTemporaryFile("w", prefix="buslane-secret-") as secret:
        secret.write(SECRET)
        secret.flush()
        provider = Provider(chosen.node_modules)
        server = None
        try:
            server = Server(chosen.buslane, 20, SETTINGS % (provider.issuer, secret.name))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
                world = World(server, browser)
                world.provider = provider
                failed = run(world)
                browser.close()
            if failed:
                print(server.tail())
        finally:
            provider.stop()
            if server:
                server.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
