"""Asking a slot: the Open Inference Protocol over its Unix socket, as any other client does."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from muster_agent.feeds.assembly import Values
from muster_agent.feeds.sources.base import FeedFault
from muster_agent.worker.oip import encode_request
from muster_protocol.wire.tensors import Tensor

HEAD_BYTES_MAX = 16_384
BODY_BYTES_MAX = 16 << 20


class _Output(msgspec.Struct):
    name: str
    shape: tuple[int, ...]
    data: list[Any]


class _Reply(msgspec.Struct):
    outputs: list[_Output] = []
    parameters: dict[str, Any] = {}
    model_version: str = ""


@dataclass(frozen=True)
class SlotAnswer:
    """What a slot said. ``quality`` is ``good`` or the kind of fallback that answered."""

    outputs: dict[str, tuple[tuple[int, ...], list[float]]]
    """Shape and numbers, flat, by name; outputs of text are left out."""
    quality: str


class SlotClient:
    """A kept connection to a slot; opened again when it is lost."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, model: str, version: str, tensor: Tensor, row: Values, *, identifier: str = ""
    ) -> SlotAnswer:
        """The slot's answer to one element; raises FeedFault when there is none.

        ``identifier`` is what its label may come under.
        """
        body, more = _request(tensor, row, identifier)
        path = f"/v2/models/{model}/versions/{version}/infer"
        head = f"POST {path} HTTP/1.1\r\nHost: slot\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        kept = self._stream is not None
        try:
            status, said = await self._exchange(head.encode() + body)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            if not kept:
                raise FeedFault(
                    f"the slot's socket {self._socket} does not answer: {error}"
                ) from None
            try:  # A worker that is replaced closes the connections of the old one.
                status, said = await self._exchange(head.encode() + body)
            except (OSError, EOFError, ValueError) as again:
                self.close()
                raise FeedFault(
                    f"the slot's socket {self._socket} does not answer: {again}"
                ) from None
        except asyncio.CancelledError:
            self.close()  # Its answer may still come, and would be taken for the next.
            raise
        if status != 200:
            raise FeedFault(f"the slot answers {status}: {said[:200].decode('utf-8', 'replace')}")
        return _read(said)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._stream is None:
            self._stream = await asyncio.open_unix_connection(self._socket, limit=HEAD_BYTES_MAX)
        reader, writer = self._stream
        writer.write(request)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            raise ValueError(f"an answer of {length} bytes")
        body = await reader.readexactly(length)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(lines[0].split(" ")[1]), body

    def close(self) -> None:
        """Disconnect."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream[1].close()
            self._stream = None


def _request(tensor: Tensor, row: Values, identifier: str) -> tuple[bytes, str]:
    """Body and further headers: numbers as JSON, arrays as binary data."""
    shape = [1 if axis == tensor.batch else size for axis, size in enumerate(tensor.shape)]
    if isinstance(row, np.ndarray):
        inputs = {tensor.name: row.reshape(shape)}
        body, head_bytes = encode_request(inputs, identifier=identifier, binary=True)
        return body, f"Inference-Header-Content-Length: {head_bytes}\r\n"
    entry = {
        "name": tensor.name,
        "shape": shape,
        "datatype": tensor.datatype,
        "data": row,  # NaN is null
    }
    named = {"id": identifier} if identifier else {}
    return msgspec.json.encode({**named, "inputs": [entry]}), ""


def _read(body: bytes) -> SlotAnswer:
    try:
        reply = msgspec.json.decode(body, type=_Reply)
        outputs = {
            output.name: (
                output.shape,
                [float("nan") if value is None else float(value) for value in output.data],
            )
            for output in reply.outputs
            if not any(isinstance(value, str) for value in output.data)
        }
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise FeedFault(f"the slot's answer can't be read: {error}") from None
    return SlotAnswer(outputs, str(reply.parameters.get("quality", "good")))
