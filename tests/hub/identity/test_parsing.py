"""Certificate requests and certificates from strangers, mutated: each is taken or refused."""

import base64
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from muster_hub.errors import Invalid
from muster_hub.identity import parsing, pki
from support.damaged_models import mutated
from support.hub_kit import csr, new_key

MUTANTS = 6_000
SEED = 14


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return pki.create(tmp_path_factory.mktemp("ca"), "Muster CA", 1_800_000_000.0)


def pem(der: bytes, what: str) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (what.encode(), text, what.encode())


def mutants(der: bytes, what: str) -> list[bytes]:
    """Half of them damaged within the DER, the others in the PEM around it."""
    rng = random.Random(SEED)
    whole = pem(der, what)
    made = [pem(mutated(der, rng), what) for _ in range(MUTANTS // 2)]
    return made + [mutated(whole, rng) for _ in range(MUTANTS // 2)]


def test_a_mutated_request_is_read_or_refused_never_an_exception_of_the_parsers(record_property):
    der = x509.load_pem_x509_csr(csr(new_key(), "cam-1").encode()).public_bytes(
        serialization.Encoding.DER
    )
    refused = 0
    for request in mutants(der, "CERTIFICATE REQUEST"):
        try:
            assert parsing.read_request(request).common_name == "cam-1"
        except Invalid:
            refused += 1
    assert refused > MUTANTS / 2
    record_property("tried", f"{MUTANTS} mutated certificate requests, {refused} refused")


def test_a_mutated_certificate_is_read_or_refused(authority):
    issued = authority.issue_device(
        parsing.read_request(csr(new_key(), "cam-1").encode()), "cam-1", 1_800_000_000.0
    )
    der = x509.load_pem_x509_certificate(issued.pem).public_bytes(serialization.Encoding.DER)
    for certificate in mutants(der, "CERTIFICATE"):
        try:
            assert authority.read_own(certificate).serial == issued.serial
        except Invalid:
            continue


def test_a_damaged_signature_verifies_nothing(authority):
    key = new_key()
    for signature in (b"", b"\x30", b"\x30\x80", bytes(512), b"\xff" * 72):
        assert not parsing.verifies(key.public_key(), signature, b"data")
