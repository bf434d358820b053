"""A releaser outside the hub: it holds the demo's keys and broker access, and none of its care.

It signs and publishes with the product's own libraries. The hub's checks are not switched off for
it; they are simply not in its way, as with any stolen or careless key.
"""

import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from securesystemslib.dsse import Envelope

from muster_hub.demo.bundles import Bundle
from muster_hub.mqtt.client import Delivery, HubClient, read_admin
from muster_hub.settings import config
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_hub.signing.keys import Keyring
from muster_protocol.wire import chunks, directive, topics
from muster_protocol.wire.errors import MusterError

WAIT_SECONDS = 10.0
AHEAD = 2
"""How many generations beyond the one in force: the hub may be giving out the next just now."""
CLIENT_ID = "outsider"


class OutsiderError(MusterError):
    """The broker did not take or give what the outsider needs."""


class Outsider:
    """Use as a context manager: connected to the broker of the hub in ``data`` meanwhile."""

    def __init__(self, data: Path) -> None:
        self._config = config.load(data)
        keyring = Keyring(self._config.keys)
        self._catalogue = Catalogue(self._config.tuf, keyring)
        self._directives = DirectiveSigner(keyring.online_signer("director"))
        self._news = threading.Condition()
        self._retained: dict[str, bytes] = {}
        self._published: set[int] = set()
        self._broker = HubClient(
            read_admin(self._config.broker_directory / "admin.json"),
            CLIENT_ID,
            on_message=self._receive,
            on_published=self._took,
        )

    def __enter__(self) -> Self:
        self._broker.start()
        if not self._broker.wait_connected(WAIT_SECONDS):
            raise OutsiderError(f"the broker does not let us in: {self._broker.last_error}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._broker.stop()

    def sign(self, bundle: Bundle) -> None:
        """Enter a bundle into the catalogue with the release key; the hub never sees its files."""
        parsed = bundle.manifest
        self._catalogue.release(parsed.model, parsed.version, bundle.encoded, time.time())
        for file, data in self._catalogue.files_to_publish().items():
            self._publish(topics.tuf(file), data)

    def spread(self, bundle: Bundle, *, altered: Collection[str] = ()) -> None:
        """Publish a bundle's blobs and lay them at the hub's HTTP source.

        Those named in ``altered`` differ in one bit at both places.
        """
        for name, data in bundle.blobs.items():
            content = alter(data) if name in altered else data
            self._publish(topics.chunk(name), content)
            path = self._config.blobs / name[:2] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def alter_retained(self, name: str) -> None:
        """Replace one chunk that the broker holds by one that differs in a byte."""
        self._publish(topics.chunk(name), alter(self._fetch(topics.chunk(name))))

    def insist(self, device: str, slot: str, bundle: Bundle) -> None:
        """Direct a device to run a bundle, unless that is what its directive says already: once a
        review the hub takes such an order back.

        All else is as in the directive in force, which is what a thief would copy.
        """
        now = self.directive_in_force(device)
        parsed = bundle.manifest
        goal = directive.Goal(
            model=parsed.model,
            version=parsed.version,
            manifest=chunks.sha256_hex(bundle.encoded),
            manifest_bytes=len(bundle.encoded),
        )
        if now.slots[slot].champion != goal:
            self.reorder(now, {**now.slots, slot: directive.Slot(champion=goal)})

    def reorder(self, now: directive.Directive, slots: dict[str, directive.Slot]) -> None:
        """Sign and publish the directive that follows ``now`` and names ``slots``."""
        order = msgspec.structs.replace(
            now, generation=now.generation + AHEAD, issued=int(time.time()), slots=slots
        )
        self._publish(topics.down(now.device, "directive"), self._directives.sign(order))

    def directive_in_force(self, device: str) -> directive.Directive:
        """The directive that the broker holds for a device."""
        envelope = msgspec.json.decode(self._fetch(topics.down(device, "directive")))
        return directive.decode(Envelope.from_dict(envelope).payload)

    def _fetch(self, topic: str) -> bytes:
        with self._news:
            self._retained.pop(topic, None)
            self._broker.subscribe(topic)
            came = self._news.wait_for(lambda: topic in self._retained, WAIT_SECONDS)
        self._broker.unsubscribe(topic)
        if not came:
            raise OutsiderError(f"the broker holds nothing on {topic}")
        return self._retained[topic]

    def _publish(self, topic: str, payload: bytes) -> None:
        """Publish retained and wait until the broker has it."""
        mid = self._broker.publish(topic, payload, retain=True)
        with self._news:
            taken = mid is not None and self._news.wait_for(
                lambda: mid in self._published, WAIT_SECONDS
            )
        if not taken:
            raise OutsiderError(f"the broker did not take {topic}: {self._broker.last_error}")

    def _receive(self, delivery: Delivery) -> None:
        with self._news:
            self._retained[delivery.topic] = delivery.payload
            self._news.notify_all()
        self._broker.acknowledge(delivery)

    def _took(self, mid: int) -> None:
        with self._news:
            self._published.add(mid)
            self._news.notify_all()


def alter(data: bytes) -> bytes:
    """The same bytes but for one bit of the middle one."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
