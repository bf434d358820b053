"""Sampling at the hub: begun within a release, sent to agents that know it, received, ended."""

import json

import msgspec
import pytest
from msgspec import UNSET
from sqlmodel import select

from muster_agent.app.facts import UNDERSTANDS
from muster_hub.mqtt.intake import Intake
from muster_hub.sampling import policies
from muster_hub.storage.models import Audit, Device, Model, Version
from muster_hub.storage.sampling import SampleRow
from muster_protocol.wire import chunks, manifest, messages, sampling, topics
from muster_protocol.wire.manifest import File
from muster_protocol.wire.messages import Batch, Row, Stamp
from muster_protocol.wire.sampling import Content, Sample, SampledFeature, SamplingLimits
from support.hub_engine import SLOT, Plant
from support.hub_kit import API, is_problem, open_kit
from wire_samples import MANIFEST

ALLOWED = SamplingLimits(
    features={
        "edge": SampledFeature("image", 0, 8),
        "serial": SampledFeature("image", 8, 1, privacy="hash"),
    },
    rows_per_day=100,
    rows_max=1_000,
    answers=True,
)
FILE = sampling.encode_limits(ALLOWED)
LISTED = (*MANIFEST.files, File(sampling.FILE, len(FILE), chunks.sha256_hex(FILE)))
ASK = {"model": "digits", "version": "1", "selector": "site=berlin",
       "features": {"edge": "plain"}, "rows_per_day": 50}  # fmt: skip
EPOCH = b"12345678"


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.add(Device(id="cam-1", labels={"site": "berlin"}, created=1))
        session.add(Device(id="cam-2", labels={"site": "oslo"}, created=1))
        session.flush()
        for version, files in (("1", LISTED), ("2", MANIFEST.files)):
            data = manifest.encode(msgspec.structs.replace(MANIFEST, version=version, files=files))
            session.add(Version(
                model="digits", version=version, manifest=data, status="published", created=1,
                manifest_sha256=chunks.sha256_hex(data), size_bytes=1, created_by="token:ci",
            ))  # fmt: skip
    made.hub.blobs.put(FILE)
    yield made
    made.close()


def begun(kit, **changes):
    answer = kit.http.post(f"{API}/sampling", json=ASK | changes, headers=kit.as_("operator"))
    assert answer.status_code == 201, answer.text
    return answer.json()


def sample(policy, number, **changes):
    content = Content(
        1, policy["manifest"], {"edge": tuple(float(number + place) for place in range(8))}
    )
    content = msgspec.structs.replace(content, **changes)
    stamp = Stamp(b"boot", 5.0, 0.0, "unknown")
    return sampling.encode(
        Sample(1, str(policy["id"]), "main", stamp, "random", sampling.encode_content(content))
    )


class Receiver:
    def __init__(self, kit):
        self.kit = kit
        self.intake = Intake(kit.hub.store, lambda _seconds: True)
        self.sequence = 0

    def send(self, *payloads, device="cam-1"):
        rows = []
        for payload in payloads:
            self.sequence += 1
            rows.append(Row(self.sequence, payload))
        batch = Batch(1, EPOCH, Stamp(b"boot", 10.0, 0.0, "unknown"), rows)
        taken = self.intake.take(
            [(topics.up(device, "sample"), messages.encode(batch))], self.kit.clock()
        )
        ((_, ack),) = taken.acks
        assert (ack.stream, ack.sequence) == ("sample", self.sequence)
        with self.kit.hub.store.read() as session:
            return session.exec(select(SampleRow).order_by(SampleRow.id)).all()


def test_a_policy_begins_within_the_release_and_is_on_record(kit):
    found = begun(kit)
    assert found["asked"]["policy"] == str(found["id"])
    assert found["expires"] == kit.clock() + 7 * 86_400
    listed = kit.http.get(f"{API}/sampling", headers=kit.as_("viewer")).json()["items"]
    assert [item["id"] for item in listed] == [found["id"]]
    with kit.hub.store.read() as session:
        entry = session.exec(select(Audit).where(Audit.action == "sampling.begin")).one()
    assert entry.subject == f"sampling/{found['id']}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": {"whole": "plain"}}, "lets no feature 'whole'"),
        ({"features": {"serial": "plain"}}, "leave as hash only"),
        ({"rows_per_day": 101}, "the release allows 100"),
        ({"version": "2"}, "allows no sampling"),
    ],
)
def test_what_the_release_does_not_allow_is_refused(kit, changes, words):
    answer = kit.http.post(f"{API}/sampling", json=ASK | changes, headers=kit.as_("operator"))
    assert words in is_problem(answer, 422, "invalid")


def test_samples_come_are_listed_downloaded_labelled_and_deleted(kit):
    policy, headers = begun(kit), kit.as_("operator")
    rows = Receiver(kit).send(sample(policy, 1), sample(policy, 2))
    assert [row.taken for row in rows] == [kit.clock() - 5.0] * 2
    path = f"{API}/sampling/{policy['id']}"
    listed = kit.http.get(f"{path}/samples", headers=headers).json()["items"]
    assert [item["stratum"] for item in listed] == ["random", "random"]
    name = listed[0]["sha256"]
    labelled = kit.http.post(f"{path}/labels", json={"labels": {name: "ok"}}, headers=headers)
    assert labelled.json() == {"samples": 1}
    text = kit.http.get(f"{path}/samples.jsonl", headers=headers).text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["label"] for line in lines] == ["ok", None]
    assert lines[0]["features"] == {f"edge[{n}]": float(n + 1) for n in range(8)}
    shown = kit.http.get(path, headers=headers).json()
    assert (shown["rows"], shown["bytes"]) == (2, sum(item["size_bytes"] for item in listed))
    assert kit.http.post(f"{path}/forget", headers=headers).json() == {"samples": 2}
    assert kit.http.get(f"{path}/samples", headers=headers).json()["items"] == []
    assert kit.http.get(path, headers=headers).json()["ended_reason"] == "its samples were deleted"


def test_a_viewer_sees_the_policy_and_no_raw_data(kit):
    policy = begun(kit)
    path, headers = f"{API}/sampling/{policy['id']}", kit.as_("viewer")
    assert kit.http.get(path, headers=headers).status_code == 200
    for leaf in ("samples", "samples.jsonl"):
        is_problem(kit.http.get(f"{path}/{leaf}", headers=headers), 403, "forbidden")


def test_what_nobody_asked_for_is_acknowledged_and_not_kept(kit):
    policy, receiver = begun(kit), Receiver(kit)
    ended = begun(kit)
    kit.http.post(f"{API}/sampling/{ended['id']}/end", json={}, headers=kit.as_("operator"))
    unasked = [
        sample({"id": 99, "manifest": policy["manifest"]}, 1),
        sample(ended, 1),
        sample(policy, 1, manifest="ab" * 32),
        sample(policy, 1, features={"other": (1.0,)}),
        sample(policy, 1, answers={"scores": (1.0,)}),
        b"not a sample",
        b"",
    ]
    assert receiver.send(*unasked) == []
    assert len(receiver.send(sample(policy, 1))) == 1
    receiver.sequence = 0
    assert len(receiver.send(sample(policy, 1), device="cam-2")) == 1


def test_a_full_policy_keeps_no_more_and_ends(kit):
    policy, receiver = begun(kit, bytes_max=150), Receiver(kit)
    kept = receiver.send(*(sample(policy, number) for number in range(9)))
    assert 0 < len(kept) < 9
    with kit.hub.store.write() as session:
        assert policies.is_due(session, kit.clock())
        assert policies.expire(session, kit.clock()) == 1
        assert policies.wanted(session) == ()


def test_a_row_that_comes_twice_counts_once(kit):
    policy, receiver = begun(kit), Receiver(kit)
    receiver.send(sample(policy, 1))
    receiver.sequence = 0
    assert len(receiver.send(sample(policy, 1))) == 1
    found = kit.http.get(f"{API}/sampling/{policy['id']}", headers=kit.as_("viewer")).json()
    assert found["rows"] == 1


def test_only_agents_that_know_policies_are_told_of_one_until_it_expires(tmp_path):
    plant = Plant(tmp_path, "new", "old")
    digest = plant.publish("1", files=LISTED)
    plant.blobs.put(FILE)
    plant.change("new", report={"facts": {"understands": list(UNDERSTANDS)}})
    plant.change("old", report={"facts": {"understands": ["attempt"]}})
    plant.start("1")
    plant.tick()
    with plant.store.write() as session:
        row = policies.begin(
            session, plant.blobs.read, model="digits", version="1", selector="",
            asked={"features": {"edge": "plain"}, "rows_per_day": 5, "strata": ["random"]},
            days=1.0, bytes_max=1_000, by="x", now=plant.now,
        )  # fmt: skip
        number, expires = row.id, int(row.expires)
    plant.tick()
    heard = {name: plant.directive(name).slots[SLOT].sampling for name in ("new", "old")}
    assert heard["old"] is UNSET
    assert (heard["new"].policy, heard["new"].expires) == (str(number), expires)
    assert plant.directive("new").slots[SLOT].champion.manifest == digest
    plant.tick(2 * 86_400.0)
    plant.tick(10.0)
    assert plant.directive("new").slots[SLOT].sampling is UNSET
    plant.close()
