"""The agent's loopback ``/metrics``: off unless asked for, for programs on the device alone."""

import http.client
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from muster_agent.app import metrics, outages
from muster_agent.app.exposition import Family, text
from muster_agent.app.outages import Offline
from muster_agent.base import config
from muster_agent.observe.outbox import Outbox
from muster_agent.storage.lock import Lock
from muster_agent.storage.state import open_state
from support.agent_directory import ENDS, OUTBOX, PROCESS, SEEN
from support.pki import Authority
from support.ports import free_port


def samples(body: bytes) -> dict[str, float]:
    """``name{labels}`` → value, as Prometheus' own reader has it."""
    return {
        item.name + "".join(f",{k}={v}" for k, v in sorted(item.labels.items())): item.value
        for family in text_string_to_metric_families(body.decode())
        for item in family.samples
    }


def test_a_scrape_says_what_runs_what_waits_and_how_long_the_certificate_lasts():
    found = samples(text(metrics.families(SEEN, OUTBOX, PROCESS, ENDS)))
    assert found["muster_agent_connected"] == 1
    assert found["muster_agent_directive_generation"] == 7
    assert found["muster_agent_certificate_expiry_timestamp_seconds"] == ENDS
    assert found["muster_agent_outbox_bytes,stream=summary"] == 4000
    assert found["muster_agent_outbox_merged_total,stream=summary"] == 5
    assert found["muster_agent_slot_info,model=dense,slot=main,version=1"] == 1
    states = {name: value for name, value in found.items() if "slot_update_state" in name and value}
    assert states == {"muster_agent_slot_update_state,slot=main,state=staged": 1}
    assert found["muster_agent_slot_held,slot=main"] == 1
    assert found["process_cpu_seconds_total"] == 1.5


def test_a_label_of_any_text_is_one_label():
    name = 'a"b\\c\nd{e="f"}'
    (family,) = text_string_to_metric_families(
        text([Family("m", "gauge", "Says.", [({"model": name}, 1.0)])]).decode()
    )
    assert family.samples[0].labels == {"model": name}


@pytest.fixture
def device(tmp_path):
    """An agent's directory as a running agent keeps it, with metrics on a free port."""
    port = free_port()
    config.write(tmp_path, {
        "device": "cam-1", "broker.host": "127.0.0.1", "broker.port": 1, "metrics.port": port,
    })  # fmt: skip
    state = open_state(tmp_path, {})
    Outbox(state.connection)
    (tmp_path / "identity").mkdir()
    certificate = Authority(tmp_path / "identity").issue("cam-1").cert.read_bytes()
    (tmp_path / "identity" / "cert.pem").write_bytes(certificate)
    lock = Lock(tmp_path)
    lock.acquire()
    yield tmp_path, port
    lock.release()
    state.close()


def ask(port: int, path: str = "/metrics", host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read()


def listening(port: int) -> set[str]:
    """The addresses at which a port listens, in the kernel's words: 7F000001 from the right."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        row[1].split(":")[0] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"
    }


def test_it_answers_on_the_loopback_while_the_agent_runs_and_not_after(device):
    directory, port = device
    with metrics.serving(config.load(directory)):
        code, body = ask(port)
        assert code == 200
        assert samples(body)["muster_agent_connected"] == 1
        outages.shown_in(directory)(Offline(1.0, "no route"))
        assert samples(ask(port)[1])["muster_agent_connected"] == 0
        assert ask(port, "/")[0] == 404
        assert listening(port) == {"0100007F"}
    with pytest.raises(ConnectionRefusedError):
        ask(port)


def test_a_web_page_whose_name_leads_to_this_machine_reads_nothing(device):
    directory, port = device
    with metrics.serving(config.load(directory)):
        assert ask(port, host=f"evil.example:{port}")[0] == 403
        assert ask(port, host=f"localhost:{port}")[0] == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting_for_long(device):
    directory, port = device
    serving = metrics.serving(config.load(directory), request_seconds=0.2)
    with serving, socket.create_connection(("127.0.0.1", port)):
        assert ask(port)[0] == 200


def test_a_port_that_is_taken_is_logged_and_the_agent_goes_on(device, caplog):
    directory, port = device
    with socket.create_server(("127.0.0.1", port)), metrics.serving(config.load(directory)):
        assert f"no metrics: port {port}" in caplog.text


def test_without_a_port_nothing_listens(device):
    directory, _ = device
    config.write(directory, {"device": "cam-1", "broker.host": "127.0.0.1"})
    before = threading.active_count()
    with ExitStack() as stack:
        stack.enter_context(metrics.serving(config.load(directory)))
        assert threading.active_count() == before
