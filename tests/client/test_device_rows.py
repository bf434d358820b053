"""What ``muster device show`` says of a slot."""

from muster_client.commands.devices import slot_row


def test_a_slot_that_is_not_well_says_why_besides_its_refusal():
    update = {"state": "failed", "refusal": "device_fault", "detail": "/dev/apex_0: busy"}
    slot = {"health": "failure", "reason": "no model answers", "update": update}
    view = {"report": {"slots": {"main": slot}}, "desired": {}, "proved": {}}
    assert slot_row("main", view)[-1] == "no model answers: device_fault: /dev/apex_0: busy"
