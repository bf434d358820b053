"""Real Chromium, from the distribution, on a hub's real pages.

Whatever a page's console says against it, and whatever breaks its policy, fails the test.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from muster_hub.console.session import COOKIE
from support.console_kit import signed_in, token
from support.hub_kit import Kit, open_kit

WAIT_MS = 60_000
PICTURES = "MUSTER_SCREENSHOTS"
"""Names the folder that ``make screenshots`` wants pictures in."""
expect.set_options(timeout=WAIT_MS)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast"]
"""All that another colour scheme can change."""
LOOKS = {
    (scheme, width): {"runOnly": rules, "resultTypes": ["violations"]}
    for scheme, rules in (("light", RULES), ("dark", COLOURS))
    for width in (360, 1440)
}
EXPECTED = ("the server responded with a status of",)
"""What a browser says of an answer that a test asked for, such as a refusal's page."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert program, "no Chromium here: run deploy/need chromium"
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    made = open_kit(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


class Person:
    """Somebody at a browser of their own."""

    def __init__(self, context: BrowserContext, kit: Kit) -> None:
        self.context = context
        self.kit = kit
        self.base = str(kit.http.base_url).rstrip("/")
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))

    def _heard(self, message: object) -> None:
        if message.type in ("error", "warning") and not any(
            words in message.text for words in EXPECTED
        ):
            self.complaints.append(message.text)

    def arrive(self, role: str = "admin", name: str = "ada", **scope: object) -> None:
        """Be signed in already."""
        client = signed_in(self.kit, role, name, **scope)
        held = {"name": COOKIE, "value": client.cookies[COOKIE], "url": self.base}
        self.context.add_cookies([held | {"httpOnly": True, "sameSite": "Strict"}])
        client.close()

    def sign_in(self, role: str = "admin", name: str = "ada", **scope: object) -> None:
        text = token(self.kit, role, name, **scope)
        self.go("/sign-in")
        self.page.get_by_label("API token").fill(text)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("heading", name="Fleet").wait_for()

    def go(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page

    def examine(self, path: str = "") -> list[str]:
        """What axe finds against a page, light and dark, narrow and wide; without a path, against
        the one that is there."""
        if path:
            self.go(path)
        self.page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
        found = []
        for (scheme, width), options in LOOKS.items():
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": 900})
            said = self.page.evaluate("(options) => axe.run(document, options)", options)
            found += [
                f"{path} {scheme} {width}: {item['id']}: {node['html'][:160]}"
                for item in said["violations"]
                for node in item["nodes"]
            ]
            wider = self.page.evaluate("document.documentElement.scrollWidth")
            if wider > width:
                found.append(f"{path} {scheme} {width}: {wider} pixels wide")
        self.page.emulate_media(color_scheme="light")
        return found

    def picture(self, name: str) -> None:
        """Keep the page as the docs show it, when pictures are asked for; light and dark."""
        folder = os.environ.get(PICTURES)
        if folder is None:
            return
        self.page.set_viewport_size({"width": 1280, "height": 800})
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.page.screenshot(path=Path(folder) / f"{name}-{scheme}.png")
        self.page.emulate_media(color_scheme="light")


@contextmanager
def person(browser: Browser, kit: Kit, **settings: object) -> Iterator[Person]:
    context = browser.new_context(**settings)
    somebody = Person(context, kit)
    try:
        yield somebody
        assert somebody.complaints == []
    finally:
        context.close()


@pytest.fixture
def ada(browser: Browser, kit: Kit) -> Iterator[Person]:
    """Signed in as an administrator."""
    with person(browser, kit) as somebody:
        somebody.arrive()
        yield somebody
