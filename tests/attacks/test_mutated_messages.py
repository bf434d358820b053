"""Every signed message, mutated at random: no mutant is ever believed."""

import datetime as dt
import tempfile
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_agent.identity import identity
from muster_agent.trust.trusted import TrustRefused
from muster_hub.identity.proof import proved_slots
from muster_protocol.wire import messages, proof
from muster_protocol.wire.directive import DirectiveRefused
from muster_protocol.wire.errors import ProtocolError
from support.trust_device import TrustDevice
from support.tuf_repository import NOW, Repository
from wire_samples import MESSAGES

REPOSITORY = Repository()
DIGEST = REPOSITORY.release("digits", "1.0.0")
REPOSITORY.rotate_root("timestamp")
REPOSITORY.publish("targets", "model-digits")
FILES = dict(REPOSITORY.files)
NAMES = sorted(name for name in FILES if not name.startswith("1."))
DIRECTIVE = REPOSITORY.directive(generation=5)


@st.composite
def mutants(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with one to three bytes flipped, spans cut, doubled or replaced."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(len(made) - 1, 0)))
        end = min(len(made), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["flip", "cut", "double", "replace", "truncate"]))
        if kind == "flip" and made:
            made[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del made[start:end]
        elif kind == "double":
            made[start:start] = made[start:end]
        elif kind == "replace":
            made[start:end] = draw(st.binary(max_size=40))
        else:
            del made[start:]
    return bytes(made)


@given(st.data())
@settings(max_examples=80)
def test_no_mutated_metadata_is_believed_and_none_stops_the_next_update(
    data: st.DataObject,
) -> None:
    name = data.draw(st.sampled_from(NAMES))
    files = FILES | {name: data.draw(mutants(FILES[name]))}
    with tempfile.TemporaryDirectory() as directory:
        device = TrustDevice(Path(directory), REPOSITORY.factory_root)
        try:
            found = device.update(files).manifest_target("digits", "1.0.0", now=NOW)
        except TrustRefused:
            found = None
        # A mutant of what isn't signed (space, a spare signature) may pass: it says the same.
        assert found is None or found[0] == DIGEST
        assert_updates(device)


def assert_updates(device: TrustDevice) -> None:
    """The honest files are taken next, and nothing that was verified is forgotten."""
    versions = device.store.versions()
    whole = device.update(FILES)
    assert all(whole.versions[stem] >= version for stem, version in versions.items())
    found = whole.manifest_target("digits", "1.0.0", now=NOW)
    assert found is not None
    assert found[0] == DIGEST


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> TrustDevice:
    made = TrustDevice(tmp_path_factory.mktemp("device"), REPOSITORY.factory_root)
    made.update(FILES)
    return made


def test_no_mutated_directive_is_believed(device: TrustDevice) -> None:
    trusted = device.store.trusted()
    assert trusted is not None
    honest = trusted.verify_directive(DIRECTIVE)

    @given(mutants(DIRECTIVE))
    @settings(max_examples=200)
    def tried(mutant: bytes) -> None:
        try:
            believed = trusted.verify_directive(mutant)
        except DirectiveRefused:
            return
        assert believed == honest

    tried()
    assert trusted.verify_directive(DIRECTIVE) == honest
    assert_updates(device)


REPORT = MESSAGES["report"]
KEY = identity.FileKey(ec.generate_private_key(ec.SECP256R1()))
CERTIFICATE = (
    x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), KEY.public_key(), 1,
        dt.datetime(2026, 1, 1), dt.datetime(2030, 1, 1),  # noqa: DTZ001 - X.509 wants it naive
    )
    .sign(KEY.private, hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
    .decode()
)  # fmt: skip
SIGNED = msgspec.structs.replace(REPORT, proof=KEY.sign(proof.statement("dev-1", REPORT)))


def test_no_mutated_report_proves_anything_else(device: TrustDevice) -> None:
    """A device's signed report, altered on its way, is hearsay or says the same."""
    honest = proved_slots("dev-1", msgspec.to_builtins(SIGNED), [CERTIFICATE])
    assert honest

    @given(mutants(messages.encode(SIGNED)))
    @settings(max_examples=200)
    def tried(mutant: bytes) -> None:
        try:
            report = msgspec.to_builtins(messages.decode(mutant, messages.Report))
        except ProtocolError:
            return
        assert proved_slots("dev-1", report, [CERTIFICATE]) in ({}, honest)

    tried()
    assert_updates(device)
