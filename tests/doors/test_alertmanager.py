"""From a scrape to somebody's pager: Prometheus, our rules, a real Alertmanager, a webhook; and the
hub's own alerts straight to that Alertmanager."""

import json
import subprocess
import time

import pytest

from muster_hub.alerts import messages
from muster_hub.alerts.channels.alertmanager import CHANNEL
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.settings.alerts import Receiver
from muster_hub.settings.config import Http
from support.hub_kit import open_kit
from support.metrics_fleet import fill
from support.monitoring import program, running_alertmanager, running_prometheus, until
from support.web import Web, serving

pytestmark = pytest.mark.doors


@pytest.fixture
def pager():
    """Where Alertmanager's webhook leads."""
    made = Web()
    with serving(made.server):
        yield made


def heard(pager: Web) -> dict[str, str]:
    """Alerts that reached the pager: name → latest status."""
    found = {}
    for _, _, body in pager.got:
        for alert in json.loads(body)["alerts"]:
            found[alert["labels"]["alertname"]] = alert["status"]
    return found


def test_a_scrape_becomes_a_message_on_somebodys_pager(pager, tmp_path):
    kit = open_kit(tmp_path / "hub", settings={"http": Http(metrics_networks=("127.0.0.1/32",))})
    try:
        fill(kit.hub, devices=3, now=kit.clock())
        with running_alertmanager(tmp_path, pager.url) as manager:
            target = kit.http.base_url.netloc.decode()
            with running_prometheus(tmp_path, target, manager.removeprefix("http://")):
                until(lambda: heard(pager).get("MusterAlertsOpen") == "firing")
    finally:
        kit.close()


def test_the_hubs_own_alert_stands_in_alertmanager_until_it_resolves(pager, tmp_path):
    def post(manager: str, state: str) -> None:
        now = time.time()
        alert = {
            "id": 1, "key": "drift/cam-1", "device": "cam-1", "kind": "drift", "updated": now,
            "severity": "warning", "state": state, "opened": began, "title": "cam-1 drifts",
            "detail": {},
        }  # fmt: skip
        body = messages.event("opened", "cam-1 drifts", ("berlin", "digits", "drift"), [alert], now)
        receiver = Receiver(name="am", kind="alertmanager", url=manager)
        CHANNEL.send(receiver, b"", Outgoing("d1", body, now))

    began = time.time() - 60
    with running_alertmanager(tmp_path, pager.url) as manager:
        post(manager, "open")
        until(lambda: heard(pager).get("MusterDrift") == "firing")
        shown = subprocess.run(
            [program("amtool"), "alert", "query", f"--alertmanager.url={manager}", "site=berlin"],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        assert "MusterDrift" in shown
        post(manager, "resolved")
        until(lambda: heard(pager).get("MusterDrift") == "resolved")
