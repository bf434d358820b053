"""What one row of the recorder's ring holds, and how its bytes become tensors again. Pure."""

from enum import IntEnum
from hashlib import blake2b
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_agent.runtimes.base import NUMPY_TYPES
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.tensors import Tensor
from muster_protocol.wire.usable import is_recorded

ID_BYTES_MAX = 48
LABEL_BYTES_MAX = 64
ROWS_MIN = 64
ROWS_MAX = 1 << 20

Rows = NDArray[np.void]
"""A structured array of ``RowLayout.dtype``."""


class RowKind(IntEnum):
    """What a row of the ring holds."""

    INFERENCE = 0
    """One inference: inputs, outputs, time, quality."""
    LABEL = 1
    """The label of an earlier inference."""


class ErrorKind(IntEnum):
    """What went wrong with one inference, as counted at home."""

    NONE = 0
    """None: the inference was answered."""
    INVALID_INPUT = 1
    """The client's input does not fit the model."""
    RUN_FAILED = 2
    """The runtime failed."""
    BAD_OUTPUT = 3
    """The model gave something that its manifest does not declare."""
    NO_MODEL = 4
    """No model could answer."""


class Quality(IntEnum):
    """Where an answer came from."""

    GOOD = 0
    """The model's own answer."""
    CONSTANT = 1
    """The manifest's constant, as no model could answer."""
    LAST_GOOD = 2
    """The last good answer again, as no model could answer."""
    NO_DECISION = 3
    """No answer on purpose, as no model could give one."""
    UNANSWERED = 4
    """The client got an error."""


HEAD = np.dtype(
    [
        ("monotonic_ns", "<u8"),
        ("latency_us", "<u4"),
        ("kind", "u1"),
        ("error", "u1"),
        ("quality", "u1"),
        ("reserved", "u1"),
        ("id", f"S{ID_BYTES_MAX}"),
    ]
)
HEAD_FORMAT = f"<QIBBBx{ID_BYTES_MAX}s"
"""``HEAD`` for ``struct``, which packs one row faster than NumPy does."""


class RingLayout(msgspec.Struct, frozen=True, kw_only=True):
    """Which tensors a row holds: everything a reader needs besides the manifest itself."""

    manifest: str
    """SHA-256 of the manifest that the rows belong to."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def of(cls, manifest: Manifest, manifest_sha256: str) -> "RingLayout":
        """The layout for a manifest: all tensors whose size per batch element is fixed."""
        return cls(
            manifest=manifest_sha256,
            inputs=tuple(filter(is_recorded, manifest.inputs)),
            outputs=tuple(filter(is_recorded, manifest.outputs)),
        )

    @classmethod
    def pairs(
        cls, champion: "RingLayout", challenger: Manifest, manifest_sha256: str
    ) -> "RingLayout":
        """Of a challenger's ring: its inputs are what the champion answered to the same input."""
        return cls(
            manifest=manifest_sha256,
            inputs=champion.outputs,
            outputs=tuple(filter(is_recorded, challenger.outputs)),
        )

    @property
    def input_bytes(self) -> int:
        """Bytes of one row's inputs."""
        return sum(element_bytes(tensor) for tensor in self.inputs)

    @property
    def output_bytes(self) -> int:
        """Bytes of one row's outputs."""
        return sum(element_bytes(tensor) for tensor in self.outputs)

    @property
    def row_bytes(self) -> int:
        """Rows are multiples of eight bytes and long enough for a label."""
        payload = max(self.input_bytes + self.output_bytes, LABEL_BYTES_MAX)
        return HEAD.itemsize + -(-payload // 8) * 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """``HEAD`` plus ``input`` and ``output`` as bytes."""
        fields: dict[str, tuple[Any, int]] = {
            name: (described[0], described[1]) for name, described in (HEAD.fields or {}).items()
        }
        fields["input"] = (f"V{self.input_bytes}", HEAD.itemsize)
        fields["output"] = (f"V{self.output_bytes}", HEAD.itemsize + self.input_bytes)
        return _dtype(fields, self.row_bytes)

    @property
    def head_dtype(self) -> np.dtype[Any]:
        """``HEAD`` alone, in rows of the same length."""
        described = (HEAD.fields or {}).items()
        return _dtype({name: (kind[0], kind[1]) for name, kind in described}, self.row_bytes)

    def capacity_for(self, bytes_max: int) -> int:
        """Rows that fit a file of about ``bytes_max``, within the ring's bounds."""
        return min(max(bytes_max // self.row_bytes, ROWS_MIN), ROWS_MAX)

    def input_arrays(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Each recorded input as an array [rows, *element shape]: views, not copies."""
        return self._arrays(rows, self.inputs, HEAD.itemsize)

    def output_arrays(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Each recorded output as an array [rows, *element shape]: views, not copies."""
        return self._arrays(rows, self.outputs, HEAD.itemsize + self.input_bytes)

    def labels(self, rows: Rows) -> list[tuple[bytes, str]]:
        """(inference id, label) of the rows that are labels."""
        view = _viewed(rows, {"label": (f"S{LABEL_BYTES_MAX}", HEAD.itemsize)}, self.row_bytes)
        chosen = np.flatnonzero(rows["kind"] == RowKind.LABEL)
        return [
            (bytes(rows["id"][index]), bytes(view["label"][index]).decode("utf-8", "replace"))
            for index in chosen
        ]

    def _arrays(
        self, rows: Rows, tensors: tuple[Tensor, ...], offset: int
    ) -> dict[str, NDArray[Any]]:
        fields: dict[str, tuple[Any, int]] = {}
        for tensor in tensors:
            dtype = NUMPY_TYPES[tensor.datatype].newbyteorder("<")
            fields[tensor.name] = ((dtype, tensor.element_shape), offset)
            offset += element_bytes(tensor)
        view = _viewed(rows, fields, self.row_bytes)
        return {name: view[name] for name in fields}


def element_bytes(tensor: Tensor) -> int:
    """Bytes of one batch element of a recorded tensor; of one without a batch axis, of the whole.

    Such a tensor stands in the row of each batch element.
    """
    return prod(tensor.element_shape) * NUMPY_TYPES[tensor.datatype].itemsize


def row_id(identifier: str, row: int = 0, of: int = 1) -> bytes:
    """The id under which one batch element is recorded, and its label must come.

    A batch of several gets ``#row`` appended. An id that does not fit, or would not survive as
    zero-padded bytes, is replaced by its digest, the same one for the row and for its label.
    """
    data = identifier.encode() if of == 1 else f"{identifier}#{row}".encode()
    if len(data) > ID_BYTES_MAX or b"\0" in data:
        return b"~" + blake2b(data, digest_size=20).hexdigest().encode()
    return data


def _viewed(rows: Rows, fields: dict[str, tuple[Any, int]], row_bytes: int) -> Rows:
    return np.ascontiguousarray(rows).view(_dtype(fields, row_bytes))


def _dtype(fields: dict[str, tuple[Any, int]], itemsize: int) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": itemsize,
        }
    )
