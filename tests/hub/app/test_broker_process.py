"""``muster-hub broker`` as a process: devices stay connected while the hub is restarted."""

import os
import queue
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from muster_hub.mqtt.client import Delivery, HubClient, read_admin
from muster_hub.mqtt.control import ControlError, ask, take_lock
from muster_hub.mqtt.separate import LogTail
from muster_protocol.wire import topics
from support.served import Served, finish
from support.waiting import eventually

pytestmark = pytest.mark.system

DOCUMENTED = Path(__file__).parents[3] / "docs" / "hub.md"
TOPIC = f"{topics.ROOT}/up/pump-1/report"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "hub")
    yield served
    for process in served.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run_broker(served: Served) -> "subprocess.Popen[str]":
    """Type the line of docs/hub.md."""
    (line,) = re.findall(r"^muster-hub (broker --data) \S+$", DOCUMENTED.read_text(), re.MULTILINE)
    process = subprocess.Popen(
        [*served.program, *line.split(), served.data],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    served.processes.append(process)
    return process


def mosquitto(served: Served) -> int:
    assert eventually(lambda: len(served.brokers()) == 1)
    (pid,) = served.brokers()
    return pid


def broker_of(served: Served) -> dict:
    return served.health()["parts"]["broker"]


def both(served: Served) -> "tuple[subprocess.Popen[str], subprocess.Popen[str]]":
    broker = run_broker(served)
    assert eventually((served.data / "broker" / "control.sock").exists)
    hub = served.ready()
    assert eventually(lambda: broker_of(served)["ok"])
    return broker, hub


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_stays_connected_while_the_hub_ends_and_hears_what_is_said_meanwhile(
    served: Served, number
):
    _, hub = both(served)
    before = mosquitto(served)
    heard: queue.Queue[bytes] = queue.Queue()
    lost: list[bool] = []
    admin = read_admin(served.data / "broker" / "admin.json")

    def connection(up: bool) -> None:
        if not up:
            lost.append(up)

    def message(delivery: Delivery) -> None:
        heard.put(delivery.payload)

    listening = HubClient(admin, "listening", on_message=message, on_connection=connection)
    listening.subscribe(TOPIC)
    speaking = HubClient(admin, "speaking")
    listening.start()
    speaking.start()
    try:
        assert listening.wait_connected(30)
        assert speaking.wait_connected(30)
        hub.send_signal(number)
        hub.wait(60)
        assert speaking.publish(TOPIC, b"meanwhile") is not None
        assert heard.get(timeout=30) == b"meanwhile"
        served.ready()
        assert eventually(lambda: broker_of(served)["ok"])
        assert mosquitto(served) == before
        assert lost == [], "it was never disconnected"
    finally:
        listening.stop()
        speaking.stop()


def test_what_is_sent_while_the_hub_is_down_reaches_the_next_one(served: Served):
    _, hub = both(served)
    hub.terminate()
    assert finish(hub) == (0, "")
    speaking = HubClient(read_admin(served.data / "broker" / "admin.json"), "speaking")
    speaking.start()
    try:
        assert speaking.wait_connected(30)
        assert speaking.publish(TOPIC, b"no report") is not None
    finally:
        speaking.stop()
    served.ready()
    assert eventually(lambda: served.health()["parts"]["ingest"]["messages"] == 1)


def test_a_killed_broker_process_leaves_no_mosquitto_and_the_hub_waits_for_the_next(
    served: Served,
):
    broker, hub = both(served)
    broker.kill()
    broker.wait()
    assert eventually(lambda: served.brokers() == [])
    assert eventually(lambda: not broker_of(served)["ok"])
    assert eventually(lambda: "start it: muster-hub broker" in broker_of(served)["detail"])
    assert served.brokers() == [], "the hub takes nothing over"
    run_broker(served)
    assert eventually(lambda: broker_of(served)["ok"])
    assert "start it" not in broker_of(served)["detail"]
    hub.terminate()
    code, output = finish(hub)
    assert code == 0
    assert "does not answer" in output, "the log says it"
    assert output.count("\n") == 1, "and says it once"
    assert len(served.brokers()) == 1


def test_mosquitto_is_started_again_when_it_dies(served: Served):
    both(served)
    first = mosquitto(served)
    psutil.Process(first).kill()
    assert eventually(lambda: served.brokers() not in ([], [first]))
    assert eventually(lambda: broker_of(served)["ok"] and broker_of(served)["restarts"] == 1)


def test_a_second_broker_process_is_refused(served: Served):
    broker, _ = both(served)
    code, output = finish(run_broker(served))
    assert code == 1
    assert f"process {broker.pid} already runs the broker" in output


def test_a_broker_process_is_refused_while_a_hub_runs_its_own(served: Served):
    hub = served.ready()
    code, output = finish(run_broker(served))
    assert code == 1
    assert f"process {hub.pid} already runs the broker" in output
    assert broker_of(served)["separate"] is False


def test_it_ends_as_asked_and_leaves_nothing_behind(served: Served):
    broker, hub = both(served)
    hub.terminate()
    assert finish(hub) == (0, "")
    broker.terminate()
    code, output = finish(broker)
    assert code == 0
    assert output.startswith("broker ready: ")
    assert served.brokers() == []
    assert not (served.data / "broker" / "control.sock").exists()


def test_other_settings_than_the_running_broker_s_are_a_warning_that_says_what_to_do(
    served: Served,
):
    _, hub = both(served)
    assert broker_of(served)["warnings"] == {}
    hub.terminate()
    hub.wait(60)
    settings = served.data / "hub.toml"
    settings.write_text(settings.read_text().replace(f"{served.broker}", f"{served.broker + 1}"))
    again = served.start()
    assert again.stdout is not None
    assert "restart it" in again.stdout.readline(), "the log says it first"
    served.await_ready(again)
    assert "restart it" in broker_of(served)["warnings"]["other_settings"]


def test_a_lock_whose_holder_does_not_answer_is_no_broker(tmp_path: Path):
    lock = take_lock(tmp_path)
    assert lock is not None
    with lock:
        assert take_lock(tmp_path) is None
        with pytest.raises(ControlError, match="does not answer"):
            ask(tmp_path, "status")


def test_the_broker_s_log_is_read_on_over_its_rotation(tmp_path: Path):
    log = tmp_path / "mosquitto.log"
    log.write_text("old\n")
    tail = LogTail(log)
    add = _adder(log)
    add("one\ntw")
    assert tail.lines() == ["one"]
    add("o\n")
    log.rename(tmp_path / "mosquitto.log.1")
    assert tail.lines() == ["two"]
    assert tail.lines() == [], "there is no new one yet"
    log.write_text("three\n")
    assert tail.lines() == ["three"]
    tail.close()


def _adder(path: Path) -> Callable[[str], None]:
    def add(text: str) -> None:
        with path.open("a") as file:
            file.write(text)

    return add
