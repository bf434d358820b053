"""Probation's verdicts: what rolls a candidate back, and what is only noise."""

import pytest

from muster_agent.update.probation import JUDGED_INFERENCES_MIN, LATENCY_NOISE_MS, Trial
from muster_agent.update.table import Cause
from muster_agent.update.workers import Counts
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Probation

MANY = 10 * JUDGED_INFERENCES_MIN


def trial(champion: Counts | None) -> Trial:
    return Trial(
        Probation(seconds=10.0), since=0.0, seconds=0.0, inferences=0, errors=0, champion=champion
    )


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "slow"),
    [
        (10.0, 29.0, False),
        (10.0, 31.0, True),
        (0.2, 0.8, False),  # four times as long, and nobody could notice
        (0.2, 0.2 + 1.01 * LATENCY_NOISE_MS, True),
    ],
)
def test_a_candidate_is_too_slow_by_a_ratio_that_is_more_than_noise(before_ms, after_ms, slow):
    verdict = trial(Counts(MANY, 0, before_ms)).judge(Counts(MANY, 0, after_ms), 10.0)
    if slow:
        assert verdict[0] is Refusal.PROBATION_LATENCY
        assert f"{after_ms:.1f} ms" in verdict[1]
    else:
        assert verdict is Cause.PASSED


def test_latency_over_a_few_inferences_is_not_judged():
    few = JUDGED_INFERENCES_MIN - 1
    assert trial(Counts(few, 0, 1.0)).judge(Counts(MANY, 0, 100.0), 10.0) is Cause.PASSED
    assert trial(Counts(MANY, 0, 1.0)).judge(Counts(few, 0, 100.0), 10.0) is Cause.PASSED


def test_errors_beyond_the_promised_rate_roll_back_before_the_time_is_over():
    assert trial(None).judge(Counts(MANY, MANY, None), 1.0)[0] is Refusal.PROBATION_ERRORS
    assert trial(None).judge(Counts(MANY, 0, None), 1.0) is None


@pytest.mark.parametrize("since", [1000.1, 1012.3456789, 1e6 + 0.3])
def test_what_is_due_at_its_deadline_is_decided_then(since):
    trial = Trial(
        Probation(seconds=30.0), since=since, seconds=0.7, inferences=0, errors=0, champion=None
    )
    assert trial.judge(Counts(), trial.deadline() - 0.01) is None
    assert trial.judge(Counts(), trial.deadline()) is Cause.PASSED


def test_the_promised_error_rate_is_the_bound_itself():
    bounds = Probation(seconds=10.0, error_rate_max=0.1)

    def judged(errors):
        fresh = Trial(bounds, since=0.0, seconds=0.0, inferences=0, errors=0, champion=None)
        return fresh.judge(Counts(MANY, errors, None), 10.0)

    assert judged(MANY // 10) is Cause.PASSED
    assert judged(MANY // 10 + 1)[0] is Refusal.PROBATION_ERRORS


def test_errors_are_judged_from_the_first_inferences_that_say_something():
    few = JUDGED_INFERENCES_MIN - 1
    assert trial(None).judge(Counts(few, few, None), 1.0) is None
    assert trial(None).judge(Counts(few + 1, few + 1, None), 1.0)[0] is Refusal.PROBATION_ERRORS


def test_what_was_counted_before_a_restart_counts_on():
    bounds = Probation(seconds=30.0, inferences=100, error_rate_max=0.1)
    again = Trial(bounds, since=50.0, seconds=20.0, inferences=60, errors=11, champion=None)
    assert again.judge(Counts(40, 0, None), 59.9)[0] is Refusal.PROBATION_ERRORS
    good = Trial(bounds, since=50.0, seconds=20.0, inferences=60, errors=0, champion=None)
    assert good.judge(Counts(39, 0, None), 1e6) is None
    assert good.judge(Counts(40, 0, None), 59.9) is None
    assert good.judge(Counts(40, 0, None), 60.0) is Cause.PASSED
