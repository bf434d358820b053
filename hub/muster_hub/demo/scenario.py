"""The demo step by step, every promise checked as it is made."""

import time
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from muster_hub.demo import bundles
from muster_hub.demo.bad_releases import BadRelease
from muster_hub.demo.bundles import Bundle
from muster_hub.demo.camera import DEGRADED, FROZEN
from muster_hub.demo.digits import CLASSES, SIDE
from muster_hub.demo.outsider import Outsider
from muster_hub.demo.promises import BrokenPromise, Summary, promise
from muster_hub.demo.stage import FLEET, RATE_PER_SECOND, SLOT, WINDOW_SECONDS, DemoStage
from muster_hub.demo.training import Training

FAILING_CAMERA = "cam-3"
CUT_DEVICE = "cam-2"
CUT_SECONDS = 20.0
QUIET_WINDOWS = 6
"""Windows of every device before the camera fails; a drift monitor warms up on the first five."""
ANSWERS_JUDGED = 100
"""Answers behind the degraded camera that an accuracy is taken from."""
ACCURACY_RECOVERED = 0.9
T = TypeVar("T")
Counts = tuple[int, int]
"""Inferences and labels of a device."""

ROW_BYTES = (SIDE * SIDE + len(CLASSES)) * 4


class Scenario:
    """One run. The steps build on each other."""

    def __init__(self, stage: DemoStage, training: Training) -> None:
        self.stage = stage
        self.training = training
        self.summary = Summary(devices=len(FLEET))
        self._degraded_at = 0.0

    def run(self) -> None:
        """The whole story, act by act; raises as soon as a promise is broken."""
        self.prepare()
        self.roll_out_first()
        self.healthy_cameras()
        self.camera_fails()
        self.camera_freezes()
        self.roll_out_second()
        self.refuse_bad_releases()
        self.cut_link()
        self.settle()

    def prepare(self) -> None:
        """Start hub, broker and agents; a classifier is trained meanwhile."""
        stage, screen = self.stage, self.stage.screen
        screen.step("starting hub and broker")
        stage.open_hub()
        screen.kept(f"hub and broker run: {stage.hub.url}, port {stage.hub.broker_port}")
        screen.step(f"enrolling {len(FLEET)} agents")
        stage.open_devices()
        screen.kept(f"{len(FLEET)} agents enrolled and online")

    def roll_out_first(self) -> None:
        """Version 1 reaches every device, and each reports the runtime that it should."""
        stage, screen = self.stage, self.stage.screen
        screen.step("version 1: trained on digits, then the hub runs its golden vectors")
        first = self._trained(self.training.first)
        stage.push(first)
        screen.kept(f"version 1 is right on {_accuracy_of(first):.1%} of held-out digits")
        screen.step("rolling out version 1, canary first")
        stage.finish_rollout(stage.start_rollout("1"))
        runtimes = {name: stage.view.slot(name).runtime for name in stage.names}
        expected = {spec.name: (*spec.runtimes, "onnx")[0] for spec in FLEET}
        promise(runtimes == expected, f"expected runtimes {expected}, devices report {runtimes}")
        runtimes_in_words = ", ".join(f"{name} {runtime}" for name, runtime in runtimes.items())
        screen.kept(f"version 1 runs everywhere: {runtimes_in_words}")

    def healthy_cameras(self) -> None:
        """Feed every device from now on, and see that healthy cameras raise no alert."""
        stage, screen = self.stage, self.stage.screen
        screen.step(f"feeding held-out digits, {RATE_PER_SECOND:g} a second to each device")
        stage.feed(self.training.data)
        for name in stage.names:
            stage.wait(
                f"{QUIET_WINDOWS} windows of {name}",
                partial(self._quiet, name),
            )
        alerts = stage.view.drift_alerts()
        promise(not alerts, f"healthy cameras raised {[alert.get('title') for alert in alerts]}")
        screen.kept(f"{QUIET_WINDOWS} windows of every device, no alert")

    def camera_fails(self) -> None:
        """Degrade one camera: its alert is raised, the others stay quiet."""
        stage, screen = self.stage, self.stage.screen
        screen.step(f"the camera of {FAILING_CAMERA} degrades: blur, dim light, glare")
        feeder = stage.feeders[FAILING_CAMERA]
        self._degraded_at = time.time()
        feeder.camera = DEGRADED
        alert = stage.wait(f"a drift alert of {FAILING_CAMERA}", self._alert)
        windows = self.summary.drift_windows_to_alert = self._windows_until(alert)
        self.summary.accuracy_before = self._accuracy("1")
        self._only_the_failing_camera_drifts()
        screen.kept(
            f"drift alert of {FAILING_CAMERA} after {windows} window(s), the others stay quiet; "
            f"version 1 is right on {self.summary.accuracy_before:.1%} there"
        )

    def camera_freezes(self) -> None:
        """A second fault of that camera is raised although its first one stands, and named."""
        stage, screen = self.stage, self.stage.screen
        screen.step(f"the camera of {FAILING_CAMERA} freezes while its first alert stands")
        standing = len(self._alerts())
        feeder = stage.feeders[FAILING_CAMERA]
        feeder.camera = FROZEN
        alert = stage.wait(f"an alert of {FAILING_CAMERA} that names the fault", self._frozen)
        feeder.camera = DEGRADED
        promise(standing > 0, "the degraded camera's first alert should have stood until it froze")
        self._only_the_failing_camera_drifts()
        screen.kept(f"beside {standing} standing alert(s) a new one: {alert['title']}")

    def roll_out_second(self) -> None:
        """Bring version 2 out under load; after the canary one of its chunks is altered."""
        stage, screen = self.stage, self.stage.screen
        screen.step("version 2: trained with blur and light, checked by the hub")
        second = self._trained(self.training.second).bundle
        stage.push(second)
        screen.kept(f"version 2 is right on {_accuracy_of(second):.1%} of held-out digits")
        screen.step("rolling out version 2 under full load, canary first")
        rollout = stage.start_rollout("2")
        canary = stage.wait("the canary runs version 2", partial(self._canary, "2"))
        baseline = second.manifest.file(bundles.BASELINE_FILE)
        with Outsider(stage.hub.data) as outsider:
            outsider.alter_retained((*baseline.index, baseline.sha256)[0])
        stage.finish_rollout(rollout)
        stage.no_failed_request("while version 2 was swapped in")
        after = self.summary.accuracy_after = self._accuracy("2")
        promise(
            after >= ACCURACY_RECOVERED,
            f"version 2 is right on only {after:.1%} behind the degraded camera, "
            f"{ACCURACY_RECOVERED:.0%} are expected",
        )
        healed = {event["device"] for event in stage.view.events("fetch_healed")}
        expected = set(stage.names) - {canary}
        promise(
            healed == expected,
            f"the chunk altered after the canary: {expected} should have healed, {healed} say so",
        )
        self.summary.chunks_healed = len(healed)
        self.summary.swaps = sum(
            len(feeder.tally.versions) - 1 for feeder in stage.feeders.values()
        )
        screen.kept(
            f"version 2 runs everywhere, no request failed; {FAILING_CAMERA} is right on "
            f"{after:.1%} again; a chunk altered on the broker healed on {len(healed)} devices"
        )

    def refuse_bad_releases(self) -> None:
        """Bring out four bad releases; each must be refused by every device for its own reason."""
        stage, screen = self.stage, self.stage.screen
        with Outsider(stage.hub.data) as outsider:
            before = {name: outsider.directive_in_force(name) for name in stage.names}
            for bad in self._trained(self.training.second).bad:
                screen.step(f"an outsider releases {bad.title}")
                bad.publish(outsider, bad.bundle)
                self._refused_by_all(outsider, bad)
            for name in stage.names:
                outsider.reorder(outsider.directive_in_force(name), before[name].slots)

    def cut_link(self) -> None:
        """Cut one device's link while it goes on answering; then it returns."""
        stage, screen = self.stage, self.stage.screen
        screen.step(f"the link of {CUT_DEVICE} is cut for {CUT_SECONDS:g} s")
        wire, tally = stage.device(CUT_DEVICE).wire, stage.feeders[CUT_DEVICE].tally
        began, answered = time.monotonic(), tally.answered
        wire.cut()
        stage.wait(
            f"the hub sees {CUT_DEVICE} offline",
            lambda: not stage.view.online(CUT_DEVICE),
            CUT_SECONDS,
        )
        stage.pause_until(began + CUT_SECONDS)
        answered = tally.answered - answered
        self.summary.link_cut_seconds = round(time.monotonic() - began, 1)
        wire.restore()
        stage.no_failed_request(f"while {CUT_DEVICE} had no link")
        stage.wait(f"{CUT_DEVICE} returns", lambda: stage.view.online(CUT_DEVICE))
        screen.kept(f"{CUT_DEVICE} answered {answered} requests without a link, and is back")

    def settle(self) -> None:
        """Stop feeding; the hub must have counted exactly what was fed, device by device."""
        stage, screen = self.stage, self.stage.screen
        screen.step("feeding ends; waiting for the last windows")
        tallies = {name: feeder.finish() for name, feeder in stage.feeders.items()}
        stage.no_failed_request("in the whole run")
        fed = {name: (tally.answered, tally.labels_sent) for name, tally in tallies.items()}
        counted = self._count(fed)
        for name, tally in tallies.items():
            promise(tally.versions == ["1", "2"], f"{name} was served by {tally.versions}")
        self._only_the_failing_camera_drifts()
        summary = self.summary
        summary.inferences_fed, summary.labels_sent = map(sum, zip(*fed.values(), strict=True))
        summary.inferences_counted, summary.labels_counted = map(
            sum, zip(*counted.values(), strict=True)
        )
        summary.failed_requests = sum(tally.failed for tally in tallies.values())
        summary.bytes_up = sum(device.wire.bytes_up for device in stage.devices)
        summary.bytes_raw = summary.inferences_fed * ROW_BYTES
        summary.seconds = round(screen.seconds, 1)
        screen.kept(f"the hub counted {summary.inferences_counted}: what was fed, on every device")

    def _count(self, fed: dict[str, Counts]) -> dict[str, Counts]:
        """The hub's counts once they equal ``fed``; BrokenPromise when they never do."""
        stage = self.stage
        counted: dict[str, Counts] = {}

        def compared() -> str:
            return ", ".join(f"{name} fed {fed[name]} counted {counted[name]}" for name in fed)

        def all_counted() -> bool:
            counted.update({name: stage.view.counts(name) for name in fed})
            over = any(
                has > had for name in fed for has, had in zip(counted[name], fed[name], strict=True)
            )
            promise(not over, f"the hub counted more than was fed: {compared()}")
            return counted == fed

        try:
            stage.wait("every inference and label is counted", all_counted)
        except BrokenPromise as broken:
            raise BrokenPromise(f"{broken}; {compared()}") from None
        return counted

    def _trained(self, model: Future[T]) -> T:
        self.stage.wait("training", model.done)
        return model.result()

    def _canary(self, version: str) -> str | None:
        """The device that runs a version while it is not yet everywhere."""
        view = self.stage.view
        return next((name for name in self.stage.names if view.slot(name).version == version), None)

    def _accuracy(self, version: str) -> float:
        """Accuracy of a version behind the degraded camera, once enough was answered."""
        tally = self.stage.feeders[FAILING_CAMERA].tally
        self.stage.wait(
            f"{ANSWERS_JUDGED} answers of version {version} behind the degraded camera",
            lambda: tally.seen[version, DEGRADED] >= ANSWERS_JUDGED,
        )
        return tally.accuracy(version, DEGRADED) or 0.0

    def _refused_by_all(self, outsider: Outsider, bad: BadRelease) -> None:
        stage = self.stage
        version = bad.bundle.manifest.version

        def refused() -> dict[str, str] | None:
            said = stage.view.refusals(version)
            for name in set(stage.names) - set(said):
                outsider.insist(name, SLOT, bad.bundle)
            return said if set(said) >= set(stage.names) else None

        said = stage.wait(f"every device refuses {bad.title}", refused)
        promise(
            set(said.values()) == {bad.refusal},
            f"{bad.title}: expected {bad.refusal.value} of every device, got {said}",
        )
        for source, served in {
            "report": {name: stage.view.slot(name).version for name in stage.names},
            "answer by": {name: feeder.tally.latest for name, feeder in stage.feeders.items()},
        }.items():
            promise(
                set(served.values()) == {"2"},
                f"after {bad.title} the devices should serve version 2, they {source} {served}",
            )
        stage.no_failed_request(f"while {bad.title} was refused")
        self.summary.refused_releases[version] = bad.refusal.value
        stage.screen.kept(f"{bad.title}: refused by every device ({bad.refusal.value})")

    def _alerts(self) -> list[dict[str, Any]]:
        alerts = self.stage.view.drift_alerts()
        return [alert for alert in alerts if alert["device"] == FAILING_CAMERA]

    def _alert(self) -> dict[str, Any] | None:
        return next(iter(self._alerts()), None)

    def _frozen(self) -> dict[str, Any] | None:
        for alert in self._alerts():
            findings = alert["detail"].get("findings", {}).values()
            if any(finding.get("fault") == "stuck" for finding in findings):
                return alert
        return None

    def _quiet(self, name: str) -> bool:
        """Whether enough windows have come that are at least half full."""
        least = RATE_PER_SECOND * WINDOW_SECONDS / 2
        full = [window for window in self.stage.view.windows(name) if window["n"] >= least]
        return len(full) >= QUIET_WINDOWS

    def _windows_until(self, alert: dict[str, Any]) -> int:
        """Windows with degraded images that the hub had received when it raised the alert."""
        received = [
            window
            for window in self.stage.view.windows(FAILING_CAMERA)
            if window["start"] + window["seconds"] > self._degraded_at
            and window["received"] <= alert["opened"]
        ]
        return max(len(received), 1)

    def _only_the_failing_camera_drifts(self) -> None:
        alerts = self.stage.view.drift_alerts()
        others = [alert for alert in alerts if alert["device"] != FAILING_CAMERA]
        self.summary.false_alerts = len(others)
        promise(not others, f"false drift alerts: {[alert.get('title') for alert in others]}")


def _accuracy_of(bundle: Bundle) -> float:
    return bundle.manifest.lineage.metrics["held_out_accuracy"]
