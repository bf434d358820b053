"""What a model remembers from one request to the next. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType

from muster_client.failures import WrongUsage
from muster_client.packing.advice import Notes
from muster_client.packing.findings import Described
from muster_client.packing.options import Options
from muster_protocol.wire.tensors import ModelState

ENDINGS = ("n", "_n", "_out", "_output", "_next", "out", "next")
"""What an output's name has after the input's that it continues."""
STARTS = ("new_", "next_", "output_", "out_")


def carried(
    inputs: Sequence[Described],
    outputs: Sequence[Described],
    asked: Mapping[str, str],
    notes: Notes,
) -> dict[str, str]:
    """Inputs that take what an output gave: those asked for, and those that are called so."""
    if asked:
        names = {each.name for each in inputs}, {each.name for each in outputs}
        for taken, given in asked.items():
            if taken not in names[0] or given not in names[1]:
                raise WrongUsage(f"--state {taken}={given}: the model has no such pair")
        return dict(asked)
    named = {each.name.lower(): each for each in outputs}
    found = {}
    for each in inputs:
        for name in _continued(each.name.lower()):
            other = named.get(name)
            if other is not None and (other.kind, len(other.shape)) == (each.kind, len(each.shape)):
                found[each.name] = other.name
                break
    if len(found) == len(inputs):
        return {}  # nothing would be left to ask it
    if found:
        pairs = ", ".join(f"{taken!r} takes {given!r}" for taken, given in found.items())
        notes.add(
            "state",
            f"The model has a state that the caller carries: {pairs}. A first request sends zeros.",
        )
    return found


def _continued(name: str) -> list[str]:
    return [*(f"{name}{ending}" for ending in ENDINGS), *(f"{start}{name}" for start in STARTS)]


def state_of(pairs: Mapping[str, str], options: Options) -> ModelState | UnsetType:
    """The state as a manifest declares it."""
    if options.sessions:
        single = options.sessions == "single"
        return ModelState("internal", sessions="single" if single else "per_connection")
    return ModelState("explicit", dict(pairs)) if pairs else UNSET
