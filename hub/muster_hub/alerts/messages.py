"""What a receiver is told, as the JSON that waits in the queue; channels make of it what they send.

Pure.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

DIGEST_LINES_MAX = 200
AlertFields = Mapping[str, Any]


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


def _alert_fields(alert: AlertFields) -> dict[str, Any]:
    fields = ("id", "key", "kind", "severity", "state", "device", "title", "opened", "updated")
    return {name: alert[name] for name in fields} | {"detail": dict(alert["detail"])}


def iso(seconds: float) -> str:
    """A time in UTC as ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
