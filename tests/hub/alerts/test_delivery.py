"""Alerts reach real receivers: signed, in order, again until taken, and each thing once."""

import base64
import email.policy
import hashlib
import hmac
import json
import socketserver

import msgspec
import pytest
from sqlmodel import select

from muster_hub.alerts import step
from muster_hub.alerts.sender import ATTEMPTS_MAX, WebhookSender
from muster_hub.errors import ConfigError
from muster_hub.settings.alerts import Alerts, Receiver
from muster_hub.storage.alerting import Silence, WebhookDelivery
from muster_hub.storage.models import Alert, Device
from muster_hub.storage.sealing import Sealing
from support.hub_store import open_store
from support.web import Web, serving

KEY = b"a key that only the receiver knows"
DAY = 86_400.0


class MailHandler(socketserver.StreamRequestHandler):
    """As much of SMTP as one mail needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline().strip():
            if line.upper() == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while not text.endswith(b"\r\n.\r\n"):
                    text += self.rfile.readline()
                self.server.got.append(text.decode())
            if line.upper() == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def web():
    made = Web()
    with serving(made.server):
        yield made


@pytest.fixture
def mailbox():
    server = socketserver.TCPServer(("127.0.0.1", 0), MailHandler)
    server.got = []
    with serving(server):
        yield server


class Hub:
    """A database with one device, an alert maker and a clock set by hand."""

    def __init__(self, directory, *receivers, url=None, **settings):
        self.now = 20 * DAY
        self.store = open_store(directory, url=url)
        with self.store.write() as session:
            for name in ("cam-1", "cam-2"):
                session.add(Device(id=name, labels={"site": "berlin"}, created=0.0))
        (directory / "hook.key").write_bytes(KEY + b"\n")
        self.settings = Alerts(receivers=receivers, group_seconds=0, **settings)
        self.sender = WebhookSender(
            self.store, self.settings, directory, Sealing(directory),
            now=lambda: self.now, uniform=lambda _, b: b,
        )  # fmt: skip

    def alert(self, device="cam-1", **fields):
        settled = {"key": f"drift/{device}/digits", "kind": "drift", "severity": "warning",
                   "state": "open", "opened": self.now, "updated": self.now,
                   "title": f"{device}: digits 1 drifts in image.brightness",
                   "detail": {"model": "digits", "features": ["image.brightness"]}}  # fmt: skip
        with self.store.write() as session:
            session.add(Alert(device=device, **(settled | fields)))

    def change(self, **fields):
        with self.store.write() as session:
            for row in session.exec(select(Alert)):
                session.add(row.sqlmodel_update(fields))

    def step(self, seconds=0.0):
        """Time passes; what is told, and how many deliveries are taken."""
        self.now += seconds
        with self.store.write() as session:
            queued = step.step(session, self.settings, self.now)
        return queued, self.sender.send_due()

    def deliveries(self):
        with self.store.read() as session:
            return session.exec(select(WebhookDelivery)).all()


def hook(web, **fields):
    return Receiver(name="hook", kind="webhook", url=web.url, secret_file="hook.key", **fields)


def genuine(headers, body):
    signed = f"{headers['X-Muster-Delivery']}.{headers['X-Muster-Timestamp']}.".encode() + body
    digest = hmac.new(KEY, signed, hashlib.sha256).digest()
    return headers["X-Muster-Signature"] == "v1," + base64.b64encode(digest).decode()


def test_a_webhook_is_told_of_opening_escalation_and_end_each_once_and_signed(
    tmp_path, web, database
):
    hub = Hub(tmp_path, hook(web), url=database, escalate_seconds=60)
    hub.alert("cam-1")
    hub.alert("cam-2")
    assert hub.step(1) == (1, 1)
    assert hub.step(1) == (0, 0)
    assert hub.step(60) == (1, 1)
    hub.change(state="resolved")
    assert hub.step(1) == (1, 1)
    assert hub.step(DAY / 4) == (0, 0)
    bodies = [json.loads(body) for _, _, body in web.got]
    assert [item["type"] for item in bodies] == [
        "alert.opened",
        "alert.escalated",
        "alert.resolved",
    ]
    assert bodies[0]["title"] == "2 drift alerts at berlin digits"
    assert [alert["device"] for alert in bodies[0]["alerts"]] == ["cam-1", "cam-2"]
    assert all(genuine(headers, body) for _, headers, body in web.got)
    assert not genuine(web.got[0][1], web.got[0][2] + b" ")
    hub.store.close()


def test_a_delivery_is_tried_again_later_and_later_under_its_one_id(tmp_path, web):
    hub = Hub(tmp_path, hook(web))
    web.answers = [500, 302, 429]
    hub.alert()
    assert hub.step(1) == (1, 0)
    assert hub.step(1) == (0, 0), "not before its time"
    assert hub.step(1) == (0, 0)
    assert hub.step(4) == (0, 0)
    assert hub.step(8) == (0, 1)
    assert [path for path, _, _ in web.got] == ["/hook"] * 4, "no redirect was followed"
    assert len({headers["X-Muster-Delivery"] for _, headers, _ in web.got}) == 1
    (kept,) = hub.deliveries()
    assert (kept.attempts, kept.fault, kept.ended) == (4, "", hub.now)
    hub.store.close()


def test_a_delivery_that_nobody_ever_takes_is_given_up_with_the_reason(tmp_path, web):
    hub = Hub(tmp_path, hook(web), escalate_seconds=1e9)
    web.answers = [503] * ATTEMPTS_MAX
    hub.alert()
    for _ in range(ATTEMPTS_MAX):
        hub.step(3601)
    (kept,) = hub.deliveries()
    assert kept.ended is not None
    assert (kept.attempts, kept.fault) == (ATTEMPTS_MAX, f"{web.url} answered 503")
    hub.store.close()


def test_a_receiver_that_is_down_holds_up_no_other(tmp_path, web):
    gone = Receiver(name="gone", kind="alertmanager", url="http://127.0.0.1:9")
    hub = Hub(tmp_path, gone, hook(web))
    hub.alert()
    assert hub.step(1) == (2, 1)
    assert len(web.got) == 1
    hub.store.close()


def test_alertmanager_gets_its_own_format_with_a_beginning_and_an_end(tmp_path, web):
    url = web.url.removesuffix("/hook")
    hub = Hub(tmp_path, Receiver(name="am", kind="alertmanager", url=url + "/"))
    hub.alert()
    hub.step(1)
    hub.change(state="resolved", updated=hub.now + 5)
    hub.step(5)
    (path, _, first), (_, _, second) = web.got
    assert path == "/api/v2/alerts"
    (opened,), (ended,) = json.loads(first), json.loads(second)
    assert opened["labels"] == ended["labels"] == {
        "alertname": "MusterDrift", "severity": "warning", "key": "drift/cam-1/digits",
        "device": "cam-1", "site": "berlin", "model": "digits",
    }  # fmt: skip
    assert opened["startsAt"] == "1970-01-21T00:00:00.000+00:00"
    assert opened["endsAt"] == "1970-01-28T00:00:01.000+00:00"
    assert ended["endsAt"] == "1970-01-21T00:00:06.000+00:00"
    hub.store.close()


def test_the_daily_digest_comes_by_mail(tmp_path, mailbox):
    port = mailbox.server_address[1]
    team = Receiver(name="team", kind="email", on=("digest",), smtp_host="127.0.0.1",
                    smtp_port=port, sender="muster@plant", to=("team@plant",))  # fmt: skip
    hub = Hub(tmp_path, team, digest_hour=6)
    assert hub.step() == (0, 0)
    hub.alert()
    assert hub.step(6 * 3600 - 1) == (0, 0)
    assert hub.step(1) == (1, 1)
    assert hub.step(3600) == (0, 0)
    mail = email.message_from_string(mailbox.got[0], policy=email.policy.default)
    assert mail["Subject"] == "[muster] 1 alerts stand; 1 opened, 0 resolved in a day"
    assert mail["Message-ID"] == f"<{hub.deliveries()[0].id}@muster>"
    assert "cam-1: digits 1 drifts in image.brightness" in mail.get_content()
    assert len(mailbox.got) == 1
    hub.store.close()


def test_drift_that_lasts_asks_for_retraining_once(tmp_path, web):
    hub = Hub(tmp_path, hook(web, on=("retrain",)), retrain_devices=2, retrain_after_seconds=60)
    hub.alert("cam-1")
    assert [hub.step(100) for _ in range(3)] == [(0, 0)] * 3
    hub.alert("cam-2")
    assert hub.step(1) == (0, 0)
    assert hub.step(60) == (1, 1)
    assert [hub.step(DAY / 8) for _ in range(20)] == [(0, 0)] * 20
    asked = json.loads(web.got[0][2])
    assert (asked["type"], asked["model"], asked["devices"], asked["features"]) == (
        "retrain", "digits", ["cam-1", "cam-2"], ["image.brightness"],
    )  # fmt: skip
    hub.store.close()


def test_what_is_silenced_is_told_when_the_silence_ends(tmp_path, web):
    hub = Hub(tmp_path, hook(web))
    with hub.store.write() as session:
        session.add(Silence(selector="site=berlin", until=hub.now + 60, by="test", created=0))
    hub.alert()
    assert hub.step(59) == (0, 0)
    assert hub.step(1) == (1, 1)
    hub.store.close()


def test_a_receiver_hears_only_of_the_causes_it_asked_for(tmp_path, web):
    hub = Hub(tmp_path, hook(web, causes=("silence",)))
    hub.alert()
    hub.alert("cam-2", kind="silence", key="silent/cam-2")
    assert hub.step(1) == (1, 1)
    assert json.loads(web.got[0][2])["cause"] == "silence"
    hub.store.close()


@pytest.mark.parametrize(
    ("fields", "wanting"),
    [
        ({"kind": "webhook", "url": "http://x"}, "needs a `secret_file`"),
        ({"kind": "webhook", "secret_file": "hook.key"}, "needs a `url`"),
        ({"kind": "webhook", "url": "http://x", "secret_file": "none"}, "No such file"),
        ({"kind": "email"}, "needs addresses"),
        ({"kind": "email", "to": ("a@b",), "user": "u"}, "set `starttls`"),
    ],
)
def test_a_receiver_that_could_not_work_is_refused_at_the_start(tmp_path, fields, wanting):
    with pytest.raises(ConfigError, match=wanting):
        Hub(tmp_path, Receiver(name="r", **fields))


def test_settings_allow_no_other_scheme_than_http():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "x", "kind": "webhook", "url": "file:///etc/passwd"}, Receiver)


def test_a_channel_nobody_knows_is_refused_at_the_start(web, tmp_path):
    pigeon = msgspec.structs.replace(hook(web), kind="pigeon")
    with pytest.raises(ConfigError, match="receiver 'hook': there is no alert channel 'pigeon'"):
        Hub(tmp_path, pigeon)


@pytest.mark.parametrize(
    ("receiver", "fault"),
    [("pigeon/hook", "no receivers that are called pigeon/"), ("gone", "names no such receiver")],
)
def test_what_waits_for_a_receiver_nobody_knows_ends_as_not_delivered(
    web, tmp_path, receiver, fault
):
    hub = Hub(tmp_path, hook(web))
    with hub.store.write() as session:
        session.add(WebhookDelivery(id="d", receiver=receiver, body=b"{}", created=0.0, due=0.0))
    assert hub.sender.send_due() == 0
    (delivery,) = hub.deliveries()
    assert fault in delivery.fault
    assert delivery.ended is not None
    assert web.got == []
