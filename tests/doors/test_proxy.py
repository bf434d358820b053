"""A device speaks with its broker through a real Tinyproxy, and says what that refuses."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster_agent.base.proxy import ProxyError, chosen
from muster_agent.base.settings import ProxySettings
from muster_agent.identity import tls
from support.mosquitto import Mosquitto
from support.pki import Authority
from support.ports import free_port

pytestmark = pytest.mark.doors
BINARY = shutil.which("tinyproxy") or "/usr/bin/tinyproxy"
SECONDS = 60.0


@contextmanager
def tinyproxy(directory: Path, *lines: str) -> Iterator[str]:
    """Its address. Like most, it forbids CONNECT to all ports but those that ``lines`` name."""
    port = free_port()
    config = directory / "tinyproxy.conf"
    config.write_text("\n".join([f"Port {port}", "Listen 127.0.0.1", "Timeout 60", *lines, ""]))
    log = (directory / "tinyproxy.log").open("wb")
    with log, subprocess.Popen([BINARY, "-d", "-c", str(config)], stdout=log, stderr=log) as run:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert run.poll() is None, (directory / "tinyproxy.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)  # it is starting
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            run.terminate()


def test_the_broker_is_reached_with_our_certificate_and_refusals_are_told_apart(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("dev-1")
    (tmp_path / "password").write_text("secret-lace\n")
    (tmp_path / "wrong").write_text("wrong\n")

    def through(url, port, username="", file=""):
        settings = ProxySettings(url=url, username=username, password_file=file)
        return chosen(settings, tmp_path, {}).connect("127.0.0.1", port, SECONDS)

    with Mosquitto(tmp_path, authority) as broker:
        lines = (f"ConnectPort {broker.port}", "BasicAuth ada secret-lace")
        with tinyproxy(tmp_path, *lines) as url:
            context = tls.context(authority.cert, key=pair.key, cert=pair.cert)
            with (
                through(url, broker.port, "ada", "password") as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
            ):
                assert secured.getpeercert(binary_form=True)
            with pytest.raises(ProxyError, match=r"\(407"):
                through(url, broker.port)
            with pytest.raises(ProxyError, match=r"'ada' \(40[17]"):
                through(url, broker.port, "ada", "wrong")
            with pytest.raises(ProxyError, match=r"have it allow CONNECT"):
                through(url, broker.port + 1, "ada", "password")
        with tinyproxy(tmp_path) as url, pytest.raises(ProxyError, match="does not reach"):
            through(url, free_port())
