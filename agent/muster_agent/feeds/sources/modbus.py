"""Registers of a Modbus TCP device."""

from muster_agent.base.feed_settings import ModbusSource, SourceSettings
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedPlace, Source


class ModbusKind:
    """Sources of kind ``modbus``."""

    needs = ("pymodbus", "modbus")

    def make(self, settings: SourceSettings, inlet: SourceInlet, place: FeedPlace) -> Source:  # noqa: ARG002 - the port's names
        from muster_agent.feeds.modbus.tags import ModbusTags  # noqa: PLC0415 - of an extra

        assert isinstance(settings, ModbusSource)
        return ModbusTags(settings, inlet)


KIND = ModbusKind()
