"""Answers in registers and coils of a PLC."""

from muster_agent.base.feed_settings import ModbusSink, SinkSettings
from muster_agent.feeds.answers import check_value
from muster_agent.feeds.sinks.base import Sink
from muster_agent.feeds.sources.base import FeedPlace
from muster_protocol.wire.manifest import Manifest


class ModbusSinkKind:
    """Sinks of kind ``modbus``."""

    needs = ("pymodbus", "modbus")

    def make(self, settings: SinkSettings, place: FeedPlace) -> Sink:  # noqa: ARG002 - the port's names
        from muster_agent.feeds.modbus.writes import ModbusWrites  # noqa: PLC0415 - of an extra

        assert isinstance(settings, ModbusSink)
        return ModbusWrites(settings)

    def check(self, settings: SinkSettings, manifest: Manifest) -> None:
        assert isinstance(settings, ModbusSink)
        for item in settings.writes.values():
            check_value(item.value, manifest)


KIND = ModbusSinkKind()
