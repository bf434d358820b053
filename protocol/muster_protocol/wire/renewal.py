"""How a device proves over HTTPS that it holds the key of the certificate it wants renewed.

Over MQTT the broker's mutual TLS proves it: ``up/<device>/csr`` carries a certificate request in
PEM for a new key, ``down/<device>/cert`` the certificate. A device that the broker no longer lets
in signs the request with its old key, ECDSA with SHA-256, over ``proof_of(request)``.
"""

PEM_BYTES_MAX = 8192
"""Of a request or a certificate."""

_PURPOSE = b"muster certificate renewal v1\0"
"""So that nothing signed for another purpose passes for a proof."""


def proof_of(request_pem: str) -> bytes:
    """The bytes to be signed."""
    return _PURPOSE + request_pem.encode()
