"""A real Prometheus scrapes the hub, evaluates the rules we ship, and tells Alertmanager."""

import json
import subprocess

import httpx
import pytest

from muster_agent.app import metrics
from muster_agent.app.exposition import text
from muster_hub.settings.config import Http
from support.agent_directory import ENDS, OUTBOX, PROCESS, SEEN
from support.hub_kit import open_kit
from support.metrics_fleet import fill
from support.monitoring import DEPLOY, program, running_prometheus, until

pytestmark = pytest.mark.doors


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path, settings={"http": Http(metrics_networks=("127.0.0.1/32",))})
    fill(made.hub, devices=3, now=made.clock())
    made.hub.add_health("engine", lambda: {"ok": True})
    yield made
    made.close()


def complaints(scraped: bytes) -> str:
    """What promtool has against metrics."""
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=scraped, capture_output=True,
        check=False, timeout=60,
    )  # fmt: skip
    said = checked.stderr.decode() + checked.stdout.decode()
    return said or ("" if checked.returncode == 0 else f"code {checked.returncode}")


def test_promtool_accepts_the_agents_metrics():
    scraped = text(metrics.families(SEEN, OUTBOX, PROCESS, ENDS))
    assert b"muster_agent_slot_ready" in scraped
    assert complaints(scraped) == ""


def test_promtool_accepts_the_hubs_metrics_and_the_rules_we_ship(kit):
    assert complaints(kit.http.get("/metrics").content) == ""
    for words in (["rules", "muster.rules.yml"], ["config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run(
            [program("promtool"), "check", *words], cwd=DEPLOY, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def prometheus(kit, tmp_path):
    """A Prometheus with our rules, scraping the kit every second; its address."""
    with running_prometheus(tmp_path, kit.http.base_url.netloc.decode()) as url:
        yield url


def test_prometheus_scrapes_and_our_rule_opens_an_alert(prometheus):
    def firing():
        alerts = httpx.get(f"{prometheus}/api/v1/alerts").json()["data"]["alerts"]
        return [alert for alert in alerts if alert["state"] == "firing"]

    found = until(firing)
    assert {alert["labels"]["alertname"] for alert in found} >= {"MusterAlertsOpen"}


def test_every_expression_of_the_dashboard_answers_on_a_scraped_hub(prometheus):
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    assert len(expressions) >= 8

    def unanswered():
        silent = []
        for expression in expressions:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}).json()
            assert answer["status"] == "success", (expression, answer)
            if not answer["data"]["result"]:
                silent.append(expression)
        return silent or "none"

    until(lambda: unanswered() == "none")
