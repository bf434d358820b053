"""Shares and counts of devices, as people write them."""

import pytest

from muster_client.failures import OperatorError
from muster_client.resources.rollouts import parse_canary


@pytest.mark.parametrize(
    ("text", "value"), [("0.25", 0.25), ("25%", 0.25), ("3", 3), ("0", 0.0), ("0%", 0.0)]
)
def test_a_canary_is_a_share_or_a_count(text: str, value: float) -> None:
    assert parse_canary(text) == value
    assert isinstance(parse_canary(text), int) == (value >= 1)


@pytest.mark.parametrize("text", ["", "some", "-1", "1.5", "120%", "nan", "inf"])
def test_a_canary_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(OperatorError):
        parse_canary(text)
