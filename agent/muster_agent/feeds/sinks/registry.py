"""The kinds of sinks there are, one file each."""

from typing import assert_never

from muster_agent.base.feed_settings import SinkKind, SinkSettings
from muster_agent.feeds.sinks import file, modbus, mqtt, opcua, sparkplug, webhook
from muster_agent.feeds.sinks.base import SinkKindEntry
from muster_agent.feeds.sources.base import require
from muster_protocol.registry import Registry


def _entry_of(kind: SinkKind) -> SinkKindEntry:
    match kind:
        case "mqtt":
            return mqtt.KIND
        case "modbus":
            return modbus.KIND
        case "opcua":
            return opcua.KIND
        case "file":
            return file.KIND
        case "webhook":
            return webhook.KIND
        case "sparkplug":
            return sparkplug.KIND
        case _:
            assert_never(kind)


SINKS = Registry[SinkKind, SinkKindEntry]("sink", SinkKind, _entry_of)


def sink_kind(settings: SinkSettings) -> SinkKindEntry:
    """The kind that these settings are of; raises FeedFault when what it needs is missing."""
    entry = SINKS.find(str(settings.__struct_config__.tag))
    require(entry.needs)
    return entry
