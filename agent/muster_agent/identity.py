"""Who this device is: a P-256 key that never leaves it, and the certificate for it."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muster_agent.files import make_directory, rename_durably, write_durably
from muster_agent.trusted_time import DAY_SECONDS
from muster_protocol.errors import MusterError, ProtocolError
from muster_protocol.topics import check_device_id

KEY_FILE = "key.pem"
CERT_FILE = "cert.pem"
CA_FILE = "ca.pem"
NEXT_KEY = "key.pem.new"
NEXT_CERT = "cert.pem.new"
"""A renewed identity that no broker has accepted yet."""


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
    paths = [directory / name for name in (KEY_FILE, CERT_FILE, CA_FILE)]
    for path in paths:
        if not path.is_file():
            raise IdentityError(f"{path} does not exist: enrol this device (muster-agent enroll)")
    key_path, cert_path, ca_path = paths
    certificate = read_certificate(cert_path.read_bytes(), str(cert_path))
    if not certifies(certificate, read_key(key_path)):
        certificate = _finish_promotion(directory) or certificate
    if not certifies(certificate, read_key(key_path)):
        raise IdentityError(f"{cert_path} is not for the key {key_path}: enrol this device again")
    return Identity(
        common_name(certificate, str(cert_path)),
        key_path,
        cert_path,
        ca_path,
        int(certificate.not_valid_after_utc.timestamp()),
        int(certificate.not_valid_before_utc.timestamp()),
    )


def promote(directory: Path) -> None:
    """Make the renewed key and certificate the identity; ``load`` finishes an interrupted one.

    Raises OSError.
    """
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


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise IdentityError(f"{path} can't be read as a private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path} is not an elliptic curve key: enrol this device again")
    return key


def make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make the device's key, readable by its owner only. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    make_directory(path.parent, mode=0o700)
    write_durably(path, pem, mode=0o600)
    return key


def request(key: ec.EllipticCurvePrivateKey, device: str | None) -> str:
    """A certificate signing request in PEM, for ``device``; without one the token names it."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, device)] if device else []
    name = x509.Name(names)
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def read_certificate(pem: bytes, what: str) -> x509.Certificate:
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


def certifies(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()
