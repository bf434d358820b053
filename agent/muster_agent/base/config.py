"""``agent.toml``: what a device's operator may set. Every key has a type, a default and a sentence.

``SETTINGS`` is the one list; loading, checking, the written file and the documentation follow it.
"""

import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal

import msgspec

from muster_agent.storage.files import write_durably
from muster_protocol.wire import limits
from muster_protocol.wire.errors import MusterError, ProtocolError
from muster_protocol.wire.maintenance import MaintenanceWindow
from muster_protocol.wire.topics import check_device_id, check_name

FILE = "agent.toml"
Value = str | float | list[str]
"""What a key may hold; whole numbers are floats to the type checker."""
SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of unix(7) without its closing zero."""


class ConfigError(MusterError):
    """agent.toml is missing, unreadable or says something impossible."""


@dataclass(frozen=True)
class Setting:
    """One key: its dotted name, type, default (None: required), bounds and meaning."""

    key: str
    kind: type[str] | type[int] | type[float] | type[list[str]]
    default: Value | None
    meaning: str
    least: float = 0
    most: float = float("inf")
    choices: tuple[str, ...] = ()
    """Of a text; empty: any."""


SETTINGS = (
    Setting("device", str, None, "Name of this device; the common name of its certificate."),
    Setting("run_dir", str, "run", "Directory of the slots' sockets, from the agent's directory."),
    Setting("hub.url", str, "", "HTTPS address of the hub; used for enrolment and renewal."),
    Setting("broker.host", str, None, "Host name or address of the MQTT broker."),
    Setting("broker.port", int, 8883, "TLS port of the MQTT broker.", 1, 65535),
    Setting("broker.keepalive_seconds", int, limits.KEEPALIVE_SECONDS,
            "MQTT keepalive; a dead link is noticed after twice this.", 5, 3600),
    Setting("runtimes.allow", list, [],
            "Runtimes this device may use, of those installed; empty: all of them."),
    Setting("isolation", str, "auto",
            "required: no model runs where the kernel can't isolate its process; auto: it runs "
            "and the report says so.", choices=("auto", "required")),
    Setting("limits.chunk_cache_bytes", int, 512 * limits.MIB,
            "Most that fetched chunks may take beside installed bundles, when no update needs "
            "them.", 0),
    Setting("limits.disk_free_bytes_min", int, 64 * limits.MIB,
            "Free space an update must leave on the disk.", 0),
    Setting("limits.fetch_window", int, limits.FETCH_WINDOW_CHUNKS,
            "Chunks asked for at once.", 1, 16),
    Setting("limits.fetch_bytes_per_day", int, 0,
            "Most that is fetched on one day; 0: no bound.", 0),
    Setting("limits.fetch_bytes_per_second", int, 0,
            "Average rate of fetching; 0: no bound.", 0),
    Setting("limits.fetch_bytes_per_bundle", int, 0,
            "Most that is fetched for one update; a larger one is refused as too_large; 0: no "
            "bound.", 0),
    Setting("limits.fetch_hours", list, [],
            "Times of day in which models are fetched, each as 22:00-05:00; empty: at any time. "
            "A device whose clock is not set fetches at any time."),
    Setting("limits.ring_bytes", int, 8 * limits.MIB,
            "Size of a worker's ring file: what it may record before the supervisor reads it.",
            65_536, 1_073_741_824),
    Setting("limits.telemetry_bytes_per_day", int, 0,
            "Most that summaries and events send on one day, an eighth of it for events alone; "
            "more waits, and is merged when the outbox is full; 0: no bound.", 0),
    Setting("challenger.cpu_share", float, 0.1,
            "Most processor time that a challenger may take beside a slot's model, of one core; "
            "what it leaves no time for is not compared.", 0.01, 1.0),
    Setting("energy.watts_per_core", float, 0.0,
            "What a busy core draws, to estimate the energy of inference where the processor does "
            "not tell (RAPL); 0: no estimate there.", 0, 1000),
    Setting("time_zone", str, "",
            "Zone of maintenance windows and fetch hours, such as Europe/Berlin; empty: the "
            "system's."),
    Setting("timers.report_seconds", float, 60.0, "Time between reports, ±20 %.", 1, 86_400),
    Setting("timers.metadata_wait_seconds", float, 20.0,
            "How long a directive may name a manifest that no metadata signs before it is "
            "refused; metadata may arrive after the directive.", 0.1, 3600),
    Setting("timers.chunk_silence_seconds", float, 4.0,
            "Silence on the outstanding chunks before they are asked for again, ±25 %.", 0.05, 600),
    Setting("timers.restart_seconds_min", float, 0.5,
            "First pause before a champion worker that died is started again.", 0.01, 600),
    Setting("timers.restart_seconds_max", float, 60.0,
            "Longest pause before a champion worker is started again.", 0.1, 3600),
    Setting("timers.retry_seconds_min", float, 60.0,
            "First pause before an update that failed for a passing reason is tried again.",
            0.1, 86_400),
    Setting("timers.retry_seconds_max", float, 3600.0,
            "Longest pause between such tries.", 1, 604_800),
    Setting("timers.stop_seconds", float, 10.0,
            "How long a worker may finish its requests when it is stopped.", 0.1, 600),
)  # fmt: skip
_BY_KEY = {setting.key: setting for setting in SETTINGS}
SLOT_KEYS = {
    "tcp_port": "Serve the slot on this loopback TCP port too, beside its Unix socket.",
    "interlock": "File or Unix socket that must say 1 whenever a swap may begin; missing or "
    "silent, it forbids.",
}
_SLOT_EXAMPLES = {"tcp_port": "8080", "interlock": '"/run/machine/may_swap"'}


@dataclass(frozen=True)
class Config:
    """A checked agent.toml. ``values`` holds every setting; the others what slots have."""

    directory: Path
    values: Mapping[str, Value]
    tcp_ports: Mapping[str, int] = field(default_factory=dict)
    interlocks: Mapping[str, str] = field(default_factory=dict)

    def text(self, key: str) -> str:
        return str(self.values[key])

    def count(self, key: str) -> int:
        return int(self.number(key))

    def number(self, key: str) -> float:
        value = self.values[key]
        assert isinstance(value, int | float)
        return float(value)

    def names(self, key: str) -> tuple[str, ...]:
        value = self.values[key]
        assert isinstance(value, list)
        return tuple(value)

    @property
    def isolation(self) -> Literal["required", "auto"]:
        """Whether a model may run where the kernel can't isolate its process."""
        return "required" if self.text("isolation") == "required" else "auto"

    @property
    def device(self) -> str:
        return self.text("device")

    @property
    def run_dir(self) -> Path:
        return self.directory / self.text("run_dir")

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
    """Read ``<directory>/agent.toml``; raises ConfigError naming the file, the key and the cure."""
    path = directory / FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: enrol this device first (muster-agent enroll --help)"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    tcp_ports, interlocks = _slots(path, table.pop("slots", {}))
    given = dict(_flatten(table))
    values: dict[str, Value] = {}
    for setting in SETTINGS:
        values[setting.key] = _value(path, setting, given.pop(setting.key, setting.default))
    for unknown in given:
        raise ConfigError(f"{path}: unknown key {unknown!r}; known: {', '.join(_BY_KEY)}, slots")
    try:
        check_device_id(str(values["device"]))
    except ProtocolError as error:
        raise ConfigError(f"{path}: {error}") from None
    _check_zone(path, str(values["time_zone"]))
    _check_hours(path, values["limits.fetch_hours"])
    return Config(directory, values, tcp_ports, interlocks)


def render(given: Mapping[str, Value]) -> str:
    """The text of an agent.toml with ``given`` set and every other key shown as a comment."""
    sections: dict[str, list[str]] = {"": []}
    for setting in SETTINGS:
        section, _, name = setting.key.rpartition(".")
        value = given.get(setting.key, setting.default)
        line = f"{name} = {_literal('' if value is None else value)}"
        lines = sections.setdefault(section, [])
        lines.append(f"# {setting.meaning}")
        lines.append(line if setting.key in given else f"# {line}")
    parts = []
    for section, lines in sections.items():
        parts.append("\n".join([f"[{section}]", *lines] if section else lines))
    slot = "\n".join(
        f"# {meaning}\n# {key} = {_SLOT_EXAMPLES[key]}" for key, meaning in SLOT_KEYS.items()
    )
    return "\n\n".join([*parts, f"# [slots.<name>]\n{slot}"]) + "\n"


def write(directory: Path, given: Mapping[str, Value]) -> Path:
    """Write agent.toml and return its path; raises ConfigError or OSError."""
    path = directory / FILE
    for key, value in given.items():
        _value(path, _BY_KEY[key], value)
    write_durably(path, render(given).encode())
    return path


def _literal(value: Value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            pairs += _flatten(value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, value))
    return pairs


def _value(path: Path, setting: Setting, value: object) -> Value:
    if value is None:
        raise ConfigError(f"{path}: {setting.key} is missing. {setting.meaning}")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if setting.kind is str:
        if isinstance(value, str) and (not setting.choices or value in setting.choices):
            return value
        if isinstance(value, str):
            raise ConfigError(
                f"{path}: {setting.key} = {value!r} is none of {', '.join(setting.choices)}. "
                f"{setting.meaning}"
            )
    elif setting.kind is list:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    elif whole or (setting.kind is float and isinstance(value, float)):
        assert isinstance(value, int | float)
        if setting.least <= value <= setting.most:
            return float(value) if setting.kind is float else value
        raise ConfigError(
            f"{path}: {setting.key} = {value} is outside {setting.least:g} to {setting.most:g}. "
            f"{setting.meaning}"
        )
    wanted = {str: "a text", int: "a whole number", float: "a number"}.get(
        setting.kind, "a list of texts"
    )
    raise ConfigError(f"{path}: {setting.key} must be {wanted}, not {value!r}. {setting.meaning}")


def _check_zone(path: Path, name: str) -> None:
    try:
        zone(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"{path}: time_zone {name!r} is not known on this system") from None


def _check_hours(path: Path, spans: object) -> None:
    assert isinstance(spans, list)
    try:
        hours(tuple(spans))
    except msgspec.ValidationError:
        raise ConfigError(
            f"{path}: limits.fetch_hours must be times such as 22:00-05:00, not {spans!r}"
        ) from None


def hours(spans: tuple[str, ...]) -> tuple[MaintenanceWindow, ...]:
    """Times of day as windows; raises msgspec.ValidationError."""
    parts = [span.partition("-") for span in spans]
    return tuple(
        msgspec.convert({"start": start.strip(), "end": end.strip()}, MaintenanceWindow)
        for start, _, end in parts
    )


def zone(name: str) -> tzinfo | None:
    """The zone of that name; None, the system's, for an empty one."""
    return zoneinfo.ZoneInfo(name) if name else None


def _slots(path: Path, table: object) -> tuple[dict[str, int], dict[str, str]]:
    """What ``[slots.<name>]`` say: ports and interlocks by slot."""
    ports: dict[str, int] = {}
    interlocks: dict[str, str] = {}
    for slot, keys in (table if isinstance(table, dict) else {}).items():
        try:
            check_name(slot, "slot")
        except ProtocolError as error:
            raise ConfigError(f"{path}: [slots.{slot}]: {error}") from None
        if not isinstance(keys, dict) or not set(keys) <= set(SLOT_KEYS):
            raise ConfigError(f"{path}: [slots.{slot}] takes only {', '.join(SLOT_KEYS)}")
        if "tcp_port" in keys:
            port = keys["tcp_port"]
            if not isinstance(port, int) or not 1 <= port <= 65535:
                raise ConfigError(
                    f"{path}: [slots.{slot}] tcp_port must be a port from 1 to 65535. "
                    + SLOT_KEYS["tcp_port"]
                )
            ports[slot] = port
        if "interlock" in keys:
            place = keys["interlock"]
            if not isinstance(place, str) or not place.startswith("/"):
                raise ConfigError(
                    f"{path}: [slots.{slot}] interlock must be an absolute path. "
                    + SLOT_KEYS["interlock"]
                )
            interlocks[slot] = place
    return ports, interlocks
