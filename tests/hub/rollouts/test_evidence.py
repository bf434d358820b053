"""What counts as success and as failure of a release on a device."""

from muster_hub.rollouts.evidence import DeviceEvent, read

OLD, NEW = "a" * 64, "b" * 64


def report(state, *, running=OLD, about=NEW, generation=7, **more):
    update = {"state": state, "manifest": about, "generation": generation, **more}
    return {"slots": {"vision": {"running": {"manifest": running}, "update": update}}}


def device_event(kind="refused", **fields):
    settled = {"slot": "vision", "manifest": NEW, "generation": 7, "received": 100.0} | fields
    return DeviceEvent(kind=kind, **settled)


def about(report=None, events=(), generation=7):
    return read(
        report, events, slot="vision", manifest=NEW, generation=generation, targeted_at=50.0
    )


def test_committed_with_this_manifest_is_success():
    assert about(report("committed", running=NEW)).stage == "committed"


def test_running_it_after_a_reboot_is_success():
    assert about(report("idle", running=NEW, about="")).stage == "committed"


def test_bytes_written_and_probation_are_not_success():
    for state in ("fetching", "verifying", "staged", "starting", "probation"):
        assert about(report(state, running=NEW)).stage == "in_progress"


def test_committed_with_another_manifest_says_nothing():
    assert about(report("committed", running=OLD, about=OLD)).stage == "unseen"


def test_a_failed_update_names_the_refusal():
    found = about(report("failed", refusal="golden_mismatch", detail="case 3"))
    assert (found.stage, found.detail) == ("failed", "golden_mismatch: case 3")


def test_a_late_demotion_is_a_failure_from_its_first_report_on():
    found = about(report("rolling_back", running=NEW, refusal="crash_loop", detail="died 5 times"))
    assert (found.stage, found.detail) == ("failed", "crash_loop: died 5 times")
    assert about(report("failed", refusal="late_errors")).stage == "failed"


def test_a_failure_of_an_earlier_attempt_does_not_count():
    assert about(report("failed", refusal="golden_mismatch", generation=6)).stage == "unseen"
    assert about(events=[device_event(generation=6)]).stage == "unseen"
    assert about(events=[device_event(generation=0, received=49.0)]).stage == "unseen"


def test_a_refusal_told_as_an_event_counts_even_if_the_report_has_moved_on():
    found = about(
        report("committed", running=OLD, about=OLD),
        [device_event(refusal="chunk_altered", detail="model.onnx")],
    )
    assert (found.stage, found.detail) == ("failed", "chunk_altered: model.onnx")


def test_a_worker_that_died_and_a_roll_back_count_as_failures():
    assert about(events=[device_event("worker_died")]).stage == "failed"
    assert about(events=[device_event("rolled_back")]).stage == "failed"


def test_other_events_slots_and_manifests_do_not_count():
    others = [
        device_event("update"),
        device_event(manifest=OLD),
        device_event(slot="audio"),
        device_event("drift"),
    ]
    assert about(events=others).stage == "unseen"


def test_progress_is_told_in_words():
    found = about(report("fetching", bytes_done=1_500_000, bytes_total=3_000_000))
    assert found.detail == "fetching 1.5 of 3.0 MB"
    assert about(report("fetching", fetch_seconds=90.0)).fetch_seconds == 90.0
    assert about(report("staged", waiting_for="disk")).detail == "staged, waiting for disk"


def test_no_report_is_no_evidence():
    assert about().stage == "unseen"
    assert about({"slots": {}}).stage == "unseen"
