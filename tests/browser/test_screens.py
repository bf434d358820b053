"""Every other screen in a real browser: readable by everybody, and its act asks first."""

import pytest
from playwright.sync_api import expect

from browser.conftest import Person
from muster_hub.storage import models
from support.console_kit import MANIFESTS, add_devices
from support.hub_kit import Kit


@pytest.fixture(scope="module", autouse=True)
def filled(kit: Kit) -> None:
    add_devices(kit, ["cam-1", "cam-2", "cam-3"])
    add_devices(kit, ["new"], approved=False)
    with kit.hub.store.write() as session:
        session.add(models.Model(name="digits", created=1.0))
        session.flush()
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


PAGES = (
    "/inbox", "/models", "/models/digits", "/drift", "/drift?model=digits&site=berlin", "/trust",
    "/delivery", "/audit", "/audit/verify", "/docs", "/devices/cam-1/revoke",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(ada: Person, path: str) -> None:
    assert ada.examine(path) == []


def test_alerts_are_ticked_and_acknowledged(ada: Person) -> None:
    page = ada.go("/inbox")
    page.get_by_label("cam-2: image.brightness").check()
    ada.picture("inbox")
    page.get_by_role("button", name="Acknowledge the ticked").click()
    expect(page.get_by_text("acknowledged", exact=True)).to_have_count(1)


def test_a_new_device_is_approved_and_an_old_one_revoked_once_asked(ada: Person) -> None:
    page = ada.go("/devices/new")
    page.get_by_role("link", name="Approve…").click()
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#standing")).to_contain_text("online")
    page.get_by_role("link", name="Revoke…").click()
    expect(page.get_by_text("for good").first).to_be_visible()
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.locator("#standing")).to_contain_text("revoked")


def test_drift_leads_from_sites_to_devices(ada: Person) -> None:
    page = ada.go("/drift")
    ada.picture("drift")
    row = page.get_by_role("row", name="berlin")
    expect(row).to_contain_text("1 of 2")
    row.get_by_role("link", name="berlin").click()
    expect(page.get_by_role("row", name="cam-1")).to_contain_text("drifting")
