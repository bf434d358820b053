"""What answers when no model can, and what computes one, as a person writes it. Pure."""

from collections.abc import Sequence
from math import prod

import msgspec
from msgspec import UNSET, UnsetType

from muster_client.failures import WrongUsage
from muster_protocol.wire.manifest import Fallback, Provider
from muster_protocol.wire.tensors import Tensor

FORMS = "no-decision, last-good=SECONDS, or constant=NUMBER,NUMBER,…"


def fallbacks(texts: Sequence[str], outputs: Sequence[Tensor]) -> tuple[Fallback, ...]:
    """Fallbacks in the order given: the first answers unless a directive names another.

    A constant's numbers are those of the first output; all others answer zeros.
    """
    return tuple(_fallback(text, outputs) for text in texts)


def _fallback(text: str, outputs: Sequence[Tensor]) -> Fallback:
    word, _, value = text.partition("=")
    try:
        match word:
            case "no-decision" if not value:
                return Fallback(word, "no_decision")
            case "last-good":
                return Fallback(word, "last_good", ttl_seconds=float(value))
            case "constant":
                numbers = [float(number) for number in value.split(",")]
                return Fallback(word, "constant", _constant(numbers, outputs))
            case _:
                raise WrongUsage(f"fallback {text!r}: write {FORMS}")
    except ValueError:
        raise WrongUsage(f"fallback {text!r}: write {FORMS}") from None


def _constant(numbers: list[float], outputs: Sequence[Tensor]) -> dict[str, list[float]]:
    others = {
        tensor.name: [0.0] * prod(1 if size == -1 else size for size in tensor.element_shape)
        for tensor in outputs[1:]
    }
    return {outputs[0].name: numbers} | others


def providers(texts: Sequence[str]) -> tuple[Provider, ...] | UnsetType:
    """Providers in the order given, each ``NAME`` or ``NAME:OPTION=VALUE,…``."""
    return tuple(map(_provider, texts)) or UNSET


def _provider(text: str) -> Provider:
    name, _, said = text.partition(":")
    pairs = [pair.partition("=") for pair in said.split(",") if pair]
    if not all(option and equals for option, equals, _ in pairs):
        raise WrongUsage(f"provider {text!r}: write NAME or NAME:OPTION=VALUE,…")
    options = {option: value for option, _, value in pairs}
    try:
        return msgspec.convert({"name": name, "options": options}, Provider)
    except msgspec.ValidationError as error:
        raise WrongUsage(f"provider {text!r}: {str(error).replace('$.', '')}") from None
