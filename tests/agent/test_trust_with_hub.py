"""The hub's own catalogue and director reach a device over a real broker and are believed."""

import queue
import time
from pathlib import Path

import pytest

from muster_agent.link import Connected, LinkEvent, Message
from muster_agent.mqtt_link import MqttLink, MqttSettings
from muster_agent.trust_mirror import TrustMirror
from muster_agent.trust_store import TrustStore
from muster_agent.trusted_time import BUILD_TIME, DAY_SECONDS, Instant, Reading
from muster_hub.signing import keys
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import Directives
from muster_protocol import topics
from muster_protocol.directive import Directive, Goal, Slot
from support.mosquitto import Mosquitto
from support.pki import Authority

pytestmark = pytest.mark.system
NOW = BUILD_TIME + DAY_SECONDS
READING = Reading(float(NOW), "synchronised")
MANIFEST = b'{"format":1}'
WAIT_SECONDS = 20.0
ABSENT_SECONDS = 0.3


def follow(link: MqttLink, inbox: "queue.Queue[LinkEvent]", mirror: TrustMirror) -> bytes:
    """Drive the mirror until a cycle is due; returns the directive that came meanwhile."""
    followed: frozenset[str] = frozenset()
    envelope = b""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (envelope and mirror.due(time.monotonic())):
        assert time.monotonic() < deadline, f"waiting for {mirror.wanted()}"
        wanted = mirror.wanted()
        link.unsubscribe(*map(topics.tuf, followed - wanted))
        link.subscribe(*map(topics.tuf, wanted - followed))
        followed = wanted
        try:
            event = inbox.get(timeout=0.05)
        except queue.Empty:
            continue
        assert isinstance(event, Message), event
        file = topics.parse_tuf(event.topic)
        if file is None:
            envelope = event.payload
        else:
            mirror.put(file, event.payload, time.monotonic())
    return envelope


def test_a_device_believes_the_hubs_catalogue_and_directive_over_a_real_broker(
    tmp_path: Path,
) -> None:
    keyring = keys.create_keyring(tmp_path / "keys", None)
    catalogue = Catalogue(tmp_path / "tuf", keyring)
    catalogue.create(NOW)
    assert catalogue.release("digits", "1.0.0", MANIFEST, NOW)
    director = keyring.signer("director")
    assert director is not None
    goal = Goal(model="digits", version="1.0.0", manifest="ab" * 32, manifest_bytes=12)
    wanted = Directive(
        device="dev-1", epoch=catalogue.director_epoch, generation=1, issued=NOW,
        expires=NOW + DAY_SECONDS, slots={"vision": Slot(champion=goal)},
    )  # fmt: skip
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "root.json").write_bytes(catalogue.factory_root())
    store = TrustStore(trust)

    authority = Authority(tmp_path)
    with Mosquitto(tmp_path, authority) as broker:
        links = []
        for name in ("hub", "dev-1"):
            pair = authority.issue(name)
            settings = MqttSettings(
                "127.0.0.1", broker.port, name, pair.key, pair.cert, authority.cert
            )
            inbox: queue.Queue[LinkEvent] = queue.Queue()
            will = (topics.up(name, "presence"), b"")
            today = Instant(int(time.time()), "synchronised")
            link = MqttLink(settings, will, inbox.put, lambda today=today: today)
            links.append((link, inbox))
            link.start()
            assert inbox.get(timeout=WAIT_SECONDS) == Connected()
        (hub, _), (device, inbox) = links
        try:
            for file, data in catalogue.files_to_publish().items():
                assert hub.publish(topics.tuf(file), data, retain=True)
            directive_topic = topics.down("dev-1", "directive")
            assert hub.publish(directive_topic, Directives(director).sign(wanted), retain=True)
            device.subscribe(directive_topic)
            mirror = TrustMirror(
                store.versions(), frozenset({"digits"}),
                now=time.monotonic(), absent_seconds=ABSENT_SECONDS,
            )  # fmt: skip
            envelope = follow(device, inbox, mirror)
        finally:
            for link, _ in links:
                link.stop()

    trusted = store.refresh(mirror.files, mirror.models, READING)
    found = trusted.manifest_target("digits", "1.0.0", now=NOW)
    assert found is not None
    assert found[1] == len(MANIFEST)
    assert trusted.verify_directive(envelope) == wanted
    assert trusted.director_epoch == wanted.epoch
    assert trusted.issued == NOW
