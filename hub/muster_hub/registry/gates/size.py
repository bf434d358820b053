"""The bundle's size."""

from typing import Annotated

from msgspec import Meta, Struct

from muster_hub.registry.gates.base import GateVerdict, Shown
from muster_protocol.wire import limits


class SizeRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="size",
               tag_field="gate"):  # fmt: skip
    """How large the bundle may be."""

    bytes_max: Annotated[int, Meta(ge=1, le=limits.BUNDLE_BYTES_MAX)]


class SizeGate:
    """Counts all files of the bundle."""

    def judge(self, rule: SizeRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        value = sum(file.size_bytes for file in candidate.manifest.files)
        ok = value <= rule.bytes_max
        says = f"{value} bytes" + ("" if ok else f" are above {rule.bytes_max}")
        return GateVerdict("size", says, value, rule.bytes_max, ok=ok)


GATE = SizeGate()
