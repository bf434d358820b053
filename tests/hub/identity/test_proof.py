"""What a device has proved to run is told apart from what it was asked, and from hearsay."""

import copy

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from muster_agent.identity.proof import prover
from muster_hub.storage.models import Device
from muster_protocol.wire import messages, proof
from muster_protocol.wire.messages import Report
from support.hub_kit import API, Kit, new_key, open_kit
from wire_samples import REPORT


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


@pytest.fixture
def key(tmp_path):
    made = new_key()
    (tmp_path / "key.pem").write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


@pytest.fixture
def signed(tmp_path, kit: Kit, key) -> Report:
    """cam-1's report as its agent sends it."""
    assert kit.enrol(kit.enrol_token(), key).status_code == 200
    made = prover("cam-1", tmp_path)(REPORT)
    assert len(made) <= proof.PROOF_BYTES_MAX
    return msgspec.structs.replace(REPORT, proof=made)


def shown(kit: Kit, report: Report) -> dict:
    """cam-1 as the API shows it once this report has come over the wire."""
    over_the_wire = messages.decode(messages.encode(report), Report)
    with kit.hub.store.write() as session:
        session.get(Device, "cam-1").report = msgspec.to_builtins(over_the_wire)
    answer = kit.http.get(f"{API}/devices/cam-1", headers=kit.as_("viewer"))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_signed_report_proves_what_runs(kit: Kit, signed: Report) -> None:
    view = shown(kit, signed)
    ((slot, first),) = [(name, slot) for name, slot in signed.slots.items() if slot.running]
    assert view["proved"][slot]["manifest"] == first.running.manifest
    assert view["proved"][slot]["inferences"] == first.running.inferences
    assert view["running"][slot]["manifest"] == first.running.manifest
    (listed,) = kit.http.get(f"{API}/devices", headers=kit.as_("viewer")).json()["items"]
    assert listed["proved"] == view["proved"]


def test_an_unsigned_report_is_shown_but_proves_nothing(kit: Kit, signed: Report) -> None:
    view = shown(kit, REPORT)
    assert view["running"]
    assert view["proved"] == {}


def altered(report: Report) -> list[Report]:
    slot, first = next((name, slot) for name, slot in report.slots.items() if slot.running)
    found = [
        msgspec.structs.replace(report, proof=report.proof[:-1] + b"\x00"),
        msgspec.structs.replace(report, generation=report.generation + 1),
        msgspec.structs.replace(
            report, at=msgspec.structs.replace(report.at, monotonic_seconds=1e6)
        ),
    ]
    for change in ({"manifest": "0" * 64}, {"inferences": 10**9}, {"version": "9"}):
        slots = copy.copy(report.slots)
        running = msgspec.structs.replace(first.running, **change)
        slots[slot] = msgspec.structs.replace(first, running=running)
        found.append(msgspec.structs.replace(report, slots=slots))
    return found


def test_an_altered_report_proves_nothing(kit: Kit, signed: Report) -> None:
    for report in altered(signed):
        assert shown(kit, report)["proved"] == {}
    assert shown(kit, signed)["proved"]


def test_a_report_signed_by_another_device_proves_nothing(
    tmp_path, kit: Kit, signed: Report
) -> None:
    for_another = prover("cam-2", tmp_path)(REPORT)
    assert shown(kit, msgspec.structs.replace(REPORT, proof=for_another))["proved"] == {}


def test_a_revoked_device_proves_nothing(kit: Kit, signed: Report) -> None:
    kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("operator"))
    assert shown(kit, signed)["proved"] == {}


def test_a_device_without_its_key_reports_unproved(tmp_path) -> None:
    assert prover("cam-1", tmp_path / "nowhere")(REPORT) == b""
