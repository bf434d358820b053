"""The hub's own catalogue and director reach a device over a real broker and are believed."""

import contextlib
import queue
import time
from pathlib import Path

import pytest

from muster_agent.link.link import Connected, LinkEvent, Message, Subscribed
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.mirror import TrustMirror
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS, ClockReading, Instant
from muster_agent.trust.trusted import TrustRefused
from muster_hub.signing import keys, roles
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Directive, Goal, Slot
from support.mosquitto import Mosquitto
from support.pki import Authority

pytestmark = pytest.mark.system
NOW = BUILD_TIME + DAY_SECONDS
READING = ClockReading(float(NOW), "synchronised")
MANIFEST = b'{"format":1}'
WAIT_SECONDS = 60.0
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
        if isinstance(event, Subscribed):
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
            assert hub.publish(directive_topic, DirectiveSigner(director).sign(wanted), retain=True)
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


def test_every_key_of_the_hub_is_replaced_while_a_device_follows_over_a_real_broker(
    tmp_path: Path,
) -> None:
    keyring = keys.create_keyring(tmp_path / "keys", None)
    catalogue = Catalogue(tmp_path / "tuf", keyring)
    catalogue.create(NOW)
    assert catalogue.release("digits", "1.0.0", MANIFEST, NOW)
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "root.json").write_bytes(catalogue.factory_root())
    store = TrustStore(trust)
    mirror = TrustMirror(
        store.versions(), frozenset({"digits"}), now=time.monotonic(), absent_seconds=0.0
    )
    authority = Authority(tmp_path)
    with Mosquitto(tmp_path, authority) as broker:
        hub, _ = connected(authority, broker.port, "hub")
        device, inbox = connected(authority, broker.port, "dev-1")
        try:
            for change in (first, replace_online, replace_root, replace_release):
                change(tmp_path, catalogue)
                for file, data in catalogue.files_to_publish().items():
                    assert hub.publish(topics.tuf(file), data, retain=True)
                wanted = {role: item.version for role, item in catalogue.standing().items()}
                del wanted["director"]
                take_until(device, inbox, mirror, store, wanted)
        finally:
            hub.stop()
            device.stop()
    assert store.versions()["root"] == 4
    trusted = store.trusted()
    assert trusted is not None
    assert trusted.manifest_target("digits", "1.0.0", now=NOW)


def connected(
    authority: Authority, port: int, name: str
) -> tuple[MqttLink, "queue.Queue[LinkEvent]"]:
    pair = authority.issue(name)
    settings = MqttSettings("127.0.0.1", port, name, pair.key, pair.cert, authority.cert)
    inbox: queue.Queue[LinkEvent] = queue.Queue()
    today = Instant(int(time.time()), "synchronised")
    link = MqttLink(settings, (topics.up(name, "presence"), b""), inbox.put, lambda: today)
    link.start()
    assert inbox.get(timeout=WAIT_SECONDS) == Connected()
    return link, inbox


def take_until(
    link: MqttLink,
    inbox: "queue.Queue[LinkEvent]",
    mirror: TrustMirror,
    store: TrustStore,
    versions: dict[str, int],
) -> None:
    """Follow, refusing and retrying as a device does, until it trusts these versions."""
    deadline = time.monotonic() + WAIT_SECONDS
    while store.versions() != versions:
        assert time.monotonic() < deadline, (store.versions(), versions)
        link.subscribe(*map(topics.tuf, mirror.wanted()))
        with contextlib.suppress(queue.Empty):
            while isinstance(event := inbox.get(timeout=0.1), Message | Subscribed):
                if isinstance(event, Subscribed):
                    continue
                file = topics.parse_tuf(event.topic)
                assert file is not None
                mirror.put(file, event.payload, time.monotonic())
        if mirror.due(time.monotonic()):
            with contextlib.suppress(TrustRefused):  # half of the change has come
                store.refresh(mirror.files, mirror.models, READING)
            mirror.refreshed(store.versions(), time.monotonic())


def first(_place: Path, _catalogue: Catalogue) -> None:
    """The catalogue as it is."""


def replace_online(_place: Path, catalogue: Catalogue) -> None:
    for role in keys.ONLINE:
        catalogue.rotate_online(role, NOW)
    catalogue.refresh(NOW)


def replace_root(place: Path, catalogue: Catalogue) -> None:
    group = keys.group([keys.generate(place / name) for name in ("ann", "bob", "cy")])
    catalogue.set_keys("root", group, NOW)
    sign(place, catalogue, "ann", "cy")


def replace_release(place: Path, catalogue: Catalogue) -> None:
    catalogue.set_keys("release", keys.group([keys.generate(place / "rosa")]), NOW)
    sign(place, catalogue, "rosa")


def sign(place: Path, catalogue: Catalogue, *names: str) -> None:
    for name in names:
        for draft in catalogue.pending().values():
            catalogue.add_signatures(
                roles.add_signature(draft, keys.load_signer(place / name)), NOW
            )
    assert not catalogue.pending()
