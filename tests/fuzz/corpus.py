"""What a hostile device sends: messages made from their schemas, ordinary, at bounds and beyond.

The same seed gives the same messages.
"""

import random
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from muster_protocol.signals import summary_wire
from muster_protocol.wire import messages, topics
from support.damaged_models import mutated
from support.schema import Sampler, encoded
from support.summaries import window

HOSTILE = 0.08
"""Of the leaves of a message, so that about half of all messages break some bound."""
STATE: dict[topics.UpLeaf, type] = {
    "report": messages.Report,
    "presence": messages.Presence,
    "want": messages.Want,
    "grant": messages.GrantRequest,
    "shown": messages.Shown,
}
LEAVES: tuple[topics.UpLeaf, ...] = (
    "telemetry", "telemetry", "telemetry", "event", "event", "report", "report", "grant", "want",
    "presence", "csr", "shown",
)  # fmt: skip


def _request() -> bytes:
    """A certificate request that is the same at every run."""
    key = ec.derive_private_key(14, ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    made = asked.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.PEM)


class Corpus:
    """``manifests``: hashes that the hub knows, with model and version."""

    def __init__(self, seed: int, manifests: list[tuple[str, str, str]]) -> None:
        self._rng = random.Random(seed)
        self._manifests = manifests
        self._sampler = Sampler(self._rng, HOSTILE)
        self._request = _request()

    def messages(self) -> Iterator[tuple[topics.UpLeaf, bytes]]:
        while True:
            leaf = self._rng.choice(LEAVES)
            payload = self._payload(leaf)
            if len(payload) > 1 and self._rng.random() < 0.05:
                payload = mutated(payload + bytes(64), self._rng)
            yield leaf, payload

    def _payload(self, leaf: topics.UpLeaf) -> bytes:
        if leaf == "csr":
            return mutated(self._request, self._rng)
        if leaf in ("telemetry", "event"):
            return self._batch(leaf)
        return encoded(self._sampler.of(STATE[leaf]))

    def _batch(self, leaf: topics.UpLeaf) -> bytes:
        tree = self._sampler.of(messages.Batch)
        if isinstance(tree, list) and len(tree) == 4 and self._rng.random() < 0.9:
            make = self._summary if leaf == "telemetry" else self._event
            first = self._rng.randint(1, 2**20)
            tree[0] = 1
            tree[3] = [[first + n, make()] for n in range(self._rng.randint(1, 4))]
        return encoded(tree)

    def _event(self) -> bytes:
        return encoded(self._sampler.of(messages.Event))

    def _window(self) -> bytes:
        """A true window with features, of the first manifest; sometimes with a part damaged."""
        made = window(self._rng.randint(1, 60), seed=self._rng.randrange(10_000))
        manifest, model, version = self._manifests[0]
        made = replace(made, model=model, version=version, manifest=manifest)
        data = summary_wire.encode(made)
        parts = msgspec.msgpack.decode(data[1:])
        place = self._rng.randrange(6)
        if place < len(parts):
            plain = zlib.decompress(parts[place])
            padded = plain if len(plain) > 64 else plain + bytes(65)
            parts[place] = zlib.compress(mutated(padded, self._rng))
        return data[:1] + encoded(parts)

    def _summary(self) -> bytes:
        if self._rng.random() < 0.4:
            return self._window()
        head = self._sampler.of(summary_wire.SENT)
        if isinstance(head, list) and len(head) > 2 and self._rng.random() < 0.8:
            manifest, head[0], head[1] = self._rng.choice(self._manifests)
            head[2] = bytes.fromhex(manifest)
        parts: list[Any] = [zlib.compress(encoded(head))]
        if self._rng.random() < 0.3:
            noise = self._rng.randbytes(self._rng.randint(0, 200))
            parts += [zlib.compress(noise), zlib.compress(noise)]
        version = summary_wire.VERSION if self._rng.random() < 0.97 else self._rng.randrange(256)
        return bytes([version]) + encoded(parts)
