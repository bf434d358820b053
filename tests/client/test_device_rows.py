"""What ``muster device show`` says of a slot."""

from muster_client.commands.devices import fetched, slot_row


def test_a_slot_that_is_not_well_says_why_besides_its_refusal():
    update = {"state": "failed", "refusal": "device_fault", "detail": "/dev/apex_0: busy"}
    slot = {"health": "failure", "reason": "no model answers", "update": update}
    view = {"report": {"slots": {"main": slot}}, "desired": {}, "proved": {}}
    assert slot_row("main", view)[-1] == "no model answers: device_fault: /dev/apex_0: busy"


def test_what_computes_a_model_is_shown_where_it_says_so():
    old = {"model": "m", "version": "1", "runtime": "onnx"}
    new = old | {"providers": ["OpenVINO", "CPU"], "threads": 2}
    for running, words in ((old, "onnx"), (new, "onnx on OpenVINO, CPU; 2 threads")):
        view = {"report": {"slots": {"main": {"running": running}}}, "desired": {}, "proved": {}}
        assert slot_row("main", view)[4] == words


def test_the_source_that_an_update_is_read_from_is_shown():
    update = {
        "state": "fetching", "version": "2", "fetched_from": "https://hub:8443/chunks",
        "fetch_seconds": 12.4,
    }  # fmt: skip
    view = {"report": {"slots": {"main": {"update": update}, "side": {"update": {}}}}}
    assert list(fetched(view)) == [("main fetched", "2 from https://hub:8443/chunks, 12 s so far")]
