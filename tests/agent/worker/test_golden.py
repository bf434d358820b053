"""Golden vectors: as near as the manifest says, and no further."""

import numpy as np
import pytest

from muster_agent.worker.golden import Case, compare
from muster_protocol.wire.manifest import Golden

RULE = Golden("golden.npz", rtol=0.01, atol=0.1)
WANT = np.array([[100.0, 0.0, -10.0]], np.float32)


def judged(*values, rule=RULE, want=WANT):
    got = np.array([values], want.dtype)
    return compare({"y": got}, Case({}, {"y": want}), rule)


@pytest.mark.parametrize("values", [(101.0, 0.09, -10.1), (99.0, -0.09, -9.9), (100.0, 0.0, -10.0)])
def test_what_lies_within_the_tolerance_passes(values):
    assert judged(*values) is None


@pytest.mark.parametrize(
    "values",
    [
        (101.2, 0.0, -10.0),
        (100.0, 0.11, -10.0),
        (100.0, 0.0, -10.3),
        (100.0, 0.0, 10.0),
        (100.0, float("nan"), -10.0),
        (float("inf"), 0.0, -10.0),
    ],
)
def test_one_value_outside_fails_and_none_of_the_models_numbers_is_told(values):
    problem = judged(*values)
    assert problem == "output 'y' is further from what is expected than 0.1 + 0.01·|expected|"


@pytest.mark.parametrize("got", [-np.inf, 5.0, np.nan])
def test_where_an_infinite_value_is_expected_only_the_same_passes(got):
    infinite = np.array([[np.inf]], np.float32)
    assert judged(np.inf, want=infinite) is None
    assert judged(got, want=infinite) is not None


def test_text_is_the_same_or_not():
    case = Case({}, {"y": np.array([["cat"]], object)})
    assert compare({"y": np.array([["cat"]], object)}, case, RULE) is None
    assert compare({"y": np.array([["dog"]], object)}, case, RULE) is not None


def test_an_output_of_another_shape_fails_whatever_it_holds():
    got = {"y": np.array([[100.0], [0.0], [-10.0]], np.float32)}
    assert compare(got, Case({}, {"y": WANT}), RULE) == "output 'y' has another shape than [1, 3]"
