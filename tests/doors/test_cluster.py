"""``deploy/cluster``: others' schemas know its files, and what it starts in containers is one hub
when it is started as processes, by its own scripts, settings and commands."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

from muster_hub.identity.pki import Pki
from muster_hub.settings import config
from muster_hub.settings.parts import EVERY, parse
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.bucket import Bucket
from muster_hub.storage.store import Store
from support import moto_server
from support.cluster import CLUSTER, ROLES, Cluster
from support.counterparts import environment
from support.light_agents import SLOT
from support.ports import HOST, free_port
from support.postgres import running as postgres_running
from support.served import Served
from support.stocked import MODEL, VERSION, stock
from support.waiting import until

DEVICES = ("press-1", "press-2")
BUCKET = "muster"
"""Of deploy/cluster/hub.toml."""
PACKAGES = ("kubernetes-validate==1.37.0", "check-jsonschema==0.39.0")
KUBERNETES = "1.33"
SCHEMAS_MANY = 12
"""Resources at least: fewer were looked at by mistake."""

pytestmark = [pytest.mark.doors, pytest.mark.timeout(900)]


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_kubernetes_own_schemas_know_every_field_of_the_manifests():
    programs = environment("cluster", *PACKAGES)
    files = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
    files = [file for file in files if file.name != "kustomization.yaml"]
    said = run(programs / "kubernetes-validate", "--strict", "-k", KUBERNETES, *files)
    assert said.count(" passed ") >= SCHEMAS_MANY, said


def test_a_field_that_kubernetes_does_not_know_is_refused(tmp_path):
    programs = environment("cluster", *PACKAGES)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((CLUSTER / "kubernetes" / "storage.yaml").read_text() + "  sise: 1\n")
    done = subprocess.run(
        [programs / "kubernetes-validate", "--strict", "-k", KUBERNETES, wrong],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "sise" in done.stdout + done.stderr


def test_the_compose_specification_knows_every_field():
    programs = environment("cluster", *PACKAGES)
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert "ok" in run(programs / "check-jsonschema", *schema, CLUSTER / "compose.yaml")


def test_haproxy_understands_what_passes_both_ports_on(tmp_path):
    if shutil.which("haproxy") is None:
        pytest.skip("NOT TESTED: haproxy is not installed: deploy/need haproxy")
    assert "Fatal" not in run("haproxy", "-c", "-f", CLUSTER / "haproxy.cfg")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with moto_server.serving(tmp_path) as aws, postgres_running() as postgres:
        for name, value in aws.items():
            monkeypatch.setenv(name, value)
        botocore.session.get_session().create_client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": moto_server.REGION}
        )
        cluster = Cluster(tmp_path, postgres, aws)
        yield cluster
        cluster.close()


def is_let_in(port: int, files: Path, name: str) -> bool:
    """Whether the broker takes this certificate. TLS 1.3 refuses one after the handshake."""
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.load_cert_chain(files / f"{name}.pem", files / f"{name}.key")
    context.check_hostname = False
    try:
        with socket.create_connection((HOST, port), 10) as raw:
            raw.settimeout(1.0)
            with context.wrap_socket(raw) as connection:
                return connection.recv(1) != b""
    except TimeoutError:
        return True  # it waits for our CONNECT
    except OSError:
        return False


def test_the_services_of_compose_are_one_hub_that_serves_devices(cluster: Cluster, tmp_path: Path):
    assert ": new." in cluster.setup()
    assert ": kept." in cluster.setup(), "done again, it changes nothing but settings"
    settings = config.load(cluster.volume / "hub")
    assert settings.broker.public_host == HOST

    store, pki, files = Store(cluster.database), Pki(settings.ca), tmp_path / "devices"
    assert settings.storage.url == f"s3://{BUCKET}/blobs"
    stock(store, Blobs(Bucket(settings.storage.url)), pki, files, DEVICES)
    store.close()
    cluster.start(CLUSTER / "broker", cluster.broker_settings)
    until(lambda: is_let_in(cluster.broker_port, files, "press-1"), bool)
    replicas = {
        port: cluster.serve(name, port)
        for name in ROLES
        for port in (cluster.api_ports if name == "api" else (free_port(), free_port()))
    }
    served = Served.__new__(Served)
    served.data, served.http = cluster.volume / "hub", cluster.api_ports[0]
    for process in replicas.values():
        served.await_ready(process)
    health = [served.health(port)["parts"]["process"] for port in replicas]
    assert frozenset().union(*(parse(",".join(each["roles"])) for each in health)) == EVERY
    assert all(served.health(port)["parts"]["storage"]["ok"] for port in replicas)
    assert sum(bool(each["leases"].get("engine")) for each in health) == 1

    for name in DEVICES:
        cluster.agents.join(name, cluster.broker_port, files, files / "ca.pem")
    ask = {"model": MODEL, "version": VERSION, "slot": SLOT, "canary": 0, "min_soak_seconds": 0}
    served.ask("/rollouts", ask)
    until(cluster.agents.running, lambda running: running == dict.fromkeys(DEVICES, VERSION))

    other = cluster.api_ports[1]
    served.ask(f"/devices/{DEVICES[1]}/revoke", {}, port=other)
    until(lambda: is_let_in(cluster.broker_port, files, DEVICES[1]), lambda inside: not inside)
    assert is_let_in(cluster.broker_port, files, DEVICES[0])
