"""The agent says since when and why it is offline: log, status, and the hub afterwards."""

import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from muster_agent.app import cli, outages
from muster_agent.app.outages import REASONS_MAX, TOLD_SECONDS, Offline, Outages
from muster_agent.base import config
from muster_agent.observe.outbox import Outbox
from muster_agent.storage.lock import Lock
from muster_agent.storage.state import open_state
from support.agent_faults import WorldClock
from support.pki import Authority, Pair

NAME, REFUSED = "no address is known for hub.plant", "hub.plant:8883 refuses connections"


class Heard:
    """What the front panel showed and what the hub was told."""

    def __init__(self) -> None:
        self.shown: list[Offline | None] = []
        self.events = []
        self.outages = Outages(WorldClock(), self.shown.append, self.events.append)


def test_a_reason_is_logged_and_shown_once_however_often_it_comes(caplog):
    heard = Heard()
    with caplog.at_level(logging.WARNING):
        for reason in [NAME] * 50 + [REFUSED] * 50:
            heard.outages.lost(reason, 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"offline: {NAME}", f"offline: {REFUSED}"
    ]  # fmt: skip
    assert [shown.reason for shown in heard.shown] == [NAME, REFUSED]
    assert len({shown.since for shown in heard.shown}) == 1


def test_the_hub_hears_of_an_outage_and_its_reasons_once_it_is_over():
    heard = Heard()
    for number in range(2 * REASONS_MAX):
        heard.outages.lost(f"reason {number}", 10.0 + number)
    heard.outages.over(10.0 + TOLD_SECONDS)
    (event,) = heard.events
    assert event.kind == "note"
    assert event.values == {"offline_seconds": TOLD_SECONDS}
    assert "reason 0; then: reason 1" in event.detail
    assert f"reason {REASONS_MAX}" not in event.detail
    assert heard.shown[-1] is None


def test_a_hiccup_is_not_worth_a_message():
    heard = Heard()
    heard.outages.lost(NAME, 1.0)
    heard.outages.over(TOLD_SECONDS)
    heard.outages.over(1e6)
    assert heard.events == []


def test_status_says_since_when_and_why_while_an_agent_runs(tmp_path, capsys):
    config.write(tmp_path, {"device": "cam-1", "broker.host": "127.0.0.1", "broker.port": 1})
    state = open_state(tmp_path, {})
    Outbox(state.connection)
    state.close()
    outages.shown_in(tmp_path)(Offline(1_700_000_000.0, NAME))
    assert cli.main(["status", "--dir", str(tmp_path)]) == 0
    assert "offline" not in capsys.readouterr().out
    lock = Lock(tmp_path)
    lock.acquire()
    try:
        assert cli.main(["status", "--dir", str(tmp_path)]) == 0
        assert f"offline since 2023-11-14 22:13:20 UTC: {NAME}" in capsys.readouterr().out
        assert cli.main(["status", "--json", "--dir", str(tmp_path)]) == 0
        shown = json.loads(capsys.readouterr().out)["offline"]
        assert shown == {"since": 1_700_000_000.0, "reason": NAME}
        outages.shown_in(tmp_path)(None)
        assert cli.main(["status", "--dir", str(tmp_path)]) == 0
        assert "offline" not in capsys.readouterr().out
    finally:
        lock.release()


@contextmanager
def broker(authority: Authority, server: Pair, revoked) -> Iterator[int]:
    """Finishes TLS 1.3 handshakes, then looks at the client's certificate as brokers do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(server.cert, server.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    if revoked is not None:
        context.load_verify_locations(revoked)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listener.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as secured:
                secured.recv(1)
        except OSError:
            plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join()


@pytest.mark.parametrize("is_revoked", [True, False])
def test_doctor_sees_that_the_broker_refuses_a_revoked_certificate(tmp_path, capsys, is_revoked):
    authority = Authority(tmp_path)
    pair = authority.issue("cam-1")
    (tmp_path / "d" / "identity").mkdir(parents=True)
    for source, name in ((pair.key, "key"), (pair.cert, "cert"), (authority.cert, "ca")):
        (tmp_path / "d" / "identity" / f"{name}.pem").write_bytes(source.read_bytes())
    server = authority.issue("broker", hosts=("127.0.0.1",))
    with broker(authority, server, authority.revoke(pair) if is_revoked else None) as port:
        config.write(
            tmp_path / "d", {"device": "cam-1", "broker.host": "127.0.0.1", "broker.port": port}
        )
        cli.main(["doctor", "--dir", str(tmp_path / "d")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " broker" in line]
    assert ("it is revoked" in line) is is_revoked
    assert line.startswith("FAIL") is is_revoked
