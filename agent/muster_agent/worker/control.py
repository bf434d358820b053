"""The channel between supervisor and worker: JSON lines over a socket pair, both ways."""

import msgspec
from msgspec import Struct

from muster_agent.isolation.cage import Policy, Rung
from muster_agent.worker.events import Counters, Facts
from muster_protocol.wire.errors import ProtocolError, Refusal

LINE_BYTES_MAX = 64 * 1024


class Shadow(Struct, frozen=True):
    """What makes a worker a challenger: it answers nobody and replays the champion's ring."""

    ring: str
    """Of the champion's worker."""
    cpu_share: float
    """Most processor time it may take, of one core."""


class Start(Struct, frozen=True, kw_only=True, tag="start"):
    """The first line a worker gets; descriptors are inherited under these numbers."""

    supervisor: int
    """Process id of the supervisor, for the worker to see that it still lives."""
    supervisor_tasks: int = 0
    bundle: str
    manifest_sha256: str
    runtime: str | None
    """None: load no model, answer with the fallback."""
    ring: str | None = None
    previous_ring: str | None = None
    last_input: str | None = None
    """File in which to note each request while the model runs on it."""
    fallback: str | None = None
    listeners: tuple[int, ...] = ()
    handover_out: int | None = None
    handover_in: int | None = None
    request_seconds: float = 30.0
    threads: int = 1
    shadow: Shadow | None = None
    isolation: Policy = "auto"
    """``required``: refuse to run a model where the kernel can't isolate it."""
    rung: Rung = Rung.FULL
    """The best rung to take of those that the kernel offers."""
    strict: bool = False
    """A version is checked before its release: ask of it all that clients may."""

    def descriptors(self) -> tuple[int, ...]:
        """Every descriptor that the worker inherits besides its control channel."""
        ends = (self.handover_out, self.handover_in)
        return (*self.listeners, *(end for end in ends if end is not None))


class Accept(Struct, frozen=True, tag="accept"):
    """Accept requests on the slot's socket."""


class Pause(Struct, frozen=True, tag="pause"):
    """Accept no further connections, and stay loaded."""


class Stop(Struct, frozen=True, tag="stop"):
    """Finish the requests under way, then end."""

    grace_seconds: float


Command = Start | Accept | Pause | Stop


class IsReady(Struct, frozen=True, tag="ready"):
    """The model is loaded, proved and warm."""

    facts: Facts


class Refused(Struct, frozen=True, tag="refused"):
    """The model can't be served, and why."""

    refusal: Refusal
    detail: str


class Beat(Struct, frozen=True, tag="beat"):
    """The worker lives; how much it has done."""

    counters: Counters


class IsDrained(Struct, frozen=True, tag="drained"):
    """A paused worker has no request left."""


Reply = IsReady | Refused | Beat | IsDrained


def encode(message: Command | Reply) -> bytes:
    """One line of JSON."""
    return msgspec.json.encode(message) + b"\n"


class LineReader:
    """Bytes of a channel in, messages out; pure."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Whole lines so far; raises ProtocolError when one grows too long."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > LINE_BYTES_MAX:
            raise ProtocolError(f"a line of more than {LINE_BYTES_MAX} bytes on the channel")
        return lines


_commands = msgspec.json.Decoder(Command)
_replies = msgspec.json.Decoder(Reply)


def decode_command(line: bytes) -> Command:
    """A line from the supervisor; raises msgspec.DecodeError."""
    command: Command = _commands.decode(line)
    return command


def decode_reply(line: bytes) -> Reply:
    """Raises ProtocolError: what a worker says is not trusted to be well-formed."""
    try:
        reply: Reply = _replies.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the worker said something unknown: {error}") from None
    return reply
