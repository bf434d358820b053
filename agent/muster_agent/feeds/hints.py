"""What may be the matter with a value that can't be, in words for whoever commissions a feed."""

from collections.abc import Mapping

from muster_agent.base.feed_rules import REGISTERS
from muster_agent.base.feed_settings import ModbusTag
from muster_agent.base.picture_settings import PictureTag
from muster_agent.base.tag_settings import TagSettings
from muster_agent.feeds.assembly import FeatureState
from muster_agent.feeds.samples import Reason

_ORDERS = ("big", "little")
_LIKELY: Mapping[Reason, str] = {
    "missing": "nothing came yet: check the address, or wait longer (--seconds)",
    "unreadable": "what came is no number: check path or type",
    "source": "the source itself calls it bad",
}


def hint(state: FeatureState, tag: TagSettings, value: float) -> str:
    """A likely cause of a bad value; empty when none is known. ``value`` is the last sample's."""
    if state.reason == "unreadable" and isinstance(tag, PictureTag):
        return "what came is no picture that can be read: see its source above"
    if state.reason != "range":
        return _LIKELY.get(state.reason, "")
    swapped = _swapped(tag, value)
    if swapped is not None and _within(state, swapped):
        order = _ORDERS[1 - _ORDERS.index(getattr(tag, "word_order", "big"))]
        return f'with word_order = "{order}" it would be {swapped:g}'
    return f"{value:g} is no value of this signal: check address, type, scale and unit"


def _within(state: FeatureState, value: float) -> bool:
    least, most = state.feature.least, state.feature.most
    above = isinstance(least, float) and value < least
    below = isinstance(most, float) and value > most
    return not above and not below and 1e-9 < abs(value) < 1e12


def _swapped(tag: TagSettings, value: float) -> float | None:
    """What the same registers say in the other word order; None where there is none."""
    if not isinstance(tag, ModbusTag) or REGISTERS[tag.type] == 1 or tag.word_order is None:
        return None
    from muster_agent.feeds.modbus.client import number_in, registers_of  # noqa: PLC0415 - of an extra
    from muster_agent.feeds.sources.base import FeedFault  # noqa: PLC0415 - beside its only use

    other = _ORDERS[1 - _ORDERS.index(tag.word_order)]
    try:
        registers = registers_of((value - tag.offset) / tag.scale, tag.type, tag.word_order)
    except FeedFault:
        return None
    return number_in(registers, tag.type, other) * tag.scale + tag.offset
