"""Real hub, broker and agents that anyone may kill, each started again as a service manager would.

Every agent's outbox keeps a log of its own: a trigger in the device's database copies each row at
the moment it is given its sequence, in the same transaction. What the hub holds at the end is
compared with that log.
"""

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from muster_agent.observe.outbox import Outbox
from muster_hub.demo import bundles, digits, settings
from muster_hub.demo.feeder import Feeder, Tally
from muster_hub.demo.fleet import DemoDevice, DemoHub, DeviceSpec
from muster_hub.demo.processes import Child, ProcessError
from muster_protocol.wire.errors import MusterError

SLOT = "vision"
WINDOW_SECONDS = 1.0
RATE_PER_SECOND = 40.0
PATIENCE_SECONDS = 90.0
RESTART_SECONDS = (0.05, 0.8)
TIMERS = {"report_seconds": 5.0, "metadata_wait_seconds": 2.0, "chunk_silence_seconds": 0.7}

_LOG = """
CREATE TABLE chaos_log (stream TEXT, epoch BLOB, sequence INTEGER, payload BLOB);
CREATE TRIGGER chaos_launch AFTER UPDATE OF sequence ON outbox_row BEGIN
  INSERT INTO chaos_log SELECT NEW.stream, epoch, NEW.sequence, NEW.payload
    FROM outbox_stream WHERE stream = NEW.stream;
END
"""


class Service:
    """A program that is started again whenever it has ended, until closed."""

    def __init__(self, hub: DemoHub | DemoDevice, directory: Path, chance: random.Random) -> None:
        self.name = hub.name
        self._command = hub.command
        self._directory = directory
        self._chance = chance
        self._child = Child(self.name, self._command, directory)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"keep-{self.name}")
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def last_words(self) -> str:
        return self._child.last_words()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._child.stop()

    def _watch(self) -> None:
        while not self._closing.wait(0.05):
            try:
                self._child.check()
            except ProcessError:
                # Whoever outlived the killed one ends with its group, as under systemd.
                self._child.stop()
                self._closing.wait(self._chance.uniform(*RESTART_SECONDS))
                self._child = Child(self.name, self._command, self._directory)


@dataclass(frozen=True)
class Sent:
    """A row as its device's outbox or the hub's database has it."""

    stream: str
    epoch: str
    sequence: int
    payload: bytes


class Ground:
    """A hub with its broker, ``count`` devices under load, and the hand that kills them."""

    def __init__(
        self, directory: Path, count: int, seed: int, stack: ExitStack, **hub_settings: str
    ) -> None:
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self._stack = stack
        self._logs = directory / "processes"
        self._logs.mkdir(parents=True)
        self.services: dict[str, Service] = {}
        self.hub = DemoHub(directory / "hub", window_seconds=WINDOW_SECONDS)
        settings.change(directory / "hub" / "hub.toml", hub_settings)
        self._serve(self.hub)
        self.api = stack.enter_context(self.hub.api())
        self.wait("the hub answers", lambda: self.get("/health") is not None)
        self.devices = [
            DemoDevice(DeviceSpec(f"cam-{number}", {"site": "chaos"}), directory / f"cam-{number}",
                   self.hub)
            for number in range(count)
        ]  # fmt: skip
        for device in self.devices:
            stack.callback(device.wire.close)
            body = {"labels": {"site": "chaos"}, "uses": 1, "expires_seconds": 600}
            device.enrol(self.api.post("/enroll-tokens", body | {"device": device.name})["token"],
                         TIMERS)  # fmt: skip
            keep_a_log(device.directory / "state.db")
            self._serve(device)

    def release(self, directory: Path) -> digits.Digits:
        """Train, push and roll out one version to every device; the data to feed."""
        data = digits.load()
        self.push(directory, "1", digits.train(data), data)
        number = self.roll_out("1", min_soak_seconds=0, canary=0)
        self.wait(
            "version 1 runs on every device",
            lambda: self.get(f"/rollouts/{number}", "state") == "completed",
        )
        return data

    def push(
        self, directory: Path, version: str, trained: digits.Classifier, data: digits.Digits
    ) -> None:
        """Push a version and wait until the hub has checked, signed and published it."""
        bundle = bundles.release(directory, version, trained, data, probation_seconds=1.0)
        path = f"/models/{bundles.MODEL}/versions"
        with ExitStack() as opened:
            files = {
                entry.path: opened.enter_context((directory / entry.path).open("rb"))
                for entry in bundle.manifest.files
            }
            self.api.upload(path, bundle.encoded, files)
        self.wait(
            f"version {version} is published",
            lambda: self.get(f"{path}/{version}", "status") == "published",
        )

    def roll_out(self, version: str, **plan: object) -> int:
        asked = {"model": bundles.MODEL, "version": version, "slot": SLOT, "selector": "site=chaos"}
        return int(self.api.post("/rollouts", asked | plan)["id"])

    def feed(self, data: digits.Digits, *, seed: int) -> dict[str, Feeder]:
        feeders = {}
        for number, device in enumerate(self.devices):
            feeders[device.name] = feeder = Feeder(
                device.name, device.socket(SLOT), bundles.MODEL,
                data.held_out_images, data.held_out_labels,
                rate=RATE_PER_SECOND, label_delay_seconds=0.5, seed=seed + number,
            )  # fmt: skip
            feeder.start()
            self._stack.callback(feeder.finish)
        return feeders

    def rage(self, seconds: float) -> None:
        """Kill -9 at random for a while: hub, broker, an agent alone, a device's every process."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(0.2, 1.6))  # chance chooses the moment
            device = self.chance.choice(self.devices)
            match self.chance.choice(("hub", "broker", "agent", "device")):
                case "hub":
                    self._kill("hub", self.services["hub"].pid)
                case "broker":
                    self._kill("broker", self._broker())
                case "agent":
                    self._kill("agent", self.services[device.name].pid)
                case "device":
                    self._kill("device", self.services[device.name].pid, group=True)

    def settled(self, answered: dict[str, int]) -> dict[str, int]:
        """The hub's counts once every outbox is empty and no answer is missing."""

        def all_home() -> bool:
            return all(
                not waiting(device.directory / "state.db")
                and self.counted(device.name) >= answered[device.name]
                for device in self.devices
            )

        self.wait(f"all of {answered} is counted", all_home)
        # The last window of each device may still have been open.
        time.sleep(2 * WINDOW_SECONDS)
        self.wait("outboxes are empty", all_home)
        return {device.name: self.counted(device.name) for device in self.devices}

    def counted(self, device: str) -> int:
        return int(self.get(f"/devices/{device}/counts", "inferences") or 0)

    def get(self, path: str, field: str | None = None) -> object:
        """What the hub answers, or None while it is down."""
        with contextlib.suppress(MusterError):
            item = self.api.get(path)
            return item if field is None else item.get(field)
        return None

    def wait(self, what: str, look: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not look():
            if time.monotonic() > until:
                words = [
                    f"{service.name}: {service.last_words()}" for service in self.services.values()
                ]
                raise AssertionError("\n".join([f"{what}: never came", *words]))
            time.sleep(0.2)  # looked for from outside

    def _serve(self, hub: DemoHub | DemoDevice) -> None:
        self.services[hub.name] = service = Service(hub, self._logs, self.chance)
        self._stack.callback(service.close)

    def _broker(self) -> int | None:
        """The managed Mosquitto's process, when it runs."""
        try:
            pid = int((self.hub.data / "broker" / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.hub.data / "broker" / "mosquitto.conf") in command else None

    def _kill(self, what: str, pid: int | None, *, group: bool = False) -> None:
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                (os.killpg if group else os.kill)(pid, signal.SIGKILL)
                self.kills[what] += 1


def finish(feeders: dict[str, Feeder]) -> dict[str, Tally]:
    return {name: feeder.finish() for name, feeder in feeders.items()}


def keep_a_log(state: Path) -> None:
    """Have the database of a device that has not started yet log every row that goes in flight."""
    with contextlib.closing(sqlite3.connect(state, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        Outbox(connection)
        connection.executescript(_LOG)


def waiting(state: Path) -> int:
    """Rows that the hub has not acknowledged."""
    return int(_read(state, "SELECT COUNT(*) FROM outbox_row")[0][0])


def logged(state: Path) -> list[Sent]:
    """Every row that the device's outbox ever gave a sequence."""
    rows = _read(state, "SELECT stream, hex(epoch), sequence, payload FROM chaos_log")
    return [Sent(stream, epoch.lower(), number, data) for stream, epoch, number, data in rows]


def committed(database: Path, device: str, table: str) -> list[tuple]:
    """(epoch, sequence, n, payload) of summaries, (epoch, sequence) of events, as the hub has."""
    columns = {"summary_window": "epoch, sequence, n, payload", "event": "epoch, sequence"}[table]
    return _read(
        database,
        f"SELECT {columns} FROM {table} WHERE device = ? AND sequence IS NOT NULL",
        device,
    )


def acknowledged(database: Path, device: str) -> dict[tuple[str, str], int]:
    rows = _read(database, "SELECT stream, epoch, contiguous FROM stream WHERE device = ?", device)
    return {(stream, epoch): contiguous for stream, epoch, contiguous in rows}


def _read(database: Path, statement: str, *parameters: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(statement, parameters).fetchall()
