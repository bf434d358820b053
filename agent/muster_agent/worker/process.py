"""The supervisor's side of one worker: start it, command it, hear from it, bury it.

A reader thread per worker turns what happens into events and delivers them; it decides nothing.
It also keeps the two deadlines that a worker can't be trusted with: its start and its stop.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from muster_agent import runtimes
from muster_agent.base.system_error import as_refusal
from muster_agent.isolation.cage import Policy, Rung
from muster_agent.worker import boot, control
from muster_agent.worker.events import Failed, WorkerEvent
from muster_agent.worker.slot_socket import SlotSockets
from muster_agent.worker.watch import Watch
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Build, Manifest

_KEPT = ("LD_LIBRARY_PATH",)
_PACKAGES = ("muster_agent", "muster_protocol", "msgspec", "numpy", "orjson", *runtimes.MODULES)


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker is to run and where it answers."""

    worker_id: str
    bundle: Path
    manifest: Manifest
    manifest_sha256: str
    build: Build | None
    """None: load no model, answer with the fallback."""
    sockets: SlotSockets | None = None
    """None: prove the model, serve nobody."""
    ring: Path | None = None
    fallback: str | None = None
    previous_ring: Path | None = None
    """Ring of the slot's previous worker, from which a last_good fallback takes its answer."""
    last_input: Path | None = None
    """File in which the worker notes each request while the model runs on it."""
    request_seconds: float = 30.0
    threads: int = 1
    first: bool = False
    """Nobody serves the slot yet, so there is nobody to make way for."""
    shadow: control.Shadow | None = None
    """Serve nobody: replay another worker's ring."""
    isolation: Policy = "auto"
    rung: Rung = Rung.FULL
    """The best to take of those that the kernel offers; for tests and doctors."""
    strict: bool = False
    """A version is checked before its release: ask of it all that clients may."""


class WorkerProcess:
    """One worker, from start to burial; methods never block and may be called from one thread.

    The kernel kills the worker when the thread that called ``start`` ends.
    """

    def __init__(self, spec: WorkerSpec, deliver: Callable[[WorkerEvent], None]) -> None:
        self.spec = spec
        self._deliver = deliver
        self._process: subprocess.Popen[bytes] | None = None
        self._ours, self._theirs = socket.socketpair()
        self._stop_grace: float | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id; None before the start."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Whether a process was started and is not buried yet."""
        return self._process is not None and not self._ended.is_set()

    def start(self) -> None:
        """Start the process; what comes of it is delivered."""
        try:
            self._process = subprocess.Popen(
                [
                    # -I: nothing of the user's settings or the directory the agent stands in.
                    *(sys.executable, "-I", "-X", "faulthandler", boot.__file__),
                    *(boot.PATH, os.pathsep.join(import_path())),
                    *("--control", str(self._theirs.fileno())),
                    *((boot.FIRST,) if self.spec.first else ()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(self._theirs.fileno(), *_inherited(self.spec.sockets)),
                env=_environment(os.environ),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._close()
            refusal, words = as_refusal(error, Refusal.WORKER_DIED)
            detail = f"the worker process can't be started: {words}"
            self._deliver(Failed(self.spec.worker_id, refusal, detail))
            return
        self._theirs.close()
        self._ours.settimeout(0.0)
        self._send(self._start_command())
        watch = Watch(
            self.spec.worker_id,
            self._process,
            self._ours,
            self._wake_read,
            start_seconds=self.spec.manifest.start.wall_seconds,
            stop_grace=lambda: self._stop_grace,
            deliver=self._deliver,
        )
        threading.Thread(
            target=self._run, args=(watch,), name=f"worker {self.spec.worker_id}", daemon=True
        ).start()

    def _run(self, watch: Watch) -> None:
        try:
            watch.run()
        finally:
            self._close()

    def accept(self) -> None:
        """Begin, or begin again, to take connections on the slot's sockets."""
        self._send(control.Accept())

    def pause(self) -> None:
        """Take no more connections, finish what it has, hand over the rest, stay loaded."""
        self._send(control.Pause())

    def stop(self, grace_seconds: float) -> None:
        """Drain and exit; killed after ``grace_seconds``."""
        self._stop_grace = grace_seconds
        self._send(control.Stop(grace_seconds))
        with self._lock, contextlib.suppress(OSError):
            if not self._ended.is_set():
                os.write(self._wake_write, b"\0")

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Block until the process is buried; for the end of the program and for tests."""
        return self._ended.wait(timeout_seconds)

    def _send(self, command: control.Command) -> None:
        # A worker that has died, or no longer reads, is noticed and buried by the reader thread.
        with self._lock, contextlib.suppress(OSError):
            self._ours.sendall(control.encode(command))

    def _start_command(self) -> control.Start:
        spec, sockets = self.spec, self.spec.sockets
        return control.Start(
            supervisor=os.getpid(),
            supervisor_tasks=sum(1 for _ in Path("/proc/self/task").iterdir()),
            bundle=_whole(spec.bundle),
            manifest_sha256=spec.manifest_sha256,
            runtime=None if spec.build is None else spec.build.runtime,
            ring=None if spec.ring is None else _whole(spec.ring),
            previous_ring=None if spec.previous_ring is None else _whole(spec.previous_ring),
            last_input=None if spec.last_input is None else _whole(spec.last_input),
            fallback=spec.fallback,
            listeners=tuple(each.fileno() for each in sockets.listeners) if sockets else (),
            handover_out=sockets.handover_out.fileno() if sockets else None,
            handover_in=sockets.handover_in.fileno() if sockets else None,
            request_seconds=spec.request_seconds,
            threads=spec.threads,
            shadow=spec.shadow,
            isolation=spec.isolation,
            rung=spec.rung,
            strict=spec.strict,
        )

    def _close(self) -> None:
        with self._lock:
            self._ended.set()
            self._ours.close()
            self._theirs.close()
            os.close(self._wake_read)
            os.close(self._wake_write)


def threads_of(build: Build | None) -> int:
    """How many threads a build gets here for one request: what it asks for, or as many as there
    are cores."""
    asked = 1 if build is None or build.threads is UNSET else build.threads
    return min(asked, len(os.sched_getaffinity(0)))


def _inherited(sockets: SlotSockets | None) -> tuple[int, ...]:
    if sockets is None:
        return ()
    ends = (*sockets.listeners, sockets.handover_out, sockets.handover_in)
    return tuple(end.fileno() for end in ends)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a worker gets of the agent's environment, which may hold secrets: next to nothing."""
    kept = {name: own[name] for name in _KEPT if name in own}
    return kept | {
        "ORT_DISABLE_TELEMETRY": "1",
        # Each malloc arena reserves 64 MiB of address space, which RLIMIT_AS would count.
        "MALLOC_ARENA_MAX": "1",
        "OMP_NUM_THREADS": "1",
    }


def import_path(*packages: str) -> list[str]:
    """Where the interpreter and the worker's own packages are, and no other directory.

    The rest of the agent's path, such as the directory it was started in, may hold anything.
    """
    own = (Path(sys.prefix), Path(sys.base_prefix))
    return [
        entry
        for entry in sys.path
        if Path(entry).is_absolute()
        and (
            any(Path(entry).is_relative_to(prefix) for prefix in own)
            or any((Path(entry) / package).is_dir() for package in (*_PACKAGES, *packages))
        )
    ]


def _whole(path: Path) -> str:
    return str(path.absolute())
