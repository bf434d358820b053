"""A paper model from what was measured: what a fleet of each size needs, and what is full first.

Straight lines from one measured size: the hub's cost of a device is flat, so that is what a table
can say. What isn't measured here is named as an assumption, with its number.
"""

from dataclasses import dataclass
from typing import Any

DEVICES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
WINDOW_SECONDS = 300.0
UPDATES_PER_DAY, CONNECTS_PER_DAY = 1 / 7, 2.0
"""Assumed: a version a week, and a link that is lost twice a day."""
PEAK = 4.0
"""Assumed: what a part must be able to do over what it does on average."""
CORE_YEAR, GB_MONTH = 250.0, 0.12
"""Assumed prices in US dollars: of a virtual core for a year, of a GB of database for a month."""
RAW_DAYS, WINDOW_BYTES = 30, 1_200
"""Of the summaries that are kept whole; bytes with all indexes, on PostgreSQL."""
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Needs:
    """Of a fleet: cores on average of each part, and what is stored."""

    devices: int
    hub_cores: float
    broker_cores: float
    rows_per_second: float
    stored_gb: float

    @property
    def dollars_per_device_year(self) -> float:
        cores = PEAK * (self.hub_cores + self.broker_cores)
        return (cores * CORE_YEAR + 12 * self.stored_gb * GB_MONTH) / self.devices


def needs(size: dict[str, Any], devices: int) -> Needs:
    """What so many devices need, by what each of ``size`` cost."""
    count = size["devices"]

    def each(phase: str, part: str) -> float:
        return float(size[phase][f"{part}_cpu_seconds"]) / count

    def cores(part: str) -> float:
        steady = size["steady"][f"{part}_cores"] / count
        daily = UPDATES_PER_DAY * each("rollout", part) + CONNECTS_PER_DAY * each("connect", part)
        return float(devices * (steady + daily / DAY_SECONDS))

    rows = devices / WINDOW_SECONDS
    stored = rows * DAY_SECONDS * RAW_DAYS * WINDOW_BYTES / 1e9
    return Needs(devices, cores("hub"), cores("broker"), rows, stored)


def table(size: dict[str, Any], ingest: dict[str, Any] | None) -> str:
    """The model as Markdown, with what it assumes."""
    limit = ingest["hub"] if ingest else 0
    lines = [
        (
            f"Straight lines from {size['devices']:,} devices on SQLite: a window each "
            f"{WINDOW_SECONDS:.0f} s, a version a week, two lost links a day. Cores are the "
            f"average; the price counts {PEAK:g} times as many, at {CORE_YEAR:g} dollars a core "
            f"and year, {RAW_DAYS} days of whole summaries at {WINDOW_BYTES:,} bytes, {GB_MONTH} "
            "dollars a GB and month: assumed, all of these."
        ),
        "",
        "| devices | hub, cores | broker, cores | rows/s | stored, GB | dollars a device-year |",
        "|---|---|---|---|---|---|",
    ]
    for devices in DEVICES:
        need = needs(size, devices)
        lines.append(
            f"| {devices:,} | {need.hub_cores:.2f} | {need.broker_cores:.2f} | "
            f"{need.rows_per_second:,.0f} | {need.stored_gb:,.0f} | "
            f"{need.dollars_per_device_year:.3f} |"
        )
    if limit:
        full = limit * WINDOW_SECONDS
        lines += [
            "",
            (
                "One process's threads share one core: the hub's is full first, at some "
                f"{_full(size):,.0f} devices a process (0.8 of a core), then PostgreSQL's ingest, "
                f"at {full:,.0f} devices on this machine ({limit:,} rows/s). One engine acts at a "
                "time: a fleet beyond the first number takes roles in processes of their own, "
                "one beyond what an engine judges takes several hubs."
            ),
        ]
    return "\n".join(lines)


def _full(size: dict[str, Any]) -> float:
    return 0.8 * float(size["devices"]) / needs(size, size["devices"]).hub_cores
