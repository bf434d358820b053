"""What ends soon in the fleet and at the hub, before it hurts: by API and command line."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_hub.alerts import expiry
from muster_hub.errors import CatalogueError
from muster_hub.signing import keys, roles
from muster_hub.storage.models import Device, Model, Version
from support.hub_kit import API, open_kit

DAY = 86_400.0
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    made.clock.now = time.time()
    yield made
    made.close()


def put(kit, device: str, *, certificate_days: float, trusts: dict[str, float] | None = None):
    """A device whose certificate and trusted metadata end in so many days."""
    now = kit.clock()
    expires = {role: int(now + days * DAY) for role, days in (trusts or {}).items()}
    report = {"trust": {"expires": expires}}
    with kit.hub.store.write() as session:
        session.add(
            Device(
                id=device, labels={"site": "berlin" if device == "cam-1" else "bonn"}, created=now,
                certificate_expires=now + certificate_days * DAY, report=report,
                late_from=expiry.late_from(report),
            )
        )  # fmt: skip


def endings(kit, role="viewer", **query):
    answer = kit.http.get(f"{API}/expiries", params=query, headers=kit.as_(role))
    assert answer.status_code == 200, answer.text
    return [(item["kind"], item["name"], item["role"]) for item in answer.json()["items"]]


@pytest.fixture
def fleet(kit):
    put(kit, "cam-1", certificate_days=-3, trusts={"timestamp": 6, "snapshot": 25})
    put(kit, "cam-2", certificate_days=30, trusts={"timestamp": -400, "snapshot": -380})
    put(kit, "cam-3", certificate_days=300, trusts={"timestamp": 1, "snapshot": 9})
    put(kit, "cam-4", certificate_days=200)


def test_certificates_and_metadata_of_the_whole_fleet_are_listed_the_soonest_first(kit, fleet):
    found = [ending for ending in endings(kit) if ending[0] in ("certificate", "device_metadata")]
    assert found == [
        ("device_metadata", "cam-2", "timestamp"),
        ("certificate", "cam-1", ""),
        ("device_metadata", "cam-3", "timestamp"),
        ("certificate", "cam-2", ""),
    ]


def test_the_hub_s_own_roles_and_authority_are_among_them(kit):
    kinds = {(kind, name) for kind, name, _ in endings(kit, days=3650)}
    assert ("authority", "certificate authority") in kinds
    assert {("metadata", role) for role in ("root", "targets", "snapshot", "timestamp")} <= kinds


def test_revoked_devices_and_what_ends_later_are_left_out(kit, fleet):
    kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("operator"))
    names = {name for _, name, _ in endings(kit, days=10)}
    assert names & {"cam-1", "cam-2", "cam-3", "cam-4"} == {"cam-2", "cam-3"}
    assert "cam-4" in {name for _, name, _ in endings(kit, days=250)}


def test_a_long_list_says_how_much_is_left_out(kit, fleet):
    answer = kit.http.get(f"{API}/expiries?limit=2", headers=kit.as_("viewer")).json()
    assert len(answer["items"]) == 2
    assert answer["more"] == len(endings(kit)) - 2


def test_the_command_line_shows_it_and_who_has_signed(kit, fleet):
    token = kit.as_("viewer")["Authorization"].removeprefix("Bearer ")
    said = [
        CliRunner().invoke(
            app, ["--hub", str(kit.http.base_url), "--token", token, "trust", command],
            env={"COLUMNS": "120"},
        ).stdout
        for command in ("expiring", "show")
    ]  # fmt: skip
    assert "ended 3 days ago" in said[0]
    assert "metadata on a device" in said[0]
    assert "timestamp" in said[1]
    assert "Nothing waits for signatures" in said[1]


def test_a_version_that_waits_shows_who_has_signed_it(tmp_path):
    vault = {name: keys.generate(tmp_path / "vault" / name) for name in ("root", "rick", "rosa")}
    kit = open_kit(
        tmp_path,
        offline_public={
            "root": vault["root"], "targets": vault["root"],
            "release": keys.group([vault["rick"], vault["rosa"]]),
        },
    )  # fmt: skip
    try:
        catalogue, now = kit.hub.catalogue, kit.clock()
        kit.hub.keyring.put_names({vault[name].keyid: name for name in ("rick", "rosa")})
        sign(catalogue, tmp_path / "vault" / "root", now)
        written = (GOLDEN / "manifest_v1.json").read_bytes()
        catalogue.release("digits", "1", written, now)
        sign(catalogue, tmp_path / "vault" / "rick", now)
        with kit.hub.store.write() as session:
            session.add(Model(name="digits", created=now))
            session.flush()
            session.add(
                Version(
                    model="digits", version="1", manifest_sha256="a" * 64, manifest=written,
                    status="awaiting_signatures", lineage={}, size_bytes=1, created=now,
                    created_by="ci",
                )
            )  # fmt: skip
        token = kit.as_("viewer")["Authorization"].removeprefix("Bearer ")
        connection = ["--hub", str(kit.http.base_url), "--token", token]
        shown = CliRunner().invoke(
            app, [*connection, "model", "show", "digits", "1"], env={"COLUMNS": "120"}
        )
        said = shown.stdout
        assert shown.exit_code == 0, shown.exception
        assert "awaiting signatures" in said
        assert "1 of 2; signed by rick; may sign: rosa" in said
    finally:
        kit.close()


def sign(catalogue, key, now: float) -> None:
    """Whatever waits and is this key's to sign."""
    for draft in catalogue.pending().values():
        with suppress(CatalogueError):
            catalogue.add_signatures(roles.add_signature(draft, keys.load_signer(key)), now)


def test_a_device_is_late_from_the_first_mark_of_any_role():
    report = {"trust": {"expires": {"timestamp": 100 * DAY, "snapshot": 90 * DAY, "root": 9e9}}}
    mark = expiry.late_from(report)
    held = {name: float(at) for name, at in report["trust"]["expires"].items()}
    assert expiry.behind(held, mark) is None
    assert expiry.behind(held, mark + 1) is not None
    for nothing in (None, {}, {"trust": None}, {"trust": {"expires": {}}}):
        assert expiry.late_from(nothing) is None
