"""The certificate authority: what it issues, what it refuses, and that TLS really works by it."""

import datetime as dt
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.errors import ConfigError, Invalid
from muster_hub.identity import parsing, pki

NOW = dt.datetime.now(dt.UTC).timestamp()
DAY = 86_400


@pytest.fixture
def authority(tmp_path):
    return pki.create(tmp_path / "ca", "Muster hub test", NOW)


def csr(name="cam-1", key=None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    )
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def test_a_device_gets_a_client_certificate_in_its_name_for_a_year(authority):
    issued = authority.issue_device(parsing.read_request(csr()), "cam-1", NOW)
    certificate = x509.load_pem_x509_certificate(issued.pem)
    assert certificate.subject.rfc4514_string() == "CN=cam-1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.expires == pytest.approx(NOW + 365 * DAY, abs=2)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.ca_pem))


def test_the_fingerprint_is_that_of_the_ca_in_der(authority):
    ca = x509.load_pem_x509_certificate(authority.ca_pem)
    assert authority.ca_fingerprint == ca.fingerprint(hashes.SHA256()).hex()


def test_a_certificate_is_good_despite_a_clock_a_little_behind(authority):
    issued = authority.issue_device(parsing.read_request(csr()), "cam-1", NOW)
    start = x509.load_pem_x509_certificate(issued.pem).not_valid_before_utc
    assert start.timestamp() < NOW - 60


@pytest.mark.parametrize(
    ("request_pem", "says"),
    [
        (b"not a request", "not a PEM certificate request"),
        (b"x" * 9000, "the limit is 8192"),
        (csr(key=ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (csr(key=rsa.generate_private_key(65537, 2048)), "P-256"),
    ],
)
def test_an_unfit_request_is_refused_with_its_reason(request_pem, says):
    with pytest.raises(Invalid, match=says):
        parsing.read_request(request_pem)


def test_a_request_signed_by_another_key_is_refused():
    good = x509.load_pem_x509_csr(csr()).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(Invalid, match="isn't signed by its own key"):
        parsing.read_request(forged.public_bytes(serialization.Encoding.PEM))


@given(st.binary(max_size=400))
def test_no_bytes_make_reading_a_request_fail_otherwise(junk):
    with pytest.raises(Invalid):
        parsing.read_request(b"-----BEGIN CERTIFICATE REQUEST-----\n" + junk)


def test_an_authority_is_never_replaced(tmp_path, authority):
    with pytest.raises(ConfigError, match="already holds"):
        pki.create(tmp_path / "ca", "another", NOW)


def test_the_authority_s_key_is_readable_by_its_owner_only(tmp_path, authority):
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o777 == 0o600


def test_a_missing_authority_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="muster-hub init"):
        pki.Pki(tmp_path)


def test_the_revocation_list_names_what_was_revoked_and_is_signed(authority):
    issued = authority.issue_device(parsing.read_request(csr()), "cam-1", NOW)
    crl = x509.load_pem_x509_crl(authority.crl([(issued.serial, NOW)], NOW))
    ca_key = x509.load_pem_x509_certificate(authority.ca_pem).public_key()
    assert crl.is_signature_valid(ca_key)
    assert crl.get_revoked_certificate_by_serial_number(int(issued.serial, 16)) is not None
    assert crl.next_update_utc.timestamp() > NOW + 20 * DAY
    assert len(x509.load_pem_x509_crl(authority.crl([], NOW))) == 0


def handshake(authority, tmp_path, name, *, client_pair=None) -> str:
    """Complete a mutual TLS handshake; the common name the server saw."""
    server_pair = authority.issue_server(["localhost", "127.0.0.1", "::1"], NOW)
    client_pair = client_pair or authority.issue_client("_hub", NOW)
    for who, pair in (("server", server_pair), ("client", client_pair)):
        (tmp_path / f"{who}.pem").write_bytes(pair.certificate_pem)
        (tmp_path / f"{who}.key").write_bytes(pair.key_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.load_verify_locations(cadata=authority.ca_pem.decode())
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cadata=authority.ca_pem.decode())
    client.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            raw, _ = listener.accept()
            with raw, server.wrap_socket(raw, server_side=True) as connection:
                subject = dict(pair[0] for pair in connection.getpeercert()["subject"])
                seen.append(subject["commonName"])
                connection.sendall(b"!")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=60) as raw,
            client.wrap_socket(raw, server_hostname=name) as connection,
        ):
            assert connection.recv(1) == b"!"
        thread.join()
    return seen[0]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_both_sides_of_tls_accept_what_it_issues(authority, tmp_path, name):
    assert handshake(authority, tmp_path, name) == "_hub"
