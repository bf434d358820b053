"""A broker's end of publishing, in memory."""

from collections.abc import Hashable


class MemorySender:
    """Implements ``muster_hub.mqtt.sending.Sending``: takes at once what is sent, up to ``room``
    messages, and remembers it."""

    connected, connections = True, 1

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bool]] = []
        self.room = 1 << 30
        self._taken: list[Hashable] = []

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _, _ in self.sent]

    def start(self) -> None:
        """It is always there."""

    def stop(self) -> None:
        """Nothing to end."""

    def send(
        self,
        name: Hashable,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        expiry_seconds: int | None = None,
    ) -> bool:
        assert retain or expiry_seconds is None
        if len(self.sent) >= self.room:
            return False
        self.sent.append((topic, payload, retain))
        self._taken.append(name)
        return True

    def taken(self) -> list[Hashable]:
        taken, self._taken = self._taken, []
        return taken

    def drain(self, timeout_seconds: float) -> bool:
        return timeout_seconds > 0

    def retained(self, topic: str, timeout_seconds: float) -> bytes | None:
        assert timeout_seconds > 0
        kept = [payload for sent, payload, retain in self.sent if sent == topic and retain]
        return kept[-1] if kept else None
