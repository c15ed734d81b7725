"""The console in a browser: what an operator does with it, against a real server and in a real storm.

    python tests.py --buslane target/debug/buslane

Every test waits for what it expects, with a limit, and none sleeps. Exit code 77: there is no Chromium.
"""

import argparse
import re
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from server import Server, chromium

SKIPPED = 77
HERE = Path(__file__).parent
LOGINS_PER_S = 20
# What must stay text, wherever it is shown.
EVIL = "<img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>"
PAGES = ["/", "/lanes", "/status", "/incidents", "/users", "/drills", "/audit"]

expect.set_options(timeout=15_000)


class Console:
    """What the tests share."""

    def __init__(self, server: Server, browser: Browser):
        self.server = server
        self.browser = browser
        self.complaints: list[str] = []
        self.operator = self.context()

    def context(self, **how) -> BrowserContext:
        context = self.browser.new_context(base_url=self.server.url, viewport=how.pop("viewport", {"width": 1280, "height": 900}), **how)
        context.on("page", self.watch)
        return context

    def watch(self, page: Page) -> None:
        """Nothing may go wrong in any page: no exception, no breach of the content policy, no dialog."""
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"{page.url}: dialog {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda said: "Content Security Policy" in said.text and self.complaints.append(f"{page.url}: {said.text}"))

    def log_in(self, context: BrowserContext, token: str, path: str = "/") -> Page:
        page = context.new_page()
        page.goto(path)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda url: "/login" not in url)
        return page

    def page(self, path: str) -> Page:
        page = self.operator.new_page()
        page.goto(path)
        return page


def logs_in(console: Console) -> None:
    page = console.operator.new_page()
    page.goto("/audit")
    expect(page).to_have_url(re.compile(r"/login\?next="))
    page.get_by_label("Token").fill("no-such-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#login-said")).to_contain_text("token")
    page.get_by_label("Token").fill(console.server.token)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{console.server.url}/audit")
    page.goto("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    expect(page.locator("#posture [data-f=word]")).to_have_text("NORMAL")
    page.close()


def leads_nowhere_else(console: Console) -> None:
    # A browser leaves tabs out of addresses, and two slashes are another host.
    for wanted in ["/%09/evil.invalid/", "//evil.invalid/", "/%5Cevil.invalid/"]:
        context = console.context()
        page = context.new_page()
        page.goto(f"/login?next={wanted}")
        page.get_by_label("Token").fill(console.server.token)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{console.server.url}/")
        context.close()


def can_be_read_without_javascript(console: Console) -> None:
    state = console.operator.storage_state()
    context = console.context(java_script_enabled=False, storage_state=state)
    page = context.new_page()
    page.goto("/")
    expect(page.locator("#posture [data-f=word]")).to_have_text("NORMAL")
    expect(page.locator("[data-class=C1] [data-f=offered]")).to_have_text(re.compile(r"\d.*/s"))
    page.goto("/status")
    expect(page.locator("#components")).not_to_be_empty()
    context.close()


def shows_a_storm(console: Console) -> None:
    page = console.page("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    storm = console.server.storm(str(HERE / "storm.toml"))
    raised = re.compile("guard|emergency|recovery")
    expect(page.locator("#posture")).to_have_attribute("data-posture", raised, timeout=45_000)
    expect(page.locator("#posture [data-f=cause]")).not_to_be_empty()
    expect(page.locator("[data-class=C5] [data-f=deferred]")).to_have_text(re.compile(r"^[1-9]"), timeout=45_000)
    expect(page.locator("#posture [data-f=story]")).to_contain_text("Background asks for")
    expect(page).to_have_title(re.compile("GUARD|EMERGENCY|RECOVERY"))
    # It has been seen; its report is nobody's.
    storm.terminate()
    storm.wait(20)
    page.close()


def gives_an_order(console: Console) -> None:
    page = console.page("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    page.get_by_label("Why").fill(f"drill {EVIL}")
    page.get_by_label("For how long").select_option("10")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("EMERGENCY")
    give = page.get_by_role("button", name="Give the order")
    expect(give).to_be_disabled()
    page.get_by_label("to confirm").fill("EMERGENC")
    expect(give).to_be_disabled()
    # Another wish is another preview.
    page.get_by_label("Why").fill(f"a drill {EVIL}")
    expect(page.locator("#preview")).to_be_hidden()
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("to confirm").fill("emergency")
    give.click()
    expect(page.locator("#order-said")).to_contain_text("Effective on 1 of 1 nodes after")
    expect(page.locator("#posture")).to_have_attribute("data-posture", "emergency")
    expect(page.locator("#countdown")).to_have_text(re.compile(r"00:0\d"))
    expect(page.locator("#posture [data-f=cause]")).to_contain_text("a drill <img src=x")
    expect(page.locator("#countdown")).to_have_count(0, timeout=20_000)
    expect(page.locator("#posture [data-f=cause]")).not_to_contain_text("Ordered by")
    page.close()


def ends_an_order(console: Console) -> None:
    console.server.ask("/v1/orders", {"kind": "normal", "reason": "to be ended", "author": "kim", "duration_ms": 600_000})
    page = console.page("/")
    button = page.locator("#posture [data-do=end]")
    button.click()
    expect(button).to_contain_text("again")
    button.click()
    expect(page.locator("#countdown")).to_have_count(0)
    page.close()


def reads_the_audit(console: Console) -> None:
    page = console.page("/audit")
    expect(page.locator("#audit-whole")).to_contain_text("Whole")
    row = page.locator("#audit tr", has_text="a drill").filter(has_text="order.emergency")
    expect(row.first).to_contain_text("<img src=x onerror")
    page.get_by_label("Filter").fill("order.automatic")
    expect(page.locator("#audit tr").first).to_contain_text("ended on the console")
    page.close()


def a_viewer_cannot(console: Console) -> None:
    token = console.server.ask("/v1/tokens", {"name": "vera", "role": "viewer", "reason": "watches the screens at night"})["token"]
    context = console.context()
    page = console.log_in(context, token)
    expect(page.get_by_text("Orders need the role operator")).to_be_visible()
    expect(page.locator("#order")).to_be_hidden()
    # The page hides what the node forbids; the node forbids it all the same.
    status, said = page.evaluate(
        """async () => {
            const me = (await (await fetch("/v1/whoami")).json()).result;
            const answer = await fetch("/v1/orders", { method: "POST", body: JSON.stringify({ kind: "emergency", reason: "x", duration_ms: 1000 }),
              headers: { "Content-Type": "application/json", "X-Buslane-CSRF": me.csrf } });
            return [answer.status, await answer.text()];
        }"""
    )
    assert status == 403 and "operator" in said, (status, said)
    context.close()


def injected_scripts_do_nothing(console: Console) -> None:
    server = console.server
    server.run("room", "create", EVIL, "--as", "mallory")
    server.ask("/v1/marks", {"mark": "deploy", "text": EVIL})
    made = server.ask("/v1/incidents", {"title": f"Strange {EVIL}", "severity": "medium", "reason": EVIL})
    page = console.page(f"/incidents/{made['no']}")
    page.get_by_label("For the timeline").fill(EVIL)
    page.get_by_role("button", name="Write it down").click()
    expect(page.locator("#timeline li", has_text="note").first).to_contain_text("<script>window.hurt=1</script>")
    for path in [*PAGES, "/users?user=mallory", "/users?user=%3Cimg%20src%3Dx%20onerror%3Dwindow.hurt%3D1%3E", "/?node=%3Cscript%3Ewindow.hurt%3D1%3C/script%3E"]:
        page.goto(path)
        expect(page.locator("#live")).to_have_attribute("data-live", re.compile("."))
        assert page.evaluate("window.hurt") is None, f"a script ran on {path}"
        assert page.locator("main img[src=x], main script").count() == 0, path
    page.close()


def the_keyboard_suffices(console: Console) -> None:
    page = console.page("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    plot = page.locator("#chart-back [role=slider]")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".hint")).to_contain_text("asked for")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("served"))
    page.keyboard.press("Escape")
    expect(page.locator(".hint")).to_be_hidden()
    page.close()


def fits_a_phone(console: Console) -> None:
    context = console.context(viewport={"width": 390, "height": 844}, storage_state=console.operator.storage_state())
    page = context.new_page()
    for path in PAGES:
        page.goto(path)
        expect(page.locator("#live")).to_have_attribute("data-live", re.compile("."))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{path} is wider than a phone"
    context.close()


def says_when_it_is_stale(console: Console) -> None:
    page = console.page("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    console.server.freeze()
    try:
        expect(page.locator("#stale")).to_contain_text("No data for")
        expect(page.locator("#live")).to_have_attribute("data-live", "stale")
    finally:
        console.server.thaw()
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    expect(page.locator("#stale")).to_be_hidden()
    page.close()


def logs_out(console: Console) -> None:
    page = console.page("/")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login"))
    page.goto("/")
    expect(page).to_have_url(re.compile("/login"))
    page.close()


TESTS = [
    logs_in, leads_nowhere_else, can_be_read_without_javascript, shows_a_storm, gives_an_order, ends_an_order, reads_the_audit, a_viewer_cannot,
    injected_scripts_do_nothing, the_keyboard_suffices, fits_a_phone, says_when_it_is_stale, logs_out,
]  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--buslane", required=True)
    arguments.add_argument("--only", help="part of a test's name")
    chosen = arguments.parse_args()
    if chromium() is None:
        print("there is no Chromium: install the package chromium")
        return SKIPPED
    failed = 0
    server = Server(chosen.buslane, LOGINS_PER_S)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            console = Console(server, browser)
            for test in TESTS:
                if chosen.only and chosen.only not in test.__name__:
                    if test is logs_in:
                        console.log_in(console.operator, server.token).close()
                    continue
                began = time.monotonic()
                console.complaints.clear()
                try:
                    test(console)
                    assert not console.complaints, console.complaints
                    print(f"ok    {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
                except Exception as error:  # one failure must not hide the others
                    failed += 1
                    print(f"FAIL  {test.__name__}: {error}", flush=True)
                    for page in console.operator.pages:
                        page.close()
            browser.close()
        if failed:
            print(server.tail())
    finally:
        server.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
