"""TLS for a device whose clock can't be trusted: OpenSSL judges the chain, we judge the time.

OpenSSL compares certificates with the system clock, which a device without a battery starts at
1970. The chain, the name and the signature are checked by OpenSSL with its clock switched off;
``check_validity`` then compares the validity with trusted time.
"""

import calendar
import ssl
from pathlib import Path

from cryptography import x509

from muster_agent.identity import identity
from muster_agent.identity.hardware_key import HardwareKeyError
from muster_agent.trust.time import DAY_SECONDS, Instant
from muster_protocol.wire.errors import MusterError

_NO_CHECK_TIME = 0x20_0000
"""X509_V_FLAG_NO_CHECK_TIME of x509_vfy.h; Python's ssl has no name for it."""


class TlsError(MusterError):
    """A certificate that can't be used or believed; one line for an operator."""


def context(ca: Path | str, *, key: Path | None = None, cert: Path | None = None) -> ssl.SSLContext:
    """A client context that trusts ``ca`` (a file, or PEM text) and nothing else.

    The caller must pass every socket it opens to ``check_peer``. Raises TlsError.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # The hub's authority may be issued by another, which this device need not trust.
    made.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if isinstance(ca, Path):
            made.load_verify_locations(cafile=str(ca))
        else:
            made.load_verify_locations(cadata=ca)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"can't read the CA certificate {ca}: {_short(error)}") from None
    if cert is not None:
        try:
            found = None if key is None else identity.hardware(key)
            if found is not None:
                found.use(made, cert)
            else:
                made.load_cert_chain(str(cert), str(key))
        except HardwareKeyError as error:
            raise TlsError(str(error)) from None
        except (OSError, ssl.SSLError) as error:
            raise TlsError(
                f"can't use the certificate {cert} with the key {key}: {_short(error)}"
            ) from None
    return made


def check_peer(socket: ssl.SSLSocket, made: ssl.SSLContext, now: Instant, what: str) -> None:
    """Judge the peer's certificate, and the CAs we trust, by trusted time; raises TlsError."""
    der = socket.getpeercert(binary_form=True)
    if der is None:
        raise TlsError(f"{what} showed no certificate")
    check_validity(x509.load_der_x509_certificate(der), now, f"the certificate of {what}")
    authorities = made.get_ca_certs(binary_form=True)
    refusals = []
    for authority in authorities:
        try:
            check_validity(x509.load_der_x509_certificate(authority), now, f"the CA of {what}")
        except TlsError as refusal:
            refusals.append(refusal)
    # One valid CA is enough: while a CA is renewed the file holds the old one and the new one.
    if refusals and len(refusals) == len(authorities):
        raise refusals[0]


def check_validity(certificate: x509.Certificate, now: Instant, what: str) -> None:
    """Raise TlsError when ``now`` is certainly outside the certificate's validity."""
    start = calendar.timegm(certificate.not_valid_before_utc.timetuple())
    end = calendar.timegm(certificate.not_valid_after_utc.timetuple())
    if now.not_yet(start):
        raise TlsError(
            f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: "
            "check the clocks of this device and of the hub"
        )
    if now.past(end):
        days = (now.seconds - end) // DAY_SECONDS
        raise TlsError(
            f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d} ({days} days ago): "
            "renew it at the hub"
        )


def explain(error: ssl.SSLError | str, host: str) -> str:
    """What a failed handshake means, in words an operator can act on."""
    text = str(error)
    for sign, meaning in _MEANINGS:
        if sign in text.upper().replace(" ", "_"):
            return meaning.format(host=host)
    return f"TLS with {host} failed: {_short(error)}"


_MEANINGS = (
    ("CERTIFICATE_REVOKED",
     "{host} refused this device's certificate: it is revoked; ask the hub's operator"),
    ("ALERT_CERTIFICATE_EXPIRED",
     "{host} refused this device's certificate: it has expired; renew it or enrol again"),
    ("ALERT_UNKNOWN_CA",
     "{host} refused this device's certificate: another CA issued it; enrol at this hub"),
    ("ALERT_BAD_CERTIFICATE", "{host} refused this device's certificate as invalid; enrol again"),
    ("CERTIFICATE_REQUIRED",
     "{host} wants a client certificate and got none; enrol this device first"),
    ("HANDSHAKE_FAILURE", "{host} and this device share no TLS version or cipher (1.2 is least)"),
    ("PROTOCOL_VERSION", "{host} and this device share no TLS version (1.2 is the least)"),
    ("HOSTNAME_MISMATCH", "the certificate of {host} is not for that name: check the address"),
    ("IP_ADDRESS_MISMATCH", "the certificate of {host} is not for that address: use its name"),
    ("CERTIFICATE_VERIFY_FAILED",
     "the certificate of {host} is not signed by the CA this device was enrolled with"),
    ("WRONG_VERSION_NUMBER", "{host} does not speak TLS on that port: check host and port"),
)  # fmt: skip


def _short(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
