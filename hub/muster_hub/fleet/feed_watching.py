"""Watching a device's feeds: it is asked to tell how they stand, and what it told last is kept."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from muster_hub.audit import log
from muster_hub.fleet import understanding
from muster_hub.storage import models
from muster_protocol.wire.directive import FEED_WATCHES

WATCH_SECONDS = 120.0
"""How long a device tells it once it was asked."""
AGAIN_SECONDS = 60.0
"""A device that was asked within this time goes on telling: it is not asked anew."""
TRAIL_VALUES = 24
"""Latest values kept of each signal."""
FIELD = "feeds"
"""Of a report."""


def ask(session: Session, device: models.Device, *, by: str, now: float) -> int:
    """Have a device tell how its feeds stand, for two minutes; the number of the request. Audited.

    Raises Conflict when its agent can't be told.
    """
    understanding.require(
        device, FEED_WATCHES, lacks="doesn't tell how its feeds stand",
        instead="run `muster-agent feed list` there",
    )  # fmt: skip
    if device.feed_watched is not None and 0 <= now - device.feed_watched < AGAIN_SECONDS:
        return device.feed_watches
    device.feed_watches += 1
    device.feed_watched = now
    session.add(device)
    log.append(
        session, actor=by, action="device.watch-feeds", subject=device.id, now=now,
        request=device.feed_watches,
    )  # fmt: skip
    return device.feed_watches


def kept(before: Mapping[str, Any] | None, feeds: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What is kept once a device has told of its feeds; ``before`` is what was. Pure."""
    trails: dict[str, dict[str, list[float]]] = {}
    old = (before or {}).get("trails") or {}
    for name, feed in feeds.items():
        trails[name] = {}
        for signal in feed.get("signals") or ():
            trail = list((old.get(name) or {}).get(signal["feature"]) or ())
            if signal.get("value") is not None:
                trail.append(signal["value"])
            trails[name][signal["feature"]] = trail[-TRAIL_VALUES:]
    return {"received": now, "feeds": dict(feeds), "trails": trails}


def view(device: models.Device, now: float) -> dict[str, Any]:
    """What was asked last, until when it is told, and what was told last."""
    said = device.feeds or {}
    asked_at = device.feed_watched
    return {
        "device": device.id,
        "asked": device.feed_watches,
        "asked_at": asked_at,
        "live": asked_at is not None and 0 <= now - asked_at < WATCH_SECONDS,
        "received": said.get("received"),
        "feeds": {
            name: feed | {"trails": (said.get("trails") or {}).get(name) or {}}
            for name, feed in sorted((said.get("feeds") or {}).items())
        },
    }
