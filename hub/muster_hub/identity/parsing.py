"""A stranger's certificate or request, read: the one place where X.509 from outside is parsed.

The library raises whatever its layers do (``ValueError``, ``UnsupportedAlgorithm``,
``InvalidVersion``, a panic of its Rust part, …), and a next version may raise something else. Here
all of it says one thing: what was sent can't be read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muster_hub.errors import Invalid
from muster_protocol.wire import bounds

PEM_BYTES_MAX = 8192
REASON_CHARS_MAX = 200
PANIC = "PanicException"
"""What a panic in Rust becomes; not an ``Exception``, and the library exports no name for it."""


@dataclass(frozen=True)
class Request:
    """A checked certificate request: the name it asks for and the key that signed it."""

    common_name: str
    public_key: ec.EllipticCurvePublicKey
    key_fingerprint: str


@dataclass(frozen=True)
class Issued:
    """A certificate of this authority that somebody shows; whether it expired is not judged."""

    serial: str
    public_key: ec.EllipticCurvePublicKey
    fingerprint: str
    """SHA-256 of the whole certificate."""

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether its key made the signature: ECDSA with SHA-256."""
        return verifies(self.public_key, signature, data)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Raise Invalid for whatever a parser makes of a stranger's bytes."""
    try:
        yield
    except Invalid:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        said = bounds.clean(str(error), line=True)[:REASON_CHARS_MAX]
        raise Invalid(f"{what}: {type(error).__name__}: {said}") from None


def read_request(csr_pem: bytes) -> Request:
    """Parse a certificate request and check that its key signed it; raises Invalid."""
    _check_size("csr_pem", csr_pem)
    with _reading("csr_pem: not a PEM certificate request"):
        csr = x509.load_pem_x509_csr(csr_pem)
        key = csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise Invalid("csr_pem: the key must be on the curve P-256")
        if not csr.is_signature_valid:
            raise Invalid("csr_pem: the request isn't signed by its own key")
        names = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        common_name = names[0].value if names else ""
        if not isinstance(common_name, str):
            raise Invalid("csr_pem: the common name is not a text")
        der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return Request(common_name, key, hashlib.sha256(der).hexdigest())


def read_issued(pem: bytes, authority: x509.Certificate) -> Issued:
    """Read a certificate that ``authority`` issued; raises Invalid."""
    return read_shown(pem, authority)


def read_shown(pem: bytes, authority: x509.Certificate | None = None) -> Issued:
    """Read a certificate, by ``authority`` if one is given; raises Invalid.

    Without one the caller must know the very certificate from elsewhere.
    """
    _check_size("certificate_pem", pem)
    with _reading("certificate_pem: not a certificate that this hub issued"):
        certificate = x509.load_pem_x509_certificate(pem)
        if authority is not None:
            certificate.verify_directly_issued_by(authority)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Invalid("certificate_pem: not for a key on an elliptic curve")
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        return Issued(f"{certificate.serial_number:x}", key, fingerprint)


def verifies(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether an ECDSA signature with SHA-256 is good, whatever its bytes are."""
    try:
        with _reading("signature"):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except (Invalid, InvalidSignature):
        return False
    return True


def _check_size(what: str, pem: bytes) -> None:
    if len(pem) > PEM_BYTES_MAX:
        raise Invalid(f"{what}: {len(pem)} bytes, the limit is {PEM_BYTES_MAX}")
