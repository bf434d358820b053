"""A small certificate authority for tests: P-256, any validity, any name."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, as PEM files."""

    key: Path
    cert: Path


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Authority:
    """``start`` and ``end`` bound what it issues; by default yesterday to next year."""

    def __init__(
        self,
        directory: Path,
        name: str = "ca",
        *,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> None:
        now = dt.datetime.now(dt.UTC)
        self.directory = directory
        self.start = start or now - DAY
        self.end = end or now + 365 * DAY
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        self.certificate = self._sign(
            self._builder(self.name, self._key.public_key(), self.start, self.end).add_extension(
                x509.BasicConstraints(ca=True, path_length=0), critical=True
            )
        )
        self.cert = directory / f"{name}.pem"
        self.cert.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def issue(
        self,
        common_name: str,
        *,
        file: str | None = None,
        hosts: tuple[str, ...] = (),
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(
            _name(common_name), key.public_key(), start or self.start, end or self.end
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        pair = Pair(
            self.directory / f"{file or common_name}.key",
            self.directory / f"{file or common_name}.crt",
        )
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pair.cert.write_bytes(self._sign(builder).public_bytes(serialization.Encoding.PEM))
        return pair

    def revoke(self, pair: Pair) -> Path:
        """A list of revoked certificates that holds this one alone."""
        revoked = (
            x509.RevokedCertificateBuilder()
            .serial_number(x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number)
            .revocation_date(self.start)
            .build()
        )
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(self.start)
            .next_update(self.end)
            .add_revoked_certificate(revoked)
        )
        path = self.directory / "revoked.pem"
        made = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return path

    def sign_csr(self, csr_pem: str, common_name: str) -> str:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        assert csr.is_signature_valid
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        made = self._sign(self._builder(_name(common_name), key, self.start, self.end))
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        start: dt.datetime,
        end: dt.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
