"""What devices are told of their feeds: values by selector, with addresses from their labels.

A device takes what its own ``agent.toml`` opens to the hub, after the same checks as that file.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlmodel import Session, col, select

from muster_hub.audit import log
from muster_hub.errors import Conflict, Invalid, NotFound
from muster_hub.storage import models
from muster_hub.storage.feeds import FeedSettingRow
from muster_protocol.wire import limits, selectors
from muster_protocol.wire.directive import FeedValue, FeedValues
from muster_protocol.wire.selectors import Selector

NAMES_MAX = 200
"""Of settings: each device's directive is decided by all of them."""
LACKING_MAX = 20
"""Devices named in an answer."""
_LABEL = re.compile(r"\{label\.([^{}]*)\}")
_BRACE = re.compile(r"[{}]")


@dataclass(frozen=True)
class FeedSetting:
    """Values of one feed, as directives go by them."""

    name: str
    selector: Selector
    feed: str
    settings: Mapping[str, FeedValue]


def wanted(session: Session) -> tuple[FeedSetting, ...]:
    """All of them by name: where two set the same, the later name holds."""
    rows = session.exec(select(FeedSettingRow).order_by(col(FeedSettingRow.name))).all()
    return tuple(
        FeedSetting(row.name, selectors.parse(row.selector), row.feed, row.settings) for row in rows
    )


def lacks(setting: FeedSetting, labels: Mapping[str, str]) -> str:
    """A label that the setting names and a device doesn't have; empty: it has them all."""
    texts = (value for value in setting.settings.values() if isinstance(value, str))
    return next((key for text in texts for key in _LABEL.findall(text) if key not in labels), "")


def of_device(
    labels: Mapping[str, str], settings: Sequence[FeedSetting]
) -> dict[str, dict[str, FeedValue]]:
    """By feed, what a device is told: of settings whose labels it has, as much as there is room
    for. Pure."""
    found: dict[str, dict[str, FeedValue]] = {}
    for setting in settings:
        if not setting.selector.matches(labels) or lacks(setting, labels):
            continue
        filled = found.get(setting.feed, {}) | {
            path: _filled(value, labels) for path, value in setting.settings.items()
        }
        fresh = found | {setting.feed: filled}
        if _fits(fresh):
            found = fresh
    return found


def _filled(value: FeedValue, labels: Mapping[str, str]) -> FeedValue:
    if not isinstance(value, str):
        return value
    return _LABEL.sub(lambda match: labels[match[1]], value)[: limits.LINE_CHARS_MAX]


def _fits(feeds: Mapping[str, Mapping[str, FeedValue]]) -> bool:
    many = len(feeds) > limits.FEEDS_REPORTED_MAX
    many |= any(len(values) > limits.FEED_SETTINGS_MAX for values in feeds.values())
    return not many and len(msgspec.json.encode(feeds)) <= limits.FEED_SETTINGS_BYTES_MAX


def plan(
    session: Session,
    *,
    name: str,
    selector: str,
    feed: str,
    settings: Mapping[str, Any],
    by: str,
    now: float,
) -> FeedSettingRow:
    """The row that ``put`` would make; nothing is changed. Raises Invalid and Conflict."""
    _check(feed, settings)
    if session.get(FeedSettingRow, name) is None:
        count = len(session.exec(select(FeedSettingRow.name)).all())
        if count >= NAMES_MAX:
            raise Conflict(f"there are {NAMES_MAX} feed settings: remove one first")
    spelt = str(selectors.parse(selector))
    return FeedSettingRow(
        name=name, selector=spelt, feed=feed, settings=dict(settings), created=now, created_by=by
    )


def put(
    session: Session,
    *,
    name: str,
    selector: str,
    feed: str,
    settings: Mapping[str, Any],
    by: str,
    now: float,
) -> FeedSettingRow:
    """Set it, in place of one of the same name. Audited; raises Invalid and Conflict."""
    planned = plan(
        session, name=name, selector=selector, feed=feed, settings=settings, by=by, now=now
    )
    row = session.merge(planned)
    log.append(
        session, actor=by, action="feed-setting.put", subject=f"feed-setting/{name}", now=now,
        selector=row.selector, feed=feed, settings=row.settings,
    )  # fmt: skip
    return row


def _check(feed: str, settings: Mapping[str, Any]) -> None:
    try:
        values = msgspec.convert(dict(settings), FeedValues)
    except msgspec.ValidationError as error:
        raise Invalid(f"settings: {error}") from None
    if not _fits({feed: values}):
        raise Invalid(f"settings: more than {limits.FEED_SETTINGS_BYTES_MAX} bytes in all")
    for path, value in values.items():
        if isinstance(value, str) and path.split(".")[0] == "sources":
            left = _BRACE.search(_LABEL.sub("", value))
            if left is not None:
                raise Invalid(f"{path}: {value!r}: labels are written {{label.plc_address}}")


def remove(session: Session, name: str, *, by: str, now: float) -> None:
    """Let the devices' own configuration count again. Audited; raises NotFound."""
    session.delete(find(session, name))
    log.append(
        session, actor=by, action="feed-setting.delete", subject=f"feed-setting/{name}", now=now
    )


def find(session: Session, name: str) -> FeedSettingRow:
    """One by its name; raises NotFound."""
    row = session.get(FeedSettingRow, name)
    if row is None:
        raise NotFound(f"there is no feed setting {name!r}")
    return row


def view(session: Session, row: FeedSettingRow) -> dict[str, Any]:
    """A setting, how many devices it reaches, and which of them lack a label that it names."""
    return views(session, [row])[0]


def views(session: Session, rows: Sequence[FeedSettingRow]) -> list[dict[str, Any]]:
    """The same of several, for which the fleet is read once."""
    query = select(models.Device.id, models.Device.labels).where(
        col(models.Device.revoked).is_(False), col(models.Device.deleted).is_(None)
    )
    fleet = list(session.exec(query)) if rows else []
    return [_view(row, fleet) for row in rows]


def _view(row: FeedSettingRow, fleet: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, Any]:
    setting = FeedSetting(row.name, selectors.parse(row.selector), row.feed, row.settings)
    reached = [(name, labels) for name, labels in fleet if setting.selector.matches(labels)]
    lacking = {name: key for name, labels in reached if (key := lacks(setting, labels))}
    return row.model_dump() | {
        "devices": len(reached),
        "lacking": dict(sorted(lacking.items())[:LACKING_MAX]),
        "lacking_more": max(len(lacking) - LACKING_MAX, 0),
    }
