"""What the server knows about one client connection."""

import socket

from muster_agent.worker.http1 import Parser, Request
from muster_agent.worker.slot_socket import HANDOVER_BYTES

LINGER_SECONDS = 2.0


class Connection:
    """State only; the server decides and does."""

    __slots__ = (
        "busy",
        "client",
        "close_after_answer",
        "closed",
        "descriptor",
        "ended",
        "finishing",
        "interest",
        "interest_changed",
        "lingering",
        "out",
        "parser",
        "request",
        "since",
    )

    def __init__(
        self, client: socket.socket, pending: bytes, now: float, body_bytes_max: int
    ) -> None:
        self.client = client
        self.descriptor = client.fileno()
        self.parser = Parser(pending, body_bytes_max=body_bytes_max)
        self.out = bytearray()
        self.request: Request | None = None
        self.busy = False
        """A whole request waits or is being answered."""
        self.ended = False
        """The client has sent its last byte."""
        self.finishing = False
        """Closed as soon as ``out`` is written."""
        self.lingering = False
        """Said goodbye; what still comes is thrown away until the client closes."""
        self.close_after_answer = False
        self.closed = False
        self.interest = 0
        self.interest_changed = False
        self.since = now
        """When it became idle, when its pending request began, or when it last took a byte."""

    @property
    def held_bytes(self) -> int:
        """Memory that its requests and answers take."""
        body = len(self.request.body) if self.request is not None else 0
        return self.parser.pending_bytes + body + len(self.out)

    def waits(self, now: float) -> float:
        """Seconds for which its client has been waited for: to ask, to finish, to read. Or 0."""
        return 0.0 if self.busy and not self.out else now - self.since

    @property
    def idle(self) -> bool:
        """Nothing was asked that has not been answered whole."""
        return not (self.busy or self.out or self.parser.pending_bytes)

    @property
    def unfinished(self) -> bool:
        """A request has begun and the rest is still to come."""
        awaited = not (self.busy or self.closed or self.ended or self.finishing)
        return awaited and bool(self.parser.pending_bytes)

    @property
    def may_move(self) -> bool:
        """Whether another process can go on with it, knowing only its unanswered bytes."""
        return not (
            self.busy
            or self.out
            or self.ended
            or self.finishing
            or self.parser.continued
            or self.parser.pending_bytes > HANDOVER_BYTES
        )

    def received(self, data: bytes, now: float) -> None:
        """Give bytes from the client to the parser."""
        if not self.parser.pending_bytes and not self.busy:
            self.since = now
        self.parser.feed(data)

    def wrote(self, now: float) -> None:
        """Some of the answer went out: the client is not stuck."""
        self.since = now

    def settle(self, now: float) -> None:
        """Nothing whole is left to answer."""
        if self.idle:
            self.since = now

    def overdue(self, now: float, seconds: float) -> bool:
        """A request begun but not whole, or an answer not taken, for longer than allowed."""
        if self.lingering:
            return now - self.since > LINGER_SECONDS
        waiting = bool(self.out) or (bool(self.parser.pending_bytes) and not self.busy)
        return waiting and now - self.since > seconds
