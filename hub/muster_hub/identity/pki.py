"""The hub's certificate authority: P-256 certificates for devices, servers and the hub itself."""

import datetime as dt
import ipaddress
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from muster_hub.errors import ConfigError, Invalid
from muster_hub.identity import parsing
from muster_hub.identity.parsing import Issued, Request
from muster_hub.storage.files import flush_directory, make_private_directory, write_durably

CA_DAYS = 3650
DEVICE_DAYS = 365
SERVER_DAYS = 365
CRL_DAYS = 30
SERVER_RENEW_SECONDS = 60 * 86_400.0
"""With this much of its validity left a server is given a new certificate."""
SKEW = dt.timedelta(hours=1)
"""Certificates are valid from a little before now: clocks differ."""

CHAIN = "chain.pem"
NEXT = "next"
"""Where the authority waits that is to replace the one in force."""


@dataclass(frozen=True)
class IssuedCertificate:
    """An issued certificate; ``expires`` in seconds since 1970, hexadecimal elsewhere."""

    pem: bytes
    serial: str
    fingerprint: str
    key_fingerprint: str
    expires: float


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, in PEM."""

    certificate_pem: bytes
    key_pem: bytes


class Authority:
    """One kept in a directory: ``ca.pem`` and ``ca.key`` (0600).

    One that somebody else's authority issued has ``chain.pem`` beside it, up to their root.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            self.ca_pem = (directory / "ca.pem").read_bytes()
            key_pem = (directory / "ca.key").read_bytes()
        except FileNotFoundError as error:
            raise ConfigError(f"{error.filename} is missing: run `muster-hub init` first") from None
        self._ca = x509.load_pem_x509_certificate(self.ca_pem)
        self.chain_pem = _chain(directory, self._ca) or self.ca_pem
        """For a broker, which wants to see a root. Devices are given ``ca_pem``, to trust nothing
        else that the root may have issued."""
        key = serialization.load_pem_private_key(key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{directory / 'ca.key'} is not an elliptic-curve key")
        self._key = key

    @property
    def expires(self) -> float:
        """Of the authority's own certificate, seconds since 1970."""
        return self._ca.not_valid_after_utc.timestamp()

    @property
    def ca_fingerprint(self) -> str:
        """SHA-256 of the CA certificate in DER: what an enrolment token carries."""
        return self._ca.fingerprint(hashes.SHA256()).hex()

    @property
    def certificate_der(self) -> bytes:
        """The authority's own certificate."""
        return self._ca.public_bytes(serialization.Encoding.DER)

    def read_own(self, pem: bytes) -> Issued:
        """Read a certificate that this authority issued; raises Invalid."""
        return parsing.read_issued(pem, self._ca)

    def issued(self, pem: bytes) -> bool:
        """Whether this authority issued a certificate."""
        try:
            self.read_own(pem)
        except Invalid:
            return False
        return True

    def issue_device(self, request: Request, device: str, now: float) -> IssuedCertificate:
        """A client certificate for the request's key, in the name of ``device``."""
        certificate = self._issue(
            request.public_key, device, now, DEVICE_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH
        )
        return IssuedCertificate(
            pem=certificate.public_bytes(serialization.Encoding.PEM),
            serial=f"{certificate.serial_number:x}",
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            key_fingerprint=request.key_fingerprint,
            expires=certificate.not_valid_after_utc.timestamp(),
        )

    def issue_server(self, names: Iterable[str], now: float) -> KeyPair:
        """A server's key and certificate for these host names and addresses."""
        listed = list(dict.fromkeys(names))
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in listed])
        return self._issue_pair(
            listed[0], now, SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, alternatives
        )

    def issue_client(self, common_name: str, now: float) -> KeyPair:
        """A key and client certificate for a part of the hub itself."""
        return self._issue_pair(common_name, now, DEVICE_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH)

    def crl(self, revoked: Iterable[tuple[str, float]], now: float) -> bytes:
        """The list of revoked (serial, when), valid for ``CRL_DAYS``; PEM."""
        at = _time(now)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._ca.subject)
            .last_update(at - SKEW)
            .next_update(at + dt.timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now)), critical=False)
            .add_extension(self._authority(), critical=False)
        )
        for serial, when in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(serial, 16))
                .revocation_date(_time(when))
                .build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue_pair(
        self,
        common_name: str,
        now: float,
        days: int,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(key.public_key(), common_name, now, days, usage, alternatives)
        return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))

    def _issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        common_name: str,
        now: float,
        days: int,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        builder = (
            _builder(common_name, public_key, now, days)
            .issuer_name(self._ca.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(self._authority(), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _authority(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


class Pki(Authority):
    """The authority in force, and while it is being replaced the ``next`` one in ``next/``.

    Until the next one is promoted, servers and newly enrolled devices have certificates of the one
    in force, which everybody trusts; devices that have heard of the next one are renewed by that.
    """

    def __init__(self, directory: Path) -> None:
        _finish_promotion(directory)
        super().__init__(directory)
        waiting = directory / NEXT
        self.next = Authority(waiting) if waiting.is_dir() else None

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """All that are believed; the one that issues to whoever trusts it first."""
        return (self,) if self.next is None else (self.next, self)

    @property
    def trusted_pem(self) -> bytes:
        """What a broker believes, up to the roots."""
        return self.chain_pem + (b"" if self.next is None else self.next.chain_pem)

    def crls(self, revoked: Iterable[tuple[str, float]], now: float) -> bytes:
        """A list of each authority: a broker refuses whom it has no list for; PEM."""
        listed = list(revoked)
        return b"".join(authority.crl(listed, now) for authority in reversed(self.authorities))


def begin(directory: Path, make: Callable[[Path], object]) -> Authority:
    """Put the authority that ``make`` makes beside the one in ``directory``, whole or not at all.

    One that waits there already is kept.
    """
    waiting, building = directory / NEXT, directory / f".{NEXT}.new"
    if not waiting.is_dir():
        shutil.rmtree(building, ignore_errors=True)
        make(building)
        building.rename(waiting)
        flush_directory(directory)
    return Authority(waiting)


def promote(directory: Path) -> Pki:
    """Put the next authority in force; the key of the one before is gone. Raises ConfigError."""
    key = directory / NEXT / "ca.key"
    if not key.exists():
        raise ConfigError(f"{directory / NEXT} holds no authority that waits")
    key.rename(directory / "ca.key")
    flush_directory(directory)
    return Pki(directory)


def _finish_promotion(directory: Path) -> None:
    """Once the key is in place its certificate follows, though the power failed in between."""
    waiting = directory / NEXT
    if not waiting.is_dir() or (waiting / "ca.key").exists():
        return
    for name in (CHAIN, "ca.pem"):
        if (waiting / name).exists():
            (waiting / name).rename(directory / name)
    flush_directory(directory)
    waiting.rmdir()


def _chain(directory: Path, own: x509.Certificate) -> bytes | None:
    """The chain above ``own``; one that an authority before it left behind doesn't count."""
    path = directory / CHAIN
    if not path.exists():
        return None
    pem = path.read_bytes()
    return pem if x509.load_pem_x509_certificates(pem)[:1] == [own] else None


def create(directory: Path, name: str, now: float) -> Pki:
    """Make a new authority; an existing one is never replaced."""
    make_private_directory(directory)
    if (directory / "ca.key").exists():
        raise ConfigError(f"{directory} already holds a certificate authority")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, key.public_key(), now, CA_DAYS)
        .issuer_name(_name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_durably(directory / "ca.key", _private_pem(key), mode=0o600)
    write_durably(directory / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return Pki(directory)


def adopt(directory: Path, chain_pem: bytes, key_pem: bytes, now: float) -> Pki:
    """Use an authority that somebody else's issued for this hub, in place of one made here.

    ``chain_pem`` begins with the authority's certificate and goes up to the root. Raises
    ConfigError.
    """
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the authority can't be read as PEM (keys unencrypted): {error}"
        ) from None
    own = chain[0]
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != own.public_key():
        raise ConfigError("the key is not that of the authority's certificate, on a curve")
    _check_authority(own, now)
    for child, parent in zip(chain, [*chain[1:], chain[-1]], strict=True):
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature):
            raise ConfigError(
                f"{child.subject.rfc4514_string()} is not issued by what follows it: give the "
                "authority's certificate first, then each issuer, the self-signed root last"
            ) from None
    make_private_directory(directory)
    write_durably(directory / "ca.key", _private_pem(key), mode=0o600)
    write_durably(directory / CHAIN, b"".join(map(_pem, chain)))
    write_durably(directory / "ca.pem", _pem(own))
    return Pki(directory)


def _check_authority(certificate: x509.Certificate, now: float) -> None:
    name = certificate.subject.rfc4514_string()
    if not certificate.subject.rdns:
        raise ConfigError("the authority's certificate has no name")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise ConfigError(f"{name} is no authority: {error}") from None
    if not (constraints.ca and usage.key_cert_sign and usage.crl_sign):
        raise ConfigError(f"{name} may not sign certificates and revocation lists")
    if not certificate.not_valid_before_utc <= _time(now) < certificate.not_valid_after_utc:
        raise ConfigError(f"{name} is not valid today")


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    common_name: str, public_key: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    at = _time(now)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - SKEW)
        .not_valid_after(at + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
