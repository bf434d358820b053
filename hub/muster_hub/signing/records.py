"""A record as a file: JSON Lines, the last of which is a signature over all before it. Pure.

It is a DSSE envelope by the director's key under a payload type of its own, so that nothing signed
here passes for a directive, nor a directive for a record.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer

from muster_hub.errors import Invalid

PAYLOAD_TYPE = "application/vnd.muster.record+json"
SIGNATURE = "signature"


def sealed(lines: Iterable[Mapping[str, Any]], signer: Signer) -> bytes:
    """The file of these lines."""
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    statement = {"sha256": hashlib.sha256(body).hexdigest(), "lines": body.count(b"\n")}
    envelope = Envelope(msgspec.json.encode(statement), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return body + msgspec.json.encode({"kind": SIGNATURE, "envelope": envelope.to_dict()}) + b"\n"


def verified(data: bytes, keys: Sequence[Key]) -> list[dict[str, Any]]:
    """The lines of a file that one of these keys signed as it stands; raises Invalid."""
    body, _, last = data.rstrip(b"\n").rpartition(b"\n")
    body += b"\n"
    try:
        envelope = Envelope.from_dict(msgspec.json.decode(last)["envelope"])
        statement = msgspec.json.decode(envelope.payload)
        said = (statement["sha256"], statement["lines"])
        lines: list[dict[str, Any]] = [msgspec.json.decode(line) for line in body.splitlines()]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise Invalid("not a record: its last line is no signature") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Invalid(f"not a record: signed as {envelope.payload_type[:80]!r}")
    try:
        envelope.verify(list(keys), 1)
    except VerificationError:
        raise Invalid("the record is signed by none of the keys that targets.json names") from None
    if said != (hashlib.sha256(body).hexdigest(), len(lines)):
        raise Invalid("the record was changed after it was signed")
    return lines
