"""A worker's isolation, in two steps: before its model is loaded, and before it serves.

What a kernel lacks is a rung of the ladder, not an excuse: each rung below the first gives up
something while loading, none but the last gives up anything while serving.
"""

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Literal, assert_never

from muster_agent.isolation import bpf, kernel, landlock, policy
from muster_agent.isolation.kernel import IsolationError

Policy = Literal["required", "auto"]
THREADS_END_SECONDS = 1.0
"""A thread that was joined is listed by the kernel for a moment longer."""


class Rung(StrEnum):
    """How well a worker is isolated, best first."""

    FULL = "full"
    """Landlock and a filter of system calls."""
    NO_LANDLOCK = "no_landlock"
    """A filter that allows no file to be opened, even while loading: models are held in memory."""
    ONE_THREAD = "one_thread"
    """The same where a filter reaches only the thread that asks for it: the worker has only one."""
    NONE = "none"
    """Resource limits alone."""

    @property
    def opens_files(self) -> bool:
        """Whether a model's file can be opened by its path while it is loaded."""
        return self in {Rung.FULL, Rung.NONE}

    @property
    def threads_max(self) -> int | None:
        """How many threads a model may run on; None: as many as it likes."""
        return 1 if self is Rung.ONE_THREAD else None


_ORDER = list(Rung)


def available(at_best: Rung = Rung.FULL) -> Rung:
    """The best rung that this kernel offers, none better than ``at_best``."""
    reach = kernel.seccomp_reach()
    if reach == "":
        found = Rung.NONE
    elif reach == "thread":
        found = Rung.ONE_THREAD
    else:
        found = Rung.FULL if kernel.landlock_abi() > 0 else Rung.NO_LANDLOCK
    return max(found, at_best, key=_ORDER.index)


class Cage:
    """Closed twice, by the main thread while it is the only one. Nothing opens it again."""

    def __init__(self, rung: Rung, *, makes_code: bool = False) -> None:
        """``makes_code``: what computes the model compiles it, also for shapes that come later."""
        self.rung = rung
        self._makes_code = makes_code
        self._pid = os.getpid()

    @property
    def described(self) -> str:
        """Its rung, and what it allows beyond that."""
        return f"{self.rung}, makes code" if self._makes_code else str(self.rung)

    def close_for_loading(self, readable: tuple[Path, ...]) -> None:
        """From here on only ``readable`` and the interpreter's files can be read; may raise
        IsolationError."""
        kernel.give_up_privileges()
        match self.rung:
            case Rung.FULL:
                _wait_until_alone()
                kernel.restrict_files(kernel.landlock_abi(), landlock.readable(readable))
            case Rung.NO_LANDLOCK:
                pass  # its filter reaches every thread
            case Rung.ONE_THREAD:
                _wait_until_alone()
            case Rung.NONE:
                return
            case _ as unreachable:
                assert_never(unreachable)
        opens_files, makes_code = self.rung.opens_files, self._makes_code
        self._filter(policy.loading(self._pid, opens_files=opens_files, makes_code=makes_code))

    def close_for_serving(self) -> None:
        """From here on nothing can be opened at all; may raise IsolationError."""
        if self.rung is not Rung.NONE:
            self._filter(policy.serving(self._pid, makes_code=self._makes_code))

    def _filter(self, rules: dict[str, bpf.Rule]) -> None:
        known = kernel.architecture()
        assert known is not None, "a rung with a filter needs one"
        kernel.filter_calls(
            bpf.program(known, rules), every_thread=self.rung is not Rung.ONE_THREAD
        )


def _wait_until_alone() -> None:
    """What restricts one thread must find no other: it would go on unrestricted."""
    until = time.monotonic() + THREADS_END_SECONDS
    while (count := sum(1 for _ in Path("/proc/self/task").iterdir())) > 1:
        if time.monotonic() > until:
            raise IsolationError(f"{count} threads run already, so not all can be restricted")
        time.sleep(0.0005)  # the kernel tells nobody that a thread ended
