"""The wire is frozen: bytes written by an earlier release still mean what they meant.

A failure here means that deployed devices and hubs would disagree. If the change is meant, write
the fixtures anew with ``python tests/golden/write_wire.py`` and tell of it in CHANGELOG.md.
"""

import json
from pathlib import Path

import pytest

from muster_protocol.wire import directive, manifest, messages, proof, topics
from wire_samples import (
    DIRECTIVE,
    DIRECTIVE_CONTACT,
    MANIFEST,
    MANIFEST_2,
    MESSAGES,
    PROVED,
    SHA_A,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
FROZEN = {
    name: bytes.fromhex(text)
    for name, text in json.loads((GOLDEN / "messages_v1.json").read_text()).items()
}


@pytest.mark.parametrize(
    ("name", "value"), [("manifest_v1.json", MANIFEST), ("manifest_v2.json", MANIFEST_2)]
)
def test_a_manifest_has_the_bytes_that_release_keys_signed(name, value):
    frozen = (GOLDEN / name).read_bytes()
    assert manifest.decode(frozen) == value
    assert manifest.encode(value) == frozen


@pytest.mark.parametrize(
    ("name", "value"),
    [("directive_v1.json", DIRECTIVE), ("directive_contact_v1.json", DIRECTIVE_CONTACT)],
)
def test_a_directive_has_the_bytes_that_deployed_devices_know(name, value):
    frozen = (GOLDEN / name).read_bytes()
    assert directive.decode(frozen) == value
    assert directive.encode(value) == frozen


def test_every_kind_of_message_has_a_fixture():
    assert set(FROZEN) == set(MESSAGES)
    assert set(messages._LIMIT_BYTES) == {type(message) for message in MESSAGES.values()}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_bytes_that_deployed_devices_and_hubs_know(name):
    message = MESSAGES[name]
    assert messages.decode(FROZEN[name], type(message)) == message
    assert messages.encode(message) == FROZEN[name]


def test_a_proof_signs_the_bytes_that_deployed_devices_sign():
    assert proof.statement("press-7", PROVED) == (GOLDEN / "proof_v1.bin").read_bytes()


def test_the_topics_are_those_that_deployed_access_rules_name():
    assert topics.up("press-7", "telemetry") == "muster/v1/up/press-7/telemetry"
    assert topics.down("press-7", "directive") == "muster/v1/down/press-7/directive"
    assert topics.tuf("3.targets.json") == "muster/v1/tuf/3.targets.json"
    assert topics.chunk(SHA_A) == f"muster/v1/chunk/{SHA_A}"
