"""The protocol's ``classification`` parameter: the best classes of an output, as text. Pure.

Source: Triton's description of its classification extension.
"""

from collections.abc import Sequence

import numpy as np

from muster_agent.runtimes.base import Array
from muster_agent.worker.oip_values import OipError
from muster_protocol.wire.tensors import Tensor


def check(tensor: Tensor, wanted: int) -> None:
    """Raise OipError for an output that has no classes to choose from."""
    if tensor.datatype in {"BYTES", "BOOL"} or tensor.batch not in {0, None}:
        raise OipError(f"output {tensor.name!r} holds no scores, so it can't be classified")
    if wanted < 1:
        raise OipError(f"output {tensor.name!r}: classification asks for {wanted} classes")


def best(scores: Array, wanted: int, tensor: Tensor, classes: Sequence[str]) -> Array:
    """The ``wanted`` highest scores of each batch element as ``score:index``, or with classes
    ``score:index:class``: BYTES of shape [batch, wanted], without a batch [wanted].
    """
    rows = scores.reshape(1 if tensor.batch is None else scores.shape[0], -1)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :wanted]
    made = np.empty(order.shape, np.object_)
    for row, indexes in enumerate(order):
        for place, index in enumerate(indexes):
            name = f":{classes[index]}" if index < len(classes) else ""
            made[row, place] = f"{float(rows[row, index]):f}:{index}{name}".encode()
    return made if tensor.batch is not None else made[0]
