"""How good a model is by its labels, in the words of `device show` and `model compare`."""

import pytest

from muster_client.commands.devices import judged
from muster_client.resources.models import summed

NONE = {"accuracy": None, "mean_absolute_error": None, "root_mean_square_error": None}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"labels": 480, "accuracy": 0.9725}, "480 labels, 97.2% right"),
        (
            {"labels": 3, "mean_absolute_error": 0.123456, "root_mean_square_error": 2.0},
            "3 labels, off by 0.123 on average (RMS 2)",
        ),
        ({"labels": 0}, "no label yet"),
    ],
)
def test_labels_are_said_in_words(said, words):
    assert judged(NONE | said) == words


def point(**fields):
    plain = {"devices": 1, "n": 10, "errors": 0, "labels": 0, "p95_seconds": None}
    return NONE | plain | fields


def test_days_are_added_up_and_means_weigh_as_much_as_their_labels():
    found = summed(
        [
            point(devices=2, labels=10, accuracy=0.5, p95_seconds=0.2),
            point(devices=5, labels=30, accuracy=0.9, p95_seconds=0.1, errors=4),
        ]
    )
    assert found == NONE | {
        "devices": 5, "inferences": 20, "errors": 4, "labels": 40, "accuracy": 0.8,
        "p95_seconds": 0.1,
    }  # fmt: skip


def test_squares_are_averaged_as_squares():
    days = [point(labels=1, root_mean_square_error=e, mean_absolute_error=e) for e in (3.0, 4.0)]
    found = summed(days)
    assert found["mean_absolute_error"] == 3.5
    assert found["root_mean_square_error"] == pytest.approx(12.5**0.5)


def test_a_version_that_nobody_runs_has_nothing_to_say():
    assert summed([]) == NONE | {
        "devices": 0, "inferences": 0, "errors": 0, "labels": 0, "p95_seconds": None,
    }  # fmt: skip
