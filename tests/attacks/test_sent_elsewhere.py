"""A thief tries to send devices to a hub of his own, where his certificates are believed.

It takes the targets key, which is not on the hub: a directive alone sends nobody anywhere.
"""

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from muster_agent.identity.contact import Contacts
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire.contact import BrokerAddress, Contact, approved
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.metadata import CONTACT_FIELD
from support.pki import Authority
from support.trust_device import TrustDevice
from support.tuf_repository import Repository

HOME = BrokerAddress("hub.example", 8883)


class Follower:
    """A device's identity beside its trust store."""

    def __init__(self, directory: Path, device: TrustDevice, repository: Repository) -> None:
        self.device, self.repository, self.directory = device, repository, directory
        place = directory / "identity"
        place.mkdir()
        (place / "ca.pem").write_bytes(Authority(directory, "home").cert.read_bytes())
        self.contacts = Contacts(place, hub="https://hub.example", broker=HOME)
        self.believed = self.contacts.authorities

    def contact(self, host: str) -> Contact:
        der = Authority(self.directory, host).certificate.public_bytes(serialization.Encoding.DER)
        return Contact((f"https://{host}",), (BrokerAddress(host, 8883),), (der,))

    def hears(self, wanted: Contact) -> None:
        """A directive by the director's key comes, with whatever metadata are at the broker."""
        trusted = self.device.update(self.repository.files)
        directive = trusted.verify_directive(self.repository.directive(contact=wanted))
        self.contacts.follow(directive.contact, trusted.contact)

    def name_in_targets(self, wanted: Contact, role: str = "targets") -> None:
        fields = self.repository.roles[role].signed.unrecognized_fields
        fields[CONTACT_FIELD] = msgspec.to_builtins(approved(wanted))

    @property
    def stays(self) -> bool:
        return self.contacts.brokers() == (HOME,) and self.contacts.authorities == self.believed


@pytest.fixture
def follower(tmp_path: Path, device: TrustDevice, repository: Repository) -> Follower:
    return Follower(tmp_path, device, repository)


def test_a_thief_with_every_key_of_the_hub_can_sign_a_directive_but_send_nobody_away(
    follower: Follower, device: TrustDevice, repository: Repository
) -> None:
    follower.hears(follower.contact("thief.example"))
    assert follower.stays
    device.assert_updates(repository)


def test_targets_by_the_hub_s_own_keys_send_nobody_away(
    follower: Follower, device: TrustDevice, repository: Repository
) -> None:
    wanted = follower.contact("thief.example")
    honest, named = repository.keys["targets"], repository.roles["targets"].signed
    follower.name_in_targets(wanted)
    repository.keys["targets"] = [
        key for role in ("director", "snapshot", "timestamp") for key in repository.keys[role]
    ]
    repository.publish("targets")
    with pytest.raises(TrustRefused) as refused:
        follower.hears(wanted)
    assert refused.value.refusal == Refusal.BAD_SIGNATURE
    assert follower.stays
    repository.keys["targets"] = honest
    del named.unrecognized_fields[CONTACT_FIELD]
    repository.publish("targets")
    device.assert_updates(repository)


def test_release_keys_send_nobody_away(
    follower: Follower, device: TrustDevice, repository: Repository
) -> None:
    wanted = follower.contact("thief.example")
    follower.name_in_targets(wanted, "model-digits")
    repository.publish("model-digits")
    follower.hears(wanted)
    assert follower.stays
    device.assert_updates(repository)


def test_a_thief_of_the_hub_can_not_put_his_authority_beside_an_address_that_was_signed(
    follower: Follower, device: TrustDevice, repository: Repository
) -> None:
    signed, evil = follower.contact("next.example"), follower.contact("thief.example")
    follower.name_in_targets(signed)
    repository.publish("targets")
    for changes in (
        {"authorities": evil.authorities},
        {"authorities": (*signed.authorities, *evil.authorities)},
        {"authorities": ()},
        {"hubs": evil.hubs},
        {"brokers": (*evil.brokers, *signed.brokers)},
    ):
        follower.hears(msgspec.structs.replace(signed, **changes))
        assert follower.stays, changes
    follower.hears(signed)
    assert follower.contacts.brokers() == (*signed.brokers, HOME)
    device.assert_updates(repository)


def test_an_address_that_was_given_up_can_not_be_replayed(
    follower: Follower, device: TrustDevice, repository: Repository
) -> None:
    first, second = follower.contact("first.example"), follower.contact("second.example")
    for wanted in (first, second):
        follower.name_in_targets(wanted)
        repository.publish("targets")
        follower.hears(wanted)
    follower.hears(first)
    assert follower.contacts.brokers() == (*second.brokers, HOME)
    assert follower.contacts.authorities == approved(second).authorities
    device.assert_updates(repository)
