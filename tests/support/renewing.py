"""A device that asks for a new certificate over HTTPS, by proof of its old key."""

import base64

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from muster_protocol.wire.renewal import proof_of
from support.hub_kit import API, Kit, csr, new_key


def ask(
    kit: Kit, certificate: str, key, *, new=None, name="cam-1", signed: str | None = None
) -> httpx.Response:
    """The proof is over ``signed``, by default over the request itself."""
    request = csr(new or new_key(), name)
    signature = key.sign(proof_of(signed or request), ec.ECDSA(hashes.SHA256()))
    return kit.http.post(
        f"{API}/renew",
        json={
            "certificate_pem": certificate,
            "csr_pem": request,
            "signature": base64.b64encode(signature).decode(),
        },
    )
