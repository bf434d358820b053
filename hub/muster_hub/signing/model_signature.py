"""``model.sig``: who made a bundle, in the OpenSSF model-signing format (version 1.0). Pure.

A Sigstore bundle holds a DSSE envelope around an in-toto statement that lists the SHA-256 of each
file; the signature is ECDSA over P-256, by a key of its own. Anyone who has the files and the
public key can check it with the stock verifier, without Muster:

    model_signing verify key BUNDLE --signature BUNDLE/model.sig --public_key model.pub

It says where the files come from. What a device may run is still said by release keys: this
signature has no expiry, no version, and no way to withdraw it.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Meta, Struct

from muster_hub.errors import Invalid
from muster_protocol.wire import limits

FILE = "model.sig"
IGNORED = (FILE, "manifest.json")
"""Not listed in the statement: the signature itself, and the manifest, which lists it."""
SIGNATURE_BYTES_MAX = limits.MANIFEST_BYTES_MAX
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"

_Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Signed(Struct):
    sig: bytes


class _Envelope(Struct, rename="camel"):
    payload: bytes
    payload_type: str
    signatures: Annotated[list[_Signed], Meta(min_length=1, max_length=1)]


class _Bundle(Struct, rename="camel"):
    dsse_envelope: _Envelope


class _Subject(Struct):
    digest: dict[str, _Hex]


class _Resource(Struct):
    name: str
    algorithm: str
    digest: _Hex


class _Predicate(Struct):
    resources: Annotated[list[_Resource], Meta(max_length=limits.FILES_PER_BUNDLE_MAX)]


class _Statement(Struct):
    subject: Annotated[list[_Subject], Meta(min_length=1, max_length=1)]
    predicate: _Predicate
    predicate_type: str = msgspec.field(name="predicateType")


def sign(files: Mapping[str, str], name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """``files`` are SHA-256 in hexadecimal by path; ``name`` is what the statement is about."""
    listed = {path: digest for path, digest in sorted(files.items()) if path not in IGNORED}
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(listed)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(IGNORED),
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": digest}
                for path, digest in listed.items()
            ],
        },
    }
    payload = msgspec.json.encode(statement)
    signature = key.sign(_pae(payload), ec.ECDSA(hashes.SHA256()))
    return msgspec.json.encode(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": _hint(key.public_key())},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
    )


def check(
    data: bytes, files: Mapping[str, str], keys: Iterable[ec.EllipticCurvePublicKey] = ()
) -> None:
    """Check that ``model.sig`` lists exactly these files, and that one of ``keys`` signed it.

    Without keys only the list is checked. Raises Invalid, which names the file at fault.
    """
    try:
        if len(data) > SIGNATURE_BYTES_MAX:
            raise Invalid(f"{FILE}: {len(data)} bytes, the limit is {SIGNATURE_BYTES_MAX}")
        envelope = msgspec.json.decode(data, type=_Bundle).dsse_envelope
        statement = msgspec.json.decode(envelope.payload, type=_Statement)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"{FILE}: not an OpenSSF model signature: {error}") from None
    if (envelope.payload_type, statement.predicate_type) != (PAYLOAD_TYPE, PREDICATE_TYPE):
        raise Invalid(f"{FILE}: signs {statement.predicate_type[:80]!r}, not a model (version 1.0)")
    trusted = list(keys)
    if trusted and not any(_signed(key, envelope) for key in trusted):
        raise Invalid(f"{FILE}: signed by none of the {len(trusted)} keys that [check] names")
    _check_list(statement, {path: file for path, file in files.items() if path not in IGNORED})


def read_public(pem: bytes, what: str) -> ec.EllipticCurvePublicKey:
    """A P-256 public key in PEM; raises Invalid."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise Invalid(f"{what} is not a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid(f"{what} is not a P-256 key: make one with `muster-hub keygen --model`")
    return key


def _check_list(statement: _Statement, files: Mapping[str, str]) -> None:
    listed = {resource.name: resource.digest for resource in statement.predicate.resources}
    if len(listed) != len(statement.predicate.resources):
        raise Invalid(f"{FILE}: lists a file twice")
    for path in sorted(files.keys() | listed.keys()):
        if files.get(path) != listed.get(path):
            what = "isn't listed" if path not in listed else "isn't in the bundle"
            both = path in files and path in listed
            raise Invalid(f"{FILE}: {path} {'has another hash than was signed' if both else what}")
    if statement.subject[0].digest.get("sha256") != _root(dict(sorted(listed.items()))):
        raise Invalid(f"{FILE}: its digest of the whole is not that of its files")


def _root(listed: Mapping[str, str]) -> str:
    """The digest of the files' digests, in the order of their paths."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, listed.values()))).hexdigest()


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(pem).hexdigest()


def _signed(key: ec.EllipticCurvePublicKey, envelope: _Envelope) -> bool:
    try:
        key.verify(envelope.signatures[0].sig, _pae(envelope.payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
