"""``muster-hub move`` and ``keys rotate-ca``: what they ask, what they change, whom they name."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlmodel import select

from muster_agent.app.facts import UNDERSTANDS
from muster_hub.admin import main
from muster_hub.api.hub import Hub
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.identity import pki
from muster_hub.settings import config
from muster_hub.settings.config import BrokerSettings, Http
from muster_hub.storage.models import Audit, Device
from muster_protocol.wire.contact import Approved, BrokerAddress

TO = ("--to", "https://next.example:8443", "--broker", "[fd00::1]:8884")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return initialise(tmp_path / "hub", NewHub(("hub.test",), Http(), BrokerSettings())).data


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run_it(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main.main([*arguments, "--data", str(data)])
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return said.err if code else said.out

    return run_it


@pytest.fixture
def hub(data: Path):
    opened = Hub.open(config.load(data), time.time)
    yield opened
    opened.store.close()


def device(hub: Hub, name: str, **fields) -> None:
    with hub.store.write() as session:
        session.add(Device(id=name, labels={}, created=time.time(), **fields))


def report(contact: str = "", *authorities: str, understands=UNDERSTANDS) -> dict:
    return {
        "facts": {"agent_version": "0.9", "understands": list(understands)},
        "trust": {"contact": contact, "authorities": list(authorities)},
    }


def test_a_move_puts_the_next_address_before_the_present_one(hub: Hub, run) -> None:
    said = run("move", *TO, "--yes")
    assert "hub https://next.example:8443, then https://hub.test:8443" in said
    assert hub.catalogue.contact == Approved(
        ("https://next.example:8443", "https://hub.test:8443"),
        (BrokerAddress("fd00::1", 8884), BrokerAddress("hub.test", 8883)),
    )
    with hub.store.read() as session:
        assert "hub.move" in session.exec(select(Audit.action)).all()


def test_a_dry_run_and_a_no_change_nothing(hub: Hub, run) -> None:
    assert "Nothing was changed" in run("move", *TO, "--dry-run")
    assert "say --yes" in run("move", *TO, code=1)
    assert "Nothing was changed" in run("keys", "rotate-ca", "--dry-run")
    assert "say --yes" in run("keys", "rotate-ca", code=1)
    assert hub.catalogue.contact is None
    assert not (hub.config.ca / pki.NEXT).exists()


def test_many_moves_are_bounded_and_the_latest_comes_first(hub: Hub, run) -> None:
    for number in range(6):
        run("move", "--broker", f"b{number}.example:1", "--yes")
    found = hub.catalogue.contact
    assert [each.host for each in found.brokers] == ["b5.example", "b4.example", "b3.example"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--to", "http://next.example"), ("--to", "https://next.example/path"),
        ("--to", "next.example"), ("--to", "https://"), ("--to", "https://x:99999"),
        ("--broker", "next.example"), ("--broker", "next.example:0"), ("--broker", "a:b:c"),
        ("--broker", "me@x:1"), ("--finish", *TO),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_line_and_changes_nothing(
    hub: Hub, run, wrong: tuple[str, ...]
) -> None:
    said = run("move", *wrong, "--yes", code=1)
    assert said.startswith("muster-hub: ")
    assert said.count("\n") == 1
    assert hub.catalogue.contact is None


def test_who_has_not_heard_is_listed_with_the_reason(hub: Hub, run) -> None:
    assert "no other address" in run("move")
    run("move", *TO, "--yes")
    digest, now = hub.catalogue.contact.digest, time.time()
    device(hub, "a-heard", report=report(digest), online=True, last_seen=now)
    device(hub, "b-online", report=report("ab" * 32), online=True, last_seen=now)
    device(hub, "c-offline", report=report(), last_seen=1_700_000_000.0)
    device(hub, "d-old", report=report(understands=["attempt"]), online=True, last_seen=now)
    device(hub, "e-new")
    device(hub, "f-revoked", revoked=True)
    device(hub, "g-waits", approved=False)
    assert run("move").split("4 devices have not heard of it:\n")[1].splitlines()[:4] == [
        "  b-online: it is online and has not taken it yet",
        "  c-offline: it is offline, last seen 2023-11-14 22:13 UTC",
        "  d-old: its agent (0.9) can't be told: update it first",
        "  e-new: it has never reported",
    ]
    said = run("move", "--finish", "--yes")
    assert "4 devices have not heard of the last move" in said
    assert hub.catalogue.contact.hubs == ("https://hub.test:8443",)


def test_a_long_list_is_cut(hub: Hub, run) -> None:
    run("move", *TO, "--yes")
    for number in range(60):
        device(hub, f"cam-{number:02}")
    said = run("move")
    assert said.count("never reported") == 50
    assert "and 10 more" in said


def test_an_authority_is_replaced_in_two_steps_and_the_second_names_whom_it_cuts_off(
    hub: Hub, run
) -> None:
    first = hub.pki.ca_fingerprint
    assert "no authority waits" in run("keys", "rotate-ca", "--finish", "--yes", code=1)
    assert "Restart the hub" in run("keys", "rotate-ca", "--yes")
    second = hub.catalogue.contact.authorities[0]
    assert hub.catalogue.contact.authorities == (second, first)
    assert (hub.config.data / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2
    device(hub, "a-knows", report=report("", second, first), online=True, last_seen=time.time())
    device(hub, "b-new")
    assert "1 devices have not heard of it:\n  b-new" in run("keys", "rotate-ca")
    assert hub.catalogue.contact.authorities == (second, first), "asked twice, begun once"
    assert "say --yes" in run("keys", "rotate-ca", "--finish", code=1)
    assert hub.config.ca.joinpath(pki.NEXT).exists()
    said = run("keys", "rotate-ca", "--finish", "--yes")
    assert "1 devices are cut off until they are enrolled again:\n  b-new" in said
    assert hub.catalogue.contact.authorities == (second,)
    assert pki.Pki(hub.config.ca).ca_fingerprint == second


def test_an_authority_from_elsewhere_can_be_the_next_one(tmp_path: Path, hub: Hub, run) -> None:
    theirs = pki.create(tmp_path / "theirs", "the plant's", time.time())
    pair = ("--ca-certificate", str(theirs.directory / "ca.pem"))
    assert "go together" in run("keys", "rotate-ca", *pair, "--yes", code=2)
    run("keys", "rotate-ca", *pair, "--ca-key", str(theirs.directory / "ca.key"), "--yes")
    assert hub.catalogue.contact.authorities[0] == theirs.ca_fingerprint


def test_a_move_keeps_the_authorities_and_a_rotation_the_addresses(hub: Hub, run) -> None:
    run("move", *TO, "--yes")
    run("keys", "rotate-ca", "--yes")
    run("move", "--broker", "third.example:1", "--yes")
    found = hub.catalogue.contact
    assert len(found.authorities) == 2
    assert found.hubs[0] == "https://next.example:8443"
    assert found.brokers[0] == BrokerAddress("third.example", 1)


def test_a_hub_that_was_not_started_since_tells_nobody_of_an_authority_its_broker_lacks(
    hub: Hub, run
) -> None:
    run("keys", "rotate-ca", "--yes")
    assert not hub.contact(), "this one was opened before"
    again = Hub.open(hub.config, time.time)
    assert len(again.contact().authorities) == 2
    again.store.close()
