"""The few MQTT 5 packets that a device and its broker exchange. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
PING = b"\xc0\x00"


@dataclass(frozen=True)
class Packet:
    """``kind`` is the packet's type; ``topic`` and ``payload`` only of a PUBLISH."""

    kind: int
    mid: int = 0
    reason: int = 0
    topic: str = ""
    payload: bytes = b""


def connect(client: str, will_topic: str, will: bytes, keepalive_seconds: int) -> bytes:
    """A clean start with a retained will at QoS 1; the certificate says who it is."""
    will_retained_qos_1_clean = 0x20 | 0x08 | 0x04 | 0x02
    body = _text("MQTT") + bytes((5, will_retained_qos_1_clean))
    body += keepalive_seconds.to_bytes(2, "big") + b"\x00" + _text(client)
    return _packet(0x10, body + b"\x00" + _text(will_topic) + _data(will))


def subscribe(mid: int, topics: list[str]) -> bytes:
    """At QoS 1."""
    filters = b"".join(_text(topic) + b"\x01" for topic in topics)
    return _packet(0x82, mid.to_bytes(2, "big") + b"\x00" + filters)


def publish(mid: int, topic: str, payload: bytes, *, retain: bool = False) -> bytes:
    """At QoS 1."""
    body = _text(topic) + mid.to_bytes(2, "big") + b"\x00" + payload
    return _packet(0x32 | int(retain), body)


def puback(mid: int) -> bytes:
    """The answer to a PUBLISH at QoS 1."""
    return b"\x40\x02" + mid.to_bytes(2, "big")


def read(buffer: bytearray) -> Iterator[Packet]:
    """Whole packets at the buffer's beginning, which are taken out of it."""
    while True:
        size, at, shift = 0, 1, 0
        while True:
            if at >= len(buffer):
                return
            byte = buffer[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                break
        if len(buffer) < at + size:
            return
        first, body = buffer[0], bytes(buffer[at : at + size])
        del buffer[: at + size]
        yield _parse(first, body)


def _parse(first: int, body: bytes) -> Packet:
    kind = first >> 4
    if kind == CONNACK:
        return Packet(kind, reason=body[1])
    if kind in (PUBACK, SUBACK):
        return Packet(kind, int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0)
    if kind != PUBLISH:
        return Packet(kind, reason=body[0] if body else 0)
    end = 2 + int.from_bytes(body[:2], "big")
    topic, mid = body[2:end].decode(), 0
    if first & 0x06:
        mid, end = int.from_bytes(body[end : end + 2], "big"), end + 2
    properties, end = _varint(body, end)
    return Packet(kind, mid, topic=topic, payload=body[end + properties :])


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _text(text: str) -> bytes:
    return _data(text.encode())


def _data(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _packet(first: int, body: bytes) -> bytes:
    size, head = len(body), bytearray((first,))
    while True:
        size, byte = size >> 7, size & 0x7F
        head.append(byte | (0x80 if size else 0))
        if not size:
            return bytes(head) + body
