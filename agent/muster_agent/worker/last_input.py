"""The request a worker is at, in a file that outlives it: what made a model crash can be looked at.

Only where the directive's sampling policy says so: it costs a copy per request. One page of head
(magic, state, size), then the tensors as MessagePack. The state is written last when a request
begins: what a worker left that died meanwhile is not taken for a whole one.
"""

import mmap
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from muster_agent.runtimes.base import NUMPY_TYPES, Array
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import MIB

BYTES_MAX = 16 * MIB
"""Of a request's tensors; a larger one is not kept, and its size is."""
_MAGIC = b"MUSTLAST"
_HEAD = struct.Struct("<8sII")  # magic, state, bytes
_STATE_AT = 8
_DATA_AT = 4096
_IDLE, _RUNNING, _TOO_LARGE = range(3)
_KINDS = {dtype.str: dtype for dtype in NUMPY_TYPES.values() if dtype.kind != "O"}
"""Of the tensors that can be read again; who wrote the file may be a hostile model."""
Inputs = dict[str, Array]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]


class LastInputError(MusterError):
    """The file isn't one, can't be made, or holds no request."""


class LastInput:
    """A writer's hold on the file."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or LastInputError."""
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        if self._map[: len(_MAGIC)] != _MAGIC:
            raise LastInputError(f"{path}: not a file for a last input")

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty one, sparse, for the agent's user only. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _DATA_AT + BYTES_MAX)
            os.pwrite(descriptor, _HEAD.pack(_MAGIC, _IDLE, 0), 0)
        finally:
            os.close(descriptor)

    def begin(self, inputs: Mapping[str, Array]) -> None:
        """Note a request's inputs before the model sees them."""
        data = msgspec.msgpack.encode(
            [
                (name, array.dtype.str, array.shape, array.tobytes())
                for name, array in inputs.items()
            ]
        )
        state = _RUNNING
        if len(data) <= BYTES_MAX:
            self._map[_DATA_AT : _DATA_AT + len(data)] = data
        else:
            state = _TOO_LARGE
        self._map[_STATE_AT : _HEAD.size] = struct.pack("<II", state, min(len(data), 2**32 - 1))

    def end(self) -> None:
        """The model survived them: there is nothing to keep."""
        self._map[_STATE_AT : _STATE_AT + 4] = bytes(4)

    def around(self, run: Run) -> Run:
        """``run``, with its inputs in the file while it runs."""

        def kept(inputs: Mapping[str, Array]) -> dict[str, Array]:
            self.begin(inputs)
            try:
                return run(inputs)
            finally:
                self.end()

        return kept

    def close(self) -> None:
        """Let the file go; it stays on the disk."""
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Inputs | None:
    """The tensors of the request that was never finished; None when there was none.

    Raises OSError, or LastInputError when it was too large to be kept or the file is damaged.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) != _HEAD.size or head[: len(_MAGIC)] != _MAGIC:
            raise LastInputError(f"{path}: not a file for a last input")
        _, state, size = _HEAD.unpack(head)
        if state == _IDLE:
            return None
        if state != _RUNNING or size > BYTES_MAX:
            raise LastInputError(f"an input of {size} bytes, the limit is {BYTES_MAX}")
        file.seek(_DATA_AT)
        data = file.read(size)
    try:
        found = msgspec.msgpack.decode(data, type=list[tuple[str, str, tuple[int, ...], bytes]])
        return {
            name: np.frombuffer(raw, _KINDS[kind]).reshape(shape)
            for name, kind, shape, raw in found
        }
    except KeyError as error:
        raise LastInputError(f"{path}: a tensor of type {error}") from None
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError) as error:
        raise LastInputError(f"{path}: {error}") from None
