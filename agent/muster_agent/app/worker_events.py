"""What workers say of themselves, handed to the slot or the challenger that each belongs to."""

import logging
from collections.abc import Callable, Mapping
from typing import assert_never

from muster_agent.app import reporting
from muster_agent.app.ports import SupervisorPorts
from muster_agent.challenger.challengers import Challengers
from muster_agent.update.runner import SlotRunner
from muster_agent.update.workers import Counts
from muster_agent.worker import events as worker
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.messages import Stamp

log = logging.getLogger(__name__)


class WorkerEvents:
    """``changed`` is called when the device's report may say something else now."""

    def __init__(
        self,
        ports: SupervisorPorts,
        runners: Mapping[str, SlotRunner],
        challengers: Challengers,
        *,
        stamp: Callable[[], Stamp],
        changed: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._runners = runners
        self._challengers = challengers
        self._stamp = stamp
        self._changed = changed

    def handle(self, event: worker.WorkerEvent, now: float) -> None:
        """Act on one event at monotonic ``now``."""
        match event:
            case worker.Failed() | worker.Exited():
                self._ports.telemetry.end(event.worker_id)
            case worker.Heartbeat(worker_id, counters):
                self._ports.telemetry.used_cpu(worker_id, counters.cpu_seconds)
            case worker.Ready() | worker.Drained():
                pass
            case _:
                assert_never(event)
        runner = next((r for r in self._runners.values() if r.workers.knows(event.worker_id)), None)
        if runner is not None:
            self._of_slot(runner, event, now)
        else:
            self._challengers.handle(event, now)

    def _of_slot(self, runner: SlotRunner, event: worker.WorkerEvent, now: float) -> None:
        if isinstance(event, worker.Exited):
            self._crash_input(runner.slot, event)
        workers = runner.workers
        match event:
            case worker.Ready(worker_id, facts):
                runner.take(workers.on_ready(worker_id, facts.computed_by, now), now)
            case worker.Heartbeat(worker_id, counters):
                workers.on_counts(worker_id, _counts(counters))
                runner.judge(now)
            case worker.Failed(worker_id, refusal, detail, outside):
                notes = workers.on_end(worker_id, refusal, detail, now, from_outside=outside)
                runner.take(notes, now)
            case worker.Exited(worker_id, returncode, detail, outside):
                reason = detail or worker.ending(returncode)
                notes = workers.on_end(
                    worker_id, Refusal.WORKER_DIED, reason, now, from_outside=outside
                )
                runner.take(notes, now)
            case worker.Drained():
                pass
            case _:
                assert_never(event)
        if not isinstance(event, worker.Heartbeat):
            self._changed()

    def _crash_input(self, slot: str, event: worker.Exited) -> None:
        kept = self._ports.crash_inputs.end(event.worker_id, crashed=event.returncode != 0)
        if kept:
            log.warning("%s: %s", event.worker_id, kept)
            note = reporting.note(slot, f"{event.worker_id}: {kept}", self._stamp())
            self._ports.outbox.put_event(note)


def _counts(counters: worker.Counters) -> Counts:
    p95_ms = counters.latency_p95_us / 1000
    return Counts(counters.inferences, counters.errors, p95_ms or None)
