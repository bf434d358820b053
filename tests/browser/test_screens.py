"""Every other screen in a real browser: its act is done, and what is dangerous asks first."""

import pytest
from playwright.sync_api import Browser, expect

from browser.conftest import Person, person
from muster_hub.access.links import make_link
from muster_hub.fleet import feed_watching
from muster_hub.storage import models
from muster_protocol.wire import manifest
from support.console_kit import MANIFESTS, add_devices
from support.hub_kit import Kit
from wire_samples import MANIFEST


@pytest.fixture(scope="module", autouse=True)
def filled(kit: Kit) -> None:
    add_devices(kit, ["cam-1", "cam-2", "cam-3"])
    add_devices(kit, ["new"], approved=False)
    with kit.hub.store.write() as session:
        session.add(models.Model(name="digits", created=1.0))
        session.flush()
        session.add(
            models.Version(
                model="digits", version="1", manifest_sha256=MANIFESTS["1"],
                manifest=manifest.encode(MANIFEST), status="published", size_bytes=1,
                created=kit.clock() - 7200, created_by="ada",
            )
        )  # fmt: skip
        for number, name in enumerate(("cam-1", "cam-2", "cam-3")):
            drifting = ["image.brightness"] if number == 0 else []
            view = {
                "model": "digits", "version": "1", "drifting": drifting, "findings": {},
                "calibration": {"image.brightness": "calibrated", "image.contrast": "calibrating"},
            }  # fmt: skip
            session.add(
                models.DriftState(
                    device=name, manifest=MANIFESTS["1"], state=b"", view=view, updated=1.0
                )
            )
            session.add(
                models.Alert(
                    key=f"drift/{name}", device=name, kind="drift", severity="warning",
                    state="open", opened=kit.clock() - 600, updated=1.0,
                    title=f"{name}: image.brightness 89.5 → 92.1",
                    detail={"model": "digits", "cause": "sensor"},
                )
            )  # fmt: skip


def test_alerts_are_ticked_and_acknowledged(ada: Person) -> None:
    page = ada.go("/inbox")
    page.get_by_label("cam-2: image.brightness").check()
    ada.picture("inbox")
    page.get_by_role("button", name="Acknowledge the ticked").click()
    row = page.get_by_role("listitem").or_(page.get_by_role("row")).filter(has_text="cam-2")
    expect(row.get_by_text("acknowledged", exact=True).first).to_be_visible()


def test_an_alert_is_acknowledged_by_keyboard_alone(ada: Person) -> None:
    page = ada.go("/inbox")
    for target in (
        page.get_by_label("cam-3: image.brightness"),
        page.get_by_role("button", name="Acknowledge the ticked"),
    ):
        for _ in range(60):
            page.keyboard.press("Tab")
            if target.evaluate("(element) => element === document.activeElement"):
                break
        page.keyboard.press("Space")
    expect(page.get_by_text("acknowledged", exact=True).first).to_be_visible()


def test_a_link_signs_somebody_in_with_a_button(browser: Browser, kit: Kit) -> None:
    with kit.hub.store.write() as session:
        code = make_link(session, "guest", "viewer", kit.clock())
    with person(browser, kit) as guest:
        guest.go(f"/sign-in-link?code={code}")
        guest.page.get_by_role("button", name="Sign in").click()
        expect(guest.page.get_by_role("heading", name="Fleet")).to_be_visible()
        expect(guest.page.get_by_text("guest")).to_be_visible()


def test_many_devices_get_a_label_after_a_look(ada: Person, kit: Kit) -> None:
    page = ada.go("/?q=site=oslo")
    page.get_by_role("link", name="Act on all").click()
    page.get_by_label("Label", exact=True).fill("shift")
    page.get_by_label("Its value").fill("night")
    page.get_by_role("button", name="See what it would do").click()
    expect(page.get_by_role("heading", name="What it would do")).to_be_visible()
    page.get_by_role("button", name="Set a label on").click()
    expect(page.get_by_role("heading", name="done on")).to_be_visible()
    assert ada.examine() == []
    ada.go("/?q=shift=night")
    expect(page.get_by_role("rowheader").first).to_have_text("cam-2")


def test_a_new_device_is_approved_and_an_old_one_revoked_once_asked(ada: Person) -> None:
    page = ada.go("/devices/new")
    page.get_by_role("link", name="Approve…").click()
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#standing")).to_contain_text("online")
    page.get_by_role("link", name="Revoke…").click()
    expect(page.get_by_text("for good").first).to_be_visible()
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.locator("#standing")).to_contain_text("revoked")


def test_a_feed_is_watched_and_its_values_renew_themselves(ada: Person, kit: Kit) -> None:
    def report(value: float, quality: str) -> None:
        signal = {"feature": "flow", "signal": "flow", "value": value, "unit": "m3/h",
                  "quality": quality, "age_seconds": 0.5}  # fmt: skip
        with kit.hub.store.write() as session:
            row = session.get(models.Device, "cam-3")
            assert row is not None
            feeds = {"press": {"slot": "vision", "signals": [signal]}}
            row.feeds = feed_watching.kept(row.feeds, feeds, kit.clock())
            row.report = (row.report or {}) | {"facts": {"understands": ["feed_watches"]}}
            session.add(row)

    report(2.5, "good")
    page = ada.go("/devices/cam-3")
    page.get_by_role("button", name="Watch the feeds").click()
    page.get_by_role("link", name="press").click()
    row = page.get_by_role("row", name="flow")
    expect(row).to_contain_text("2.5")
    report(7.5, "uncertain")
    expect(row).to_contain_text("7.5", timeout=60_000)
    expect(row).to_contain_text("uncertain")
    assert ada.examine() == []


def test_drift_leads_from_sites_to_devices(ada: Person) -> None:
    page = ada.go("/drift")
    ada.picture("drift")
    row = page.get_by_role("row", name="berlin")
    expect(row).to_contain_text("1 of 2")
    row.get_by_role("link", name="berlin").click()
    expect(page.get_by_role("row", name="cam-1")).to_contain_text("drifting")
