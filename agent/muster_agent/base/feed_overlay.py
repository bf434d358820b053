"""What a hub may change of a feed: only paths that ``agent.toml`` opens to it. Pure.

What is changed goes through the same checks as ``agent.toml``, whole.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from muster_agent.base import feed_rules
from muster_agent.base.feed_rules import CLOSED, PART_DEPTH
from muster_agent.base.feed_settings import FeedSettings
from muster_protocol.wire.directive import FeedValue


def overlaid(
    name: str, local: FeedSettings, wanted: Mapping[str, FeedValue]
) -> tuple[FeedSettings, str]:
    """A feed as the hub wants it, and an empty text; or as it is here, and why the hub's is not
    taken: all of it is, or nothing."""
    table: dict[str, Any] = msgspec.to_builtins(local)
    for path, value in wanted.items():
        if (fault := _refusal(path, local.hub_may_set)) or (fault := _put(table, path, value)):
            return local, fault
    if (found := feed_rules.first_fault({name: table})) is not None:
        place, words = found
        return local, f"{'.'.join(place[1:])}: {words}"
    return msgspec.convert(table, FeedSettings), ""


def _refusal(path: str, opened: Iterable[str]) -> str:
    names = path.split(".")
    if len(names) >= PART_DEPTH and names[2] in CLOSED:
        return f"{path}: only agent.toml sets it"
    if not any(path == each or path.startswith(f"{each}.") for each in opened):
        return f"{path}: hub_may_set in agent.toml does not open it to the hub"
    return ""


def _put(table: dict[str, Any], path: str, value: FeedValue) -> str:
    *above, last = path.split(".")
    place = table
    for name in above:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return f"{path}: {name} is a value, nothing stands below it"
    whole = isinstance(value, float) and value.is_integer()
    place[last] = int(value) if whole else value  # A directive knows one kind of number.
    return ""
