"""What a receiver gets: bodies of webhooks, Alertmanager's alerts, e-mail. Pure."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import msgspec

STANDING_SECONDS = 7 * 86_400.0
"""How long Alertmanager may take an alert for standing without hearing that it ended."""
DIGEST_LINES_MAX = 200
AlertFields = Mapping[str, Any]


def sign(key: bytes, delivery: str, timestamp: int, body: bytes) -> str:
    """``v1,<base64>`` of HMAC-SHA256 over ``delivery.timestamp.body``."""
    signed = b".".join((delivery.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def event(
    step: str, title: str, group: Iterable[str], alerts: Iterable[AlertFields], at: float
) -> bytes:
    """The JSON that is kept for a delivery, and the body of a webhook."""
    site, model, cause = group
    return msgspec.json.encode(
        {
            "type": f"alert.{step}",
            "at": at,
            "title": title,
            "site": site,
            "model": model,
            "cause": cause,
            "alerts": [_alert_fields(alert) for alert in alerts],
        }
    )


def digest(alerts: Iterable[AlertFields], counts: Mapping[str, int], at: float) -> bytes:
    """The day's digest: how many opened and resolved, and all that stand."""
    standing = [_alert_fields(alert) for alert in alerts]
    opened, resolved = counts.get("opened", 0), counts.get("resolved", 0)
    return msgspec.json.encode(
        {
            "type": "alert.digest",
            "at": at,
            "title": f"{len(standing)} alerts stand; {opened} opened, {resolved} resolved in a day",
            "opened": opened,
            "resolved": resolved,
            "alerts": standing[:DIGEST_LINES_MAX],
        }
    )


def retrain(model: str, alerts: Iterable[AlertFields], since: float, at: float) -> bytes:
    """Asks a training pipeline for a new version of a model."""
    listed = [_alert_fields(alert) for alert in alerts]
    return msgspec.json.encode(
        {
            "type": "retrain",
            "at": at,
            "title": f"retrain {model}: it drifts on {len(listed)} device(s)",
            "model": model,
            "since": since,
            "features": sorted(
                {name for alert in listed for name in alert["detail"].get("features", ())}
            ),
            "devices": sorted({alert["device"] for alert in listed if alert["device"]}),
            "alerts": listed[:DIGEST_LINES_MAX],
        }
    )


def test(title: str, at: float) -> bytes:
    """What a webhook gets when somebody tries it out."""
    return msgspec.json.encode({"type": "test", "at": at, "title": title, "alerts": []})


def alertmanager(body: bytes) -> bytes:
    """The body of ``POST /api/v2/alerts`` for a kept event."""
    event_fields = msgspec.json.decode(body)
    return msgspec.json.encode(
        [_for_alertmanager(alert, event_fields) for alert in event_fields["alerts"]]
    )


def email(body: bytes, delivery: str, sender: str, to: Iterable[str]) -> EmailMessage:
    """A plain-text mail; its Message-ID is the delivery's, so that one sent twice is one."""
    event_fields = msgspec.json.decode(body)
    message = EmailMessage()
    message["Subject"] = f"[muster] {event_fields['title']}"
    message["From"], message["To"] = sender, ", ".join(to)
    message["Message-ID"] = f"<{delivery}@muster>"
    message["Date"] = datetime.fromtimestamp(event_fields["at"], UTC)
    lines = [
        f"{alert['severity']:8}  {alert['state']:12}  since {_when(alert['opened'])}  "
        f"#{alert['id']} {alert['title']}"
        for alert in event_fields["alerts"]
    ]
    message.set_content("\n".join([event_fields["title"], "", *lines]) + "\n")
    return message


def _alert_fields(alert: AlertFields) -> dict[str, Any]:
    fields = ("id", "key", "kind", "severity", "state", "device", "title", "opened", "updated")
    return {name: alert[name] for name in fields} | {"detail": dict(alert["detail"])}


def _for_alertmanager(alert: AlertFields, event_fields: Mapping[str, Any]) -> dict[str, Any]:
    labels = {
        "alertname": f"Muster{str(alert['kind']).title().replace('_', '')}",
        "severity": alert["severity"],
        "key": alert["key"],
        "device": alert["device"] or "",
        "site": event_fields.get("site", ""),
        "model": event_fields.get("model") or alert["detail"].get("model", ""),
    }
    resolved = alert["state"] == "resolved"
    ends = alert["updated"] if resolved else event_fields["at"] + STANDING_SECONDS
    return {
        # Alertmanager refuses labels without a value.
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": alert["title"]},
        "startsAt": _when(alert["opened"]),
        "endsAt": _when(ends),
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
