"""What the hub refuses, as one line."""

from hypothesis import given
from hypothesis import strategies as st

from muster_client.failures import from_problem


def test_a_problem_becomes_one_line_with_what_where_and_what_to_do() -> None:
    problem = {"title": "Not allowed", "detail": "the token\nis expired"}
    error = from_problem(401, problem, "GET /api/v1/devices")
    assert str(error) == (
        "Not allowed: the token is expired (GET /api/v1/devices, HTTP 401). "
        "Give a valid token with --token, MUSTER_TOKEN or --profile FILE"
    )


def test_a_problem_names_the_fields_at_fault() -> None:
    fault = {"loc": ["body", "canary"], "msg": "must not be negative"}
    error = from_problem(422, {"title": "Invalid", "errors": [fault]}, "POST /api/v1/rollouts")
    assert "body.canary: must not be negative" in str(error)


@given(st.dictionaries(st.sampled_from(["title", "detail", "errors"]), st.text() | st.none()))
def test_any_problem_is_one_line(problem: dict[str, str | None]) -> None:
    assert "\n" not in str(from_problem(500, problem, "GET /"))
