"""What a device's report proves: checked against the certificates it was given. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from muster_hub.identity.parsing import verifies
from muster_protocol.wire import proof
from muster_protocol.wire.messages import Report


def proved_slots(
    device: str, report: Mapping[str, Any] | None, certificates: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """By slot what runs, when the report is signed by the key of one of the certificates (PEM):
    of the report only what the signature covers.

    Empty when it is not: a report without a proof is hearsay.
    """
    reported = _proved(device, report, certificates)
    if reported is None:
        return {}
    return {
        slot: {
            "model": run.model,
            "version": run.version,
            "manifest": run.manifest,
            "since": msgspec.to_builtins(run.since),
            "inferences": run.inferences,
        }
        for slot, slot_report in reported.slots.items()
        if (run := slot_report.running) is not None
    }


def is_proved(device: str, report: Mapping[str, Any] | None, certificates: Iterable[str]) -> bool:
    """Whether a report is signed by the key of one of the certificates (PEM)."""
    return _proved(device, report, certificates) is not None


def _proved(
    device: str, report: Mapping[str, Any] | None, certificates: Iterable[str]
) -> Report | None:
    if not report or not report.get("proof"):
        return None
    try:
        reported = msgspec.convert(report, Report)
    except (msgspec.ValidationError, ValueError):
        return None
    said = proof.statement(device, reported)
    signed = any(_signed(pem, reported.proof, said) for pem in certificates)
    return reported if signed else None


def _signed(pem: str, signature: bytes, said: bytes) -> bool:
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    return verifies(key, signature, said)
