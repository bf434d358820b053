"""Releases of the agent on a hub: what is signed and whole is kept, listed and delivered."""

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from muster_hub.storage.models import Device, DirectiveRow
from muster_protocol.wire import agent_release, directive
from muster_protocol.wire.agent_release import NAME
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.directive import WantedAgent
from muster_protocol.wire.limits import CHUNK_BYTES
from support.agent_kit import release_file
from support.hub_kit import API, is_problem, open_kit

URL = f"{API}/agent-releases"


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


@pytest.fixture
def push(kit):
    def pushed(data: bytes):
        files = {"file": ("agent.muster", data)}
        return kit.http.post(URL, files=files, headers=kit.as_("releaser"))

    return pushed


def signed(kit, folder: Path, version: str, payload: bytes = b"") -> bytes:
    signer = kit.hub.keyring.signer("targets")
    assert signer is not None
    return release_file(folder, version, signer, int(kit.clock()), payload).read_bytes()


def test_a_signed_release_is_kept_listed_and_fetched_by_devices_that_are_asked_for_it(
    kit, push, tmp_path
):
    data = signed(kit, tmp_path, "0.2.0", bytes(2 * CHUNK_BYTES))
    made = push(data)
    assert made.status_code == 201, made.text
    assert push(data).json() == made.json()
    with kit.hub.store.write() as session:
        report = {"facts": {"agent_version": "0.2.0"}}
        session.add(Device(id="cam-1", created=1, report=report))
    viewer = kit.as_("viewer")
    (listed,) = kit.http.get(URL, headers=viewer).json()
    assert (listed["version"], listed["size_bytes"], listed["devices"]) == ("0.2.0", len(data), 1)
    shown = kit.http.get(f"{URL}/0.2.0", headers=viewer).json()
    assert [wheel["name"].split("-")[0] for wheel in shown["wheels"]] == ["muster_edge", "numpy"]
    overview = kit.http.get(f"{API}/overview", headers=viewer).json()
    assert overview["agents"] == [{"version": "0.2.0", "devices": 1}]

    listing = kit.hub.blobs.read(listed["listing"])
    goal = directive.Goal(NAME, "0.2.0", listed["listing"], len(listing))
    payload = directive.encode(
        directive.Directive(
            device="cam-1", epoch=1, generation=1, issued=0, expires=1, slots={},
            agent=WantedAgent(goal),
        )
    )  # fmt: skip
    with kit.hub.store.write() as session:
        session.add(
            DirectiveRow(
                device="cam-1", generation=1, epoch=1, issued=0, expires=1, payload=payload,
                envelope=b"", content_sha256="",
            )
        )  # fmt: skip
    token = kit.hub.chunk_token("cam-1", int(kit.clock()) + 60)
    file = agent_release.decode_listing(listing).file
    fetched = kit.http.get(
        f"{API}/chunks/files/{file.sha256}", headers={"Authorization": f"Bearer {token}"}
    )
    assert (fetched.content, sha256_hex(data)) == (data, file.sha256)


def test_what_is_not_signed_whole_or_new_is_refused_with_words(kit, push, tmp_path):
    data = signed(kit, tmp_path, "0.2.0")
    thief = CryptoSigner.generate_ed25519()
    other = release_file(tmp_path, "0.3.0", thief, int(kit.clock())).read_bytes()
    assert "not signed by the catalogue's targets" in is_problem(push(other), 422, "invalid")
    altered = data[:-1] + bytes([data[-1] ^ 1])
    assert "not what was signed" in is_problem(push(altered), 422, "invalid")
    for wrong in (data[:-1], data[:40], data[:4], data + b"x"):
        assert push(wrong).status_code == 422
    assert push(data).status_code == 201
    again = signed(kit, tmp_path, "0.2.0", b"other")
    assert "other content" in is_problem(push(again), 409, "conflict")


def test_a_release_is_no_model_and_no_model_takes_its_name(kit, push, tmp_path):
    assert push(signed(kit, tmp_path, "0.2.0")).status_code == 201
    viewer = kit.as_("viewer")
    assert kit.http.get(f"{API}/models", headers=viewer).json()["items"] == []
    is_problem(kit.http.get(f"{API}/models/{NAME}", headers=viewer), 404, "not_found")
    is_problem(
        kit.http.get(f"{API}/models/{NAME}/versions/0.2.0", headers=viewer), 404, "not_found"
    )
    operator = kit.as_("operator")
    asked = {"model": "digits", "version": "1", "slot": NAME}
    answer = kit.http.post(f"{API}/rollouts", json=asked, headers=operator)
    assert "is the agent itself" in is_problem(answer, 422, "invalid")
    asked = {"model": NAME, "version": "0.2.0"}
    planned = kit.http.post(f"{API}/rollouts/plan", json=asked, headers=operator)
    assert planned.json()["slot"] == NAME, planned.text
    gated = kit.http.post(f"{API}/rollouts", json=asked | {"gate": {}}, headers=operator)
    assert "gate: a rollout of the agent" in is_problem(gated, 422, "invalid")
