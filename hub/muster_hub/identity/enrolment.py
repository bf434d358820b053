"""Letting devices in: tokens, the first certificate, retries after a lost reply, revocation.

A token's use is spent on the key of the first request that presents it; that key may ask again
until the token expires and gets the same certificate. A revoked device stays revoked.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from muster_hub.audit import log
from muster_hub.errors import Conflict, HubError, Invalid, NotFound
from muster_hub.identity.parsing import Request, read_request, read_shown
from muster_hub.identity.pki import Authority, Pki
from muster_hub.storage.models import Certificate, Device, EnrolBinding, EnrolToken, EventRow
from muster_protocol.wire import selectors
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.renewal import proof_of
from muster_protocol.wire.topics import check_device_id

USES_MAX = 100_000
LABELS_MAX = 32
LABEL_CHARS_MAX = 64
CHOSEN = "?"
"""In a token, in place of a label's value: the device says it when it enrols."""
TOKEN_CHARS_MAX = 256
RENEWALS_PER_DAY = 5
RENEW_SHARE_MAX = 0.5
"""A certificate with more than this of its validity left is not renewed."""
DAY_SECONDS = 86_400.0
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")


class EnrolmentTokenRefused(HubError):
    """The enrolment token is no good."""

    code = "token_refused"
    status = 403


class RenewalRefused(HubError):
    """Whoever asks did not prove to be the device."""

    code = "renewal_refused"
    status = 403


@dataclass(frozen=True)
class Enrolled:
    """A device that was let in, and the certificate it got."""

    device: str
    certificate_pem: str


def make_token(
    session: Session,
    ca_fingerprint: str,
    *,
    labels: dict[str, str],
    uses: int,
    expires_seconds: float,
    device: str | None,
    now: float,
    approval: bool = False,
    selector: str = "",
) -> str:
    """Store a token's hash and return its text, which is shown once and kept nowhere.

    ``selector`` is what its maker is limited to: a device that is known when the token is used
    comes back with it only from within.
    """
    check_labels({key: key if value == CHOSEN else value for key, value in labels.items()})
    if device is not None:
        check_device_id(device)
        if uses != 1:
            raise Invalid("a token for one device has one use")
    identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(24)
    session.add(
        EnrolToken(
            id=identifier,
            secret_hash=sha256_hex(secret.encode()),
            labels=labels,
            device=device,
            approval=approval,
            selector=selector,
            uses_left=uses,
            created=now,
            expires=now + expires_seconds,
        )
    )
    return f"{identifier}.{secret}.{ca_fingerprint}"


def enrol(
    session: Session,
    pki: Pki,
    token_text: str,
    csr_pem: str,
    facts: dict[str, Any],
    now: float,
    *,
    labels: dict[str, str] | None = None,
) -> Enrolled:
    """Give the request's key a certificate. Raises TokenRefused, Invalid or Conflict.

    ``labels`` are what the device says of itself, where the token leaves that to it.
    """
    token = _token(session, token_text, now)
    request = read_request(csr_pem.encode())
    binding = session.get(EnrolBinding, (token.id, request.key_fingerprint))
    if binding is not None:
        return _again(session, binding)
    if token.uses_left == 0:
        raise EnrolmentTokenRefused(
            "this token was used up by another key: ask an operator for a new one"
        )
    name = _name(token, request)
    device = session.get(Device, name)
    returned = device is not None
    if device is None:
        device = Device(id=name, labels=_labels(token, labels or {}), created=now)
        session.add(device)
        session.flush()
    elif device.deleted is not None and device.last_seen is None:
        # Nobody ever heard of what had the name: it is free again.
        device.deleted, device.revoked, device.approved = None, False, True
        device.labels, device.created = token.labels, now
    else:
        _may_return(token, device)
        revoke_certificates(session, name, now)
    if token.approval:
        device.approved = False
    certificate = pki.issue_device(request, name, now)
    device.certificate_expires = certificate.expires
    session.add(
        Certificate(
            serial=certificate.serial,
            device=name,
            key_fingerprint=certificate.key_fingerprint,
            pem=certificate.pem.decode(),
            issued=now,
            expires=certificate.expires,
        )
    )
    token.uses_left -= 1
    session.add(EnrolBinding(token=token.id, key_fingerprint=request.key_fingerprint, device=name))
    session.add(EventRow(device=name, kind="enrolled", received=now, data={"facts": facts}))
    log.append(
        session,
        actor=f"enrol-token:{token.id}",
        action="device.enrol-again" if returned else "device.enrol",
        subject=name,
        now=now,
        serial=certificate.serial,
    )
    return Enrolled(name, certificate.pem.decode())


def renew(session: Session, pki: Pki, device: str, csr_pem: str, now: float) -> str:
    """A new certificate, in PEM, for a device whose identity was proved; raises HubError.

    The same key asks again and gets the same certificate, while that is fresh: its reply was lost.
    A key in hardware asks for a later certificate when its time has come. The old certificate stays
    good until it ends, for the device may fail to put the new one in place.
    """
    request = read_request(csr_pem.encode())
    if request.common_name not in ("", device):
        raise Invalid(f"{device} asks for a certificate in the name of {request.common_name!r}")
    row = session.get(Device, device)
    if row is None:
        raise NotFound(f"there is no device {device!r}")
    issuer = _issuer(pki, row)
    if row.revoked or not row.approved:
        raise Conflict(f"{device} is {'revoked' if row.revoked else 'not approved'}")
    held = session.exec(
        select(Certificate)
        .where(Certificate.device == device)
        .where(col(Certificate.revoked).is_(None))
        .order_by(col(Certificate.issued).desc())
        .limit(RENEWALS_PER_DAY)
    ).all()
    for held_certificate in held:
        if held_certificate.key_fingerprint == request.key_fingerprint and _fresh(
            held_certificate, issuer, now
        ):
            return held_certificate.pem
    if any(_fresh(each, issuer, now) for each in held):
        raise Conflict(f"the newest certificate of {device} is good for long: not renewed yet")
    if len(held) == RENEWALS_PER_DAY and held[-1].issued > now - DAY_SECONDS:
        raise Conflict(f"{device} was given {RENEWALS_PER_DAY} certificates within a day")
    certificate = issuer.issue_device(request, device, now)
    row.certificate_expires = certificate.expires
    session.add(
        Certificate(
            serial=certificate.serial,
            device=device,
            key_fingerprint=certificate.key_fingerprint,
            pem=certificate.pem.decode(),
            issued=now,
            expires=certificate.expires,
        )
    )
    log.append(
        session,
        actor=f"device:{device}",
        action="device.renew",
        subject=device,
        now=now,
        serial=certificate.serial,
    )
    return certificate.pem.decode()


def trusted_by(device: Device) -> tuple[str, ...]:
    """Whose certificates a device believes, by its own word: SHA-256 of the authorities'."""
    trust: dict[str, Any] = (device.report or {}).get("trust") or {}
    return tuple(trust.get("authorities") or ())


def _issuer(pki: Pki, device: Device) -> Authority:
    """The first authority that the device believes: others it would refuse a certificate of."""
    believed = trusted_by(device)
    return next((each for each in pki.authorities if each.ca_fingerprint in believed), pki)


def _fresh(certificate: Certificate, issuer: Authority, now: float) -> bool:
    """Whether it has long to go, and is of the authority that would issue the next one."""
    left = certificate.expires - now
    long = left > RENEW_SHARE_MAX * (certificate.expires - certificate.issued)
    return long and issuer.issued(certificate.pem.encode())


def renew_by_proof(
    session: Session, pki: Pki, certificate_pem: str, csr_pem: str, signature: bytes, now: float
) -> Enrolled:
    """Renew for the holder of a certificate of ours, expired or not, but never a revoked one.

    One of an authority that was replaced since counts, if it is the very one that was issued.
    """
    old = read_shown(certificate_pem.encode())
    row = session.get(Certificate, old.serial)
    if row is None or read_shown(row.pem.encode()).fingerprint != old.fingerprint:
        pki.read_own(certificate_pem.encode())  # A stranger's is no certificate to us.
        row = None
    if row is None or not old.verifies(signature, proof_of(csr_pem)):
        raise RenewalRefused("this is no proof of a certificate that this hub issued")
    if row.revoked is not None:
        raise RenewalRefused(f"the certificate of {row.device} is revoked: enrol the device again")
    return Enrolled(row.device, renew(session, pki, row.device, csr_pem, now))


def approve(session: Session, device: str, now: float) -> Device:
    """Let a device that enrolled with a token for approval have something to run."""
    row = session.get(Device, device)
    if row is None:
        raise NotFound(f"there is no device {device!r}")
    if row.revoked:
        raise Conflict(f"{device} was revoked: that is for good")
    row.approved = True
    session.add(EventRow(device=device, kind="approved", received=now))
    return row


def revoke(session: Session, device: str, now: float) -> Device:
    """Withdraw a device's identity for good; raises NotFound."""
    row = session.get(Device, device)
    if row is None:
        raise NotFound(f"there is no device {device!r}")
    row.revoked = True
    revoke_certificates(session, device, now)
    session.add(EventRow(device=device, kind="revoked", received=now))
    return row


def replace(session: Session, device: str, now: float) -> Device:
    """End a device's certificates at once, for another machine to take over its name and history
    with a token for it. Raises NotFound, and Conflict for a revoked one: that is for good."""
    row = session.get(Device, device)
    if row is None:
        raise NotFound(f"there is no device {device!r}")
    if row.revoked:
        raise Conflict(f"{device} was revoked: enrol the new machine under another id")
    revoke_certificates(session, device, now)
    return row


def delete(session: Session, device: str, now: float) -> None:
    """Take a device that was revoked, or never heard of, off every list.

    The name of a revoked one stays taken, and its certificates stay on the revocation list. Raises
    NotFound, and Conflict for any other device.
    """
    row = session.get(Device, device)
    if row is None:
        raise NotFound(f"there is no device {device!r}")
    if not row.revoked and row.last_seen is not None:
        raise Conflict(f"{device} is in service: revoke it first (muster device revoke {device})")
    revoke_certificates(session, device, now)
    row.deleted, row.revoked, row.online = now, True, False
    row.labels, row.report = {}, None


def revoke_certificates(session: Session, device: str, now: float) -> None:
    """Put every certificate of a device on the revocation list."""
    rows = session.exec(
        select(Certificate)
        .where(Certificate.device == device)
        .where(col(Certificate.revoked).is_(None))
    ).all()
    for row in rows:
        row.revoked = now


def revoked_certificates(session: Session, now: float) -> list[tuple[str, float, str]]:
    """(Serial, when, device) of every certificate that the revocation list must name."""
    rows = session.exec(
        select(Certificate.serial, Certificate.revoked, Certificate.device)
        .where(col(Certificate.revoked).is_not(None))
        .where(Certificate.expires > now)
        .order_by(Certificate.serial)
    ).all()
    return [(serial, when, device) for serial, when, device in rows if when is not None]


def check_labels(labels: dict[str, str]) -> None:
    """Labels are what selectors can name; raises Invalid."""
    if len(labels) > LABELS_MAX:
        raise Invalid(f"{len(labels)} labels, the limit is {LABELS_MAX}")
    for key, value in labels.items():
        for what, word in (("label", key), (f"value of label {key}", value)):
            if len(word) > LABEL_CHARS_MAX or not _LABEL.fullmatch(word):
                raise Invalid(
                    f"{what} {word[:80]!r}: use 1 to {LABEL_CHARS_MAX} letters, digits, "
                    "'.', '_', '-' or '/', a letter or digit first and last"
                )


def _token(session: Session, text: str, now: float) -> EnrolToken:
    parts = text.split(".") if len(text) <= TOKEN_CHARS_MAX else []
    if len(parts) != 3:
        raise EnrolmentTokenRefused(
            "this isn't an enrolment token: it has the form id.secret.fingerprint"
        )
    row = session.get(EnrolToken, parts[0], with_for_update=True)
    given = sha256_hex(parts[1].encode())
    if row is None or not hmac.compare_digest(row.secret_hash, given):
        raise EnrolmentTokenRefused(
            "this token isn't known here: check it, or ask an operator for a new one"
        )
    if now >= row.expires:
        raise EnrolmentTokenRefused(
            f"this token expired {(now - row.expires) / 60:.0f} minutes ago: "
            "ask an operator for a new one"
        )
    return row


def _again(session: Session, binding: EnrolBinding) -> Enrolled:
    """The same key asks again: its reply was lost."""
    row = session.exec(
        select(Certificate)
        .where(Certificate.device == binding.device)
        .where(Certificate.key_fingerprint == binding.key_fingerprint)
        .where(col(Certificate.revoked).is_(None))
        .order_by(col(Certificate.issued).desc())
    ).first()
    if row is None:
        raise Conflict(f"the certificate of {binding.device} for this key was revoked")
    return Enrolled(binding.device, row.pem)


def _name(token: EnrolToken, request: Request) -> str:
    """The device's id: what the token says, else what the request asks for, else a new one."""
    asked = request.common_name
    if token.device is not None:
        if asked and asked != token.device:
            raise Invalid(f"this token is for the device {token.device}, not {asked!r}")
        return token.device
    return check_device_id(asked) if asked else f"dev-{secrets.token_hex(5)}"


def _labels(token: EnrolToken, said: dict[str, str]) -> dict[str, str]:
    """What a new device is labelled with: the token's labels, and of the device's those left open.

    What the token's maker may not reach, its devices may not claim to be.
    """
    open_keys = {key for key, value in token.labels.items() if value == CHOSEN}
    if foreign := sorted(said.keys() - open_keys):
        raise Invalid(
            f"this token does not let a device choose its {foreign[0][:80]!r}: make one with "
            f"muster device enroll-token --label '{foreign[0][:80]}={CHOSEN}'"
        )
    check_labels(said)
    labels = {key: value for key, value in token.labels.items() if value != CHOSEN} | said
    if not selectors.parse(token.selector).matches(labels):
        raise Invalid(
            f"with these labels it is none of the devices ({token.selector}) that whoever made "
            "this token may act on"
        )
    return labels


def _may_return(token: EnrolToken, device: Device) -> None:
    """A known device comes with a new key: only on a token made for it, never once revoked."""
    if device.revoked:
        raise Conflict(f"{device.id} was revoked: enrol it under another id")
    if token.device != device.id:
        raise Conflict(
            f"{device.id} is enrolled already: to let it have a new key, "
            f"ask for a token made for it (muster device enroll-token --device {device.id})"
        )
    if not selectors.parse(token.selector).matches(device.labels):
        raise Conflict(
            f"{device.id} is enrolled already, and is none of the devices ({token.selector}) that "
            "whoever made this token may act on"
        )
