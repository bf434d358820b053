"""The numbers that a hub on two cores is held to, each beside what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Size = dict[str, Any]
LARGE = 10_000
FLAT = 0.2
"""How far the cost of a device may be from what it is in the smallest fleet measured."""


@dataclass(frozen=True)
class Verdict:
    """``met`` is whether ``measured`` is within ``wanted``, both in the words of the table."""

    what: str
    wanted: str
    measured: str
    met: bool


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    """Of all that this run measured: a run of other sizes says nothing of the rest."""
    sizes = {size["devices"]: size for size in result["sizes"]}
    found: list[Verdict] = []
    if large := sizes.get(LARGE):
        found += _of_large(large)
    for size in result["sizes"]:
        if "first rollout" not in size:  # connected and updated once, no more
            found += _of_burst(size)
    limits = result["limits"]
    found += [
        _most("an idle step, 10,000 devices, ms of processor", 5.0,
              limits["idle step, 10,000 devices"] / 1000),
        _most("drift, ms of processor a summary of 8 features", 0.7,
              limits["drift, each window"] / 1000),
    ]  # fmt: skip
    if ingest := result.get("ingest"):
        rate, share = ingest["hub"], ingest["of the raw insert"]
        found.append(
            Verdict(
                "PostgreSQL, two ingest processes: summaries/s, or of the raw insert",
                "≥ 10,000 or ≥ 1/3",
                f"{rate:,} ({share})",
                rate >= 10_000 or share >= 1 / 3,
            )
        )
    found += _flat(result["sizes"])
    return found


def _of_large(size: Size) -> Iterator[Verdict]:
    rollout, rows = size["rollout"], size["rows"]
    yield _most("10,000 devices: all connected, s", 30, size["connect"]["devices_done_seconds"])
    yield _most("steady, 8 features: hub, cores", 0.35, size["steady"]["hub_cores"])
    if wide := size.get("steady wide"):
        yield _most("steady, 50 features: hub, cores", 0.7, wide["hub_cores"])
    yield _most("rollout: hub knows, × devices", 1.3, rollout["hub_knows_over_devices"])
    yield _most("rollout: hub, CPU-s per 1,000", 5.0, rollout["hub_cpu_seconds_per_1000"])
    yield _most("rollout: lists p95, ms", 100, rollout["list_p95_ms"] or 0.0)
    yield _most("rollout: operator's writes p95, ms", 500, rollout["write_p95_ms"] or 0.0)
    yield _most("rows lost or doubled", 0, abs(rows["sent"] - rows["kept"]))
    yield _most("false alerts", 0, size["alerts"])


def _of_burst(size: Size) -> Iterator[Verdict]:
    rows, killed, devices = size["rows"], size["broker killed"], size["devices"]
    yield _most(f"{devices:,}, broker killed: all back, s", 60, killed["all_back_seconds"])
    yield _most(f"{devices:,}: devices not updated", 0, devices - killed["committed"])
    yield _most(f"{devices:,}: rows lost or doubled", 0, abs(rows["sent"] - rows["kept"]))


def _flat(sizes: list[Size]) -> Iterator[Verdict]:
    """The hub's cost of a device, connecting and updating, from the smallest to the largest."""

    def per_device(size: Size) -> float:
        spent = size["connect"]["hub_cpu_seconds"] + size["first rollout"]["hub_cpu_seconds"]
        return float(spent / size["devices"])

    costs = [per_device(size) for size in sizes if "first rollout" in size]
    if len(costs) > 1:
        apart = max(abs(cost / costs[0] - 1) for cost in costs)
        yield _most("a device's cost, smallest to largest fleet: apart", FLAT, round(apart, 2))


def _most(what: str, most: float, measured: float) -> Verdict:
    return Verdict(what, f"≤ {most:,g}", f"{measured:,g}", measured <= most)
