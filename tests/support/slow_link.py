"""A link in virtual time: so many bytes a second, so far away, with stalls and breaks.

Two pipes share it as two connections do: the broker's, in which messages stand one behind the
other, and HTTP's. Both count every byte they carry, whether or not it was of use.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from muster_agent.fetch.actions import (
    Action,
    AskHub,
    GiveUp,
    HttpGet,
    HttpRange,
    Keep,
    Subscribe,
    Unsubscribe,
)
from muster_agent.fetch.silence import Heard
from muster_agent.fetch.window import Fetch

STEP_SECONDS = 0.1
CONFIRMATION_BYTES = 40
CONNECT_SECONDS = 4.0
HTTP_PATIENCE_SECONDS = 45.0


@dataclass
class Line:
    """What a link is like. Times are seconds since the beginning."""

    bytes_per_second: float
    delay_seconds: float = 0.4
    """One way."""
    moves: Callable[[float], bool] = lambda _now: True
    """Whether bytes pass at this moment."""
    breaks: Callable[[float], bool] = lambda _now: False
    """Whether connections end at this moment."""


@dataclass
class _Packet:
    digest: str
    size: int
    from_run: int = -1
    begins: float = 0.0


@dataclass
class World:
    """A fetch over a line, from a broker that holds ``retained`` and an HTTP source with all."""

    line: Line
    fetch: Fetch
    chunks: Mapping[str, bytes]
    retained: set[str]
    altered: bool = False
    """Whether every source sends something else of the same size."""
    now: float = 0.0
    kept: dict[str, bytes] = field(default_factory=dict)
    gave_up: GiveUp | None = None
    asked_hub: int = 0
    paid_bytes: int = 0
    connected: bool = True
    _down: deque[_Packet] = field(default_factory=deque)
    _http: deque[_Packet] = field(default_factory=deque)
    _part: dict[str, int] = field(default_factory=dict)
    """Bytes that the HTTP source has of a chunk that broke off."""
    _sent: float = 0.0
    _http_sent: float = 0.0
    _broker_bytes: int = 0
    _http_bytes: int = 0
    _http_moved: float = 0.0
    _back_at: float = 0.0
    _subscribed: set[str] = field(default_factory=set)

    def run(self, seconds: float) -> float:
        """Until all is there, a reason is given or the time is over; the seconds it took."""
        self.do(self.fetch.link_up(self.now))
        self.do(self.fetch.need(self.chunks, self.now, self.places))
        while self.now < seconds and not self.fetch.done and self.gave_up is None:
            self.now += STEP_SECONDS
            self._step()
            self._hear()
            if self.now >= self.fetch.deadline():
                self.do(self.fetch.tick(self.now))
        return self.now

    places: Mapping[str, object] = field(default_factory=dict)

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Subscribe(digests):
                    self._subscribed.update(digests)
                    if self.connected:
                        self._hand_out(digests)
                case Unsubscribe(digests):
                    self._subscribed.difference_update(digests)
                case AskHub(digests):
                    self._publish_anew(digests)
                case HttpGet(_, digest):
                    self._queue_http((digest,))
                case HttpRange(_, run):
                    self._queue_http(run.digests)
                case Keep(digest, data):
                    assert digest not in self.kept
                    self.kept[digest] = data
                case GiveUp():
                    self.gave_up = action

    def _publish_anew(self, digests: tuple[str, ...]) -> None:
        self.asked_hub += 1
        if self.altered:  # The hub's own are altered, too.
            self._hand_out(digests)

    def _hand_out(self, digests: tuple[str, ...]) -> None:
        begins = self.now + 2 * self.line.delay_seconds
        self._down.append(_Packet("", CONFIRMATION_BYTES, begins=begins))
        self._down[-1].digest = "confirm " + " ".join(digests)
        for digest in digests:
            if digest in self.retained:
                self._down.append(_Packet(digest, len(self.chunks[digest]), begins=begins))

    def _queue_http(self, digests: tuple[str, ...]) -> None:
        begins = self.now + 2 * self.line.delay_seconds
        self._http_moved = max(self._http_moved, self.now)
        for digest in digests:
            size = len(self.chunks[digest]) - self._part.pop(digest, 0)
            self._http.append(_Packet(digest, size, begins=begins))

    def _step(self) -> None:
        if self.connected and self.line.breaks(self.now):
            self.connected = False
            self._down.clear()
            self._sent = 0.0
            self._broker_bytes = 0
            self._back_at = self.now + CONNECT_SECONDS
            self.do(self.fetch.link_down(self.now))
        if not self.connected:
            moving = self.line.moves(self.now) and not self.line.breaks(self.now)
            self._back_at = self._back_at if moving else self.now + CONNECT_SECONDS
            if self.now >= self._back_at:
                self.connected = True
                self.do(self.fetch.link_up(self.now))
                self._hand_out(tuple(self._subscribed))
        if self._http and self.now - self._http_moved > HTTP_PATIENCE_SECONDS:
            self._http_breaks()
        if self.line.moves(self.now):
            self._carry(self.line.bytes_per_second * STEP_SECONDS)

    def _carry(self, room: float) -> None:
        pipes = [pipe for pipe in (self._down, self._http) if pipe and pipe[0].begins <= self.now]
        for pipe in pipes:
            share = room / len(pipes)
            while share > 0 and pipe and pipe[0].begins <= self.now:
                share = self._carry_in(pipe, share)

    def _carry_in(self, pipe: deque[_Packet], share: float) -> float:
        head, over_http = pipe[0], pipe is self._http
        sent = self._http_sent if over_http else self._sent
        more = min(share, head.size - sent)
        sent += more
        self.paid_bytes += round(more)
        if over_http:
            self._http_bytes += round(more)
            self._http_moved = self.now
            self._http_sent = sent
        else:
            self._broker_bytes += round(more)
            self._sent = sent
        if sent >= head.size - 1e-6:
            pipe.popleft()
            if over_http:
                self._http_sent = 0.0
            else:
                self._sent = 0.0
            self._come(head, over_http=over_http)
        return share - more

    def _come(self, packet: _Packet, *, over_http: bool) -> None:
        self._hear()
        if packet.digest.startswith("confirm"):
            self.fetch.subscribed(packet.digest.split()[1:], self.now)
        elif over_http:
            data = self._sent_for(packet.digest)
            self.do(self.fetch.answered(0, packet.digest, data, "", self.now))
        else:
            data = self._sent_for(packet.digest)
            self.do(self.fetch.arrived(packet.digest, data, self.now))

    def _sent_for(self, digest: str) -> bytes:
        return bytes(len(self.chunks[digest])) if self.altered else self.chunks[digest]

    def _http_breaks(self) -> None:
        broken, self._http = list(self._http), deque()
        self._part[broken[0].digest] = int(
            len(self.chunks[broken[0].digest]) - broken[0].size + self._http_sent
        )
        self._http_sent = 0.0
        for packet in broken:
            self.do(
                self.fetch.answered(0, packet.digest, None, "timed out", self.now, unreached=True)
            )

    def _hear(self) -> None:
        broker_bytes = self._broker_bytes if self.connected else 0
        self.fetch.heard(Heard(broker_bytes, self._http_bytes), self.now)


def stalls(share: float, seconds: float) -> Callable[[float], bool]:
    """Every ``seconds / share`` the link stands still for ``seconds``."""
    period = seconds / share
    return lambda now: (now % period) < period - seconds


def up_and_down(seconds: float) -> Callable[[float], bool]:
    """So long it is there, so long it isn't."""
    return lambda now: (now // seconds) % 2 == 0


def breaking(moves: Callable[[float], bool], patience: float) -> Callable[[float], bool]:
    """Connections end when nothing has moved for ``patience`` seconds."""

    def breaks(now: float) -> bool:
        return not any(moves(now - back) for back in _range(patience))

    return breaks


def _range(seconds: float) -> Iterator[float]:
    for number in range(int(seconds) + 1):
        yield float(number)
