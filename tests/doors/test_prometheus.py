"""A real Prometheus scrapes the hub, evaluates the rules we ship, and tells Alertmanager."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from muster_hub.settings.config import Http
from support.hub_kit import open_kit
from support.metrics_fleet import fill
from support.ports import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
WAIT_SECONDS = 60.0

pytestmark = pytest.mark.doors


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path, settings={"http": Http(metrics_networks=("127.0.0.1/32",))})
    fill(made.hub, devices=3, now=made.clock())
    made.hub.add_health("engine", lambda: {"ok": True})
    yield made
    made.close()


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: deploy/need prometheus"
    return found


def test_promtool_accepts_the_hubs_metrics_and_the_rules_we_ship(kit):
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=kit.http.get("/metrics").content,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()
    for words in (["rules", "muster.rules.yml"], ["config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run(
            [program("promtool"), "check", *words], cwd=DEPLOY, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def prometheus(kit, tmp_path):
    """A Prometheus with our rules, scraping the kit every second; its address."""
    shutil.copy(DEPLOY / "muster.rules.yml", tmp_path)
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [
        {
            "job_name": "muster-hub",
            "static_configs": [{"targets": [kit.http.base_url.netloc.decode()]}],
        }
    ]
    config["alerting"] = {}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    running = subprocess.Popen(
        [
            program("prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    running.terminate()
    running.wait(60)


def until(ask, seconds: float = WAIT_SECONDS):
    """The first answer of ``ask`` that holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := ask():
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.2)  # Prometheus starts, scrapes and evaluates at its own pace
    raise AssertionError(f"nothing came of it within {seconds} s")


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
