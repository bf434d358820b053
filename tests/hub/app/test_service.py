"""``muster-hub serve`` as a process: it starts whole, ends clean, and survives its own murder."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from muster_hub.app import service
from support.hub_kit import open_kit
from support.ports import HOST
from support.served import Served, finish

pytestmark = pytest.mark.system


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


def test_the_broker_is_in_no_process_group_of_the_hub_s_so_that_a_stop_reaches_the_hub_first(
    served: Served,
):
    process = served.ready()
    (broker,) = served.brokers()
    assert os.getpgid(broker) != os.getpgid(process.pid)
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, ""), "the hub ends it, after what speaks with it"
    assert served.brokers() == []


AT_CALLS = """
import os, signal, sys
from pathlib import Path
from muster_hub.app import service
from muster_hub.settings.config import load

def at_call(number):
    left = number
    def count(_frame, event, _argument):
        nonlocal left
        if event == "call":
            left -= 1
            if left < 0:
                sys.setprofile(None)
                os.kill(os.getpid(), signal.SIGTERM)
    return lambda _ready: sys.setprofile(count)

for number in map(int, sys.argv[2:]):
    print(number, service.serve(load(Path(sys.argv[1])), announce=at_call(number)), flush=True)
"""


def test_a_signal_ends_the_hub_at_whatever_call_after_it_was_ready_it_comes(served: Served):
    calls = ["0", "1", "2", "5", "20", "100", "500"]
    command = [sys.executable, "-c", AT_CALLS, served.data, *calls]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    served.processes.append(process)
    assert finish(process) == (0, "".join(f"{number} 0\n" for number in calls))
    assert served.brokers() == []


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
