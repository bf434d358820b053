"""What a device signs with its identity key about what it runs, and how that is told apart.

A report is state that anyone on the way could have made up; its ``proof`` is not: ECDSA P-256 with
SHA-256 over ``statement(device, report)``. The statement names the device, the moment by its own
clocks and boot, the adopted goal, and of each slot the model, version, manifest, since when it
serves and how many inferences it has answered.
"""

import msgspec

from muster_protocol.wire.messages import Report

PROOF_BYTES_MAX = 80
"""Of an ECDSA P-256 signature in DER."""

_PURPOSE = b"muster state v1\0"
"""So that nothing signed for another purpose passes for a proof."""


def statement(device: str, report: Report) -> bytes:
    """The bytes to be signed; the same on both sides for the same report."""
    running = [
        [slot, run.model, run.version, run.manifest, run.since, run.inferences, run.errors]
        for slot, slot_report in sorted(report.slots.items())
        if (run := slot_report.running) is not None
    ]
    said = [device, report.at, report.epoch, report.generation, running]
    return _PURPOSE + msgspec.msgpack.encode(said)
