"""An ideal hub for outbox tests: commits each row once, acknowledges what is contiguous."""

from muster_protocol import PROTOCOL_VERSION
from muster_protocol.wire.messages import Ack, Batch, Stream


class IdealHub:
    """Keeps (stream, epoch, sequence) unique, as the database's constraint does."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes, int], bytes] = {}
        self.contiguous: dict[tuple[str, bytes], int] = {}

    def receive(self, stream: Stream, batch: Batch) -> Ack:
        for row in batch.rows:
            key = (stream, batch.epoch, row.sequence)
            assert self.rows.setdefault(key, row.payload) == row.payload, "a row in flight changed"
        name = (stream, batch.epoch)
        reached = self.contiguous.get(name, 0)
        while (stream, batch.epoch, reached + 1) in self.rows:
            reached += 1
        self.contiguous[name] = reached
        return Ack(PROTOCOL_VERSION, stream, batch.epoch, reached)

    def payloads(self, stream: Stream) -> list[bytes]:
        return [payload for (name, _, _), payload in sorted(self.rows.items()) if name == stream]
