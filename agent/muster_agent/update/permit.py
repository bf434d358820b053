"""Swap permits: what must allow a swap on the device, and the hub's answer. Pure but for its ports.

In this order: the operator's hold, the machine's interlock, the directive's maintenance windows,
and last, where the directive says so, the hub's permit (``Grant`` on the wire). A permit answers
one nonce, counts from the moment it was asked for on the monotonic clock, and is forgotten by a
restart.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Literal, Protocol

from muster_agent.base.clock import Clock
from muster_protocol.wire import maintenance
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.messages import Grant, GrantRequest

NONCE_BYTES = 16
ASK_SECONDS = (15.0, 60.0)
"""First and longest pause before a request that nobody answered is made anew."""
RETRY_SECONDS_MIN = 1.0
RECONNECT_SECONDS = 2.0
"""A fleet that reconnects together asks within this time, not at once."""
LOOK_SECONDS = 2.0
"""How often a swap looks at what says nothing by itself: the machine, an operator's hold."""
LOOK_SECONDS_MAX = 10.0
"""... and at a maintenance window, or at what else is in the way while the hub's word is awaited:
that comes as a message, for which nobody need wake up every two seconds all night."""
HUBS_PERMIT = "the hub's permit to swap"


class SwapConditions(Protocol):
    """What on the device itself may forbid a swap; each says why, or nothing."""

    def hold(self, slot: str, /) -> str:
        """The operator's reason against a swap in this slot; empty: none."""
        ...

    def interlock(self, slot: str, /) -> str:
        """The machine's reason against a swap in this slot; empty: none."""
        ...


class NoConditions:
    """A device without any: nothing forbids."""

    def hold(self, _slot: str) -> str:
        return ""

    def interlock(self, _slot: str) -> str:
        return ""


@dataclass(frozen=True)
class Policy:
    """What the directive says of a slot's swaps."""

    swap: Literal["free", "grant"] = "free"
    windows: tuple[maintenance.MaintenanceWindow, ...] = ()


@dataclass
class _Asking:
    """One slot's dealings with the hub."""

    policy: Policy | None = None
    """None until a directive names the slot: then nothing may be swapped."""
    request: GrantRequest | None = None
    """The latest, while its answer is awaited."""
    asked_at: float = 0.0
    ask_at: float = 0.0
    unanswered: int = 0
    reason: str = ""
    look_seconds: float = LOOK_SECONDS
    manifest: str = ""
    """What the latest request was about."""
    until: float = field(default=float("-inf"))


class SwapPermits:
    """Of every slot. Times are monotonic seconds."""

    def __init__(
        self,
        *,
        clock: Clock,
        zone: tzinfo | None,
        inputs: SwapConditions,
        ask: Callable[[GrantRequest], bool],
        rng: random.Random,
        nonce: Callable[[], bytes],
    ) -> None:
        """``zone`` is the device's own, None for the system's; ``ask`` sends a request."""
        self._clock = clock
        self._zone = zone
        self._inputs = inputs
        self._ask = ask
        self._rng = rng
        self._nonce = nonce
        self._slots: dict[str, _Asking] = {}

    def rule(self, slot: str, policy: Policy) -> None:
        """The directive in force says this of the slot."""
        self._of(slot).policy = policy

    def in_the_way(self, slot: str) -> str:
        """What on the device forbids a swap now; empty: nothing does."""
        asking = self._of(slot)
        asking.look_seconds = LOOK_SECONDS
        if asking.policy is None:
            return "a directive that names the slot"
        if reason := self._inputs.hold(slot) or self._inputs.interlock(slot):
            return reason
        asking.look_seconds = LOOK_SECONDS_MAX
        windows = asking.policy.windows
        return self._window(windows) if windows else ""

    def waits_for(self, slot: str, goal: Goal, generation: int, now: float) -> str:
        """What a swap to ``goal`` waits for; empty: it may begin. Asks the hub when due."""
        asking = self._of(slot)
        reason = self.in_the_way(slot)
        if reason or asking.policy is None or asking.policy.swap == "free":
            return reason
        if asking.manifest == goal.manifest and now < asking.until:
            return ""
        if now >= asking.ask_at or asking.manifest != goal.manifest:
            self._request(asking, slot, goal, generation, now)
        asking.look_seconds = min(max(asking.ask_at - now, LOOK_SECONDS), LOOK_SECONDS_MAX)
        return asking.reason or HUBS_PERMIT

    def look_seconds(self, slot: str) -> float:
        """Until it is worth to ask again what the swap waits for."""
        return self._of(slot).look_seconds

    def answered(self, grant: Grant, now: float) -> None:
        """The hub's word; one for another request than the latest counts for nothing."""
        asking = self._of(grant.slot)
        request = asking.request
        if request is None or (grant.nonce, grant.slot) != (request.nonce, request.slot):
            return
        asking.request = None
        asking.unanswered = 0
        if grant.given:
            asking.until = asking.asked_at + grant.valid_seconds
            asking.reason = ""
            asking.ask_at = asking.until
        else:
            asking.reason = f"{HUBS_PERMIT}: {grant.reason}" if grant.reason else HUBS_PERMIT
            pause = max(grant.retry_seconds, RETRY_SECONDS_MIN)
            asking.ask_at = now + pause * self._rng.uniform(1.0, 1.25)

    def link_up(self, now: float) -> None:
        """Requests may have been lost with the old connection."""
        for asking in self._slots.values():
            soon = now + self._rng.uniform(0.0, RECONNECT_SECONDS)
            asking.ask_at = min(asking.ask_at, soon) if asking.until <= now else asking.ask_at
            asking.unanswered = 0

    def _of(self, slot: str) -> _Asking:
        return self._slots.setdefault(slot, _Asking())

    def _request(self, asking: _Asking, slot: str, goal: Goal, generation: int, now: float) -> None:
        request = GrantRequest(
            nonce=self._nonce(), slot=slot, manifest=goal.manifest, generation=generation
        )
        least, most = ASK_SECONDS
        pause = min(most, least * 2.0 ** min(asking.unanswered, 8))
        asking.ask_at = now + pause * self._rng.uniform(0.75, 1.25)
        asking.asked_at, asking.until = now, float("-inf")
        asking.manifest = goal.manifest
        asking.request = request if self._ask(request) else None
        asking.unanswered += 1

    def _window(self, windows: tuple[maintenance.MaintenanceWindow, ...]) -> str:
        if self._clock.quality() != "synchronised":
            return "a maintenance window, which needs a clock that is set"
        local = datetime.fromtimestamp(self._clock.wall(), UTC).astimezone(self._zone)
        return "" if maintenance.is_open(windows, local) else maintenance.describe(windows)
