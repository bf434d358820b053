"""A broker that the site runs: ours to recognise as unsafe, and to work with when it is not."""

import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from muster_hub.app.services import FleetServices
from muster_hub.mqtt.broker import BrokerError
from muster_hub.mqtt.external import External
from muster_hub.mqtt.probe_client import Peer
from muster_protocol.wire import messages, topics
from support.hub_kit import Kit, csr, new_key, open_kit
from support.ports import HOST
from support.site_broker import SiteBroker
from support.waiting import eventually


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    made.clock.now = time.time()  # TLS is judged by this machine's clock
    yield made
    made.close()


@contextmanager
def site(kit: Kit, directory: Path, **changes: str) -> Iterator[External]:
    """A running broker, and the hub's view of it."""
    lines = {line.replace("__", " "): other for line, other in changes.items()}
    kit.hub.config.broker_directory.mkdir(parents=True, exist_ok=True)
    crl = kit.hub.config.broker_directory / "crl.pem"
    broker = SiteBroker(kit.hub.pki, crl, directory, lines, now=kit.clock())
    url = f"mqtts://{HOST}:{broker.port}"
    settings = msgspec.structs.replace(kit.hub.config.broker, url=url)
    kit.hub.config = msgspec.structs.replace(kit.hub.config, broker=settings)
    made = External(kit.hub.config, kit.hub.pki, kit.hub.store, kit.hub.clock)
    with broker:
        yield made


def test_the_configuration_that_we_ship_is_safe_and_lacks_nothing(kit, tmp_path):
    with site(kit, tmp_path / "broker") as external:
        external.examine()
        assert external.warnings == {}


@pytest.mark.parametrize(
    ("line", "instead", "named"),
    [
        ("acl_file .*", "", {"foreign_write", "foreign_read"}),
        ("use_username_as_clientid true", "", {"take_over"}),
        ("require_certificate true", "require_certificate false", {"no_certificate"}),
        ("max_packet_size .*", "max_packet_size 100000", {"packet_size"}),
        ("set_tcp_nodelay true", "retain_available false", {"no_retention"}),
    ],
)  # fmt: skip
def test_a_broker_that_lets_devices_at_each_other_is_refused_by_name(
    kit, tmp_path, line, instead, named
):
    lines = {line: instead}
    if "no_certificate" in named:
        lines |= {"allow_anonymous false": "allow_anonymous true"}
        lines |= {"use_.* true": "", "acl_file .*": ""}
    with (
        site(kit, tmp_path / "broker", **lines) as external,
        pytest.raises(BrokerError, match="is unsafe: ") as caught,
    ):
        external.examine()
    message = str(caught.value)
    assert "\n" not in message
    assert named <= set(re.findall(r"(?:unsafe: |; )([a-z_]+): ", message)), message


def test_a_broker_that_does_not_read_the_revocation_list_is_warned_of(kit, tmp_path):
    with site(kit, tmp_path / "broker", **{"crlfile .*": ""}) as external:
        external.examine()
        assert set(external.warnings) == {"no_revocation"}
        assert "crl.pem" in external.warnings["no_revocation"]


def test_a_broker_out_of_reach_is_one_clear_line(kit, tmp_path):
    with site(kit, tmp_path / "broker") as external:
        pass
    with pytest.raises(BrokerError, match="can't be tried out"):
        external.examine()


def device(kit: Kit, directory: Path, port: int) -> Peer:
    """An enrolled device's connection."""
    key = new_key()
    token = kit.enrol_token(device="cam-1")
    answer = kit.http.post("/api/v1/enroll", json={"token": token, "csr_pem": csr(key, "cam-1")})
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (directory / "cam-1.key").write_bytes(pem)
    (directory / "cam-1.pem").write_text(answer.json()["certificate_pem"])
    context = ssl.create_default_context(cadata=answer.json()["ca_pem"])
    context.load_cert_chain(directory / "cam-1.pem", directory / "cam-1.key")
    return Peer("cam-1", HOST, port, context)


def test_a_hub_serves_its_fleet_over_a_site_s_broker_and_shuts_a_revoked_device_out(kit, tmp_path):
    with site(kit, tmp_path / "broker") as external:
        port = external.address.port
        reload = ("pkill", "-HUP", "-f", str(tmp_path / "broker" / "mosquitto.conf"))
        broker = msgspec.structs.replace(kit.hub.config.broker, reload=reload)
        kit.hub.config = msgspec.structs.replace(kit.hub.config, broker=broker)
        fleet = FleetServices(kit.hub)
        with fleet.running(), device(kit, tmp_path, port) as cam:
            assert kit.hub.health()["broker"]["warnings"] == {}
            cam.subscribe(topics.tuf("timestamp.json"))
            catalogue = kit.hub.catalogue.files_to_publish()
            assert cam.hears(topics.tuf("timestamp.json"), catalogue["timestamp.json"])
            said = messages.encode(messages.Presence(online=True))
            cam.publish(topics.up("cam-1", "presence"), said)
            assert eventually(lambda: seen(kit))
            kit.http.post("/api/v1/devices/cam-1/revoke", headers=kit.as_("operator"))
            assert cam.ended(20), "a live connection of a revoked device ends"
            assert eventually(lambda: shut_out(cam))


def seen(kit: Kit) -> bool:
    answer = kit.http.get("/api/v1/devices/cam-1", headers=kit.as_("viewer"))
    return bool(answer.json()["online"])


def shut_out(cam: Peer) -> bool:
    try:
        with Peer("cam-1", *cam.place, cam.context):
            return False
    except OSError:
        return True
