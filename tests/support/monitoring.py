"""Real Prometheus and Alertmanager around a hub, as deploy/monitoring sets them up."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.ports import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
WAIT_SECONDS = 60.0


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: deploy/need prometheus prometheus-alertmanager"
    return found


def until(ask: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """The first answer of ``ask`` that holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := ask():
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.2)  # foreign servers start, scrape and evaluate at their own pace
    raise AssertionError(f"nothing came of it within {seconds} s")


@contextmanager
def running_prometheus(folder: Path, target: str, alertmanager: str = "") -> Iterator[str]:
    """A Prometheus with our rules that scrapes ``target`` every second; its address.

    ``target`` and ``alertmanager`` are ``host:port``.
    """
    shutil.copy(DEPLOY / "muster.rules.yml", folder)
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [
        {"job_name": "muster-hub", "static_configs": [{"targets": [target]}]}
    ]
    managers = [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
    config["alerting"] = {"alertmanagers": managers}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    running = subprocess.Popen(
        [
            program("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: httpx.get(f"{url}/-/ready").is_success)
        yield url
    finally:
        running.terminate()
        running.wait(60)


@contextmanager
def running_alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """An Alertmanager that passes every alert on to ``webhook`` at once; its address."""
    receiver = {"name": "hook", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
    route = {"receiver": "hook", "group_by": ["alertname"], "group_wait": "0s",
             "group_interval": "1s"}  # fmt: skip
    config = folder / "alertmanager.yml"
    config.write_text(json.dumps({"route": route, "receivers": [receiver]}))  # JSON is YAML
    port = free_port()
    running = subprocess.Popen(
        [
            program("prometheus-alertmanager"), f"--config.file={config}",
            f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ]
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(f"{url}/-/ready").is_success)
        yield url
    finally:
        running.terminate()
        running.wait(60)
