"""The demo's stage: hub, devices and feeders, and what every step does with them."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from muster_hub.demo import bundles
from muster_hub.demo.camera import CLEAN
from muster_hub.demo.digits import Digits
from muster_hub.demo.feeder import Feeder
from muster_hub.demo.fleet import DemoDevice, DemoHub, DeviceSpec
from muster_hub.demo.processes import Child
from muster_hub.demo.promises import promise, wait_for
from muster_hub.demo.screen import Screen
from muster_hub.demo.view import FleetView
from muster_protocol.wire.errors import MusterError

SLOT = "vision"
SELECTOR = "site=demo"
FLEET = (
    DeviceSpec("cam-1", {"site": "demo", "line": "a"}),
    DeviceSpec("cam-2", {"site": "demo", "line": "a"}),
    DeviceSpec("cam-3", {"site": "demo", "line": "b"}),
    DeviceSpec("cam-4", {"site": "demo", "line": "b"}, runtimes=("tflite",)),
)
RATE_PER_SECOND = 40.0
WINDOW_SECONDS = 2.0
LABEL_DELAY_SECONDS = 1.0
SOAK_SECONDS = 1.0
TIMERS = {
    "report_seconds": 5.0,
    "metadata_wait_seconds": 2.0,
    "chunk_silence_seconds": 0.7,
}
"""Patience of minutes on a plant is seconds here."""

ENOUGH_SECONDS = 180.0
"""How long anything may take on a busy machine before it counts as not happening."""
T = TypeVar("T")


class DemoStage:
    """Everything it starts is ended by the stack it is given."""

    def __init__(self, directory: Path, screen: Screen, stack: ExitStack) -> None:
        self.directory = directory
        self.screen = screen
        self.feeders: dict[str, Feeder] = {}
        self._stack = stack
        self._children: list[Child] = []
        self._processes = directory / "processes"
        self._processes.mkdir()

    def open_hub(self) -> None:
        """Start the hub with its broker, and wait until it answers."""
        hub_data = self.directory / "hub"
        self.hub = DemoHub(hub_data, window_seconds=WINDOW_SECONDS)
        self._start(self.hub)
        self.api = self._stack.enter_context(self.hub.api())
        self.view = FleetView(self.api, SLOT)
        self.wait("the hub answers", self._healthy)

    def open_devices(self) -> None:
        """Enrol and start every agent, and wait until the hub sees them."""
        self.devices = [DemoDevice(spec, self.directory / spec.name, self.hub) for spec in FLEET]
        for device in self.devices:
            self._stack.callback(device.wire.close)
        with ThreadPoolExecutor(max_workers=len(FLEET)) as pool:
            list(pool.map(self._enrol, self.devices))
        for device in self.devices:
            self._start(device)
        for name in self.names:
            self.wait(f"{name} connects", partial(self.view.online, name))

    @property
    def names(self) -> list[str]:
        """Ids of all devices."""
        return [spec.name for spec in FLEET]

    def device(self, name: str) -> DemoDevice:
        """One device by its id."""
        return next(device for device in self.devices if device.name == name)

    def wait(self, what: str, look: Callable[[], T | None], seconds: float = ENOUGH_SECONDS) -> T:
        """Wait for something while every process lives; see ``promises.wait_for``."""
        return wait_for(what, seconds, look, self.check)

    def pause_until(self, moment: float) -> None:
        """Let time pass until a monotonic moment, while every process lives."""
        while time.monotonic() < moment:
            self.check()
            time.sleep(0.2)  # each process is looked at meanwhile

    def feed(self, digits: Digits, *, first_seed: int = 0) -> None:
        """Start feeding held-out digits to every device, each in an order of its own."""
        for number, device in enumerate(self.devices, first_seed):
            feeder = Feeder(
                device.name,
                device.socket(SLOT),
                bundles.MODEL,
                digits.held_out_images,
                digits.held_out_labels,
                rate=RATE_PER_SECOND,
                label_delay_seconds=LABEL_DELAY_SECONDS,
                seed=number,
            )
            self.feeders[device.name] = feeder
            feeder.start()
        self.screen.rows = self._rows

    def push(self, bundle: bundles.Bundle) -> None:
        """Push a bundle and wait until the hub has checked, signed and published it."""
        parsed = bundle.manifest
        path = f"/models/{parsed.model}/versions"
        with ExitStack() as opened:
            files = {
                file.path: opened.enter_context((bundle.directory / file.path).open("rb"))
                for file in parsed.files
            }
            self.api.upload(path, bundle.encoded, files)

        def published() -> bool:
            version_view = self.api.get(f"{path}/{parsed.version}")
            promise(
                version_view["status"] != "rejected",
                f"the hub rejected version {parsed.version}: {version_view.get('check')}",
            )
            return bool(version_view["status"] == "published")

        self.wait(f"version {parsed.version} is published", published)

    def start_rollout(self, version: str) -> int:
        """Start to roll a version out, one canary first; returns the rollout's number."""
        body = {
            "model": bundles.MODEL,
            "version": version,
            "slot": SLOT,
            "selector": SELECTOR,
            "canary": 1,
            "min_soak_seconds": SOAK_SECONDS,
            "timeout_seconds": ENOUGH_SECONDS,
        }
        return int(self.api.post("/rollouts", body)["id"])

    def finish_rollout(self, rollout: int) -> None:
        """Wait until every device has committed the rollout's version."""

        def completed() -> bool:
            view = self.api.get(f"/rollouts/{rollout}")
            promise(
                view["state"] in ("running", "completed"),
                f"rollout {rollout} is {view['state']}: {view['reason']}",
            )
            return bool(view["state"] == "completed")

        self.wait(f"rollout {rollout} is completed", completed, 2 * ENOUGH_SECONDS)

    def no_failed_request(self, when: str) -> None:
        """Raise when any client of any device saw a failed request."""
        for name, feeder in self.feeders.items():
            tally = feeder.tally
            promise(
                tally.failed == 0,
                f"{tally.failed} failed request(s) of {name} {when}: {tally.failures[:1]}",
            )

    def check(self) -> None:
        """Raise when a process has ended or a request has failed."""
        for child in self._children:
            child.check()
        self.no_failed_request("so far")

    def _start(self, hub: DemoHub | DemoDevice) -> None:
        child = Child(hub.name, hub.command, self._processes)
        self._children.append(child)
        self._stack.callback(child.stop)

    def _healthy(self) -> Any:
        with contextlib.suppress(MusterError):
            return self.api.get("/health")
        return None

    def _enrol(self, device: DemoDevice) -> None:
        body = {
            "labels": dict(device.spec.labels),
            "uses": 1,
            "expires_seconds": 600,
            "device": device.name,
        }
        device.enrol(self.api.post("/enroll-tokens", body)["token"], TIMERS)

    def _rows(self) -> list[tuple[str, ...]]:
        return [self._row(device) for device in self.devices]

    def _row(self, device: DemoDevice) -> tuple[str, ...]:
        feeder = self.feeders[device.name]
        tally = feeder.tally
        version = tally.latest
        accuracy = tally.accuracy(version, feeder.camera)
        return (
            device.name,
            f"{bundles.MODEL} {version}",
            "cut" if device.wire.is_cut else "up",
            "clear" if feeder.camera == CLEAN else "degraded",
            str(tally.answered),
            str(tally.failed),
            "" if accuracy is None else f"{accuracy:.1%}",
        )
