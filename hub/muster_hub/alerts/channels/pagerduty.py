"""PagerDuty: events of the Events API v2, one for each alert.

https://developer.pagerduty.com/docs/send-alert-event
"""

import hashlib
from typing import Any, assert_never

import msgspec

from muster_hub.alerts import posting, wording
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.messages import iso
from muster_hub.alerts.wording import AlertWords, Words
from muster_hub.settings.alerts import Receiver
from muster_hub.storage.telemetry import Severity

URL = "https://events.pagerduty.com"
"""Accounts in the EU set ``url`` to ``https://events.eu.pagerduty.com``."""
SUMMARY_CHARS_MAX = 1024
NOT_ALERTS = frozenset({"digest", "retrain"})


class PagerDutyChannel:
    """Triggers and resolves what its service's integration key stands for."""

    def lacks(self, receiver: Receiver) -> str:
        if not receiver.secret_file:
            return "needs a `secret_file`: it holds the integration key"
        wrong = sorted(NOT_ALERTS & set(receiver.on))
        return f"can't be told of {wrong[0]!r}: it takes alerts alone" if wrong else ""

    def secret_file(self, receiver: Receiver) -> str:
        return receiver.secret_file

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing) -> None:
        url = (receiver.url or URL).rstrip("/") + "/v2/enqueue"
        for body in bodies_of(delivery, secret.decode()):
            posting.post(url, body, {})


CHANNEL = PagerDutyChannel()


def bodies_of(delivery: Outgoing, routing_key: str) -> list[bytes]:
    """Events for the alerts of a delivery. One that is sent again changes nothing: an alert has
    one ``dedup_key`` from when it opens until it ends."""
    words = wording.read(delivery)
    return [
        msgspec.json.encode(_event(alert, words, delivery, routing_key)) for alert in words.alerts
    ]


def _event(alert: AlertWords, words: Words, delivery: Outgoing, routing_key: str) -> dict[str, Any]:
    known = f"{delivery.hub}\n{alert.key}\n{alert.opened!r}"
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": _action(alert.state),
        "dedup_key": f"muster-{hashlib.sha256(known.encode()).hexdigest()}",
        "client": "Muster",
        "payload": {
            "summary": wording.shortened(alert.title, SUMMARY_CHARS_MAX),
            "source": alert.device or delivery.hub or "muster-hub",
            "severity": _severity(alert.severity),
            "timestamp": iso(alert.opened),
            "component": words.model or str(alert.detail.get("model", "")) or "hub",
            "group": words.site or "muster",
            "class": alert.kind,
            "custom_details": alert.detail,
        },
    }
    if link := wording.inbox(delivery):
        event |= {"client_url": link, "links": [{"href": link, "text": "Inbox"}]}
    return event


def _action(state: str) -> str:
    return {"resolved": "resolve", "acknowledged": "acknowledge"}.get(state, "trigger")


def _severity(severity: Severity) -> str:
    match severity:
        case "critical" | "warning" | "info":
            return severity
        case _:
            assert_never(severity)
