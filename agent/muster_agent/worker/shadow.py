"""A challenger's worker: it answers nobody, replays the champion's ring, and records both answers.

The champion's worker does not know. What was recorded before the challenger was ready is not
replayed; what its share of a core leaves no time for is passed over, so that it never falls behind.
Labels pass to its own ring, where ``observe.pair_fold`` holds them against both answers.
"""

import os
import select
import time
from pathlib import Path
from typing import assert_never

import numpy as np

from muster_agent.runtimes.base import Array, Model, ModelError
from muster_agent.worker import control, limits
from muster_agent.worker.bundle import StartRefused
from muster_agent.worker.channel import Channel
from muster_agent.worker.control import Accept, Pause, Start, Stop
from muster_agent.worker.events import Counters
from muster_agent.worker.recorder import LATENCY_US_MAX
from muster_agent.worker.ring import Ring, RingError, RingReader
from muster_agent.worker.rows import (
    LABEL_BYTES_MAX,
    ErrorKind,
    Quality,
    RowKind,
    element_bytes,
)
from muster_protocol.wire.errors import ProtocolError, Refusal
from muster_protocol.wire.manifest import Manifest

POLL_SECONDS = 0.1
BEAT_SECONDS = 1.0
READ_ROWS = 256
BURST_SECONDS = 1.0
"""Processor time is saved up for so long, not longer."""
NICENESS = 19


class CpuBudget:
    """A share of one core. Pure: time and processor time used are passed in, in seconds."""

    def __init__(self, share: float, *, now: float, used: float) -> None:
        self._share = share
        self._most = share * BURST_SECONDS
        self._left, self._now, self._used = self._most, now, used

    def pause(self, now: float, used: float) -> float:
        """Seconds until there is time again, 0 when there is."""
        earned = (now - self._now) * self._share
        self._left = min(self._left + earned, self._most) - (used - self._used)
        self._now, self._used = now, used
        return max(-self._left / self._share, 0.0)


def _batch_of(element: Array, axis: int | None) -> Array:
    """One batch element as a request of its own."""
    return np.ascontiguousarray(element if axis is None else np.expand_dims(element, axis))


class Replay:
    """Runs the challenger on the champion's rows. ``champion`` is read, ``pairs`` written."""

    def __init__(self, manifest: Manifest, model: Model, champion: RingReader, pairs: Ring) -> None:
        """Raises StartRefused when the champion's rows are not what the challenger takes."""
        if manifest.kind_of_state == "internal":
            raise StartRefused(
                Refusal.MALFORMED,
                "the challenger remembers what it was asked, and the ring mixes all clients' "
                "requests: nothing to compare",
            )
        recorded = {tensor.name: tensor for tensor in champion.layout.inputs}
        for tensor in manifest.inputs:
            own = recorded.get(tensor.name)
            if own is None or (own.datatype, own.element_shape) != (
                tensor.datatype,
                tensor.element_shape,
            ):
                own_kind = "not recorded" if own is None else f"{own.datatype} {list(own.shape)}"
                raise StartRefused(
                    Refusal.MALFORMED,
                    f"the challenger takes {tensor.name!r} as {tensor.datatype} "
                    f"{list(tensor.shape)}, of the champion it is {own_kind}: nothing to compare",
                )
            axis = tensor.batch
            if axis is not None and tensor.shape[axis] not in {-1, 1}:
                raise StartRefused(
                    Refusal.MALFORMED,
                    f"the challenger takes batches of {tensor.shape[axis]} alone, and what is "
                    "replayed are single elements: nothing to compare",
                )
        self.compared = self.failed = self.labels = 0
        self._model = model
        self._champion = champion
        self._pairs = pairs
        self._axes = {tensor.name: tensor.batch for tensor in manifest.inputs}
        self._outputs = [(tensor.name, element_bytes(tensor)) for tensor in pairs.layout.outputs]
        self._nothing = bytes(pairs.layout.output_bytes)
        self._cursor = champion.published

    def step(self, budget: CpuBudget) -> float:
        """Some rows further; returns the seconds to wait before the next step."""
        read = self._champion.read(self._cursor, READ_ROWS)
        self._cursor = read.cursor
        pause = budget.pause(time.monotonic(), time.process_time())
        inputs = self._champion.layout.input_arrays(read.rows)
        chosen = (
            (read.rows["kind"] == RowKind.INFERENCE)
            & (read.rows["error"] == ErrorKind.NONE)
            & (read.rows["quality"] == Quality.GOOD)
        )
        labels = iter(self._champion.layout.labels(read.rows))
        for place in range(len(read.rows)):
            row = read.rows[place]
            if row["kind"] == RowKind.LABEL:
                self._label(row, *next(labels))
            elif chosen[place] and pause <= 0:
                batch = {
                    name: _batch_of(inputs[name][place], axis) for name, axis in self._axes.items()
                }
                self._compare(row, batch)
                pause = budget.pause(time.monotonic(), time.process_time())
        return pause if len(read.rows) else max(pause, POLL_SECONDS)

    def _compare(self, row: np.void, batch: dict[str, Array]) -> None:
        begun = time.monotonic_ns()
        error, answer = ErrorKind.NONE, self._nothing
        try:
            outputs = self._model.run(batch)
            if any(outputs[name].nbytes != size for name, size in self._outputs):
                error = ErrorKind.BAD_OUTPUT
            else:
                answer = b"".join(outputs[name].tobytes() for name, _ in self._outputs)
        except (ModelError, MemoryError):
            error = ErrorKind.RUN_FAILED
        latency = min((time.monotonic_ns() - begun) // 1000, LATENCY_US_MAX)
        self.compared += 1
        self.failed += error is not ErrorKind.NONE
        self._pairs.append(
            begun, latency, RowKind.INFERENCE, error, Quality.GOOD, bytes(row["id"]),
            row["output"].tobytes(), answer,
        )  # fmt: skip

    def _label(self, row: np.void, identifier: bytes, label: str) -> None:
        self.labels += 1
        data = label.encode()[:LABEL_BYTES_MAX].ljust(LABEL_BYTES_MAX, b"\0")
        self._pairs.append(int(row["monotonic_ns"]), 0, RowKind.LABEL, 0, 0, identifier, data)


class ShadowWorker:
    """Channel and replay on one thread; the whole process takes only what others leave."""

    def __init__(self, channel: Channel, start: Start, replay: Replay) -> None:
        assert start.shadow is not None
        self._channel = channel
        self._replay = replay
        self._request_seconds = start.request_seconds
        self._ready_cpu_seconds = time.process_time()
        self._budget = CpuBudget(
            start.shadow.cpu_share, now=time.monotonic(), used=self._ready_cpu_seconds
        )
        self._stopped = False
        self._beat_at = 0.0

    def run(self) -> None:
        """Replay what the champion records until the supervisor says stop or is gone."""
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        pause = 0.0
        while not self._stopped:
            if poll.poll(min(pause, POLL_SECONDS) * 1000):
                self._obey()
            limits.rearm(self._request_seconds)
            pause = self._replay.step(self._budget)
            if time.monotonic() >= self._beat_at:
                self._beat_at = time.monotonic() + BEAT_SECONDS
                self._channel.send(control.Beat(self._counters()))

    def _obey(self) -> None:
        try:
            commands = self._channel.commands()
        except (EOFError, OSError):
            self._stopped = True
            return
        for command in commands:
            match command:
                case Stop():
                    self._stopped = True
                case Accept() | Pause():
                    pass  # It serves nobody, whatever it is told.
                case Start():
                    raise ProtocolError("start was sent twice")
                case _ as unreachable:
                    assert_never(unreachable)

    def _counters(self) -> Counters:
        return Counters(
            inferences=self._replay.compared,
            errors=self._replay.failed,
            labels=self._replay.labels,
            rss_bytes=limits.resident_bytes(),
            cpu_seconds=time.process_time() - self._ready_cpu_seconds,
        )


def open_champion(shadow: control.Shadow) -> RingReader:
    """The ring to replay, for reading; raises StartRefused."""
    try:
        return RingReader(Path(shadow.ring))
    except RingError as error:
        raise StartRefused(
            Refusal.NO_SPACE, f"the champion's ring can't be read: {error}"
        ) from None
