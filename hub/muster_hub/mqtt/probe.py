"""Whether a broker that somebody else runs keeps devices apart: tried with real certificates.

Two throwaway devices do what a stolen one would, while the hub watches what arrives. A broker that
lets them is refused by name; what it merely lacks is warned of.
"""

import secrets
import ssl
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from muster_hub.mqtt.broker_config import PACKET_BYTES_MAX, PROBE_USER
from muster_hub.mqtt.client import BrokerAddress
from muster_hub.mqtt.probe_client import Peer
from muster_protocol.wire import topics

QUIET_SECONDS = 0.5
"""After a message that must arrive, what must not is waited for this long."""


@dataclass(frozen=True)
class ProbeFinding:
    """``unsafe``: devices are not kept apart, or nothing can be delivered."""

    name: str
    text: str
    unsafe: bool


@dataclass(frozen=True, kw_only=True)
class Question:
    """``hub`` is how the hub connects, ``host`` and ``port`` where devices do; ``revoked`` is a
    certificate and key that stand on the revocation list.
    """

    hub: BrokerAddress
    host: str
    port: int
    ca: Path
    identities: Callable[[str], tuple[Path, Path]]
    revoked: tuple[Path, Path]


def inspect(ask: Question) -> list[ProbeFinding]:
    """Try it; takes a few seconds. Raises OSError when the broker can't be reached."""
    return _Probe(ask).run()


class _Probe:
    def __init__(self, ask: Question) -> None:
        self._ask = ask
        mark = secrets.token_hex(4)
        self._mark = mark.encode()
        self._a, self._b = f"probe-{mark}-a", f"probe-{mark}-b"
        self._found: list[ProbeFinding] = []
        self._pairs = {name: ask.identities(name) for name in (self._a, self._b)}

    def run(self) -> list[ProbeFinding]:
        try:
            self._strangers()
            with ExitStack() as stack:
                hub = stack.enter_context(self._hub())
                first = stack.enter_context(self._device(self._a))
                second = stack.enter_context(self._device(self._b))
                self._limits(first)
                if not self._retention(hub, first):
                    return self._found
                self._writes(hub, first)
                self._reads(hub, first, second)
                self._take_over(first, second)
                self._kick(second)
        except OSError:
            if not any(finding.unsafe for finding in self._found):
                raise
        finally:
            for path in (path for pair in self._pairs.values() for path in pair):
                path.unlink(missing_ok=True)
        return self._found

    def _unsafe(self, name: str, text: str) -> None:
        self._found.append(ProbeFinding(name, text, unsafe=True))

    def _warn(self, name: str, text: str) -> None:
        self._found.append(ProbeFinding(name, text, unsafe=False))

    # Connections

    def _hub(self) -> Peer:
        address = self._ask.hub
        if address.plain:
            return Peer(PROBE_USER, address.host, address.port, None,
                        login=(address.user or "", address.password))  # fmt: skip
        pair = self._ask.identities(PROBE_USER)
        return Peer(PROBE_USER, address.host, address.port, _context(address.ca, pair))

    def _device(self, name: str, *, client_id: str | None = None) -> Peer:
        context = _context(self._ask.ca, self._pairs[name])
        return Peer(client_id or name, self._ask.host, self._ask.port, context)

    def _let_in(self, context: ssl.SSLContext) -> bool:
        with suppress(OSError), Peer("", self._ask.host, self._ask.port, context):
            return True
        return False

    # What is tried

    def _limits(self, device: Peer) -> None:
        most = device.packet_bytes_max
        if most is not None and most < PACKET_BYTES_MAX:
            self._unsafe("packet_size", f"it takes packets of {most} bytes at most; signed "
                         f"metadata need {PACKET_BYTES_MAX}")  # fmt: skip

    def _retention(self, hub: Peer, device: Peer) -> bool:
        """Without retained messages nothing else is worth trying."""
        topic = topics.tuf(f"1.{self._a}.json")
        kept = hub.retains
        if kept:
            hub.publish(topic, self._mark, retain=True)
            device.subscribe(topic)
            kept = device.hears(topic, self._mark)
            hub.publish(topic, b"", retain=True)
        if not kept:
            self._unsafe("no_retention", f"a retained message on {topic} did not reach a device "
                         "that subscribed later: nothing can be delivered by it")  # fmt: skip
        return kept

    def _writes(self, hub: Peer, device: Peer) -> None:
        forbidden = [
            topics.up(self._b, "report"),
            topics.up(self._b, "event"),
            topics.down(self._a, "directive"),
            topics.down(self._b, "directive"),
            topics.tuf(f"1.{self._b}.json"),
            topics.chunk(secrets.token_hex(32)),
        ]
        own = topics.up(self._a, "event")
        hub.subscribe(*forbidden, own)
        for topic in forbidden:
            device.publish(topic, self._mark)
        device.publish(own, self._mark)
        if not hub.hears(own, self._mark):
            self._unsafe("no_way_up", f"a device could not publish to its own {own}")
        written = hub.heard(QUIET_SECONDS) & set(forbidden)
        if written:
            listed = ", ".join(sorted(written))
            self._unsafe("foreign_write", f"a device could publish to {listed}: access must go by "
                         "certificate (deploy/mosquitto/muster.acl)")  # fmt: skip

    def _reads(self, hub: Peer, device: Peer, other: Peer) -> None:
        own = topics.down(self._a, "ack")
        spied = (topics.down(self._b, "ack"), topics.up(self._b, "event"))
        device.subscribe(f"{topics.ROOT}/down/#", f"{topics.ROOT}/up/#", *spied, own)
        hub.publish(spied[0], self._mark)
        other.publish(spied[1], self._mark)
        hub.publish(own, self._mark)
        if not device.hears(own, self._mark):
            self._unsafe("no_way_down", f"a device did not get what was published to its {own}")
        read = device.heard(QUIET_SECONDS) & set(spied)
        if read:
            self._unsafe("foreign_read", f"a device could read {', '.join(sorted(read))}: access "
                         "must go by certificate (deploy/mosquitto/muster.acl)")  # fmt: skip

    def _take_over(self, device: Peer, victim: Peer) -> None:
        device.close()
        with suppress(OSError), self._device(self._a, client_id=self._b):
            if victim.ended(QUIET_SECONDS):
                self._unsafe("take_over", "a device's certificate with another's client id ended "
                             "the other's connection: the client id must be the certificate's "
                             "(use_username_as_clientid)")  # fmt: skip

    def _kick(self, victim: Peer) -> None:
        if victim.ended(0):
            return
        with suppress(OSError), self._device(self._b):
            if not victim.ended(QUIET_SECONDS * 4):
                self._warn("no_kick", "the hub can't end a live connection by taking over its "
                           "client id: a revoked device stays until it reconnects")  # fmt: skip

    def _strangers(self) -> None:
        if self._let_in(_context(self._ask.ca, None)):
            self._unsafe("no_certificate", "it lets in whoever shows no certificate "
                         "(require_certificate)")  # fmt: skip
        if self._let_in(_context(self._ask.ca, self._ask.revoked)):
            self._warn("no_revocation", "it let in a revoked certificate: have it read "
                       "broker/crl.pem of the hub's directory, and again when that changes "
                       "([broker] reload)")  # fmt: skip
        if self._old_tls():
            self._unsafe("old_tls", "it speaks TLS 1.1 or older: allow 1.2 and newer only")

    def _old_tls(self) -> bool:
        pair = self._ask.identities(self._a)
        context = _context(self._ask.ca, pair)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        return self._let_in(context)


def _context(ca: Path | None, pair: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context
