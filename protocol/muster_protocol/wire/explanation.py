"""How much a model's answers hang on each of its inputs: a file of the bundle, signed with it.

Pure. How the figures are computed is told where they are (``muster_client.packing.explaining``).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Amount, Finite, Format, Integer, Line
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.tensors import Label

FILE = "explanation.json"
FORMAT = 1

Measure = Literal["accuracy", "mean_absolute_error", "output_change"]
"""What grows worse when an input's values are shuffled among the rows. ``output_change``, where no
row has a label: by how much the answer moves, which doesn't tell better from worse."""


class CurvePoint(Struct, frozen=True, forbid_unknown_fields=True):
    """The mean answer when an input is ``at`` a value in every row, and most rows' answers."""

    at: Finite
    mean: Finite
    low: Finite
    """The 10 % quantile of the rows' answers."""
    high: Finite
    """The 90 % quantile."""


class ExplainedFeature(Struct, frozen=True, forbid_unknown_fields=True):
    """A number of the model's input."""

    name: Label
    importance: Finite
    """Mean over the repeats, in the measure's unit; the larger, the more hangs on it."""
    spread: Amount
    """Standard deviation over the repeats."""
    curve: Annotated[
        tuple[CurvePoint, ...], Meta(max_length=limits.EXPLAINED_CURVE_POINTS_MAX)
    ] = ()
    """By ``at``, rising; empty where all rows have the same value."""


class Explanation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The report of one version."""

    format: Format = FORMAT
    measure: Measure
    reference: Finite | None
    """The measure of the rows as they are; None for ``output_change``."""
    output: Label
    """The output whose answer the curves show, its first number or the score of ``of``."""
    of: Line = ""
    """The class; empty for what is no classifier."""
    rows: Integer
    repeats: Annotated[int, Meta(ge=2, le=100)]
    seed: Integer
    features: Annotated[
        tuple[ExplainedFeature, ...],
        Meta(min_length=1, max_length=limits.EXPLAINED_FEATURES_MAX),
    ]
    """The most important first."""


def encode(found: Explanation) -> bytes:
    """As the bundle's file; raises ProtocolError for what ``decode`` would refuse."""
    data = msgspec.json.encode(found, order="deterministic")
    decode(data)
    return data


def decode(data: bytes) -> Explanation:
    """From the bundle's file; raises ProtocolError."""
    most = limits.EXPLANATION_BYTES_MAX
    if len(data) > most:
        raise LimitError(f"{FILE} is {len(data)} bytes, the limit is {most}")
    try:
        found = msgspec.json.decode(data, type=Explanation)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{FILE}: {error}") from None
    if found.format != FORMAT:
        raise ProtocolError(f"{FILE}: format {found.format} is not known here (know {FORMAT})")
    return found
