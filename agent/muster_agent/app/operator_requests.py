"""What an operator asks of a device from afar, beside what its slots are to hold."""

from collections.abc import Callable

from muster_agent.app.feed_watching import WATCH_SECONDS, FeedWatching
from muster_agent.app.ports import Diagnosed, SupervisorPorts
from muster_agent.app.restarting import Restarting
from muster_agent.app.sending import Sending
from muster_agent.trust.time import Instant
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.feed_report import FeedReport
from muster_protocol.wire.messages import Stamp


class OperatorRequests:
    """Times are monotonic seconds."""

    def __init__(
        self,
        ports: SupervisorPorts,
        sending: Sending,
        *,
        instant: Callable[[], Instant],
        stamp: Callable[[], Stamp],
        note: Callable[[str], None],
    ) -> None:
        self.restarting = Restarting(ports.state, instant, note)
        self._ports, self._sending, self._stamp = ports, sending, stamp
        self._watching = FeedWatching(ports.state, ports.feeds)

    def obey(self, directive: Directive, now: float) -> None:
        """Begin what a directive asks for and has not asked before."""
        self._ports.diagnosis.obey(directive.diagnoses)
        self.restarting.obey(directive.restart)
        self._ports.log.obey(directive.log_watch, now)
        if self._watching.obey(directive.feed_watches, now):
            self._sending.report_often(now + WATCH_SECONDS, now)

    def diagnosed(self, done: Diagnosed, directive: Directive | None) -> None:
        """A look has ended; the directive in force may ask for another by now."""
        with self._ports.state.transaction():
            for event in self._ports.diagnosis.events(done, self._stamp()):
                self._ports.outbox.put_event(event)
        if directive is not None:
            self._ports.diagnosis.obey(directive.diagnoses)

    def tick(self, now: float) -> None:
        """Send what is due of the log."""
        if lines := self._ports.log.events(now):
            with self._ports.state.transaction():
                for line in lines:
                    self._ports.outbox.put_event(line)

    def deadline(self, now: float) -> float:
        """When ``tick`` is due next."""
        return self._ports.log.deadline(now)

    def feeds(self, now: float) -> dict[str, FeedReport]:
        """How feeds stand, for the report; nothing while nobody looks."""
        return self._watching.seen(now)
