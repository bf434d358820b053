"""Who this device is: a P-256 key that never leaves it, and the certificate for it.

The key is a file, or lies in hardware: then ``key.uri`` names it in place of ``key.pem``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muster_agent.identity.hardware_key import HardwareKey, HardwareKeyError, check_uri, open_key
from muster_agent.storage.files import make_directory, rename_durably, write_durably
from muster_agent.trust.time import DAY_SECONDS
from muster_protocol.wire.errors import MusterError, ProtocolError
from muster_protocol.wire.topics import check_device_id

KEY_FILE = "key.pem"
KEY_URI = "key.uri"
CERT_FILE = "cert.pem"
CA_FILE = "ca.pem"
NEXT_KEY = "key.pem.new"
NEXT_CERT = "cert.pem.new"
"""A renewed identity that no broker has accepted yet."""


class Key(Protocol):
    """Signs with ECDSA over P-256 and SHA-256; the signature is DER."""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The half that certificates hold."""
        ...

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256 over ``data``, in DER; raises IdentityError."""
        ...

    def request(self, device: str | None) -> bytes:
        """A certificate request in PEM, with ``device`` as its name; None lets the hub choose."""
        ...


@dataclass(frozen=True, slots=True)
class FileKey:
    """A private key that was read from a file."""

    private: ec.EllipticCurvePrivateKey

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.private.public_key()

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def request(self, device: str | None) -> bytes:
        """A certificate signing request in DER."""
        names = [x509.NameAttribute(NameOID.COMMON_NAME, device)] if device else []
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
        return builder.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class IdentityError(MusterError):
    """The identity on disk is missing, damaged or doesn't fit together."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Paths for TLS, and what the certificate says. ``expires`` is seconds since 1970."""

    device: str
    key: Path
    cert: Path
    ca: Path
    expires: int
    issued: int = 0
    """Seconds since 1970, as ``expires``."""

    def days_left(self, now: int) -> int:
        """Whole days until the certificate expires; negative once it has."""
        return (self.expires - now) // DAY_SECONDS


def load(directory: Path) -> Identity:
    """The identity in ``directory``; raises IdentityError with one line and the cure."""
    paths = [key_path(directory), directory / CERT_FILE, directory / CA_FILE]
    for path in paths:
        if not path.is_file():
            raise IdentityError(f"{path} does not exist: enrol this device (muster-agent enroll)")
    held_key, cert_path, ca_path = paths
    certificate = read_certificate(cert_path.read_bytes(), str(cert_path))
    if not certifies(certificate, read_key(held_key)):
        certificate = _finish_promotion(directory) or certificate
    if not certifies(certificate, read_key(held_key)):
        raise IdentityError(f"{cert_path} is not for the key {held_key}: enrol this device again")
    return Identity(
        common_name(certificate, str(cert_path)),
        held_key,
        cert_path,
        ca_path,
        int(certificate.not_valid_after_utc.timestamp()),
        int(certificate.not_valid_before_utc.timestamp()),
    )


def promote(directory: Path) -> None:
    """Make the renewed key and certificate the identity; ``load`` finishes an interrupted one.

    A key in hardware stays: only its certificate is new. Raises OSError.
    """
    if not in_hardware(directory):
        rename_durably(directory / NEXT_KEY, directory / KEY_FILE)
    rename_durably(directory / NEXT_CERT, directory / CERT_FILE)


def _finish_promotion(directory: Path) -> x509.Certificate | None:
    """The power failed between the two renames: the key is new, its certificate still waits."""
    path = directory / NEXT_CERT
    if not path.is_file():
        return None
    certificate = read_certificate(path.read_bytes(), str(path))
    if not certifies(certificate, read_key(directory / KEY_FILE)):
        return None
    rename_durably(path, directory / CERT_FILE)
    return certificate


def key_path(directory: Path) -> Path:
    """Where the key is, or what names it."""
    return directory / (KEY_URI if in_hardware(directory) else KEY_FILE)


def in_hardware(directory: Path) -> bool:
    """Whether the identity's key lies on a token, not in a file."""
    return (directory / KEY_URI).is_file()


def hardware(path: Path) -> HardwareKey | None:
    """The key in hardware that ``path`` names; None for a key that is a file.

    Raises HardwareKeyError, OSError.
    """
    return open_key(path.read_text().strip()) if path.name == KEY_URI else None


def use_hardware(directory: Path, uri: str) -> Path:
    """Have the device's key be the one that ``uri`` names. Raises HardwareKeyError, OSError."""
    open_key(check_uri(uri))
    make_directory(directory, mode=0o700)
    write_durably(directory / KEY_URI, f"{uri}\n".encode(), mode=0o600)
    return directory / KEY_URI


def read_key(path: Path) -> Key:
    """The key in, or named by, a file; raises IdentityError."""
    try:
        found = hardware(path)
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(f"{path} can't be read: {error}") from None
    except HardwareKeyError as error:
        raise IdentityError(str(error)) from None
    if found is not None:
        return found
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise IdentityError(f"{path} can't be read as a private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path} is not an elliptic curve key: enrol this device again")
    return FileKey(key)


def make_key(path: Path) -> Key:
    """Make the device's key, readable by its owner only. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    make_directory(path.parent, mode=0o700)
    write_durably(path, pem, mode=0o600)
    return FileKey(key)


def request(key: Key, device: str | None) -> str:
    """A certificate signing request in PEM, for ``device``; without one the token names it."""
    csr = x509.load_der_x509_csr(key.request(device))
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def read_certificate(pem: bytes, what: str) -> x509.Certificate:
    """A certificate from PEM; raises IdentityError that names what it is."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise IdentityError(f"{what} can't be read as a certificate: {error}") from None


def common_name(certificate: x509.Certificate, what: str) -> str:
    """The device id a certificate names."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise IdentityError(f"{what} has {len(names)} common names, one is needed")
    try:
        return check_device_id(str(names[0].value))
    except ProtocolError as error:
        raise IdentityError(f"{what}: {error}") from None


def certifies(certificate: x509.Certificate, key: Key) -> bool:
    """Whether a certificate is about this key."""
    return certificate.public_key() == key.public_key()
