"""Run the demo: clear its directory, play the scenario, tell the result, end every process."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from muster_client.failures import OperatorError
from muster_client.terminal import output
from muster_hub.demo.fleet import clear, console_link
from muster_hub.demo.processes import end_leftovers
from muster_hub.demo.promises import BrokenPromise, Summary
from muster_hub.demo.scenario import FAILING_CAMERA, Scenario
from muster_hub.demo.screen import Screen
from muster_hub.demo.stage import DemoStage
from muster_hub.demo.training import Training
from muster_protocol.wire.errors import MusterError

SUMMARY = "summary.json"
OBITUARY_SECONDS = 0.5
VISITOR = "demo"
"""Who signs in to the console by the link that the demo shows."""


def run(directory: Path, *, keep: bool) -> int:
    """Run the demo in ``directory``; returns the exit code. Ctrl-C ends every process."""
    directory = directory.absolute()
    screen = Screen(output.console())
    try:
        for name in end_leftovers(directory / "processes"):
            screen.say(f"ended {name}, left by an earlier run")
        clear(directory)
        with _terminated_like_interrupted(), ExitStack() as stack:
            stage = DemoStage(directory, screen, stack)
            training = Training(directory / "models")
            stack.callback(training.close)
            try:
                _play(Scenario(stage, training), keep=keep)
            except KeyboardInterrupt:
                screen.say(Text("interrupted: ending every process …", style="yellow"))
                raise
    except KeyboardInterrupt:
        screen.say(Text("every process was ended", style="yellow"))
        return 130
    except (MusterError, OSError) as error:
        kind = "broken promise" if isinstance(error, BrokenPromise) else "the demo failed"
        screen.say(Text(f"{kind}: {error}", style="bold red"), f"logs: {directory}/processes")
        return 1
    screen.say("DEMO OK")
    return 0


def _play(scenario: Scenario, *, keep: bool) -> None:
    stage = scenario.stage
    try:
        with stage.screen:
            _run(scenario)
        (stage.directory / SUMMARY).write_bytes(scenario.summary.encode())
        stage.screen.say("", _summary_facts(scenario.summary))
        if keep:
            _explore(scenario)
    finally:
        for feeder in stage.feeders.values():
            feeder.finish()


def _run(scenario: Scenario) -> None:
    try:
        scenario.run()
    except OperatorError:
        # A process that has died says more than the call that found nobody there.
        time.sleep(OBITUARY_SECONDS)
        scenario.stage.check()
        raise


def _summary_facts(summary: Summary) -> RenderableType:
    before, after = summary.accuracy_before, summary.accuracy_after
    up, raw = output.size(summary.bytes_up), output.size(summary.bytes_raw)
    return output.facts(
        [
            ("devices", summary.devices),
            ("inferences", f"{summary.inferences_fed} fed, {summary.inferences_counted} counted"),
            ("failed requests", str(summary.failed_requests)),
            ("swaps under load", str(summary.swaps)),
            ("refused releases", summary.refused_releases),
            ("altered chunk", f"healed on {summary.chunks_healed} device(s)"),
            ("drift alert", f"after {summary.drift_windows_to_alert} window(s)"),
            ("false alerts", str(summary.false_alerts)),
            ("accuracy", f"{before:.1%} before, {after:.1%} after, behind the degraded camera"),
            ("sent home", f"{up} in all; the raw tensors would be {raw}"),
            ("seconds", summary.seconds),
        ]
    )


def _explore(scenario: Scenario) -> None:
    """Leave everything running, and fed, until interrupted."""
    stage = scenario.stage
    stage.feed(scenario.training.data, first_seed=len(stage.devices))
    muster = f"muster --profile {stage.hub.profile}"
    stage.screen.say(
        "DEMO OK",
        f"\nStill running. The console: {stage.hub.url}/ (its certificate is the demo's own)",
        "This link signs you in there, once and within ten minutes:",
    )
    stage.screen.line(console_link(stage.hub.data, VISITOR))
    stage.screen.say(
        f"Explore with: {muster} device list",
        f"              {muster} drift show {FAILING_CAMERA}",
        f"              {muster} tail",
        "Ctrl-C ends it.",
    )
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: with all its children."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    ends = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
