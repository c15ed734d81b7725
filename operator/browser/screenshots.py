"""Makes the pictures of the documentation from a live storm.

    python screenshots.py --buslane target/release/buslane --out docs/images
"""

import argparse
import re
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from server import Server, chromium

# The storm is at its height for so long before the pictures are taken.
AFTER_MS = 9_000

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
# Name, path, size, colours.
PICTURES = [
    ("console", "/", DESKTOP, "light"),
    ("console-dark", "/", DESKTOP, "dark"),
    ("console-phone", "/", PHONE, "light"),
    ("console-phone-dark", "/", PHONE, "dark"),
    ("console-lanes", "/lanes", DESKTOP, "light"),
    ("console-status", "/status", DESKTOP, "light"),
    ("console-incidents", "/incidents", DESKTOP, "light"),
    ("console-audit", "/audit", DESKTOP, "light"),
]


def log_in(browser: Browser, server: Server) -> dict:
    """The state of a browser that is logged in."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Token").fill(server.token)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/login" not in url)
    state = context.storage_state()
    context.close()
    return state


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--buslane", required=True)
    arguments.add_argument("--out", required=True, type=Path)
    arguments.add_argument("--scenario", default="demo")
    arguments.add_argument("--logins-per-s", default=60, type=int)
    chosen = arguments.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    server = Server(chosen.buslane, chosen.logins_per_s)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            state = log_in(browser, server)
            server.ask("/v1/marks", {"mark": "deploy", "text": "gateway 1.4.2", "author": "kim"})
            storm = server.storm(chosen.scenario)
            pages = []
            for name, path, size, colours in PICTURES:
                context = browser.new_context(
                    base_url=server.url, viewport=size, color_scheme=colours, storage_state=state, device_scale_factor=2
                )
                page = context.new_page()
                page.goto(path)
                pages.append((name, page))
            first = pages[0][1]
            expect(first.locator("#posture")).to_have_attribute("data-posture", re.compile("guard|emergency"), timeout=120_000)
            # The storm is seen whole when it has come down again.
            expect(first.locator("[data-class=C5] [data-f=deferred]")).to_have_text(re.compile(r"^[1-9]\d"), timeout=30_000)
            first.wait_for_timeout(AFTER_MS)
            for name, page in pages:
                page.screenshot(path=chosen.out / f"{name}.png")
                print(chosen.out / f"{name}.png")
            storm.terminate()
            browser.close()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
