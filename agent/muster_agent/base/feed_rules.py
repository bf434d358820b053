"""What the types of ``feed_settings`` can't say: which values go together, in words. Pure.

What is wrong is found when ``agent.toml`` is read, and named with its place: never at night, when
the first message comes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from string import Formatter
from typing import Any, get_args

import msgspec

from muster_agent.base.feed_settings import (
    FeedSettings,
    ModbusAddress,
    ModbusSink,
    ModbusSource,
    ModbusTag,
    ModbusWrite,
    MqttSink,
    MqttTag,
    SinkKind,
    SinkSettings,
    SourceKind,
    SourceSettings,
)
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.topics import check_name

Path = tuple[str, ...]
REGISTERS = {
    "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4,
    "float64": 4, "bit": 1,
}  # fmt: skip
"""How many registers a number takes."""
CLOSED = frozenset(
    {"kind", "allow_writes", "serial_port", "device", "username", "password_file", "token_file",
     "ca", "security", "path"}
)  # fmt: skip
"""Keys of a source or sink that only ``agent.toml`` sets: what lets it write, and what names files,
devices and people of this machine."""
PART_DEPTH = 3
"""Of ``sources.plc.host``: a part's own keys."""
TEMPLATE_FIELDS = frozenset({"device", "feed", "slot"})
JSON_PATH = re.compile(r"(?:[^.\[\]]+|\[\d+\])(?:\.[^.\[\]]+|\[\d+\])*\Z")
OUTPUT = re.compile(r"(?P<output>.+?)(?:\[(?P<index>\d+)\])?\Z")
_AT = re.compile(r"^(?P<says>.*?)(?: - at `\$\.?(?P<key>[^`]*)`)?$", re.DOTALL)
_LACKS = re.compile(r"^Object missing required field `(?P<name>[^`]*)`")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`")


def first_fault(feeds: object) -> tuple[Path, str] | None:
    """The first thing that is wrong with the table ``feeds``: where, below it, and in words."""
    try:
        read = msgspec.convert(feeds, dict[str, FeedSettings])
    except msgspec.ValidationError as error:
        return _place(feeds, str(error))
    for name, feed in read.items():
        for path, words in faults(name, feed):
            return (name, *path), words
    return None


def _place(feeds: object, says: str) -> tuple[Path, str]:
    """Where msgspec's error is, with the names that it leaves out, and its words."""
    found = _AT.match(says)
    assert found is not None, "the pattern takes any text"
    words, path = found["says"], list[str]()
    for part in re.findall(r"\[\.\.\.\]|\[\d+\]|[^.\[\]]+", found["key"] or ""):
        path.append(_culprit(feeds, path) if part == "[...]" else part.strip("[]"))
    if (lacks := _LACKS.match(words)) is not None:
        return tuple(path), f"{lacks['name']} is missing"
    if (unknown := _UNKNOWN.match(words)) is not None:
        return (*path, unknown["name"]), f"there is no key {unknown['name']!r} here"
    words = words[:1].lower() + words[1:]
    if path[-1:] == ["kind"]:
        known = get_args(SourceKind if "sources" in path else SinkKind)
        words += f"; there are {', '.join(known)}"
    return tuple(path), words


def _culprit(feeds: object, path: list[str]) -> str:
    """Which entry of the table at ``path`` does not fit: the first that fails alone."""
    for name in _table_at(feeds, path):
        try:
            msgspec.convert(_with_only(feeds, path, name), dict[str, FeedSettings])
        except msgspec.ValidationError:
            return str(name)
    return "?"


def _table_at(value: Any, path: list[str]) -> Mapping[str, Any]:
    for name in path:
        value = value[name] if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _with_only(value: Any, path: list[str], name: str) -> Any:
    """A copy in which the table at ``path`` has no other entry."""
    made = copy(value)
    if not path:
        return {name: made[name]}
    made[path[0]] = _with_only(made[path[0]], path[1:], name)
    return made


def faults(name: str, feed: FeedSettings) -> Iterator[tuple[Path, str]]:
    """What is wrong with a feed: where, below it, and in words."""
    for value, what, place in ((name, "feed", ()), (feed.slot, "slot", ("slot",))):
        try:
            check_name(value, what)
        except ProtocolError as error:
            yield place, str(error)
    for words in _opened_faults(feed.hub_may_set):
        yield ("hub_may_set",), words
    owners: dict[str, str] = {}
    for source, settings in feed.sources.items():
        for signal in settings.tags:
            if signal in owners:
                yield (
                    ("sources", source, "tags", signal),
                    f"signal {signal!r} already comes from source {owners[signal]!r}",
                )
            owners[signal] = source
        for path, words in _source_faults(settings):
            yield ("sources", source, *path), words
    for sink, made in feed.sinks.items():
        for path, words in _sink_faults(made):
            yield ("sinks", sink, *path), words
    yield from _line_faults(feed)


def _opened_faults(opened: Iterable[str]) -> Iterator[str]:
    """What is wrong with paths that are to be open to a hub, in words."""
    for path in opened:
        names = path.split(".")
        if len(names) < PART_DEPTH or names[0] not in {"sources", "sinks"} or not all(names):
            yield f"{path!r} is no path below a source or sink, such as sources.plc.host"
        elif names[2] in CLOSED:
            yield f"{path!r} can't be open to a hub: {names[2]} is set here alone"


def _address_faults(address: ModbusAddress) -> Iterator[tuple[Path, str]]:
    if bool(address.host) == bool(address.serial_port):
        yield ("host",), "name host, for Modbus TCP, or serial_port, for RTU"


def _line_faults(feed: FeedSettings) -> Iterator[tuple[Path, str]]:
    """Parts of a feed share a serial line, and so its settings."""
    lines: dict[str, tuple[str, tuple[object, ...]]] = {}
    parts = [(("sources", name), part) for name, part in feed.sources.items()]
    both = [*parts, *((("sinks", name), part) for name, part in feed.sinks.items())]
    for place, part in both:
        if isinstance(part, ModbusAddress) and part.serial_port:
            settings = (part.baudrate, part.parity, part.stop_bits)
            owner, known = lines.setdefault(part.serial_port, (place[1], settings))
            if known != settings:
                yield (
                    (*place, "serial_port"),
                    f"{owner} has the same line with another baudrate, parity or stop_bits",
                )


def _source_faults(source: SourceSettings) -> Iterator[tuple[Path, str]]:
    if isinstance(source, ModbusSource):
        yield from _address_faults(source)
    for name, tag in source.tags.items():
        if tag.scale == 0:
            yield ("tags", name, "scale"), "scale 0 makes every value the same"
        if tag.least is not None and tag.most is not None and tag.least > tag.most:
            yield ("tags", name, "least"), f"least {tag.least:g} is above most {tag.most:g}"
        found: Iterator[tuple[str, str]] = iter(())
        if isinstance(tag, ModbusTag):
            found = _register_faults(tag, bit=tag.table in {"coil", "discrete"})
        elif isinstance(tag, MqttTag):
            found = _message_faults(tag)
        for key, words in found:
            yield ("tags", name, key), words


def _message_faults(tag: MqttTag) -> Iterator[tuple[str, str]]:
    if set(tag.topic) & set("+#"):
        yield "topic", "a tag has one topic, without + and #"
    for key in ("path", "time_path", "quality_path"):
        given = getattr(tag, key)
        if given and not JSON_PATH.match(given):
            yield key, f"{given!r} is no path such as values[0].v"


def _register_faults(item: ModbusTag | ModbusWrite, *, bit: bool) -> Iterator[tuple[str, str]]:
    count = REGISTERS[item.type]
    if count > 1 and item.word_order is None:
        words = (
            f"a {item.type} takes {count} registers: say word_order, big or little (see the "
            "device's manual; a wrong one gives wrong numbers without an error)"
        )
        yield "word_order", words
    if bit != (item.type == "bit"):
        yield "type", "coils and discrete inputs are of type bit, registers are not"
    if item.register + count > 65_536:
        yield "register", f"a {item.type} at {item.register} ends beyond register 65535"


def _sink_faults(sink: SinkSettings) -> Iterator[tuple[Path, str]]:
    if isinstance(sink, MqttSink):
        yield from _template_faults(sink.topic)
    elif isinstance(sink, ModbusSink):
        yield from _address_faults(sink)
        taken: dict[int, str] = {}
        if sink.heartbeat_register is not None:
            taken[sink.heartbeat_register] = "the heartbeat"
        if sink.quality_register is not None:
            owner = taken.setdefault(sink.quality_register, "the quality")
            if owner != "the quality":
                words = f"register {sink.quality_register} is also written by {owner}"
                yield ("quality_register",), words
        for name, write in sink.writes.items():
            for key, words in _register_faults(write, bit=write.type == "bit"):
                yield ("writes", name, key), words
            count = 0 if write.type == "bit" else REGISTERS[write.type]
            for register in range(write.register, write.register + count):
                owner = taken.setdefault(register, name)
                if owner != name:
                    words = f"register {register} is also written by {owner}"
                    yield ("writes", name, "register"), words


def _template_faults(topic: str) -> Iterator[tuple[Path, str]]:
    try:
        named = {field for _, field, _, _ in Formatter().parse(topic) if field is not None}
    except ValueError as error:
        yield ("topic",), f"{topic!r}: {error}"
        return
    for field in sorted(named - TEMPLATE_FIELDS):
        yield ("topic",), f"{{{field}}} is not known; {', '.join(sorted(TEMPLATE_FIELDS))} are"
    if set(topic) & set("+#"):
        yield ("topic",), "an answer is published to one topic, without + and #"
