"""A fleet for half an hour, with all that goes wrong: ``python -m bench.soak [--devices 5000]``.

A real hub with its own Mosquitto and SQLite, and a light fleet with mutual TLS and the true
protocol, with a window a minute. Versions go to everybody, one after the other; a few devices
drift; the broker is killed, once while a version is on its way; the hub is killed. Ends with one
line: every row once, every device on the last version, no false alert, memory flat, or what not.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its hub on free ports

from bench.scale_hub import MeasuredFleet, MeasuredHub

WINDOW_SECONDS = 60.0
ROLLOUT_SECONDS = 180.0
"""From one version to the next."""
LOOK_SECONDS = 2.0
SETTLE_SECONDS_MAX = 300.0
GROWTH_MAX = 1.1
"""Of the hub's memory, from the third quarter of the time to the last."""
DRIFTING_SHARE = 0.02
NAMED_MAX = 5


class Soak:
    """``run`` lives through it; ``faults`` are what it found wrong, in words."""

    def __init__(
        self, hub: MeasuredHub, fleet: MeasuredFleet, devices: int, seconds: float
    ) -> None:
        self.hub, self.fleet, self.devices, self.seconds = hub, fleet, devices, seconds
        self.faults: list[str] = []
        self.rollouts = 0
        self._losses = 0
        self._pause = min(ROLLOUT_SECONDS, seconds / 8)
        self.memory: list[tuple[float, float]] = []
        self._due: list[tuple[float, str, Callable[[], None]]] = [
            (0.15, "the broker is killed", self._kill_broker),
            (0.30, "the hub is killed", self._kill_hub),
            (0.45, "a few devices drift", lambda: fleet.order(f"drift {DRIFTING_SHARE}")),
            (0.50, "the broker is killed while a version is on its way", self._kill_in_burst),
            (0.70, "they drift no more", lambda: fleet.order("drift 0")),
        ]

    def run(self) -> None:
        """Raises nothing: what goes wrong is among the faults."""
        self.fleet.order("connect")
        self._until("all are connected", lambda: self.fleet.said().get("up") == self.devices)
        self._roll_out()
        self.fleet.order(f"windows {WINDOW_SECONDS}")
        begun = time.monotonic()
        next_rollout = begun + self._pause
        while (passed := time.monotonic() - begun) < self.seconds:
            if self._due and passed >= self._due[0][0] * self.seconds:
                _, words, act = self._due.pop(0)
                self._say(words)
                act()
            if time.monotonic() >= next_rollout:
                next_rollout = time.monotonic() + self._pause
                self._roll_out()
            self.memory.append((passed / self.seconds, self.hub.memory_mb()["hub"]))
            time.sleep(LOOK_SECONDS)  # the fleet lives meanwhile
        self._end()

    def _end(self) -> None:
        self.fleet.order("windows 0")
        time.sleep(LOOK_SECONDS)  # it says what it sent once a second
        last = f"SELECT state = 'completed' FROM rollout WHERE id = {self.rollouts}"
        self._until("the last rollout completes", lambda: self.hub.count(last) == 1)
        self._until("every row is acknowledged", lambda: self._said("unacknowledged") == 0)
        sent, kept = self._said("rows"), self._kept()
        if sent != kept:
            self.faults.append(f"{sent:,} rows were sent and {kept:,} are kept")
        if (up := self._said("up")) != self.devices:
            self.faults.append(f"{up:,} of {self.devices:,} devices are connected at the end")
        if behind := self.devices - self._said("running_last"):
            self.faults.append(f"{behind:,} devices don't run the last version")
        false = self.hub.count("SELECT count(*) FROM alert WHERE kind NOT IN ('drift', 'hub')")
        if false:
            kinds = self.hub.listed(
                "SELECT DISTINCT title FROM alert WHERE kind NOT IN ('drift', 'hub')"
            )
            self.faults.append(f"{false} false alerts: {'; '.join(kinds[:NAMED_MAX])}")
        if not self.hub.count("SELECT count(*) FROM alert WHERE kind = 'drift'"):
            self.faults.append("no drift was told")
        third, fourth = self._megabytes(0.5, 0.75), self._megabytes(0.75, 1.0)
        if fourth > GROWTH_MAX * third:
            self.faults.append(f"the hub grew from {third:.0f} to {fourth:.0f} MB")
        self._say(
            f"{sent:,} rows sent and kept, {self._said('resent'):,} sent again, {self.rollouts} "
            f"rollouts, hub {third:.0f} and then {fourth:.0f} MB"
        )

    def _megabytes(self, after: float, before: float) -> float:
        return statistics.median([mb for at, mb in self.memory if after <= at < before] or [0.0])

    def _said(self, what: str) -> int:
        return int(self.fleet.said()[what])

    def _kept(self) -> int:
        windows = self.hub.count("SELECT count(*) FROM summary_window")
        return windows + self.hub.count("SELECT count(*) FROM event WHERE epoch IS NOT NULL")

    def _roll_out(self) -> None:
        running = "SELECT count(*) FROM rollout WHERE state != 'completed'"
        self._until("no rollout is under way", lambda: self.hub.count(running) == 0)
        self.rollouts = self.hub.roll_out("12"[self.rollouts % 2])
        self._say(f"rollout {self.rollouts}")

    def _kill_broker(self) -> None:
        self.hub.mosquitto.kill()
        self._until("the broker is back", self.hub.broker_is_new)
        self.hub.watch_broker()
        self._until_back()

    def _kill_in_burst(self) -> None:
        self._roll_out()
        time.sleep(LOOK_SECONDS)  # devices have begun to fetch by then
        self._kill_broker()

    def _kill_hub(self) -> None:
        self.hub.process.kill()
        self.hub.process.wait(60)
        self.hub.run()
        self._until_back()

    def _until_back(self) -> None:
        self._until("the fleet has noticed", lambda: self._said("losses") > self._losses)
        self._until("all are back", lambda: self._said("up") == self.devices)
        self._losses = self._said("losses")

    def _until(self, words: str, done: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not done():
            if time.monotonic() - begun > SETTLE_SECONDS_MAX:
                self.faults.append(f"not within {SETTLE_SECONDS_MAX:.0f} s: {words}")
                return
            time.sleep(0.5)  # the hub and the fleet need the processors
        self._say(f"{words}, {time.monotonic() - begun:.0f} s")

    def _say(self, words: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=5_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-soak-") as name:
        hub = MeasuredHub(Path(name) / "hub")
        names = hub.make(asked.devices)
        hub.run()
        fleet = MeasuredFleet(hub, names)
        soak = Soak(hub, fleet, asked.devices, 60.0 * asked.minutes)
        try:
            soak.run()
        finally:
            fleet.end()
            hub.end()
    what = f"{asked.devices:,} devices, {asked.minutes:g} minutes, {os.cpu_count()} cores"
    if soak.faults:
        print(f"SOAK FAILED ({what}): {'; '.join(soak.faults)}")
        return 1
    print(f"SOAK OK ({what}): every row once, every device converged, no false alert, memory flat")
    return 0


if __name__ == "__main__":
    sys.exit(main())
