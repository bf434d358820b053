"""Which parts of the hub work: every thread and loop says that it lives, or what holds it up.

A part that says nothing for longer than it may is as good as dead, whatever the reason.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from muster_protocol.wire import bounds

DETAIL_CHARS_MAX = 200
State = Literal["starting", "ok", "lagging", "retrying", "silent", "ended", "dead"]
WELL: frozenset[State] = frozenset({"starting", "ok"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How a part stands: since how many seconds, and why if it isn't well."""

    state: State
    detail: str
    seconds: float

    @property
    def ok(self) -> bool:
        """The part works, or is still starting."""
        return self.state in WELL


class Part:
    """One thread or loop of the hub. Its own thread writes, anyone reads."""

    def __init__(self, name: str, allowed_seconds: float, monotonic: Callable[[], float]) -> None:
        self.name = name
        self._allowed_seconds = allowed_seconds
        self._monotonic = monotonic
        self._heard = monotonic()
        self._standing: tuple[State, str, float] = ("starting", "", self._heard)

    def beat(self) -> None:
        """It lives, and its last turn went well."""
        self._set("ok", "")

    def retrying(self, error: BaseException | str) -> None:
        """Its turn failed; it will try again."""
        self._set("retrying", described(error))

    def lagging(self, why: str) -> None:
        """It works, but more comes than it can do."""
        self._set("lagging", why)

    def alive(self) -> None:
        """It lives; how it stands has not changed."""
        self._heard = self._monotonic()

    def watching(self, run: Callable[[], None]) -> Callable[[], None]:
        """``run`` as the target of the part's thread: however it ends is known."""

        def target() -> None:
            self.beat()
            try:
                run()
            except BaseException as error:
                _log.critical("%s died", self.name, exc_info=error)
                self._set("dead", described(error))
            else:
                self._set("ended", "its thread has ended")

        return target

    def standing(self) -> Standing:
        """How the part is now; silence for too long counts as dead."""
        state, detail, since = self._standing
        now = self._monotonic()
        unheard = now - self._heard
        if state not in ("ended", "dead") and unheard > self._allowed_seconds:
            return Standing("silent", f"nothing heard of it for {unheard:.0f} s", unheard)
        return Standing(state, detail, now - since)

    def _set(self, state: State, detail: str) -> None:
        self._heard = self._monotonic()
        before = self._standing
        since = before[2] if before[0] == state else self._heard
        self._standing = state, detail[:DETAIL_CHARS_MAX], since


class Heartbeats:
    """All parts of one hub, by name."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}

    def part(self, name: str, allowed_seconds: float) -> Part:
        """A part from now on watched; it may be silent for ``allowed_seconds``."""
        with self._lock:
            part = self._parts[name] = Part(name, allowed_seconds, self._monotonic)
        return part

    def forget(self, name: str) -> None:
        """The part has ended and is none of the hub's any more."""
        with self._lock:
            self._parts.pop(name, None)

    def standings(self) -> dict[str, Standing]:
        """How each part is now, by name."""
        with self._lock:
            parts = list(self._parts.items())
        return {name: part.standing() for name, part in parts}


def described(error: BaseException | str) -> str:
    """An error in one line, fit for a page that needs no token."""
    if isinstance(error, str):
        return bounds.clean(error, line=True)[:DETAIL_CHARS_MAX]
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return bounds.clean(text, line=True)[:DETAIL_CHARS_MAX]
