"""Where a device is sent: short in targets, whole in a directive, and the same in both."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from muster_protocol.wire import contact, directive, limits
from muster_protocol.wire.contact import Approved, BrokerAddress, Contact
from wire_samples import CONTACT, DIRECTIVE, DIRECTIVE_CONTACT

DERS = st.binary(min_size=1, max_size=64)
CONTACTS = st.builds(
    Contact,
    hubs=st.lists(st.just("https://hub.example:8443"), max_size=3).map(tuple),
    brokers=st.lists(
        st.builds(BrokerAddress, st.sampled_from(["a.example", "::1"]), st.integers(1, 65535)),
        max_size=limits.CONTACT_ADDRESSES_MAX,
    ).map(tuple),
    authorities=st.lists(DERS, max_size=limits.AUTHORITIES_MAX, unique=True).map(tuple),
)


@given(CONTACTS)
def test_what_targets_name_brings_back_the_contact_they_were_signed_for(value: Contact) -> None:
    short = contact.approved(value)
    assert contact.read(msgspec.json.decode(msgspec.json.encode(short))) == short
    assert contact.bring(short, value.authorities) == value


@given(CONTACTS, CONTACTS)
def test_different_contacts_have_different_digests(first: Contact, other: Contact) -> None:
    alike = contact.approved(first).digest == contact.approved(other).digest
    assert alike == (first == other)


def test_a_contact_with_a_certificate_that_is_not_at_hand_is_not_brought() -> None:
    assert contact.bring(contact.approved(CONTACT), CONTACT.authorities[:1]) is None


@pytest.mark.parametrize(
    "field",
    [
        None, 7, "hub", [], {"hubs": "https://x"}, {"hubs": ["http://x"]}, {"hubs": [1]},
        {"brokers": [{"host": "", "port": 1}]}, {"brokers": [{"host": "x", "port": 70_000}]},
        {"authorities": ["A" * 64]}, {"authorities": ["ab"]}, {"more": 1},
        {"hubs": ["https://x"] * (limits.CONTACT_ADDRESSES_MAX + 1)},
    ],
)  # fmt: skip
def test_a_field_of_targets_that_makes_no_sense_names_nothing(field: object) -> None:
    assert contact.read(field) is None


def test_a_signer_reads_addresses_and_authorities() -> None:
    assert str(contact.approved(CONTACT)) == (
        "hub https://next.example:8443, then https://hub.example:8443; "
        "broker next.example:8883, then [::1]:8883; authority "
        f"{hashlib.sha256(b'der of the next').hexdigest()[:16]}, then "
        f"{hashlib.sha256(b'der of the last').hexdigest()[:16]}"
    )
    assert str(Approved()) == "as enrolled"


def test_a_directive_without_a_contact_has_no_trace_of_it() -> None:
    assert DIRECTIVE.contact is UNSET
    assert b"contact" not in directive.encode(DIRECTIVE)
    assert directive.decode(directive.encode(DIRECTIVE_CONTACT)).contact == CONTACT


def test_the_largest_contact_leaves_a_directive_room_for_its_slots() -> None:
    line = "h" * (limits.LINE_CHARS_MAX - 8)
    largest = Contact(
        tuple(f"https://{line[:-1]}{number}" for number in range(limits.CONTACT_ADDRESSES_MAX)),
        tuple(BrokerAddress("b" * 255, 65535) for _ in range(limits.CONTACT_ADDRESSES_MAX)),
        (bytes(limits.AUTHORITY_BYTES_MAX),) * limits.AUTHORITIES_MAX,
    )
    assert len(msgspec.json.encode(largest)) < limits.DIRECTIVE_BYTES_MAX / 2
