"""What a device's proof says, and so what nobody on the way can alter."""

import msgspec
import pytest

from muster_protocol.wire import proof
from wire_samples import PROVED, SHA_C, STAMP

DEVICE = "press-7"
SAID = proof.statement(DEVICE, PROVED)


def running(slot, **changes):
    item = PROVED.slots[slot]
    changed = msgspec.structs.replace(item.running, **changes)
    return {"slots": PROVED.slots | {slot: msgspec.structs.replace(item, running=changed)}}


def moment(at, **changes):
    return msgspec.structs.replace(at, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 4},
        {"generation": 78},
        *({"at": moment(PROVED.at, **change)} for change in (
            {"boot": b"x" * 16}, {"monotonic_seconds": 1.0}, {"wall_seconds": 1.0},
            {"quality": "synchronised"},
        )),
        *(running("sound", **change) for change in (
            {"model": "drone"}, {"version": "3"}, {"manifest": SHA_C}, {"inferences": 8},
            {"errors": 3}, {"since": moment(STAMP, monotonic_seconds=1.0)},
            {"since": moment(STAMP, boot=b"x" * 16)},
        )),
        {"slots": {name: item for name, item in PROVED.slots.items() if name != "sound"}},
        {"slots": PROVED.slots | {"other": PROVED.slots["sound"]}},
        {"slots": PROVED.slots | {
            "sound": PROVED.slots["vision"], "vision": PROVED.slots["sound"],
        }},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_is_altered_in_what_runs_is_another_statement(changes):
    assert proof.statement(DEVICE, msgspec.structs.replace(PROVED, **changes)) != SAID


def test_a_proof_is_of_one_device():
    assert proof.statement("press-8", PROVED) != SAID


def test_slots_are_named_in_one_order_however_the_report_lists_them():
    turned = dict(reversed(PROVED.slots.items()))
    assert proof.statement(DEVICE, msgspec.structs.replace(PROVED, slots=turned)) == SAID


def test_what_is_hearsay_is_not_signed():
    unproved = msgspec.structs.replace(PROVED, outbox_rows=5, proof=b"anything")
    assert proof.statement(DEVICE, unproved) == SAID
