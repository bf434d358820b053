"""The worker process; ``boot`` runs it.

Started by the supervisor only. It confines itself, proves the model, says so, and serves until it
is told to stop or the supervisor goes away.
"""

import argparse
import contextlib
import gc
import logging
import os
import socket
import time
from typing import assert_never

import numpy as np

from muster_agent.isolation.kernel import IsolationError
from muster_agent.runtimes import Model
from muster_agent.worker import begin, control, limits
from muster_agent.worker.api import InferenceApi
from muster_agent.worker.boot import FIRST, gently, step_back
from muster_agent.worker.bundle import StartRefused
from muster_agent.worker.channel import Channel
from muster_agent.worker.control import Accept, Pause, Start, Stop
from muster_agent.worker.engine import Engine
from muster_agent.worker.events import Counters, Facts
from muster_agent.worker.serving import Server
from muster_agent.worker.sessions import SessionModel
from muster_agent.worker.shadow import ShadowWorker
from muster_agent.worker.tensors import request_bytes_max
from muster_protocol.wire.errors import ProtocolError, Refusal

HEARTBEAT_SECONDS = 1.0
REFUSED_EXIT = 3


class Worker:
    """Wires channel, engine and server together."""

    def __init__(self, channel: Channel, start: Start, engine: Engine) -> None:
        self._channel = channel
        self._engine = engine
        self._request_seconds = start.request_seconds
        self._ready_cpu_seconds = time.process_time()
        self._beat_at = 0.0
        self._stop_at: float | None = None
        self._stop_grace: float | None = None
        sessions = engine.model if isinstance(engine.model, SessionModel) else None
        self._server = Server(
            InferenceApi(engine, start.runtime),
            tuple(filter(None, map(_inherited, start.listeners))),
            handover_out=_inherited(start.handover_out),
            handover_in=_inherited(start.handover_in),
            request_seconds=start.request_seconds,
            body_bytes_max=request_bytes_max(engine.manifest),
            on_drained=self._drained,
            on_tick=self._tick,
            on_turn=sessions.enter if sessions is not None else None,
            on_left=sessions.leave if sessions is not None else _nothing,
        )

    def run(self) -> None:
        """Serve until the supervisor says stop or is gone."""
        # What is loaded stays: a full collection that looks through it all stops each client.
        gc.collect()
        gc.freeze()
        self._server.watch(self._channel.fileno(), self._on_command)
        self._server.run()

    def _on_command(self) -> None:
        try:
            commands = self._channel.commands()
        except (EOFError, OSError):
            self._server.stop()
            return
        for command in commands:
            match command:
                case Accept():
                    self._server.accept()
                case Pause():
                    self._server.pause()
                case Stop(grace_seconds=seconds):
                    self._stop_grace = seconds
                    self._server.pause()
                case Start():
                    raise ProtocolError("start was sent twice")
                case _ as unreachable:
                    assert_never(unreachable)

    def _drained(self) -> None:
        self._channel.send(control.IsDrained())
        if self._stop_grace is not None:
            self._server.stop()

    def _tick(self, now: float) -> None:
        # A loop that is stuck, in a model or anywhere else, is killed by the kernel.
        limits.rearm(self._request_seconds)
        if self._stop_grace is not None:
            self._stop_at = now + self._stop_grace if self._stop_at is None else self._stop_at
            if now >= self._stop_at:
                self._server.stop()
        if now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_SECONDS
            with contextlib.suppress(MemoryError):  # a request has it all; the next beat comes
                self._channel.send(control.Beat(self._counters()))

    def _counters(self) -> Counters:
        recorder = self._engine.recorder
        latencies = recorder.ring.latencies_us() if recorder.ring else np.empty(0, np.uint32)
        p50, p95 = np.percentile(latencies, [50, 95]) if len(latencies) else (0.0, 0.0)
        return Counters(
            inferences=recorder.inferences,
            errors=recorder.errors,
            invalid=recorder.invalid,
            fallbacks=recorder.fallbacks,
            labels=recorder.labels,
            connections=self._server.connections,
            rss_bytes=limits.resident_bytes(),
            latency_p50_us=int(p50),
            latency_p95_us=int(p95),
            cpu_seconds=time.process_time() - self._ready_cpu_seconds,
        )


def _nothing(_: int) -> None:
    """Nothing is kept for a connection."""


def _inherited(descriptor: int | None) -> socket.socket | None:
    """One of the slot's sockets; a worker before may have made it one that blocks."""
    if descriptor is None:
        return None
    end = socket.socket(fileno=descriptor)
    end.settimeout(0.0)
    return end


def _made(channel: Channel, start: Start, *, first: bool) -> tuple[Worker | ShadowWorker, Facts]:
    """The worker, isolated and proved; raises StartRefused.

    What is heavy runs at low priority, in threads that end before the process is closed.
    """
    opened = gently(lambda: begin.open_all(start), first=first)
    cage = begin.isolate(start, opened)

    def prove() -> tuple[Model | None, Facts]:
        return begin.prove(start, opened, cage)

    # A runtime's pool of threads would keep the priority of the one that made it.
    alone = start.threads > 1 and start.shadow is None
    model, facts = prove() if alone else gently(prove, first=first)
    if start.shadow is not None:
        made: Worker | ShadowWorker = ShadowWorker(channel, start, begin.replay_of(opened, model))
    else:
        made = Worker(channel, start, begin.engine_of(start, opened, model, facts))
    cage.close_for_serving()
    return made, facts


def main(arguments: list[str] | None = None) -> int:
    """The worker's process; its exit status says how it ended."""
    parser = argparse.ArgumentParser(description="A Muster worker; started by the supervisor.")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    parser.add_argument(FIRST, action="store_true", help="nobody serves the slot yet")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    end = socket.socket(fileno=options.control)
    channel = Channel(end)
    start = channel.first()
    limits.die_with_parent(start.supervisor)
    for descriptor in (options.control, *start.descriptors()):
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # takes no keyword
    try:
        worker, facts = _made(channel, start, first=options.first)
    except StartRefused as error:
        channel.send(control.Refused(error.refusal, str(error)))
        return REFUSED_EXIT
    except MemoryError:
        channel.send(control.Refused(Refusal.NO_MEMORY, "out of memory while starting"))
        return REFUSED_EXIT
    except IsolationError as error:
        channel.send(control.Refused(Refusal.NO_ISOLATION, str(error)))
        return REFUSED_EXIT
    limits.rearm(start.request_seconds)
    channel.send(control.IsReady(facts))
    worker.run()
    step_back(first=False)  # Giving a model's memory back takes time from whoever serves now.
    return 0
