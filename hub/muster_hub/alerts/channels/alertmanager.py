"""Alertmanager: alerts in the shape that its API takes."""

from collections.abc import Mapping
from typing import Any

import msgspec

from muster_hub.alerts import posting
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.messages import AlertFields, iso
from muster_hub.settings.alerts import Receiver

STANDING_SECONDS = 7 * 86_400.0
"""How long Alertmanager may take an alert for standing without hearing that it ended."""


class AlertmanagerChannel:
    """``POST /api/v2/alerts`` of an Alertmanager."""

    def lacks(self, receiver: Receiver) -> str:
        return "" if receiver.url else "needs a `url`"

    def secret_file(self, _receiver: Receiver) -> str:
        return ""

    def send(self, receiver: Receiver, _secret: bytes, delivery: Outgoing) -> None:
        posting.post(receiver.url.rstrip("/") + "/api/v2/alerts", body_of(delivery.body), {})


CHANNEL = AlertmanagerChannel()


def body_of(body: bytes) -> bytes:
    """The body of ``POST /api/v2/alerts`` for a kept event."""
    event = msgspec.json.decode(body)
    return msgspec.json.encode([_for_alertmanager(alert, event) for alert in event["alerts"]])


def _for_alertmanager(alert: AlertFields, event: Mapping[str, Any]) -> dict[str, Any]:
    labels = {
        "alertname": f"Muster{str(alert['kind']).title().replace('_', '')}",
        "severity": alert["severity"],
        "key": alert["key"],
        "device": alert["device"] or "",
        "site": event.get("site", ""),
        "model": event.get("model") or alert["detail"].get("model", ""),
    }
    resolved = alert["state"] == "resolved"
    ends = alert["updated"] if resolved else event["at"] + STANDING_SECONDS
    return {
        # Alertmanager refuses labels without a value.
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": alert["title"]},
        "startsAt": iso(alert["opened"]),
        "endsAt": iso(ends),
    }
