"""``muster-hub serve`` as a process: it starts whole, ends clean, and survives its own murder."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import uvicorn

from muster_hub.app import initialise, service
from muster_hub.settings.config import BrokerSettings, Http
from support.hub_kit import open_kit
from support.ports import HOST, free_port

pytestmark = pytest.mark.system


class Served:
    """A hub's directory and the processes run on it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.http, self.broker = free_port(), free_port()
        initialise.initialise(
            data,
            initialise.NewHub(
                names=("localhost", HOST),
                http=Http(host=HOST, port=self.http),
                broker=BrokerSettings(host=HOST, port=self.broker),
                database="",
                offline_public=None,
            ),
        )
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "muster-hub", "serve", "--data", self.data],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.processes.append(process)
        return process

    def ready(self) -> subprocess.Popen[str]:
        process = self.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("hub ready: "), line + process.stdout.read()
        return process

    def health(self) -> dict[str, object]:
        context = ssl.create_default_context(cafile=self.data / "keys" / "ca" / "ca.pem")
        url = f"https://localhost:{self.http}/api/v1/health"
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            return json.loads(answer.read())

    def brokers(self) -> list[int]:
        config = str(self.data / "broker" / "mosquitto.conf")
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if config in (process.info["cmdline"] or [])
        ]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "hub")
    yield served
    for process in served.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_end_and_leaves_nothing_behind(served: Served, number):
    process = served.ready()
    health = served.health()
    assert health["parts"]["broker"]["ok"], health
    assert len(served.brokers()) == 1
    process.send_signal(number)
    assert finish(process) == (0, "")
    assert served.brokers() == []
    with socket.create_server((HOST, served.http)), socket.create_server((HOST, served.broker)):
        pass


def test_a_second_hub_on_the_same_directory_is_refused(served: Served):
    first = served.ready()
    code, output = finish(served.start())
    assert code == 1
    assert re.search(rf"already running on .* \(process {first.pid}\): stop it first", output)
    assert served.health()["status"] == "ok"


def test_it_runs_again_at_once_after_it_was_killed(served: Served):
    first = served.ready()
    first.kill()
    first.wait()
    second = served.ready()
    assert served.health()["parts"]["broker"]["ok"]
    assert len(served.brokers()) == 1
    second.terminate()
    assert finish(second) == (0, "")


@pytest.mark.parametrize("which", ["http", "broker"])
def test_a_taken_port_is_one_clear_line_and_nothing_stays(served: Served, which):
    with socket.create_server((HOST, getattr(served, which))):
        code, output = finish(served.start())
    assert code == 1
    assert f"can't listen on {HOST}:{getattr(served, which)}" in output
    assert len(output.strip().splitlines()) == 1
    assert served.brokers() == []


def test_the_api_shows_a_new_certificate_before_the_old_one_ends(tmp_path: Path):
    kit = open_kit(tmp_path)
    try:
        kit.clock.now = time.time() - 310 * 86_400
        certificate, key = kit.hub.server_certificate()
        serving = uvicorn.Config("nothing:here", ssl_certfile=certificate, ssl_keyfile=key)
        service._renew_certificate(kit.hub, serving)
        old = certificate.read_bytes()
        kit.clock.now = time.time()
        serving.loaded, serving.ssl = True, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        service._renew_certificate(kit.hub, serving)
        fresh = certificate.read_bytes()
        assert fresh != old
        service._renew_certificate(kit.hub, serving)
        assert certificate.read_bytes() == fresh, "once is enough"
    finally:
        kit.close()
