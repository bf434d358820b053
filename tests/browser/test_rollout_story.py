"""Two people bring a version out and take it back, with the console alone."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from browser.conftest import Person, person
from muster_hub.settings.config import Governance
from support.console_fleet import ConsoleFleet
from support.hub_kit import Kit, open_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    two = {"governance": Governance(two_people=True)}
    made = open_kit(tmp_path_factory.mktemp("story"), settings=two)
    yield made
    made.close()


@pytest.fixture(scope="module")
def fleet(kit: Kit) -> Iterator[ConsoleFleet]:
    made = ConsoleFleet(kit, 60)
    yield made
    made.close()


def plan(ada: Person) -> None:
    """Ada fills the form in, and sees on the same page what it would do."""
    page = ada.page
    page.get_by_role("link", name="Rollouts").click()
    page.get_by_role("link", name="New rollout").click()
    for label, text in (
        ("Model", "digits"), ("Version", "2"), ("Slot", "vision"), ("Devices", "line in (a,b"),
        ("Canary", "12"), ("Waves after it", "60%"), ("Each holds for, minutes", "0"),
        ("Drawn in proportion by", "line"), ("Metrics of the gate", "errors, p95 latency"),
    ):  # fmt: skip
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("Advance on evidence only (gate)").check()
    page.get_by_role("button", name="See what it would do").click()
    expect(page.get_by_role("alert")).to_contain_text("selector: expected")
    page.get_by_label("Devices", exact=True).fill("line in (a,b)")
    page.get_by_role("button", name="See what it would do").click()
    expect(page.get_by_role("heading", name="What it would do")).to_be_visible()
    waves = page.get_by_role("region", name="Waves of the plan").get_by_role("row")
    expect(waves.nth(1)).to_contain_text("1. canary")
    expect(waves.nth(1)).to_contain_text("12")
    expect(page.get_by_text("Nothing has been started.")).to_be_visible()
    ada.picture("plan")
    assert ada.examine() == []


def test_two_people_run_a_rollout_from_start_to_rollback(
    browser: Browser, kit: Kit, fleet: ConsoleFleet
) -> None:
    with person(browser, kit) as ada, person(browser, kit) as ben:
        ada.sign_in("operator", "ada")
        ben.sign_in("operator", "ben")
        plan(ada)
        ada.page.get_by_role("button", name="Start: reach 60 devices, 12 first").click()
        title = ada.page.get_by_role("heading", level=1)
        expect(title).to_contain_text("digits 2")
        number = int(re.search(r"Rollout (\d+)", title.inner_text())[1])
        fleet.tick()

        # Who started it can't approve it; who didn't is asked first, and sees what begins.
        ada.page.get_by_role("link", name="Approve…").click()
        ada.page.get_by_role("button", name="Approve").click()
        expect(ada.page.get_by_role("alert")).to_contain_text("somebody else has to agree")
        ben.go("/")
        ben.page.get_by_role("link", name=f"to approve wave 1 of rollout {number}").click()
        ben.page.get_by_role("link", name="Approve…").click()
        expect(ben.page.get_by_text("Wave 1, canary, begins")).to_be_visible()
        ben.page.get_by_role("button", name="Approve").click()
        assert len(fleet.settle("2")) == 12

        # The gate looks once a window; its evidence is on the page.
        fleet.pass_windows(5)
        ben.go(f"/rollouts/{number}")
        gate = ben.page.get_by_role("region", name="What the gate sees")
        expect(gate.get_by_role("img")).to_have_count(2)
        expect(gate.get_by_role("img").first).to_have_accessible_name(
            re.compile(r"errors at 5 looks; .*12 devices with it, 48 without")
        )
        expect(gate).to_contain_text("What would change it: ")
        ben.picture("rollout")
        assert ben.examine(f"/rollouts/{number}") == []

        ben.page.get_by_role("button", name="Pause").click()
        expect(ben.page.get_by_text("Paused by ben.").first).to_be_visible()
        ben.page.get_by_role("button", name="Resume").click()
        expect(ben.page.get_by_text("Resumed by ben.").first).to_be_visible()
        ben.page.get_by_role("link", name="Advance by hand…").click()
        expect(ben.page.get_by_text("without its gate's word")).to_be_visible()
        ben.page.get_by_role("button", name="Advance by hand").click()
        assert len(fleet.settle("2")) > 12

        # It is taken back; a second person with an older page in front of them is told so.
        ada.go(f"/rollouts/{number}/rollback")
        ben.page.get_by_role("link", name="Roll back…").click()
        expect(ben.page.get_by_role("main")).to_contain_text("go back to what they ran before")
        ben.page.get_by_role("button", name="Roll back").click()
        expect(ben.page.get_by_text("Rolled back by ben").first).to_be_visible()
        ada.page.get_by_role("button", name="Roll back").click()
        expect(ada.page.get_by_role("heading", level=1)).to_have_text("Changed meanwhile")
        fleet.tick()
        assert set(fleet.versions().values()) == {"1"}


def test_a_viewer_is_offered_no_act_and_refused_one(
    browser: Browser, kit: Kit, fleet: ConsoleFleet
) -> None:
    with person(browser, kit) as eve:
        eve.arrive("viewer", "eve")
        page = eve.go("/rollouts/1")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Rollout 1")
        assert page.get_by_role("link", name="Roll back…").count() == 0
        eve.go("/rollouts/1/rollback")
        expect(page.get_by_role("alert")).to_contain_text("this needs the role")
