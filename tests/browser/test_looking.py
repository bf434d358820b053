"""Pages in a real browser: quiet under their policy, live, by keyboard, without script."""

import pytest
from playwright.sync_api import Browser, expect

from browser.conftest import Person, person
from muster_hub.storage import models
from support.console_kit import add_devices, report, token
from support.hub_kit import Kit

HOSTILE = "<img src=x onerror=alert(1)>\u202egpj.exe" + "x" * 28


@pytest.fixture(scope="module", autouse=True)
def filled(kit: Kit) -> None:
    add_devices(kit, [f"cam-{number:03}" for number in range(60)])
    waits = report("1", now=kit.clock(), state="staged", waiting_for="permit: budget of line=2")
    add_devices(kit, ["waits"], wanted="2", report=waits)
    add_devices(kit, [HOSTILE], online=False, labels={"site": HOSTILE})


def test_the_fleet_and_a_device_as_the_docs_show_them(ada: Person) -> None:
    page = ada.go("/?q=site in (berlin,oslo)")
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()
    ada.picture("fleet")
    page = ada.go("/devices/waits")
    expect(page.get_by_text("permit: budget of line=2").first).to_be_visible()
    ada.picture("device")


def test_a_hostile_name_is_text(ada: Person) -> None:
    page = ada.go("/?state=offline")
    expect(page.get_by_role("rowheader")).to_have_text(HOSTILE.replace("\u202e", "\ufffd"))
    assert page.locator("img").count() == 0


def test_from_a_count_to_a_device_and_back_by_keyboard_alone(browser: Browser, kit: Kit) -> None:
    with person(browser, kit) as somebody:
        page = somebody.go("/?state=waiting")
        keys = page.keyboard
        expect(page).to_have_title("Sign in · Muster")
        for _ in range(3):
            keys.press("Tab")
        expect(page.get_by_label("API token")).to_be_focused()
        keys.type(token(kit))
        keys.press("Enter")
        expect(page).to_have_url(f"{somebody.base}/?state=waiting")
        keys.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        keys.press("Enter")
        for _ in range(40):
            keys.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "waits":
                break
        keys.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("waits")


def test_a_page_follows_what_happens_without_being_loaded_again(ada: Person, kit: Kit) -> None:
    page = ada.go("/devices/cam-001")
    expect(page.locator("html[data-live]")).to_have_count(1)
    page.evaluate("window.loadedOnce = true")
    with kit.hub.store.write() as session:
        session.add(
            models.EventRow(
                device="cam-001", kind="note", received=kit.clock(), detail="the lens was cleaned"
            )
        )
    expect(page.locator("#events")).to_contain_text("the lens was cleaned")
    assert page.evaluate("window.loadedOnce") is True


def test_everything_but_live_works_without_script(browser: Browser, kit: Kit) -> None:
    with person(browser, kit, java_script_enabled=False) as somebody:
        somebody.sign_in(name="ben")
        page = somebody.page
        page.get_by_label("Device name, or a selector over labels").fill("cam-010")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="cam-010").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("cam-010")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_what_is_injected_does_not_run(ada: Person) -> None:
    page = ada.go("/")
    blocked = page.evaluate(
        """async () => {
          const seen = [];
          document.addEventListener(
            "securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.injected = true";
          document.body.append(script);
          const picture = new Image();
          picture.src = "https://elsewhere.example/x.png";
          document.body.append(picture);
          await new Promise((done) => setTimeout(done, 300));
          return [window.injected === true, seen.sort()];
        }"""
    )
    assert blocked == [False, ["img-src", "script-src-elem"]]
    ada.complaints.clear()
