"""Page–Hinkley on labels."""

import numpy as np

from muster_protocol.signals.concept import PageHinkley


def textbook(errors: list[float], delta: float, threshold: float, least_labels: int) -> list[bool]:
    """E. S. Page's test as usually written, the whole history at hand."""
    fired = []
    total, lowest = 0.0, 0.0
    for count in range(1, len(errors) + 1):
        mean = sum(errors[:count]) / count
        total += errors[count - 1] - mean - delta
        lowest = min(lowest, total)
        fired.append(count >= least_labels and total - lowest > threshold)
    return fired


def test_each_step_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    errors = [*(rng.random(200) < 0.1), *(rng.random(200) < 0.6)]
    test = PageHinkley(threshold=10.0, forgetting=1.0)
    fired = []
    for error in errors:
        test = test.step(float(error))
        fired.append(test.drifting)
    assert fired == textbook([float(error) for error in errors], 0.005, 10.0, 30)
    assert any(fired)


def test_a_model_that_gets_worse_is_found_by_its_windows() -> None:
    test = PageHinkley(threshold=20.0)
    for _ in range(50):
        test = test.feed(right=95, wrong=5)
        assert not test.drifting
    windows = 0
    while not test.drifting:
        test = test.feed(right=70, wrong=30)
        windows += 1
    assert windows <= 2
    assert not test.restarted().feed(right=70, wrong=30).drifting


def test_windows_without_labels_change_nothing() -> None:
    test = PageHinkley().feed(40, 2)
    assert test.feed(0, 0) == test
