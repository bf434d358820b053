"""A device whose only way to its hub is a proxy: enrolment, broker, chunks and doctor."""

import http.server
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from muster_agent.app import cli
from muster_agent.base import config
from muster_agent.base.proxy import Proxies, Proxy
from muster_agent.fetch.http_source import HttpAnswer, HttpSource
from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.time import Instant
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Source
from support.connect_proxy import ConnectProxy
from support.enrol_hub import EnrolHub
from support.mosquitto import Mosquitto
from support.pki import Authority
from support.tuf_repository import Repository

pytestmark = pytest.mark.system
SECONDS = 60.0
ADA = {"ada": "secret-lace"}
NOW = Instant(int(time.time()), "synchronised")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "hub").mkdir()
    return Authority(tmp_path / "hub")


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy(users=ADA, names={"localhost": "127.0.0.1"}) as running:
        yield running


def way(proxy: ConnectProxy, password: str = "secret-lace") -> Proxies:
    return Proxies(Proxy("127.0.0.1", proxy.port, "ada", password), loopback=True)


def test_the_link_speaks_mqtt_through_the_proxy_and_says_why_when_that_refuses(
    tmp_path: Path, authority: Authority, proxy: ConnectProxy
) -> None:
    with Mosquitto(tmp_path / "hub", authority) as broker:
        pair = authority.issue("dev-1")
        settings = MqttSettings(
            "127.0.0.1", broker.port, "dev-1", pair.key, pair.cert, authority.cert,
            backoff_seconds_min=0.05, backoff_seconds_max=0.2, proxies=way(proxy),
        )  # fmt: skip
        heard: queue.Queue[LinkEvent] = queue.Queue()
        topic = topics.down("dev-1", "directive")
        will = (topics.up("dev-1", "presence"), b"")
        link = MqttLink(settings, will, heard.put, lambda: NOW)
        link.subscribe(topic)
        link.start()
        assert heard.get(timeout=SECONDS) == Connected()
        assert proxy.targets == [f"127.0.0.1:{broker.port}"]
        hub = authority.issue("hub")
        away = replace(settings, device="hub", key=hub.key, cert=hub.cert, proxies=Proxies())
        other_heard: queue.Queue[LinkEvent] = queue.Queue()
        other = MqttLink(away, (topics.up("hub", "presence"), b""), other_heard.put, lambda: NOW)
        other.start()
        assert other_heard.get(timeout=SECONDS) == Connected()
        large = bytes(range(256)) * 512
        assert other.publish(topic, large)
        assert heard.get(timeout=SECONDS) == Message(topic, large, retained=False)
        assert link.received_bytes() > len(large)
        other.stop()
        link.stop()
        refused = MqttLink(
            replace(settings, proxies=way(proxy, "wrong")), will, heard.put, lambda: NOW
        )
        refused.start()
        reason = heard.get(timeout=SECONDS)
        refused.stop()
        assert isinstance(reason, Disconnected)
        assert "refuses user 'ada' (407" in reason.reason


def test_enrolment_takes_a_proxy_and_agent_toml_keeps_it_and_doctor_goes_by_it(
    tmp_path: Path,
    authority: Authority,
    proxy: ConnectProxy,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = Repository().factory_root
    (tmp_path / "root.json").write_bytes(root)
    password = tmp_path / "password"
    password.write_text("wrong\n")
    device = tmp_path / "device"
    with (
        EnrolHub(tmp_path / "hub", authority, root) as hub,
        Mosquitto(tmp_path / "hub", authority) as broker,
    ):
        hub.changes = {"broker": {"host": "127.0.0.1", "port": broker.port}}
        line = [
            "enroll", "--dir", str(device), "--hub", hub.url, "--token", hub.token,
            "--root", str(tmp_path / "root.json"), "--proxy", proxy.url, "--proxy-user", "ada",
            "--proxy-password-file", str(password),
        ]  # fmt: skip
        assert cli.main(line) == 1
        assert "refuses user 'ada' (407" in capsys.readouterr().err
        assert hub.requests == [], "the token is not spent"
        password.write_text("secret-lace\n")
        assert cli.main(line) == 0
        kept = config.load(device).settings.proxy
        assert (kept.url, kept.username) == (proxy.url, "ada")
        assert Path(kept.password_file) == password
        assert f"127.0.0.1:{broker.port}" not in proxy.targets
        cli.main(["doctor", "--dir", str(device)])
        assert f", through the proxy 127.0.0.1:{proxy.port} (agent.toml)" in capsys.readouterr().out
        assert f"127.0.0.1:{broker.port}" in proxy.targets
        password.write_text("wrong\n")
        cli.main(["doctor", "--dir", str(device)])
        assert "FAIL  broker    the proxy 127.0.0.1" in capsys.readouterr().out
        assert cli.main([*line[:9], "--proxy", "http://127.0.0.1:9"]) == 1
        assert "names another proxy than --proxy" in capsys.readouterr().err
    password.write_text("secret-lace\n")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    with Mosquitto(stranger, Authority(stranger)) as inspected:
        text = (device / config.FILE).read_text()
        (device / config.FILE).write_text(text.replace(str(broker.port), str(inspected.port)))
        cli.main(["doctor", "--dir", str(device)])
        words = capsys.readouterr().out
        assert "is not signed by the CA this device was enrolled with (through the proxy" in words
        assert "secret-lace" not in words


def test_who_enrols_by_the_shells_proxy_hears_that_a_service_does_not_know_it(
    tmp_path: Path,
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Repository().factory_root
    (tmp_path / "root.json").write_bytes(root)
    monkeypatch.setenv("https_proxy", "http://ada:secret-lace@proxy.plant:3128")
    with EnrolHub(tmp_path / "hub", authority, root) as hub:
        line = ["enroll", "--dir", str(tmp_path / "device"), "--hub", hub.url]
        line += ["--token", hub.token, "--root", str(tmp_path / "root.json")]
        assert cli.main(line) == 0
    words = capsys.readouterr().out
    assert "the broker is behind proxy.plant:3128, the proxy of https_proxy" in words
    assert "secret-lace" not in words


def test_chunks_come_through_the_proxy_by_tunnel_or_as_plain_http(
    tmp_path: Path, authority: Authority, proxy: ConnectProxy
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{self.path} {'Proxy-Authorization' in self.headers}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=plain.serve_forever, args=(0.02,))
    thread.start()
    answers: queue.Queue[HttpAnswer] = queue.Queue()
    source = HttpSource(authority.cert, answers.put, lambda: NOW, proxies=way(proxy))
    source.start()
    with EnrolHub(tmp_path / "hub", authority, b"root") as hub:
        for _ in range(2):  # It closes its connections, so the second one is made anew.
            source.get(0, Source(f"{hub.url}/api/v1", ""), "root")
            assert answers.get(timeout=SECONDS).data == b"root"
        assert proxy.targets == [hub.url.removeprefix("https://")] * 2
        url = f"http://127.0.0.1:{plain.server_address[1]}/chunks"
        source.get(0, Source(url, ""), "ab")
        assert answers.get(timeout=SECONDS).data == b"/chunks/ab False"
        assert proxy.targets[-1] == f"{url}/ab"
    source.stop()
    plain.shutdown()
    thread.join()
    plain.server_close()


def test_a_certificate_that_a_proxy_puts_in_between_is_refused_with_a_hint(
    tmp_path: Path, authority: Authority, proxy: ConnectProxy
) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    answers: queue.Queue[HttpAnswer] = queue.Queue()
    source = HttpSource(authority.cert, answers.put, lambda: NOW, proxies=way(proxy))
    source.start()
    with EnrolHub(stranger, Authority(stranger), b"root") as hub:
        source.get(0, Source(f"{hub.url}/api/v1", "token"), "root")
        assert "if that opens TLS" in answers.get(timeout=SECONDS).detail
    source.stop()
