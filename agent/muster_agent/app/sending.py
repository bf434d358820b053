"""What the device says while its link is up: presence, reports, the outbox's batches, questions."""

from collections.abc import Callable, Mapping

import msgspec

from muster_agent.app.ports import SupervisorPorts, SupervisorSettings
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import Stamp, Stream

REPORT_SOON_SECONDS = 0.2
"""Changes within this time make one report."""
LIVELY_SECONDS = 5.0
"""Between two reports while somebody looks at them."""
SEND_AGAIN_SECONDS = 0.5
"""Pause after the link would not take a batch."""
_NEVER = float("inf")
_LEAVES: Mapping[Stream, topics.UpLeaf] = {
    "event": "event",
    "summary": "telemetry",
    "sample": "sample",
}


class Sending:
    """Times are monotonic seconds."""

    def __init__(
        self,
        settings: SupervisorSettings,
        ports: SupervisorPorts,
        *,
        report: Callable[[], messages.Report],
        stamp: Callable[[], Stamp],
        now: float,
    ) -> None:
        self.connected = False
        self._settings = settings
        self._ports = ports
        self._report_of = report
        self._stamp = stamp
        self._report_at = _NEVER
        self._lively_until = now
        self._send_at = now

    def link_up(self, now: float) -> None:
        """Announce the device as online; a report is due."""
        self.connected = True
        presence = messages.encode(messages.Presence(online=True))
        self._ports.link.publish(self._topic("presence"), presence, retain=True)
        self._ports.outbox.reconnected()
        self._send_at = now

    def link_down(self) -> None:
        """Send nothing until the link is back."""
        self.connected = False

    def deadline(self, now: float) -> float:
        """When there is something to send next."""
        if not self.connected:
            return _NEVER
        due = self._ports.outbox.due(now)
        return min(self._report_at, max(due, self._send_at) if due is not None else _NEVER)

    def tick(self, now: float) -> None:
        """Send what is due."""
        if not self.connected:
            return
        if now >= self._report_at:
            self.report(now)
        self.send(now)

    def send(self, now: float) -> None:
        """Hand the outbox's due batches to the link."""
        outbox = self._ports.outbox
        if now < self._send_at:
            return
        while self.connected and (due := outbox.next(now, self._stamp())) is not None:
            stream, batch = due
            topic = self._topic(_LEAVES[stream])
            if not self._ports.link.publish(topic, messages.encode(batch)):
                outbox.not_sent(stream, batch)
                self._send_at = now + SEND_AGAIN_SECONDS
                break

    def report(self, now: float) -> None:
        """Say how the device stands, and again after a while."""
        spread = self._ports.rng.uniform(0.8, 1.2)
        often = min(LIVELY_SECONDS, self._settings.report_seconds)
        lively = now < self._lively_until
        self._report_at = now + (often if lively else self._settings.report_seconds) * spread
        report = self._report_of()
        signed = msgspec.structs.replace(report, proof=self._ports.prove(report))
        self._ports.link.publish(self._topic("report"), messages.encode(signed))

    def report_often(self, until: float, now: float) -> None:
        """Somebody looks at what reports say, until then."""
        self._lively_until = until
        self.report_soon(now)

    def report_soon(self, now: float) -> None:
        """Something has changed."""
        soon = REPORT_SOON_SECONDS * self._ports.rng.uniform(0.5, 1.5)
        self._report_at = min(self._report_at, now + soon)

    def ask(self, request: messages.GrantRequest) -> bool:
        """Ask the hub to permit a swap; whether the question went out."""
        return self.connected and self._ports.link.publish(
            self._topic("grant"), messages.encode(request)
        )

    def _topic(self, leaf: topics.UpLeaf) -> str:
        return topics.up(self._settings.device, leaf)
