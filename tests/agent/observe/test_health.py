"""NE 107: the gravest state that holds, and why."""

from muster_agent.observe.health import Signs, judge


def test_a_model_that_serves_well_is_ok() -> None:
    assert judge(Signs(serving=True, inferences=100, errors=1)).state == "ok"


def test_without_a_model_the_slot_has_failed_unless_one_is_starting() -> None:
    assert judge(Signs(serving=False)).state == "failure"
    assert judge(Signs(serving=False, swapping=True)).state == "check_function"


def test_a_model_that_fails_most_requests_has_failed_even_while_swapping() -> None:
    health = judge(Signs(serving=True, swapping=True, inferences=1, errors=9))
    assert (health.state, health.reason) == ("failure", "9 of 10 requests failed")


def test_drift_is_out_of_specification_and_names_features() -> None:
    health = judge(Signs(serving=True, drifting={"d", "b", "a", "c"}, labels_overdue=True))
    assert (health.state, health.reason) == ("off_spec", "inputs drift: a, b, c and 1 more")


def test_what_a_person_must_look_at_is_maintenance() -> None:
    assert judge(Signs(serving=True, labels_overdue=True)).state == "maintenance_required"
    assert judge(Signs(serving=True, trouble="disk is read-only")).reason == "disk is read-only"
