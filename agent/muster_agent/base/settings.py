"""What a device's operator may set in ``agent.toml``: every key with its bounds and a sentence.

Loading, checking, the written file and the documentation follow these structs. Pure.
"""

import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from muster_agent.base.feed_settings import FeedSettings
from muster_protocol.wire import limits
from muster_protocol.wire.maintenance import MaintenanceWindow

Port = Annotated[int, Meta(ge=1, le=65535)]


class Hub(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The hub, as far as it is reached by HTTPS."""

    url: Annotated[
        str, Meta(description="HTTPS address of the hub; used for enrolment and renewal.")
    ] = ""


class Broker(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the MQTT broker is."""

    host: Annotated[str, Meta(description="Host name or address of the MQTT broker.")]
    port: Annotated[int, Meta(ge=1, le=65_535, description="TLS port of the MQTT broker.")] = 8883
    keepalive_seconds: Annotated[
        int,
        Meta(ge=5, le=3600, description="MQTT keepalive; a dead link is noticed after twice this."),
    ] = limits.KEEPALIVE_SECONDS


class ProxySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The proxy that stands between this device and its hub."""

    url: Annotated[
        str,
        Meta(
            description="Proxy, as http://host:port, through which hub and broker are reached by "
            "CONNECT; empty: HTTPS_PROXY and NO_PROXY of the environment, if any."
        ),
    ] = ""
    username: Annotated[str, Meta(description="Who this device is to the proxy (Basic).")] = ""
    password_file: Annotated[
        str, Meta(description="File of the password, from the agent's directory.")
    ] = ""
    no_proxy: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts, domains and networks that are reached without a proxy; "
            "* for all of them."
        ),
    ] = ()


class Runtimes(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which inference runtimes are used."""

    allow: Annotated[
        tuple[str, ...],
        Meta(description="Runtimes this device may use, of those installed; empty: all of them."),
    ] = ()


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the agent may take of the disk and of the link."""

    chunk_cache_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Most that fetched chunks may take beside installed bundles, when "
            "no update needs them.",
        ),
    ] = 512 * limits.MIB
    disk_free_bytes_min: Annotated[
        int, Meta(ge=0, description="Free space an update must leave on the disk.")
    ] = 64 * limits.MIB
    fetch_window: Annotated[int, Meta(ge=1, le=16, description="Chunks asked for at once.")] = (
        limits.FETCH_WINDOW_CHUNKS
    )
    fetch_bytes_per_day: Annotated[
        int, Meta(ge=0, description="Most that is fetched on one day; 0: no bound.")
    ] = 0
    fetch_bytes_per_second: Annotated[
        int, Meta(ge=0, description="Average rate of fetching; 0: no bound.")
    ] = 0
    fetch_bytes_per_bundle: Annotated[
        int,
        Meta(
            ge=0,
            description="Most that is fetched for one update; a larger one is refused as "
            "too_large; 0: no bound.",
        ),
    ] = 0
    fetch_hours: Annotated[
        tuple[str, ...],
        Meta(
            description="Times of day in which models are fetched, each as 22:00-05:00; "
            "empty: at any time. A device whose clock is not set fetches at "
            "any time."
        ),
    ] = ()
    ring_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=1_073_741_824,
            description="Size of a worker's ring file: what it may record before the "
            "supervisor reads it.",
        ),
    ] = 8 * limits.MIB
    telemetry_bytes_per_day: Annotated[
        int,
        Meta(
            ge=0,
            description="Most that summaries and events send on one day, an eighth of it "
            "for events alone; more waits, and is merged when the outbox is "
            "full; 0: no bound.",
        ),
    ] = 0


class SamplingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a hub may be given of the raw data that models see here."""

    allow: Annotated[
        bool,
        Meta(
            description="false: no raw data leaves this device, whatever the hub asks for and the "
            "release allows; what waits of a policy is deleted."
        ),
    ] = True
    ring_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=limits.OUTBOX_BYTES_MAX,
            description="Most that sampled rows may take of the disk until the hub has them; the "
            "oldest go first.",
        ),
    ] = 4 * limits.MIB
    bytes_per_day: Annotated[
        int,
        Meta(
            ge=0,
            description="Most that sampled rows send on one day, within "
            "limits.telemetry_bytes_per_day, of which they leave half to telemetry; 0: no bound "
            "of their own.",
        ),
    ] = 16 * limits.MIB


class ChallengerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a challenger may take beside the model that serves."""

    cpu_share: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1,
            description="Most processor time that a challenger may take beside a slot's "
            "model, of one core; what it leaves no time for is not compared.",
        ),
    ] = 0.1


class Energy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the energy of inference is estimated."""

    watts_per_core: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="What a busy core draws, to estimate the energy of inference "
            "where the processor does not tell (RAPL); 0: no estimate there.",
        ),
    ] = 0.0


class Metrics(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a Prometheus on the device may read."""

    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535,
            description="Loopback TCP port of the agent's own /metrics, for a Prometheus on this "
            "device; 0: off.",
        ),
    ] = 0


class Timers(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pauses and periods, in seconds."""

    report_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Time between reports, ±20 %.")
    ] = 60.0
    metadata_wait_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="How long a directive may name a manifest that no metadata signs "
            "before it is refused; metadata may arrive after the directive.",
        ),
    ] = 20.0
    chunk_silence_seconds: Annotated[
        float,
        Meta(
            ge=0.05,
            le=600,
            description="Silence on the outstanding chunks before they are asked for again, ±25 %.",
        ),
    ] = 4.0
    restart_seconds_min: Annotated[
        float,
        Meta(
            ge=0.01,
            le=600,
            description="First pause before a champion worker that died is started again.",
        ),
    ] = 0.5
    restart_seconds_max: Annotated[
        float,
        Meta(
            ge=0.1, le=3600, description="Longest pause before a champion worker is started again."
        ),
    ] = 60.0
    retry_seconds_min: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86_400,
            description="First pause before an update that failed for a passing reason is "
            "tried again.",
        ),
    ] = 60.0
    retry_seconds_max: Annotated[
        float, Meta(ge=1, le=604_800, description="Longest pause between such tries.")
    ] = 3600.0
    stop_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=600,
            description="How long a worker may finish its requests when it is stopped.",
        ),
    ] = 10.0


class Slot(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a slot has of its own, as ``[slots.<name>]``."""

    tcp_port: Annotated[
        Port | None,
        Meta(description="Serve the slot on this loopback TCP port too, beside its Unix socket."),
    ] = None
    interlock: Annotated[
        Annotated[str, Meta(pattern="^/")] | None,
        Meta(
            description="File or Unix socket that must say 1 whenever a swap may begin; missing "
            "or silent, it forbids."
        ),
    ] = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    device: Annotated[
        str, Meta(description="Name of this device; the common name of its certificate.")
    ]
    run_dir: Annotated[
        str,
        Meta(
            description="Directory of the slots' sockets and of the workers' ring files, from the "
            "agent's directory. In memory, such as /run/muster, the rings wear no disk."
        ),
    ] = "run"
    isolation: Annotated[
        Literal["auto", "required"],
        Meta(
            description="required: no model runs where the kernel can't isolate its "
            "process; auto: it runs and the report says so."
        ),
    ] = "auto"
    time_zone: Annotated[
        str,
        Meta(
            description="Zone of maintenance windows and fetch hours, such as "
            "Europe/Berlin; empty: the system's."
        ),
    ] = ""
    hub: Hub = Hub()
    broker: Broker
    proxy: ProxySettings = ProxySettings()
    runtimes: Runtimes = Runtimes()
    limits: Limits = Limits()
    sampling: SamplingSettings = SamplingSettings()
    challenger: ChallengerSettings = ChallengerSettings()
    energy: Energy = Energy()
    metrics: Metrics = Metrics()
    timers: Timers = Timers()
    slots: dict[str, Slot] = {}
    feeds: dict[str, FeedSettings] = {}


@dataclass(frozen=True)
class Setting:
    """One key of the file, by its dotted name; a section is no key, those in it are."""

    key: str
    meaning: str
    default: Any
    """``msgspec.NODEFAULT`` where one must be given."""


def settings(kind: type[Struct] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every key there is, in the file's order, but those of slots and feeds."""
    for item in msgspec.structs.fields(kind):
        if isinstance(item.type, type) and issubclass(item.type, Struct):
            yield from settings(item.type, f"{prefix}{item.name}.")
        elif item.name not in {"slots", "feeds"}:
            meaning = next(
                meta.description for meta in get_args(item.type) if isinstance(meta, Meta)
            )
            yield Setting(prefix + item.name, str(meaning), item.default)


SETTINGS = tuple(settings())
SLOT_SETTINGS = tuple(settings(Slot))
MEANINGS: Mapping[str, str] = {item.key: item.meaning for item in SETTINGS}


def hours(spans: tuple[str, ...]) -> tuple[MaintenanceWindow, ...]:
    """Times of day as windows; raises msgspec.ValidationError."""
    parts = [span.partition("-") for span in spans]
    return tuple(
        msgspec.convert({"start": start.strip(), "end": end.strip()}, MaintenanceWindow)
        for start, _, end in parts
    )


def zone(name: str) -> tzinfo | None:
    """The zone of that name; None, the system's, for an empty one.

    Raises ZoneInfoNotFoundError, ValueError or OSError.
    """
    return zoneinfo.ZoneInfo(name) if name else None
