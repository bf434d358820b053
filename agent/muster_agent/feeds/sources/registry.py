"""The kinds of sources there are, one file each."""

from typing import assert_never

from muster_agent.base.feed_settings import SourceKind, SourceSettings
from muster_agent.feeds.sources import camera, csv, images, modbus, mqtt, opcua, sparkplug
from muster_agent.feeds.sources.base import SourceKindEntry, require
from muster_protocol.registry import Registry


def _entry_of(kind: SourceKind) -> SourceKindEntry:  # noqa: PLR0911 - one of each
    match kind:
        case "mqtt":
            return mqtt.KIND
        case "modbus":
            return modbus.KIND
        case "opcua":
            return opcua.KIND
        case "csv":
            return csv.KIND
        case "sparkplug":
            return sparkplug.KIND
        case "images":
            return images.KIND
        case "camera":
            return camera.KIND
        case _:
            assert_never(kind)


SOURCES = Registry[SourceKind, SourceKindEntry]("source", SourceKind, _entry_of)


def source_kind(settings: SourceSettings) -> SourceKindEntry:
    """The kind that these settings are of; raises FeedFault when what it needs is missing."""
    entry = SOURCES.find(str(settings.__struct_config__.tag))
    require(entry.needs)
    return entry
