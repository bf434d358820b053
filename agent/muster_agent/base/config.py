"""``agent.toml`` read, checked and written; what may stand in it is in ``settings``."""

import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from muster_agent.base import feed_rules, proxy
from muster_agent.base.settings import (
    MEANINGS,
    SETTINGS,
    SLOT_SETTINGS,
    Settings,
    Slot,
    hours,
    zone,
)
from muster_agent.base.toml_lines import line_of
from muster_agent.storage.files import write_durably
from muster_protocol.wire.errors import MusterError, ProtocolError
from muster_protocol.wire.topics import check_device_id, check_name

FILE = "agent.toml"
Value = str | float | list[str] | tuple[str, ...]
"""What a key may hold; whole numbers are floats to the type checker."""
SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of unix(7) without its closing zero."""
_SLOT_EXAMPLES = {"tcp_port": "8080", "interlock": '"/run/machine/may_swap"'}
_AT = re.compile(r"^(?P<says>.*?)(?: - at `\$\.?(?P<key>[^`]*)`)?$", re.DOTALL)
"""msgspec's words for what is wrong and where."""
_NAMED = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<name>[^`]*)`")


class ConfigError(MusterError):
    """agent.toml is missing, unreadable or says something impossible."""


@dataclass(frozen=True)
class Config:
    """A checked agent.toml, and where it lies."""

    directory: Path
    settings: Settings

    @property
    def device(self) -> str:
        """Name of this device, the common name of its certificate."""
        return self.settings.device

    @property
    def run_dir(self) -> Path:
        """Where the slots' sockets are."""
        return self.directory / self.settings.run_dir

    @property
    def interlocks(self) -> dict[str, str]:
        """Of the slots that have one: the file or socket to ask."""
        slots = self.settings.slots.items()
        return {name: slot.interlock for name, slot in slots if slot.interlock}

    def tcp_port(self, slot: str) -> int | None:
        """The loopback port a slot is served on, too."""
        known = self.settings.slots.get(slot)
        return known.tcp_port if known is not None else None

    def socket_path(self, slot: str) -> Path:
        """Where the slot is served; raises ConfigError when the kernel can't hold the path."""
        path = self.run_dir / f"{slot}.sock"
        length = len(bytes(path.absolute()))
        if length > SOCKET_PATH_BYTES_MAX:
            raise ConfigError(
                f"{path}: {length} bytes, a Unix socket's path may have {SOCKET_PATH_BYTES_MAX}: "
                f"set run_dir in {self.directory / FILE} to a shorter one, such as /run/muster"
            )
        return path


def load(directory: Path) -> Config:
    """Read ``<directory>/agent.toml``; raises ConfigError naming file, line, key and cure."""
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: enrol this device first (muster-agent enroll --help)"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return Config(directory, _checked(path, text, table))


def render(given: Mapping[str, Value]) -> str:
    """The text of an agent.toml with ``given`` set and every other key shown as a comment."""
    sections: dict[str, list[str]] = {"": []}
    for setting in SETTINGS:
        section, _, name = setting.key.rpartition(".")
        default = "" if setting.default is msgspec.NODEFAULT else setting.default
        line = f"{name} = {_literal(given.get(setting.key, default))}"
        lines = sections.setdefault(section, [])
        lines.append(f"# {setting.meaning}")
        lines.append(line if setting.key in given else f"# {line}")
    parts = []
    for section, lines in sections.items():
        parts.append("\n".join([f"[{section}]", *lines] if section else lines))
    slot = "\n".join(
        f"# {item.meaning}\n# {item.key} = {_SLOT_EXAMPLES[item.key]}" for item in SLOT_SETTINGS
    )
    return "\n\n".join([*parts, f"# [slots.<name>]\n{slot}"]) + "\n"


def write(directory: Path, given: Mapping[str, Value]) -> Path:
    """Write agent.toml and return its path; raises ConfigError or OSError."""
    path = directory / FILE
    text = render(given)
    _checked(path, text, tomllib.loads(text))
    write_durably(path, text.encode())
    return path


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _checked(path: Path, text: str, table: dict[str, Any]) -> Settings:
    """The table as settings; raises ConfigError."""
    if (fault := feed_rules.first_fault(table.get("feeds", {}))) is not None:
        place, words = ("feeds", *fault[0]), fault[1]
        raise ConfigError(f"{_file_line(path, line_of(text, place))}: {'.'.join(place)}: {words}")
    try:
        settings = msgspec.convert({"broker": {}} | table, Settings)
    except msgspec.ValidationError as error:
        raise _refused(path, text, table, str(error)) from None
    try:
        check_device_id(settings.device)
    except ProtocolError as error:
        raise ConfigError(f"{_place(path, text, 'device')}: {error}") from None
    for slot in settings.slots:
        try:
            check_name(slot, "slot")
        except ProtocolError as error:
            raise ConfigError(f"{_place(path, text, f'slots.{slot}')}: {error}") from None
    try:
        zone(settings.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"{_place(path, text, 'time_zone')}: time_zone {settings.time_zone!r} is not known on "
            "this system"
        ) from None
    if (wrong := proxy.check(settings.proxy)) is not None:
        key = f"proxy.{wrong[0]}"
        raise ConfigError(f"{_place(path, text, key)}: {key}: {wrong[1]}")
    try:
        hours(settings.limits.fetch_hours)
    except msgspec.ValidationError:
        raise ConfigError(
            f"{_place(path, text, 'limits.fetch_hours')}: limits.fetch_hours must be times such as "
            f"22:00-05:00, not {list(settings.limits.fetch_hours)!r}"
        ) from None
    return settings


def _refused(path: Path, text: str, table: Mapping[str, Any], says: str) -> ConfigError:
    """What msgspec said, as an error that names file, line and key, and what the key is for."""
    found = _AT.match(says)
    assert found is not None, "the pattern takes any text"
    words, key = found["says"], re.sub(r"\[\d+\]$", "", found["key"] or "")
    if key.startswith("slots"):
        key = _slot_key(table, key)
    named = _NAMED.match(words)
    if named is not None:
        key = f"{key}.{named['name']}" if key else named["name"]
        if named["what"] == "contains unknown":
            known = _known(key)
            return ConfigError(f"{_place(path, text, key)}: unknown key {key!r}; known: {known}")
        return ConfigError(f"{path}: {key} is missing. {MEANINGS.get(key, '')}".rstrip())
    value = _value_at(table, key)
    meaning = _meaning(key)
    words = words[:1].lower() + words[1:]
    return ConfigError(f"{_place(path, text, key)}: {key} = {value!r}: {words}. {meaning}".rstrip())


def _slot_key(table: Mapping[str, Any], key: str) -> str:
    """The slot's own name in place of ``[...]``: the first whose keys don't fit."""
    for name, keys in _items(table.get("slots")):
        try:
            msgspec.convert(keys, Slot)
        except msgspec.ValidationError:
            return key.replace("[...]", f".{name}", 1)
    return key


def _items(table: object) -> list[tuple[str, Any]]:
    return list(table.items()) if isinstance(table, dict) else []


def _known(key: str) -> str:
    """Keys that may stand where an unknown one does."""
    if key.startswith("slots."):
        return ", ".join(item.key for item in SLOT_SETTINGS)
    return ", ".join([*MEANINGS, "slots", "feeds"])


def _meaning(key: str) -> str:
    if key.startswith("slots."):
        name = key.rpartition(".")[2]
        return next((item.meaning for item in SLOT_SETTINGS if item.key == name), "")
    return MEANINGS.get(key, "")


def _value_at(table: Mapping[str, Any], key: str) -> object:
    value: object = table
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _file_line(path: Path, line: int | None) -> str:
    return str(path) if line is None else f"{path}:{line}"


def _place(path: Path, text: str, key: str) -> str:
    """File and line of a dotted key, as far as its line can be told; else the file."""
    wanted, _, name = key.rpartition(".")
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("[") and "]" in bare:
            section = bare.strip("[").partition("]")[0].strip()
            if section == key:
                return f"{path}:{number}"
        elif section == wanted and re.match(rf"{re.escape(name)}\s*=", bare):
            return f"{path}:{number}"
    return str(path)
