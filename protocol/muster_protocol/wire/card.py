"""What people say of a model beside what is measured: a file of the bundle, signed with it."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Line, Text
from muster_protocol.wire.errors import ProtocolError

FILE = "card.json"


class CardText(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The parts of a model card that no program knows. Empty: nobody has said it."""

    intended_use: Annotated[Text, Meta(description="What it is for, and for whom.")] = ""
    out_of_scope: Annotated[Text, Meta(description="What it must not be used for.")] = ""
    limitations: Annotated[Text, Meta(description="Where it is known to be wrong.")] = ""
    risks: Annotated[Text, Meta(description="Whom an error could harm, and how.")] = ""
    training_data: Annotated[
        Text, Meta(description="What it was trained on, and how gathered.")
    ] = ""
    oversight: Annotated[Text, Meta(description="Who watches it, and can overrule it how.")] = ""
    licence: Annotated[Line, Meta(description="Of the model, as SPDX writes it.")] = ""
    contact: Annotated[Line, Meta(description="Who answers for it.")] = ""


def encode(card: CardText) -> bytes:
    """A card as the bundle's file."""
    return msgspec.json.encode(card, order="deterministic")


def decode(data: bytes) -> CardText:
    """A card from the bundle's file; raises ProtocolError."""
    if len(data) > limits.CARD_BYTES_MAX:
        raise ProtocolError(f"{FILE} is {len(data)} bytes, the limit is {limits.CARD_BYTES_MAX}")
    try:
        return msgspec.json.decode(data, type=CardText)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"{FILE}: {error}") from None


def group_metric(metric: str, column: str, value: str) -> str:
    """The name under which a lineage holds a metric of the rows where ``column`` is ``value``."""
    return f"{metric}{{{column}={value}}}"


def metrics_by_group(metrics: dict[str, float], metric: str, column: str) -> dict[str, float]:
    """A metric by the values of a column, from a lineage's metrics."""
    begin = f"{metric}{{{column}="
    return {
        name[len(begin) : -1]: value
        for name, value in metrics.items()
        if name.startswith(begin) and name.endswith("}")
    }
