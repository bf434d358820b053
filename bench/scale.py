"""What a fleet costs its hub: ``python -m bench.scale [--devices 1000 5000]``.

For each size a real hub with its own Mosquitto and SQLite, and a light fleet with mutual TLS: all
connect at once, then a steady while, then a version goes to everybody at once, once with the broker
killed meanwhile. CPU is the kernel's count of the hub's and the broker's processes, so that a busy
machine makes it longer, not dearer. What the same machine can do at most stands beside it, and each
number wanted beside what came out. A run of all sizes writes ``results/scale.json``, the tables and
the plot of ``docs/scale.md``.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its hub on free ports

from bench import scale_ingest, scale_limits, scale_report
from bench.fleet.windows import WIDE
from bench.scale_hub import MeasuredFleet, MeasuredHub
from bench.scale_verdicts import verdicts

RESULTS = Path(__file__).parent / "results" / "scale.json"
SIZES = (1_000, 5_000, 10_000, 20_000)
WIDE_DEVICES = 10_000
"""The size that also lives with windows of 50 features."""
BURST_DEVICES = 15_000
"""From this size on: connected and updated once, with the broker killed in the burst, no more."""
FILES_SPARE = 200
"""Of what a process may open, for all that is no connection of a device."""
WINDOW_SECONDS = 300.0
STEADY_SECONDS = 40.0
POLL_SECONDS, STEADY_ASKS_SECONDS = 0.5, 5.0
"""Between an operator's two requests: while a version goes out, and on a usual day."""
PHASE_SECONDS_MAX = 600.0
LIST = "/devices?limit=100"


class Watched:
    """A phase as it goes on: what it costs, and how the API answers meanwhile."""

    def __init__(
        self, hub: MeasuredHub, fleet: MeasuredFleet, asks_seconds: float = POLL_SECONDS
    ) -> None:
        self.hub, self.fleet, self.asks_seconds = hub, fleet, asks_seconds
        self.before, self.fleet_before = hub.cpu_seconds(), fleet.said()
        self.begun = time.monotonic()
        self.reads: list[float] = []
        self.writes: list[float] = []
        self.refused = 0

    def wait(self, done: Callable[[], bool], seconds: float = PHASE_SECONDS_MAX) -> float:
        """Until it is done, or too long; seconds since the phase began."""
        while not done() and time.monotonic() - self.begun < seconds:
            took, ok = self.hub.timed(LIST)
            self.reads.append(took)
            wrote, fine = self.hub.timed("/silences", {"selector": "site=nowhere", "seconds": 60.0})
            self.writes.append(wrote)
            self.refused += (not ok) + (not fine)
            time.sleep(self.asks_seconds)  # operators ask now and then
        return time.monotonic() - self.begun

    def found(self) -> dict[str, Any]:
        seconds, after = time.monotonic() - self.begun, self.hub.cpu_seconds()
        busy = self.fleet.said().get("cpu_seconds", 0.0) - self.fleet_before.get("cpu_seconds", 0.0)
        return {
            "seconds": round(seconds, 1),
            "hub_cpu_seconds": round(after["hub"] - self.before["hub"], 2),
            "broker_cpu_seconds": round(after["broker"] - self.before["broker"], 2),
            "fleet_cpu_share": round(busy / seconds / len(self.fleet.parts), 2),
            "list_p95_ms": _p95(self.reads),
            "write_p95_ms": _p95(self.writes),
            "api_refused": self.refused,
        }


def measure(devices: int, steady_seconds: float) -> dict[str, Any]:
    """One size, from an empty hub to everybody updated."""
    with tempfile.TemporaryDirectory(prefix="muster-scale-") as name:
        hub = MeasuredHub(Path(name) / "hub")
        names = hub.make(devices)
        text = (hub.data / "hub.toml").read_text()
        text = text.replace("[http]\n", "[http]\nreads_per_second = 1e6\nwrites_per_second = 1e6\n")
        (hub.data / "hub.toml").write_text(text)
        hub.run()
        fleet = MeasuredFleet(hub, names)
        try:
            return _phases(hub, fleet, devices, steady_seconds)
        finally:
            fleet.end()
            hub.end()


def _phases(
    hub: MeasuredHub, fleet: MeasuredFleet, devices: int, steady_seconds: float
) -> dict[str, Any]:
    while not fleet.said():
        time.sleep(0.1)  # its processes start
    found: dict[str, Any] = {"devices": devices}
    phase = Watched(hub, fleet)
    fleet.order("connect")
    phase.wait(lambda: fleet.said().get("up") == devices)
    devices_up = time.monotonic() - phase.begun
    online = "SELECT count(*) FROM device WHERE online AND report IS NOT NULL"
    phase.wait(lambda: hub.count(online) == devices)
    found["connect"] = phase.found() | {"devices_done_seconds": round(devices_up, 1)}
    _say(devices, "connect", found["connect"])
    if devices >= BURST_DEVICES:
        found["broker killed"] = _killed(hub, fleet, devices, "1")
    else:
        found["first rollout"] = _rollout(hub, fleet, devices, "1")
        fleet.order(f"windows {WINDOW_SECONDS}")
        found["steady"] = _steady(hub, fleet, steady_seconds)
        found["rollout"] = _rollout(hub, fleet, devices, "2")
        found["broker killed"] = _killed(hub, fleet, devices, "1")
        if devices == WIDE_DEVICES:
            found["to wide"] = _rollout(hub, fleet, devices, WIDE)
            found["steady wide"] = _steady(hub, fleet, steady_seconds)
        fleet.order("windows 0")
    time.sleep(2.0)  # it says what it sent once a second
    phase = Watched(hub, fleet)
    phase.wait(lambda: fleet.said()["unacknowledged"] == 0, 90.0)
    said = fleet.said()
    kept = hub.count("SELECT count(*) FROM summary_window") + hub.count(
        "SELECT count(*) FROM event WHERE epoch IS NOT NULL"
    )
    found["rows"] = {"sent": int(said["rows"]), "kept": kept, "resent": int(said["resent"]),
                     "unacknowledged": int(said["unacknowledged"])}  # fmt: skip
    found["alerts"] = hub.count("SELECT count(*) FROM alert")
    found["memory_mb"] = hub.memory_mb()
    found["ingest"] = {
        name: value
        for name, value in hub.health()["parts"]["ingest"].items()
        if isinstance(value, int | float)
    }
    _say(devices, "rows", found["rows"] | {"alerts": found["alerts"]} | found["memory_mb"])
    return found


def _steady(hub: MeasuredHub, fleet: MeasuredFleet, seconds: float) -> dict[str, Any]:
    """Nothing but reports and windows, once what the rollout left is done with."""
    time.sleep(min(seconds, 20.0))  # the hub and the fleet need the processors
    phase = Watched(hub, fleet, asks_seconds=STEADY_ASKS_SECONDS)
    phase.wait(lambda: False, seconds)
    steady = phase.found()
    steady["hub_cores"] = round(steady["hub_cpu_seconds"] / steady["seconds"], 3)
    steady["broker_cores"] = round(steady["broker_cpu_seconds"] / steady["seconds"], 3)
    _say(len(hub.names), "steady", steady)
    return steady


def _rollout(hub: MeasuredHub, fleet: MeasuredFleet, devices: int, version: str) -> dict[str, Any]:
    """A version to everybody at once: no canary, no soak, no gate."""
    before = fleet.said()["committed"]
    phase = Watched(hub, fleet)
    number = hub.roll_out(version)
    phase.wait(lambda: fleet.said()["committed"] - before >= devices)
    done = time.monotonic() - phase.begun
    phase.wait(lambda: _is_completed(hub, number))
    found = phase.found()
    found |= {
        "devices_done_seconds": round(done, 1),
        "hub_knows_over_devices": round(found["seconds"] / done, 2),
        "hub_cpu_seconds_per_1000": round(1000 * found["hub_cpu_seconds"] / devices, 2),
    }
    _say(devices, f"rollout of {version}", found)
    return found


def _killed(hub: MeasuredHub, fleet: MeasuredFleet, devices: int, version: str) -> dict[str, Any]:
    """The broker killed while a version goes to everybody; until all are back, and know of it."""
    before = fleet.said()["committed"]
    number = hub.roll_out(version)
    rollout = Watched(hub, fleet)
    rollout.wait(lambda: fleet.said()["committed"] - before >= devices / 2)
    hub.mosquitto.kill()
    phase = Watched(hub, fleet)
    phase.wait(lambda: fleet.said()["up"] < devices)
    phase.wait(lambda: fleet.said()["up"] == devices)
    back = time.monotonic() - phase.begun
    rollout.wait(lambda: fleet.said()["committed"] - before >= devices)
    rollout.wait(lambda: _is_completed(hub, number))  # or the next is refused
    hub.watch_broker()
    found = {
        "all_back_seconds": round(back, 1),
        "committed": int(fleet.said()["committed"] - before),
    }
    _say(devices, "broker killed", found)
    return found


def _is_completed(hub: MeasuredHub, rollout: int) -> bool:
    return hub.count(f"SELECT state = 'completed' FROM rollout WHERE id = {rollout}") == 1


def _p95(taken: list[float]) -> float | None:
    if len(taken) < 2:
        return None
    return round(1000 * statistics.quantiles(taken, n=20)[-1], 1)


def _say(devices: int, what: str, found: dict[str, Any]) -> None:
    print(f"{devices:6} {what:14} {json.dumps(found)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--steady", type=float, default=STEADY_SECONDS, help="seconds")
    parser.add_argument(
        "--keep", action="store_true",
        help="write results, tables and the plot, as a run of all sizes does",
    )  # fmt: skip
    asked = parser.parse_args()
    whole = asked.devices == list(SIZES)
    begun = time.monotonic()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - FILES_SPARE
    if most < max(asked.devices):
        print(f"a broker may hold {most} connections here (ulimit -Hn): no more are tried")
    result = {
        "machine": {
            "cores": os.cpu_count(), "python": platform.python_version(), "database": "SQLite",
            "load_before": round(os.getloadavg()[0], 1),
        },
        "window_seconds": WINDOW_SECONDS,
        "limits": scale_limits.measure(),
        "ingest": scale_ingest.measure() if whole else None,
        "sizes": [measure(min(most, devices), asked.steady) for devices in asked.devices],
    }  # fmt: skip
    result["minutes"] = round((time.monotonic() - begun) / 60, 1)
    held = verdicts(result)
    result["verdicts"] = [vars(verdict) for verdict in held]
    for verdict in held:
        met = "met" if verdict.met else "NOT MET"
        print(f"{verdict.what}: {verdict.measured} (wanted {verdict.wanted}): {met}")
    if asked.keep or whole:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
        scale_report.write(result)
    else:
        print(json.dumps(result["limits"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
