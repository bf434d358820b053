"""Can this device run a build at all? Judged from its own facts before the model is fetched. Pure.

What isn't known refuses nothing: the start of the candidate is the judge that counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import UNSET

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Build, lacking

_OPSETS = {
    (1, 10): 15, (1, 11): 16, (1, 12): 17, (1, 13): 17, (1, 14): 18, (1, 15): 19, (1, 16): 19,
    (1, 17): 20, (1, 18): 21, (1, 19): 21, (1, 20): 21,
}  # fmt: skip
"""Newest ONNX opset that a release of ONNX Runtime loads (its documentation's version matrix).

Only older releases are listed: those that a device may be stuck with while models move on.
"""


@dataclass(frozen=True)
class Hardware:
    """``memory_bytes`` in all, 0 when unknown; ``runtimes``: version by name; ``cpu``: the machine
    and what all its cores have, by Linux's names, empty when unknown; ``providers``: what each
    runtime can compute with."""

    memory_bytes: int = 0
    runtimes: Mapping[str, str] = field(default_factory=dict)
    cpu: frozenset[str] = frozenset()
    providers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def refusal(build: Build, hardware: Hardware) -> tuple[Refusal, str] | None:
    """Why the device can't run the build, or None."""
    if 0 < hardware.memory_bytes < build.memory_bytes:
        return Refusal.NO_MEMORY, (
            f"the {build.runtime} build may grow by {build.memory_bytes // MIB} MiB, "
            f"this device has {hardware.memory_bytes // MIB} MiB in all"
        )
    needed = () if build.cpu is UNSET else build.cpu
    missing = [feature for feature in needed if hardware.cpu and feature not in hardware.cpu]
    if missing:
        return Refusal.NO_RUNTIME, (
            f"the {build.runtime} build needs a processor with {', '.join(missing)}, "
            "which this one has not"
        )
    asked = () if build.providers is UNSET else tuple(each.name for each in build.providers)
    has = hardware.providers.get(build.runtime, ())
    if asked and has and not {*asked} & {*has}:
        return Refusal.NO_RUNTIME, lacking(build.runtime, asked, has)
    version = hardware.runtimes.get(build.runtime, "")
    newest = _OPSETS.get(_release(version)) if build.runtime == "onnx" else None
    if newest is not None and build.opset is not None and build.opset > newest:
        return Refusal.NO_RUNTIME, (
            f"the onnx build is of opset {build.opset}, "
            f"the ONNX Runtime {version} here loads up to {newest}: upgrade it"
        )
    return None


def _release(version: str) -> tuple[int, int]:
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return 0, 0
    return int(parts[0]), int(parts[1])
