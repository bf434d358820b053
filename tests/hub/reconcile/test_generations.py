"""The next generation of a directive, decided from what the hub gave and the device reports."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from muster_hub.reconcile.generations import LEAP_MAX, Generations, Held

EPOCH = 3


@dataclass
class Device:
    """Implements Reports."""

    id: str = "d1"
    report: dict[str, Any] | None = field(default_factory=dict)


def reporting(generation: int, epoch: int = EPOCH) -> Device:
    return Device(report={"epoch": epoch, "generation": generation})


def held(generation: int, content: str = "same", epoch: int = EPOCH) -> Held:
    return Held(epoch, generation, content, issued=0.0, keyid="k")


@pytest.mark.parametrize(
    ("device", "before", "expected"),
    [
        (Device(report=None), None, 1),
        (reporting(7), None, 8),
        (reporting(2), held(5, "other"), 6),
        (reporting(9), held(5, "other"), 10),
        (reporting(9, epoch=1), held(5, "other"), 6),
        (reporting(9), held(5, "other", epoch=1), 10),
        (reporting(6 + LEAP_MAX), held(5, "other"), 6),
        (reporting(2), held(5), 5),
    ],
)
def test_new_content_is_told_above_what_both_have_seen_and_the_same_under_its_own(
    device: Device, before: Held | None, expected: int
) -> None:
    assert Generations().next(device, before, "same", EPOCH) == expected


def test_a_device_ahead_is_followed_in_the_next_review_and_only_there() -> None:
    generations, ahead = Generations(), reporting(9)
    assert generations.next(ahead, held(5), "same", EPOCH) == 5
    assert generations.review(()) == {"d1"}
    assert generations.next(ahead, held(5), "same", EPOCH) == 10
    assert generations.next(reporting(12), held(10), "same", EPOCH) == 10
    assert generations.review(()) == {"d1"}


def test_what_a_review_grants_ends_with_the_look_it_was_granted_for() -> None:
    generations = Generations()
    generations.review({"d1"})
    assert generations.next(reporting(5), held(5), "same", EPOCH) == 5
    assert generations.next(reporting(9), held(5), "same", EPOCH) == 5
