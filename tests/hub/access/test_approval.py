"""Tokens in images: what comes with them runs nothing before somebody has looked at it."""

import pytest
from sqlmodel import select

from muster_hub.errors import Conflict
from muster_hub.identity import enrolment
from muster_hub.storage.models import Audit, Device
from support.hub_kit import API, csr, is_problem, new_key, open_kit


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def approve(kit, device, role="operator"):
    return kit.http.post(f"{API}/devices/{device}/approve", headers=kit.as_(role))


def test_devices_of_a_batch_wait_until_each_is_approved(kit):
    token = kit.enrol_token(uses=3, labels={"site": "berlin"}, approval=True)
    for name in ("cam-1", "cam-2"):
        assert kit.enrol(token, name=name).status_code == 200
    assert approve(kit, "cam-1").json()["approved"] is True
    with kit.hub.store.read() as session:
        found = session.exec(select(Device).order_by(Device.id)).all()
        assert [(item.id, item.approved) for item in found] == [("cam-1", True), ("cam-2", False)]
        with pytest.raises(Conflict, match="not approved"):
            enrolment.renew(session, kit.hub.pki, "cam-2", csr(new_key(), "cam-2"), kit.clock())
        rows = session.exec(select(Audit).where(Audit.action == "device.approve")).all()
        assert [row.subject for row in rows] == ["cam-1"]


def test_a_known_device_with_a_new_key_waits_when_its_token_says_so(kit):
    assert kit.enrol(kit.enrol_token(device="cam-1")).status_code == 200
    assert kit.enrol(kit.enrol_token(device="cam-1", approval=True)).status_code == 200
    with kit.hub.store.read() as session:
        assert not session.get(Device, "cam-1").approved


def test_only_an_operator_approves_and_never_a_revoked_device(kit):
    assert kit.enrol(kit.enrol_token(device="cam-1", approval=True)).status_code == 200
    is_problem(approve(kit, "cam-1", "viewer"), 403, "forbidden")
    is_problem(approve(kit, "nobody"), 404, "not_found")
    kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("operator"))
    assert "for good" in is_problem(approve(kit, "cam-1"), 409, "conflict")
